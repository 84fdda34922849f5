//! A client that comes back after the log has long moved on receives every record that Kafka still has, in order, once,
//! while production goes on, and then `live`; what Kafka no longer has is named exactly.
//!
//! The log holds 4 MiB; the topic is several times as large. Every byte is compared with what was produced.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::corpus;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::json::{JsonClient, decimal};
use crate::harness::kafka::{Kafka, Parts, Producer};
use crate::harness::ledger::Ledger;
use crate::harness::v1::V1Client;
use crate::harness::v2::{V2Client, V2Event};
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(90);
const PARTITIONS: u32 = 4;

fn small_log(kafka: &Kafka, topic: &str) -> Setup {
    Setup::new(kafka, topic)
        .set("WEBSOCKET_MAX_PAYLOAD_BYTES", 1 << 20)
        .set("DASHSTREAM_LOG_MAX_BYTES", "4MiB")
        .set("DASHSTREAM_COLD_MAX_BYTES", "16MiB")
}

/// The same, and it forgets by age: whichever partition was read last, its log moves on.
fn forgetful(kafka: &Kafka, topic: &str) -> Setup {
    small_log(kafka, topic).set("DASHSTREAM_LOG_MAX_AGE", "1s")
}

/// `length` ordinary records in each partition.
fn fill(producer: &Producer, from: u64, to: u64) {
    for index in from..to {
        (0..PARTITIONS).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index)));
    }
    producer.flush();
}

fn check(partition: u32, offset: u64, value: &[u8]) {
    assert!(value == corpus::ordinary(partition, offset), "partition {partition}, offset {offset}: bytes differ");
}

fn everywhere(offset: u64) -> BTreeMap<u32, u64> {
    (0..PARTITIONS).map(|partition| (partition, offset)).collect()
}

/// The gateway has read everything up to `length`, and its log begins later than `beyond`.
fn wait_until_read(gateway: &Gateway, length: u64, beyond: u64) {
    wait::until_true("the log to have moved on", LIMIT, || {
        let hello = JsonClient::connect(gateway.ws()).hello;
        let partitions = hello["partitions"].as_array().expect("partitions").iter();
        partitions.clone().count() == PARTITIONS as usize
            && partitions.clone().all(|partition| decimal(&partition["next"]) >= length)
            && partitions.clone().all(|partition| decimal(&partition["oldest"]) > beyond)
    });
}

/// Everything from `first` on, up to `lengths`, with nothing called lost.
fn assert_from(who: &str, ledger: &Ledger, first: u64, length: u64) {
    assert_eq!(ledger.gaps, [], "{who}: nothing is lost while Kafka has it");
    for partition in 0..PARTITIONS {
        assert_eq!(ledger.missing(partition, first, length), [0u64; 0], "{who}: partition {partition}");
        assert!(first == 0 || !ledger.has(partition, first - 1), "{who}: nothing from before the cursor");
    }
}

