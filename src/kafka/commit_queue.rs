//! Asynchronous commits with an answer. librdkafka's plain asynchronous commit tells its end only to a callback that
//! the Rust binding does not set, so it would never be heard of again; a commit with a reply queue is answered there.

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka_sys as native;

use super::admin::AskError;
use crate::words::PartitionId;

/// How one commit ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitOutcome {
    /// Partitions that Kafka confirmed.
    pub confirmed: Vec<PartitionId>,
    /// Why the others were not.
    pub error: Option<RDKafkaErrorCode>,
}

/// Sends commits of one consumer and receives their ends. Belongs to one thread.
pub struct CommitQueue<C: ConsumerContext> {
    queue: NonNull<native::rd_kafka_queue_t>,
    /// Dropped after `queue` was destroyed in `drop`.
    consumer: Arc<BaseConsumer<C>>,
}

impl<C: ConsumerContext> CommitQueue<C> {
    pub fn new(consumer: Arc<BaseConsumer<C>>) -> Result<Self, AskError> {
        // SAFETY: the client is alive as long as the consumer.
        let queue = unsafe { native::rd_kafka_queue_new(consumer.client().native_ptr()) };
        let queue = NonNull::new(queue).ok_or(AskError::Local { request: "OffsetCommit" })?;
        Ok(Self { queue, consumer })
    }

    /// Sends the offsets of `list`; the end comes through [`CommitQueue::ended`].
    pub fn send(&self, list: &TopicPartitionList) -> Result<(), AskError> {
        // SAFETY: client, list and queue are alive; librdkafka copies the list. Without a callback the opaque is not
        // looked at.
        let error = unsafe {
            native::rd_kafka_commit_queue(
                self.consumer.client().native_ptr(),
                list.ptr(),
                self.queue.as_ptr(),
                None,
                std::ptr::null_mut(),
            )
        };
        match RDKafkaErrorCode::from(error) {
            RDKafkaErrorCode::NoError => Ok(()),
            code => Err(AskError::Refused { request: "OffsetCommit", code }),
        }
    }

    /// The end of a commit, if it comes within `wait`.
    pub fn ended(&self, wait: Duration) -> Option<CommitOutcome> {
        let timeout = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive.
        let event = Event(NonNull::new(unsafe { native::rd_kafka_queue_poll(self.queue.as_ptr(), timeout) })?);
        // SAFETY: the event is alive until the end of this function.
        let code = RDKafkaErrorCode::from(unsafe { native::rd_kafka_event_error(event.0.as_ptr()) });
        let mut outcome =
            CommitOutcome { confirmed: Vec::new(), error: (code != RDKafkaErrorCode::NoError).then_some(code) };
        // SAFETY: the list belongs to the event; null when the commit never reached a broker.
        let list = unsafe { native::rd_kafka_event_topic_partition_list(event.0.as_ptr()).as_ref() };
        let Some(list) = list else { return Some(outcome) };
        for index in 0..usize::try_from(list.cnt).unwrap_or(0) {
            // SAFETY: the list has `cnt` elements.
            let entry = unsafe { &*list.elems.add(index) };
            match RDKafkaErrorCode::from(entry.err) {
                RDKafkaErrorCode::NoError if outcome.error.is_none() => {
                    outcome.confirmed.extend(PartitionId::from_kafka(entry.partition));
                }
                RDKafkaErrorCode::NoError => {}
                code => outcome.error = Some(code),
            }
        }
        Some(outcome)
    }
}

impl<C: ConsumerContext> Drop for CommitQueue<C> {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new` and destroyed once, before the consumer.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

struct Event(NonNull<native::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_poll` and destroyed once.
        unsafe { native::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

// SAFETY: librdkafka's queues may be used from any thread; the pointer is valid while the value lives.
unsafe impl<C: ConsumerContext> Send for CommitQueue<C> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kafka::mock::{Mock, TOPIC, until};
    use crate::kafka::offsets::{Committed, commit_list, committed};
    use crate::words::Offset;

    #[test]
    fn a_commit_is_answered_and_kept() {
        let mock = Mock::new(2);
        let consumer = mock.consumer();
        let commits = CommitQueue::new(consumer.clone()).expect("a queue");
        let wanted = BTreeMap::from([
            (PartitionId(0), Committed { next: Offset(3), metadata: "x".to_owned() }),
            (PartitionId(1), Committed { next: Offset(5), metadata: String::new() }),
        ]);
        commits.send(&commit_list(TOPIC, &wanted).expect("a list")).expect("sent");
        let outcome = until("an answer", || commits.ended(Duration::from_millis(50)));
        assert_eq!(outcome, CommitOutcome { confirmed: vec![PartitionId(0), PartitionId(1)], error: None });
        let all = [PartitionId(0), PartitionId(1)];
        assert_eq!(committed(&consumer, TOPIC, &all, Duration::from_secs(10)), Ok(wanted));
        assert_eq!(commits.ended(Duration::ZERO), None);
    }

    #[test]
    fn a_refused_commit_says_why() {
        let mock = Mock::new(1);
        let consumer = mock.consumer();
        let commits = CommitQueue::new(consumer).expect("a queue");
        let refusals = [rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 1];
        mock.cluster.request_errors(rdkafka::types::RDKafkaApiKey::OffsetCommit, &refusals);
        let wanted = BTreeMap::from([(PartitionId(0), Committed { next: Offset(3), metadata: String::new() })]);
        commits.send(&commit_list(TOPIC, &wanted).expect("a list")).expect("sent");
        let outcome = until("an answer", || commits.ended(Duration::from_millis(50)));
        assert_eq!(outcome.error, Some(RDKafkaErrorCode::GroupAuthorizationFailed));
        assert_eq!(outcome.confirmed, []);
    }
}
