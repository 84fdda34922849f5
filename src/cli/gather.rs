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
    /// `asked` is empty where any run would have done.
    #[error("no run{} is in what was read: look at {flags}; `dashstream runs` lists what there is{hint}", of(.asked))]
    NoRun { asked: String, flags: &'static str, hint: String },
    #[error("no event of {asked} matched: look at --from and the filters; `dashstream runs` lists what there is{hint}")]
    NoEvent { asked: String, hint: String },
    #[error("the run does not come to {asked:?}: inspect --events shows its sequences and checkpoints")]
    NoPoint { asked: String },
    #[error("{wanted} to be compared, these were found: {found}. Choose with --thread and --nth")]
    RunsToCompare { wanted: &'static str, found: String },
    #[error("{run} took no time, so there is nothing to draw")]
    NoTime { run: String },
    #[error("watch needs a terminal: use `dashstream tail --follow` in pipes")]
    NoTerminal,
}

fn of(asked: &str) -> String {
    if asked.is_empty() { String::new() } else { format!(" of {asked}") }
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
    /// For [`all_found`].
    pub absent: Option<ExplainError>,
    /// For [`write_out`].
    pub stop: Stop,
}

/// What of that which was asked for is not there, to be told when what is there was shown.
pub(super) fn all_found(absent: Option<ExplainError>) -> Result<(), CliError> {
    absent.map_or(Ok(()), |absent| Err(absent.into()))
}

/// How each of these runs is named on the command line, where the name is one that is only shown: with its tenant
/// before it, or with its number behind it.
fn hint<'a>(threads: impl Iterator<Item = &'a str>, naming: Naming) -> String {
    let hints: Vec<String> = threads.filter_map(|thread| named(thread, naming)).collect();
    if hints.is_empty() { String::new() } else { format!(". Is {} meant?", hints.join(", ")) }
}

fn named(shown: &str, naming: Naming) -> Option<String> {
    let (thread, nth) = match Wanted::parse(shown) {
        Wanted::Nth(thread, nth) => (thread, Some(nth)),
        _ => (shown.to_owned(), None),
    };
    let (tenant, thread) = match thread.split_once('/') {
        Some((tenant, thread)) if !tenant.is_empty() && !thread.is_empty() => (Some(tenant), thread),
        _ => (None, thread.as_str()),
    };
    if tenant.is_none() && nth.is_none() {
        return None;
    }
    let word = |text: &str| super::show::human::plain(text).replace(',', "\\,");
    let tenant = tenant.map_or(String::new(), |tenant| format!("--tenant {} ", word(tenant)));
    let nth = nth.filter(|_| naming == Naming::ThreadAndNth).map_or(String::new(), |nth| format!(" --nth {nth}"));
    Some(format!("{tenant}--thread {}{nth}", word(thread)))
}

/// Of the threads that were named, those of which no event was seen.
pub(super) struct Unseen(Vec<String>);

impl Unseen {
    pub(super) fn of(reading: &Reading) -> Self {
        Self(reading.ask.filter.threads.clone())
    }

    pub(super) fn note(&mut self, seen: &Seen) {
        if !self.0.is_empty() {
            let thread = super::show::line::header(&seen.message).map_or("", |header| &header.thread_id);
            self.0.retain(|wanted| wanted != thread);
        }
    }

    /// When all is read, and what there is was shown. Who ended it early knows that there may be more.
    ///
    /// # Errors
    /// When a thread was named of which there is nothing.
    pub(super) fn finish(self, ended: Ended) -> Result<(), CliError> {
        if ended != Ended::All || self.0.is_empty() {
            return Ok(());
        }
        let asked = self.0.iter().map(|thread| format!("{thread:?}")).collect::<Vec<_>>().join(", ");
        let hint = hint(self.0.iter().map(String::as_str), Naming::Thread);
        Err(ExplainError::NoEvent { asked, hint }.into())
    }
}

/// Reads to the end of the log as of now and keeps the runs of the threads that `--thread` names, as far as `--nth`
/// says. None at all is an error: what was asked for is not there. What is there in part is told by [`all_found`].
pub(super) fn runs(matches: &ArgMatches) -> Result<Gathered, CliError> {
    gather(matches, Naming::ThreadAndNth)
}

/// The same for a command without `--nth`.
pub(super) fn runs_of_threads(matches: &ArgMatches) -> Result<Gathered, CliError> {
    gather(matches, Naming::Thread)
}

/// What a command lets one name a run by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Naming {
    Thread,
    ThreadAndNth,
}

