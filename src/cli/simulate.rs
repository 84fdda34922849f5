//! `dashstream simulate`: the demo's made-up agent runs, into any cluster.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use rdkafka::error::RDKafkaErrorCode;
use serde_json::json;
use thiserror::Error;

use super::stop::Stop;
use super::{CliError, settings};
use crate::config::Loaded;
use crate::demo::any_seed;
use crate::demo::feeder::{FeedError, Feeder, FeederOptions};
use crate::kafka::client::{Purpose, client_config};
use crate::topics::{Cluster, TopicsError};

/// How often it is looked whether it is over.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, Error)]
pub enum SimulateError {
    #[error(transparent)]
    Topics(#[from] TopicsError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// Kafka refused them, or did not answer in time.
    #[error("{failed} records were not taken by Kafka: {why}")]
    NotAll { failed: u64, why: String },
    /// Heals by giving the right.
    #[error("{0}")]
    NotAllowed(String),
}

impl SimulateError {
    /// 1 failed on the way, 2 wrong settings, or the topic is not there.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Topics(error) => error.exit_code(),
            Self::Feed(_) | Self::NotAll { .. } | Self::NotAllowed(_) => 1,
        }
    }
}

pub fn command() -> Command {
    let command = Command::new("simulate")
        .about("Send made-up agent runs to a cluster")
        .long_about(
            "Sends believable agent runs, the demo's, to kafka.topic of any cluster: graph and nodes, LLM tokens, tool \
             calls, state diffs, checkpoints, errors, quality metrics. Good for a first look at a new installation, \
             and for load. Ctrl-C ends it. The topic must exist.",
        )
        .arg(
            Arg::new("rate")
                .long("rate")
                .value_name("EVENTS/S")
                .value_parser(value_parser!(u32).range(1..=200_000))
                .default_value("200")
                .help("Events per second, 1 to 200000"),
        )
        .arg(
            Arg::new("seconds")
                .long("seconds")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..=31_536_000))
                .help("End after so long; without it, with Ctrl-C"),
        )
        .arg(
            Arg::new("seed")
                .long("seed")
                .value_name("NUMBER")
                .value_parser(value_parser!(u64))
                .help("Makes the same runs again; without it they differ each time"),
        )
        .arg(
            Arg::new("poison")
                .long("poison")
                .action(ArgAction::SetTrue)
                .help("Make a few records that cannot be decoded, as the demo does"),
        )
        .arg(
            settings::text_or_json("How what was sent is printed in the end: text for people, json for scripts")
                .short('o'),
        );
    settings::with_kafka_flags(command).after_help(
        "Examples:\n  \
         dashstream simulate --brokers kafka-1:9092 --topic agents-test --rate 1000\n  \
         dashstream simulate --rate 20000 --seconds 60 --seed 7\n\n\
         Exit codes: 0 everything is on the topic, 1 it failed on the way, 2 wrong arguments or settings, or the topic \
         is not there.",
    )
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let Loaded { config, .. } = settings::load(matches)?;
    let topic = config.kafka.topic.clone();
    let mut cluster = Cluster::new(&config).map_err(SimulateError::from)?;
    let partitions = cluster.partitions_of(&topic).map_err(SimulateError::from)?;
    // Until here a signal ends it at once: nothing was sent yet.
    let stop = Stop::on_signals()?;
    let rate = matches.get_one("rate").copied().unwrap_or(200);
    let seed = matches.get_one("seed").copied().unwrap_or_else(any_seed);
    let feeder = Feeder::start(FeederOptions {
        client: client_config(&config.kafka, Purpose::Producer),
        topic: topic.clone(),
        partitions,
        rate,
        seed,
        poison: matches.get_flag("poison"),
        ahead: None,
    })
    .map_err(SimulateError::from)?;
    let end = matches.get_one::<u64>("seconds").map(|seconds| Instant::now() + Duration::from_secs(*seconds));
    let json = settings::wants_json(matches);
    if !json {
        writeln!(
            output,
            "Sending {rate} events/s to {topic:?}, {partitions} partitions; `--seed {seed}` makes the same \
             runs again. Ctrl-C ends it."
        )?;
        output.flush()?;
    }
    let denied = || feeder.progress.first_failure.get().is_some_and(may_not_write);
    while !stop.is_asked() && !feeder.has_ended() && !denied() && end.is_none_or(|end| Instant::now() < end) {
        stop.wait(LOOK);
    }
    let progress = feeder.progress.clone();
    let fed = feeder.stop();
    let counts = [&progress.events, &progress.records, &progress.acknowledged, &progress.failed];
    let [events, records, acknowledged, failed] = counts.map(|count| count.load(std::sync::atomic::Ordering::Acquire));
    if json {
        let counts = json!({
            "events": events, "records": records, "acknowledged": acknowledged, "failed": failed, "seed": seed,
        });
        writeln!(output, "{counts}")?;
    } else {
        writeln!(output, "{events} events in {records} records: {acknowledged} acknowledged, {failed} failed")?;
    }
    output.flush()?;
    match (failed, progress.given_up.get().or(progress.first_failure.get())) {
        (_, Some(code)) if may_not_write(code) => {
            Err(SimulateError::NotAllowed(cluster.not_allowed_to_write(&topic)).into())
        }
        (1.., code) => {
            let why = code.map_or_else(String::new, ToString::to_string);
            Err(SimulateError::NotAll { failed, why }.into())
        }
        (0, _) => Ok(fed.map_err(SimulateError::from)?),
    }
}

/// Rights on the cluster are asked for where a topic's would do: idempotence needs either.
fn may_not_write(code: &RDKafkaErrorCode) -> bool {
    [RDKafkaErrorCode::TopicAuthorizationFailed, RDKafkaErrorCode::ClusterAuthorizationFailed].contains(code)
}
