//! The one table of settings. Flags, environment names, the TOML file, `check-config`, `--help` and the README are
//! all made from it, so a setting that stands here exists everywhere, and nowhere else.
//!
//! Deliberately absent: names of the predecessor ([`super::predecessor`]), reading ([`super::raw`]), and relations
//! between settings (`check`).

use std::time::Duration;

use super::value::{Kind, TimeUnit};

/// One setting: `[section] name` in the file, `--section-name`, `DASHSTREAM_SECTION_NAME`. A section may have a dot
/// in its name, as TOML's do; flags and variables have their own sign there.
pub struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub kind: Kind,
    pub fallback: Fallback,
    /// What it does, and what too low and too high cost.
    pub effect: &'static str,
    /// Never printed, and no flag: arguments of a process can be read by everybody on its host.
    pub secret: bool,
}

/// What holds when nobody wrote anything.
#[derive(Clone, Copy)]
pub enum Fallback {
    Is(&'static str),
    /// Computed from other settings or from the host, as the text says.
    Follows(&'static str),
    /// Absent, which is a meaning of its own.
    Unset,
}

impl Key {
    /// `section.name`, as errors and `check-config` write it.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    pub fn environment_name(&self) -> String {
        format!("DASHSTREAM_{}_{}", self.section, self.name).replace('.', "_").to_ascii_uppercase()
    }

    /// Without the leading dashes.
    pub fn flag_name(&self) -> String {
        format!("{}-{}", self.section, self.name).replace(['_', '.'], "-")
    }

    /// What the README and `--help` show as the default.
    pub fn default_shown(&self) -> &'static str {
        match self.fallback {
            Fallback::Is("") => "none",
            Fallback::Is(text) | Fallback::Follows(text) => text,
            Fallback::Unset => "unset",
        }
    }
}

/// The sections in the order in which a newcomer should read them.
pub const SECTIONS: [(&str, &str); 15] = [
    ("kafka", "Where events come from"),
    ("schema", "What counts as one of our messages"),
    ("server", "Where clients connect, and how many"),
    ("admin", "Where operators look"),
    ("client", "What one client may do"),
    ("log", "The recent events kept in memory"),
    ("cold", "Replay of what is older than the log"),
    ("fanout", "How events are written to clients"),
    ("replay.redis", "Records older than the log: the Redis tier"),
    ("dlq", "Records that cannot be delivered"),
    ("lag", "Watching the way from Kafka"),
    ("topics", "Topics as they should be"),
    ("shutdown", "How the process ends"),
    ("logging", "What is written to standard error"),
    ("costs", "What tokens cost"),
];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Time { bare: TimeUnit::Seconds, min: Duration::from_secs(min), max: Duration::from_secs(max) }
}

const fn milliseconds(min: u64, max: u64) -> Kind {
    Kind::Time { bare: TimeUnit::Milliseconds, min: Duration::from_millis(min), max: Duration::from_millis(max) }
}

const fn key(section: &'static str, name: &'static str, kind: Kind, fallback: Fallback, effect: &'static str) -> Key {
    Key { section, name, kind, fallback, effect, secret: false }
}

const fn secret(section: &'static str, name: &'static str, effect: &'static str) -> Key {
    let kind = Kind::Text { shape: "text without line breaks, up to 4096 bytes", check: shape::secret };
    secret_of(section, name, kind, effect)
}

const fn secret_of(section: &'static str, name: &'static str, kind: Kind, effect: &'static str) -> Key {
    Key { section, name, kind, fallback: Fallback::Unset, effect, secret: true }
}

const TOPIC: Kind = Kind::Text {
    shape: "1 to 249 of the letters, digits and signs a-z A-Z 0-9 . _ -, not . or ..",
    check: shape::topic,
};

