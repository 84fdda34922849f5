//! An item as one JSON object, without line breaks. The names of the predecessor's export come first, then ours. The
//! way back is `source::thaw`.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::tame;
use crate::cli::source::{Item, Seen};
use crate::wire::json::{data_json, event_type_name};
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{DashStreamMessage, Header};
use crate::wire::scan::Kind;

/// Appends the object. False: there is nothing to be shown of this item.
pub fn item(item: &Item, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    match item {
        Item::Event(seen) => event(seen, out),
        Item::Bad(bad) => {
            out.extend_from_slice(b"{\"kind\":\"bad\"");
            put(out, format_args!(",\"partition\":{},\"offset\":{}", bad.partition, bad.offset));
            if let Some(timestamp_ms) = bad.timestamp_ms {
                put(out, format_args!(",\"timestamp_ms\":{timestamp_ms}"));
            }
            text(out, "reason", &bad.reason);
            text(out, "detail", &bad.detail);
            out.push(b'}');
        }
        Item::Gap { partition, from, to, reason } => {
            out.extend_from_slice(b"{\"kind\":\"gap\"");
            put(out, format_args!(",\"partition\":{partition},\"from\":{from},\"to\":{to}"));
            text(out, "reason", reason);
            out.push(b'}');
        }
        Item::Missing { tenant, thread, from, to } => {
            out.extend_from_slice(b"{\"kind\":\"missing\"");
            text(out, "tenant_id", tenant);
            text(out, "thread_id", thread);
            put(out, format_args!(",\"from\":{from},\"to\":{to}}}"));
        }
        Item::Duplicate { partition, offset, tenant, thread, sequence } => {
            out.extend_from_slice(b"{\"kind\":\"duplicate\"");
            text(out, "tenant_id", tenant);
            text(out, "thread_id", thread);
            put(out, format_args!(",\"sequence\":{sequence},\"partition\":{partition},\"offset\":{offset}}}"));
        }
        Item::StreamChanged => out.extend_from_slice(b"{\"kind\":\"stream_changed\"}"),
        Item::Live | Item::Connected | Item::Disconnected { .. } | Item::Idle | Item::End => return false,
    }
    // JSON that was embedded as it came may be pretty.
    tame::one_line(out, start);
    true
}

fn event(seen: &Seen, out: &mut Vec<u8>) {
    let absent = Header::default();
    let header = header(&seen.message).unwrap_or(&absent);
    out.extend_from_slice(b"{\"message_id\":\"");
    hex(&header.message_id, out);
    put(out, format_args!("\",\"sequence\":{},\"timestamp_micros\":{}", header.sequence, header.timestamp_us));
    text(out, "tenant_id", &header.tenant_id);
    text(out, "thread_id", &header.thread_id);
    if let Some(Payload::Event(event)) = &seen.message.message {
        text(out, "event_type", &event_type_name(event.event_type));
        text(out, "node_id", &event.node_id);
        put(out, format_args!(",\"duration_us\":{}", event.duration_us));
        text(out, "llm_request_id", &event.llm_request_id);
    }
    let payload = seen.message.message.as_ref();
    if let Some(payload) = payload {
        let name = if matches!(payload, Payload::Event(_)) { "attributes" } else { "data" };
        put(out, format_args!(",\"{name}\":"));
        data_json(payload, out);
    }
    text(out, "kind", kind(&seen.message).map_or("event", Kind::label));
    let (partition, offset, index) = (seen.partition, seen.offset, seen.index_in_record);
    put(out, format_args!(",\"partition\":{partition},\"offset\":{offset},\"index\":{index}"));
    if let Some(timestamp_ms) = seen.timestamp_ms {
        put(out, format_args!(",\"timestamp_ms\":{timestamp_ms}"));
    }
    match seen.key.as_deref().map(|key| std::str::from_utf8(key).map_err(|_| key)) {
        None => {}
        Some(Ok(key)) => text(out, "key", key),
        Some(Err(key)) => put(out, format_args!(",\"key\":{{\"base64\":\"{}\"}}", STANDARD.encode(key))),
    }
    put(out, format_args!(",\"schema_version\":{}}}", header.schema_version));
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    put(out, format_args!(",\"{name}\":"));
    quote(value, out);
}

/// A string in JSON's quotes.
pub(super) fn quote(value: &str, out: &mut Vec<u8>) {
    // Writing a string to memory does not fail.
    serde_json::to_writer(out, value).ok();
}

fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).ok();
}

pub(super) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xF] {
            out.push(b"0123456789abcdef".get(digit as usize).copied().unwrap_or(b'0'));
        }
    }
}

/// The header that every kind of message has.
pub fn header(message: &DashStreamMessage) -> Option<&Header> {
    match message.message.as_ref()? {
        Payload::Event(message) => message.header.as_ref(),
        Payload::StateDiff(message) => message.header.as_ref(),
        Payload::TokenChunk(message) => message.header.as_ref(),
        Payload::ToolExecution(message) => message.header.as_ref(),
        Payload::Checkpoint(message) => message.header.as_ref(),
        Payload::Metrics(message) => message.header.as_ref(),
        Payload::Error(message) => message.header.as_ref(),
        Payload::EventBatch(message) => message.header.as_ref(),
        Payload::ExecutionTrace(message) => message.header.as_ref(),
    }
}

/// `None` for a message without content.
pub fn kind(message: &DashStreamMessage) -> Option<Kind> {
    Some(match message.message.as_ref()? {
        Payload::Event(_) => Kind::Event,
        Payload::StateDiff(_) => Kind::StateDiff,
        Payload::TokenChunk(_) => Kind::TokenChunk,
        Payload::ToolExecution(_) => Kind::ToolExecution,
        Payload::Checkpoint(_) => Kind::Checkpoint,
        Payload::Metrics(_) => Kind::Metrics,
        Payload::Error(_) => Kind::Error,
        Payload::EventBatch(_) => Kind::EventBatch,
        Payload::ExecutionTrace(_) => Kind::ExecutionTrace,
    })
}
