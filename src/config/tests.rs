//! The promises of the configuration: who wins, what is refused and how, and that secrets stay secret.

use std::io::Write;
use std::path::PathBuf;

use super::table::{Fallback, KEYS, Key};
use super::*;

/// A file that is removed again.
pub(super) struct TestFile(pub(super) PathBuf);

impl TestFile {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dashstream-config-{}-{name}", std::process::id()));
        let mut file = std::fs::File::create(&path).expect("the temporary directory can be written");
        file.write_all(text.as_bytes()).expect("the temporary directory has room");
        TestFile(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("the path is UTF-8")
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn environment(variables: &[(&str, &str)]) -> Inputs {
    Inputs { environment: Environment::Given(pairs(variables)), ..Inputs::default() }
}

fn setting<'a>(loaded: &'a Loaded, name: &str) -> &'a Setting {
    loaded.settings.iter().find(|setting| setting.key.full_name() == name).expect("the key exists")
}

/// `value (source)` of one key, or every mistake, one per line.
fn outcome(inputs: &Inputs, name: &str) -> String {
    match load(inputs) {
        Ok(loaded) => {
            let setting = setting(&loaded, name);
            format!("{} ({})", setting.value.as_deref().unwrap_or("unset"), setting.source)
        }
        Err(errors) => errors.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

/// The settings are refused, with exactly one mistake, whose text contains every part.
pub(super) fn refused(inputs: &Inputs, parts: &[&str]) {
    let Err(errors) = load(inputs) else { panic!("accepted: {inputs:?}") };
    assert_eq!(errors.0.len(), 1, "{errors}");
    for part in parts {
        assert!(errors.to_string().contains(part), "{part:?} is missing in: {errors}");
    }
}

#[test]
fn defaults_are_those_of_the_design() {
    let config = load_with(&[]).expect("the defaults hold together").config;
    assert_eq!(config.log.max_bytes, 256 << 20);
    assert_eq!(config.log.max_age.as_secs(), 600);
    assert_eq!(config.log.warm_bytes, 128 << 20);
    assert_eq!(config.log.warm_age.as_secs(), 300);
    assert_eq!(config.kafka.queue_bytes, 128 << 20);
    assert_eq!(config.kafka.topic, "dashstream-quality");
    assert_eq!(config.kafka.payload_max_bytes, 10_485_760);
    assert_eq!(config.kafka.partitions_max, 1_024);
    assert_eq!(config.kafka.broker_address_family, AddressFamily::V4);
    assert_eq!(config.dlq.topic, "dashstream-quality-dlq");
    assert_eq!(config.dlq.mode, DlqMode::FailClosed);
    assert_eq!(config.server.max_connections, 10_000);
    assert!(config.server.host.is_loopback() && !config.server.allow_unauthenticated);
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(config.client.resume_grace.as_millis(), 500);
    assert_eq!(config.client.stall_timeout.as_secs(), 60);
    assert_eq!(config.fanout.flush.as_millis(), 5);
    assert_eq!(config.lag.stall_timeout.as_secs(), 30);
    assert!(config.kafka.group_id.starts_with("dashstream-") && config.kafka.group_id.len() > 11);
    assert!(config.server.shards >= 1);
}

#[test]
fn what_follows_from_another_setting_follows_it() {
    let check = |overrides: &[(&str, &str)], name: &str, expected: &str| {
        let inputs = Inputs { overrides: pairs(overrides), ..Inputs::default() };
        assert_eq!(outcome(&inputs, name), expected);
    };
    check(&[("kafka.topic", "agents")], "dlq.topic", "agents-dlq (default)");
    check(&[], "replay.redis.queue_bytes", "16MiB (default)");
    check(&[("log.max_bytes", "64MiB")], "replay.redis.queue_bytes", "8MiB (default)");
    check(&[("log.max_bytes", "1GiB")], "log.warm_bytes", "512MiB (default)");
    check(&[("log.max_age", "1h")], "log.warm_age", "30m (default)");
    check(&[("lag.check_interval", "60")], "lag.stall_timeout", "3m (default)");
    check(&[("kafka.brokers", "kafka.example:9092")], "kafka.broker_address_family", "any (default)");
    check(&[("kafka.brokers", "kafka:1,127.0.0.1:2")], "kafka.broker_address_family", "v4 (default)");
    check(&[("log.warm_bytes", "0")], "log.warm_bytes", "0 (command)");
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let file = TestFile::new("precedence.toml", "[kafka]\ntopic = \"of-the-file\"\n[fanout]\nflush_ms = 7\n");
    let mut inputs = Inputs { file: Some(file.0.clone()), ..Inputs::default() };
    let from_file = format!("(file {})", file.name());
    assert_eq!(outcome(&Inputs::default(), "kafka.topic"), "dashstream-quality (default)");
    assert_eq!(outcome(&inputs, "kafka.topic"), format!("of-the-file {from_file}"));
    assert_eq!(outcome(&inputs, "fanout.flush_ms"), format!("7ms {from_file}"));
    inputs.environment = Environment::Given(pairs(&[("KAFKA_TOPIC", "of-the-predecessor")]));
    assert_eq!(outcome(&inputs, "kafka.topic"), "of-the-predecessor (environment KAFKA_TOPIC)");
    inputs.environment =
        Environment::Given(pairs(&[("KAFKA_TOPIC", "old"), ("DASHSTREAM_KAFKA_TOPIC", "of-the-environment")]));
    assert_eq!(outcome(&inputs, "kafka.topic"), "of-the-environment (environment DASHSTREAM_KAFKA_TOPIC)");
    inputs.flags = pairs(&[("kafka.topic", "of-the-flag")]);
    assert_eq!(outcome(&inputs, "kafka.topic"), "of-the-flag (flag --kafka-topic)");
    inputs.overrides = pairs(&[("kafka.topic", "of-the-command")]);
    assert_eq!(outcome(&inputs, "kafka.topic"), "of-the-command (command)");
    assert_eq!(outcome(&inputs, "fanout.flush_ms"), format!("7ms {from_file}"), "other keys are unaffected");
}

#[test]
fn the_environment_can_name_the_file_and_a_flag_can_name_another() {
    let named = TestFile::new("named.toml", "[kafka]\ntopic = \"named\"\n");
    let other = TestFile::new("other.toml", "[kafka]\ntopic = \"other\"\n");
    let mut inputs = environment(&[("DASHSTREAM_CONFIG", named.name())]);
    assert_eq!(outcome(&inputs, "kafka.topic"), format!("named (file {})", named.name()));
    inputs.file = Some(other.0.clone());
    assert_eq!(outcome(&inputs, "kafka.topic"), format!("other (file {})", other.name()));
    assert_eq!(outcome(&environment(&[("DASHSTREAM_CONFIG", "")]), "kafka.topic"), "dashstream-quality (default)");
}

#[test]
fn every_key_can_be_set_from_every_source() {
    for key in &KEYS {
        let text = sample(key);
        let name = key.full_name();
        let check = |inputs: &Inputs, source: &str| {
            // Relations may refuse a sample; that the key took it is seen by the absence of a refusal of the value.
            match load(inputs) {
                Ok(loaded) => {
                    let setting = setting(&loaded, &name);
                    assert!(setting.source.to_string().starts_with(source), "{setting:?}");
                }
                Err(errors) => {
                    let relations = errors.0.iter().all(|error| matches!(error, ConfigError::Relation { .. }));
                    assert!(relations, "{name}: {errors}");
                }
            }
        };
        check(&Inputs { flags: pairs(&[(&name, &text)]), ..Inputs::default() }, "flag");
        check(&environment(&[(&key.environment_name(), &text)]), "environment");
        let file = TestFile::new("each.toml", &format!("[{}]\n{} = {:?}\n", key.section, key.name, text));
        check(&Inputs { file: Some(file.0.clone()), ..Inputs::default() }, "file");
    }
}

fn sample(key: &Key) -> String {
    match key.full_name().as_str() {
        "replay.redis.url" => return "redis://127.0.0.1:6379".to_owned(),
        "kafka.sasl_oauthbearer_config" => return "principal=sample".to_owned(),
        _ => {}
    }
    if key.full_name() == "costs.prices" {
        return "model=1/2".to_owned();
    }
    match (key.fallback, key.kind) {
        (Fallback::Is(text), _) if !text.is_empty() => text.to_owned(),
        (_, Kind::Choice([(word, _), ..])) => (*word).to_owned(),
        (_, Kind::Number { min, .. } | Kind::Size { min, .. }) => min.to_string(),
        (_, Kind::Time { .. }) => "10s".to_owned(),
        (_, Kind::Switch) => "true".to_owned(),
        (_, Kind::Ip | Kind::IpList { .. }) => "127.0.0.1".to_owned(),
        (_, Kind::Socket) => "127.0.0.1:1".to_owned(),
        _ => "sample".to_owned(),
    }
}

#[test]
fn every_key_refuses_what_it_cannot_mean_and_says_what_it_can() {
    let long = "x".repeat(5_000);
    for key in &KEYS {
        let name = key.full_name();
        let bad: &[&str] = match key.kind {
            Kind::Text { .. } => &["", "two\nlines", &long],
            Kind::Choice(_) => &["", "neither"],
            Kind::Number { .. } => &["", "-1", "1.5", "many", "99999999999999999999"],
            Kind::Size { .. } => &["", "-1", "1KB", "lots", "99999999999999999999"],
            Kind::Time { .. } => &["", "-1s", "1 fortnight", "soon", "99999999999999999999"],
            Kind::Switch => &["", "perhaps"],
            Kind::Ip => &["", "example.org", "1.2.3.4.5"],
            Kind::Socket => &["", "127.0.0.1", "127.0.0.1:70000"],
            Kind::IpList { .. } => &["10.0.0.0/8", "somewhere"],
            Kind::Path => &[""],
        };
        for text in bad {
            let shown = if key.secret { "***" } else { text.get(..20).unwrap_or(text) };
            let shown = shown.lines().next().unwrap_or_default();
            let inputs = Inputs { flags: pairs(&[(&name, text)]), ..Inputs::default() };
            refused(&inputs, &[&name, shown, "--", &key.kind.allowed()]);
        }
    }
}

#[test]
fn empty_variables_count_as_not_set() {
    let inputs = environment(&[
        ("KAFKA_TOPIC", ""),
        ("DASHSTREAM_KAFKA_TOPIC", "  "),
        ("KAFKA_SSL_ENDPOINT_ALGORITHM", ""),
        ("REDIS_URL", ""),
    ]);
    let loaded = load(&inputs).expect("nothing is set");
    assert_eq!(setting(&loaded, "kafka.topic").source, Source::Default);
    assert!(loaded.config.kafka.security.ssl_verify_hostname);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn every_name_of_the_predecessor_is_obeyed_or_warned_about() {
    for (name, fate) in predecessor::NAMES {
        match fate {
            predecessor::Fate::Sets(key) => {
                let text = sample(table::find(key).expect("the key exists"));
                let source = Source::Environment(name.to_owned());
                match load(&environment(&[(name, &text)])) {
                    Ok(loaded) => assert_eq!(setting(&loaded, key).source, source, "{name}"),
                    Err(errors) => assert!(
                        errors.0.iter().all(|error| matches!(error, ConfigError::Relation { .. })),
                        "{name}: {errors}"
                    ),
                }
            }
            predecessor::Fate::Retired(instead) => {
                let loaded = load(&environment(&[(name, "whatever it was")])).expect("a retired name stops nothing");
                assert_eq!(loaded.warnings, [Warning::Retired { name: name.to_owned(), instead }]);
                assert!(loaded.warnings[0].to_string().contains(name));
            }
            predecessor::Fate::BuildTime => {
                let loaded = load(&environment(&[(name, "abc")])).expect("not ours to judge at run time");
                assert_eq!(loaded.warnings, []);
            }
        }
    }
}

#[test]
fn values_of_the_predecessor_keep_their_meaning() {
    let check = |name: &str, text: &str, key: &str, expected: &str| {
        assert_eq!(outcome(&environment(&[(name, text)]), key), format!("{expected} (environment {name})"));
    };
    check("KAFKA_LAG_CHECK_INTERVAL_SECS", "15", "lag.check_interval", "15s");
    check("DLQ_SEND_TIMEOUT_SECS", "7", "dlq.send_timeout", "7s");
    check("WEBSOCKET_MAX_PAYLOAD_BYTES", "10485761", "kafka.payload_max_bytes", "10485761");
    check("WEBSOCKET_MAX_CONNECTIONS_PER_IP", "10", "server.max_connections_per_ip", "10");
    check("WEBSOCKET_TRUSTED_PROXY_IPS", "10.0.0.1, 10.0.0.2", "server.trusted_proxy_ips", "10.0.0.1,10.0.0.2");
    check("KAFKA_AUTO_OFFSET_RESET", "Latest", "kafka.auto_offset_reset", "latest");
    check("KAFKA_AUTO_OFFSET_RESET", "beginning", "kafka.auto_offset_reset", "earliest");
    check("KAFKA_BROKERS", "localhost:9092", "kafka.brokers", "localhost:9092");
    check("WEBSOCKET_HOST", "localhost", "server.host", "127.0.0.1");
    check("RUST_LOG", "debug", "logging.filter", "debug");
    check("REDIS_MESSAGE_TTL_SECS", "7200", "replay.redis.ttl", "2h");
    refused(
        &environment(&[("KAFKA_LAG_CHECK_INTERVAL_SECS", "0")]),
        &["lag.check_interval", "\"0\"", "environment KAFKA_LAG_CHECK_INTERVAL_SECS", "1s"],
    );
    refused(&environment(&[("KAFKA_ON_DECODE_ERROR", "stop")]), &["kafka.on_decode_error", "stop", "skip | pause"]);
    refused(&environment(&[("KAFKA_SASL_MECHANISM", "GSSAPI")]), &["kafka.sasl_mechanism", "GSSAPI", "not built in"]);
}

#[test]
fn two_names_for_one_setting_are_fine_while_they_agree() {
    let both = |old: &str, new: &str| {
        load(&environment(&[("KAFKA_TOPIC", old), ("DASHSTREAM_KAFKA_TOPIC", new)])).expect("both are allowed").warnings
    };
    assert_eq!(both("same", "same"), []);
    let shadowed = Warning::Shadowed { used: "DASHSTREAM_KAFKA_TOPIC".to_owned(), ignored: "KAFKA_TOPIC".to_owned() };
    assert_eq!(both("old", "new"), [shadowed]);
}

#[test]
fn unknown_names_are_mistakes_that_suggest_the_nearest() {
    refused(
        &environment(&[("DASHSTREAM_KAFKA_TOPICS", "some value")]),
        &["DASHSTREAM_KAFKA_TOPICS", "some value", "did you mean DASHSTREAM_KAFKA_TOPIC?", "DASHSTREAM_KAFKA_BROKERS"],
    );
    refused(
        &environment(&[("DASHSTREAM_LOG_XYZZY", "x")]),
        &["DASHSTREAM_LOG_XYZZY", "allowed", "DASHSTREAM_LOG_MAX_BYTES"],
    );
    let loaded =
        load(&environment(&[("DASHSTREAM_SERVR_PORT", "1"), ("DASHSTREAM_RELEASE", "7")])).expect("may be others'");
    let texts: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("DASHSTREAM_SERVER_PORT")), "{texts:?}");
    assert!(
        load(&environment(&[("PATH", "x"), ("KAFKA_HOME", "x"), ("KAFKA_TENANT_ID", "t")]))
            .expect("not ours")
            .warnings
            .is_empty()
    );
    refused(
        &Inputs { overrides: pairs(&[("kafka.topik", "x")]), ..Inputs::default() },
        &["kafka.topik", "kafka.topic"],
    );
}

#[test]
fn files_with_mistakes_are_refused_with_the_place() {
    let check = |text: &str, parts: &[&str]| {
        let file = TestFile::new("bad.toml", text);
        refused(&Inputs { file: Some(file.0.clone()), ..Inputs::default() }, parts);
    };
    check(
        "[kafka]\ntopik = \"some value\"\n",
        &["kafka.topik", "some value", "did you mean kafka.topic?", "bad.toml", "brokers, topic"],
    );
    check("[kafak]\ntopic = \"x\"\n", &["section", "kafak", "did you mean kafka?", "fanout"]);
    check("topic = \"x\"\n", &["topic", "outside of a section"]);
    check("kafka = 3\n", &["kafka", "outside of a section"]);
    check("[kafka]\ntopic = 1.5\n", &["kafka.topic", "float", "bad.toml"]);
    check("[kafka]\nbrokers = [1, 2]\n", &["kafka.brokers", "array"]);
    check("[kafka.deep]\ner = 1\n", &["kafka.deep", "no key"]);
    check("[replay.redsi]\nttl = 1\n", &["section", "replay.redsi", "did you mean replay.redis?"]);
    check("[replay]\nttl = 1\n", &["replay.ttl", "outside of a section"]);
    check("replay = 1\n", &["replay", "outside of a section"]);
    check("[replay.redis]\nttl_ = 1\n", &["replay.redis.ttl_", "did you mean replay.redis.ttl?", "read_legacy"]);
    check("[kafka]\ntopic = \"a\"\ntopic = \"b\"\n", &["bad.toml, line 3", "duplicate"]);
    check("\n\n[kafka\n", &["bad.toml, line 3"]);
    check("[log]\nmax_bytes = -5\n", &["log.max_bytes", "\"-5\"", "4MiB"]);
    check(&format!("[kafka]\n# {}", "x".repeat(1 << 20)), &["larger than"]);
    let missing = PathBuf::from("does/not/exist.toml");
    refused(&Inputs { file: Some(missing), ..Inputs::default() }, &["does/not/exist.toml", "No such file"]);
}

#[test]
fn a_file_may_use_lists_numbers_switches_and_units() {
    let text = "[kafka]\nbrokers = [\"a:1\", \"b:2\"]\nqueue_bytes = \"64MiB\"\n[server]\nport = 0\n\
                allow_unauthenticated = true\ntrusted_proxy_ips = []\n[client]\nstall_timeout = 90\n";
    let file = TestFile::new("good.toml", text);
    let config = load(&Inputs { file: Some(file.0.clone()), ..Inputs::default() }).expect("all is allowed").config;
    assert_eq!(config.kafka.brokers, "a:1,b:2");
    assert_eq!(config.kafka.queue_bytes, 64 << 20);
    assert_eq!(config.server.port, 0);
    assert!(config.server.allow_unauthenticated && config.server.trusted_proxy_ips.is_empty());
    assert_eq!(config.client.stall_timeout.as_secs(), 90);
}

#[test]
fn what_is_printed_can_be_loaded_again() {
    let overrides = [("kafka.topic", "agents"), ("server.trusted_proxy_ips", "10.0.0.1"), ("log.max_age", "90s")];
    let first = load_with(&overrides).expect("all is allowed");
    let file = TestFile::new("printed.toml", &first.to_text());
    let second = load(&Inputs { file: Some(file.0.clone()), ..Inputs::default() }).expect("it was printed by us");
    assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config));
}

