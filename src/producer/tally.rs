//! How much is under way: the bound of the queue, and what waiting senders and `flush` wait for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::lock;
use super::outcome::Settled;

/// What an event costs beside its bytes: its place in librdkafka's queue, headers, ticket.
pub(super) const EVENT_OVERHEAD_BYTES: u64 = 512;

/// While much is under way, waiting threads are woken once per so many events.
const WAKE_EVERY: u64 = 64;

/// Bytes under way stay far below a terabyte, and events below 16 million: see the ranges in `options`.
const BYTES_BITS: u32 = 40;

fn packed(events: u64, bytes: u64) -> u64 {
    events << BYTES_BITS | bytes
}

fn unpacked(word: u64) -> (u64, u64) {
    (word >> BYTES_BITS, word & ((1 << BYTES_BITS) - 1))
}

pub(super) struct Tally {
    events_max: u64,
    bytes_max: u64,
    /// Added to the bytes of each event.
    overhead: u64,
    /// Accepted and not settled: events above [`BYTES_BITS`], their bytes below. One word, so that no reservation sees
    /// another one half made.
    under_way: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unknown: AtomicU64,
    /// Threads that want to know when something is settled. Nobody is woken while it is 0.
    waiting: AtomicU64,
    turn: Mutex<u64>,
    turned: Condvar,
}

impl Tally {
    pub(super) fn new(events_max: u64, bytes_max: u64, overhead: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            events_max,
            bytes_max,
            overhead,
            under_way: zero(),
            delivered: zero(),
            refused: zero(),
            unknown: zero(),
            waiting: zero(),
            turn: Mutex::new(0),
            turned: Condvar::new(),
        }
    }

    /// Room for one event, if there is. What is alone always has room, or it could never be sent.
    pub(super) fn reserve(&self, bytes: u64) -> bool {
        let more = bytes + self.overhead;
        let reserved = self.under_way.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
            let (events, bytes) = unpacked(now);
            let fits = events < self.events_max && (bytes == 0 || bytes + more <= self.bytes_max);
            fits.then(|| now + packed(1, more))
        });
        reserved.is_ok()
    }

    /// What was reserved is not needed: the event was not accepted. Nobody is woken, since nobody had less room for it
    /// than before.
    pub(super) fn undo(&self, bytes: u64) {
        self.under_way.fetch_sub(packed(1, bytes + self.overhead), Ordering::SeqCst);
    }

    /// A look that costs nothing: an event would find no room.
    pub(super) fn is_full(&self) -> bool {
        let (events, bytes) = unpacked(self.under_way.load(Ordering::Relaxed));
        events >= self.events_max || bytes >= self.bytes_max
    }

    /// What was reserved is free again: the events were settled.
    pub(super) fn release(&self, events: u64, bytes: u64) {
        let less = packed(events, bytes + events * self.overhead);
        let (before, _) = unpacked(self.under_way.fetch_sub(less, Ordering::SeqCst));
        let left = before - events;
        // Not for each of a hundred thousand: who waits is woken now and then, and always at the end.
        if left < WAKE_EVERY || before / WAKE_EVERY != left / WAKE_EVERY {
            self.wake();
        }
    }

    /// Counts an outcome. Before [`Self::release`], so that nobody who sees the queue empty misses one.
    pub(super) fn settle(&self, settled: Settled, events: u64) {
        let count = match settled {
            Settled::At(..) => &self.delivered,
            Settled::Refused(_) => &self.refused,
            Settled::Unknown(_) => &self.unknown,
        };
        count.fetch_add(events, Ordering::SeqCst);
    }

    /// Does anybody wait for something to be settled?
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    pub(super) fn events(&self) -> u64 {
        unpacked(self.under_way.load(Ordering::SeqCst)).0
    }

    pub(super) fn bytes(&self) -> u64 {
        unpacked(self.under_way.load(Ordering::SeqCst)).1
    }

    /// Asks again, after each time that something was settled, until there is an answer or the deadline passed.
    pub(super) fn wait_until<T>(&self, deadline: Instant, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let answer = loop {
            // Taken before asking: what is settled after the question turns it.
            let turn = *lock(&self.turn);
            if let Some(answer) = ask() {
                break Some(answer);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break None;
            }
            let guard = lock(&self.turn);
            drop(
                self.turned
                    .wait_timeout_while(guard, left.min(Duration::from_secs(3600)), |now| *now == turn)
                    .unwrap_or_else(|poisoned| poisoned.into_inner()),
            );
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    pub(super) fn wake(&self) {
        if self.is_waited_for() {
            *lock(&self.turn) += 1;
            self.turned.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_bytes_are_bounded_and_given_back() {
        let tally = Tally::new(3, 100, 0);
        assert!(tally.reserve(60) && tally.reserve(40));
        assert!(!tally.reserve(1), "bytes are used up");
        assert_eq!((tally.events(), tally.bytes()), (2, 100));
        tally.release(1, 60);
        assert!(tally.reserve(1) && tally.reserve(1));
        assert!(!tally.reserve(0), "events are used up");
        assert_eq!((tally.events(), tally.bytes()), (3, 42));
    }

    #[test]
    fn an_event_larger_than_the_queue_passes_alone() {
        let tally = Tally::new(3, 100, 0);
        assert!(tally.reserve(1_000) && !tally.reserve(1));
        tally.release(1, 1_000);
        assert!(tally.reserve(1));
        assert!(!tally.reserve(1_000));
    }

    #[test]
    fn what_is_undone_wakes_nobody_and_leaves_nothing() {
        let tally = Tally::new(3, 100, 10);
        assert!(tally.reserve(60));
        let mut asked = 0;
        let answer = tally.wait_until(Instant::now() + Duration::from_millis(20), || {
            asked += 1;
            assert!(tally.reserve(5));
            tally.undo(5);
            None::<()>
        });
        assert_eq!((answer, asked), (None, 2), "once, and once at the end");
        assert_eq!((tally.events(), tally.bytes()), (1, 70));
    }

    #[test]
    fn bookkeeping_counts() {
        let tally = Tally::new(100, 1_000, 400);
        assert!(tally.reserve(1) && tally.reserve(1) && !tally.reserve(1));
        assert_eq!(tally.bytes(), 802);
        tally.release(2, 2);
        assert_eq!((tally.events(), tally.bytes()), (0, 0));
    }

    #[test]
    fn who_waits_for_room_gets_it() {
        let tally = Tally::new(1, 100, 0);
        assert!(tally.reserve(1));
        let deadline = Instant::now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| tally.wait_until(deadline, || tally.reserve(1).then_some(())));
            while tally.waiting.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            tally.release(1, 1);
            assert_eq!(waiting.join().expect("no panic"), Some(()));
        });
        assert_eq!(tally.wait_until(Instant::now(), || tally.reserve(1).then_some(())), None);
    }
}
