//! The redis thread: gathers chunks, writes them in pipelines, looks after what is kept, and publishes what there is.
//!
//! It waits for Redis and nobody waits for it. While Redis is away it takes nothing from its channel, which fills up
//! and then turns offers away; what it had in hand is tried twice. Whatever a command's reply says is counted: out of
//! memory, read only, loading, no permission are refusals of single commands and leave the connection in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, never, select};
use redis::Pipeline;

use super::entry::{Place, encode, records_of};
use super::gather::{Gather, Run};
use super::inlet::{RedisInlet, ToRedis, Topology};
use super::keys::{Keys, member};
use super::link::{Failure, Link, Pauses, Reply};
use super::upkeep::{Limits, upkeep};
use crate::config::Config;
use crate::config::memory::REDIS_BATCH_BYTES;
use crate::observe::stats::{Heartbeat, Stats, monotonic_ms};
use crate::observe::throttle::Throttle;

/// How long chunks are gathered. The log has the newest records; nobody looks for them here.
const GATHER: Duration = Duration::from_millis(200);
/// How often is looked after what is kept, and bounds are published.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The longest sleep: how late a new stream may be noticed.
const IDLE_INTERVAL: Duration = Duration::from_millis(500);
/// After a failure.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
/// Attempts to write what is in hand. Two, since a connection may have broken long before it was used again.
const ATTEMPTS: u32 = 2;
/// The thread's heartbeat may be this old: looking up a name blocks for as long as the resolver is patient, and Redis
/// that is away is no reason to end the process.
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(300);

/// What the thread is made from.
pub struct RedisWriterOptions {
    pub chunks: Receiver<ToRedis>,
    /// For the slot in which the stream is told.
    pub inlet: RedisInlet,
    pub config: Arc<Config>,
    pub stats: Arc<Stats>,
    /// Made with [`HEARTBEAT_LIMIT`].
    pub heartbeat: Arc<Heartbeat>,
}

/// Made by `gateway`, run on its own thread.
pub struct RedisWriter {
    chunks: Receiver<ToRedis>,
    topology_slot: Arc<ArcSwapOption<Topology>>,
    config: Arc<Config>,
    stats: Arc<Stats>,
    heartbeat: Arc<Heartbeat>,
    link: Link,
    stream: Option<(Arc<Topology>, Keys)>,
    gather: Gather,
    /// When what is in hand is to be written; None while nothing is.
    write_at: Option<Instant>,
    attempts: u32,
    upkeep_at: Instant,
    /// Of the newest entries, bytes; None before the first.
    mean_entry_bytes: Option<u64>,
    refusals: Throttle,
}

impl RedisWriter {
    /// None when `replay.redis.url` is not set. Does not connect: Redis may come later.
    pub fn new(options: RedisWriterOptions) -> Option<Self> {
        let link = Link::new(&options.config.replay.redis, PAUSES)?;
        options.stats.redis.up.set(Some(0));
        Some(Self {
            chunks: options.chunks,
            topology_slot: options.inlet.topology_slot(),
            config: options.config,
            stats: options.stats,
            heartbeat: options.heartbeat,
            link,
            stream: None,
            gather: Gather::default(),
            write_at: None,
            attempts: 0,
            upkeep_at: Instant::now(),
            mean_entry_bytes: None,
            refusals: Throttle::new(1, 10_000),
        })
    }

    /// Runs until a deadline arrives on `stop` (or `stop` is closed, which is a deadline of now), then writes what is
    /// left until that deadline, if Redis answers. The workers have stopped before.
    pub fn run(mut self, stop: &Receiver<Instant>) {
        let mut chunks = self.chunks.clone();
        loop {
            self.heartbeat.beat();
            self.look_at_stream();
            let now = Instant::now();
            if self.link.due(now).is_none() {
                // A lost connection is made by the small question, so that what is in hand does not pay for it.
                if now >= self.upkeep_at || !self.link.is_connected() {
                    self.look_after(now);
                }
                if self.link.is_connected() && self.write_at.is_some_and(|at| at <= now) {
                    self.write();
                }
            }
            let takes = self.link.is_connected() && self.gather.bytes() < REDIS_BATCH_BYTES;
            let source = if takes { chunks.clone() } else { never() };
            select! {
                recv(source) -> message => match message {
                    Ok(message) => self.take_up(message),
                    // Every worker and whoever starts them are gone; what is in hand is still to be written.
                    Err(_) => chunks = never(),
                },
                recv(stop) -> deadline => return self.end(deadline.unwrap_or_else(|_| Instant::now())),
                default(self.sleep(Instant::now())) => {}
            }
        }
    }

