//! A Kafka as tests use it: topics, a producer that knows what became of every record, a reader, commits.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::wait;

/// Where a Kafka listens.
#[derive(Clone, Debug)]
pub struct Kafka {
    pub brokers: String,
}

impl Kafka {
    /// The plain broker that `tests/run` started for all tests.
    pub fn shared() -> Self {
        let Ok(brokers) = std::env::var("DASHSTREAM_TEST_KAFKA") else {
            panic!("no Kafka to test against (DASHSTREAM_TEST_KAFKA is not set): run tests/run");
        };
        let kafka = Self { brokers };
        kafka.wait_for_metadata();
        kafka
    }

    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("broker.address.family", "v4")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log_level", "2");
        config
    }

    /// A broker that answers for itself and its controller: an open port is not enough.
    pub fn wait_for_metadata(&self) {
        let consumer: BaseConsumer = self.config().create().expect("a Kafka client");
        wait::until_true("metadata from the broker", Duration::from_secs(60), || {
            consumer.fetch_metadata(None, Duration::from_secs(2)).is_ok_and(|metadata| !metadata.brokers().is_empty())
        });
    }

    /// A name that no other test uses.
    pub fn fresh_name(&self, what: &str) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("{what}-{}-{number}", std::process::id())
    }

    /// A new topic and its dead-letter topic. Records up to 16 MiB.
    pub fn topic(&self, what: &str, partitions: i32) -> String {
        self.topic_with(what, partitions, &[])
    }

    pub fn topic_with(&self, what: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = self.fresh_name(what);
        self.create(&name, partitions, settings);
        self.create(&format!("{name}-dlq"), 1, &[]);
        name
    }

    pub fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin = self.admin();
        // Nothing goes by age: tests set timestamps as they like.
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
            .set("max.message.bytes", "16777216")
            .set("retention.ms", "-1");
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        // A name whose deletion is under way is taken for a moment longer.
        wait::until_true("the topic to be created", wait::SOON, || {
            let answers = wait::block_on(admin.create_topics([&topic], &options())).expect("the broker answers");
            match &answers[0] {
                Ok(_) => true,
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => false,
                Err((name, error)) => panic!("topic {name}: {error}"),
            }
        });
        let consumer: BaseConsumer = self.config().create().expect("a Kafka client");
        wait::until_true("the leaders of the topic", wait::SOON, || {
            consumer.fetch_metadata(Some(name), Duration::from_secs(2)).is_ok_and(|metadata| {
                metadata.topics().iter().any(|topic| {
                    topic.partitions().len() == partitions as usize
                        && topic.partitions().iter().all(|partition| partition.leader() >= 0)
                })
            })
        });
    }

    pub fn delete(&self, name: &str) {
        let answers = wait::block_on(self.admin().delete_topics(&[name], &options())).expect("the broker answers");
        assert!(answers[0].is_ok(), "{answers:?}");
    }

    /// Grows a topic to `total` partitions.
    pub fn grow(&self, name: &str, total: usize) {
        let partitions = NewPartitions::new(name, total);
        let answers =
            wait::block_on(self.admin().create_partitions([&partitions], &options())).expect("the broker answers");
        assert!(answers[0].is_ok(), "{answers:?}");
    }

    /// Deletes everything below `offset`, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid offset");
        wait::block_on(self.admin().delete_records(&list, &options())).expect("records are deleted");
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("an admin client")
    }

    pub fn producer(&self, topic: &str) -> Producer {
        self.producer_with(topic, &[])
    }

    pub fn producer_with(&self, topic: &str, settings: &[(&str, &str)]) -> Producer {
        let mut config = self.config();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            .set("message.max.bytes", "16777216")
            .set("queue.buffering.max.kbytes", "262144")
            .set("message.timeout.ms", "120000");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let deliveries = Deliveries::default();
        let inner = config.create_with_context(deliveries.clone()).expect("a producer");
        Producer { inner, topic: topic.to_owned(), deliveries, sent: AtomicU64::new(0) }
    }

    /// First and next offset of a partition.
    pub fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        let consumer: BaseConsumer = self.config().create().expect("a Kafka client");
        wait::until("watermarks", wait::SOON, || {
            consumer.fetch_watermarks(topic, partition, Duration::from_secs(2)).ok()
        })
    }

    /// Every record of a topic as it is now, by partition and offset.
    pub fn read(&self, topic: &str) -> Vec<KafkaRecord> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "reader-of-the-tests")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("fetch.message.max.bytes", "16777216")
            .create()
            .expect("a consumer");
        let metadata = wait::until("metadata of the topic", wait::SOON, || {
            let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(2)).ok()?;
            (!metadata.topics().first()?.partitions().is_empty()).then_some(metadata)
        });
        let mut list = TopicPartitionList::new();
        let count = metadata.topics()[0].partitions().len();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("a valid offset");
        }
        consumer.assign(&list).expect("assigned");
        let mut records = Vec::new();
        let mut ended = std::collections::BTreeSet::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        while ended.len() < count {
            assert!(Instant::now() < deadline, "topic {topic} was not read to its end in a minute");
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => records.push(KafkaRecord {
                    partition: message.partition() as u32,
                    offset: message.offset() as u64,
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    timestamp_ms: message.timestamp().to_millis(),
                }),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                Some(Err(error)) => panic!("reading {topic}: {error}"),
                None => {}
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// What a group has committed for a partition, and the metadata with it.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<(u64, String)> {
        let consumer: BaseConsumer =
            self.config().set("group.id", group).set("enable.auto.commit", "false").create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = wait::until("committed offsets", wait::SOON, || {
            consumer.committed_offsets(list.clone(), Duration::from_secs(2)).ok()
        });
        let element = list.elements().into_iter().next()?;
        match element.offset() {
            Offset::Offset(offset) => Some((offset as u64, element.metadata().to_owned())),
            _ => None,
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(Duration::from_secs(20))).operation_timeout(Some(Duration::from_secs(20)))
}

