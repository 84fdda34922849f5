//! Null, empty, undecodable, oversize by one byte, bomb, torn and deep-nested records: each has one disposition, its
//! neighbours are delivered, the dead-letter topic has exactly one letter for each, the books balance, memory is flat.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::harness::corpus::{self, Framing};
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::json::JsonClient;
use crate::harness::kafka::{Kafka, Parts};
use crate::harness::ledger::Ledger;
use crate::harness::v1::V1Client;
use crate::harness::wait;

/// `WEBSOCKET_MAX_PAYLOAD_BYTES`, inclusive.
const PAYLOAD_MAX: usize = 100_000;
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disposition {
    Delivered,
    Skipped,
    /// Any of these labels.
    Dead(&'static [&'static str]),
}
use Disposition::{Dead, Delivered, Skipped};

struct Case {
    what: &'static str,
    value: Option<Vec<u8>>,
    disposition: Disposition,
}

const TOO_LARGE: &[&str] = &["payload_too_large"];
const INVALID: &[&str] = &["invalid_protobuf"];
const TORN: &[&str] = &["invalid_protobuf", "buffer_underflow"];
const BAD_ZSTD: &[&str] = &["unknown_decode_error", "buffer_underflow"];

/// A message of which the plain protobuf has exactly `length` bytes.
fn message_of(length: usize) -> Vec<u8> {
    corpus::exactly(length + 1).split_off(1)
}

fn cases() -> Vec<Case> {
    let good = corpus::event("run", 1, 300);
    let zstd = corpus::frame(Framing::Zstd, &good);
    let case = |what, value: Vec<u8>, disposition| Case { what, value: Some(value), disposition };
    vec![
        case("good", corpus::frame(Framing::Plain, &good), Delivered),
        Case { what: "null", value: None, disposition: Skipped },
        case("empty", vec![], Dead(&["buffer_underflow"])),
        case("undecodable", b"\x00\xff\xff\xff\xff garbage".to_vec(), Dead(TORN)),
        case("undecodable without framing", b"hello world, this is not protobuf".to_vec(), Dead(TORN)),
        case("exactly at the limit", corpus::exactly(PAYLOAD_MAX), Delivered),
        case("oversize by one byte", corpus::exactly(PAYLOAD_MAX + 1), Dead(TOO_LARGE)),
        case("oversize", corpus::exactly(3 << 20), Dead(TOO_LARGE)),
        case("decompresses to the limit", corpus::frame(Framing::Zstd, &message_of(PAYLOAD_MAX)), Delivered),
        case("decompresses to one more", corpus::frame(Framing::Zstd, &message_of(PAYLOAD_MAX + 1)), Dead(TOO_LARGE)),
        case("bomb", corpus::bomb(200 << 20), Dead(TOO_LARGE)),
        case("legacy bomb", corpus::bomb(200 << 20).split_off(1), Dead(TOO_LARGE)),
        case("truncated zstd", zstd[..zstd.len() / 2].to_vec(), Dead(BAD_ZSTD)),
        case("zstd in name only", b"\x01not a zstd frame at all".to_vec(), Dead(BAD_ZSTD)),
        case("zstd of garbage", corpus::frame(Framing::Zstd, b"\xff\xff\xff\xff garbage"), Dead(TORN)),
        case("truncated protobuf", corpus::frame(Framing::Plain, &good[..good.len() - 7]), Dead(TORN)),
        case("nested a little", corpus::frame(Framing::Plain, &corpus::nested(20)), Delivered),
        case("nested deeply", corpus::frame(Framing::Plain, &corpus::nested(10_000)), Dead(INVALID)),
        case("good at the end", corpus::frame(Framing::LegacyZstd, &good), Delivered),
    ]
}

/// Every bad case is surrounded by good neighbours.
fn with_neighbours() -> Vec<Case> {
    let neighbour = |index: usize| Case {
        what: "neighbour",
        value: Some(corpus::ordinary(0, index as u64)),
        disposition: Delivered,
    };
    cases().into_iter().enumerate().flat_map(|(index, case)| [neighbour(index), case]).collect()
}

fn offsets(cases: &[Case], wanted: impl Fn(Disposition) -> bool) -> BTreeSet<u64> {
    (0u64..).zip(cases).filter(|(_, case)| wanted(case.disposition)).map(|(offset, _)| offset).collect()
}

