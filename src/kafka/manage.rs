//! Asking about and changing topics: describe the cluster, topics and their settings, create a topic, set settings one
//! by one, add partitions. Calls of librdkafka's admin API that keep what the broker says in words, which the Rust
//! binding drops, and IncrementalAlterConfigs, which it does not have.
//!
//! Deliberately absent: which changes are wanted (`topics`), and deleting anything at all.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as native;

use super::admin::{AskError, Asking, Event};

/// What a broker said against one topic, in its own words if it had any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub code: RDKafkaErrorCode,
    pub said: String,
}

/// The partitions of a topic as they are now.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TopicShape {
    pub partitions: u32,
    /// Of the partition that has the fewest.
    pub replication_factor: u16,
    /// Of the partition that has the most: another number while copies are moved, or where some were moved alone.
    pub replication_factor_most: u16,
    /// Partitions that nobody leads now.
    pub leaderless: u32,
}

impl TopicShape {
    /// Partition by partition: how many copies, and whether somebody leads it.
    fn of(partitions: impl Iterator<Item = (usize, bool)>) -> Self {
        let mut shape = Self::default();
        for (copies, has_leader) in partitions {
            let copies = u16::try_from(copies).unwrap_or(u16::MAX);
            shape.replication_factor =
                if shape.partitions == 0 { copies } else { shape.replication_factor.min(copies) };
            shape.replication_factor_most = shape.replication_factor_most.max(copies);
            shape.leaderless += u32::from(!has_leader);
            shape.partitions += 1;
        }
        shape
    }
}

/// Per topic what was found, or why not.
pub type PerTopic<T> = BTreeMap<String, Result<T, Refused>>;

/// One client and how long one request may take. `turn` is called several times a second while an answer is waited
/// for; when it says `false`, the wait is over.
pub struct Manager<'a, C: ClientContext> {
    pub client: &'a Client<C>,
    pub limit: Duration,
    pub turn: &'a dyn Fn() -> bool,
}

