//! `dashstream produce`: events from a file or from standard input into a topic, through the producer library.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::builder::PathBufValueParser;
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;
use thiserror::Error;

use super::show::line;
use super::source::SourceError;
use super::source::objects::{Came, each_event};
use super::source::tap::Tap;
use super::stop::Stop;
use super::{CliError, reading, settings};
use crate::analysis::text::counted;
use crate::config::Loaded;
use crate::producer::{
    Flushed, OnRefused, Options, Outgoing, Producer, Reason, Redaction, Refused, Rejected, StartError, Why,
};
use crate::topics::{Cluster, TopicsError};
use crate::wire::proto::DashStreamMessage;

/// The most that a producer's `event_bytes_max` may be.
const EVENT_BYTES_MAX: usize = 64 << 20;
/// How long one event waits for room before it counts as not accepted.
const ROOM: Duration = Duration::from_secs(60);
/// Beyond the time that an event may be under way, for the answers to be counted.
const SETTLE: Duration = Duration::from_secs(15);
/// Of events that were not accepted so many are named, the others counted.
const NAMED_MAX: u64 = 10;

#[derive(Debug, Error)]
pub enum ProduceError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What is beyond was not looked at.
    #[error("event {number}: {why}")]
    Stuck { number: u64, why: Why },
    #[error(transparent)]
    Topics(#[from] TopicsError),
    /// Each of the first was named.
    #[error(
        "not every event is on the topic: of {read}, {rejected} not accepted, {refused} refused by Kafka, {unknown} unknown{}",
        because(.why)
    )]
    NotAll { read: u64, rejected: u64, refused: u64, unknown: u64, why: Option<Reason> },
    /// Heals by sending the rest.
    #[error("ended by a signal: what comes after event {read} was not read, and is not on the topic")]
    Ended { read: u64 },
    /// Nothing that comes after it would be taken either. Heals by giving the right.
    #[error("{refused} events were refused by Kafka, the others not sent: {why}")]
    NotAllowed { refused: u64, why: String },
}

impl ProduceError {
    /// 1 not everything is on the topic, 2 wrong settings, or what was given is not there or not an export.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start(StartError::Option { .. } | StartError::Kafka(_)) => 2,
            Self::Source(error) => error.exit_code(),
            Self::Topics(error) => error.exit_code(),
            Self::Start(StartError::Thread(_))
            | Self::Stuck { .. }
            | Self::NotAll { .. }
            | Self::Ended { .. }
            | Self::NotAllowed { .. } => 1,
        }
    }
}

fn because(why: &Option<Reason>) -> String {
    why.map_or(String::new(), |why| format!(": {why}"))
}

