//! The feeder against the embedded broker: never further ahead of its reader than it may be, and nothing lost or
//! repeated although the broker forgets.

use std::collections::BTreeMap;

use prost::Message as _;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::*;
use crate::demo::broker::{Broker, PARTITIONS};
use crate::wire::framing::split;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{DashStreamMessage, Header};

const TOPIC: &str = "made-up";
const LIMIT_BYTES: u64 = 2_560 * 1024;
const DEADLINE: Duration = Duration::from_secs(60);

/// Where the reader claims to be: the next offset per partition, plus one; 0 says that it has not begun.
type Claims = Arc<Vec<AtomicU64>>;

fn start(broker: &Broker, rate: u32, claims: &Claims) -> Feeder {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", broker.bootstrap_servers());
    let claims = Arc::clone(claims);
    let position: Position =
        Box::new(move |partition| claims[partition.0 as usize].load(Ordering::Acquire).checked_sub(1).map(Offset));
    let options = FeederOptions {
        client,
        topic: TOPIC.to_owned(),
        partitions: PARTITIONS,
        rate,
        seed: 12,
        poison: true,
        ahead: Some(AheadLimit { bytes: LIMIT_BYTES, position }),
    };
    Feeder::start(options).expect("a feeder")
}

fn claims() -> Claims {
    Arc::new((0..PARTITIONS).map(|_| AtomicU64::new(0)).collect())
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn sent_bytes(feeder: &Feeder, partition: usize) -> u64 {
    feeder.progress.partition_bytes[partition].load(Ordering::Acquire)
}

/// Reads everything from offset 0 on, checks that offsets are contiguous, and gives what a value holds.
struct Reader {
    consumer: BaseConsumer,
    next: [u64; PARTITIONS as usize],
    bytes: [u64; PARTITIONS as usize],
    /// Last sequence of every (tenant, thread).
    sequences: BTreeMap<(String, String), u64>,
    unreadable: u64,
}

impl Reader {
    fn new(broker: &Broker) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", broker.bootstrap_servers())
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "5");
        let consumer = BaseConsumer::from_config(&config).expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS as i32 {
            list.add_partition_offset(TOPIC, partition, KafkaOffset::Offset(0)).expect("an offset");
        }
        consumer.assign(&list).expect("assigned");
        Self { consumer, next: [0; 4], bytes: [0; 4], sequences: BTreeMap::new(), unreadable: 0 }
    }

    /// The partition of the record that was read, if there was one.
    fn read(&mut self) -> Option<usize> {
        let record = self.consumer.poll(Duration::from_millis(20))?.expect("no error, or records were lost");
        let partition = record.partition() as usize;
        assert_eq!(record.offset() as u64, self.next[partition], "partition {partition}");
        self.next[partition] += 1;
        let value = record.payload();
        self.bytes[partition] += (record.key().map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
        let message = value.and_then(|value| {
            let (framing, body) = split(value).ok()?;
            let body = match framing.is_zstd() {
                true => zstd::bulk::decompress(body, 1 << 20).ok()?,
                false => body.to_vec(),
            };
            DashStreamMessage::decode(body.as_slice()).ok()?.message
        });
        match message {
            Some(payload) => headers(&payload).into_iter().for_each(|header| {
                let key = (header.tenant_id.clone(), header.thread_id.clone());
                let last = self.sequences.entry(key).or_default();
                assert_eq!(header.sequence, *last + 1, "{}", header.thread_id);
                *last += 1;
                assert_eq!(record.key(), Some(header.thread_id.as_bytes()));
            }),
            None => {
                assert!(record.key().is_some_and(|key| key.starts_with(b"poison-")));
                self.unreadable += 1;
            }
        }
        Some(partition)
    }
}

fn headers(payload: &Payload) -> Vec<&Header> {
    match payload {
        Payload::Event(payload) => payload.header.iter().collect(),
        Payload::StateDiff(payload) => payload.header.iter().collect(),
        Payload::TokenChunk(payload) => payload.header.iter().collect(),
        Payload::ToolExecution(payload) => payload.header.iter().collect(),
        Payload::Checkpoint(payload) => payload.header.iter().collect(),
        Payload::Metrics(payload) => payload.header.iter().collect(),
        Payload::Error(payload) => payload.header.iter().collect(),
        Payload::ExecutionTrace(payload) => payload.header.iter().collect(),
        Payload::EventBatch(batch) => batch.events.iter().filter_map(|event| event.header.as_ref()).collect(),
    }
}

#[test]
fn a_reader_that_has_not_begun_is_waited_for() {
    let broker = Broker::start(&[TOPIC]).expect("a broker");
    let feeder = start(&broker, 1_000_000, &claims());
    wait("the feeder to be held", || feeder.progress.held_turns.load(Ordering::Relaxed) > 20);
    let sent: Vec<u64> = (0..4).map(|partition| sent_bytes(&feeder, partition)).collect();
    assert!(sent.iter().all(|bytes| *bytes <= LIMIT_BYTES), "{sent:?}");
    assert!(sent.iter().any(|bytes| *bytes > LIMIT_BYTES / 3), "{sent:?}");
    feeder.stop().expect("a clean end");
}

#[test]
fn a_slow_reader_of_much_more_than_the_broker_keeps_loses_and_repeats_nothing() {
    let broker = Broker::start(&[TOPIC]).expect("a broker");
    let claims = claims();
    let feeder = start(&broker, 1_000_000, &claims);
    wait("the feeder to be held", || feeder.progress.held_turns.load(Ordering::Relaxed) > 5);

    let mut reader = Reader::new(&broker);
    let deadline = Instant::now() + DEADLINE;
    // Six MiB of each partition, of which the broker keeps five at most.
    while reader.bytes.iter().any(|bytes| *bytes < 6 << 20) {
        assert!(Instant::now() < deadline, "{:?}", reader.bytes);
        if let Some(partition) = reader.read() {
            // The feeder sends between the two looks: what was sent is looked at first.
            let ahead = sent_bytes(&feeder, partition).saturating_sub(reader.bytes[partition]);
            assert!(ahead <= LIMIT_BYTES, "{ahead} bytes ahead in partition {partition}");
            claims[partition].store(reader.next[partition] + 1, Ordering::Release);
        }
    }
    let progress = Arc::clone(&feeder.progress);
    feeder.stop().expect("a clean end");
    let records = progress.records.load(Ordering::Relaxed);
    assert_eq!((progress.acknowledged.load(Ordering::Relaxed), progress.failed.load(Ordering::Relaxed)), (records, 0));
    wait("the rest", || {
        reader.read();
        reader.next.iter().sum::<u64>() == records
    });
    assert_eq!(reader.unreadable, progress.poison.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>());
}

#[test]
fn the_rate_is_kept_without_drift() {
    let broker = Broker::start(&[TOPIC]).expect("a broker");
    let claims = claims();
    claims.iter().for_each(|claim| claim.store(u64::MAX, Ordering::Release));
    let feeder = start(&broker, 2_000, &claims);
    let begun = Instant::now();
    wait("two seconds of events", || feeder.progress.events.load(Ordering::Relaxed) >= 4_000);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1_950), "{took:?}");
    feeder.stop().expect("a clean end");
}
