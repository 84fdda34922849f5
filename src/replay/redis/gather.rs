//! What the thread has in hand: chunks of the same partition that follow each other become one entry, so that a quiet
//! topic does not become an entry per record. Pure.

use std::collections::BTreeMap;

use super::inlet::ToRedis;
use crate::words::{Offset, PartitionId};

/// An entry is closed at this size, in bytes of the chunks in it.
const ENTRY_BYTES: u64 = 64 * 1024;
/// And at this many records.
const ENTRY_RECORDS: usize = 4_096;

/// Consecutive chunks that become one entry.
pub(super) struct Run {
    pub(super) partition: PartitionId,
    pub(super) from: Offset,
    pub(super) next: Offset,
    pub(super) records: usize,
    pub(super) chunks: Vec<ToRedis>,
    bytes: u64,
}

/// Invariant: all of one stream, and in the order in which the chunks of a partition came.
#[derive(Default)]
pub(super) struct Gather {
    runs: Vec<Run>,
    /// Place in `runs` of the last one of each partition.
    last: BTreeMap<PartitionId, usize>,
    bytes: u64,
}

impl Gather {
    /// Nothing of an interval that is lost is written: see the room.
    pub(super) fn add(&mut self, message: ToRedis) {
        let chunk = &message.chunk;
        if chunk.lost.is_some() {
            return;
        }
        let (bytes, records) = (message.share.bytes, chunk.entries().len());
        self.bytes += bytes;
        if let Some(run) = self.last.get(&chunk.partition).and_then(|place| self.runs.get_mut(*place))
            && run.next == chunk.from
            && run.bytes < ENTRY_BYTES
            && run.records < ENTRY_RECORDS
        {
            run.next = chunk.next;
            run.bytes += bytes;
            run.records += records;
            run.chunks.push(message);
            return;
        }
        self.last.insert(chunk.partition, self.runs.len());
        let (partition, from, next) = (chunk.partition, chunk.from, chunk.next);
        self.runs.push(Run { partition, from, next, records, bytes, chunks: vec![message] });
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes of the chunks in hand.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn records(&self) -> u64 {
        self.runs.iter().map(|run| run.records as u64).sum()
    }

    /// Gives everything up.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.last.clear();
        self.bytes = 0;
    }
}
