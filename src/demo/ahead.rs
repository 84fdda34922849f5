//! How far a producer is ahead of a reader, per partition, in bytes: what the embedded broker must still hold.
//!
//! Pure. The embedded broker keeps 5 MiB per partition and drops the oldest silently, so whoever produces must wait
//! for whoever reads. Deliberately absent: how the reader's position is learnt.

use std::collections::VecDeque;

/// What a record takes in the broker besides its key and value: its own header, and at worst that of a batch of one.
pub const RECORD_OVERHEAD_BYTES: u64 = 96;

#[derive(Debug)]
struct Sent {
    bytes: u64,
    /// None until Kafka has said where it is.
    offset: Option<u64>,
}

/// One partition.
#[derive(Debug, Default)]
pub struct Ahead {
    /// In the order of sending, which is that of offsets. As every record counts `RECORD_OVERHEAD_BYTES`, the byte
    /// limit bounds this too.
    sent: VecDeque<Sent>,
    /// Of `sent`, this many have been answered.
    answered: usize,
    /// Invariant: the sum over `sent`.
    bytes: u64,
}

impl Ahead {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// May a record of this size be sent? One that alone is larger than the limit may when nothing else is ahead.
    pub fn has_room(&self, record_bytes: u64, limit: u64) -> bool {
        self.bytes == 0 || self.bytes + record_bytes + RECORD_OVERHEAD_BYTES <= limit
    }

    pub fn sent(&mut self, record_bytes: u64) {
        let bytes = record_bytes + RECORD_OVERHEAD_BYTES;
        self.bytes += bytes;
        self.sent.push_back(Sent { bytes, offset: None });
    }

    /// Kafka has answered the oldest unanswered record: where it is, or None if it is nowhere.
    pub fn answered(&mut self, offset: Option<u64>) {
        let Some(record) = self.sent.get_mut(self.answered) else { return };
        // A record that is nowhere is behind every reader.
        record.offset = Some(offset.unwrap_or(0));
        self.answered += 1;
    }

    /// The reader has everything below `next`.
    pub fn read_to(&mut self, next: u64) {
        while let Some(Sent { bytes, offset: Some(offset) }) = self.sent.front() {
            if *offset >= next {
                break;
            }
            self.bytes -= bytes;
            self.answered -= 1;
            self.sent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_answered_and_read_is_no_longer_ahead() {
        let mut ahead = Ahead::default();
        for _ in 0..3 {
            ahead.sent(100);
        }
        let each = 100 + RECORD_OVERHEAD_BYTES;
        assert_eq!(ahead.bytes(), 3 * each);
        ahead.read_to(1_000);
        assert_eq!(ahead.bytes(), 3 * each, "where they are is not known yet");
        ahead.answered(Some(40));
        ahead.answered(Some(41));
        ahead.read_to(40);
        assert_eq!(ahead.bytes(), 3 * each, "40 is the next to be read");
        ahead.read_to(41);
        assert_eq!(ahead.bytes(), 2 * each);
        ahead.read_to(1_000);
        assert_eq!(ahead.bytes(), each);
        ahead.answered(Some(42));
        ahead.read_to(43);
        assert_eq!(ahead.bytes(), 0);
        ahead.answered(Some(43));
        assert_eq!(ahead.bytes(), 0, "an answer to nothing changes nothing");
    }

    #[test]
    fn a_record_that_kafka_refused_does_not_stay_ahead_for_ever() {
        let mut ahead = Ahead::default();
        ahead.sent(1);
        ahead.sent(1);
        ahead.answered(None);
        ahead.answered(Some(7));
        ahead.read_to(7);
        assert_eq!(ahead.bytes(), 1 + RECORD_OVERHEAD_BYTES);
    }

    #[test]
    fn there_is_room_up_to_the_limit_and_always_for_one() {
        let mut ahead = Ahead::default();
        assert!(ahead.has_room(10_000, 1_000));
        ahead.sent(300);
        let left = 1_000 - ahead.bytes() - RECORD_OVERHEAD_BYTES;
        assert!(ahead.has_room(left, 1_000));
        assert!(!ahead.has_room(left + 1, 1_000));
    }
}
