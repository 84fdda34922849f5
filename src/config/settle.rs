//! From what was written to what is meant: every text is parsed by its key, what nobody wrote falls back, and the
//! typed [`Config`] is filled. Relations between settings are judged afterwards, by [`super::check`].
//!
//! A key that is misspelt in [`Values`]' callers is a bug of this file, met by every load; hence the assertions.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::checked::*;
use super::error::{ConfigError, shorten};
use super::host::Host;
use super::raw::{Raw, Source};
use super::report::Setting;
use super::table::{Fallback, KEYS, Key};
use super::value::Value;
use crate::analysis::prices::Prices;
use crate::words::SlowPolicy;

/// The typed value of every key, in the order of the table.
pub(super) struct Values {
    entries: Vec<Entry>,
    /// Keys whose text was refused. They hold their default, so that the rest can still be judged.
    pub(super) refused: BTreeSet<String>,
}

struct Entry {
    key: &'static Key,
    value: Option<Value>,
    source: Source,
}

impl Values {
    pub(super) fn parse(raw: &Raw, host: &Host, errors: &mut Vec<ConfigError>) -> Self {
        let mut values = Values { entries: Vec::with_capacity(KEYS.len()), refused: BTreeSet::new() };
        for key in &KEYS {
            let written = raw.written.get(&key.full_name());
            let parsed = written.map(|written| (key.kind.parse(&written.text), written));
            let (value, source) = match parsed {
                Some((Some(value), written)) => (Some(value), written.source.clone()),
                Some((None, written)) => {
                    errors.push(refusal(key, &written.text, &written.source));
                    values.refused.insert(key.full_name());
                    (fallback(key), Source::Default)
                }
                None => (fallback(key), Source::Default),
            };
            values.entries.push(Entry { key, value, source });
        }
        values.derive(host);
        values
    }

    /// Fills what follows from other settings or from the host.
    fn derive(&mut self, host: &Host) {
        let brokers = self.text("kafka.brokers");
        let local = brokers.split(',').any(|broker| broker.starts_with("localhost:") || broker.starts_with("127."));
        let stall = Duration::from_secs(30).max(self.time("lag.check_interval") * 3);
        let derived = [
            ("kafka.group_id", Value::Text(format!("dashstream-{}", host.name))),
            ("kafka.broker_address_family", Value::Word(if local { "v4" } else { "any" })),
            ("server.shards", Value::Number(u64::from((host.cores / 2).clamp(1, 256)))),
            ("log.warm_bytes", Value::Size(self.size("log.max_bytes") / 2)),
            ("cold.cache_bytes", Value::Size(self.size("cold.max_bytes") / 2)),
            ("log.warm_age", Value::Time(self.time("log.max_age") / 2)),
            ("replay.redis.queue_bytes", Value::Size((16 << 20).min(self.size("log.max_bytes") / 8))),
            ("dlq.topic", Value::Text(format!("{}-dlq", self.text("kafka.topic")))),
            ("lag.stall_timeout", Value::Time(stall)),
        ];
        for (name, value) in derived {
            let entry = self.entries.iter_mut().find(|entry| is_named(entry.key, name));
            let entry = entry.unwrap_or_else(|| unreachable!("{name} is a key"));
            assert!(matches!(entry.key.fallback, Fallback::Follows(_)), "{name} is said to follow");
            entry.value.get_or_insert(value);
        }
        for entry in &self.entries {
            let given = entry.value.is_some() || matches!(entry.key.fallback, Fallback::Unset);
            assert!(given, "{} has no default", entry.key.full_name());
        }
    }

    /// What `check-config` shows. Secrets are masked here, so that none leaves this room but inside [`Secret`].
    pub(super) fn settings(&self) -> Vec<Setting> {
        let shown = |entry: &Entry| {
            let value = entry.value.as_ref();
            if entry.key.secret { value.map(|_| "***".to_owned()) } else { value.map(Value::to_string) }
        };
        let setting = |entry: &Entry| Setting { key: entry.key, value: shown(entry), source: entry.source.clone() };
        self.entries.iter().map(setting).collect()
    }

