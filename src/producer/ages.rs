//! How long records have been under way, without a look at each: counts of those that left in each sixteenth of the
//! delivery timeout. The time comes in.
//!
//! The timeout is ours and not librdkafka's (`message.timeout.ms`). When librdkafka lets one message time out it renumbers
//! all others under a new epoch, and sends those again whose answer was lost as if they were new: a duplicate that no
//! broker can recognise. So it is told to try for ever, and when something is overdue everything that is under way is
//! given up at once (`handle`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Parts of the timeout that are told apart.
const PARTS: u64 = 16;
/// Parts that are remembered: twice the timeout.
const SLOTS: u64 = 2 * PARTS;

pub(super) struct Ages {
    began: Instant,
    part_ns: u64,
    counts: [AtomicU64; SLOTS as usize],
}

/// When a record left, as far as it is told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Age(usize);

impl Ages {
    pub(super) fn new(timeout: Duration, began: Instant) -> Self {
        let part_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX) / PARTS;
        Self { began, part_ns: part_ns.max(1), counts: [const { AtomicU64::new(0) }; SLOTS as usize] }
    }

    pub(super) fn enter(&self, now: Instant) -> Age {
        let age = Age((self.part(now) % SLOTS) as usize);
        self.counts[age.0].fetch_add(1, Ordering::SeqCst);
        age
    }

    pub(super) fn leave(&self, age: Age, records: u64) {
        self.counts[age.0].fetch_sub(records, Ordering::SeqCst);
    }

    /// Something left longer ago than the timeout; said at the latest an eighth of the timeout after it is so.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        let part = self.part(now);
        (PARTS + 1..SLOTS).filter_map(|back| part.checked_sub(back)).any(|part| self.at(part) > 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        (0..SLOTS).all(|part| self.at(part) == 0)
    }

    fn at(&self, part: u64) -> u64 {
        self.counts[(part % SLOTS) as usize].load(Ordering::SeqCst)
    }

    fn part(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX) / self.part_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_timeout_is_overdue_and_nothing_else() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        for left in [0, 99, 100, 1_234, 98_765] {
            let ages = Ages::new(Duration::from_millis(1_600), began);
            assert!(ages.is_empty() && !ages.is_overdue(at(left)));
            let age = ages.enter(at(left));
            let young = ages.enter(at(left + 1_000));
            assert!(!ages.is_empty());
            assert!(!ages.is_overdue(at(left + 1_600)), "{left}");
            assert!(ages.is_overdue(at(left + 1_800)), "{left}");
            ages.leave(age, 1);
            assert!(!ages.is_overdue(at(left + 1_800)));
            ages.leave(young, 1);
            assert!(ages.is_empty() && !ages.is_overdue(at(left + 9_999)));
        }
    }
}
