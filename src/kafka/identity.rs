//! Which stream a topic is now: cluster id and topic id, asked afresh every time, because librdkafka itself adopts a
//! topic that was deleted and made again without a word and keeps the old offset.

use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::admin::{AskError, describe_topic};
use super::watch::trouble;
use crate::observe::stats::KafkaTrouble;
use crate::words::StreamIdentity;

/// The topic as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    pub identity: StreamIdentity,
    pub partition_count: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("topic {0:?} does not exist yet: create it, and streaming begins by itself")]
    NoTopic(String),
    #[error("the brokers tell no cluster id within {0:?}: are they reachable?")]
    NoCluster(Duration),
    #[error("the cluster names no broker")]
    NoBroker,
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl IdentityError {
    /// Nobody answered, which may have a reason that was heard elsewhere.
    pub fn is_silence(&self) -> bool {
        match self {
            Self::NoTopic(_) => false,
            Self::NoCluster(_) | Self::NoBroker | Self::Ask(AskError::Deadline { .. }) => true,
            Self::Ask(error) => matches!(
                trouble(error.code()),
                Some(
                    KafkaTrouble::BrokerDown
                        | KafkaTrouble::ConnectionTimeout
                        | KafkaTrouble::DnsFailure
                        | KafkaTrouble::Authentication
                )
            ),
        }
    }

    /// For counting by kind; a topic that does not exist is no trouble of the brokers.
    pub fn code(&self) -> RDKafkaErrorCode {
        match self {
            Self::NoTopic(_) => RDKafkaErrorCode::NoError,
            Self::NoCluster(_) => RDKafkaErrorCode::OperationTimedOut,
            Self::NoBroker => RDKafkaErrorCode::UnknownBroker,
            Self::Ask(error) => error.code(),
        }
    }
}

/// Asks for the identity within `limit`. At most two brokers are tried, beginning at a place that `turn` moves on, so
/// that one broker that does not answer cannot hold the truth back.
///
/// The mock cluster answers DescribeTopics with a topic id; brokers before Kafka 2.8 answer zeros, which is
/// [`StreamIdentity::is_weak`].
pub fn identify<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    turn: usize,
    limit: Duration,
) -> Result<Topic, IdentityError> {
    let started = Instant::now();
    let left = || limit.saturating_sub(started.elapsed());
    let metadata = client.fetch_metadata(Some(topic), limit).map_err(|error| refused(&error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let error = found.map(|found| found.error().map_or(RDKafkaErrorCode::NoError, RDKafkaErrorCode::from));
    match error {
        Some(RDKafkaErrorCode::NoError) => {}
        None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            return Err(IdentityError::NoTopic(topic.to_owned()));
        }
        Some(code) => return Err(AskError::Refused { request: "Metadata", code }.into()),
    }
    let cluster_id = client.fetch_cluster_id(left()).ok_or(IdentityError::NoCluster(limit))?;
    let brokers: Vec<i32> = metadata.brokers().iter().map(|broker| broker.id()).collect();
    if brokers.is_empty() {
        return Err(IdentityError::NoBroker);
    }
    let mut last = IdentityError::NoBroker;
    for attempt in 0..brokers.len().min(2) {
        let broker = brokers[(turn + attempt) % brokers.len()];
        let limit = if attempt + 1 < brokers.len().min(2) { left() / 2 } else { left() };
        match describe_topic(client, topic, broker, limit) {
            Ok(description) => {
                let identity = StreamIdentity { cluster_id, topic: topic.to_owned(), topic_id: description.topic_id };
                return Ok(Topic { identity, partition_count: description.partition_count });
            }
            Err(AskError::Refused {
                code: RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
                ..
            }) => return Err(IdentityError::NoTopic(topic.to_owned())),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn refused(error: &KafkaError) -> IdentityError {
    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
    AskError::Refused { request: "Metadata", code }.into()
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::Consumer;

    use super::*;
    use crate::kafka::mock::{Mock, TOPIC, until};

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_topic_is_identified_and_stays_the_same() {
        let mock = Mock::new(3);
        let consumer = mock.consumer();
        let first = identify(consumer.client(), TOPIC, 0, LIMIT).expect("an identity");
        assert_eq!((first.partition_count, first.identity.topic.as_str()), (3, TOPIC));
        assert!(!first.identity.cluster_id.is_empty());
        let other = mock.consumer();
        assert_eq!(identify(other.client(), TOPIC, 7, LIMIT), Ok(first));
    }

    #[test]
    fn a_topic_that_does_not_exist_is_named_and_not_created() {
        let mock = Mock::new(0);
        let consumer = mock.consumer();
        for _ in 0..3 {
            let error = identify(consumer.client(), TOPIC, 0, LIMIT).expect_err("no topic");
            assert_eq!(error, IdentityError::NoTopic(TOPIC.to_owned()));
        }
        mock.cluster.create_topic(TOPIC, 2, 1).expect("a topic");
        let found = until("the topic", || identify(consumer.client(), TOPIC, 0, LIMIT).ok());
        assert_eq!(found.partition_count, 2);
    }

    #[test]
    fn brokers_that_are_away_are_an_error_by_the_deadline() {
        let mock = Mock::new(1);
        let consumer = mock.consumer();
        mock.cluster.broker_down(1).expect("down");
        let error = identify(consumer.client(), TOPIC, 0, Duration::from_millis(200)).expect_err("nobody answers");
        assert!(!matches!(error, IdentityError::NoTopic(_)), "{error}");
    }
}
