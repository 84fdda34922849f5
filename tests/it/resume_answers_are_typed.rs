//! A cursor gets a typed answer per partition, in each protocol, and every resume is answered exactly once. Never a
//! silent substitute.
//!
//! The topic: partition 0 holds offsets 300 to 999 (retention took the rest), partition 1 holds 0 to 999.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::corpus;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::json::{JsonClient, decimal};
use crate::harness::kafka::{Kafka, Producer};
use crate::harness::ledger::Ledger;
use crate::harness::load::Load;
use crate::harness::v1::V1Client;

const LIMIT: Duration = Duration::from_secs(30);
const OLDEST: u64 = 300;
const LENGTH: u64 = 1_000;

struct Stage {
    gateway: Gateway,
    producer: Producer,
}

fn stage() -> Stage {
    let kafka = Kafka::shared();
    let topic = kafka.topic("resume", 2);
    let producer = kafka.producer(&topic);
    for index in 0..LENGTH {
        (0..2).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index)));
    }
    producer.flush();
    kafka.delete_records(&topic, 0, OLDEST as i64);
    let gateway = Setup::new(&kafka, &topic).start();
    crate::harness::wait::until_true("the log to hold everything", LIMIT, || {
        let hello = JsonClient::connect(gateway.ws()).hello;
        let partitions = hello["partitions"].as_array().expect("partitions in hello");
        partitions.len() == 2 && partitions.iter().all(|partition| decimal(&partition["next"]) == LENGTH)
    });
    Stage { gateway, producer }
}

impl Stage {
    fn one_more(&self, partition: u32, index: u64) {
        self.producer.send(partition, &corpus::ordinary(partition, index));
        self.producer.flush();
    }
}

fn cursor<const N: usize>(entries: [(u32, u64); N]) -> BTreeMap<u32, u64> {
    entries.into()
}

/// Answers by partition, and the `live` that belongs to them.
fn answers(client: &mut JsonClient, ledger: &mut Ledger, resume: u64) -> (BTreeMap<u32, Value>, Value) {
    let mut answers = BTreeMap::new();
    let (frames, closed) = client.follow(ledger, LIMIT, |_, frames| {
        frames.iter().any(|frame| frame["type"] == "live" && decimal_or_number(&frame["resume"]) == resume)
    });
    assert_eq!(closed, None, "an answer never ends the connection: {frames:?}");
    for frame in frames.iter().filter(|frame| frame["type"] == "answers") {
        assert_eq!(decimal_or_number(&frame["resume"]), resume, "{frame}");
        for answer in frame["answers"].as_array().expect("answers") {
            let partition = answer["partition"].as_u64().expect("a partition") as u32;
            assert!(answers.insert(partition, answer.clone()).is_none(), "two answers for {partition}: {frames:?}");
        }
    }
    (answers, frames.last().cloned().expect("the one that ended the loop"))
}

fn decimal_or_number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| decimal(value))
}

fn resumed(client: &mut JsonClient, from: &BTreeMap<u32, u64>) -> (BTreeMap<u32, Value>, Value, Ledger) {
    let mut ledger = Ledger::new();
    client.resume(&client.stream(), from);
    let (answers, live) = answers(client, &mut ledger, 1);
    (answers, live, ledger)
}

#[test]
fn a_cursor_within_the_log_is_resumed_exactly() {
    let stage = stage();
    let mut client = JsonClient::connect(stage.gateway.ws());
    // The last is the oldest possible: its next record is the first one there.
    for from in [cursor([(0, 499), (1, 998)]), cursor([(0, 999), (1, 0)]), cursor([(0, OLDEST - 1), (1, 999)])] {
        let mut client = JsonClient::connect(stage.gateway.ws());
        let (answers, live, ledger) = resumed(&mut client, &from);
        let mut replayed = 0;
        for (partition, last) in &from {
            assert_eq!(answers[partition]["answer"], "resumed", "{answers:?}");
            assert_eq!(ledger.missing(*partition, last + 1, LENGTH), [0; 0]);
            assert_eq!(ledger.count(*partition) as u64, LENGTH - 1 - last, "from {last} and nothing before");
            replayed += LENGTH - 1 - last;
        }
        assert_eq!(decimal_or_number(&live["replayed"]), replayed, "{live}");
    }
    // A partition that the cursor does not name begins at Hello's position.
    let (answers, _, mut ledger) = resumed(&mut client, &cursor([(0, 989)]));
    assert_eq!(answers[&0]["answer"], "resumed");
    assert_eq!((ledger.count(0), ledger.count(1)), (10, 0));
    stage.one_more(1, LENGTH);
    client.follow(&mut ledger, LIMIT, |ledger, _| ledger.has(1, LENGTH));
}