#[test]
fn sixty_thousand_records_older_than_the_log() {
    const OLD: u64 = 15_000;
    let kafka = Kafka::shared();
    let topic = kafka.topic("cold", PARTITIONS as i32);
    let producer = kafka.producer(&topic);
    fill(&producer, 0, OLD);
    let gateway = small_log(&kafka, &topic).start();
    wait_until_read(&gateway, OLD, OLD / 3);
    let stop = AtomicBool::new(false);
    let end = AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        // Production goes on while they come back.
        scope.spawn(|| {
            let mut next = OLD;
            while !stop.load(Ordering::Relaxed) && next < OLD + 20_000 {
                fill(&producer, next, next + 20);
                next += 20;
                std::thread::sleep(Duration::from_millis(20));
            }
            end.store(next, Ordering::SeqCst);
        });
        let reached = |ledger: &Ledger| {
            let end = end.load(Ordering::SeqCst);
            end < u64::MAX && ledger.reached(&[end; PARTITIONS as usize])
        };
        let v2 = |cursor: Option<u64>| {
            let mut client = V2Client::connect(gateway.ws());
            match cursor {
                None => client.resume_earliest(),
                Some(last) => client.resume(&everywhere(last)),
            }
            let mut ledger = Ledger::new();
            let live = |others: &[V2Event]| others.iter().any(|event| matches!(event, V2Event::Live { resume: 1, .. }));
            client.follow(&mut ledger, LIMIT, check, |_, others| live(others));
            (client, ledger)
        };
        let readers = [scope.spawn(move || v2(None)), scope.spawn(move || v2(Some(OLD / 3 - 1)))];
        let mut json = JsonClient::connect(gateway.ws());
        json.resume(&json.stream(), &everywhere(OLD / 3 - 1));
        let mut json_ledger = Ledger::new();
        json.until(&mut json_ledger, "live", LIMIT);
        // The predecessor's protocol gets all that there is for partitions that it does not name.
        let mut v1 = V1Client::connect(gateway.ws());
        v1.resume(&BTreeMap::new());
        let mut v1_ledger = Ledger::new();
        let (complete, before) = v1.follow_until_text(&mut v1_ledger, "replay_complete", LIMIT);
        assert_eq!((before.len(), &complete["capped"]), (0, &serde_json::json!(false)), "{before:?} {complete}");
        let clients = readers.map(|reader| reader.join().expect("a reader"));
        stop.store(true, Ordering::Relaxed);
        for (mut client, mut ledger) in clients {
            client.follow(&mut ledger, LIMIT, check, |ledger, _| reached(ledger));
            let first = if ledger.has(0, 0) { 0 } else { OLD / 3 };
            assert_from("v2", &ledger, first, end.load(Ordering::SeqCst));
        }
        json.follow(&mut json_ledger, LIMIT, |ledger, _| reached(ledger));
        assert_from("json", &json_ledger, OLD / 3, end.load(Ordering::SeqCst));
        v1.follow(&mut v1_ledger, LIMIT, check, reached);
        assert_from("v1", &v1_ledger, 0, end.load(Ordering::SeqCst));
    });
    let metrics = gateway.metrics();
    assert!(metrics.sum("dashstream_replay_read_records_total", &[]) > 0.0, "Kafka was read below the log");
}

#[test]
fn what_kafka_no_longer_has_is_named_exactly() {
    const OLD: u64 = 6_000;
    const LOW: u64 = 1_000;
    let kafka = Kafka::shared();
    let topic = kafka.topic("deleted", PARTITIONS as i32);
    fill(&kafka.producer(&topic), 0, OLD);
    let gateway = forgetful(&kafka, &topic).start();
    wait_until_read(&gateway, OLD, LOW + 500);
    kafka.delete_records(&topic, 0, LOW as i64);
    let answers = |last: u64| {
        let mut client = JsonClient::connect(gateway.ws());
        client.resume(&client.stream(), &everywhere(last));
        let mut ledger = Ledger::new();
        let (frames, _) =
            client.follow(&mut ledger, LIMIT, |_, frames| frames.last().is_some_and(|frame| frame["type"] == "live"));
        let answers: Vec<_> = frames.iter().filter(|frame| frame["type"] == "answers").collect();
        let find = |partition: u64| {
            let mut all = answers.iter().flat_map(|frame| frame["answers"].as_array().expect("answers"));
            all.find(|answer| answer["partition"] == partition).cloned().expect("an answer")
        };
        (find(0), find(1), ledger)
    };
    // Exactly at the oldest but one: contiguous, not stale.
    let (first, second, ledger) = answers(LOW - 1);
    assert_eq!((&first["answer"], &second["answer"]), (&"resumed".into(), &"resumed".into()), "{first} {second}");
    assert_from("contiguous", &ledger, LOW, OLD);
    let mut client = V2Client::connect(gateway.ws());
    client.resume(&everywhere(LOW - 1));
    let mut ledger = Ledger::new();
    let others = client.follow(&mut ledger, LIMIT, check, |_, others| {
        others.iter().any(|event| matches!(event, V2Event::Live { resume: 1, .. }))
    });
    let told = others.iter().filter_map(|event| match event {
        V2Event::Answers { answers, .. } => Some(answers),
        _ => None,
    });
    let told: Vec<_> = told.flatten().map(|answer| (answer.kind, answer.numbers[0])).collect();
    assert_eq!(told, [("resumed", LOW); PARTITIONS as usize]);
    assert_from("v2, contiguous", &ledger, LOW, OLD);
    let mut client = V1Client::connect(gateway.ws());
    client.resume_in(&gateway.stream(), &everywhere(LOW - 1));
    let mut ledger = Ledger::new();
    let (complete, before) = client.follow_until_text(&mut ledger, "replay_complete", LIMIT);
    assert_eq!((before.len(), &complete["capped"]), (0, &serde_json::json!(false)), "{before:?}");
    assert_from("v1, contiguous", &ledger, LOW, OLD);
    let (first, second, ledger) = answers(99);
    assert_eq!((&first["answer"], &first["reason"]), (&"truncated".into(), &"retention".into()), "{first}");
    assert_eq!((decimal(&first["requested"]), decimal(&first["oldest"])), (99, LOW));
    assert_eq!(second["answer"], "resumed", "the others are unaffected");
    assert_eq!(ledger.missing(0, LOW, OLD), [0u64; 0]);
    assert_eq!((ledger.count(0) as u64, ledger.count(1) as u64), (OLD - LOW, OLD - 100));
    // All that there is begins where Kafka begins.
    let mut client = V2Client::connect(gateway.ws());
    client.resume_earliest();
    let mut ledger = Ledger::new();
    client.follow(&mut ledger, LIMIT, check, |_, others| {
        others.iter().any(|event| matches!(event, V2Event::Live { resume: 1, .. }))
    });
    assert_eq!((ledger.count(0) as u64, ledger.count(1) as u64), (OLD - LOW, OLD));
    assert_eq!(ledger.gaps, []);
}

