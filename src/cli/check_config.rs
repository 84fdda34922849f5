//! `dashstream check-config`: what would be in force, where each value comes from, what memory it may take, and what
//! looks like a mistake. Looks at nothing but settings and the files that they name; asks no broker.

use std::io::Write;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::{CliError, settings};
use crate::config::report::memory_text;

pub fn command() -> Command {
    let command = Command::new("check-config")
        .about("Show the settings in force, where they come from, and the memory they may take")
        .long_about(
            "Reads flags, environment and file exactly as `serve` does, checks them, and prints every setting with its \
             source, secrets masked, the sum of all memory bounds, and warnings. Asks no broker. All mistakes are \
             reported together, with exit code 2.",
        )
        .arg(settings::text_or_json("text for people (it can be loaded as a file), json for machines"))
        .arg(
            Arg::new("partitions")
                .long("partitions")
                .value_name("NUMBER")
                .value_parser(value_parser!(u32).range(1..=4_096))
                .help("Also sum the memory for this many partitions, besides kafka.partitions_max"),
        );
    settings::with_flags(
        command,
        "Examples:\n  dashstream check-config --config dashstream.toml\n  dashstream check-config --partitions 64 --output json",
    )
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let loaded = settings::load(matches)?;
    let partitions: Option<u32> = matches.get_one("partitions").copied();
    let json = settings::wants_json(matches);
    if json {
        writeln!(output, "{:#}", loaded.to_json(partitions))?;
        return Ok(());
    }
    write!(output, "{}", loaded.to_text())?;
    let at_most = loaded.config.kafka.partitions_max;
    for partitions in partitions.into_iter().chain([at_most]) {
        let text = memory_text(&loaded.config.memory(partitions));
        writeln!(output, "{}", commented(&text))?;
    }
    for warning in &loaded.warnings {
        writeln!(output, "# warning: {warning}")?;
    }
    output.flush()?;
    Ok(())
}

/// As comments, so that all that is printed is a file that can be loaded.
fn commented(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}
