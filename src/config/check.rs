//! Relations between settings: what is allowed one by one and not together, and what works and is probably a
//! mistake. Looks at files that settings name; everything else here is a comparison.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::checked::{Config, SaslMechanism, SecurityProtocol};
use super::error::{ConfigError, Warning};
use super::memory::QUEUE_SHARE_BYTES_MIN;

/// All that is wrong. A relation of which one side was refused already is left out by the caller.
pub(super) fn relations(config: &Config) -> Vec<ConfigError> {
    let mut found = Vec::new();
    let mut unless = |holds: bool, keys: &[&'static str], message: String| {
        if !holds {
            found.push(ConfigError::Relation { keys: keys.to_vec(), message });
        }
    };
    let kafka = &config.kafka;
    let share = kafka.queue_bytes / u64::from(kafka.partitions_max);
    unless(
        share >= QUEUE_SHARE_BYTES_MIN,
        &["kafka.queue_bytes", "kafka.partitions_max"],
        format!(
            "each of {} partitions would get {share} bytes of queue; allowed: at least {QUEUE_SHARE_BYTES_MIN} each",
            kafka.partitions_max
        ),
    );
    unless(
        config.client.slow_policies.contains(&config.client.slow_policy),
        &["client.slow_policy", "client.slow_policies"],
        format!("{} is not among what a client may choose", config.client.slow_policy.label()),
    );
    unless(
        config.log.max_bytes / 2 >= kafka.payload_max_bytes,
        &["log.max_bytes", "kafka.payload_max_bytes"],
        format!("the log must hold at least two of the largest records, {} bytes", 2 * kafka.payload_max_bytes),
    );
    unless(
        config.log.warm_bytes <= config.log.max_bytes,
        &["log.warm_bytes", "log.max_bytes"],
        "a restart cannot read more again than the log holds".to_owned(),
    );
    unless(
        config.log.warm_age <= config.log.max_age,
        &["log.warm_age", "log.max_age"],
        "a restart cannot read further back than the log reaches".to_owned(),
    );
    unless(
        config.cold.cache_bytes <= config.cold.max_bytes,
        &["cold.cache_bytes", "cold.max_bytes"],
        "the cache is a part of what cold replay may hold".to_owned(),
    );
    unless(
        config.cold.max_bytes / 2 >= kafka.payload_max_bytes,
        &["cold.max_bytes", "kafka.payload_max_bytes"],
        format!("cold replay must hold at least two of the largest records, {} bytes", 2 * kafka.payload_max_bytes),
    );
    unless(
        config.fanout.mid_frame_max_bytes >= kafka.payload_max_bytes,
        &["fanout.mid_frame_max_bytes", "kafka.payload_max_bytes"],
        "the rest of one largest record must fit, or its reader is closed".to_owned(),
    );
    unless(
        config.fanout.inbound_max_bytes >= u64::from(config.client.message_max_bytes),
        &["fanout.inbound_max_bytes", "client.message_max_bytes"],
        "one message of the allowed size must fit".to_owned(),
    );
    unless(
        !config.replay.redis.is_on() || config.replay.redis.queue_bytes <= config.log.max_bytes / 4,
        &["replay.redis.queue_bytes", "log.max_bytes"],
        "what waits for Redis counts as memory of the log and may take a quarter of it, not more".to_owned(),
    );
    unless(
        config.client.ping_interval < config.client.idle_timeout,
        &["client.ping_interval", "client.idle_timeout"],
        "a client must be pinged before it counts as idle".to_owned(),
    );
    unless(
        config.dlq.topic != kafka.topic,
        &["dlq.topic", "kafka.topic"],
        format!("both are {:?}: dead letters would be read again as events", kafka.topic),
    );
    unless(
        config.dlq.queue_max_bytes >= 2 * u64::from(config.dlq.value_max_bytes),
        &["dlq.queue_max_bytes", "dlq.value_max_bytes"],
        "the queue must hold at least one letter, whose value grows by a third in base64".to_owned(),
    );
    unless(
        config.lag.stall_timeout >= config.lag.check_interval,
        &["lag.stall_timeout", "lag.check_interval"],
        "a stall cannot be noticed faster than lag is measured".to_owned(),
    );
    unless(
        !config.topics.check_at_start || !config.topics.declared.is_empty(),
        &["topics.check_at_start"],
        "no topic is declared: add a section such as [topics.NAME] with preset = \"recommended\"".to_owned(),
    );
    let service = SocketAddr::new(config.server.host, config.server.port);
    unless(
        !clash(service, config.admin.listen),
        &["server.host", "server.port", "admin.listen"],
        format!("clients ({service}) and operators ({}) need ports of their own", config.admin.listen),
    );
    let open = config.server.allow_unauthenticated;
    unless(
        open || service.ip().is_loopback(),
        &["server.host", "server.allow_unauthenticated"],
        format!(
            "there is no authentication yet, so listening on {} needs server.allow_unauthenticated = true",
            service.ip()
        ),
    );
    unless(
        open || config.admin.listen.ip().is_loopback(),
        &["admin.listen", "server.allow_unauthenticated"],
        format!(
            "there is no authentication yet, so listening on {} needs server.allow_unauthenticated = true",
            config.admin.listen
        ),
    );
    security(config, &mut unless);
    let streamed = config.topics.declared.iter().find(|declared| declared.name == kafka.topic);
    if let Some(declared) = streamed.filter(|declared| declared.partitions > kafka.partitions_max) {
        found.push(ConfigError::Topic {
            topic: declared.name.clone(),
            message: format!(
                "partitions = {} is more than kafka.partitions_max = {}: it could not be served",
                declared.partitions, kafka.partitions_max
            ),
        });
    }
    found
}

