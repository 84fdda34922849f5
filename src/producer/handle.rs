//! The producer as an application holds it: lanes under locks, librdkafka's client, and the one thread that serves
//! delivery reports and batches whose time has come.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};

use super::ages::Ages;
use super::dead_letter::Letter;
use super::delivery::Deliveries;
use super::error::{Rejected, StartError, Why};
use super::flight::{Events, Flight};
use super::instance::Instance;
use super::lane::{Lane, Outlet, Record};
use super::limiter::Limiter;
use super::metrics::Metrics;
use super::options::{OnRefused, Options};
use super::outcome::{Outcome, Reason, Settled};
use super::outgoing::{Kind, Outgoing};
use super::redact::Redaction;
use super::reports::Reports;
use super::state::StateTracker;
use super::tally::{EVENT_OVERHEAD_BYTES, Tally};
use super::ticket::{Ticket, TicketSlot, Waiter};
use super::topic::{Headers, Topic};
use crate::words::header;

/// Senders of different agents rarely meet in one of these.
const LANES: usize = 16;
/// How long the thread waits for reports before it looks after batches and letters.
const SLICE: Duration = Duration::from_millis(50);
/// After a purge librdkafka reports everything at once; this is for a machine that is very busy.
const PURGE_LIMIT: Duration = Duration::from_secs(10);

/// Sends events to one topic. Share it behind an `Arc`; dropping it closes it.
///
/// Accepting an event gives it the next number of its thread, and exactly one [`Outcome`] follows, within the delivery
/// timeout or when the producer is closed. librdkafka tries again where that cannot make a duplicate; nobody else does.
pub struct Producer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    close_timeout: Duration,
}

struct Shared {
    /// Before the client, so that it is dropped before it.
    topic: Topic,
    client: BaseProducer<Deliveries>,
    lanes: Box<[Mutex<Lane>]>,
    hasher: RandomState,
    instance: Instance,
    instance_name: String,
    tenant: String,
    batches: bool,
    redaction: Redaction,
    event_bytes_max: usize,
    limiter: Option<Limiter>,
    closed: AtomicBool,
    /// Something is overdue, and all that is under way is being given up.
    giving_up: AtomicBool,
    ended: AtomicBool,
}

/// What was still under way when a `flush` or `close` ended. Zero everywhere: everything is settled.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flushed {
    /// Accepted events whose outcome is not known yet. After `close` this is 0: they were refused or are unknown.
    pub pending: u64,
    /// Dead letters that Kafka has not acknowledged.
    pub letters_pending: u64,
    /// Since the producer was started: events that Kafka acknowledged.
    pub delivered: u64,
    /// Since the producer was started: accepted events that Kafka refused.
    pub refused: u64,
    /// Since the producer was started: accepted events of which nobody can say whether Kafka has them.
    pub unknown: u64,
}

