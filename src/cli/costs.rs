//! `dashstream costs`: tokens and what they cost, by run, node, model or tenant, over everything that is read.

use std::io::Write;
use std::ops::ControlFlow;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

use super::CliError;
use super::gather;
use super::inspect::{HOW, texts};
use super::reading::{self, Ended, Flags, Reading, remark};
use super::sheet::{Align, Sheet};
use super::show::human::{DIM, Style, plain};
use super::show::{Form, csv, tame};
use super::source::Item;
use super::stop::Stop;
use crate::analysis::costs::{By, CostTable, Costs, Row, Sum};
use crate::analysis::text::count;

const FLAGS: Flags = Flags {
    from: "earliest",
    follow: false,
    limit: None,
    forms: &[Form::Human, Form::Json, Form::Csv],
    thread_required: false,
};

pub fn command() -> Command {
    let command = Command::new("costs")
        .about("Sum tokens and costs by run, node, model or tenant")
        .long_about(
            "Sums the tokens of every model call that is read, each once: its LLM_END knows best, then the statistics \
             of its last chunk, then what its chunks let one count. Prices stand in the configuration (costs.prices) \
             or come with --price; a model without a price is said to have none, and costs nothing in the sum.",
        )
        .arg(
            Arg::new("by")
                .long("by")
                .value_name("WHAT")
                .value_parser(PossibleValuesParser::new(By::ALL.map(By::label)))
                .default_value("model")
                .help("What a row stands for")
                .help_heading(HOW),
        );
    reading::with_flags(
        gather::with_prices(command),
        FLAGS,
        "Examples:\n  \
         dashstream costs --by run --from '1h ago' --price 'gpt-4o=2.50/10,*=0.25/1.25'\n  \
         dashstream costs --by node --thread run-1 --output csv",
    )
}

