//! `dashstream flamegraph`: the time of a run as an SVG that a browser shows, or as the stacks that it is drawn from.

use std::io::Write;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use inferno::flamegraph::{self, Options};

use super::CliError;
use super::gather::{self, ExplainError, Gathered};
use super::inspect::HOW;
use super::paper::to_file;
use super::reading::{self, Flags};
use crate::analysis::stacks::folded;
use crate::analysis::text::duration;
use crate::analysis::{Note, Run, Spans};

const FLAGS: Flags = Flags { from: "earliest", follow: false, limit: None, forms: &[], thread_required: true };

pub fn command() -> Command {
    let command = Command::new("flamegraph")
        .about("Draw where the time of a run went, as SVG")
        .long_about(
            "Draws a run as a flame graph: the width of a box is time, what stands on it happened within it. Branches \
             that ran in parallel stand side by side, so the whole may be wider than the run was long. Several runs \
             of a thread are drawn into one picture.",
        )
        .arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_name("FORM")
                .value_parser(PossibleValuesParser::new(["svg", "folded"]))
                .default_value("svg")
                .help("svg: a picture that answers the mouse; folded: stacks and microseconds, one per line")
                .help_heading(HOW),
        )
        .arg(to_file(HOW));
    reading::with_flags(
        gather::with_nth(command),
        FLAGS,
        "Examples:\n  \
         dashstream flamegraph --thread run-1 --to run-1.svg\n  \
         dashstream flamegraph --thread run-1 --output folded",
    )
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let Gathered { runs, notes, absent, stop, .. } = gather::runs(matches)?;
    let spans: Vec<Spans> = runs.iter().map(Spans::of).collect();
    let lines: Vec<String> = spans.iter().flat_map(folded).collect();
    let bytes = match matches.get_one::<String>("output").map(String::as_str) {
        Some("folded") => lines.iter().flat_map(|line| [line.as_bytes(), b"\n"]).flatten().copied().collect(),
        _ if lines.is_empty() => return Err(ExplainError::NoTime { run: runs[0].id.to_string() }.into()),
        _ => svg(&runs, &spans, lines)?,
    };
    gather::write_out(matches.get_one::<PathBuf>("to").map(PathBuf::as_path), &bytes, &stop, output)?;
    let each = runs.iter().zip(&spans).flat_map(|(run, spans)| run.notes.iter().chain(&spans.notes));
    notes.iter().chain(each).map(Note::to_string).for_each(|note| reading::remark(&note));
    gather::all_found(absent)
}

fn svg(runs: &[Run], spans: &[Spans], lines: Vec<String>) -> Result<Vec<u8>, CliError> {
    let mut options = Options::default();
    options.title = runs.iter().map(|run| run.id.to_string()).collect::<Vec<_>>().join(", ");
    let took: i64 = spans.iter().fold(0, |sum, spans| sum.saturating_add(spans.root().took_us()));
    options.subtitle =
        Some(format!("{} long; width is time, and branches that ran in parallel stand side by side", duration(took)));
    options.count_name = "µs".to_owned();
    options.name_type = "Step:".to_owned();
    // Equal runs make equal pictures.
    options.deterministic = true;
    // Merged into one picture, stacks must stand in the order of names.
    let mut lines = lines;
    lines.sort_unstable();
    let mut bytes = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut bytes)
        .map_err(|error| CliError::Output(std::io::Error::other(error)))?;
    Ok(bytes)
}
