//! A client as a stranger would write it: it splits bytes into frames, follows its protocol, keeps a cursor, and
//! checks every promise against what was produced.

use std::collections::{BTreeMap, BTreeSet};

use dashstream::observe::stats::Protocol;
use dashstream::wire::gateway::{self as v2, answer::Answer, server_frame::Frame};
use prost::Message;
use serde_json::Value;

use crate::produced::{Item, Partition};

/// What a client believes about one partition: everything below `next` is accounted for.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub next: u64,
    /// The last offset that it was sent since the last accepted resume.
    pub last_sent: Option<u64>,
    /// It asked for all that there is, so what retention takes meanwhile is nobody's loss.
    pub all: bool,
}

impl Place {
    pub(crate) fn at(next: u64) -> Self {
        Self { next, last_sent: None, all: false }
    }
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Counts {
    pub records: u64,
    pub gaps: u64,
    pub dead_letters: u64,
    pub truncated: u64,
    pub futures: u64,
    pub retention_gaps: u64,
    pub progress: u64,
    pub applied: u64,
    pub policies: u64,
    pub refused: u64,
    pub wrong_streams: u64,
    pub not_here: u64,
    pub waiting: u64,
    pub falling_behind: u64,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub protocol: Protocol,
    pub aware: bool,
    bytes: Vec<u8>,
    pending_cursor: Option<(u32, u64)>,
    pub places: BTreeMap<u32, Place>,
    pub resumes_sent: u64,
    /// Per partition the last resume that named it.
    pub asked: BTreeMap<u32, u64>,
    pub completes: u64,
    pub lives: Vec<u64>,
    pub answered: Vec<u64>,
    answered_of: std::collections::BTreeSet<u32>,
    pub hello: bool,
    /// Some partition could not be had when it was asked for.
    pub unavailable: bool,
    pub closed: Option<u16>,
    pub bye: Option<BTreeMap<u32, u64>>,
    /// What is older than the log can be had.
    cold: bool,
    /// It is brought up to date when it falls off the log, which then is no loss. Its own choice, where it made one.
    catchup: bool,
    falling_behind: bool,
    /// Its filter, and those that it asked for and that have not been applied yet.
    follows: Option<u64>,
    pub wishes: std::collections::VecDeque<crate::said::Wish>,
    paused: bool,
    /// Number of the connection, to tell conversations apart; `None`: nothing is printed.
    pub trace: Option<u64>,
    /// Its cursor of these is of a stream that is no more.
    pub stale: BTreeSet<u32>,
    /// A host may not have all partitions.
    pub group: bool,
    pub counts: Counts,
}

impl Client {
    pub(crate) fn new(
        protocol: Protocol,
        aware: bool,
        cold: bool,
        catchup: bool,
        places: BTreeMap<u32, Place>,
    ) -> Self {
        Self {
            protocol,
            aware,
            bytes: Vec::new(),
            pending_cursor: None,
            places,
            resumes_sent: 0,
            asked: BTreeMap::new(),
            completes: 0,
            lives: Vec::new(),
            answered: Vec::new(),
            answered_of: Default::default(),
            hello: false,
            unavailable: false,
            closed: None,
            bye: None,
            cold,
            catchup,
            falling_behind: false,
            follows: None,
            wishes: Default::default(),
            paused: false,
            trace: None,
            stale: BTreeSet::new(),
            group: false,
            counts: Counts::default(),
        }
    }

    pub(crate) fn receive(&mut self, bytes: &[u8], produced: &[Partition]) {
        self.bytes.extend_from_slice(bytes);
        while let Some((opcode, payload)) = self.frame() {
            assert!(self.closed.is_none(), "nothing follows a close frame");
            match opcode {
                1 => self.text(&payload, produced),
                2 => self.binary(&payload, produced),
                8 => self.closed = Some(u16::from_be_bytes([payload[0], payload[1]])),
                9 | 10 => assert!(self.pending_cursor.is_none(), "a value follows its cursor at once"),
                other => panic!("opcode {other}"),
            }
        }
    }

