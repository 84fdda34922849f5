//! Model calls and their tokens, each call once, whichever of its events tells how many.
//!
//! `LLM_END` knows best, then the statistics of the last chunk, then what chunks and `LLM_START` let one count.
//! Tokens that a `NODE_END` names count only where the node made no calls of its own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem;

use super::limits::CALLS_MAX;
use super::told::{ModelRef, Tokens, What};

/// Who told how many tokens a call took, the best last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    Counted,
    Statistics,
    End,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelCall {
    /// Which run, as whoever asks numbers them.
    pub run: usize,
    pub node: Option<String>,
    pub model: Option<String>,
    pub input: u64,
    pub output: u64,
    pub source: Source,
}

/// Open nodes of one run; no graph has so many branches.
const NODES_OPEN_MAX: usize = 256;

/// Calls by run and request.
type Key = (usize, String);

#[derive(Default)]
pub struct Calls {
    open: HashMap<Key, ModelCall>,
    /// The keys of `open`, the oldest first.
    order: VecDeque<Key>,
    /// Nodes that made calls, of the runs of `open`.
    callers: HashSet<(usize, String)>,
    /// Of runs that go on, the nodes that are open, in the order in which they began: at most [`CALLS_MAX`] together.
    nodes_open: HashMap<usize, Vec<String>>,
    nodes_open_count: usize,
    /// Of calls that name no request, the next name.
    nameless: u64,
    settled: Vec<ModelCall>,
    settled_early: u64,
}

impl Calls {
    /// One event of the run of this number. A call that names no node is of the node that is open there and began last.
    pub fn take(&mut self, run: usize, what: &What) {
        self.follow_nodes(run, what);
        let node = self.nodes_open.get(&run).and_then(|open| open.last()).cloned();
        let node = node.as_deref();
        match what {
            What::ModelStart { call, tokens } => self.tell(run, call, *tokens, Source::Counted, node),
            What::ModelEnd { call, tokens, .. } => self.tell(run, call, *tokens, Source::End, node),
            What::ModelError { call, .. } => self.tell(run, call, Tokens::default(), Source::Counted, node),
            What::Chunk { request, model, counted, tokens, .. } => {
                let call = ModelRef { request: Some(request.clone()), node: None, model: model.clone() };
                let told = tokens.output.is_some();
                let source = if told { Source::Statistics } else { Source::Counted };
                self.tell(run, &call, *tokens, source, node);
                if let Some(call) = self.open.get_mut(&(run, request.clone()))
                    && call.source == Source::Counted
                {
                    call.output = call.output.saturating_add(*counted);
                }
            }
            What::NodeEnd { node, tokens, .. }
                if (tokens.input.is_some() || tokens.output.is_some())
                    && !self.callers.contains(&(run, node.clone())) =>
            {
                self.settled.push(ModelCall {
                    run,
                    node: Some(node.clone()),
                    model: None,
                    input: tokens.input.unwrap_or(0),
                    output: tokens.output.unwrap_or(0),
                    source: Source::End,
                });
            }
            _ => {}
        }
    }

    fn follow_nodes(&mut self, run: usize, what: &What) {
        match what {
            What::NodeStart { node } if self.nodes_open_count < CALLS_MAX => {
                let open = self.nodes_open.entry(run).or_default();
                if open.len() < NODES_OPEN_MAX {
                    open.push(node.clone());
                    self.nodes_open_count += 1;
                }
            }
            What::NodeEnd { node, .. } | What::NodeError { node, .. } => {
                let Some(open) = self.nodes_open.get_mut(&run) else { return };
                let Some(place) = open.iter().rposition(|open| open == node) else { return };
                open.remove(place);
                self.nodes_open_count -= 1;
                if open.is_empty() {
                    self.nodes_open.remove(&run);
                }
            }
            What::GraphEnd { .. } | What::GraphError { .. } => {
                self.nodes_open_count -= self.nodes_open.remove(&run).map_or(0, |open| open.len());
            }
            _ => {}
        }
    }

    fn tell(&mut self, run: usize, told: &ModelRef, tokens: Tokens, source: Source, node: Option<&str>) {
        let request = match (&told.request, source) {
            (Some(request), _) => request.clone(),
            // Nothing connects its start with its end, so only the end counts.
            (None, Source::End) => {
                self.nameless += 1;
                format!("\0{}", self.nameless)
            }
            (None, _) => return,
        };
        let key = (run, request);
        if !self.open.contains_key(&key) {
            if self.open.len() >= CALLS_MAX {
                self.settle_oldest();
            }
            let call = ModelCall { run, node: None, model: None, input: 0, output: 0, source: Source::Counted };
            self.open.insert(key.clone(), call);
            self.order.push_back(key.clone());
        }
        let Some(call) = self.open.get_mut(&key) else { return };
        if told.node.is_some() {
            call.node.clone_from(&told.node);
        } else if call.node.is_none() {
            call.node = node.map(str::to_owned);
        }
        if let Some(node) = &call.node
            && self.callers.len() < CALLS_MAX
        {
            self.callers.insert((run, node.clone()));
        }
        if call.model.is_none() {
            call.model.clone_from(&told.model);
        }
        if source >= call.source {
            call.input = tokens.input.unwrap_or(call.input);
            // A start that promises an output has not made it yet.
            if source > Source::Counted {
                call.output = tokens.output.unwrap_or(call.output);
            }
            // An end without numbers leaves what was counted, and lets it be counted on.
            if tokens.output.is_some() {
                call.source = source;
            }
        }
    }

