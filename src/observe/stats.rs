//! The numbers that every room keeps and `observe` alone publishes: plain atomics, one owner each, resolved once
//! at thread start. A writer flushes once per batch; nobody looks up a label on the path of a record.
//!
//! Deliberately absent: names, help texts and formats of metrics (`observe::metrics`), and any arithmetic across
//! partitions (`observe::snapshot`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub use super::replay_stats::{Replay, ReplayStats, ReplayTier};
use arc_swap::ArcSwap;

use super::clients::Roster;
use super::throttle::Told;
use crate::words::{CloseReason, DropReason, GapReason, Offset, PartitionId, SkipReason, StreamIdentity};

/// Milliseconds of the monotonic clock since the process first asked, plus one, so that 0 can mean never. Never goes
/// back. Cores never call it.
pub fn monotonic_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64 + 1
}

/// Wall clock, ms since the epoch: only to be compared with Kafka's timestamps, or shown to people.
pub fn wall_clock_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Only goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        if amount > 0 {
            self.0.fetch_add(amount, Ordering::Relaxed);
        }
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that is always known.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::AcqRel);
    }

    pub fn sub(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::AcqRel);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A value that may be unknown, and is then absent: never 0, never -1. `u64::MAX` is the mark and not a value.
#[derive(Debug)]
pub struct MaybeGauge(AtomicU64);

impl Default for MaybeGauge {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl MaybeGauge {
    pub fn set(&self, value: Option<u64>) {
        self.0.store(value.unwrap_or(u64::MAX), Ordering::Release);
    }

    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|value| *value != u64::MAX)
    }
}

/// A histogram with fixed upper bounds; the last bucket, without a bound, is kept besides.
#[derive(Debug)]
pub struct Histogram {
    pub bounds: &'static [f64],
    buckets: Box<[AtomicU64]>,
    /// Sum of observations in thousandths, so that it is an integer.
    sum_thousandths: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum_thousandths: AtomicU64::new(0) }
    }

    /// Negative and non-finite values are not observations and are ignored.
    pub fn observe(&self, value: f64) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_thousandths.fetch_add((value * 1000.0) as u64, Ordering::Relaxed);
    }

    /// Counts per bucket (not cumulative; the last has no bound) and the sum.
    pub fn read(&self) -> (Vec<u64>, f64) {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        (counts, self.sum_thousandths.load(Ordering::Relaxed) as f64 / 1000.0)
    }
}

/// What a worker is doing, so that a watchdog can tell stuck from idle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerState {
    /// Asked librdkafka and waits for records.
    Waiting,
    /// Has records in hand.
    Working,
    /// Waits for room towards the shards.
    Sending,
    /// Waits for room in the dead-letter queue or its ledger.
    DeadLettering,
    /// `KAFKA_ON_DECODE_ERROR = pause` stopped this partition at a record.
    Paused,
    /// No worker runs.
    Stopped,
}

impl WorkerState {
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Working, Self::Sending, Self::DeadLettering, Self::Paused, Self::Stopped];

    pub fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Working => "working",
            Self::Sending => "sending",
            Self::DeadLettering => "dlq",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// One held partition. Written by its worker unless a field says otherwise.
#[derive(Debug, Default)]
pub struct PartitionStats {
    state: AtomicU64,
    /// Odd while [`PartitionStats::flush`] runs, so that a reader sees either all of a batch or nothing of it.
    books: AtomicU64,
    /// Monotonic ms of the worker's last turn.
    pub heartbeat_ms: Gauge,
    /// The next offset that the worker will read: everything below it has a disposition.
    pub next: MaybeGauge,
    /// min(next after the last chunk that all shards took, first unacknowledged dead letter under fail_closed).
    pub commit_watermark: MaybeGauge,
    /// Where the warm part of the log begins: written into commit metadata.
    pub warm_from: MaybeGauge,
    /// Last offset that Kafka confirmed as committed. Written by kafka-poll.
    pub committed: MaybeGauge,
    /// Epoch of the assignment. Written by kafka-poll.
    pub epoch: Gauge,

