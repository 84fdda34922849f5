//! What a producer is made of: lanes under locks, librdkafka's client, and the one thread that serves delivery reports,
//! batches whose time has come, and what was refused on the way.
//!
//! An application's code (callbacks, what it keeps in them) runs and is let go of on that thread or on the one that
//! closes the producer, never under a lane's lock: it may well send.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::Thread;
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
use super::lock;
use super::metrics::Metrics;
use super::options::{OnRefused, Options};
use super::outcome::Reason;
use super::outgoing::{Kind, Outgoing};
use super::redact::Redaction;
use super::reports::Reports;
use super::tally::{EVENT_OVERHEAD_BYTES, Tally};
use super::ticket::Waiter;
use super::topic::{Headers, Topic};
use crate::words::header;

/// Senders of different agents rarely meet in one of these.
const LANES: usize = 16;
/// How long the thread waits for reports before it looks after batches and letters.
const SLICE: Duration = Duration::from_millis(50);
/// After a purge librdkafka reports everything at once; this is for a machine that is very busy.
const PURGE_LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Engine {
    /// Before the client, so that it is dropped before it.
    topic: Topic,
    client: BaseProducer<Deliveries>,
    lanes: Box<[Mutex<Lane>]>,
    hasher: RandomState,
    instance: Instance,
    pub(super) instance_name: String,
    tenant: String,
    batches: bool,
    pub(super) redaction: Redaction,
    pub(super) event_bytes_max: usize,
    limiter: Option<Limiter>,
    closed: AtomicBool,
    /// Something is overdue, and all that is under way is being given up.
    giving_up: AtomicBool,
    slice: Duration,
    thread: OnceLock<Thread>,
    /// Of a closed producer: its thread ends when all is settled, or then.
    until: OnceLock<Instant>,
}

impl Engine {
    pub(super) fn new(options: Options) -> Result<Self, StartError> {
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
        let deliveries = Deliveries::new(tally, ages, metrics.clone(), options.on_refused, options.topic);
        let instance = Instance::new();
        let client: BaseProducer<Deliveries> = config.create_with_context(deliveries)?;
        Ok(Self {
            topic: Topic::of(client.client(), &client.context().topic)?,
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
            slice: slice.min(options.delivery_timeout / 32),
            thread: OnceLock::new(),
            until: OnceLock::new(),
        })
    }

    pub(super) fn reports(&self) -> &Deliveries {
        self.client.context()
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.reports().tally
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.reports().metrics
    }

    /// Why nothing can be sent any more, if that is so.
    pub(super) fn fatal(&self) -> Option<(Reason, String)> {
        let (code, said) = self.client.client().fatal_error()?;
        Some((Reason::of(code), said))
    }

    #[cfg(test)]
    pub(super) fn native(&self) -> *mut rdkafka_sys::rd_kafka_t {
        self.client.client().native_ptr()
    }

    /// In a callback. Who waited there for something to be settled would wait for itself.
    pub(super) fn is_own_thread(&self) -> bool {
        self.thread.get().is_some_and(|thread| thread.id() == std::thread::current().id())
    }

    /// Takes an event, and `waiter` with it, or says why not; then both may be offered again. `ready`: it was before,
    /// and is identified, within its tenant's rate, and without secrets.
    pub(super) fn accept(&self, event: &mut Outgoing, waiter: &mut Waiter, ready: &mut bool) -> Result<u64, Why> {
        if event.kind() == Kind::Batch {
            return Err(Why::Batch);
        }
        if self.reports().fatal.load(Ordering::Acquire) {
            return Err(Why::Fatal);
        }
        if self.tally().is_full() {
            self.reports().count();
            if self.tally().is_full() {
                return Err(Why::Full);
            }
        }
        let now = Instant::now();
        if !*ready {
            event.complete(&self.tenant, &self.instance, super::now_us).map_err(Why::BadId)?;
            if let Some(limiter) = &self.limiter {
                limiter.take_at(&event.header().tenant_id, now).map_err(Why::RateLimited)?;
            }
            let secrets = self.redaction.apply(event).map_err(Why::Sealed)?;
            if secrets > 0 {
                self.metrics().redactions.inc_by(secrets);
            }
            *ready = true;
        }
        let header = event.header();
        let lane = self.hasher.hash_one((&header.tenant_id, &header.thread_id)) as usize % LANES;
        let mut lane = lock(&self.lanes[lane]);
        if self.closed.load(Ordering::SeqCst) {
            return Err(Why::Closed);
        }
        let accepted = lane.accept(event, waiter, &self.instance, now, self);
        let failures = lane.take_compression_failures();
        if failures > 0 {
            self.metrics().compression_failures.inc_by(failures);
        }
        accepted
    }