pub fn command() -> Command {
    let command = Command::new("produce")
        .about("Send events from a file or from standard input")
        .long_about(
            "Sends events to kafka.topic through the producer library: every event is acknowledged by all replicas in \
             sync, none is sent twice, and what became of each is counted. The input is what `dashstream export` and \
             `tail --output jsonl` write: one JSON object per line, or one document with a list `events`. Of an event \
             `kind`, `thread_id` and its contents are kept; sequences are given anew, and so are message ids that are \
             missing. Secrets are taken out of events before they leave, unless --keep-secrets is given.",
        )
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .value_parser(PathBufValueParser::new())
                .default_value("-")
                .help("What to send; - is standard input"),
        )
        .arg(
            Arg::new("rate")
                .long("rate")
                .value_name("EVENTS/S")
                .value_parser(value_parser!(u32).range(1..=1_000_000))
                .help("At most so many a second; without it as fast as Kafka takes them"),
        )
        .arg(
            Arg::new("tenant")
                .long("tenant")
                .value_name("TENANT")
                .default_value("default")
                .help("Whose events are that name no tenant"),
        )
        .arg(
            Arg::new("keep-secrets")
                .long("keep-secrets")
                .action(clap::ArgAction::SetTrue)
                .help("Send events as they are, also where they hold passwords and keys"),
        )
        .arg(
            settings::text_or_json("How what became of them is printed: text for people, json for scripts").short('o'),
        );
    settings::with_kafka_flags(command).after_help(
        "Examples:\n  \
         dashstream produce run-1.json --topic agents-test\n  \
         echo '{\"kind\":\"event\",\"thread_id\":\"t-1\",\"event_type\":\"NODE_START\",\"node_id\":\"plan\"}' | dashstream produce\n\n\
         Exit codes: 0 every event is on the topic; 1 some are not, or nobody can say, or Ctrl-C or SIGTERM ended it \
         before its input did; 2 wrong arguments or settings, or the input is no export.",
    )
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let Loaded { config, .. } = settings::load(matches)?;
    let path = matches.get_one::<PathBuf>("file").cloned().unwrap_or_else(|| PathBuf::from("-"));
    let mut input = open(&path).map_err(ProduceError::from)?;
    let topic = config.kafka.topic.clone();
    // Asked before, since a producer only knows that its time is over.
    let mut cluster = Cluster::new(&config).map_err(ProduceError::from)?;
    cluster.partitions_of(&topic).map_err(ProduceError::from)?;
    // Until here a signal ends it at once: nothing was sent yet.
    let stop = Stop::on_signals()?;
    let refusals = Refusals::default();
    let mut options = Options::new(config.kafka.access(), topic.clone());
    options.on_refused = OnRefused::Caller(Box::new({
        let refusals = refusals.clone();
        move |refused| refusals.note(refused)
    }));
    // As large as a reader of the topic takes, and not larger than a producer can.
    options.event_bytes_max =
        usize::try_from(config.kafka.payload_max_bytes).unwrap_or(usize::MAX).min(EVENT_BYTES_MAX);
    options.tenant = matches.get_one::<String>("tenant").cloned().unwrap_or_default();
    if matches.get_flag("keep-secrets") {
        options.redaction = Redaction::Off;
    }
    let settle = options.delivery_timeout + SETTLE;
    let producer = Producer::start(options).map_err(ProduceError::from)?;
    let mut sending = Sending { pace: Pace::new(matches.get_one("rate").copied()), read: 0, rejected: 0 };
    let sent = each_event::<ProduceError>(&mut input, &path, &stop, |number, message| {
        sending.pace.wait(sending.read, &stop);
        // With the next event in hand: whether there is one is known then.
        if stop.is_asked() {
            return Ok(false);
        }
        sending.send(number, message, &producer)?;
        Ok(!refusals.are_for(Reason::NotAuthorized))
    });
    // Also where the input ended badly: what was accepted is on its way, and is counted.
    producer.flush(settle);
    let fatal = producer.fatal().map(|(reason, _)| reason);
    let flushed = producer.close(settle);
    let came = *sent.as_ref().unwrap_or(&Came::default());
    print(matches, &sending, came.passed_over, flushed, output)?;
    let Flushed { refused, unknown, .. } = flushed;
    if fatal == Some(Reason::NotAuthorized) || refusals.are_for(Reason::NotAuthorized) {
        return Err(ProduceError::NotAllowed { refused, why: cluster.not_allowed_to_write(&topic) }.into());
    }
    refusals.remark();
    sent.map_err(CliError::from)?;
    let Sending { read, rejected, .. } = sending;
    let ended = (!came.to_the_end).then_some(ProduceError::Ended { read });
    match (rejected + refused + unknown, ended) {
        (0, None) => Ok(()),
        (0, Some(ended)) => Err(ended.into()),
        (_, ended) => {
            if let Some(ended) = ended {
                reading::remark(&ended.to_string());
            }
            Err(ProduceError::NotAll { read, rejected, refused, unknown, why: fatal }.into())
        }
    }
}

fn open(path: &Path) -> Result<Tap, SourceError> {
    let tap = if path.as_os_str() == "-" { Tap::stdin() } else { Tap::open(path) };
    tap.map_err(|source| SourceError::File { path: path.to_owned(), source })
}