/// As far as settings look into such a file.
const PEM: &str = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n";

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    let check = |overrides: &[(&str, &str)], parts: &[&str]| {
        refused(&Inputs { overrides: pairs(overrides), ..Inputs::default() }, parts);
    };
    let key = TestFile::new("key.pem", PEM);
    let empty = TestFile::new("empty.pem", "");
    let tls = ("kafka.security_protocol", "ssl");
    let sasl = ("kafka.security_protocol", "sasl_ssl");
    let user = ("kafka.sasl_username", "u");
    let password = ("kafka.sasl_password", "p");
    check(&[sasl], &["kafka.sasl_mechanism", "needs a mechanism"]);
    check(&[("kafka.sasl_mechanism", "PLAIN"), user, password], &["needs sasl_plaintext or sasl_ssl", "plaintext"]);
    check(&[sasl, ("kafka.sasl_mechanism", "PLAIN"), user], &["kafka.sasl_password", "together"]);
    check(&[sasl, ("kafka.sasl_mechanism", "PLAIN"), password], &["kafka.sasl_username", "together"]);
    check(&[sasl, ("kafka.sasl_mechanism", "SCRAM-SHA-512")], &["user name and a password"]);
    check(&[sasl, ("kafka.sasl_mechanism", "OAUTHBEARER")], &["kafka.sasl_oauthbearer_config"]);
    check(&[("kafka.sasl_oauthbearer_config", "principal=x")], &["kafka.sasl_mechanism"]);
    check(&[tls, ("kafka.ssl_key_location", key.name())], &["kafka.ssl_certificate_location", "together"]);
    check(&[tls, ("kafka.ssl_certificate_location", key.name())], &["kafka.ssl_key_location", "together"]);
    check(&[("kafka.ssl_ca_location", key.name())], &["kafka.ssl_ca_location", "need ssl or sasl_ssl"]);
    check(&[tls, ("kafka.ssl_ca_location", "does/not/exist.pem")], &["kafka.ssl_ca_location", "No such file"]);
    check(&[tls, ("kafka.ssl_ca_location", ".")], &["kafka.ssl_ca_location", "not a file"]);
    check(
        &[tls, ("kafka.ssl_ca_location", empty.name())],
        &["kafka.ssl_ca_location", "empty.pem", "BEGIN CERTIFICATE"],
    );
    check(
        &[tls, ("kafka.ssl_certificate_location", key.name()), ("kafka.ssl_key_location", empty.name())],
        &["kafka.ssl_key_location", "PRIVATE KEY"],
    );
    let token = ("kafka.sasl_oauthbearer_config", "principle=x");
    check(
        &[sasl, ("kafka.sasl_mechanism", "OAUTHBEARER"), token],
        &["kafka.sasl_oauthbearer_config", "principal=NAME"],
    );
    check(&[("topics.check_at_start", "true")], &["topics.check_at_start", "[topics.NAME]"]);
    check(&[("kafka.ssl_key_password", "p")], &["kafka.ssl_key_password", "no key"]);
    check(&[("server.host", "0.0.0.0")], &["server.host", "0.0.0.0", "server.allow_unauthenticated = true"]);
    check(&[("server.host", "::")], &["server.host", "server.allow_unauthenticated"]);
    check(&[("admin.listen", "10.0.0.1:9464")], &["admin.listen", "server.allow_unauthenticated"]);
    check(&[("admin.listen", "127.0.0.1:3002")], &["server.port", "admin.listen", "ports of their own"]);
    check(
        &[("server.allow_unauthenticated", "true"), ("admin.listen", "0.0.0.0:3002")],
        &["server.port", "admin.listen"],
    );
    check(&[("log.warm_bytes", "257MiB")], &["log.warm_bytes", "log.max_bytes"]);
    check(&[("log.warm_age", "11m")], &["log.warm_age", "log.max_age"]);
    check(&[("log.max_bytes", "16MiB")], &["log.max_bytes", "kafka.payload_max_bytes"]);
    check(&[("dlq.topic", "dashstream-quality")], &["dlq.topic", "kafka.topic", "read again"]);
    check(&[("dlq.queue_max_bytes", "1MiB"), ("dlq.value_max_bytes", "600KiB")], &["dlq.queue_max_bytes"]);
    check(&[("kafka.queue_bytes", "1MiB")], &["kafka.queue_bytes", "kafka.partitions_max", "16384"]);
    check(&[("fanout.mid_frame_max_bytes", "1MiB")], &["fanout.mid_frame_max_bytes"]);
    check(&[("fanout.inbound_max_bytes", "1MiB"), ("client.message_max_bytes", "2MiB")], &["fanout.inbound_max_bytes"]);
    check(
        &[("replay.redis.url", "redis://x"), ("replay.redis.queue_bytes", "65MiB")],
        &["replay.redis.queue_bytes", "log.max_bytes", "a quarter"],
    );
    check(&[("client.ping_interval", "60s")], &["client.ping_interval", "client.idle_timeout"]);
    check(&[("lag.stall_timeout", "5s")], &["lag.stall_timeout", "lag.check_interval"]);
}