    pub consumed: Counter,
    pub delivered: Counter,
    pub delivered_bytes: Counter,
    pub events: Counter,
    pub dead_lettered: [Counter; DropReason::ALL.len()],
    pub skipped: [Counter; SkipReason::ALL.len()],
    /// Records read again below the commit to fill the log; in no other count.
    pub warmed: Counter,
    /// Offsets covered that were never records for us.
    pub holes: Counter,
    /// Records that Kafka's retention took before we read them.
    pub lost_to_retention: Counter,

    pub sequence_gaps: Counter,
    pub sequence_duplicates: Counter,
    pub sequence_reorders: Counter,
    /// Events with sequence 0 or without a thread: the validator cannot say anything.
    pub sequence_unknown: Counter,
    pub multi_thread_batches: Counter,
    pub newer_schema: Counter,

    /// Kafka's timestamp of the last record read, ms since the epoch.
    pub last_record_timestamp_ms: MaybeGauge,
    /// Monotonic ms when the last record was read.
    pub last_record_at_ms: MaybeGauge,
    /// The record at which `pause` stopped this partition, and the index of its reason in `DropReason::ALL`.
    pub paused_at: MaybeGauge,
    pub paused_reason: MaybeGauge,
    /// Dead letters sent and not acknowledged.
    pub ledger_open: Gauge,

    /// Kafka's log start, high watermark and last stable offset. Written by lag; absent while unknown.
    pub low_watermark: MaybeGauge,
    /// Where the log of the partition begins.
    pub log_oldest: MaybeGauge,
    pub high_watermark: MaybeGauge,
    pub last_stable: MaybeGauge,
    /// Last stable offset − next, floored at 0. Written by lag; absent while unknown.
    pub lag_records: MaybeGauge,
    /// Age of the next unread record in ms; 0 when caught up; absent while unknown. Written by lag.
    pub lag_ms: MaybeGauge,
    /// Ms until retention by time may take the next unread record.
    pub retention_margin_ms: MaybeGauge,
    /// The stall watchdog's re-assignments of this partition. Written by lag.
    pub stall_repairs: Counter,
    /// The last stable offset when the worker started: at or beyond it the partition is caught up. Written by kafka-poll.
    pub catch_up_to: MaybeGauge,
    /// The end of the warm span: `/ready` waits until `next` is there. Written by kafka-poll.
    pub warm_until: MaybeGauge,
}

impl PartitionStats {
    pub fn set_state(&self, state: WorkerState) {
        self.state.store(state as u64, Ordering::Release);
    }

    pub fn state(&self) -> WorkerState {
        let index = self.state.load(Ordering::Acquire) as usize;
        WorkerState::ALL.get(index).copied().unwrap_or(WorkerState::Stopped)
    }

    /// The worker adds the numbers of a batch inside `write`: consumed and its dispositions together, so that nobody
    /// sees books that do not balance only because they were half written. One writer.
    pub fn flush(&self, write: impl FnOnce(&Self)) {
        self.books.fetch_add(1, Ordering::AcqRel);
        write(self);
        self.books.fetch_add(1, Ordering::AcqRel);
    }

    /// What `read` returns, read while no flush ran; None if every try met one.
    pub fn settled<T>(&self, read: impl Fn(&Self) -> T) -> Option<T> {
        for _ in 0..64 {
            let before = self.books.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let value = read(self);
                std::sync::atomic::fence(Ordering::Acquire);
                if self.books.load(Ordering::Acquire) == before {
                    return Some(value);
                }
            }
            std::thread::yield_now();
        }
        None
    }

    /// Nothing is known any more of a partition that is not ours. Counters stay: they only go up.
    fn forget(&self) {
        self.set_state(WorkerState::Stopped);
        self.ledger_open.set(0);
        for gauge in [
            &self.next,
            &self.commit_watermark,
            &self.warm_from,
            &self.committed,
            &self.last_record_timestamp_ms,
            &self.paused_at,
            &self.paused_reason,
            &self.low_watermark,
            &self.log_oldest,
            &self.high_watermark,
            &self.last_stable,
            &self.lag_records,
            &self.lag_ms,
            &self.retention_margin_ms,
            &self.catch_up_to,
            &self.warm_until,
        ] {
            gauge.set(None);
        }
    }
}

