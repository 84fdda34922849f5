//! Many runs as they are now: which are going on, where each stands, what its models say, what went wrong. A reducer
//! over events of which only the present is kept; means the same as the page.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::wire::proto::DashStreamMessage;

use super::life::{Life, Status};
use super::runs::{RunId, is_error};
use super::told::{Owner, Place, Tokens, Told, What, tell};

/// Runs kept; the oldest that has ended goes first.
pub const RUNS_KEPT_MAX: usize = 200;
const NODES_MAX: usize = 64;
const STREAMS_MAX: usize = 8;
/// Bytes of one answer that are kept: more than a screen holds. The oldest text goes first.
const STREAM_BYTES_MAX: usize = 8 * 1024;
/// Chunks that may be ahead of a missing one before the order of arrival is taken.
const CHUNKS_AHEAD_MAX: usize = 32;
const ERRORS_MAX: usize = 50;

#[derive(Clone, PartialEq, Debug)]
pub struct LiveNode {
    pub name: String,
    /// Executions that began.
    pub times: u64,
    /// When those that are open began, the earliest first.
    pub open_us: VecDeque<i64>,
    pub total_us: i64,
    pub failed: bool,
    /// What it said last: progress, a thought, a warning.
    pub note: String,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Stream {
    pub request: String,
    pub node: Option<String>,
    pub model: Option<String>,
    /// The end of what was said.
    pub text: String,
    pub tokens: u64,
    pub done: bool,
    next: u32,
    ahead: BTreeMap<u32, String>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct LiveRun {
    pub id: RunId,
    pub graph: Option<String>,
    life: Life,
    pub nodes: Vec<LiveNode>,
    /// The latest last.
    pub streams: VecDeque<Stream>,
    /// When, where and what; the latest last.
    pub errors: VecDeque<(i64, String)>,
    pub events: u64,
    pub tokens: u64,
    pub tools: u64,
    pub error_count: u64,
    pub retries: u64,
    /// Sequences that did not come.
    pub missing: u64,
    pub duplicates: u64,
    /// Rises with every event: who was heard of last has the largest.
    pub heard: u64,
}

impl LiveRun {
    fn new(id: RunId) -> Self {
        Self {
            id,
            graph: None,
            life: Life::default(),
            nodes: Vec::new(),
            streams: VecDeque::new(),
            errors: VecDeque::new(),
            events: 0,
            tokens: 0,
            tools: 0,
            error_count: 0,
            retries: 0,
            missing: 0,
            duplicates: 0,
            heard: 0,
        }
    }

    pub fn status(&self) -> Status {
        self.life.status()
    }

    pub fn has_ended(&self) -> bool {
        self.life.has_ended()
    }

    /// Its beginning was not seen.
    pub fn is_partial(&self) -> bool {
        !self.life.has_begun()
    }

    pub fn began_us(&self) -> i64 {
        self.life.began_us().unwrap_or(0)
    }

    /// Its end, or its last event so far.
    pub fn ended_us(&self) -> i64 {
        self.life.ended_us().unwrap_or(0)
    }

    /// The nodes that are open.
    pub fn open_nodes(&self) -> impl Iterator<Item = &LiveNode> {
        self.nodes.iter().filter(|node| !node.open_us.is_empty())
    }

    fn node(&mut self, name: &str) -> Option<&mut LiveNode> {
        let place = match self.nodes.iter().position(|node| node.name == name) {
            Some(place) => place,
            None if self.nodes.len() >= NODES_MAX => return None,
            None => {
                self.nodes.push(LiveNode {
                    name: name.to_owned(),
                    times: 0,
                    open_us: VecDeque::new(),
                    total_us: 0,
                    failed: false,
                    note: String::new(),
                });
                self.nodes.len() - 1
            }
        };
        self.nodes.get_mut(place)
    }

    fn stream(&mut self, request: &str) -> &mut Stream {
        let place = match self.streams.iter().position(|stream| stream.request == request) {
            Some(place) => place,
            None => {
                if self.streams.len() >= STREAMS_MAX {
                    self.streams.pop_front();
                }
                self.streams.push_back(Stream {
                    request: request.to_owned(),
                    node: None,
                    model: None,
                    text: String::new(),
                    tokens: 0,
                    done: false,
                    next: 0,
                    ahead: BTreeMap::new(),
                });
                self.streams.len() - 1
            }
        };
        &mut self.streams[place]
    }

    fn error(&mut self, at_us: i64, text: String) {
        self.error_count += 1;
        if self.errors.len() >= ERRORS_MAX {
            self.errors.pop_front();
        }
        self.errors.push_back((at_us, text));
    }

    fn node_ends(&mut self, name: &str, at_us: i64, took_us: Option<i64>, failed: bool) {
        let Some(node) = self.node(name) else { return };
        let began_us = node.open_us.pop_front();
        if began_us.is_none() {
            node.times += 1;
        }
        let took_us = took_us.or(began_us.map(|began_us| at_us.saturating_sub(began_us))).unwrap_or(0).max(0);
        node.total_us = node.total_us.saturating_add(took_us);
        node.failed = failed;
        node.note.clear();
    }

    fn ends(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.open_us.clear());
        self.streams.iter_mut().for_each(Stream::finish);
    }

    fn event(&mut self, event: &Told) {
        let at_us = event.at_us;
        self.events += 1;
        self.life.note(event.beat());
        if is_error(&event.what) {
            self.error(at_us, error_text(&event.what));
        }
        match &event.what {
            What::GraphStart { graph, .. } => self.graph.clone_from(graph),
            What::GraphEnd { .. } | What::GraphError { .. } => self.ends(),
            What::NodeStart { node } => {
                if let Some(node) = self.node(node) {
                    node.times += 1;
                    node.note.clear();
                    if node.open_us.len() < NODES_MAX {
                        node.open_us.push_back(at_us);
                    }
                }
            }
            What::NodeEnd { node, took_us, .. } => self.node_ends(node, at_us, *took_us, false),
            What::NodeError { node, took_us, .. } => self.node_ends(node, at_us, *took_us, true),
            What::Warning { node, message: text } | What::Remark { node, text, .. } if !node.is_empty() => {
                if let Some(node) = self.node(node) {
                    node.note.clone_from(text);
                }
            }
            What::ModelStart { call, .. } => {
                if let Some(request) = &call.request {
                    let stream = self.stream(request);
                    stream.node.clone_from(&call.node);
                    stream.model.clone_from(&call.model);
                }
            }
            What::ModelEnd { call, tokens, .. } => {
                let Some(request) = &call.request else { return };
                let stream = self.stream(request);
                stream.finish();
                let more = stream.count(tokens, 0);
                self.tokens = self.tokens.saturating_add(more);
            }
            What::ModelError { call, .. } => {
                if let Some(request) = &call.request {
                    self.stream(request).finish();
                }
            }
            What::ModelRetry { .. } | What::ToolRetry { .. } => self.retries += 1,
            What::Chunk { request, model, index, text, counted, last, tokens } => {
                let partial = self.is_partial();
                let stream = self.stream(request);
                if stream.model.is_none() {
                    stream.model.clone_from(model);
                }
                stream.say(*index, text, partial);
                let more = stream.count(tokens, *counted);
                if *last {
                    stream.finish();
                }
                self.tokens = self.tokens.saturating_add(more);
            }
            What::ToolEnd { .. } => self.tools += 1,
            _ => {}
        }
    }
}

impl Stream {
    fn say(&mut self, index: u32, text: &str, partial: bool) {
        if self.text.is_empty() && self.ahead.is_empty() && partial {
            self.next = index;
        }
        if index > self.next && self.ahead.len() < CHUNKS_AHEAD_MAX {
            self.ahead.insert(index, text.to_owned());
            return;
        }
        self.push(text);
        self.next = self.next.max(index.saturating_add(1));
        while let Some(text) = self.ahead.remove(&self.next) {
            self.push(&text);
            self.next = self.next.saturating_add(1);
        }
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        if self.text.len() > STREAM_BYTES_MAX {
            // A quarter more than needed, so that the copying is rare.
            let drop = self.text.len() - STREAM_BYTES_MAX * 3 / 4;
            self.text.drain(..self.text.ceil_char_boundary(drop));
        }
    }

