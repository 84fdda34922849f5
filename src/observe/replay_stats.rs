//! Numbers of replay from below the log, by tier. Written by the cold readers and the shards.

use super::stats::{Counter, Gauge};

/// Where a replayed quantum came from. The log itself is counted by sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplayTier {
    /// What was read a moment ago for somebody else.
    Cache,
    Redis,
    Kafka,
}

impl ReplayTier {
    pub const ALL: [Self; 3] = [Self::Cache, Self::Redis, Self::Kafka];

    pub fn label(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Redis => "redis",
            Self::Kafka => "kafka",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct ReplayStats {
    /// Requests answered from each tier.
    pub quanta: [Counter; ReplayTier::ALL.len()],
    /// Records read from each tier, whoever gets them.
    pub records: [Counter; ReplayTier::ALL.len()],
    /// Requests that a tier could not answer.
    pub failures: [Counter; ReplayTier::ALL.len()],
    /// Sessions that replay from below the log.
    pub sessions: Gauge,
    /// Sessions that wait for a seat.
    pub waiting: Gauge,
    /// Sessions that were told that they fall behind.
    pub falling_behind: Counter,
}
