//! A small topic with fixed ids and times, in which everything occurs once: every kind of message, every framing, a
//! batch, a missing sequence, a repeat, three records that hold nothing, a run that is done, one that failed and one
//! that still runs. Commands are shown it, and what they answer is compared with what is committed.

use super::corpus::{Framing, frame};
use super::kafka::{Kafka, Parts};
use super::proto::Writer;

/// 2026-09-21T14:13:20Z, µs since the epoch.
pub const BEGAN_US: u64 = 1_790_000_000_000_000;
pub const PARTITIONS: i32 = 3;

pub struct SeededRecord {
    pub partition: u32,
    /// After [`BEGAN_US`].
    pub at_ms: u64,
    pub key: &'static str,
    pub value: Option<Vec<u8>>,
}

struct Run {
    tenant: &'static str,
    thread: &'static str,
    /// Makes its message ids its own.
    number: u8,
}

const ONE: Run = Run { tenant: "acme", thread: "run-1", number: 1 };
const TWO: Run = Run { tenant: "default", thread: "run-2", number: 2 };
const THREE: Run = Run { tenant: "acme", thread: "run-3", number: 3 };

impl Run {
    fn header(&self, sequence: u64, message_type: u64, at_ms: u64) -> Writer {
        let mut id = [self.number; 16];
        id[8..].copy_from_slice(&(sequence << 8 | message_type).to_be_bytes());
        Writer::new()
            .bytes(1, id)
            .varint(2, BEGAN_US + at_ms * 1_000)
            .bytes(3, self.tenant)
            .bytes(4, self.thread)
            .varint(5, sequence)
            .varint(6, message_type)
            .varint(9, 1)
    }

    /// The inside of an `Event`.
    fn event(&self, sequence: u64, at_ms: u64, event_type: u64, node: &str, more: Writer) -> Writer {
        let mut event = Writer::new().message(1, self.header(sequence, 1, at_ms)).varint(2, event_type).bytes(3, node);
        event.0.extend_from_slice(&more.0);
        event
    }
}

fn text(name: &str, value: &str) -> Writer {
    Writer::new().message(4, Writer::new().bytes(1, name).message(2, Writer::new().bytes(1, value)))
}

fn number(name: &str, value: u64) -> Writer {
    Writer::new().message(4, Writer::new().bytes(1, name).message(2, Writer::new().varint(2, value)))
}

fn float(name: &str, value: f64) -> Writer {
    Writer::new().message(4, Writer::new().bytes(1, name).message(2, Writer::new().double(3, value)))
}

fn both(left: Writer, right: Writer) -> Writer {
    Writer([left.0, right.0].concat())
}

fn message(field: u32, payload: Writer) -> Vec<u8> {
    Writer::new().message(field, payload).0
}

fn pair(name: &str, value: &str) -> Writer {
    Writer::new().bytes(1, name).bytes(2, value)
}

