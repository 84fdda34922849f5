//! `produce` puts on a topic what it was given, once each, and says of every event what became of it; `simulate` sends
//! what it says it sent. What cannot be sent is named, with the exit code that scripts rely on.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::Write;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::command::{Answer, Watched, answer_with, of_topic};
use crate::harness::kafka::Kafka;
use crate::harness::{ports, seeded, wait};

struct Scratch(PathBuf);

impl Scratch {
    fn file(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dashstream-{}-{name}", std::process::id()));
        std::fs::write(&path, text).expect("a file can be written");
        Self(path)
    }

    /// One that has no reader yet.
    fn pipe(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dashstream-{}-{name}", std::process::id()));
        let text = CString::new(path.to_str().expect("UTF-8")).expect("no zero byte");
        // SAFETY: the name is alive.
        assert_eq!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }, 0, "{}", std::io::Error::last_os_error());
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn counts(answer: &Answer) -> Value {
    serde_json::from_str(answer.lines().last().expect("a last line")).expect("JSON")
}

/// Something that was found out about events.
fn is_finding(kind: &Value) -> bool {
    ["bad", "gap", "missing", "duplicate"].contains(&kind.as_str().expect("a kind"))
}

/// What an event says, whatever of it producing gives anew.
fn contents(answer: &Answer) -> BTreeMap<(String, String), Vec<Value>> {
    let mut runs: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    for mut object in answer.objects() {
        let map = object.as_object_mut().expect("an object");
        if is_finding(&map["kind"]) {
            continue;
        }
        for key in ["partition", "offset", "index", "timestamp_ms", "key", "sequence", "framing"] {
            map.remove(key);
        }
        let text = |key: &str| map[key].as_str().expect("a text").to_owned();
        let run = (text("tenant_id"), text("thread_id"));
        runs.entry(run).or_default().push(object);
    }
    runs
}

#[test]
fn what_was_exported_is_sent_again() {
    let kafka = Kafka::shared();
    let (source, target) = (seeded::topic(&kafka), kafka.topic("produce", 3));
    let exported = of_topic(&kafka, &source, &["export", "--output", "jsonl"]).expect("export");
    let file = Scratch::file("again.jsonl", &exported.out);
    let sent = of_topic(&kafka, &target, &["produce", file.path(), "--keep-secrets", "--output", "json"]);
    let sent = sent.expect("produce");
    let counts = counts(&sent);
    let events: usize = contents(&exported).values().map(Vec::len).sum();
    assert_eq!((&counts["read"], &counts["delivered"]), (&events.into(), &events.into()), "{counts}");
    assert_eq!((&counts["rejected"], &counts["refused"], &counts["unknown"]), (&0.into(), &0.into(), &0.into()));

    let again = of_topic(&kafka, &target, &["export", "--output", "jsonl"]).expect("export");
    assert_eq!(contents(&again), contents(&exported), "every event with its id, in the order of its run");
    // Sequences begin at 1 and have no holes: whatever was missing there is not missing here.
    let mut next: BTreeMap<(String, String), u64> = BTreeMap::new();
    for object in again.objects().into_iter().filter(|object| !is_finding(&object["kind"])) {
        let text = |key: &str| object[key].as_str().expect("a text").to_owned();
        let next = next.entry((text("tenant_id"), text("thread_id"))).or_insert(1);
        assert_eq!(
            object["sequence"].as_u64().or_else(|| object["sequence"].as_str()?.parse().ok()),
            Some(*next),
            "{object}"
        );
        *next += 1;
    }
}

#[test]
fn what_cannot_be_sent_is_named() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("produce", 1);
    let produce = |text: &str| {
        let file = Scratch::file(&format!("bad-{}.jsonl", text.len()), text);
        of_topic(&kafka, &topic, &["produce", file.path(), "--output", "json"])
    };
    // An event without a thread is not accepted, and named; the others go.
    let event = |thread: &str| {
        format!("{{\"kind\":\"event\",\"thread_id\":\"{thread}\",\"event_type\":\"NODE_START\",\"node_id\":\"n\"}}\n")
    };
    let some = produce(&format!("{}{}{}", event("t-1"), event(" "), event("t-2")));
    assert_eq!(some.code, Some(1), "{some:?}");
    assert!(some.err.contains("event 2 is not sent") && some.err.contains("of 3, 1 not accepted"), "{some:?}");
    assert_eq!((&counts(&some)["delivered"], &counts(&some)["rejected"]), (&2.into(), &1.into()), "{some:?}");
    // What is no export is refused, and what came before it was sent.
    let broken = produce(&format!("{}no JSON\n", event("t-3")));
    assert_eq!((broken.code, &counts(&broken)["delivered"]), (Some(2), &1.into()), "{broken:?}");
    assert_eq!(kafka.read(&topic).len(), 3);
    // As large as readers take it, and what is larger is refused by the name of the setting.
    let large = format!(
        "{{\"thread_id\":\"t\",\"event_type\":\"NODE_START\",\"attributes\":{{\"a\":\"{}\"}}}}\n",
        "x".repeat(2_000_000)
    );
    assert_eq!(counts(&produce(&large))["delivered"], 1);
    let file = Scratch::file("large.jsonl", &large);
    let small = ["produce", file.path(), "--kafka-payload-max-bytes", "1MiB", "--output", "json"];
    let small = of_topic(&kafka, &topic, &small);
    assert_eq!(small.code, Some(1), "{small:?}");
    assert!(small.err.contains("are more than 1048576 (kafka.payload_max_bytes"), "{small:?}");
    // What is wrong is quoted, with its field.
    for (object, expected) in [
        ("{\"thread_id\":\"t\",\"sequence\":-1}", "sequence is -1"),
        ("{\"thread_id\":\"t\",\"event_type\":\"BOGUS\"}", "event_type is \"BOGUS\""),
    ] {
        let refused = produce(object);
        assert!(refused.code == Some(2) && refused.err.contains(expected), "{refused:?}");
    }

    // What Kafka refuses has a reason.
    kafka.create(&format!("{topic}-small"), 1, &[("max.message.bytes", "1000")]);
    let noise: String = (0..4_000u32).map(|number| char::from(b'a' + (number * number % 7_919 % 26) as u8)).collect();
    let file = Scratch::file("large.jsonl", &event("t-4").replace("\"n\"", &format!("\"{noise}\"")));
    let refused = of_topic(&kafka, &format!("{topic}-small"), &["produce", file.path()]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(refused.out, "1 event read: 0 delivered, 0 not accepted, 1 refused by Kafka, 0 unknown\n");
    assert!(refused.err.contains("1 event refused by Kafka: the topic allows smaller records only"), "{refused:?}");

    let absent = of_topic(&kafka, &topic, &["produce", "/nowhere/at/all.jsonl"]);
    assert!(absent.code == Some(2) && absent.err.contains("/nowhere/at/all.jsonl"), "{absent:?}");
    let secret = produce(
        "{\"kind\":\"event\",\"thread_id\":\"t\",\"event_type\":\"NODE_END\",\"attributes\":{\"api_key\":\"sk-12345678901234567890\"}}\n",
    );
    assert_eq!(secret.code, Some(0), "{secret:?}");
    let record = kafka.read(&topic).pop().expect("it was sent");
    let value = record.value.expect("a value");
    assert!(!value.windows(23).any(|bytes| bytes == b"sk-12345678901234567890"), "secrets stay here");
}

