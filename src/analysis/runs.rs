//! Events as runs: whose they are, which come twice, what is missing, and the order in which they were sent.
//!
//! A thread that starts its graph again after it has ended begins another run, `tenant/thread#2`, as on the page.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::error::Severity;
use crate::wire::proto::tool_execution::ExecutionStage;
use crate::wire::proto::{DashStreamMessage, EventType};

use super::life::Life;
use super::limits::{BYTES_MAX, EVENTS_MAX, NAME_CHARS_MAX, RUN_BYTES_MAX, RUN_EVENTS_MAX, RUNS_MAX, THREADS_MAX};
use super::note::Note;
use super::text::one_line;
use super::told::{Owner, Place, Told, What, tell, weight};

pub use super::life::Status;

/// A run of a thread: the first, the second ...
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RunId {
    pub owner: Owner,
    /// From 1.
    pub nth: u32,
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |text: &str| one_line(text, NAME_CHARS_MAX);
        write!(formatter, "{}/{}", part(&self.owner.tenant), part(&self.owner.thread))?;
        match self.nth {
            ..=1 => Ok(()),
            nth => write!(formatter, "#{nth}"),
        }
    }
}

/// Everything that is kept of one run.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    pub id: RunId,
    pub graph: Option<String>,
    pub status: Status,
    /// In the order in which they were sent, as far as sequences tell; each message id once.
    pub events: Vec<Told>,
    pub notes: BTreeSet<Note>,
}

impl Run {
    /// First and last moment that an event names.
    pub fn span_us(&self) -> (i64, i64) {
        let times = self.events.iter().map(|event| event.at_us);
        (times.clone().min().unwrap_or(0), times.max().unwrap_or(0))
    }

    /// What failed, first things first.
    pub fn errors(&self) -> impl Iterator<Item = &Told> {
        self.events.iter().filter(|event| is_error(&event.what))
    }
}

/// Whether something failed, and not just did not go well the first time.
pub fn is_error(what: &What) -> bool {
    match what {
        What::GraphError { .. } | What::NodeError { .. } | What::ModelError { .. } | What::ToolError { .. } => true,
        What::Error { severity, .. } => !matches!(severity, Severity::Debug | Severity::Info | Severity::Warning),
        _ => false,
    }
}

/// The same of a message, for those who look at nothing else of it.
pub fn is_failure(message: &DashStreamMessage) -> bool {
    match &message.message {
        Some(Payload::Event(event)) => {
            use EventType::{GraphError, LlmError, NodeError, ToolError};
            matches!(event.event_type(), GraphError | NodeError | LlmError | ToolError)
        }
        Some(Payload::Error(error)) => {
            !matches!(error.severity(), Severity::Debug | Severity::Info | Severity::Warning)
        }
        Some(Payload::ToolExecution(tool)) => match tool.stage() {
            // It is tried again.
            ExecutionStage::Retrying => false,
            ExecutionStage::Failed => true,
            _ => !tool.error.is_empty(),
        },
        _ => false,
    }
}

/// What may still be kept, of all runs together.
struct Room {
    events: usize,
    bytes: usize,
}

/// A run while its events come.
struct Growing {
    id: RunId,
    /// Also of what is left out.
    life: Life,
    events: Vec<Told>,
    bytes: usize,
    ids: HashSet<Vec<u8>>,
    duplicates: u64,
    left_out: u64,
}

impl Growing {
    fn new(id: RunId) -> Self {
        Self {
            id,
            life: Life::default(),
            events: Vec::new(),
            bytes: 0,
            ids: HashSet::new(),
            duplicates: 0,
            left_out: 0,
        }
    }

    fn add(&mut self, told: Told, room: &mut Room) {
        self.life.note(told.beat());
        let bytes = weight(&told.what);
        let full = self.events.len() >= RUN_EVENTS_MAX || self.bytes.saturating_add(bytes) > RUN_BYTES_MAX;
        if full || room.events == 0 || room.bytes < bytes {
            self.left_out += 1;
            return;
        }
        if is_identity(&told.id) && !self.ids.insert(told.id.clone()) {
            self.duplicates += 1;
            return;
        }
        self.bytes += bytes;
        room.events -= 1;
        room.bytes -= bytes;
        self.events.push(told);
    }

