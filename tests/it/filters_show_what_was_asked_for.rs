//! A client that follows one run gets every record of it and no other, also from before the log and over a restart;
//! filters change at any time, a paused client misses nothing, and what could never match is refused in words.

use std::collections::BTreeSet;
use std::time::Duration;

use dashstream::client::{Client, Event, Filter, Run, Start};
use serde_json::{Value, json};

use crate::harness::corpus;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::json::{JsonClient, cursor_of, decimal};
use crate::harness::kafka::{Kafka, Producer};
use crate::harness::ledger::Ledger;
use crate::harness::v1::V1Client;
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(60);
const LENGTH: u64 = 10_000;

/// Four partitions of ordinary records; run `run-P-N` is the fifty records from 50 N on of partition P.
fn stage() -> (Kafka, Producer, Gateway) {
    stage_with(&[])
}

fn stage_with(settings: &[(&str, &str)]) -> (Kafka, Producer, Gateway) {
    let kafka = Kafka::shared();
    let topic = kafka.topic("filters", 4);
    let producer = kafka.producer(&topic);
    for index in 0..LENGTH {
        (0..4).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index)));
    }
    producer.flush();
    let setup = Setup::new(&kafka, &topic)
        .set("WEBSOCKET_MAX_PAYLOAD_BYTES", 1 << 20)
        .set("DASHSTREAM_LOG_MAX_BYTES", "4MiB")
        .set("DASHSTREAM_COLD_MAX_BYTES", "16MiB");
    let gateway = settings.iter().fold(setup, |setup, (key, value)| setup.set(key, value)).start();
    wait_until_read(&gateway);
    (kafka, producer, gateway)
}

fn wait_until_read(gateway: &Gateway) {
    wait::until_true("the log to have moved on", LIMIT, || {
        let hello = JsonClient::connect(gateway.ws()).hello;
        let partitions = hello["partitions"].as_array().expect("partitions").clone();
        partitions.len() == 4
            && partitions.iter().all(|partition| decimal(&partition["next"]) == LENGTH)
            && partitions.iter().all(|partition| decimal(&partition["oldest"]) > 1_000)
    });
}

/// "Give me this run": what came until `live`, and the frames beside it.
fn run(gateway: &Gateway, run: &str, more: Value) -> (Ledger, Vec<Value>, JsonClient) {
    let mut client = JsonClient::connect(gateway.ws());
    let mut message = json!({"type": "resume", "from": "run", "thread": run});
    message.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    client.say(&message);
    let mut ledger = Ledger::new();
    let (frames, closed) = client.follow(&mut ledger, LIMIT, |_, frames| {
        frames.last().is_some_and(|frame| frame["type"] == "live" && frame["resume"] == "1")
    });
    assert_eq!(closed, None);
    (ledger, frames, client)
}

fn assert_is_run(ledger: &Ledger, partition: u32, first: u64, next: u64) {
    assert_eq!(ledger.missing(partition, first, next), [0u64; 0]);
    assert_eq!(ledger.records, next - first, "the run and nothing else");
}

#[test]
fn one_run_from_its_beginning() {
    let (_kafka, producer, mut gateway) = stage();
    // From before the log, and from inside it.
    let (ledger, frames, mut client) = run(&gateway, "run-2-10", json!({}));
    assert_is_run(&ledger, 2, 500, 550);
    assert_eq!(frames.iter().filter(|frame| frame["type"] == "searched").count(), 4, "{frames:?}");
    let (ledger, ..) = run(&gateway, "run-1-199", json!({}));
    assert_is_run(&ledger, 1, 9_950, 10_000);
    // Only what is behind a sequence: sequences are the index plus one, batches hold three.
    let (ledger, ..) = run(&gateway, "run-3-20", json!({"after_sequence": 1_040}));
    assert!(ledger.missing(3, 1_040, 1_050).is_empty(), "everything behind it");
    assert!((10..=12).contains(&ledger.records), "and nothing before: {}", ledger.records);
    // It goes on live: with the run, not with others.
    producer.send(0, &corpus::ordinary(0, 77));
    producer.send(2, &corpus::ordinary(2, 505));
    producer.flush();
    let mut live = Ledger::new();
    client.follow(&mut live, LIMIT, |ledger, _| ledger.has(2, LENGTH));
    assert_eq!(live.records, 1);
    // A gateway that has not seen the run looks for it, and says what it looked through.
    forget_runs(&mut gateway);
    let (ledger, frames, _) = run(&gateway, "run-2-10", json!({}));
    assert!(ledger.missing(2, 500, 550).is_empty() && ledger.has(2, LENGTH), "the run and its late record");
    assert_eq!(ledger.records, 51);
    let searched: Vec<_> = frames.iter().filter(|frame| frame["type"] == "searched").collect();
    assert!(searched.iter().any(|frame| decimal(&frame["from"]) == 0), "{searched:?}");
    let (ledger, frames, _) = run(&gateway, "no-such-run", json!({}));
    assert_eq!(ledger.records, 0);
    let searched = frames.iter().filter(|frame| frame["type"] == "searched");
    assert!(
        searched.clone().count() == 4 && searched.clone().all(|frame| decimal(&frame["to"]) >= LENGTH),
        "{frames:?}"
    );
}

