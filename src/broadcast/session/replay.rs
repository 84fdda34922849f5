//! A replay under way: what of it is through, and the word that it is done.

use std::collections::BTreeMap;

use super::{Session, World};
use crate::broadcast::protocol::{Done, Notice};
use crate::log::{Chunk, Outcome};
use crate::observe::stats::{Protocol, ResumeMode};
use crate::words::{Offset, PartitionId};

/// A replay under way.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) number: u64,
    pub(super) mode: &'static str,
    pub(super) kind: ResumeMode,
    /// The head when it began: v1's `replay_complete` comes there.
    pub(super) until: u64,
    pub(super) replayed: u64,
    pub(super) last: BTreeMap<PartitionId, Offset>,
    pub(super) started_ms: u64,
    /// A search for a run: per partition what is looked through, told when it is.
    pub(super) searched: Vec<(PartitionId, Offset, Offset)>,
    /// Bytes that the search may still look at.
    pub(super) search_left: Option<u64>,
    /// The search ended before it had looked at everything.
    pub(super) cut: bool,
}

impl Session {
    pub(super) fn count_passed(&mut self, chunk: &Chunk, from: Offset, next: Offset) {
        let Some(active) = &mut self.active else { return };
        let range = chunk.entry_at(from)..chunk.entry_at(next);
        let delivered = chunk.entries()[range].iter().filter(|entry| entry.outcome == Outcome::Delivered);
        for entry in delivered {
            active.replayed += 1;
            active.last.insert(chunk.partition, entry.offset);
        }
    }

    /// The same for what a filter kept.
    pub(super) fn count_kept(&mut self, chunk: &Chunk, kept: &[bool]) {
        let Some(active) = &mut self.active else { return };
        let entries = chunk.entries().iter().zip(kept);
        for (entry, _) in entries.filter(|(entry, kept)| **kept && entry.outcome == Outcome::Delivered) {
            active.replayed += 1;
            active.last.insert(chunk.partition, entry.offset);
        }
    }

    /// A search has looked at so many bytes. When it has looked at enough, it ends where it is.
    pub(super) fn searched_bytes(&mut self, bytes: u64) {
        let Some(active) = &mut self.active else { return };
        if let Some(left) = &mut active.search_left {
            *left = left.saturating_sub(bytes);
        }
    }

    /// Ends a search that has used up its bytes: what it did not look at is said, and it goes on live.
    pub(super) fn end_search(&mut self, world: &World<'_>) -> bool {
        if self.active.as_ref().is_none_or(|active| active.search_left != Some(0)) || self.cold.is_none() {
            return false;
        }
        let cold: BTreeMap<_, _> = self.cold_wants().collect();
        let mut places = self.places(world);
        if let Some(active) = &mut self.active {
            (active.search_left, active.cut) = (None, true);
            for (partition, from, to) in &mut active.searched {
                if let Some(want) = cold.get(partition) {
                    *to = (*want).max(*from);
                }
            }
        }
        for partition in cold.keys() {
            if let Some((_, next)) = world.ring.log(*partition) {
                places.insert(*partition, next);
            }
        }
        self.cold = None;
        self.go_from(places, world);
        true
    }

    /// Tells that a replay is done when it is. True: something was said.
    pub(super) fn finish_replay(&mut self, world: &World<'_>) -> bool {
        let Some(active) = &self.active else { return false };
        let done = self.cold.is_none()
            && match self.protocol {
                Protocol::V1 => self.position >= active.until,
                Protocol::V2 | Protocol::Json => self.position >= world.ring.head(),
            };
        if !done {
            return false;
        }
        self.end_replay(false, world);
        true
    }

    pub(super) fn end_replay(&mut self, capped: bool, world: &World<'_>) {
        let Some(active) = self.active.take() else { return };
        self.threads = None;
        if !capped {
            for (partition, from, to) in active.searched {
                self.say(&Notice::Searched { partition, from, to });
            }
        }
        if active.number > 0 {
            world.stats.replayed_records[active.kind as usize].add(active.replayed);
        }
        self.say(&Notice::Done(&Done {
            resume: active.number,
            replayed: active.replayed,
            mode: active.mode,
            last: active.last.into_iter().collect(),
            // The others were told what was looked at.
            capped: capped || (active.cut && self.protocol == Protocol::V1),
        }));
    }

    pub(super) fn replay(&self, number: u64, mode: &'static str, kind: ResumeMode, world: &World<'_>) -> Active {
        Active {
            number,
            mode,
            kind,
            until: world.ring.head(),
            replayed: 0,
            last: BTreeMap::new(),
            started_ms: world.now_ms,
            searched: Vec::new(),
            search_left: None,
            cut: false,
        }
    }

    /// Monotonic ms when the replay under way began.
    pub fn replaying_since(&self) -> Option<(ResumeMode, u64)> {
        self.active.as_ref().filter(|active| active.number > 0).map(|active| (active.kind, active.started_ms))
    }
}
