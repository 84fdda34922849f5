//! What `show::line` writes is read back as it was, for every kind of message; what is no export is refused.

use super::*;
use crate::cli::show::line;
use crate::wire::proto::diff_operation::{OpType, ValueEncoding};
use crate::wire::scan::typed_message;
use proptest::prelude::*;

fn seen(message: DashStreamMessage) -> Seen {
    Seen {
        partition: PartitionId(3),
        offset: Offset(u64::MAX),
        timestamp_ms: Some(-5),
        key: Some(vec![0xFF, 0]),
        index_in_record: 7,
        message,
    }
}

fn written(seen: &Seen) -> String {
    let mut out = Vec::new();
    assert!(line::item(&Item::Event(seen.clone()), &mut out));
    String::from_utf8(out).expect("UTF-8")
}

/// What an export does not keep, as it is read back.
fn without_what_is_lost(mut message: DashStreamMessage) -> DashStreamMessage {
    fn header(header: &mut Option<Header>, message_type: MessageType) {
        let header = header.get_or_insert_default();
        header.r#type = message_type as i32;
        header.parent_id.clear();
        header.compression = 0;
    }
    match &mut message.message {
        None | Some(Payload::EventBatch(_)) => {}
        Some(Payload::Event(message)) => header(&mut message.header, MessageType::Event),
        Some(Payload::StateDiff(message)) => header(&mut message.header, MessageType::StateDiff),
        Some(Payload::TokenChunk(message)) => header(&mut message.header, MessageType::TokenChunk),
        Some(Payload::ToolExecution(message)) => {
            header(&mut message.header, MessageType::ToolExecution);
            if let Some(details) = &mut message.error_details {
                details.header = None;
            }
        }
        Some(Payload::Checkpoint(message)) => {
            header(&mut message.header, MessageType::Checkpoint);
            message.compression_info = None;
        }
        Some(Payload::Metrics(message)) => header(&mut message.header, MessageType::Metrics),
        Some(Payload::Error(message)) => header(&mut message.header, MessageType::Error),
        Some(Payload::ExecutionTrace(message)) => header(&mut message.header, MessageType::ExecutionTrace),
    }
    message
}

fn check(message: Payload) {
    let before = seen(DashStreamMessage { message: Some(message) });
    let text = written(&before);
    assert!(!text.contains('\n'), "{text}");
    let after = match thaw(text.as_bytes()) {
        Ok(Thawed::Event(after)) => after,
        other => panic!("{other:?}: {text}"),
    };
    let expected = Seen { message: without_what_is_lost(before.message), ..before };
    assert_eq!(after, expected, "{text}");
}

#[test]
fn bytes_that_are_json_keep_their_text_and_others_their_bytes() {
    let operation = |value: &[u8], encoding: ValueEncoding| proto::DiffOperation {
        op: OpType::Replace as i32,
        path: "/a".to_owned(),
        value: value.to_vec(),
        from: String::new(),
        encoding: encoding as i32,
    };
    check(Payload::StateDiff(proto::StateDiff {
        header: None,
        base_checkpoint_id: vec![1, 2],
        operations: vec![
            operation(b"{\"b\":1.0,\"a\":12345678901234567890123}", ValueEncoding::Json),
            operation(b"not json", ValueEncoding::Json),
            operation(b"{\"x\":1}", ValueEncoding::Raw),
            operation(b"", ValueEncoding::Json),
        ],
        state_hash: vec![9; 32],
        full_state: b"[1, 2]".to_vec(),
    }));
    let state = zstd::bulk::compress(&vec![b'7'; 400_000], 3).expect("compressed");
    check(Payload::Checkpoint(proto::Checkpoint { state, ..proto::Checkpoint::default() }));
}

#[test]
fn json_that_was_pretty_comes_back_on_one_line() {
    let state = b"{\n  \"a\": \"\\n\"\n}".to_vec();
    let message = Payload::Checkpoint(proto::Checkpoint { state, ..proto::Checkpoint::default() });
    let text = written(&seen(DashStreamMessage { message: Some(message) }));
    let Ok(Thawed::Event(after)) = thaw(text.as_bytes()) else { panic!("an event: {text}") };
    let Some(Payload::Checkpoint(after)) = after.message.message else { panic!("a checkpoint") };
    assert_eq!(String::from_utf8(after.state).expect("UTF-8"), "{   \"a\": \"\\n\" }");
}

