//! Why a source cannot go on. Every text names the next step to take.

use std::path::PathBuf;

use crate::client::{ClientError, ConfigError};
use crate::config::KafkaConfig;
use crate::kafka::reading::Denied;
use crate::kafka::refusal::{self, Refusal};

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Credentials, a certificate, a protocol: the text names the setting. Does not heal.
    #[error("{0}")]
    Refused(Refusal),
    /// Heals by giving the rights.
    #[error(
        "{who} not allowed to read topic {topic:?}: it needs Describe and Read there; give it these rights, or set \
         kafka.sasl_username to a user that has them"
    )]
    NotAllowed { who: String, topic: String },
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
    #[error("--gateway (or DASHSTREAM_GATEWAY) is wrong")]
    GatewayAddress(#[from] ConfigError),
    #[error("the gateway at {url} cannot be read: check --gateway (or DASHSTREAM_GATEWAY), and that the gateway runs")]
    Gateway { url: String, source: ClientError },
    #[error("the system refuses a thread: look at the limits of the process")]
    Thread(#[source] std::io::Error),
    #[error("{flag} means nothing {with}: {step}")]
    Unsupported { flag: &'static str, with: &'static str, step: &'static str },
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {what}; what `dashstream export` wrote as json or jsonl is meant", path.display())]
    NotAnExport { path: PathBuf, what: String },
}

impl SourceError {
    /// 2 what was asked for is wrong, 1 it failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoTopic(_)
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

/// Why we are denied, as the settings of these brokers put it.
pub(super) fn denied(kafka: &KafkaConfig, denied: Denied) -> SourceError {
    match denied {
        Denied::Entry(refusal) => SourceError::Refused(refusal.looked_into(&kafka.security)),
        Denied::Topic => SourceError::NotAllowed { who: refusal::who_is(&kafka.security), topic: kafka.topic.clone() },
    }
}