/// Why Kafka refused events, and how many. There are few reasons, and often one for all.
#[derive(Clone, Default)]
struct Refusals(Arc<Mutex<Vec<(Reason, u64)>>>);

impl Refusals {
    fn note(&self, refused: &Refused<'_>) {
        let events = refused.sequences.1.saturating_sub(refused.sequences.0) + 1;
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reasons.iter_mut().find(|(reason, _)| *reason == refused.reason) {
            Some((_, number)) => *number += events,
            None => reasons.push((refused.reason, events)),
        }
    }

    fn are_for(&self, wanted: Reason) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(reason, _)| *reason == wanted)
    }

    fn remark(&self) {
        for (reason, events) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            reading::remark(&format!("{} refused by Kafka: {reason}", counted(*events, "event")));
        }
    }
}

/// In the words of settings, which the options of a producer are not.
fn said(why: &Why) -> String {
    match why {
        Why::TooLarge { what: "event_bytes_max", bytes, limit } => {
            format!("{bytes} bytes are more than {limit} (kafka.payload_max_bytes, at most {EVENT_BYTES_MAX} here)")
        }
        Why::TooLarge { bytes, limit, .. } => {
            format!("{bytes} bytes, compressed, are more than {limit}, the largest record that is sent")
        }
        why => why.to_string(),
    }
}

struct Sending {
    pace: Pace,
    read: u64,
    rejected: u64,
}

impl Sending {
    fn send(&mut self, number: u64, message: DashStreamMessage, producer: &Producer) -> Result<(), ProduceError> {
        let thread = line::header(&message).map(|header| header.thread_id.clone()).unwrap_or_default();
        let Some(payload) = message.message else { return Ok(()) };
        self.read += 1;
        match producer.send(Outgoing::new(thread, payload), ROOM) {
            Ok(_ticket) => Ok(()),
            // Nothing that comes after it would be accepted either.
            Err(Rejected { why: why @ (Why::Full | Why::Closed | Why::Fatal), .. }) => {
                Err(ProduceError::Stuck { number, why })
            }
            Err(Rejected { why, .. }) => {
                self.rejected += 1;
                if self.rejected <= NAMED_MAX {
                    reading::remark(&format!("event {number} is not sent: {}", said(&why)));
                }
                Ok(())
            }
        }
    }
}

/// At most so many a second, from when it began.
struct Pace {
    begun: Instant,
    rate: Option<u32>,
}

impl Pace {
    fn new(rate: Option<u32>) -> Self {
        Self { begun: Instant::now(), rate }
    }

    fn wait(&self, sent: u64, stop: &Stop) {
        let Some(rate) = self.rate else { return };
        let due = Duration::from_secs_f64(sent as f64 / f64::from(rate));
        let left = due.saturating_sub(self.begun.elapsed());
        if !left.is_zero() {
            stop.wait(left);
        }
    }
}

fn print(
    matches: &ArgMatches,
    sending: &Sending,
    passed_over: u64,
    flushed: Flushed,
    output: &mut dyn Write,
) -> Result<(), CliError> {
    let Flushed { delivered, refused, unknown, .. } = flushed;
    let Sending { read, rejected, .. } = sending;
    if settings::wants_json(matches) {
        let counts = json!({
            "read": read, "delivered": delivered, "rejected": rejected, "refused": refused, "unknown": unknown,
            "passed_over": passed_over,
        });
        writeln!(output, "{counts}")?;
    } else {
        let counts =
            format!("{delivered} delivered, {rejected} not accepted, {refused} refused by Kafka, {unknown} unknown");
        let passed_over = match passed_over {
            0 => String::new(),
            findings => format!("; {} passed over", counted(findings, "finding")),
        };
        writeln!(output, "{} read: {counts}{passed_over}", counted(*read, "event"))?;
    }
    output.flush()?;
    Ok(())
}
