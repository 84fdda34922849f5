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
    /// Sessions that have a seat: they replay from below the log.
    pub sessions: Gauge,
}

/// [`ReplayStats`] at one moment.
#[derive(Clone, Default, Debug)]
pub struct Replay {
    pub quanta: [u64; ReplayTier::ALL.len()],
    pub records: [u64; ReplayTier::ALL.len()],
    pub failures: [u64; ReplayTier::ALL.len()],
    pub sessions: u64,
    pub cold_bytes: u64,
}

impl ReplayStats {
    pub fn read(&self, cold_bytes: &Gauge) -> Replay {
        let counts = |counters: &[Counter; ReplayTier::ALL.len()]| counters.each_ref().map(Counter::get);
        Replay {
            quanta: counts(&self.quanta),
            records: counts(&self.records),
            failures: counts(&self.failures),
            sessions: self.sessions.get(),
            cold_bytes: cold_bytes.get(),
        }
    }
}
