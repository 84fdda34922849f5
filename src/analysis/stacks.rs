//! The time of a run as stacks, `graph;node;call microseconds`, which is what draws flame graphs.

use std::collections::BTreeMap;

use super::profile::self_times;
use super::spans::{SpanKind, Spans};

/// One line per stack, in the order of names. Times are those in which nothing deeper ran; branches that run in
/// parallel both count, so the sum may be more than the run took.
pub fn folded(spans: &Spans) -> Vec<String> {
    let own = self_times(spans);
    let mut stacks: BTreeMap<String, i64> = BTreeMap::new();
    for (index, own_us) in own.iter().enumerate() {
        if *own_us > 0 {
            let sum = stacks.entry(stack(spans, index)).or_default();
            *sum = sum.saturating_add(*own_us);
        }
    }
    stacks.into_iter().map(|(stack, us)| format!("{stack} {us}")).collect()
}

fn stack(spans: &Spans, index: usize) -> String {
    let mut frames: Vec<String> = std::iter::successors(Some(index), |index| spans.all[*index].parent)
        .map(|index| {
            let span = &spans.all[index];
            // The sign between frames.
            let name = span.name.replace(';', ",");
            match span.kind {
                SpanKind::Graph | SpanKind::Node => name,
                SpanKind::Model => format!("model {name}"),
                SpanKind::Tool => format!("tool {name}"),
            }
        })
        .collect();
    frames.reverse();
    frames.join(";")
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Script;
    use super::*;

    #[test]
    fn stacks_have_the_time_that_is_their_own() {
        let mut script = Script::new("t", "run");
        script.graph_start().wait(5);
        script.start("a;b").model("a;b", "r1", "large", 30, (1, 1)).wait(2).end("a;b").node("c", 7).node("c", 1);
        script.start("none").end("none").graph_end();
        assert_eq!(
            folded(&Spans::of(&script.run())),
            ["graph 5000", "graph;a,b 2000", "graph;a,b;model large 30000", "graph;c 8000"]
        );
    }
}
