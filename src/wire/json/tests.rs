//! Every kind in its documented form, and valid JSON within the limit whatever comes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wire::proto::attribute_value::Value as Attribute;
use crate::wire::proto::*;
use crate::wire::scan::typed_message;

const ROOMY: usize = 1 << 20;

fn rendered(body: &[u8], limit_bytes: usize) -> (Value, bool, usize) {
    let mut out = b"before".to_vec();
    let truncated = events_json(body, limit_bytes, &mut out);
    let text = out.strip_prefix(b"before").expect("what was there before is kept");
    let value = serde_json::from_slice(text)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text[..text.len().min(2_000)])));
    (value, truncated, text.len())
}

fn header() -> Option<Header> {
    Some(Header {
        message_id: vec![0x0A, 0xFF],
        timestamp_us: 1_700_000_000_000_001,
        tenant_id: "default".to_owned(),
        thread_id: "run-1".to_owned(),
        sequence: u64::MAX,
        r#type: 1,
        parent_id: Vec::new(),
        compression: 0,
        schema_version: 1,
    })
}

/// The only event of `payload` is `expected` besides its header.
fn check(payload: Payload, kind: &str, expected: Value) {
    let (value, truncated, _) = rendered(&DashStreamMessage { message: Some(payload) }.encode_to_vec(), ROOMY);
    let mut whole = json!({
        "kind": kind, "message_id": "0aff", "timestamp_us": "1700000000000001", "tenant_id": "default",
        "thread_id": "run-1", "sequence": "18446744073709551615", "schema_version": 1,
    });
    for (key, value) in expected.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    assert_eq!(value, json!([whole]));
    assert!(!truncated);
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn an_event_with_every_kind_of_attribute() {
    let value = |value| AttributeValue { value: Some(value) };
    let nested = AttributeArray {
        values: vec![
            value(Attribute::IntValue(1)),
            value(Attribute::MapValue(AttributeMap {
                values: [("k".to_owned(), AttributeValue { value: None })].into(),
            })),
        ],
    };
    let attributes = [
        ("text", Attribute::StringValue("a\"b\\c\n\u{0}\u{1f}é😀".to_owned())),
        ("small", Attribute::IntValue(-(1 << 53))),
        ("large", Attribute::IntValue((1 << 53) + 1)),
        ("lowest", Attribute::IntValue(i64::MIN)),
        ("float", Attribute::FloatValue(0.1)),
        ("tiny", Attribute::FloatValue(5e-324)),
        ("huge", Attribute::FloatValue(f64::MAX)),
        ("nan", Attribute::FloatValue(f64::NAN)),
        ("inf", Attribute::FloatValue(f64::NEG_INFINITY)),
        ("bool", Attribute::BoolValue(true)),
        ("bytes", Attribute::BytesValue(vec![0, 1, 2])),
        ("nested", Attribute::ArrayValue(nested)),
    ];
    let attributes = attributes.into_iter().map(|(name, attribute)| (name.to_owned(), value(attribute))).collect();
    let event = Event {
        header: header(),
        event_type: EventType::NodeStart as i32,
        node_id: "plan".to_owned(),
        attributes,
        duration_us: i64::MAX,
        llm_request_id: "r".to_owned(),
    };
    check(
        Payload::Event(event),
        "event",
        json!({
            "event_type": "NODE_START", "node_id": "plan", "duration_us": "9223372036854775807", "llm_request_id": "r",
            "attributes": {
                "text": "a\"b\\c\n\u{0}\u{1f}é😀", "small": -9007199254740992_i64, "large": "9007199254740993",
                "lowest": "-9223372036854775808", "float": 0.1, "tiny": 5e-324, "huge": f64::MAX, "nan": "NaN",
                "inf": "-Infinity", "bool": true, "bytes": {"base64": "AAEC"}, "nested": [1, {"k": null}],
            },
        }),
    );
}

#[test]
fn an_event_without_anything_still_has_every_field() {
    let body = DashStreamMessage { message: Some(Payload::Event(Event { event_type: 12345, ..Event::default() })) };
    let (value, _, _) = rendered(&body.encode_to_vec(), ROOMY);
    let expected = json!([{
        "kind": "event", "message_id": "", "timestamp_us": "0", "tenant_id": "", "thread_id": "", "sequence": "0",
        "schema_version": 0, "event_type": "UNKNOWN_12345", "node_id": "", "duration_us": "0", "llm_request_id": "",
        "attributes": {},
    }]);
    assert_eq!(value, expected);
}

#[test]
fn state_diffs_and_checkpoints_embed_json() {
    let operation = |op, value: &[u8], from: &str, encoding| DiffOperation {
        op,
        path: "/a/0".to_owned(),
        value: value.to_vec(),
        from: from.to_owned(),
        encoding,
    };
    let diff = StateDiff {
        header: header(),
        base_checkpoint_id: vec![1],
        operations: vec![
            operation(0, b"{\"x\": [1, 2]}", "", 0),
            operation(1, b"", "", 0),
            operation(3, b"", "/b", 0),
            operation(2, b"not json", "", 0),
            operation(9, b"\x01", "", 3),
        ],
        state_hash: vec![0xAB; 2],
        full_state: b" [true] ".to_vec(),
    };
    check(
        Payload::StateDiff(diff),
        "state_diff",
        json!({
            "base_checkpoint_id": "01", "state_hash": "abab", "full_state": [true],
            "operations": [
                {"op": "add", "path": "/a/0", "value": {"x": [1, 2]}},
                {"op": "remove", "path": "/a/0"},
                {"op": "move", "path": "/a/0", "from": "/b"},
                {"op": "replace", "path": "/a/0", "value": {"base64": "bm90IGpzb24="}},
                {"op": "unknown_9", "path": "/a/0", "value": {"base64": "AQ==", "encoding": "RAW"}},
            ],
        }),
    );

    let checkpoint = |state: Vec<u8>| {
        Payload::Checkpoint(Checkpoint {
            header: header(),
            checkpoint_id: vec![2],
            state,
            state_type: "serde_json::Value".to_owned(),
            checksum: vec![3],
            metadata: strings(&[("why", "end")]),
            ..Checkpoint::default()
        })
    };
    let expected = |state: Value| {
        json!({
            "checkpoint_id": "02", "state": state, "state_type": "serde_json::Value", "checksum": "03",
            "storage_uri": "", "metadata": {"why": "end"},
        })
    };
    let text = json!({"messages": vec!["hello"; 200]});
    let compressed = zstd::bulk::compress(text.to_string().as_bytes(), 3).expect("a frame");
    check(checkpoint(text.to_string().into_bytes()), "checkpoint", expected(text.clone()));
    check(checkpoint(compressed.clone()), "checkpoint", expected(text));
    check(checkpoint(Vec::new()), "checkpoint", expected(Value::Null));
    let cut = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &compressed[..9]);
    check(checkpoint(compressed[..9].to_vec()), "checkpoint", expected(json!({ "base64": cut })));

    // A state that inflates beyond what is shown.
    let bomb = zstd::bulk::compress(&vec![b' '; 10 << 20], 3).expect("a frame");
    let body = DashStreamMessage { message: Some(checkpoint(bomb)) }.encode_to_vec();
    let (value, truncated, _) = rendered(&body, ROOMY);
    assert!(truncated);
    assert_eq!((&value[0]["kind"], &value[0]["truncated"]), (&json!("checkpoint"), &json!(true)));
}

