//! One partition's queue of fetched records, consumed by its worker through librdkafka's callback API.

use std::time::Duration;

use crate::words::{Offset, PartitionId};

/// A record as librdkafka holds it: valid only inside the callback, so what is kept must be copied.
#[derive(Debug)]
pub struct RawRecord<'a> {
    pub offset: Offset,
    /// Kafka's timestamp, ms since the epoch.
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    /// `None` is a null value, which is not an empty one.
    pub value: Option<&'a [u8]>,
}

/// Owns the librdkafka queue of one partition in one assignment.
#[derive(Debug)]
pub struct PartitionQueue {
    pub partition: PartitionId,
}

impl PartitionQueue {
    pub fn unused(_: Duration) {}
}