    fn look_at_stream(&mut self) {
        let told = self.topology_slot.load_full();
        if told.as_ref() == self.stream.as_ref().map(|(topology, _)| topology) {
            return;
        }
        let same =
            told.as_ref().zip(self.stream.as_ref()).is_some_and(|(told, (had, _))| told.identity == had.identity);
        if !same {
            self.stats.redis.bounds.store(Arc::default());
            self.stats.redis.write_dropped.add(self.gather.records());
            self.give_up_gathered();
        }
        self.stream = told.map(|topology| {
            let keys = Keys::new(&topology.identity);
            (topology, keys)
        });
        self.upkeep_at = Instant::now();
    }

    fn take_up(&mut self, message: ToRedis) {
        let mut next = Some(message);
        while let Some(message) = next.take() {
            if !self.is_of_the_stream(&message) {
                self.look_at_stream();
            }
            if self.is_of_the_stream(&message) {
                self.gather.add(message);
            } else {
                self.stats.redis.write_dropped.add(message.chunk.entries().len() as u64);
            }
            if self.gather.bytes() < REDIS_BATCH_BYTES {
                next = self.chunks.try_recv().ok();
            }
        }
        if self.gather.is_empty() {
            return;
        }
        let at = Instant::now();
        let soonest = if self.gather.bytes() >= REDIS_BATCH_BYTES { at } else { at + GATHER };
        self.write_at = Some(self.write_at.map_or(soonest, |known| known.min(soonest)));
    }

    fn is_of_the_stream(&self, message: &ToRedis) -> bool {
        self.stream.as_ref().is_some_and(|(topology, _)| {
            Arc::ptr_eq(&topology.identity, &message.stream) || topology.identity == message.stream
        })
    }

    /// Writes what is in hand, in one pipeline.
    fn write(&mut self) {
        let Some((_, keys)) = &self.stream else { return self.give_up_gathered() };
        let redis = &self.stats.redis;
        let (mut commands, written) = self.commands(keys);
        match self.link.ask(&mut commands, &|took| redis.write_latency_ms.observe(took)) {
            Ok(replies) => {
                let refused = account(&written, &replies, &self.stats);
                for entry in &written {
                    let mean = self.mean_entry_bytes.unwrap_or(entry.bytes);
                    self.mean_entry_bytes = Some((15 * mean + entry.bytes) / 16);
                }
                self.give_up_gathered();
                if let Some((code, count)) = refused {
                    self.say_refused(&code, count);
                }
            }
            Err(failure) => {
                self.attempts += 1;
                if self.attempts >= ATTEMPTS {
                    redis.write_failures.add(self.gather.records());
                    self.give_up_gathered();
                }
                self.away(failure);
            }
        }
    }

    fn commands(&self, keys: &Keys) -> (Pipeline, Vec<WrittenEntry>) {
        let ttl_ms = self.config.replay.redis.ttl.as_millis() as u64;
        let mut commands = Pipeline::new();
        let mut written = Vec::new();
        let mut partitions = BTreeSet::new();
        for run in self.gather.runs() {
            let Some(bytes) = entry_of(run, keys, self.config.redis_entry_bytes_max()) else {
                self.stats.redis.write_failures.add(run.records as u64);
                continue;
            };
            written.push(WrittenEntry { records: run.records as u64, bytes: bytes.len() as u64 });
            partitions.insert(run.partition);
            // The entry before the index: a member without an entry would be looked for in vain.
            commands.cmd("SET").arg(keys.entry(run.partition, run.from)).arg(bytes).arg("PX").arg(ttl_ms);
            commands.cmd("ZADD").arg(keys.index(run.partition)).arg(0).arg(member(run.from));
        }
        for partition in partitions {
            commands.cmd("PEXPIRE").arg(keys.index(partition)).arg(ttl_ms);
        }
        (commands, written)
    }

    fn give_up_gathered(&mut self) {
        self.gather.clear();
        self.write_at = None;
        self.attempts = 0;
    }

