//! Chunks out of what a tier has: judged by the same pure disposition as live records, without side effects, so that
//! live, replay and every host agree.

use std::sync::Arc;

use super::span::Span;
use crate::log::{Chunk, ChunkBuilder, Outcome};
use crate::observe::stats::Gauge;
use crate::partition::core::{Core, CoreSettings, Record};
use crate::partition::dispose::{Disposition, Rules, dispose};
use crate::wire::inflate::Inflater;
use crate::wire::scan::Scan;
use crate::words::{GapReason, Offset, PartitionId, StreamIdentity};

/// What every chunk of one stream is made with.
#[derive(Clone, Debug)]
pub struct Makings {
    pub stream: Arc<StreamIdentity>,
    pub rules: Rules,
    pub chunk_bytes: u32,
    /// What these chunks count in: apart from the log, which they must not push out.
    pub live_bytes: Arc<Gauge>,
}

impl Makings {
    pub fn builder(&self, partition: PartitionId, from: Offset) -> ChunkBuilder {
        ChunkBuilder::new(partition, from, self.chunk_bytes, self.stream.clone(), self.live_bytes.clone())
    }

    /// A core that only makes chunks: everything is below where it is live, so nothing is counted or dead-lettered.
    pub fn core(&self, partition: PartitionId, from: Offset) -> Core {
        let settings =
            CoreSettings { rules: self.rules, pause_on_bad: false, live_from: Offset(u64::MAX), sequence_keys: 1 };
        Core::new(settings, self.builder(partition, from))
    }

    /// A chunk that says that `[from, next)` is gone.
    pub fn lost(&self, partition: PartitionId, from: Offset, next: Offset, reason: GapReason) -> Option<Arc<Chunk>> {
        self.builder(partition, from).lost(next, reason, 0)
    }

    /// The chunks of consecutive spans, from `want` on.
    pub fn chunks(&self, partition: PartitionId, want: Offset, spans: &[Span]) -> Vec<Arc<Chunk>> {
        let mut chunks = Vec::new();
        let mut builder = self.builder(partition, want);
        let mut scratch = (Inflater::new(self.rules.payload_max_bytes), Scan::default());
        for span in spans {
            if let Some(reason) = span.lost {
                chunks.extend(builder.finish(0));
                chunks.extend(builder.lost(span.next, reason, 0));
                continue;
            }
            for record in &span.records {
                if record.offset < builder.next() {
                    continue;
                }
                match record.outcome {
                    Outcome::Delivered => {
                        let (inflater, found) = &mut scratch;
                        let value = record.value.as_slice();
                        match dispose(Some(value), &self.rules, inflater, found) {
                            Disposition::Deliver { body } => {
                                builder.deliver(record.offset, record.timestamp_ms, value, found, body.bytes());
                            }
                            // Written under other rules, or by the predecessor, who kept everything.
                            Disposition::DeadLetter(fault) => {
                                let outcome = Outcome::DeadLettered(fault.reason);
                                builder.withhold(record.offset, record.timestamp_ms, outcome);
                            }
                            Disposition::Skip(reason) => {
                                builder.withhold(record.offset, record.timestamp_ms, Outcome::Skipped(reason));
                            }
                        }
                    }
                    outcome => builder.withhold(record.offset, record.timestamp_ms, outcome),
                }
                if builder.is_full() {
                    chunks.extend(builder.finish(0));
                }
            }
            builder.cover(span.next);
        }
        chunks.extend(builder.finish(0));
        chunks
    }
}

/// One record of Kafka into a core.
pub fn take(core: &mut Core, offset: Offset, timestamp_ms: Option<i64>, value: Option<&[u8]>) {
    // What it says of the record is in the chunk; there is nobody else to tell.
    core.take(Record { offset, timestamp_ms, value, instance: &|| 0 });
}
