//! What all commands have in common that read events: the flags that say from where, which and how shown; the loop
//! that goes through them; Ctrl-C and progress.
//!
//! A command adds [`with_flags`], asks [`Reading::of`] for what was meant, and calls [`Reading::each`].

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::builder::{PathBufValueParser, PossibleValuesParser};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::show::human::Style;
use super::show::progress::Bar;
use super::show::terminal::{self, Colour, Screen};
use super::show::{Extent, Form, Printer};
use super::source::{self, Ask, Filter, From, Item, Place, Source, filter, start};
use super::stop::Stop;
use super::{CliError, settings};
use crate::config::raw;
use crate::words::PartitionId;

/// Standard output is written in pieces of this size; what is shown is flushed whenever nothing more is there yet.
const OUTPUT_BYTES: usize = 64 << 10;
/// How often a command looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// What differs between commands.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    /// Where reading begins if nothing is said.
    pub from: &'static str,
    /// `--follow` makes sense.
    pub follow: bool,
    /// What `--limit` counts, if there is a limit.
    pub limit: Option<&'static str>,
    /// The first one is the default; none: the command has no `--output`, or one of its own.
    pub forms: &'static [Form],
    /// One run must be named.
    pub thread_required: bool,
}

/// Those exit codes stand in every `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 all that was asked for was shown (also when Ctrl-C, or whoever reads the \
     pipe, ended it early), 1 it failed on the way, 2 what was asked for is wrong or not there.";

/// The command with the flags of all that read.
pub fn with_flags(command: Command, flags: Flags, example: &str) -> Command {
    const WHERE: &str = "Where from (Kafka, if neither is given)";
    const WHICH: &str = "Which events (repeat a flag, or use commas, for any of several)";
    const HOW: &str = "How shown";
    let list = |id: &'static str, name: &'static str, help: &'static str| {
        Arg::new(id).long(id).value_name(name).action(ArgAction::Append).help(help).help_heading(WHICH)
    };
    let words = |id, name, help| list(id, name, help).value_delimiter(',');
    // What producers name may hold a comma.
    let names = |id, name, help| list(id, name, help).value_parser(|text: &str| Ok::<_, String>(filter::names(text)));
    let mut command = command
        .arg(
            Arg::new("gateway")
                .long("gateway")
                .value_name("URL")
                .help("Read from a gateway, such as ws://127.0.0.1:3002 [env: DASHSTREAM_GATEWAY]")
                .help_heading(WHERE),
        )
        .arg(
            Arg::new("file")
                .long("file")
                .value_name("FILE")
                .value_parser(PathBufValueParser::new())
                .conflicts_with("gateway")
                .help("Read what `dashstream export` wrote as json or jsonl")
                .help_heading(WHERE),
        )
        .arg(
            Arg::new("from")
                .long("from")
                .value_name("PLACE")
                .default_value(flags.from)
                .allow_hyphen_values(true)
                .help(format!("Where to begin: {}", start::ALLOWED))
                .help_heading(WHICH),
        )
        .arg(
            words("partition", "NUMBER", "Only these partitions")
                .value_parser(value_parser!(u32).range(0..=i64::from(i32::MAX))),
        )
        .arg(names("tenant", "ID", "Only these tenants; \\, is a comma within an id"))
        .arg(
            names("thread", "ID", "Only these runs; \\, is a comma within an id")
                .visible_alias("thread-id")
                .required(flags.thread_required),
        )
        .arg(
            words("kind", "KIND", "Only these kinds of messages, such as event, token_chunk or error")
                .value_parser(|text: &str| filter::kind(text)),
        )
        .arg(
            words("event-type", "TYPE", "Only events of these types, such as NODE_START; or a part, such as error")
                .value_parser(|text: &str| filter::event_types(text)),
        )
        .arg(names("node", "NAME", "Only events of these nodes; \\, is a comma within a name"));
    if flags.follow {
        command = command.arg(
            Arg::new("follow")
                .long("follow")
                .short('f')
                .action(ArgAction::SetTrue)
                .help("Go on with what arrives; without it reading ends where the log ends now")
                .help_heading(WHICH),
        );
    }
    if let Some(limit) = flags.limit {
        command = command.arg(
            Arg::new("limit")
                .long("limit")
                .short('n')
                .value_name("NUMBER")
                .value_parser(value_parser!(u64).range(1..))
                .help(limit)
                .help_heading(WHICH),
        );
    }
    if let Some(first) = flags.forms.first() {
        command = command.arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_name("FORM")
                .value_parser(PossibleValuesParser::new(flags.forms.iter().map(|form| form.label())))
                .default_value(first.label())
                .help("human: aligned lines; json: one document; jsonl: one object per line; csv")
                .help_heading(HOW),
        );
    }
    let command = command.arg(
        Arg::new("color")
            .long("color")
            .value_name("WHEN")
            .value_parser(["auto", "always", "never"])
            .default_value("auto")
            .help("auto: on a terminal, unless NO_COLOR is set [env: NO_COLOR, COLUMNS]")
            .help_heading(HOW),
    );
    settings::with_kafka_flags(command).after_help(format!(
        "{example}\n\nNothing is committed, no consumer group is left behind, and times are UTC.\n{EXIT_CODES}"
    ))
}

