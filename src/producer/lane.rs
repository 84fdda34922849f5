//! One lane: the threads (of agents) that hash to it, their sequences and unfinished batches, and the making of records.
//! What happens here happens under the lane's lock, so that the records of a thread are handed over in the order of
//! their sequences. Time comes in, records go out: no clock, no Kafka.
//!
//! A batch is at most one per thread. It is handed over when it is full, when its time has come, when an event of another
//! kind or trace follows, or when its thread is to be forgotten. While librdkafka takes nothing it stays, and events
//! that would follow it are refused.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use rdkafka::error::RDKafkaErrorCode;

use super::error::Why;
use super::flight::{Events, Flight, List};
use super::instance::Instance;
use super::outcome::Reason;
use super::outgoing::{Kind, Outgoing, Trace};
use super::sequence::{Sequences, Slot, ThreadName};
use super::ticket::Waiter;
use crate::wire::framing::Framer;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{DashStreamMessage, EventBatch, Header, MessageType};

/// Tag and length of an event in a batch, at most.
const EVENT_IN_BATCH_BYTES: usize = 8;

/// A record, ready to go.
pub(super) struct Record<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a [u8],
    pub(super) stamp: Stamp<'a>,
    pub(super) flight: Box<Flight>,
    /// Since when its first event waits.
    pub(super) since: Instant,
}

/// What stands in the headers of a record.
pub(super) struct Stamp<'a> {
    /// Of the thread's numbers: see [`Sequences::generation`].
    pub(super) generation: u64,
    pub(super) message_id: &'a [u8],
    pub(super) trace: Option<&'a Trace>,
}

/// Where records go, and who knows whether there is room.
pub(super) trait Outlet {
    fn reserve(&self, bytes: usize) -> bool;
    /// What was reserved was not needed.
    fn undo(&self, bytes: usize);
    /// Never waits. What is not taken comes back.
    fn send(&self, record: Record<'_>) -> Result<(), (RDKafkaErrorCode, Box<Flight>)>;
    /// For events that were accepted and cannot be sent, and the value that their record would have had. Whoever waits
    /// for them is told later, without the lane's lock: it may be an application's code.
    fn refuse(&self, events: Events, reason: Reason, value: &[u8]);
}

/// A thread before its event is accepted.
enum Place {
    Known(Slot),
    /// Nothing is known of it until then.
    New(Arc<ThreadName>),
}

impl Place {
    fn slot(&self) -> Option<Slot> {
        match self {
            Self::Known(slot) => Some(*slot),
            Self::New(_) => None,
        }
    }

    fn name<'a>(&'a self, sequences: &'a Sequences) -> &'a Arc<ThreadName> {
        match self {
            Self::Known(slot) => sequences.name(*slot),
            Self::New(name) => name,
        }
    }

    fn next(&self, sequences: &Sequences) -> u64 {
        self.slot().map_or(1, |slot| sequences.next(slot))
    }

    fn generation(&self, sequences: &Sequences) -> u64 {
        self.slot().map_or_else(|| sequences.next_generation(), |slot| sequences.generation(slot))
    }
}

/// What a lane needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneLimits {
    pub(super) threads_max: usize,
    pub(super) event_bytes_max: usize,
    pub(super) record_bytes_max: usize,
    pub(super) compress_above_bytes: usize,
    pub(super) compression_level: i32,
    pub(super) batch: Option<BatchLimits>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLimits {
    pub(super) events_max: usize,
    pub(super) bytes_max: usize,
    pub(super) linger: Duration,
}

struct Batch {
    events: EventBatch,
    waiters: Vec<(u64, Waiter)>,
    trace: Option<Box<Trace>>,
    /// Encoded, as far as the bounds care.
    bytes: usize,
    /// What was reserved.
    reserved: usize,
    /// Tells it from later batches of the same slot.
    number: u64,
    /// When its first event was accepted.
    since: Instant,
}

pub(super) struct Lane {
    limits: LaneLimits,
    sequences: Sequences,
    /// By slot.
    batches: Vec<Option<Box<Batch>>>,
    /// In the order in which their time comes. A batch that went earlier is no longer found by its number.
    due: VecDeque<(Instant, Slot, u64)>,
    number: u64,
    framer: Framer,
    value: Vec<u8>,
}

impl Lane {
    pub(super) fn new(limits: LaneLimits) -> Self {
        Self {
            limits,
            sequences: Sequences::new(limits.threads_max),
            batches: Vec::new(),
            due: VecDeque::new(),
            number: 0,
            framer: Framer::new(limits.compress_above_bytes, limits.compression_level),
            value: Vec::new(),
        }
    }