    /// Only sequences of `possible` can be missing, if it is known.
    fn finish(self, possible: Option<&[(u64, u64)]>) -> Run {
        let mut notes = BTreeSet::new();
        if !self.life.has_begun() {
            notes.insert(Note::NoBeginning);
        }
        if !self.life.has_ended() {
            notes.insert(Note::NoEnd);
        }
        if self.duplicates > 0 {
            notes.insert(Note::Duplicates(self.duplicates));
        }
        if self.left_out > 0 {
            notes.insert(Note::LeftOut(self.left_out));
        }
        let events = in_sequence(self.events);
        notes.extend(missing(&events, possible));
        Run { id: self.id, graph: graph(&events), status: self.life.status(), events, notes }
    }
}

/// Producers give every message a UUID; anything else is no ground to call two events one.
fn is_identity(id: &[u8]) -> bool {
    id.len() == 16
}

/// By sequence; an event without one stays behind the one that it came after.
fn in_sequence(events: Vec<Told>) -> Vec<Told> {
    let mut last = 0;
    let mut keyed: Vec<(u64, Told)> = Vec::with_capacity(events.len());
    for event in events {
        if event.sequence > 0 {
            last = event.sequence;
        }
        keyed.push((last, event));
    }
    keyed.sort_by_key(|(sequence, _)| *sequence);
    keyed.into_iter().map(|(_, event)| event).collect()
}

/// What the sequences say about what is not there.
fn missing(events: &[Told], possible: Option<&[(u64, u64)]>) -> Vec<Note> {
    let mut notes = Vec::new();
    let unnumbered = events.iter().filter(|event| event.sequence == 0).count() as u64;
    if unnumbered > 0 {
        notes.push(Note::Unnumbered(unnumbered));
    }
    let mut numbers = events.iter().map(|event| event.sequence).filter(|sequence| *sequence > 0).peekable();
    // Sequences of a thread count on through its runs, so the first of a run may be any.
    let Some(mut last) = numbers.next() else { return notes };
    let (mut count, mut first, mut twice) = (0_u64, None, false);
    for number in numbers {
        twice |= number == last;
        let gap = (last.saturating_add(1), number);
        for (from, to) in possible.map_or(vec![gap], |possible| overlaps(possible, gap)) {
            if from < to {
                count = count.saturating_add(to - from);
                first = first.or(Some(from));
            }
        }
        last = number;
    }
    match (twice, first) {
        (true, _) => notes.push(Note::SeveralCounters),
        (false, Some(first)) => notes.push(Note::Missing { count, first }),
        (false, None) => {}
    }
    notes
}

/// What of the gap `[from, to)` is in one of these.
fn overlaps(possible: &[(u64, u64)], gap: (u64, u64)) -> Vec<(u64, u64)> {
    possible.iter().map(|(from, to)| ((*from).max(gap.0), (*to).min(gap.1))).collect()
}

fn graph(events: &[Told]) -> Option<String> {
    events.iter().find_map(|event| match &event.what {
        What::GraphStart { graph, .. } => graph.clone(),
        _ => None,
    })
}

/// Which runs are to be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Of any thread, the first [`RUNS_MAX`].
    All,
    /// Of this thread, the first [`RUNS_MAX`] of any tenant.
    Thread(String),
    /// This run of a thread, of any tenant.
    Nth(String, u32),
}

impl Wanted {
    /// `thread` or `thread#2`.
    pub fn parse(text: &str) -> Self {
        match text.rsplit_once('#').and_then(|(thread, nth)| Some((thread, nth.parse::<u32>().ok()?))) {
            Some((thread, nth)) if nth > 0 && !thread.is_empty() => Wanted::Nth(thread.to_owned(), nth),
            _ => Wanted::Thread(text.to_owned()),
        }
    }

    /// The thread as producers wrote it, for a filter on what is read.
    pub fn thread(&self) -> Option<&str> {
        match self {
            Wanted::All => None,
            Wanted::Thread(thread) | Wanted::Nth(thread, _) => Some(thread),
        }
    }

    fn wants(&self, id: &RunId) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Thread(thread) => id.owner.thread == *thread,
            Wanted::Nth(thread, nth) => id.owner.thread == *thread && id.nth == *nth,
        }
    }
}

/// Takes events as they come, and gives back the runs that were wanted.
pub struct Collector {
    wanted: Vec<Wanted>,
    runs: Vec<Growing>,
    /// The run of a thread that goes on.
    current: HashMap<Owner, Current>,
    room: Room,
    left_out: u64,
    nameless: u64,
    /// Only these sequences `[from, to)` can be missing; `None`: any.
    lost: Option<HashMap<Owner, Vec<(u64, u64)>>>,
    /// In all of `lost`.
    lost_count: usize,
}

struct Current {
    nth: u32,
    /// Where in `runs`; `None`: seen and not kept.
    kept: Option<usize>,
    life: Life,
}