/// A restart: what came before the warm span was not seen.
fn forget_runs(gateway: &mut Gateway) {
    wait::until_true("the places to be committed", LIMIT, || {
        gateway.metrics().all("dashstream_partition_committed_offset", &[]).iter().sum::<f64>() >= (4 * LENGTH) as f64
    });
    gateway.kill_and_restart();
    gateway.wait_ready();
}

#[test]
fn a_search_has_bounds_and_says_how_far_it_came() {
    let (_kafka, _producer, mut gateway) = stage_with(&[("DASHSTREAM_COLD_SEARCH_MAX_BYTES", "1MiB")]);
    forget_runs(&mut gateway);
    let searched = |frames: &[Value]| {
        let frames = frames.iter().filter(|frame| frame["type"] == "searched");
        frames.map(|frame| (decimal(&frame["from"]), decimal(&frame["to"]))).collect::<Vec<_>>()
    };
    // In bytes: a part of what there is was looked through, and no more is claimed.
    let (ledger, frames, _) = run(&gateway, "no-such-run", json!({}));
    let ranges = searched(&frames);
    assert_eq!((ledger.records, ranges.len()), (0, 4), "{frames:?}");
    let looked: u64 = ranges.iter().map(|(from, to)| to - from).sum();
    assert!((100..3 * LENGTH).contains(&looked), "a mebibyte of some four times ten thousand records: {ranges:?}");
    assert!(ranges.iter().all(|(from, to)| *from == 0 && *to <= LENGTH), "{ranges:?}");
    // In time: nothing is that young. What the gateway has seen come counts as looked through, and nothing before it.
    let (ledger, frames, _) = run(&gateway, "run-2-10", json!({"search_age_ms": 1}));
    let ranges = searched(&frames);
    assert_eq!((ledger.records, ranges.len()), (0, 4), "{frames:?}");
    assert!(ranges.iter().all(|(from, to)| *from > 1_000 && *to == LENGTH), "{ranges:?}");
}

#[test]
fn filters_change_at_any_time_and_pauses_miss_nothing() {
    let (_kafka, producer, gateway) = stage();
    let mut client = JsonClient::connect(gateway.ws());
    let mut ledger = Ledger::new();
    client.until(&mut ledger, "live", LIMIT);
    let applied = |client: &mut JsonClient, ledger: &mut Ledger, message: Value| {
        client.say(&message);
        let frame = client.until(ledger, "applied", LIMIT);
        assert_eq!(frame["what"], message["type"], "{frame}");
        cursor_of(&frame["cursor"])
    };
    let mut next = LENGTH;
    let mut send = |count: u64| {
        for index in next..next + count {
            (0..4).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index)));
        }
        producer.flush();
        next += count;
    };
    let cursor = applied(&mut client, &mut ledger, json!({"type": "subscribe", "threads": ["run-2-200"]}));
    assert_eq!(cursor, (0..4).map(|partition| (partition, LENGTH - 1)).collect());
    send(100);
    client.follow(&mut ledger, LIMIT, |ledger, _| ledger.has(2, LENGTH + 49));
    assert_is_run(&ledger, 2, LENGTH, LENGTH + 50);
    // A client whose filter withholds is told where it stands.
    let progress = client.until(&mut ledger, "progress", LIMIT);
    assert_eq!(cursor_of(&progress["cursor"])[&0], LENGTH + 99, "{progress}");
    // Everything again, from here on.
    let cursor = applied(&mut client, &mut ledger, json!({"type": "subscribe"}));
    assert_eq!(cursor[&2], LENGTH + 99);
    send(10);
    client.follow(&mut ledger, LIMIT, |ledger, _| (0..4).all(|partition| ledger.has(partition, LENGTH + 109)));
    // Nothing while it is paused; all of it afterwards, although the log has moved on.
    applied(&mut client, &mut ledger, json!({"type": "pause"}));
    let before = ledger.records;
    send(9_000);
    client.ping("still there");
    client.until(&mut ledger, "pong", LIMIT);
    assert_eq!(ledger.records, before, "a paused client gets nothing");
    applied(&mut client, &mut ledger, json!({"type": "continue"}));
    let end = LENGTH + 9_110;
    client.follow(&mut ledger, LIMIT, |ledger, _| (0..4).all(|partition| ledger.has(partition, end - 1)));
    for partition in 0..4 {
        assert_eq!(ledger.missing(partition, LENGTH + 100, end), [0u64; 0], "partition {partition}");
    }
    assert_eq!(ledger.gaps, []);
    // By kind, and by partition.
    applied(&mut client, &mut ledger, json!({"type": "subscribe", "kinds": ["token_chunk"], "partitions": [3]}));
    let before = ledger.records;
    send(200);
    producer.send(3, &corpus::frame(corpus::Framing::Plain, &corpus::token_chunk("last", 1, "x")));
    producer.flush();
    client.follow(&mut ledger, LIMIT, |ledger, _| ledger.has(3, end + 200));
    let got = ledger.records - before;
    assert!((2..100).contains(&got), "token chunks are one in ten: {got} of 201");
    assert!((0..3).all(|partition| !ledger.has(partition, end + 1)));
}

