//! The critical path: of all chains of nodes that edges connect, the one that took longest.
//!
//! An edge that is traversed connects the last execution of its source that had begun with the next execution of its
//! target. Both in the order of the sequences, so no edge leads backwards and every chain ends. Without edges there
//! is no path, and none is made up from times: two nodes that ran one after the other need not have waited.

use std::collections::HashMap;

use super::note::Note;
use super::runs::Run;
use super::spans::{Span, SpanKind, Spans};
use super::told::What;

#[derive(Clone, PartialEq, Debug)]
pub struct CriticalPath {
    /// Places in [`Spans::all`], in the order of the chain.
    pub spans: Vec<usize>,
    /// Sum of what they took.
    pub took_us: i64,
}

/// `None` where no edge connects two executions.
pub fn critical_path(run: &Run, spans: &Spans) -> (Option<CriticalPath>, Vec<Note>) {
    let mut executions: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, span) in spans.all.iter().enumerate().filter(|(_, span)| span.kind == SpanKind::Node) {
        executions.entry(&span.name).or_default().push(index);
    }
    let (mut before, mut loose) = (vec![Vec::new(); spans.all.len()], 0_u64);
    for (index, event) in run.events.iter().enumerate() {
        let What::Edge { from, to } = &event.what else { continue };
        // Spans are in the order of their starts.
        let around = |node: &str| {
            let of_node = executions.get(node).map_or(&[][..], Vec::as_slice);
            of_node.split_at(of_node.partition_point(|span| spans.all[*span].order() < index))
        };
        match (around(from).0.last(), around(to).1.first()) {
            (Some(source), Some(target)) => before[*target].push(*source),
            _ => loose += 1,
        }
    }
    let notes = if loose > 0 { vec![Note::LooseEdges(loose)] } else { Vec::new() };
    (longest(&spans.all, &before), notes)
}

/// `before` names for each span those that an edge leads from; all of them stand earlier in the list.
fn longest(spans: &[Span], before: &[Vec<usize>]) -> Option<CriticalPath> {
    let mut took_us: Vec<i64> = Vec::with_capacity(spans.len());
    let mut via: Vec<Option<usize>> = Vec::with_capacity(spans.len());
    let mut best: Option<usize> = None;
    for (index, span) in spans.iter().enumerate() {
        // Of equals the first.
        let source = before[index].iter().copied().reduce(|a, b| if took_us[b] > took_us[a] { b } else { a });
        let chain_us = source.map_or(0, |source| took_us[source]);
        took_us.push(chain_us.saturating_add(span.took_us()));
        via.push(source);
        if source.is_some() && best.is_none_or(|best| took_us[index] > took_us[best]) {
            best = Some(index);
        }
    }
    let end = best?;
    let mut chain: Vec<usize> = std::iter::successors(Some(end), |index| via[*index]).collect();
    chain.reverse();
    Some(CriticalPath { spans: chain, took_us: took_us[end] })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Script;
    use super::*;

    fn check(script: &Script, expected: &str) {
        let run = script.run();
        let spans = Spans::of(&run);
        let (path, notes) = critical_path(&run, &spans);
        let path = path.map_or("none".to_owned(), |path| {
            let names: Vec<_> = path.spans.iter().map(|span| spans.all[*span].name.as_str()).collect();
            format!("{} {}ms", names.join(">"), path.took_us / 1_000)
        });
        assert_eq!(format!("{path} {notes:?}"), expected);
    }

    #[test]
    fn without_edges_there_is_no_path() {
        let mut script = Script::new("t", "run");
        script.graph_start().node("a", 10).node("b", 20).graph_end();
        check(&script, "none []");
    }

    #[test]
    fn a_chain_with_a_loop_goes_through_each_execution() {
        let mut script = Script::new("t", "run");
        script.graph_start().node("a", 10).edge("a", "b").node("b", 20).edge("b", "a").node("a", 5).edge("a", "b");
        script.node("b", 1).graph_end();
        check(&script, "a>b>a>b 36ms []");
    }

    #[test]
    fn of_two_branches_the_longer_counts() {
        let mut script = Script::new("t", "run");
        script.graph_start().node("a", 10).edge("a", "b").edge("a", "c").start("b").start("c").wait(20).end("c");
        script.wait(30).end("b").edge("b", "d").edge("c", "d").node("d", 5).graph_end();
        check(&script, "a>b>d 65ms []");
    }

    /// A node that nothing leads to is no path by itself, however long it took.
    #[test]
    fn what_no_edge_connects_does_not_count_and_loose_edges_are_said() {
        let mut script = Script::new("t", "run");
        script.graph_start().node("long", 10_000).node("a", 10).edge("a", "b").node("b", 20);
        script.edge("b", "nowhere").edge("ghost", "a").edge("a", "a").graph_end();
        check(&script, "a>b 30ms [LooseEdges(3)]");
    }
}
