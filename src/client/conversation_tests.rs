//! The conversation, frame by frame: what is told, what moves, what is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use super::conversation::{Conversation, Heard};
use super::cursor::Cursor;
use super::error::{ProtocolError, Why};
use super::event::Event;
use super::options::{Filter, Run, Start};
use super::plan::Wanted;
use crate::wire::gateway::{self as wire, answer::Answer, client_frame, server_frame::Frame};

const SECOND: Duration = Duration::from_secs(1);

/// A conversation with the gateway's side of it, and the cursor that an attentive user would have.
struct Talk {
    inner: Conversation,
    cursor: Cursor,
}

fn cursor(stream: &str, next: &[(u32, u64)]) -> Cursor {
    Cursor { stream: stream.to_owned(), next: next.iter().copied().collect() }
}

fn run() -> Start {
    Start::Run(Run { thread: "t".to_owned(), ..Run::default() })
}

fn hello(stream: &str, positions: &[u64]) -> Frame {
    let partitions = (0..).zip(positions).map(|(partition, position)| wire::PartitionState {
        partition,
        oldest: 0,
        next: *position,
        lag: None,
        position: *position,
    });
    Frame::Hello(wire::Hello { stream: stream.to_owned(), partitions: partitions.collect(), ..wire::Hello::default() })
}

fn batch(partition: u32, from: u64, next: u64, offsets: &[u64]) -> Frame {
    let record = |offset: &u64| wire::Record { offset: *offset, timestamp_ms: None, value: vec![0] };
    Frame::Batch(wire::Batch { partition, from, next, records: offsets.iter().map(record).collect() })
}

fn gap(partition: u32, first: u64, last: u64) -> Frame {
    Frame::Gap(wire::Gap { partition, first, last, reason: "slow_client".to_owned() })
}

fn letter(partition: u32, offset: u64) -> Frame {
    Frame::DeadLettered(wire::DeadLettered { partition, offset, reason: "r".to_owned(), id: "i".to_owned() })
}

fn answers(resume: u64, answers: &[(u32, Answer)]) -> Frame {
    let answer =
        |(partition, answer): &(u32, Answer)| wire::Answer { partition: *partition, answer: Some(answer.clone()) };
    Frame::Answers(wire::Answers { resume, answers: answers.iter().map(answer).collect() })
}

fn resumed(from: u64) -> Answer {
    Answer::Resumed(wire::Resumed { from })
}

fn truncated(requested: u64, oldest: u64) -> Answer {
    Answer::Truncated(wire::Truncated { requested, oldest, reason: "retention".to_owned() })
}

fn live(resume: u64) -> Frame {
    Frame::Live(wire::Live { resume, replayed: 0 })
}

fn entries(entries: &[(u32, u64)]) -> Vec<wire::CursorEntry> {
    entries.iter().map(|(partition, offset)| wire::CursorEntry { partition: *partition, offset: *offset }).collect()
}

fn progress(cursor: &[(u32, u64)]) -> Frame {
    Frame::Progress(wire::Progress { cursor: entries(cursor) })
}

fn applied(what: &str, cursor: &[(u32, u64)]) -> Frame {
    Frame::Applied(wire::Applied { what: what.to_owned(), cursor: entries(cursor) })
}

impl Talk {
    fn new(start: Start, filter: Filter, cursor: Cursor) -> Self {
        Self { inner: Conversation::new(Wanted { start, filter }, cursor.clone()), cursor }
    }

    /// A connection whose partitions flow from `next` on.
    fn flowing(next: &[(u32, u64)]) -> Self {
        let mut talk = Self::new(Start::Latest, Filter::default(), cursor("s", next));
        let positions: Vec<u64> = next.iter().map(|(_, next)| *next).collect();
        talk.hear(hello("s", &positions));
        let named: Vec<_> = next.iter().filter(|(_, next)| *next > 0).map(|(p, next)| (*p, resumed(*next))).collect();
        talk.hear(answers(1, &named));
        talk.hear(live(1));
        talk
    }

