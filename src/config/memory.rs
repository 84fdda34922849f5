//! The memory sum: every bound times what it bounds, and the librdkafka settings that follow from the same numbers.
//! Arithmetic only; who enforces a bound uses the constant from here.

use super::checked::{Config, KafkaConfig};
use crate::broadcast::runs;
use crate::partition::sequence;
use crate::replay::kafka::QUANTUM_BYTES;
use crate::wire::inflate;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What librdkafka keeps for one fetched message besides its bytes (an op and a message, measured).
const BYTES_PER_QUEUED_MESSAGE: u64 = 304;
/// Below this share, fetches are so small that a partition crawls.
pub const QUEUE_SHARE_BYTES_MIN: u64 = 16 * KIB;
/// librdkafka's own end of the range.
const QUEUE_SHARE_BYTES_MAX: u64 = 2_097_151 * KIB;
/// librdkafka's own defaults, which are also sensible upper ends for us.
const FETCH_MESSAGE_BYTES_MAX: u64 = MIB;
const FETCH_BYTES_MAX: u64 = 16 * MIB;
const QUEUED_MESSAGES_MAX: u64 = 100_000;
/// librdkafka's `message.max.bytes`: it refuses a `fetch.max.bytes` below it.
pub const MESSAGE_MAX_BYTES: u64 = 1_000_000;
/// A response may be larger than `fetch.max.bytes`, since a broker always gives the first batch whole.
const RECEIVE_BYTES_MIN: u64 = 100_000_000;
/// librdkafka refuses a `receive.message.max.bytes` below `fetch.max.bytes` and this.
pub const RECEIVE_HEADROOM_BYTES: u64 = 512;

/// What a cold reader's client may have fetched and not handed over.
pub const COLD_QUEUE_BYTES: u64 = 2 * MIB;
/// One pipeline to Redis is written when its entries come to this.
pub const REDIS_BATCH_BYTES: u64 = MIB;
/// A pipeline is there as entries, as commands and as the bytes that are sent.
const REDIS_BATCH_COPIES: u64 = 3;
/// What an entry in Redis has besides the values in it, at most: two chunks of records without values, and names.
const REDIS_ENTRY_OVERHEAD: u64 = 512 * KIB;

/// Chunks that may wait in front of one shard.
pub const SHARD_INBOX_CHUNKS: u64 = 256;
/// Chunks put together for one write to everybody who stands at one place, in bytes.
pub const ASSEMBLY_BYTES: u64 = 256 * KIB;
/// Assemblies that a shard keeps during a turn: one per place and form that several clients share.
pub const ASSEMBLIES: u64 = 16;
/// What a connection costs in our own memory: state, and the read buffer of one that was active.
pub const CONNECTION_BYTES: u64 = 4 * KIB;
/// What the kernel may pin for one connection whose other end does not read.
pub const CONNECTION_KERNEL_BYTES: u64 = 160 * KIB;
/// The touched part of a thread's stack, and its bookkeeping.
const THREAD_BYTES: u64 = 64 * KIB;
/// Threads that are always there: main, kafka-poll, lag, dlq, redis, accept, http, JSON encoders, librdkafka's own.
const FIXED_THREADS: u64 = 24;
/// The program itself: code, metrics, page, OpenSSL, snapshots.
const PROGRAM_BYTES: u64 = 24 * MIB;

/// What the consumer is told, for that many assigned partitions. Everything is set explicitly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KafkaBudget {
    /// `queued.max.messages.kbytes`, per partition queue.
    pub queued_max_kbytes: u64,
    /// `queued.min.messages`, per partition queue.
    pub queued_min_messages: u64,
    /// `fetch.message.max.bytes`: one partition's part of a fetch; never more than its queue may hold.
    pub fetch_message_max_bytes: u64,
    /// `fetch.max.bytes`: one response.
    pub fetch_max_bytes: u64,
    /// `receive.message.max.bytes`: what a broker may send at most. A record above it would block its partition.
    pub receive_message_max_bytes: u64,
}

/// One bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryItem {
    pub what: &'static str,
    /// How the number comes about.
    pub how: String,
    pub bytes: u64,
}

/// The bounds for that many partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemorySum {
    pub partitions: u32,
    /// Our own memory.
    pub items: Vec<MemoryItem>,
    /// Kernel memory, which does not count as ours and is there all the same.
    pub kernel: MemoryItem,
}