#[test]
fn what_kafka_deletes_during_a_replay_is_named_exactly() {
    const OLD: u64 = 6_000;
    const LOW: u64 = 4_500;
    let kafka = Kafka::shared();
    let topic = kafka.topic("deleted-meanwhile", PARTITIONS as i32);
    fill(&kafka.producer(&topic), 0, OLD);
    let gateway = forgetful(&kafka, &topic).start();
    wait_until_read(&gateway, OLD, LOW + 500);
    let mut client = V2Client::connect(gateway.ws());
    client.resume_earliest();
    let mut ledger = Ledger::new();
    // It stops reading while it has next to nothing, and what lies before it goes.
    client.follow(&mut ledger, LIMIT, check, |ledger, _| ledger.records > 0);
    (0..PARTITIONS).for_each(|partition| kafka.delete_records(&topic, partition as i32, LOW as i64));
    client.follow(&mut ledger, LIMIT, check, |_, others| {
        others.iter().any(|event| matches!(event, V2Event::Live { resume: 1, .. }))
    });
    for partition in 0..PARTITIONS {
        assert_eq!(ledger.missing(partition, 0, OLD), [0u64; 0], "partition {partition}: each came or was named");
    }
    // What was fetched already still comes; that is not all of it.
    assert!(!ledger.gaps.is_empty(), "{} records came", ledger.records);
    for (partition, first, last, reason) in &ledger.gaps {
        assert!(*last < LOW && reason == "retention", "{first} to {last} of {partition}: {reason}");
    }
}

