//! A record body as the JSON array of its events, for the protocol `dashstream.json` and the web page.
//!
//! Numbers of 64 bits in fixed fields are decimal strings, ids and hashes hex, enums their names without the prefix,
//! bytes that are JSON by convention are embedded as JSON. What is too large becomes headers with
//! `"truncated": true`. Only bodies that the scan accepted come here; nothing is judged any more.

mod embed;
mod payload;
mod writer;

use prost::Message;

use self::writer::Writer;
use super::proto::DashStreamMessage;
use super::proto::dash_stream_message::Message as Payload;
use super::scan::{EventMeta, Kind, Scan, scan};

/// Larger bodies are not decoded for JSON: a built message takes many times the room of its bytes.
pub const DECODED_BYTES_MAX: usize = 256 * 1024;
/// Headers shown of a truncated batch.
pub const TRUNCATED_EVENTS_MAX: usize = 64;
/// What is shown of each string in a truncated event.
const TRUNCATED_TEXT_BYTES: usize = 256;

/// Appends `[{event}, …]` to `out`, at most `limit_bytes` (but always at least `[]`), valid JSON whatever the body
/// holds. True if it was truncated: then each event, of at most [`TRUNCATED_EVENTS_MAX`], has only its header and
/// `"truncated": true`. A body without content, or none at all, is `[]`.
pub fn events_json(body: &[u8], limit_bytes: usize, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    if body.len() <= DECODED_BYTES_MAX {
        let Ok(message) = DashStreamMessage::decode(body) else {
            out.extend_from_slice(b"[]");
            return false;
        };
        let mut writer = Writer::new(out, limit_bytes.max(2));
        writer.array(|writer| match &message.message {
            None => {}
            Some(Payload::EventBatch(batch)) => {
                for event in &batch.events {
                    if !writer.is_over() {
                        payload::event(writer, event);
                    }
                }
            }
            Some(message) => payload::message(writer, message),
        });
        if !writer.is_over() {
            return false;
        }
        out.truncate(start);
    }
    headers_json(body, limit_bytes, out);
    true
}

/// Appends what a message says beyond its header as one JSON object, in full: of an event its attributes, of the
/// others their fields. Numbers of 64 bits are numbers here. Bytes that are JSON by convention are embedded as they are, line breaks included; a compressed
/// state that is too large to be opened on the way stays compressed, as `{"base64": …}`.
pub fn data_json(message: &Payload, out: &mut Vec<u8>) {
    payload::data(&mut Writer::new(out, usize::MAX), message);
}

/// The name of an event type without its prefix; `UNKNOWN_<n>` for one that this schema does not have.
pub fn event_type_name(number: i32) -> std::borrow::Cow<'static, str> {
    payload::event_type(number)
}

/// As many headers as fit.
fn headers_json(body: &[u8], limit_bytes: usize, out: &mut Vec<u8>) {
    let mut scanned = Scan::default();
    // A body that the scan refuses has no events; it does not come here.
    let events = scan(body, &mut scanned).map_or(&[][..], |()| scanned.events.as_slice());
    // One byte is kept for the closing bracket.
    let mut writer = Writer::new(out, limit_bytes.max(2) - 1);
    writer.literal("[");
    let mut comma = false;
    for meta in events.iter().take(TRUNCATED_EVENTS_MAX) {
        let before = writer.len();
        writer.rewind(before, comma);
        header_only(&mut writer, body, meta);
        if writer.is_over() {
            writer.rewind(before, comma);
            break;
        }
        comma = true;
    }
    out.push(b']');
}

fn header_only(writer: &mut Writer<'_>, body: &[u8], meta: &EventMeta) {
    writer.object(|writer| {
        let bytes = meta.message_id.of(body);
        let message_id = bytes.get(..TRUNCATED_TEXT_BYTES).unwrap_or(bytes);
        let header = payload::HeaderFields {
            message_id,
            timestamp_us: meta.timestamp_us,
            tenant_id: cut(meta.tenant.str_of(body)),
            thread_id: cut(meta.thread.str_of(body)),
            sequence: meta.sequence,
            schema_version: meta.schema_version,
        };
        payload::header(writer, meta.kind, &header);
        if meta.kind == Kind::Event {
            writer.key("event_type").string(&payload::event_type(meta.event_type));
            writer.key("node_id").string(cut(meta.node.str_of(body)));
        }
        writer.key("truncated").bool(true);
    });
}

/// The beginning of a text, cut on a character boundary.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TRUNCATED_TEXT_BYTES)).unwrap_or(text)
}

#[cfg(test)]
mod tests;
