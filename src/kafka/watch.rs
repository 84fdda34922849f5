//! What is done with the errors and log lines of a librdkafka client: counted by kind, and logged at a level that
//! says what they mean for us, at a bounded rate.
//!
//! Deliberately absent: errors of one partition or of one call; they belong to whoever meets them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::oauth;
use super::refusal::{self, Refusal};
use crate::observe::stats::{KafkaTrouble, Stats, monotonic_ms};

/// One line per kind and this long; what came in between is counted in the next line.
const QUIET_MS: u64 = 10_000;
/// librdkafka has a few dozen facilities; beyond this many kinds nothing new is told apart.
const KINDS_MAX: usize = 64;

/// The kind of trouble of an error code, or `None` when the code says nothing about the brokers.
pub fn trouble(code: RDKafkaErrorCode) -> Option<KafkaTrouble> {
    use RDKafkaErrorCode as Code;
    match code {
        Code::NoError | Code::PartitionEOF => None,
        Code::Resolve => Some(KafkaTrouble::DnsFailure),
        Code::OperationTimedOut | Code::RequestTimedOut | Code::MessageTimedOut | Code::TimedOutQueue => {
            Some(KafkaTrouble::ConnectionTimeout)
        }
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::BrokerNotAvailable
        | Code::NetworkException
        | Code::BrokerDestroy
        | Code::UnknownBroker => Some(KafkaTrouble::BrokerDown),
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SSL => Some(KafkaTrouble::Authentication),
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => Some(KafkaTrouble::Authorization),
        _ => Some(KafkaTrouble::Unknown),
    }
}

/// A human has to do something: it does not heal by waiting.
fn needs_a_human(trouble: KafkaTrouble) -> bool {
    matches!(trouble, KafkaTrouble::Authentication | KafkaTrouble::Authorization)
}

/// Watches one client. A context of librdkafka holds one and passes errors and log lines to it.
pub struct BrokerWatch {
    client: &'static str,
    stats: Arc<Stats>,
    told: Mutex<Told>,
    heard: Mutex<Option<Refusal>>,
}

impl BrokerWatch {
    pub fn new(client: &'static str, stats: Arc<Stats>) -> Self {
        Self { client, stats, told: Mutex::new(Told::default()), heard: Mutex::default() }
    }

    /// Why the brokers do not talk to us, if that was said since they last did.
    pub fn heard(&self) -> Option<Refusal> {
        self.heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// A broker answered: what was heard before is over.
    pub fn heard_well(&self) {
        *self.heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }

    /// What only a human can mend stays: that nobody answers follows from it.
    fn hear(&self, code: RDKafkaErrorCode, reason: &str) {
        let Some(refusal) = refusal::explain(code, reason) else { return };
        let mut heard = self.heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = heard.as_ref().is_some_and(|heard| heard.kind.needs_a_human());
        // "All brokers are down" is said after every broker was named with its own reason.
        let vague = code == RDKafkaErrorCode::AllBrokersDown && heard.is_some();
        if refusal.kind.needs_a_human() || !(known || vague) {
            *heard = Some(refusal);
        }
    }

    /// Counts an error code of the client as a whole, or of a call.
    pub fn count(&self, code: RDKafkaErrorCode) -> Option<KafkaTrouble> {
        let trouble = trouble(code)?;
        self.stats.kafka.troubles[trouble as usize].add(1);
        self.stats.kafka.last_trouble_at_ms.set(Some(monotonic_ms()));
        Some(trouble)
    }

    pub fn error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let Some(trouble) = self.count(code) else { return };
        self.hear(code, reason);
        let Some(unsaid) = self.speak(trouble.label()) else { return };
        let client = self.client;
        if needs_a_human(trouble) {
            tracing::error!(client, kind = trouble.label(), unsaid, %code, "Kafka refuses us: {reason}");
        } else {
            tracing::warn!(client, kind = trouble.label(), unsaid, %code, "Kafka: {reason}; trying again");
        }
    }

    /// librdkafka's own levels are about its view: a refused connection is an error there and heals here.
    pub fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let client = self.client;
        if matches!(level, RDKafkaLogLevel::Debug) {
            tracing::debug!(client, facility, "{message}");
            return;
        }
        let Some(unsaid) = self.speak(facility) else { return };
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(client, facility, unsaid, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(client, facility, unsaid, "{message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(client, facility, unsaid, "{message}"),
            RDKafkaLogLevel::Debug => {}
        }
    }

    fn speak(&self, kind: &str) -> Option<u64> {
        self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).speak(kind, monotonic_ms())
    }
}

/// When each kind was last said, and how often it was kept back since.
#[derive(Default)]
struct Told {
    kinds: HashMap<String, (u64, u64)>,
}

impl Told {
    /// `Some(kept back since)` when this kind may be said now.
    fn speak(&mut self, kind: &str, now_ms: u64) -> Option<u64> {
        let kind = if self.kinds.len() < KINDS_MAX || self.kinds.contains_key(kind) { kind } else { "" };
        match self.kinds.get_mut(kind) {
            Some((said_ms, kept_back)) if now_ms.saturating_sub(*said_ms) < QUIET_MS => {
                *kept_back += 1;
                None
            }
            Some(entry) => {
                let kept_back = entry.1;
                *entry = (now_ms, 0);
                Some(kept_back)
            }
            None => {
                self.kinds.insert(kind.to_owned(), (now_ms, 0));
                Some(0)
            }
        }
    }
}

/// The context of clients that only ask: probe and lag.
pub struct AskContext(pub BrokerWatch);

impl ClientContext for AskContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth::unsecured_token(config)
    }
}

impl rdkafka::consumer::ConsumerContext for AskContext {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_kind_and_while_and_the_rest_is_counted() {
        let mut told = Told::default();
        assert_eq!(told.speak("a", 0), Some(0));
        assert_eq!(told.speak("a", 1), None);
        assert_eq!(told.speak("b", 2), Some(0));
        assert_eq!(told.speak("a", QUIET_MS - 1), None);
        assert_eq!(told.speak("a", QUIET_MS), Some(2));
        assert_eq!(told.speak("a", 2 * QUIET_MS), Some(0));
    }

    #[test]
    fn kinds_are_bounded() {
        let mut told = Told::default();
        for kind in 0..10 * KINDS_MAX {
            told.speak(&kind.to_string(), 0);
        }
        assert!(told.kinds.len() <= KINDS_MAX + 1);
    }

    #[test]
    fn codes_have_kinds() {
        for (code, expected) in [
            (RDKafkaErrorCode::NoError, None),
            (RDKafkaErrorCode::PartitionEOF, None),
            (RDKafkaErrorCode::Resolve, Some(KafkaTrouble::DnsFailure)),
            (RDKafkaErrorCode::OperationTimedOut, Some(KafkaTrouble::ConnectionTimeout)),
            (RDKafkaErrorCode::AllBrokersDown, Some(KafkaTrouble::BrokerDown)),
            (RDKafkaErrorCode::SSL, Some(KafkaTrouble::Authentication)),
            (RDKafkaErrorCode::GroupAuthorizationFailed, Some(KafkaTrouble::Authorization)),
            (RDKafkaErrorCode::BadMessage, Some(KafkaTrouble::Unknown)),
        ] {
            assert_eq!(trouble(code), expected, "{code}");
        }
    }
}
