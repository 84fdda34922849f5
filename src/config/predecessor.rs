//! One table settles every environment name that the predecessor's server read: it still sets the same thing, or it
//! is retired and a line says what to do instead. Names of its other programs stand here where somebody could expect
//! the gateway to obey them.

/// What became of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Sets this key, with the same meaning and unit.
    Sets(&'static str),
    /// Does nothing. A warning says what to do instead.
    Retired(&'static str),
    /// Read when the program is built, not when it runs.
    BuildTime,
}

use Fate::{BuildTime, Retired, Sets};

const NO_BREAKER: &str = "a slow client is told its gap or closed: see client.slow_policy and client.stall_timeout";
const NO_OLD_DATA: &str = "nothing is classified by a producer's clock; remove it";

pub const NAMES: [(&str, Fate); 63] = [
    ("KAFKA_BROKERS", Sets("kafka.brokers")),
    ("KAFKA_TOPIC", Sets("kafka.topic")),
    ("KAFKA_DLQ_TOPIC", Sets("dlq.topic")),
    ("KAFKA_GROUP_ID", Sets("kafka.group_id")),
    ("KAFKA_AUTO_OFFSET_RESET", Sets("kafka.auto_offset_reset")),
    ("KAFKA_ON_DECODE_ERROR", Sets("kafka.on_decode_error")),
    ("KAFKA_LAG_CHECK_INTERVAL_SECS", Sets("lag.check_interval")),
    ("KAFKA_BROKER_ADDRESS_FAMILY", Sets("kafka.broker_address_family")),
    ("KAFKA_SECURITY_PROTOCOL", Sets("kafka.security_protocol")),
    ("KAFKA_SASL_MECHANISM", Sets("kafka.sasl_mechanism")),
    ("KAFKA_SASL_USERNAME", Sets("kafka.sasl_username")),
    ("KAFKA_SASL_PASSWORD", Sets("kafka.sasl_password")),
    ("KAFKA_SSL_CA_LOCATION", Sets("kafka.ssl_ca_location")),
    ("KAFKA_SSL_CERTIFICATE_LOCATION", Sets("kafka.ssl_certificate_location")),
    ("KAFKA_SSL_KEY_LOCATION", Sets("kafka.ssl_key_location")),
    ("KAFKA_SSL_KEY_PASSWORD", Sets("kafka.ssl_key_password")),
    ("KAFKA_SSL_ENDPOINT_ALGORITHM", Sets("kafka.ssl_endpoint_algorithm")),
    ("WEBSOCKET_HOST", Sets("server.host")),
    ("WEBSOCKET_PORT", Sets("server.port")),
    ("WEBSOCKET_MAX_PAYLOAD_BYTES", Sets("kafka.payload_max_bytes")),
    ("WEBSOCKET_MAX_CONNECTIONS_PER_IP", Sets("server.max_connections_per_ip")),
    ("WEBSOCKET_TRUSTED_PROXY_IPS", Sets("server.trusted_proxy_ips")),
    ("DLQ_SEND_TIMEOUT_SECS", Sets("dlq.send_timeout")),
    ("RUST_LOG", Sets("logging.filter")),
    ("GIT_COMMIT_SHA", BuildTime),
    ("BUILD_DATE", BuildTime),
    ("KAFKA_CLUSTER_ID", Retired("the identity of a stream is asked from the cluster itself; remove it")),
    ("KAFKA_OLD_DATA_USE_TIMESTAMP", Retired(NO_OLD_DATA)),
    ("KAFKA_OLD_DATA_GRACE_SECONDS", Retired(NO_OLD_DATA)),
    (
        "KAFKA_LAG_STALE_PARTITION_SECS",
        Retired("a partition that should move and does not is repaired: see lag.stall_timeout"),
    ),
    ("KAFKA_OPERATION_TIMEOUT_SECS", Sets("topics.timeout")),
    ("KAFKA_METADATA_TIMEOUT_SECS", Retired("metadata is asked for every kafka.discovery_interval; remove it")),
    ("KAFKA_BOOTSTRAP_SERVERS", Retired("the gateway reads KAFKA_BROKERS")),
    ("KAFKA_PARTITION", Retired("every partition is read; remove it")),
    ("DASHSTREAM_TOPIC", Retired("the gateway reads KAFKA_TOPIC")),
    ("DASHSTREAM_MAX_PAYLOAD_BYTES", Retired("the gateway reads WEBSOCKET_MAX_PAYLOAD_BYTES")),
    ("REDIS_URL", Sets("replay.redis.url")),
    ("REDIS_MESSAGE_TTL_SECS", Sets("replay.redis.ttl")),
    (
        "REDIS_MAX_SEQUENCES",
        Retired("an entry holds many records now: see replay.redis.max_entries and replay.redis.max_bytes"),
    ),
    ("REDIS_MAX_CONCURRENT_WRITES", Retired("one thread writes in batches: see replay.redis.queue_bytes")),
    ("REDIS_ZCARD_CHECK_CADENCE", Retired("what is kept in Redis is checked every second; remove it")),
    ("REDIS_CLEAR_TIMEOUT_SECS", Retired("no client can make the gateway forget; entries end by replay.redis.ttl")),
    ("REPLAY_BUFFER_MEMORY_SIZE", Retired("the log is bounded in bytes and age: see log.max_bytes and log.max_age")),
    ("REPLAY_TIMEOUT_SECS", Retired("a replay has no time limit while the client reads: see client.stall_timeout")),
    ("REPLAY_MAX_TOTAL", Retired("a replay has no limit but the log: see log.max_bytes")),
    ("WEBSOCKET_BUFFER_SIZE", Retired("clients share one log: see log.max_bytes")),
    ("WEBSOCKET_SEND_TIMEOUT_SECS", Retired("a client that accepts no byte is closed: see client.stall_timeout")),
    ("SLOW_CLIENT_DISCONNECT_THRESHOLD", Retired(NO_BREAKER)),
    ("SLOW_CLIENT_LAG_WINDOW_SECS", Retired(NO_BREAKER)),
    (
        "MAX_CONCURRENT_DLQ_SENDS",
        Retired("dead letters are bounded in bytes and number: see dlq.queue_max_bytes and dlq.ledger_max"),
    ),
    ("DLQ_INCLUDE_FULL_PAYLOAD", Retired("the raw value is always kept, up to dlq.value_max_bytes")),
    ("EXPECTED_SCHEMAS_PATH", Retired("expected schemas are not kept by the gateway; see schema.policy")),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", Retired("no traces are sent; metrics are at admin.listen, /metrics")),
    ("HEALTH_PORT", Retired("/health is answered on server.port and on admin.listen")),
    ("METRICS_PORT", Retired("/metrics is answered on admin.listen")),
    ("METRICS_BIND_IP", Retired("/metrics is answered on admin.listen")),
    ("PROMETHEUS_SESSION_TIMEOUT_SECS", Retired("the gateway has no such series; remove it")),
    ("PROMETHEUS_LATENCY_BUCKETS_MS", Retired("histogram bounds are fixed; remove it")),
    ("PROMETHEUS_RETRY_BUCKETS", Retired("histogram bounds are fixed; remove it")),
    ("PROMETHEUS_QUALITY_SCORE_BUCKETS", Retired("histogram bounds are fixed; remove it")),
    ("PROMETHEUS_SESSION_TURN_BUCKETS", Retired("histogram bounds are fixed; remove it")),
    ("PROMETHEUS_DURATION_BUCKETS_SECONDS", Retired("histogram bounds are fixed; remove it")),
    ("PROMETHEUS_METRICS_ENDPOINT_BUCKETS", Retired("histogram bounds are fixed; remove it")),
];

/// What became of that name, if the predecessor had it.
pub fn fate_of(name: &str) -> Option<Fate> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, fate)| *fate)
}

