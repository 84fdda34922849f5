//! Deliveries that are known and not counted yet. Reports come by the thousand, from the thread that serves them; each
//! counter that senders look at too, and each metric, is touched once per so many instead of once per event.

use std::sync::atomic::Ordering;

use prometheus::local::LocalHistogram;

use super::ages::{Age, Ages};
use super::metrics::Metrics;
use super::outgoing::Kind;
use super::tally::Tally;

/// Deliveries that are gathered, at most: so late do those hear of room who wait for it.
const GATHERED_MAX: u64 = 64;

/// Gathers what was delivered.
pub(super) struct Settling {
    events: u64,
    bytes: u64,
    by_kind: [u64; Kind::LABELS.len()],
    sizes: LocalHistogram,
    /// Of the last one, and how many were of it: neighbours left at about the same time.
    age: Option<(Age, u64)>,
}

impl Settling {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { events: 0, bytes: 0, by_kind: [0; Kind::LABELS.len()], sizes: metrics.batch_size.local(), age: None }
    }

    /// A record with so many events was delivered. True: it is time to [`Self::count`].
    pub(super) fn delivered(&mut self, kind: Kind, events: u64, bytes: u64, age: Option<Age>, ages: &Ages) -> bool {
        self.events += events;
        self.bytes += bytes;
        self.by_kind[kind as usize] += events;
        self.sizes.observe(events as f64);
        if let Some(age) = age {
            match &mut self.age {
                Some((known, count)) if *known == age => *count += 1,
                other => {
                    if let Some((known, count)) = other.replace((age, 1)) {
                        ages.leave(known, count);
                    }
                }
            }
        }
        self.events >= GATHERED_MAX
    }

    /// Counts all that was gathered, outcomes before room: nobody who sees the queue empty misses one.
    pub(super) fn count(&mut self, ages: &Ages, tally: &Tally, metrics: &Metrics) {
        if let Some((age, count)) = self.age.take() {
            ages.leave(age, count);
        }
        let (events, bytes) = (std::mem::take(&mut self.events), std::mem::take(&mut self.bytes));
        if events == 0 {
            return;
        }
        self.sizes.flush();
        for (kind, count) in self.by_kind.iter_mut().enumerate() {
            if *count > 0 {
                metrics.delivered(kind, std::mem::take(count));
            }
        }
        tally.delivered.fetch_add(events, Ordering::SeqCst);
        tally.release(events, bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_was_gathered_is_counted_once_and_wholly() {
        let (metrics, began) = (Metrics::new(), Instant::now());
        let tally = Tally::new(1_000, 1 << 20, 0);
        let ages = Ages::new(Duration::from_secs(16), began);
        let registry = prometheus::Registry::new();
        metrics.register(&registry).expect("registered");
        let mut settling = Settling::new(&metrics);
        let mut told = 0;
        for second in 0..10u64 {
            for _ in 0..20 {
                assert!(tally.reserve(100));
                let age = ages.enter(began + Duration::from_secs(second));
                if settling.delivered(Kind::Event, 1, 100, Some(age), &ages) {
                    settling.count(&ages, &tally, &metrics);
                    told += 1;
                }
            }
        }
        assert_eq!(told, 200 / GATHERED_MAX, "now and then");
        settling.count(&ages, &tally, &metrics);
        settling.count(&ages, &tally, &metrics);
        assert!(ages.is_empty());
        assert_eq!((tally.events(), tally.bytes(), tally.delivered.load(Ordering::SeqCst)), (0, 0, 200));
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
        for line in [
            "dashstream_messages_sent_total 200",
            "dashstream_producer_outcomes_total{message_type=\"event\",outcome=\"delivered\"} 200",
            "dashstream_batch_size_count 200",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
