//! The thread of one partition: takes what librdkafka has, lets the core decide, and hands on, in this order, dead
//! letters, chunks, numbers. It waits for Kafka, for room downstream, and for nothing else.
//!
//! Deliberately absent: decisions about records (`core`), about assignment (`kafka::poll`), and about clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender};
use rdkafka::error::RDKafkaErrorCode;
use sha2::{Digest, Sha256};

use super::core::{Core, Record, Tally, Verdict};
use super::dispose::Fault;
use super::warm::WarmSpan;
use crate::broadcast::inbox::{ShardInbox, ToShard};
use crate::dlq::{DeadLetter, DlqSender, HandedOver, Ledger};
use crate::kafka::headers::HeaderLimits;
use crate::kafka::host::PollCommand;
use crate::kafka::queue::{Arrival, Flow, PartitionQueue, RawRecord};
use crate::log::Chunk;
use crate::observe::stats::{PartitionStats, Stats, WorkerState, monotonic_ms};
use crate::replay::redis::RedisSender;
use crate::words::{DropReason, GapReason, Offset, PartitionId};

/// How long one wait for Kafka may last: the worker's heartbeat, and how late it may notice a stop without a wake.
const TURN: Duration = Duration::from_millis(200);

/// How often a wait for room downstream looks at stop.
const ROOM_CHECK: Duration = Duration::from_millis(2);

/// Dead letters gathered in one turn, so that a flood of poison holds at most this in a worker.
const LETTERS_MAX: usize = 64;
const LETTER_BYTES_MAX: u64 = 1024 * 1024;

/// The last bytes of a value that an envelope shows.
const TAIL_BYTES: usize = 16;

/// What a worker may do with bad records and how much it may hold.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    pub fail_closed: bool,
    pub letter_value_max_bytes: usize,
    pub ledger_max: usize,
    /// While the process holds more chunk bytes than this, no new chunk is begun.
    pub chunk_bytes_max: u64,
    pub warm_bytes: u64,
    pub warm_age_ms: u64,
}

/// Shared with whoever started the worker.
#[derive(Debug, Default)]
pub struct Progress {
    pub stop: AtomicBool,
    /// The next offset after the last chunk that every shard has. Invariant: only goes up.
    pub sent_next: AtomicU64,
}

/// See the module.
pub struct Worker {
    pub partition: PartitionId,
    pub epoch: u64,
    pub queue: PartitionQueue,
    pub core: Core,
    pub lost: Option<(Offset, GapReason)>,
    pub settings: WorkerSettings,
    pub progress: Arc<Progress>,
    pub shards: Vec<ShardInbox>,
    pub dlq: DlqSender,
    /// The second replay tier, if there is one.
    pub redis: Option<RedisSender>,
    /// Closed when `progress.stop` is set: ends a wait for room towards the dlq.
    pub stop: Receiver<()>,
    pub ledger: Arc<Ledger>,
    pub commands: Sender<PollCommand>,
    pub stats: Arc<PartitionStats>,
    pub process: Arc<Stats>,
}

/// What one turn with librdkafka brought besides records in the core.
#[derive(Default)]
struct Turn {
    letters: Vec<DeadLetter>,
    letter_bytes: u64,
    paused: Option<(Offset, DropReason)>,
    trouble: Option<(RDKafkaErrorCode, Option<Offset>)>,
    records: u64,
}

impl Worker {
    /// Runs until told to stop, then gives the queue back. A chunk that was not sent is abandoned.
    pub fn run(mut self) -> PartitionQueue {
        let mut warm = WarmSpan::new(self.settings.warm_bytes, self.settings.warm_age_ms);
        self.stats.next.set(Some(self.core.next().0));
        self.publish_watermark();
        if let Some((next, reason)) = self.lost.take() {
            let from = self.core.next();
            if let Some(chunk) = self.core.lost(next, reason, monotonic_ms()) {
                self.stats.lost_to_retention.add(next.0 - from.0);
                self.send(chunk);
            }
        }
        while !self.stopped() {
            self.stats.heartbeat_ms.set(monotonic_ms());
            if !self.wait_for_memory() {
                break;
            }
            self.stats.set_state(WorkerState::Waiting);
            let turn = self.consume();
            let now_ms = monotonic_ms();
            self.stats.heartbeat_ms.set(now_ms);
            if turn.records > 0 {
                self.stats.last_record_at_ms.set(Some(now_ms));
            }
            if !self.hand_over(turn.letters) {
                break;
            }
            let (chunk, tally) = self.core.finish(now_ms);
            if let Some(chunk) = chunk {
                let bytes = chunk.bytes();
                warm.note(chunk.from, bytes, now_ms);
                self.send(chunk);
                self.publish(tally);
            }
            self.stats.warm_from.set(warm.from(now_ms).map(|offset| offset.0));
            self.publish_watermark();
            if let Some((code, offset)) = turn.trouble {
                self.report(code, offset);
            }
            if let Some((offset, reason)) = turn.paused {
                self.stay_paused(offset, reason);
            }
        }
        self.core.abandon();
        self.stats.set_state(WorkerState::Stopped);
        self.queue
    }

