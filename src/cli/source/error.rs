//! Why a source cannot go on. Every text names the next step to take.

use std::path::PathBuf;

use crate::client::{ClientError, ConfigError};
use crate::config::KafkaConfig;
use crate::kafka::reading::Complaint;
use crate::observe::stats::KafkaTrouble;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Wrong credentials, an unknown authority, or a protocol that the broker does not speak. Does not heal.
    #[error("the Kafka brokers at {brokers} refuse us: {why}. {step}")]
    Security { brokers: String, why: String, step: String },
    #[error("topic {0:?} does not exist: name another one with --kafka-topic, or create it")]
    NoTopic(String),
    #[error(
        "topic {topic:?} has {count} partitions, from 0; partition {partition} is not among them: mend --partition"
    )]
    NoPartition { topic: String, count: u32, partition: u32 },
    #[error("the Kafka brokers at {brokers} do not answer{}: check --kafka-brokers and the network", because(.why))]
    Unreachable { brokers: String, why: String },
    #[error("Kafka refuses to be read")]
    Kafka(#[from] rdkafka::error::KafkaError),
    #[error("--gateway is wrong")]
    GatewayAddress(#[from] ConfigError),
    #[error("the gateway at {url} cannot be read: check --gateway, and that the gateway runs")]
    Gateway { url: String, source: ClientError },
    #[error("the system refuses a thread: look at the limits of the process")]
    Thread(#[source] std::io::Error),
    #[error("{flag} means nothing {with}: {step}")]
    Unsupported { flag: &'static str, with: &'static str, step: &'static str },
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {what}; what `dashstream export` wrote as json or jsonl is meant", path.display())]
    NotAnExport { path: PathBuf, what: String },
}

impl SourceError {
    /// 2 what was asked for is wrong, 1 it failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Security { .. }
            | Self::NoTopic(_)
            | Self::NoPartition { .. }
            | Self::GatewayAddress(_)
            | Self::Unsupported { .. }
            | Self::NotAnExport { .. } => 2,
            Self::Gateway { source: ClientError::Refused { .. }, .. } => 2,
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 2,
            _ => 1,
        }
    }
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}

/// One line that says which settings to look at, whatever the brokers' library said.
pub(super) fn security(kafka: &KafkaConfig, complaint: &Complaint) -> SourceError {
    let lower = complaint.text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let step = if complaint.kind == KafkaTrouble::Authorization {
        "Ask for the right to read the topic, or use another kafka.sasl_username"
    } else if says(&["hostname", "host name", "ip address mismatch"]) {
        "The certificate is for another name: mend kafka.brokers, or see kafka.ssl_endpoint_algorithm"
    } else if says(&["expired"]) {
        "The certificate has expired: renew the brokers' certificate, or kafka.ssl_certificate_location"
    } else if says(&["certificate", "ssl", "tls"]) {
        "Check kafka.ssl_ca_location and kafka.security_protocol"
    } else {
        "Check kafka.sasl_mechanism, kafka.sasl_username and kafka.sasl_password"
    };
    SourceError::Security { brokers: kafka.brokers.clone(), why: complaint.text.clone(), step: step.to_owned() }
}
