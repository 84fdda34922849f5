//! What is under way: one record at librdkafka, and the events in it with whoever is to be told.
//!
//! It travels through librdkafka as the opaque pointer of its record and comes back exactly once: with the delivery
//! report, or at once when librdkafka does not take the record.

use std::sync::Arc;

use super::ages::Age;
use super::metrics::Metrics;
use super::outcome::Settled;
use super::outgoing::Kind;
use super::sequence::ThreadName;
use super::ticket::Waiter;

#[derive(Debug)]
pub(super) enum Flight {
    Events(Events),
    /// A dead letter with so many bytes: nobody waits for it.
    Letter(u64),
}

/// The events of a record.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) thread: Arc<ThreadName>,
    pub(super) kind: Kind,
    /// What was reserved for it.
    pub(super) bytes: u64,
    pub(super) list: List,
    /// Since when it is at librdkafka, if it is.
    pub(super) age: Option<Age>,
}

/// Sequences with whom to tell. Most records have one event.
#[derive(Debug)]
pub(super) enum List {
    One(u64, Waiter),
    Many(Vec<(u64, Waiter)>),
}

impl List {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::One(..) => 1,
            Self::Many(list) => list.len() as u64,
        }
    }

    /// First and last sequence.
    pub(super) fn ends(&self) -> (u64, u64) {
        match self {
            Self::One(sequence, _) => (*sequence, *sequence),
            Self::Many(list) => {
                (list.first().map_or(0, |(sequence, _)| *sequence), list.last().map_or(0, |(sequence, _)| *sequence))
            }
        }
    }
}

impl Events {
    /// Tells the one outcome of each.
    pub(super) fn tell(self, settled: Settled, metrics: &Metrics) {
        let tell = |(sequence, waiter): (u64, Waiter)| {
            if !waiter.tell(settled.outcome(sequence)) {
                metrics.callback_panics.inc();
            }
        };
        match self.list {
            List::One(sequence, waiter) => tell((sequence, waiter)),
            List::Many(list) => list.into_iter().for_each(tell),
        }
    }
}
