//! The one function that turns the checked Kafka settings into the configuration of a librdkafka client, for every
//! purpose that the process has one. Budgets and timeouts are always set explicitly: librdkafka's defaults are made
//! for other programs (64 MiB per split queue, a second of waiting when a queue is full, `largest`).
//!
//! Deliberately absent: creating clients' threads of control, and what is done with their errors (`watch`).

use std::path::Path;

use rdkafka::config::RDKafkaLogLevel;

use crate::config::memory::{COLD_QUEUE_BYTES, MESSAGE_MAX_BYTES};
use crate::config::{AddressFamily, Assignment, KafkaConfig, SaslMechanism, SecurityConfig, SecurityProtocol};

/// What a client is for. It decides the client id that brokers log, and everything beyond security and timeouts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The consumer of all partitions; the queue budget is divided by `partitions`.
    Stream { partitions: u32 },
    /// Asks about topics, identities and offsets. Apart from the stream's client, whose connections are busy with
    /// fetches that a broker may hold.
    Probe,
    /// The lag thread's own client, so that a stuck one does not hide that it is stuck.
    Lag,
    /// A cold reader: reads by offset, belongs to no group, commits nothing.
    Cold,
    /// A command that reads a topic from its terminal: no group, no commits, and its queue is its own.
    Read,
    /// The idempotent producer of dead letters.
    DeadLetters,
    /// A producer of events (demo, tools).
    Producer,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Stream { .. } => "stream",
            Self::Probe => "probe",
            Self::Lag => "lag",
            Self::Cold => "cold",
            Self::Read => "read",
            Self::DeadLetters => "dlq",
            Self::Producer => "producer",
        }
    }
}

/// The configuration of a client for `purpose`. The caller may add what only it knows (a producer's timeouts).
pub fn client_config(kafka: &KafkaConfig, purpose: Purpose) -> rdkafka::ClientConfig {
    let mut config = rdkafka::ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", format!("dashstream-{}", purpose.name()))
        .set("broker.address.family", family(kafka.broker_address_family))
        .set("socket.keepalive.enable", "true")
        .set("socket.timeout.ms", "10000")
        .set("socket.connection.setup.timeout.ms", "10000")
        // With librdkafka's jitter of up to half, a broker that is back is found within two seconds.
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "1300")
        .set("topic.metadata.refresh.interval.ms", kafka.discovery_interval.as_millis().max(1000).to_string())
        .set("statistics.interval.ms", "0")
        .set_log_level(RDKafkaLogLevel::Info);
    security(&mut config, &kafka.security);
    match purpose {
        Purpose::Stream { partitions } => stream(&mut config, kafka, partitions),
        Purpose::Probe | Purpose::Lag => {
            config.set("allow.auto.create.topics", "false").set("isolation.level", "read_committed");
        }
        Purpose::Cold => cold(&mut config, kafka),
        Purpose::Read => read(&mut config, kafka),
        Purpose::DeadLetters => {
            config
                .set("acks", "all")
                .set("enable.idempotence", "true")
                .set("linger.ms", "5")
                .set("allow.auto.create.topics", "false");
        }
        Purpose::Producer => {
            config.set("acks", "all").set("linger.ms", "5");
        }
    }
    config
}

