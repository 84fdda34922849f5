//! Where the time and the tokens of a run went, by node, model and tool.

use std::collections::BTreeMap;

use super::calls::{Calls, ModelCall};
use super::costs::{NO_MODEL, NO_NODE, Sum};
use super::prices::Prices;
use super::runs::Run;
use super::spans::{SpanKind, Spans};

/// All executions of one node, or all calls of one model or tool.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    pub kind: SpanKind,
    pub name: String,
    pub times: u64,
    pub failed: u64,
    pub retries: u64,
    pub total_us: i64,
    /// Without what its model and tool calls took.
    pub self_us: i64,
    pub median_us: i64,
    pub most_us: i64,
    /// Of model calls; of a node, of the calls within it.
    pub sum: Sum,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Profile {
    /// The longest total first, nodes before models before tools.
    pub rows: Vec<Row>,
    pub took_us: i64,
    /// Time of the run in which no node ran.
    pub idle_us: i64,
    pub sum: Sum,
}

/// The model calls of one run.
pub fn calls_of(run: &Run) -> Vec<ModelCall> {
    let mut calls = Calls::default();
    run.events.iter().for_each(|event| calls.take(0, &event.what));
    calls.finish().0
}

pub fn profile(run: &Run, spans: &Spans, prices: &Prices) -> Profile {
    let own = self_times(spans);
    let mut groups: BTreeMap<(SpanKind, &str), (Row, Vec<i64>)> = BTreeMap::new();
    for (index, span) in spans.all.iter().enumerate().skip(1) {
        let (row, times) = groups.entry((span.kind, &span.name)).or_insert_with(|| {
            let row = Row {
                kind: span.kind,
                name: span.name.clone(),
                times: 0,
                failed: 0,
                retries: 0,
                total_us: 0,
                self_us: 0,
                median_us: 0,
                most_us: 0,
                sum: Sum::default(),
            };
            (row, Vec::new())
        });
        row.times += 1;
        row.failed += u64::from(span.error.is_some());
        row.retries += u64::from(span.retries);
        row.total_us = row.total_us.saturating_add(span.took_us());
        row.self_us = row.self_us.saturating_add(own[index]);
        row.most_us = row.most_us.max(span.took_us());
        times.push(span.took_us());
    }
    let mut sum = Sum::default();
    let calls = calls_of(run);
    for call in &calls {
        sum.add(call, prices);
        let model = call.model.as_deref().unwrap_or(NO_MODEL);
        let node = call.node.as_deref().unwrap_or(NO_NODE);
        for key in [(SpanKind::Model, model), (SpanKind::Node, node)] {
            if let Some((row, _)) = groups.get_mut(&key) {
                row.sum.add(call, prices);
            }
        }
    }
    let mut rows: Vec<Row> = groups
        .into_values()
        .map(|(mut row, mut times)| {
            times.sort_unstable();
            row.median_us = times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or(0);
            row
        })
        .collect();
    rows.sort_by(|a, b| a.kind.cmp(&b.kind).then(b.total_us.cmp(&a.total_us)).then_with(|| a.name.cmp(&b.name)));
    Profile { rows, took_us: spans.root().took_us(), idle_us: own[0], sum }
}

/// What each span took without those within it: what overlaps is taken off once.
pub fn self_times(spans: &Spans) -> Vec<i64> {
    let mut within: Vec<Vec<(i64, i64)>> = vec![Vec::new(); spans.all.len()];
    for span in &spans.all {
        let Some(parent) = span.parent else { continue };
        let (start_us, end_us) = (spans.all[parent].start_us, spans.all[parent].end_us);
        let part = (span.start_us.clamp(start_us, end_us), span.end_us.clamp(start_us, end_us));
        within[parent].push(part);
    }
    let own = spans.all.iter().zip(within).map(|(span, mut parts)| {
        parts.sort_unstable();
        let (mut covered_us, mut until_us) = (0_i64, span.start_us);
        for (start_us, end_us) in parts {
            covered_us = covered_us.saturating_add(end_us.saturating_sub(start_us.max(until_us)).max(0));
            until_us = until_us.max(end_us);
        }
        span.took_us().saturating_sub(covered_us)
    });
    own.collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Script;
    use super::*;

    #[test]
    fn time_and_tokens_go_to_the_node_the_model_and_what_is_left_to_nobody() {
        let mut script = Script::new("t", "run");
        script.graph_start().wait(5);
        script.start("a").wait(1).model("a", "r1", "large", 30, (10, 20)).wait(1).end("a");
        script.start("a").model("a", "r2", "large", 10, (1, 2)).end("a").node("b", 100).graph_end();
        let run = script.run();
        let profile = profile(&run, &Spans::of(&run), &Prices::parse("large=1/1").expect("a price"));
        let ms = |us: i64| us / 1_000;
        let line = |row: &Row| {
            format!(
                "{} {} {}x {} self {} median {} most {} {}+{} {}",
                row.kind.label(),
                row.name,
                row.times,
                ms(row.total_us),
                ms(row.self_us),
                ms(row.median_us),
                ms(row.most_us),
                row.sum.input,
                row.sum.output,
                row.sum.cost.exact()
            )
        };
        assert_eq!(
            profile.rows.iter().map(line).collect::<Vec<_>>(),
            [
                "node b 1x 100 self 100 median 100 most 100 0+0 0",
                "node a 2x 42 self 2 median 10 most 32 11+22 0.000033",
                "model large 2x 40 self 40 median 10 most 30 11+22 0.000033",
            ]
        );
        assert_eq!((ms(profile.took_us), ms(profile.idle_us)), (147, 5));
        assert_eq!((profile.sum.calls, profile.sum.tokens()), (2, 33));
    }

    #[test]
    fn what_runs_in_parallel_is_taken_off_once() {
        let mut script = Script::new("t", "run");
        script.graph_start().start("a").wait(10).start("b").wait(10).end("a").wait(10).end("b").wait(1).graph_end();
        let spans = Spans::of(&script.run());
        assert_eq!(self_times(&spans), [1_000, 20_000, 20_000]);
    }
}
