//! Once a second: how much there is of every partition, what is too much, and from where to where it reaches.
//!
//! Entries end by themselves (TTL), members of the index do not: those at the old end whose entry is gone are removed.
//! Above the bounds the oldest go, member and entry. Several hosts do this side by side: whatever one removes the other
//! does not find, and at worst a few entries more than necessary go.

use std::collections::BTreeMap;

use redis::{Pipeline, Value};

use super::entry::{HEAD_BYTES, Head};
use super::keys::{Keys, offset_of};
use super::link::{Failure, Link, Reply, bytes_of, members_of, number_of};
use crate::observe::stats::RedisStats;
use crate::words::{Offset, PartitionId};

/// Entries removed from one partition in one go, so that one pipeline stays small.
const TRIM_MAX: u64 = 512;
/// Members at the old end looked at in one go.
const SWEEP: i64 = 32;

/// What may be kept of one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) entries_max: u64,
}

type Bounds = BTreeMap<PartitionId, (Offset, Offset)>;

/// One look after all partitions below `partition_count`. Errors of single commands are counted; if Redis refuses to
/// tell how much there is, nothing is known, and that is a failure.
pub(super) fn upkeep(
    link: &mut Link,
    keys: &Keys,
    partition_count: u32,
    limits: Limits,
    stats: &RedisStats,
) -> Result<Bounds, Failure> {
    let mut round = Round { link, keys, stats };
    let sizes = round.sizes(partition_count)?;
    round.trim(&sizes, limits)?;
    let present: Vec<PartitionId> = sizes.into_iter().filter(|(_, size)| *size > 0).map(|(one, _)| one).collect();
    round.bounds(&present)
}

struct Round<'a> {
    link: &'a mut Link,
    keys: &'a Keys,
    stats: &'a RedisStats,
}

