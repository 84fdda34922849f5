//! What the explaining commands have in common: reading whole runs, prices, moments within a run, and tables.
//!
//! `inspect`, `diff`, `profile` and `flamegraph` gather the runs that were named and look at each as a whole.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::builder::StringValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use thiserror::Error;

use super::paper::Paper;
use super::reading::{self, Ended, Reading, remark};
use super::source::{Item, Seen};
use super::stop::Stop;
use super::{CliError, settings};
use crate::analysis::prices::Prices;
use crate::analysis::runs::Wanted;
use crate::analysis::told::Place;
use crate::analysis::{Collector, Note, Run};

/// What was asked for makes no sense of what is there. Exit code 2.
#[derive(Debug, Error)]
pub enum ExplainError {
    #[error(
        "no run of {asked:?} is in what was read: look at --from, --thread and --nth; `dashstream runs` lists what there is"
    )]
    NoRun { asked: String },
    #[error("the run does not come to {asked:?}: inspect --events shows its sequences and checkpoints")]
    NoPoint { asked: String },
    #[error("{wanted} to be compared, these were found: {found}. Choose with --thread and --nth")]
    RunsToCompare { wanted: &'static str, found: String },
    #[error("{run} took no time, so there is nothing to draw")]
    NoTime { run: String },
    #[error("watch needs a terminal: use `dashstream tail --follow` in pipes")]
    NoTerminal,
}

/// Remarks on what could not be read are listed up to here; more are counted.
const REMARKS_MAX: usize = 5;

/// `--nth`, for threads that ran more than once.
pub(super) fn with_nth(command: Command) -> Command {
    command.arg(
        Arg::new("nth")
            .long("nth")
            .value_name("NUMBER")
            .value_delimiter(',')
            .action(ArgAction::Append)
            .value_parser(value_parser!(u32).range(1..))
            .help("Of a thread that ran several times, only this run, from 1")
            .help_heading("Which events (repeat a flag, or use commas, for any of several)"),
    )
}

/// `--price` and the setting `costs.prices`.
pub(super) fn with_prices(command: Command) -> Command {
    command.arg(
        Arg::new("price")
            .long("price")
            .value_name("MODEL=IN/OUT")
            .value_delimiter(',')
            .action(ArgAction::Append)
            .value_parser(StringValueParser::new())
            .help(
                "Price per million tokens in and out, such as gpt-4o=2.50/10 or '*=0.25/1.25'; above those of \
                 costs.prices [env: DASHSTREAM_COSTS_PRICES]",
            )
            .help_heading("How shown"),
    )
}

/// The table of the configuration, and above it what the flags say.
pub(super) fn prices(matches: &ArgMatches) -> Result<Prices, CliError> {
    let mut prices = crate::config::load(&settings::inputs(matches))?.config.costs.prices;
    for text in matches.get_many::<String>("price").unwrap_or_default() {
        prices.add(text).map_err(|error| reading::usage("--price", text, &error.to_string()))?;
    }
    Ok(prices)
}

/// What was read.
pub(super) struct Gathered {
    pub reading: Reading,
    /// Never empty, in the order in which they were asked for.
    pub runs: Vec<Run>,
    /// About all of it.
    pub notes: BTreeSet<Note>,
}

/// Reads to the end of the log as of now and keeps the runs of the threads that `--thread` names, as far as `--nth`
/// says. None at all is an error: what was asked for is not there.
pub(super) fn runs(matches: &ArgMatches) -> Result<Gathered, CliError> {
    let reading = Reading::of(matches)?;
    let threads = &reading.ask.filter.threads;
    let nths = matches.try_get_many::<u32>("nth").ok().flatten().unwrap_or_default();
    let nths: Vec<u32> = nths.copied().collect();
    let wanted = threads.iter().flat_map(|thread| match nths.as_slice() {
        [] => vec![Wanted::Thread(thread.clone())],
        nths => nths.iter().map(|nth| Wanted::Nth(thread.clone(), *nth)).collect(),
    });
    let mut collector = Collector::new(if threads.is_empty() { vec![Wanted::All] } else { wanted.collect() });
    let mut troubles = Troubles::default();
    let stop = Stop::on_signals()?;
    let to = matches.try_get_one::<PathBuf>("to").ok().flatten();
    let ended = reading.each(&stop, true, |item| {
        match item {
            Item::Event(seen) => collector.take(place(seen), &seen.message),
            other => troubles.note(other),
        }
        Ok(ControlFlow::Continue(()))
    });
    let ended = match (ended, to) {
        (Ok(Ended::Stopped) | Err(CliError::Stopped), Some(path)) => return Err(CliError::Unmade(path.clone())),
        (ended, _) => ended?,
    };
    let (mut runs, notes) = collector.finish();
    if ended == Ended::Stopped {
        if runs.is_empty() {
            // It may well be in what was not read.
            return Err(CliError::Stopped);
        }
        remark("stopped early: what follows is about what was read so far");
    }
    troubles.remark();
    // As they were asked for; what was not named stays in the order of appearance.
    let place = |run: &Run| {
        let thread = threads.iter().position(|thread| *thread == run.id.owner.thread);
        (thread, nths.iter().position(|nth| *nth == run.id.nth))
    };
    runs.sort_by_key(place);
    match runs.is_empty() {
        true => Err(ExplainError::NoRun { asked: threads.join(", ") }.into()),
        false => Ok(Gathered { reading, runs, notes }),
    }
}

/// To standard output, or to a file that appears under its name when it is complete.
pub(super) fn write_out(path: Option<&Path>, bytes: &[u8], output: &mut dyn Write) -> Result<(), CliError> {
    let Some(path) = path else { return Ok(output.write_all(bytes).and_then(|()| output.flush())?) };
    let mut paper = Paper::open(path, &Stop::on_signals()?)?;
    paper.write_all(bytes).map_err(|error| paper.named(error.into()))?;
    paper.finish()
}

pub(super) fn place(seen: &Seen) -> Place {
    Place { partition: seen.partition, offset: seen.offset, timestamp_ms: seen.timestamp_ms }
}

/// What was not an event.
#[derive(Default)]
pub(super) struct Troubles {
    said: Vec<String>,
    more: u64,
}

impl Troubles {
    pub(super) fn note(&mut self, item: &Item) {
        // Sequences and repetitions are looked at within each run.
        if matches!(item, Item::Missing { .. } | Item::Duplicate { .. }) {
            return;
        }
        let Some(text) = super::show::human::notice(item) else { return };
        match self.said.len() < REMARKS_MAX {
            true => self.said.push(text.trim_start_matches("-- ").to_owned()),
            false => self.more += 1,
        }
    }

    /// Beside the output, once, when all is read.
    pub(super) fn remark(&self) {
        self.said.iter().for_each(|text| remark(text));
        if self.more > 0 {
            remark(&format!("and {} more that could not be read or are gone", self.more));
        }
    }
}
