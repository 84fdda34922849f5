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
use super::show::human::{DIM, GREEN, RED, Style, YELLOW, fit, known_rfc3339, pad, plain, rfc3339};
use super::show::{Form, csv, tame};
use super::stop::Stop;
use crate::analysis::life::{STATUSES, Status};
use crate::analysis::text::duration;

const FLAGS: Flags = Flags {
    from: "earliest",
    follow: false,
    limit: Some("List so many runs at most, the latest ones"),
    forms: &[Form::Human, Form::Json, Form::Jsonl, Form::Csv],
    thread_required: false,
};

pub fn command() -> Command {
    let command = Command::new("runs").about("List runs: status, times, events, errors, partition").long_about(format!(
        "Reads what the log holds up to now and lists its runs, by the time at which they began. {STATUSES} It is said \
         where the beginning of a run was not read. A thread that starts again after it has ended is another run, such as run-1#2. \
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

/// From here on there is room for everything beside the name.
const WIDE: usize = 110;
/// Below this there is room for little.
const NARROW: usize = 60;

fn human(runs: &[&Run], style: Style, out: &mut Vec<u8>) -> std::io::Result<()> {
    let width = style.screen.width.unwrap_or(usize::MAX);
    let title = match width {
        ..NARROW => format!("{:8} {:>10} run", "status", "took"),
        NARROW..WIDE => format!("{:8} {:9} {:>10} {:>7} {:>6} run", "status", "began", "took", "events", "errors"),
        _ => format!(
            "{:8} {:20} {:>10} {:>7} {:>6} {:>9} run",
            "status", "began", "took", "events", "errors", "partition"
        ),
    };
    writeln!(out, "{}", style.paint(DIM, &fit(&title, width)))?;
    for run in runs {
        let status = run.life.status();
        let colour = match status {
            Status::Failed => RED,
            Status::Done => GREEN,
            Status::Running | Status::Waiting => YELLOW,
        };
        // Down to the second: what comes first is seen by the order.
        let began = run.life.began_us().map_or("-".to_owned(), rfc3339);
        let took = run.life.took_us().map_or("-".to_owned(), duration);
        let (events, errors) = (run.events, run.errors);
        let facts = match width {
            ..NARROW => format!(" {took:>10} "),
            NARROW..WIDE => {
                let clock = began.get(11..19).map_or(began.clone(), |second| format!("{second}Z"));
                format!(" {clock:9} {took:>10} {events:>7} {errors:>6} ")
            }
            _ => {
                let second = began.get(..19).map_or(began.clone(), |second| format!("{second}Z"));
                let partition = run.partition.to_string();
                format!(" {second:20} {took:>10} {events:>7} {errors:>6} {partition:>9} ")
            }
        };
        let mut remarks: Vec<String> = [(run.missing, "missing"), (run.duplicates, "twice")]
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{number} {what}"))
            .collect();
        if !run.life.has_begun() {
            remarks.insert(0, "its beginning was not read".to_owned());
        }
        let remarks = if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join(", ")) };
        let nth = if run.nth > 1 { format!("#{}", run.nth) } else { String::new() };
        // Whole in any case: it is what other commands are given.
        let name = format!("{}/{}{nth}", plain(&run.tenant), plain(&run.thread));
        let room = width.saturating_sub(8 + facts.width() + name.width());
        let status = pad(status.label(), 8);
        writeln!(out, "{}{facts}{name}{}", style.paint(colour, &status), fit(&remarks, room))?;
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
        ("status", json!(run.life.status().label())),
        ("start_time", json!(run.life.began_us().and_then(known_rfc3339))),
        ("end_time", json!(run.life.ended_us().and_then(known_rfc3339))),
        ("duration_micros", json!(run.life.took_us())),
        ("events", json!(run.events)),
        ("errors", json!(run.errors)),
        ("missing_sequences", json!(run.missing)),
        ("duplicates", json!(run.duplicates)),
        ("partial", json!(!run.life.has_begun())),
    ];
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    tame::document(format!("{{{}}}", fields.join(",")))
}

const CSV_HEADER: &str = "tenant_id,thread_id,partition,status,start_time,end_time,duration_micros,events,errors,missing_sequences,\
     duplicates,nth,partial\n";

fn csv_line(run: &Run, out: &mut Vec<u8>) {
    let time = |time: Option<i64>| time.and_then(known_rfc3339).unwrap_or_default();
    let cells = [
        run.tenant.clone(),
        run.thread.clone(),
        run.partition.to_string(),
        run.life.status().label().to_owned(),
        time(run.life.began_us()),
        time(run.life.ended_us()),
        run.life.took_us().map_or(String::new(), |duration| duration.to_string()),
        run.events.to_string(),
        run.errors.to_string(),
        run.missing.to_string(),
        run.duplicates.to_string(),
        run.nth.to_string(),
        (!run.life.has_begun()).to_string(),
    ];
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        csv::field(cell.as_bytes(), out);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::Script;
    use crate::cli::show::terminal::Screen;
    use crate::cli::source::{Item, Seen};
    use crate::words::{Offset, PartitionId};

    fn table(script: &Script) -> Table {
        let mut table = Table::default();
        for message in &script.messages {
            table.note(&Item::Event(Seen {
                partition: PartitionId(3),
                offset: Offset(0),
                timestamp_ms: None,
                key: None,
                index_in_record: 0,
                message: message.clone(),
            }));
        }
        table
    }

    #[test]
    fn a_run_is_named_whole_however_narrow_the_screen_is() {
        let thread = "support-6f9619ff-8b86-d011-b42d-00c04fc964ff";
        let mut script = Script::new("acme", thread);
        script.node("a", 12);
        let table = table(&script);
        let lines = |width: Option<usize>| {
            let mut out = Vec::new();
            let style = Style { screen: Screen { width, colour: false } };
            human(&table.latest(9), style, &mut out).expect("written to memory");
            String::from_utf8(out).expect("UTF-8").lines().map(str::to_owned).collect::<Vec<_>>()
        };
        for width in [20, 40, 60, 80, 109, 110, 132] {
            let lines = lines(Some(width));
            assert!(lines[0].width() <= width, "{lines:?}");
            assert!(lines[1].contains(&format!("acme/{thread}")), "{lines:?}");
        }
        assert_eq!(lines(Some(80))[0], "status   began           took  events errors run");
        assert_eq!(lines(Some(80))[1], format!("running  22:13:20Z    12.0 ms       2      0 acme/{thread}"));
        let wide = format!(
            "running  2023-11-14T22:13:20Z    12.0 ms       2      0         3 acme/{thread} (its beginning was not read)"
        );
        assert_eq!(lines(None)[1], wide);
    }

    #[test]
    fn a_time_that_no_calendar_has_is_none() {
        let mut script = Script::new("t", "run");
        script.now_us = i64::MAX / 2;
        script.graph_start();
        let table = table(&script);
        assert!(object(table.latest(1)[0]).contains("\"start_time\":null,\"end_time\":null"));
        let mut line = Vec::new();
        csv_line(table.latest(1)[0], &mut line);
        assert_eq!(String::from_utf8_lossy(&line), "t,run,3,running,,,0,1,0,0,0,1,false\n");
    }
}
