//! What is wrong with a broker's certificate. librdkafka says only that it is not accepted, whether its authority is
//! unknown, its name another or its time over; one handshake of our own, towards the broker that it named, tells them
//! apart. Nothing is sent but the handshake, and nothing is trusted because of it.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore};

use crate::config::SecurityConfig;

/// A file of authorities has some hundred at most.
const AUTHORITIES_MAX: usize = 1_000;

/// `said` is librdkafka's text, which begins with the broker's address. `None` when that does not tell either.
pub(super) fn look(said: &str, security: &SecurityConfig, limit: Duration) -> Option<String> {
    let address = address_in(said)?;
    let authorities = security.ssl_ca_location.as_deref()?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authorities).ok()?.take(AUTHORITIES_MAX) {
        // One that cannot be read is left out, as librdkafka's TLS does.
        let _skipped = roots.add(certificate.ok()?);
    }
    let error = handshake(address, roots, limit).err()?;
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(why) = error else { return None };
    describe(why, address, &authorities.display().to_string())
}

/// `ssl://HOST:PORT/NAME: ...`
fn address_in(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("ssl://")?;
    let (address, _) = rest.split_once('/')?;
    address.rsplit_once(':')?.1.parse::<u16>().ok()?;
    Some(address)
}

/// The chain and its times are judged before the name.
fn handshake(address: &str, roots: RootCertStore, limit: Duration) -> io::Result<()> {
    let unusable = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(unusable)?;
    let place = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut socket = TcpStream::connect_timeout(&place, limit)?;
    socket.set_read_timeout(Some(limit))?;
    socket.set_write_timeout(Some(limit))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(())
}

fn describe(why: &CertificateError, address: &str, authorities: &str) -> Option<String> {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(format!(
            "kafka.ssl_ca_location: no authority in {authorities} has signed the certificate of broker {address}"
        )),
        CertificateError::NotValidForName => Some(format!(
            "kafka.brokers, kafka.ssl_endpoint_algorithm: the certificate of broker {address} is for another name"
        )),
        CertificateError::NotValidForNameContext { presented, .. } => {
            // `DnsName("kafka-1")`
            let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
            let names: Vec<_> = presented.iter().take(5).map(bare).collect();
            Some(format!(
                "kafka.brokers, kafka.ssl_endpoint_algorithm: the certificate of broker {address} is for another name: {}",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            ))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some(format!(
            "kafka.brokers: the certificate of broker {address} has expired; it must be renewed there, no setting of \
             ours helps"
        )),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Some(format!(
            "kafka.brokers: the certificate of broker {address} is not valid yet; look at the clocks of both hosts"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_taken_from_librdkafkas_text() {
        for (said, expected) in [
            ("ssl://kafka-1:9093/bootstrap: SSL handshake failed", Some("kafka-1:9093")),
            ("sasl_ssl://[::1]:9094/2: SSL handshake failed", Some("[::1]:9094")),
            ("kafka-1:9092/1: Disconnected", None),
            ("ssl://kafka-1/1: no port", None),
            ("ssl://kafka-1:99999/1: no port", None),
            ("", None),
        ] {
            assert_eq!(address_in(said), expected, "{said}");
        }
    }

    #[test]
    fn nobody_there_is_no_explanation() {
        let roots = RootCertStore::empty();
        let error = handshake("127.0.0.1:1", roots, Duration::from_secs(1)).expect_err("nobody listens there");
        assert!(error.get_ref().is_none_or(|inner| inner.downcast_ref::<rustls::Error>().is_none()), "{error}");
    }
}
