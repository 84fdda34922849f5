//! An item as a line for people: when, where, which run, what, and the gist of it. Columns are aligned; texts from
//! outside cannot move the cursor or change colours.

use std::borrow::Cow;
use std::fmt::Write as _;

use time::OffsetDateTime;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::line;
use super::tame::is_obeyed;
use super::terminal::Screen;
use crate::analysis::runs::is_failure;
use crate::analysis::text::{counted, duration};
use crate::cli::source::{Item, Seen};
use crate::wire::json::{data_json, event_type_name};
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::diff_operation::OpType;
use crate::wire::proto::tool_execution::ExecutionStage;
use crate::wire::proto::{Event, MetricValue, Metrics, StateDiff, TokenChunk, ToolExecution, metric_value};
use crate::wire::scan::Kind;

/// Columns; runs and nodes that are longer are cut in the middle, where ids differ least.
struct Columns {
    time: usize,
    place: usize,
    thread: usize,
    sequence: usize,
    what: usize,
    node: usize,
}

/// For screens of less than [`WIDE`]: the day is left out.
const NARROW_COLUMNS: Columns = Columns { time: 12, place: 6, thread: 12, sequence: 4, what: 18, node: 10 };
const WIDE_COLUMNS: Columns = Columns { time: 18, place: 9, thread: 20, sequence: 5, what: 18, node: 14 };
const WIDE: usize = 132;
/// The gist is cut here where lines may be of any length: a state of some MiB is nothing to be read.
const GIST_COLUMNS_MAX: usize = 400;

pub const RED: &str = "\x1b[31m";
pub const GREEN: &str = "\x1b[32m";
pub const YELLOW: &str = "\x1b[33m";
pub const CYAN: &str = "\x1b[36m";
pub const DIM: &str = "\x1b[2m";
pub const RESET: &str = "\x1b[0m";

/// How lines look.
#[derive(Clone, Copy, Default, Debug)]
pub struct Style {
    pub screen: Screen,
}

impl Style {
    /// Appends the line of an item, if it has one.
    pub fn item(&self, item: &Item, out: &mut Vec<u8>) {
        let line = match item {
            Item::Event(seen) => self.event(seen),
            other => match notice(other) {
                Some(text) => self.paint(YELLOW, &fit(&text, self.screen.width.unwrap_or(usize::MAX))).into_owned(),
                None => return,
            },
        };
        out.extend_from_slice(line.trim_end().as_bytes());
        out.push(b'\n');
    }

    fn event(&self, seen: &Seen) -> String {
        let header = line::header(&seen.message);
        let time_us = header.map(|header| header.timestamp_us).filter(|time| *time != 0);
        let time = time_us.or(seen.timestamp_ms.map(|ms| ms.saturating_mul(1_000))).map_or("-".to_owned(), clock);
        let place = match seen.index_in_record {
            0 => format!("{}/{}", seen.partition, seen.offset),
            index => format!("{}/{}.{index}", seen.partition, seen.offset),
        };
        let thread = header.map_or("", |header| &header.thread_id);
        let sequence = header.map(|header| header.sequence).filter(|sequence| *sequence != 0);
        let sequence = sequence.map_or("-".to_owned(), |sequence| format!("#{sequence}"));
        let (what, node, gist) = gist(seen);
        let colour = colour(seen, &what);
        let wide = self.screen.width.is_none_or(|width| width >= WIDE);
        let columns = if wide { WIDE_COLUMNS } else { NARROW_COLUMNS };
        // The clock begins with the day.
        let time = time.get(time.len().saturating_sub(columns.time)..).unwrap_or(&time);
        let cells = [
            (DIM, pad(time, columns.time)),
            (DIM, pad(&place, columns.place)),
            ("", pad(&middle(&plain(thread), columns.thread), columns.thread)),
            (DIM, pad(&sequence, columns.sequence)),
            (colour, pad(&fit(&plain(&what), columns.what), columns.what)),
            ("", pad(&middle(&plain(&node), columns.node), columns.node)),
        ];
        let (mut line, mut used) = (String::new(), 0);
        for (colour, cell) in &cells {
            used += cell.width() + 1;
            line.push_str(&self.paint(colour, cell));
            line.push(' ');
        }
        let room = self.screen.width.map_or(GIST_COLUMNS_MAX, |width| width.saturating_sub(used));
        line.push_str(&fit(&plain(&gist), room));
        line
    }

