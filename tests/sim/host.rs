//! One gateway host without its threads: a core per partition, a ring, and what sessions are shown.

use std::sync::Arc;

use dashstream::broadcast::runs::RunIndex;
use dashstream::broadcast::session::{Topology, Watermarks};
use dashstream::log::{ChunkBuilder, Ring};
use dashstream::observe::stats::{Gauge, ShardStats};
use dashstream::partition::Rules;
use dashstream::partition::core::{Core, CoreSettings};
use dashstream::words::{Offset, PartitionId, StreamIdentity};

/// Largest value that is delivered.
pub(crate) const PAYLOAD_MAX: usize = 1 << 20;

pub(crate) struct Host {
    pub cores: Vec<Core>,
    pub ring: Ring,
    pub topology: Topology,
    pub watermarks: Watermarks,
    pub runs: RunIndex,
    pub stats: ShardStats,
}

/// A host as it is after its start: no log is open yet.
pub(crate) fn host(starts: &[u64], chunk_bytes: u32, stream: u8) -> Host {
    let identity =
        Arc::new(StreamIdentity { cluster_id: "sim".to_owned(), topic: "t".to_owned(), topic_id: [stream; 16] });
    let cores = starts.iter().enumerate().map(|(partition, start)| {
        let (partition, start) = (PartitionId(partition as u32), Offset(*start));
        let builder = ChunkBuilder::new(partition, start, chunk_bytes, identity.clone(), Arc::new(Gauge::default()));
        let rules = Rules { payload_max_bytes: PAYLOAD_MAX, schema_exact: false };
        Core::new(CoreSettings { rules, pause_on_bad: false, live_from: start, sequence_keys: 64 }, builder)
    });
    let cores = cores.collect();
    let stream = identity.name();
    let topology = Topology { identity, stream, partition_count: starts.len() as u32 };
    Host {
        cores,
        ring: Ring::default(),
        topology,
        watermarks: Watermarks::default(),
        runs: RunIndex::new(10),
        stats: ShardStats::default(),
    }
}
