//! Why a cluster does not talk to us as we are, in words that name the setting to look at: from the error code and the
//! text of librdkafka, which knows its own settings and not ours.
//!
//! Deliberately absent: waiting and trying again, which librdkafka does by itself.

use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::certificate;
use super::watch::{BrokerWatch, trouble};
use crate::config::SecurityConfig;
use crate::observe::stats::KafkaTrouble;

/// What is refused, and thereby which setting is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// User name and password.
    Credentials,
    /// The way of proving them.
    Mechanism,
    /// An OAUTHBEARER token, or what it is made of.
    Token,
    /// Theirs, by us.
    Certificate,
    /// Ours, by them.
    OwnCertificate,
    /// TLS that does not come about for another reason.
    Tls,
    /// The user may not commit under our group.
    Group,
    /// The port speaks another protocol.
    Protocol,
    /// It hangs up at our first words, as one that speaks another protocol does, or one that is just going away.
    HangsUp,
    /// Nobody answers there at all.
    Away,
}

impl Kind {
    /// The settings to look at, and what is wrong with them.
    fn advice(self) -> &'static str {
        match self {
            Self::Credentials => "kafka.sasl_username, kafka.sasl_password: the broker refuses them",
            Self::Mechanism => "kafka.sasl_mechanism: the broker does not offer it",
            Self::Token => "kafka.sasl_oauthbearer_config: no token that the broker takes comes of it",
            Self::Certificate => {
                "kafka.ssl_ca_location, kafka.ssl_endpoint_algorithm: the broker's certificate is not accepted"
            }
            Self::OwnCertificate => {
                "kafka.ssl_certificate_location, kafka.ssl_key_location: the broker wants a certificate of ours that it knows"
            }
            Self::Tls => "kafka.security_protocol, kafka.ssl_ca_location: there is no TLS with the broker",
            Self::Group => "kafka.group_id: the user of kafka.sasl_username needs Describe and Read on this group",
            Self::Protocol => "kafka.security_protocol: the broker speaks another one at this port",
            Self::HangsUp => {
                "kafka.security_protocol, kafka.brokers: the broker hangs up at our first words; it may speak another protocol at this port"
            }
            Self::Away => "kafka.brokers: no broker answers",
        }
    }

    /// Waiting does not help: a human has to do something.
    pub fn needs_a_human(self) -> bool {
        !matches!(self, Self::Away | Self::HangsUp)
    }
}

/// A kind, and what was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub kind: Kind,
    /// Stands in the place of all the rest when more is known.
    pub precisely: Option<String>,
    pub said: String,
}

impl Refusal {
    const LOOK_LIMIT: Duration = Duration::from_secs(2);

    /// Knows more, if it is about a broker's certificate and a look at that tells: a connection of its own.
    pub fn looked_into(self, security: &SecurityConfig) -> Self {
        let precisely = match self.kind {
            Kind::Certificate => certificate::look(&self.said, security, Self::LOOK_LIMIT),
            _ => None,
        };
        Self { precisely, ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.precisely {
            Some(precisely) => formatter.write_str(precisely),
            None => write!(formatter, "{} ({})", self.kind.advice(), self.said),
        }
    }
}

/// `None` when it says nothing about how we come to the brokers.
pub fn explain(code: RDKafkaErrorCode, said: &str) -> Option<Refusal> {
    let lower = said.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let kind = match trouble(code)? {
        _ if says(&["certificate verify failed", "certificate could not be verified"]) => Kind::Certificate,
        _ if says(&["certificate required", "bad certificate", "unknown ca", "client ssl authentication"]) => {
            Kind::OwnCertificate
        }
        _ if says(&["ssl listener?", "plaintext broker listener?", "security.protocol", "wrong version number"]) => {
            Kind::Protocol
        }
        _ if says(&["mechanism handshake failed", "unsupported sasl mechanism"]) => Kind::Mechanism,
        _ if says(&["oauthbearer", "invalid_token"]) => Kind::Token,
        KafkaTrouble::Authorization if code == RDKafkaErrorCode::GroupAuthorizationFailed => Kind::Group,
        KafkaTrouble::Authentication if code == RDKafkaErrorCode::SSL => Kind::Tls,
        KafkaTrouble::Authentication => Kind::Credentials,
        KafkaTrouble::BrokerDown if hangs_up_early(&lower) => Kind::HangsUp,
        KafkaTrouble::DnsFailure | KafkaTrouble::BrokerDown | KafkaTrouble::ConnectionTimeout => Kind::Away,
        _ => return None,
    };
    Some(Refusal { kind, precisely: None, said: shortened(said) })
}

/// `(after 3ms in state APIVERSION_QUERY)`, the first request; or soon after the connection was thought to be up.
fn hangs_up_early(lower: &str) -> bool {
    const SOON_MS: u64 = 2_000;
    let Some((_, note)) = lower.split_once("disconnected").and_then(|(_, rest)| rest.rsplit_once("(after ")) else {
        return false;
    };
    let Some((ms, state)) = note.split_once("ms in state ") else { return false };
    state.starts_with("apiversion_query")
        || (state.starts_with("up") && ms.parse::<u64>().is_ok_and(|after| after < SOON_MS))
}

/// Without librdkafka's notes about its own state, which change from one try to the next.
fn shortened(said: &str) -> String {
    const BYTES_MAX: usize = 300;
    let said = said.split_once(" (after ").map_or(said, |(before, _)| before).trim();
    let text: String = said.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    match text.len() > BYTES_MAX {
        true => format!("{}...", &text[..text.floor_char_boundary(BYTES_MAX)]),
        false => text,
    }
}

/// What a missing right means for us; empty for every other code.
pub fn advice(code: RDKafkaErrorCode) -> &'static str {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            ". The user of kafka.sasl_username needs Describe and Read on kafka.topic"
        }
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            ". The user of kafka.sasl_username needs Describe and Read on this group (kafka.group_id)"
        }
        RDKafkaErrorCode::ClusterAuthorizationFailed => {
            ". The user of kafka.sasl_username needs rights on the cluster: IdempotentWrite for dead letters"
        }
        _ => "",
    }
}

