//! One plain picture of the process at one moment. `/health`, `/ready`, `/live`, the metrics and the watchdog all
//! read it and nothing else, so that they cannot disagree.
//!
//! Deliberately absent: judgement (`observe::verdict`), names and texts (`observe::metrics`, `observe::health`), and
//! any reading of a clock or a file: `now_ms` comes in, and `process` is filled by whoever may read `/proc`.

use std::array;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::clients::Roster;
use super::process::Process;
use super::stats::{
    Answer, Counter, DlqFailure, Gauge, Histogram, KafkaTrouble, PartitionStats, Protocol, Rejection, Replay,
    ResumeMode, Severity, ShardStats, Stats, StreamState, WorkerState,
};
use crate::config::{Assignment, Config, DlqMode, OnDecodeError, SchemaPolicy};
use crate::words::{CloseReason, DropReason, GapReason, Offset, PartitionId, SkipReason};

#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Monotonic ms at which it was taken; ages are relative to it.
    pub now_ms: u64,
    pub facts: Facts,
    pub stream: StreamState,
    pub stopping: bool,
    /// Held partitions, ascending.
    pub partitions: Vec<Partition>,
    /// Sums over every partition that was ever held: they never fall.
    pub totals: Books,
    pub last_record_age_ms: Option<u64>,
    pub shards: Shards,
    pub replay: Replay,
    /// What each shard last published of its clients.
    pub rosters: Vec<Arc<Roster>>,
    pub dlq: Dlq,
    pub redis: Redis,
    pub kafka: Kafka,
    pub threads: Vec<Thread>,
    pub rejections: [u64; Rejection::ALL.len()],
    pub connections_accepted: u64,
    pub connections_open: u64,
    pub chunk_bytes: u64,
    pub e2e_latency_ms: Buckets,
    pub clock_skew_events: u64,
    pub sequence_gap_size: Buckets,
    pub replay_latency_ms: [Buckets; ResumeMode::ALL.len()],
    /// All unknown until somebody who may read `/proc` fills it.
    pub process: Process,
}

/// What the picture needs of the configuration. No secrets.
#[derive(Clone, Debug)]
pub struct Facts {
    pub topic: String,
    pub group_id: String,
    pub assignment: Assignment,
    pub on_decode_error: OnDecodeError,
    pub payload_max_bytes: u64,
    pub schema_policy: SchemaPolicy,
    pub dlq_topic: String,
    pub dlq_mode: DlqMode,
    pub log_max_bytes: u64,
    pub lag_check_interval_ms: u64,
    /// None when there is no Redis tier.
    pub redis: Option<RedisFacts>,
}

#[derive(Clone, Debug)]
pub struct RedisFacts {
    pub ttl_seconds: u64,
    pub max_entries: u32,
}

/// What became of the records of one partition, or of all.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Books {
    pub consumed: u64,
    pub delivered: u64,
    pub delivered_bytes: u64,
    pub events: u64,
    pub dead_lettered: [u64; DropReason::ALL.len()],
    pub skipped: [u64; SkipReason::ALL.len()],
    pub warmed: u64,
    pub holes: u64,
    pub lost_to_retention: u64,
    pub sequence_gaps: u64,
    pub sequence_duplicates: u64,
    pub sequence_reorders: u64,
    pub sequence_unknown: u64,
    pub multi_thread_batches: u64,
    pub newer_schema: u64,
}

#[derive(Clone, Debug)]
pub struct Partition {
    pub partition: PartitionId,
    pub state: WorkerState,
    pub epoch: u64,
    pub books: Books,
    /// Must be 0; None when the books were being written at every try to read them.
    pub balance: Option<i128>,
    pub next: Option<u64>,
    pub commit_watermark: Option<u64>,
    pub committed: Option<u64>,
    pub low_watermark: Option<u64>,
    pub log_oldest: Option<u64>,
    pub high_watermark: Option<u64>,
    pub last_stable: Option<u64>,
    pub lag_records: Option<u64>,
    /// 0 when caught up.
    pub lag_ms: Option<u64>,
    /// Until retention by time may take the next unread record; only while something is unread and all of it known.
    pub retention_margin_ms: Option<u64>,
    /// Behind where the log ended when the worker started.
    pub catching_up: Option<bool>,
    /// The end of the warm span while `next` has not come there.
    pub warming_until: Option<Offset>,
    pub paused: Option<Paused>,
    pub ledger_open: u64,
    pub stall_repairs: u64,
    pub heartbeat_age_ms: Option<u64>,
    pub last_record_age_ms: Option<u64>,
    /// What Redis has of it: the oldest offset and the one after the newest, while known.
    pub redis: Option<(Offset, Offset)>,
}

