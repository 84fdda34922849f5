//! `dashstream inspect`: one run explained. What failed, where the time went, what it cost, what the state was.

use std::io::Write;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::CliError;
use super::gather::{self, ExplainError, Gathered};
use super::inspect_text::Page;
use super::paper::to_file;
use super::reading::{self, Flags};
use super::show::human::known_rfc3339;
use super::show::tame;
use crate::analysis::compare::shown;
use crate::analysis::life::STATUSES;
use crate::analysis::live::error_text;
use crate::analysis::otlp;
use crate::analysis::path::{CriticalPath, critical_path};
use crate::analysis::prices::Prices;
use crate::analysis::profile::{Profile, profile};
use crate::analysis::text::hex;
use crate::analysis::trail::{Form, Point, Step, Trail, follow};
use crate::analysis::{Note, Run, Spans};
use crate::wire::state_hash::state_hash;

const FLAGS: Flags = Flags { from: "earliest", follow: false, limit: None, forms: &[], thread_required: true };

pub fn command() -> Command {
    let command = Command::new("inspect")
        .about("Explain one run: errors, critical path, timeline, tokens and costs, state")
        .long_about(format!(
            "Reads a run to where the log ends now and explains it: errors first, then the longest chain of nodes that \
             edges connect, then a timeline of nodes, model calls and tools, and whether every state that a producer \
             hashed can be made again from its changes. --at shows the state itself at a point. What was missing, \
             repeated or unpaired is said. {STATUSES}"
        ))
        .arg(
            Arg::new("at")
                .long("at")
                .value_name("POINT")
                .help("Show the state there: a sequence, a time (RFC 3339), checkpoint:ID, or end")
                .help_heading(HOW),
        )
        .arg(
            Arg::new("events")
                .long("events")
                .action(ArgAction::SetTrue)
                .help("Show every event in the timeline, not only what took time, and the sequence of each")
                .help_heading(HOW),
        )
        .arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_name("FORM")
                .value_parser(PossibleValuesParser::new(["human", "json", "otlp"]))
                .default_value("human")
                .help("human: for reading; json: one document; otlp: spans as OpenTelemetry's OTLP/JSON")
                .help_heading(HOW),
        )
        .arg(to_file(HOW));
    reading::with_flags(
        gather::with_prices(gather::with_nth(command)),
        FLAGS,
        "Examples:\n  \
         dashstream inspect --thread run-1\n  \
         dashstream inspect --thread run-1 --at 40\n  \
         dashstream inspect --thread run-1 --file run-1.json --output json\n  \
         dashstream inspect --thread run-1 --output otlp | curl -H 'content-type: application/json' -d @- localhost:4318/v1/traces",
    )
}

pub(super) const HOW: &str = "How shown";

/// Everything that is found out about a run.
pub(super) struct Findings<'a> {
    pub run: &'a Run,
    pub spans: Spans,
    pub path: Option<CriticalPath>,
    pub profile: Profile,
    pub trail: Trail,
    /// Of the run, its spans and its edges.
    pub notes: Vec<Note>,
}

impl<'a> Findings<'a> {
    pub(super) fn of(run: &'a Run, prices: &Prices, point: &Point) -> Self {
        let spans = Spans::of(run);
        let (path, path_notes) = critical_path(run, &spans);
        let profile = profile(run, &spans, prices);
        let notes = run.notes.iter().chain(&spans.notes).chain(&path_notes).cloned().collect();
        Self { run, path, profile, trail: follow(run, point), notes, spans }
    }
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let point = matches.get_one::<String>("at").map(|text| parse_point("--at", text)).transpose()?;
    let prices = gather::prices(matches)?;
    let Gathered { reading, runs, notes, absent, stop } = gather::runs(matches)?;
    let whole = Point::End;
    let findings: Vec<_> =
        runs.iter().map(|run| Findings::of(run, &prices, point.as_ref().unwrap_or(&whole))).collect();
    if let Some(asked) = matches.get_one::<String>("at")
        && !findings.iter().any(|one| one.trail.reached)
    {
        return Err(ExplainError::NoPoint { asked: asked.clone() }.into());
    }
    let text = match matches.get_one::<String>("output").map(String::as_str) {
        Some("otlp") => {
            let pairs: Vec<_> = findings.iter().map(|one| (one.run, &one.spans)).collect();
            tame::document(format!("{}\n", otlp::traces(&pairs)))
        }
        Some("json") => {
            let documents: Vec<_> = findings.iter().map(|one| document(one, point.is_some())).collect();
            tame::document(format!("{:#}\n", json!({ "runs": documents, "notes": texts(&notes) })))
        }
        _ => {
            let page = Page { style: reading.style, priced: !prices.is_empty(), events: matches.get_flag("events") };
            let mut text = String::new();
            for (index, one) in findings.iter().enumerate() {
                if index > 0 {
                    text.push('\n');
                }
                match &point {
                    Some(_) => page.state(one, &mut text),
                    None => page.run(one, &mut text),
                }
            }
            notes.iter().for_each(|note| reading::remark(&note.to_string()));
            text
        }
    };
    gather::write_out(matches.get_one::<PathBuf>("to").map(PathBuf::as_path), text.as_bytes(), &stop, output)?;
    gather::all_found(absent)
}