#[test]
fn what_could_never_match_is_refused_and_survived() {
    let (_kafka, _producer, gateway) = stage();
    let mut client = JsonClient::connect(gateway.ws());
    let mut ledger = Ledger::new();
    client.until(&mut ledger, "live", LIMIT);
    for (message, why) in [
        (json!({"type": "subscribe", "kinds": ["everything"]}), "kind"),
        (json!({"type": "subscribe", "event_types": ["NODE"]}), "event type"),
        (json!({"type": "subscribe", "threads": "run-1"}), "lists"),
        (json!({"type": "subscribe", "threads": [""]}), "1 to 256"),
        (json!({"type": "subscribe", "threads": vec!["x"; 300]}), "256 values"),
        (json!({"type": "resume", "from": "run"}), "thread"),
        (json!({"type": "resume", "from": "run", "thread": "x".repeat(300)}), "1 to 256"),
        (json!({"type": "resume", "from": "timestamp"}), "timestamp_ms"),
    ] {
        client.say(&message);
        let refused = client.until(&mut ledger, "refused", LIMIT);
        assert!(refused["why"].as_str().is_some_and(|text| text.contains(why)), "{message}: {refused}");
    }
    client.ping("alive");
    client.until(&mut ledger, "pong", LIMIT);
}

#[test]
fn the_predecessor_asks_for_runs_from_before_the_log() {
    let (_kafka, producer, mut gateway) = stage();
    let mut client = V1Client::connect(gateway.ws());
    // Of one run nothing was applied, of the other what its sequences up to 1040 hold.
    client.socket.send_json(&json!({
        "type": "resume", "mode": "thread", "lastSequencesByThread": {"run-2-10": "0", "run-3-20": "1040"},
    }));
    let mut ledger = Ledger::new();
    let (complete, before) = client.follow_until_text(&mut ledger, "replay_complete", LIMIT);
    assert_eq!(before, [] as [Value; 0], "nothing is missing");
    assert_eq!((&complete["mode"], &complete["capped"]), (&json!("thread"), &json!(false)), "{complete}");
    assert_eq!(complete["totalReplayed"], json!(ledger.records), "{complete}");
    assert_eq!(ledger.missing(2, 500, 550), [0u64; 0], "all of the one");
    assert_eq!(ledger.missing(3, 1_040, 1_050), [0u64; 0], "the rest of the other");
    let others = ledger.records - 50;
    assert!((10..=12).contains(&others), "a batch of three may begin before the sequence: {others}");
    // From here on it gets everything.
    for partition in 0..4 {
        producer.send(partition, &corpus::ordinary(partition, LENGTH));
    }
    producer.flush();
    let followed = client.follow(&mut ledger, LIMIT, |_, _, _| {}, |ledger| (0..4).all(|p| ledger.has(p, LENGTH)));
    assert!(!followed.timed_out && followed.closed.is_none(), "{followed:?}");
    assert_eq!(ledger.records, 50 + others + 4, "and nothing twice");
    gateway.stop();
}

