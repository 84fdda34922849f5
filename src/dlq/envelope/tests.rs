//! The envelope: golden text, bounds, and that it is JSON whatever was in the record.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::dlq::Ledger;
use crate::words::{DropReason, Offset, PartitionId};

pub(in crate::dlq) fn stream() -> StreamIdentity {
    StreamIdentity { cluster_id: "kRaft-1".to_owned(), topic: "dashstream-quality".to_owned(), topic_id: [7; 16] }
}

pub(in crate::dlq) fn letter() -> DeadLetter {
    DeadLetter {
        partition: PartitionId(3),
        offset: Offset(42),
        reason: DropReason::InvalidProtobuf,
        error: "field 1: wire type 7".to_owned(),
        timestamp_ms: Some(1_700_000_000_123),
        key: Some(b"thread-1".as_slice().into()),
        headers: vec![
            (
                "traceparent".to_owned(),
                Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".as_slice().into()),
            ),
            ("x-note".to_owned(), None),
        ],
        headers_left_out: 0,
        value: b"\x00not protobuf at all".as_slice().into(),
        value_bytes: 20,
        value_sha256: [0xab; 32],
        value_tail: b"protobuf at all!".as_slice().into(),
        thread_id: Some("thread-1".to_owned()),
        tenant_id: None,
        ledger: Arc::new(Ledger::default()),
    }
}

fn circumstances(stream: &StreamIdentity, limit: usize) -> Circumstances<'_> {
    Circumstances { stream, now_unix_ms: 1_700_000_001_005, message_count: 99, limit }
}

fn parse(letter: &DeadLetter, limit: usize) -> (usize, Value) {
    let bytes = envelope(letter, circumstances(&stream(), limit));
    (bytes.len(), serde_json::from_slice(&bytes).expect("valid JSON"))
}

