//! The context of a client that a command reads with: it writes down what the brokers say, so that the command can
//! tell a person, once, what is wrong. Nothing is logged: a terminal shows events.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::oauth;
use super::watch::trouble;
use crate::observe::stats::KafkaTrouble;

/// What went wrong last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Complaint {
    pub kind: KafkaTrouble,
    /// librdkafka's words.
    pub text: String,
    /// No broker is there at all, and not just one connection less.
    pub all_down: bool,
}

/// Keeps the newest complaint, and apart from it the first of those that waiting does not heal.
#[derive(Default)]
pub struct ReadContext {
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    newest: Option<Complaint>,
    refusal: Option<Complaint>,
}

impl ReadContext {
    pub fn newest(&self) -> Option<Complaint> {
        self.heard().newest.clone()
    }

    /// Takes it: whether the brokers are there is asked again and again.
    pub fn take_newest(&self) -> Option<Complaint> {
        self.heard().newest.take()
    }

    /// Credentials, certificates or rights: a human has to do something.
    pub fn refusal(&self) -> Option<Complaint> {
        self.heard().refusal.clone()
    }

    /// A complaint that came as the answer to a call.
    pub fn note(&self, code: RDKafkaErrorCode, text: &str) {
        // There is no group here; that we may not use it does not matter.
        if code == RDKafkaErrorCode::GroupAuthorizationFailed {
            return;
        }
        let Some(kind) = trouble(code) else { return };
        let all_down = code == RDKafkaErrorCode::AllBrokersDown;
        let complaint = Complaint { kind, text: text.to_owned(), all_down };
        let mut heard = self.heard();
        if matches!(kind, KafkaTrouble::Authentication | KafkaTrouble::Authorization) && heard.refusal.is_none() {
            heard.refusal = Some(complaint.clone());
        }
        heard.newest = Some(complaint);
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for ReadContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

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
        assert_eq!((context.newest(), context.refusal()), (None, None));
        context.note(RDKafkaErrorCode::Authentication, "wrong password");
        context.note(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        let texts = |complaint: Option<Complaint>| complaint.map(|complaint| complaint.text);
        assert_eq!(texts(context.refusal()).as_deref(), Some("wrong password"));
        assert_eq!(texts(context.take_newest()).as_deref(), Some("1/1 brokers are down"));
        assert_eq!(context.newest(), None);
    }
}