    fn stopped(&self) -> bool {
        self.progress.stop.load(Ordering::Acquire)
    }

    /// Takes what is there now; the first record is waited for.
    fn consume(&mut self) -> Turn {
        let mut turn = Turn::default();
        let Self { queue, core, progress, settings, ledger, partition, stats, .. } = self;
        queue.consume(TURN, &mut |arrival| {
            match arrival {
                Arrival::Record(record) => {
                    if turn.records == 0 {
                        stats.set_state(WorkerState::Working);
                    }
                    turn.records += 1;
                    let taken = Record {
                        offset: record.offset,
                        timestamp_ms: record.timestamp_ms,
                        value: record.value,
                        instance: &|| record.producer(),
                    };
                    match core.take(taken) {
                        Verdict::Taken | Verdict::Stale => {}
                        Verdict::Pause(reason) => {
                            turn.paused = Some((record.offset, reason));
                            return Flow::Yield;
                        }
                        Verdict::DeadLetter(fault) => {
                            let letter = letter(*partition, &record, fault, settings, ledger.clone());
                            turn.letter_bytes += letter.bytes();
                            turn.letters.push(letter);
                        }
                    }
                }
                Arrival::End { offset } => core.cover(offset),
                Arrival::Error { code, offset } => {
                    turn.trouble = Some((code, offset));
                    return Flow::Yield;
                }
            }
            let full = core.is_full() || turn.letters.len() >= LETTERS_MAX || turn.letter_bytes >= LETTER_BYTES_MAX;
            if full || progress.stop.load(Ordering::Relaxed) { Flow::Yield } else { Flow::More }
        });
        turn
    }

    /// Dead letters go before the chunk that marks them, so that no commit can pass them. False: told to stop.
    fn hand_over(&mut self, letters: Vec<DeadLetter>) -> bool {
        for letter in letters {
            self.stats.set_state(WorkerState::DeadLettering);
            while self.settings.fail_closed && self.ledger.len() >= self.settings.ledger_max {
                if !self.rest() {
                    return false;
                }
                self.publish_watermark();
            }
            self.ledger.open(letter.offset);
            self.stats.ledger_open.set(self.ledger.len() as u64);
            if let HandedOver::Stopped(letter) = self.dlq.hand_over(letter, &self.stop) {
                self.ledger.acknowledge(letter.offset);
                return false;
            }
        }
        true
    }

    /// Every shard gets the chunk. Once the first has it, the others must too, whatever stop says: the shards' logs
    /// may differ in order, never in content. A shard never blocks, so this ends.
    fn send(&mut self, chunk: Arc<Chunk>) {
        self.stats.set_state(WorkerState::Sending);
        let next = chunk.next;
        for shard in &self.shards {
            let mut message = ToShard::Chunk(chunk.clone());
            while let Err(SendTimeoutError::Timeout(back)) = shard.send_timeout(message, TURN) {
                self.stats.heartbeat_ms.set(monotonic_ms());
                message = back;
            }
        }
        // After the shards: nobody waits for a tier that is only for later.
        if let Some(redis) = &self.redis {
            redis.offer(&chunk);
        }
        self.progress.sent_next.store(next.0, Ordering::Release);
        self.stats.next.set(Some(next.0));
    }

    fn publish(&self, tally: Tally) {
        let stats = &self.stats;
        stats.flush(|books| {
            books.consumed.add(tally.consumed);
            books.delivered.add(tally.delivered);
            for (counter, amount) in books.dead_lettered.iter().zip(tally.dead_lettered) {
                counter.add(amount);
            }
            for (counter, amount) in books.skipped.iter().zip(tally.skipped) {
                counter.add(amount);
            }
        });
        stats.delivered_bytes.add(tally.delivered_bytes);
        stats.events.add(tally.events);
        stats.warmed.add(tally.warmed);
        stats.holes.add(tally.holes);
        stats.sequence_gaps.add(tally.sequence_gaps);
        stats.sequence_duplicates.add(tally.sequence_duplicates);
        stats.sequence_reorders.add(tally.sequence_reorders);
        stats.sequence_unknown.add(tally.sequence_unknown);
        stats.multi_thread_batches.add(tally.multi_thread_batches);
        stats.newer_schema.add(tally.newer_schema);
        for missing in tally.sequence_gap_sizes {
            self.process.gap_size().observe(missing as f64);
        }
        if let Some(timestamp_ms) = tally.last_record_timestamp_ms.and_then(|stamp| u64::try_from(stamp).ok()) {
            stats.last_record_timestamp_ms.set(Some(timestamp_ms));
        }
        if let Some(event_us) = tally.last_event_timestamp_us {
            self.sample_latency(event_us);
        }
    }