#[test]
fn what_is_gone_is_truncated() {
    let stage = stage();
    let mut client = JsonClient::connect(stage.gateway.ws());
    let (answers, _, ledger) = resumed(&mut client, &cursor([(0, 100), (1, 899)]));
    assert_eq!(answers[&0]["answer"], "truncated", "{answers:?}");
    assert_eq!(decimal(&answers[&0]["oldest"]), OLDEST);
    assert_eq!(decimal(&answers[&0]["requested"]), 100);
    assert!(answers[&0]["reason"].is_string(), "{answers:?}");
    assert_eq!(ledger.count(0) as u64, LENGTH - OLDEST, "it goes on at the oldest");
    assert_eq!((&answers[&1]["answer"], ledger.count(1)), (&json!("resumed"), 100), "the other is unaffected");
}

#[test]
fn what_kafka_does_not_have_yet_is_future() {
    let stage = stage();
    for beyond in [LENGTH, 5_000, i64::MAX as u64, u64::MAX] {
        let mut client = JsonClient::connect(stage.gateway.ws());
        let (answers, _, ledger) = resumed(&mut client, &cursor([(0, beyond), (1, 899)]));
        assert_eq!(answers[&0]["answer"], "future", "{answers:?}");
        assert_eq!(decimal(&answers[&0]["newest"]), LENGTH);
        assert_eq!(decimal(&answers[&0]["requested"]), beyond);
        assert_eq!((ledger.count(0), ledger.count(1)), (0, 100));
    }
    let mut client = JsonClient::connect(stage.gateway.ws());
    let (_, _, mut ledger) = resumed(&mut client, &cursor([(0, 5_000), (1, 899)]));
    stage.one_more(0, LENGTH);
    client.follow(&mut ledger, LIMIT, |ledger, _| ledger.has(0, LENGTH));
}

#[test]
fn a_cursor_of_another_stream_is_wrong_stream() {
    let stage = stage();
    let mut client = JsonClient::connect(stage.gateway.ws());
    let mut ledger = Ledger::new();
    client.resume("v3_00000000-0000-5000-8000-000000000000", &cursor([(0, 499), (1, 499)]));
    let (answers, _) = answers(&mut client, &mut ledger, 1);
    for partition in [0, 1] {
        assert_eq!(answers[&partition]["answer"], "wrong_stream", "{answers:?}");
        assert_eq!(decimal(&answers[&partition]["newest"]), LENGTH);
    }
    assert_eq!(ledger.records, 0, "it goes on live");
    stage.one_more(0, LENGTH);
    client.follow(&mut ledger, LIMIT, |ledger, _| ledger.has(0, LENGTH));
}

#[test]
fn an_unknown_partition_disturbs_no_other() {
    let stage = stage();
    let mut client = JsonClient::connect(stage.gateway.ws());
    let (answers, _, ledger) = resumed(&mut client, &cursor([(1, 899), (7, 1), (4_000_000, 1)]));
    assert_eq!(answers[&7]["answer"], "unknown_partition", "{answers:?}");
    assert_eq!(answers[&4_000_000]["answer"], "unknown_partition");
    assert_eq!((&answers[&1]["answer"], ledger.count(1)), (&json!("resumed"), 100));
}

#[test]
fn earliest_and_latest() {
    let stage = stage();
    let mut client = JsonClient::connect(stage.gateway.ws());
    let mut ledger = Ledger::new();
    client.resume_from("latest");
    let (_, live) = answers(&mut client, &mut ledger, 1);
    assert_eq!((ledger.records, decimal_or_number(&live["replayed"])), (0, 0));
    stage.one_more(0, LENGTH);
    client.follow(&mut ledger, LIMIT, |ledger, _| ledger.has(0, LENGTH));
    // A second resume of the same connection begins anew.
    let mut ledger = Ledger::new();
    client.resume_from("earliest");
    let (_, live) = answers(&mut client, &mut ledger, 2);
    assert_eq!(ledger.missing(0, OLDEST, LENGTH + 1), [0; 0]);
    assert_eq!(ledger.missing(1, 0, LENGTH), [0; 0]);
    assert_eq!(decimal_or_number(&live["replayed"]), ledger.records);
}

#[test]
fn anything_else_is_refused_and_survived() {
    let stage = stage();
    let mut client = JsonClient::connect(stage.gateway.ws());
    let mut ledger = Ledger::new();
    for frame in [
        json!({"type": "subscribe", "threads": 5}),
        json!({"type": "resume", "from": "yesterday"}),
        json!({"type": "unheard of"}),
        json!({"a": 1}),
    ] {
        client.socket.send_json(&frame);
        let refused = client.until(&mut ledger, "refused", LIMIT);
        assert!(refused["what"].is_string() && refused["why"].is_string(), "{frame} -> {refused}");
    }
    client.ping("still there");
    assert_eq!(client.until(&mut ledger, "pong", LIMIT)["nonce"], "still there");
}

