//! What took how long: the run, its nodes, its model calls and tools, each from its start to its end.
//!
//! Starts and ends are paired by node in the order of the sequences, model calls by request and tools by call where
//! those are named. What has no partner is kept and flagged; it is never paired with something else.

use std::collections::{HashMap, VecDeque};

use super::note::Note;
use super::runs::Run;
use super::told::{ModelRef, Told, ToolRef, What};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SpanKind {
    Graph,
    Node,
    Model,
    Tool,
}

impl SpanKind {
    pub fn label(self) -> &'static str {
        match self {
            SpanKind::Graph => "graph",
            SpanKind::Node => "node",
            SpanKind::Model => "model",
            SpanKind::Tool => "tool",
        }
    }
}

/// Whether both ends were seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pairing {
    Paired,
    /// Its end was not seen: it is as long as the run was looked at.
    NoEnd,
    /// Its start was not seen: it begins as much earlier as its end says that it took.
    NoStart,
}

impl Pairing {
    pub fn label(self) -> &'static str {
        match self {
            Pairing::Paired => "paired",
            Pairing::NoEnd => "no end",
            Pairing::NoStart => "no start",
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Span {
    pub kind: SpanKind,
    pub name: String,
    /// The node in which it happened; of a node its own name.
    pub node: Option<String>,
    pub start_us: i64,
    /// Invariant: not before `start_us`.
    pub end_us: i64,
    pub pairing: Pairing,
    /// What went wrong; empty text if nobody said what.
    pub error: Option<String>,
    pub retries: u32,
    /// Of the first token of a model call.
    pub first_token_us: Option<i64>,
    /// Invariant: smaller than the place of this span. `None` for the run itself.
    pub parent: Option<usize>,
    /// Places of its start and end in the events of the run.
    pub start_at: Option<usize>,
    pub end_at: Option<usize>,
}

impl Span {
    pub fn took_us(&self) -> i64 {
        self.end_us.saturating_sub(self.start_us)
    }

    /// Where it is in the order of events.
    pub fn order(&self) -> usize {
        self.start_at.or(self.end_at).unwrap_or(0)
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Spans {
    /// Invariant: never empty; the first is the run itself. In the order of their starts.
    pub all: Vec<Span>,
    pub notes: Vec<Note>,
}

impl Spans {
    pub fn of(run: &Run) -> Self {
        let mut pairing = Pairer::new(run);
        for (index, event) in run.events.iter().enumerate() {
            pairing.event(index, event);
        }
        pairing.finish(run)
    }

    pub fn root(&self) -> &Span {
        &self.all[0]
    }

    pub fn of_kind(&self, kind: SpanKind) -> impl Iterator<Item = &Span> {
        self.all.iter().filter(move |span| span.kind == kind)
    }
}

/// Open nodes among which the one is looked for in which something happened. No graph has so many branches; without
/// a bound a list of starts without ends would make every event dear.
const NODES_OPEN_MAX: usize = 256;

/// What a span is found again by, besides its kind.
type Key = (SpanKind, String);

struct Pairer {
    all: Vec<Span>,
    /// Open spans by key, the earliest first.
    open: HashMap<Key, VecDeque<usize>>,
    /// Of calls that name themselves, also when they have ended: a second end says nothing new.
    known: HashMap<Key, usize>,
    /// Open nodes in the order in which they started.
    nodes_open: Vec<usize>,
}

impl Pairer {
    fn new(run: &Run) -> Self {
        let (first_us, last_us) = run.span_us();
        let root = Span {
            kind: SpanKind::Graph,
            name: run.graph.clone().unwrap_or_else(|| "run".to_owned()),
            node: None,
            start_us: first_us,
            end_us: last_us,
            pairing: Pairing::NoEnd,
            error: None,
            retries: 0,
            first_token_us: None,
            parent: None,
            start_at: None,
            end_at: None,
        };
        Self { all: vec![root], open: HashMap::new(), known: HashMap::new(), nodes_open: Vec::new() }
    }

    fn event(&mut self, index: usize, event: &Told) {
        match &event.what {
            What::GraphStart { .. } if self.all[0].start_at.is_none() => {
                self.all[0].start_us = event.at_us;
                self.all[0].start_at = Some(index);
            }
            What::GraphEnd { took_us } => self.graph_ends(index, event, *took_us, None),
            What::GraphError { took_us, error } => self.graph_ends(index, event, *took_us, Some(error)),
            What::NodeStart { node } => {
                let span = self.starts(SpanKind::Node, node, node, Some(node.clone()), index, event);
                if self.nodes_open.len() >= NODES_OPEN_MAX {
                    self.nodes_open.remove(0);
                }
                self.nodes_open.push(span);
            }
            What::NodeEnd { node, took_us, .. } => {
                self.ends(SpanKind::Node, node, node, Some(node.clone()), (index, event, *took_us), None);
            }
            What::NodeError { node, took_us, error } => {
                self.ends(SpanKind::Node, node, node, Some(node.clone()), (index, event, *took_us), Some(error));
            }
            What::ModelStart { call, .. } => {
                self.model_starts(call, index, event);
            }
            What::ModelEnd { call, took_us, .. } => self.model_ends(call, (index, event, *took_us), None),
            What::ModelError { call, took_us, error } => self.model_ends(call, (index, event, *took_us), Some(error)),
            What::ModelRetry { call, .. } => self.retried(SpanKind::Model, &model_key(call)),
            What::Chunk { request, model, .. } => self.chunk(request, model, index, event),
            What::ToolStart { call } => self.tool_starts(call, index, event),
            What::ToolEnd { call, took_us } => self.tool_ends(call, (index, event, *took_us), None),
            What::ToolError { call, took_us, error } => self.tool_ends(call, (index, event, *took_us), Some(error)),
            What::ToolRetry { call, .. } => self.retried(SpanKind::Tool, &tool_key(call)),
            _ => {}
        }
    }

    fn graph_ends(&mut self, index: usize, event: &Told, took_us: Option<i64>, error: Option<&String>) {
        let root = &mut self.all[0];
        if root.end_at.is_none() {
            root.end_at = Some(index);
            root.end_us = match (root.start_at, took_us) {
                (Some(_), Some(took_us)) => root.start_us.saturating_add(took_us),
                _ => event.at_us,
            };
        }
        if let Some(error) = error {
            root.error.get_or_insert_with(|| error.clone());
        }
    }

    fn starts(
        &mut self,
        kind: SpanKind,
        key: &str,
        name: &str,
        node: Option<String>,
        index: usize,
        event: &Told,
    ) -> usize {
        let span = self.all.len();
        let parent = if kind == SpanKind::Node { 0 } else { self.node_open(node.as_deref()) };
        // What happens within a node belongs to it, also where nobody said so.
        let node = node.or_else(|| (parent > 0).then(|| self.all[parent].name.clone()));
        self.all.push(Span {
            kind,
            name: name.to_owned(),
            node,
            start_us: event.at_us,
            end_us: event.at_us,
            pairing: Pairing::NoEnd,
            error: None,
            retries: 0,
            first_token_us: None,
            parent: Some(parent),
            start_at: Some(index),
            end_at: None,
        });
        self.open.entry((kind, key.to_owned())).or_default().push_back(span);
        span
    }

    /// The open execution of that node that began last; without a name, of any node. 0, the run, if there is none.
    fn node_open(&self, node: Option<&str>) -> usize {
        let mut open = self.nodes_open.iter().rev().copied();
        open.find(|span| node.is_none_or(|node| self.all[*span].name == node)).unwrap_or(0)
    }

    fn ends(
        &mut self,
        kind: SpanKind,
        key: &str,
        name: &str,
        node: Option<String>,
        (index, event, took_us): (usize, &Told, Option<i64>),
        error: Option<&String>,
    ) {
        let entry = (kind, key.to_owned());
        let open = self.open.get_mut(&entry).and_then(VecDeque::pop_front);
        let place = open.unwrap_or_else(|| {
            let place = self.starts(kind, key, name, node, index, event);
            self.open.remove(&entry);
            place
        });
        let span = &mut self.all[place];
        span.end_at = Some(index);
        span.error = error.cloned();
        match (open, took_us) {
            (Some(_), Some(took_us)) => span.end_us = span.start_us.saturating_add(took_us),
            (Some(_), None) => span.end_us = event.at_us.max(span.start_us),
            (None, took_us) => {
                span.start_at = None;
                span.start_us = event.at_us.saturating_sub(took_us.unwrap_or(0));
                span.end_us = event.at_us;
            }
        }
        span.pairing = if open.is_some() { Pairing::Paired } else { Pairing::NoStart };
        if kind == SpanKind::Node {
            self.nodes_open.retain(|open| *open != place);
        }
    }

    fn retried(&mut self, kind: SpanKind, key: &str) {
        let entry = (kind, key.to_owned());
        let open = self.open.get(&entry).and_then(|open| open.front()).or(self.known.get(&entry));
        if let Some(span) = open.copied() {
            self.all[span].retries = self.all[span].retries.saturating_add(1);
        }
    }

    fn model_starts(&mut self, call: &ModelRef, index: usize, event: &Told) {
        let key = model_key(call);
        if call.request.is_some() && self.known.contains_key(&(SpanKind::Model, key.clone())) {
            return;
        }
        let model = call.model.as_deref().unwrap_or(NO_MODEL);
        let span = self.starts(SpanKind::Model, &key, model, call.node.clone(), index, event);
        if call.request.is_some() {
            self.known.insert((SpanKind::Model, key), span);
        }
    }

    fn model_ends(&mut self, call: &ModelRef, end: (usize, &Told, Option<i64>), error: Option<&String>) {
        let key = model_key(call);
        let entry = (SpanKind::Model, key.clone());
        if let Some(span) = self.known.get(&entry).copied() {
            self.learn_model(span, call);
            if self.all[span].end_at.is_some() {
                return;
            }
        }
        let model = call.model.as_deref().unwrap_or(NO_MODEL);
        self.ends(SpanKind::Model, &key, model, call.node.clone(), end, error);
        if call.request.is_some() && !self.known.contains_key(&entry) {
            self.known.insert(entry, self.all.len() - 1);
        }
    }

    /// Not every message of a call need name its model.
    fn learn_model(&mut self, span: usize, call: &ModelRef) {
        if self.all[span].name == NO_MODEL
            && let Some(model) = &call.model
        {
            self.all[span].name.clone_from(model);
        }
    }

    fn chunk(&mut self, request: &str, model: &Option<String>, index: usize, event: &Told) {
        let call = ModelRef { request: Some(request.to_owned()), node: None, model: model.clone() };
        self.model_starts(&call, index, event);
        if let Some(span) = self.known.get(&(SpanKind::Model, model_key(&call))).copied() {
            self.learn_model(span, &call);
            let first = &mut self.all[span].first_token_us;
            *first = Some(first.map_or(event.at_us, |first| first.min(event.at_us)));
            if self.all[span].end_at.is_none() {
                self.all[span].end_us = self.all[span].end_us.max(event.at_us);
            }
        }
    }

    fn tool_starts(&mut self, call: &ToolRef, index: usize, event: &Told) {
        let key = tool_key(call);
        if call.call.is_some()
            && let Some(span) = self.known.get(&(SpanKind::Tool, key.clone())).copied()
        {
            // The record does not say in which node; the event that comes with it does.
            if let Some(node) = &call.node {
                let parent = self.node_open(Some(node));
                if parent < span {
                    self.all[span].parent = Some(parent);
                }
                self.all[span].node = Some(node.clone());
            }
            return;
        }
        let tool = call.tool.as_deref().unwrap_or("tool");
        let span = self.starts(SpanKind::Tool, &key, tool, call.node.clone(), index, event);
        if call.call.is_some() {
            self.known.insert((SpanKind::Tool, key), span);
        }
    }

    fn tool_ends(&mut self, call: &ToolRef, end: (usize, &Told, Option<i64>), error: Option<&String>) {
        let key = tool_key(call);
        let entry = (SpanKind::Tool, key.clone());
        if call.call.is_some()
            && let Some(span) = self.known.get(&entry)
            && self.all[*span].end_at.is_some()
        {
            return;
        }
        self.ends(SpanKind::Tool, &key, call.tool.as_deref().unwrap_or("tool"), call.node.clone(), end, error);
        if call.call.is_some() && !self.known.contains_key(&entry) {
            self.known.insert(entry, self.all.len() - 1);
        }
    }

    fn finish(mut self, run: &Run) -> Spans {
        let (first_us, last_us) = run.span_us();
        let root = &mut self.all[0];
        root.pairing = match (root.start_at, root.end_at) {
            (Some(_), Some(_)) => Pairing::Paired,
            (None, Some(_)) => Pairing::NoStart,
            (_, None) => Pairing::NoEnd,
        };
        if root.start_at.is_none() {
            root.start_us = first_us;
        }
        if root.end_at.is_none() {
            root.end_us = last_us;
        }
        root.end_us = root.end_us.max(root.start_us);
        let horizon_us = root.end_us;
        for span in self.all.iter_mut().skip(1).filter(|span| span.end_at.is_none()) {
            // What streamed tokens to the end is as long as those; anything else is open until the run is not.
            if span.first_token_us.is_none() {
                span.end_us = span.end_us.max(horizon_us);
            }
        }
        let count = |pairing| self.all.iter().skip(1).filter(|span| span.pairing == pairing).count() as u64;
        let mut notes = Vec::new();
        let (open, startless) = (count(Pairing::NoEnd), count(Pairing::NoStart));
        if open > 0 {
            notes.push(Note::OpenSpans(open));
        }
        if startless > 0 {
            notes.push(Note::StartlessSpans(startless));
        }
        Spans { all: self.all, notes }
    }
}

/// Stands for a model that nobody has named yet.
const NO_MODEL: &str = "model";

fn model_key(call: &ModelRef) -> String {
    match (&call.request, &call.node) {
        (Some(request), _) => format!("r{request}"),
        (None, node) => format!("n{}", node.as_deref().unwrap_or_default()),
    }
}

fn tool_key(call: &ToolRef) -> String {
    match &call.call {
        Some(id) => format!("c{id}"),
        None => format!("n{}\0{}", call.node.as_deref().unwrap_or_default(), call.tool.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::proto::EventType;
    use crate::wire::proto::tool_execution::ExecutionStage;

    use super::super::fixture::{BEGIN_US, Script, text};
    use super::*;

    /// `kind name parent start+took pairing error`, times in ms from the beginning.
    fn lines(script: &Script) -> Vec<String> {
        let spans = Spans::of(&script.run());
        assert!(spans.all.is_sorted_by_key(Span::order));
        let line = |span: &Span| {
            let parent = span.parent.map_or("-", |parent| spans.all[parent].name.as_str());
            let start = (span.start_us - BEGIN_US) / 1_000;
            let error = span.error.as_ref().map_or(String::new(), |error| format!(" !{error}"));
            let took = span.took_us() / 1_000;
            format!("{} {} <{parent} {start}+{took} {}{error}", span.kind.label(), span.name, span.pairing.label())
        };
        spans.all.iter().map(line).collect()
    }

    #[test]
    fn nodes_calls_and_tools_have_their_place_in_the_run() {
        let mut script = Script::new("t", "run");
        script.graph_start().start("plan").model("plan", "r1", "large", 30, (10, 20)).wait(5).end("plan");
        script.start("act");
        script.tool("c1", ExecutionStage::Requested as i32, |_| {});
        script.event(EventType::ToolStart, "act", &[("call_id", text("c1")), ("tool_name", text("search"))]);
        script.wait(7).tool("c1", ExecutionStage::Retrying as i32, |tool| tool.error = "busy".to_owned());
        script.wait(3).tool("c1", ExecutionStage::Failed as i32, |tool| tool.error = "gone".to_owned());
        script.event(EventType::ToolError, "act", &[("call_id", text("c1")), ("error", text("gone again"))]);
        script.event(EventType::NodeError, "act", &[("error", text("no tool"))]).graph_error("act failed");
        assert_eq!(
            lines(&script),
            [
                "graph graph <- 0+45 paired !act failed",
                "node plan <graph 0+35 paired",
                "model large <plan 0+30 paired",
                "node act <graph 35+10 paired !no tool",
                "tool search <act 35+10 paired !gone",
            ]
        );
        assert_eq!(Spans::of(&script.run()).all[4].retries, 1);
    }

    #[test]
    fn executions_of_one_node_are_paired_in_the_order_of_the_sequences() {
        let mut script = Script::new("t", "run");
        script.graph_start().start("a").wait(10).start("a").wait(10).end("a").wait(10).end("a").graph_end();
        let expected = ["graph graph <- 0+30 paired", "node a <graph 0+20 paired", "node a <graph 10+20 paired"];
        assert_eq!(lines(&script), expected);
        // Arrival does not matter.
        script.messages[1..5].reverse();
        assert_eq!(lines(&script), expected);
    }

    #[test]
    fn what_has_no_partner_is_flagged_and_pairs_with_nothing_else() {
        let mut script = Script::new("t", "run");
        script.graph_start().wait(50);
        script.event_with(EventType::NodeEnd, "early", &[], |event| event.duration_us = 20_000);
        script.start("late").wait(10).event(EventType::NodeEnd, "other", &[]).graph_end();
        assert_eq!(
            lines(&script),
            [
                "graph graph <- 0+60 paired",
                "node early <graph 30+20 no start",
                "node late <graph 50+10 no end",
                "node other <graph 60+0 no start",
            ]
        );
        let notes = Spans::of(&script.run()).notes;
        assert_eq!(notes, [Note::OpenSpans(1), Note::StartlessSpans(2)]);
    }

    #[test]
    fn a_run_without_ends_is_as_long_as_what_was_seen_of_it() {
        let mut script = Script::new("t", "run");
        script.start("a").wait(20).chunk("r", |chunk| chunk.model = "small".to_owned());
        script.wait(20).chunk("r", |_| {}).wait(10).event(EventType::NodeProgress, "a", &[]);
        assert_eq!(
            lines(&script),
            ["graph run <- 0+50 no end", "node a <run 0+50 no end", "model small <a 20+20 no end"]
        );
    }

    #[test]
    fn a_model_is_named_by_whatever_names_it() {
        let mut script = Script::new("t", "run");
        let about = |script: &mut Script, event_type: EventType| {
            script.event_with(event_type, "a", &[], |event| event.llm_request_id = "r".to_owned());
        };
        script.start("a");
        about(&mut script, EventType::LlmStart);
        script.wait(5).chunk("r", |_| {}).chunk("r", |chunk| chunk.model = "small".to_owned()).wait(5);
        about(&mut script, EventType::LlmEnd);
        script.end("a");
        assert_eq!(lines(&script)[2], "model small <a 0+10 paired");
    }

    #[test]
    fn times_that_cannot_be_bend_to_nothing_and_overflow_nowhere() {
        let mut script = Script::new("t", "run");
        script.graph_start().start("a");
        script.now_us = 5;
        script.event_with(EventType::NodeEnd, "a", &[], |event| event.duration_us = i64::MAX);
        script.event_with(EventType::NodeEnd, "b", &[], |event| event.duration_us = i64::MAX);
        script.now_us = i64::MAX;
        script.graph_end();
        let spans = Spans::of(&script.run());
        assert!(spans.all.iter().all(|span| span.start_us <= span.end_us), "{spans:?}");
    }
}
