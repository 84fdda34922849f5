//! What every Kafka client of the crate has in common, whatever it is for: where the brokers are, how to be let in,
//! and how long to try. The gateway's clients add their purpose (`client`), the producer library adds its own.
//!
//! Deliberately absent: where the values come from; budgets and queues.

use std::path::Path;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use crate::words::access::{Access, AddressFamily, SaslMechanism, SecurityConfig, SecurityProtocol};

/// A configuration that only lacks what the client is for. `client_id` is what brokers log.
pub fn client_of(access: &Access, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &access.brokers)
        .set("client.id", client_id)
        .set("broker.address.family", family(access.address_family))
        .set("socket.keepalive.enable", "true")
        .set("socket.timeout.ms", "10000")
        .set("socket.connection.setup.timeout.ms", "10000")
        // A broker that is back is found within two seconds. Less is no gain: half of the first wait is also how often
        // librdkafka begins anew, without any wait, while it has something to ask and nobody to ask it, and where
        // brokers refuse us that would be twenty times a second.
        .set("reconnect.backoff.ms", "1300")
        .set("reconnect.backoff.max.ms", "1300")
        .set("statistics.interval.ms", "0")
        .set_log_level(RDKafkaLogLevel::Info);
    security(&mut config, &access.security);
    config
}

fn security(config: &mut rdkafka::ClientConfig, security: &SecurityConfig) {
    let protocol = match security.protocol {
        SecurityProtocol::Plaintext => "plaintext",
        SecurityProtocol::Ssl => "ssl",
        SecurityProtocol::SaslPlaintext => "sasl_plaintext",
        SecurityProtocol::SaslSsl => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if matches!(security.protocol, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl) {
        // Without a CA of its own the system's usual places are looked through.
        let ca = security.ssl_ca_location.as_deref().map_or_else(|| "probe".to_owned(), text);
        config.set("ssl.ca.location", ca);
        let algorithm = if security.ssl_verify_hostname { "https" } else { "none" };
        config.set("ssl.endpoint.identification.algorithm", algorithm);
        if let Some(path) = &security.ssl_certificate_location {
            config.set("ssl.certificate.location", text(path));
        }
        if let Some(path) = &security.ssl_key_location {
            config.set("ssl.key.location", text(path));
        }
        if let Some(password) = &security.ssl_key_password {
            config.set("ssl.key.password", &password.0);
        }
    }
    if matches!(security.protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl) {
        if let Some(mechanism) = security.sasl_mechanism {
            let mechanism = match mechanism {
                SaslMechanism::Plain => "PLAIN",
                SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
                SaslMechanism::OauthBearer => "OAUTHBEARER",
            };
            config.set("sasl.mechanism", mechanism);
        }
        if let Some(name) = &security.sasl_username {
            config.set("sasl.username", name);
        }
        if let Some(password) = &security.sasl_password {
            config.set("sasl.password", &password.0);
        }
        if let Some(oauth) = &security.sasl_oauthbearer_config {
            config.set("sasl.oauthbearer.config", &oauth.0);
        }
    }
}

fn family(family: AddressFamily) -> &'static str {
    match family {
        AddressFamily::Any => "any",
        AddressFamily::V4 => "v4",
        AddressFamily::V6 => "v6",
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
