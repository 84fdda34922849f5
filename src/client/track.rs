//! One partition of one connection: what may come next, and what must not.

use super::error::ProtocolError;

/// Where a partition stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It begins wherever the gateway begins.
    Open,
    Flowing {
        next: u64,
    },
    /// What comes before the answer to this resume is of the place before, and comes again if it is wanted.
    /// `named`: by a cursor; else this resume is for all partitions.
    Awaiting {
        resume: u64,
        wanted: Option<u64>,
        named: bool,
    },
    /// The gateway said that nothing will come. What comes is passed over and does not move the cursor. `again`: it is
    /// to be asked for once more.
    Held {
        wanted: Option<u64>,
        again: bool,
    },
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Track {
    pub(super) state: State,
    /// A run is asked for once more: what is below `next` comes again and is passed over.
    pub(super) overlap: bool,
    /// The last batch, `[from, next)`, and the records in it: a gap may name others of it afterwards.
    batch: (u64, u64),
    records: Vec<u64>,
}

/// What of a stretch is new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    Nothing,
    /// From this offset on.
    From(u64),
    /// The partition begins with it.
    Begun,
}

impl Track {
    pub(super) fn new(state: State) -> Self {
        Self { state, overlap: false, batch: (0, 0), records: Vec::new() }
    }

    /// Next offset wanted, if it is known.
    pub(super) fn next(&self) -> Option<u64> {
        match self.state {
            State::Open => None,
            State::Flowing { next } => Some(next),
            State::Awaiting { wanted, .. } | State::Held { wanted, .. } => wanted,
        }
    }

    /// The stretch `[from, next)` comes. `strict`: nothing may be passed over.
    pub(super) fn take(&mut self, partition: u32, from: u64, next: u64, strict: bool) -> Result<Taken, ProtocolError> {
        match self.state {
            State::Awaiting { .. } | State::Held { .. } => Ok(Taken::Nothing),
            State::Open => {
                self.state = State::Flowing { next };
                Ok(Taken::Begun)
            }
            State::Flowing { next: expected } if from < expected => {
                if !self.overlap {
                    return Err(ProtocolError::Backwards { partition, expected, offset: from });
                }
                if next <= expected {
                    return Ok(Taken::Nothing);
                }
                self.state = State::Flowing { next };
                Ok(Taken::From(expected))
            }
            State::Flowing { next: expected } if from > expected && strict => {
                Err(ProtocolError::Unexplained { partition, expected, from })
            }
            State::Flowing { .. } => {
                self.state = State::Flowing { next };
                Ok(Taken::From(from))
            }
        }
    }

    /// The batch that was just taken.
    pub(super) fn remember(&mut self, from: u64, next: u64, records: impl Iterator<Item = u64>) {
        self.batch = (from, next);
        self.records.clear();
        self.records.extend(records);
    }

    /// `first..=last` is named after the batch that covers it, and is none of its records.
    pub(super) fn is_told_late(&self, first: u64, last: u64) -> bool {
        let State::Flowing { next } = self.state else { return false };
        let inside = self.batch.1 == next && first >= self.batch.0 && last < self.batch.1;
        let after = self.records.partition_point(|offset| *offset < first);
        inside && self.records.get(after).is_none_or(|offset| *offset > last)
    }

    /// A resume that is for all partitions is in effect up to number `resume`; at live also one by cursor.
    pub(super) fn release(&mut self, resume: u64, also_named: bool) {
        if let State::Awaiting { resume: awaited, wanted, named } = self.state
            && awaited <= resume
            && (also_named || !named)
        {
            self.state = wanted.map_or(State::Open, |next| State::Flowing { next });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_joins_or_is_refused() {
        let check = |state: State, overlap: bool, stretch: (u64, u64), strict: bool, expected: &str| {
            let mut track = Track::new(state);
            track.overlap = overlap;
            let found = match track.take(0, stretch.0, stretch.1, strict) {
                Ok(Taken::Nothing) => "nothing".to_owned(),
                Ok(Taken::From(from)) => format!("from {from}, then {:?}", track.next().expect("known")),
                Ok(Taken::Begun) => format!("begun, then {:?}", track.next().expect("known")),
                Err(ProtocolError::Backwards { .. }) => "backwards".to_owned(),
                Err(ProtocolError::Unexplained { .. }) => "unexplained".to_owned(),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(found, expected, "{state:?} {stretch:?} overlap {overlap} strict {strict}");
        };
        let at = |next| State::Flowing { next };
        check(at(5), false, (5, 8), true, "from 5, then 8");
        check(at(5), false, (5, 5), true, "from 5, then 5");
        check(at(5), false, (6, 8), true, "unexplained");
        check(at(5), false, (6, 8), false, "from 6, then 8");
        for strict in [true, false] {
            check(at(5), false, (4, 8), strict, "backwards");
            check(at(5), false, (0, 1), strict, "backwards");
            check(at(5), true, (0, 5), strict, "nothing");
            check(at(5), true, (0, 9), strict, "from 5, then 9");
            check(State::Open, false, (7, 9), strict, "begun, then 9");
            check(State::Held { wanted: Some(5), again: true }, false, (5, 9), strict, "nothing");
            let awaiting = State::Awaiting { resume: 1, wanted: Some(5), named: true };
            check(awaiting, false, (5, 9), strict, "nothing");
        }
        check(at(u64::MAX), false, (u64::MAX, u64::MAX), true, &format!("from {0}, then {0}", u64::MAX));
    }

    #[test]
    fn what_a_batch_covered_may_be_named_afterwards_unless_it_was_delivered() {
        let mut track = Track::new(State::Flowing { next: 10 });
        track.remember(4, 10, [5, 8].into_iter());
        for (first, last, expected) in
            [(4, 4, true), (6, 7, true), (9, 9, true), (5, 5, false), (4, 6, false), (3, 4, false), (9, 10, false)]
        {
            assert_eq!(track.is_told_late(first, last), expected, "{first} to {last}");
        }
    }
}