pub static KEYS: [Key; 80] = [
    key(
        "kafka",
        "brokers",
        Kind::Text {
            shape: "host:port, comma separated, at most 64; without a port 9092 is meant",
            check: shape::brokers,
        },
        Fallback::Is("127.0.0.1:9092"),
        "Brokers asked first; the others are learnt from them. With one name only, a start fails while that broker is down.",
    ),
    key(
        "kafka",
        "topic",
        TOPIC,
        Fallback::Is("dashstream-quality"),
        "The one topic that this process streams. It may be created later.",
    ),
    key(
        "kafka",
        "group_id",
        Kind::Text { shape: "1 to 255 bytes without control characters", check: shape::group },
        Fallback::Follows("dashstream-<hostname>"),
        "Under this name places are committed, and Kafka tools show the lag. Two hosts with one name overwrite each other's place under kafka.assignment = all.",
    ),
    key(
        "kafka",
        "assignment",
        Kind::Choice(&[("all", &[]), ("group", &[])]),
        Fallback::Is("all"),
        "all: this host reads every partition and can serve every client. group: hosts of one kafka.group_id share the partitions, and clients of a host see only its share.",
    ),
    key(
        "kafka",
        "auto_offset_reset",
        Kind::Choice(&[("earliest", &["smallest", "beginning"]), ("latest", &["largest", "end"])]),
        Fallback::Is("earliest"),
        "Where a partition without a committed place begins. latest skips what is already there.",
    ),
    key(
        "kafka",
        "on_decode_error",
        Kind::Choice(&[("skip", &[]), ("pause", &[])]),
        Fallback::Is("skip"),
        "skip: dead-letter the record and go on. pause: stop that partition alone at that record, also after a restart.",
    ),
    key(
        "kafka",
        "security_protocol",
        Kind::Choice(&[("plaintext", &[]), ("ssl", &[]), ("sasl_plaintext", &[]), ("sasl_ssl", &[])]),
        Fallback::Is("plaintext"),
        "How brokers are spoken to. sasl_plaintext with PLAIN sends the password in clear.",
    ),
    key(
        "kafka",
        "sasl_mechanism",
        Kind::Choice(&[("PLAIN", &[]), ("SCRAM-SHA-256", &[]), ("SCRAM-SHA-512", &[]), ("OAUTHBEARER", &[])]),
        Fallback::Unset,
        "Needed by sasl_plaintext and sasl_ssl, refused without them. GSSAPI is not built in.",
    ),
    key(
        "kafka",
        "sasl_username",
        Kind::Text { shape: "1 to 1024 bytes without control characters", check: shape::line },
        Fallback::Unset,
        "Comes together with kafka.sasl_password; needed by PLAIN and SCRAM.",
    ),
    secret("kafka", "sasl_password", "Comes together with kafka.sasl_username; needed by PLAIN and SCRAM."),
    secret_of(
        "kafka",
        "sasl_oauthbearer_config",
        Kind::Text {
            shape: "principal=NAME, and beside it lifeSeconds=SECONDS and scope=A,B, with spaces between",
            check: shape::oauthbearer,
        },
        "For tests and development: librdkafka's sasl.oauthbearer.config, which makes unsecured tokens.",
    ),
    key(
        "kafka",
        "ssl_ca_location",
        Kind::Path,
        Fallback::Unset,
        "PEM file of the authorities that may sign a broker's certificate. Unset: those of the system.",
    ),
    key(
        "kafka",
        "ssl_certificate_location",
        Kind::Path,
        Fallback::Unset,
        "PEM file of our own certificate, for brokers that ask for one. Comes together with kafka.ssl_key_location.",
    ),
    key(
        "kafka",
        "ssl_key_location",
        Kind::Path,
        Fallback::Unset,
        "PEM file of the key of our own certificate. Comes together with kafka.ssl_certificate_location.",
    ),
    secret("kafka", "ssl_key_password", "Opens the key in kafka.ssl_key_location, if it is encrypted."),
    key(
        "kafka",
        "ssl_endpoint_algorithm",
        Kind::Choice(&[("https", &[]), ("none", &[])]),
        Fallback::Is("https"),
        "https: the broker's name must be in its certificate. none: any name will do, so a stranger in between is not noticed.",
    ),
    key(
        "kafka",
        "broker_address_family",
        Kind::Choice(&[("any", &[]), ("v4", &[]), ("v6", &[])]),
        Fallback::Follows("v4 when a broker is localhost or 127.*, else any"),
        "Which addresses of a broker's name are tried.",
    ),
    key(
        "kafka",
        "queue_bytes",
        Kind::Size { min: MIB, max: 64 * GIB },
        Fallback::Is("128MiB"),
        "Fetched and not yet looked at, all partitions together; each gets an equal share. Too low: many small fetches while catching up. Too high: memory, counted twice.",
    ),
    key(
        "kafka",
        "fetch_max_wait_ms",
        milliseconds(1, 60_000),
        Fallback::Is("100ms"),
        "How long a broker may hold a fetch that finds nothing. Too low: idle brokers are asked all the time. Too high: a stop takes longer.",
    ),
    key(
        "kafka",
        "session_timeout",
        seconds(6, 1_800),
        Fallback::Is("45s"),
        "Under kafka.assignment = group: how long a silent host keeps its share. Too low: shares move for a short stall. Too high: the share of a dead host waits.",
    ),
    key(
        "kafka",
        "commit_interval",
        seconds(1, 300),
        Fallback::Is("5s"),
        "How often places are committed. Too low: work for the brokers. Too high: more is read and dead-lettered again after a crash, under the same keys.",
    ),
    key(
        "kafka",
        "discovery_interval",
        seconds(1, 30),
        Fallback::Is("5s"),
        "How often partitions and the identity of the topic are looked at. Too low: work for the brokers. Too high: a new partition or a re-created topic is noticed later.",
    ),
    key(
        "kafka",
        "partitions_max",
        Kind::Number { min: 1, max: 4_096 },
        Fallback::Is("1024"),
        "A topic with more partitions is refused. Each has a thread, and memory is summed for this many.",
    ),
    key(
        "kafka",
        "payload_max_bytes",
        Kind::Size { min: KIB, max: 256 * MIB },
        Fallback::Is("10MiB"),
        "Largest record value, inclusive, and the most that one may decompress to. Too low: large records are dead-lettered. Too high: memory while decompressing.",
    ),
    key(
        "schema",
        "policy",
        Kind::Choice(&[("forward", &[]), ("exact", &[])]),
        Fallback::Is("forward"),
        "forward: messages of a newer schema version are delivered and counted. exact: they are dead-lettered.",
    ),
    key(
        "server",
        "host",
        Kind::Ip,
        Fallback::Is("127.0.0.1"),
        "Address on which clients are accepted. Anything but loopback needs server.allow_unauthenticated.",
    ),
    key(
        "server",
        "port",
        Kind::Number { min: 0, max: 65_535 },
        Fallback::Is("3002"),
        "Port for clients. A port in use is an error. 0 lets the system choose; the chosen port is printed.",
    ),
    key(
        "server",
        "allow_unauthenticated",
        Kind::Switch,
        Fallback::Is("false"),
        "Allows to listen on other addresses than loopback, although everybody who reaches the port reads the stream.",
    ),
    key(
        "server",
        "max_connections",
        Kind::Number { min: 1, max: 1_000_000 },
        Fallback::Is("10000"),
        "Clients at a time; one more is refused before it is upgraded. Needs as many file descriptors, and 160 KiB of kernel memory each at worst.",
    ),
    key(
        "server",
        "max_connections_per_ip",
        Kind::Number { min: 1, max: 1_000_000 },
        Fallback::Is("1000"),
        "Clients at a time from one address; one more is answered 429. Too low: a team behind one address, or everybody behind a proxy that is not in server.trusted_proxy_ips, locks itself out. Too high: one host can take every place.",
    ),
    key(
        "server",
        "trusted_proxy_ips",
        Kind::IpList { max: 64 },
        Fallback::Is(""),
        "Proxies whose X-Forwarded-For is believed. Name only those that set it themselves: otherwise a client chooses its own address.",
    ),
    key(
        "server",
        "shards",
        Kind::Number { min: 1, max: 256 },
        Fallback::Follows("half of the cores, at least 1"),
        "Threads that own clients. Too low: one core writes for everybody. Too high: less to gather per write, and Kafka's threads wait for a core.",
    ),
    key(
        "admin",
        "listen",
        Kind::Socket,
        Fallback::Is("127.0.0.1:9464"),
        "Where /metrics, /health and the admin API are answered, apart from the data path. Anything but loopback needs server.allow_unauthenticated. Port 0 lets the system choose.",
    ),
    key(
        "client",
        "slow_policy",
        Kind::Choice(&[("catchup", &[]), ("gap", &[]), ("close", &[])]),
        Fallback::Is("catchup"),
        "A client that falls off the log. catchup: it gets what it missed from the tiers below the log, unless it takes less than arrives; then it is told falling_behind, and gaps. gap: it is told exactly what it missed and jumps ahead. close: it is closed with fell_behind. Without cold.readers, catchup is gap.",
    ),
    key(
        "client",
        "slow_policies",
        Kind::Text { shape: "one or more of catchup, gap, close, comma separated", check: shape::slow_policies },
        Fallback::Is("catchup,gap,close"),
        "What a client may choose for itself instead of slow_policy, in v2 and json. Fewer: the operator decides. Asking for another is refused and changes nothing.",
    ),
    key(
        "client",
        "stall_timeout",
        seconds(1, 3_600),
        Fallback::Is("60s"),
        "A client that accepts no byte for this long while bytes wait is closed. Too low: a phone in a tunnel is closed. Too high: dead clients hold their place.",
    ),
    key(
        "client",
        "ping_interval",
        seconds(1, 3_600),
        Fallback::Is("20s"),
        "How often a silent client is pinged. Too low: wakes phones. Too high: proxies in between cut idle connections.",
    ),
    key(
        "client",
        "idle_timeout",
        seconds(2, 7_200),
        Fallback::Is("60s"),
        "A client that gives no sign of life for this long, while nothing waits to be sent, is closed. Must be longer than client.ping_interval.",
    ),
    key(
        "client",
        "handshake_timeout",
        seconds(1, 60),
        Fallback::Is("5s"),
        "From accepted to upgraded. Too low: far clients fail. Too high: half-open connections hold their place.",
    ),
    key(
        "client",
        "head_max_bytes",
        Kind::Size { min: KIB, max: MIB },
        Fallback::Is("16KiB"),
        "Largest request head. Too low: large cookies are refused. Too high: memory per unfinished request.",
    ),
    key(
        "client",
        "message_max_bytes",
        Kind::Size { min: 4 * KIB, max: 64 * MIB },
        Fallback::Is("1MiB"),
        "Largest message that a client may send, fragments joined. Too low: a resume with many partitions is refused. Too high: memory.",
    ),
    key(
        "client",
        "resume_grace_ms",
        milliseconds(0, 60_000),
        Fallback::Is("500ms"),
        "How long sending waits for a client's first frame. It delays and never skips. Too low: a client that resumes gets newer records first. Too high: a client that never speaks waits.",
    ),
    key(
        "client",
        "resume_partitions_max",
        Kind::Number { min: 1, max: 4_096 },
        Fallback::Is("1024"),
        "Partitions that one resume may name. Less than the topic has: a full cursor is refused.",
    ),
    key(
        "client",
        "resume_threads_max",
        Kind::Number { min: 1, max: 100_000 },
        Fallback::Is("10000"),
        "Threads that one resume may name. Too high: memory and time for one message.",
    ),
    key(
        "log",
        "max_bytes",
        Kind::Size { min: 4 * MIB, max: 256 * GIB },
        Fallback::Is("256MiB"),
        "Recent records kept for slow and returning clients, all forms and bookkeeping included. Too low: clients that were away are told gaps. Too high: memory.",
    ),
    key(
        "log",
        "max_age",
        seconds(1, 604_800),
        Fallback::Is("10m"),
        "Records older than this leave the log, even while there is room.",
    ),
    key(
        "log",
        "warm_bytes",
        Kind::Size { min: 0, max: 256 * GIB },
        Fallback::Follows("half of log.max_bytes"),
        "How much of the log a restart reads again from Kafka. Too low: clients find gaps after a restart. Too high: ready later.",
    ),
    key(
        "log",
        "warm_age",
        seconds(0, 604_800),
        Fallback::Follows("half of log.max_age"),
        "How far back a restart reads again from Kafka. The cost is that of log.warm_bytes.",
    ),
    key(
        "log",
        "chunk_bytes",
        Kind::Size { min: KIB, max: MIB },
        Fallback::Is("64KiB"),
        "Records are handled in chunks of about this size. Too low: more work per record. Too high: coarser eviction, and memory per partition.",
    ),
    key(
        "cold",
        "readers",
        Kind::Number { min: 0, max: 64 },
        Fallback::Is("2"),
        "Threads that read what is older than the log, each with a Kafka client. 0: the log is all there is. Too low: many who come back at once wait for each other. Too high: they take the live path's processor.",
    ),
    key(
        "cold",
        "max_sessions",
        Kind::Number { min: 1, max: 100_000 },
        Fallback::Is("256"),
        "Clients that replay from below the log at a time; more are told that they wait. Too low: a crowd comes back slowly. Too high: everybody's replay is slow.",
    ),
    key(
        "cold",
        "max_bytes",
        Kind::Size { min: 4 * MIB, max: 64 * GIB },
        Fallback::Is("96MiB"),
        "Records read from below the log and not yet sent, all forms included. Too low: replays wait for each other. Too high: memory.",
    ),
    key(
        "cold",
        "cache_bytes",
        Kind::Size { min: 0, max: 64 * GIB },
        Fallback::Follows("half of cold.max_bytes"),
        "The part of cold.max_bytes that is kept for others who want the same. Too low: the same is read again for each. Too high: less room for what is on its way.",
    ),
    key(
        "cold",
        "search_age",
        seconds(1, 31_536_000),
        Fallback::Is("24h"),
        "How old records may be that are looked through for a run, when the client does not say. Too low: the beginning of long runs is not found. Too high: long searches.",
    ),
    key(
        "cold",
        "search_max_bytes",
        Kind::Size { min: MIB, max: 1024 * GIB },
        Fallback::Is("1GiB"),
        "Bytes that one search for a run looks through at most; then the client is told how far it came. Too low: searches end early. Too high: one client keeps a reader busy for long.",
    ),
    key(
        "cold",
        "runs_max",
        Kind::Number { min: 1, max: 10_000_000 },
        Fallback::Is("20000"),
        "Runs whose beginning each shard remembers. Too low: old runs are looked for. Too high: memory.",
    ),
    key(
        "fanout",
        "flush_ms",
        milliseconds(0, 1_000),
        Fallback::Is("5ms"),
        "How long a busy shard may gather before it writes; an idle one never waits. 0: never gather. Too low: many tiny writes under load. Too high: latency.",
    ),
    key(
        "fanout",
        "mid_frame_max_bytes",
        Kind::Size { min: MIB, max: 16 * GIB },
        Fallback::Is("32MiB"),
        "Set aside for the rest of the frame that slow clients are in the middle of. Too low: slow clients are closed with out_of_budget. Too high: memory.",
    ),
    key(
        "fanout",
        "inbound_max_bytes",
        Kind::Size { min: MIB, max: 16 * GIB },
        Fallback::Is("32MiB"),
        "Set aside for what clients have begun to send and not finished. Too low: large messages are refused under load. Too high: memory.",
    ),
    secret_of(
        "replay.redis",
        "url",
        Kind::Text {
            shape: "redis://[user:password@]host[:port][/database], or rediss:// for TLS, up to 4096 bytes",
            check: shape::redis_url,
        },
        "Where records that left the log are kept for clients that were away. Unset: there is no such tier. Hosts of one stream may share one Redis. rediss:// trusts the authorities of the system, or those in the file that SSL_CERT_FILE names.",
    ),
    key(
        "replay.redis",
        "ttl",
        seconds(1, 2_592_000),
        Fallback::Is("1h"),
        "Redis forgets an entry this long after it was written. Too low: clients that were away longer are served by Kafka. Too high: memory of Redis.",
    ),
    key(
        "replay.redis",
        "max_entries",
        Kind::Number { min: 1, max: 10_000_000 },
        Fallback::Is("20000"),
        "Entries kept per partition; one holds what a partition brought within a fifth of a second, about 64 KiB at most or one larger record. More are removed, the oldest first.",
    ),
    key(
        "replay.redis",
        "max_bytes",
        Kind::Size { min: MIB, max: 4_096 * GIB },
        Fallback::Is("1GiB"),
        "Kept in Redis for the whole stream, about: each partition may have an equal share, judged by the mean size of its newest entries. Set maxmemory in Redis for a hard bound.",
    ),
    key(
        "replay.redis",
        "timeout",
        Kind::Time { bare: TimeUnit::Seconds, min: Duration::from_millis(10), max: Duration::from_secs(30) },
        Fallback::Is("500ms"),
        "How long Redis may keep silent in the middle of a command before its connection is given up. Too low: gives up during a slow moment. Too high: a replay waits for a Redis that is away.",
    ),
    key(
        "replay.redis",
        "queue_bytes",
        Kind::Size { min: 64 * KIB, max: GIB },
        Fallback::Follows("16MiB, or an eighth of log.max_bytes if that is less"),
        "Records on their way to Redis. Full: what comes is not written to Redis, and counted. Too low: a short stall leaves a hole there, which Kafka fills. Too high: memory that the log lacks.",
    ),
    key(
        "replay.redis",
        "read_legacy",
        Kind::Switch,
        Fallback::Is("false"),
        "Reads also what the predecessor has left in that Redis, found by kafka.topic, kafka.group_id and kafka.brokers as they were then. Its entries name no incarnation of the topic: do not use it after the topic was made again.",
    ),
    key(
        "dlq",
        "topic",
        TOPIC,
        Fallback::Follows("<kafka.topic>-dlq"),
        "Where dead letters go. Must exist, unless brokers create topics by themselves.",
    ),
    key(
        "dlq",
        "mode",
        Kind::Choice(&[("fail_closed", &[]), ("fail_open", &[])]),
        Fallback::Is("fail_closed"),
        "fail_closed: places are committed only up to the first dead letter that is not yet written. fail_open: a dead letter that cannot be written is counted as lost.",
    ),
    key(
        "dlq",
        "value_max_bytes",
        Kind::Size { min: 0, max: 640 * KIB },
        Fallback::Is("512KiB"),
        "Raw bytes of a bad value kept in its envelope; the rest is cut, with a note. Bounded so that a letter, in base64, fits into a broker's usual message size.",
    ),
    key(
        "dlq",
        "queue_max_bytes",
        Kind::Size { min: MIB, max: 4 * GIB },
        Fallback::Is("16MiB"),
        "Dead letters on their way to Kafka. Full: under fail_closed the partitions that make them wait, under fail_open letters are lost.",
    ),
    key(
        "dlq",
        "ledger_max",
        Kind::Number { min: 1, max: 1_000_000 },
        Fallback::Is("10000"),
        "Unacknowledged dead letters per partition. At this many, under fail_closed, that partition alone stops.",
    ),
    key(
        "dlq",
        "send_timeout",
        seconds(1, 300),
        Fallback::Is("5s"),
        "How long one dead letter is tried. Too low: a broker's restart loses or delays letters. Too high: trouble is noticed later.",
    ),
    key(
        "lag",
        "check_interval",
        seconds(1, 3_600),
        Fallback::Is("10s"),
        "How often lag is measured. Too low: work for the brokers. Too high: stale figures and late repair.",
    ),
    key(
        "lag",
        "stall_timeout",
        seconds(5, 86_400),
        Fallback::Follows("30s, or three times lag.check_interval if that is longer"),
        "A partition that should move and does not for this long is assigned again. Too low: repairs during a broker's restart. Too high: clients wait.",
    ),
    key(
        "topics",
        "check_at_start",
        Kind::Switch,
        Fallback::Is("false"),
        "serve first looks whether the topics in [topics.NAME] are as declared, and ends with exit code 3 if they are not. With it a start needs the brokers to answer.",
    ),
    key(
        "topics",
        "timeout",
        seconds(1, 600),
        Fallback::Is("30s"),
        "How long `dashstream topics` and topics.check_at_start wait for one answer of the cluster. Too low: a busy controller counts as away. Too high: a wrong address is noticed late.",
    ),
    key(
        "shutdown",
        "deadline",
        seconds(1, 600),
        Fallback::Is("8s"),
        "From the signal to the exit. Must be shorter than the unit's TimeoutStopSec. Too low: slow clients get no close frame.",
    ),
    key(
        "logging",
        "filter",
        Kind::Text { shape: "a filter such as info or info,dashstream::kafka=debug", check: shape::filter },
        Fallback::Is("info"),
        "Which log lines are written.",
    ),
    key(
        "logging",
        "format",
        Kind::Choice(&[("text", &[]), ("json", &[])]),
        Fallback::Is("text"),
        "text for people, json for machines, one object per line.",
    ),
    key(
        "costs",
        "prices",
        Kind::Text {
            shape: "MODEL=INPUT/OUTPUT per million tokens, comma separated or a list; a model may end in *, the longest that fits counts",
            check: shape::prices,
        },
        Fallback::Unset,
        "What costs, inspect, diff and profile reckon with, such as gpt-4o=2.50/10, small-*=0.25/1.25. A model without a price is said to have none.",
    ),
];

