//! The value of a record in the dead-letter topic: JSON that says what was wrong with which record, and carries
//! enough of it to re-drive it. The keys are the predecessor's, and after them where the record came from.
//!
//! Two differences from the predecessor, on purpose: `first_bytes_hex` and `last_bytes_hex` are plain hexadecimal
//! (they were a debug print of a list), and the last bytes are there for a short value too.
//!
//! Deliberately absent: the Kafka headers (`headers`), sending, clocks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::letter::DeadLetter;
use super::text::{cut, hex};
use crate::words::StreamIdentity;

/// Version of this envelope; grows when a key changes its meaning.
pub const ENVELOPE_VERSION: u32 = 1;
/// Below the broker's default `message.max.bytes` (1,048,588), with room for the record's headers and framing.
pub const ENVELOPE_MAX_BYTES: usize = 900 * 1024;
/// A smaller limit than this is taken as this: everything but key, headers and value always fits.
pub const ENVELOPE_MIN_BYTES: usize = 32 * 1024;

/// Longest error text kept. JSON may write one byte as six, which the smallest envelope still has room for.
const ERROR_MAX: usize = 1024;
/// Longest thread and tenant kept.
const ID_MAX: usize = 256;
/// Kafka's own limit is 249.
const TOPIC_MAX: usize = 256;
const KEY_MAX: usize = 16 * 1024;
const HEADER_NAME_MAX: usize = 256;
const HEADERS_MAX: usize = 256;
const EDGE_BYTES: usize = 16;

/// What an envelope needs to know besides the letter.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    pub stream: &'a StreamIdentity,
    /// When the letter was taken up, ms since the epoch. The same for every attempt to send it.
    pub now_unix_ms: u64,
    /// Records that this process had consumed by then, over all partitions.
    pub message_count: u64,
    /// The envelope has at most this many bytes; see [`ENVELOPE_MIN_BYTES`].
    pub limit: usize,
}

#[derive(Serialize)]
struct Envelope<'a> {
    trace_id: String,
    timestamp: String,
    error: &'a str,
    error_type: &'static str,
    payload_sha256: String,
    original_payload_base64: Option<String>,
    payload_truncation_note: Option<String>,
    message_size: u64,
    first_bytes_hex: String,
    last_bytes_hex: String,
    kafka_partition: u32,
    kafka_offset: u64,
    message_count: u64,
    thread_id: Option<&'a str>,
    tenant_id: Option<&'a str>,

    version: u32,
    stream: String,
    source_topic: &'a str,
    source_key: Option<String>,
    source_key_bytes: u64,
    source_headers: Vec<SourceHeader<'a>>,
    source_headers_omitted: u64,
    source_timestamp_ms: Option<i64>,
}

#[derive(Serialize)]
struct SourceHeader<'a> {
    name: &'a str,
    /// Base64; null where the header has no value.
    value: Option<String>,
}

/// The envelope of `letter`, never longer than the limit: the value is cut first, then headers and the key.
pub fn envelope(letter: &DeadLetter, circumstances: Circumstances<'_>) -> Vec<u8> {
    let limit = circumstances.limit.max(ENVELOPE_MIN_BYTES);
    let mut envelope = without_source_bytes(letter, circumstances);
    // Room is counted after each part in bytes of JSON; what the rest would need at its longest is kept free.
    let mut room = limit.saturating_sub(json(&envelope).len() + 256);

    if let Some(key) = letter.key.as_deref() {
        let kept = &key[..key.len().min(KEY_MAX).min(base64_room(room / 4))];
        room -= base64_len(kept.len());
        envelope.source_key = Some(STANDARD.encode(kept));
    }
    let headers_room = room / 2;
    let mut used = 0;
    for (name, value) in letter.headers.iter().take(HEADERS_MAX) {
        let name = cut(name, HEADER_NAME_MAX);
        let cost = name.len() * 6 + value.as_deref().map_or(0, |value| base64_len(value.len())) + 32;
        if used + cost > headers_room {
            break;
        }
        used += cost;
        envelope
            .source_headers
            .push(SourceHeader { name, value: value.as_deref().map(|value| STANDARD.encode(value)) });
    }
    room -= used;
    envelope.source_headers_omitted =
        (letter.headers.len() - envelope.source_headers.len()).saturating_add(letter.headers_left_out) as u64;

    let kept = letter.value.len().min(base64_room(room));
    envelope.original_payload_base64 =
        (kept > 0 || letter.value_bytes == 0).then(|| STANDARD.encode(&letter.value[..kept]));
    envelope.payload_truncation_note =
        (kept as u64 != letter.value_bytes).then(|| format!("first {kept} of {} bytes", letter.value_bytes));
    json(&envelope)
}

fn without_source_bytes<'a>(letter: &'a DeadLetter, circumstances: Circumstances<'a>) -> Envelope<'a> {
    Envelope {
        trace_id: circumstances.stream.dead_letter_id(letter.partition, letter.offset).to_string(),
        timestamp: rfc3339(circumstances.now_unix_ms),
        error: cut(&letter.error, ERROR_MAX),
        error_type: letter.reason.label(),
        payload_sha256: hex(&letter.value_sha256),
        original_payload_base64: None,
        payload_truncation_note: None,
        message_size: letter.value_bytes,
        first_bytes_hex: hex(&letter.value[..letter.value.len().min(EDGE_BYTES)]),
        last_bytes_hex: hex(&letter.value_tail[..letter.value_tail.len().min(EDGE_BYTES)]),
        kafka_partition: letter.partition.0,
        kafka_offset: letter.offset.0,
        message_count: circumstances.message_count,
        thread_id: letter.thread_id.as_deref().map(|id| cut(id, ID_MAX)),
        tenant_id: letter.tenant_id.as_deref().map(|id| cut(id, ID_MAX)),
        version: ENVELOPE_VERSION,
        stream: circumstances.stream.name(),
        source_topic: cut(&circumstances.stream.topic, TOPIC_MAX),
        source_key: None,
        source_key_bytes: letter.key.as_deref().map_or(0, <[u8]>::len) as u64,
        source_headers: Vec::new(),
        source_headers_omitted: 0,
        source_timestamp_ms: letter.timestamp_ms,
    }
}

fn json(envelope: &Envelope<'_>) -> Vec<u8> {
    // Strings and integers only: there is nothing that serialisation into memory could refuse.
    serde_json::to_vec(envelope).unwrap_or_default()
}

/// The year 9999 is the last that RFC 3339 can write.
fn rfc3339(unix_ms: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
}

/// How long `bytes` bytes are in base64.
fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// How many bytes fit in base64 of at most `text` characters.
fn base64_room(text: usize) -> usize {
    text / 4 * 3
}

#[cfg(test)]
pub(super) mod tests;