/// The record at which `KAFKA_ON_DECODE_ERROR = pause` stopped a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paused {
    pub at: Offset,
    pub reason: Option<DropReason>,
}

/// All shards together.
#[derive(Clone, Default, Debug)]
pub struct Shards {
    pub count: u64,
    pub sessions: [u64; Protocol::ALL.len()],
    pub delivered_records: u64,
    pub delivered_bytes: u64,
    pub writes: u64,
    pub gap_records: [u64; GapReason::ALL.len()],
    pub gap_frames: [u64; GapReason::ALL.len()],
    pub closed: [u64; CloseReason::ALL.len()],
    pub vanished: u64,
    pub aborted: u64,
    pub lag_events: [u64; Severity::ALL.len()],
    pub lag_records: [u64; Severity::ALL.len()],
    pub resumes: [u64; ResumeMode::ALL.len()],
    pub answers: [u64; Answer::ALL.len()],
    pub replayed_records: [u64; ResumeMode::ALL.len()],
    pub replay_gaps: [u64; ResumeMode::ALL.len()],
    pub replay_gap_records: [u64; ResumeMode::ALL.len()],
    pub control_oversized: u64,
    pub control_parse_failures: u64,
    pub refused_frames: u64,
    pub log_chunks: u64,
    pub log_bytes: u64,
    pub log_evicted_chunks: u64,
    /// Of the shard whose log reaches back furthest.
    pub log_oldest_age_ms: Option<u64>,
    pub mid_frame_bytes: u64,
    pub inbound_bytes: u64,
    pub waiting: u64,
    pub falling_behind: u64,
    pub log_hits: u64,
    /// Of the shard that remembers most.
    pub runs: u64,
}

#[derive(Clone, Debug)]
pub struct Dlq {
    pub sent: [u64; DropReason::ALL.len()],
    pub failures: [u64; DlqFailure::ALL.len()],
    pub lost: [u64; DlqFailure::ALL.len()],
    pub queue_bytes: u64,
    pub topic_found: Option<bool>,
    pub breaker_open: bool,
}

