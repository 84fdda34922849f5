//! The envelope of an event that Kafka refused, as the predecessor's library writes it: JSON that says what was
//! refused and why, with the bytes that would have been the record's. Pure.
//!
//! The gateway's envelope (`dlq::envelope`) is about a record that has a place in Kafka; this one has none, and says so
//! with partition and offset -1. Deliberately absent: sending.

use std::collections::VecDeque;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::lock;
use super::options::Refused;
use super::outgoing::ID_BYTES_MAX;

/// Letters that wait, or are at librdkafka, at most.
pub(super) const LETTERS_MAX: usize = 1_000;
/// Their bytes, at most.
pub(super) const LETTERS_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a value in an envelope, before base64.
const VALUE_BYTES_MAX: usize = 512 * 1024;

/// A record for the dead-letter topic.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Letter {
    /// `trace_id`.
    pub(super) key: String,
    pub(super) value: Vec<u8>,
}

/// An envelope, at most: the value in base64, ids that may be escaped, and the rest.
pub(super) const LETTER_BYTES_MAX: usize = 1_000_000;

/// An envelope. Ids are bounded when events are accepted.
pub(super) fn letter(refused: &Refused<'_>, topic: &str, trace_id: String, now_us: i64) -> Letter {
    let Refused { tenant, thread, value, sequences, reason } = refused;
    debug_assert!(tenant.len() <= ID_BYTES_MAX && thread.len() <= ID_BYTES_MAX);
    let kept = &value[..value.len().min(VALUE_BYTES_MAX)];
    let mut envelope = json!({
        "original_payload_base64": STANDARD.encode(kept),
        "original_payload_size_bytes": value.len(),
        "original_payload_included_bytes": kept.len(),
        "original_payload_truncated": kept.len() < value.len(),
        "error": format!("sequence {} to {}: {reason}", sequences.0, sequences.1),
        "error_type": "kafka_send_error",
        "reason": reason.label(),
        "source_topic": topic,
        "source_partition": -1,
        "source_offset": -1,
        "sequence_first": sequences.0,
        "sequence_last": sequences.1,
        "timestamp": rfc3339(now_us),
        "consumer_id": format!("producer:{tenant}"),
        "thread_id": thread,
        "tenant_id": tenant,
        "trace_id": trace_id,
    });
    if kept.len() < value.len() {
        let digest = Sha256::digest(value);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        envelope["original_payload_sha256"] = hex.into();
    }
    let value = envelope.to_string().into_bytes();
    debug_assert!(value.len() <= LETTER_BYTES_MAX);
    Letter { key: trace_id, value }
}

/// Letters that wait for the producer's thread, and how many are at librdkafka. Both count for the bound, so that a
/// dead-letter topic that takes nothing does not fill the queue of the events.
#[derive(Default)]
pub(super) struct Letters {
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    waiting: VecDeque<Letter>,
    /// At librdkafka.
    flying: usize,
    /// Of both.
    bytes: u64,
}

impl Letters {
    /// False: there is no room, the letter is dropped.
    pub(super) fn put(&self, letter: Letter) -> bool {
        let mut desk = lock(&self.desk);
        let bytes = desk.bytes + letter.value.len() as u64;
        let fits = desk.waiting.len() + desk.flying < LETTERS_MAX && bytes <= LETTERS_BYTES_MAX;
        if fits {
            desk.bytes = bytes;
            desk.waiting.push_back(letter);
        }
        fits
    }

    /// The next one, which is at librdkafka from now on, until it is [`Self::landed`] or [`Self::put_back`].
    pub(super) fn take(&self) -> Option<Letter> {
        let mut desk = lock(&self.desk);
        let letter = desk.waiting.pop_front()?;
        desk.flying += 1;
        Some(letter)
    }

    /// librdkafka had no room for it.
    pub(super) fn put_back(&self, letter: Letter) {
        let mut desk = lock(&self.desk);
        desk.flying -= 1;
        desk.waiting.push_front(letter);
    }

    /// One with so many bytes is done with, in whatever way.
    pub(super) fn landed(&self, bytes: u64) {
        let mut desk = lock(&self.desk);
        desk.flying -= 1;
        desk.bytes -= bytes;
    }

