//! Where a record stands in Kafka: a partition and an offset in it.

use std::fmt;

/// A partition of the one topic that this process streams. Never negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionId(pub u32);

/// A position in a partition. Never negative; one more than the last possible record is representable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Offset(pub u64);

impl PartitionId {
    /// Kafka's own width of a partition number.
    pub fn from_kafka(partition: i32) -> Option<Self> {
        u32::try_from(partition).ok().map(Self)
    }

    /// As librdkafka wants it. Every `PartitionId` comes from Kafka or from input checked against `i32::MAX`.
    pub fn to_kafka(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }
}

impl Offset {
    /// Negative offsets are librdkafka's logical ones (beginning, end, invalid): not a place, hence `None`.
    pub fn from_kafka(offset: i64) -> Option<Self> {
        u64::try_from(offset).ok().map(Self)
    }

    /// As librdkafka wants it.
    pub fn to_kafka(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// The first offset that a reader wants who has applied `self`. Saturates: a cursor of `u64::MAX` wants nothing.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