/// The setting of that full name.
pub fn find(full_name: &str) -> Option<&'static Key> {
    let (section, name) = full_name.rsplit_once('.')?;
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// The README's configuration tables, one per section.
pub fn markdown() -> String {
    let mut text = String::new();
    for (section, title) in SECTIONS {
        text.push_str(&format!("### `[{section}]` {title}\n\n"));
        text.push_str("| key | default | allowed | environment | effect |\n|---|---|---|---|---|\n");
        for key in KEYS.iter().filter(|key| key.section == section) {
            let also: String =
                super::predecessor::names_of(&key.full_name()).map(|name| format!("<br>`{name}`")).collect();
            text.push_str(&format!(
                "| `{}` | {} | {} | `{}`{also} | {}{} |\n",
                key.name,
                cell(key.default_shown()),
                cell(&key.kind.allowed()),
                key.environment_name(),
                cell(key.effect),
                if key.secret { " Secret: no flag, never printed." } else { "" },
            ));
        }
        text.push('\n');
    }
    text
}

/// Text inside a table row: what would end a cell or vanish as a tag is escaped.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

/// Checks of free text. Each gives the text as it is used, or nothing.
pub(super) mod shape {
    use crate::words::SlowPolicy;

    pub(super) fn line(text: &str) -> Option<String> {
        (!text.is_empty() && text.len() <= 1_024 && !text.chars().any(char::is_control)).then(|| text.to_owned())
    }

