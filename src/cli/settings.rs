//! Flags made from the configuration's table: every setting that is no secret is a flag, under the heading of its
//! section, with its default and its environment name.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, StringValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::table::{KEYS, Key, SECTIONS};
use crate::config::{ConfigError, ConfigErrors, Environment, Inputs, Kind, Loaded};
use crate::kafka::key::{self, Unusable};

/// What a newcomer needs; `-h` shows these, `--help` shows all.
const COMMON: [&str; 6] =
    ["kafka.brokers", "kafka.topic", "server.host", "server.port", "server.allow_unauthenticated", "admin.listen"];

/// The command with `--config`, a flag per setting, and its example.
pub fn with_flags(command: Command, example: &str) -> Command {
    command
        .arg(config_file())
        .args(KEYS.iter().filter(|key| !key.secret).map(flag))
        .after_help(format!("{example}\n\n--help shows every setting."))
        .after_long_help(format!("{example}\n\n{SECRETS}"))
}

/// What a command needs that speaks to Kafka and serves nobody.
const OF_KAFKA: [&str; 11] = [
    "kafka.brokers",
    "kafka.topic",
    "kafka.security_protocol",
    "kafka.sasl_mechanism",
    "kafka.sasl_username",
    "kafka.ssl_ca_location",
    "kafka.ssl_certificate_location",
    "kafka.ssl_key_location",
    "kafka.ssl_endpoint_algorithm",
    "kafka.broker_address_family",
    "kafka.payload_max_bytes",
];

/// The command with `--config` and the flags that say which Kafka and how to get in, as `serve` has them.
pub fn with_kafka_flags(command: Command) -> Command {
    with_kafka_flags_and(command, &[])
}

/// The same with some more settings, by full name.
pub fn with_kafka_flags_and(command: Command, more: &[&str]) -> Command {
    let wanted = |name: &str| OF_KAFKA.contains(&name) || more.contains(&name);
    let keys = KEYS.iter().filter(|key| wanted(&key.full_name()));
    command.arg(config_file()).args(keys.map(|key| match key.full_name().as_str() {
        "kafka.brokers" => flag(key).short('b'),
        "kafka.topic" => flag(key).short('t'),
        _ => flag(key),
    }))
}

/// `--output` of a command that prints one answer, to people or to scripts.
pub fn text_or_json(help: &'static str) -> Arg {
    Arg::new("output").long("output").value_name("FORM").value_parser(["text", "json"]).default_value("text").help(help)
}

/// What was said to [`text_or_json`].
pub fn wants_json(matches: &ArgMatches) -> bool {
    matches.get_one::<String>("output").is_some_and(|form| form == "json")
}

const SECRETS: &str = "Secrets (kafka.sasl_password, kafka.sasl_oauthbearer_config, kafka.ssl_key_password, \
     replay.redis.url) are no flags, since everybody on a host can read those: use the environment or the file.";

fn config_file() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(PathBufValueParser::new())
        .help("TOML file with [section] and key = value")
        .long_help(
            "TOML file with [section] and key = value. Flags win over the environment, which wins over the file.\n\
             [env: DASHSTREAM_CONFIG]",
        )
}

fn flag(key: &'static Key) -> Arg {
    let name = key.full_name();
    let heading = SECTIONS.iter().find(|(section, _)| *section == key.section).map_or("", |(_, title)| title);
    let names: Vec<_> = std::iter::once(key.environment_name())
        .chain(crate::config::predecessor::names_of(&name).map(str::to_owned))
        .collect();
    let long_help = format!(
        "{}\n[default: {}] [env: {}]\n[allowed: {}]",
        key.effect,
        key.default_shown(),
        names.join(" or "),
        key.kind.allowed()
    );
    let flag = Arg::new(name.clone())
        .long(key.flag_name())
        .value_name(key.kind.placeholder())
        .value_parser(StringValueParser::new())
        .allow_negative_numbers(true)
        .help_heading(heading)
        .help(format!("{} [default: {}]", first_sentence(key.effect), key.default_shown()))
        .long_help(long_help)
        .hide_short_help(!COMMON.contains(&name.as_str()));
    // What is written most often, in every command.
    let flag = match name.as_str() {
        "kafka.brokers" => flag.visible_alias("brokers"),
        "kafka.topic" => flag.visible_alias("topic"),
        _ => flag,
    };
    match key.kind {
        // Named alone it means true.
        Kind::Switch => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => flag.action(ArgAction::Set),
    }
}

/// Up to the first full stop that ends a sentence.
fn first_sentence(effect: &str) -> &str {
    effect.split_once(". ").map_or(effect.trim_end_matches('.'), |(first, _)| first)
}

/// The settings as they are meant, their files for TLS tried: what cannot work is refused before anybody is asked.
pub fn load(matches: &ArgMatches) -> Result<Loaded, ConfigErrors> {
    let loaded = crate::config::load(&inputs(matches))?;
    match key::try_files(&loaded.config.kafka.access()) {
        Ok(()) => Ok(loaded),
        Err(Unusable { keys, what: message }) => Err(ConfigErrors(vec![ConfigError::Relation { keys, message }])),
    }
}

/// What was written on the command line, beside the environment of this process.
pub fn inputs(matches: &ArgMatches) -> Inputs {
    let given = |key: &Key| {
        let name = key.full_name();
        // Not every command has every flag.
        let text = matches.try_get_one::<String>(&name).ok().flatten()?;
        Some((name, text.clone()))
    };
    Inputs {
        overrides: Vec::new(),
        flags: KEYS.iter().filter(|key| !key.secret).filter_map(given).collect(),
        file: matches.get_one::<PathBuf>("config").cloned(),
        environment: Environment::Process,
    }
}
