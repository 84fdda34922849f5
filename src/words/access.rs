//! How to get to Kafka and be let in: brokers, address family, security. The words that the gateway's configuration
//! and the options of the producer library share.
//!
//! Deliberately absent: what librdkafka is told (`kafka::connect`), and checking what a file or a user wrote.

use std::path::PathBuf;

/// Where the brokers are, and what they want to see.
#[derive(Clone, Debug)]
pub struct Access {
    /// `host:port`, comma separated, at least one.
    pub brokers: String,
    /// Which addresses of a broker's name are tried.
    pub address_family: AddressFamily,
    /// What the brokers want to see.
    pub security: SecurityConfig,
}

impl Access {
    /// A cluster without encryption and authentication.
    pub fn plaintext(brokers: impl Into<String>) -> Self {
        let brokers = brokers.into();
        // `localhost` is often also `::1`, where nobody listens.
        let local = brokers.split(',').any(|broker| {
            let broker = broker.trim();
            ["localhost", "127.", "[::1]"].iter().any(|name| broker.starts_with(name))
        });
        let address_family = if local && !brokers.contains("[::1]") { AddressFamily::V4 } else { AddressFamily::Any };
        Self { brokers, address_family, security: SecurityConfig::plaintext() }
    }
}

/// Which addresses of a broker's name are tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressFamily {
    /// All that the resolver gives.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl AddressFamily {
    /// Every one, in the order of the docs.
    pub const ALL: [Self; 3] = [Self::Any, Self::V4, Self::V6];

    /// The word in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

/// Encryption and authentication, each on or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SecurityProtocol {
    /// Neither.
    Plaintext,
    /// TLS; a client certificate may say who we are.
    Ssl,
    /// SASL without encryption.
    SaslPlaintext,
    /// SASL within TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// Every one, in the order of the docs.
    pub const ALL: [Self; 4] = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];

    /// The word in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    /// Is there authentication by SASL?
    pub fn uses_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    /// Is there encryption?
    pub fn uses_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// How SASL proves who we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SaslMechanism {
    /// Name and password as they are: only sensible within TLS.
    Plain,
    /// SCRAM with SHA-256.
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
    /// A token.
    OauthBearer,
}

impl SaslMechanism {
    /// Every one, in the order of the docs.
    pub const ALL: [Self; 4] = [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OauthBearer];

    /// The word in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// A value that is never printed: `Debug` shows `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}

/// How a client shows who it is, and makes sure who the broker is.
#[derive(Clone, Debug)]
pub struct SecurityConfig {
    /// Encryption and authentication, each on or off.
    pub protocol: SecurityProtocol,
    /// Present exactly when the protocol is one of the SASL ones.
    pub sasl_mechanism: Option<SaslMechanism>,
    /// Both or neither; required by PLAIN and SCRAM.
    pub sasl_username: Option<String>,
    /// See `sasl_username`.
    pub sasl_password: Option<Secret>,
    /// OAUTHBEARER with unsecured JWS (`librdkafka sasl.oauthbearer.config`), for tests and development.
    pub sasl_oauthbearer_config: Option<Secret>,
    /// PEM file of who may sign a broker's certificate; without one the system's usual places are looked through.
    pub ssl_ca_location: Option<PathBuf>,
    /// PEM file of our own certificate. Both it and its key, or neither.
    pub ssl_certificate_location: Option<PathBuf>,
    /// See `ssl_certificate_location`.
    pub ssl_key_location: Option<PathBuf>,
    /// Of the key file, if it is encrypted.
    pub ssl_key_password: Option<Secret>,
    /// False is `none`: the broker's name is not checked against its certificate.
    pub ssl_verify_hostname: bool,
}

impl SecurityConfig {
    /// Neither encryption nor authentication.
    pub fn plaintext() -> Self {
        Self {
            protocol: SecurityProtocol::Plaintext,
            sasl_mechanism: None,
            sasl_username: None,
            sasl_password: None,
            sasl_oauthbearer_config: None,
            ssl_ca_location: None,
            ssl_certificate_location: None,
            ssl_key_location: None,
            ssl_key_password: None,
            ssl_verify_hostname: true,
        }
    }
}