    /// A frame; what is told for it, in short.
    fn hear(&mut self, frame: Frame) -> String {
        match self.inner.hear(frame, Duration::ZERO) {
            Ok(Heard::Fine) => self.told(),
            Ok(other) => format!("{} {other:?}", self.told()).trim().to_owned(),
            Err(error) => {
                assert!(self.inner.deliveries.is_empty(), "nothing of a bad frame is delivered");
                short(&error)
            }
        }
    }

    fn told(&mut self) -> String {
        let mut words = Vec::new();
        for delivery in self.inner.deliveries.drain(..) {
            self.cursor.apply(&delivery.moved);
            words.extend(delivery.event.map(|event| match event {
                Event::Hello(_) => "hello".to_owned(),
                Event::Resumed { partition, from } => format!("{partition}@{from}"),
                Event::Record(record) => format!("{}:{}", record.partition, record.offset),
                Event::Gap { partition, first, last, .. } => format!("{partition} gap {first}-{last}"),
                Event::DeadLettered { partition, offset, .. } => format!("{partition} letter {offset}"),
                Event::Truncated { partition, wanted, oldest, .. } => {
                    format!("{partition} truncated {wanted}-{oldest}")
                }
                Event::Future { partition, wanted, newest } => format!("{partition} future {wanted}-{newest}"),
                Event::Unavailable { partition, retry_in } => format!("{partition} unavailable {retry_in:?}"),
                Event::StreamChanged { was, now } => format!("changed {was}-{}", now.unwrap_or_default()),
                Event::Live { .. } => "live".to_owned(),
                other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_lowercase(),
            }));
        }
        words.join(" ")
    }

    fn says(&mut self) -> String {
        let frames = self.inner.outbox.drain(..).map(|frame| match frame.frame.expect("a frame") {
            client_frame::Frame::Resume(resume) => {
                let from = match resume.from.expect("from") {
                    wire::resume::From::Cursor(cursor) => format!(
                        "cursor {:?}",
                        cursor.entries.iter().map(|entry| (entry.partition, entry.offset)).collect::<BTreeMap<_, _>>()
                    ),
                    other => format!("{other:?}").split('(').next().unwrap_or_default().to_lowercase(),
                };
                format!("{} of {}", from, resume.stream)
            }
            other => format!("{other:?}").split('(').next().unwrap_or_default().to_lowercase(),
        });
        frames.collect::<Vec<_>>().join(", ")
    }

    fn next(&self, partition: u32) -> u64 {
        self.cursor.next[&partition]
    }
}

