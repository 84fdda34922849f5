//! Lanes without Kafka: what is handed over, in which order, and what a refusal leaves behind.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::*;
use crate::producer::outcome::{Outcome, Settled};
use crate::producer::ticket::{Ticket, TicketSlot};
use crate::wire::framing::{Framing, split};
use crate::wire::proto::{Checkpoint, Event, EventType};

/// A librdkafka that remembers. `refuse` is its answer until it is taken away.
#[derive(Default)]
struct Fake {
    refuse: Cell<Option<RDKafkaErrorCode>>,
    sent: RefCell<Vec<Sent>>,
    settled: RefCell<Vec<(u64, Settled)>>,
    reserved: Cell<i64>,
    room: Cell<bool>,
}

struct Sent {
    key: String,
    generation: u64,
    traceparent: Option<String>,
    since: Instant,
    message: DashStreamMessage,
    flight: Box<Flight>,
}

impl Outlet for Fake {
    fn reserve(&self, _: usize) -> bool {
        self.reserved.set(self.reserved.get() + i64::from(!self.room.get()));
        !self.room.get()
    }

    fn undo(&self, _: usize) {
        self.reserved.set(self.reserved.get() - 1);
    }

    fn send(&self, record: Record<'_>) -> Result<(), (RDKafkaErrorCode, Box<Flight>)> {
        if let Some(code) = self.refuse.get() {
            return Err((code, record.flight));
        }
        let (framing, body) = split(record.value).expect("framed");
        let body = match framing {
            Framing::Zstd => zstd::bulk::decompress(body, 1 << 20).expect("zstd"),
            _ => body.to_vec(),
        };
        let trace = record.stamp.trace;
        self.sent.borrow_mut().push(Sent {
            key: record.key.to_owned(),
            generation: record.stamp.generation,
            traceparent: trace.and_then(|trace| trace.traceparent.as_deref()).map(str::to_owned),
            since: record.since,
            message: DashStreamMessage::decode(body.as_slice()).expect("a message"),
            flight: record.flight,
        });
        Ok(())
    }

    fn refuse(&self, events: Events, reason: Reason, value: &[u8]) {
        let List::Many(list) = events.list else { panic!("only batches are refused here") };
        assert!(!value.is_empty(), "what would have been the record");
        let settled = Settled::Refused(reason);
        for (sequence, waiter) in list {
            self.settled.borrow_mut().push((sequence, settled));
            waiter.tell(settled.outcome(sequence));
        }
    }
}

impl Fake {
    /// Each record as `thread:sequences`, a batch in brackets.
    fn told(&self) -> Vec<String> {
        let sent = self.sent.borrow();
        let each = sent.iter().map(|sent| match sent.message.message.as_ref().expect("a payload") {
            Payload::EventBatch(batch) => {
                assert_eq!(batch.header.as_ref().expect("a header").sequence, 0);
                let inner: Vec<u64> =
                    batch.events.iter().map(|event| event.header.as_ref().expect("a header").sequence).collect();
                let Flight::Events(events) = &*sent.flight else { panic!("events") };
                assert_eq!(events.list.ends(), (inner[0], inner[inner.len() - 1]));
                assert_eq!(events.list.len(), inner.len() as u64);
                format!("{}:{inner:?}", sent.key)
            }
            payload => {
                let header = crate::wire::framing::header_mut(&mut payload.clone()).clone().expect("a header");
                format!("{}:{}", sent.key, header.sequence)
            }
        });
        each.collect()
    }
}

fn limits() -> LaneLimits {
    LaneLimits {
        threads_max: 4,
        event_bytes_max: 10_000,
        record_bytes_max: 5_000,
        compress_above_bytes: 512,
        compression_level: 3,
        batch: None,
    }
}

fn batched() -> LaneLimits {
    let batch = BatchLimits { events_max: 3, bytes_max: 2_000, linger: Duration::from_millis(100) };
    LaneLimits { batch: Some(batch), ..limits() }
}

