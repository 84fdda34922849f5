//! `dashstream docs`: the README's tables, printed from the code that they describe.

use std::io::Write;

use clap::{Arg, ArgMatches, Command};

use super::CliError;
use crate::config::{predecessor, table};
use crate::observe::metrics;
use crate::words::CloseReason;

/// One table: its name, and how it is made.
pub type Table = (&'static str, fn() -> String);

/// Every table of the README, in the order of its sections.
pub const TABLES: [Table; 4] = [
    ("config", table::markdown),
    ("retired", predecessor::markdown),
    ("metrics", metrics::markdown),
    ("close-codes", close_codes),
];

pub fn command() -> Command {
    Command::new("docs")
        .about("Print a table of the documentation as Markdown")
        .long_about("Prints a table of the documentation as Markdown, made from the code that it describes.")
        .after_help("Example:\n  dashstream docs metrics")
        .arg(
            Arg::new("table")
                .value_name("TABLE")
                .required(true)
                .value_parser(TABLES.map(|(name, _)| name))
                .help("Which one"),
        )
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let wanted = matches.get_one::<String>("table").map(String::as_str);
    for (_, print) in TABLES.iter().filter(|(name, _)| Some(*name) == wanted) {
        output.write_all(print().as_bytes())?;
    }
    output.flush()?;
    Ok(())
}

/// Why the gateway ends a connection, and what the client should do then.
pub fn close_codes() -> String {
    let mut reasons = CloseReason::ALL;
    reasons.sort_by_key(|reason| reason.code());
    let mut text = String::from("| code | reason | connect again? |\n|---|---|---|\n");
    for reason in reasons {
        text.push_str(&format!("| {} | `{}` | {} |\n", reason.code(), reason.label(), reason.advice()));
    }
    text
}
