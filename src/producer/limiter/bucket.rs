//! The token bucket. Pure: the time comes in.

use std::time::Duration;

/// What a bucket allows: `burst` at once, and `per_second` in the long run. Fractions are meant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    per_second: f64,
    burst: f64,
}

/// A rate or a burst that makes no sense.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
#[error("a rate is 0.001 to 1,000,000,000 per second, and a burst 1 to 1,000,000,000; not {0} and {1}")]
pub struct RateError(f64, f64);

impl Rate {
    /// `per_second` from 0.001 to 1e9, `burst` from 1 to 1e9.
    pub fn new(per_second: f64, burst: f64) -> Result<Self, RateError> {
        let good = (0.001..=1e9).contains(&per_second) && (1.0..=1e9).contains(&burst);
        if good { Ok(Self { per_second, burst }) } else { Err(RateError(per_second, burst)) }
    }

    /// Tokens per second.
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// Tokens in a full bucket.
    pub fn burst(&self) -> f64 {
        self.burst
    }

    /// Until an empty bucket is full.
    #[cfg(feature = "limiter-redis")]
    pub(super) fn fills_in(&self) -> Duration {
        Duration::from_secs_f64(self.burst / self.per_second)
    }
}

impl Default for Rate {
    /// 100 per second, 1000 at once: the predecessor's.
    fn default() -> Self {
        Self { per_second: 100.0, burst: 1000.0 }
    }
}

/// One tenant's bucket.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Bucket {
    tokens: f64,
    /// When `tokens` was true, since some beginning. Never goes back.
    at: Duration,
}

impl Bucket {
    pub(super) fn full(rate: Rate, now: Duration) -> Self {
        Self { tokens: rate.burst, at: now }
    }

    /// Takes one token, or says how long until there is one. A rate that changed applies from here on.
    pub(super) fn take(&mut self, rate: Rate, now: Duration) -> Result<(), Duration> {
        let elapsed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * rate.per_second).min(rate.burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // Rounded up, so that who waits that long finds it.
        Err(Duration::from_secs_f64((1.0 - self.tokens) / rate.per_second) + Duration::from_nanos(1))
    }

    /// As good as a new one.
    pub(super) fn is_full(&self, rate: Rate, now: Duration) -> bool {
        self.tokens + now.saturating_sub(self.at).as_secs_f64() * rate.per_second >= rate.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64, burst: f64) -> Rate {
        Rate::new(per_second, burst).expect("a rate")
    }

    #[test]
    fn a_bucket_allows_its_burst_and_then_its_rate() {
        let rate = rate(10.0, 3.0);
        let mut bucket = Bucket::full(rate, Duration::ZERO);
        let mut take = |ms| bucket.take(rate, Duration::from_millis(ms)).is_ok();
        assert_eq!([take(0), take(0), take(0), take(0)], [true, true, true, false]);
        assert_eq!([take(99), take(100), take(100), take(150)], [false, true, false, false]);
        assert_eq!([take(200), take(200), take(10_000), take(10_000), take(10_000)], [true, false, true, true, true]);
        assert!(!take(10_000), "a bucket holds no more than its burst");
    }

    #[test]
    fn who_waits_as_told_gets_the_token() {
        for per_second in [0.001, 0.3, 1.0, 7.0, 333.3, 1e6] {
            let rate = rate(per_second, 1.0);
            let mut bucket = Bucket::full(rate, Duration::ZERO);
            let mut now = Duration::from_millis(5);
            bucket.take(rate, now).expect("the first");
            for _ in 0..100 {
                let wait = bucket.take(rate, now).expect_err("empty");
                now += wait;
                assert_eq!(bucket.take(rate, now), Ok(()), "{per_second} per second, after {wait:?}");
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let rate = rate(1_000.0, 2.0);
        let mut bucket = Bucket::full(rate, Duration::from_secs(10));
        assert_eq!(bucket.take(rate, Duration::from_secs(10)), Ok(()));
        assert_eq!(bucket.take(rate, Duration::from_secs(5)), Ok(()));
        assert!(bucket.take(rate, Duration::from_secs(9)).is_err());
        assert!(bucket.take(rate, Duration::from_secs(10)).is_err());
    }

    /// Never more than burst + rate x span, whatever the moments.
    #[test]
    fn over_any_span_the_bound_holds() {
        let rate = rate(50.0, 20.0);
        let mut bucket = Bucket::full(rate, Duration::ZERO);
        let mut state = 7u64;
        let (mut now, mut allowed) = (Duration::ZERO, Vec::new());
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            now += Duration::from_micros((state >> 33) % 20_000);
            if bucket.take(rate, now).is_ok() {
                allowed.push(now);
            }
        }
        for (first, from) in allowed.iter().enumerate().step_by(37) {
            for (last, to) in allowed.iter().enumerate().skip(first) {
                let most = 20.0 + 50.0 * (*to - *from).as_secs_f64();
                assert!((last - first + 1) as f64 <= most + 1e-6, "{} in {:?}", last - first + 1, *to - *from);
            }
        }
        let share = allowed.len() as f64 / (20.0 + 50.0 * now.as_secs_f64());
        assert!(share > 0.98, "{share} of what is allowed, at twice the offered load");
    }

    #[test]
    fn rates_that_make_no_sense_are_refused() {
        for (per_second, burst) in [(0.0, 1.0), (-1.0, 1.0), (f64::NAN, 1.0), (1.0, 0.5), (1.0, f64::INFINITY)] {
            assert!(Rate::new(per_second, burst).is_err(), "{per_second} {burst}");
        }
    }
}
