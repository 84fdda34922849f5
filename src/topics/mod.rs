//! Topics as they are declared in the configuration and as the cluster has them: what differs, what will be done about
//! it, and doing it. [`mod@plan`] is pure: declarations and a state of the cluster in, steps and obstacles out.
//!
//! Deliberately absent: deleting. Nothing here deletes a topic, takes partitions away, shortens what is kept or lowers
//! what protects it; such a difference is named, with the command for those who mean it.

pub mod plan;
pub mod cluster;
mod apply;
pub mod report;

use std::time::Duration;

use thiserror::Error;

pub use apply::{Applied, Done, Outcome, apply};
pub use cluster::Cluster;
pub use plan::{ClusterState, Plan, plan};

use crate::config::Config;
use crate::kafka::admin::AskError;
use crate::kafka::refusal::Refusal;

/// Why a command about topics did not do what it was asked for.
#[derive(Debug, Error)]
pub enum TopicsError {
    /// Heals by declaring one.
    #[error(
        "no topic is declared: add a section such as [topics.{0}] with preset = \"recommended\" to the file of --config"
    )]
    NothingDeclared(String),
    /// librdkafka names its own settings; ours are the same with underscores.
    #[error("the Kafka client refuses the settings: {0}")]
    Client(rdkafka::error::KafkaError),
    /// Nobody answered, and it was heard why.
    #[error("{0}")]
    Refused(Refusal),
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Heals by making it.
    #[error(
        "the topic {0:?} does not exist: create it, for example with `dashstream topics apply`, or name another with --topic"
    )]
    NoTopic(String),
    /// Which right is missing, or what the broker said.
    #[error("the topic {topic:?} cannot be seen: {why}")]
    NotSeen { topic: String, why: String },
    /// Beside each such topic stands which right is missing.
    #[error("{0} of the topics cannot be seen, so nobody can say how they differ")]
    Unseen(usize),
    /// Heals by `apply`, by hand where that is said, or by another declaration.
    #[error("{0} of the declared topics differ from the cluster")]
    Drift(usize),
    /// What Kafka said is beside each step.
    #[error("{failed} of {steps} steps failed, the others are done")]
    Steps { failed: usize, steps: usize },
    #[error("the brokers took every step, and {waited:?} later they still describe something else")]
    NotConfirmed { waited: Duration },
}

impl TopicsError {
    /// 1 failed while running, 2 wrong settings, 3 the cluster is not as declared.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NothingDeclared(_) | Self::Client(_) | Self::NoTopic(_) => 2,
            Self::Refused(_)
            | Self::Ask(_)
            | Self::NotSeen { .. }
            | Self::Unseen(_)
            | Self::Steps { .. }
            | Self::NotConfirmed { .. } => 1,
            Self::Drift(_) => 3,
        }
    }
}

/// For `serve`: an error, after one log line per difference, unless every declared topic is as declared.
pub fn require(config: &Config) -> Result<(), TopicsError> {
    let mut cluster = Cluster::new(config)?;
    let declared = &config.topics.declared;
    let plan = plan(declared, &cluster.observe(&plan::names(declared))?);
    for line in plan.topics.iter().filter(|topic| !topic.is_as_declared()).flat_map(report::lines) {
        tracing::error!("{line}");
    }
    match (plan.unseen(), plan.differing()) {
        (0, 0) => Ok(()),
        (0, differing) => Err(TopicsError::Drift(differing)),
        (unseen, _) => Err(TopicsError::Unseen(unseen)),
    }
}