impl Producer {
    /// Starts a producer and its thread. Brokers are not waited for: they are found, or events time out.
    pub fn start(options: Options) -> Result<Self, StartError> {
        options.check()?;
        let lane = options.lane(LANES);
        let metrics = options.metrics.clone();
        let tally = Tally::new(options.queue_events_max.into(), options.queue_bytes_max, EVENT_OVERHEAD_BYTES);
        let ages = Ages::new(options.delivery_timeout, Instant::now());
        let config = options.client();
        let slice = match &options.batching {
            Some(batching) => SLICE.min(batching.linger / 4).max(Duration::from_millis(1)),
            None => SLICE,
        };
        let slice = slice.min(options.delivery_timeout / 32);
        let deliveries = Deliveries::new(tally, ages, metrics.clone(), options.on_refused, options.topic);
        let instance = Instance::new();
        let client: BaseProducer<Deliveries> = config.create_with_context(deliveries)?;
        let topic = Topic::of(client.client(), &client.context().topic)?;
        let shared = Arc::new(Shared {
            topic,
            client,
            lanes: (0..LANES).map(|_| Mutex::new(Lane::new(lane))).collect(),
            hasher: RandomState::new(),
            instance_name: instance.id.to_string(),
            instance,
            tenant: options.tenant,
            batches: options.batching.is_some(),
            redaction: options.redaction,
            event_bytes_max: options.event_bytes_max,
            limiter: options.limiter.map(|limiter| limiter.metrics(&metrics)),
            closed: AtomicBool::new(false),
            giving_up: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let thread = {
            let shared = shared.clone();
            #[allow(clippy::disallowed_methods, reason = "an application has no gateway::threads; joined by close")]
            std::thread::Builder::new().name("producer".to_owned()).spawn(move || shared.serve(slice))?
        };
        Ok(Self { shared, thread: Some(thread), close_timeout: options.close_timeout })
    }

    /// Accepts an event, or gives it back at once. Waits for nothing but, with a limiter in Redis, its answer.
    pub fn try_send(&self, event: Outgoing) -> Result<Ticket, Rejected> {
        let slot = Arc::new(TicketSlot::default());
        self.shared.accept(event, || Waiter::Ticket(slot.clone())).map(|sequence| Ticket::new(sequence, slot))
    }

    /// Like [`Self::try_send`], and `call` is told the outcome, on the producer's thread (be quick), or on one that
    /// closes it. Returns the event's sequence. When the event is not accepted, `call` is dropped.
    pub fn try_send_with(&self, event: Outgoing, call: impl FnOnce(Outcome) + Send + 'static) -> Result<u64, Rejected> {
        self.shared.accept(event, || Waiter::call(call))
    }

    /// Accepts an event, and waits for room and for its tenant's rate, for `timeout` at most. Not for its outcome: the
    /// ticket does that.
    pub fn send(&self, event: Outgoing, timeout: Duration) -> Result<Ticket, Rejected> {
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400 * 365));
        let mut waiting = Some(event);
        let mut answer = None;
        let mut at = deadline;
        loop {
            let rate_limited = self.tally().wait_until(at, || {
                let rejected = match self.try_send(waiting.take()?) {
                    Ok(ticket) => {
                        answer = Some(Ok(ticket));
                        return Some(None);
                    }
                    Err(rejected) => rejected,
                };
                match rejected.why {
                    Why::Full if Instant::now() < deadline => {
                        waiting = Some(*rejected.event);
                        None
                    }
                    Why::RateLimited(wait) if Instant::now() + wait < deadline => {
                        waiting = Some(*rejected.event);
                        Some(Some(wait))
                    }
                    _ => {
                        answer = Some(Err(rejected));
                        Some(None)
                    }
                }
            });
            if let Some(answer) = answer.take() {
                return answer;
            }
            match rate_limited.flatten() {
                // Nobody says when a bucket has a token again: its own arithmetic did.
                Some(wait) => std::thread::sleep(wait),
                // The deadline passed with the queue full: one last time, for the reason.
                None => at = Instant::now(),
            }
        }
    }

    /// Waits until everything that was accepted is settled, dead letters too, for `timeout` at most. Batches are sent
    /// at once. What others send meanwhile is waited for as well.
    pub fn flush(&self, timeout: Duration) -> Flushed {
        let deadline = far(timeout);
        let shared = &self.shared;
        self.tally().wait_until(deadline, || {
            let left = shared.hand_over(None);
            shared.client.context().count();
            let reports = shared.client.context();
            let letters = reports.letters.len() as u64 + reports.letters_flying.load(Ordering::SeqCst);
            (!left && self.tally().events() == 0 && letters == 0).then_some(())
        });
        self.flushed()
    }

    /// Refuses new events, flushes for `timeout` at most, and gives up what is left: events that never left are
    /// `Refused`, those that may have are `Unknown`. Everything accepted has its outcome when this returns.
    pub fn close(mut self, timeout: Duration) -> Flushed {
        self.shut(timeout);
        self.flushed()
    }

