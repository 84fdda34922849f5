//! Configurations and stats that the tests of this room start from. Compiled for tests only.

use std::sync::Arc;

use super::stats::{ShardStats, Stats, WorkerState};
use crate::config::{self, Config};
use crate::words::{Offset, PartitionId, StreamIdentity};

/// The moment at which [`serving`] and [`busy`] are in order.
pub(super) const NOW_MS: u64 = 1_000_000;

pub(super) fn config() -> Config {
    let settings = [
        ("kafka.topic", "events"),
        ("kafka.group_id", "dashstream-test"),
        ("kafka.assignment", "all"),
        ("kafka.on_decode_error", "skip"),
        ("kafka.payload_max_bytes", "10485760"),
        ("schema.policy", "forward"),
        ("dlq.topic", "events-dlq"),
        ("dlq.mode", "fail_open"),
        ("lag.check_interval", "10s"),
    ];
    config::load_with(&settings).expect("settings that are allowed").config
}

pub(super) fn identity() -> StreamIdentity {
    StreamIdentity { cluster_id: "cluster-1".to_owned(), topic: "events".to_owned(), topic_id: [7; 16] }
}

/// A process that serves two partitions and has nothing to do.
pub(super) fn serving() -> Stats {
    let stats = Stats::default();
    {
        let mut stream = stats.stream.write().expect("nobody panicked");
        stream.identity = Some(identity());
        stream.partition_count = Some(2);
        stream.assigned = true;
    }
    for partition in [PartitionId(0), PartitionId(1)] {
        let held = stats.hold(partition);
        held.set_state(WorkerState::Waiting);
        held.next.set(Some(500));
        held.lag_records.set(Some(0));
        held.lag_ms.set(Some(0));
    }
    stats.kafka.lag_polled_at_ms.set(Some(NOW_MS - 3_000));
    stats.dlq.topic_found.set(Some(1));
    for name in ["kafka-poll", "lag", "dlq", "ws-0"] {
        stats.heartbeat(name, 15_000).last_ms.set(NOW_MS - 100);
    }
    stats
}

/// The same with every value known and every counter moved, so that every series has something to show.
pub(super) fn busy() -> Stats {
    let stats = serving();
    let shards: Vec<Arc<ShardStats>> = (0..2).map(|_| Arc::default()).collect();
    for shard in &shards {
        shard.sessions.iter().for_each(|sessions| sessions.set(1));
        shard.log_oldest_at_ms.set(Some(NOW_MS - 60_000));
        shard.log_bytes.set(1 << 20);
        shard.fell_behind(25);
        shard.gap_records[0].add(25);
        shard.gap_frames[0].add(1);
        shard.gap_records.iter().skip(1).for_each(|records| records.add(1));
    }
    stats.shards.set(shards).expect("set once");
    for partition in [PartitionId(0), PartitionId(1)] {
        let held = stats.hold(partition);
        held.flush(|books| {
            books.consumed.add(107);
            books.delivered.add(101);
            books.dead_lettered.iter().for_each(|counter| counter.add(1));
            books.skipped.iter().for_each(|counter| counter.add(1));
        });
        held.epoch.set(4);
        held.heartbeat_ms.set(NOW_MS - 10);
        held.last_record_at_ms.set(Some(NOW_MS - 5_000));
        held.commit_watermark.set(Some(490));
        held.committed.set(Some(480));
        held.low_watermark.set(Some(3));
        held.log_oldest.set(Some(300));
        held.high_watermark.set(Some(520));
        held.last_stable.set(Some(519));
        held.lag_records.set(Some(19));
        held.lag_ms.set(Some(1_500));
        held.retention_margin_ms.set(Some(3_600_000));
        held.catch_up_to.set(Some(510));
        held.warm_until.set(Some(505));
        held.paused_at.set(Some(500));
        held.paused_reason.set(Some(0));
    }
    stats.kafka.last_trouble_at_ms.set(Some(NOW_MS - 200_000));
    stats.kafka.last_commit_at_ms.set(Some(NOW_MS - 4_000));
    let redis = &stats.redis;
    redis.up.set(Some(1));
    redis.last_write_at_ms.set(Some(NOW_MS - 2_000));
    redis.read_latency_ms.observe(3.0);
    let known = [PartitionId(0), PartitionId(1)].map(|partition| (partition, (Offset(300), Offset(499))));
    redis.bounds.store(Arc::new(known.into_iter().collect()));
    stats.e2e_latency().observe(0.7);
    stats.e2e_latency().observe(3_000.0);
    stats.gap_size().observe(4.0);
    stats
}
