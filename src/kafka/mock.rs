//! What the tests of this room share: librdkafka's mock cluster, a producer towards it, and deadlines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use crate::config::{AddressFamily, Assignment, KafkaConfig, OffsetReset, OnDecodeError, SecurityConfig};

pub(crate) const TOPIC: &str = "quality";

pub(crate) struct Mock {
    pub(crate) cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Mock {
    pub(crate) fn new(partitions: i32) -> Self {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        if partitions > 0 {
            cluster.create_topic(TOPIC, partitions, 1).expect("a topic");
        }
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("linger.ms", "5");
        Self { producer: BaseProducer::from_config(&config).expect("a producer"), cluster }
    }

    pub(crate) fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// One record after the other, so that they keep their order. `None` is a null value.
    pub(crate) fn produce(&self, partition: i32, values: &[Option<&[u8]>]) {
        for value in values {
            let mut record = BaseRecord::<[u8], [u8]>::to(TOPIC).partition(partition).key(b"key".as_slice());
            record.payload = *value;
            record.headers = Some(
                OwnedHeaders::new()
                    .insert(Header { key: "first", value: Some("one") })
                    .insert(Header { key: "second", value: None::<&str> }),
            );
            self.producer.send(record).map_err(|(error, _)| error).expect("room in the producer");
        }
        self.producer.flush(Duration::from_secs(10)).expect("flushed");
    }

    pub(crate) fn produce_numbers(&self, partition: i32, numbers: std::ops::Range<u32>) {
        let values: Vec<[u8; 4]> = numbers.map(u32::to_be_bytes).collect();
        let values: Vec<Option<&[u8]>> = values.iter().map(|value| Some(value.as_slice())).collect();
        self.produce(partition, &values);
    }

    /// A bare consumer without a context, as fast as the mock allows.
    pub(crate) fn consumer(&self) -> Arc<BaseConsumer> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers())
            .set("group.id", "test")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "5")
            .set("session.timeout.ms", "2000");
        Arc::new(BaseConsumer::from_config(&config).expect("a consumer"))
    }
}

pub(crate) fn assign(consumer: &BaseConsumer, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, partition, KafkaOffset::Offset(offset)).expect("an offset");
    consumer.incremental_assign(&list).expect("assigned");
}

/// Repeats `step` until it gives something; fails after a deadline that is far beyond what is expected.
pub(crate) fn until<T>(what: &str, mut step: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = step() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
    }
}

/// Settings as a gateway has them against the mock, where an empty fetch always waits its full time.
pub(crate) fn settings(brokers: &str) -> KafkaConfig {
    KafkaConfig {
        brokers: brokers.to_owned(),
        topic: TOPIC.to_owned(),
        group_id: "gateway".to_owned(),
        assignment: Assignment::All,
        auto_offset_reset: OffsetReset::Earliest,
        on_decode_error: OnDecodeError::Skip,
        security: SecurityConfig::plaintext(),
        broker_address_family: AddressFamily::V4,
        queue_bytes: 16 * 1024 * 1024,
        fetch_max_wait: Duration::from_millis(5),
        session_timeout: Duration::from_secs(2),
        commit_interval: Duration::from_millis(100),
        discovery_interval: Duration::from_millis(200),
        partitions_max: 16,
        payload_max_bytes: 1024 * 1024,
    }
}