fn assert_letters(kafka: &Kafka, topic: &str, cases: &[Case]) -> BTreeMap<u64, String> {
    let letters = kafka.read(&format!("{topic}-dlq"));
    let mut ids = BTreeMap::new();
    for letter in &letters {
        let envelope = letter.json();
        let offset = envelope["kafka_offset"].as_u64().expect("kafka_offset");
        let case = &cases[offset as usize];
        let what = case.what;
        let Dead(reasons) = case.disposition else { panic!("{what} was dead-lettered: {envelope}") };
        let reason = envelope["error_type"].as_str().expect("error_type");
        assert!(reasons.contains(&reason), "{what}: error_type {reason}, expected one of {reasons:?}");
        let value = case.value.as_deref().expect("a null is never dead-lettered");
        check_envelope(what, &envelope, topic, value);
        let key = letter.key_text();
        assert_eq!(envelope["trace_id"], key.as_str(), "{what}: the key is the trace id");
        assert_eq!((key.len(), key.as_bytes()[14]), (36, b'5'), "{what}: {key} is a UUID of version 5");
        assert!(ids.insert(offset, key).is_none(), "{what}: two letters");
    }
    let expected = offsets(cases, |disposition| matches!(disposition, Dead(_)));
    assert_eq!(ids.keys().copied().collect::<BTreeSet<_>>(), expected, "exactly one letter for each bad record");
    assert_eq!(ids.values().collect::<BTreeSet<_>>().len(), ids.len(), "ids are distinct");
    ids
}

fn check_envelope(what: &str, envelope: &Value, topic: &str, value: &[u8]) {
    let text = |key: &str| envelope[key].as_str().unwrap_or_else(|| panic!("{what}: {key} in {envelope}")).to_owned();
    assert!(!text("error").is_empty());
    assert!(text("timestamp").contains('T'), "{what}: an RFC 3339 time");
    assert_eq!(text("payload_sha256").len(), 64, "{what}");
    assert_eq!(envelope["message_size"], value.len(), "{what}");
    assert_eq!(envelope["kafka_partition"], 0, "{what}");
    assert!(envelope["message_count"].is_u64(), "{what}");
    assert_eq!(text("source_topic"), topic, "{what}");
    assert_eq!(text("source_key"), base64(b"the-key"), "{what}");
    assert_eq!(envelope["source_timestamp_ms"], 1_790_000_000_123_u64, "{what}");
    let headers = envelope["source_headers"].to_string();
    assert!(headers.contains("traceparent") && headers.contains(&base64(b"00-aa-bb-01")), "{what}: {headers}");
    for (key, bytes) in [("first_bytes_hex", &value[..value.len().min(16)]), ("last_bytes_hex", tail(value))] {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text(key), hex, "{what}: {key}");
    }
    // Small values are there in full, so that they can be driven again.
    if value.len() <= 10_000 {
        assert_eq!(text("original_payload_base64"), base64(value), "{what}");
        assert!(envelope["payload_truncation_note"].is_null(), "{what}");
    }
    if value.len() > 2 << 20 {
        assert!(envelope["payload_truncation_note"].is_string(), "{what}: says that the value was cut");
    }
}

fn tail(value: &[u8]) -> &[u8] {
    &value[value.len() - value.len().min(16)..]
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let symbol = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(symbol) } else { '=' });
        }
    }
    text
}

/// Nothing vanished: what was consumed was delivered, dead-lettered or skipped.
fn assert_books(gateway: &Gateway, cases: &[Case], others: usize) {
    let count = |wanted: fn(Disposition) -> bool| offsets(cases, wanted).len() as f64;
    let metrics = wait::until("the books of all records", LIMIT, || {
        let metrics = gateway.metrics();
        let consumed = metrics.all("dashstream_partition_consumed_records_total", &[]).iter().sum::<f64>();
        (consumed == (cases.len() + others) as f64).then_some(metrics)
    });
    let sum = |name: &str| metrics.sum(name, &[]);
    let delivered = count(|disposition| disposition == Delivered) + others as f64;
    assert_eq!(sum("dashstream_partition_delivered_records_total"), delivered);
    assert_eq!(
        sum("dashstream_partition_dead_lettered_records_total"),
        count(|disposition| matches!(disposition, Dead(_)))
    );
    assert_eq!(sum("dashstream_partition_skipped_records_total"), count(|disposition| disposition == Skipped));
    assert_eq!(
        metrics.all("dashstream_partition_books_difference_records", &[]).iter().map(|value| value.abs()).sum::<f64>(),
        0.0
    );
    assert_eq!(sum("websocket_kafka_payload_missing_total"), 1.0);
}

