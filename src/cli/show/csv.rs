//! An item as a line of CSV (RFC 4180, lines end in a line feed): the predecessor's columns, then `kind`, and `data` as
//! JSON. What is no event has only the last two.

use super::{line, tame};
use crate::cli::source::{Item, Seen};
use crate::wire::json::{data_json, event_type_name};
use crate::wire::proto::Header;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::scan::Kind;

pub const HEADER: &str = "message_id,sequence,timestamp_micros,tenant_id,thread_id,event_type,node_id,duration_us,\
                          llm_request_id,kind,data\n";

pub fn item(item: &Item, out: &mut Vec<u8>) {
    let Item::Event(seen) = item else {
        let mut data = Vec::new();
        if line::item(item, &mut data) {
            let kind = match item {
                Item::Bad(_) => "bad",
                Item::Gap { .. } => "gap",
                Item::Missing { .. } => "missing",
                Item::StreamChanged => "stream_changed",
                _ => "duplicate",
            };
            out.extend_from_slice(format!(",,,,,,,,,{kind},").as_bytes());
            field(&data, out);
            out.push(b'\n');
        }
        return;
    };
    event(seen, out);
}

fn event(seen: &Seen, out: &mut Vec<u8>) {
    let absent = Header::default();
    let header = line::header(&seen.message).unwrap_or(&absent);
    line::hex(&header.message_id, out);
    out.extend_from_slice(format!(",{},{},", header.sequence, header.timestamp_us).as_bytes());
    field(header.tenant_id.as_bytes(), out);
    out.push(b',');
    field(header.thread_id.as_bytes(), out);
    out.push(b',');
    match &seen.message.message {
        Some(Payload::Event(event)) => {
            field(event_type_name(event.event_type).as_bytes(), out);
            out.push(b',');
            field(event.node_id.as_bytes(), out);
            out.extend_from_slice(format!(",{},", event.duration_us).as_bytes());
            field(event.llm_request_id.as_bytes(), out);
        }
        _ => out.extend_from_slice(b",,,"),
    }
    out.push(b',');
    out.extend_from_slice(line::kind(&seen.message).map_or("event", Kind::label).as_bytes());
    out.push(b',');
    let mut data = Vec::new();
    if let Some(payload) = &seen.message.message {
        data_json(payload, &mut data);
    }
    // Embedded JSON may be pretty; one event is one line.
    tame::one_line(&mut data, 0);
    field(&data, out);
    out.push(b'\n');
}

/// Quoted where it has to be.
pub(crate) fn field(text: &[u8], out: &mut Vec<u8>) {
    if !text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for &byte in text {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}