fn short(error: &ProtocolError) -> String {
    match error {
        ProtocolError::Backwards { .. } => "backwards".to_owned(),
        ProtocolError::Unexplained { .. } => "unexplained".to_owned(),
        ProtocolError::Disordered { .. } => "disordered".to_owned(),
        ProtocolError::BadInterval { .. } => "bad interval".to_owned(),
        ProtocolError::ResumedElsewhere { .. } => "elsewhere".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Frames of partition 0 that flows from 5; what the last one is, and where the cursor then stands.
fn check(frames: &[Frame], expected: &str, next: u64) {
    let mut talk = Talk::flowing(&[(0, 5)]);
    let mut told = String::new();
    for frame in frames {
        told = talk.hear(frame.clone());
    }
    assert_eq!((told.as_str(), talk.next(0)), (expected, next), "{frames:?}");
}

#[test]
fn what_joins_is_delivered_and_moves_the_cursor_over_holes() {
    check(&[batch(0, 5, 8, &[5, 6, 7])], "0:5 0:6 0:7", 8);
    check(&[batch(0, 5, 12, &[6, 9])], "0:6 0:9", 12);
    check(&[batch(0, 5, 8, &[])], "", 8);
    check(&[batch(0, 5, 5, &[])], "", 5);
    check(&[batch(0, 5, 6, &[5]), letter(0, 6), gap(0, 7, 9), batch(0, 10, 11, &[10])], "0:10", 11);
    check(&[gap(0, 5, u64::MAX)], "0 gap 5-18446744073709551615", u64::MAX);
    check(&[batch(7, 3, 4, &[3])], "7@3 7:3", 5);
}

#[test]
fn what_goes_back_repeats_or_passes_over_is_refused() {
    check(&[batch(0, 4, 8, &[5])], "backwards", 5);
    check(&[batch(0, 5, 8, &[5, 6, 7]), batch(0, 5, 8, &[5, 6, 7])], "backwards", 8);
    check(&[batch(0, 6, 8, &[6])], "unexplained", 5);
    check(&[letter(0, 6)], "unexplained", 5);
    check(&[gap(0, 6, 9)], "unexplained", 5);
    check(&[gap(0, 4, 9)], "backwards", 5);
    check(&[progress(&[(0, 5)])], "unexplained", 5);
    check(&[progress(&[(0, 4)])], "progress", 5);
    check(&[progress(&[(0, 1)])], "progress", 5);
    check(&[batch(0, 5, 8, &[6, 5])], "disordered", 5);
    check(&[batch(0, 5, 8, &[5, 5])], "disordered", 5);
    check(&[batch(0, 5, 8, &[8])], "disordered", 5);
    check(&[batch(0, 5, 8, &[4])], "disordered", 5);
    check(&[batch(0, 5, 4, &[])], "bad interval", 5);
    check(&[batch(0, 5, u64::MAX, &[u64::MAX])], "disordered", 5);
    check(&[gap(0, 9, 5)], "bad interval", 5);
    check(&[answers(2, &[])], "UnknownResume { resume: 2 }", 5);
    check(&[live(9)], "UnknownResume { resume: 9 }", 5);
    check(&[hello("s", &[5])], "SecondHello", 5);
    check(&[answers(1, &[(0, resumed(6))])], "elsewhere", 5);
    check(&[answers(1, &[(0, resumed(5))])], "", 5);
}

#[test]
fn a_gap_may_be_told_after_the_batch_that_covers_it_but_not_of_what_was_delivered() {
    check(&[batch(0, 5, 9, &[5, 8]), gap(0, 6, 7)], "0 gap 6-7", 9);
    check(&[batch(0, 5, 9, &[5, 8]), letter(0, 6), letter(0, 7)], "0 letter 7", 9);
    check(&[batch(0, 5, 9, &[5, 8]), letter(0, 8)], "backwards", 9);
    check(&[batch(0, 5, 9, &[5]), batch(0, 9, 10, &[]), letter(0, 6)], "backwards", 10);
}

#[test]
fn a_frame_before_hello_and_a_bad_name_are_refused() {
    let new = || Talk::new(Start::Earliest, Filter::default(), Cursor::default());
    assert_eq!(new().hear(batch(0, 0, 1, &[0])), "NoHello");
    for name in ["", "a\nb", &"s".repeat(1_025)] {
        assert_eq!(new().hear(hello(name, &[])), "BadStreamName");
    }
    let many = vec![1; super::conversation::PARTITIONS_MAX + 1];
    assert!(new().hear(hello("s", &many)).starts_with("TooManyPartitions"));
}

#[test]
fn more_partitions_than_can_be_are_refused() {
    let mut talk = Talk::flowing(&[(0, 5)]);
    for partition in 1..super::conversation::PARTITIONS_MAX as u32 {
        assert_eq!(talk.hear(gap(partition, 0, 0)), format!("{partition}@0 {partition} gap 0-0"));
    }
    assert!(talk.hear(gap(u32::MAX, 0, 0)).starts_with("TooManyPartitions"));
}

#[test]
fn what_comes_before_the_answer_is_of_the_place_before() {
    let mut talk = Talk::new(Start::Latest, Filter::default(), cursor("s", &[(0, 5)]));
    assert_eq!(talk.hear(hello("s", &[9])), "hello");
    assert_eq!(talk.says(), "cursor {0: 4} of s");
    assert_eq!(talk.hear(live(0)), "", "the start of the connection is not what was asked");
    assert_eq!(talk.hear(batch(0, 9, 10, &[9])), "");
    assert_eq!(talk.hear(answers(1, &[(0, resumed(5))])), "0@5");
    assert_eq!(talk.hear(batch(0, 5, 10, &[5, 9])), "0:5 0:9");
    assert_eq!(talk.hear(live(1)), "live");
    assert_eq!(talk.next(0), 10);
}

#[test]
fn the_answers_are_told_and_say_where_it_goes_on() {
    let check = |answer: Answer, frame: Frame, expected: &str, next: u64| {
        let mut talk = Talk::new(Start::Latest, Filter::default(), cursor("s", &[(0, 5)]));
        talk.hear(hello("s", &[9]));
        let told = [talk.hear(answers(1, &[(0, answer.clone())])), talk.hear(frame)].join(" | ");
        assert_eq!((told.as_str(), talk.next(0)), (expected, next), "{answer:?}");
    };
    check(truncated(4, 8), batch(0, 8, 9, &[8]), "0 truncated 5-8 | 0:8", 9);
    check(truncated(4, 8), batch(0, 7, 9, &[8]), "0 truncated 5-8 | backwards", 8);
    check(truncated(4, 3), batch(0, 5, 9, &[8]), "elsewhere | ", 5);
    let future = Answer::Future(wire::Future { requested: 4, newest: 2 });
    check(future, batch(0, 2, 3, &[2]), "0 future 5-2 | 0:2", 3);
    check(Answer::UnknownPartition(wire::UnknownPartition {}), batch(0, 5, 6, &[5]), "unknownpartition | ", 5);
    check(Answer::NotHere(wire::NotHere {}), batch(0, 5, 6, &[5]), "nothere | ", 5);
    check(Answer::WrongStream(wire::WrongStream { newest: 9 }), live(0), "WrongStream | ", 5);
    check(resumed(4), live(0), "elsewhere | ", 5);
    check(resumed(6), live(0), "elsewhere | ", 5);
}

#[test]
fn a_start_for_all_begins_where_the_answers_say() {
    let mut talk = Talk::new(Start::Earliest, Filter::default(), Cursor::default());
    assert_eq!(talk.hear(hello("s", &[9, 9, 9])), "hello");
    assert_eq!(talk.says(), "earliest of s");
    assert_eq!(talk.hear(batch(0, 9, 10, &[9])), "", "still live from Hello");
    assert_eq!(talk.hear(answers(1, &[(0, resumed(3)), (1, truncated(2, 6))])), "0@3 1 truncated 2-6");
    assert_eq!(talk.hear(batch(0, 3, 4, &[3])), "0:3");
    assert_eq!(talk.hear(batch(1, 6, 7, &[6])), "1:6");
    // The answer for it was left out; what comes is not lost for that.
    assert_eq!(talk.hear(batch(2, 4, 5, &[4])), "2@4 2:4");
    assert_eq!(talk.cursor, cursor("s", &[(0, 4), (1, 7), (2, 5)]));
}

#[test]
fn the_beginning_that_kafka_no_longer_has_is_told() {
    let mut talk = Talk::new(Start::Latest, Filter::default(), cursor("s", &[(0, 0), (1, 5)]));
    talk.hear(hello("s", &[9, 9]));
    assert_eq!(talk.says(), "earliest of s", "a second resume would cut the answer to the first one short");
    assert_eq!(talk.hear(answers(1, &[(0, resumed(2)), (1, resumed(1))])), "0 truncated 0-2");
    assert_eq!(talk.says(), "cursor {1: 4} of s");
    assert_eq!(talk.hear(batch(1, 1, 5, &[1, 2, 3, 4])), "", "not ours: the cursor is still to be answered");
    assert_eq!(talk.hear(answers(2, &[(1, resumed(5))])), "1@5");
    assert_eq!(talk.hear(live(1)), "", "there is a second resume");
    assert_eq!(talk.hear(live(2)), "live");
}

#[test]
fn a_cursor_of_another_stream_is_never_said() {
    let mut talk = Talk::new(Start::Earliest, Filter::default(), cursor("old", &[(0, 5)]));
    assert_eq!(talk.hear(hello("new", &[9])), "changed old-new hello");
    assert_eq!(talk.says(), "earliest of new");
    assert_eq!(talk.cursor, cursor("new", &[]));
    let mut talk = Talk::new(Start::Latest, Filter::default(), cursor("old", &[(0, 5)]));
    assert_eq!(talk.hear(hello("new", &[9])), "changed old-new hello");
    assert_eq!(talk.says(), "cursor {0: 8} of new", "the place of Hello, not the old one");
    assert_eq!(talk.cursor, cursor("new", &[(0, 9)]));
}

#[test]
fn a_stream_that_changes_is_told_and_the_cursor_forgotten() {
    let mut talk = Talk::flowing(&[(0, 5)]);
    let bye = wire::Bye { reason: "stream_changed".to_owned(), ..wire::Bye::default() };
    assert!(talk.hear(Frame::Bye(bye)).starts_with("changed s- Bye"));
    assert_eq!(talk.cursor, Cursor::default());
    let mut talk = Talk::flowing(&[(0, 5)]);
    let bye = wire::Bye { reason: "shutting_down".to_owned(), reconnect_after_ms: 700, ..wire::Bye::default() };
    assert_eq!(talk.hear(Frame::Bye(bye)), r#"Bye { reason: "shutting_down", reconnect_after: 700ms }"#);
    assert_eq!(talk.next(0), 5);
}

#[test]
fn a_filter_may_withhold_and_progress_moves_the_cursor() {
    let filter = Filter { nodes: vec!["n".to_owned()], ..Filter::default() };
    let mut talk = Talk::new(Start::Latest, filter, cursor("s", &[(0, 5)]));
    talk.hear(hello("s", &[5]));
    assert_eq!(talk.says(), "subscribe, cursor {0: 4} of s");
    talk.hear(answers(1, &[(0, resumed(5))]));
    assert_eq!(talk.hear(batch(0, 7, 9, &[8])), "0:8");
    assert_eq!(talk.hear(progress(&[(0, 19), (3, 4)])), "progress");
    assert_eq!(talk.cursor, cursor("s", &[(0, 20), (3, 5)]));
    assert_eq!(talk.hear(batch(0, 19, 21, &[19])), "backwards", "also under a filter");
}

#[test]
fn a_change_of_the_filter_counts_from_its_answer() {
    let mut talk = Talk::flowing(&[(0, 5)]);
    talk.inner.set_filter(Filter { nodes: vec!["n".to_owned()], ..Filter::default() });
    assert!(talk.says().ends_with("subscribe"));
    assert_eq!(talk.hear(applied("subscribe", &[(0, 4)])), "applied");
    assert_eq!(talk.hear(batch(0, 9, 10, &[9])), "0:9");
    talk.inner.set_filter(Filter::default());
    assert_eq!(talk.hear(batch(0, 12, 13, &[12])), "0:12");
    assert_eq!(talk.hear(applied("subscribe", &[(0, 15)])), "applied");
    assert_eq!(talk.next(0), 16);
    assert_eq!(talk.hear(batch(0, 16, 17, &[16])), "0:16");
    assert_eq!(talk.hear(batch(0, 18, 19, &[18])), "unexplained", "everything is wanted again");
}

#[test]
fn a_run_is_searched_and_its_place_counts_at_live() {
    let mut talk = Talk::new(run(), Filter::default(), Cursor::default());
    talk.hear(hello("s", &[50, 50]));
    assert_eq!(talk.says(), "run of s");
    assert_eq!(talk.hear(answers(1, &[(0, resumed(10)), (1, resumed(20))])), "0@10 1@20");
    assert_eq!(talk.hear(Frame::Searched(wire::Searched { partition: 0, from: 10, to: 50 })), "searched");
    assert_eq!(talk.hear(batch(0, 30, 32, &[31])), "0:31");
    assert_eq!(talk.next(0), 32, "what the search found may still come");
    assert_eq!(talk.hear(Frame::Searched(wire::Searched { partition: 1, from: 20, to: 50 })), "searched");
    assert_eq!(talk.hear(live(1)), "live");
    assert_eq!(talk.cursor, cursor("s", &[(0, 50), (1, 50)]));

    // Another connection goes on from there, by filter.
    let mut talk = Talk::new(run(), Filter::default(), talk.cursor);
    talk.hear(hello("s", &[60, 60]));
    assert_eq!(talk.says(), "subscribe, cursor {0: 49, 1: 49} of s");
}

#[test]
fn a_run_that_is_asked_for_again_repeats_nothing() {
    let mut talk = Talk::new(run(), Filter::default(), cursor("s", &[(0, 32)]));
    talk.hear(hello("s", &[50, 50]));
    assert_eq!(talk.says(), "run of s", "partition 1 was not through");
    assert_eq!(talk.hear(answers(1, &[(0, resumed(10)), (1, resumed(20))])), "0@32 1@20");
    assert_eq!(talk.hear(batch(0, 30, 32, &[31])), "");
    assert_eq!(talk.hear(batch(0, 31, 36, &[31, 35])), "0:35");
    assert_eq!(talk.hear(gap(0, 34, 40)), "0 gap 36-40");
    assert_eq!(talk.hear(live(1)), "live");
    assert_eq!(talk.hear(batch(0, 38, 42, &[40])), "backwards", "from here on nothing comes twice");
}

#[test]
fn what_is_unavailable_is_asked_for_again_alone() {
    let mut talk = Talk::new(Start::Latest, Filter::default(), cursor("s", &[(0, 5), (1, 7)]));
    talk.hear(hello("s", &[9, 9]));
    talk.says();
    let unavailable = Answer::Unavailable(wire::Unavailable { retry_after_ms: 2_000 });
    assert_eq!(talk.hear(answers(1, &[(0, resumed(5)), (1, unavailable)])), "0@5 1 unavailable 2s");
    assert_eq!(talk.hear(batch(1, 7, 8, &[7])), "", "it comes when it was asked for");
    assert_eq!(talk.hear(live(1)), "live");
    assert_eq!((talk.inner.tick(SECOND, SECOND), talk.says()), (None, String::new()));
    assert_eq!(talk.inner.tick(2 * SECOND, SECOND), None);
    assert_eq!(talk.says(), "cursor {1: 6} of s");
    assert_eq!(talk.hear(batch(0, 5, 6, &[5])), "0:5", "the other goes on meanwhile");
    assert_eq!(talk.hear(answers(2, &[(1, resumed(7))])), "1@7");
    assert_eq!(talk.hear(batch(1, 7, 8, &[7])), "1:7");
    assert_eq!(talk.hear(live(2)), "live");
}

#[test]
fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
    let mut talk = Talk::new(Start::Earliest, Filter::default(), Cursor::default());
    talk.hear(hello("s", &[9]));
    assert_eq!(talk.inner.tick(SECOND, 10 * SECOND), None);
    assert_eq!(talk.inner.tick(10 * SECOND, 10 * SECOND), Some(Why::NoAnswer));
    assert_eq!(talk.hear(answers(1, &[(0, resumed(2))])), "0@2");
    assert_eq!(talk.inner.tick(900 * SECOND, 10 * SECOND), None);

    let mut talk = Talk::new(Start::Latest, Filter::default(), cursor("s", &[(0, 0), (1, 5)]));
    talk.hear(hello("s", &[9, 9]));
    assert_eq!(talk.hear(answers(1, &[(0, resumed(0)), (1, resumed(0))])), "0@0");
    assert_eq!(talk.inner.tick(SECOND, 10 * SECOND), None);
    assert_eq!(talk.hear(Frame::Waiting(wire::Waiting { resume: 2 })), "waiting");
    assert_eq!(talk.inner.tick(900 * SECOND, 10 * SECOND), None, "it waits for its turn");
}

#[test]
fn a_pause_waits_for_the_answers_and_nothing_is_asked_in_it() {
    let mut talk = Talk::new(Start::Latest, Filter::default(), cursor("s", &[(0, 5)]));
    talk.hear(hello("s", &[9]));
    talk.inner.set_paused(true);
    assert_eq!(talk.says(), "cursor {0: 4} of s");
    let unavailable = Answer::Unavailable(wire::Unavailable { retry_after_ms: 1_000 });
    assert_eq!(talk.hear(answers(1, &[(0, unavailable)])), "0 unavailable 1s");
    talk.inner.set_paused(true);
    talk.inner.set_paused(true);
    assert_eq!(talk.says(), "pause");
    assert_eq!((talk.inner.tick(60 * SECOND, SECOND), talk.says()), (None, String::new()), "a resume would end it");
    talk.inner.set_paused(false);
    talk.inner.set_paused(false);
    assert_eq!(talk.inner.tick(61 * SECOND, SECOND), None);
    assert_eq!(talk.says(), "continue, cursor {0: 4} of s");
}

#[test]
fn what_flows_may_become_unavailable() {
    let mut talk = Talk::flowing(&[(0, 5)]);
    talk.says();
    let unavailable = Answer::Unavailable(wire::Unavailable { retry_after_ms: 1_000 });
    assert_eq!(talk.hear(batch(0, 5, 8, &[5, 6, 7])), "0:5 0:6 0:7");
    assert_eq!(talk.hear(answers(1, &[(0, unavailable)])), "0 unavailable 1s");
    assert_eq!(talk.inner.tick(SECOND, SECOND), None);
    assert_eq!(talk.says(), "cursor {0: 7} of s");
}

#[test]
fn a_start_that_is_answered_by_live_alone_does_not_hold_up_the_cursor() {
    let mut talk = Talk::new(Start::Latest, Filter::default(), cursor("s", &[(0, 0), (1, 5)]));
    talk.hear(hello("s", &[9, 9]));
    assert_eq!((talk.says().as_str(), talk.hear(live(1)).as_str()), ("earliest of s", ""));
    assert_eq!(talk.says(), "cursor {1: 4} of s");
    assert_eq!(talk.hear(answers(2, &[(1, resumed(5))])), "1@5");
    assert_eq!(talk.hear(live(2)), "live");
}

#[test]
fn a_refusal_ends_it() {
    let refused = wire::Refused { what: "resume".to_owned(), why: "no".to_owned() };
    let told = Talk::flowing(&[(0, 5)]).hear(Frame::Refused(refused));
    assert_eq!(told, r#"Refused { what: "resume", why: "no" }"#);
}

/// Whatever a server says: no panic, and never an offset that was delivered before.
#[test]
fn nonsense_is_survived() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut dice = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut delivered, mut refused) = (0, 0);
    for round in 0..3_000 {
        let start = [Start::Earliest, Start::Latest, Start::Timestamp(1), run()][round % 4].clone();
        let filter = match round % 3 {
            0 if round % 4 != 3 => Filter { nodes: vec!["n".to_owned()], ..Filter::default() },
            _ => Filter::default(),
        };
        let mut talk = Talk::new(start, filter, cursor("s", [&[][..], &[(0, 3), (1, 0)]][round % 2]));
        talk.hear(hello("s", &[6, 6]));
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for _ in 0..30 {
            let (partition, from, length) = (dice(3) as u32, dice(12), dice(4));
            let offset = if dice(40) == 0 { u64::MAX - dice(2) } else { from };
            let answer = match dice(7) {
                0 => resumed(offset),
                1 => truncated(offset, dice(12)),
                2 => Answer::Unavailable(wire::Unavailable { retry_after_ms: offset }),
                3 => Answer::NotHere(wire::NotHere {}),
                _ => resumed(dice(8)),
            };
            let frame = match dice(10) {
                0 => gap(partition, offset, offset.saturating_add(length)),
                1 => letter(partition, offset),
                2 => progress(&[(partition, offset)]),
                3 => applied("subscribe", &[(partition, offset)]),
                4 => live(dice(3)),
                5 => answers(dice(3), &[(partition, answer)]),
                6 => Frame::Searched(wire::Searched { partition, from, to: offset }),
                _ => batch(partition, from, from + length, &(from..from + length).collect::<Vec<_>>()),
            };
            let heard = talk.inner.hear(frame, Duration::ZERO);
            for delivery in &talk.inner.deliveries {
                if let Some(Event::Record(record)) = &delivery.event {
                    let before = last.insert(record.partition, record.offset);
                    assert!(before.is_none_or(|before| before < record.offset), "{before:?} then {}", record.offset);
                    delivered += 1;
                }
            }
            talk.told();
            talk.inner.tick(Duration::from_millis(dice(100_000)), SECOND);
            if heard.is_err() {
                refused += 1;
                break;
            }
        }
    }
    assert!(delivered > 1_000 && refused > 1_000, "{delivered} delivered, {refused} refused");
}