    /// What is under way now, and how everything before ended.
    pub fn flushed(&self) -> Flushed {
        let reports = self.shared.client.context();
        reports.count();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::SeqCst);
        Flushed {
            pending: self.tally().events(),
            letters_pending: reports.letters.len() as u64 + count(&reports.letters_flying),
            delivered: count(&self.tally().delivered),
            refused: count(&self.tally().refused),
            unknown: count(&self.tally().unknown),
        }
    }

    /// The state of an agent, from which diffs and checkpoints are made. It is redacted as this producer's events are.
    pub fn state(&self) -> StateTracker {
        let shared = &self.shared;
        StateTracker::new(shared.redaction.clone(), shared.event_bytes_max, Some(shared.metrics().clone()))
    }

    /// Why this producer can send nothing any more ([`Why::Fatal`]), in the words of librdkafka; `None` while it can.
    pub fn fatal(&self) -> Option<(Reason, String)> {
        let (code, said) = self.shared.client.client().fatal_error()?;
        Some((Reason::of(code), said))
    }

    /// This producer's life, as records name it in the header `dashstream.producer`. A thread that was forgotten
    /// and came back has `.1`, `.2` … behind it.
    pub fn instance(&self) -> &str {
        &self.shared.instance_name
    }

    fn tally(&self) -> &Tally {
        self.shared.tally()
    }

    fn shut(&mut self, timeout: Duration) {
        let Some(thread) = self.thread.take() else { return };
        let shared = &self.shared;
        shared.closed.store(true, Ordering::SeqCst);
        // Whoever is inside a lane now still gets in; after this nobody does.
        shared.lanes.iter().for_each(|lane| drop(lock(lane)));
        self.flush(timeout);
        for lane in &shared.lanes {
            lock(lane).refuse_batches(&**shared);
        }
        shared.client.context().closing.store(true, Ordering::SeqCst);
        shared.client.purge(PurgeConfig::default().queue().inflight());
        self.tally().wait_until(far(PURGE_LIMIT), || {
            shared.client.context().count();
            (self.tally().events() == 0).then_some(())
        });
        shared.ended.store(true, Ordering::SeqCst);
        thread.thread().unpark();
        // It only ends by that flag; a panic of a callback is caught where it is called.
        drop(thread.join());
        let letters = shared.client.context();
        while letters.letters.take().is_some() {
            letters.metrics.letters_dropped.inc();
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shut(self.close_timeout);
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Producer").field("instance", &self.shared.instance_name).finish_non_exhaustive()
    }
}

impl Shared {
    fn tally(&self) -> &Tally {
        &self.client.context().tally
    }

    fn metrics(&self) -> &Metrics {
        &self.client.context().metrics
    }

    fn accept(&self, mut event: Outgoing, waiter: impl FnOnce() -> Waiter) -> Result<u64, Rejected> {
        let kind = event.kind();
        self.admit(&mut event, kind, waiter).map_err(|why| {
            self.metrics().rejected(kind, &why);
            // It has none, since it was not accepted.
            event.header().sequence = 0;
            Rejected { why, event: Box::new(event) }
        })
    }

    fn admit(&self, event: &mut Outgoing, kind: Kind, waiter: impl FnOnce() -> Waiter) -> Result<u64, Why> {
        if kind == Kind::Batch {
            return Err(Why::Batch);
        }
        if self.client.context().fatal.load(Ordering::Acquire) {
            return Err(Why::Fatal);
        }
        event.complete(&self.tenant, &self.instance, super::now_us).map_err(Why::BadId)?;
        if self.tally().is_full() {
            self.client.context().count();
            if self.tally().is_full() {
                return Err(Why::Full);
            }
        }
        let now = Instant::now();
        if let Some(limiter) = &self.limiter {
            limiter.take_at(&event.header().tenant_id, now).map_err(Why::RateLimited)?;
        }
        let secrets = self.redaction.apply(event).map_err(Why::Sealed)?;
        if secrets > 0 {
            self.metrics().redactions.inc_by(secrets);
        }
        let header = event.header();
        let lane = self.hasher.hash_one((&header.tenant_id, &header.thread_id)) as usize % LANES;
        let mut lane = lock(&self.lanes[lane]);
        if self.closed.load(Ordering::SeqCst) {
            return Err(Why::Closed);
        }
        let accepted = lane.accept(event, waiter(), &self.instance, now, self);
        let failures = lane.take_compression_failures();
        if failures > 0 {
            self.metrics().compression_failures.inc_by(failures);
        }
        accepted
    }

    /// Batches that are due by then; None is all. Returns whether some are left.
    fn hand_over(&self, now: Option<Instant>) -> bool {
        self.batches
            && self.lanes.iter().fold(false, |left, lane| {
                let here = lock(lane).hand_over_due(now, &self.instance, self);
                left || here && now.is_none()
            })
    }

