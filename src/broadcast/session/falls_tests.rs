//! When a client counts as one that falls behind: told gaps, it loses what Kafka still has, so it must have had its
//! chance before.

use std::sync::Arc;

use super::*;
use crate::log::{ChunkBuilder, Outcome};
use crate::observe::stats::Gauge;
use crate::replay::ask::Found;
use crate::words::DropReason;

const PARTITIONS: u32 = 4;

struct Stage {
    ring: Ring,
    topology: Topology,
    watermarks: Watermarks,
    settings: SessionSettings,
    stats: ShardStats,
    runs: RunIndex,
    produced: u64,
    tickets: u64,
}

impl Stage {
    fn new() -> Self {
        let identity = StreamIdentity { cluster_id: "c".into(), topic: "t".into(), topic_id: [1; 16] };
        let mut ring = Ring::default();
        (0..PARTITIONS).for_each(|partition| ring.open(PartitionId(partition), Offset(0)));
        Self {
            ring,
            topology: Topology { identity: Arc::new(identity), stream: "v3_t".into(), partition_count: PARTITIONS },
            watermarks: Watermarks::default(),
            settings: SessionSettings {
                group: false,
                slow: SlowPolicy::Catchup,
                slow_allowed: SlowPolicy::ALL.to_vec(),
                cold: true,
                search_age_ms: 1_000,
                search_max_bytes: 1 << 20,
                message_max_bytes: 1 << 20,
                resume_partitions_max: 100,
                stall_timeout_ms: 60_000,
                idle_timeout_ms: 60_000,
                ping_interval_ms: 20_000,
                judge_timeout_ms: 5_000,
            },
            stats: ShardStats::default(),
            runs: RunIndex::new(10),
            produced: 0,
            tickets: 0,
        }
    }

    fn world(&self) -> World<'_> {
        World {
            ring: &self.ring,
            topology: &self.topology,
            watermarks: &self.watermarks,
            settings: &self.settings,
            stats: &self.stats,
            runs: &self.runs,
            now_ms: 1_000,
            wall_ms: 0,
        }
    }

    fn chunk(&self, partition: PartitionId, from: Offset, next: Offset) -> Arc<Chunk> {
        let gauge = Arc::new(Gauge::default());
        let mut builder = ChunkBuilder::new(partition, from, 1 << 16, self.topology.identity.clone(), gauge);
        for offset in from.0..next.0 {
            builder.withhold(Offset(offset), None, Outcome::DeadLettered(DropReason::InvalidProtobuf));
        }
        builder.finish(0).expect("a chunk")
    }

    /// A chunk more in every partition.
    fn arrive(&mut self) {
        let (from, next) = (Offset(self.produced), Offset(self.produced + 10));
        for partition in 0..PARTITIONS {
            let chunk = self.chunk(PartitionId(partition), from, next);
            assert!(self.ring.append(chunk));
        }
        self.produced = next.0;
    }

    /// The log is left with so many chunks, which go one after the other.
    fn evict_but(&mut self, session: &mut Session, left: u64) {
        while self.ring.len() as u64 > left {
            let tail = self.ring.tail() + 1;
            let evicted = self.ring.evict_to(tail);
            assert!(session.after_eviction(&evicted, &self.world()), "nobody is closed for it");
        }
    }

    /// A client that takes all that it is sent, until there is nothing more.
    fn serve(&mut self, session: &mut Session) {
        let mut decoder = Decoder::new(1 << 20);
        loop {
            match session.step(&self.world(), &mut decoder) {
                Step::Own => session.wrote_own(session.own().len()),
                Step::Share { limit } => session.passed_many(&self.ring, limit - session.position()),
                Step::Ask(Wish::Read { partition, want, until }) => {
                    self.tickets += 1;
                    session.cold_asked(self.tickets, Some(partition));
                    let chunk = self.chunk(partition, want, until);
                    session.cold_answer(self.tickets, Found::Chunks(vec![chunk]), &self.world());
                }
                Step::Idle => return,
                other => panic!("{other:?}"),
            }
        }
    }

    fn check(&self, session: &Session, falling_behind: u64) {
        assert_eq!(self.stats.falling_behind.get(), falling_behind);
        assert_eq!(session.falling_behind, falling_behind > 0);
    }
}

/// The log moved on by a few chunks at once, as it does while a gateway that was just started reads what it missed. Each
/// partition of a client counted as a fall of its own, and three of them made a client lose records that was never slow.
#[test]
fn partitions_that_fall_one_by_one_are_one_fall() {
    let mut stage = Stage::new();
    let mut session = Session::new(Protocol::V2, &stage.world());
    session.begin();
    stage.serve(&mut session);
    for falls in 1..=3 {
        stage.arrive();
        stage.arrive();
        stage.evict_but(&mut session, u64::from(PARTITIONS));
        assert!(falls == 3 || session.cold_wants().count() == PARTITIONS as usize, "it fell off with all partitions");
        // Once too often, however fast it is.
        stage.check(&session, u64::from(falls == 3));
        stage.serve(&mut session);
        assert!(!session.is_cold() && session.behind(&stage.ring) == 0, "it is back in the log");
    }
}