    /// Takes an event whose header is complete but for the sequence, and says which one it got; `waiter` was taken then.
    /// When it is not taken, nothing is known of it or its thread, and `waiter` is still there: what an application put
    /// into it is let go of without the lane's lock.
    pub(super) fn accept(
        &mut self,
        outgoing: &mut Outgoing,
        waiter: &mut Waiter,
        instance: &Instance,
        now: Instant,
        outlet: &impl Outlet,
    ) -> Result<u64, Why> {
        let header = outgoing.header();
        let place = match self.sequences.find(&header.tenant_id, &header.thread_id) {
            Some(slot) => Place::Known(slot),
            None => {
                if let Some(victim) = self.sequences.victim() {
                    self.hand_over(victim, instance, outlet)?;
                }
                let (tenant, thread) = (header.tenant_id.as_str().into(), header.thread_id.as_str().into());
                Place::New(Arc::new(ThreadName { tenant, thread }))
            }
        };
        let sequence = place.next(&self.sequences);
        header.sequence = sequence;
        match self.limits.batch {
            Some(limits) if outgoing.kind() == Kind::Event => {
                self.gather(place, outgoing, waiter, limits, instance, now, outlet)?;
            }
            _ => {
                self.hand_over_at(&place, instance, outlet)?;
                self.send_one(place, outgoing, waiter, now, outlet)?;
            }
        }
        Ok(sequence)
    }

    fn send_one(
        &mut self,
        place: Place,
        outgoing: &mut Outgoing,
        waiter: &mut Waiter,
        now: Instant,
        outlet: &impl Outlet,
    ) -> Result<(), Why> {
        let kind = outgoing.kind();
        let limit = self.limits.event_bytes_max;
        self.framer.frame_within(&mut outgoing.message, limit, &mut self.value).map_err(|bytes| Why::TooLarge {
            what: "event_bytes_max",
            bytes,
            limit,
        })?;
        let limit = self.limits.record_bytes_max;
        if self.value.len() > limit {
            return Err(Why::TooLarge { what: "record_bytes_max", bytes: self.value.len(), limit });
        }
        let reserved = self.value.len();
        if !outlet.reserve(reserved) {
            return Err(Why::Full);
        }
        let thread = place.name(&self.sequences);
        let list = List::One(place.next(&self.sequences), waiter.take());
        let events = Events { thread: thread.clone(), kind, bytes: reserved as u64, list, age: None };
        let generation = place.generation(&self.sequences);
        let trace = outgoing.trace.clone();
        let stamp = Stamp { generation, message_id: &outgoing.header().message_id, trace: trace.as_deref() };
        let flight = Box::new(Flight::Events(events));
        let sent = outlet.send(Record { key: &thread.thread, value: &self.value, stamp, flight, since: now });
        match sent {
            Ok(()) => {
                self.settle_in(place);
                Ok(())
            }
            Err((code, flight)) => {
                if let Flight::Events(Events { list: List::One(_, back), .. }) = *flight {
                    *waiter = back;
                }
                outlet.undo(reserved);
                Err(why(code, reserved, limit))
            }
        }
    }

    /// An event of the thread was accepted.
    fn settle_in(&mut self, place: Place) -> Slot {
        let slot = match place {
            Place::Known(slot) => slot,
            Place::New(name) => self.sequences.insert(name),
        };
        self.sequences.allocate(slot);
        slot
    }

    #[allow(clippy::too_many_arguments, reason = "private; each is used once")]
    fn gather(
        &mut self,
        place: Place,
        outgoing: &mut Outgoing,
        waiter: &mut Waiter,
        limits: BatchLimits,
        instance: &Instance,
        now: Instant,
        outlet: &impl Outlet,
    ) -> Result<(), Why> {
        let reserved = outgoing.message.encoded_len();
        let bytes = reserved + EVENT_IN_BATCH_BYTES;
        let limit = self.limits.event_bytes_max;
        if reserved > limit {
            return Err(Why::TooLarge { what: "event_bytes_max", bytes: reserved, limit });
        }
        let misfit = |batch: &Batch| {
            batch.bytes + bytes > limits.bytes_max
                || batch.trace != outgoing.trace
                || batch.waiters.len() >= limits.events_max
        };
        let gathered = place.slot().and_then(|slot| self.batches.get(slot.index())?.as_deref());
        if gathered.is_some_and(misfit) {
            self.hand_over_at(&place, instance, outlet)?;
        }
        // Does not fit any batch: alone, and the record limit applies to it.
        if bytes > limits.bytes_max {
            return self.send_one(place, outgoing, waiter, now, outlet);
        }
        if !outlet.reserve(reserved) {
            return Err(Why::Full);
        }
        let Some(Payload::Event(event)) = outgoing.message.message.take() else {
            outlet.undo(reserved);
            return Err(Why::Batch);
        };
        let sequence = place.next(&self.sequences);
        let slot = self.settle_in(place);
        if self.batches.len() <= slot.index() {
            self.batches.resize_with(slot.index() + 1, || None);
        }
        if self.batches[slot.index()].is_none() {
            self.number += 1;
            self.due.push_back((now + limits.linger, slot, self.number));
        }
        let number = self.number;
        let batch = self.batches[slot.index()].get_or_insert_with(|| {
            let (events, waiters) = (EventBatch::default(), Vec::new());
            Box::new(Batch { events, waiters, trace: outgoing.trace.take(), bytes: 0, reserved: 0, number, since: now })
        });
        batch.waiters.push((sequence, waiter.take()));
        batch.events.events.push(event);
        batch.bytes += bytes;
        batch.reserved += reserved;
        if batch.waiters.len() >= limits.events_max {
            // While librdkafka takes nothing it waits for its turn like any other.
            drop(self.hand_over(slot, instance, outlet));
        }
        Ok(())
    }