/// How bad it is that a client fell behind: the predecessor's `severity`, by the records lost at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    pub fn of(records: u64) -> Self {
        match records {
            0..10 => Self::Info,
            10..100 => Self::Warning,
            _ => Self::Critical,
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One shard. Written by that shard.
#[derive(Debug, Default)]
pub struct ShardStats {
    pub sessions: [Gauge; Protocol::ALL.len()],
    pub delivered_records: Counter,
    pub delivered_bytes: Counter,
    pub writes: Counter,
    pub gap_records: [Counter; GapReason::ALL.len()],
    pub gap_frames: [Counter; GapReason::ALL.len()],
    pub closed: [Counter; CloseReason::ALL.len()],
    /// Connections that ended without a close frame from either side.
    pub vanished: Counter,
    /// Closes that the client could not take by the deadline.
    pub aborted: Counter,
    /// Times that a client fell off the tail, and the records that it lost by it: see [`ShardStats::fell_behind`].
    pub lag_events: [Counter; Severity::ALL.len()],
    pub lag_records: [Counter; Severity::ALL.len()],
    pub resumes: [Counter; ResumeMode::ALL.len()],
    pub answers: [Counter; Answer::ALL.len()],
    pub replayed_records: [Counter; ResumeMode::ALL.len()],
    /// Gaps told as the answer to a resume, and the records in them.
    pub replay_gaps: [Counter; ResumeMode::ALL.len()],
    pub replay_gap_records: [Counter; ResumeMode::ALL.len()],
    pub control_oversized: Counter,
    pub control_parse_failures: Counter,
    pub refused_frames: Counter,
    pub log_chunks: Gauge,
    pub log_bytes: Gauge,
    pub log_evicted_chunks: Counter,
    /// Span of the ring: monotonic ms at which its oldest chunk was made.
    pub log_oldest_at_ms: MaybeGauge,
    pub mid_frame_bytes: Gauge,
    pub inbound_bytes: Gauge,
    /// Sessions that wait for a seat among those who replay from below the log.
    pub waiting: Gauge,
    pub falling_behind: Counter,
    /// Resumes that were answered from the log alone.
    pub log_hits: Counter,
    pub runs: Gauge,
    /// Its clients, for operators: swapped about once a second.
    pub roster: ArcSwap<Roster>,
}

impl ShardStats {
    /// A live client lost `records` at once because it was slower than the log moved on.
    pub fn fell_behind(&self, records: u64) {
        let severity = Severity::of(records) as usize;
        self.lag_events[severity].add(1);
        self.lag_records[severity].add(records);
    }

    /// The answer to a resume named a gap of `records`.
    pub fn replay_gap(&self, mode: ResumeMode, records: u64) {
        self.replay_gaps[mode as usize].add(1);
        self.replay_gap_records[mode as usize].add(records);
    }
}

/// What a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    V1,
    V2,
    Json,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::V1, Self::V2, Self::Json];

    /// The WebSocket subprotocol and the metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::V1 => "dashstream.v1",
            Self::V2 => "dashstream.v2",
            Self::Json => "dashstream.json",
        }
    }
}

/// Where a resume starts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResumeMode {
    /// From a cursor, earliest or latest: the predecessor's `partition`.
    Partition,
    /// From sequences per thread: the predecessor's `thread`, v1 only.
    Thread,
}

