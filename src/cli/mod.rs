//! The command line: arguments to a command, a command to a result. One file per command.
//!
//! Deliberately absent: printing errors and ending the process, which `main` does, and any setting's name, which
//! stand in the configuration's table.

pub mod settings;
pub mod serve;
pub mod demo;
pub mod check_config;
pub mod topics;
pub mod docs;
pub mod source;
pub mod show;
pub mod reading;
pub mod stop;
pub mod tail;
pub mod replay;
pub mod export;
pub mod runs;
mod gather;
mod paper;
mod sheet;
pub mod inspect;
mod inspect_text;
pub mod diff;
pub mod costs;
pub mod profile;
pub mod flamegraph;
pub mod watch;
pub mod produce;
pub mod simulate;
pub mod shells;
pub mod error;

use std::ffi::OsString;
use std::io::Write;

use clap::Command;

pub use error::CliError;

/// Runs the command that the arguments name, the program's own name first. What it answers goes to `output`; what it
/// reports while it works goes to the log.
pub fn run(arguments: impl IntoIterator<Item = OsString>, output: &mut dyn Write) -> Result<(), CliError> {
    let matches = command().try_get_matches_from(arguments)?;
    match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("demo", matches)) => demo::run(matches),
        Some(("check-config", matches)) => check_config::run(matches, output),
        Some(("topics", matches)) => topics::run(matches, output),
        Some(("docs", matches)) => docs::run(matches, output),
        Some(("tail", matches)) => tail::run(matches, output),
        Some(("replay", matches)) => replay::run(matches, output),
        Some(("export", matches)) => export::run(matches, output),
        Some(("runs", matches)) => runs::run(matches, output),
        Some(("inspect", matches)) => inspect::run(matches, output),
        Some(("diff", matches)) => diff::run(matches, output),
        Some(("costs", matches)) => costs::run(matches, output),
        Some(("profile", matches)) => profile::run(matches, output),
        Some(("flamegraph", matches)) => flamegraph::run(matches, output),
        Some(("watch", matches)) => watch::run(matches),
        Some(("produce", matches)) => produce::run(matches, output),
        Some(("simulate", matches)) => simulate::run(matches, output),
        Some(("completions", matches)) => shells::completions(matches, output),
        Some(("man", matches)) => shells::man(matches, output),
        _ => unreachable!("clap demands one of the commands above"),
    }
}

/// Everything that the program understands.
pub fn command() -> Command {
    Command::new("dashstream")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Streams one Kafka topic of agent telemetry to browsers and tools over WebSocket")
        .long_about(
            "Streams one Kafka topic of agent telemetry to browsers and tools over WebSocket, live and replayable, \
             and says exactly what a client has, what it missed and why.",
        )
        .after_help(
            "Examples:\n  \
             dashstream demo                                  see it work, without Kafka\n  \
             dashstream serve --kafka-brokers kafka-1:9092    stream from a real Kafka\n  \
             dashstream check-config                          what would be in force, and why\n  \
             dashstream topics plan --config dashstream.toml  how topics differ from what is declared\n  \
             dashstream tail --follow                         look at events as they arrive\n  \
             dashstream inspect --thread run-1                explain one run\n\n\
             Exit codes: 0 ended in order, 1 failed while running, 2 wrong arguments or settings, 3 topics are not as \
             declared.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
        .subcommand(demo::command())
        .subcommand(check_config::command())
        .subcommand(topics::command())
        .subcommand(tail::command())
        .subcommand(runs::command())
        .subcommand(watch::command())
        .subcommand(inspect::command())
        .subcommand(diff::command())
        .subcommand(costs::command())
        .subcommand(profile::command())
        .subcommand(flamegraph::command())
        .subcommand(replay::command())
        .subcommand(export::command())
        .subcommand(produce::command())
        .subcommand(simulate::command())
        .subcommand(docs::command())
        .subcommand(shells::completions_command())
        .subcommand(shells::man_command())
}

#[cfg(test)]
mod tests;