pub(super) fn run(matches: &ArgMatches, output: &mut dyn Write) -> Result<(), CliError> {
    let prices = gather::prices(matches)?;
    let priced = !prices.is_empty();
    let by = matches.get_one::<String>("by").and_then(|text| By::ALL.into_iter().find(|by| by.label() == text));
    let by = by.unwrap_or(By::Model);
    let reading = Reading::of(matches)?;
    let stop = Stop::on_signals()?;
    let mut costs = Costs::new(by, prices);
    let mut troubles = gather::Troubles::default();
    let mut unseen = gather::Unseen::of(&reading);
    let mut repeated = false;
    let ended = reading.each(&stop, true, |item| {
        match item {
            // What comes twice is paid once.
            Item::Duplicate { .. } => repeated = true,
            Item::Event(seen) => {
                unseen.note(seen);
                if !std::mem::take(&mut repeated) {
                    costs.take(gather::place(seen), &seen.message);
                }
            }
            other => troubles.note(other),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    troubles.remark();
    let table = costs.finish();
    let text = match reading.form {
        Form::Human => human(reading.style, by, &table, priced),
        Form::Csv => rows_csv(by, &table, priced),
        Form::Json | Form::Jsonl => document(by, &table, priced),
    };
    output.write_all(text.as_bytes())?;
    output.flush()?;
    if ended == Ended::Stopped {
        remark("stopped early: sums are of what was read so far");
    }
    if !priced {
        remark("no prices are known: set costs.prices or --price to see costs");
    }
    if reading.form != Form::Json {
        table.notes.iter().for_each(|note| remark(&note.to_string()));
    }
    unseen.finish(ended)
}

fn human(style: Style, by: By, table: &CostTable, priced: bool) -> String {
    let mut columns =
        vec![(by.label(), Align::Left), ("calls", Align::Right), ("input", Align::Right), ("output", Align::Right)];
    if priced {
        columns.extend([("cost", Align::Right), ("share", Align::Right)]);
    }
    let mut sheet = Sheet::new(&columns);
    let cells = |name: &str, sum: &Sum| {
        let mut cells = vec![name.to_owned(), count(sum.calls), count(sum.input), count(sum.output)];
        if priced {
            // Beside a sum that is more than that, a blank keeps the digits below each other.
            let whole = match (sum.unpriced, table.total.unpriced) {
                (1.., _) => "+",
                (0, 1..) => " ",
                (0, 0) => "",
            };
            let share = sum.cost.percent_of(table.total.cost).map_or("-".to_owned(), |percent| format!("{percent} %"));
            match sum.unpriced == sum.calls {
                true => cells.extend(["-".to_owned(), "-".to_owned()]),
                false => cells.extend([format!("{}{whole}", sum.cost), share]),
            }
        }
        cells
    };
    for (row, sum) in &table.rows {
        sheet.row(cells(&plain(&row.name()), sum));
    }
    sheet.coloured(DIM, cells("total", &table.total));
    let mut text = String::new();
    sheet.write(&style, "", &mut text);
    text
}

fn rows_csv(by: By, table: &CostTable, priced: bool) -> String {
    let of_run = if by == By::Run { ",tenant_id,thread_id,nth" } else { "" };
    let header = format!("{},calls,input_tokens,output_tokens,cost,unpriced_calls{of_run}\n", by.label());
    let mut text = header.into_bytes();
    for (row, sum) in &table.rows {
        csv::field(row.name().as_bytes(), &mut text);
        let cost = if priced && sum.unpriced < sum.calls { sum.cost.exact() } else { String::new() };
        text.extend_from_slice(
            format!(",{},{},{},{cost},{}", sum.calls, sum.input, sum.output, sum.unpriced).as_bytes(),
        );
        match row {
            Row::Run(id) => {
                for cell in [&id.owner.tenant, &id.owner.thread, &id.nth.to_string()] {
                    text.push(b',');
                    csv::field(cell.as_bytes(), &mut text);
                }
            }
            _ if by == By::Run => text.extend_from_slice(b",,,"),
            _ => {}
        }
        text.push(b'\n');
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn document(by: By, table: &CostTable, priced: bool) -> String {
    let one = |sum: &Sum| {
        json!({
            "calls": sum.calls,
            "input_tokens": sum.input,
            "output_tokens": sum.output,
            "cost": (priced && sum.unpriced < sum.calls).then(|| sum.cost.exact()),
            "unpriced_calls": sum.unpriced,
        })
    };
    let rows: Vec<Value> = table
        .rows
        .iter()
        .map(|(row, sum)| {
            let mut object = one(sum);
            object[by.label()] = json!(row.name());
            if let Row::Run(id) = row {
                object["tenant_id"] = json!(id.owner.tenant);
                object["thread_id"] = json!(id.owner.thread);
                object["nth"] = json!(id.nth);
            }
            object
        })
        .collect();
    let notes = texts(&table.notes);
    tame::document(format!(
        "{:#}\n",
        json!({ "by": by.label(), "rows": rows, "total": one(&table.total), "notes": notes })
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture::Script;
    use crate::analysis::prices::Prices;

    fn table(by: By, tenant: &str) -> CostTable {
        let mut script = Script::new(tenant, "a,b");
        script.graph_start().model("plan", "r", "large", 1, (1, 2)).graph_end();
        let mut costs = Costs::new(by, Prices::default());
        script.messages.iter().enumerate().for_each(|(offset, one)| costs.take(Script::place(offset), one));
        costs.finish()
    }

    #[test]
    fn a_tenant_moves_no_cursor_and_is_exact_for_programs() {
        let table = table(By::Tenant, "\u{1b}[2Jevil\u{7}");
        let text = human(Style::default(), By::Tenant, &table, false);
        assert!(text.contains("evil") && !text.contains(['\u{1b}', '\u{7}']), "{text:?}");
        assert!(rows_csv(By::Tenant, &table, false).contains("\u{1b}[2Jevil\u{7},1,1,2"));
        assert!(document(By::Tenant, &table, false).contains("\\u001b[2Jevil\\u0007"));
    }

    #[test]
    fn programs_get_the_ids_of_a_run() {
        let table = table(By::Run, "t");
        let text = rows_csv(By::Run, &table, false);
        let expected = "run,calls,input_tokens,output_tokens,cost,unpriced_calls,tenant_id,thread_id,nth\n\
             \"t/a,b\",1,1,2,,1,t,\"a,b\",1\n";
        assert_eq!(text, expected);
        let document: Value = serde_json::from_str(&document(By::Run, &table, false)).expect("JSON");
        let row = &document["rows"][0];
        assert_eq!((&row["tenant_id"], &row["thread_id"], &row["nth"]), (&json!("t"), &json!("a,b"), &json!(1)));
    }
}