impl ResumeMode {
    pub const ALL: [Self; 2] = [Self::Partition, Self::Thread];

    pub fn label(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Thread => "thread",
        }
    }
}

/// The typed answers to a cursor, per partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Resumed,
    Truncated,
    Future,
    WrongStream,
    UnknownPartition,
    NotHere,
    Unavailable,
}

impl Answer {
    pub const ALL: [Self; 7] = [
        Self::Resumed,
        Self::Truncated,
        Self::Future,
        Self::WrongStream,
        Self::UnknownPartition,
        Self::NotHere,
        Self::Unavailable,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::Truncated => "truncated",
            Self::Future => "future",
            Self::WrongStream => "wrong_stream",
            Self::UnknownPartition => "unknown_partition",
            Self::NotHere => "not_here",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why a connection was turned away before it became a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// 503: `server.max_connections`.
    Full,
    /// 429: `server.max_connections_per_ip`.
    PerIp,
    /// 400: not an upgrade that RFC 6455 allows.
    BadUpgrade,
    /// 431: the request head is larger than the limit.
    HeadTooLarge,
    /// 408: no complete request within `client.handshake_timeout`.
    Timeout,
    /// 503: identity or assignment not yet known.
    NotReady,
    /// The file descriptors ran out.
    NoDescriptors,
}

impl Rejection {
    pub const ALL: [Self; 7] = [
        Self::Full,
        Self::PerIp,
        Self::BadUpgrade,
        Self::HeadTooLarge,
        Self::Timeout,
        Self::NotReady,
        Self::NoDescriptors,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::PerIp => "per_ip",
            Self::BadUpgrade => "bad_upgrade",
            Self::HeadTooLarge => "head_too_large",
            Self::Timeout => "timeout",
            Self::NotReady => "not_ready",
            Self::NoDescriptors => "no_descriptors",
        }
    }
}

/// Kinds of trouble with the brokers (the predecessor's `error_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KafkaTrouble {
    DnsFailure,
    ConnectionTimeout,
    BrokerDown,
    Authentication,
    Authorization,
    Unknown,
}

impl KafkaTrouble {
    pub const ALL: [Self; 6] = [
        Self::DnsFailure,
        Self::ConnectionTimeout,
        Self::BrokerDown,
        Self::Authentication,
        Self::Authorization,
        Self::Unknown,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::DnsFailure => "dns_failure",
            Self::ConnectionTimeout => "connection_timeout",
            Self::BrokerDown => "broker_down",
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a dead letter was lost (only ever under `dlq.mode = fail_open`) or has to be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DlqFailure {
    Timeout,
    KafkaError,
    Backpressure,
}

impl DlqFailure {
    pub const ALL: [Self; 3] = [Self::Timeout, Self::KafkaError, Self::Backpressure];

    pub fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::KafkaError => "kafka_error",
            Self::Backpressure => "backpressure",
        }
    }
}

/// The dead-letter thread.
#[derive(Debug, Default)]
pub struct DlqStats {
    /// Acknowledged by Kafka, per reason of the record.
    pub sent: [Counter; DropReason::ALL.len()],
    /// Attempts that failed. Under fail_closed they are tried again.
    pub failures: [Counter; DlqFailure::ALL.len()],
    /// Given up: only under fail_open.
    pub lost: [Counter; DlqFailure::ALL.len()],
    pub queue_bytes: Gauge,
    /// 1 when the topic was found, 0 when it is known to be missing; absent before the first answer.
    pub topic_found: MaybeGauge,
    /// 1 while the breaker is open.
    pub breaker_open: Gauge,
}

/// What Redis has of each partition, as far as its index shows: the oldest offset and the offset after the newest.
/// There may be holes between. Empty while Redis is not reachable, or the stream is not known.
pub type RedisBounds = Arc<ArcSwap<BTreeMap<PartitionId, (Offset, Offset)>>>;

