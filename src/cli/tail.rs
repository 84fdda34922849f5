//! `dashstream tail`: events as they are in the log, and as they arrive.

use std::io::Write;

use clap::{ArgMatches, Command};

use super::CliError;
use super::reading::{self, Flags, Reading};
use super::show::Form;
use super::stop::Stop;

const FLAGS: Flags = Flags {
    from: "-10",
    follow: true,
    limit: Some("Show so many events at most, filters applied"),
    forms: &[Form::Human, Form::Json, Form::Jsonl, Form::Csv],
    thread_required: false,
};

pub fn command() -> Command {
    let command = Command::new("tail").about("Show the latest events, and with --follow those that arrive").long_about(
        "Shows the last ten records of each partition, or from any other place, and with --follow what arrives. \
         Batches are expanded, partitions are merged by time, and whatever is missing, repeated or cannot be read is \
         said where it belongs.",
    );
    reading::with_flags(
        command,
        FLAGS,
        "Examples:\n  \
         dashstream tail --follow\n  \
         dashstream tail --from '2h ago' --event-type error --tenant acme\n  \
         dashstream tail --gateway ws://127.0.0.1:3002 --follow --thread run-1 --output jsonl | jq .node_id",
    )
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let reading = Reading::of(matches)?;
    let stop = Stop::on_signals()?;
    reading::print(&reading, &stop, false, output)?;
    Ok(())
}
