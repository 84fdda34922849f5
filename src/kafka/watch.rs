//! What is done with the errors and log lines of a librdkafka client: counted by kind, and logged at a level that
//! says what they mean for us, at a bounded rate. A refusal that concerns every client is one line for all of them.
//!
//! Deliberately absent: errors of one partition or of one call; they belong to whoever meets them.

use std::sync::{Arc, Mutex};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::oauth;
use super::refusal::{self, Refusal};
use crate::observe::stats::{KafkaTrouble, Stats, monotonic_ms};
use crate::observe::throttle::Told;

/// One line per kind and this long; what came in between is counted in the next line.
const QUIET_MS: u64 = 10_000;
/// The same for what does not heal by itself: who reads the log knows it already.
const REFUSED_QUIET_MS: u64 = 600_000;
/// How kinds begin that are one for the whole process.
const REFUSED: &str = "refused ";

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
    heard: Mutex<Option<Refusal>>,
}

impl BrokerWatch {
    pub fn new(client: &'static str, stats: Arc<Stats>) -> Self {
        Self { client, stats, heard: Mutex::default() }
    }

    /// Why the brokers do not talk to us, if that was said since they last did.
    pub fn heard(&self) -> Option<Refusal> {
        self.heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// A broker answered: what was heard before is over, and would be news if it came again.
    pub fn heard_well(&self) {
        let before = self.heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if before.is_some_and(|before| before.kind.needs_a_human()) {
            self.told().forget(REFUSED);
        }
    }

    /// What only a human can mend stays: that nobody answers follows from it.
    fn hear(&self, code: RDKafkaErrorCode, reason: &str) -> Option<Refusal> {
        // That all brokers are down is said after each was named with its own reason.
        let refusal = refusal::explain(code, reason).filter(|_| code != RDKafkaErrorCode::AllBrokersDown)?;
        let mut heard = self.heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if refusal.kind.needs_a_human() || !heard.as_ref().is_some_and(|heard| heard.kind.needs_a_human()) {
            *heard = Some(refusal.clone());
        }
        Some(refusal)
    }

    fn hear_hang_up(&self, reason: &str) {
        let refusal = refusal::explain(RDKafkaErrorCode::BrokerTransportFailure, reason);
        if let Some(refusal) = refusal.filter(|refusal| refusal.kind == refusal::Kind::HangsUp) {
            self.heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(refusal);
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
        let refusal = self.hear(code, reason);
        let client = self.client;
        let refused = refusal.as_ref().is_some_and(|refusal| refusal.kind.needs_a_human());
        if refused || needs_a_human(trouble) {
            self.refused(trouble, code, refusal.as_ref(), reason);
        } else if self.heard().is_some_and(|heard| heard.kind.needs_a_human()) {
            // That nobody is left to talk to follows from what was said already.
            tracing::debug!(client, kind = trouble.label(), %code, "Kafka: {reason}");
        } else if let Some(unsaid) = self.speak(trouble.label(), QUIET_MS) {
            tracing::warn!(client, kind = trouble.label(), unsaid, %code, "Kafka: {reason}; trying again");
        }
    }

    /// One line for the whole process: every client of it meets the same refusal.
    fn refused(&self, trouble: KafkaTrouble, code: RDKafkaErrorCode, refusal: Option<&Refusal>, reason: &str) {
        let unlooked = refusal.is_some_and(|refusal| refusal.kind == refusal::Kind::Certificate);
        if unlooked && self.stats.stream.read().is_ok_and(|stream| stream.identity.is_none()) {
            // Whoever waits for the topic looks at the certificate, and says more.
            return;
        }
        let kind = refusal.map_or_else(|| format!("{REFUSED}{code}"), |refusal| format!("{REFUSED}{:?}", refusal.kind));
        let Some(unsaid) = self.told().speak(&kind, REFUSED_QUIET_MS, monotonic_ms()) else { return };
        let (client, kind) = (self.client, trouble.label());
        let why = refusal.map_or_else(|| format!("{reason}{}", refusal::advice(code)), Refusal::to_string);
        tracing::error!(client, kind, unsaid, %code, "Kafka refuses us: {why}");
    }

    /// librdkafka's own levels are about its view: a refused connection is an error there and heals here.
    pub fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let client = self.client;
        // A broker that hangs up is no error of librdkafka's, and only this line says what it may come from.
        if facility == "FAIL" {
            let bare = message.split_once("]: ").map_or(message, |(_, bare)| bare);
            self.hear_hang_up(bare);
        }
        // Both come again as an error, with a code.
        let again = ["FAIL", "FATAL"].contains(&facility) && !matches!(level, RDKafkaLogLevel::Info);
        if matches!(level, RDKafkaLogLevel::Debug) || again {
            tracing::debug!(client, facility, "{message}");
            return;
        }
        let Some(unsaid) = self.speak(facility, QUIET_MS) else { return };
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

    fn speak(&self, kind: &str, quiet_ms: u64) -> Option<u64> {
        self.told().speak(&format!("{} {kind}", self.client), quiet_ms, monotonic_ms())
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.stats.kafka.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
