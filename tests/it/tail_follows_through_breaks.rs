//! `tail --follow` straight from Kafka goes on when its broker dies and comes back: every record is shown once, the break
//! is told, and no group is left behind. `replay --follow` does the same. A topic that is made again is another stream: that is told, and the new one is
//! shown from its beginning. A topic that is gone ends it with one line.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::harness::broker::Broker;
use crate::harness::command::Watched;
use crate::harness::kafka::{Kafka, Producer};
use crate::harness::seeded;

const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: u32 = 2;

const TAIL: &[&str] = &["tail"];
const REPLAY: &[&str] = &["replay", "--thread", "run-0,run-1", "--speed", "0"];

fn follow(command: &[&str], kafka: &Kafka, topic: &str, group: &str) -> Watched {
    let environment = [
        ("KAFKA_BROKERS", kafka.brokers.as_str()),
        ("KAFKA_TOPIC", topic),
        ("KAFKA_GROUP_ID", group),
        ("DASHSTREAM_KAFKA_DISCOVERY_INTERVAL", "1s"),
    ];
    Watched::start(&[command, &["--follow", "--from", "earliest", "--output", "jsonl"]].concat(), &environment)
}

fn send(producer: &Producer, sequences: RangeInclusive<u64>) {
    for sequence in sequences {
        (0..PARTITIONS).for_each(|partition| producer.send(partition, &seeded::numbered(partition, sequence, 20)));
    }
}

/// The next lines are these events of each partition, each once and in its order.
fn shows(tail: &mut Watched, sequences: RangeInclusive<u64>) {
    let mut next: BTreeMap<u64, u64> =
        (0..PARTITIONS).map(|partition| (partition.into(), *sequences.start())).collect();
    while next.values().any(|next| next <= sequences.end()) {
        let line = tail.line(LIMIT);
        let object: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
        let number = |name: &str| object[name].as_u64().unwrap_or_else(|| panic!("{name} in {line}"));
        let next = next.get_mut(&number("partition")).expect("a partition of the topic");
        assert_eq!((object["kind"].as_str(), number("sequence")), (Some("event"), *next), "{line}");
        *next += 1;
    }
}

fn groups(kafka: &Kafka) -> Vec<String> {
    let consumer: BaseConsumer = kafka.config().create().expect("a Kafka client");
    let groups = consumer.fetch_group_list(None, LIMIT).expect("the list of groups");
    groups.groups().iter().map(|group| group.name().to_owned()).collect()
}

#[test]
fn a_broker_that_dies_and_comes_back_costs_no_record_and_shows_none_twice() {
    let mut broker = Broker::start("tail-follows");
    let kafka = broker.kafka.clone();
    let topic = kafka.topic("broken", PARTITIONS as i32);
    let producer = kafka.producer(&topic);
    send(&producer, 1..=5);
    producer.flush();
    let mut followers = [TAIL, REPLAY].map(|command| follow(command, &kafka, &topic, "nobodys-group"));
    followers.iter_mut().for_each(|follower| shows(follower, 1..=5));
    for round in 1..=3u64 {
        let first = round * 20 - 14;
        // In the middle of what is being shown.
        send(&producer, first..=first + 9);
        producer.flush();
        broker.kill();
        send(&producer, first + 10..=first + 19);
        crate::harness::wait::until_true("the break to be told", LIMIT, || {
            followers.iter().all(|follower| follower.err().matches("connection lost").count() as u64 == round)
        });
        broker.up();
        producer.flush();
        followers.iter_mut().for_each(|follower| shows(follower, first..=first + 19));
    }
    for follower in followers {
        follower.signal(libc::SIGINT);
        let answer = follower.end(LIMIT);
        assert_eq!((answer.code, answer.out.as_str()), (Some(0), ""), "nothing is repeated: {answer:?}");
        assert_eq!(answer.err.matches("connected again").count(), 3, "{answer:?}");
    }
    assert!(!groups(&kafka).contains(&"nobodys-group".to_owned()), "{:?}", groups(&kafka));
}

/// Follows a topic of five records, makes it again, and sends so many.
fn made_again(command: &[&str], kafka: &Kafka, records: u64) {
    let topic = kafka.topic("again", PARTITIONS as i32);
    let producer = kafka.producer(&topic);
    send(&producer, 1..=5);
    producer.flush();
    let mut tail = follow(command, kafka, &topic, "nobodys-group");
    shows(&mut tail, 1..=5);
    drop(producer);
    // It looks when all is done, or it would meet a topic that is empty yet.
    tail.signal(libc::SIGSTOP);
    kafka.delete(&topic);
    kafka.create(&topic, PARTITIONS as i32, &[]);
    let producer = kafka.producer(&topic);
    send(&producer, 6..=5 + records);
    producer.flush();
    tail.signal(libc::SIGCONT);
    assert_eq!(tail.line(LIMIT), "{\"kind\":\"stream_changed\"}", "who reads the lines alone knows as well");
    shows(&mut tail, 6..=5 + records);
    tail.signal(libc::SIGINT);
    let answer = tail.end(LIMIT);
    assert_eq!((answer.code, answer.out.as_str()), (Some(0), ""), "{answer:?}");
    assert_eq!(answer.err.matches("the topic was made again").count(), 1, "{answer:?}");
}

#[test]
fn a_topic_that_is_made_again_is_told_and_shown_from_its_beginning() {
    let kafka = Kafka::shared();
    // It ends before the place that was reached in the old one, at that place, and beyond it.
    for records in [3, 5, 50] {
        made_again(TAIL, &kafka, records);
    }
    made_again(REPLAY, &kafka, 3);
}

#[test]
fn a_topic_that_is_gone_ends_it_with_one_line() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("leaves", PARTITIONS as i32);
    let producer = kafka.producer(&topic);
    send(&producer, 1..=5);
    producer.flush();
    let mut tail = follow(TAIL, &kafka, &topic, "nobodys-group");
    shows(&mut tail, 1..=5);
    drop(producer);
    kafka.delete(&topic);
    let answer = tail.end(LIMIT);
    assert_eq!((answer.code, answer.out.as_str()), (Some(2), ""), "{answer:?}");
    let last = answer.err.lines().last().unwrap_or_default();
    assert!(last.contains(&topic) && last.contains("does not exist"), "{answer:?}");
}
