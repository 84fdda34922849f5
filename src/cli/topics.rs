//! `dashstream topics`: topics as declared in the configuration file, compared with the cluster and made so.

use std::io::Write;

use clap::{Arg, ArgMatches, Command};

use super::{CliError, settings};
use crate::config::{Config, Loaded};
use crate::topics::plan::TopicState;
use crate::topics::{Cluster, TopicsError, apply, plan, report};

const EXIT_CODES: &str = "Exit codes: 0 as declared or done, 1 the cluster did not answer or refused, 2 wrong arguments \
     or settings, 3 the cluster is not as declared.";

pub fn command() -> Command {
    let example = |name: &str| format!("Example:\n  dashstream topics {name} --config dashstream.toml\n\n{EXIT_CODES}");
    let of = |name: &'static str, about: &'static str, long: &'static str| {
        let command = Command::new(name).about(about).long_about(long).arg(output());
        settings::with_kafka_flags_and(command, &["dlq.topic", "topics.timeout"]).after_help(example(name))
    };
    Command::new("topics")
        .about("Declare topics in the configuration file, compare them with the cluster, make them so")
        .long_about(
            "Topics are declared in the configuration file:\n\n  \
             [topics.dashstream-quality]\n  preset = \"recommended\"\n  retention = \"14d\"\n\n\
             Presets: default (10 partitions, 1 copy, 7d), recommended (10, 3 copies of which 2 in sync, 7d), dev (3, 1, \
             1d), dlq (3, 1, 30d). Beside a preset, or without one: partitions, replication_factor, retention, \
             retention_bytes, segment_bytes, cleanup_policy, compression_type, min_insync_replicas, max_message_bytes.\n\n\
             Nothing is ever deleted or lowered.",
        )
        .after_help(format!(
            "Examples:\n  \
             dashstream topics plan --config dashstream.toml     what would be done\n  \
             dashstream topics apply --config dashstream.toml    do it\n  \
             dashstream topics check --config dashstream.toml    for CI: exit code 3 unless all is as declared\n  \
             dashstream topics describe dashstream-quality       what the cluster has\n\n{EXIT_CODES}"
        ))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(of(
            "plan",
            "Show how the cluster differs from what is declared",
            "Shows, topic by topic, what `apply` would do and what it leaves alone. Changes nothing; needs the rights \
             Describe and DescribeConfigs on the topics.",
        ))
        .subcommand(of(
            "apply",
            "Create topics, change settings, add partitions",
            "Creates what is missing, sets what differs, adds partitions, and describes the topics again until the \
             brokers say so. Never deletes a topic, takes partitions away, or lowers what is kept or protected: such a \
             difference is named and left. Needs the rights Create, AlterConfigs and Alter for what it does.",
        ))
        .subcommand(of(
            "check",
            "End with exit code 3 unless the cluster is as declared",
            "Prints what `plan` prints, and ends with exit code 3 if anything differs. With topics.check_at_start \
             `serve` does the same before it begins.",
        ))
        .subcommand(
            of(
                "describe",
                "Show topics as the cluster has them",
                "Shows the named topics; without a name those that are declared, kafka.topic and dlq.topic.",
            )
            .arg(Arg::new("topic").value_name("TOPIC").num_args(0..=100).help("Topics to show")),
        )
}

fn output() -> Arg {
    settings::text_or_json("text for people, json for scripts")
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let Some((name, matches)) = matches.subcommand() else { unreachable!("clap demands one of them") };
    let Loaded { config, .. } = settings::load(matches)?;
    let json = settings::wants_json(matches);
    if name == "describe" {
        return describe(&config, matches, json, output);
    }
    if config.topics.declared.is_empty() {
        return Err(TopicsError::NothingDeclared(config.kafka.topic).into());
    }
    let mut cluster = Cluster::new(&config)?;
    if name == "apply" {
        let applied = apply(&mut cluster, &config)?;
        print(output, json, || report::applied_json(&applied), || report::applied_text(&applied))?;
        return Ok(applied.verdict(config.topics.timeout)?);
    }
    let declared = &config.topics.declared;
    let plan = plan(declared, &cluster.observe(&plan::names(declared))?);
    print(output, json, || report::plan_json(&plan), || report::plan_text(&plan))?;
    match (plan.unseen(), plan.differing()) {
        (unseen @ 1.., _) => Err(TopicsError::Unseen(unseen).into()),
        (0, differing @ 1..) if name == "check" => Err(TopicsError::Drift(differing).into()),
        _ => Ok(()),
    }
}

fn describe(config: &Config, matches: &ArgMatches, json: bool, output: &mut dyn Write) -> Result<(), CliError> {
    let mut topics: Vec<String> = matches.get_many("topic").unwrap_or_default().cloned().collect();
    if topics.is_empty() {
        topics = plan::names(&config.topics.declared);
        topics.extend([config.kafka.topic.clone(), config.dlq.topic.clone()]);
    }
    topics.sort_unstable();
    topics.dedup();
    let state = Cluster::new(config)?.observe(&topics)?;
    print(output, json, || report::state_json(&state), || report::state_text(&state))?;
    match state.topics.values().filter(|topic| matches!(topic, TopicState::Unseen(_))).count() {
        0 => Ok(()),
        unseen => Err(TopicsError::Unseen(unseen).into()),
    }
}

fn print(
    output: &mut dyn Write,
    json: bool,
    as_json: impl FnOnce() -> serde_json::Value,
    as_text: impl FnOnce() -> String,
) -> Result<(), CliError> {
    match json {
        true => writeln!(output, "{:#}", as_json())?,
        false => write!(output, "{}", as_text())?,
    }
    output.flush()?;
    Ok(())
}
