//! The core of the client: one connection, from Hello to goodbye. Pure: frames and the time in; events, moves of the
//! cursor and frames to say out.
//!
//! A frame is checked before anything of it is delivered. Events wait in `deliveries` until they are taken; the shell
//! reads no further frame before that, so what was received and what was handed out never differ at a reconnect.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::cursor::{Cursor, Move};
use super::error::{ProtocolError, Why};
use super::event::{Event, Record};
use super::options::Filter;
use super::plan::{Wanted, plan};
use super::track::{State, Taken, Track};
use crate::wire::gateway::{self, answer::Answer, client_frame, resume, server_frame::Frame};
use crate::words::CloseReason;

/// More partitions than any topic that a gateway serves; a bound on what a server can make us remember.
pub(super) const PARTITIONS_MAX: usize = 1 << 16;
/// Changes of the filter that may be unanswered at once; one more waits.
const FILTERS_MAX: usize = 16;
/// Bounds on when a partition that is unavailable is asked for again, whatever the gateway says.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// An event, if there is something to tell, and what it moves once it is applied.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Delivery {
    pub(super) event: Option<Event>,
    pub(super) moved: Move,
}

/// What a frame means for the connection.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Heard {
    Fine,
    /// It is over.
    Bye {
        reason: String,
        reconnect_after: Duration,
    },
    /// Something that was asked for is not to be had.
    Refused {
        what: String,
        why: String,
    },
    /// The stream changed after Hello: connect again to learn its name.
    WrongStream,
}

/// See the module.
pub(super) struct Conversation {
    wanted: Wanted,
    /// As it was when the connection was made.
    cursor: Cursor,
    /// `None` before Hello.
    stream: Option<String>,
    tracks: BTreeMap<u32, Track>,
    /// How many were said. The gateway counts the same way.
    resumes: u64,
    /// Still to be said. One after the other, each when the one before is answered: a resume ends the search for an
    /// answer to the one before, which is then `unavailable`.
    planned: VecDeque<resume::From>,
    /// In effect: the gateway may pass over records.
    filtered: bool,
    /// Filters that were said and not yet applied: whether they let everything through.
    filters: VecDeque<bool>,
    told_paused: bool,
    waiting: bool,
    /// Since when an answer is awaited.
    awaiting_since: Option<Duration>,
    /// When to ask again for partitions that were unavailable.
    retry_at: Option<Duration>,
    /// By partition, up to where a run was searched: true once live.
    searched: BTreeMap<u32, u64>,
    pub(super) deliveries: VecDeque<Delivery>,
    pub(super) outbox: Vec<gateway::ClientFrame>,
}

impl Conversation {
    /// `cursor` is where to go on; it is used only if its stream is the one that Hello names.
    pub(super) fn new(wanted: Wanted, cursor: Cursor) -> Self {
        Self {
            wanted,
            cursor,
            stream: None,
            tracks: BTreeMap::new(),
            resumes: 0,
            planned: VecDeque::new(),
            filtered: false,
            filters: VecDeque::new(),
            told_paused: false,
            waiting: false,
            awaiting_since: None,
            retry_at: None,
            searched: BTreeMap::new(),
            deliveries: VecDeque::new(),
            outbox: Vec::new(),
        }
    }