/// A file or a gateway, if one is meant. What stands in the environment gives way to every flag that says where from.
fn place(matches: &ArgMatches) -> Option<Place> {
    if let Some(path) = matches.get_one::<PathBuf>("file") {
        return Some(Place::File(path.clone()));
    }
    let kafka_named = || ["kafka.brokers", "kafka.topic"].iter().any(|flag| matches.contains_id(flag));
    let url = matches.get_one::<String>("gateway").cloned();
    url.or_else(|| raw::gateway().filter(|_| !kafka_named())).map(Place::Gateway)
}

/// What was meant.
pub struct Reading {
    pub ask: Ask,
    /// Events to be shown at most.
    pub limit: Option<u64>,
    pub form: Form,
    pub style: Style,
}

/// How a loop through events ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// All that was asked for has come.
    All,
    /// The command has what it wants.
    Enough,
    /// Ctrl-C or SIGTERM.
    Stopped,
}

impl Reading {
    /// Reads the flags of [`with_flags`], and the settings of Kafka if that is where from.
    pub fn of(matches: &ArgMatches) -> Result<Self, CliError> {
        let texts = |id: &str| {
            let lists = matches.get_many::<Vec<String>>(id).unwrap_or_default();
            lists.flatten().cloned().collect::<Vec<String>>()
        };
        let given = |id: &str| matches.try_get_one::<String>(id).ok().flatten();
        let place = match place(matches) {
            Some(place) => place,
            None => Place::Kafka(Box::new(settings::load(matches)?.config.kafka)),
        };
        let said = matches.value_source("from") == Some(clap::parser::ValueSource::CommandLine);
        let from = match (&place, given("from")) {
            // What is in a file was chosen when it was written.
            (Place::File(_), _) if !said => From::Earliest,
            (_, None) => From::Earliest,
            (_, Some(from)) => From::parse(from, now_ms()).map_err(|why| usage("--from", from, &why))?,
        };
        let event_types = matches.get_many::<Vec<crate::wire::proto::EventType>>("event-type").unwrap_or_default();
        let filter = Filter {
            tenants: texts("tenant"),
            threads: texts("thread"),
            kinds: matches.get_many("kind").unwrap_or_default().copied().collect(),
            event_types: event_types.flatten().copied().collect(),
            nodes: texts("node"),
        };
        let mut partitions: Vec<_> =
            matches.get_many::<u32>("partition").unwrap_or_default().map(|number| PartitionId(*number)).collect();
        partitions.sort();
        partitions.dedup();
        let follow = matches.try_get_one::<bool>("follow").ok().flatten().copied().unwrap_or(false);
        let form = given("output").and_then(|form| Form::parse(form)).unwrap_or(Form::Human);
        let colour = match given("color").map(String::as_str) {
            Some("always") => Colour::Always,
            Some("never") => Colour::Never,
            _ => Colour::Auto,
        };
        Ok(Self {
            ask: Ask { place, from, partitions, filter, follow },
            limit: matches.try_get_one::<u64>("limit").ok().flatten().copied(),
            form,
            style: Style { screen: Screen::of_stdout(colour) },
        })
    }