#[test]
fn findings_and_foreign_objects_are_understood_or_refused() {
    let bad = "{\"kind\":\"bad\",\"partition\":1,\"offset\":2,\"reason\":\"null\",\"detail\":\"d\"}";
    assert!(matches!(thaw(bad.as_bytes()), Ok(Thawed::Bad(Bad { offset: Offset(2), .. }))));
    let gap = "{\"kind\":\"gap\",\"partition\":1,\"from\":2,\"to\":5,\"reason\":\"retention\"}";
    assert!(matches!(thaw(gap.as_bytes()), Ok(Thawed::Gap(Item::Gap { to: Offset(5), .. }))));
    assert!(matches!(thaw(b"{\"kind\":\"duplicate\"}"), Ok(Thawed::Duplicate)));
    let lost = Item::Missing { tenant: "t".to_owned(), thread: "r".to_owned(), from: 3, to: 5 };
    let mut text = Vec::new();
    assert!(line::item(&lost, &mut text));
    assert!(matches!(thaw(&text), Ok(Thawed::Missing(item)) if item == lost));
    // As the predecessor wrote it.
    let old = "{\"message_id\":\"00ff\",\"sequence\":3,\"timestamp_micros\":5,\"tenant_id\":\"t\",\"thread_id\":\"r\",\
               \"event_type\":\"EVENT_TYPE_NODE_START\",\"node_id\":\"n\",\"duration_us\":0,\"llm_request_id\":\"\",\
               \"attributes\":{\"x\":1,\"y\":[1.5,\"z\"]}}";
    let Ok(Thawed::Event(old)) = thaw(old.as_bytes()) else { panic!("an event") };
    let Some(Payload::Event(event)) = old.message.message else { panic!("an event") };
    assert_eq!((event.event_type, event.attributes.len()), (EventType::NodeStart as i32, 2));
    for text in [
        "{\"kind\":\"event_batch\"}",
        "{\"message_id\":\"0\"}",
        "{\"message_id\":\"zz\"}",
        "{\"offset\":-1}",
        "{\"event_type\":\"COFFEE\"}",
        "{\"kind\":\"token_chunk\",\"data\":7}",
        "{\"sequence\":\"many\"}",
        "{",
    ] {
        assert!(thaw(text.as_bytes()).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn every_kind_goes_both_ways(message in typed_message()) {
        let message = made_exact(message);
        match &message.message {
            None | Some(Payload::EventBatch(_)) => {}
            Some(payload) => check(payload.clone()),
        }
    }
}

/// Bytes that happen to be JSON come back without space around them and with line breaks as spaces, and an operation
/// without a value forgets how it would have been encoded: neither means anything.
fn made_exact(mut message: DashStreamMessage) -> DashStreamMessage {
    let json = |bytes: &mut Vec<u8>| {
        if serde_json::from_slice::<Value>(bytes).is_ok() {
            *bytes = bytes.trim_ascii().to_vec();
            bytes.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
            if bytes == b"null" {
                bytes.clear();
            }
        }
    };
    match &mut message.message {
        Some(Payload::StateDiff(diff)) => {
            json(&mut diff.full_state);
            for operation in &mut diff.operations {
                if operation.value.is_empty() {
                    operation.encoding = ValueEncoding::Json as i32;
                } else if operation.encoding == ValueEncoding::Json as i32 {
                    json(&mut operation.value);
                }
            }
        }
        Some(Payload::ToolExecution(tool)) => [&mut tool.arguments, &mut tool.result].into_iter().for_each(json),
        Some(Payload::Checkpoint(checkpoint)) => json(&mut checkpoint.state),
        Some(Payload::ExecutionTrace(trace)) => {
            trace.metadata.values_mut().for_each(json);
            trace.nodes_executed.iter_mut().for_each(|node| json(&mut node.input));
        }
        _ => {}
    }
    message
}

#[test]
fn what_is_refused_is_quoted_with_its_field() {
    let check = |object: &str, parts: &[&str]| {
        let error = thaw(object.as_bytes()).expect_err(object).to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "{part:?} is missing in: {error}"));
    };
    check("{\"thread_id\":\"t\",\"sequence\":-1}", &["sequence is -1", "range"]);
    check("{\"thread_id\":\"t\",\"sequence\":\"-1\"}", &["sequence is \"-1\"", "range"]);
    check("{\"thread_id\":\"t\",\"sequence\":true}", &["sequence", "true"]);
    check("{\"thread_id\":\"t\",\"duration_us\":1e99}", &["duration_us"]);
    check("{\"thread_id\":\"t\",\"event_type\":\"BOGUS\"}", &["event_type is \"BOGUS\"", "event type"]);
    check("{\"thread_id\":\"t\",\"message_id\":\"xyz\"}", &["message_id is \"xyz\"", "hex"]);
    check("{\"thread_id\":\"t\",\"key\":[7]}", &["key is [7]"]);
    let tool = "{\"kind\":\"tool_execution\",\"thread_id\":\"t\",\"data\":{\"stage\":\"NO\"}}";
    check(tool, &["stage is \"NO\"", "one of its words"]);
    let long = "z".repeat(5_000);
    let error = thaw(format!("{{\"event_type\":\"{long}\"}}").as_bytes()).expect_err("too long").to_string();
    assert!(error.len() < 150, "{error}");
}