/// The names that still set that key.
pub fn names_of(full_name: &str) -> impl Iterator<Item = &'static str> {
    NAMES.iter().filter(move |(_, fate)| matches!(fate, Sets(key) if *key == full_name)).map(|(name, _)| *name)
}

/// The README's table of names that do nothing any more.
pub fn markdown() -> String {
    let mut text = String::from("| retired name | instead |\n|---|---|\n");
    for (name, fate) in NAMES {
        if let Retired(instead) = fate {
            text.push_str(&format!("| `{name}` | {instead} |\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::table;

    #[test]
    fn every_name_stands_once_and_every_key_exists() {
        let names: BTreeSet<_> = NAMES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), NAMES.len());
        for (name, fate) in NAMES {
            match fate {
                Sets(key) => assert!(table::find(key).is_some(), "{name} sets {key}, which does not exist"),
                Retired(instead) => {
                    // Whatever a replacement names must exist.
                    for word in instead.split([' ', ',', ':', ';']).filter(|word| word.contains('.')) {
                        assert!(table::find(word).is_some(), "{name}: {word} does not exist");
                    }
                }
                BuildTime => {}
            }
        }
    }

    #[test]
    fn seconds_stay_seconds() {
        use crate::config::value::{Kind, TimeUnit};
        for (name, fate) in NAMES.into_iter().filter(|(name, _)| name.ends_with("_SECS")) {
            if let Sets(key) = fate {
                let kind = table::find(key).map(|key| key.kind);
                assert!(matches!(kind, Some(Kind::Time { bare: TimeUnit::Seconds, .. })), "{name}");
            }
        }
    }
}