#[test]
fn five_hundred_come_back_at_once() {
    const OLD: u64 = 6_000;
    const CLIENTS: usize = 500;
    let kafka = Kafka::shared();
    let topic = kafka.topic("herd", PARTITIONS as i32);
    let values: Vec<Vec<Vec<u8>>> =
        (0..PARTITIONS).map(|partition| (0..OLD).map(|index| corpus::ordinary(partition, index)).collect()).collect();
    let producer = kafka.producer(&topic);
    for (partition, values) in (0..).zip(&values) {
        values.iter().for_each(|value| producer.send(partition, value));
    }
    producer.flush();
    // Every bound is small, so that their sum is a tenth of what the herd is sent.
    let gateway = forgetful(&kafka, &topic)
        .set("DASHSTREAM_COLD_MAX_SESSIONS", 40)
        .set("DASHSTREAM_KAFKA_QUEUE_BYTES", "16MiB")
        .set("DASHSTREAM_SERVER_MAX_CONNECTIONS", 2 * CLIENTS)
        .set("DASHSTREAM_FANOUT_MID_FRAME_MAX_BYTES", "8MiB")
        .set("DASHSTREAM_FANOUT_INBOUND_MAX_BYTES", "4MiB")
        .set("DASHSTREAM_DLQ_QUEUE_MAX_BYTES", "1MiB")
        .start();
    // A little before where the log begins, by now.
    let from = 2_000;
    wait_until_read(&gateway, OLD, from + 1_000);
    let waited = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = V2Client::connect(gateway.ws());
                client.resume(&everywhere(from));
                let mut ledger = Ledger::new();
                let check = |partition: u32, offset: u64, value: &[u8]| {
                    let expected = &values[partition as usize][offset as usize];
                    assert!(value == expected, "partition {partition}, offset {offset}: bytes differ");
                };
                let others = client.follow(&mut ledger, LIMIT, check, |_, others| {
                    others.iter().any(|event| matches!(event, V2Event::Live { resume: 1, .. }))
                });
                // Field 11: it was told that it waits.
                waited.fetch_add(
                    u64::from(others.iter().any(|event| matches!(event, V2Event::Other(11)))),
                    Ordering::Relaxed,
                );
                assert_from("one of the herd", &ledger, from + 1, OLD);
                assert_eq!(ledger.records, u64::from(PARTITIONS) * (OLD - from - 1), "each once");
            });
        }
    });
    assert!(waited.load(Ordering::Relaxed) > 0, "more came than may replay at once, and nobody was told to wait");
    // What `check-config` promises for these settings holds for the whole time, and is far below what was sent.
    let (taken, promised) = (gateway.resident_max(), gateway.setup.memory_max(PARTITIONS));
    let one: usize = values.iter().flat_map(|values| &values[from as usize + 1..]).map(Vec::len).sum();
    assert!(promised < (CLIENTS * one / 10) as u64, "{promised} bytes are promised, a client is sent {one}");
    assert!(taken <= promised, "{taken} bytes were taken, {promised} are promised");
    wait::until_true("all seats to be given back", LIMIT, || {
        gateway.metrics().sum("dashstream_cold_sessions", &[]) == 0.0
    });
}

