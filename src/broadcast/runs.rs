//! Where runs begin: per thread, the partitions in which this shard saw it, the first offset there, and since where
//! that is certain. Bounded; the run that was silent longest is forgotten first, and is then looked for instead.
//!
//! Deliberately absent: the key of a record. A run is where its records are, not where a hash says they should be.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::log::Chunk;
use crate::words::{Offset, PartitionId};

/// Partitions remembered per run: a producer that changes its partitioner, or a topic that grows.
const PLACES_MAX: usize = 8;

/// What one run costs at most, bytes: an id twice, its places, and the tables' share.
pub const RUN_BYTES: u64 = 2 * crate::log::chunk::ID_BYTES_MAX as u64 + 24 * PLACES_MAX as u64 + 128;

/// See the module.
#[derive(Debug)]
pub struct RunIndex {
    runs: HashMap<Box<str>, Run>,
    /// Every run at least once, oldest first; an entry counts only if its turn is still that of the run.
    order: VecDeque<(Box<str>, u64)>,
    turn: u64,
    runs_max: usize,
    coverage: BTreeMap<PartitionId, Coverage>,
    scratch: Vec<bool>,
}

#[derive(Debug)]
struct Run {
    places: Vec<(PartitionId, Seen)>,
    turn: u64,
}

/// What is known of one run in one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The first record of the run, if there was one.
    pub first: Option<Offset>,
    /// From here on, nothing of the run came before `first`. Below, nobody looked, or somebody forgot.
    pub since: Offset,
}

/// What was looked at.
#[derive(Debug)]
struct Coverage {
    /// A run that is not in the index has no record from here on.
    since: Offset,
    next: Offset,
    /// This partition has a run that has more places than are remembered.
    crowded: bool,
}

impl RunIndex {
    pub fn new(runs_max: usize) -> Self {
        Self {
            runs: HashMap::new(),
            order: VecDeque::new(),
            turn: 0,
            runs_max: runs_max.max(1),
            coverage: BTreeMap::new(),
            scratch: Vec::new(),
        }
    }

    /// Runs that are remembered.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Takes note of the threads of a chunk, in the order of the partition.
    pub fn note(&mut self, chunk: &Chunk) {
        let fresh = Coverage { since: chunk.from, next: chunk.from, crowded: false };
        let coverage = self.coverage.entry(chunk.partition).or_insert(fresh);
        if coverage.next != chunk.from || chunk.lost.is_some() {
            (coverage.since, coverage.crowded) = (chunk.next, false);
        }
        coverage.next = chunk.next;
        if chunk.is_opaque() {
            // Threads that are not listed may be in it.
            coverage.since = chunk.next;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        chunk.each_thread(&mut scratch, |thread, offset| self.see(thread, chunk.partition, offset));
        self.scratch = scratch;
    }

    fn see(&mut self, thread: &str, partition: PartitionId, offset: Offset) {
        let Some(coverage) = self.coverage.get_mut(&partition) else { return };
        let seen = Seen { first: Some(offset), since: coverage.since };
        let Some(run) = self.runs.get_mut(thread) else {
            self.turn += 1;
            self.runs.insert(thread.into(), Run { places: vec![(partition, seen)], turn: self.turn });
            self.order.push_back((thread.into(), self.turn));
            return self.trim();
        };
        if run.places.iter().all(|(place, _)| *place != partition) {
            if run.places.len() < PLACES_MAX {
                run.places.push((partition, seen));
            } else {
                coverage.crowded = true;
            }
        }
        // Often enough that a run which goes on is not forgotten, seldom enough to cost nothing.
        if self.turn - run.turn > self.runs_max as u64 / 2 {
            self.turn += 1;
            run.turn = self.turn;
            self.order.push_back((thread.into(), self.turn));
            self.trim();
        }
    }

    fn trim(&mut self) {
        while self.runs.len() > self.runs_max || self.order.len() > 2 * self.runs_max {
            let Some((thread, turn)) = self.order.pop_front() else { return };
            if self.runs.get(&thread).is_none_or(|run| run.turn != turn) {
                continue;
            }
            if let Some(run) = self.runs.remove(&thread) {
                for (partition, _) in run.places {
                    if let Some(coverage) = self.coverage.get_mut(&partition) {
                        coverage.since = coverage.next;
                    }
                }
            }
        }
    }

    /// What is known of a run in a partition; `None` where nobody has looked yet.
    pub fn seen(&self, thread: &str, partition: PartitionId) -> Option<Seen> {
        let coverage = self.coverage.get(&partition)?;
        let run = self.runs.get(thread);
        let place = run.and_then(|run| run.places.iter().find(|(place, _)| *place == partition));
        match place {
            Some((_, seen)) => Some(*seen),
            // It may be one of those that have too many places.
            None if coverage.crowded => None,
            None => Some(Seen { first: None, since: coverage.since }),
        }
    }

    /// Another stream: nothing of the old one may be believed.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.order.clear();
        self.coverage.clear();
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
