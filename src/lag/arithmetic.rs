//! Lag, and whether a partition is stuck: pure decisions. Clocks and offsets come in, numbers and verdicts go out.
//!
//! Unknown is `None` here and absent in the metrics: never zero, never a frozen number.

use std::collections::VecDeque;

use crate::observe::stats::WorkerState;
use crate::words::Offset;

/// More repairs of one partition within [`REPAIR_WINDOW_MS`] than this mean that repairing does not help.
pub const REPAIRS_MAX: usize = 3;
pub const REPAIR_WINDOW_MS: u64 = 3_600_000;

/// Offsets between what was read and the last stable offset; holes included, because nobody can tell them apart
/// without reading. Never negative: a stable offset asked for before the last records were read is simply old.
pub fn lag_records(stable: Offset, next: Offset) -> u64 {
    stable.0.saturating_sub(next.0)
}

/// What is known about the age of the next unread record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AgeFacts {
    pub lag_records: u64,
    /// Kafka's timestamp of the last record read, and the wall clock now.
    pub last_record_timestamp_ms: Option<u64>,
    pub wall_clock_ms: u64,
    /// Monotonic time of the last answer that showed nothing unread, and of the one that is judged now.
    pub caught_up_at_ms: Option<u64>,
    pub asked_at_ms: u64,
}

/// The age of the next unread record, at most: it is not older than the last record read, and it came after the last
/// time that nothing was unread. The second keeps a record after a long silence from looking as old as the silence.
/// `None` when neither is known.
pub fn lag_ms(facts: AgeFacts) -> Option<u64> {
    if facts.lag_records == 0 {
        return Some(0);
    }
    // A timestamp ahead of our clock says nothing.
    let by_record = facts.last_record_timestamp_ms.and_then(|timestamp| facts.wall_clock_ms.checked_sub(timestamp));
    let by_silence = facts.caught_up_at_ms.map(|at| facts.asked_at_ms.saturating_sub(at));
    match (by_record, by_silence) {
        (Some(by_record), Some(by_silence)) => Some(by_record.min(by_silence)),
        (one, other) => one.or(other),
    }
}

/// One look at a partition that is ours, with an answer from Kafka.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    pub now_ms: u64,
    pub stable: Offset,
    pub next: Offset,
    /// Anything that grows when records come, whatever becomes of them.
    pub progress: u64,
    pub state: WorkerState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Fine,
    /// It should move and does not: assign it again.
    Repair,
    /// Repairs did not help: the process should end and be started anew.
    GiveUp,
}

/// Tells stuck from idle for one partition. Idle is healthy: only a partition that has something to read, whose
/// worker waits for it, and where nothing at all moves, is stuck.
#[derive(Clone, Debug, Default)]
pub struct StallWatch {
    last: Option<(Offset, u64)>,
    since_ms: Option<u64>,
    /// When it was repaired, at most [`REPAIRS_MAX`] times.
    repairs: VecDeque<u64>,
}

impl StallWatch {
    pub fn look(&mut self, look: Look, stall_timeout_ms: u64) -> Verdict {
        let moved = self.last.replace((look.next, look.progress)) != Some((look.next, look.progress));
        if moved || look.stable <= look.next || look.state != WorkerState::Waiting {
            self.since_ms = None;
            return Verdict::Fine;
        }
        let since_ms = *self.since_ms.get_or_insert(look.now_ms);
        if look.now_ms.saturating_sub(since_ms) < stall_timeout_ms {
            return Verdict::Fine;
        }
        // From here on the repair has its own time to show an effect.
        self.since_ms = Some(look.now_ms);
        self.repairs.retain(|repaired_ms| look.now_ms.saturating_sub(*repaired_ms) < REPAIR_WINDOW_MS);
        if self.repairs.len() >= REPAIRS_MAX {
            return Verdict::GiveUp;
        }
        self.repairs.push_back(look.now_ms);
        Verdict::Repair
    }

