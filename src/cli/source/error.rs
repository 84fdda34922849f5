//! Why a source cannot go on. Every text names the next step to take.

use std::path::PathBuf;

use crate::client::{ClientError, ConfigError};
use crate::kafka::identity::IdentityError;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Wrong credentials, an unknown authority, or a protocol that the broker does not speak. Does not heal.
    #[error("the Kafka brokers at {brokers} refuse us: {why}. {step}")]
    Security { brokers: String, why: String, step: String },
    #[error("topic {0:?} does not exist: name another one with --kafka-topic, or create it")]
    NoTopic(String),
    #[error("topic {topic:?} has {count} partitions, from 0; partition {partition} is not among them: mend --partition")]
    NoPartition { topic: String, count: u32, partition: u32 },
    #[error("the Kafka brokers at {brokers} do not answer{}: check --kafka-brokers and the network", because(.why))]
    Unreachable { brokers: String, why: String },
    #[error("Kafka refuses to be read")]
    Kafka(#[from] rdkafka::error::KafkaError),
    #[error("Kafka was asked about the topic in vain")]
    Identity(#[from] IdentityError),
    #[error("--gateway")]
    GatewayAddress(#[from] ConfigError),
    #[error("the gateway cannot be read")]
    Gateway(#[from] ClientError),
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
            Self::Gateway(ClientError::Refused { .. }) => 2,
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 2,
            _ => 1,
        }
    }
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}
