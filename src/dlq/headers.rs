//! The Kafka headers of a record in the dead-letter topic: our own `dashstream.dlq.*`, the names of Kafka Connect,
//! which existing viewers know, and the trace context of the record that failed.
//!
//! Deliberately absent: every other header of that record. They are in the envelope; copied here they would grow
//! with each trip through a dead-letter topic.

use super::envelope::ENVELOPE_VERSION;
use super::letter::DeadLetter;
use super::text::{cut, plain};
use crate::words::StreamIdentity;

/// Longest error text in a header.
const MESSAGE_MAX: usize = 1024;
/// Kafka's own limit is 249.
const TOPIC_MAX: usize = 256;
/// W3C allows 55 for `traceparent` and 512 for `tracestate`.
const TRACE_MAX: usize = 512;

/// Name and value, in the order in which they are written.
pub fn headers(letter: &DeadLetter, stream: &StreamIdentity) -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let topic = cut(&stream.topic, TOPIC_MAX);
    let error = plain(&letter.error, MESSAGE_MAX);
    let partition = letter.partition.to_string();
    let offset = letter.offset.to_string();
    let id = stream.dead_letter_id(letter.partition, letter.offset).to_string();
    let mut headers = vec![
        ("dashstream.dlq.id", text(&id)),
        ("dashstream.dlq.version", text(&ENVELOPE_VERSION.to_string())),
        ("dashstream.dlq.stream", text(&stream.name())),
        ("dashstream.dlq.reason", text(letter.reason.label())),
        ("dashstream.dlq.error", text(&error)),
        ("dashstream.dlq.source.topic", text(topic)),
        ("dashstream.dlq.source.partition", text(&partition)),
        ("dashstream.dlq.source.offset", text(&offset)),
    ];
    if let Some(timestamp) = letter.timestamp_ms {
        headers.push(("dashstream.dlq.source.timestamp", text(&timestamp.to_string())));
    }
    headers.extend([
        ("__connect.errors.topic", text(topic)),
        ("__connect.errors.partition", text(&partition)),
        ("__connect.errors.offset", text(&offset)),
        ("__connect.errors.stage", text("VALUE_CONVERTER")),
        ("__connect.errors.exception.class.name", text(&format!("dashstream.{:?}", letter.reason))),
        ("__connect.errors.exception.message", text(&error)),
    ]);
    for name in ["traceparent", "tracestate"] {
        let found = letter.headers.iter().find(|(header, _)| header == name);
        if let Some((_, Some(value))) = found
            && value.len() <= TRACE_MAX
        {
            headers.push((name, value.to_vec()));
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::super::envelope::tests::{letter, stream};
    use super::*;

    fn check(change: impl FnOnce(&mut DeadLetter), expected: &[(&str, &str)]) {
        let mut letter = letter();
        change(&mut letter);
        let headers: Vec<(&str, String)> = headers(&letter, &stream())
            .into_iter()
            .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
            .collect();
        for (name, value) in expected {
            let found: Vec<&str> = headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
            let wanted: &[&str] = if value.is_empty() { &[] } else { &[value] };
            assert_eq!(found, wanted, "{name}");
        }
    }

    #[test]
    fn our_names_and_those_of_connect_say_the_same() {
        check(
            |_| {},
            &[
                ("dashstream.dlq.reason", "invalid_protobuf"),
                ("dashstream.dlq.source.topic", "dashstream-quality"),
                ("dashstream.dlq.source.partition", "3"),
                ("dashstream.dlq.source.offset", "42"),
                ("dashstream.dlq.source.timestamp", "1700000000123"),
                ("dashstream.dlq.version", "1"),
                ("__connect.errors.topic", "dashstream-quality"),
                ("__connect.errors.partition", "3"),
                ("__connect.errors.offset", "42"),
                ("__connect.errors.stage", "VALUE_CONVERTER"),
                ("__connect.errors.exception.class.name", "dashstream.InvalidProtobuf"),
                ("__connect.errors.exception.message", "field 1: wire type 7"),
                ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                ("tracestate", ""),
                ("x-note", ""),
            ],
        );
    }

    #[test]
    fn what_came_from_outside_is_bounded_and_clean() {
        check(
            |letter| {
                letter.error = format!("a\nb{}", "é".repeat(2000));
                letter.timestamp_ms = None;
                letter.headers = vec![("traceparent".to_owned(), Some(vec![b'x'; 513].into()))];
            },
            &[
                ("dashstream.dlq.error", &format!("a b{}", "é".repeat(510))),
                ("dashstream.dlq.source.timestamp", ""),
                ("traceparent", ""),
            ],
        );
    }
}