    /// Gives an event back that was not accepted, and counts that.
    pub(super) fn reject(&self, why: Why, mut event: Outgoing) -> Rejected {
        self.metrics().rejected(event.kind(), &why);
        // It has none, since it was not accepted.
        event.header().sequence = 0;
        Rejected { why, event: Box::new(event) }
    }

    /// Nothing is accepted after this, and the thread ends: when all is settled, or by then.
    pub(super) fn close(&self, until: Instant) {
        self.closed.store(true, Ordering::SeqCst);
        // Whoever is inside a lane now still gets in; after this nobody does.
        self.pass_lanes();
        self.until.get_or_init(|| until);
        self.wake();
    }

    fn pass_lanes(&self) {
        self.lanes.iter().for_each(|lane| drop(lock(lane)));
    }

    /// Everything accepted and every letter is done with. Batches are handed over for it.
    pub(super) fn is_settled(&self) -> bool {
        let left = self.hand_over(None);
        self.reports().count();
        !left && self.tally().events() == 0 && self.reports().letters.pending() == 0
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
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
    pub(super) fn serve(&self) {
        let queue = Reports::of(self.client.client());
        self.thread.get_or_init(std::thread::current);
        while self.until.get().is_none_or(|until| !self.is_settled() && Instant::now() < *until) {
            let left = self.until.get().map_or(self.slice, |until| until.saturating_duration_since(Instant::now()));
            queue.wait(left.min(self.slice));
            self.turn(&queue);
        }
        self.abandon(&queue);
    }

    /// What was not handed over is refused, what is under way is given up, letters that nobody took are dropped.
    fn abandon(&self, queue: &Reports) {
        for lane in &self.lanes {
            lock(lane).refuse_batches(&self.instance, self);
        }
        self.reports().closing.store(true, Ordering::SeqCst);
        self.client.purge(PurgeConfig::default().queue().inflight());
        let deadline = far(PURGE_LIMIT);
        self.turn(queue);
        while self.tally().events() > 0 && Instant::now() < deadline {
            queue.wait(Duration::from_millis(1));
            self.turn(queue);
        }
        self.metrics().letters_dropped.inc_by(self.reports().letters.give_up());
    }

    fn turn(&self, queue: &Reports) {
        self.poll(queue);
        self.reports().settle_left_behind();
        if self.reports().ages.is_overdue(Instant::now()) {
            self.give_up(queue);
        }
        self.hand_over(Some(Instant::now()));
        self.send_letters();
        self.metrics().queue_events.set(self.tally().events().try_into().unwrap_or(i64::MAX));
        self.metrics().queue_bytes.set(self.tally().bytes().try_into().unwrap_or(i64::MAX));
    }

    /// Serves what there is; one poll serves one event of librdkafka, which may be the reports of a thousand records.
    fn poll(&self, queue: &Reports) {
        while !queue.is_empty() {
            self.client.poll(Duration::ZERO);
            self.reports().count();
        }
    }

    /// Everything that is under way is settled now: what never left is refused, the rest is unknown. Until then nothing
    /// is handed over. See `ages` for why all share the fate of the oldest.
    fn give_up(&self, queue: &Reports) {
        self.giving_up.store(true, Ordering::SeqCst);
        // Whoever is handing over now comes before the purge, and nobody after.
        self.pass_lanes();
        let deadline = far(PURGE_LIMIT);
        while !self.reports().ages.is_empty() && Instant::now() < deadline {
            self.client.purge(PurgeConfig::default().queue().inflight());
            queue.wait(Duration::from_millis(1));
            self.poll(queue);
        }
        self.giving_up.store(false, Ordering::SeqCst);
        self.tally().wake();
    }

    fn send_letters(&self) {
        let reports = self.reports();
        let OnRefused::DeadLetter { topic } = &reports.on_refused else { return };
        while let Some(letter) = reports.letters.take() {
            let Letter { key, value } = &letter;
            let bytes = value.len() as u64;
            let record = BaseRecord::with_opaque_to(topic, Box::new(Flight::Letter(bytes))).key(key).payload(value);
            let Err((error, _)) = self.client.send(record) else { continue };
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
                reports.letters.put_back(letter);
                return;
            }
            reports.letters.landed(bytes);
            self.metrics().letters_failed.inc();
        }
    }
}

impl Outlet for Engine {
    fn reserve(&self, bytes: usize) -> bool {
        self.tally().reserve(bytes as u64)
    }

    fn undo(&self, bytes: usize) {
        self.tally().undo(bytes as u64);
    }

    fn send(&self, record: Record<'_>) -> Result<(), (RDKafkaErrorCode, Box<Flight>)> {
        let reports = self.reports();
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

    fn refuse(&self, events: Events, reason: Reason, value: &[u8]) {
        self.reports().leave_behind(events, reason, value);
        self.wake();
    }
}

/// A deadline that does not overflow.
pub(super) fn far(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now + Duration::from_secs(86_400 * 365))
}