// --- the predecessor's protocol ---

/// Sends one resume and reads to its `replay_complete`.
fn v1_resumed(client: &mut V1Client, frame: &Value) -> (Value, Vec<Value>, Ledger) {
    let mut ledger = Ledger::new();
    client.socket.send_json(frame);
    let (complete, before) = client.follow_until_text(&mut ledger, "replay_complete", LIMIT);
    (complete, before, ledger)
}

fn v1_frame(offsets: Value) -> Value {
    json!({"type": "resume", "mode": "partition", "lastOffsetsByPartition": offsets})
}

#[test]
fn v1_resumes_exactly_with_numbers_or_strings() {
    let stage = stage();
    for offsets in
        [json!({"0": "499", "1": "899"}), json!({"0": 499, "1": 899}), json!({"0": "499", "1": 899, "x": "y", "-3": 5})]
    {
        let mut client = V1Client::connect(stage.gateway.ws());
        let (complete, before, ledger) = v1_resumed(&mut client, &v1_frame(offsets));
        assert_eq!(before, [json!(null); 0]);
        assert_eq!((ledger.count(0), ledger.count(1)), (500, 100));
        assert_eq!(complete["totalReplayed"], 600);
        assert_eq!(complete["mode"], "cursor");
        assert_eq!(complete["capped"], false);
        assert_eq!(complete["lastOffsetsByPartition"], json!({"0": "999", "1": "999"}));
    }
}

#[test]
fn v1_stale_cursors() {
    let stage = stage();
    let mut client = V1Client::connect(stage.gateway.ws());
    // The oldest is the next one: not stale.
    let (_, before, ledger) = v1_resumed(&mut client, &v1_frame(json!({"0": "299", "1": "999"})));
    assert_eq!((before.len(), ledger.count(0)), (0, 700), "{before:?}");
    let mut client = V1Client::connect(stage.gateway.ws());
    let (_, before, ledger) = v1_resumed(&mut client, &v1_frame(json!({"0": "100", "1": "999"})));
    let stale: Vec<&Value> = before.iter().filter(|text| text["type"] == "cursor_stale").collect();
    assert_eq!(stale.len(), 1, "{before:?}");
    assert_eq!((&stale[0]["partition"], &stale[0]["requested"]), (&json!(0), &json!("100")));
    assert_eq!(stale[0]["oldest"], "300");
    assert!(stale[0]["message"].is_string());
    assert_eq!((ledger.count(0), ledger.count(1)), (700, 0));
}

#[test]
fn v1_without_stream_sees_only_the_predecessors_frames() {
    let stage = stage();
    let mut client = V1Client::connect(stage.gateway.ws());
    let (complete, before, ledger) = v1_resumed(&mut client, &v1_frame(json!({"0": "5000", "1": "899", "9": "4"})));
    assert_eq!((complete["type"].as_str(), ledger.count(0), ledger.count(1)), (Some("replay_complete"), 0, 100));
    let stale: BTreeMap<u64, &Value> =
        before.iter().map(|text| (text["partition"].as_u64().expect("a partition"), text)).collect();
    assert!(before.iter().all(|text| text["type"] == "cursor_stale"), "{before:?}");
    assert_eq!(stale.keys().copied().collect::<Vec<_>>(), [0, 9], "{before:?}");
    let future = stale[&0];
    assert_eq!((&future["reason"], &future["newest"]), (&json!("future"), &json!("1000")));
    for key in ["requested", "oldest", "message"] {
        assert!(future[key].is_string(), "{key} in {future}");
    }
    assert_eq!(stale[&9]["reason"], "unknown_partition");
    stage.one_more(0, LENGTH);
    let mut ledger = Ledger::new();
    let followed = client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.has(0, LENGTH));
    assert!(followed.texts.is_empty() && !followed.timed_out, "it goes on live: {followed:?}");
}