    /// The one run that is asked for, if it is one.
    pub fn thread(&self) -> Option<String> {
        match self.ask.filter.threads.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        }
    }

    /// Hands every item to `handle` until it breaks, the end, or a signal. `idle` is called when nothing more is there
    /// for the moment. `bar`: nothing is written to the terminal meanwhile.
    ///
    /// # Errors
    /// [`CliError::Stopped`] when somebody asked to end before there was anything to read from.
    pub fn each(
        &self,
        stop: &Stop,
        bar: bool,
        mut handle: impl FnMut(&Item) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<Ended, CliError> {
        let mut bar = Bar::new(bar, matches!(self.ask.place, Place::File(_)));
        let Some(mut source) = source::open(&self.ask, stop)? else { return Err(CliError::Stopped) };
        let ended = each(source.as_mut(), stop, &mut bar, &mut handle);
        bar.finish();
        ended
    }
}

fn each(
    source: &mut dyn Source,
    stop: &Stop,
    bar: &mut Bar,
    handle: &mut dyn FnMut(&Item) -> Result<ControlFlow<()>, CliError>,
) -> Result<Ended, CliError> {
    while !stop.is_asked() {
        let item = source.next(Instant::now() + LOOK)?;
        bar.tick(source);
        if handle(&item)?.is_break() {
            return Ok(Ended::Enough);
        }
        if item == Item::End {
            return Ok(Ended::All);
        }
    }
    Ok(Ended::Stopped)
}

/// The loop of `tail` and `export`: shows every item, until the limit.
pub fn print(reading: &Reading, stop: &Stop, bar: bool, output: &mut dyn Write) -> Result<(Ended, Found), CliError> {
    let mut output = std::io::BufWriter::with_capacity(OUTPUT_BYTES, output);
    let mut showing = Showing::of(reading, &mut output);
    let ended = reading.each(stop, bar, |item| showing.item(item));
    showing.finish(ended)
}

/// Shows items, and says beside them what becomes of the connection and of the topic: what `tail`, `export` and `replay`
/// do alike.
pub struct Showing<'a> {
    printer: Printer<'a>,
    form: Form,
    follow: bool,
    limit: Option<u64>,
    connected: bool,
}

impl<'a> Showing<'a> {
    pub fn of(reading: &Reading, output: &'a mut dyn Write) -> Self {
        Self {
            printer: Printer::new(output, reading.form, reading.style, reading.thread()),
            form: reading.form,
            follow: reading.ask.follow,
            limit: reading.limit,
            connected: true,
        }
    }

    /// Breaks at the limit. A read that follows also ends when nobody reads standard output any more, without waiting
    /// for the next event.
    pub fn item(&mut self, item: &Item) -> Result<ControlFlow<()>, CliError> {
        match item {
            Item::Idle | Item::Live => {
                self.printer.begin()?;
                self.printer.flush()?;
                if self.follow && terminal::nobody_reads_stdout() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Item::Disconnected { why, retry_in } => {
                self.printer.flush()?;
                self.connected = false;
                remark(&format!("connection lost: {why}; trying again in {retry_in:.1?}"));
            }
            Item::Connected => {
                if !std::mem::replace(&mut self.connected, true) {
                    remark("connected again");
                }
            }
            _ => {
                if *item == Item::StreamChanged && self.form != Form::Human {
                    remark("the topic was made again: offsets begin anew");
                }
                if self.printer.item(item)? && self.limit.is_some_and(|limit| self.printer.tally.events >= limit) {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What was shown so far can be seen.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.printer.flush()
    }

    /// Closes the document, however reading ended.
    pub fn finish(mut self, ended: Result<Ended, CliError>) -> Result<(Ended, Found), CliError> {
        let extent = match ended {
            Ok(Ended::All | Ended::Enough) => Extent::Whole,
            // Nothing else ends it.
            Ok(Ended::Stopped) if self.follow && self.printer.has_begun() => Extent::Whole,
            Ok(Ended::Stopped) | Err(_) => Extent::Incomplete,
        };
        let finished = self.printer.finish(extent);
        let tally = &self.printer.tally;
        let found = Found { events: tally.events, has_findings: tally.has_findings() };
        let ended = ended?;
        finished?;
        Ok((ended, found))
    }
}

/// What was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    pub events: u64,
    pub has_findings: bool,
}

/// Something about the reading itself, beside what is read.
#[allow(clippy::print_stderr, reason = "remarks to a person go beside the output")]
pub fn remark(text: &str) {
    eprintln!("dashstream: {text}");
}

/// A value that clap could not judge.
pub fn usage(flag: &str, value: &str, why: &str) -> CliError {
    let message = format!("invalid value '{value}' for '{flag}': {why}\n");
    CliError::Usage(clap::Error::raw(clap::error::ErrorKind::ValueValidation, message))
}

pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