    /// Prints what is said, when a failure is looked into.
    #[allow(clippy::print_stderr, reason = "asked for by a variable")]
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        if let Some(connection) = self.trace {
            let text = what();
            eprintln!("[{connection}] {}", text.get(..400).unwrap_or(&text));
        }
    }

    /// No frame is left half way.
    pub(crate) fn assert_at_boundary(&self) {
        assert!(self.bytes.is_empty(), "a frame was cut: {} bytes left", self.bytes.len());
        assert!(self.pending_cursor.is_none(), "a cursor without its value");
    }

    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, second) = (*self.bytes.first()?, *self.bytes.get(1)?);
        assert_eq!(first & 0xF0, 0x80, "final, nothing reserved");
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (length, header) = match second {
            126 => (usize::from(u16::from_be_bytes([*self.bytes.get(2)?, *self.bytes.get(3)?])), 4),
            127 => (u64::from_be_bytes(self.bytes.get(2..10)?.try_into().expect("eight")) as usize, 10),
            short => (usize::from(short), 2),
        };
        if self.bytes.len() < header + length {
            return None;
        }
        let rest = self.bytes.split_off(header + length);
        let payload = self.bytes.split_off(header);
        self.bytes = rest;
        Some((first & 0x0F, payload))
    }

    fn text(&mut self, payload: &[u8], produced: &[Partition]) {
        let text: Value = serde_json::from_slice(payload).expect("valid JSON");
        let kind = text["type"].as_str().expect("a type").to_owned();
        assert!(self.pending_cursor.is_none(), "a value follows its cursor at once");
        self.note(|| match kind.as_str() {
            "batch" => format!("batch {} {}..{}", text["partition"], text["from"], text["next"]),
            _ => text.to_string(),
        });
        match self.protocol {
            Protocol::V1 => self.v1(&kind, &text, produced),
            Protocol::Json => self.json(&kind, &text, produced),
            Protocol::V2 => panic!("text in v2"),
        }
    }

    fn v1(&mut self, kind: &str, text: &Value, produced: &[Partition]) {
        match kind {
            "cursor" => self.pending_cursor = Some((partition(text), number(text, "offset"))),
            "gap" => self.gap(partition(text), number(text, "first"), number(text, "last"), label(text), produced),
            "cursor_stale" if text["reason"] == "not_here" => self.not_here(partition(text)),
            "wrong_stream" => self.wrong_stream(partition(text), number(text, "newest"), produced),
            "cursor_stale" if text["reason"] == "future" => {
                self.future(partition(text), number(text, "requested"), number(text, "newest"), produced);
            }
            "cursor_future" => {
                assert!(self.aware, "only for who sent stream");
                self.future(partition(text), number(text, "requested"), number(text, "newest"), produced);
            }
            "cursor_stale" => {
                self.truncated(partition(text), number(text, "requested"), number(text, "oldest"), produced);
            }
            "replay_complete" => {
                self.completes += 1;
                assert!(self.completes <= self.resumes_sent, "one replay_complete per resume");
            }
            other => panic!("v1 does not know {other}"),
        }
    }

    fn json(&mut self, kind: &str, text: &Value, produced: &[Partition]) {
        match kind {
            "hello" => {
                assert!(!std::mem::replace(&mut self.hello, true), "one hello");
                for entry in text["partitions"].as_array().expect("partitions") {
                    self.begin_at(partition(entry), number(entry, "position"));
                }
            }
            "batch" => {
                let records = text["records"].as_array().expect("records").iter();
                let offsets = records.map(|record| {
                    let offset = number(record, "offset");
                    let id = format!("{:08x}{:08x}{offset:016x}", partition(text), 0);
                    assert_eq!(record["events"][0]["message_id"], id.as_str(), "the events are those of the record");
                    offset
                });
                let offsets: Vec<_> = offsets.collect();
                self.batch(partition(text), number(text, "from"), number(text, "next"), &offsets, produced);
            }
            "gap" => self.gap(partition(text), number(text, "first"), number(text, "last"), label(text), produced),
            "dead_lettered" => self.dead_letter(partition(text), number(text, "offset"), produced),
            "answers" => {
                let answers = text["answers"].as_array().expect("answers");
                let given = answers.iter().map(|answer| (partition(answer), answer["answer"] == "unavailable"));
                self.answered(number(text, "resume"), given);
                for answer in answers {
                    let number = |key| number(answer, key);
                    if self.has_asked_again(partition(answer)) {
                        continue;
                    }
                    match answer["answer"].as_str().expect("an answer") {
                        "resumed" => self.resumed(partition(answer), number("from")),
                        "truncated" => {
                            self.truncated(partition(answer), number("requested"), number("oldest"), produced)
                        }
                        "future" => self.future(partition(answer), number("requested"), number("newest"), produced),
                        "unavailable" => self.unavailable = true,
                        "wrong_stream" => self.wrong_stream(partition(answer), number("newest"), produced),
                        "not_here" => self.not_here(partition(answer)),
                        other => panic!("answer {other}"),
                    }
                }
            }
            "live" => self.live(number(text, "resume")),
            "waiting" => self.counts.waiting += 1,
            "falling_behind" => self.falls_behind(),
            "progress" => self.progress(&cursor_of(text), produced),
            "applied" => self.applied(text["what"].as_str().expect("what"), &cursor_of(text), produced),
            "bye" => self.bye = Some(cursor_of(text)),
            "refused" => self.refused(text["what"].as_str().expect("what")),
            other => panic!("json does not know {other}"),
        }
    }

    fn binary(&mut self, payload: &[u8], produced: &[Partition]) {
        if self.protocol == Protocol::V1 {
            let (partition, offset) = self.pending_cursor.take().expect("a value follows a cursor");
            return self.record(partition, offset, Some(payload), produced);
        }
        let frame = v2::ServerFrame::decode(payload).expect("protobuf").frame.expect("a frame");
        self.note(|| match &frame {
            Frame::Batch(batch) => format!("batch {} {}..{}", batch.partition, batch.from, batch.next),
            other => format!("{other:?}"),
        });
        match frame {
            Frame::Hello(hello) => {
                assert!(!std::mem::replace(&mut self.hello, true), "one hello");
                for entry in hello.partitions {
                    self.begin_at(entry.partition, entry.position);
                }
            }
            Frame::Batch(batch) => {
                for record in &batch.records {
                    let item = produced[batch.partition as usize].items.get(&record.offset);
                    assert_eq!(item, Some(&Item::Good(record.value.to_vec())), "every byte");
                }
                let offsets: Vec<_> = batch.records.iter().map(|record| record.offset).collect();
                self.batch(batch.partition, batch.from, batch.next, &offsets, produced);
            }
            Frame::Gap(gap) => self.gap(gap.partition, gap.first, gap.last, &gap.reason, produced),
            Frame::DeadLettered(letter) => self.dead_letter(letter.partition, letter.offset, produced),
            Frame::Answers(answers) => {
                let unavailable = |answer: &v2::Answer| matches!(answer.answer, Some(Answer::Unavailable(_)));
                let given = answers.answers.iter().map(|answer| (answer.partition, unavailable(answer)));
                self.answered(answers.resume, given);
                for answer in answers.answers {
                    let partition = answer.partition;
                    if self.has_asked_again(partition) {
                        continue;
                    }
                    match answer.answer.expect("an answer") {
                        Answer::Resumed(resumed) => self.resumed(partition, resumed.from),
                        Answer::Truncated(truncated) => {
                            self.truncated(partition, truncated.requested, truncated.oldest, produced);
                        }
                        Answer::Unavailable(_) => self.unavailable = true,
                        Answer::WrongStream(wrong) => self.wrong_stream(partition, wrong.newest, produced),
                        Answer::NotHere(_) => self.not_here(partition),
                        Answer::Future(future) => self.future(partition, future.requested, future.newest, produced),
                        other => panic!("{other:?}"),
                    }
                }
            }
            Frame::Live(live) => self.live(live.resume),
            Frame::Bye(bye) => self.bye = Some(entries(&bye.cursor)),
            Frame::Waiting(_) => self.counts.waiting += 1,
            Frame::FallingBehind(_) => self.falls_behind(),
            Frame::Progress(progress) => self.progress(&entries(&progress.cursor), produced),
            Frame::Refused(refused) => self.refused(&refused.what),
            Frame::Applied(applied) => self.applied(&applied.what, &entries(&applied.cursor), produced),
            other => panic!("{other:?}"),
        }
    }

    /// Nothing between the records, nor before the first or after the last, may be something that was produced.
    fn batch(&mut self, partition: u32, from: u64, next: u64, offsets: &[u64], produced: &[Partition]) {
        assert!(!self.stale.contains(&partition), "partition {partition}: its cursor was of another stream");
        assert!(!self.paused, "a paused client gets nothing");
        let (silent, follows) = (self.is_silent(), self.follows);
        let place = self.places.get_mut(&partition).expect("a partition that was announced");
        assert!(place.last_sent.is_none_or(|last| from > last), "coverage goes back");
        assert_skippable(&produced[partition as usize], place, from, silent, follows, partition);
        for offset in offsets {
            assert!((from..next).contains(offset), "{offset} is not in {from}..{next}");
            self.record(partition, *offset, None, produced);
        }
        let place = self.places.get_mut(&partition).expect("just used");
        assert_skippable(&produced[partition as usize], place, next, silent, follows, partition);
        place.next = place.next.max(next);
    }

    fn record(&mut self, partition: u32, offset: u64, value: Option<&[u8]>, produced: &[Partition]) {
        assert!(!self.stale.contains(&partition), "partition {partition}: its cursor was of another stream");
        let log = &produced[partition as usize];
        let (silent, follows) = (self.is_silent(), self.follows);
        if let Some(run) = follows {
            assert_eq!(
                log.runs.get(&offset),
                Some(&run),
                "partition {partition}: {offset} is not of the run asked for"
            );
        }
        let place = self.places.get_mut(&partition).expect("a partition that was announced");
        assert!(place.last_sent.is_none_or(|last| offset > last), "partition {partition}: {offset} goes back");
        assert!(offset >= place.next, "partition {partition}: {offset} again, next is {}", place.next);
        assert_skippable(log, place, offset, silent, follows, partition);
        place.all = false;
        match (log.items.get(&offset), value) {
            (Some(Item::Good(expected)), Some(value)) => assert_eq!(expected, value, "every byte"),
            (Some(Item::Good(_)), None) => {}
            (other, _) => panic!("partition {partition}: {offset} is {other:?} and was delivered"),
        }
        place.next = offset + 1;
        place.last_sent = Some(offset);
        self.counts.records += 1;
    }

    fn gap(&mut self, partition: u32, first: u64, last: u64, reason: &str, produced: &[Partition]) {
        assert!(first <= last, "a gap has a length");
        self.counts.gaps += 1;
        let (silent, follows) = (self.is_silent(), self.follows);
        let may_fall = !self.cold || !self.catchup || self.falling_behind || self.protocol == Protocol::V1;
        let log = &produced[partition as usize];
        let place = self.places.get_mut(&partition).expect("a partition that was announced");
        assert!(first >= place.next, "partition {partition}: a gap from {first}, but {} was next", place.next);
        assert_skippable(log, place, first, silent, follows, partition);
        place.all = false;
        match reason {
            "null" => assert_eq!(log.items.get(&first), Some(&Item::Null)),
            "dead_lettered" => assert!(matches!(log.items.get(&first), Some(Item::Poison(_)))),
            "slow_client" => assert!(may_fall, "what Kafka has is no loss"),
            "retention" => {
                assert!(last < log.low, "partition {partition}: {last} is still there, {} is the oldest", log.low);
                self.counts.retention_gaps += 1;
            }
            other => panic!("gap reason {other}"),
        }
        place.next = last + 1;
        place.last_sent = Some(last);
    }

    fn dead_letter(&mut self, partition: u32, offset: u64, produced: &[Partition]) {
        self.counts.dead_letters += 1;
        let log = &produced[partition as usize];
        assert!(matches!(log.items.get(&offset), Some(Item::Poison(_))), "only poison is dead-lettered");
        let follows = self.follows;
        assert_eq!(follows, None, "nobody knows whose a dead letter is");
        let place = self.places.get_mut(&partition).expect("a partition that was announced");
        assert!(offset >= place.next, "a dead letter comes once");
        assert_skippable(log, place, offset, false, follows, partition);
        place.next = offset + 1;
        place.last_sent = Some(offset);
    }

    fn begin_at(&mut self, partition: u32, position: u64) {
        self.places.entry(partition).or_insert(Place::at(position));
    }

    /// One answer per resume and partition; after it, only that what was promised cannot be had now.
    fn answered(&mut self, resume: u64, answers: impl Iterator<Item = (u32, bool)>) {
        assert!(self.answered.last().is_none_or(|last| *last <= resume), "answers come in order");
        if self.answered.last() != Some(&resume) {
            self.answered.push(resume);
            self.answered_of.clear();
        }
        for (partition, unavailable) in answers {
            assert!(self.answered_of.insert(partition) || unavailable, "one answer per resume and partition");
        }
    }

    /// What every resume ends: a pause, and being told gaps.
    pub(crate) fn resumes(&mut self) {
        (self.paused, self.falling_behind) = (false, false);
    }

    /// An answer to a resume that another overtook: it is no longer about where this partition stands, if that other
    /// resume named the partition too.
    fn has_asked_again(&self, partition: u32) -> bool {
        let answering = self.answered.last().copied().unwrap_or_default();
        self.asked.get(&partition).is_some_and(|resume| *resume > answering)
    }

    fn resumed(&mut self, partition: u32, from: u64) {
        self.assert_of_this_stream(partition);
        let place = self.places.get_mut(&partition).expect("asked for");
        assert_eq!(from, place.next, "partition {partition} resumes where the cursor ended");
    }

    fn truncated(&mut self, partition: u32, requested: u64, oldest: u64, produced: &[Partition]) {
        self.counts.truncated += 1;
        self.assert_of_this_stream(partition);
        assert!(requested + 1 < oldest, "{requested} and {oldest} are contiguous");
        let low = produced[partition as usize].low;
        assert!(!self.cold || oldest <= low, "partition {partition}: {oldest}, but Kafka begins at {low}");
        self.places.get_mut(&partition).expect("asked for").next = oldest;
    }

    fn future(&mut self, partition: u32, requested: u64, newest: u64, produced: &[Partition]) {
        self.counts.futures += 1;
        self.assert_of_this_stream(partition);
        assert!(newest <= requested, "what exists is not the future");
        assert!(newest <= produced[partition as usize].end, "Kafka does not end beyond its end");
        self.places.get_mut(&partition).expect("asked for").next = newest;
    }

    fn assert_of_this_stream(&self, partition: u32) {
        assert!(!self.stale.contains(&partition), "partition {partition}: a cursor of another stream was accepted");
    }

    fn wrong_stream(&mut self, partition: u32, newest: u64, produced: &[Partition]) {
        self.counts.wrong_streams += 1;
        assert!(self.stale.remove(&partition), "partition {partition}: the cursor was of this stream");
        assert!(newest <= produced[partition as usize].end, "it goes on within the new stream");
        *self.places.get_mut(&partition).expect("asked for") = Place::at(newest);
    }

    /// Nothing of it comes until it is asked for again.
    fn not_here(&mut self, partition: u32) {
        self.counts.not_here += 1;
        assert!(self.group, "partition {partition}: without a group every host has all");
        self.unavailable = true;
    }

    /// The run that it is shown, if not everything.
    pub(crate) fn follows(&self) -> Option<u64> {
        self.follows
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    fn is_silent(&self) -> bool {
        self.protocol == Protocol::V1 && !self.aware
    }

    fn falls_behind(&mut self) {
        assert!(self.cold && !std::mem::replace(&mut self.falling_behind, true), "told once");
        self.counts.falling_behind += 1;
    }

    /// Everything up to this cursor was sent, or withheld by the filter.
    fn advance(&mut self, cursor: &BTreeMap<u32, u64>, produced: &[Partition]) {
        let (silent, follows) = (self.is_silent(), self.follows);
        for (partition, offset) in cursor {
            let place = self.places.get_mut(partition).expect("a partition that was announced");
            assert_skippable(&produced[*partition as usize], place, offset + 1, silent, follows, *partition);
            place.next = place.next.max(offset + 1);
        }
    }

    fn progress(&mut self, cursor: &BTreeMap<u32, u64>, produced: &[Partition]) {
        self.counts.progress += 1;
        self.advance(cursor, produced);
    }

    fn applied(&mut self, what: &str, cursor: &BTreeMap<u32, u64>, produced: &[Partition]) {
        use crate::said::Wish;
        self.counts.applied += 1;
        self.advance(cursor, produced);
        match (what, self.wishes.pop_front()) {
            ("subscribe", Some(Wish::Follow(run))) => self.follows = run,
            ("pause", Some(Wish::Pause)) => self.paused = true,
            ("continue", Some(Wish::Continue)) => self.paused = false,
            ("slow_policy", Some(Wish::Policy(policy))) => {
                assert!(policy != "catchup" || self.cold && !self.falling_behind, "what cannot be had is refused");
                self.catchup = policy == "catchup";
                self.counts.policies += 1;
            }
            (what, _) => panic!("{what} was not asked for"),
        }
    }

    /// Only to be brought up to date can be refused, where that cannot be had.
    fn refused(&mut self, what: &str) {
        let wish = self.wishes.pop_front();
        assert!(matches!(wish, Some(crate::said::Wish::Policy("catchup"))), "{wish:?} was refused");
        assert!(what == "slow_policy" && (!self.cold || self.falling_behind), "{what} was refused for nothing");
        self.counts.refused += 1;
    }

    fn live(&mut self, resume: u64) {
        assert!(!self.lives.contains(&resume), "live comes once per resume");
        self.lives.push(resume);
    }
}

