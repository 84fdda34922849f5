//! v1's replay by thread: records of some runs whose sequence is above what the client has, in offset order, and
//! everything from where the log ended when it was asked for.

use std::collections::{BTreeMap, HashMap};

use super::judge::{Judging, seen_of_all};
use super::{Session, World};
use crate::broadcast::decoder::Decoder;
use crate::log::{Chunk, Outcome};
use crate::observe::stats::{ResumeMode, ShardStats};
use crate::words::{Offset, PartitionId};

/// See the module.
#[derive(Debug)]
pub(super) struct ThreadReplay {
    /// What the client has: the last sequence applied, per thread.
    applied: HashMap<String, u64>,
    /// From here on it gets everything.
    live_from: BTreeMap<PartitionId, Offset>,
}

impl ThreadReplay {
    /// Something in `chunk` came before the client was live.
    fn concerns(&self, chunk: &Chunk) -> bool {
        self.live_from.get(&chunk.partition).is_some_and(|live_from| chunk.from < *live_from)
    }

    /// Which entries the client gets.
    fn keep(&self, chunk: &Chunk, decoder: &mut Decoder) -> Vec<bool> {
        let live_from = self.live_from.get(&chunk.partition).copied().unwrap_or(chunk.from);
        let entries = chunk.entries().iter().map(|entry| {
            if entry.offset >= live_from {
                return true;
            }
            let wanted = |id: &u16| chunk.id(*id).is_some_and(|thread| self.applied.contains_key(thread));
            let listed = chunk.threads(entry).is_none_or(|threads| threads.iter().any(wanted));
            entry.outcome == Outcome::Delivered && listed && self.lacks(chunk.value(entry), decoder)
        });
        entries.collect()
    }

    fn lacks(&self, value: &[u8], decoder: &mut Decoder) -> bool {
        decoder.any_event(value, |event, body| {
            self.applied.get(event.thread.str_of(body)).is_some_and(|applied| event.sequence > *applied)
        })
    }
}

impl Session {
    /// Where the runs began is looked up; where that is not known, what is young enough is looked through.
    pub(super) fn resume_threads(&mut self, sequences: Vec<(String, u64)>, stream: Option<String>, world: &World<'_>) {
        self.stream_aware |= stream.is_some();
        self.settle_unit(world.ring);
        self.end_replay(true, world);
        if sequences.is_empty() {
            self.end_judging(world);
        }
        // v1 does not number its resumes: a late answer to the last one would be taken for this one's.
        self.judging = None;
        self.resumes += 1;
        self.forget_falls();
        world.stats.resumes[ResumeMode::Thread as usize].add(1);
        self.active = Some(self.replay(self.resumes, "thread", ResumeMode::Thread, world));
        if sequences.is_empty() {
            return;
        }
        let mut wants = self.kept_elsewhere(world);
        self.cold = None;
        self.missed.clear();
        if world.settings.cold {
            let seen =
                |partition| seen_of_all(world.runs, sequences.iter().map(|(thread, _)| thread.as_str()), partition);
            self.judging = Some(Judging::search(self.resumes, world.settings.search_age_ms, seen, world));
            wants.extend(world.ring.partitions().map(|(partition, ..)| (partition, super::follow::HELD)));
        } else {
            wants.extend(world.ring.partitions().map(|(partition, oldest, _)| (partition, oldest)));
        }
        self.place_kept(&wants, world);
        self.threads = Some(Box::new(ThreadReplay {
            applied: sequences.into_iter().collect(),
            live_from: world.ring.partitions().map(|(partition, _, next)| (partition, next)).collect(),
        }));
    }

    /// What of `chunk` this client gets, from offset `from` on, becomes owed. False: all of it does, as for everybody.
    pub(super) fn owe_threads(
        &mut self,
        chunk: &Chunk,
        from: Offset,
        decoder: &mut Decoder,
        stats: &ShardStats,
    ) -> bool {
        let Some(threads) = self.threads.as_ref().filter(|threads| threads.concerns(chunk)) else { return false };
        let kept = threads.keep(chunk, decoder);
        self.owe_kept(chunk, from, kept, stats);
        true
    }
}