struct Stage {
    lane: Lane,
    fake: Fake,
    instance: Instance,
    began: Instant,
}

impl Stage {
    fn new(limits: LaneLimits) -> Self {
        Self { lane: Lane::new(limits), fake: Fake::default(), instance: Instance::new(), began: Instant::now() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.began + Duration::from_millis(ms)
    }

    fn offer(&mut self, ms: u64, event: Outgoing) -> Result<Ticket, Why> {
        self.offer_again(ms, event).0
    }

    /// Also what is left of the event.
    fn offer_again(&mut self, ms: u64, mut event: Outgoing) -> (Result<Ticket, Why>, Outgoing) {
        event.complete("acme", &self.instance, || 1).expect("good ids");
        let slot = Arc::new(TicketSlot::default());
        let now = self.at(ms);
        let mut waiter = Waiter::Ticket(slot.clone());
        let accepted = self.lane.accept(&mut event, &mut waiter, &self.instance, now, &self.fake);
        assert_eq!(matches!(waiter, Waiter::Nobody), accepted.is_ok(), "who waits comes back with the event");
        (accepted.map(|sequence| Ticket::new(sequence, slot)), event)
    }

    fn due(&mut self, ms: u64) -> bool {
        self.lane.hand_over_due(Some(self.at(ms)), &self.instance, &self.fake)
    }
}

fn event(thread: &str) -> Outgoing {
    Outgoing::new(thread, Event::of(EventType::NodeStart, "plan"))
}

fn large(bytes: usize) -> Outgoing {
    // Bytes that zstd cannot shorten.
    let mut state = 1u64;
    let noise: Vec<u8> = (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    Outgoing::new("a", Event::of(EventType::NodeEnd, "plan").with("noise", noise))
}

fn of(result: Result<Ticket, Why>) -> Result<u64, Why> {
    result.map(|ticket| ticket.sequence())
}

#[test]
fn a_refusal_uses_no_sequence_and_keeps_no_room() {
    let mut stage = Stage::new(limits());
    assert_eq!(of(stage.offer(0, event("a"))), Ok(1));
    stage.fake.refuse.set(Some(RDKafkaErrorCode::QueueFull));
    let before = event("a");
    let (refused, after) = stage.offer_again(0, before.clone());
    assert_eq!(of(refused), Err(Why::Full));
    let node = |event: &Outgoing| match event.payload() {
        Some(Payload::Event(event)) => event.node_id.clone(),
        _ => String::new(),
    };
    assert_eq!(node(&after), node(&before), "it comes back whole");
    stage.fake.refuse.set(Some(RDKafkaErrorCode::Fatal));
    assert_eq!(of(stage.offer(0, event("a"))), Err(Why::Fatal));
    stage.fake.refuse.set(None);
    assert_eq!(of(stage.offer(0, event("a"))), Ok(2));
    assert_eq!(of(stage.offer(0, event("b"))), Ok(1));
    stage.fake.room.set(true);
    assert_eq!(of(stage.offer(0, event("b"))), Err(Why::Full));
    stage.fake.room.set(false);
    assert_eq!(of(stage.offer(0, event("b"))), Ok(2));
    assert_eq!(stage.fake.told(), ["a:1", "a:2", "b:1", "b:2"]);
    assert_eq!(stage.fake.reserved.get(), 4);
}

#[test]
fn limits_hold_before_and_after_compression() {
    let mut stage = Stage::new(limits());
    let text = |bytes: usize| Outgoing::new("a", Event::of(EventType::NodeEnd, "n").with("t", "x".repeat(bytes)));
    assert_eq!(of(stage.offer(0, text(9_000))), Ok(1), "compressed it fits");
    let bytes = match of(stage.offer(0, text(10_000))) {
        Err(Why::TooLarge { what: "event_bytes_max", bytes, limit: 10_000 }) => bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(of(stage.offer(0, text(20_000 - bytes))), Ok(2), "the limit is inclusive");
    assert!(matches!(of(stage.offer(0, text(20_001 - bytes))), Err(Why::TooLarge { bytes: 10_001, .. })));
    let large = stage.offer(0, large(6_000));
    assert!(matches!(of(large), Err(Why::TooLarge { what: "record_bytes_max", limit: 5_000, .. })));
    assert_eq!(stage.fake.reserved.get(), 2);
}

#[test]
fn a_forgotten_thread_comes_back_as_another_generation() {
    let mut stage = Stage::new(LaneLimits { threads_max: 2, ..limits() });
    for thread in ["a", "b", "c", "a"] {
        assert_eq!(of(stage.offer(0, event(thread))), Ok(1));
    }
    let generations: Vec<u64> = stage.fake.sent.borrow().iter().map(|sent| sent.generation).collect();
    assert_eq!(generations, [0, 0, 1, 2]);
}

#[test]
fn a_batch_goes_when_it_is_full_or_due() {
    let mut stage = Stage::new(batched());
    for (ms, thread) in [(0, "a"), (10, "b"), (20, "a"), (30, "a"), (40, "a")] {
        drop(stage.offer(ms, event(thread)).expect("accepted"));
    }
    assert_eq!(stage.fake.told(), ["a:[1, 2, 3]"]);
    assert!(stage.due(109), "two are waiting");
    assert_eq!(stage.fake.told().len(), 1);
    stage.due(110);
    assert_eq!(stage.fake.told(), ["a:[1, 2, 3]", "b:1"], "a batch of one is that one");
    assert!(!stage.due(140));
    assert_eq!(stage.fake.told(), ["a:[1, 2, 3]", "b:1", "a:4"]);
    drop(stage.offer(150, event("a")).expect("accepted"));
    assert!(!stage.lane.hand_over_due(None, &stage.instance, &stage.fake));
    assert_eq!(stage.fake.told().last().expect("it went"), "a:5");
}

#[test]
fn a_thread_whose_event_is_not_taken_forgets_nobody() {
    for limits in [limits(), batched()] {
        let mut stage = Stage::new(limits);
        for thread in ["a", "b", "c", "d"] {
            drop(stage.offer(0, event(thread)).expect("accepted"));
        }
        stage.fake.room.set(true);
        for number in 0..20 {
            assert_eq!(of(stage.offer(1, event(&number.to_string()))), Err(Why::Full));
        }
        stage.fake.room.set(false);
        stage.fake.refuse.set(Some(RDKafkaErrorCode::UnknownTopic));
        assert!(stage.offer(2, large(4_000)).is_err() || stage.fake.settled.borrow().len() == 1);
        stage.fake.refuse.set(None);
        assert_eq!(of(stage.offer(3, event("a"))), Ok(2), "still known");
    }
}

/// Also when it could not go for long: the delivery timeout is one for all that an event waits for.
#[test]
fn a_record_is_as_old_as_its_first_event() {
    let mut stage = Stage::new(batched());
    drop(stage.offer(10, event("a")).expect("accepted"));
    drop(stage.offer(20, event("a")).expect("accepted"));
    stage.fake.refuse.set(Some(RDKafkaErrorCode::QueueFull));
    assert!(stage.due(500), "it stays");
    stage.fake.refuse.set(None);
    assert!(!stage.due(5_000));
    drop(stage.offer(6_000, Outgoing::new("a", Checkpoint::default())).expect("accepted"));
    let since: Vec<Instant> = stage.fake.sent.borrow().iter().map(|sent| sent.since).collect();
    assert_eq!(since, [stage.at(10), stage.at(6_000)]);
}

#[test]
fn other_kinds_and_traces_go_behind_what_was_gathered() {
    let mut stage = Stage::new(batched());
    let traced = |parent: &str| event("a").trace(parent, None);
    drop(stage.offer(0, event("a")).expect("accepted"));
    drop(stage.offer(0, event("a")).expect("accepted"));
    drop(stage.offer(0, Outgoing::new("a", Checkpoint::default())).expect("accepted"));
    drop(stage.offer(0, traced("one")).expect("accepted"));
    drop(stage.offer(0, traced("one")).expect("accepted"));
    drop(stage.offer(0, traced("two")).expect("accepted"));
    drop(stage.offer(0, large(2_500)).expect("accepted: alone"));
    assert_eq!(stage.fake.told(), ["a:[1, 2]", "a:3", "a:[4, 5]", "a:6", "a:7"]);
    let traces: Vec<Option<String>> = stage.fake.sent.borrow().iter().map(|sent| sent.traceparent.clone()).collect();
    assert_eq!(traces, [None, None, Some("one".to_owned()), Some("two".to_owned()), None]);
}

#[test]
fn a_batch_is_bounded_in_bytes() {
    let mut stage = Stage::new(batched());
    for bytes in [900, 900, 900] {
        drop(stage.offer(0, large(bytes)).expect("accepted"));
    }
    assert_eq!(stage.fake.told(), ["a:[1, 2]"]);
}

/// While librdkafka takes nothing, what is gathered stays in order, and no event passes it.
#[test]
fn what_waits_is_not_overtaken() {
    let mut stage = Stage::new(batched());
    let first = stage.offer(0, event("a")).expect("accepted");
    stage.fake.refuse.set(Some(RDKafkaErrorCode::QueueFull));
    assert!(stage.due(200));
    assert_eq!(of(stage.offer(200, Outgoing::new("a", Checkpoint::default()))), Err(Why::Full));
    assert_eq!(of(stage.offer(200, event("a"))), Ok(2));
    assert_eq!(of(stage.offer(200, event("a"))), Ok(3));
    assert_eq!(of(stage.offer(200, event("a"))), Err(Why::Full), "the batch is full and cannot go");
    assert_eq!((stage.fake.told().len(), first.outcome()), (0, None));
    stage.fake.refuse.set(None);
    assert!(!stage.due(200));
    assert_eq!(of(stage.offer(300, event("a"))), Ok(4));
    stage.lane.hand_over_due(None, &stage.instance, &stage.fake);
    assert_eq!(stage.fake.told(), ["a:[1, 2, 3]", "a:4"]);
}

#[test]
fn accepted_events_that_cannot_go_are_told_so() {
    let mut stage = Stage::new(batched());
    let ticket = stage.offer(0, event("a")).expect("accepted");
    stage.fake.refuse.set(Some(RDKafkaErrorCode::Fatal));
    stage.due(200);
    assert_eq!(ticket.outcome(), Some(Outcome::Refused { sequence: 1, reason: Reason::Fatal }));
    stage.fake.refuse.set(Some(RDKafkaErrorCode::QueueFull));
    let ticket = stage.offer(300, event("a")).expect("accepted");
    stage.lane.refuse_batches(&stage.instance, &stage.fake);
    assert_eq!(ticket.outcome(), Some(Outcome::Refused { sequence: 2, reason: Reason::Closed }));
    assert_eq!(stage.fake.settled.borrow().len(), 2);
}

#[test]
fn a_thread_with_a_batch_is_forgotten_only_after_it_went() {
    let mut stage = Stage::new(LaneLimits { threads_max: 1, ..batched() });
    drop(stage.offer(0, event("a")).expect("accepted"));
    stage.fake.refuse.set(Some(RDKafkaErrorCode::QueueFull));
    assert_eq!(of(stage.offer(0, event("b"))), Err(Why::Full));
    stage.fake.refuse.set(None);
    assert_eq!(of(stage.offer(0, event("b"))), Ok(1));
    assert_eq!(stage.fake.told(), ["a:1"]);
}