    /// The text in this colour, where colours are wanted.
    pub fn paint<'a>(&self, colour: &str, text: &'a str) -> Cow<'a, str> {
        match self.screen.colour && !colour.is_empty() {
            true => Cow::Owned(format!("{colour}{text}{RESET}")),
            false => Cow::Borrowed(text),
        }
    }
}

fn colour(seen: &Seen, what: &str) -> &'static str {
    match line::kind(&seen.message) {
        Some(Kind::Error) => {
            if is_failure(&seen.message) {
                RED
            } else {
                YELLOW
            }
        }
        Some(Kind::Event) if what.ends_with("_ERROR") => RED,
        Some(Kind::Event) if what.ends_with("_WARNING") || what.ends_with("_RETRY") => YELLOW,
        Some(Kind::Event) if what.ends_with("_START") => CYAN,
        Some(Kind::Event) if what.ends_with("_END") => GREEN,
        Some(Kind::Event) => "",
        _ => DIM,
    }
}

/// A line about what is missing, repeated or unreadable.
pub fn notice(item: &Item) -> Option<String> {
    Some(match item {
        Item::Bad(bad) => {
            format!("-- {}/{} holds no event: {}: {}", bad.partition, bad.offset, bad.reason, plain(&bad.detail))
        }
        Item::Gap { partition, from, to, reason } => {
            let last = to.0.saturating_sub(1);
            format!("-- partition {partition}: offsets {from} to {last} are gone: {}", plain(reason))
        }
        Item::Missing { tenant, thread, from, to } => {
            let last = to.saturating_sub(1);
            format!("-- {}/{}: sequences {from} to {last} are missing", plain(tenant), plain(thread))
        }
        Item::Duplicate { partition, offset, tenant, thread, sequence } => format!(
            "-- {}/{}: sequence {sequence} came before; {partition}/{offset} repeats it",
            plain(tenant),
            plain(thread)
        ),
        Item::StreamChanged => "-- the topic was made again: offsets begin anew".to_owned(),
        Item::Event(_) | Item::Live | Item::Connected | Item::Disconnected { .. } | Item::Idle | Item::End => {
            return None;
        }
    })
}

/// What it is, at which node (or tool, model, scope), and what it says.
fn gist(seen: &Seen) -> (String, String, String) {
    let name = |kind: Kind| kind.label().to_owned();
    match &seen.message.message {
        None => (String::new(), String::new(), String::new()),
        Some(Payload::Event(event)) => {
            (event_type_name(event.event_type).into_owned(), event.node_id.clone(), event_gist(event))
        }
        Some(Payload::TokenChunk(chunk)) => (name(Kind::TokenChunk), chunk.model.clone(), token_gist(chunk)),
        Some(Payload::StateDiff(diff)) => (name(Kind::StateDiff), String::new(), diff_gist(diff)),
        Some(Payload::ToolExecution(tool)) => (name(Kind::ToolExecution), tool.tool_name.clone(), tool_gist(tool)),
        Some(Payload::Checkpoint(checkpoint)) => {
            let mut id = Vec::new();
            line::hex(&checkpoint.checkpoint_id, &mut id);
            let state = format!("state of {} bytes", checkpoint.state.len());
            (name(Kind::Checkpoint), String::from_utf8_lossy(&id).into_owned(), state)
        }
        Some(Payload::Metrics(metrics)) => (name(Kind::Metrics), metrics.scope.clone(), metrics_gist(metrics)),
        Some(Payload::Error(error)) => (name(Kind::Error), error.error_code.clone(), error.message.clone()),
        Some(Payload::ExecutionTrace(trace)) => {
            let nodes = counted(trace.nodes_executed.len() as u64, "node");
            let end = if trace.completed { "completed" } else { "not completed" };
            let took = duration(i64::try_from(trace.total_duration_ms).unwrap_or(i64::MAX).saturating_mul(1_000));
            let gist = format!("{nodes} in {took}, {} tokens, {end}", trace.total_tokens);
            (name(Kind::ExecutionTrace), trace.execution_id.clone(), gist)
        }
        Some(Payload::EventBatch(_)) => (name(Kind::EventBatch), String::new(), String::new()),
    }
}