    pub(super) fn config(&self) -> Config {
        Config {
            kafka: KafkaConfig {
                brokers: self.text("kafka.brokers"),
                topic: self.text("kafka.topic"),
                group_id: self.text("kafka.group_id"),
                assignment: pick(self.word("kafka.assignment"), Assignment::ALL, Assignment::label),
                auto_offset_reset: pick(self.word("kafka.auto_offset_reset"), OffsetReset::ALL, OffsetReset::label),
                on_decode_error: pick(self.word("kafka.on_decode_error"), OnDecodeError::ALL, OnDecodeError::label),
                security: self.security(),
                broker_address_family: pick(
                    self.word("kafka.broker_address_family"),
                    AddressFamily::ALL,
                    AddressFamily::label,
                ),
                queue_bytes: self.size("kafka.queue_bytes"),
                fetch_max_wait: self.time("kafka.fetch_max_wait_ms"),
                session_timeout: self.time("kafka.session_timeout"),
                commit_interval: self.time("kafka.commit_interval"),
                discovery_interval: self.time("kafka.discovery_interval"),
                partitions_max: self.count("kafka.partitions_max"),
                payload_max_bytes: self.size("kafka.payload_max_bytes"),
            },
            schema: SchemaConfig { policy: pick(self.word("schema.policy"), SchemaPolicy::ALL, SchemaPolicy::label) },
            server: ServerConfig {
                host: self.ip("server.host"),
                port: u16::try_from(self.count("server.port")).unwrap_or(u16::MAX),
                allow_unauthenticated: self.switch("server.allow_unauthenticated"),
                max_connections: self.count("server.max_connections"),
                max_connections_per_ip: self.count("server.max_connections_per_ip"),
                trusted_proxy_ips: self.ips("server.trusted_proxy_ips"),
                shards: self.count("server.shards"),
            },
            admin: AdminConfig { listen: self.socket("admin.listen") },
            client: ClientConfig {
                slow_policy: pick(self.word("client.slow_policy"), SlowPolicy::ALL, SlowPolicy::label),
                slow_policies: self.text("client.slow_policies").split(',').filter_map(SlowPolicy::parse).collect(),
                stall_timeout: self.time("client.stall_timeout"),
                ping_interval: self.time("client.ping_interval"),
                idle_timeout: self.time("client.idle_timeout"),
                handshake_timeout: self.time("client.handshake_timeout"),
                head_max_bytes: self.small_size("client.head_max_bytes"),
                message_max_bytes: self.small_size("client.message_max_bytes"),
                resume_grace: self.time("client.resume_grace_ms"),
                resume_partitions_max: self.count("client.resume_partitions_max"),
                resume_threads_max: self.count("client.resume_threads_max"),
            },
            log: LogConfig {
                max_bytes: self.size("log.max_bytes"),
                max_age: self.time("log.max_age"),
                warm_bytes: self.size("log.warm_bytes"),
                warm_age: self.time("log.warm_age"),
                chunk_bytes: self.small_size("log.chunk_bytes"),
            },
            cold: ColdConfig {
                readers: self.count("cold.readers"),
                max_sessions: self.count("cold.max_sessions"),
                max_bytes: self.size("cold.max_bytes"),
                cache_bytes: self.size("cold.cache_bytes"),
                search_age: self.time("cold.search_age"),
                search_max_bytes: self.size("cold.search_max_bytes"),
                runs_max: self.count("cold.runs_max"),
            },
            fanout: FanoutConfig {
                flush: self.time("fanout.flush_ms"),
                mid_frame_max_bytes: self.size("fanout.mid_frame_max_bytes"),
                inbound_max_bytes: self.size("fanout.inbound_max_bytes"),
            },
            replay: ReplayConfig {
                redis: RedisConfig {
                    url: self.optional_text("replay.redis.url").map(Secret),
                    ttl: self.time("replay.redis.ttl"),
                    max_entries: self.count("replay.redis.max_entries"),
                    max_bytes: self.size("replay.redis.max_bytes"),
                    timeout: self.time("replay.redis.timeout"),
                    queue_bytes: self.size("replay.redis.queue_bytes"),
                    read_legacy: self.switch("replay.redis.read_legacy"),
                },
            },
            dlq: DlqConfig {
                topic: self.text("dlq.topic"),
                mode: pick(self.word("dlq.mode"), DlqMode::ALL, DlqMode::label),
                value_max_bytes: self.small_size("dlq.value_max_bytes"),
                queue_max_bytes: self.size("dlq.queue_max_bytes"),
                ledger_max: self.count("dlq.ledger_max"),
                send_timeout: self.time("dlq.send_timeout"),
            },
            lag: LagConfig {
                check_interval: self.time("lag.check_interval"),
                stall_timeout: self.time("lag.stall_timeout"),
            },
            topics: TopicsConfig {
                check_at_start: self.switch("topics.check_at_start"),
                timeout: self.time("topics.timeout"),
                declared: Vec::new(),
            },
            shutdown: ShutdownConfig { deadline: self.time("shutdown.deadline") },
            logging: LoggingConfig {
                filter: self.text("logging.filter"),
                format: pick(self.word("logging.format"), LogFormat::ALL, LogFormat::label),
            },
            // Its shape was checked with the key.
            costs: CostsConfig {
                prices: Prices::parse(&self.optional_text("costs.prices").unwrap_or_default()).unwrap_or_default(),
            },
        }
    }