    /// A frame of the gateway. After an error the connection is of no use.
    pub(super) fn hear(&mut self, frame: Frame, now: Duration) -> Result<Heard, ProtocolError> {
        match frame {
            Frame::Hello(hello) => self.hello(hello, now)?,
            _ if self.stream.is_none() => match frame {
                Frame::Bye(bye) => return Ok(self.bye(bye)),
                _ => return Err(ProtocolError::NoHello),
            },
            Frame::Batch(batch) => self.batch(batch)?,
            Frame::Gap(gap) => {
                let event = |first| Event::Gap { partition: gap.partition, first, last: gap.last, reason: gap.reason };
                self.missing(gap.partition, gap.first, gap.last, event)?;
            }
            Frame::DeadLettered(letter) => {
                let (partition, offset) = (letter.partition, letter.offset);
                let event = |offset| Event::DeadLettered { partition, offset, reason: letter.reason, id: letter.id };
                self.missing(partition, offset, offset, event)?;
            }
            Frame::Answers(answers) => {
                self.asked(answers.resume)?;
                for answer in answers.answers {
                    if !self.answer(answers.resume, answer, now)? {
                        return Ok(Heard::WrongStream);
                    }
                }
                self.in_effect(answers.resume, false);
                self.proceed();
            }
            Frame::Live(live) => {
                self.asked(live.resume)?;
                self.live(live);
            }
            Frame::Waiting(waiting) => {
                self.asked(waiting.resume)?;
                self.in_effect(waiting.resume, false);
                self.waiting = true;
                self.tell(Event::Waiting);
            }
            Frame::FallingBehind(_) => self.tell(Event::FallingBehind),
            Frame::Progress(progress) => {
                let next = self.passed(&progress.cursor)?;
                let moved = Move::many(next);
                let next = progress.cursor.iter().map(|entry| (entry.partition, after(entry.offset))).collect();
                self.deliver(Event::Progress { next }, moved);
            }
            Frame::Applied(applied) => {
                let moved = Move::many(self.passed(&applied.cursor)?);
                if applied.what == "subscribe"
                    && let Some(everything) = self.filters.pop_front()
                {
                    self.filtered = !everything;
                }
                self.deliver(Event::Applied { what: applied.what }, moved);
            }
            Frame::Searched(searched) => {
                if searched.to < searched.from {
                    let (from, next) = (searched.from, searched.to);
                    return Err(ProtocolError::BadInterval { partition: searched.partition, from, next });
                }
                self.in_effect(self.resumes, false);
                // What it found may still be on its way: it counts when live says that all has come.
                self.track(searched.partition)?;
                self.searched.insert(searched.partition, searched.to);
                let (from, to) = (searched.from, searched.to);
                self.tell(Event::Searched { partition: searched.partition, from, to });
            }
            Frame::Pong(_) => {}
            Frame::Refused(refused) => return Ok(Heard::Refused { what: refused.what, why: refused.why }),
            Frame::Bye(bye) => return Ok(self.bye(bye)),
        }
        Ok(Heard::Fine)
    }

    /// The topic was made again: what we have is of no use, and the user is told.
    pub(super) fn stream_changed(&mut self) {
        let was = self.stream.take().unwrap_or_else(|| self.cursor.stream.clone());
        self.deliver(Event::StreamChanged { was, now: None }, Move::stream(String::new(), Vec::new()));
    }

    /// Pauses or goes on, if that was not said already. Not before what was asked is answered, since a pause too would
    /// end the search for an answer.
    pub(super) fn set_paused(&mut self, paused: bool) {
        if self.stream.is_some() && paused != self.told_paused && !(paused && self.awaits()) {
            self.told_paused = paused;
            self.say(match paused {
                true => client_frame::Frame::Pause(gateway::Pause {}),
                false => client_frame::Frame::Continue(gateway::Continue {}),
            });
        }
    }

    /// There is room for one more change of the filter, and a connection to say it on.
    pub(super) fn takes_filter(&self) -> bool {
        self.stream.is_some() && self.filters.len() < FILTERS_MAX
    }

    pub(super) fn set_filter(&mut self, filter: Filter) {
        self.subscribe(&filter);
        self.wanted.set_filter(filter);
    }

    /// Time passes. Why the connection should be given up, if it should.
    pub(super) fn tick(&mut self, now: Duration, answer_timeout: Duration) -> Option<Why> {
        if !self.awaits() || self.waiting || self.told_paused {
            self.awaiting_since = None;
        } else if now.saturating_sub(*self.awaiting_since.get_or_insert(now)) >= answer_timeout {
            return Some(Why::NoAnswer);
        }
        // A resume would end a pause.
        if self.retry_at.is_none_or(|at| now < at) || self.told_paused || self.awaits() {
            return None;
        }
        self.retry_at = None;
        self.ask_again()
    }