impl MemorySum {
    pub fn total_bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }
}

impl KafkaConfig {
    /// The consumer's settings when that many partitions are assigned.
    pub fn budget(&self, partitions: u32) -> KafkaBudget {
        let partitions = u64::from(partitions.max(1));
        // In whole KiB, as librdkafka counts its queue.
        let share = (self.queue_bytes / partitions).clamp(QUEUE_SHARE_BYTES_MIN, QUEUE_SHARE_BYTES_MAX) / KIB * KIB;
        let fetch_message_max_bytes = share.min(FETCH_MESSAGE_BYTES_MAX);
        let fetch_max_bytes = (fetch_message_max_bytes * partitions).clamp(MIB.max(MESSAGE_MAX_BYTES), FETCH_BYTES_MAX);
        KafkaBudget {
            queued_max_kbytes: share / KIB,
            // Bookkeeping of a full queue of small messages may cost as much as half of its bytes, not more.
            queued_min_messages: (share / (4 * BYTES_PER_QUEUED_MESSAGE)).clamp(1, QUEUED_MESSAGES_MAX),
            fetch_message_max_bytes,
            fetch_max_bytes,
            receive_message_max_bytes: RECEIVE_BYTES_MIN
                .max(fetch_max_bytes + RECEIVE_HEADROOM_BYTES)
                .max(2 * self.payload_max_bytes + MIB),
        }
    }
}

impl Config {
    /// [`KafkaConfig::budget`].
    pub fn kafka_budget(&self, partitions: u32) -> KafkaBudget {
        self.kafka.budget(partitions)
    }

    /// Largest entry in Redis, in bytes; larger ones are neither written nor read. An entry is at most a chunk, which is
    /// at most `log.chunk_bytes` and one largest record, on top of less than a chunk.
    pub fn redis_entry_bytes_max(&self) -> u64 {
        self.kafka.payload_max_bytes + 2 * u64::from(self.log.chunk_bytes) + REDIS_ENTRY_OVERHEAD
    }