/// In the order in which they are produced.
pub fn records() -> Vec<SeededRecord> {
    let none = Writer::new;
    let one = |at_ms: u64, framing: Framing, message: Vec<u8>| SeededRecord {
        partition: 0,
        at_ms,
        key: ONE.thread,
        value: Some(frame(framing, &message)),
    };
    let two = |at_ms: u64, message: Vec<u8>| SeededRecord {
        partition: 1,
        at_ms,
        key: TWO.thread,
        value: Some(frame(Framing::Plain, &message)),
    };
    let three = |at_ms: u64, value: Option<Vec<u8>>| SeededRecord { partition: 2, at_ms, key: THREE.thread, value };
    let plain = |message: Vec<u8>| Some(frame(Framing::Plain, &message));

    let begin = both(text("graph_name", "research"), number("graph_node_count", 2));
    let chunk = Writer::new()
        .message(1, ONE.header(3, 3, 20))
        .bytes(2, "request-1")
        .bytes(3, "Hello, \"world\"\n")
        .varint(6, 4)
        .varint(7, 1)
        .varint(8, 1)
        .bytes(9, "model-a")
        .message(10, Writer::new().varint(1, 12).varint(2, 30).varint(3, 42));
    let tool = Writer::new()
        .message(1, ONE.header(4, 4, 30))
        .bytes(2, "call-1")
        .bytes(3, "search")
        .varint(4, 3)
        .bytes(5, "{\"query\": \"rust\",\n \"top\": 3}")
        .bytes(6, "[1, 2.50]")
        .varint(9, 8_000);
    let operation = Writer::new().varint(1, 2).bytes(2, "/messages/0").bytes(3, "{\"role\":\"user\"}");
    let diff = Writer::new().message(1, ONE.header(5, 2, 40)).message(3, operation).bytes(4, [7u8; 32]);
    let checkpoint = Writer::new()
        .message(1, ONE.header(6, 5, 50))
        .bytes(2, [0xC0; 16])
        .bytes(3, "{\"messages\":[]}")
        .bytes(4, "serde_json::Value")
        .bytes(5, [8u8; 32])
        .message(8, pair("by", "test"));
    let metric = Writer::new().double(2, 0.75).bytes(6, "ratio").varint(7, 2);
    let metrics = Writer::new()
        .message(1, ONE.header(7, 6, 60))
        .bytes(2, "quality")
        .bytes(3, "run-1")
        .message(4, Writer::new().bytes(1, "accuracy").message(2, metric))
        .message(5, pair("model", "model-a"));
    let error = Writer::new()
        .message(1, ONE.header(8, 7, 70))
        .bytes(2, "E42")
        .bytes(3, "the tool answered late")
        .varint(6, 3)
        .bytes(8, "wait longer");
    let node = Writer::new().bytes(1, "plan").varint(2, 70).varint(5, 42).varint(6, 1);
    let trace = Writer::new()
        .message(1, ONE.header(11, 9, 95))
        .bytes(2, "run-1")
        .bytes(3, "execution-1")
        .message(4, node)
        .varint(5, 90)
        .varint(6, 42)
        .varint(8, 1);
    let batch = Writer::new()
        .message(1, TWO.header(0, 8, 5))
        .message(2, TWO.event(1, 5, 1, "", none()))
        .message(2, TWO.event(2, 6, 10, "retrieve", none()))
        .message(2, TWO.event(3, 7, 80, "retrieve", both(text("message", "half way"), float("percent", 0.5))));
    // Sequences 4 and 5 never come, and 6 comes twice. Its text would like to colour the terminal.
    let thought = || message(1, TWO.event(6, 45, 81, "retrieve", text("thought", "日本 \u{1b}[31mred")));
    let failure = text("error", "no such model");
    let no_events = message(8, Writer::new().message(1, THREE.header(0, 8, 57)));

    let mut records = vec![
        one(0, Framing::Plain, message(1, ONE.event(1, 0, 1, "", begin))),
        three(1, Some(b"\x00\xff\xff\xff\xff garbage".to_vec())),
        three(2, None),
        three(3, Some(Vec::new())),
        two(5, message(8, batch)),
        one(10, Framing::Zstd, message(1, ONE.event(2, 10, 10, "plan", none()))),
        three(15, plain(message(1, THREE.event(1, 15, 1, "", none())))),
        one(20, Framing::LegacyPlain, message(3, chunk)),
        one(30, Framing::LegacyZstd, message(4, tool)),
        one(40, Framing::Plain, message(2, diff)),
        two(45, thought()),
        two(46, thought()),
        one(50, Framing::Zstd, message(5, checkpoint)),
        three(55, plain(message(1, THREE.event(2, 55, 32, "answer", failure)))),
        three(56, plain(message(1, THREE.event(3, 56, 3, "", none())))),
        three(57, plain(no_events)),
        one(60, Framing::Plain, message(6, metrics)),
        one(70, Framing::Plain, message(7, error)),
        one(80, Framing::Plain, message(1, ONE.event(9, 80, 11, "plan", Writer::new().varint(5, 70_000)))),
        two(85, message(1, TWO.event(7, 85, 10, "answer", none()))),
        one(90, Framing::Plain, message(1, ONE.event(10, 90, 2, "", Writer::new().varint(5, 90_000)))),
        one(95, Framing::Plain, message(9, trace)),
    ];
    // Each partition has its own order; across them any order of producing must give the same output.
    records.sort_by_key(|record| std::cmp::Reverse(record.partition));
    records
}

/// A topic that holds them.
pub fn topic(kafka: &Kafka) -> String {
    let topic = kafka.topic("seeded", PARTITIONS);
    let producer = kafka.producer(&topic);
    for record in records() {
        producer.send_parts(
            record.partition,
            Parts {
                key: Some(record.key.as_bytes()),
                value: record.value.as_deref(),
                timestamp_ms: Some((BEGAN_US / 1_000 + record.at_ms) as i64),
                headers: &[],
            },
        );
    }
    producer.flush();
    topic
}

/// An event of a run of its own, for topics of any size.
pub fn numbered(partition: u32, sequence: u64, length: usize) -> Vec<u8> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&u64::from(partition).to_be_bytes());
    id[8..].copy_from_slice(&sequence.to_be_bytes());
    let header = Writer::new()
        .bytes(1, id)
        .varint(2, BEGAN_US + sequence)
        .bytes(3, "default")
        .bytes(4, format!("run-{partition}"))
        .varint(5, sequence)
        .varint(6, 1)
        .varint(9, 1);
    let event =
        both(Writer::new().message(1, header).varint(2, 80).bytes(3, "retrieve"), text("message", &"m".repeat(length)));
    frame(Framing::Plain, &message(1, event))
}
