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

    /// Tells that a replay is done when it is. True: something was said.
    pub(super) fn finish_replay(&mut self, world: &World<'_>) -> bool {
        let Some(active) = &self.active else { return false };
        let done = match self.protocol {
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
        if active.number > 0 {
            world.stats.replayed_records[active.kind as usize].add(active.replayed);
        }
        self.say(&Notice::Done(&Done {
            resume: active.number,
            replayed: active.replayed,
            mode: active.mode,
            last: active.last.into_iter().collect(),
            capped,
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
        }
    }

    /// Monotonic ms when the replay under way began.
    pub fn replaying_since(&self) -> Option<(ResumeMode, u64)> {
        self.active.as_ref().filter(|active| active.number > 0).map(|active| (active.kind, active.started_ms))
    }
}
