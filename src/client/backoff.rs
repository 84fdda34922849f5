//! When to connect again. Pure: the dice are handed in.

use std::time::Duration;

/// How long to wait before the next attempt. The wait doubles from `min` to `max` with every attempt in a row that
/// came to nothing, and half of it is left to chance, so that many clients do not come back in the same moment. What
/// the gateway asks for (`Bye.reconnect_after_ms`, `Retry-After`) is waited on top.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reconnect {
    /// The first wait, 1 ms to `max`. Too low: a gateway that starts is asked all the time.
    pub min: Duration,
    /// The longest wait, also for what a gateway asks for; up to an hour. Too high: a healed network is noticed late.
    pub max: Duration,
    /// Attempts in a row before giving up; `None`: never. One that reached live, or brought a record, begins anew.
    pub attempts_max: Option<u32>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { min: Duration::from_millis(100), max: Duration::from_secs(30), attempts_max: None }
    }
}

/// Counts attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    settings: Reconnect,
    /// In a row, that came to nothing.
    pub(super) attempts: u32,
}

impl Backoff {
    pub(super) fn new(settings: Reconnect) -> Self {
        Self { settings, attempts: 0 }
    }

    /// The connection was good for something.
    pub(super) fn succeeded(&mut self) {
        self.attempts = 0;
    }

    /// The wait after one more end; `None`: enough. `dice` is a random number.
    pub(super) fn failed(&mut self, asked: Duration, dice: u64) -> Option<Duration> {
        self.attempts = self.attempts.saturating_add(1);
        if self.settings.attempts_max.is_some_and(|max| self.attempts >= max) {
            return None;
        }
        let doubled = self.settings.min.saturating_mul(1 << (self.attempts - 1).min(20));
        let wait = doubled.min(self.settings.max);
        let half = wait / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        let jitter = Duration::from_micros(dice % spread);
        Some(asked.min(self.settings.max).saturating_add(half).saturating_add(jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(Reconnect { min: ms(100), max: ms(1_000), attempts_max: None });
        let expected = [(50, 100), (100, 200), (200, 400), (400, 800), (500, 1_000), (500, 1_000)];
        for (index, (least, most)) in expected.into_iter().enumerate() {
            let wait = backoff.failed(Duration::ZERO, 7_777_777_777 * index as u64).expect("no limit");
            assert!((ms(least)..=ms(most)).contains(&wait), "attempt {index}: {wait:?}");
        }
        (0..100).for_each(|_| assert!(backoff.failed(Duration::ZERO, u64::MAX).expect("no limit") <= ms(1_000)));
        backoff.succeeded();
        assert!(backoff.failed(Duration::ZERO, u64::MAX).expect("no limit") <= ms(100));
    }

    #[test]
    fn what_the_gateway_asks_for_is_waited_on_top_within_bounds() {
        let settings = Reconnect { min: ms(100), max: ms(1_000), attempts_max: None };
        let wait = Backoff::new(settings).failed(ms(700), 0).expect("no limit");
        assert!((ms(750)..=ms(800)).contains(&wait), "{wait:?}");
        let wait = Backoff::new(settings).failed(Duration::MAX, u64::MAX).expect("no limit");
        assert!(wait <= ms(1_100), "nobody sends us to sleep for years: {wait:?}");
    }

    #[test]
    fn attempts_in_a_row_are_limited() {
        let mut backoff = Backoff::new(Reconnect { attempts_max: Some(3), ..Reconnect::default() });
        assert!(backoff.failed(Duration::ZERO, 0).is_some());
        assert!(backoff.failed(Duration::ZERO, 0).is_some());
        backoff.succeeded();
        assert!(backoff.failed(Duration::ZERO, 0).is_some());
        assert!(backoff.failed(Duration::ZERO, 0).is_some());
        assert!(backoff.failed(Duration::ZERO, 0).is_none());
        assert_eq!(backoff.attempts, 3);
    }
}