    fn look_after(&mut self, now: Instant) {
        self.upkeep_at = now + UPKEEP_INTERVAL;
        let was_up = self.stats.redis.up.get() == Some(1);
        // Without a stream there is nothing to look after yet; whether it answers is worth knowing all the same.
        let count = self.stream.as_ref().map_or(0, |(topology, _)| topology.partition_count);
        let limits = self.limits(count);
        let answer = match &self.stream {
            Some((_, keys)) => upkeep(&mut self.link, keys, count, limits, &self.stats.redis),
            None => upkeep(&mut self.link, &Keys::none(), count, limits, &self.stats.redis),
        };
        match answer {
            Ok(bounds) => {
                self.stats.redis.bounds.store(Arc::new(bounds));
                self.stats.redis.up.set(Some(1));
                if !was_up {
                    tracing::info!(redis = self.link.address(), "Redis answers");
                }
            }
            Err(failure) => self.away(failure),
        }
    }

    fn limits(&self, partition_count: u32) -> Limits {
        let redis = &self.config.replay.redis;
        let share = redis.max_bytes / u64::from(partition_count.max(1));
        let by_bytes = self.mean_entry_bytes.map_or(u64::MAX, |mean| (share / mean.max(1)).max(1));
        Limits { entries_max: u64::from(redis.max_entries).min(by_bytes) }
    }

    /// Nothing is known any more of what Redis has.
    fn away(&mut self, failure: Failure) {
        let Failure::Failed(why) = failure else { return };
        let redis = &self.stats.redis;
        redis.errors.add(1);
        let was_up = redis.up.get() == Some(1);
        redis.up.set(Some(0));
        redis.bounds.store(Arc::default());
        if was_up || self.refusals.allow(monotonic_ms()).is_some() {
            tracing::warn!(
                redis = self.link.address(),
                why,
                "Redis is away: older records are read from Kafka meanwhile"
            );
        }
    }

    fn say_refused(&mut self, code: &str, count: u64) {
        if let Some(unsaid) = self.refusals.allow(monotonic_ms()) {
            tracing::warn!(
                redis = self.link.address(),
                code,
                count,
                unsaid,
                "Redis refuses to write: older records are read from Kafka instead"
            );
        }
    }

    fn sleep(&self, now: Instant) -> Duration {
        let due = match self.link.due(now) {
            Some(retry) => retry,
            None => self.write_at.map_or(self.upkeep_at, |at| at.min(self.upkeep_at)),
        };
        due.saturating_duration_since(now).min(IDLE_INTERVAL)
    }

    fn end(mut self, deadline: Instant) {
        self.look_at_stream();
        while self.link.is_connected() && Instant::now() < deadline {
            self.heartbeat.beat();
            if let Ok(message) = self.chunks.try_recv() {
                self.take_up(message);
            } else if self.gather.is_empty() {
                break;
            }
            self.write();
        }
        let waiting: u64 = self.chunks.try_iter().map(|message| message.chunk.entries().len() as u64).sum();
        self.stats.redis.write_dropped.add(waiting + self.gather.records());
    }
}

/// What one entry of a pipeline counts for.
struct WrittenEntry {
    records: u64,
    bytes: u64,
}

/// Counts what Redis took and what not. The first refusal's class, and how many there were.
fn account(written: &[WrittenEntry], replies: &[Reply], stats: &Stats) -> Option<(String, u64)> {
    let redis = &stats.redis;
    let refusals = || replies.iter().filter_map(|reply| reply.as_ref().err());
    let count = refusals().count() as u64;
    redis.errors.add(count);
    for (entry, replies) in written.iter().zip(replies.chunks(2)) {
        match replies.iter().all(Result::is_ok) {
            true => {
                redis.written_records.add(entry.records);
                redis.last_write_at_ms.set(Some(monotonic_ms()));
            }
            false => redis.write_failures.add(entry.records),
        }
    }
    refusals().next().map(|code| (code.clone(), count))
}

fn entry_of(run: &Run, keys: &Keys, bytes_max: u64) -> Option<Vec<u8>> {
    let place = Place { stream: keys.stream(), partition: run.partition };
    let records = run.chunks.iter().flat_map(|message| records_of(&message.chunk));
    encode(place, (run.from, run.next), None, records, bytes_max)
}
