//! The context of a client that a command reads with: it writes down what the brokers say, so that the command can
//! tell a person, once, what is wrong. Nothing is logged: a terminal shows events.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::oauth;
use super::refusal::{self, Kind, Refusal};
use super::watch::trouble;
use crate::observe::stats::KafkaTrouble;

/// What waiting does not heal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Denied {
    /// Credentials or certificates.
    Entry(Refusal),
    /// A right on the topic.
    Topic,
}

/// Keeps the newest complaint, and apart from it what tells why nobody talks to us.
#[derive(Default)]
pub struct ReadContext {
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    /// What went wrong last, in librdkafka's words.
    newest: Option<String>,
    /// The same of no broker being there at all, and not just one connection less: other words may follow.
    all_down: Option<String>,
    denied: Option<Denied>,
    /// As one hears it from a broker that speaks another protocol, and from one that is just going away.
    doubt: Option<Refusal>,
}

impl ReadContext {
    pub fn newest(&self) -> Option<String> {
        self.heard().newest.clone()
    }

    /// No broker is there. Takes it: that is asked again and again.
    pub fn take_all_down(&self) -> Option<String> {
        self.heard().all_down.take()
    }

    /// A human has to do something.
    pub fn denied(&self) -> Option<Denied> {
        self.heard().denied.clone()
    }

    /// What it may come from that no broker answers.
    pub fn doubt(&self) -> Option<Refusal> {
        self.heard().doubt.clone()
    }

    /// The brokers answer: what was said before is over.
    pub fn is_well(&self) {
        let mut heard = self.heard();
        (heard.newest, heard.all_down, heard.doubt) = (None, None, None);
    }

    /// A complaint that came as the answer to a call.
    pub fn note(&self, code: RDKafkaErrorCode, text: &str) {
        // There is no group here; that we may not use it does not matter.
        if code == RDKafkaErrorCode::GroupAuthorizationFailed {
            return;
        }
        let Some(kind) = trouble(code) else { return };
        let mut heard = self.heard();
        let denied = match refusal::explain(code, text) {
            _ if kind == KafkaTrouble::Authorization => Some(Denied::Topic),
            Some(refusal) if kind == KafkaTrouble::Authentication && is_sure(&refusal) => Some(Denied::Entry(refusal)),
            Some(refusal) => {
                heard.suspect(refusal);
                None
            }
            None => None,
        };
        heard.denied = heard.denied.take().or(denied);
        if code == RDKafkaErrorCode::AllBrokersDown {
            heard.all_down = Some(text.to_owned());
        }
        heard.newest = Some(text.to_owned());
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn suspect(&mut self, refusal: Refusal) {
        let weightier = |known: &Refusal| refusal.kind.needs_a_human() && !known.kind.needs_a_human();
        if refusal.kind != Kind::Away && self.doubt.as_ref().is_none_or(weightier) {
            self.doubt = Some(refusal);
        }
    }
}

/// A connection that breaks in the middle of a handshake has the same code as one that is refused.
fn is_sure(refusal: &Refusal) -> bool {
    refusal.kind != Kind::Tls && !refusal.said.contains("transport failure")
}

impl ClientContext for ReadContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    /// Of a broker that hangs up only this says what it may come from.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            let bare = message.split_once("]: ").map_or(message, |(_, bare)| bare);
            if let Some(refusal) = refusal::explain(RDKafkaErrorCode::BrokerTransportFailure, bare) {
                self.heard().suspect(refusal);
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown), reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth::unsecured_token(config)
    }
}

impl ConsumerContext for ReadContext {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_heal_is_kept_and_a_group_that_nobody_uses_is_no_complaint() {
        let context = ReadContext::default();
        context.note(RDKafkaErrorCode::GroupAuthorizationFailed, "no group");
        assert_eq!((context.newest(), context.denied()), (None, None));
        context.note(RDKafkaErrorCode::Authentication, "SASL authentication error: wrong password");
        context.note(RDKafkaErrorCode::TopicAuthorizationFailed, "no topic either");
        context.note(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        assert!(matches!(context.denied(), Some(Denied::Entry(refusal)) if refusal.kind == Kind::Credentials));
        context.note(RDKafkaErrorCode::BrokerTransportFailure, "Connect failed: Connection refused");
        assert_eq!(context.newest().as_deref(), Some("Connect failed: Connection refused"));
        assert_eq!(context.take_all_down().as_deref(), Some("1/1 brokers are down"));
        assert_eq!(context.take_all_down(), None);
    }

    #[test]
    fn a_broker_that_goes_away_denies_nothing() {
        let context = ReadContext::default();
        for (code, text) in [
            (
                RDKafkaErrorCode::Authentication,
                "SASL PLAIN mechanism handshake failed: Local: Broker transport failure: broker's supported mechanisms: (n/a)",
            ),
            (RDKafkaErrorCode::SSL, "ssl://127.0.0.1:1/1: SSL handshake failed: unexpected eof while reading"),
            (
                RDKafkaErrorCode::BrokerTransportFailure,
                "ssl://127.0.0.1:1/1: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?",
            ),
        ] {
            context.note(code, text);
            assert_eq!(context.denied(), None, "{text}");
            assert!(context.doubt().is_some(), "{text}");
            context.is_well();
            assert_eq!((context.doubt(), context.newest()), (None, None));
        }
        context.log(
            RDKafkaLogLevel::Info,
            "FAIL",
            "[thrd:127.0.0.1:1/bootstrap]: 127.0.0.1:1/bootstrap: Disconnected: connection closed by peer (after 1ms in state APIVERSION_QUERY)",
        );
        assert!(context.doubt().is_some_and(|refusal| refusal.kind == Kind::HangsUp));
        context.note(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        assert!(context.doubt().is_some());
    }
}
