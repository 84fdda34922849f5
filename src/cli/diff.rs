//! `dashstream diff`: two states of a run, or two runs, beside each other.

use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::CliError;
use super::gather::{self, ExplainError, Gathered};
use super::inspect::{Findings, HOW, brief, parse_point, texts};
use super::reading::{self, Flags, usage};
use super::sheet::{Align, Sheet};
use super::show::human::{DIM, GREEN, RED, Style, YELLOW};
use super::show::{Form, tame};
use crate::analysis::compare::{Difference, differences};
use crate::analysis::profile::Row;
use crate::analysis::text::{count, counted, duration};
use crate::analysis::trail::{Point, Trail, follow};
use crate::analysis::{Note, Run, SpanKind};

const FLAGS: Flags =
    Flags { from: "earliest", follow: false, limit: None, forms: &[Form::Human, Form::Json], thread_required: true };

pub fn command() -> Command {
    let points = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).action(ArgAction::Append).help(help).help_heading(HOW)
    };
    let command = Command::new("diff")
        .about("Compare two states of a run, or two runs")
        .long_about(
            "With two --checkpoint or --at, compares the states of one run at these points, as made again from its \
             changes. Without, compares two runs: name two threads, or two runs of one thread with --nth. Then times, \
             tokens and nodes stand beside each other, and the states at the ends are compared. That there are \
             differences is no failure: the exit code is 0.",
        )
        .arg(points("checkpoint", "ID", "Two of them: the states that these checkpoints saved"))
        .arg(points("at", "POINT", "Two of them: a sequence, a time (RFC 3339), checkpoint:ID, or end"));
    reading::with_flags(
        gather::with_prices(gather::with_nth(command)),
        FLAGS,
        "Examples:\n  \
         dashstream diff --thread run-1 --checkpoint 3f2a --checkpoint 9b01\n  \
         dashstream diff --thread run-1 --at 10 --at end\n  \
         dashstream diff --thread run-1,run-2",
    )
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let checkpoints = matches.get_many::<String>("checkpoint").unwrap_or_default();
    let mut asked: Vec<String> = checkpoints.map(|id| format!("checkpoint:{id}")).collect();
    asked.extend(matches.get_many::<String>("at").unwrap_or_default().cloned());
    let points = asked.iter().map(|text| parse_point("--at", text)).collect::<Result<Vec<_>, _>>()?;
    if !matches!(points.len(), 0 | 2) {
        let why = "two points are compared: give --checkpoint or --at twice, or neither to compare two runs";
        return Err(usage("--at", &asked.join(" "), why));
    }
    let prices = gather::prices(matches)?;
    let Gathered { reading, runs, notes, absent, .. } = gather::runs(matches)?;
    let style = &reading.style;
    let text = match (points.as_slice(), runs.as_slice()) {
        ([a, b], [run]) => {
            let sides = [follow(run, a), follow(run, b)];
            if let Some(lost) = sides.iter().zip(&asked).find(|(side, _)| !side.reached) {
                return Err(ExplainError::NoPoint { asked: lost.1.clone() }.into());
            }
            match reading.form {
                Form::Human => states(style, run, &asked, &sides),
                _ => {
                    let state = compared(&sides);
                    tame::document(format!(
                        "{:#}\n",
                        json!({ "run": run.id.to_string(), "points": asked, "state": state })
                    ))
                }
            }
        }
        ([], [_, _]) => {
            let sides: Vec<_> = runs.iter().map(|run| Findings::of(run, &prices, &Point::End)).collect();
            match reading.form {
                Form::Human => beside(style, &sides[0], &sides[1], !prices.is_empty()),
                _ => document(&sides[0], &sides[1]),
            }
        }
        (points, runs) => {
            gather::all_found(absent)?;
            let found: Vec<_> = runs.iter().map(|run| run.id.to_string()).collect();
            let wanted = if points.is_empty() { "two runs are" } else { "one run is" };
            return Err(ExplainError::RunsToCompare { wanted, found: found.join(", ") }.into());
        }
    };
    output.write_all(text.as_bytes())?;
    output.flush()?;
    notes.iter().map(Note::to_string).for_each(|note| reading::remark(&note));
    gather::all_found(absent)
}

fn values(sides: &[Trail]) -> Option<(&Value, &Value)> {
    match sides {
        [a, b] => Some((a.state.as_ref()?.value(), b.state.as_ref()?.value())),
        _ => None,
    }
}