impl Collector {
    pub fn new(wanted: Vec<Wanted>) -> Self {
        let room = Room { events: EVENTS_MAX, bytes: BYTES_MAX };
        Self {
            wanted,
            runs: Vec::new(),
            current: HashMap::new(),
            room,
            left_out: 0,
            nameless: 0,
            lost: None,
            lost_count: 0,
        }
    }

    /// Not all events of a run come, so that what is not there is not missing, unless [`Collector::lost`] says so.
    pub fn of_parts(self) -> Self {
        Self { lost: Some(HashMap::new()), ..self }
    }

    /// Whoever saw all events says that the sequences `[from, to)` of this thread were missing.
    pub fn lost(&mut self, tenant: &str, thread: &str, from: u64, to: u64) {
        let Some(lost) = &mut self.lost else { return };
        let owner = Owner { tenant: tenant.to_owned(), thread: thread.to_owned() };
        if self.lost_count < THREADS_MAX {
            self.lost_count += 1;
            lost.entry(owner).or_default().push((from, to));
        }
    }

    pub fn take(&mut self, place: Place, message: &DashStreamMessage) {
        for told in tell(place, message) {
            match told {
                Some((owner, told)) => self.add(owner, told),
                None => self.nameless += 1,
            }
        }
    }

    fn add(&mut self, owner: Owner, told: Told) {
        if !self.wanted.iter().any(|wanted| wanted.thread().is_none_or(|thread| thread == owner.thread)) {
            return;
        }
        let beat = told.beat();
        let again = |kept: Option<usize>| {
            kept.and_then(|index| self.runs.get(index)).is_some_and(|run| run.ids.contains(&told.id))
        };
        let nth = match self.current.get(&owner) {
            None if self.current.len() >= THREADS_MAX => {
                self.left_out += 1;
                return;
            }
            None => Some(1),
            Some(current) if current.life.is_over(beat) && !again(current.kept) => Some(current.nth.saturating_add(1)),
            Some(_) => None,
        };
        if let Some(nth) = nth {
            let id = RunId { owner: owner.clone(), nth };
            let wanted = self.wanted.iter().any(|wanted| wanted.wants(&id));
            let kept = (wanted && self.runs.len() < RUNS_MAX).then_some(self.runs.len());
            if kept.is_some() {
                self.runs.push(Growing::new(id));
            } else if wanted {
                self.left_out += 1;
            }
            self.current.insert(owner.clone(), Current { nth, kept, life: Life::default() });
        }
        let Some(current) = self.current.get_mut(&owner) else { return };
        current.life.note(beat);
        if let Some(run) = current.kept.and_then(|index| self.runs.get_mut(index)) {
            run.add(told, &mut self.room);
        }
    }

