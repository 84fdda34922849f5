//! What `dashstream::producer` says of an event is so: `Delivered` is at its place with its bytes, once; `Refused` is not
//! on the topic; whatever else is on the topic was called `Unknown`. While one of three brokers is killed in the middle of
//! 200,000 events, and while all of them stand still for longer than the delivery timeout.
//!
//! Every event carries a message id that the test chose, so that its bytes are known beforehand, and the judge writes
//! and reads them by hand. This file uses the crate, since its producer is what is judged.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use dashstream::producer::proto::Header;
use dashstream::producer::{Access, Event, EventType, Flushed, Options, Outcome, Outgoing, Producer, Ticket};

use crate::harness::broker::Broker;
use crate::harness::kafka::{Kafka, KafkaRecord};
use crate::harness::proto::Writer;
use crate::harness::wait;

const PARTITIONS: i32 = 6;
const THREADS: u64 = 50;
const LIMIT: Duration = Duration::from_secs(120);
const AT_US: i64 = 1_700_000_000_000_000;

fn message_id(index: u64) -> [u8; 16] {
    let mut id = [0x5a; 16];
    id[8..].copy_from_slice(&index.to_be_bytes());
    id
}

fn thread(index: u64) -> String {
    format!("run-{}", index % THREADS)
}

fn event(index: u64) -> Outgoing {
    let header = Header { message_id: message_id(index).to_vec(), timestamp_us: AT_US, ..Header::default() };
    let event = Event { header: Some(header), ..Event::of(EventType::NodeEnd, "the node of this test") };
    Outgoing::new(thread(index), event.with("index", index as i64 + 1))
}

/// The value as it must stand on the topic.
fn value(index: u64, sequence: u64) -> Vec<u8> {
    let header = Writer::new()
        .bytes(1, message_id(index))
        .varint(2, AT_US as u64)
        .bytes(3, "default")
        .bytes(4, thread(index))
        .varint(5, sequence)
        .varint(6, 1)
        .varint(9, 1);
    let attribute = Writer::new().bytes(1, "index").message(2, Writer::new().varint(2, index + 1));
    let event = Writer::new().message(1, header).varint(2, 11).bytes(3, "the node of this test").message(4, attribute);
    let mut value = vec![0];
    value.extend(Writer::new().message(1, event).0);
    value
}

/// The number of an event, from its message id.
fn index_of(record: &KafkaRecord) -> u64 {
    let value = record.value.as_deref().expect("a value");
    let at = value.windows(8).position(|window| window == [0x5a; 8]).expect("a message id of this test");
    u64::from_be_bytes(value[at + 8..at + 16].try_into().expect("eight bytes"))
}

struct Books {
    delivered: usize,
    refused: usize,
    unknown: usize,
    unknown_on_topic: usize,
}

/// Compares what was said with what is there.
fn judge(tickets: &[Ticket], records: &[KafkaRecord], flushed: Flushed) -> Books {
    let outcomes: Vec<Outcome> =
        tickets.iter().map(|ticket| ticket.outcome().expect("after close every event has an outcome")).collect();
    let places: HashMap<(u32, u64), &KafkaRecord> =
        records.iter().map(|record| ((record.partition, record.offset), record)).collect();
    let mut times: HashMap<u64, u32> = HashMap::new();
    for record in records {
        *times.entry(index_of(record)).or_default() += 1;
    }
    let mut books = Books { delivered: 0, refused: 0, unknown: 0, unknown_on_topic: 0 };
    let mut next: HashMap<String, u64> = HashMap::new();
    for (index, (outcome, ticket)) in (0u64..).zip(outcomes.iter().zip(tickets)) {
        let expected = next.entry(thread(index)).or_insert(0);
        *expected += 1;
        assert_eq!((outcome.sequence(), ticket.sequence()), (*expected, *expected), "event {index}");
        let count = times.get(&index).copied().unwrap_or(0);
        match outcome {
            Outcome::Delivered { partition, offset, sequence } => {
                books.delivered += 1;
                let record = places.get(&(partition.0, offset.0));
                let record = record.unwrap_or_else(|| panic!("event {index} is not at {partition:?} {offset:?}"));
                assert_eq!(record.value.as_deref(), Some(value(index, *sequence).as_slice()), "event {index}");
                assert_eq!(record.key.as_deref(), Some(thread(index).as_bytes()));
                assert_eq!(count, 1, "event {index} is there {count} times");
            }
            Outcome::Refused { reason, .. } => {
                books.refused += 1;
                assert_eq!(count, 0, "event {index} was refused ({reason}) and is on the topic");
            }
            Outcome::Unknown { .. } => {
                books.unknown += 1;
                books.unknown_on_topic += usize::from(count > 0);
                // Nobody sends it again, so that even this is there once at most.
                assert!(count <= 1, "event {index} is there {count} times");
            }
        }
    }
    let sent: HashSet<u64> = (0..tickets.len() as u64).collect();
    assert!(times.keys().all(|index| sent.contains(index)), "a record that nobody sent");
    assert_eq!(records.len(), books.delivered + books.unknown_on_topic);
    let counts = (flushed.pending, flushed.delivered, flushed.refused, flushed.unknown);
    assert_eq!(counts, (0, books.delivered as u64, books.refused as u64, books.unknown as u64));
    books
}