/// Of 200 events 61 were sent when it was ended, and it ended with 0: a script took a third of its file for all of it.
#[test]
fn who_is_interrupted_says_how_far_it_came() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("produce", 1);
    let settings = [("KAFKA_BROKERS", kafka.brokers.as_str()), ("KAFKA_TOPIC", topic.as_str())];
    let end = || kafka.watermarks(&topic, 0).1;
    let sent = |count: u64| wait::until_true("events", wait::SOON, || end() >= count as i64);
    let events = |threads: std::ops::Range<u32>| -> String {
        let event =
            |thread| format!("{{\"kind\":\"event\",\"thread_id\":\"t-{thread}\",\"event_type\":\"NODE_START\"}}\n");
        threads.map(event).collect()
    };
    let told = |answer: &Answer, code: i32| -> u64 {
        let counts = counts(answer);
        assert_eq!((answer.code, &counts["delivered"]), (Some(code), &counts["read"]), "{answer:?}");
        counts["read"].as_u64().expect("a number")
    };
    let not_read = |count: u64| {
        format!("dashstream: ended by a signal: what comes after event {count} was not read, and is not on the topic\n")
    };

    let file = Scratch::file("interrupted.jsonl", &events(0..2_000));
    let cut = Watched::start(&["produce", file.path(), "--rate", "20", "--output", "json"], &settings);
    sent(5);
    cut.signal(libc::SIGTERM);
    let cut = cut.end(wait::SOON);
    let read = told(&cut, 1);
    assert!((5..2_000).contains(&read), "{cut:?}");
    assert_eq!((cut.err, end()), (not_read(read), read as i64));

    // A pipe in which nothing comes, and nobody knows whether something would.
    let pipe = Scratch::pipe("interrupted.pipe");
    let start = || Watched::start(&["produce", pipe.path(), "--output", "json"], &settings);
    let open = || std::fs::OpenOptions::new().write(true).open(pipe.path()).expect("it is read");
    let quiet = start();
    let mut writer = open();
    writer.write_all(events(0..3).as_bytes()).expect("it is read");
    sent(read + 3);
    quiet.signal(libc::SIGINT);
    let quiet = quiet.end(wait::SOON);
    assert_eq!((told(&quiet, 1), &quiet.err), (3, &not_read(3)));
    drop(writer);
    // A pipe that is closed has ended.
    let whole = start();
    open().write_all(events(0..3).as_bytes()).expect("it is read");
    let whole = whole.end(wait::SOON);
    assert_eq!((told(&whole, 0), whole.err.as_str()), (3, ""));
}

#[test]
fn simulated_runs_are_what_was_said() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("simulate", 2);
    let simulate = ["simulate", "--rate", "2000", "--seconds", "3", "--seed", "7", "--output", "json"];
    let sent = of_topic(&kafka, &topic, &simulate).expect("simulate");
    let counts = counts(&sent);
    let number = |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("{name} in {counts}"));
    assert!(number("events") >= 2_000, "{counts}");
    assert_eq!((number("acknowledged"), number("failed")), (number("records"), 0), "{counts}");
    assert_eq!(kafka.read(&topic).len() as u64, number("records"));
    let shown = of_topic(&kafka, &topic, &["export", "--output", "jsonl"]).expect("export").objects();
    assert_eq!(shown.len() as u64, number("events"), "no event is bad, missing or repeated");

    let nowhere = of_topic(&kafka, "no-such-topic", &simulate);
    assert!(nowhere.code == Some(2) && nowhere.err.contains("no-such-topic"), "{nowhere:?}");
    let address = ports::free_address().to_string();
    let alone = answer_with(&["simulate", "--brokers", &address], &[("DASHSTREAM_TOPICS_TIMEOUT", "2s")]);
    assert_eq!(alone.code, Some(1), "{alone:?}");
}
