//! Calls of librdkafka's admin API that the Rust binding does not have: DescribeTopics and ListOffsets, each with a
//! deadline. All `unsafe` of asking Kafka lives here; what the answers mean lives in `identity` and `offsets`.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_void};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as native;

use crate::words::{Offset, PartitionId};

/// Why Kafka did not answer. All of them heal by trying again, except an authorization that is missing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AskError {
    #[error("no answer to {request} within {waited:?}: are the brokers reachable?")]
    Deadline { request: &'static str, waited: Duration },
    #[error("Kafka refused {request}: {code}{}", super::refusal::advice(*code))]
    Refused { request: &'static str, code: RDKafkaErrorCode },
    #[error("the topic name {0:?} holds a zero byte: set kafka.topic to a Kafka topic name")]
    TopicName(String),
    #[error("the client library could not make {request}")]
    Local { request: &'static str },
}

impl AskError {
    /// For counting by kind.
    pub fn code(&self) -> RDKafkaErrorCode {
        match self {
            Self::Deadline { .. } => RDKafkaErrorCode::OperationTimedOut,
            Self::Refused { code, .. } => *code,
            Self::TopicName(_) => RDKafkaErrorCode::InvalidTopic,
            Self::Local { .. } => RDKafkaErrorCode::Fail,
        }
    }
}

/// What DescribeTopics says of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicDescription {
    /// All zero when the broker knows no topic ids.
    pub topic_id: [u8; 16],
    pub partition_count: u32,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetAt {
    /// The first that Kafka still has: the low watermark.
    Earliest,
    /// The one after the last record of any kind: the high watermark.
    HighWatermark,
    /// The end for readers that see only committed transactions: the last stable offset.
    LastStable,
    /// The first whose timestamp (ms since the epoch) is not earlier.
    Timestamp(i64),
}

/// Per partition: the offset, `None` when no record is that late, or why this partition's leader did not say.
pub type Offsets = BTreeMap<PartitionId, Result<Option<Offset>, RDKafkaErrorCode>>;

/// Asks one broker, because a mock has no controller and any broker can answer.
pub fn describe_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    broker: i32,
    limit: Duration,
) -> Result<TopicDescription, AskError> {
    const REQUEST: &str = "DescribeTopics";
    let name = CString::new(topic).map_err(|_| AskError::TopicName(topic.to_owned()))?;
    let local = AskError::Local { request: REQUEST };
    let asking = Asking::new(client, REQUEST, limit)?;
    let options = asking.options(native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS)?;
    let mut names: [*const c_char; 1] = [name.as_ptr()];
    // SAFETY: options, names and client are alive; the collection is destroyed after the request copied it.
    unsafe {
        native::rd_kafka_AdminOptions_set_broker(options.0.as_ptr(), broker, std::ptr::null_mut(), 0);
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = NonNull::new(topics).ok_or(local.clone())?;
        native::rd_kafka_DescribeTopics(asking.client, topics.as_ptr(), options.0.as_ptr(), asking.queue.0.as_ptr());
        native::rd_kafka_TopicCollection_destroy(topics.as_ptr());
    }
    let event = asking.answer()?;
    // SAFETY: the event is alive until the end of this function, and everything read belongs to it.
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
        let result = NonNull::new(result.cast_mut()).ok_or(local.clone())?;
        let mut count = 0usize;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result.as_ptr(), &raw mut count);
        if topics.is_null() || count == 0 {
            return Err(local);
        }
        let description = *topics;
        let error = native::rd_kafka_TopicDescription_error(description);
        if !error.is_null() {
            let code = RDKafkaErrorCode::from(native::rd_kafka_error_code(error));
            if code != RDKafkaErrorCode::NoError {
                return Err(AskError::Refused { request: REQUEST, code });
            }
        }
        let mut topic_id = [0u8; 16];
        let uuid = native::rd_kafka_TopicDescription_topic_id(description);
        if !uuid.is_null() {
            topic_id[..8].copy_from_slice(&native::rd_kafka_Uuid_most_significant_bits(uuid).to_be_bytes());
            topic_id[8..].copy_from_slice(&native::rd_kafka_Uuid_least_significant_bits(uuid).to_be_bytes());
        }
        let mut partitions = 0usize;
        native::rd_kafka_TopicDescription_partitions(description, &raw mut partitions);
        Ok(TopicDescription { topic_id, partition_count: u32::try_from(partitions).unwrap_or(u32::MAX) })
    }
}