#[test]
fn settings_that_fit_together_are_accepted_with_their_doubts() {
    let check = |overrides: &[(&str, &str)], doubts: &[&str]| {
        let loaded = load_with(overrides).unwrap_or_else(|errors| panic!("{errors}"));
        let texts: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), doubts.len(), "{texts:?}");
        for (text, doubt) in texts.iter().zip(doubts) {
            assert!(text.contains(doubt), "{doubt:?} is missing in {text:?}");
        }
    };
    let file = TestFile::new("some.pem", PEM);
    let plain = [("kafka.sasl_mechanism", "PLAIN"), ("kafka.sasl_username", "u"), ("kafka.sasl_password", "p")];
    check(&[&plain[..], &[("kafka.security_protocol", "sasl_ssl")]].concat(), &[]);
    check(&[&plain[..], &[("kafka.security_protocol", "sasl_plaintext")]].concat(), &["in clear"]);
    check(&[("kafka.security_protocol", "ssl"), ("kafka.ssl_endpoint_algorithm", "none")], &["any name"]);
    check(
        &[
            ("kafka.security_protocol", "ssl"),
            ("kafka.ssl_ca_location", file.name()),
            ("kafka.ssl_certificate_location", file.name()),
            ("kafka.ssl_key_location", file.name()),
            ("kafka.ssl_key_password", "p"),
        ],
        &[],
    );
    check(
        &[
            ("kafka.security_protocol", "sasl_plaintext"),
            ("kafka.sasl_mechanism", "OAUTHBEARER"),
            ("kafka.sasl_oauthbearer_config", "principal=tester"),
        ],
        &[],
    );
    check(&[("server.host", "0.0.0.0"), ("server.allow_unauthenticated", "1")], &["everybody"]);
    check(&[("server.host", "::1"), ("server.port", "0"), ("admin.listen", "[::1]:0")], &[]);
    check(&[("client.resume_partitions_max", "8")], &["full cursor"]);
}

