//! Whether librdkafka can use the files for TLS, found out with a client that knows no broker, so that a key that does
//! not open is told before anybody is asked, and by the names of our settings.
//!
//! Deliberately absent: what a broker thinks of our certificate (`refusal`), and of its own (`certificate`).

use std::path::Path;

use rdkafka::config::FromClientConfig as _;
use rdkafka::producer::{BaseProducer, DefaultProducerContext};

use super::connect::client_of;
use crate::words::access::{Access, SecurityConfig, SecurityProtocol};

/// Files for TLS that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unusable {
    /// The settings to look at.
    pub keys: Vec<&'static str>,
    pub what: String,
}

/// Costs a moment, and only where TLS is used.
pub fn try_files(access: &Access) -> Result<(), Unusable> {
    let security = &access.security;
    if !security.protocol.uses_tls() {
        return Ok(());
    }
    // Without SASL: nothing here needs a token.
    let bare = SecurityConfig { protocol: SecurityProtocol::Ssl, ..security.clone() };
    let mut config = client_of(&Access { security: bare, ..access.clone() }, "dashstream-check");
    config.remove("bootstrap.servers");
    match BaseProducer::<DefaultProducerContext>::from_config(&config) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(&error.to_string(), security)),
    }
}

/// librdkafka names its own setting, and OpenSSL says what it did not like.
fn explain(said: &str, security: &SecurityConfig) -> Unusable {
    let says = |part: &str| said.contains(part);
    let path = |path: &Option<std::path::PathBuf>| path.as_deref().unwrap_or(Path::new("")).display().to_string();
    let key = path(&security.ssl_key_location);
    let (keys, what) = if says("key values mismatch") || says("Private key check failed") {
        (vec!["kafka.ssl_certificate_location", "kafka.ssl_key_location"], "they do not belong together".to_owned())
    } else if says("ssl.key.location") {
        let what = match (is_encrypted(security.ssl_key_location.as_deref()), &security.ssl_key_password) {
            (true, Some(_)) => format!("this password does not open the key in {key}"),
            (true, None) => format!("the key in {key} is encrypted, and there is no password to open it"),
            (false, _) => format!("{key} holds no key that can be read ({said})"),
        };
        (vec!["kafka.ssl_key_password", "kafka.ssl_key_location"], what)
    } else if says("ssl.certificate.location") {
        let file = path(&security.ssl_certificate_location);
        (vec!["kafka.ssl_certificate_location"], format!("{file} holds no certificate that can be read ({said})"))
    } else if says("ssl.ca.location") {
        let file = path(&security.ssl_ca_location);
        (vec!["kafka.ssl_ca_location"], format!("{file} holds no certificate that can be read ({said})"))
    } else {
        (vec!["kafka.security_protocol"], format!("the Kafka client refuses the settings for TLS ({said})"))
    };
    Unusable { keys, what: what.replace(['\n', '\r'], " ") }
}

/// Both kinds of PEM say so in clear.
fn is_encrypted(key: Option<&Path>) -> bool {
    let bytes = key.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    bytes.windows(9).any(|window| window == b"ENCRYPTED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafkas_words_name_our_settings() {
        let security = SecurityConfig { ssl_key_location: Some("/no/where.key".into()), ..SecurityConfig::plaintext() };
        let check = |said: &str, keys: &[&str]| assert_eq!(explain(said, &security).keys, keys, "{said}");
        check(
            "ssl.key.location failed: error:1C800064:bad decrypt",
            &["kafka.ssl_key_password", "kafka.ssl_key_location"],
        );
        check(
            "ssl.key.location failed: error:05800074:x509 certificate routines::key values mismatch",
            &["kafka.ssl_certificate_location", "kafka.ssl_key_location"],
        );
        check("ssl.certificate.location failed: no", &["kafka.ssl_certificate_location"]);
        check("ssl.ca.location failed: no", &["kafka.ssl_ca_location"]);
        check("something else", &["kafka.security_protocol"]);
    }
}
