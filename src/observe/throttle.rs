//! Says a repeated thing a few times per interval and counts the rest. Pure: the clock comes in.

use std::collections::HashMap;

/// At most `allowed` per interval; what was held back is told with the next one that goes through.
#[derive(Clone, Debug)]
pub struct Throttle {
    allowed: u32,
    interval_ms: u64,
    since_ms: u64,
    used: u32,
    suppressed: u64,
}

impl Throttle {
    pub fn new(allowed: u32, interval_ms: u64) -> Self {
        Self { allowed, interval_ms, since_ms: 0, used: 0, suppressed: 0 }
    }

    /// Some to say it now, with how many were held back since the last time; None to say nothing.
    pub fn allow(&mut self, now_ms: u64) -> Option<u64> {
        if now_ms.saturating_sub(self.since_ms) >= self.interval_ms {
            self.since_ms = now_ms;
            self.used = 0;
        }
        if self.used < self.allowed {
            self.used += 1;
            return Some(std::mem::take(&mut self.suppressed));
        }
        self.suppressed = self.suppressed.saturating_add(1);
        None
    }
}

/// librdkafka has a few dozen facilities; beyond this many kinds nothing new is told apart.
const KINDS_MAX: usize = 128;

/// When each kind of thing was last said, and how often it was kept back since.
#[derive(Default, Debug)]
pub struct Told {
    kinds: HashMap<String, (u64, u64)>,
}

impl Told {
    /// `Some(kept back since)` when this kind may be said now: once per `quiet_ms`.
    pub fn speak(&mut self, kind: &str, quiet_ms: u64, now_ms: u64) -> Option<u64> {
        let kind = if self.kinds.len() < KINDS_MAX || self.kinds.contains_key(kind) { kind } else { "" };
        match self.kinds.get_mut(kind) {
            Some((said_ms, kept_back)) if now_ms.saturating_sub(*said_ms) < quiet_ms => {
                *kept_back += 1;
                None
            }
            Some(entry) => {
                let kept_back = entry.1;
                *entry = (now_ms, 0);
                Some(kept_back)
            }
            None => {
                self.kinds.insert(kind.to_owned(), (now_ms, 0));
                Some(0)
            }
        }
    }

    /// Kinds that begin so are news again.
    pub fn forget(&mut self, start: &str) {
        self.kinds.retain(|kind, _| !kind.starts_with(start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: u32, interval_ms: u64, at: &[u64], expected: &[Option<u64>]) {
        let mut throttle = Throttle::new(allowed, interval_ms);
        let said: Vec<Option<u64>> = at.iter().map(|now_ms| throttle.allow(*now_ms)).collect();
        assert_eq!(said, expected, "{allowed} per {interval_ms} at {at:?}");
    }

    #[test]
    fn one_line_per_kind_and_while_and_the_rest_is_counted() {
        let mut told = Told::default();
        assert_eq!(told.speak("a", 10, 0), Some(0));
        assert_eq!(told.speak("a", 10, 1), None);
        assert_eq!(told.speak("b", 10, 2), Some(0));
        assert_eq!(told.speak("a", 10, 9), None);
        assert_eq!(told.speak("a", 10, 10), Some(2));
        assert_eq!(told.speak("a", 10, 20), Some(0));
        told.forget("a");
        assert_eq!(told.speak("a", 10, 21), Some(0));
    }

    #[test]
    fn kinds_are_bounded() {
        let mut told = Told::default();
        for kind in 0..10 * KINDS_MAX {
            told.speak(&kind.to_string(), 10, 0);
        }
        assert!(told.kinds.len() <= KINDS_MAX + 1);
    }

    #[test]
    fn what_is_held_back_is_counted_and_told() {
        check(1, 100, &[0, 1, 2, 100, 199, 200], &[Some(0), None, None, Some(2), None, Some(1)]);
        check(2, 100, &[5, 6, 7, 300], &[Some(0), Some(0), None, Some(1)]);
        check(0, 100, &[0, 1_000], &[None, None]);
        check(1, 0, &[0, 0, 0], &[Some(0), Some(0), Some(0)]);
        // A clock that seems to go back opens nothing.
        check(1, 100, &[500, 400], &[Some(0), None]);
    }
}
