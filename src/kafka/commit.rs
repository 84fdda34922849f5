//! Which offsets are to be committed when: one commit in flight, never lower within a stream, and an unchanged one
//! again every hour, because Kafka forgets idle groups. Pure: time and watermarks come in.

use std::collections::BTreeMap;

use crate::words::{Offset, PartitionId};

/// Well below the week after which brokers forget a group without members.
const REPEAT_MS: u64 = 3_600_000;
/// librdkafka tells the end of every commit; should it ever not, commits must not stop for good.
const FORGOTTEN_MS: u64 = 120_000;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Invariant: never falls while the partition is tracked.
    confirmed: Option<Offset>,
    confirmed_at_ms: u64,
    /// Our own note stands beside it.
    noted: bool,
}

#[derive(Debug)]
struct InFlight {
    since_ms: u64,
    offsets: BTreeMap<PartitionId, Offset>,
}

/// The commits of one stream.
#[derive(Debug, Default)]
pub struct CommitBook {
    entries: BTreeMap<PartitionId, Entry>,
    in_flight: Option<InFlight>,
}

impl CommitBook {
    /// From now on this partition is committed, never below `floor`: what the group had already committed for this
    /// stream. `noted` says that our note stands beside it.
    pub fn track(&mut self, partition: PartitionId, floor: Option<Offset>, noted: bool, now_ms: u64) {
        let entry = Entry { confirmed: floor, confirmed_at_ms: now_ms, noted };
        self.entries.entry(partition).and_modify(|known| known.confirmed = known.confirmed.max(floor)).or_insert(entry);
    }

    pub fn forget(&mut self, partition: PartitionId) {
        self.entries.remove(&partition);
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// What to commit now, given where each partition may be committed; empty when nothing is due or a commit is on
    /// its way. What is given out counts as in flight.
    pub fn begin(
        &mut self,
        now_ms: u64,
        watermarks: impl IntoIterator<Item = (PartitionId, Offset)>,
    ) -> BTreeMap<PartitionId, Offset> {
        if self.in_flight.as_ref().is_some_and(|in_flight| now_ms.saturating_sub(in_flight.since_ms) < FORGOTTEN_MS) {
            return BTreeMap::new();
        }
        let entries = &self.entries;
        let due = |(partition, watermark): &(PartitionId, Offset)| {
            entries.get(partition).is_some_and(|entry| match entry.confirmed {
                None => true,
                Some(confirmed) if *watermark > confirmed => true,
                Some(confirmed) if *watermark == confirmed => {
                    !entry.noted || now_ms.saturating_sub(entry.confirmed_at_ms) >= REPEAT_MS
                }
                Some(_) => false,
            })
        };
        let offsets: BTreeMap<PartitionId, Offset> = watermarks.into_iter().filter(due).collect();
        self.in_flight = (!offsets.is_empty()).then(|| InFlight { since_ms: now_ms, offsets: offsets.clone() });
        offsets
    }

    /// The commit in flight ended; `confirmed` are the partitions that Kafka took. Gives back what was confirmed.
    pub fn finish(&mut self, now_ms: u64, confirmed: &[PartitionId]) -> Vec<(PartitionId, Offset)> {
        let Some(in_flight) = self.in_flight.take() else { return Vec::new() };
        let mut taken = Vec::with_capacity(confirmed.len());
        for partition in confirmed {
            let (Some(offset), Some(entry)) = (in_flight.offsets.get(partition), self.entries.get_mut(partition))
            else {
                continue;
            };
            *entry = Entry { confirmed: entry.confirmed.max(Some(*offset)), confirmed_at_ms: now_ms, noted: true };
            taken.push((*partition, *offset));
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: PartitionId = PartitionId(1);
    const TWO: PartitionId = PartitionId(2);

    fn book(floor: Option<u64>, noted: bool) -> CommitBook {
        let mut book = CommitBook::default();
        book.track(ONE, floor.map(Offset), noted, 0);
        book
    }

    fn begin(book: &mut CommitBook, now_ms: u64, watermark: u64) -> Option<u64> {
        book.begin(now_ms, [(ONE, Offset(watermark))]).get(&ONE).map(|offset| offset.0)
    }

    #[test]
    fn what_is_due() {
        for (floor, noted, now_ms, watermark, expected) in [
            (None, false, 0, 0, Some(0)),
            (None, false, 0, 7, Some(7)),
            (Some(7), true, 0, 8, Some(8)),
            // Unchanged: once to leave our note, then hourly.
            (Some(7), true, 0, 7, None),
            (Some(7), false, 0, 7, Some(7)),
            (Some(7), true, REPEAT_MS - 1, 7, None),
            (Some(7), true, REPEAT_MS, 7, Some(7)),
            // Never lower.
            (Some(7), true, 2 * REPEAT_MS, 6, None),
            (Some(7), false, 0, 6, None),
        ] {
            assert_eq!(begin(&mut book(floor, noted), now_ms, watermark), expected, "{floor:?} {noted} {watermark}");
        }
    }

    #[test]
    fn one_is_in_flight_at_a_time() {
        let mut book = book(None, false);
        assert_eq!(begin(&mut book, 0, 5), Some(5));
        assert_eq!(begin(&mut book, 1, 6), None);
        assert_eq!(book.finish(2, &[ONE]), [(ONE, Offset(5))]);
        assert_eq!(begin(&mut book, 3, 6), Some(6));
        // One that never ends is given up.
        assert_eq!(begin(&mut book, 3 + FORGOTTEN_MS, 7), Some(7));
    }

    #[test]
    fn what_was_not_confirmed_is_tried_again() {
        let mut book = book(Some(1), true);
        assert_eq!(begin(&mut book, 0, 5), Some(5));
        assert_eq!(book.finish(1, &[]), []);
        assert_eq!(begin(&mut book, 2, 5), Some(5));
        assert_eq!(book.finish(3, &[ONE, TWO]), [(ONE, Offset(5))]);
        assert_eq!(begin(&mut book, 4, 5), None);
        assert!(!book.is_in_flight());
    }

    #[test]
    fn a_partition_that_is_tracked_again_keeps_its_floor() {
        let mut book = book(None, false);
        assert_eq!(begin(&mut book, 0, 50), Some(50));
        book.finish(1, &[ONE]);
        book.track(ONE, Some(Offset(40)), true, 2);
        assert_eq!(begin(&mut book, 3, 45), None);
        book.track(ONE, Some(Offset(60)), true, 4);
        assert_eq!(begin(&mut book, 5, 55), None);
        book.forget(ONE);
        assert_eq!(begin(&mut book, 6, 99), None);
        book.track(ONE, None, false, 7);
        assert_eq!(begin(&mut book, 8, 3), Some(3));
    }
}