/// One request per entry of `at`, each for all partitions and all of them on their way at once; librdkafka sends one
/// message per leader. Either every request was answered in time, or the whole is an error.
pub fn list_offsets<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: &[PartitionId],
    at: &[OffsetAt],
    limit: Duration,
) -> Result<Vec<Offsets>, AskError> {
    const REQUEST: &str = "ListOffsets";
    let name = CString::new(topic).map_err(|_| AskError::TopicName(topic.to_owned()))?;
    let mut answers = vec![Offsets::new(); at.len()];
    if partitions.is_empty() {
        return Ok(answers);
    }
    let asking = Asking::new(client, REQUEST, limit)?;
    for (index, at) in at.iter().enumerate() {
        let options = asking.options(native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS)?;
        let (wanted, isolation) = match at {
            OffsetAt::Earliest => (-2, native::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED),
            OffsetAt::HighWatermark => {
                (-1, native::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED)
            }
            OffsetAt::LastStable => (-1, native::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED),
            OffsetAt::Timestamp(timestamp) => {
                ((*timestamp).max(0), native::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED)
            }
        };
        // SAFETY: all pointers are alive for the calls; the list is destroyed after the request copied it; the
        // opaque is a number that is never followed.
        unsafe {
            let error = native::rd_kafka_AdminOptions_set_isolation_level(options.0.as_ptr(), isolation);
            if !error.is_null() {
                native::rd_kafka_error_destroy(error);
                return Err(AskError::Local { request: REQUEST });
            }
            native::rd_kafka_AdminOptions_set_opaque(options.0.as_ptr(), index as *mut c_void);
            let list = native::rd_kafka_topic_partition_list_new(i32::try_from(partitions.len()).unwrap_or(0));
            let list = NonNull::new(list).ok_or(AskError::Local { request: REQUEST })?;
            for partition in partitions {
                let entry =
                    native::rd_kafka_topic_partition_list_add(list.as_ptr(), name.as_ptr(), partition.to_kafka());
                (*entry).offset = wanted;
            }
            native::rd_kafka_ListOffsets(asking.client, list.as_ptr(), options.0.as_ptr(), asking.queue.0.as_ptr());
            native::rd_kafka_topic_partition_list_destroy(list.as_ptr());
        }
    }
    for _ in at {
        let event = asking.answer()?;
        // SAFETY: the event is alive until the end of this round, and everything read belongs to it.
        unsafe {
            let index = native::rd_kafka_event_opaque(event.0.as_ptr()) as usize;
            let result = native::rd_kafka_event_ListOffsets_result(event.0.as_ptr());
            let (Some(answer), false) = (answers.get_mut(index), result.is_null()) else {
                return Err(AskError::Local { request: REQUEST });
            };
            let mut count = 0usize;
            let infos = native::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            for place in 0..count {
                let entry = native::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(place));
                let Some(partition) = PartitionId::from_kafka((*entry).partition) else { continue };
                answer.insert(partition, offset_of((*entry).err, (*entry).offset));
            }
        }
    }
    Ok(answers)
}

fn offset_of(error: native::rd_kafka_resp_err_t, offset: i64) -> Result<Option<Offset>, RDKafkaErrorCode> {
    match (RDKafkaErrorCode::from(error), offset) {
        // -1 says that no record is that late; anything else below zero is an answer that never came.
        (RDKafkaErrorCode::NoError, -1) => Ok(None),
        (RDKafkaErrorCode::NoError, offset) => Offset::from_kafka(offset).map(Some).ok_or(RDKafkaErrorCode::NoOffset),
        (code, _) => Err(code),
    }
}

