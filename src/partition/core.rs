//! The pure core of a worker: records in, chunks, dead letters and tallies out. No clock, no I/O.

use std::sync::Arc;

use super::dispose::{Disposition, Fault, Rules, SCHEMA_VERSION, dispose, newest_schema};
pub use super::sequence::Finding;
use super::sequence::Validator;
use crate::log::{Chunk, ChunkBuilder, Outcome};
use crate::wire::inflate::Inflater;
use crate::wire::scan::Scan;
use crate::words::{DropReason, GapReason, Offset, SkipReason};

/// One record as it comes from Kafka.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub offset: Offset,
    pub timestamp_ms: Option<i64>,
    pub value: Option<&'a [u8]>,
    /// Says which producer instance wrote it, hashed; 0 when unknown. Asked only when it matters.
    pub instance: &'a dyn Fn() -> u64,
}

/// What became of a record just taken.
#[derive(Debug)]
pub enum Verdict {
    /// It is in the chunk under way, or was skipped.
    Taken,
    /// It is marked in the chunk; the worker hands a dead letter over before the chunk.
    DeadLetter(Fault),
    /// `pause`: it was not taken, and nothing after it may be.
    Pause(DropReason),
    /// Below what is already covered: a broker may do this after a truncation. Not taken.
    Stale,
}

/// Numbers of one batch, flushed into the shared stats by the worker.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    pub consumed: u64,
    pub delivered: u64,
    pub delivered_bytes: u64,
    pub events: u64,
    pub dead_lettered: [u64; DropReason::ALL.len()],
    pub skipped: [u64; SkipReason::ALL.len()],
    pub warmed: u64,
    pub holes: u64,
    pub sequence_gaps: u64,
    pub sequence_gap_sizes: Vec<u64>,
    pub sequence_duplicates: u64,
    pub sequence_reorders: u64,
    pub sequence_unknown: u64,
    pub multi_thread_batches: u64,
    pub newer_schema: u64,
    /// Kafka's timestamp of the last record.
    pub last_record_timestamp_ms: Option<i64>,
    /// Producer's timestamp of the last event delivered, µs since the epoch.
    pub last_event_timestamp_us: Option<i64>,
}

/// Gap sizes kept per batch for the histogram; more are only counted.
const GAP_SIZES_MAX: usize = 64;

/// See the module.
pub struct Core {
    rules: Rules,
    pause_on_bad: bool,
    /// Records below this only fill the log.
    live_from: Offset,
    builder: ChunkBuilder,
    inflater: Inflater,
    found: Scan,
    validator: Validator,
    tally: Tally,
}

/// What a core is made with.
#[derive(Debug)]
pub struct CoreSettings {
    pub rules: Rules,
    /// `KAFKA_ON_DECODE_ERROR = pause`.
    pub pause_on_bad: bool,
    pub live_from: Offset,
    pub sequence_keys: usize,
}

impl Core {
    pub fn new(settings: CoreSettings, builder: ChunkBuilder) -> Self {
        Self {
            rules: settings.rules,
            pause_on_bad: settings.pause_on_bad,
            live_from: settings.live_from,
            builder,
            inflater: Inflater::new(settings.rules.payload_max_bytes),
            found: Scan::default(),
            validator: Validator::new(settings.sequence_keys),
            tally: Tally::default(),
        }
    }

    /// The next offset that may come.
    pub fn next(&self) -> Offset {
        self.builder.next()
    }

    /// The chunk under way should be finished before more is taken.
    pub fn is_full(&self) -> bool {
        self.builder.is_full()
    }

    pub fn take(&mut self, record: Record<'_>) -> Verdict {
        let expected = self.builder.next();
        if record.offset < expected {
            return Verdict::Stale;
        }
        let warm = record.offset < self.live_from;
        let disposition = dispose(record.value, &self.rules, &mut self.inflater, &mut self.found);
        let verdict = match disposition {
            Disposition::DeadLetter(fault) if self.pause_on_bad && !warm => return Verdict::Pause(fault.reason),
            Disposition::Deliver { body } => {
                let value = record.value.unwrap_or_default();
                let body = body.bytes();
                self.builder.deliver(record.offset, record.timestamp_ms, value, &self.found, body);
                if !warm {
                    self.tally.delivered += 1;
                    self.tally.delivered_bytes += value.len() as u64;
                    self.tally.events += self.found.events.len() as u64;
                    annotate(&mut self.tally, &mut self.validator, &self.found, body, record.instance);
                }
                Verdict::Taken
            }
            Disposition::DeadLetter(fault) => {
                self.builder.withhold(record.offset, record.timestamp_ms, Outcome::DeadLettered(fault.reason));
                if warm {
                    Verdict::Taken
                } else {
                    self.tally.dead_lettered[fault.reason as usize] += 1;
                    Verdict::DeadLetter(fault)
                }
            }
            Disposition::Skip(reason) => {
                self.builder.withhold(record.offset, record.timestamp_ms, Outcome::Skipped(reason));
                if !warm {
                    self.tally.skipped[reason as usize] += 1;
                }
                Verdict::Taken
            }
        };
        self.tally.holes += record.offset.0 - expected.0;
        self.tally.last_record_timestamp_ms = record.timestamp_ms.or(self.tally.last_record_timestamp_ms);
        if warm {
            self.tally.warmed += 1;
        } else {
            self.tally.consumed += 1;
        }
        verdict
    }

    /// Everything below `offset` was handed over or never was a record.
    pub fn cover(&mut self, offset: Offset) {
        self.tally.holes += offset.0.saturating_sub(self.builder.next().0);
        self.builder.cover(offset);
    }

    /// Everything up to `next` is lost for us, before the first record is taken.
    pub fn lost(&mut self, next: Offset, reason: GapReason, now_ms: u64) -> Option<Arc<Chunk>> {
        self.builder.lost(next, reason, now_ms)
    }

    /// The chunk under way, if it covers anything, and the numbers of its batch.
    pub fn finish(&mut self, now_ms: u64) -> (Option<Arc<Chunk>>, Tally) {
        (self.builder.finish(now_ms), std::mem::take(&mut self.tally))
    }

    /// Forgets the chunk under way: its records count as not read.
    pub fn abandon(&mut self) {
        self.builder.abandon();
        self.tally = Tally::default();
    }
}

fn annotate(tally: &mut Tally, validator: &mut Validator, found: &Scan, body: &[u8], instance: &dyn Fn() -> u64) {
    let mut first_thread: Option<&[u8]> = None;
    let mut several = false;
    for event in &found.events {
        let thread = event.thread.of(body);
        several |= first_thread.is_some_and(|first| first != thread);
        first_thread = first_thread.or(Some(thread));
        match validator.check(event.tenant.of(body), thread, instance, event.sequence) {
            Finding::InOrder => {}
            Finding::Gap { missing } => {
                tally.sequence_gaps += 1;
                if tally.sequence_gap_sizes.len() < GAP_SIZES_MAX {
                    tally.sequence_gap_sizes.push(missing);
                }
            }
            Finding::Duplicate => tally.sequence_duplicates += 1,
            Finding::Reordered => tally.sequence_reorders += 1,
            Finding::Unknown => tally.sequence_unknown += 1,
        }
        tally.last_event_timestamp_us = Some(event.timestamp_us);
    }
    tally.multi_thread_batches += u64::from(several);
    tally.newer_schema += u64::from(newest_schema(found).is_some_and(|version| version > SCHEMA_VERSION));
}