#[derive(Clone, PartialEq, Debug)]
pub struct KafkaRecord {
    pub partition: u32,
    pub offset: u64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp_ms: Option<i64>,
}

/// Counts what was acknowledged, and keeps the first failures.
#[derive(Clone, Default)]
struct Deliveries {
    acknowledged: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => self.failures.lock().expect("not poisoned").push(error.to_string()),
        }
    }
}

/// Writes into one topic, in order per partition, each record once.
pub struct Producer {
    inner: ThreadedProducer<Deliveries>,
    topic: String,
    deliveries: Deliveries,
    sent: AtomicU64,
}

/// All that a record may carry.
#[derive(Clone, Copy, Default, Debug)]
pub struct Parts<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub timestamp_ms: Option<i64>,
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl Producer {
    pub fn send(&self, partition: u32, value: &[u8]) {
        self.send_parts(partition, Parts { key: Some(b"key"), value: Some(value), ..Parts::default() });
    }

    pub fn send_parts(&self, partition: u32, parts: Parts<'_>) {
        loop {
            let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).partition(partition as i32);
            record.key = parts.key;
            record.payload = parts.value;
            record.timestamp = parts.timestamp_ms;
            if !parts.headers.is_empty() {
                let headers = parts.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header { key, value: Some(*value) })
                });
                record = record.headers(headers);
            }
            match self.inner.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("producing: {error}"),
            }
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until Kafka has acknowledged everything that was sent.
    pub fn flush(&self) {
        self.inner.flush(Duration::from_secs(120)).expect("everything is acknowledged");
        let failures = self.deliveries.failures.lock().expect("not poisoned").clone();
        assert!(failures.is_empty(), "producing failed: {failures:?}");
        let sent = self.sent.load(Ordering::Relaxed);
        wait::until_true("the acknowledgements", wait::SOON, || {
            self.deliveries.acknowledged.load(Ordering::Relaxed) == sent
        });
    }

    pub fn begin(&self) {
        self.inner.begin_transaction().expect("a transaction begins");
    }

    pub fn init_transactions(&self) {
        self.inner.init_transactions(Duration::from_secs(30)).expect("transactions are ready");
    }

    pub fn commit(&self) {
        self.inner.commit_transaction(Duration::from_secs(30)).expect("the transaction is committed");
    }

    /// Writes what was sent, then takes it back.
    pub fn abort(&self) {
        self.flush();
        self.inner.abort_transaction(Duration::from_secs(30)).expect("the transaction is aborted");
    }
}

impl KafkaRecord {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().expect("a value")).expect("JSON")
    }

    pub fn key_text(&self) -> String {
        String::from_utf8(self.key.clone().expect("a key")).expect("a text key")
    }
}