    fn hello(&mut self, hello: gateway::Hello, now: Duration) -> Result<(), ProtocolError> {
        if self.stream.is_some() {
            return Err(ProtocolError::SecondHello);
        }
        if !(1..=1024).contains(&hello.stream.len()) || hello.stream.contains(char::is_control) {
            return Err(ProtocolError::BadStreamName);
        }
        if hello.partitions.len() > PARTITIONS_MAX {
            return Err(ProtocolError::TooManyPartitions { limit: PARTITIONS_MAX });
        }
        let stream = hello.stream.clone();
        if self.cursor.stream != stream {
            let was = std::mem::take(&mut self.cursor).stream;
            if !was.is_empty() {
                let moved = Move::stream(String::new(), Vec::new());
                self.deliver(Event::StreamChanged { was, now: Some(stream.clone()) }, moved);
            }
        }
        let plan = plan(&hello, &self.cursor.next, &self.wanted);
        self.tracks = plan.tracks;
        self.filtered = plan.run;
        self.stream = Some(stream.clone());
        self.awaiting_since = Some(now);
        if let Some(filter) = &plan.subscribe {
            self.subscribe(filter);
        }
        self.planned = plan.resumes.into();
        self.proceed();
        // Of the same stream nothing is forgotten, not even what is not acknowledged yet.
        let moved =
            if self.cursor.stream == stream { Move::many(plan.begin) } else { Move::stream(stream, plan.begin) };
        self.deliver(Event::Hello(Box::new(hello)), moved);
        Ok(())
    }

    fn batch(&mut self, batch: gateway::Batch) -> Result<(), ProtocolError> {
        let (partition, from, next) = (batch.partition, batch.from, batch.next);
        if next < from {
            return Err(ProtocolError::BadInterval { partition, from, next });
        }
        let mut expected = from;
        for record in &batch.records {
            if !(expected..next).contains(&record.offset) {
                return Err(ProtocolError::Disordered { partition, offset: record.offset });
            }
            expected = record.offset + 1;
        }
        let strict = self.is_strict();
        let track = self.track(partition)?;
        let taken = track.take(partition, from, next, strict)?;
        let first = match taken {
            Taken::Nothing => return Ok(()),
            Taken::From(first) => first,
            Taken::Begun => from,
        };
        track.remember(from, next, batch.records.iter().map(|record| record.offset));
        if taken == Taken::Begun {
            self.deliver(Event::Resumed { partition, from }, Move::to(partition, from));
        }
        let count = batch.records.len();
        let mut covered = false;
        for (index, record) in batch.records.into_iter().enumerate() {
            if record.offset < first {
                continue;
            }
            // What follows the last record never was one.
            covered = index + 1 == count;
            let moved = Move::to(partition, if covered { next } else { record.offset + 1 });
            let gateway::Record { offset, timestamp_ms, value } = record;
            self.deliver(Event::Record(Record { partition, offset, timestamp_ms, value }), moved);
        }
        if !covered {
            self.deliveries.push_back(Delivery { event: None, moved: Move::to(partition, next) });
        }
        Ok(())
    }

    /// `first..=last` will not come; `event` takes the first offset that is news.
    fn missing(
        &mut self,
        partition: u32,
        first: u64,
        last: u64,
        event: impl FnOnce(u64) -> Event,
    ) -> Result<(), ProtocolError> {
        if last < first {
            return Err(ProtocolError::BadInterval { partition, from: first, next: last });
        }
        let (strict, next) = (self.is_strict(), after(last));
        let track = self.track(partition)?;
        if track.is_told_late(first, last) {
            self.tell(event(first));
            return Ok(());
        }
        match track.take(partition, first, next, strict)? {
            Taken::Nothing => {}
            Taken::From(first) => self.deliver(event(first), Move::to(partition, next)),
            Taken::Begun => {
                self.deliver(Event::Resumed { partition, from: first }, Move::to(partition, first));
                self.deliver(event(first), Move::to(partition, next));
            }
        }
        Ok(())
    }