impl<C: ClientContext> Manager<'_, C> {
    /// How many brokers there are.
    pub fn broker_count(&self) -> Result<u32, AskError> {
        const REQUEST: &str = "DescribeCluster";
        let asking = Asking::new(self.client, REQUEST, self.limit)?;
        let options = asking.options(native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER)?;
        // SAFETY: client, options and queue are alive.
        unsafe { native::rd_kafka_DescribeCluster(asking.client, options.0.as_ptr(), asking.queue.0.as_ptr()) };
        let event = asking.answer_while(self.turn)?;
        // SAFETY: the event is alive until the end of this function, and everything read belongs to it.
        unsafe {
            let result = native::rd_kafka_event_DescribeCluster_result(event.0.as_ptr());
            if result.is_null() {
                return Err(AskError::Local { request: REQUEST });
            }
            let mut count = 0usize;
            native::rd_kafka_DescribeCluster_result_nodes(result, &raw mut count);
            Ok(u32::try_from(count).unwrap_or(u32::MAX))
        }
    }

    pub fn describe(&self, topics: &[String]) -> Result<PerTopic<TopicShape>, AskError> {
        const REQUEST: &str = "DescribeTopics";
        let names = c_strings(topics)?;
        if names.is_empty() {
            return Ok(PerTopic::new());
        }
        let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let asking = Asking::new(self.client, REQUEST, self.limit)?;
        let options = asking.options(native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS)?;
        // SAFETY: options, names and client are alive; the collection is destroyed after the request copied it.
        unsafe {
            let collection = native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let collection = NonNull::new(collection).ok_or(AskError::Local { request: REQUEST })?;
            native::rd_kafka_DescribeTopics(
                asking.client,
                collection.as_ptr(),
                options.0.as_ptr(),
                asking.queue.0.as_ptr(),
            );
            native::rd_kafka_TopicCollection_destroy(collection.as_ptr());
        }
        let event = asking.answer_while(self.turn)?;
        let mut answers = PerTopic::new();
        // SAFETY: the event is alive until the end of this function, and everything read belongs to it.
        unsafe {
            let result = native::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
            if result.is_null() {
                return Err(AskError::Local { request: REQUEST });
            }
            let mut count = 0usize;
            let descriptions = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            for place in 0..count {
                let description = *descriptions.add(place);
                let error = native::rd_kafka_TopicDescription_error(description);
                let answer = match error.is_null() {
                    true => Ok(shape(description)),
                    false => {
                        let said = text(native::rd_kafka_error_string(error));
                        match RDKafkaErrorCode::from(native::rd_kafka_error_code(error)) {
                            RDKafkaErrorCode::NoError => Ok(shape(description)),
                            code => Err(Refused { code, said }),
                        }
                    }
                };
                answers.insert(text(native::rd_kafka_TopicDescription_name(description)), answer);
            }
        }
        Ok(answers)
    }

    /// Every setting in force, by Kafka's name, wherever it comes from.
    pub fn settings(&self, topics: &[String]) -> Result<PerTopic<BTreeMap<String, String>>, AskError> {
        const REQUEST: &str = "DescribeConfigs";
        if topics.is_empty() {
            return Ok(PerTopic::new());
        }
        let resources = topics.iter().map(|topic| Resource::of_topic(topic, REQUEST));
        let resources = resources.collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = resources.iter().map(|resource| resource.0.as_ptr()).collect();
        let asking = Asking::new(self.client, REQUEST, self.limit)?;
        let options = asking.options(native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS)?;
        // SAFETY: client, options, queue and resources are alive, and the request copies the resources.
        unsafe {
            native::rd_kafka_DescribeConfigs(
                asking.client,
                pointers.as_mut_ptr(),
                pointers.len(),
                options.0.as_ptr(),
                asking.queue.0.as_ptr(),
            );
        }
        let event = asking.answer_while(self.turn)?;
        let mut answers = PerTopic::new();
        // SAFETY: the event is alive until the end of this function, and everything read belongs to it.
        unsafe {
            let result = native::rd_kafka_event_DescribeConfigs_result(event.0.as_ptr());
            if result.is_null() {
                return Err(AskError::Local { request: REQUEST });
            }
            let mut count = 0usize;
            let described = native::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
            for place in 0..count {
                let resource = *described.add(place);
                let answer = resource_verdict(resource).map(|()| {
                    let mut entries = 0usize;
                    let configs = native::rd_kafka_ConfigResource_configs(resource, &raw mut entries);
                    let entry = |place: usize| {
                        let entry = *configs.add(place);
                        let value = native::rd_kafka_ConfigEntry_value(entry);
                        (text(native::rd_kafka_ConfigEntry_name(entry)), text(value))
                    };
                    (0..entries).map(entry).collect()
                });
                answers.insert(text(native::rd_kafka_ConfigResource_name(resource)), answer);
            }
        }
        Ok(answers)
    }

    pub fn create(
        &self,
        topic: &str,
        partitions: u32,
        replication_factor: u16,
        settings: &[(&str, &str)],
    ) -> Result<Result<(), Refused>, AskError> {
        const REQUEST: &str = "CreateTopics";
        let name = c_string(topic)?;
        let asking = Asking::new(self.client, REQUEST, self.limit)?;
        let options = asking.options(native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS)?;
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        let mut said = [0 as c_char; 512];
        // SAFETY: the name and the buffer are alive, and the true length is given.
        let new = unsafe {
            native::rd_kafka_NewTopic_new(
                name.as_ptr(),
                partitions,
                i32::from(replication_factor),
                said.as_mut_ptr(),
                said.len(),
            )
        };
        let new = NewTopic(NonNull::new(new).ok_or(AskError::Local { request: REQUEST })?);
        for (key, value) in settings {
            let (key, value) = (c_string(key)?, c_string(value)?);
            // SAFETY: topic and texts are alive; the texts are copied.
            let code = unsafe { native::rd_kafka_NewTopic_set_config(new.0.as_ptr(), key.as_ptr(), value.as_ptr()) };
            if RDKafkaErrorCode::from(code) != RDKafkaErrorCode::NoError {
                return Err(AskError::Local { request: REQUEST });
            }
        }
        let mut topics = [new.0.as_ptr()];
        asking.let_it_spread(&options);
        // SAFETY: client, options, queue and topic are alive, and the request copies the topic.
        unsafe {
            native::rd_kafka_CreateTopics(
                asking.client,
                topics.as_mut_ptr(),
                topics.len(),
                options.0.as_ptr(),
                asking.queue.0.as_ptr(),
            );
        }
        let event = asking.answer_while(self.turn)?;
        // SAFETY: the event is alive until the end of this function, and everything read belongs to it.
        unsafe {
            let result = native::rd_kafka_event_CreateTopics_result(event.0.as_ptr());
            if result.is_null() {
                return Err(AskError::Local { request: REQUEST });
            }
            let mut count = 0usize;
            let results = native::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
            topic_verdict(results, count, REQUEST)
        }
    }

    /// To `total` partitions.
    pub fn grow(&self, topic: &str, total: u32) -> Result<Result<(), Refused>, AskError> {
        const REQUEST: &str = "CreatePartitions";
        let name = c_string(topic)?;
        let asking = Asking::new(self.client, REQUEST, self.limit)?;
        let options = asking.options(native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS)?;
        let mut said = [0 as c_char; 512];
        // SAFETY: the name and the buffer are alive, and the true length is given.
        let new =
            unsafe { native::rd_kafka_NewPartitions_new(name.as_ptr(), total as usize, said.as_mut_ptr(), said.len()) };
        let new = NewPartitions(NonNull::new(new).ok_or(AskError::Local { request: REQUEST })?);
        let mut topics = [new.0.as_ptr()];
        asking.let_it_spread(&options);
        // SAFETY: client, options, queue and partitions are alive, and the request copies them.
        unsafe {
            native::rd_kafka_CreatePartitions(
                asking.client,
                topics.as_mut_ptr(),
                topics.len(),
                options.0.as_ptr(),
                asking.queue.0.as_ptr(),
            );
        }
        let event = asking.answer_while(self.turn)?;
        // SAFETY: the event is alive until the end of this function, and everything read belongs to it.
        unsafe {
            let result = native::rd_kafka_event_CreatePartitions_result(event.0.as_ptr());
            if result.is_null() {
                return Err(AskError::Local { request: REQUEST });
            }
            let mut count = 0usize;
            let results = native::rd_kafka_CreatePartitions_result_topics(result, &raw mut count);
            topic_verdict(results, count, REQUEST)
        }
    }

    /// Sets these and leaves every other setting of the topic alone. All or none.
    pub fn set(&self, topic: &str, settings: &[(&str, &str)]) -> Result<Result<(), Refused>, AskError> {
        const REQUEST: &str = "IncrementalAlterConfigs";
        let resource = Resource::of_topic(topic, REQUEST)?;
        for (key, value) in settings {
            let (key, value) = (c_string(key)?, c_string(value)?);
            // SAFETY: resource and texts are alive; the texts are copied; an error is destroyed once.
            unsafe {
                let error = native::rd_kafka_ConfigResource_add_incremental_config(
                    resource.0.as_ptr(),
                    key.as_ptr(),
                    native::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET,
                    value.as_ptr(),
                );
                if !error.is_null() {
                    native::rd_kafka_error_destroy(error);
                    return Err(AskError::Local { request: REQUEST });
                }
            }
        }
        let asking = Asking::new(self.client, REQUEST, self.limit)?;
        let options = asking.options(native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS)?;
        let mut resources = [resource.0.as_ptr()];
        // SAFETY: client, options, queue and resource are alive, and the request copies the resource.
        unsafe {
            native::rd_kafka_IncrementalAlterConfigs(
                asking.client,
                resources.as_mut_ptr(),
                resources.len(),
                options.0.as_ptr(),
                asking.queue.0.as_ptr(),
            );
        }
        let event = asking.answer_while(self.turn)?;
        // SAFETY: the event is alive until the end of this function, and everything read belongs to it.
        unsafe {
            let result = native::rd_kafka_event_IncrementalAlterConfigs_result(event.0.as_ptr());
            if result.is_null() {
                return Err(AskError::Local { request: REQUEST });
            }
            let mut count = 0usize;
            let altered = native::rd_kafka_IncrementalAlterConfigs_result_resources(result, &raw mut count);
            match count {
                0 => Err(AskError::Local { request: REQUEST }),
                _ => Ok(resource_verdict(*altered)),
            }
        }
    }
}

