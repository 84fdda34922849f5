//! The broker of a demo: librdkafka's mock cluster, inside this process.
//!
//! It keeps 5 MiB per partition in memory and drops the oldest silently, answers an empty fetch only after its full
//! wait, and listens on a port of its own choice on the loopback interface.

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// Stays on the thread that made it. Dropped after everything that talks to it.
pub struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

/// Partitions of both topics.
pub const PARTITIONS: u32 = 4;

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It listens on the loopback interface: that must exist, and a port on it be free.
    #[error("the embedded broker did not start; it needs the loopback interface 127.0.0.1: {0}")]
    Start(#[source] KafkaError),
    #[error("the embedded broker did not make the topic `{topic}`: {source}")]
    Topic { topic: String, source: KafkaError },
}

impl Broker {
    /// A broker with these topics, empty.
    pub fn start(topics: &[&str]) -> Result<Self, BrokerError> {
        let cluster = MockCluster::new(1).map_err(BrokerError::Start)?;
        for topic in topics {
            cluster
                .create_topic(topic, PARTITIONS as i32, 1)
                .map_err(|source| BrokerError::Topic { topic: (*topic).to_owned(), source })?;
        }
        Ok(Self { cluster })
    }

    /// As `KAFKA_BROKERS` wants it.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_on_the_loopback_interface_and_takes_any_topic_name_that_kafka_takes() {
        let broker = Broker::start(&["dashstream-quality", "dashstream-quality-dlq"]).expect("a broker");
        assert!(broker.bootstrap_servers().starts_with("127.0.0.1:"), "{}", broker.bootstrap_servers());
    }
}