impl Round<'_> {
    /// Refusals become nothing, and are counted.
    fn ask(&mut self, commands: &mut Pipeline) -> Result<Vec<Value>, Failure> {
        let replies = self.link.ask(commands, &|took| self.stats.write_latency_ms.observe(took))?;
        let kept = replies.into_iter().map(|reply: Reply| {
            reply.unwrap_or_else(|_| {
                self.stats.errors.add(1);
                Value::Nil
            })
        });
        Ok(kept.collect())
    }

    fn sizes(&mut self, partition_count: u32) -> Result<Vec<(PartitionId, u64)>, Failure> {
        let partitions: Vec<PartitionId> = (0..partition_count).map(PartitionId).collect();
        let mut commands = Pipeline::with_capacity(partitions.len() + 1);
        commands.cmd("PING");
        for partition in &partitions {
            commands.cmd("ZCARD").arg(self.keys.index(*partition));
        }
        let replies = self.link.ask(&mut commands, &|took| self.stats.write_latency_ms.observe(took))?;
        let mut sizes = Vec::with_capacity(partitions.len());
        let mut refused = None;
        for (place, reply) in replies.into_iter().enumerate() {
            match reply {
                Ok(value) if place > 0 => sizes.push((partitions[place - 1], number_of(&value).unwrap_or(0))),
                Ok(_) => {}
                Err(code) => {
                    self.stats.errors.add(1);
                    refused = Some(code);
                }
            }
        }
        refused.map_or(Ok(sizes), |code| Err(Failure::Failed(format!("it refuses to be read ({code})"))))
    }

    fn trim(&mut self, sizes: &[(PartitionId, u64)], limits: Limits) -> Result<(), Failure> {
        let excess = sizes.iter().filter_map(|(partition, size)| {
            let excess = size.saturating_sub(limits.entries_max).min(TRIM_MAX);
            (excess > 0).then_some((*partition, excess))
        });
        let excess: Vec<(PartitionId, u64)> = excess.collect();
        let mut commands = Pipeline::new();
        for (partition, count) in &excess {
            commands.cmd("ZPOPMIN").arg(self.keys.index(*partition)).arg(*count);
        }
        let popped = self.ask(&mut commands)?;
        let mut commands = Pipeline::new();
        for ((partition, _), reply) in excess.iter().zip(&popped) {
            // Members and scores in turn; a score is no member.
            for offset in flat(reply).into_iter().filter_map(offset_of) {
                commands.cmd("UNLINK").arg(self.keys.entry(*partition, offset));
            }
        }
        self.ask(&mut commands).map(drop)
    }

    fn bounds(&mut self, present: &[PartitionId]) -> Result<Bounds, Failure> {
        let mut commands = Pipeline::new();
        for partition in present {
            let index = self.keys.index(*partition);
            commands.cmd("ZRANGE").arg(&index).arg(0).arg(0);
            commands.cmd("ZRANGE").arg(&index).arg(-1).arg(-1);
        }
        let ends = self.ask(&mut commands)?;
        let mut commands = Pipeline::new();
        let mut asked = Vec::new();
        for (partition, ends) in present.iter().zip(ends.chunks_exact(2)) {
            let [first, last] =
                [&ends[0], &ends[1]].map(|reply| members_of(reply).first().copied().and_then(offset_of));
            if let Some((first, last)) = first.zip(last) {
                asked.push((*partition, first, last));
                self.push_head(&mut commands, *partition, first);
                self.push_head(&mut commands, *partition, last);
            }
        }
        let heads = self.ask(&mut commands)?;
        let mut bounds = Bounds::new();
        let mut stale = Vec::new();
        for ((partition, first, last), heads) in asked.into_iter().zip(heads.chunks_exact(2)) {
            let [first_head, last_head] = [&heads[0], &heads[1]].map(head_of);
            let Some(last) = last_head.filter(|head| head.from == last) else {
                stale.push((partition, None));
                continue;
            };
            match first_head {
                Some(_) => {
                    bounds.insert(partition, (first, last.next));
                }
                None => stale.push((partition, Some(last.next))),
            }
        }
        self.sweep(&stale, &mut bounds)?;
        Ok(bounds)
    }

    fn push_head(&self, commands: &mut Pipeline, partition: PartitionId, from: Offset) {
        commands.cmd("GETRANGE").arg(self.keys.entry(partition, from)).arg(0).arg(HEAD_BYTES - 1);
    }

    /// Removes members whose entry is gone, at the old end. The first that is still there is the oldest offset.
    fn sweep(&mut self, stale: &[(PartitionId, Option<Offset>)], bounds: &mut Bounds) -> Result<(), Failure> {
        let mut commands = Pipeline::new();
        for (partition, _) in stale {
            commands.cmd("ZRANGE").arg(self.keys.index(*partition)).arg(0).arg(SWEEP - 1);
        }
        let members = self.ask(&mut commands)?;
        let members: Vec<Vec<Offset>> =
            members.iter().map(|reply| members_of(reply).into_iter().filter_map(offset_of).collect()).collect();
        let mut commands = Pipeline::new();
        for ((partition, _), members) in stale.iter().zip(&members) {
            for from in members {
                commands.cmd("EXISTS").arg(self.keys.entry(*partition, *from));
            }
        }
        let exists = self.ask(&mut commands)?;
        let mut exists = exists.iter().map(number_of);
        let mut commands = Pipeline::new();
        for ((partition, next), members) in stale.iter().zip(&members) {
            let mut oldest = None;
            for from in members {
                match exists.next().flatten() {
                    // A refusal says nothing about the entry.
                    None => {}
                    Some(0) => {
                        commands.cmd("ZREM").arg(self.keys.index(*partition)).arg(super::keys::member(*from));
                    }
                    Some(_) => oldest = oldest.or(Some(*from)),
                }
            }
            if let Some(known) = oldest.zip(*next) {
                bounds.insert(*partition, known);
            }
        }
        self.ask(&mut commands).map(drop)
    }
}

fn head_of(reply: &Value) -> Option<Head> {
    Head::read(bytes_of(reply)?).ok()
}

/// Of a list, or a list of pairs (RESP3), everything that is text.
fn flat(reply: &Value) -> Vec<&[u8]> {
    match reply {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        value => bytes_of(value).into_iter().collect(),
    }
}