/// The Redis tier. Written by its thread unless a field says otherwise.
#[derive(Debug)]
pub struct RedisStats {
    /// 1 while Redis answers, 0 while it does not; absent when there is no such tier.
    pub up: MaybeGauge,
    /// Everything that Redis refused or did not answer, reading and writing.
    pub errors: Counter,
    /// Round trips of the cold readers, and written by them.
    pub read_latency_ms: Histogram,
    pub write_latency_ms: Histogram,
    /// Reads that Redis could serve, and those that it could not. Written by the cold readers.
    pub hits: Counter,
    pub misses: Counter,
    /// Entries that were found and not believed: of another version or stream, or damaged. Written by the cold readers.
    pub refused_entries: Counter,
    pub written_records: Counter,
    /// Records that were not offered to Redis for want of room. Written by the workers.
    pub write_dropped: Counter,
    /// Records that Redis did not take.
    pub write_failures: Counter,
    /// Monotonic ms at which Redis last took something.
    pub last_write_at_ms: MaybeGauge,
    /// Bytes of chunks that wait to be written or are being written.
    pub queue_bytes: Arc<Gauge>,
    pub bounds: RedisBounds,
}

/// Milliseconds, as in the predecessor's `redis_latency_ms`.
pub const REDIS_BOUNDS: &[f64] = &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

impl Default for RedisStats {
    fn default() -> Self {
        Self {
            up: MaybeGauge::default(),
            errors: Counter::default(),
            read_latency_ms: Histogram::new(REDIS_BOUNDS),
            write_latency_ms: Histogram::new(REDIS_BOUNDS),
            hits: Counter::default(),
            misses: Counter::default(),
            refused_entries: Counter::default(),
            written_records: Counter::default(),
            write_dropped: Counter::default(),
            write_failures: Counter::default(),
            last_write_at_ms: MaybeGauge::default(),
            queue_bytes: Arc::default(),
            bounds: Arc::default(),
        }
    }
}

/// The Kafka side as a whole.
#[derive(Debug)]
pub struct KafkaStats {
    pub troubles: [Counter; KafkaTrouble::ALL.len()],
    pub last_trouble_at_ms: MaybeGauge,
    pub commits: Counter,
    pub commit_failures: Counter,
    pub last_commit_at_ms: MaybeGauge,
    pub rebalances: Counter,
    pub identity_checks: Counter,
    pub stream_changes: Counter,
    pub lag_polls_failed: Counter,
    pub lag_poll_seconds_ok: Histogram,
    pub lag_poll_seconds_failed: Histogram,
    /// Monotonic ms of the last lag poll that succeeded.
    pub lag_polled_at_ms: MaybeGauge,
    /// Attempts that the start-up steps needed beyond the first.
    pub start_retries: Counter,
    /// What the clients have said, so that several of them do not say the same.
    pub told: Mutex<Told>,
}

/// Seconds, as in the predecessor's `websocket_kafka_lag_poll_duration_seconds`.
pub const LAG_POLL_BOUNDS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Milliseconds: the predecessor's bounds of `websocket_e2e_latency_ms`, with finer ones below 100.
pub const LATENCY_BOUNDS: &[f64] =
    &[0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 25000.0, 50000.0];
/// Sizes of sequence gaps.
pub const GAP_SIZE_BOUNDS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 5000.0, 10000.0];
/// Milliseconds of a replay, the predecessor's bounds.
pub const REPLAY_BOUNDS: &[f64] = &[10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0];

impl Default for KafkaStats {
    fn default() -> Self {
        Self {
            troubles: Default::default(),
            last_trouble_at_ms: MaybeGauge::default(),
            told: Mutex::default(),
            commits: Counter::default(),
            commit_failures: Counter::default(),
            last_commit_at_ms: MaybeGauge::default(),
            rebalances: Counter::default(),
            identity_checks: Counter::default(),
            stream_changes: Counter::default(),
            lag_polls_failed: Counter::default(),
            lag_poll_seconds_ok: Histogram::new(LAG_POLL_BOUNDS),
            lag_poll_seconds_failed: Histogram::new(LAG_POLL_BOUNDS),
            lag_polled_at_ms: MaybeGauge::default(),
            start_retries: Counter::default(),
        }
    }
}