#[test]
fn bad_records_have_one_disposition_each() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("bad", 2);
    let mut gateway = Setup::new(&kafka, &topic).set("WEBSOCKET_MAX_PAYLOAD_BYTES", PAYLOAD_MAX).start();
    let cases = with_neighbours();
    let (mut plain, mut told) = (V1Client::connect(gateway.ws()), V1Client::connect(gateway.ws()));
    let mut json = JsonClient::connect(gateway.ws());
    told.resume_in(&gateway.stream(), &BTreeMap::new());
    let producer = kafka.producer(&topic);
    for case in &cases {
        let headers: &[(&str, &[u8])] = &[("traceparent", b"00-aa-bb-01")];
        let timestamp_ms = Some(1_790_000_000_123);
        producer.send_parts(0, Parts { key: Some(b"the-key"), value: case.value.as_deref(), timestamp_ms, headers });
    }
    for index in 0..100 {
        producer.send(1, &corpus::ordinary(1, index));
    }
    producer.flush();

    let delivered = offsets(&cases, |disposition| disposition == Delivered);
    let lengths = [cases.len() as u64, 100];
    let check = |partition: u32, offset: u64, value: &[u8]| {
        if partition == 0 {
            assert!(cases[offset as usize].value.as_deref() == Some(value), "offset {offset}: bytes differ");
        }
    };
    let exactly_the_good = |who: &str, ledger: &Ledger| {
        let got: BTreeSet<u64> = (0..lengths[0]).filter(|offset| ledger.has(0, *offset)).collect();
        assert_eq!(got, delivered, "{who}: neighbours and nothing else");
        assert_eq!(ledger.count(1), 100, "{who}: the other partition");
    };
    // One that sent no stream sees only the predecessor's frames: dead letters are no gap for it.
    let mut ledger = Ledger::new();
    let followed = plain.follow(&mut ledger, LIMIT, check, |ledger| ledger.reached(&lengths));
    exactly_the_good("v1", &ledger);
    assert!(followed.texts.is_empty(), "{:?}", followed.texts);
    // One that sent the stream is told why.
    let mut ledger = Ledger::new();
    told.follow(&mut ledger, LIMIT, check, |ledger| ledger.reached(&lengths));
    exactly_the_good("v1 with stream", &ledger);
    assert_eq!(ledger.missing(0, 0, lengths[0]), [0; 0], "every offset is a record or inside a gap");
    assert!(ledger.gaps.iter().any(|gap| gap.3 == "null") && ledger.gaps.iter().any(|gap| gap.3 == "dead_lettered"));
    // A json client too, with the ids of the letters.
    let mut ledger = Ledger::new();
    json.follow(&mut ledger, LIMIT, |ledger, _| ledger.reached(&lengths));
    exactly_the_good("json", &ledger);
    assert_eq!(ledger.missing(0, 0, lengths[0]), [0; 0], "every offset is a record or inside a gap");

    let wanted = offsets(&cases, |disposition| matches!(disposition, Dead(_))).len();
    let dlq = format!("{topic}-dlq");
    wait::until_true("the letters", LIMIT, || kafka.watermarks(&dlq, 0).1 >= wanted as i64);
    let ids = assert_letters(&kafka, &topic, &cases);
    assert_books(&gateway, &cases, 100);

    // A restart reads the records again to fill its log, and dead-letters none of them again.
    gateway.stop();
    let mut gateway = gateway.setup.start();
    let mut json = JsonClient::connect(gateway.ws());
    json.resume_from("earliest");
    let mut ledger = Ledger::new();
    json.follow(&mut ledger, LIMIT, |ledger, _| ledger.reached(&lengths));
    exactly_the_good("json after the restart", &ledger);
    gateway.stop();
    assert_eq!(assert_letters(&kafka, &topic, &cases), ids);
}

#[test]
fn a_flood_of_bombs_leaves_memory_flat() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("bombs", 1);
    let mut gateway = Setup::new(&kafka, &topic).set("WEBSOCKET_MAX_PAYLOAD_BYTES", PAYLOAD_MAX).start();
    let mut client = V1Client::connect(gateway.ws());
    let producer = kafka.producer(&topic);
    let (bomb, deep) = (corpus::bomb(200 << 20), corpus::frame(Framing::Plain, &corpus::nested(10_000)));
    let before = gateway.resident();
    let mut most = 0;
    let mut ledger = Ledger::new();
    for round in 0..20u64 {
        (0..10).for_each(|_| producer.send(0, &bomb));
        (0..10).for_each(|_| producer.send(0, &deep));
        producer.send(0, &corpus::ordinary(0, round));
        producer.flush();
        client.follow(&mut ledger, LIMIT, |_, _, _| {}, |ledger| ledger.records > round);
        most = most.max(gateway.resident());
    }
    assert_eq!(ledger.records, 20, "the neighbours were delivered");
    let grown = most.saturating_sub(before);
    assert!(grown < 96 << 20, "{} MiB more resident memory than before", grown >> 20);
    wait::until_true("all letters", LIMIT, || kafka.watermarks(&format!("{topic}-dlq"), 0).1 == 400);
    gateway.assert_alive();
}