    /// Those that nobody took yet are given up; their number.
    pub(super) fn give_up(&self) -> u64 {
        let mut desk = lock(&self.desk);
        let waiting = std::mem::take(&mut desk.waiting);
        desk.bytes -= waiting.iter().map(|letter| letter.value.len() as u64).sum::<u64>();
        waiting.len() as u64
    }

    /// Neither acknowledged nor given up.
    pub(super) fn pending(&self) -> u64 {
        let desk = lock(&self.desk);
        (desk.waiting.len() + desk.flying) as u64
    }
}

/// Of the Gregorian calendar (days to civil date by eras of 400 years), so that an application links no calendar for
/// the one timestamp that is text.
fn rfc3339(us: i64) -> String {
    let (seconds, micros) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days from the first of March of the year 0, so that a leap day is the last of its year.
    let from_march = days + 719_468;
    let (era, of_era) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::outcome::Reason;

    fn envelope(value: &[u8]) -> serde_json::Value {
        let refused = Refused { tenant: "acme", thread: "run-1", value, sequences: (4, 9), reason: Reason::TooLarge };
        let letter = letter(&refused, "events", "an-id".to_owned(), 1_700_000_000_123_456);
        assert_eq!(letter.key, "an-id");
        serde_json::from_slice(&letter.value).expect("JSON")
    }

    #[test]
    fn an_envelope_says_what_and_why() {
        assert_eq!(
            envelope(b"\0abc"),
            json!({
                "original_payload_base64": "AGFiYw==", "original_payload_size_bytes": 4,
                "original_payload_included_bytes": 4, "original_payload_truncated": false,
                "error": "sequence 4 to 9: the topic allows smaller records only; see max.message.bytes",
                "error_type": "kafka_send_error", "reason": "too_large", "source_topic": "events",
                "source_partition": -1, "source_offset": -1, "sequence_first": 4, "sequence_last": 9,
                "timestamp": "2023-11-14T22:13:20.123456Z", "consumer_id": "producer:acme", "thread_id": "run-1",
                "tenant_id": "acme", "trace_id": "an-id",
            })
        );
    }

    #[test]
    fn a_long_value_is_cut_and_its_digest_told() {
        let envelope = envelope(&vec![0; VALUE_BYTES_MAX + 1]);
        assert_eq!(envelope["original_payload_included_bytes"], VALUE_BYTES_MAX);
        assert_eq!(envelope["original_payload_truncated"], true);
        assert_eq!(
            envelope["original_payload_sha256"],
            "eda6e9fb7e8bed184a10de09683556f9fc1720ffc1af5fa73f4891c7dec70bca"
        );
    }

    #[test]
    fn letters_are_bounded_in_number_and_bytes() {
        let letters = Letters::default();
        let letter = |bytes: usize| Letter { key: String::new(), value: vec![0; bytes] };
        assert!((0..LETTERS_MAX).all(|_| letters.put(letter(1))));
        assert!(!letters.put(letter(1)));
        let one = letters.take().expect("one");
        assert!(!letters.put(letter(1)), "what is at librdkafka counts too");
        letters.put_back(one);
        assert_eq!(letters.pending(), LETTERS_MAX as u64);
        letters.take().expect("one");
        letters.landed(1);
        assert!(!letters.put(letter(LETTERS_BYTES_MAX as usize)));
        assert!(letters.put(letter(2)) && !letters.put(letter(1)));
        assert_eq!((letters.give_up(), letters.pending()), (LETTERS_MAX as u64, 0));
        assert!(letters.put(letter(LETTERS_BYTES_MAX as usize)), "all bytes were given back");
    }

    #[test]
    fn times_are_written_as_the_calendar_says() {
        let check = |us, expected: &str| assert_eq!(rfc3339(us), expected);
        check(0, "1970-01-01T00:00:00.000000Z");
        check(951_782_400_000_000, "2000-02-29T00:00:00.000000Z");
        check(1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z");
        check(4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z");
        check(-1, "1969-12-31T23:59:59.999999Z");
    }
}