#[test]
fn all_mistakes_are_reported_together_and_none_twice() {
    let inputs = Inputs {
        flags: pairs(&[("log.warm_bytes", "a lot"), ("kafka.sasl_mechanism", "GSSAPI")]),
        environment: Environment::Given(pairs(&[("DASHSTREAM_KAFKA_TOPIK", "x"), ("WEBSOCKET_HOST", "0.0.0.0")])),
        ..Inputs::default()
    };
    let errors = load(&inputs).expect_err("four mistakes");
    assert_eq!(errors.0.len(), 4, "{errors}");
    let text = errors.to_string();
    for part in ["4 mistakes", "log.warm_bytes", "GSSAPI", "DASHSTREAM_KAFKA_TOPIK", "server.host"] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[test]
fn secrets_never_leave() {
    let hidden = "correct horse battery staple";
    let key = TestFile::new("secret.pem", PEM);
    let inputs = environment(&[
        ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_SASL_USERNAME", "somebody"),
        ("KAFKA_SASL_PASSWORD", hidden),
        ("KAFKA_SSL_KEY_PASSWORD", hidden),
        ("KAFKA_SSL_KEY_LOCATION", key.name()),
        ("KAFKA_SSL_CERTIFICATE_LOCATION", key.name()),
    ]);
    let loaded = load(&inputs).expect("all is allowed");
    let password = loaded.config.kafka.security.sasl_password.as_ref().map(|secret| secret.0.as_str());
    assert_eq!(password, Some(hidden), "it does arrive where it is used");
    assert_eq!(setting(&loaded, "kafka.sasl_password").value.as_deref(), Some("***"));
    assert_eq!(setting(&loaded, "kafka.sasl_oauthbearer_config").value, None);
    for (shown, mask) in [
        (loaded.to_text(), "# sasl_password is set"),
        (loaded.to_json(None).to_string(), "***"),
        (format!("{loaded:?}"), "***"),
    ] {
        assert!(!shown.contains("horse"), "{shown}");
        assert!(shown.contains(mask), "that one is set is shown: {shown}");
    }

    // Neither do those that are refused, wherever they stand and however they are misspelt.
    for name in ["DASHSTREAM_KAFKA_SASL_PASSWROD", "DASHSTREAM_KAFKA_SASL_PW", "DASHSTREAM_KAFKA_PASSWORD"] {
        let refused = load(&environment(&[(name, hidden)])).expect_err("there is no such name");
        assert!(!format!("{refused} {refused:?}").contains("horse"), "{refused}");
        assert!(refused.to_string().contains("***"), "{refused}");
    }
    let twice = format!("{hidden}\n{hidden}");
    let refused = load(&environment(&[("KAFKA_SASL_PASSWORD", &twice)])).expect_err("it has two lines");
    assert!(!format!("{refused} {refused:?}").contains("horse"), "{refused}");
    for line in [
        format!("sasl_password = \"{hidden}"),
        format!("sasl_password = {hidden}"),
        format!("sasl_password = [[\"{hidden}\"]]"),
    ] {
        let file = TestFile::new("secret.toml", &format!("[kafka]\n{line}\n"));
        let refused = load(&Inputs { file: Some(file.0.clone()), ..Inputs::default() }).expect_err("it is broken");
        assert!(!format!("{refused} {refused:?}").contains("horse"), "{refused}");
    }
}

/// The password of Redis stands inside its URL, and only there.
#[test]
fn the_url_of_redis_is_a_secret() {
    let url = "redis://:horse@cache.example:6379";
    for name in ["REDIS_URL", "DASHSTREAM_REPLAY_REDIS_URL"] {
        let loaded = load(&environment(&[(name, url)])).expect("allowed");
        assert_eq!(loaded.config.replay.redis.url.as_ref().map(|secret| secret.0.as_str()), Some(url));
        assert_eq!(setting(&loaded, "replay.redis.url").value.as_deref(), Some("***"));
        let shown = format!("{} {} {loaded:?}", loaded.to_text(), loaded.to_json(None));
        assert!(!shown.contains("horse") && shown.contains("# url is set"), "{shown}");
    }
    for (name, text) in [
        ("DASHSTREAM_REPLAY_REDIS_URL", "http://:horse@cache.example"),
        ("REDIS_URL", "redis://:horse@"),
        ("DASHSTREAM_REPLAY_REDIS_URI", url),
        ("DASHSTREAM_REPLAY_URL", url),
    ] {
        let refused = load(&environment(&[(name, text)])).expect_err("not allowed");
        assert!(!format!("{refused} {refused:?}").contains("horse"), "{refused}");
    }
    let file = TestFile::new("redis.toml", &format!("[replay.redis]\nurl = \"{url}\"\nttl = \"30m\"\n"));
    let loaded = load(&Inputs { file: Some(file.0.clone()), ..Inputs::default() }).expect("allowed");
    assert_eq!(loaded.config.replay.redis.ttl.as_secs(), 1_800);
    assert!(loaded.config.replay.redis.is_on() && !load_with(&[]).expect("defaults").config.replay.redis.is_on());
}

#[test]
fn a_secret_in_a_file_that_others_read_is_doubted() {
    use std::os::unix::fs::PermissionsExt;
    let text = "[kafka]\nsecurity_protocol = \"sasl_ssl\"\nsasl_mechanism = \"PLAIN\"\nsasl_username = \"u\"\nsasl_password = \" p \"\n";
    let file = TestFile::new("mode.toml", text);
    let warnings = |mode: u32| {
        std::fs::set_permissions(&file.0, std::fs::Permissions::from_mode(mode)).expect("the file is ours");
        let loaded = load(&Inputs { file: Some(file.0.clone()), ..Inputs::default() }).expect("all is allowed");
        let password = loaded.config.kafka.security.sasl_password.clone().map(|secret| secret.0);
        assert_eq!(password.as_deref(), Some(" p "), "space may belong to a secret");
        loaded.warnings
    };
    assert_eq!(warnings(0o600), []);
    assert_eq!(warnings(0o644), [Warning::ReadableSecrets { path: file.0.clone() }]);
}

#[test]
fn json_says_where_every_value_came_from() {
    let json =
        load(&environment(&[("KAFKA_TOPIC", "agents"), ("REPLAY_MAX_TOTAL", "9")])).expect("allowed").to_json(None);
    let settings = json["settings"].as_array().expect("a list");
    assert_eq!(settings.len(), KEYS.len());
    let topic = settings.iter().find(|setting| setting["key"] == "kafka.topic").expect("the key exists");
    assert_eq!(
        *topic,
        serde_json::json!({"key": "kafka.topic", "value": "agents", "source": "environment",
            "source_name": "KAFKA_TOPIC", "secret": false})
    );
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(1));
    assert!(json["memory"][0]["total_bytes"].as_u64() > Some(256 << 20));
}
