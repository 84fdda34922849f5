//! The life of a run as its events tell it, in whatever order they arrive: whether it began, waits, ended or failed, and
//! from when until when. Every command that says how a run stands says it by this.

use crate::wire::proto::EventType;

use super::told::What;

/// How a run stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Neither of the others, also where its beginning was not seen.
    Running,
    /// For a person.
    Waiting,
    /// Its graph ended, and nobody said that it failed.
    Done,
    /// Its graph said so, whatever else it said before or after.
    Failed,
}

/// What the words of [`Status`] mean, for `--help`.
pub const STATUSES: &str = "A run is failed after GRAPH_ERROR, whatever else comes, done after GRAPH_END, waiting from \
     HUMAN_INTERRUPT to HUMAN_RESUME, and running otherwise.";

impl Status {
    pub fn label(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Waiting => "waiting",
            Status::Done => "done",
            Status::Failed => "failed",
        }
    }
}

/// An event that says how a run stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    Start,
    End,
    Failure,
    Wait,
    GoOn,
}

impl Sign {
    pub fn of(what: &What) -> Option<Self> {
        Some(match what {
            What::GraphStart { .. } => Sign::Start,
            What::GraphEnd { .. } => Sign::End,
            What::GraphError { .. } => Sign::Failure,
            What::Interrupt { .. } => Sign::Wait,
            What::Resume { .. } => Sign::GoOn,
            _ => return None,
        })
    }

    pub fn of_type(event_type: EventType) -> Option<Self> {
        Some(match event_type {
            EventType::GraphStart => Sign::Start,
            EventType::GraphEnd => Sign::End,
            EventType::GraphError => Sign::Failure,
            EventType::HumanInterrupt => Sign::Wait,
            EventType::HumanResume => Sign::GoOn,
            _ => return None,
        })
    }
}

/// Of one event: what it says, when (0: nobody knows), and its sequence (0: none).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    pub sign: Option<Sign>,
    pub at_us: i64,
    pub sequence: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Life {
    began: bool,
    ended: bool,
    failed: bool,
    waits: bool,
    /// Time and sequence of the last word on waiting; an earlier one that comes late says nothing new.
    waits_since: (i64, u64),
    first_us: Option<i64>,
    last_us: Option<i64>,
    start_us: Option<i64>,
    end_us: Option<i64>,
}

impl Life {
    /// Whether this event is the start of another run of the thread, and not its own that came late.
    pub fn is_over(&self, beat: Beat) -> bool {
        beat.sign == Some(Sign::Start) && self.ended && (self.began || known(beat.at_us) > self.first_us)
    }

    pub fn note(&mut self, beat: Beat) {
        let at_us = known(beat.at_us);
        self.first_us = earlier(self.first_us, at_us);
        self.last_us = self.last_us.max(at_us);
        match beat.sign {
            Some(Sign::Start) => {
                self.began = true;
                self.start_us = earlier(self.start_us, at_us);
            }
            Some(sign @ (Sign::End | Sign::Failure)) => {
                self.ended = true;
                self.failed |= sign == Sign::Failure;
                self.end_us = earlier(self.end_us, at_us);
            }
            Some(sign @ (Sign::Wait | Sign::GoOn)) if (beat.at_us, beat.sequence) >= self.waits_since => {
                self.waits_since = (beat.at_us, beat.sequence);
                self.waits = sign == Sign::Wait;
            }
            Some(Sign::Wait | Sign::GoOn) | None => {}
        }
    }

    pub fn status(&self) -> Status {
        match (self.failed, self.ended, self.waits) {
            (true, ..) => Status::Failed,
            (false, true, _) => Status::Done,
            (false, false, true) => Status::Waiting,
            (false, false, false) => Status::Running,
        }
    }

    pub fn has_begun(&self) -> bool {
        self.began
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// When its graph started; if that was not seen, its first event.
    pub fn began_us(&self) -> Option<i64> {
        self.start_us.or(self.first_us)
    }

    /// When its graph ended, first; if that was not seen, its last event so far. Never before it began.
    pub fn ended_us(&self) -> Option<i64> {
        self.end_us.or(self.last_us).max(self.began_us())
    }

    pub fn took_us(&self) -> Option<i64> {
        Some(self.ended_us()?.saturating_sub(self.began_us()?))
    }
}

fn known(at_us: i64) -> Option<i64> {
    Some(at_us).filter(|at_us| *at_us != 0)
}

fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::Sign::{End, Failure, GoOn, Start, Wait};
    use super::*;

    fn beat(sign: Sign, at_us: i64) -> Beat {
        Beat { sign: Some(sign), at_us, sequence: at_us as u64 }
    }

    #[test]
    fn how_a_run_stands_does_not_depend_on_the_order_of_arrival() {
        let check = |beats: &[(Sign, i64)], expected: Status, took_us: i64| {
            // Forwards, backwards, and from every place on.
            let mut orders = vec![beats.to_vec(), beats.iter().rev().copied().collect()];
            orders.extend((0..beats.len()).map(|place| [&beats[place..], &beats[..place]].concat()));
            for order in orders {
                let mut life = Life::default();
                order.iter().for_each(|(sign, at_us)| life.note(beat(*sign, *at_us)));
                assert_eq!((life.status(), life.took_us()), (expected, Some(took_us)), "{order:?}");
            }
        };
        check(&[(Start, 1), (Failure, 5), (End, 9)], Status::Failed, 4);
        check(&[(Start, 1), (End, 5), (Failure, 9)], Status::Failed, 4);
        check(&[(Start, 1), (Wait, 2)], Status::Waiting, 1);
        check(&[(Start, 1), (Wait, 2), (GoOn, 3)], Status::Running, 2);
        check(&[(Start, 1), (Wait, 2), (GoOn, 3), (Wait, 4), (End, 8)], Status::Done, 7);
        check(&[(Wait, 2)], Status::Waiting, 0);
        check(&[(End, 2)], Status::Done, 0);
    }

    #[test]
    fn a_start_after_the_end_is_another_run_unless_it_is_its_own_that_came_late() {
        let check = |beats: &[(Sign, i64)], start_us: i64, expected: bool| {
            let mut life = Life::default();
            beats.iter().for_each(|(sign, at_us)| life.note(beat(*sign, *at_us)));
            assert_eq!(life.is_over(beat(Start, start_us)), expected, "{beats:?}");
        };
        check(&[(Start, 1), (End, 5)], 6, true);
        check(&[(Start, 1)], 6, false);
        check(&[(End, 5)], 1, false);
        check(&[(End, 5)], 9, true);
        check(&[(End, 5)], 0, false);
        check(&[(End, 5), (Start, 1)], 9, true);
        assert!(!Life::default().is_over(beat(Start, 1)));
    }
}