    /// False: the cursor is of another stream than the gateway's.
    fn answer(&mut self, resume: u64, answer: gateway::Answer, now: Duration) -> Result<bool, ProtocolError> {
        let partition = answer.partition;
        let track = self.track(partition)?;
        let wanted = match track.state {
            State::Awaiting { resume: awaited, .. } if awaited > resume => return Ok(true),
            State::Held { .. } => return Ok(true),
            _ => track.next(),
        };
        let (overlap, flowing) = (track.overlap, matches!(track.state, State::Flowing { .. }));
        let named = matches!(track.state, State::Awaiting { named: true, .. });
        // Where it goes on, given where the gateway says that it does.
        let joined = |from: u64| if overlap { wanted.map_or(from, |wanted| wanted.max(from)) } else { from };
        let elsewhere = |from: u64| {
            let wanted = wanted.unwrap_or(from);
            Err(ProtocolError::ResumedElsewhere { partition, wanted, from })
        };
        let (event, next) = match answer.answer {
            // An answer of a kind that is newer than this client: nothing is known of what will come.
            None => return Ok(true),
            Some(Answer::WrongStream(_)) => return Ok(false),
            Some(Answer::Resumed(resumed)) => {
                let from = resumed.from;
                match wanted {
                    Some(wanted) if from < wanted && !overlap => return elsewhere(from),
                    Some(wanted) if from > wanted && !overlap && (named || flowing) => return elsewhere(from),
                    // It was asked for from the very beginning, which Kafka no longer has.
                    Some(wanted) if from > wanted && !overlap => {
                        let reason = "retention".to_owned();
                        (Event::Truncated { partition, wanted, oldest: from, reason }, from)
                    }
                    Some(wanted) if flowing && from == wanted => return Ok(true),
                    _ => (Event::Resumed { partition, from: joined(from) }, joined(from)),
                }
            }
            Some(Answer::Truncated(truncated)) => {
                let oldest = truncated.oldest;
                if flowing || (!overlap && wanted.is_some_and(|wanted| oldest < wanted)) {
                    return elsewhere(oldest);
                }
                // A resume from the earliest names the first offset wanted, one by cursor the last one applied.
                let wanted = wanted.unwrap_or(truncated.requested);
                (Event::Truncated { partition, wanted, oldest, reason: truncated.reason }, joined(oldest))
            }
            Some(Answer::Future(future)) => {
                if flowing {
                    return elsewhere(future.newest);
                }
                let wanted = wanted.unwrap_or_else(|| after(future.requested));
                (Event::Future { partition, wanted, newest: future.newest }, future.newest)
            }
            Some(Answer::UnknownPartition(_)) => {
                track.state = State::Held { wanted, again: false };
                self.tell(Event::UnknownPartition { partition });
                return Ok(true);
            }
            Some(Answer::NotHere(_)) => {
                track.state = State::Held { wanted, again: false };
                self.tell(Event::NotHere { partition });
                return Ok(true);
            }
            Some(Answer::Unavailable(unavailable)) => {
                track.state = State::Held { wanted, again: true };
                let retry_in = Duration::from_millis(unavailable.retry_after_ms).clamp(RETRY_MIN, RETRY_MAX);
                let at = now + retry_in;
                self.retry_at = Some(self.retry_at.map_or(at, |earlier| earlier.min(at)));
                self.tell(Event::Unavailable { partition, retry_in });
                return Ok(true);
            }
        };
        track.state = State::Flowing { next };
        self.deliver(event, Move::to(partition, next));
        Ok(true)
    }

    /// Every partition stands at the head.
    fn live(&mut self, live: gateway::Live) {
        if live.resume < self.resumes {
            return;
        }
        self.in_effect(live.resume, true);
        self.waiting = false;
        if !self.planned.is_empty() {
            self.proceed();
            return;
        }
        let mut moves = Vec::new();
        for (partition, to) in std::mem::take(&mut self.searched) {
            let track = self.tracks.entry(partition).or_insert_with(|| Track::new(State::Open));
            let behind = match track.state {
                State::Open => true,
                State::Flowing { next } => next < to,
                State::Awaiting { .. } | State::Held { .. } => false,
            };
            if behind {
                track.state = State::Flowing { next: to };
                moves.push((partition, to));
            }
        }
        self.tracks.values_mut().for_each(|track| track.overlap = false);
        self.deliver(Event::Live { replayed: live.replayed }, Move::many(moves));
    }

    fn bye(&mut self, bye: gateway::Bye) -> Heard {
        if bye.reason == CloseReason::StreamChanged.label() {
            self.stream_changed();
        }
        Heard::Bye { reason: bye.reason, reconnect_after: Duration::from_millis(bye.reconnect_after_ms) }
    }