    /// How many tokens are new.
    fn count(&mut self, tokens: &Tokens, counted: u64) -> u64 {
        let now = tokens.output.unwrap_or_else(|| self.tokens.saturating_add(counted)).max(self.tokens);
        now - std::mem::replace(&mut self.tokens, now)
    }

    fn finish(&mut self) {
        for text in std::mem::take(&mut self.ahead).into_values() {
            self.push(&text);
        }
        self.done = true;
    }
}

/// One line on what failed.
pub fn error_text(what: &What) -> String {
    let of = |who: &str, error: &str| {
        if error.is_empty() { format!("{who} failed") } else { format!("{who} failed: {error}") }
    };
    match what {
        What::GraphError { error, .. } => of("run", error),
        What::NodeError { node, error, .. } => of(node, error),
        What::ModelError { call, error, .. } => of(call.model.as_deref().unwrap_or("model call"), error),
        What::ToolError { call, error, .. } => of(call.tool.as_deref().unwrap_or("tool"), error),
        What::Error { code, message, node, .. } => {
            let node = node.as_ref().map_or(String::new(), |node| format!(" in {node}"));
            format!("{code}{node}: {message}")
        }
        _ => String::new(),
    }
}

#[derive(Default)]
pub struct Live {
    /// In the order of appearance.
    runs: Vec<LiveRun>,
    current: HashMap<Owner, u32>,
    heard: u64,
    pub events: u64,
    pub evicted: u64,
    pub nameless: u64,
}

impl Live {
    pub fn take(&mut self, place: Place, message: &DashStreamMessage) {
        for told in tell(place, message) {
            self.events += 1;
            match told {
                Some((owner, told)) => self.event(owner, &told),
                None => self.nameless += 1,
            }
        }
    }