    fn security(&self) -> SecurityConfig {
        let protocol = self.word("kafka.security_protocol");
        let secret = |name| self.optional_text(name).map(Secret);
        SecurityConfig {
            protocol: pick(protocol, SecurityProtocol::ALL, SecurityProtocol::label),
            sasl_mechanism: match self.value("kafka.sasl_mechanism") {
                Some(Value::Word(word)) => Some(pick(word, SaslMechanism::ALL, SaslMechanism::label)),
                _ => None,
            },
            sasl_username: self.optional_text("kafka.sasl_username"),
            sasl_password: secret("kafka.sasl_password"),
            sasl_oauthbearer_config: secret("kafka.sasl_oauthbearer_config"),
            ssl_ca_location: self.optional_path("kafka.ssl_ca_location"),
            ssl_certificate_location: self.optional_path("kafka.ssl_certificate_location"),
            ssl_key_location: self.optional_path("kafka.ssl_key_location"),
            ssl_key_password: secret("kafka.ssl_key_password"),
            ssl_verify_hostname: self.word("kafka.ssl_endpoint_algorithm") == "https",
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let entry = self.entries.iter().find(|entry| is_named(entry.key, name));
        entry.unwrap_or_else(|| unreachable!("{name} is a key")).value.as_ref()
    }

    fn optional_text(&self, name: &str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(text)) => Some(text.clone()),
            None => None,
            Some(_) => unreachable!("{name} is text"),
        }
    }

    fn optional_path(&self, name: &str) -> Option<PathBuf> {
        match self.value(name) {
            Some(Value::Path(path)) => Some(path.clone()),
            None => None,
            Some(_) => unreachable!("{name} is a path"),
        }
    }

    fn text(&self, name: &str) -> String {
        self.optional_text(name).unwrap_or_else(|| unreachable!("{name} has a default"))
    }

    fn word(&self, name: &str) -> &'static str {
        let Some(Value::Word(word)) = self.value(name) else { unreachable!("{name} is a choice") };
        word
    }

    fn count(&self, name: &str) -> u32 {
        let Some(Value::Number(number)) = self.value(name) else { unreachable!("{name} is a number") };
        u32::try_from(*number).unwrap_or_else(|_| unreachable!("{name} is bounded below 2^32"))
    }

    fn size(&self, name: &str) -> u64 {
        let Some(Value::Size(size)) = self.value(name) else { unreachable!("{name} is a size") };
        *size
    }

    fn small_size(&self, name: &str) -> u32 {
        u32::try_from(self.size(name)).unwrap_or_else(|_| unreachable!("{name} is bounded below 2^32"))
    }

    fn time(&self, name: &str) -> Duration {
        let Some(Value::Time(time)) = self.value(name) else { unreachable!("{name} is a time") };
        *time
    }

    fn switch(&self, name: &str) -> bool {
        let Some(Value::Switch(on)) = self.value(name) else { unreachable!("{name} is a switch") };
        *on
    }

    fn ip(&self, name: &str) -> IpAddr {
        let Some(Value::Ip(address)) = self.value(name) else { unreachable!("{name} is an address") };
        *address
    }

    fn ips(&self, name: &str) -> Vec<IpAddr> {
        let Some(Value::IpList(addresses)) = self.value(name) else { unreachable!("{name} is a list") };
        addresses.clone()
    }

    fn socket(&self, name: &str) -> SocketAddr {
        let Some(Value::Socket(address)) = self.value(name) else { unreachable!("{name} is a socket address") };
        *address
    }
}