/// A thread that must show life.
#[derive(Debug)]
pub struct Heartbeat {
    pub name: String,
    /// Monotonic ms of its last sign of life.
    pub last_ms: Gauge,
    /// Older than this is trouble. The longest that the thread may legitimately wait, with room.
    pub limit_ms: u64,
}

impl Heartbeat {
    pub fn beat(&self) {
        self.last_ms.set(monotonic_ms());
    }
}

/// What is known of the stream as a whole. Written by kafka-poll.
#[derive(Clone, Debug, Default)]
pub struct StreamState {
    /// None until the first identity check succeeded.
    pub identity: Option<StreamIdentity>,
    /// Partitions that the topic has; None until known.
    pub partition_count: Option<u32>,
    /// The first assignment was applied.
    pub assigned: bool,
    /// Why nothing flows, in words for a human: "topic … does not exist yet". None when nothing is in the way.
    pub waiting_for: Option<String>,
    /// Partitions that are stopped by more than their worker: high watermark fell, start refused … with the reason.
    pub stopped: BTreeMap<PartitionId, String>,
}

/// All of it. One value per process, made at start, shared by reference count.
#[derive(Debug, Default)]
pub struct Stats {
    /// Held partitions. Changed through [`Stats::hold`] and [`Stats::release`].
    pub partitions: RwLock<BTreeMap<PartitionId, Arc<PartitionStats>>>,
    /// Partitions that were held once. Kept for their counters, so that totals never fall; taken back by `hold`.
    pub departed: Mutex<BTreeMap<PartitionId, Arc<PartitionStats>>>,
    pub shards: OnceLock<Vec<Arc<ShardStats>>>,
    pub dlq: DlqStats,
    pub redis: RedisStats,
    pub kafka: KafkaStats,
    pub stream: RwLock<StreamState>,
    pub heartbeats: Mutex<Vec<Arc<Heartbeat>>>,
    pub rejections: [Counter; Rejection::ALL.len()],
    pub connections_accepted: Counter,
    pub connections_open: Gauge,
    /// Live bytes of chunks and their forms, struct overhead included, in the whole process.
    pub chunk_bytes: Arc<Gauge>,
    /// The same of chunks that were read from below the log: they never push the log out.
    pub cold_bytes: Arc<Gauge>,
    pub replay: ReplayStats,
    /// Producer clock to our reading, sampled once per chunk; clocks differ between hosts, so it is an estimate.
    pub e2e_latency_ms: OnceLock<Histogram>,
    /// Samples of the former that were negative or over an hour.
    pub clock_skew_events: Counter,
    pub sequence_gap_size: OnceLock<Histogram>,
    pub replay_latency_ms: OnceLock<[Histogram; ResumeMode::ALL.len()]>,
    /// Set once when the process begins to stop.
    pub stopping: Gauge,
}

