//! Configurations and stats that the tests of this room start from. Compiled for tests only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::stats::{ShardStats, Stats, WorkerState};
use crate::config::{
    AddressFamily, AdminConfig, Assignment, ClientConfig, Config, DlqConfig, DlqMode, FanoutConfig, KafkaConfig,
    LagConfig, LogConfig, LogFormat, LoggingConfig, OffsetReset, OnDecodeError, SchemaConfig, SchemaPolicy, Secret,
    SecurityConfig, SecurityProtocol, ServerConfig, ShutdownConfig, SlowPolicy,
};
use crate::words::{PartitionId, StreamIdentity};

/// The moment at which [`serving`] and [`busy`] are in order.
pub(super) const NOW_MS: u64 = 1_000_000;

pub(super) fn config() -> Config {
    let second = Duration::from_secs(1);
    Config {
        kafka: KafkaConfig {
            brokers: "127.0.0.1:9092".to_owned(),
            topic: "events".to_owned(),
            group_id: "dashstream-test".to_owned(),
            assignment: Assignment::All,
            auto_offset_reset: OffsetReset::Earliest,
            on_decode_error: OnDecodeError::Skip,
            security: SecurityConfig {
                protocol: SecurityProtocol::Plaintext,
                sasl_mechanism: None,
                sasl_username: None,
                sasl_password: Some(Secret("never-shown-1".to_owned())),
                sasl_oauthbearer_config: Some(Secret("never-shown-2".to_owned())),
                ssl_ca_location: None,
                ssl_certificate_location: None,
                ssl_key_location: None,
                ssl_key_password: Some(Secret("never-shown-3".to_owned())),
                ssl_verify_hostname: true,
            },
            broker_address_family: AddressFamily::V4,
            queue_bytes: 128 << 20,
            fetch_max_wait: second,
            session_timeout: 10 * second,
            commit_interval: 5 * second,
            discovery_interval: 5 * second,
            partitions_max: 1_024,
            payload_max_bytes: 10 << 20,
        },
        schema: SchemaConfig { policy: SchemaPolicy::Forward },
        server: ServerConfig {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 3002,
            allow_unauthenticated: false,
            max_connections: 10_000,
            max_connections_per_ip: 10,
            trusted_proxy_ips: vec![],
            shards: 2,
        },
        admin: AdminConfig { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) },
        client: ClientConfig {
            slow_policy: SlowPolicy::Gap,
            stall_timeout: 60 * second,
            ping_interval: 20 * second,
            idle_timeout: 60 * second,
            handshake_timeout: 5 * second,
            head_max_bytes: 16 << 10,
            message_max_bytes: 1 << 20,
            resume_grace: second / 2,
            resume_partitions_max: 1_024,
            resume_threads_max: 10_000,
        },
        log: LogConfig {
            max_bytes: 256 << 20,
            max_age: 600 * second,
            warm_bytes: 128 << 20,
            warm_age: 300 * second,
            chunk_bytes: 64 << 10,
        },
        fanout: FanoutConfig { flush: second / 200, mid_frame_max_bytes: 64 << 20, inbound_max_bytes: 64 << 20 },
        dlq: DlqConfig {
            topic: "events-dlq".to_owned(),
            mode: DlqMode::FailOpen,
            value_max_bytes: 64 << 10,
            queue_max_bytes: 16 << 20,
            ledger_max: 1_000,
            send_timeout: 5 * second,
        },
        lag: LagConfig { check_interval: 10 * second, stall_timeout: 60 * second },
        shutdown: ShutdownConfig { deadline: 10 * second },
        logging: LoggingConfig { filter: "info".to_owned(), format: LogFormat::Text },
    }
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
        held.high_watermark.set(Some(520));
        held.last_stable.set(Some(519));
        held.lag_records.set(Some(19));
        held.lag_ms.set(Some(1_500));
        held.catch_up_to.set(Some(510));
        held.warm_until.set(Some(505));
        held.paused_at.set(Some(500));
        held.paused_reason.set(Some(0));
    }
    stats.kafka.last_trouble_at_ms.set(Some(NOW_MS - 200_000));
    stats.kafka.last_commit_at_ms.set(Some(NOW_MS - 4_000));
    stats.e2e_latency().observe(0.7);
    stats.e2e_latency().observe(3_000.0);
    stats.gap_size().observe(4.0);
    stats
}
