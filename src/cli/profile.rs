//! `dashstream profile`: where the time and the tokens of a run went, node by node.

use std::io::Write;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use super::CliError;
use super::gather::{self, Gathered};
use super::inspect::{Findings, HOW, texts};
use super::reading::{self, Flags};
use super::sheet::{Align, Sheet};
use super::show::human::{RED, Style, YELLOW};
use super::show::{Form, tame};
use crate::analysis::SpanKind;
use crate::analysis::profile::Row;
use crate::analysis::text::{count, duration};
use crate::analysis::trail::Point;

const FLAGS: Flags =
    Flags { from: "earliest", follow: false, limit: None, forms: &[Form::Human, Form::Json], thread_required: true };

pub fn command() -> Command {
    let command = Command::new("profile")
        .about("Show where the time and the tokens of a run went")
        .long_about(
            "For every node, model and tool of a run: how often, how long in total, without what its calls took \
             (self), the median and the longest, failures, retries and tokens. Nodes that ran in parallel both count, \
             so the sum may be more than the run took.",
        )
        .arg(
            Arg::new("top")
                .long("top")
                .value_name("NUMBER")
                .value_parser(value_parser!(u64).range(1..))
                .default_value("20")
                .help("Rows of each kind, those that took longest")
                .help_heading(HOW),
        );
    reading::with_flags(
        gather::with_prices(gather::with_nth(command)),
        FLAGS,
        "Examples:\n  \
         dashstream profile --thread run-1\n  \
         dashstream profile --thread run-1 --nth 2 --top 5 --output json",
    )
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let prices = gather::prices(matches)?;
    let Gathered { reading, runs, notes, absent, .. } = gather::runs(matches)?;
    let top = matches.get_one::<u64>("top").copied().unwrap_or(u64::MAX);
    let top = usize::try_from(top).unwrap_or(usize::MAX);
    let findings: Vec<_> = runs.iter().map(|run| Findings::of(run, &prices, &Point::Sequence(0))).collect();
    let text = match reading.form {
        Form::Human => {
            let texts: Vec<_> =
                findings.iter().map(|one| human(&reading.style, one, top, !prices.is_empty())).collect();
            notes.iter().for_each(|note| reading::remark(&note.to_string()));
            texts.join("\n")
        }
        _ => {
            let documents: Vec<_> = findings.iter().map(|one| document(one, top)).collect();
            tame::document(format!("{:#}\n", json!({ "runs": documents, "notes": texts(&notes) })))
        }
    };
    output.write_all(text.as_bytes())?;
    output.flush()?;
    gather::all_found(absent)
}

/// The rows of each kind that took longest, in the order of the profile.
fn longest<'a>(one: &'a Findings<'_>, top: usize) -> Vec<&'a Row> {
    [SpanKind::Node, SpanKind::Model, SpanKind::Tool]
        .into_iter()
        .flat_map(|kind| one.profile.rows.iter().filter(move |row| row.kind == kind).take(top))
        .collect()
}

fn human(style: &Style, one: &Findings<'_>, top: usize, priced: bool) -> String {
    let profile = &one.profile;
    let head = format!(
        "{}  {}  {}, of which {} in no node",
        one.run.id,
        one.run.status.label(),
        duration(profile.took_us),
        duration(profile.idle_us)
    );
    let mut text = format!("{head}\n");
    for note in &one.notes {
        text.push_str(&format!("{}\n", style.paint(YELLOW, &format!("  ! {note}"))));
    }
    let mut columns = vec![
        ("kind", Align::Left),
        ("name", Align::Left),
        ("times", Align::Right),
        ("total", Align::Right),
        ("share", Align::Right),
        ("self", Align::Right),
        ("median", Align::Right),
        ("longest", Align::Right),
        ("failed", Align::Right),
        ("tokens", Align::Right),
    ];
    if priced {
        columns.push(("cost", Align::Right));
    }
    let mut sheet = Sheet::new(&columns);
    for row in longest(one, top) {
        let share = i128::from(row.total_us) * 100 / i128::from(profile.took_us.max(1));
        let mut cells = vec![
            row.kind.label().to_owned(),
            row.name.clone(),
            count(row.times),
            duration(row.total_us),
            format!("{share} %"),
            duration(row.self_us),
            duration(row.median_us),
            duration(row.most_us),
            if row.failed > 0 { count(row.failed) } else { String::new() },
            if row.sum.tokens() > 0 { count(row.sum.tokens()) } else { String::new() },
        ];
        if priced {
            cells.push(if row.sum.calls > row.sum.unpriced { row.sum.cost.to_string() } else { String::new() });
        }
        sheet.coloured(if row.failed > 0 { RED } else { "" }, cells);
    }
    sheet.write(style, "", &mut text);
    text
}

fn document(one: &Findings<'_>, top: usize) -> Value {
    let rows: Vec<_> = longest(one, top)
        .into_iter()
        .map(|row| {
            json!({
                "kind": row.kind.label(),
                "name": row.name,
                "times": row.times,
                "failed": row.failed,
                "retries": row.retries,
                "total_us": row.total_us.to_string(),
                "self_us": row.self_us.to_string(),
                "median_us": row.median_us.to_string(),
                "longest_us": row.most_us.to_string(),
                "input_tokens": row.sum.input,
                "output_tokens": row.sum.output,
                "cost": row.sum.known_cost(),
            })
        })
        .collect();
    json!({
        "tenant_id": one.run.id.owner.tenant,
        "thread_id": one.run.id.owner.thread,
        "nth": one.run.id.nth,
        "status": one.run.status.label(),
        "duration_us": one.profile.took_us.to_string(),
        "in_no_node_us": one.profile.idle_us.to_string(),
        "rows": rows,
        "notes": texts(&one.notes),
    })
}