/// Begins a sentence about what somebody may do: by name, where one is set.
pub fn who_is(security: &SecurityConfig) -> String {
    security.sasl_username.as_ref().map_or("this user is".to_owned(), |user| format!("user {user:?} is"))
}

/// Tells why from what a client's watch has heard, and looks at a certificate itself when librdkafka only says that
/// it is not accepted: once per while, since that is a connection of its own.
pub struct Explainer {
    security: SecurityConfig,
    looked: Option<(Instant, Refusal)>,
}

impl Explainer {
    const LOOK_AGAIN: Duration = Duration::from_secs(60);

    pub fn new(security: SecurityConfig) -> Self {
        Self { security, looked: None }
    }

    pub fn why(&mut self, watch: &BrokerWatch) -> Option<Refusal> {
        let heard = watch.heard()?;
        if heard.kind != Kind::Certificate {
            return Some(heard);
        }
        let looked = self.looked.as_ref().filter(|(at, _)| at.elapsed() < Self::LOOK_AGAIN);
        if let Some((_, refusal)) = looked {
            return Some(refusal.clone());
        }
        let refusal = heard.looked_into(&self.security);
        self.looked = Some((Instant::now(), refusal.clone()));
        Some(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_librdkafka_says_names_our_setting() {
        use RDKafkaErrorCode as Code;
        for (code, said, kind) in [
            (
                Code::SSL,
                "ssl://127.0.0.1:1/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: \
                 broker certificate could not be verified, verify that ssl.ca.location is correctly configured",
                Some(Kind::Certificate),
            ),
            (
                Code::SSL,
                "ssl://127.0.0.1:1/1: Receive failed: ssl/record/rec_layer_s3.c:1584: error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL alert number 116",
                Some(Kind::OwnCertificate),
            ),
            (
                Code::BrokerTransportFailure,
                "ssl://127.0.0.1:1/bootstrap: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?",
                Some(Kind::Protocol),
            ),
            (
                Code::BrokerTransportFailure,
                "127.0.0.1:1/bootstrap: Disconnected: requesting ApiVersion: might be caused by incorrect security.protocol configuration (connecting to a SSL listener?)",
                Some(Kind::Protocol),
            ),
            (
                Code::SSL,
                "ssl://127.0.0.1:1/bootstrap: SSL handshake failed: error:0A00010B:SSL routines::wrong version number",
                Some(Kind::Protocol),
            ),
            (
                Code::Authentication,
                "sasl_ssl://127.0.0.1:1/bootstrap: SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN",
                Some(Kind::Mechanism),
            ),
            (
                Code::Authentication,
                "sasl_ssl://127.0.0.1:1/bootstrap: SASL authentication error: Authentication failed: Invalid username or password (after 304ms in state AUTH_REQ)",
                Some(Kind::Credentials),
            ),
            (
                Code::Authentication,
                "Failed to acquire SASL OAUTHBEARER token: sasl.oauthbearer.config names no principal",
                Some(Kind::Token),
            ),
            (Code::SSL, "ssl://127.0.0.1:1/bootstrap: SSL handshake failed: no shared cipher", Some(Kind::Tls)),
            (
                Code::BrokerTransportFailure,
                "127.0.0.1:1/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 1ms in state APIVERSION_QUERY)",
                Some(Kind::HangsUp),
            ),
            (
                Code::BrokerTransportFailure,
                "127.0.0.1:1/1: Disconnected: connection closed by peer (after 5ms in state UP)",
                Some(Kind::HangsUp),
            ),
            (
                Code::BrokerTransportFailure,
                "127.0.0.1:1/1: Disconnected: connection closed by peer (after 500000ms in state UP)",
                Some(Kind::Away),
            ),
            (
                Code::BrokerTransportFailure,
                "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
                Some(Kind::Away),
            ),
            (Code::Resolve, "nowhere:9092/bootstrap: Failed to resolve 'nowhere:9092'", Some(Kind::Away)),
            (Code::GroupAuthorizationFailed, "FindCoordinator response error", Some(Kind::Group)),
            (Code::TopicAuthorizationFailed, "no", None),
            (Code::NoError, "", None),
        ] {
            assert_eq!(explain(code, said).map(|refusal| refusal.kind), kind, "{said}");
        }
    }

    #[test]
    fn a_text_names_the_setting_and_is_the_same_every_time() {
        let said =
            |ms| format!("sasl_ssl://k:1/bootstrap: SASL authentication error: no\n (after {ms}ms in state AUTH_REQ)");
        let once = explain(RDKafkaErrorCode::Authentication, &said(3)).expect("a refusal");
        assert_eq!(Some(&once), explain(RDKafkaErrorCode::Authentication, &said(1_234)).as_ref());
        assert_eq!(
            once.to_string(),
            "kafka.sasl_username, kafka.sasl_password: the broker refuses them \
             (sasl_ssl://k:1/bootstrap: SASL authentication error: no)"
        );
        let long = explain(RDKafkaErrorCode::Authentication, &"é".repeat(10_000)).expect("a refusal");
        assert!(long.said.len() < 400);
    }
}