fn compared(sides: &[Trail]) -> Value {
    let verdicts: Vec<_> = sides.iter().map(|side| side.steps.last().map(|step| step.verdict.to_string())).collect();
    let Some((before, after)) = values(sides) else {
        return json!({ "known": false, "verdicts": verdicts });
    };
    let (found, left_out) = differences(before, after);
    let list: Vec<_> = found.iter().map(difference).collect();
    json!({ "known": true, "verdicts": verdicts, "differences": list, "left_out": left_out })
}

/// What was not there is not there; what was null is null.
fn difference(one: &Difference) -> Value {
    let mut document = json!({ "path": one.path });
    if let Some(before) = &one.before {
        document["before"] = before.clone();
    }
    if let Some(after) = &one.after {
        document["after"] = after.clone();
    }
    document
}

fn states(style: &Style, run: &Run, asked: &[String], sides: &[Trail; 2]) -> String {
    let mut text = String::new();
    for (sign, (side, asked)) in ["---", "+++"].into_iter().zip(sides.iter().zip(asked)) {
        let step = side.steps.last();
        let event = step.and_then(|step| run.events.get(step.event));
        let place = event.map_or("no state".to_owned(), |event| format!("#{}", event.sequence));
        let verdict = step.map_or(String::new(), |step| format!(", {}", step.verdict));
        let trouble = step.is_none_or(|step| step.verdict.is_trouble());
        let line = format!("{sign} {} at {asked}  {place}{verdict}", run.id);
        text.push_str(&format!("{}\n", style.paint(if trouble { RED } else { "" }, &line)));
    }
    changes(style, sides, "", &mut text);
    text
}

fn changes(style: &Style, sides: &[Trail], indent: &str, text: &mut String) {
    let Some((before, after)) = values(sides) else {
        let said = match sides {
            [Trail { state: Some(_), .. }, _] => "the state of the second is not known there",
            [_, Trail { state: Some(_), .. }] => "the state of the first is not known there",
            _ => "neither state is known there",
        };
        text.push_str(&format!("{indent}{}\n", style.paint(YELLOW, said)));
        return;
    };
    let (found, left_out) = differences(before, after);
    let mut sheet = Sheet::new(&[("", Align::Left), ("", Align::Left), ("", Align::Left)]);
    for one in &found {
        let path =
            if one.path.is_empty() { "(all)".to_owned() } else { super::show::human::plain(&one.path).into_owned() };
        let (colour, what) = match (&one.before, &one.after) {
            (Some(before), Some(after)) => (YELLOW, format!("{} → {}", brief(before), brief(after))),
            (None, Some(after)) => (GREEN, brief(after)),
            (Some(before), None) => (RED, brief(before)),
            (None, None) => ("", String::new()),
        };
        sheet.coloured(colour, vec![one.sign().to_string(), path, what]);
    }
    sheet.write(style, indent, text);
    if left_out > 0 {
        text.push_str(&format!("{indent}{}\n", Note::DifferencesLeftOut(left_out)));
    }
    let said = match found.len() as u64 + left_out {
        0 => "no difference".to_owned(),
        number => counted(number, "difference"),
    };
    text.push_str(&format!("{indent}{}\n", style.paint(DIM, &said)));
}

/// How much more or less the second took.
fn delta(a_us: i64, b_us: i64) -> String {
    let change = b_us.saturating_sub(a_us);
    match change {
        0 => "=".to_owned(),
        1.. => format!("+{}", duration(change)),
        _ => format!("-{}", duration(change.saturating_neg())),
    }
}

fn more(a: u64, b: u64) -> String {
    match b.cmp(&a) {
        std::cmp::Ordering::Equal => "=".to_owned(),
        std::cmp::Ordering::Greater => format!("+{}", count(b - a)),
        std::cmp::Ordering::Less => format!("-{}", count(a - b)),
    }
}

/// The rows of both profiles by kind and name: those of the first, then those that only the second has.
fn rows<'a>(a: &'a Findings<'_>, b: &'a Findings<'_>) -> Vec<(SpanKind, &'a str, Option<&'a Row>, Option<&'a Row>)> {
    let find = |one: &'a Findings<'_>, like: &Row| {
        one.profile.rows.iter().find(|row| row.kind == like.kind && row.name == like.name)
    };
    let first = a.profile.rows.iter().map(|row| (row.kind, row.name.as_str(), Some(row), find(b, row)));
    let only_second = b.profile.rows.iter().filter(|row| find(a, row).is_none());
    let mut all: Vec<_> = first.chain(only_second.map(|row| (row.kind, row.name.as_str(), None, Some(row)))).collect();
    all.sort_by_key(|(kind, ..)| *kind);
    all
}