/// What every client that reads records has in common.
fn reading(config: &mut rdkafka::ClientConfig, kafka: &KafkaConfig) {
    config
        // librdkafka assigns nothing without a name; only the stream's client commits under it.
        .set("group.id", &kafka.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Where reading begins is decided by us alone; librdkafka must never jump by itself.
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        // Tells the reader that it stands at the end, transaction markers and aborted data included.
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("fetch.min.bytes", "1")
        .set("message.max.bytes", MESSAGE_MAX_BYTES.to_string());
}

fn stream(config: &mut rdkafka::ClientConfig, kafka: &KafkaConfig, partitions: u32) {
    let budget = kafka.budget(partitions);
    reading(config, kafka);
    config
        .set("fetch.wait.max.ms", kafka.fetch_max_wait.as_millis().to_string())
        .set("fetch.error.backoff.ms", "200")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", budget.queued_max_kbytes.to_string())
        .set("queued.min.messages", budget.queued_min_messages.to_string())
        .set("fetch.message.max.bytes", budget.fetch_message_max_bytes.to_string())
        .set("fetch.max.bytes", budget.fetch_max_bytes.to_string())
        .set("receive.message.max.bytes", budget.receive_message_max_bytes.to_string());
    if kafka.assignment == Assignment::Group {
        let session = kafka.session_timeout.as_millis().max(1000);
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session.to_string())
            .set("heartbeat.interval.ms", (session / 10).clamp(100, 3000).to_string());
    }
}

/// Small budgets: what waits in a cold reader is for one quantum and the next.
fn cold(config: &mut rdkafka::ClientConfig, kafka: &KafkaConfig) {
    reading(config, kafka);
    config
        .set("fetch.wait.max.ms", "50")
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", (COLD_QUEUE_BYTES / 1024).to_string())
        .set("queued.min.messages", "4000")
        .set("fetch.message.max.bytes", MESSAGE_MAX_BYTES.to_string())
        .set("fetch.max.bytes", MESSAGE_MAX_BYTES.to_string())
        .set("receive.message.max.bytes", kafka.budget(1).receive_message_max_bytes.to_string());
}

/// Fetched ahead for a command that reads, all partitions together. librdkafka keeps some hundred bytes more for each
/// record, so that small records take several times as much.
const READ_QUEUE_KBYTES: u64 = 16 * 1024;
const READ_QUEUE_RECORDS: u64 = 50_000;
/// Of one partition in one answer: equal shares keep partitions side by side, which is what merging them by time needs.
const READ_FETCH_BYTES: u64 = 1 << 20;

fn read(config: &mut rdkafka::ClientConfig, kafka: &KafkaConfig) {
    reading(config, kafka);
    config
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", READ_QUEUE_KBYTES.to_string())
        .set("queued.min.messages", READ_QUEUE_RECORDS.to_string())
        .set("fetch.message.max.bytes", READ_FETCH_BYTES.to_string())
        .set("fetch.max.bytes", MESSAGE_MAX_BYTES.to_string())
        .set("receive.message.max.bytes", kafka.budget(1).receive_message_max_bytes.to_string());
}

