//! A dead letter as a worker hands it over.

use std::sync::Arc;

use super::ledger::Ledger;
use crate::words::{DropReason, Offset, PartitionId};

/// One record that will not be delivered, with all that is needed to find and re-drive it.
#[derive(Debug)]
pub struct DeadLetter {
    pub partition: PartitionId,
    pub offset: Offset,
    pub reason: DropReason,
    /// What exactly was wrong, for a human.
    pub error: String,
    /// Kafka's timestamp, ms since the epoch.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Box<[u8]>>,
    /// The record's headers in order, bounded by the worker.
    pub headers: Vec<(String, Option<Box<[u8]>>)>,
    /// Headers that did not fit that bound.
    pub headers_left_out: usize,
    /// The value, cut to `dlq.value_max_bytes`.
    pub value: Box<[u8]>,
    /// Length of the whole value.
    pub value_bytes: u64,
    /// SHA-256 of the whole value.
    pub value_sha256: [u8; 32],
    /// The last 16 bytes of the whole value, fewer if it is shorter.
    pub value_tail: Box<[u8]>,
    /// As far as they could be read.
    pub thread_id: Option<String>,
    pub tenant_id: Option<String>,
    /// Marked when Kafka has acknowledged the letter (or, under fail_open, when it was given up).
    pub ledger: Arc<Ledger>,
}

impl DeadLetter {
    /// What it counts against `dlq.queue_max_bytes`.
    pub fn bytes(&self) -> u64 {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.as_deref().map_or(0, <[u8]>::len) + 48).sum();
        let parts = self.value.len() + self.key.as_deref().map_or(0, <[u8]>::len) + self.error.len() + headers;
        (parts + std::mem::size_of::<Self>()) as u64
    }
}
