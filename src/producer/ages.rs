//! How long records have been under way, without a look at each: counts of those that left in each eighteenth of the
//! delivery timeout. The time comes in.
//!
//! The timeout is ours and not librdkafka's (`message.timeout.ms`). When librdkafka lets one message time out it renumbers
//! all others under a new epoch, and sends those again whose answer was lost as if they were new: a duplicate that no
//! broker can recognise. So it is told to try for ever, and when something is overdue everything that is under way is
//! given up at once (`handle`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is older than so many parts of the timeout is given up; two more are for what parts do not tell and for the
/// giving up, so that it is over when the timeout is.
const PARTS: u64 = 16;
/// Parts that are remembered.
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
        let part_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX) / (PARTS + 2);
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

    /// Something left so long ago that its timeout is about to pass: 16 to 17 of its 18 parts.
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
            let ages = Ages::new(Duration::from_millis(1_800), began);
            assert!(ages.is_empty() && !ages.is_overdue(at(left)));
            let age = ages.enter(at(left));
            let young = ages.enter(at(left + 1_000));
            assert!(!ages.is_empty());
            assert!(!ages.is_overdue(at(left + 1_600)), "{left}");
            assert!(ages.is_overdue(at(left + 1_700)), "{left}");
            ages.leave(age, 1);
            assert!(!ages.is_overdue(at(left + 1_700)));
            ages.leave(young, 1);
            assert!(ages.is_empty() && !ages.is_overdue(at(left + 9_999)));
        }
    }
}