#[test]
fn a_slow_reader_gets_all_of_it() {
    const BYTES_PER_SECOND: u64 = 50 * 1024;
    const VALUE_BYTES: usize = 1_000;
    const RECORDS: u64 = 3 * 1024 * 1024 / VALUE_BYTES as u64;
    let kafka = Kafka::shared();
    let topic = kafka.topic("slow-replay", 1);
    let producer = kafka.producer(&topic);
    for index in 0..RECORDS * 3 {
        producer.send(0, &corpus::frame(corpus::Framing::Plain, &corpus::event("slow", index + 1, VALUE_BYTES)));
    }
    producer.flush();
    let gateway = small_log(&kafka, &topic).start();
    wait::until_true("the log to have moved on", LIMIT, || {
        let hello = JsonClient::connect(gateway.ws()).hello;
        hello["partitions"].as_array().is_some_and(|list| {
            list.len() == 1 && decimal(&list[0]["next"]) == RECORDS * 3 && decimal(&list[0]["oldest"]) > RECORDS
        })
    });
    let mut client = V2Client::connect(gateway.ws());
    let from = RECORDS;
    client.resume(&[(0, from)].into());
    let mut ledger = Ledger::new();
    let (started, mut taken) = (Instant::now(), 0u64);
    let slow = |_: u32, _: u64, value: &[u8]| {
        taken += value.len() as u64;
        let due = Duration::from_secs_f64(taken as f64 / BYTES_PER_SECOND as f64);
        // The pace of this client, as long as it reads what the issue names; then it reads on at full speed.
        if taken < 3 * 1024 * 1024 {
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
    };
    let others = client.follow(&mut ledger, 2 * LIMIT, slow, |_, others| {
        others.iter().any(|event| matches!(event, V2Event::Live { resume: 1, .. }))
    });
    assert!(!others.iter().any(|event| matches!(event, V2Event::Closed(_))), "{others:?}");
    assert_eq!(ledger.gaps, []);
    assert_eq!(ledger.missing(0, from + 1, RECORDS * 3), [0u64; 0]);
}

#[test]
fn holes_below_the_log_are_no_gaps() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("cold-holes", 1);
    let producer = kafka.producer_with(&topic, &[("transactional.id", &topic), ("transaction.timeout.ms", "180000")]);
    producer.init_transactions();
    // Committed and aborted transactions in turn; each ends with a marker, the last one too.
    let mut index = 0;
    for round in 0..400 {
        producer.begin();
        for _ in 0..25 {
            producer.send(0, &corpus::ordinary(0, index));
            index += 1;
        }
        producer.flush();
        if round % 2 == 0 { producer.commit() } else { producer.abort() }
    }
    let expected: Vec<u64> = kafka.read(&topic).iter().map(|record| record.offset).collect();
    assert_eq!(expected.len(), 200 * 25);
    let (_, high) = kafka.watermarks(&topic, 0);
    // A log that holds next to nothing: everything is read from below it.
    let gateway = forgetful(&kafka, &topic).start();
    wait::until_true("the log to be read and forgotten", LIMIT, || {
        let hello = JsonClient::connect(gateway.ws()).hello;
        let list = hello["partitions"].as_array().expect("partitions").clone();
        list.len() == 1 && decimal(&list[0]["next"]) == high as u64 && decimal(&list[0]["oldest"]) > high as u64 - 1_000
    });
    let mut client = JsonClient::connect(gateway.ws());
    client.resume_from("earliest");
    let mut ledger = Ledger::new();
    client.until(&mut ledger, "live", LIMIT);
    assert_eq!(ledger.gaps, [], "markers and aborted records are holes");
    assert_eq!(ledger.count(0), expected.len());
    assert!(expected.iter().all(|offset| ledger.has(0, *offset)));
    assert_eq!(ledger.cursor()[&0], high as u64 - 1, "the cursor reaches the end");
}

#[test]
fn it_begins_at_a_time() {
    const LENGTH: u64 = 6_000;
    const STEP_MS: i64 = 1_000;
    const BEGAN_MS: i64 = 1_700_000_000_000;
    let kafka = Kafka::shared();
    let topic = kafka.topic("at-a-time", PARTITIONS as i32);
    let producer = kafka.producer(&topic);
    for index in 0..LENGTH {
        for partition in 0..PARTITIONS {
            let value = corpus::ordinary(partition, index);
            let timestamp_ms = Some(BEGAN_MS + index as i64 * STEP_MS);
            producer.send_parts(partition, Parts { key: Some(b"k"), value: Some(&value), timestamp_ms, headers: &[] });
        }
    }
    producer.flush();
    let gateway = forgetful(&kafka, &topic).start();
    wait_until_read(&gateway, LENGTH, 1_500);
    // Between the records 999 and 1,000.
    let mut client = JsonClient::connect(gateway.ws());
    client
        .say(&serde_json::json!({"type": "resume", "from": "timestamp", "timestamp_ms": BEGAN_MS + 999 * STEP_MS + 1}));
    let mut ledger = Ledger::new();
    client.until(&mut ledger, "live", LIMIT);
    assert_from("by time", &ledger, 1_000, LENGTH);
    // Nothing is that late: it goes on live, and nothing is sent again.
    client.say(&serde_json::json!({"type": "resume", "from": "timestamp", "timestamp_ms": (BEGAN_MS + LENGTH as i64 * STEP_MS).to_string()}));
    let mut ledger = Ledger::new();
    client.until(&mut ledger, "live", LIMIT);
    assert_eq!(ledger.records, 0);
}