fn security(config: &Config, unless: &mut impl FnMut(bool, &[&'static str], String)) {
    let security = &config.kafka.security;
    let protocol = security.protocol;
    let sasl = protocol.uses_sasl();
    unless(
        sasl == security.sasl_mechanism.is_some(),
        &["kafka.security_protocol", "kafka.sasl_mechanism"],
        match sasl {
            true => {
                format!("{} needs a mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER", protocol.label())
            }
            false => format!("a mechanism needs sasl_plaintext or sasl_ssl; the protocol is {}", protocol.label()),
        },
    );
    let (user, password) = (security.sasl_username.is_some(), security.sasl_password.is_some());
    let named = security.sasl_mechanism.is_some_and(|mechanism| mechanism != SaslMechanism::OauthBearer);
    unless(
        user == password,
        &["kafka.sasl_username", "kafka.sasl_password"],
        "they come together or not at all".to_owned(),
    );
    unless(
        !(named && !user && !password),
        &["kafka.sasl_mechanism", "kafka.sasl_username", "kafka.sasl_password"],
        "this mechanism needs a user name and a password".to_owned(),
    );
    unless(
        security.sasl_oauthbearer_config.is_some() == (security.sasl_mechanism == Some(SaslMechanism::OauthBearer)),
        &["kafka.sasl_mechanism", "kafka.sasl_oauthbearer_config"],
        "OAUTHBEARER and kafka.sasl_oauthbearer_config come together or not at all".to_owned(),
    );
    let (certificate, key) = (&security.ssl_certificate_location, &security.ssl_key_location);
    unless(
        certificate.is_some() == key.is_some(),
        &["kafka.ssl_certificate_location", "kafka.ssl_key_location"],
        "they come together or not at all".to_owned(),
    );
    unless(
        key.is_some() || security.ssl_key_password.is_none(),
        &["kafka.ssl_key_password", "kafka.ssl_key_location"],
        "there is no key that this password could open".to_owned(),
    );
    let files = [
        ("kafka.ssl_ca_location", &security.ssl_ca_location),
        ("kafka.ssl_certificate_location", certificate),
        ("kafka.ssl_key_location", key),
    ];
    for (name, path) in files {
        let Some(path) = path else { continue };
        unless(
            protocol.uses_tls(),
            &[name, "kafka.security_protocol"],
            format!("files for TLS need ssl or sasl_ssl; the protocol is {}", protocol.label()),
        );
        let what = if name == "kafka.ssl_key_location" { "PRIVATE KEY-----" } else { "-----BEGIN CERTIFICATE-----" };
        match pem(path, what) {
            Ok(true) => {}
            Ok(false) => {
                unless(false, &[name], format!("{}: there is no {what:?} in it, as in PEM files", path.display()))
            }
            Err(error) => unless(false, &[name], format!("{}: {error}", path.display())),
        }
    }
}

/// What works and is probably not what was wanted.
pub(super) fn doubts(config: &Config) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut doubt = |applies: bool, keys: &'static str, message: &str| {
        if applies {
            found.push(Warning::Relation { keys, message: message.to_owned() });
        }
    };
    let security = &config.kafka.security;
    doubt(
        security.protocol == SecurityProtocol::SaslPlaintext && security.sasl_mechanism == Some(SaslMechanism::Plain),
        "kafka.security_protocol",
        "the password goes over the network in clear; sasl_ssl would hide it",
    );
    doubt(
        security.protocol.uses_tls() && !security.ssl_verify_hostname,
        "kafka.ssl_endpoint_algorithm",
        "brokers may carry any name; a stranger in between is not noticed",
    );
    doubt(
        !config.server.host.is_loopback(),
        "server.host",
        "there is no authentication yet: everybody who reaches this port reads the stream",
    );
    doubt(
        config.client.resume_partitions_max < config.kafka.partitions_max.min(1_024),
        "client.resume_partitions_max",
        "a topic may have more partitions than a resume may name; a full cursor would be refused",
    );
    found
}

/// Two listeners that cannot both be bound. Port 0 never clashes.
fn clash(left: SocketAddr, right: SocketAddr) -> bool {
    let everywhere = |address: IpAddr| address.is_unspecified();
    let overlap = left.ip() == right.ip() || everywhere(left.ip()) || everywhere(right.ip());
    left.port() != 0 && left.port() == right.port() && overlap
}

/// Whether the file holds this line. It is read, since only that shows that this process may.
fn pem(path: &Path, line: &str) -> std::io::Result<bool> {
    const BYTES_MAX: u64 = 16 << 20;
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes.windows(line.len()).any(|window| window == line.as_bytes()))
}