fn partition(text: &Value) -> u32 {
    text["partition"].as_u64().and_then(|number| u32::try_from(number).ok()).expect("a partition number")
}

fn number(text: &Value, key: &str) -> u64 {
    text[key].as_str().and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{key} in {text}"))
}

fn label(text: &Value) -> &str {
    text["reason"].as_str().expect("a reason")
}

fn cursor_of(text: &Value) -> BTreeMap<u32, u64> {
    let cursor = text["cursor"].as_object().expect("a cursor").iter();
    let entries = cursor.map(|(partition, offset)| {
        (partition.parse().expect("partition"), offset.as_str().and_then(|o| o.parse().ok()).expect("offset"))
    });
    entries.collect()
}

fn entries(cursor: &[v2::CursorEntry]) -> BTreeMap<u32, u64> {
    cursor.iter().map(|entry| (entry.partition, entry.offset)).collect()
}

/// Nothing between where a client stands and `to` that it should have been told of. `silent`: dead letters and nulls
/// are not told. `follows`: nothing but this run is.
fn assert_skippable(log: &Partition, place: &Place, to: u64, silent: bool, follows: Option<u64>, partition: u32) {
    let from = if place.all { place.next.max(log.low) } else { place.next };
    for (offset, item) in log.items.range(from..to.max(from)) {
        let told = match follows {
            Some(run) => log.runs.get(offset) == Some(&run),
            None => matches!(item, Item::Good(_)) || !silent,
        };
        assert!(!told, "partition {partition}: {offset} was passed over silently ({from}..{to})");
    }
}
