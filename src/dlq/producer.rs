//! The producer of dead letters: its settings, and the outcomes that librdkafka reports.
//!
//! Deliberately absent: what follows from an outcome (`thread`).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::breaker::Attempts;
use super::envelope::{Circumstances, ENVELOPE_MAX_BYTES, envelope};
use super::headers::headers;
use super::queue::Queued;
use crate::config::{DlqConfig, KafkaConfig};
use crate::kafka::client::{Purpose, client_config};
use crate::kafka::watch::{AskContext, BrokerWatch};
use crate::observe::stats::Stats;

/// How long one look-up of the topic may block the dlq thread.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// A letter in hand, sent or waiting for its next attempt.
#[derive(Debug)]
pub(super) struct InHand {
    pub(super) queued: Queued,
    pub(super) attempts: Attempts,
    /// When it was taken up, and what was consumed by then: the same in every attempt.
    pub(super) unix_ms: u64,
    pub(super) message_count: u64,
    /// What its envelope took, as far as known.
    pub(super) bytes: usize,
}

impl InHand {
    /// What it counts in flight: about its envelope. The same before and after the envelope is made.
    pub(super) fn reserved(&self) -> usize {
        let bytes = usize::try_from(self.queued.letter.bytes()).unwrap_or(usize::MAX);
        (bytes / 3 * 4).saturating_add(4096).min(ENVELOPE_MAX_BYTES)
    }

    /// As if the last attempt had not been made.
    pub(super) fn not_tried(mut self: Box<Self>) -> Box<Self> {
        self.attempts.made = self.attempts.made.saturating_sub(1);
        self
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Acknowledged,
    /// The record is larger than the topic allows.
    TooLarge,
    /// Nothing was tried: librdkafka's queue was full, or the producer was taken down.
    NotTried,
    Failed {
        timed_out: bool,
        code: RDKafkaErrorCode,
    },
}

impl Outcome {
    fn of(error: &KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => Self::TooLarge,
            Some(RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => {
                Self::NotTried
            }
            Some(code) => {
                let timed_out = matches!(
                    code,
                    RDKafkaErrorCode::MessageTimedOut
                        | RDKafkaErrorCode::RequestTimedOut
                        | RDKafkaErrorCode::OperationTimedOut
                        | RDKafkaErrorCode::TimedOutQueue
                );
                Self::Failed { timed_out, code }
            }
            None => Self::Failed { timed_out: false, code: RDKafkaErrorCode::Unknown },
        }
    }
}

type Outcomes = Arc<Mutex<Vec<(Box<InHand>, Outcome)>>>;

/// Collects outcomes while the thread polls. Bounded by what is in flight.
struct Reports {
    outcomes: Outcomes,
    ask: AskContext,
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.ask.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.ask.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.ask.generate_oauth_token(config)
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<InHand>;

    fn delivery(&self, result: &DeliveryResult<'_>, letter: Box<InHand>) {
        let outcome = match result {
            Ok(_) => Outcome::Acknowledged,
            Err((error, _)) => Outcome::of(error),
        };
        lock(&self.outcomes).push((letter, outcome));
    }
}

/// What Kafka says about the topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TopicAnswer {
    Found,
    Missing(RDKafkaErrorCode),
    Unknown,
}

pub(super) struct LetterProducer {
    producer: BaseProducer<Reports>,
    topic: String,
}

impl LetterProducer {
    /// Fails only on settings that librdkafka refuses; brokers are asked later.
    pub(super) fn new(kafka: &KafkaConfig, dlq: &DlqConfig, stats: &Arc<Stats>) -> Result<Self, KafkaError> {
        let reports =
            Reports { outcomes: Outcomes::default(), ask: AskContext(BrokerWatch::new("dlq", stats.clone())) };
        let producer = settings(kafka, dlq).create_with_context(reports)?;
        Ok(Self { producer, topic: dlq.topic.clone() })
    }

    /// Hands a letter to librdkafka, with an envelope of at most `limit` bytes. Its outcome comes from
    /// [`Self::outcomes`], also when librdkafka refuses it at once.
    pub(super) fn send(&self, mut letter: Box<InHand>, limit: usize) {
        let queued = &letter.queued;
        let circumstances = Circumstances {
            stream: &queued.stream,
            now_unix_ms: letter.unix_ms,
            message_count: letter.message_count,
            limit,
        };
        let value = envelope(&queued.letter, circumstances);
        let id = queued.stream.dead_letter_id(queued.letter.partition, queued.letter.offset).to_string();
        let names = headers(&queued.letter, &queued.stream);
        let headers = names.iter().fold(OwnedHeaders::new_with_capacity(names.len()), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value.as_slice()) })
        });
        letter.bytes = value.len();
        let record = BaseRecord::with_opaque_to(&self.topic, letter).key(&id).payload(&value).headers(headers);
        if let Err((error, record)) = self.producer.send(record) {
            lock(&self.producer.context().outcomes).push((record.delivery_opaque, Outcome::of(&error)));
        }
    }

    /// Serves librdkafka's callbacks without waiting.
    pub(super) fn outcomes(&self) -> Vec<(Box<InHand>, Outcome)> {
        // One poll serves one event: a batch of reports, an error, a token refresh.
        for _ in 0..16 {
            self.producer.poll(Duration::ZERO);
        }
        std::mem::take(&mut *lock(&self.producer.context().outcomes))
    }

    /// After this no attempt of this producer can succeed: another is needed.
    pub(super) fn is_fatal(&self) -> bool {
        self.producer.client().fatal_error().is_some()
    }

    /// Takes it down; what was in flight comes back as not tried.
    pub(super) fn take_down(self) -> Vec<(Box<InHand>, Outcome)> {
        let outcomes = self.producer.context().outcomes.clone();
        // Dropping purges and then serves the reports of what was purged.
        drop(self.producer);
        std::mem::take(&mut *lock(&outcomes))
    }

    pub(super) fn topic(&self) -> TopicAnswer {
        let Ok(metadata) = self.producer.client().fetch_metadata(Some(&self.topic), METADATA_TIMEOUT) else {
            return TopicAnswer::Unknown;
        };
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == self.topic) else {
            return TopicAnswer::Unknown;
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            None if topic.partitions().is_empty() => TopicAnswer::Unknown,
            None => TopicAnswer::Found,
            Some(
                code @ (RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::InvalidTopic
                | RDKafkaErrorCode::TopicAuthorizationFailed),
            ) => TopicAnswer::Missing(code),
            Some(_) => TopicAnswer::Unknown,
        }
    }
}

fn settings(kafka: &KafkaConfig, dlq: &DlqConfig) -> ClientConfig {
    let mut settings = client_config(kafka, Purpose::DeadLetters);
    settings
        // One attempt; the thread makes the next one, so that a letter outlives any outage.
        .set("message.timeout.ms", dlq.send_timeout.as_millis().max(1000).to_string())
        // Envelope and headers; librdkafka refuses more before it asks the broker.
        .set("message.max.bytes", (ENVELOPE_MAX_BYTES + 64 * 1024).to_string())
        // The thread bounds what is in flight far below this.
        .set("queue.buffering.max.messages", "1000")
        .set("queue.buffering.max.kbytes", "32768");
    settings
}

fn lock(outcomes: &Mutex<Vec<(Box<InHand>, Outcome)>>) -> std::sync::MutexGuard<'_, Vec<(Box<InHand>, Outcome)>> {
    outcomes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
