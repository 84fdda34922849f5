//! The topic is deleted and made again under its name, while the gateway runs or while it is down. Clients are closed
//! with 4004, the records of the new stream flow within a minute, and a cursor of the old one is answered `wrong_stream`,
//! never believed: within the log, below it, or beyond the new end.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::harness::corpus;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::json::JsonClient;
use crate::harness::kafka::{Kafka, Producer};
use crate::harness::ledger::Ledger;
use crate::harness::load::Load;
use crate::harness::socket::Closed;
use crate::harness::v1::V1Client;
use crate::harness::v2::{V2Client, V2Event};
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn stream_changed_is_told() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("again", 2);
    let mut gateway = Setup::new(&kafka, &topic).start();
    let old_stream = gateway.stream();
    let (mut v1, mut json) = (V1Client::connect(gateway.ws()), JsonClient::connect(gateway.ws()));
    let (mut v1_ledger, mut json_ledger) = (Ledger::new(), Ledger::new());
    let produce = |length: u64| {
        let producer = kafka.producer(&topic);
        (0..length).for_each(|index| {
            (0..2).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index)))
        });
        producer.flush();
    };
    produce(100);
    v1.follow(&mut v1_ledger, LIMIT, Load::check, |ledger| ledger.reached(&[100, 100]));
    json.follow(&mut json_ledger, LIMIT, |ledger, _| ledger.reached(&[100, 100]));
    let old_cursor = json_ledger.cursor();

    kafka.delete(&topic);
    kafka.create(&topic, 2, &[]);
    // More than before: the old cursor lies within the new topic.
    produce(150);
    let closed = Closed { code: Some(4004), reason: "stream_changed".to_owned() };
    assert_eq!(v1.socket.wait_closed(LIMIT), closed);
    let (frames, ended) = json.follow(&mut json_ledger, LIMIT, |_, _| false);
    assert_eq!(ended, Some(closed));
    assert!(frames.iter().any(|frame| frame["type"] == "bye" && frame["reason"] == "stream_changed"), "{frames:?}");

    wait::until_true("the new stream", LIMIT, || {
        JsonClient::try_connect(gateway.ws()).is_ok_and(|client| client.stream() != old_stream)
    });
    // `/version` is written once a second, and names no stream while none is known.
    wait::until_true("the new stream in /version", LIMIT, || {
        let version = gateway.get("/version").json();
        version["resume_namespace"].as_str().is_some_and(|stream| stream != old_stream)
    });
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    let mut ledger = Ledger::new();
    let followed = client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.reached(&[150, 150]));
    assert!(!followed.timed_out, "the new records within a minute");
    ledger.assert_all("a client of the new stream", &[150, 150]);

    let mut client = JsonClient::connect(gateway.ws());
    client.resume(&old_stream, &old_cursor);
    let answers = client.until(&mut Ledger::new(), "answers", LIMIT);
    for answer in answers["answers"].as_array().expect("answers") {
        assert_eq!(answer["answer"], "wrong_stream", "{answers}");
    }
    // It also comes up again: what was committed for the old stream is not believed either.
    gateway.stop();
    let mut gateway = gateway.setup.start();
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    let mut ledger = Ledger::new();
    client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.reached(&[150, 150]));
    ledger.assert_all("a client after the restart", &[150, 150]);
    gateway.stop();
}

/// The change happens while no gateway runs: the commit of the old stream must not be used for the new one.
#[test]
fn a_change_while_nobody_looked_is_noticed_at_start() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("again-offline", 1);
    let mut gateway = Setup::new(&kafka, &topic).start();
    let produce = |length: u64| {
        let producer = kafka.producer(&topic);
        (0..length).for_each(|index| producer.send(0, &corpus::ordinary(0, index)));
        producer.flush();
    };
    produce(100);
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    client.follow(&mut Ledger::new(), LIMIT, Load::check, |ledger| ledger.reached(&[100]));
    let old_stream = gateway.stream();
    gateway.stop();
    kafka.delete(&topic);
    kafka.create(&topic, 1, &[]);
    produce(120);
    let mut gateway = gateway.setup.start();
    assert_ne!(gateway.stream(), old_stream);
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    let mut ledger = Ledger::new();
    client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.reached(&[120]));
    ledger.assert_all("from the first record of the new stream", &[120]);
    gateway.stop();
}

