//! From the workers to the redis thread. An offer never waits: what there is no room for, in the channel or in bytes,
//! is counted and forgotten. The stream is a slot and not a message, since only the newest matters and it must not be
//! lost behind a full channel.
//!
//! Deliberately absent: the channel itself, which `gateway::wiring` makes and hands in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use crossbeam_channel::Sender;

use crate::config::RedisConfig;
use crate::log::Chunk;
use crate::observe::stats::{Gauge, Stats};
use crate::words::StreamIdentity;

/// A chunk on its way, with what it holds of the budget. Made by [`RedisSender`], read by the thread.
#[derive(Debug)]
pub struct ToRedis {
    pub(super) chunk: Arc<Chunk>,
    /// The stream that it was read from: by the time it is written there may be another one.
    pub(super) stream: Arc<StreamIdentity>,
    /// Given back when it was written or given up.
    pub(super) share: Share,
}

/// The stream as kafka-poll last saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    pub identity: Arc<StreamIdentity>,
    pub partition_count: u32,
}

/// What makes senders and tells the thread which stream this is. Kept by whoever starts workers.
#[derive(Clone, Debug)]
pub struct RedisInlet {
    chunks: Sender<ToRedis>,
    budget: Arc<Budget>,
    topology: Arc<ArcSwapOption<Topology>>,
    stats: Arc<Stats>,
}

/// The worker's end: one per stream.
#[derive(Clone, Debug)]
pub struct RedisSender {
    chunks: Sender<ToRedis>,
    budget: Arc<Budget>,
    stream: Arc<StreamIdentity>,
    stats: Arc<Stats>,
}

impl RedisInlet {
    pub fn new(chunks: Sender<ToRedis>, config: &RedisConfig, stats: Arc<Stats>) -> Self {
        let budget =
            Budget { used: AtomicU64::new(0), max: config.queue_bytes, shown: stats.redis.queue_bytes.clone() };
        Self { chunks, budget: Arc::new(budget), topology: Arc::default(), stats }
    }

    /// The slot that the thread looks into.
    pub(super) fn topology_slot(&self) -> Arc<ArcSwapOption<Topology>> {
        self.topology.clone()
    }

    /// From now on this is the stream. Must be told before its first chunk is offered.
    pub fn topology(&self, identity: Arc<StreamIdentity>, partition_count: u32) {
        self.topology.store(Some(Arc::new(Topology { identity, partition_count })));
    }

    /// The stream ended: its bounds mean nothing any more, and what waits of it is not written.
    pub fn stream_changed(&self) {
        self.topology.store(None);
    }

    pub fn for_stream(&self, stream: Arc<StreamIdentity>) -> RedisSender {
        RedisSender { chunks: self.chunks.clone(), budget: self.budget.clone(), stream, stats: self.stats.clone() }
    }
}

impl RedisSender {
    /// Never waits, and allocates nothing. False: there was no room, and the records are counted as dropped.
    pub fn offer(&self, chunk: &Arc<Chunk>) -> bool {
        let taken = self.budget.take(chunk.bytes()).is_some_and(|share| {
            let message = ToRedis { chunk: chunk.clone(), stream: self.stream.clone(), share };
            self.chunks.try_send(message).is_ok()
        });
        if !taken {
            self.stats.redis.write_dropped.add(chunk.entries().len() as u64);
        }
        taken
    }
}

/// Invariant: `used` is the sum of all live shares, and `max` is only exceeded by a single chunk that is larger than
/// all of it.
#[derive(Debug)]
struct Budget {
    used: AtomicU64,
    max: u64,
    shown: Arc<Gauge>,
}

impl Budget {
    fn take(self: &Arc<Self>, bytes: u64) -> Option<Share> {
        let fits = |used: u64| (used == 0 || used.saturating_add(bytes) <= self.max).then_some(used + bytes);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        self.shown.add(bytes);
        Some(Share { budget: self.clone(), bytes })
    }
}

/// Part of the budget, given back on drop.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    pub(super) bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.budget.shown.sub(self.bytes);
    }
}
