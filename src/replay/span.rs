//! A span: what a tier knows of an interval of one partition. The common word of the tiers below the log.

use crate::log::Outcome;
use crate::words::{GapReason, Offset};

/// Everything that a tier has of `[from, next)`. An offset inside without a record is a hole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    pub from: Offset,
    /// Invariant: above `from`, and above the offset of every record.
    pub next: Offset,
    /// The whole interval is lost for everybody; then there are no records.
    pub lost: Option<GapReason>,
    /// Ascending offsets.
    pub records: Vec<SpanRecord>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpanRecord {
    pub offset: Offset,
    /// Kafka's timestamp, ms since the epoch.
    pub timestamp_ms: Option<i64>,
    pub outcome: Outcome,
    /// The Kafka value of a delivered record, unchanged; empty for one that is withheld.
    pub value: Vec<u8>,
}
