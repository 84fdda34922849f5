//! `dashstream docs`: the README's tables, printed from the code that they describe, alone or into a file between
//! marks: `<!-- printed by: dashstream docs NAME -->` and `<!-- end of print -->`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::CliError;
use crate::config::{predecessor, table};
use crate::observe::metrics;
use crate::producer;
use crate::words::CloseReason;

/// One table: its name, and how it is made.
pub type Table = (&'static str, fn() -> String);

/// Every table of the README, in the order of its sections.
pub const TABLES: [Table; 5] = [
    ("producer-metrics", producer::Metrics::markdown),
    ("config", table::markdown),
    ("retired", predecessor::markdown),
    ("metrics", metrics::markdown),
    ("close-codes", close_codes),
];

const END: &str = "<!-- end of print -->";

pub fn command() -> Command {
    Command::new("docs")
        .about("Print a table of the documentation as Markdown")
        .long_about(
            "Prints a table of the documentation as Markdown, made from the code that it describes, or brings the \
             tables of a file up to date.",
        )
        .after_help("Examples:\n  dashstream docs metrics\n  dashstream docs --write README.md")
        .arg(
            Arg::new("table")
                .value_name("TABLE")
                .required_unless_present("write")
                .value_parser(TABLES.map(|(name, _)| name))
                .help("Which one"),
        )
        .arg(
            Arg::new("write")
                .long("write")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("table")
                .help("Replace the tables between the marks in this file"),
        )
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    if let Some(path) = matches.get_one::<PathBuf>("write") {
        let text = std::fs::read_to_string(path)?;
        std::fs::write(path, renewed(&text))?;
        return Ok(());
    }
    let wanted = matches.get_one::<String>("table").map(String::as_str);
    for (_, print) in TABLES.iter().filter(|(name, _)| Some(*name) == wanted) {
        output.write_all(print().as_bytes())?;
    }
    output.flush()?;
    Ok(())
}

/// The text with every marked table as it is printed now. Marks without an end are left alone.
pub fn renewed(text: &str) -> String {
    TABLES.iter().fold(text.to_owned(), |text, (name, print)| {
        let begin = format!("<!-- printed by: dashstream docs {name} -->\n");
        let Some((before, rest)) = text.split_once(&begin) else { return text };
        let Some((_, after)) = rest.split_once(END) else { return text };
        format!("{before}{begin}\n{}\n{END}{after}", print().trim_end())
    })
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