    pub(super) fn secret(text: &str) -> Option<String> {
        let fits = !text.is_empty() && text.len() <= 4_096;
        (fits && !text.contains(['\n', '\r', '\0'])).then(|| text.to_owned())
    }

    /// Only the two schemes that are documented; the rest is judged by the client that will use it.
    pub(super) fn redis_url(text: &str) -> Option<String> {
        let text = secret(text.trim())?;
        let named = ["redis://", "rediss://"].iter().any(|scheme| text.starts_with(scheme));
        let insecure = text.contains('#');
        (named && !insecure && text.parse::<redis::ConnectionInfo>().is_ok()).then_some(text)
    }

    /// In the order in which the words are listed, each once.
    pub(super) fn slow_policies(text: &str) -> Option<String> {
        let words = text.split(',').map(|word| SlowPolicy::parse(word.trim()));
        let chosen = words.collect::<Option<Vec<_>>>()?;
        let listed = SlowPolicy::ALL.into_iter().filter(|policy| chosen.contains(policy)).map(SlowPolicy::label);
        Some(listed.collect::<Vec<_>>().join(","))
    }

    /// As `kafka::oauth` reads it.
    pub(super) fn oauthbearer(text: &str) -> Option<String> {
        let text = secret(text.trim())?;
        let known = |pair: &str| match pair.split_once('=') {
            Some(("principal" | "scope", value)) => !value.is_empty(),
            Some(("lifeSeconds", value)) => value.parse::<u32>().is_ok(),
            _ => false,
        };
        let named = text.split_ascii_whitespace().any(|pair| pair.starts_with("principal="));
        (named && text.split_ascii_whitespace().all(known)).then_some(text)
    }