#[test]
fn a_client_chooses_what_becomes_of_it_among_what_is_allowed() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("policy", 1);
    let gateway = Setup::new(&kafka, &topic).set("DASHSTREAM_CLIENT_SLOW_POLICIES", "catchup, gap").start();
    let mut client = JsonClient::connect(gateway.ws());
    assert_eq!(client.hello["slow_policy"], "catchup", "{}", client.hello);
    assert_eq!(client.hello["slow_policies"], json!(["catchup", "gap"]), "{}", client.hello);
    let policy = |gateway: &Gateway| {
        let clients = gateway.get_admin("/clients").json();
        clients["clients"].as_array().map(|list| list.iter().map(|one| one["policy"].clone()).collect::<Vec<_>>())
    };
    let mut ledger = Ledger::new();
    for (asked, answer, holds) in [
        ("gap", "applied", "gap"),
        ("close", "refused", "gap"),
        ("never", "refused", "gap"),
        ("catchup", "applied", "catchup"),
    ] {
        client.say(&json!({"type": "slow_policy", "policy": asked}));
        let frame = client.until(&mut ledger, answer, LIMIT);
        assert_eq!(frame["what"], "slow_policy", "{asked}: {frame}");
        wait::until_true("the policy to be shown", LIMIT, || policy(&gateway) == Some(vec![json!(holds)]));
    }
}

/// What the reference client hands over until it says live.
fn until_live(client: &mut Client, ledger: &mut Ledger) {
    loop {
        match client.next_event().expect("no error").expect("nobody stops it") {
            Event::Record(record) => ledger.record(record.partition, record.offset),
            Event::Live { .. } => return,
            Event::Disconnected { why, .. } => panic!("it was cut off: {why:?}"),
            _ => {}
        }
        client.acknowledge();
    }
}

#[test]
fn the_reference_client_asks_for_runs_times_and_filters() {
    let (_kafka, producer, gateway) = stage();
    let client = || Client::builder(&format!("ws://{}", gateway.ws()));
    let mut ledger = Ledger::new();
    let run = Run { thread: "run-2-10".to_owned(), ..Run::default() };
    let mut of_a_run = client().start(Start::Run(run)).build().expect("a client");
    until_live(&mut of_a_run, &mut ledger);
    assert_is_run(&ledger, 2, 500, 550);

    let filter = Filter { threads: vec!["run-0-7".to_owned(), "run-3-8".to_owned()], ..Filter::default() };
    let mut filtered = client().start(Start::Earliest).filter(filter).build().expect("a client");
    let mut ledger = Ledger::new();
    until_live(&mut filtered, &mut ledger);
    assert_eq!((ledger.missing(0, 350, 400), ledger.missing(3, 400, 450)), (vec![], vec![]));
    assert_eq!(ledger.records, 100, "the two runs and nothing else");

    // Every record is younger than this, and then none is.
    let mut of_a_time = client().start(Start::Timestamp(1)).build().expect("a client");
    let mut ledger = Ledger::new();
    until_live(&mut of_a_time, &mut ledger);
    ledger.assert_all("since 1970", &[LENGTH; 4]);
    let mut later = client().start(Start::Timestamp(i64::MAX / 2)).build().expect("a client");
    let mut ledger = Ledger::new();
    until_live(&mut later, &mut ledger);
    assert_eq!(ledger.records, 0);

    // Another filter while it runs, a pause, and the end of it: nothing that came meanwhile is lost.
    let handle = filtered.handle();
    handle.set_filter(Filter { threads: vec!["run-1-9".to_owned()], ..Filter::default() });
    handle.pause();
    let mut applied = BTreeSet::new();
    while applied.len() < 2 {
        if let Some(Event::Applied { what }) = filtered.next_event().expect("no error") {
            applied.insert(what);
        }
    }
    for partition in 0..4 {
        producer.send(partition, &corpus::ordinary(partition, 470));
    }
    producer.flush();
    handle.unpause();
    loop {
        match filtered.next_event().expect("no error").expect("nobody stops it") {
            Event::Record(record) => {
                assert_eq!((record.partition, record.offset), (1, LENGTH), "of the run that is followed");
                break;
            }
            Event::Applied { .. } | Event::Progress { .. } | Event::Live { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}