/// Requests that share one queue for answers and one deadline.
pub(super) struct Asking {
    pub(super) client: *mut native::rd_kafka_t,
    pub(super) queue: AnswerQueue,
    request: &'static str,
    started: Instant,
    limit: Duration,
}

pub(super) struct AnswerQueue(pub(super) NonNull<native::rd_kafka_queue_t>);
pub(super) struct Options(pub(super) NonNull<native::rd_kafka_AdminOptions_t>);
pub(super) struct Event(pub(super) NonNull<native::rd_kafka_event_t>);

impl Asking {
    pub(super) fn new<C: ClientContext>(
        client: &Client<C>,
        request: &'static str,
        limit: Duration,
    ) -> Result<Self, AskError> {
        let client = client.native_ptr();
        // SAFETY: the client is alive as long as the borrow that every caller holds over its whole request.
        let queue = NonNull::new(unsafe { native::rd_kafka_queue_new(client) }).ok_or(AskError::Local { request })?;
        Ok(Self { client, queue: AnswerQueue(queue), request, started: Instant::now(), limit })
    }

    pub(super) fn remaining(&self) -> Duration {
        self.limit.saturating_sub(self.started.elapsed())
    }

    fn remaining_ms(&self) -> i32 {
        i32::try_from(self.remaining().as_millis()).unwrap_or(i32::MAX)
    }

    /// A change is answered when the brokers know of it, not when the controller does.
    pub(super) fn let_it_spread(&self, options: &Options) {
        // SAFETY: the options are alive; a null text buffer of length 0 is allowed. A limit that is refused leaves
        // only the default of the client in place.
        unsafe {
            native::rd_kafka_AdminOptions_set_operation_timeout(
                options.0.as_ptr(),
                (self.remaining_ms() / 2).max(1),
                std::ptr::null_mut(),
                0,
            );
        }
    }

    pub(super) fn options(&self, api: native::rd_kafka_admin_op_t) -> Result<Options, AskError> {
        // SAFETY: the client is alive.
        let options = NonNull::new(unsafe { native::rd_kafka_AdminOptions_new(self.client, api) })
            .ok_or(AskError::Local { request: self.request })?;
        let options = Options(options);
        // SAFETY: the options are alive; a null text buffer of length 0 is allowed. A limit that is refused only
        // leaves the default of the client in place: the deadline is kept by `answer` anyway.
        unsafe {
            native::rd_kafka_AdminOptions_set_request_timeout(
                options.0.as_ptr(),
                self.remaining_ms().max(1),
                std::ptr::null_mut(),
                0,
            );
        }
        Ok(options)
    }

    fn answer(&self) -> Result<Event, AskError> {
        self.answer_within(self.remaining())
    }

    pub(super) fn answer_within(&self, limit: Duration) -> Result<Event, AskError> {
        let late = AskError::Deadline { request: self.request, waited: self.limit };
        self.judged(self.poll(limit).ok_or(late)?)
    }

    pub(super) fn poll(&self, limit: Duration) -> Option<Event> {
        let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive; an answer that comes after it was destroyed is dropped by librdkafka.
        NonNull::new(unsafe { native::rd_kafka_queue_poll(self.queue.0.as_ptr(), limit) }).map(Event)
    }

    /// The answer, unless the request as a whole failed.
    pub(super) fn judged(&self, event: Event) -> Result<Event, AskError> {
        // SAFETY: the event is alive.
        let code = RDKafkaErrorCode::from(unsafe { native::rd_kafka_event_error(event.0.as_ptr()) });
        match code {
            RDKafkaErrorCode::NoError => Ok(event),
            code => Err(AskError::Refused { request: self.request, code }),
        }
    }
}

impl Drop for AnswerQueue {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new` and destroyed once.
        unsafe { native::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_AdminOptions_new` and destroyed once.
        unsafe { native::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_poll` and destroyed once.
        unsafe { native::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}