impl Stats {
    pub fn partition(&self, partition: PartitionId) -> Option<Arc<PartitionStats>> {
        self.partitions.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&partition).cloned()
    }

    /// The partition is ours now: its stats, made or taken up where they were left.
    pub fn hold(&self, partition: PartitionId) -> Arc<PartitionStats> {
        let mut partitions = self.partitions.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut departed = self.departed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let stats = partitions.entry(partition).or_insert_with(|| departed.remove(&partition).unwrap_or_default());
        stats.clone()
    }

    /// The partition is no longer ours: its series disappear, its counters stay in the totals.
    pub fn release(&self, partition: PartitionId) {
        let mut partitions = self.partitions.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut departed = self.departed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(stats) = partitions.remove(&partition) {
            stats.forget();
            departed.insert(partition, stats);
        }
    }

    /// No partition is ours any more: the stream is another one now.
    pub fn release_all(&self) {
        let held: Vec<PartitionId> =
            self.partitions.read().unwrap_or_else(|poisoned| poisoned.into_inner()).keys().copied().collect();
        held.into_iter().for_each(|partition| self.release(partition));
    }

    pub fn e2e_latency(&self) -> &Histogram {
        self.e2e_latency_ms.get_or_init(|| Histogram::new(LATENCY_BOUNDS))
    }

    pub fn gap_size(&self) -> &Histogram {
        self.sequence_gap_size.get_or_init(|| Histogram::new(GAP_SIZE_BOUNDS))
    }

    pub fn replay_latency(&self, mode: ResumeMode) -> &Histogram {
        let all = self.replay_latency_ms.get_or_init(|| std::array::from_fn(|_| Histogram::new(REPLAY_BOUNDS)));
        &all[mode as usize]
    }

    /// A new heartbeat for a thread that may wait at most `limit_ms` between two beats.
    pub fn heartbeat(&self, name: &str, limit_ms: u64) -> Arc<Heartbeat> {
        let heartbeat = Arc::new(Heartbeat { name: name.to_owned(), last_ms: Gauge::default(), limit_ms });
        heartbeat.beat();
        self.heartbeats.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(heartbeat.clone());
        heartbeat
    }

    /// The heartbeat of a thread that ended in order.
    pub fn retire(&self, heartbeat: &Arc<Heartbeat>) {
        let mut heartbeats = self.heartbeats.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        heartbeats.retain(|other| !Arc::ptr_eq(other, heartbeat));
    }

    /// The place in `ALL` of a gap reason, for the arrays of [`ShardStats`].
    pub fn gap_index(reason: GapReason) -> usize {
        GapReason::ALL.iter().position(|other| *other == reason).unwrap_or(0)
    }

    /// The next offset that the worker of `partition` will read, if it is held and known.
    pub fn next(&self, partition: PartitionId) -> Option<Offset> {
        self.partition(partition).and_then(|stats| stats.next.get()).map(Offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_partition_keeps_its_counters_and_forgets_the_rest() {
        let stats = Stats::default();
        let partition = PartitionId(3);
        let held = stats.hold(partition);
        held.consumed.add(7);
        held.lag_records.set(Some(9));
        held.next.set(Some(70));
        stats.release(partition);
        assert!(stats.partition(partition).is_none());
        assert_eq!(stats.departed.lock().expect("no panic").len(), 1);

        let again = stats.hold(partition);
        assert_eq!(again.consumed.get(), 7, "counters only go up");
        assert_eq!((again.lag_records.get(), again.next.get()), (None, None), "unknown, not stale");
        assert!(stats.departed.lock().expect("no panic").is_empty());
        stats.release(PartitionId(99));
        stats.hold(PartitionId(4));
        stats.release_all();
        assert_eq!(stats.departed.lock().expect("no panic").len(), 2);
        assert_eq!(stats.hold(partition).consumed.get(), 7);
    }

    #[test]
    fn books_are_never_read_half_written() {
        let stats = PartitionStats::default();
        stats.flush(|books| {
            books.consumed.add(2);
            assert_eq!(books.settled(|books| books.consumed.get()), None, "a flush is under way");
            books.delivered.add(2);
        });
        assert_eq!(stats.settled(|books| (books.consumed.get(), books.delivered.get())), Some((2, 2)));
    }

    #[test]
    fn severity_follows_the_records_lost_at_once() {
        for (records, expected) in
            [(0, "info"), (9, "info"), (10, "warning"), (99, "warning"), (100, "critical"), (u64::MAX, "critical")]
        {
            assert_eq!(Severity::of(records).label(), expected, "{records}");
        }
    }
}