    fn hand_over_at(&mut self, place: &Place, instance: &Instance, outlet: &impl Outlet) -> Result<(), Why> {
        place.slot().map_or(Ok(()), |slot| self.hand_over(slot, instance, outlet))
    }

    /// Hands the thread's batch over, if there is one. On an error it is still there.
    fn hand_over(&mut self, slot: Slot, instance: &Instance, outlet: &impl Outlet) -> Result<(), Why> {
        let Some(batch) = self.batches.get_mut(slot.index()).and_then(Option::take) else { return Ok(()) };
        let Batch { events, waiters, trace, bytes, reserved, number, since } = *batch;
        let thread = self.sequences.name(slot).clone();
        let (mut message, message_id) = message_of(events, instance);
        self.framer.frame(&mut message, &mut self.value);
        let kind = message.message.as_ref().map_or(Kind::Batch, Kind::of);
        let list = List::Many(waiters);
        let flight =
            Box::new(Flight::Events(Events { thread: thread.clone(), kind, bytes: reserved as u64, list, age: None }));
        let stamp =
            Stamp { generation: self.sequences.generation(slot), message_id: &message_id, trace: trace.as_deref() };
        let sent = outlet.send(Record { key: &thread.thread, value: &self.value, stamp, flight, since });
        let Err((code, flight)) = sent else { return Ok(()) };
        let Flight::Events(flown) = *flight else { return Ok(()) };
        if code != RDKafkaErrorCode::QueueFull {
            outlet.refuse(flown, Reason::of(code), &self.value);
            return Ok(());
        }
        let List::Many(waiters) = flown.list else { return Ok(()) };
        let events = match message.message {
            Some(Payload::EventBatch(batch)) => batch,
            Some(Payload::Event(event)) => EventBatch { events: vec![event], ..EventBatch::default() },
            _ => EventBatch::default(),
        };
        self.batches[slot.index()] = Some(Box::new(Batch { events, waiters, trace, bytes, reserved, number, since }));
        Err(Why::Full)
    }

    /// Hands over what is due by `now`; a `now` of `None` is everything. Returns whether batches are left.
    pub(super) fn hand_over_due(&mut self, now: Option<Instant>, instance: &Instance, outlet: &impl Outlet) -> bool {
        while let Some((due, slot, number)) = self.due.front().copied() {
            let current = self.batches[slot.index()].as_ref().is_some_and(|batch| batch.number == number);
            if current && (now.is_some_and(|now| due > now) || self.hand_over(slot, instance, outlet).is_err()) {
                return true;
            }
            self.due.pop_front();
        }
        false
    }

    /// The producer ends: batches that nobody took are refused.
    pub(super) fn refuse_batches(&mut self, instance: &Instance, outlet: &impl Outlet) {
        self.due.clear();
        for index in 0..self.batches.len() {
            let Some(batch) = self.batches[index].take() else { continue };
            let thread = self.sequences.name_at(index).clone();
            let (mut message, _) = message_of(batch.events, instance);
            self.framer.frame(&mut message, &mut self.value);
            let kind = message.message.as_ref().map_or(Kind::Batch, Kind::of);
            let list = List::Many(batch.waiters);
            let events = Events { thread, kind, bytes: batch.reserved as u64, list, age: None };
            outlet.refuse(events, Reason::Closed, &self.value);
        }
    }

    /// Compressions that failed since this was last asked.
    pub(super) fn take_compression_failures(&mut self) -> u64 {
        self.framer.take_failures()
    }
}

/// A batch of one is that one. A batch has an id of its own and the sequence 0: it is none of its events.
fn message_of(mut batch: EventBatch, instance: &Instance) -> (DashStreamMessage, Vec<u8>) {
    let first = batch.events.first().and_then(|event| event.header.as_ref());
    let mut header = first.cloned().unwrap_or_default();
    if batch.events.len() == 1
        && let Some(event) = batch.events.pop()
    {
        return (DashStreamMessage { message: Some(Payload::Event(event)) }, header.message_id);
    }
    let message_id = instance.message_id().to_vec();
    header = Header {
        message_id: message_id.clone(),
        sequence: 0,
        r#type: MessageType::EventBatch as i32,
        parent_id: Vec::new(),
        ..header
    };
    batch.header = Some(header);
    (DashStreamMessage { message: Some(Payload::EventBatch(batch)) }, message_id)
}

fn why(code: RDKafkaErrorCode, bytes: usize, limit: usize) -> Why {
    match code {
        RDKafkaErrorCode::QueueFull => Why::Full,
        RDKafkaErrorCode::Fatal => Why::Fatal,
        RDKafkaErrorCode::MessageSizeTooLarge => Why::TooLarge { what: "record_bytes_max", bytes, limit },
        code => Why::Kafka(code.to_string()),
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
