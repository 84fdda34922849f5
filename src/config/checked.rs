//! What is meant: typed values with units, every one already checked. Made only by [`super::load`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::topics::TopicDeclaration;
use crate::analysis::prices::Prices;
use crate::words::SlowPolicy;
pub use crate::words::access::{Access, AddressFamily, SaslMechanism, Secret, SecurityConfig, SecurityProtocol};

/// Everything that a command of the gateway needs to know. Sections are those of the TOML file.
#[derive(Clone, Debug)]
pub struct Config {
    pub kafka: KafkaConfig,
    pub schema: SchemaConfig,
    pub server: ServerConfig,
    pub admin: AdminConfig,
    pub client: ClientConfig,
    pub log: LogConfig,
    pub cold: ColdConfig,
    pub fanout: FanoutConfig,
    pub replay: ReplayConfig,
    pub dlq: DlqConfig,
    pub lag: LagConfig,
    pub topics: TopicsConfig,
    pub shutdown: ShutdownConfig,
    pub logging: LoggingConfig,
    pub costs: CostsConfig,
}

#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, comma separated, at least one.
    pub brokers: String,
    pub topic: String,
    pub group_id: String,
    pub assignment: Assignment,
    /// Where a partition without a commit begins. librdkafka's own setting is always `error`.
    pub auto_offset_reset: OffsetReset,
    pub on_decode_error: OnDecodeError,
    pub security: SecurityConfig,
    pub broker_address_family: AddressFamily,
    /// Total of all partition queues; the share of one partition is this divided by their number.
    pub queue_bytes: u64,
    /// How long a broker may hold an empty fetch. Real Kafka answers at once when data arrives; the mock does not.
    pub fetch_max_wait: Duration,
    pub session_timeout: Duration,
    pub commit_interval: Duration,
    /// How often topic metadata and identity are looked at. Upper bound 30 s.
    pub discovery_interval: Duration,
    /// More partitions than this are refused: memory is summed for this many.
    pub partitions_max: u32,
    /// Largest record value, in bytes, inclusive; also the limit of what a value may decompress to.
    pub payload_max_bytes: u64,
}

impl KafkaConfig {
    /// Where the brokers are, and what they want to see: all that a client needs which is not the gateway's.
    pub fn access(&self) -> Access {
        Access {
            brokers: self.brokers.clone(),
            address_family: self.broker_address_family,
            security: self.security.clone(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Assignment {
    /// Every host reads every partition, without group membership.
    All,
    /// Hosts of one group share the partitions.
    Group,
}

impl Assignment {
    pub const ALL: [Self; 2] = [Self::All, Self::Group];

    /// The word in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Group => "group",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetReset {
    Earliest,
    Latest,
}

impl OffsetReset {
    pub const ALL: [Self; 2] = [Self::Earliest, Self::Latest];

    /// The word in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnDecodeError {
    /// Dead-letter the record and go on.
    Skip,
    /// Stop that partition alone at that record, and stay there after a restart.
    Pause,
}

impl OnDecodeError {
    pub const ALL: [Self; 2] = [Self::Skip, Self::Pause];

    /// The word in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Pause => "pause",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SchemaPolicy {
    /// Versions above ours are forwarded and counted.
    Forward,
    /// Any version but ours is dead-lettered.
    Exact,
}

impl SchemaPolicy {
    pub const ALL: [Self; 2] = [Self::Forward, Self::Exact];

    /// The word in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Exact => "exact",
        }
    }
}

#[derive(Clone, Debug)]
pub struct SchemaConfig {
    pub policy: SchemaPolicy,
}

#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub host: IpAddr,
    /// 0 lets the system choose (tests); the chosen port is printed.
    pub port: u16,
    pub allow_unauthenticated: bool,
    pub max_connections: u32,
    pub max_connections_per_ip: u32,
    pub trusted_proxy_ips: Vec<IpAddr>,
    /// Threads that own clients.
    pub shards: u32,
}

#[derive(Clone, Debug)]
pub struct AdminConfig {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What becomes of a client that says nothing about it.
    pub slow_policy: SlowPolicy,
    /// What a client may choose for itself.
    pub slow_policies: Vec<SlowPolicy>,
    /// A client that accepts no byte for this long while bytes wait is closed.
    pub stall_timeout: Duration,
    pub ping_interval: Duration,
    /// No sign of life from the client for this long, while nothing waits to be sent, closes it.
    pub idle_timeout: Duration,
    pub handshake_timeout: Duration,
    /// Largest request head.
    pub head_max_bytes: u32,
    /// Largest message that a client may send, fragments joined.
    pub message_max_bytes: u32,
    /// How long sending waits for a first frame of a client; never skips anything.
    pub resume_grace: Duration,
    pub resume_partitions_max: u32,
    pub resume_threads_max: u32,
}

#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Bound on live chunk and form bytes in the process.
    pub max_bytes: u64,
    pub max_age: Duration,
    /// How much of the log a restart fills again.
    pub warm_bytes: u64,
    pub warm_age: Duration,
    /// A chunk is closed when it is this large or holds one larger record.
    pub chunk_bytes: u32,
}

