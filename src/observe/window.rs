//! What happened lately: differences of counters over about two minutes. Numerator and denominator of every ratio
//! come from this one window. Pure: the clock comes in.

use std::collections::VecDeque;

use super::snapshot::Snapshot;
use crate::words::CloseReason;

/// How far back the window reaches.
pub const WINDOW_MS: u64 = 120_000;
/// How often a mark is set; the window is exact to this.
const MARK_MS: u64 = 10_000;
/// Marks that are kept: those of one window and the present one.
const MARKS_MAX: usize = (WINDOW_MS / MARK_MS) as usize + 1;

/// Counters whose recent movement is judged.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    pub messages: u64,
    pub decode_errors: u64,
    pub payload_missing: u64,
    pub dropped: u64,
    pub send_failed: u64,
    pub send_timeout: u64,
    pub dead_letters_lost: u64,
}

/// What happened within the window.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Recent {
    pub counts: Tally,
    /// How much time the counts cover: less than the window after a start.
    pub span_ms: u64,
    pub last_drop_age_ms: Option<u64>,
}

/// Invariant: never empty; marks are in order of time, the first is the base of the window.
#[derive(Debug)]
pub struct Window {
    marks: VecDeque<(u64, Tally)>,
    dropped: u64,
    last_drop_at_ms: Option<u64>,
}

impl Default for Window {
    /// All counters are 0 when the process starts, which is when the monotonic clock does.
    fn default() -> Self {
        Self { marks: VecDeque::from([(0, Tally::default())]), dropped: 0, last_drop_at_ms: None }
    }
}

impl Window {
    pub fn observe(&mut self, now_ms: u64, tally: Tally) -> Recent {
        if tally.dropped > self.dropped {
            self.last_drop_at_ms = Some(now_ms);
        }
        self.dropped = tally.dropped;
        // The base may be younger than the window but is older only if nothing younger is there.
        while self.marks.len() > 1 && self.marks.front().is_some_and(|(at, _)| now_ms.saturating_sub(*at) > WINDOW_MS) {
            self.marks.pop_front();
        }
        if self.marks.back().is_none_or(|(at, _)| now_ms.saturating_sub(*at) >= MARK_MS) {
            self.marks.push_back((now_ms, tally));
        }
        while self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
        let (base_ms, base) = self.marks.front().copied().unwrap_or((now_ms, tally));
        Recent {
            counts: tally.since(&base),
            span_ms: now_ms.saturating_sub(base_ms),
            last_drop_age_ms: self.last_drop_at_ms.map(|at| now_ms.saturating_sub(at)),
        }
    }
}

impl Tally {
    pub fn of(snapshot: &Snapshot) -> Self {
        Self {
            messages: snapshot.totals.consumed,
            decode_errors: snapshot.decode_errors(),
            payload_missing: snapshot.totals.skipped.iter().sum(),
            dropped: snapshot.dropped_records(),
            send_failed: snapshot.shards.vanished,
            send_timeout: snapshot.closed(CloseReason::Stalled),
            dead_letters_lost: snapshot.dlq.lost.iter().sum(),
        }
    }

    fn since(&self, base: &Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(base.messages),
            decode_errors: self.decode_errors.saturating_sub(base.decode_errors),
            payload_missing: self.payload_missing.saturating_sub(base.payload_missing),
            dropped: self.dropped.saturating_sub(base.dropped),
            send_failed: self.send_failed.saturating_sub(base.send_failed),
            send_timeout: self.send_timeout.saturating_sub(base.send_timeout),
            dead_letters_lost: self.dead_letters_lost.saturating_sub(base.dead_letters_lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(messages: u64, dropped: u64) -> Tally {
        Tally { messages, dropped, ..Tally::default() }
    }

    #[test]
    fn a_young_process_counts_from_its_start() {
        let mut window = Window::default();
        assert_eq!(window.observe(500, tally(40, 0)).counts.messages, 40);
        let recent = window.observe(5_000, tally(90, 0));
        assert_eq!((recent.counts.messages, recent.span_ms), (90, 5_000));
    }

    #[test]
    fn a_steady_rate_fills_110_to_120_seconds() {
        let mut window = Window::default();
        let mut recent = Recent::default();
        for second in 0..1_000u64 {
            recent = window.observe(second * 1_000, tally(second * 7, 0));
        }
        assert!((110_000..=120_000).contains(&recent.span_ms), "{recent:?}");
        assert_eq!(recent.counts.messages, recent.span_ms / 1_000 * 7);
        assert!(window.marks.len() <= MARKS_MAX);
    }

    #[test]
    fn what_is_long_past_is_forgotten_and_a_stalled_thread_says_what_it_covers() {
        let mut window = Window::default();
        window.observe(0, tally(0, 0));
        let recent = window.observe(1_000, tally(5, 3));
        assert_eq!((recent.counts.dropped, recent.last_drop_age_ms), (3, Some(0)));
        for second in 2..200u64 {
            window.observe(second * 1_000, tally(5, 3));
        }
        let recent = window.observe(200_000, tally(5, 3));
        assert_eq!((recent.counts.dropped, recent.last_drop_age_ms), (0, Some(199_000)));
        let recent = window.observe(900_000, tally(9, 3));
        assert_eq!(recent.counts.messages, 4);
        assert!(recent.span_ms >= 700_000, "{recent:?}");
    }

    #[test]
    fn a_counter_that_falls_is_no_movement() {
        let mut window = Window::default();
        window.observe(10_000, tally(9, 2));
        assert_eq!(window.observe(130_000, tally(1, 0)).counts, Tally::default());
    }
}