    /// Runs by when they were last heard of, the latest first.
    pub fn runs(&self) -> Vec<&LiveRun> {
        let mut runs: Vec<_> = self.runs.iter().collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.heard));
        runs
    }

    /// In the order of appearance, the latest first: places do not change while one looks.
    pub fn newest_first(&self) -> impl Iterator<Item = &LiveRun> {
        self.runs.iter().rev()
    }

    pub fn missing(&mut self, tenant: &str, thread: &str, count: u64) {
        if let Some(run) = self.run_of(tenant, thread) {
            run.missing = run.missing.saturating_add(count);
        }
    }

    pub fn duplicate(&mut self, tenant: &str, thread: &str) {
        if let Some(run) = self.run_of(tenant, thread) {
            run.duplicates += 1;
        }
    }

    pub fn clear(&mut self) {
        *self = Live::default();
    }

    fn run_of(&mut self, tenant: &str, thread: &str) -> Option<&mut LiveRun> {
        self.runs.iter_mut().rev().find(|run| run.id.owner.tenant == tenant && run.id.owner.thread == thread)
    }

    fn event(&mut self, owner: Owner, told: &Told) {
        let current = self.runs.iter().rposition(|run| run.id.owner == owner);
        let place = match current {
            Some(place) if !self.runs[place].life.is_over(told.beat()) => place,
            _ => {
                if self.runs.len() >= RUNS_KEPT_MAX {
                    let ended = self.runs.iter().position(LiveRun::has_ended).unwrap_or(0);
                    let gone = self.runs.remove(ended);
                    if !self.runs.iter().any(|run| run.id.owner == gone.id.owner) {
                        self.current.remove(&gone.id.owner);
                    }
                    self.evicted += 1;
                }
                let nth = self.current.entry(owner.clone()).or_default();
                *nth = nth.saturating_add(1);
                let id = RunId { owner, nth: *nth };
                self.runs.push(LiveRun::new(id));
                self.runs.len() - 1
            }
        };
        self.heard += 1;
        self.runs[place].heard = self.heard;
        self.runs[place].event(told);
    }
}

#[cfg(test)]
mod tests {
    use crate::wire::proto::EventType;

    use super::super::fixture::{Script, text};
    use super::*;

    fn live(script: &Script) -> Live {
        let mut live = Live::default();
        for (offset, message) in script.messages.iter().enumerate() {
            live.take(Script::place(offset), message);
        }
        live
    }