/// What is counted of a run.
type Number = fn(&Findings<'_>) -> u64;

fn beside(style: &Style, a: &Findings<'_>, b: &Findings<'_>, priced: bool) -> String {
    let columns = [("", Align::Left), ("first", Align::Right), ("second", Align::Right), ("change", Align::Right)];
    let mut sheet = Sheet::new(&columns);
    let status = |one: &Findings<'_>| one.run.status.label().to_owned();
    let same = if status(a) == status(b) { "=" } else { "≠" };
    sheet.row(vec!["status".to_owned(), status(a), status(b), same.to_owned()]);
    let (a_us, b_us) = (a.profile.took_us, b.profile.took_us);
    sheet.row(vec!["took".to_owned(), duration(a_us), duration(b_us), delta(a_us, b_us)]);
    let numbers: [(&str, Number); 5] = [
        ("events", |one| one.run.events.len() as u64),
        ("errors", |one| one.run.errors().count() as u64),
        ("model calls", |one| one.spans.of_kind(SpanKind::Model).count() as u64),
        ("input tokens", |one| one.profile.sum.input),
        ("output tokens", |one| one.profile.sum.output),
    ];
    for (name, number) in numbers {
        sheet.row(vec![name.to_owned(), count(number(a)), count(number(b)), more(number(a), number(b))]);
    }
    if priced {
        let cost = |one: &Findings<'_>| one.profile.sum.cost;
        let apart = cost(a).apart(cost(b));
        let change = match cost(b).cmp(&cost(a)) {
            std::cmp::Ordering::Equal => "=".to_owned(),
            std::cmp::Ordering::Greater => format!("+{apart}"),
            std::cmp::Ordering::Less => format!("-{apart}"),
        };
        sheet.row(vec!["cost".to_owned(), cost(a).to_string(), cost(b).to_string(), change]);
    }
    for (kind, name, first, second) in rows(a, b) {
        let said =
            |row: Option<&Row>| row.map_or("-".to_owned(), |row| format!("{}x {}", row.times, duration(row.total_us)));
        let us = |row: Option<&Row>| row.map_or(0, |row| row.total_us);
        let change = match (first, second) {
            // What is on one side alone is no equal, also where it took no time.
            (Some(row), None) => format!("-{}", duration(row.total_us)),
            (None, Some(row)) => format!("+{}", duration(row.total_us)),
            _ => delta(us(first), us(second)),
        };
        let failed = [first, second].into_iter().flatten().any(|row| row.failed > 0);
        let cells = vec![format!("{} {name}", kind.label()), said(first), said(second), change];
        sheet.coloured(if failed { RED } else { "" }, cells);
    }
    let mut text = String::new();
    for (which, one) in [("first ", a), ("second", b)] {
        text.push_str(&format!("{which}  {}\n", one.run.id));
        for note in &one.notes {
            text.push_str(&format!("  {}\n", style.paint(YELLOW, &format!("! {note}"))));
        }
    }
    text.push('\n');
    sheet.write(style, "", &mut text);
    text.push_str("\nState at the end\n");
    changes(style, &[a.trail.clone(), b.trail.clone()], "  ", &mut text);
    text
}

fn document(a: &Findings<'_>, b: &Findings<'_>) -> String {
    let side = |one: &Findings<'_>| {
        json!({
            "run": one.run.id.to_string(),
            "status": one.run.status.label(),
            "duration_us": one.profile.took_us.to_string(),
            "events": one.run.events.len(),
            "errors": one.run.errors().count(),
            "calls": one.spans.of_kind(SpanKind::Model).count(),
            "input_tokens": one.profile.sum.input,
            "output_tokens": one.profile.sum.output,
            "cost": one.profile.sum.known_cost(),
            "notes": texts(&one.notes),
        })
    };
    let row = |row: Option<&Row>| {
        row.map(|row| json!({ "times": row.times, "failed": row.failed, "total_us": row.total_us.to_string() }))
    };
    let rows: Vec<_> = rows(a, b)
        .into_iter()
        .map(|(kind, name, first, second)| {
            json!({ "kind": kind.label(), "name": name, "first": row(first), "second": row(second) })
        })
        .collect();
    let state = compared(&[a.trail.clone(), b.trail.clone()]);
    let document = json!({ "first": side(a), "second": side(b), "rows": rows, "state": state });
    tame::document(format!("{document:#}\n"))
}
