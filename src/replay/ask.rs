//! What a shard asks of the cold readers, and what it gets back. A request is one quantum: whoever wants more asks
//! again, so that everybody has a turn and a reader never waits for a client.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::log::Chunk;
use crate::words::{Offset, PartitionId};

/// What a session wants from below the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// The chunks from `want` on, never beyond `until`, which is the log's own next.
    Read { partition: PartitionId, want: Offset, until: Offset },
    /// Per partition the first offset whose record's Kafka timestamp is not earlier, ms since the epoch.
    AtTime { timestamp_ms: i64 },
}

/// Where an answer belongs: a session is gone when its ticket is no longer the outstanding one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sender {
    pub shard: usize,
    pub key: usize,
    pub ticket: u64,
}

#[derive(Debug)]
pub struct ColdRequest {
    pub wish: Wish,
    pub sender: Sender,
}

#[derive(Debug)]
pub struct ColdAnswer {
    pub sender: Sender,
    pub found: Found,
}

/// What the tiers have.
#[derive(Clone, Debug)]
pub enum Found {
    /// Consecutive chunks; the first covers what was wanted. What no tier has any more is a chunk that says so.
    Chunks(Vec<Arc<Chunk>>),
    /// Absent: no record is that late, as far as this partition could be asked.
    AtTime(BTreeMap<PartitionId, Offset>),
    /// No tier could answer in time.
    Unavailable,
}