    pub(super) fn group(text: &str) -> Option<String> {
        line(text).filter(|line| line.len() <= 255)
    }

    pub(in crate::config) fn topic(text: &str) -> Option<String> {
        let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        (letters && (1..=249).contains(&text.len()) && text != "." && text != "..").then(|| text.to_owned())
    }

    /// Every broker gets its port, so that no two readers of the setting can differ about the default.
    pub(super) fn brokers(text: &str) -> Option<String> {
        const BROKERS_MAX: usize = 64;
        let parts: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() || parts.len() > BROKERS_MAX {
            return None;
        }
        Some(parts.into_iter().map(broker).collect::<Option<Vec<_>>>()?.join(","))
    }

    fn broker(text: &str) -> Option<String> {
        let bracketed = text.starts_with('[');
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !bracketed || host.ends_with(']') => (host, port.parse::<u16>().ok()?),
            _ => (text, 9_092),
        };
        let host_fits = if bracketed {
            host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::Ipv6Addr>().is_ok()
        } else {
            host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        };
        (host_fits && port != 0 && (1..=255).contains(&host.len())).then(|| format!("{host}:{port}"))
    }

    pub(super) fn prices(text: &str) -> Option<String> {
        let fits = text.len() <= 64 << 10 && !text.chars().any(char::is_control);
        (fits && crate::analysis::prices::Prices::parse(text).is_ok_and(|prices| !prices.is_empty()))
            .then(|| text.to_owned())
    }

    pub(super) fn filter(text: &str) -> Option<String> {
        let fits = !text.is_empty() && text.len() <= 4_096 && !text.chars().any(char::is_control);
        (fits && tracing_subscriber::EnvFilter::try_new(text).is_ok()).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::value::Value;

    #[test]
    fn every_default_is_allowed_by_its_own_key() {
        for key in &KEYS {
            if let Fallback::Is(text) = key.fallback {
                assert!(key.kind.parse(text).is_some(), "{} = {text:?}", key.full_name());
            }
        }
    }

    #[test]
    fn names_are_unique_and_say_their_unit() {
        let flags: BTreeSet<_> = KEYS.iter().map(Key::flag_name).collect();
        let environment: BTreeSet<_> = KEYS.iter().map(Key::environment_name).collect();
        assert_eq!((flags.len(), environment.len()), (KEYS.len(), KEYS.len()));
        for key in &KEYS {
            assert!(SECTIONS.iter().any(|(section, _)| *section == key.section), "{}", key.full_name());
            assert!(key.effect.ends_with('.'), "{}: the effect is a sentence", key.full_name());
            assert_eq!(matches!(key.kind, Kind::Size { .. }), key.name.ends_with("_bytes"), "{}", key.full_name());
            if let Kind::Time { bare, .. } = key.kind {
                let expected = if key.name.ends_with("_ms") { TimeUnit::Milliseconds } else { TimeUnit::Seconds };
                assert_eq!(bare, expected, "{}", key.full_name());
            }
        }
    }

    #[test]
    fn documented_names_exist() {
        let names = [
            "DASHSTREAM_ADMIN_LISTEN",
            "DASHSTREAM_CLIENT_RESUME_GRACE_MS",
            "DASHSTREAM_CLIENT_STALL_TIMEOUT",
            "DASHSTREAM_DLQ_MODE",
            "DASHSTREAM_FANOUT_FLUSH_MS",
            "DASHSTREAM_KAFKA_ASSIGNMENT",
            "DASHSTREAM_REPLAY_REDIS_URL",
            "DASHSTREAM_SCHEMA_POLICY",
            "DASHSTREAM_SERVER_ALLOW_UNAUTHENTICATED",
        ];
        for name in names {
            assert!(KEYS.iter().any(|key| key.environment_name() == name), "{name}");
        }
    }

    #[test]
    fn free_text_is_tidied_or_refused() {
        let check = |name: &str, text: &str, expected: &str| {
            let key = find(name).unwrap_or_else(|| panic!("no key {name}"));
            let shown = key.kind.parse(text).as_ref().map_or("-".to_owned(), Value::to_string);
            assert_eq!(shown, expected, "{name} = {text:?}");
        };
        check("kafka.brokers", "a:1, b:2 ,", "a:1,b:2");
        check("kafka.brokers", "broker-1.example", "broker-1.example:9092");
        check("kafka.brokers", "[::1]:9093", "[::1]:9093");
        check("kafka.brokers", "[::1]", "[::1]:9092");
        check("kafka.brokers", "::1", "-");
        check("kafka.brokers", "", "-");
        check("kafka.brokers", " , ", "-");
        check("kafka.brokers", "a:0", "-");
        check("kafka.brokers", "a:65536", "-");
        check("kafka.brokers", "a:b:1", "-");
        check("kafka.brokers", "a b:1", "-");
        check("kafka.brokers", "SASL_SSL://a:1", "-");
        check("kafka.brokers", &"a:1,".repeat(65), "-");
        check("kafka.topic", "dashstream-quality", "dashstream-quality");
        check("kafka.topic", "^regex.*", "-");
        check("kafka.topic", "", "-");
        check("kafka.topic", "..", "-");
        check("kafka.topic", &"t".repeat(249), &"t".repeat(249));
        check("kafka.topic", &"t".repeat(250), "-");
        check("kafka.group_id", "grüppe 1", "grüppe 1");
        check("kafka.group_id", "a\nb", "-");
        check("kafka.sasl_mechanism", "scram-sha-512", "SCRAM-SHA-512");
        check("logging.filter", "info,dashstream::kafka=debug", "info,dashstream::kafka=debug");
        check("logging.filter", "info=loud=very", "-");
        check("replay.redis.url", "redis://127.0.0.1:6379", "redis://127.0.0.1:6379");
        check("replay.redis.url", " redis://:p%40ss@cache.example/3 ", "redis://:p%40ss@cache.example/3");
        check("replay.redis.url", "rediss://user:secret@cache.example:6380", "rediss://user:secret@cache.example:6380");
        check("replay.redis.url", "rediss://cache.example/#insecure", "-");
        check("replay.redis.url", "cache.example:6379", "-");
        check("replay.redis.url", "http://cache.example", "-");
        check("replay.redis.url", "unix:///run/redis.sock", "-");
        check("replay.redis.url", "redis://", "-");
        check("replay.redis.url", "redis://cache.example/first", "-");
    }

    #[test]
    fn the_printed_table_has_a_row_for_every_key() {
        let table = markdown();
        let rows = table.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, KEYS.len());
        assert!(table.contains("`KAFKA_BROKERS`"), "names that still work are shown");
    }
}