/// What the topic holds, when nothing is added any more.
fn all_records(kafka: &Kafka, topic: &str) -> Vec<KafkaRecord> {
    let mut before = 0;
    wait::until("the topic to come to rest", LIMIT, || {
        let records = kafka.read(topic);
        let rest = records.len() == before && !records.is_empty();
        before = records.len();
        rest.then_some(records)
    })
}

fn topic(kafka: &Kafka, what: &str) -> String {
    let topic = kafka.fresh_name(what);
    kafka.create_replicated(&topic, PARTITIONS, 3, &[("min.insync.replicas", "2")]);
    topic
}

#[test]
fn outcomes_are_true_while_brokers_die_and_stand_still() {
    let mut brokers = Broker::cluster("outcomes", 3);
    let kafka = brokers[1].kafka.clone();
    a_broker_is_killed(&mut brokers, &kafka);
    all_brokers_stand_still(&brokers, &kafka);
}

fn a_broker_is_killed(brokers: &mut [Broker], kafka: &Kafka) {
    const EVENTS: u64 = 200_000;
    let topic = topic(kafka, "killed");
    let options = Options { queue_events_max: 20_000, ..Options::new(Access::plaintext(&kafka.brokers), &topic) };
    let producer = Producer::start(options).expect("started");
    let mut tickets = Vec::new();
    for index in 0..EVENTS {
        if index == EVENTS / 2 {
            brokers[0].kill();
        }
        tickets.push(producer.send(event(index), LIMIT).expect("accepted"));
    }
    let flushed = producer.close(LIMIT);
    let books = judge(&tickets, &all_records(kafka, &topic), flushed);
    eprintln!(
        "one broker killed: {} delivered, {} refused, {} unknown of which {} are there",
        books.delivered, books.refused, books.unknown, books.unknown_on_topic
    );
    assert!(books.delivered as u64 > EVENTS / 2, "a cluster of three survives one");
    brokers[0].up();
    kafka.wait_for_brokers(3);
}

fn all_brokers_stand_still(brokers: &[Broker], kafka: &Kafka) {
    const EVENTS: u64 = 20_000;
    let topic = topic(kafka, "paused");
    let options = Options {
        delivery_timeout: Duration::from_secs(4),
        queue_events_max: 2_000,
        linger: Duration::ZERO,
        ..Options::new(Access::plaintext(&kafka.brokers), &topic)
    };
    let producer = Producer::start(options).expect("started");
    let mut tickets = Vec::new();
    for index in 0..EVENTS {
        // The queue is full by then, so that requests are under way.
        if index == EVENTS / 2 {
            brokers.iter().for_each(Broker::pause);
        }
        tickets.push(producer.send(event(index), LIMIT).expect("there is room when the timeout gives it back"));
        if index > EVENTS / 2 + 3_000 {
            break;
        }
    }
    assert_eq!(producer.flush(LIMIT).pending, 0, "the delivery timeout settles everything");
    brokers.iter().for_each(Broker::resume);
    kafka.wait_for_brokers(3);
    let flushed = producer.close(LIMIT);
    let books = judge(&tickets, &all_records(kafka, &topic), flushed);
    eprintln!(
        "all brokers paused: {} delivered, {} refused, {} unknown of which {} are there",
        books.delivered, books.refused, books.unknown, books.unknown_on_topic
    );
    assert!(books.unknown >= 1, "what was under way cannot be known");
    assert!(books.refused >= 1, "what never left is refused");
    assert!(books.delivered >= 1);
}
