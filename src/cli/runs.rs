//! `dashstream runs`: which runs there are, how they stand, and where they lie.

mod table;

use std::io::Write;
use std::ops::ControlFlow;

use clap::{ArgMatches, Command};
use serde_json::json;
use unicode_width::UnicodeWidthStr;

use self::table::{RUNS_MAX, Run, Table};
use super::CliError;
use super::reading::{self, Ended, Flags, Reading, remark};
use super::show::human::{DIM, GREEN, RED, Style, YELLOW, fit, pad, plain, rfc3339, took};
use super::show::{Form, csv};
use super::stop::Stop;

const FLAGS: Flags = Flags {
    from: "earliest",
    follow: false,
    limit: Some("List so many runs at most, the latest ones"),
    forms: &[Form::Human, Form::Json, Form::Jsonl, Form::Csv],
    thread_required: false,
};

pub fn command() -> Command {
    let command = Command::new("runs").about("List runs: status, times, events, errors, partition").long_about(format!(
        "Reads what the log holds up to now and lists its runs, by the time at which they began. A run is done after \
         GRAPH_END, failed after GRAPH_ERROR, running before either, and partial where its beginning was not read. A \
         thread that starts again after it has ended is another run, such as run-1#2. \
         At most {RUNS_MAX} runs are kept, the ones seen last; a remark says how many were let go."
    ));
    reading::with_flags(
        command,
        FLAGS,
        "Examples:\n  \
         dashstream runs --from 1h\n  \
         dashstream runs --tenant acme --limit 20\n  \
         dashstream runs --output csv > runs.csv",
    )
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let reading = Reading::of(matches)?;
    let stop = Stop::on_signals()?;
    let mut table = Table::default();
    let ended = reading.each(&stop, true, |item| {
        table.note(item);
        Ok(ControlFlow::Continue(()))
    });
    // What was found so far is shown in any case; what failed is told after it.
    let shown = show(&table, &reading, output);
    let ended = ended?;
    shown?;
    if ended == Ended::Stopped {
        remark("stopped early: there may be more runs, and more events of these");
    }
    if table.forgotten > 0 {
        remark(&format!("{} more runs were let go: narrow it with --from, --tenant or --partition", table.forgotten));
    }
    Ok(())
}

fn show(table: &Table, reading: &Reading, output: &mut dyn Write) -> Result<(), CliError> {
    let runs = table.latest(reading.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)));
    let mut text = Vec::new();
    match reading.form {
        Form::Human => human(&runs, reading.style, &mut text)?,
        Form::Csv => {
            text.extend_from_slice(CSV_HEADER.as_bytes());
            runs.iter().for_each(|run| csv_line(run, &mut text));
        }
        Form::Jsonl => {
            for run in &runs {
                text.extend_from_slice(object(run).as_bytes());
                text.push(b'\n');
            }
        }
        Form::Json => {
            text.extend_from_slice(b"{\"runs\":[");
            for (index, run) in runs.iter().enumerate() {
                text.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
                text.extend_from_slice(object(run).as_bytes());
            }
            let (shown, forgotten) = (runs.len(), table.forgotten);
            writeln!(text, "\n],\"total_runs\":{shown},\"let_go\":{forgotten}}}")?;
        }
    }
    output.write_all(&text)?;
    output.flush()?;
    Ok(())
}

fn human(runs: &[&Run], style: Style, out: &mut Vec<u8>) -> std::io::Result<()> {
    let title =
        format!("{:8} {:20} {:>8} {:>7} {:>6} {:>9} run", "status", "began", "took", "events", "errors", "partition");
    writeln!(out, "{}", style.paint(DIM, &title))?;
    for run in runs {
        let colour = match run.status() {
            "failed" => RED,
            "done" => GREEN,
            "running" => YELLOW,
            _ => DIM,
        };
        // Down to the second: what comes first is seen by the order.
        let began = run.began_us().map_or("-".to_owned(), rfc3339);
        let began = began.get(..19).map_or(began.clone(), |second| format!("{second}Z"));
        let named = [(run.missing, "missing"), (run.duplicates, "twice")];
        let named: Vec<_> =
            named.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
        let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
        let nth = if run.nth > 1 { format!("#{}", run.nth) } else { String::new() };
        let name = format!("{}/{}{nth}{named}", plain(&run.tenant), plain(&run.thread));
        let took = run.duration_us().map_or("-".to_owned(), took);
        let partition = run.partition.to_string();
        let line = format!(" {began:20} {took:>8} {:>7} {:>6} {partition:>9} ", run.events, run.errors);
        let room = style.screen.width.map_or(usize::MAX, |width| width.saturating_sub(8 + line.width()));
        writeln!(out, "{}{line}{}", style.paint(colour, &pad(run.status(), 8)), fit(&name, room))?;
    }
    Ok(())
}

/// As JSON, on one line; the order of the fields is ours.
fn object(run: &Run) -> String {
    let fields = [
        ("tenant_id", json!(run.tenant)),
        ("thread_id", json!(run.thread)),
        ("nth", json!(run.nth)),
        ("partition", json!(run.partition.0)),
        ("status", json!(run.status())),
        ("start_time", json!(run.began_us().map(rfc3339))),
        ("end_time", json!(run.ended_us().map(rfc3339))),
        ("duration_micros", json!(run.duration_us())),
        ("events", json!(run.events)),
        ("errors", json!(run.errors)),
        ("missing_sequences", json!(run.missing)),
        ("duplicates", json!(run.duplicates)),
    ];
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

const CSV_HEADER: &str = "tenant_id,thread_id,partition,status,start_time,end_time,duration_micros,events,errors,missing_sequences,\
     duplicates,nth\n";

fn csv_line(run: &Run, out: &mut Vec<u8>) {
    let time = |time: Option<i64>| time.map_or(String::new(), rfc3339);
    let cells = [
        run.tenant.clone(),
        run.thread.clone(),
        run.partition.to_string(),
        run.status().to_owned(),
        time(run.began_us()),
        time(run.ended_us()),
        run.duration_us().map_or(String::new(), |duration| duration.to_string()),
        run.events.to_string(),
        run.errors.to_string(),
        run.missing.to_string(),
        run.duplicates.to_string(),
        run.nth.to_string(),
    ];
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        csv::field(cell.as_bytes(), out);
    }
    out.push(b'\n');
}