// --- below the log ---

const OLD: u64 = 5_000;
/// Within the old stream and within the new one, below the log of both.
const BELOW: u64 = 999;
const NEW: u64 = 4_000;

/// The log forgets within seconds, so that what clients ask for is read from Kafka.
fn forgetful(kafka: &Kafka, topic: &str) -> Setup {
    Setup::new(kafka, topic).set("DASHSTREAM_LOG_MAX_AGE", "1s")
}

/// No two records of these topics are alike, in one stream or in both.
fn value(generation: u32, partition: u32, index: u64) -> Vec<u8> {
    corpus::ordinary(10 * generation + partition, index)
}

fn fill(producer: &Producer, generation: u32, from: u64, next: u64) {
    for index in from..next {
        (0..2).for_each(|partition| producer.send(partition, &value(generation, partition, index)));
    }
    producer.flush();
}

fn both(offset: u64) -> BTreeMap<u32, u64> {
    [(0, offset), (1, offset)].into()
}

fn wait_forgotten(gateway: &Gateway, next: u64) {
    wait::until_true("the log to be read and to move on", LIMIT, || {
        V2Client::try_connect(gateway.ws()).is_ok_and(|client| {
            client.log.len() == 2 && client.log.values().all(|log| log.0 > BELOW + 1 && log.1 == next)
        })
    });
}

fn expect(generation: u32) -> impl FnMut(u32, u64, &[u8]) {
    move |partition, offset, bytes| {
        assert!(bytes == value(generation, partition, offset), "partition {partition}, offset {offset}: bytes differ");
    }
}

/// All of a generation from the start, which is below the log, in v2 and v1.
fn replay(gateway: &Gateway, generation: u32, length: u64) {
    let mut client = V2Client::connect(gateway.ws());
    client.resume_earliest();
    let mut ledger = Ledger::new();
    client.follow(&mut ledger, LIMIT, expect(generation), |ledger, _| ledger.reached(&[length, length]));
    ledger.assert_all("v2", &[length, length]);
    let mut client = V1Client::connect(gateway.ws());
    client.resume(&BTreeMap::new());
    let mut ledger = Ledger::new();
    let followed = client.follow(&mut ledger, LIMIT, expect(generation), |ledger| ledger.reached(&[length, length]));
    assert!(!followed.timed_out && followed.closed.is_none(), "{followed:?}");
    ledger.assert_all("v1", &[length, length]);
}

