//! 20,000 records of mixed framing and size, 20 clients of the predecessor's protocol: every byte equal, every offset
//! once, in order. Half of the clients are there from the start; the others come later and resume from earliest.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::corpus;
use crate::harness::gateway::Setup;
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::v1::V1Client;
use crate::harness::v2::{V2Client, V2Event};

const PARTITIONS: u32 = 4;
const EACH: u64 = 5_000;
const LIMIT: Duration = Duration::from_secs(240);

/// Every expected value, made once.
fn expected(partition: u32, offset: u64) -> &'static [u8] {
    static CORPUS: OnceLock<Vec<Vec<Vec<u8>>>> = OnceLock::new();
    let make = |partition| (0..EACH).map(|index| corpus::mixed(partition, index)).collect();
    &CORPUS.get_or_init(|| (0..PARTITIONS).map(make).collect())[partition as usize][offset as usize]
}

fn check(partition: u32, offset: u64, value: &[u8]) {
    let expected = expected(partition, offset);
    assert!(value == expected, "partition {partition}, offset {offset}: {} bytes differ", expected.len());
}

fn produce(kafka: &Kafka, topic: &str, produced: &AtomicU64) {
    let producer = kafka.producer(topic);
    for index in 0..EACH {
        for partition in 0..PARTITIONS {
            producer.send(partition, expected(partition, index));
            produced.fetch_add(1, Ordering::Relaxed);
        }
    }
    producer.flush();
}

#[test]
fn every_byte_reaches_twenty_v1_clients() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("bytes", PARTITIONS as i32);
    let gateway = Setup::new(&kafka, &topic).start();
    let lengths = [EACH; PARTITIONS as usize];
    let produced = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let from_the_start: Vec<V1Client> = (0..10).map(|_| V1Client::connect(gateway.ws())).collect();
        for (number, mut client) in from_the_start.into_iter().enumerate() {
            scope.spawn(move || {
                let mut ledger = Ledger::new();
                let followed = client.follow(&mut ledger, LIMIT, check, |ledger| ledger.reached(&lengths));
                ledger.assert_all(&format!("client {number} ({:?})", followed.closed), &lengths);
                assert!(followed.texts.is_empty(), "client {number} asked nothing and was told {:?}", followed.texts);
            });
        }
        scope.spawn(|| produce(&kafka, &topic, &produced));
        for number in 10..20 {
            let (produced, address) = (&produced, gateway.ws());
            scope.spawn(move || {
                // One after the other, over the whole time of producing.
                let share = u64::from(PARTITIONS) * EACH * (number - 9) / 11;
                crate::harness::wait::until_true("some records", LIMIT, || produced.load(Ordering::Relaxed) >= share);
                let mut client = V1Client::connect(address);
                client.resume_from("earliest");
                let mut ledger = Ledger::new();
                let mut followed = client.follow(&mut ledger, LIMIT, check, |ledger| ledger.reached(&lengths));
                ledger.assert_all(&format!("client {number} ({:?})", followed.closed), &lengths);
                if followed.texts.is_empty() {
                    let (text, _) = client.follow_until_text(&mut ledger, "replay_complete", LIMIT);
                    followed.texts.push(text);
                }
                assert_eq!(followed.texts.len(), 1, "client {number}: one replay_complete: {:?}", followed.texts);
                assert_eq!(followed.texts[0]["type"], "replay_complete");
                assert_eq!(followed.texts[0]["mode"], "earliest");
            });
        }
    });
}

#[test]
fn every_byte_reaches_v2_clients() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("bytes-v2", PARTITIONS as i32);
    let gateway = Setup::new(&kafka, &topic).start();
    let producer = kafka.producer(&topic);
    let lengths = [500; PARTITIONS as usize];
    let send = |range: std::ops::Range<u64>| {
        for index in range {
            (0..PARTITIONS).for_each(|partition| producer.send(partition, expected(partition, index)));
        }
        producer.flush();
    };
    send(0..250);
    let mut client = V2Client::connect(gateway.ws());
    client.resume_earliest();
    send(250..500);
    let mut ledger = Ledger::new();
    let is_live = |frames: &[V2Event]| frames.iter().any(|frame| matches!(frame, V2Event::Live { resume: 1, .. }));
    let frames = client.follow(&mut ledger, LIMIT, check, |ledger, frames| ledger.reached(&lengths) && is_live(frames));
    assert!(is_live(&frames), "{frames:?}");
    ledger.assert_all("the v2 client", &lengths);
    client.ping(b"nonce");
    let frames = client.follow(&mut ledger, LIMIT, check, |_, frames| !frames.is_empty());
    assert_eq!(frames, [V2Event::Pong(b"nonce".to_vec())]);
}