fn security(config: &mut rdkafka::ClientConfig, security: &SecurityConfig) {
    let protocol = match security.protocol {
        SecurityProtocol::Plaintext => "plaintext",
        SecurityProtocol::Ssl => "ssl",
        SecurityProtocol::SaslPlaintext => "sasl_plaintext",
        SecurityProtocol::SaslSsl => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if matches!(security.protocol, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl) {
        // Without a CA of its own the system's usual places are looked through.
        let ca = security.ssl_ca_location.as_deref().map_or_else(|| "probe".to_owned(), text);
        config.set("ssl.ca.location", ca);
        let algorithm = if security.ssl_verify_hostname { "https" } else { "none" };
        config.set("ssl.endpoint.identification.algorithm", algorithm);
        if let Some(path) = &security.ssl_certificate_location {
            config.set("ssl.certificate.location", text(path));
        }
        if let Some(path) = &security.ssl_key_location {
            config.set("ssl.key.location", text(path));
        }
        if let Some(password) = &security.ssl_key_password {
            config.set("ssl.key.password", &password.0);
        }
    }
    if matches!(security.protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl) {
        if let Some(mechanism) = security.sasl_mechanism {
            let mechanism = match mechanism {
                SaslMechanism::Plain => "PLAIN",
                SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
                SaslMechanism::OauthBearer => "OAUTHBEARER",
            };
            config.set("sasl.mechanism", mechanism);
        }
        if let Some(name) = &security.sasl_username {
            config.set("sasl.username", name);
        }
        if let Some(password) = &security.sasl_password {
            config.set("sasl.password", &password.0);
        }
        if let Some(oauth) = &security.sasl_oauthbearer_config {
            config.set("sasl.oauthbearer.config", &oauth.0);
        }
    }
}

fn family(family: AddressFamily) -> &'static str {
    match family {
        AddressFamily::Any => "any",
        AddressFamily::V4 => "v4",
        AddressFamily::V6 => "v6",
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use rdkafka::config::FromClientConfig;
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::producer::BaseProducer;

    use super::*;
    use crate::config::Secret;
    use crate::kafka::mock::settings;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;

    #[test]
    fn librdkafka_accepts_every_budget_and_the_total_is_kept() {
        for (queue_bytes, partitions, payload) in [
            (128 * MIB, 1, MIB),
            (128 * MIB, 64, MIB),
            (128 * MIB, 1024, MIB),
            (MIB, 1024, 64 * MIB),
            (16 * MIB, 3, 10 * KIB),
            (8 * 1024 * MIB, 1, 16 * MIB),
        ] {
            let mut kafka = settings("127.0.0.1:1");
            kafka.queue_bytes = queue_bytes;
            kafka.payload_max_bytes = payload;
            let budget = kafka.budget(partitions);
            let least = 16 * KIB * u64::from(partitions);
            let queued = budget.queued_max_kbytes * KIB;
            assert!(queued * u64::from(partitions) <= queue_bytes.max(least), "{budget:?}");
            assert!(budget.fetch_message_max_bytes <= queued);
            assert!(budget.receive_message_max_bytes >= budget.fetch_max_bytes + 512, "{budget:?}");
            assert!(budget.receive_message_max_bytes > payload, "{budget:?}");
            for assignment in [Assignment::All, Assignment::Group] {
                kafka.assignment = assignment;
                let config = client_config(&kafka, Purpose::Stream { partitions });
                BaseConsumer::<rdkafka::consumer::DefaultConsumerContext>::from_config(&config)
                    .unwrap_or_else(|error| panic!("{partitions} partitions: {error}"));
            }
        }
    }

    #[test]
    fn librdkafka_accepts_every_other_purpose() {
        let kafka = settings("127.0.0.1:1");
        for purpose in [Purpose::Probe, Purpose::Lag, Purpose::Read] {
            BaseConsumer::<rdkafka::consumer::DefaultConsumerContext>::from_config(&client_config(&kafka, purpose))
                .unwrap_or_else(|error| panic!("{purpose:?}: {error}"));
        }
        for purpose in [Purpose::DeadLetters, Purpose::Producer] {
            BaseProducer::<rdkafka::producer::DefaultProducerContext>::from_config(&client_config(&kafka, purpose))
                .unwrap_or_else(|error| panic!("{purpose:?}: {error}"));
        }
    }

    #[test]
    fn security_settings_reach_librdkafka() {
        let mut kafka = settings("127.0.0.1:1");
        kafka.security.protocol = SecurityProtocol::SaslSsl;
        kafka.security.sasl_mechanism = Some(SaslMechanism::ScramSha512);
        kafka.security.sasl_username = Some("alice".to_owned());
        kafka.security.sasl_password = Some(Secret("open sesame".to_owned()));
        kafka.security.ssl_verify_hostname = false;
        kafka.security.ssl_ca_location = Some("ca.pem".into());
        let config = client_config(&kafka, Purpose::Lag);
        for (name, value) in [
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "alice"),
            ("sasl.password", "open sesame"),
            ("ssl.endpoint.identification.algorithm", "none"),
            ("ssl.ca.location", "ca.pem"),
        ] {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
        kafka.security.protocol = SecurityProtocol::Plaintext;
        assert_eq!(client_config(&kafka, Purpose::Lag).get("sasl.password"), None);
    }
}