/// A client of each protocol comes with a cursor of the old stream. Each is told, and each receives the next record
/// of the new stream and nothing before it.
fn the_old_cursor_is_refused(gateway: &Gateway, producer: &Producer, old_stream: &str, last: u64, length: u64) {
    let mut v2 = V2Client::connect(gateway.ws());
    v2.resume_in(old_stream, &both(last));
    let (mut v2_ledger, mut answers) = (Ledger::new(), Vec::new());
    let others = v2.follow(&mut v2_ledger, LIMIT, expect(2), |_, others| {
        others.iter().any(|event| matches!(event, V2Event::Live { resume: 1, .. }))
    });
    for event in others {
        match event {
            V2Event::Answers { resume: 1, answers: some } => answers.extend(some),
            V2Event::Live { resume, replayed } => assert!(resume == 0 || replayed == 0, "{replayed} replayed"),
            other => panic!("v2 from {last}: {other:?}"),
        }
    }
    answers.sort_by_key(|answer| answer.partition);
    let told: Vec<_> = answers.iter().map(|answer| (answer.partition, answer.kind, answer.numbers[0])).collect();
    assert_eq!(told, [(0, "wrong_stream", length), (1, "wrong_stream", length)], "v2 from {last}");

    let mut json = JsonClient::connect(gateway.ws());
    json.resume(old_stream, &both(last));
    let mut json_ledger = Ledger::new();
    let answers = json.until(&mut json_ledger, "answers", LIMIT);
    let told = answers["answers"].as_array().expect("answers");
    assert_eq!(told.len(), 2, "json from {last}: {answers}");
    for answer in told {
        let expected = (&json!("wrong_stream"), &json!(length.to_string()));
        assert_eq!((&answer["answer"], &answer["newest"]), expected, "json from {last}: {answers}");
    }
    json.until(&mut json_ledger, "live", LIMIT);

    let mut v1 = V1Client::connect(gateway.ws());
    v1.resume_in(old_stream, &both(last));
    let mut v1_ledger = Ledger::new();
    let (complete, before) = v1.follow_until_text(&mut v1_ledger, "replay_complete", LIMIT);
    assert_eq!(complete["totalReplayed"], 0, "v1 from {last}: {complete}");
    let mut told: Vec<_> = before.iter().map(|text| (&text["type"], &text["partition"], &text["newest"])).collect();
    told.sort_by_key(|(_, partition, _)| partition.as_u64());
    let (kind, newest) = (json!("wrong_stream"), json!(length.to_string()));
    assert_eq!(told, [(&kind, &json!(0), &newest), (&kind, &json!(1), &newest)], "v1 from {last}: {before:?}");

    fill(producer, 2, length, length + 1);
    let next = [length + 1, length + 1];
    v2.follow(&mut v2_ledger, LIMIT, expect(2), |ledger, _| ledger.reached(&next));
    json.follow(&mut json_ledger, LIMIT, |ledger, _| ledger.reached(&next));
    let followed = v1.follow(&mut v1_ledger, LIMIT, expect(2), |ledger| ledger.reached(&next));
    assert!(!followed.timed_out, "v1 goes on live: {followed:?}");
    for (who, ledger) in [("v2", &v2_ledger), ("json", &json_ledger), ("v1", &v1_ledger)] {
        assert_eq!((ledger.records, &ledger.gaps[..]), (2, &[][..]), "{who} from {last}: only what is new");
    }
}

#[test]
fn a_cursor_from_below_the_log_of_a_stream_that_ended_while_the_gateway_was_down() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("again-below", 2);
    fill(&kafka.producer(&topic), 1, 0, OLD);
    let mut gateway = forgetful(&kafka, &topic).start();
    wait_forgotten(&gateway, OLD);
    replay(&gateway, 1, OLD);
    let old_stream = gateway.stream();
    gateway.kill();
    kafka.delete(&topic);
    kafka.create(&topic, 2, &[]);
    let producer = kafka.producer(&topic);
    fill(&producer, 2, 0, NEW);
    let gateway = gateway.setup.start();
    assert_ne!(gateway.stream(), old_stream);
    wait_forgotten(&gateway, NEW);
    // Below the log; at the new stream's end; and beyond it, which is no `future`.
    for (count, last) in (0..).zip([BELOW, NEW - 1, OLD - 1]) {
        the_old_cursor_is_refused(&gateway, &producer, &old_stream, last, NEW + count);
    }
    replay(&gateway, 2, NEW + 3);
}

#[test]
fn what_was_read_of_the_old_stream_from_below_the_log_is_never_served_for_the_new_one() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("again-cached", 2);
    fill(&kafka.producer(&topic), 1, 0, OLD);
    // All of the old stream fits into what cold readers keep for the next who asks.
    let gateway = forgetful(&kafka, &topic).set("DASHSTREAM_COLD_CACHE_BYTES", "48MiB").start();
    wait_forgotten(&gateway, OLD);
    replay(&gateway, 1, OLD);
    let old_stream = gateway.stream();
    let mut client = JsonClient::connect(gateway.ws());
    kafka.delete(&topic);
    kafka.create(&topic, 2, &[]);
    let producer = kafka.producer(&topic);
    fill(&producer, 2, 0, NEW);
    let (_, ended) = client.follow(&mut Ledger::new(), LIMIT, |_, _| false);
    assert_eq!(ended, Some(Closed { code: Some(4004), reason: "stream_changed".to_owned() }));
    wait_forgotten(&gateway, NEW);
    the_old_cursor_is_refused(&gateway, &producer, &old_stream, BELOW, NEW);
    replay(&gateway, 2, NEW + 1);
}