    /// The sum of all bounds for that many partitions.
    pub fn memory(&self, partitions: u32) -> MemorySum {
        let count = u64::from(partitions.max(1));
        let shards = u64::from(self.server.shards);
        let chunk = u64::from(self.log.chunk_bytes);
        let connections = u64::from(self.server.max_connections);
        let budget = self.kafka_budget(partitions);
        let queue = budget.queued_max_kbytes * KIB;
        let letter = u64::from(self.dlq.value_max_bytes);
        let item = |what, how, bytes| MemoryItem { what, how, bytes };
        let items = vec![
            item("Kafka queues", format!("2 x {} x {count} partitions", size(queue)), 2 * queue * count),
            item(
                "Kafka fetches",
                format!("{} x {count} partitions", size(budget.fetch_message_max_bytes)),
                budget.fetch_message_max_bytes * count,
            ),
            item(
                "Kafka bookkeeping",
                format!(
                    "{BYTES_PER_QUEUED_MESSAGE} B x 2 x {} messages x {count} partitions",
                    budget.queued_min_messages
                ),
                2 * BYTES_PER_QUEUED_MESSAGE * budget.queued_min_messages * count,
            ),
            item("log", "log.max_bytes, all forms included".to_owned(), self.log.max_bytes),
            item(
                "cold replay",
                format!(
                    "cold.max_bytes, and a quantum of {} with one largest record, and queues of {} x {} readers",
                    size(QUANTUM_BYTES),
                    size(2 * COLD_QUEUE_BYTES + MESSAGE_MAX_BYTES),
                    self.cold.readers
                ),
                if self.cold.readers == 0 { 0 } else { self.cold.max_bytes }
                    + u64::from(self.cold.readers)
                        * (QUANTUM_BYTES + self.kafka.payload_max_bytes + 2 * COLD_QUEUE_BYTES + MESSAGE_MAX_BYTES),
            ),
            item(
                "runs",
                format!("{} B x {} x {shards} shards", runs::RUN_BYTES, self.cold.runs_max),
                runs::RUN_BYTES * u64::from(self.cold.runs_max) * shards,
            ),
            item("chunks being built", format!("{} x {count} partitions", size(chunk)), chunk * count),
            item(
                "chunks on their way",
                format!("{SHARD_INBOX_CHUNKS} x {} x {shards} shards", size(chunk)),
                SHARD_INBOX_CHUNKS * chunk * shards,
            ),
            item(
                "chunks put together",
                // A buffer that grows to its end may have twice the room.
                format!("2 x {} x {ASSEMBLIES} x {shards} shards", size(ASSEMBLY_BYTES)),
                2 * ASSEMBLY_BYTES * ASSEMBLIES * shards,
            ),
            item(
                "decompression",
                format!(
                    "a context and a buffer x {count} partitions, and {} records of {}",
                    inflate::LARGE_BODIES_MAX,
                    size(self.kafka.payload_max_bytes)
                ),
                inflate_bytes(count, self.kafka.payload_max_bytes),
            ),
            item(
                "sequences",
                format!("{} B x {} threads x {count} partitions", sequence::KEY_BYTES, sequence_keys(count)),
                sequence::KEY_BYTES as u64 * sequence_keys(count) * count,
            ),
            item(
                "dead letters",
                format!("dlq.queue_max_bytes, and one letter of {} in base64", size(letter)),
                self.dlq.queue_max_bytes + letter.div_ceil(3) * 4,
            ),
            item(
                "Redis",
                match self.replay.redis.is_on() {
                    false => "replay.redis.url is not set".to_owned(),
                    true => format!(
                        "replay.redis.queue_bytes, and {REDIS_BATCH_COPIES} x ({} and an entry of {})",
                        size(REDIS_BATCH_BYTES),
                        size(self.redis_entry_bytes_max())
                    ),
                },
                match self.replay.redis.is_on() {
                    false => 0,
                    true => {
                        self.replay.redis.queue_bytes
                            + REDIS_BATCH_COPIES * (REDIS_BATCH_BYTES + self.redis_entry_bytes_max())
                    }
                },
            ),
            item("frames in the middle", "fanout.mid_frame_max_bytes".to_owned(), self.fanout.mid_frame_max_bytes),
            item("messages of clients", "fanout.inbound_max_bytes".to_owned(), self.fanout.inbound_max_bytes),
            item("connections", format!("{} x {connections}", size(CONNECTION_BYTES)), CONNECTION_BYTES * connections),
            item(
                "threads",
                format!("{} x {}", size(THREAD_BYTES), count + shards + FIXED_THREADS),
                THREAD_BYTES * (count + shards + FIXED_THREADS),
            ),
            item("the program", "code, metrics, page".to_owned(), PROGRAM_BYTES),
        ];
        let kernel = item(
            "kernel socket buffers",
            format!("{} x {connections} connections that do not read", size(CONNECTION_KERNEL_BYTES)),
            CONNECTION_KERNEL_BYTES * connections,
        );
        MemorySum { partitions, items, kernel }
    }
}

/// Threads whose sequence is tracked, per partition.
fn sequence_keys(partitions: u64) -> u64 {
    let keys = sequence::keys_per_partition(u32::try_from(partitions).unwrap_or(u32::MAX));
    keys.next_power_of_two() as u64
}

fn inflate_bytes(inflaters: u64, decoded_max: u64) -> u64 {
    let [inflaters, decoded_max] = [inflaters, decoded_max].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    inflate::memory_bytes_max(inflaters, decoded_max) as u64
}

