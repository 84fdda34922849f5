//! The librdkafka context of the stream's consumer. Its callbacks run inside `poll` on the kafka-poll thread and only
//! write down what happened; it is acted upon after `poll` returned, by the same code for every cause.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::oauth;
use super::watch::BrokerWatch;
use crate::words::PartitionId;

/// What the group decided. librdkafka waits, with fetching paused, until it is answered by assign or unassign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupEvent {
    Assign(Vec<PartitionId>),
    /// `lost`: others may own them already, so nothing may be committed.
    Revoke {
        partitions: Vec<PartitionId>,
        lost: bool,
    },
}

pub struct StreamContext {
    pub watch: BrokerWatch,
    group: Mutex<Vec<GroupEvent>>,
    /// Nobody answers any more: whatever the group wants is granted at once, or closing would wait for ever.
    closing: AtomicBool,
}

impl StreamContext {
    pub fn new(watch: BrokerWatch) -> Self {
        Self { watch, group: Mutex::default(), closing: AtomicBool::new(false) }
    }

    pub fn take_group_events(&self) -> Vec<GroupEvent> {
        std::mem::take(&mut *self.group.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// To be said before the consumer may be dropped, on whatever thread that will happen.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

impl ClientContext for StreamContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.watch.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(&error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth::unsecured_token(config)
    }
}

impl ConsumerContext for StreamContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assign = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            // Only what is truly assigned can be given back, and that may be less than the group thinks.
            let answered = if assign {
                consumer.incremental_assign(&TopicPartitionList::new())
            } else {
                consumer.assignment().and_then(|assigned| consumer.incremental_unassign(&assigned))
            };
            if let Err(error) = answered {
                tracing::warn!("leaving the group: {error}");
            }
            return;
        }
        let elements = list.elements();
        let partitions = elements.iter().filter_map(|entry| PartitionId::from_kafka(entry.partition())).collect();
        let event = if assign {
            GroupEvent::Assign(partitions)
        } else {
            GroupEvent::Revoke { partitions, lost: consumer.assignment_lost() }
        };
        self.group.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(event);
    }
}