    /// The producer's thread.
    fn serve(&self, slice: Duration) {
        let reports = Reports::of(self.client.client());
        while !self.ended.load(Ordering::SeqCst) {
            reports.wait(slice);
            self.poll(&reports);
            if self.client.context().ages.is_overdue(Instant::now()) {
                self.give_up(&reports);
            }
            self.hand_over(Some(Instant::now()));
            self.send_letters();
            self.metrics().queue_events.set(self.tally().events().try_into().unwrap_or(i64::MAX));
            self.metrics().queue_bytes.set(self.tally().bytes().try_into().unwrap_or(i64::MAX));
        }
    }

    /// Serves what there is; one poll serves one event of librdkafka, which may be the reports of a thousand records.
    fn poll(&self, queue: &Reports) {
        while !queue.is_empty() {
            self.client.poll(Duration::ZERO);
            self.client.context().count();
        }
    }

    /// Everything that is under way is settled now: what never left is refused, the rest is unknown. Until then nothing
    /// is handed over. See `ages` for why all share the fate of the oldest.
    fn give_up(&self, queue: &Reports) {
        self.giving_up.store(true, Ordering::SeqCst);
        // Whoever is handing over now comes before the purge, and nobody after.
        self.lanes.iter().for_each(|lane| drop(lock(lane)));
        let deadline = far(PURGE_LIMIT);
        let reports = self.client.context();
        while !reports.ages.is_empty() && Instant::now() < deadline {
            self.client.purge(PurgeConfig::default().queue().inflight());
            queue.wait(Duration::from_millis(1));
            self.poll(queue);
        }
        self.giving_up.store(false, Ordering::SeqCst);
        self.tally().wake();
    }

    fn send_letters(&self) {
        let reports = self.client.context();
        let OnRefused::DeadLetter { topic } = &reports.on_refused else { return };
        while let Some(letter) = reports.letters.take() {
            reports.letters_flying.fetch_add(1, Ordering::SeqCst);
            let Letter { key, value } = &letter;
            let record = BaseRecord::with_opaque_to(topic, Box::new(Flight::Letter)).key(key).payload(value);
            let Err((error, _)) = self.client.send(record) else { continue };
            reports.letters_flying.fetch_sub(1, Ordering::SeqCst);
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
                reports.letters.put_back(letter);
            } else {
                self.metrics().letters_failed.inc();
            }
            return;
        }
    }
}

impl Outlet for Shared {
    fn reserve(&self, bytes: usize) -> bool {
        self.tally().reserve(bytes as u64)
    }

    fn release(&self, bytes: usize) {
        self.tally().release(1, bytes as u64);
    }

    fn send(&self, record: Record<'_>) -> Result<(), (RDKafkaErrorCode, Box<Flight>)> {
        let reports = self.client.context();
        let Record { key, value, stamp, mut flight, since } = record;
        if self.giving_up.load(Ordering::SeqCst) {
            return Err((RDKafkaErrorCode::QueueFull, flight));
        }
        if let Flight::Events(events) = &mut *flight {
            events.age = Some(reports.ages.enter(since));
        }
        let mut headers = Headers::with_capacity(4);
        let numbered;
        let instance = match stamp.generation {
            0 => &self.instance_name,
            generation => {
                numbered = format!("{}.{generation}", self.instance_name);
                &numbered
            }
        };
        headers.add(header::PRODUCER, instance);
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        let id = uuid::Uuid::from_slice(stamp.message_id).unwrap_or_default().hyphenated().encode_lower(&mut id);
        headers.add(header::MESSAGE_ID, id);
        if let Some(trace) = stamp.trace {
            let traces = [(header::TRACEPARENT, &trace.traceparent), (header::TRACESTATE, &trace.tracestate)];
            for (name, value) in traces {
                value.iter().for_each(|value| headers.add(name, value));
            }
        }
        let sent = self.topic.send(self.client.client(), key.as_bytes(), value, headers, flight);
        sent.map_err(|(code, mut flight)| {
            if code == RDKafkaErrorCode::Fatal {
                reports.fatal.store(true, Ordering::Release);
            }
            if let Flight::Events(events) = &mut *flight
                && let Some(age) = events.age.take()
            {
                reports.ages.leave(age, 1);
            }
            (code, flight)
        })
    }

    fn settle(&self, events: Events, settled: Settled) {
        self.client.context().settle(events, settled, &[]);
    }
}

fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A deadline that does not overflow.
fn far(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400 * 365))
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
