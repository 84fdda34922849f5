//! Where a session stands: per partition in the log, below it, or in front of a gap that it was not told of yet; and
//! what becomes of that when the log moves on.

use super::follow::Follow;
use super::{Session, World};
use crate::broadcast::protocol::Notice;
use crate::log::forms::last_before;
use crate::log::{Chunk, Evicted, Ring};
use crate::observe::stats::Stats;
use crate::words::{GapReason, Offset, PartitionId, SlowPolicy};

impl Session {
    /// Called before the chunk at the position goes away: what of it is half sent must be finished.
    /// `chunk` is the one at the position, still alive.
    pub fn before_eviction(&mut self, chunk: &Chunk) {
        self.settle(chunk);
    }

    /// The ring lost chunks; those that this session had not passed are gone for it. False: policy says close.
    pub fn after_eviction(&mut self, evicted: &Evicted, world: &World<'_>) -> bool {
        if self.position >= world.ring.tail() {
            return true;
        }
        if self.follow != Follow::Log {
            // It stands nowhere in the log.
            self.remember_evicted(evicted);
            self.position = world.ring.tail();
            return true;
        }
        assert!(self.sent == 0, "the unit under way was settled before");
        let mut lost_records = 0;
        let mut lost = Vec::new();
        for (partition, (from, next)) in evicted.missed_from(self.position) {
            let from = self.floors.get(&partition).map_or(from, |floor| from.max(*floor));
            if from >= next {
                continue;
            }
            lost_records += next.0 - from.0;
            lost.push((partition, from, next));
        }
        self.position = world.ring.tail();
        if lost.is_empty() {
            return true;
        }
        if self.policy(world.settings) == SlowPolicy::Catchup {
            // Partitions fall one by one: one that follows while others are read from below is of the same fall. Nor is
            // a replay slow that has not been judged yet.
            let falls = self.cold.is_none() && self.judging.is_none();
            for (partition, from, _) in lost {
                self.go_cold(partition, from, world);
            }
            if falls && self.falls.note(world.now_ms) {
                self.fall_behind(world);
            }
            return true;
        }
        for (partition, from, next) in lost {
            self.missed.entry(partition).and_modify(|range| range.1 = next).or_insert((from, next));
        }
        world.stats.fell_behind(lost_records);
        self.slow != SlowPolicy::Close
    }

    /// The last offset really sent per partition of the ring: what a client may resume from.
    pub fn cursor(&self, ring: &Ring) -> Vec<(PartitionId, Offset)> {
        ring.logs()
            .filter_map(|(partition, ..)| {
                let next = self.stands_at(ring, partition).filter(|next| *next != super::follow::HELD)?;
                // Nothing below 0 was ever sent: such a partition has no entry.
                (next.0 > 0).then(|| (partition, last_before(next)))
            })
            .collect()
    }

    /// The next offset that this session needs.
    pub(super) fn stands_at(&self, ring: &Ring, partition: PartitionId) -> Option<Offset> {
        let next = self.stands_at_unmissed(ring, partition)?;
        Some(self.missed.get(&partition).map_or(next, |(first, _)| next.min(*first)))
    }

    /// The same, as if what was missed had been told.
    pub(super) fn stands_at_unmissed(&self, ring: &Ring, partition: PartitionId) -> Option<Offset> {
        if let Some(want) = self.away(ring, partition).or_else(|| self.cold_want(partition)) {
            return Some(want);
        }
        let next = ring.next_at(partition, self.position)?;
        Some(self.floors.get(&partition).map_or(next, |floor| next.max(*floor)))
    }

    pub(super) fn tell_missed(&mut self, world: &World<'_>) {
        for (partition, (from, next)) in std::mem::take(&mut self.missed) {
            let reason = GapReason::SlowClient;
            let index = Stats::gap_index(reason);
            world.stats.gap_frames[index].add(1);
            world.stats.gap_records[index].add(next.0 - from.0);
            self.say(&Notice::Gap { partition, first: from, last: last_before(next), reason });
        }
    }

    /// A half-sent chunk becomes an owed unit and a floor, so that something else may be said after that unit.
    pub(super) fn settle_unit(&mut self, ring: &Ring) {
        self.settle_cold();
        if self.sent > 0
            && let Some(chunk) = ring.chunk(self.position).cloned()
        {
            self.settle(&chunk);
        }
    }

    pub(super) fn settle(&mut self, chunk: &Chunk) {
        if self.sent == 0 {
            return;
        }
        let form = self.form();
        let Some(bytes) = chunk.form(form) else { return };
        let (end, next) = chunk.boundary(form, bytes, self.sent);
        assert!(self.owed.is_empty(), "a chunk is begun only when nothing is owed");
        self.owed = bytes[self.sent..end].to_vec();
        self.owed_sent = 0;
        self.sent = 0;
        self.count_passed(chunk, chunk.from, next);
        // The chunk stays at the position; the floor says what of it is through.
        self.floors.insert(chunk.partition, next);
        self.floors_until = self.floors_until.max(self.position + 1);
    }
}