/// Owned by us until it is destroyed here.
struct Resource(NonNull<native::rd_kafka_ConfigResource_t>);
struct NewTopic(NonNull<native::rd_kafka_NewTopic_t>);
struct NewPartitions(NonNull<native::rd_kafka_NewPartitions_t>);

impl Resource {
    fn of_topic(topic: &str, request: &'static str) -> Result<Self, AskError> {
        let name = c_string(topic)?;
        // SAFETY: the name is alive and is copied.
        let resource = unsafe {
            native::rd_kafka_ConfigResource_new(native::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, name.as_ptr())
        };
        NonNull::new(resource).map(Self).ok_or(AskError::Local { request })
    }
}

impl Drop for Resource {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_ConfigResource_new` and destroyed once.
        unsafe { native::rd_kafka_ConfigResource_destroy(self.0.as_ptr()) }
    }
}

impl Drop for NewTopic {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_NewTopic_new` and destroyed once.
        unsafe { native::rd_kafka_NewTopic_destroy(self.0.as_ptr()) }
    }
}

impl Drop for NewPartitions {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_NewPartitions_new` and destroyed once.
        unsafe { native::rd_kafka_NewPartitions_destroy(self.0.as_ptr()) }
    }
}

fn c_string(text: &str) -> Result<CString, AskError> {
    CString::new(text).map_err(|_| AskError::TopicName(text.to_owned()))
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>, AskError> {
    texts.iter().map(|text| c_string(text)).collect()
}

/// # Safety
/// `pointer` is null, or a text that lives during the call.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: not null, and alive as the caller promises.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// # Safety
/// `description` lives during the call.
unsafe fn shape(description: *const native::rd_kafka_TopicDescription_t) -> TopicShape {
    let mut count = 0usize;
    // SAFETY: the description is alive, and everything read belongs to it.
    unsafe {
        let partitions = native::rd_kafka_TopicDescription_partitions(description, &raw mut count);
        TopicShape::of((0..count).map(|place| {
            let partition = *partitions.add(place);
            let mut replicas = 0usize;
            native::rd_kafka_TopicPartitionInfo_replicas(partition, &raw mut replicas);
            let leader = native::rd_kafka_TopicPartitionInfo_leader(partition);
            (replicas, !leader.is_null() && native::rd_kafka_Node_id(leader) >= 0)
        }))
    }
}

/// # Safety
/// `resource` lives during the call.
unsafe fn resource_verdict(resource: *const native::rd_kafka_ConfigResource_t) -> Result<(), Refused> {
    // SAFETY: the resource is alive, and everything read belongs to it.
    unsafe {
        match RDKafkaErrorCode::from(native::rd_kafka_ConfigResource_error(resource)) {
            RDKafkaErrorCode::NoError => Ok(()),
            code => Err(Refused { code, said: text(native::rd_kafka_ConfigResource_error_string(resource)) }),
        }
    }
}

/// # Safety
/// `results` points to `count` results that live during the call.
unsafe fn topic_verdict(
    results: *mut *const native::rd_kafka_topic_result_t,
    count: usize,
    request: &'static str,
) -> Result<Result<(), Refused>, AskError> {
    if count == 0 {
        return Err(AskError::Local { request });
    }
    // SAFETY: there is one at least, it is alive, and everything read belongs to it.
    unsafe {
        let result = *results;
        match RDKafkaErrorCode::from(native::rd_kafka_topic_result_error(result)) {
            RDKafkaErrorCode::NoError => Ok(Ok(())),
            code => Ok(Err(Refused { code, said: text(native::rd_kafka_topic_result_error_string(result)) })),
        }
    }
}

impl Asking {
    /// As [`Asking::answer`], with something to do meanwhile.
    fn answer_while(&self, turn: &dyn Fn() -> bool) -> Result<Event, AskError> {
        const TURN: Duration = Duration::from_millis(50);
        while turn() && self.remaining() > TURN {
            if let Some(event) = self.poll(TURN) {
                return self.judged(event);
            }
        }
        self.answer_within(TURN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_differ_are_told_apart() {
        let check = |partitions: &[(usize, bool)], expected: [u32; 4]| {
            let shape = TopicShape::of(partitions.iter().copied());
            let (fewest, most) = (shape.replication_factor.into(), shape.replication_factor_most.into());
            assert_eq!([shape.partitions, fewest, most, shape.leaderless], expected, "{partitions:?}");
        };
        check(&[], [0, 0, 0, 0]);
        check(&[(2, true), (2, true)], [2, 2, 2, 0]);
        check(&[(3, true), (1, true), (2, false)], [3, 1, 3, 1]);
    }
}