    #[test]
    fn a_run_is_where_its_events_left_it() {
        let mut script = Script::new("t", "run");
        script.graph_start().node("a", 10).start("b");
        script.event(EventType::NodeThinking, "b", &[("thought", text("hm"))]);
        script.event_with(EventType::LlmStart, "b", &[("model", text("large"))], |event| {
            event.llm_request_id = "r".to_owned();
        });
        for (index, word) in [(0, "one "), (2, "three"), (1, "two ")] {
            script.chunk("r", |chunk| (chunk.chunk_index, chunk.text) = (index, word.to_owned()));
        }
        let mut now = live(&script);
        now.missing("t", "run", 3);
        now.duplicate("t", "run");
        now.duplicate("t", "another");
        let run = now.runs()[0];
        assert_eq!((run.status(), run.events, run.tokens, run.missing, run.duplicates), (Status::Running, 9, 3, 3, 1));
        assert_eq!(
            run.open_nodes().map(|node| (node.name.as_str(), node.note.as_str())).collect::<Vec<_>>(),
            [("b", "hm")]
        );
        assert_eq!(run.nodes[0].total_us, 10_000);
        assert_eq!((run.streams[0].text.as_str(), run.streams[0].node.as_deref()), ("one two three", Some("b")));
        script.event(EventType::HumanInterrupt, "b", &[]);
        assert_eq!(live(&script).runs()[0].status(), Status::Waiting);
        script.event(EventType::NodeError, "b", &[("error", text("no"))]).graph_error("b failed");
        let now = live(&script);
        let run = now.runs()[0];
        assert_eq!((run.status(), run.error_count, run.open_nodes().count()), (Status::Failed, 2, 0));
        let said: Vec<_> = run.errors.iter().map(|(_, error)| error.as_str()).collect();
        assert_eq!(said, ["b failed: no", "run failed: b failed"]);
        script.graph_start();
        let now = live(&script);
        let ids: Vec<_> = now.newest_first().map(|run| run.id.to_string()).collect();
        assert_eq!(ids, ["t/run#2", "t/run"]);
    }

    #[test]
    fn a_start_that_comes_late_begins_no_other_run() {
        let mut script = Script::new("t", "late");
        script.graph_start().wait(1).model("plan", "r", "large", 1, (1, 1)).graph_end().node("plan", 1);
        script.messages = [2, 3, 0, 4, 5].map(|place| script.messages[place].clone()).to_vec();
        let now = live(&script);
        let found: Vec<_> = now.runs().iter().map(|run| (run.id.to_string(), run.status())).collect();
        assert_eq!(found, [("t/late".to_owned(), Status::Done)]);
        assert!(!now.runs()[0].is_partial() && now.runs()[0].has_ended());
    }

    #[test]
    fn everything_that_grows_has_a_bound() {
        let mut script = Script::new("t", "run");
        for number in 0..NODES_MAX + 10 {
            script.start(&format!("n{number}"));
        }
        for number in 0..STREAMS_MAX as u32 + 5 {
            script.chunk(&format!("r{number}"), |chunk| chunk.text = "é".repeat(1_000));
            script.chunk(&format!("r{number}"), |chunk| (chunk.chunk_index, chunk.text) = (1, "é".repeat(1_500)));
        }
        for index in (5..60_u32).rev() {
            script.chunk("r12", |chunk| chunk.chunk_index = index);
        }
        for _ in 0..20 {
            script.chunk("r12", |chunk| chunk.text = "é".repeat(1_500));
        }
        for _ in 0..ERRORS_MAX + 10 {
            script.event(EventType::NodeError, "n1", &[]);
        }
        let now = live(&script);
        let run = now.runs()[0];
        assert_eq!((run.nodes.len(), run.streams.len(), run.errors.len()), (NODES_MAX, STREAMS_MAX, ERRORS_MAX));
        assert_eq!(run.error_count, ERRORS_MAX as u64 + 10);
        assert!(run.streams.iter().all(|stream| stream.text.len() <= STREAM_BYTES_MAX));
        let mut script = Script::new("t", "run");
        for number in 0..RUNS_KEPT_MAX + 7 {
            script.thread(&format!("run-{number}")).graph_start();
        }
        script.thread("run-205").graph_end().thread("more").graph_start();
        let now = live(&script);
        assert_eq!((now.runs().len(), now.evicted), (RUNS_KEPT_MAX, 8));
        assert!(!now.runs().iter().any(|run| run.id.owner.thread == "run-205"), "what has ended goes first");
        assert!(now.runs().iter().any(|run| run.id.owner.thread == "run-7"), "and keeps the others");
    }
}