    /// What a cursor of the gateway moves: everything up to there was sent or withheld.
    fn passed(&mut self, cursor: &[gateway::CursorEntry]) -> Result<Vec<(u32, u64)>, ProtocolError> {
        let strict = self.is_strict();
        let mut moves = Vec::new();
        for entry in cursor {
            let (partition, next) = (entry.partition, after(entry.offset));
            let track = self.track(partition)?;
            match track.state {
                State::Flowing { next: expected } if next > expected && strict => {
                    return Err(ProtocolError::Unexplained { partition, expected, from: next });
                }
                State::Flowing { next: expected } if next <= expected => continue,
                State::Awaiting { .. } | State::Held { .. } => continue,
                State::Flowing { .. } | State::Open => {}
            }
            track.state = State::Flowing { next };
            moves.push((partition, next));
        }
        Ok(moves)
    }

    /// Asks for what was unavailable once more. A partition of which nothing is known takes a new connection.
    fn ask_again(&mut self) -> Option<Why> {
        let resume = self.resumes + 1;
        let mut entries = Vec::new();
        for (partition, track) in &self.tracks {
            if let State::Held { wanted, again: true } = track.state {
                match wanted.and_then(|next| next.checked_sub(1)) {
                    Some(offset) if !track.overlap => {
                        entries.push(gateway::CursorEntry { partition: *partition, offset });
                    }
                    _ => return Some(Why::Unavailable),
                }
            }
        }
        for entry in &entries {
            if let Some(track) = self.tracks.get_mut(&entry.partition) {
                track.state = State::Awaiting { resume, wanted: track.next(), named: true };
            }
        }
        if !entries.is_empty() {
            self.resume(resume::From::Cursor(gateway::Cursor { entries }));
        }
        None
    }

    /// The answer is to a resume that was said; 0 is the start of the connection.
    fn asked(&self, resume: u64) -> Result<(), ProtocolError> {
        if resume > self.resumes { Err(ProtocolError::UnknownResume { resume }) } else { Ok(()) }
    }

    /// Says the next resume, if the one before is answered.
    fn proceed(&mut self) {
        let said = self.resumes;
        let awaits = |track: &Track| matches!(track.state, State::Awaiting { resume, .. } if resume <= said);
        if !self.tracks.values().any(awaits)
            && let Some(from) = self.planned.pop_front()
        {
            self.resume(from);
        }
    }

    /// Some partition has no answer yet.
    fn awaits(&self) -> bool {
        self.tracks.values().any(|track| matches!(track.state, State::Awaiting { .. }))
    }

    fn in_effect(&mut self, resume: u64, also_named: bool) {
        self.tracks.values_mut().for_each(|track| track.release(resume, also_named));
    }

    fn track(&mut self, partition: u32) -> Result<&mut Track, ProtocolError> {
        if self.tracks.len() >= PARTITIONS_MAX && !self.tracks.contains_key(&partition) {
            return Err(ProtocolError::TooManyPartitions { limit: PARTITIONS_MAX });
        }
        Ok(self.tracks.entry(partition).or_insert_with(|| Track::new(State::Open)))
    }

    /// Nothing may be passed over: no filter is in effect, nor on its way to be.
    fn is_strict(&self) -> bool {
        !self.filtered && self.filters.iter().all(|everything| *everything)
    }

    fn subscribe(&mut self, filter: &Filter) {
        self.filters.push_back(filter.is_empty());
        self.say(client_frame::Frame::Subscribe(filter.to_wire()));
    }

    fn resume(&mut self, from: resume::From) {
        self.resumes += 1;
        let stream = self.stream.clone().unwrap_or_default();
        self.say(client_frame::Frame::Resume(gateway::Resume { stream, from: Some(from) }));
    }

    fn say(&mut self, frame: client_frame::Frame) {
        self.outbox.push(gateway::ClientFrame { frame: Some(frame) });
    }

    fn tell(&mut self, event: Event) {
        self.deliver(event, Move::default());
    }

    fn deliver(&mut self, event: Event, moved: Move) {
        self.deliveries.push_back(Delivery { event: Some(event), moved });
    }
}

/// The next offset that someone wants who has this one.
fn after(offset: u64) -> u64 {
    offset.saturating_add(1)
}