fn event_gist(event: &Event) -> String {
    let mut gist = String::new();
    if event.duration_us != 0 {
        gist.push_str(&duration(event.duration_us));
    }
    let mut json = Vec::new();
    for (key, value) in &event.attributes {
        // What is beyond the screen is not made into text.
        if gist.len() > GIST_COLUMNS_MAX {
            break;
        }
        json.clear();
        let one = Event { attributes: [(key.clone(), value.clone())].into(), ..Event::default() };
        data_json(&Payload::Event(one), &mut json);
        let json = String::from_utf8_lossy(&json);
        let value = json.trim_start_matches('{').trim_end_matches('}').split_once("\":").map_or("", |(_, value)| value);
        let space = if gist.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        write!(gist, "{space}{key}={value}").ok();
    }
    gist
}

fn token_gist(chunk: &TokenChunk) -> String {
    let end = if chunk.is_final { " (final)" } else { "" };
    format!("{:?}{end}", chunk.text)
}

fn diff_gist(diff: &StateDiff) -> String {
    if !diff.full_state.is_empty() {
        return format!("the whole state, {} bytes", diff.full_state.len());
    }
    let one = |op: i32| OpType::try_from(op).map_or("?", |op| op.as_str_name().trim_start_matches("OP_TYPE_"));
    let shown = diff.operations.iter().take(3);
    let mut texts: Vec<String> =
        shown.map(|operation| format!("{} {}", one(operation.op).to_ascii_lowercase(), operation.path)).collect();
    if diff.operations.len() > 3 {
        texts.push(format!("{} more", diff.operations.len() - 3));
    }
    texts.join(", ")
}

fn tool_gist(tool: &ToolExecution) -> String {
    let stage = ExecutionStage::try_from(tool.stage).map_or("?", |stage| stage.as_str_name());
    let mut gist = stage.trim_start_matches("EXECUTION_STAGE_").to_ascii_lowercase();
    if tool.duration_us != 0 {
        gist.push_str(&format!(" in {}", duration(tool.duration_us)));
    }
    if !tool.error.is_empty() {
        gist.push_str(&format!(": {}", tool.error));
    }
    gist
}

fn metrics_gist(metrics: &Metrics) -> String {
    let value = |metric: &MetricValue| match &metric.value {
        None => "-".to_owned(),
        Some(metric_value::Value::IntValue(value)) => value.to_string(),
        Some(metric_value::Value::FloatValue(value)) => value.to_string(),
        Some(metric_value::Value::StringValue(value)) => value.clone(),
        Some(metric_value::Value::BoolValue(value)) => value.to_string(),
        Some(metric_value::Value::BytesValue(value)) => format!("{} bytes", value.len()),
    };
    let shown = metrics.metrics.iter().take(20).map(|(name, metric)| {
        let space = if metric.unit.is_empty() { "" } else { " " };
        format!("{name}={}{space}{}", value(metric), metric.unit)
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// `MM-DD HH:MM:SS.mmm`, UTC.
pub fn clock(micros: i64) -> String {
    let Some(time) = moment(micros) else { return "-".to_owned() };
    format!(
        "{:02}-{:02} {:02}:{:02}:{:02}.{:03}",
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// RFC 3339 with microseconds, UTC; `-` for a time beyond the calendar.
pub fn rfc3339(micros: i64) -> String {
    known_rfc3339(micros).unwrap_or_else(|| "-".to_owned())
}

/// The same for programs, to which `-` is no time.
pub fn known_rfc3339(micros: i64) -> Option<String> {
    let time = moment(micros).filter(|time| time.year() >= 0)?;
    Some(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.microsecond()
    ))
}

fn moment(micros: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()
}

/// Text from outside without anything that a terminal would obey: controls, and signs that turn the direction around.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '\n' => plain.push_str("\\n"),
            '\r' => plain.push_str("\\r"),
            '\t' => plain.push_str("\\t"),
            letter if is_obeyed(letter) => plain.extend(letter.escape_unicode()),
            letter => plain.push(letter),
        }
    }
    Cow::Owned(plain)
}

/// At most so many columns; what is cut ends in an ellipsis.
pub fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut fitting = take_columns(text.chars(), columns.saturating_sub(1));
    if columns > 0 {
        fitting.push('…');
    }
    fitting
}

/// The same, cut in the middle.
pub fn middle(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let tail_columns = columns.saturating_sub(1) / 2;
    let head = take_columns(text.chars(), columns.saturating_sub(1) - tail_columns);
    let tail: String = take_columns(text.chars().rev(), tail_columns).chars().rev().collect();
    format!("{head}…{tail}")
}

fn take_columns(letters: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    letters
        .take_while(|letter| {
            used += letter.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

/// With spaces up to so many columns.
pub fn pad(text: &str, columns: usize) -> String {
    let spaces = columns.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(spaces))
}