#[derive(Clone, Debug)]
pub struct ColdConfig {
    /// 0: the log is all there is.
    pub readers: u32,
    pub max_sessions: u32,
    /// Bound on live chunk and form bytes that are not the log's.
    pub max_bytes: u64,
    pub cache_bytes: u64,
    pub search_age: Duration,
    pub search_max_bytes: u64,
    /// Per shard.
    pub runs_max: u32,
}

#[derive(Clone, Debug)]
pub struct FanoutConfig {
    /// How long a busy shard may gather before a pass; 0 = never gather.
    pub flush: Duration,
    /// Budget for the rest of the frame (and the partial batches) that slow clients are in the middle of.
    pub mid_frame_max_bytes: u64,
    /// Budget for what clients have sent and not finished.
    pub inbound_max_bytes: u64,
}

/// Where records older than the log come from.
#[derive(Clone, Debug)]
pub struct ReplayConfig {
    pub redis: RedisConfig,
}

#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// None: there is no such tier. May hold a password.
    pub url: Option<Secret>,
    /// From the moment at which an entry was written.
    pub ttl: Duration,
    /// Per partition.
    pub max_entries: u32,
    /// Of the whole stream, about; each partition has an equal share.
    pub max_bytes: u64,
    /// Longest silence within one command.
    pub timeout: Duration,
    /// Bytes of chunks that wait to be written or are being written.
    pub queue_bytes: u64,
    /// Fall back to what the predecessor wrote.
    pub read_legacy: bool,
}

impl RedisConfig {
    /// The tier is on.
    pub fn is_on(&self) -> bool {
        self.url.is_some()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DlqMode {
    /// A dead letter that cannot be written is counted as lost; the commit goes on.
    FailOpen,
    /// The commit waits until every dead letter below it is acknowledged.
    FailClosed,
}

impl DlqMode {
    pub const ALL: [Self; 2] = [Self::FailOpen, Self::FailClosed];

    /// The word in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::FailOpen => "fail_open",
            Self::FailClosed => "fail_closed",
        }
    }
}

#[derive(Clone, Debug)]
pub struct DlqConfig {
    pub topic: String,
    pub mode: DlqMode,
    /// Raw bytes of a value kept in the envelope; the rest is cut, with a note.
    pub value_max_bytes: u32,
    pub queue_max_bytes: u64,
    /// Unacknowledged dead letters per partition.
    pub ledger_max: u32,
    pub send_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct LagConfig {
    pub check_interval: Duration,
    /// A partition that should move and does not for this long is re-assigned.
    pub stall_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct TopicsConfig {
    /// `serve` begins only if they are as declared.
    pub check_at_start: bool,
    /// One answer of the cluster.
    pub timeout: Duration,
    /// In the order of their names.
    pub declared: Vec<TopicDeclaration>,
}

#[derive(Clone, Debug)]
pub struct ShutdownConfig {
    /// One deadline for everything between the signal and the exit.
    pub deadline: Duration,
}

#[derive(Clone, Debug)]
pub struct CostsConfig {
    /// Empty: nobody said what tokens cost.
    pub prices: Prices,
}

#[derive(Clone, Debug)]
pub struct LoggingConfig {
    /// A `tracing` filter, e.g. `info` or `info,dashstream::kafka=debug`.
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    pub const ALL: [Self; 2] = [Self::Text, Self::Json];

    /// The word in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