fn gather(matches: &ArgMatches, naming: Naming) -> Result<Gathered, CliError> {
    let reading = Reading::of(matches)?;
    let threads = &reading.ask.filter.threads;
    let nths = match naming {
        Naming::Thread => Vec::new(),
        Naming::ThreadAndNth => matches.get_many::<u32>("nth").unwrap_or_default().copied().collect(),
    };
    let wanted = threads.iter().flat_map(|thread| match nths.as_slice() {
        [] => vec![Wanted::Thread(thread.clone())],
        nths => nths.iter().map(|nth| Wanted::Nth(thread.clone(), *nth)).collect(),
    });
    let mut collector = Collector::new(if threads.is_empty() { vec![Wanted::All] } else { wanted.collect() });
    // Of a file the export said what was missing; what its filter left out is not.
    let is_file = matches!(reading.ask.place, super::source::Place::File(_));
    if is_file || !reading.ask.filter.keeps_runs_whole() {
        collector = collector.of_parts();
    }
    let mut troubles = Troubles::default();
    let stop = Stop::on_signals()?;
    let to = matches.try_get_one::<PathBuf>("to").ok().flatten();
    let ended = reading.each(&stop, true, |item| {
        match item {
            Item::Event(seen) => collector.take(place(seen), &seen.message),
            Item::Missing { tenant, thread, from, to } if is_file => collector.lost(tenant, thread, *from, *to),
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
    let absent = absent(threads, &nths, &runs, naming);
    match (runs.is_empty(), absent) {
        (true, Some(absent)) => Err(absent.into()),
        (true, None) => {
            Err(ExplainError::NoRun { asked: String::new(), flags: "--from and the filters", hint: String::new() }
                .into())
        }
        // Who ended it early knows that there may be more.
        (false, absent) => {
            let absent = absent.filter(|_| ended == Ended::All);
            Ok(Gathered { reading, runs, notes, absent, stop })
        }
    }
}

/// What of that which was named has no run.
fn absent(threads: &[String], nths: &[u32], runs: &[Run], naming: Naming) -> Option<ExplainError> {
    let has = |thread: &str, nth: Option<u32>| {
        runs.iter().any(|run| run.id.owner.thread == thread && nth.is_none_or(|nth| run.id.nth == nth))
    };
    let mut asked: Vec<String> = Vec::new();
    let mut unknown: Vec<&str> = Vec::new();
    for thread in threads {
        if !has(thread, None) {
            unknown.push(thread);
            if nths.is_empty() {
                asked.push(format!("{thread:?}"));
            }
        }
        let gone = nths.iter().filter(|nth| !has(thread, Some(**nth)));
        asked.extend(gone.map(|nth| format!("{thread:?} --nth {nth}")));
    }
    let flags = match naming {
        Naming::Thread => "--from and --thread",
        Naming::ThreadAndNth => "--from, --thread and --nth",
    };
    let hint = hint(unknown.into_iter(), naming);
    (!asked.is_empty()).then(|| ExplainError::NoRun { asked: asked.join(", "), flags, hint })
}

/// To standard output, or to a file that appears under its name when it is complete.
pub(super) fn write_out(
    path: Option<&Path>,
    bytes: &[u8],
    stop: &Stop,
    output: &mut dyn Write,
) -> Result<(), CliError> {
    let Some(path) = path else { return Ok(output.write_all(bytes).and_then(|()| output.flush())?) };
    let mut paper = Paper::open(path, stop)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::Script;

    #[test]
    fn every_run_that_was_named_and_is_not_there_is_named() {
        let mut script = Script::new("acme", "real");
        script.graph_start().graph_end().graph_start().graph_end();
        let (runs, _) = script.collect(vec![Wanted::All]);
        let said = |threads: &[&str], nths: &[u32]| {
            let threads: Vec<String> = threads.iter().map(|thread| (*thread).to_owned()).collect();
            absent(&threads, nths, &runs, Naming::ThreadAndNth).map(|absent| absent.to_string())
        };
        let check = |threads: &[&str], nths: &[u32], parts: &[&str]| {
            let said = said(threads, nths).expect("something is not there");
            parts.iter().for_each(|part| assert!(said.contains(part), "{part:?} is missing in: {said}"));
        };
        assert_eq!(said(&["real"], &[]), None);
        assert_eq!(said(&["real"], &[1, 2]), None);
        check(&["real", "nosuch"], &[], &["no run of \"nosuch\" is", "--nth", "dashstream runs"]);
        check(&["real"], &[1, 9], &["\"real\" --nth 9"]);
        check(&["real", "no"], &[2, 9], &["of \"real\" --nth 9, \"no\" --nth 2, \"no\" --nth 9 is"]);
        // Names as they are shown.
        check(&["acme/real"], &[], &["Is --tenant acme --thread real meant?"]);
        check(
            &["acme/real#2", "a,b#1"],
            &[],
            &["Is --tenant acme --thread real --nth 2, --thread a\\,b --nth 1 meant?"],
        );
        let said = absent(&["real#2".to_owned()], &[], &runs, Naming::Thread).expect("not there").to_string();
        assert!(!said.contains("--nth") && said.contains("Is --thread real meant?"), "{said}");
    }
}