fn is_named(key: &Key, full_name: &str) -> bool {
    full_name.rsplit_once('.') == Some((key.section, key.name))
}

fn fallback(key: &Key) -> Option<Value> {
    match key.fallback {
        Fallback::Is(text) => {
            let value = key.kind.parse(text);
            assert!(value.is_some(), "the default of {} is not allowed", key.full_name());
            value
        }
        Fallback::Follows(_) | Fallback::Unset => None,
    }
}

fn refusal(key: &Key, text: &str, source: &Source) -> ConfigError {
    let gssapi = key.name == "sasl_mechanism" && text.eq_ignore_ascii_case("GSSAPI");
    ConfigError::Value {
        key: key.full_name(),
        value: if key.secret { "***".to_owned() } else { format!("{:?}", shorten(text)) },
        origin: source.clone(),
        allowed: match gssapi {
            true => format!("{}; GSSAPI (Kerberos) is not built in", key.kind.allowed()),
            false => key.kind.allowed(),
        },
    }
}

/// The variant of that word. The table lists exactly the labels, which a test compares.
fn pick<T: Copy, const N: usize>(word: &str, all: [T; N], label: fn(T) -> &'static str) -> T {
    let found = all.into_iter().find(|variant| label(*variant) == word);
    found.unwrap_or_else(|| unreachable!("{word} is a variant"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table;
    use crate::config::value::Kind;

    #[test]
    fn every_word_of_the_table_is_a_variant() {
        fn check<T: Copy, const N: usize>(name: &str, all: [T; N], label: fn(T) -> &'static str) {
            let Some(Kind::Choice(words)) = table::find(name).map(|key| key.kind) else { panic!("{name}") };
            let mut labels = all.map(label).to_vec();
            let mut words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            labels.sort_unstable();
            words.sort_unstable();
            assert_eq!(words, labels, "{name}");
        }
        check("kafka.assignment", Assignment::ALL, Assignment::label);
        check("kafka.auto_offset_reset", OffsetReset::ALL, OffsetReset::label);
        check("kafka.on_decode_error", OnDecodeError::ALL, OnDecodeError::label);
        check("kafka.broker_address_family", AddressFamily::ALL, AddressFamily::label);
        check("kafka.security_protocol", SecurityProtocol::ALL, SecurityProtocol::label);
        check("kafka.sasl_mechanism", SaslMechanism::ALL, SaslMechanism::label);
        check("schema.policy", SchemaPolicy::ALL, SchemaPolicy::label);
        check("client.slow_policy", SlowPolicy::ALL, SlowPolicy::label);
        check("dlq.mode", DlqMode::ALL, DlqMode::label);
        check("logging.format", LogFormat::ALL, LogFormat::label);
    }
}