    /// The runs in order of appearance, and what is to be known about all of them.
    pub fn finish(self) -> (Vec<Run>, BTreeSet<Note>) {
        let mut notes = BTreeSet::new();
        if self.left_out > 0 {
            notes.insert(Note::RunsLeftOut(self.left_out));
        }
        if self.nameless > 0 {
            notes.insert(Note::Nameless(self.nameless));
        }
        let lost = self.lost.as_ref();
        let runs = self.runs.into_iter().map(|run| {
            let possible = lost.map(|lost| lost.get(&run.id.owner).map_or(&[][..], Vec::as_slice));
            run.finish(possible)
        });
        (runs.collect(), notes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Script;
    use super::*;

    fn ids(runs: &[Run]) -> Vec<String> {
        runs.iter().map(|run| format!("{} {} {}", run.id, run.status.label(), run.events.len())).collect()
    }

    fn notes(run: &Run) -> Vec<String> {
        run.notes.iter().map(Note::to_string).collect()
    }

    #[test]
    fn a_graph_that_starts_again_after_its_end_is_another_run() {
        let mut script = Script::new("t", "run");
        script.graph_start().node("a", 10).graph_end();
        script.graph_start().node("a", 20).graph_error("broken").say_nothing_more();
        let (runs, left) = script.collect(vec![Wanted::All]);
        assert_eq!(ids(&runs), ["t/run done 4", "t/run#2 failed 4"]);
        assert!(left.is_empty());
        let (runs, _) = script.collect(vec![Wanted::parse("run#2")]);
        assert_eq!(ids(&runs), ["t/run#2 failed 4"]);
        let (runs, _) = script.collect(vec![Wanted::parse("another")]);
        assert_eq!(ids(&runs), [""; 0]);
    }

    #[test]
    fn a_message_fails_when_what_it_tells_is_an_error() {
        use crate::wire::proto::{Error, Event, Header, ToolExecution};
        use crate::words::{Offset, PartitionId};
        let header = Some(Header { thread_id: "run".to_owned(), ..Header::default() });
        let mut payloads = Vec::new();
        for number in 0..128 {
            payloads.push(Payload::Event(Event { header: header.clone(), event_type: number, ..Event::default() }));
            payloads.push(Payload::Error(Error { header: header.clone(), severity: number, ..Error::default() }));
            for error in ["", "busy"] {
                let (header, error) = (header.clone(), error.to_owned());
                let tool = ToolExecution { header, stage: number, error, ..ToolExecution::default() };
                payloads.push(Payload::ToolExecution(tool));
            }
        }
        let place = Place { partition: PartitionId(0), offset: Offset(0), timestamp_ms: None };
        let mut failures = 0;
        for payload in payloads {
            let message = DashStreamMessage { message: Some(payload) };
            let told = tell(place, &message);
            let Some((_, told)) = &told[0] else { panic!("it names its thread: {message:?}") };
            assert_eq!(is_failure(&message), is_error(&told.what), "{message:?}");
            failures += u32::from(is_failure(&message));
        }
        assert!((100..400).contains(&failures), "{failures} fail, and others do not");
    }

    #[test]
    fn duplicates_count_once_and_order_is_that_of_the_sequences() {
        let mut script = Script::new("t", "run");
        script.graph_start().node("a", 10).node("b", 10).graph_end();
        let (straight, _) = script.collect(vec![Wanted::All]);
        // All of it twice, the second time backwards: the repeated start begins no run.
        let mut messages = script.messages.clone();
        messages.extend(script.messages.iter().rev().cloned());
        script.messages = messages;
        let (runs, _) = script.collect(vec![Wanted::All]);
        assert_eq!(ids(&runs), ["t/run done 6"]);
        assert_eq!(notes(&runs[0]), ["6 duplicates counted once"]);
        script.messages.rotate_left(3);
        let (runs, _) = script.collect(vec![Wanted::All]);
        let order = |run: &Run| run.events.iter().map(|event| event.sequence).collect::<Vec<_>>();
        assert_eq!(order(&runs[0]), order(&straight[0]));
    }

    #[test]
    fn what_is_missing_is_said_unless_nobody_can_know() {
        let mut script = Script::new("t", "run");
        script.graph_start().node("a", 10).node("b", 10).graph_end();
        script.messages.drain(1..4);
        let (runs, _) = script.collect(vec![Wanted::All]);
        assert_eq!(notes(&runs[0]), ["3 sequences missing, the first is 2"]);
        // What a filter left out is not missing; what somebody missed who saw all is.
        let parts = |lost: &[(u64, u64)]| {
            let mut collector = Collector::new(vec![Wanted::All]).of_parts();
            lost.iter().for_each(|(from, to)| collector.lost("t", "run", *from, *to));
            let messages = script.messages.iter().enumerate();
            messages.for_each(|(offset, message)| collector.take(Script::place(offset), message));
            notes(&collector.finish().0[0])
        };
        assert_eq!(parts(&[]), [""; 0]);
        assert_eq!(parts(&[(3, 9), (40, 50)]), ["2 sequences missing, the first is 3"]);
        // A second counter from 1 in the same run, under ids of its own.
        script.sequence = 0;
        script.node("c", 5);
        let (runs, _) = script.collect(vec![Wanted::All]);
        assert_eq!(notes(&runs[0]), ["several producers count for themselves: missing sequences cannot be told"]);
    }

    #[test]
    fn what_is_beyond_the_bounds_is_left_out_and_said() {
        let mut script = Script::new("t", "run");
        script.graph_start();
        for _ in 0..RUN_EVENTS_MAX / 2 + 5 {
            script.node("a", 1);
        }
        let (runs, _) = script.collect(vec![Wanted::All]);
        assert_eq!(runs[0].events.len(), RUN_EVENTS_MAX);
        assert!(runs[0].notes.contains(&Note::LeftOut(11)), "{:?}", runs[0].notes);
        let mut script = Script::new("t", "run");
        for number in 0..RUNS_MAX + 3 {
            script.thread(&format!("run-{number}")).graph_start();
        }
        let (runs, left) = script.collect(vec![Wanted::All]);
        assert_eq!(runs.len(), RUNS_MAX);
        assert_eq!(left.into_iter().collect::<Vec<_>>(), [Note::RunsLeftOut(3)]);
    }
}