/// As sizes are written in the configuration, with a unit in any case.
fn size(bytes: u64) -> String {
    let written = super::value::Value::Size(bytes).to_string();
    if written.ends_with('B') || bytes == 0 { written } else { format!("{written} B") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_with;

    fn config(overrides: &[(&str, &str)]) -> Config {
        load_with(overrides).expect("these settings are allowed").config
    }

    #[test]
    fn librdkafka_accepts_the_relations_for_every_number_of_partitions() {
        for queue in ["16MiB", "128MiB", "8GiB"] {
            let config = config(&[("kafka.queue_bytes", queue)]);
            for partitions in [0, 1, 2, 3, 7, 64, 128, 1_000, 1_024] {
                let budget = config.kafka_budget(partitions);
                assert!(budget.fetch_max_bytes >= MESSAGE_MAX_BYTES, "{partitions}: {budget:?}");
                assert!(budget.receive_message_max_bytes >= budget.fetch_max_bytes + 512, "{partitions}: {budget:?}");
                assert!(budget.receive_message_max_bytes <= i32::MAX as u64, "{partitions}: {budget:?}");
                assert!(budget.fetch_message_max_bytes <= budget.queued_max_kbytes * KIB, "{partitions}: {budget:?}");
                assert!((1..=100_000).contains(&budget.queued_min_messages), "{partitions}: {budget:?}");
                assert!((1..=2_097_151).contains(&budget.queued_max_kbytes), "{partitions}: {budget:?}");
            }
        }
    }

    #[test]
    fn shares_of_the_default_budget() {
        let config = config(&[]);
        let budget = config.kafka_budget(64);
        assert_eq!(budget.queued_max_kbytes, 2_048);
        assert_eq!(budget.queued_min_messages, 2_097_152 / 1_216);
        assert_eq!(budget.fetch_message_max_bytes, 1_048_576);
        assert_eq!(budget.fetch_max_bytes, 16 << 20);
        assert_eq!(budget.receive_message_max_bytes, 100_000_000);
        assert_eq!(config.kafka_budget(1_024).fetch_message_max_bytes, 128 << 10);
    }

    #[test]
    fn a_record_at_the_payload_limit_can_be_received() {
        let budget = config(&[
            ("kafka.payload_max_bytes", "200MiB"),
            ("log.max_bytes", "1GiB"),
            ("fanout.mid_frame_max_bytes", "200MiB"),
            ("cold.max_bytes", "400MiB"),
        ])
        .kafka_budget(4);
        assert_eq!(budget.receive_message_max_bytes, (400 << 20) + (1 << 20));
    }

    #[test]
    fn the_sum_is_the_sum() {
        let config = config(&[
            ("kafka.queue_bytes", "64MiB"),
            ("log.max_bytes", "100MiB"),
            ("server.shards", "2"),
            ("server.max_connections", "1000"),
            ("dlq.value_max_bytes", "3000"),
        ]);
        let sum = config.memory(64);
        let bytes = |what: &str| sum.items.iter().find(|item| item.what == what).map(|item| item.bytes);
        assert_eq!(bytes("Kafka queues"), Some(2 * (64 << 20)));
        assert_eq!(bytes("Kafka fetches"), Some(64 << 20));
        assert_eq!(bytes("Kafka bookkeeping"), Some(304 * 2 * 862 * 64));
        assert_eq!(bytes("log"), Some(100 << 20));
        assert_eq!(bytes("chunks being built"), Some(64 * (64 << 10)));
        assert_eq!(bytes("chunks on their way"), Some(256 * (64 << 10) * 2));
        assert_eq!(bytes("chunks put together"), Some(2 * (256 << 10) * 16 * 2));
        assert_eq!(bytes("decompression"), Some(64 * ((256 + 96) << 10) + 4 * (10 << 20)));
        assert_eq!(bytes("sequences"), Some(32 * 2_048 * 64));
        assert_eq!(bytes("dead letters"), Some((16 << 20) + 4_000));
        assert_eq!(bytes("Redis"), Some(0), "there is none");
        assert_eq!(bytes("frames in the middle"), Some(32 << 20));
        assert_eq!(bytes("messages of clients"), Some(32 << 20));
        assert_eq!(bytes("connections"), Some(4_096 * 1_000));
        assert_eq!(bytes("threads"), Some((64 << 10) * (64 + 2 + 24)));
        assert_eq!(sum.kernel.bytes, 160 * 1_024 * 1_000);
        let added: u64 = sum.items.iter().map(|item| item.bytes).sum();
        assert_eq!(sum.total_bytes(), added);
        assert!(config.memory(65).total_bytes() > 0);
    }

    #[test]
    fn redis_is_in_the_sum_when_it_is_on() {
        let config = config(&[("replay.redis.url", "redis://127.0.0.1"), ("replay.redis.queue_bytes", "5MiB")]);
        assert_eq!(config.redis_entry_bytes_max(), (10 << 20) + (128 << 10) + (512 << 10));
        let expected = (5 << 20) + 3 * ((1 << 20) + (10 << 20) + (640 << 10));
        let sum = config.memory(64);
        let redis = sum.items.iter().find(|item| item.what == "Redis").map(|item| item.bytes);
        assert_eq!(redis, Some(expected));
    }

    #[test]
    fn the_largest_allowed_settings_do_not_overflow() {
        let sum = config(&[
            ("kafka.partitions_max", "4096"),
            ("kafka.queue_bytes", "64GiB"),
            ("log.max_bytes", "256GiB"),
            ("server.max_connections", "1000000"),
            ("server.shards", "256"),
        ])
        .memory(4_096);
        assert!(sum.total_bytes() > 128 << 30);
    }
}
