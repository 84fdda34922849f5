//! A cluster as this room needs it: described and changed through one client, whose main queue is served while an
//! answer is waited for, so that tokens are made and refusals are heard.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::TopicsError;
use super::plan::{ClusterState, FoundTopic, Step, TopicState};
use crate::config::{Config, SecurityConfig, TopicSetting};
use crate::kafka::admin::AskError;
use crate::kafka::client::{Purpose, client_config};
use crate::kafka::manage::{Manager, Refused};
use crate::kafka::refusal::{self, Explainer};
use crate::kafka::watch::{AskContext, BrokerWatch};
use crate::observe::stats::Stats;

/// A refusal that only a human can mend ends the wait this much later: another broker may still answer.
const REFUSED_PATIENCE: Duration = Duration::from_secs(2);

pub struct Cluster {
    client: BaseConsumer<AskContext>,
    explainer: Explainer,
    security: SecurityConfig,
    timeout: Duration,
}

impl Cluster {
    /// Fails only if librdkafka refuses the settings; no broker has to be there.
    pub fn new(config: &Config) -> Result<Self, TopicsError> {
        let context = AskContext(BrokerWatch::new("topics", Arc::new(Stats::default())));
        let client = BaseConsumer::from_config_and_context(&client_config(&config.kafka, Purpose::Topics), context);
        let client = client.map_err(TopicsError::Client)?;
        let security = config.kafka.security.clone();
        Ok(Self { client, explainer: Explainer::new(security.clone()), security, timeout: config.topics.timeout })
    }

    /// What the cluster has of these topics.
    pub fn observe(&mut self, topics: &[String]) -> Result<ClusterState, TopicsError> {
        let brokers = self.ask(|manager| manager.broker_count())?;
        let shapes = self.ask(|manager| manager.describe(topics))?;
        let there: Vec<String> =
            shapes.iter().filter(|(_, shape)| shape.is_ok()).map(|(topic, _)| topic.clone()).collect();
        let mut settings = self.ask(|manager| manager.settings(&there))?;
        let mut state = ClusterState { brokers, topics: BTreeMap::new() };
        for (topic, shape) in shapes {
            let seen = match (shape, settings.remove(&topic)) {
                (Ok(shape), Some(Ok(settings))) => TopicState::Found(FoundTopic {
                    partitions: shape.partitions,
                    replication_factor: shape.replication_factor,
                    replication_factor_most: shape.replication_factor_most,
                    leaderless: shape.leaderless,
                    settings,
                }),
                (Err(refused), _) if refused.code == RDKafkaErrorCode::UnknownTopicOrPartition => TopicState::Missing,
                // Deleted between the two questions.
                (Ok(_), Some(Err(refused))) if refused.code == RDKafkaErrorCode::UnknownTopicOrPartition => {
                    TopicState::Missing
                }
                (Err(refused), _) => TopicState::Unseen(self.words(&refused, "Describe", &topic)),
                (Ok(_), Some(Err(refused))) => TopicState::Unseen(self.words(&refused, "DescribeConfigs", &topic)),
                (Ok(_), None) => TopicState::Unseen("the broker did not describe its settings".to_owned()),
            };
            state.topics.insert(topic, seen);
        }
        Ok(state)
    }

    /// How many partitions a topic has that somebody wants to send to: that the way there is open is known then.
    pub fn partitions_of(&mut self, topic: &str) -> Result<u32, TopicsError> {
        let name = topic.to_owned();
        let mut shapes = self.ask(|manager| manager.describe(std::slice::from_ref(&name)))?;
        match shapes.remove(topic) {
            Some(Ok(shape)) => Ok(shape.partitions),
            Some(Err(refused)) if refused.code != RDKafkaErrorCode::UnknownTopicOrPartition => {
                let why = self.words(&refused, "Describe and Write", topic);
                Err(TopicsError::NotSeen { topic: name, why })
            }
            Some(Err(_)) | None => Err(TopicsError::NoTopic(name)),
        }
    }

    /// Why a topic does not take what is sent to it, though it is there.
    pub fn not_allowed_to_write(&self, topic: &str) -> String {
        self.words(
            &Refused { code: RDKafkaErrorCode::TopicAuthorizationFailed, said: String::new() },
            "Describe and Write",
            topic,
        )
    }

    /// Takes one step. What Kafka refuses is a sentence; that it does not answer is an error.
    pub(super) fn take(&mut self, topic: &str, step: &Step) -> Result<Result<(), String>, TopicsError> {
        let (right, outcome) = match step {
            Step::Create(declared) => {
                let settings: Vec<_> =
                    declared.settings.iter().map(|(setting, value)| (setting.kafka_name(), value.as_str())).collect();
                let (partitions, copies) = (declared.partitions, declared.replication_factor);
                ("Create", self.ask(|manager| manager.create(topic, partitions, copies, &settings))?)
            }
            Step::Set { setting, declared, .. } => {
                ("AlterConfigs", self.ask(|manager| manager.set(topic, &[(setting.kafka_name(), declared)]))?)
            }
            Step::AddPartitions { declared, .. } => ("Alter", self.ask(|manager| manager.grow(topic, *declared))?),
        };
        Ok(match outcome {
            // Somebody was faster. What it is like is seen when it is described again.
            Err(refused) if refused.code == RDKafkaErrorCode::TopicAlreadyExists => Ok(()),
            outcome => outcome.map_err(|refused| self.words(&refused, right, topic)),
        })
    }

    /// One request, with the reason for its failure where one was heard.
    fn ask<T>(&mut self, request: impl Fn(&Manager<'_, AskContext>) -> Result<T, AskError>) -> Result<T, TopicsError> {
        let refused_since = Cell::new(None::<Instant>);
        let watch = &self.client.context().0;
        let turn = || {
            // Serves callbacks; what it returns was heard by the context already.
            drop(self.client.poll(Duration::ZERO));
            let needs_a_human = watch.heard().is_some_and(|heard| heard.kind.needs_a_human());
            if !needs_a_human {
                refused_since.set(None);
                return true;
            }
            let since = refused_since.get().unwrap_or_else(Instant::now);
            refused_since.set(Some(since));
            since.elapsed() < REFUSED_PATIENCE
        };
        let answer = request(&Manager { client: self.client.client(), limit: self.timeout, turn: &turn });
        match answer {
            Ok(answer) => {
                watch.heard_well();
                Ok(answer)
            }
            Err(error) => Err(match self.explainer.why(watch) {
                Some(refusal) => TopicsError::Refused(refusal),
                None => TopicsError::Ask(error),
            }),
        }
    }

    /// One line: a missing right by its name, everything else as the broker put it.
    fn words(&self, refused: &Refused, right: &str, topic: &str) -> String {
        match refused.code {
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => format!(
                "{} not allowed: it needs {right} on topic {topic:?}; give it the right, or set kafka.sasl_username to \
                 a user that has it",
                refusal::who_is(&self.security),
            ),
            code if refused.said.is_empty() => code.to_string(),
            _ => refused.said.replace(['\n', '\r'], " "),
        }
    }
}

impl FoundTopic {
    /// The settings that can be declared, and no others.
    pub fn declarable(&self) -> impl Iterator<Item = (TopicSetting, String)> {
        TopicSetting::ALL.into_iter().filter_map(|setting| Some((setting, self.setting(setting)?)))
    }
}