#[test]
fn the_envelope_of_one_letter_is_this_text() {
    let bytes = envelope(&letter(), circumstances(&stream(), ENVELOPE_MAX_BYTES));
    let expected = concat!(
        r#"{"trace_id":"TRACE","timestamp":"2023-11-14T22:13:21.005Z","error":"field 1: wire type 7","#,
        r#""error_type":"invalid_protobuf","#,
        r#""payload_sha256":"abababababababababababababababababababababababababababababababab","#,
        r#""original_payload_base64":"AG5vdCBwcm90b2J1ZiBhdCBhbGw=","payload_truncation_note":null,"message_size":20,"#,
        r#""first_bytes_hex":"006e6f742070726f746f627566206174","last_bytes_hex":"70726f746f62756620617420616c6c21","#,
        r#""kafka_partition":3,"kafka_offset":42,"message_count":99,"thread_id":"thread-1","tenant_id":null,"#,
        r#""version":1,"stream":"STREAM","source_topic":"dashstream-quality","source_key":"dGhyZWFkLTE=","#,
        r#""source_key_bytes":8,"source_headers":[{"name":"traceparent","value":"#,
        r#""MDAtNGJmOTJmMzU3N2IzNGRhNmEzY2U5MjlkMGUwZTQ3MzYtMDBmMDY3YWEwYmE5MDJiNy0wMQ=="},"#,
        r#"{"name":"x-note","value":null}],"source_headers_omitted":0,"source_timestamp_ms":1700000000123}"#,
    )
    .replace("TRACE", &stream().dead_letter_id(PartitionId(3), Offset(42)).to_string())
    .replace("STREAM", &stream().name());
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

#[test]
fn equal_records_have_equal_ids_and_others_do_not() {
    let id = |partition, offset| stream().dead_letter_id(PartitionId(partition), Offset(offset)).to_string();
    assert_eq!(id(3, 42), id(3, 42));
    assert_ne!(id(3, 42), id(3, 43));
    assert_ne!(id(3, 42), id(4, 42));
    let again = StreamIdentity { topic_id: [8; 16], ..stream() };
    assert_ne!(id(3, 42), again.dead_letter_id(PartitionId(3), Offset(42)).to_string());
}

#[test]
fn what_is_cut_is_said() {
    let check = |change: fn(&mut DeadLetter), limit: usize, path: &str, expected: Value| {
        let mut letter = letter();
        change(&mut letter);
        let (bytes, value) = parse(&letter, limit);
        assert!(bytes <= limit.max(ENVELOPE_MIN_BYTES), "{path}: {bytes} bytes");
        assert_eq!(value.pointer(path), Some(&expected), "{path}");
    };
    // The worker kept less than the whole value.
    check(
        |letter| letter.value_bytes = 5000,
        ENVELOPE_MAX_BYTES,
        "/payload_truncation_note",
        "first 20 of 5000 bytes".into(),
    );
    // An empty value is an empty string, which is not an absent one.
    let empty = |letter: &mut DeadLetter| {
        letter.value = Box::default();
        letter.value_tail = Box::default();
        letter.value_bytes = 0;
    };
    check(empty, ENVELOPE_MAX_BYTES, "/original_payload_base64", "".into());
    check(empty, ENVELOPE_MAX_BYTES, "/payload_truncation_note", Value::Null);
    check(empty, ENVELOPE_MAX_BYTES, "/last_bytes_hex", "".into());
    // Nothing of the value was kept.
    let none = |letter: &mut DeadLetter| letter.value = Box::default();
    check(none, ENVELOPE_MAX_BYTES, "/original_payload_base64", Value::Null);
    check(none, ENVELOPE_MAX_BYTES, "/payload_truncation_note", "first 0 of 20 bytes".into());
    // More headers than fit.
    let many = |letter: &mut DeadLetter| {
        letter.headers = vec![("h".to_owned(), Some(vec![0; 100].into())); 1000];
        letter.headers_left_out = 5;
    };
    check(many, ENVELOPE_MAX_BYTES, "/source_headers_omitted", 749.into());
    // A key longer than what is kept says how long it was.
    check(|letter| letter.key = Some(vec![1; 70_000].into()), ENVELOPE_MAX_BYTES, "/source_key_bytes", 70_000.into());
    // A record without a key, and one with an empty key.
    check(|letter| letter.key = None, ENVELOPE_MAX_BYTES, "/source_key", Value::Null);
    check(|letter| letter.key = Some(Box::default()), ENVELOPE_MAX_BYTES, "/source_key", "".into());
}

#[test]
fn a_value_is_kept_whole_as_long_as_it_fits() {
    let mut letter = letter();
    letter.value = vec![0xEE; 600 * 1024].into();
    letter.value_bytes = 600 * 1024;
    let (bytes, value) = parse(&letter, ENVELOPE_MAX_BYTES);
    assert_eq!(value["payload_truncation_note"], Value::Null);
    assert!(bytes > 800 * 1024);
    // A smaller limit, as it is tried when the broker refuses the size, cuts the value and keeps the rest.
    let (bytes, value) = parse(&letter, 100 * 1024);
    assert!(bytes <= 100 * 1024 && bytes > 90 * 1024, "{bytes}");
    assert_eq!(value["source_key"], "dGhyZWFkLTE=");
    assert_eq!(value["source_headers_omitted"], 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is in a record, the envelope is JSON with every key, within its limit, and what it carries of the
    /// value is the start of the value.
    #[test]
    fn an_envelope_is_always_json_within_its_limit(
        error in "\\PC{0,3000}|[\\x00-\\x1f]{0,3000}",
        ids in ("[\\x00-\\x7f]{0,400}", "\\PC{0,400}"),
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..40_000)),
        headers in prop::collection::vec(
            ("\\PC{0,300}|[\\x00-\\x1f]{0,300}", prop::option::of(prop::collection::vec(any::<u8>(), 0..3000))), 0..40),
        value in prop::collection::vec(any::<u8>(), 0..60_000),
        withheld in 0u64..1000,
        timestamp in prop::option::of(any::<i64>()),
        now in any::<u64>(),
        limit in 0usize..200_000,
    ) {
        let mut letter = letter();
        letter.error = error;
        letter.thread_id = Some(ids.0);
        letter.tenant_id = Some(ids.1);
        letter.key = key.map(Into::into);
        letter.headers = headers.into_iter().map(|(name, value)| (name, value.map(Into::into))).collect();
        letter.value_bytes = value.len() as u64 + withheld;
        letter.value = value.into();
        letter.timestamp_ms = timestamp;
        let stream = stream();
        let bytes = envelope(&letter, Circumstances { now_unix_ms: now, ..circumstances(&stream, limit) });
        prop_assert!(bytes.len() <= limit.max(ENVELOPE_MIN_BYTES), "{} > {limit}", bytes.len());
        let json: Value = serde_json::from_slice(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(json.as_object().map(serde_json::Map::len), Some(23));
        let carried = STANDARD.decode(json["original_payload_base64"].as_str().unwrap_or_default());
        let carried = carried.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(letter.value.starts_with(&carried));
        prop_assert_eq!(json["payload_truncation_note"].is_null(), carried.len() as u64 == letter.value_bytes);
    }
}