    /// Kafka did not answer: nobody knows whether there is something to read.
    pub fn unknown(&mut self) {
        self.since_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_in_records_is_never_negative() {
        for (stable, next, expected) in [(10, 3, 7), (10, 10, 0), (10, 12, 0), (0, 0, 0), (u64::MAX, 0, u64::MAX)] {
            assert_eq!(lag_records(Offset(stable), Offset(next)), expected, "{stable} {next}");
        }
    }

    #[test]
    fn lag_in_time() {
        let check = |lag_records, last_record_timestamp_ms, caught_up_at_ms, expected| {
            let facts = AgeFacts {
                lag_records,
                last_record_timestamp_ms,
                wall_clock_ms: 1_000_000,
                caught_up_at_ms,
                asked_at_ms: 50_000,
            };
            assert_eq!(lag_ms(facts), expected, "{facts:?}");
        };
        // Caught up is 0, however old the last record is and whether or not there ever was one.
        check(0, Some(1), Some(1), Some(0));
        check(0, None, None, Some(0));
        // Behind from the start: only the last record's age is known.
        check(5, Some(970_000), None, Some(30_000));
        // A record after an hour of silence is as old as the last look that showed nothing.
        check(1, Some(1), Some(49_000), Some(1_000));
        check(5, Some(999_990), Some(10_000), Some(10));
        // Nothing read yet, never caught up.
        check(5, None, None, None);
        check(5, None, Some(45_000), Some(5_000));
        // A producer's clock ahead of ours.
        check(5, Some(2_000_000), None, None);
        check(5, Some(2_000_000), Some(45_000), Some(5_000));
    }

    /// Every look is one second later; `*` marks a look at which the verdict is not `Fine`.
    fn verdicts(looks: &[(u64, u64, WorkerState)]) -> Vec<(usize, Verdict)> {
        let mut watch = StallWatch::default();
        let mut verdicts = Vec::new();
        for (second, (stable, next, state)) in looks.iter().enumerate() {
            let look = Look {
                now_ms: second as u64 * 1000,
                stable: Offset(*stable),
                next: Offset(*next),
                progress: *next,
                state: *state,
            };
            match watch.look(look, 3_000) {
                Verdict::Fine => {}
                verdict => verdicts.push((second, verdict)),
            }
        }
        verdicts
    }

    #[test]
    fn only_a_waiting_worker_with_something_to_read_is_stuck() {
        use WorkerState::{DeadLettering, Paused, Sending, Stopped, Waiting, Working};
        assert_eq!(verdicts(&[(10, 5, Waiting); 5]), [(4, Verdict::Repair)]);
        assert_eq!(verdicts(&[(5, 5, Waiting); 50]), []);
        assert_eq!(verdicts(&[(5, 9, Waiting); 50]), []);
        for state in [Working, Sending, DeadLettering, Paused, Stopped] {
            assert_eq!(verdicts(&[(10, 5, state); 50]), [], "{state:?}");
        }
        // It moves, however slowly.
        let slow: Vec<(u64, u64, WorkerState)> = (0..60).map(|second| (100, second / 3, Waiting)).collect();
        assert_eq!(verdicts(&slow), []);
        // The time starts anew when it worked in between.
        let mut between = vec![(10, 5, Waiting); 4];
        between.push((10, 5, Sending));
        between.extend([(10, 5, Waiting); 3]);
        assert_eq!(verdicts(&between), []);
    }

    #[test]
    fn what_comes_and_is_not_counted_as_position_is_progress_too() {
        let mut watch = StallWatch::default();
        for second in 0..60 {
            let look = Look {
                now_ms: second * 1000,
                stable: Offset(10),
                next: Offset(5),
                progress: second,
                state: WorkerState::Waiting,
            };
            assert_eq!(watch.look(look, 3_000), Verdict::Fine);
        }
    }

    #[test]
    fn three_repairs_an_hour_and_then_it_is_given_up() {
        let all = verdicts(&[(10, 5, WorkerState::Waiting); 14]);
        let (repair, give_up) = (Verdict::Repair, Verdict::GiveUp);
        assert_eq!(all, [(4, repair), (7, repair), (10, repair), (13, give_up)]);
    }

    #[test]
    fn repairs_are_forgotten_after_an_hour() {
        let mut watch = StallWatch::default();
        let mut seen = Vec::new();
        // One stall every twenty minutes.
        for round in 0..12u64 {
            let start = round * 1_200_000;
            for now_ms in [start, start + 1, start + 3_001] {
                let next = Offset(round);
                let look = Look { now_ms, stable: Offset(100), next, progress: 0, state: WorkerState::Waiting };
                seen.push(watch.look(look, 3_000));
            }
        }
        assert_eq!(seen.iter().filter(|verdict| **verdict == Verdict::Repair).count(), 12);
        assert!(!seen.contains(&Verdict::GiveUp));
    }

    #[test]
    fn while_kafka_does_not_answer_nothing_is_stuck() {
        let mut watch = StallWatch::default();
        for second in 0..20 {
            let look = Look {
                now_ms: second * 1000,
                stable: Offset(10),
                next: Offset(5),
                progress: 0,
                state: WorkerState::Waiting,
            };
            assert_eq!(watch.look(look, 3_000), Verdict::Fine);
            if second % 3 == 2 {
                watch.unknown();
            }
        }
    }
}
