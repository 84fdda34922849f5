//! `dashstream serve`: the appliance, with a real Kafka.

use clap::{ArgMatches, Command};

use super::{CliError, settings};

pub fn command() -> Command {
    let command = Command::new("serve").about("Stream a topic of a real Kafka to clients").long_about(
        "Streams a topic of a real Kafka to clients, until SIGTERM or Ctrl-C. The page is at http://HOST:PORT/, \
             clients connect to ws://HOST:PORT/ws, metrics are at the admin address.\n\n\
             Every setting is a flag, an environment variable and a key of the file; `dashstream check-config` with \
             the same arguments shows what would be in force.",
    );
    settings::with_flags(
        command,
        "Example:\n  dashstream serve --kafka-brokers kafka-1:9092,kafka-2:9092 --kafka-topic dashstream-quality",
    )
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), CliError> {
    let loaded = settings::load(matches)?;
    Ok(crate::gateway::run(loaded)?)
}