#[test]
fn tokens_tools_metrics_and_errors() {
    let chunk = TokenChunk {
        header: header(),
        request_id: "r".to_owned(),
        text: "Hel".to_owned(),
        token_ids: vec![1, u32::MAX],
        logprobs: vec![-0.5, f32::INFINITY],
        chunk_index: 4,
        is_final: true,
        finish_reason: 4,
        model: "m".to_owned(),
        stats: Some(TokenStats { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 }),
    };
    check(
        Payload::TokenChunk(chunk),
        "token_chunk",
        json!({
            "request_id": "r", "text": "Hel", "chunk_index": 4, "is_final": true, "finish_reason": "TOOL_CALLS",
            "model": "m", "stats": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            "token_ids": [1, u32::MAX], "logprobs": [-0.5, "Infinity"],
        }),
    );

    let error = Error {
        header: header(),
        error_code: "TIMEOUT".to_owned(),
        message: "too late".to_owned(),
        stack_trace: "a\tb".to_owned(),
        context: strings(&[("host", "h")]),
        severity: 4,
        exception_type: "E".to_owned(),
        suggestions: vec!["wait".to_owned()],
    };
    let error_fields = json!({
        "error_code": "TIMEOUT", "message": "too late", "stack_trace": "a\tb", "context": {"host": "h"},
        "severity": "ERROR", "exception_type": "E", "suggestions": ["wait"],
    });
    check(Payload::Error(error.clone()), "error", error_fields.clone());

    let tool = ToolExecution {
        header: header(),
        call_id: "c".to_owned(),
        tool_name: "search".to_owned(),
        stage: 3,
        arguments: b"{\"q\":\"\\u0001\"}".to_vec(),
        result: vec![0xFF],
        error: String::new(),
        error_details: Some(error),
        duration_us: -1,
        retry_count: 2,
    };
    check(
        Payload::ToolExecution(tool),
        "tool_execution",
        json!({
            "call_id": "c", "tool_name": "search", "stage": "COMPLETED", "arguments": {"q": "\u{1}"},
            "result": {"base64": "/w=="}, "error": "", "error_details": error_fields, "duration_us": "-1",
            "retry_count": 2,
        }),
    );

    let metric = |value, r#type| MetricValue { value: Some(value), unit: "ms".to_owned(), r#type };
    let values = [
        ("i", metric(metric_value::Value::IntValue(5), 1)),
        ("f", metric(metric_value::Value::FloatValue(0.5), 2)),
        ("none", MetricValue { value: None, unit: String::new(), r#type: 77 }),
    ];
    let metrics = Metrics {
        header: header(),
        scope: "quality".to_owned(),
        scope_id: "s".to_owned(),
        metrics: values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        tags: strings(&[("a", "b")]),
    };
    check(
        Payload::Metrics(metrics),
        "metrics",
        json!({
            "scope": "quality", "scope_id": "s", "tags": {"a": "b"},
            "metrics": {
                "i": {"value": 5, "unit": "ms", "type": "COUNTER"}, "f": {"value": 0.5, "unit": "ms", "type": "GAUGE"},
                "none": {"value": null, "unit": "", "type": "UNKNOWN_77"},
            },
        }),
    );
}

#[test]
fn execution_traces() {
    let trace = ExecutionTrace {
        header: header(),
        thread_id: "t".to_owned(),
        execution_id: "x".to_owned(),
        nodes_executed: vec![NodeExecutionRecord {
            node: "n".to_owned(),
            duration_ms: 1,
            succeeded: true,
            input: b"1".to_vec(),
            ..NodeExecutionRecord::default()
        }],
        total_duration_ms: 7,
        total_tokens: u64::MAX,
        errors: vec![ErrorRecord { message: "m".to_owned(), recovered: true, ..ErrorRecord::default() }],
        completed: true,
        started_at: "a".to_owned(),
        ended_at: "b".to_owned(),
        final_state: b"{}".to_vec(),
        metadata: [("k".to_owned(), b"[1]".to_vec())].into(),
    };
    check(
        Payload::ExecutionTrace(trace),
        "execution_trace",
        json!({
            "trace_thread_id": "t", "execution_id": "x", "total_duration_ms": "7",
            "total_tokens": "18446744073709551615", "completed": true, "started_at": "a", "ended_at": "b",
            "final_state": {}, "metadata": {"k": [1]},
            "nodes_executed": [{
                "node": "n", "duration_ms": "1", "prompt_tokens": "0", "completion_tokens": "0", "total_tokens": "0",
                "succeeded": true, "started_at": "", "ended_at": "", "input": 1, "output": null, "metadata": {},
            }],
            "errors": [{
                "node": "", "message": "m", "error_code": "", "timestamp": "", "recovered": true, "stack_trace": "",
            }],
        }),
    );
}

fn batch(events: usize, node_bytes: usize) -> Vec<u8> {
    let event = |index: usize| Event {
        header: Some(Header { sequence: index as u64, ..Header::default() }),
        node_id: "é".repeat(node_bytes / 2),
        ..Event::default()
    };
    let batch = EventBatch { header: header(), events: (0..events).map(event).collect() };
    DashStreamMessage { message: Some(Payload::EventBatch(batch)) }.encode_to_vec()
}

#[test]
fn a_batch_is_its_events_and_a_large_one_its_headers() {
    let (value, truncated, _) = rendered(&batch(3, 10), ROOMY);
    let sequences: Vec<_> = value.as_array().expect("an array").iter().map(|event| event["sequence"].clone()).collect();
    assert_eq!((json!(sequences), truncated), (json!(["0", "1", "2"]), false));

    // Too many bytes to decode; more events than are shown; long strings are cut on a character boundary.
    let body = batch(200, 4_000);
    assert!(body.len() > DECODED_BYTES_MAX);
    let (value, truncated, bytes) = rendered(&body, ROOMY);
    assert!(truncated && bytes < 64 * 1024, "{bytes}");
    assert_eq!(value.as_array().map(Vec::len), Some(TRUNCATED_EVENTS_MAX));
    assert_eq!((&value[5]["sequence"], &value[5]["truncated"]), (&json!("5"), &json!(true)));
    assert_eq!(value[5]["node_id"], json!("é".repeat(TRUNCATED_TEXT_BYTES / 2)));

    assert_eq!(rendered(&[], ROOMY).0, json!([]));
    assert_eq!(rendered(&[0xFF], ROOMY).0, json!([]), "not a message");
}

#[test]
fn every_limit_is_kept() {
    let body = batch(5, 20);
    let (_, _, whole) = rendered(&body, ROOMY);
    for limit in 0..whole + 2 {
        let (value, truncated, bytes) = rendered(&body, limit);
        assert!(bytes <= limit.max(2), "{bytes} for {limit}");
        assert_eq!(truncated, limit < whole);
        let events = value.as_array().expect("an array");
        assert!(events.iter().all(|event| event.get("truncated").is_some() == truncated));
    }
}

#[test]
fn as_deep_as_the_decoder_allows_is_still_readable_json() {
    let field = |number: u8, inside: &[u8]| {
        let mut out = vec![number << 3 | 2];
        let mut len = inside.len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend_from_slice(inside);
        out
    };
    let mut deepest = 0;
    for levels in 0..60 {
        let mut inside = Vec::new();
        for _ in 0..levels {
            inside = field(6, &field(1, &inside));
        }
        let body = field(1, &field(4, &field(2, &inside)));
        if DashStreamMessage::decode(body.as_slice()).is_ok() {
            deepest = levels;
            rendered(&body, ROOMY);
        }
    }
    assert!(deepest > 40, "{deepest}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn typed_messages_are_valid_json_with_their_headers(message in typed_message(), limit in 0_usize..3_000) {
        let body = message.encode_to_vec();
        let mut scanned = Scan::default();
        scan(&body, &mut scanned).expect("a message");
        let (value, truncated, _) = rendered(&body, ROOMY);
        prop_assert!(!truncated);
        let events = value.as_array().expect("an array");
        prop_assert_eq!(events.len(), scanned.events.len());
        for (event, meta) in events.iter().zip(&scanned.events) {
            prop_assert_eq!(event["kind"].as_str(), Some(meta.kind.label()));
            prop_assert_eq!(event["thread_id"].as_str(), Some(meta.thread.str_of(&body)));
            prop_assert_eq!(event["tenant_id"].as_str(), Some(meta.tenant.str_of(&body)));
            prop_assert_eq!(&event["sequence"], &json!(meta.sequence.to_string()));
            prop_assert_eq!(&event["timestamp_us"], &json!(meta.timestamp_us.to_string()));
        }
        let (_, _, bytes) = rendered(&body, limit);
        prop_assert!(bytes <= limit.max(2));
    }
}