#[derive(Clone, Debug)]
pub struct Redis {
    /// None when there is no such tier, or its thread has not begun.
    pub up: Option<bool>,
    pub errors: u64,
    pub read_latency_ms: Buckets,
    pub write_latency_ms: Buckets,
    pub hits: u64,
    pub misses: u64,
    pub refused_entries: u64,
    pub written_records: u64,
    pub write_dropped: u64,
    pub write_failures: u64,
    pub last_write_age_ms: Option<u64>,
    pub queue_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct Kafka {
    pub troubles: [u64; KafkaTrouble::ALL.len()],
    pub last_trouble_age_ms: Option<u64>,
    pub commits: u64,
    pub commit_failures: u64,
    pub last_commit_age_ms: Option<u64>,
    pub rebalances: u64,
    pub identity_checks: u64,
    pub stream_changes: u64,
    pub lag_polls_failed: u64,
    pub lag_poll_seconds_ok: Buckets,
    pub lag_poll_seconds_failed: Buckets,
    /// Age of the last lag poll that Kafka answered.
    pub last_answer_age_ms: Option<u64>,
    pub start_retries: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thread {
    pub name: String,
    pub age_ms: u64,
    pub limit_ms: u64,
}

/// A histogram as it stood.
#[derive(Clone, Debug)]
pub struct Buckets {
    pub bounds: &'static [f64],
    /// Not cumulative; one more than `bounds`.
    pub counts: Vec<u64>,
    pub sum: f64,
}

impl Snapshot {
    pub fn take(stats: &Stats, config: &Config, now_ms: u64) -> Self {
        let stream = stats.stream.read().unwrap_or_else(PoisonError::into_inner).clone();
        // Held before departed, the order in which `hold` and `release` lock them; both, so that no partition moves
        // from one to the other while they are summed.
        let held = stats.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let departed = stats.departed.lock().unwrap_or_else(PoisonError::into_inner);
        let in_redis = stats.redis.bounds.load();
        let read = |(partition, stats): (&PartitionId, &Arc<PartitionStats>)| Partition {
            redis: in_redis.get(partition).copied(),
            ..Partition::read(*partition, stats, now_ms)
        };
        let partitions: Vec<Partition> = held.iter().map(read).collect();
        let mut totals = Books::default();
        partitions.iter().for_each(|partition| totals.add(&partition.books));
        departed.values().for_each(|stats| totals.add(&Books::read(stats)));
        let last_record_at = held.values().chain(departed.values()).filter_map(|one| one.last_record_at_ms.get()).max();
        drop((held, departed));

        let mut shards = Shards::default();
        for shard in stats.shards.get().map(Vec::as_slice).unwrap_or_default() {
            shards.add(shard, now_ms);
        }
        Self {
            now_ms,
            facts: Facts::of(config),
            stream,
            stopping: stats.stopping.get() > 0,
            partitions,
            totals,
            last_record_age_ms: age(now_ms, last_record_at),
            shards,
            replay: stats.replay.read(&stats.cold_bytes),
            rosters: stats.shards.get().into_iter().flatten().map(|shard| shard.roster.load_full()).collect(),
            dlq: Dlq {
                sent: counts(&stats.dlq.sent),
                failures: counts(&stats.dlq.failures),
                lost: counts(&stats.dlq.lost),
                queue_bytes: stats.dlq.queue_bytes.get(),
                topic_found: stats.dlq.topic_found.get().map(|found| found > 0),
                breaker_open: stats.dlq.breaker_open.get() > 0,
            },
            redis: Redis::read(stats, now_ms),
            kafka: Kafka::read(stats, now_ms),
            threads: threads(stats, now_ms),
            rejections: counts(&stats.rejections),
            connections_accepted: stats.connections_accepted.get(),
            connections_open: stats.connections_open.get(),
            chunk_bytes: stats.chunk_bytes.get(),
            e2e_latency_ms: Buckets::read(stats.e2e_latency()),
            clock_skew_events: stats.clock_skew_events.get(),
            sequence_gap_size: Buckets::read(stats.gap_size()),
            replay_latency_ms: ResumeMode::ALL.map(|mode| Buckets::read(stats.replay_latency(mode))),
            process: Process::default(),
        }
    }

    pub fn connected_clients(&self) -> u64 {
        self.shards.sessions.iter().sum()
    }

    pub fn decode_errors(&self) -> u64 {
        self.totals.dead_lettered.iter().sum()
    }

    pub fn infrastructure_errors(&self) -> u64 {
        self.kafka.troubles.iter().sum()
    }

    /// Records that live clients lost because they were slower than the log moved on, summed over clients.
    pub fn dropped_records(&self) -> u64 {
        self.shards.gap_records[Stats::gap_index(GapReason::SlowClient)]
    }

    pub fn closed(&self, reason: CloseReason) -> u64 {
        let index = CloseReason::ALL.iter().position(|other| *other == reason);
        index.map_or(0, |index| self.shards.closed[index])
    }

    /// None while the lag of any held partition is unknown, or none is held: a sum with a hole in it is no sum.
    pub fn lag_records(&self) -> Option<u64> {
        let known: Option<Vec<u64>> = self.partitions.iter().map(|partition| partition.lag_records).collect();
        known.filter(|known| !known.is_empty()).map(|known| known.iter().sum())
    }
}

impl Facts {
    fn of(config: &Config) -> Self {
        Self {
            topic: config.kafka.topic.clone(),
            group_id: config.kafka.group_id.clone(),
            assignment: config.kafka.assignment,
            on_decode_error: config.kafka.on_decode_error,
            payload_max_bytes: config.kafka.payload_max_bytes,
            schema_policy: config.schema.policy,
            dlq_topic: config.dlq.topic.clone(),
            dlq_mode: config.dlq.mode,
            log_max_bytes: config.log.max_bytes,
            lag_check_interval_ms: config.lag.check_interval.as_millis() as u64,
            redis: config.replay.redis.is_on().then_some(RedisFacts {
                ttl_seconds: config.replay.redis.ttl.as_secs(),
                max_entries: config.replay.redis.max_entries,
            }),
        }
    }
}

impl Books {
    fn read(stats: &PartitionStats) -> Self {
        Self {
            consumed: stats.consumed.get(),
            delivered: stats.delivered.get(),
            delivered_bytes: stats.delivered_bytes.get(),
            events: stats.events.get(),
            dead_lettered: counts(&stats.dead_lettered),
            skipped: counts(&stats.skipped),
            warmed: stats.warmed.get(),
            holes: stats.holes.get(),
            lost_to_retention: stats.lost_to_retention.get(),
            sequence_gaps: stats.sequence_gaps.get(),
            sequence_duplicates: stats.sequence_duplicates.get(),
            sequence_reorders: stats.sequence_reorders.get(),
            sequence_unknown: stats.sequence_unknown.get(),
            multi_thread_batches: stats.multi_thread_batches.get(),
            newer_schema: stats.newer_schema.get(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.consumed += other.consumed;
        self.delivered += other.delivered;
        self.delivered_bytes += other.delivered_bytes;
        self.events += other.events;
        add_each(&mut self.dead_lettered, &other.dead_lettered);
        add_each(&mut self.skipped, &other.skipped);
        self.warmed += other.warmed;
        self.holes += other.holes;
        self.lost_to_retention += other.lost_to_retention;
        self.sequence_gaps += other.sequence_gaps;
        self.sequence_duplicates += other.sequence_duplicates;
        self.sequence_reorders += other.sequence_reorders;
        self.sequence_unknown += other.sequence_unknown;
        self.multi_thread_batches += other.multi_thread_batches;
        self.newer_schema += other.newer_schema;
    }

    /// consumed − delivered − dead-lettered − skipped: anything but 0 is a record without a disposition, or with two.
    pub fn difference(&self) -> i128 {
        let disposed = self
            .dead_lettered
            .iter()
            .chain(&self.skipped)
            .fold(u128::from(self.delivered), |sum, count| sum + u128::from(*count));
        i128::from(self.consumed) - disposed as i128
    }
}

impl Partition {
    fn read(partition: PartitionId, stats: &PartitionStats, now_ms: u64) -> Self {
        let settled = stats.settled(Books::read);
        let balance = settled.as_ref().map(Books::difference);
        let next = stats.next.get();
        let paused = stats.paused_at.get().map(|at| Paused {
            at: Offset(at),
            reason: stats.paused_reason.get().and_then(|index| DropReason::ALL.get(index as usize).copied()),
        });
        Self {
            partition,
            state: stats.state(),
            epoch: stats.epoch.get(),
            books: settled.unwrap_or_else(|| Books::read(stats)),
            balance,
            next,
            commit_watermark: stats.commit_watermark.get(),
            committed: stats.committed.get(),
            low_watermark: stats.low_watermark.get(),
            log_oldest: stats.log_oldest.get(),
            high_watermark: stats.high_watermark.get(),
            last_stable: stats.last_stable.get(),
            lag_records: stats.lag_records.get(),
            // Caught up is 0 whatever age was last measured.
            retention_margin_ms: stats.retention_margin_ms.get(),
            lag_ms: if stats.lag_records.get() == Some(0) { Some(0) } else { stats.lag_ms.get() },
            catching_up: next.zip(stats.catch_up_to.get()).map(|(next, head)| next < head),
            warming_until: stats.warm_until.get().filter(|end| next.is_none_or(|next| next < *end)).map(Offset),
            paused,
            ledger_open: stats.ledger_open.get(),
            stall_repairs: stats.stall_repairs.get(),
            heartbeat_age_ms: age(now_ms, Some(stats.heartbeat_ms.get()).filter(|beat| *beat > 0)),
            last_record_age_ms: age(now_ms, stats.last_record_at_ms.get()),
            redis: None,
        }
    }
}

impl Shards {
    fn add(&mut self, shard: &ShardStats, now_ms: u64) {
        self.count += 1;
        add_each(&mut self.sessions, &gauges(&shard.sessions));
        self.delivered_records += shard.delivered_records.get();
        self.delivered_bytes += shard.delivered_bytes.get();
        self.writes += shard.writes.get();
        add_each(&mut self.gap_records, &counts(&shard.gap_records));
        add_each(&mut self.gap_frames, &counts(&shard.gap_frames));
        add_each(&mut self.closed, &counts(&shard.closed));
        self.vanished += shard.vanished.get();
        self.aborted += shard.aborted.get();
        add_each(&mut self.lag_events, &counts(&shard.lag_events));
        add_each(&mut self.lag_records, &counts(&shard.lag_records));
        add_each(&mut self.resumes, &counts(&shard.resumes));
        add_each(&mut self.answers, &counts(&shard.answers));
        add_each(&mut self.replayed_records, &counts(&shard.replayed_records));
        add_each(&mut self.replay_gaps, &counts(&shard.replay_gaps));
        add_each(&mut self.replay_gap_records, &counts(&shard.replay_gap_records));
        self.control_oversized += shard.control_oversized.get();
        self.control_parse_failures += shard.control_parse_failures.get();
        self.refused_frames += shard.refused_frames.get();
        self.log_chunks += shard.log_chunks.get();
        self.log_bytes += shard.log_bytes.get();
        self.log_evicted_chunks += shard.log_evicted_chunks.get();
        self.log_oldest_age_ms = self.log_oldest_age_ms.max(age(now_ms, shard.log_oldest_at_ms.get()));
        self.mid_frame_bytes += shard.mid_frame_bytes.get();
        self.inbound_bytes += shard.inbound_bytes.get();
        self.waiting += shard.waiting.get();
        self.falling_behind += shard.falling_behind.get();
        self.log_hits += shard.log_hits.get();
        self.runs = self.runs.max(shard.runs.get());
    }
}

impl Redis {
    fn read(stats: &Stats, now_ms: u64) -> Self {
        let redis = &stats.redis;
        Self {
            up: redis.up.get().map(|up| up > 0),
            errors: redis.errors.get(),
            read_latency_ms: Buckets::read(&redis.read_latency_ms),
            write_latency_ms: Buckets::read(&redis.write_latency_ms),
            hits: redis.hits.get(),
            misses: redis.misses.get(),
            refused_entries: redis.refused_entries.get(),
            written_records: redis.written_records.get(),
            write_dropped: redis.write_dropped.get(),
            write_failures: redis.write_failures.get(),
            last_write_age_ms: age(now_ms, redis.last_write_at_ms.get()),
            queue_bytes: redis.queue_bytes.get(),
        }
    }
}

impl Kafka {
    fn read(stats: &Stats, now_ms: u64) -> Self {
        let kafka = &stats.kafka;
        Self {
            troubles: counts(&kafka.troubles),
            last_trouble_age_ms: age(now_ms, kafka.last_trouble_at_ms.get()),
            commits: kafka.commits.get(),
            commit_failures: kafka.commit_failures.get(),
            last_commit_age_ms: age(now_ms, kafka.last_commit_at_ms.get()),
            rebalances: kafka.rebalances.get(),
            identity_checks: kafka.identity_checks.get(),
            stream_changes: kafka.stream_changes.get(),
            lag_polls_failed: kafka.lag_polls_failed.get(),
            lag_poll_seconds_ok: Buckets::read(&kafka.lag_poll_seconds_ok),
            lag_poll_seconds_failed: Buckets::read(&kafka.lag_poll_seconds_failed),
            last_answer_age_ms: age(now_ms, kafka.lag_polled_at_ms.get()),
            start_retries: kafka.start_retries.get(),
        }
    }
}

impl Buckets {
    fn read(histogram: &Histogram) -> Self {
        let (counts, sum) = histogram.read();
        Self { bounds: histogram.bounds, counts, sum }
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// By name, each name once: of two threads of one name (a fenced worker and its successor) the later beat is worse
/// news and is the one shown.
fn threads(stats: &Stats, now_ms: u64) -> Vec<Thread> {
    let heartbeats = stats.heartbeats.lock().unwrap_or_else(PoisonError::into_inner);
    let mut threads: BTreeMap<String, Thread> = BTreeMap::new();
    for heartbeat in heartbeats.iter() {
        let age_ms = now_ms.saturating_sub(heartbeat.last_ms.get());
        let thread = Thread { name: heartbeat.name.clone(), age_ms, limit_ms: heartbeat.limit_ms };
        let slot = threads.entry(heartbeat.name.clone()).or_insert_with(|| thread.clone());
        if slot.age_ms < age_ms {
            *slot = thread;
        }
    }
    threads.into_values().collect()
}

fn age(now_ms: u64, at_ms: Option<u64>) -> Option<u64> {
    at_ms.map(|at_ms| now_ms.saturating_sub(at_ms))
}

fn counts<const N: usize>(counters: &[Counter; N]) -> [u64; N] {
    array::from_fn(|index| counters[index].get())
}

fn gauges<const N: usize>(gauges: &[Gauge; N]) -> [u64; N] {
    array::from_fn(|index| gauges[index].get())
}

fn add_each<const N: usize>(sums: &mut [u64; N], values: &[u64; N]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
