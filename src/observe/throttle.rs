//! Says a repeated thing a few times per interval and counts the rest. Pure: the clock comes in.

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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: u32, interval_ms: u64, at: &[u64], expected: &[Option<u64>]) {
        let mut throttle = Throttle::new(allowed, interval_ms);
        let said: Vec<Option<u64>> = at.iter().map(|now_ms| throttle.allow(*now_ms)).collect();
        assert_eq!(said, expected, "{allowed} per {interval_ms} at {at:?}");
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