    fn settle_oldest(&mut self) {
        if let Some(call) = self.order.pop_front().and_then(|key| self.open.remove(&key)) {
            self.settled.push(call);
            self.settled_early += 1;
        }
    }

    /// Calls that will not change any more.
    pub fn take_settled(&mut self) -> Vec<ModelCall> {
        mem::take(&mut self.settled)
    }

    /// All calls in the order in which they were first heard of, and how many were settled early.
    pub fn finish(mut self) -> (Vec<ModelCall>, u64) {
        let mut calls = mem::take(&mut self.settled);
        calls.extend(self.order.iter().filter_map(|key| self.open.remove(key)));
        (calls, self.settled_early)
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::proto::token_chunk::FinishReason;
    use crate::wire::proto::{EventType, TokenStats};

    use super::super::fixture::{Script, int, text};
    use super::*;

    fn check(script: &Script, expected: &[&str]) {
        let mut calls = Calls::default();
        for event in &script.run().events {
            calls.take(0, &event.what);
        }
        let (calls, early) = calls.finish();
        let line = |call: &ModelCall| {
            let of = |text: &Option<String>| text.clone().unwrap_or("-".to_owned());
            format!("{} {} {}+{} {:?}", of(&call.node), of(&call.model), call.input, call.output, call.source)
        };
        assert_eq!(calls.iter().map(line).collect::<Vec<_>>(), expected);
        assert_eq!(early, 0);
    }

    #[test]
    fn the_end_knows_best_and_a_call_counts_once() {
        let mut script = Script::new("t", "run");
        script.model("plan", "r1", "large", 10, (100, 20));
        script.chunk("r1", |chunk| {
            chunk.is_final = true;
            chunk.finish_reason = FinishReason::Stop as i32;
            chunk.stats = Some(TokenStats { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 });
        });
        // The same end again, under another message id.
        let attributes = [("input_tokens", int(100)), ("output_tokens", int(20))];
        script.event_with(EventType::LlmEnd, "plan", &attributes, |event| event.llm_request_id = "r1".to_owned());
        check(&script, &["plan large 100+20 End"]);
    }

    #[test]
    fn without_an_end_statistics_count_and_without_those_the_tokens_themselves() {
        let mut script = Script::new("t", "run");
        script.node("before", 1).start("outer").start("open");
        script.chunk("r1", |chunk| chunk.token_ids = vec![1, 2, 3]).chunk("r1", |chunk| {
            chunk.model = "small".to_owned();
            chunk.stats = Some(TokenStats { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12 });
        });
        script.chunk("r2", |chunk| chunk.token_ids = vec![1, 2, 3]).chunk("r2", |_| {});
        script.end("open").chunk("r3", |_| {}).graph_end().chunk("r4", |_| {});
        check(&script, &["open small 7+5 Statistics", "open - 0+4 Counted", "outer - 0+1 Counted", "- - 0+1 Counted"]);
    }

    #[test]
    fn a_node_counts_only_where_it_made_no_calls() {
        let mut script = Script::new("t", "run");
        let tokens = [("input_tokens", int(10)), ("output_tokens", text("4"))];
        script.start("a").model("a", "r1", "large", 1, (10, 4)).event(EventType::NodeEnd, "a", &tokens);
        script.start("b").event(EventType::NodeEnd, "b", &tokens);
        script.event(EventType::LlmEnd, "c", &tokens);
        script.event(EventType::LlmEnd, "c", &[("input_tokens", int(-10))]);
        check(&script, &["b - 10+4 End", "a large 10+4 End", "c - 10+4 End", "c - 0+0 Counted"]);
    }

    #[test]
    fn the_oldest_is_settled_when_there_are_too_many() {
        let mut calls = Calls::default();
        let end = |request: usize| What::ModelEnd {
            call: ModelRef { request: Some(request.to_string()), node: None, model: None },
            took_us: None,
            tokens: Tokens { input: Some(1), output: Some(1) },
        };
        (0..CALLS_MAX + 3).for_each(|request| calls.take(0, &end(request)));
        assert_eq!(calls.take_settled().len(), 3);
        let (rest, early) = calls.finish();
        assert_eq!((rest.len(), early), (CALLS_MAX, 3));
    }
}