/// `dashstream export --output otlp`: the spans of all runs that are read.
pub(super) fn export_spans(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    if let Some(limit) = matches.get_one::<u64>("limit") {
        let why = "spans are made from whole runs: leave it out with --output otlp";
        return Err(reading::usage("--limit", &limit.to_string(), why));
    }
    let Gathered { runs, notes, absent, stop, .. } = gather::runs_of_threads(matches)?;
    let spans: Vec<Spans> = runs.iter().map(Spans::of).collect();
    let pairs: Vec<_> = runs.iter().zip(&spans).collect();
    let text = tame::document(format!("{}\n", otlp::traces(&pairs)));
    notes.iter().for_each(|note| reading::remark(&note.to_string()));
    gather::write_out(matches.get_one::<PathBuf>("to").map(PathBuf::as_path), text.as_bytes(), &stop, output)?;
    gather::all_found(absent)
}

/// A moment within a run.
pub(super) fn parse_point(flag: &str, text: &str) -> Result<Point, CliError> {
    let asked = text.trim();
    if asked == "end" {
        return Ok(Point::End);
    }
    if let Some(id) = asked.strip_prefix("checkpoint:") {
        let is_id = !id.is_empty() && id.chars().all(|letter| letter.is_ascii_hexdigit() || letter == '-');
        if is_id {
            return Ok(Point::Checkpoint(id.to_owned()));
        }
    }
    if let Ok(sequence) = asked.trim_start_matches('#').parse() {
        return Ok(Point::Sequence(sequence));
    }
    if let Ok(at) = OffsetDateTime::parse(asked, &Rfc3339) {
        return Ok(Point::Time(i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)));
    }
    Err(reading::usage(flag, text, "a sequence such as 40, a time such as 2026-01-31T12:00:00Z, checkpoint:ID, or end"))
}

pub(super) fn texts<'a>(notes: impl IntoIterator<Item = &'a Note>) -> Vec<String> {
    notes.into_iter().map(Note::to_string).collect()
}

/// Numbers that a reader in another language may not hold exactly are texts.
fn document(one: &Findings<'_>, with_state: bool) -> Value {
    let Findings { run, spans, path, profile, trail, notes } = one;
    let root = spans.root();
    let sum = &profile.sum;
    let errors: Vec<_> = run
        .errors()
        .map(|event| {
            json!({
                "sequence": event.sequence.to_string(),
                "timestamp_us": event.at_us.to_string(),
                "what": error_text(&event.what),
            })
        })
        .collect();
    let all: Vec<_> = spans
        .all
        .iter()
        .map(|span| {
            json!({
                "kind": span.kind.label(),
                "name": span.name,
                "node": span.node,
                "parent": span.parent,
                "start_us": span.start_us.to_string(),
                "duration_us": span.took_us().to_string(),
                "pairing": span.pairing.label(),
                "error": span.error,
                "retries": span.retries,
            })
        })
        .collect();
    let path = path.as_ref().map(|path| json!({ "spans": path.spans, "duration_us": path.took_us.to_string() }));
    let steps: Vec<_> = trail.steps.iter().map(|step| step_document(run, step)).collect();
    let mut state = json!({ "steps": steps });
    if with_state {
        state["reached"] = json!(trail.reached);
        state["value"] = trail.state.as_ref().map_or(Value::Null, |state| state.value().clone());
        state["hash"] = json!(trail.state.as_ref().map(|state| hex(&state_hash(state.value()))));
    }
    json!({
        "tenant_id": run.id.owner.tenant,
        "thread_id": run.id.owner.thread,
        "nth": run.id.nth,
        "graph": run.graph,
        "status": run.status.label(),
        "trace_id": otlp::trace_id(run, spans),
        "start_time": known_rfc3339(root.start_us),
        "duration_us": root.took_us().to_string(),
        "events": run.events.len(),
        "errors": errors,
        "notes": texts(notes),
        "critical_path": path,
        "spans": all,
        "tokens": { "calls": sum.calls, "input": sum.input, "output": sum.output },
        "cost": sum.known_cost(),
        "unpriced_calls": sum.unpriced,
        "state": state,
    })
}

fn step_document(run: &Run, step: &Step) -> Value {
    let (form, changes, checkpoint) = match &step.form {
        Form::Initial => ("initial", None, None),
        Form::Whole => ("whole", None, None),
        Form::Changes(count) => ("changes", Some(*count), None),
        Form::Checkpoint(id) => ("checkpoint", None, Some(hex(id))),
    };
    json!({
        "sequence": run.events.get(step.event).map(|event| event.sequence.to_string()),
        "form": form,
        "operations": changes,
        "checkpoint_id": checkpoint,
        "verdict": step.verdict.to_string(),
        "bytes": step.bytes,
    })
}

/// One value on one line, for `diff` as well.
pub(super) fn brief(value: &Value) -> String {
    shown(value, 60)
}
