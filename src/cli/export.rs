//! `dashstream export`: events as a document, in constant memory, which every reading command can read again.

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgMatches, Command};

use super::CliError;
use super::paper::{Paper, to_file};
use super::reading::{self, Ended, Flags, Reading, remark};
use super::show::Form;
use super::stop::Stop;

const FLAGS: Flags = Flags {
    from: "earliest",
    follow: false,
    limit: Some("Export so many events at most, filters applied"),
    forms: &[Form::Json, Form::Jsonl, Form::Csv],
    thread_required: false,
};

pub fn command() -> Command {
    let command = Command::new("export")
        .about("Write events as json, jsonl, csv or spans, to be read again or by other tools")
        .long_about(
            "Writes everything up to where the log ends now, in constant memory. json is one document with the events \
             first and their sum behind them; jsonl is one object per line; csv has the predecessor's columns, then \
             kind and data. All kinds of messages are written, and what is missing or cannot be read is named. json \
             and jsonl can be read again with --file by every command that reads.",
        )
        .arg(to_file("How shown"));
    let command = reading::with_flags(
        command,
        FLAGS,
        "Examples:\n  \
         dashstream export --thread run-1 --to run-1.json\n  \
         dashstream export --from 1d --output csv --kind metrics > metrics.csv\n  \
         dashstream tail --file run-1.json\n  \
         dashstream export --thread run-1 --output otlp --to spans.json",
    );
    let forms = FLAGS.forms.iter().map(|form| form.label()).chain([OTLP]);
    command.mut_arg("output", |arg| {
        let help =
            "json: one document; jsonl: one object per line; csv; otlp: runs as spans, OpenTelemetry's OTLP/JSON";
        arg.value_parser(PossibleValuesParser::new(forms)).help(help)
    })
}

/// Not events but what they mean: made from whole runs, see [`super::inspect`].
const OTLP: &str = "otlp";

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    if matches.get_one::<String>("output").is_some_and(|form| form == OTLP) {
        return super::inspect::export_spans(matches, output);
    }
    let reading = Reading::of(matches)?;
    let stop = Stop::on_signals()?;
    let (ended, found) = match matches.get_one::<PathBuf>("to") {
        // On a terminal the events would go through the bar.
        None => reading::print(&reading, &stop, !std::io::stdout().is_terminal(), output)?,
        // Nobody sees half an export under its name.
        Some(path) => {
            let mut paper = Paper::open(path, &stop)?;
            let done = reading::print(&reading, &stop, true, &mut paper).map_err(|error| paper.named(error))?;
            if done.0 == Ended::Stopped {
                return Err(paper.cut_short());
            }
            paper.finish()?;
            done
        }
    };
    if ended == Ended::Stopped {
        remark(&format!("stopped early, with {} events", found.events));
    } else if found.events == 0 {
        remark("no event matched: look at --from and the filters");
    }
    if found.has_findings && reading.form != Form::Csv {
        remark("something is missing, repeated or unreadable: see what stands beside the events");
    }
    Ok(())
}