    /// One sample per chunk. Clocks of two hosts differ: what cannot be a latency is counted, not observed.
    fn sample_latency(&self, event_us: i64) {
        const HOUR_MS: f64 = 3_600_000.0;
        let now_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as i64);
        let latency_ms = now_us.saturating_sub(event_us) as f64 / 1000.0;
        if (0.0..HOUR_MS).contains(&latency_ms) {
            self.process.e2e_latency().observe(latency_ms);
        } else {
            self.process.clock_skew_events.add(1);
        }
    }

    /// min(next after the last chunk that all shards took, first unacknowledged dead letter under fail_closed).
    fn publish_watermark(&self) {
        let open = self.ledger.first_open().filter(|_| self.settings.fail_closed);
        let sent = self.stats.next.get();
        self.stats.ledger_open.set(self.ledger.len() as u64);
        self.stats.commit_watermark.set(sent.map(|sent| open.map_or(sent, |open| open.0.min(sent))));
    }

    /// The log may hold more for a moment than its bound, never much more. False: told to stop.
    fn wait_for_memory(&self) -> bool {
        while self.process.chunk_bytes.get() > self.settings.chunk_bytes_max {
            self.stats.set_state(WorkerState::Sending);
            if !self.rest() {
                return false;
            }
        }
        !self.stopped()
    }

    /// A short wait for somebody else. False: told to stop.
    fn rest(&self) -> bool {
        self.stats.heartbeat_ms.set(monotonic_ms());
        std::thread::park_timeout(ROOM_CHECK);
        !self.stopped()
    }

    /// The record stays unread until a human acts; the other partitions go on.
    fn stay_paused(&self, offset: Offset, reason: DropReason) {
        tracing::error!(
            partition = self.partition.0,
            offset = offset.0,
            reason = reason.label(),
            "partition paused at a record that cannot be decoded: mend the producer or set KAFKA_ON_DECODE_ERROR=skip and restart"
        );
        self.stats.paused_reason.set(Some(reason as u64));
        self.stats.paused_at.set(Some(offset.0));
        self.stats.set_state(WorkerState::Paused);
        while !self.stopped() {
            self.stats.heartbeat_ms.set(monotonic_ms());
            self.publish_watermark();
            std::thread::park_timeout(TURN);
        }
    }

    fn report(&self, code: RDKafkaErrorCode, offset: Option<Offset>) {
        let command = match code {
            RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset => {
                Some(PollCommand::OutOfRange { partition: self.partition, epoch: self.epoch, offset })
            }
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => Some(PollCommand::CheckIdentity),
            _ => None,
        };
        tracing::debug!(partition = self.partition.0, ?code, ?offset, "partition error");
        if let Some(command) = command
            && self.commands.try_send(command).is_err()
        {
            // Full means that kafka-poll has been asked already.
            tracing::debug!(partition = self.partition.0, "kafka-poll has enough to do");
        }
    }
}

fn letter(
    partition: PartitionId,
    record: &RawRecord<'_>,
    fault: Fault,
    settings: &WorkerSettings,
    ledger: Arc<Ledger>,
) -> DeadLetter {
    let value = record.value.unwrap_or_default();
    let headers = record.headers(HeaderLimits::default());
    DeadLetter {
        partition,
        offset: record.offset,
        reason: fault.reason,
        error: fault.error,
        timestamp_ms: record.timestamp_ms,
        key: record.key.map(|key| key[..key.len().min(settings.letter_value_max_bytes)].into()),
        headers: headers.list,
        headers_left_out: headers.left_out,
        value: value[..value.len().min(settings.letter_value_max_bytes)].into(),
        value_bytes: value.len() as u64,
        value_sha256: Sha256::digest(value).into(),
        value_tail: value[value.len() - value.len().min(TAIL_BYTES)..].into(),
        thread_id: fault.thread_id,
        tenant_id: fault.tenant_id,
        ledger,
    }
}