#[test]
fn v1_with_stream_is_told_more() {
    let stage = stage();
    let mut client = V1Client::connect(stage.gateway.ws());
    let mut frame = v1_frame(json!({"0": "5000", "1": "899"}));
    frame["stream"] = json!(stage.gateway.stream());
    let (_, before, ledger) = v1_resumed(&mut client, &frame);
    assert_eq!(before.len(), 1, "{before:?}");
    assert_eq!((&before[0]["type"], &before[0]["partition"]), (&json!("cursor_future"), &json!(0)));
    assert_eq!((ledger.count(0), ledger.count(1)), (0, 100));

    let mut client = V1Client::connect(stage.gateway.ws());
    frame["stream"] = json!("v3_00000000-0000-5000-8000-000000000000");
    let (_, before, ledger) = v1_resumed(&mut client, &frame);
    assert!(before.iter().any(|text| text["type"] == "wrong_stream"), "{before:?}");
    assert_eq!(ledger.records, 0, "nothing of another stream's cursor is believed");
    stage.one_more(0, LENGTH);
    let mut ledger = Ledger::new();
    let followed = client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.has(0, LENGTH));
    assert!(!followed.timed_out, "it goes on live");
}

#[test]
fn v1_every_resume_has_exactly_one_replay_complete() {
    let stage = stage();
    let mut client = V1Client::connect(stage.gateway.ws());
    let frames = [
        v1_frame(json!({"0": "299", "1": "-1"})),
        json!({"type": "resume", "from": "latest", "lastOffsetsByPartition": {}}),
        json!({"type": "resume", "from": "earliest", "lastOffsetsByPartition": {"0": "1"}}),
        json!({"type": "resume", "mode": "thread", "lastSequencesByThread": {}}),
        json!({"type": "resume", "mode": "partition"}),
        json!({"type": "resume", "from": "unheard of", "mode": "unheard of", "lastOffsetsByPartition": {"0": 990, "1": 990}}),
    ];
    frames.iter().for_each(|frame| client.socket.send_json(frame));
    client.socket.send_json(&json!({"type": "ping"}));
    let mut completed = Vec::new();
    let mut pong = false;
    let deadline = std::time::Instant::now() + LIMIT;
    while completed.len() < frames.len() || !pong {
        match client.next(deadline) {
            Some(crate::harness::v1::V1Event::Text(text)) if text["type"] == "replay_complete" => {
                completed.push(text["mode"].as_str().expect("a mode").to_owned());
            }
            Some(crate::harness::v1::V1Event::Text(text)) if text["type"] == "pong" => pong = true,
            Some(crate::harness::v1::V1Event::Closed(closed)) => panic!("{closed:?}"),
            Some(_) => {}
            None => panic!("{completed:?} of {} resumes, pong {pong}", frames.len()),
        }
    }
    assert_eq!(completed, ["cursor", "latest", "earliest", "thread", "cursor", "cursor"], "one each, in order");
    // And no more than that.
    client.socket.send_json(&json!({"type": "ping"}));
    let mut ledger = Ledger::with_cursor(&BTreeMap::new());
    stage.one_more(1, LENGTH);
    let mut later = Vec::new();
    client.follow_until_text(&mut ledger, "pong", LIMIT).1.into_iter().for_each(|text| later.push(text));
    assert!(later.iter().all(|text| text["type"] != "replay_complete"), "{later:?}");
}

#[test]
fn v1_cursor_reset_disturbs_nobody() {
    let stage = stage();
    let mut client = V1Client::connect(stage.gateway.ws());
    let mut ledger = Ledger::new();
    client.socket.send_json(&json!({"type": "cursor_reset"}));
    let (complete, _) = client.follow_until_text(&mut ledger, "cursor_reset_complete", LIMIT);
    assert_eq!(complete["latestOffsetsByPartition"], json!({"0": "999", "1": "999"}), "{complete}");
    assert_eq!((&complete["truncated"], &complete["totalPartitions"]), (&json!(false), &json!(2)));
    // The log of the others is as it was.
    let mut other = V1Client::connect(stage.gateway.ws());
    let (_, _, ledger) =
        v1_resumed(&mut other, &json!({"type": "resume", "from": "earliest", "lastOffsetsByPartition": {}}));
    assert_eq!((ledger.count(0), ledger.count(1)), (700, 1_000));
}

#[test]
fn v1_too_many_partitions_is_an_error() {
    let stage = stage();
    let mut client = V1Client::connect(stage.gateway.ws());
    let offsets: serde_json::Map<String, Value> =
        (0..1_025).map(|partition: u32| (partition.to_string(), json!("1"))).collect();
    client.socket.send_json(&v1_frame(Value::Object(offsets)));
    let mut ledger = Ledger::new();
    let followed = client.follow(&mut ledger, LIMIT, Load::check, |_| false);
    assert_eq!(followed.closed.and_then(|closed| closed.code), Some(1008));
    let errors: Vec<_> = followed.texts.iter().filter(|text| text["type"] == "error").collect();
    assert_eq!(errors.len(), 1, "{:?}", followed.texts);
    assert_eq!(errors[0]["code"], "RESUME_TOO_MANY_PARTITIONS");
}
