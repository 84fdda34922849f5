//! The thread that brings records into Kafka at a steady rate: by schedule, catching up after a delay, never drifting.
//!
//! It knows no broker but the one its client configuration names, so the embedded one and a real one are fed alike.
//! Deliberately absent: what the records say (`records`), and which broker that is (`broker`).
//!
//! Queues: librdkafka's own, bounded below; when it is full the feeder serves delivery reports and tries again. With
//! an [`AheadLimit`] the feeder also waits whenever a partition holds that many bytes that its reader has not read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::ahead::Ahead;
use super::partitioner::partition_of;
use super::poison::Poison;
use super::records::{Record, Records};
use crate::kafka::oauth;
use crate::words::{Offset, PartitionId};

/// Records between two looks at the clock, the reader's position and the delivery reports.
const BURST_RECORDS: u32 = 256;
/// The longest sleep, and so the longest that stopping takes to be noticed.
const TURN_MAX: Duration = Duration::from_millis(10);
const TURN_MIN: Duration = Duration::from_millis(1);
const HELD_TURN: Duration = Duration::from_millis(2);
/// For records in flight when the feeder is stopped; the broker answers within milliseconds or not at all.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// librdkafka's queue: a second at the highest rate. When it is full the feeder waits.
const QUEUE_MESSAGES_MAX: &str = "20000";
const QUEUE_KBYTES_MAX: &str = "16384";

/// Where the reader of a partition stands: the next offset that it will read, None while it has not begun.
pub type Position = Box<dyn Fn(PartitionId) -> Option<Offset> + Send>;

/// Never more than this ahead of the reader, per partition.
pub struct AheadLimit {
    pub bytes: u64,
    pub position: Position,
}

pub struct FeederOptions {
    /// Brokers and security; what a feeder needs besides is set here.
    pub client: ClientConfig,
    pub topic: String,
    pub partitions: u32,
    /// Events per second, not records: a batch counts for what is in it.
    pub rate: u32,
    pub seed: u64,
    pub poison: bool,
    /// None for a broker that keeps what it is given.
    pub ahead: Option<AheadLimit>,
}

#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Nothing was sent: a setting that librdkafka refuses, or no thread to be had.
    #[error("the producer of made-up runs could not be started: {0}")]
    Client(#[from] KafkaError),
    #[error("the system gave no thread for the producer of made-up runs: {0}")]
    Thread(#[from] std::io::Error),
    /// The producer will not send any more; start again.
    #[error("the producer of made-up runs gave up: {0}")]
    Fatal(String),
    #[error("the producer of made-up runs ended by a bug of its own; its message is in the log above")]
    Panicked,
}

/// What has been sent; readable at any time.
#[derive(Debug)]
pub struct Progress {
    pub records: AtomicU64,
    pub events: AtomicU64,
    pub poison: [AtomicU64; Poison::ALL.len()],
    /// Records that Kafka has taken, and that it has not.
    pub acknowledged: AtomicU64,
    pub failed: AtomicU64,
    /// Why the first one failed.
    pub first_failure: OnceLock<RDKafkaErrorCode>,
    /// Why the producer gave up, which the records that were under way do not know.
    pub given_up: OnceLock<RDKafkaErrorCode>,
    /// Turns spent waiting for the reader.
    pub held_turns: AtomicU64,
    /// Bytes of keys and values sent, per partition.
    pub partition_bytes: Vec<AtomicU64>,
}

/// A feeder at work. Stopped and joined when it is dropped.
pub struct Feeder {
    pub progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), FeedError>>>,
}

impl Feeder {
    pub fn start(options: FeederOptions) -> Result<Self, FeedError> {
        let progress = Arc::new(Progress {
            records: AtomicU64::new(0),
            events: AtomicU64::new(0),
            poison: Default::default(),
            acknowledged: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            first_failure: OnceLock::new(),
            given_up: OnceLock::new(),
            held_turns: AtomicU64::new(0),
            partition_bytes: (0..options.partitions).map(|_| AtomicU64::new(0)).collect(),
        });
        let stop = Arc::new(AtomicBool::new(false));
        let feed = Feed::new(options, Arc::clone(&progress), Arc::clone(&stop))?;
        #[allow(clippy::disallowed_methods, reason = "a producer's thread, joined below: not one of the gateway's")]
        let thread = std::thread::Builder::new().name("feeder".to_owned()).spawn(move || {
            // Said at once: whoever started this may look only when everything ends.
            feed.run().inspect_err(|error| tracing::error!(%error, "no more made-up runs"))
        })?;
        Ok(Self { progress, stop, thread: Some(thread) })
    }

    /// True once the thread has ended, which it does by itself only when its producer gave up.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Sends what is in hand, waits for the answers, ends.
    pub fn stop(mut self) -> Result<(), FeedError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), FeedError> {
        self.stop.store(true, Ordering::Release);
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or(Err(FeedError::Panicked)),
            None => Ok(()),
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "the feeder did not end well");
        }
    }
}

/// Takes delivery reports; called on the feeder's own thread, from `poll`.
struct Deliveries {
    ahead: Mutex<Vec<Ahead>>,
    progress: Arc<Progress>,
}

impl Deliveries {
    fn ahead(&self) -> MutexGuard<'_, Vec<Ahead>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth::unsecured_token(config)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let (message, offset, counter) = match result {
            Ok(message) => (message, u64::try_from(message.offset()).ok(), &self.progress.acknowledged),
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                if self.progress.first_failure.set(code).is_ok() {
                    tracing::error!(%error, "a made-up record could not be written; further ones are only counted");
                }
                (message, None, &self.progress.failed)
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let partition = usize::try_from(message.partition()).unwrap_or(usize::MAX);
        if let Some(ahead) = self.ahead().get_mut(partition) {
            ahead.answered(offset);
        }
    }
}

/// The thread's own state.
struct Feed {
    producer: BaseProducer<Deliveries>,
    topic: String,
    partitions: u32,
    rate: u32,
    ahead: Option<AheadLimit>,
    records: Records,
    record: Record,
    /// `record` was made and not yet sent.
    in_hand: bool,
    events: u64,
    begun: Instant,
    begun_us: i64,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
}

#[derive(PartialEq, Eq)]
enum Offered {
    Sent,
    /// The reader, or librdkafka's queue, must move first.
    Held,
}

impl Feed {
    fn new(options: FeederOptions, progress: Arc<Progress>, stop: Arc<AtomicBool>) -> Result<Self, KafkaError> {
        let FeederOptions { mut client, topic, partitions, rate, seed, poison, ahead } = options;
        client
            .set("acks", "all")
            // Order within a partition, on which the ledger of what is ahead relies.
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("message.timeout.ms", "30000")
            .set("queue.buffering.max.messages", QUEUE_MESSAGES_MAX)
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES_MAX);
        let deliveries = Deliveries {
            ahead: Mutex::new((0..partitions).map(|_| Ahead::default()).collect()),
            progress: Arc::clone(&progress),
        };
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            producer: BaseProducer::from_config_and_context(&client, deliveries)?,
            topic,
            partitions,
            rate,
            ahead,
            records: Records::new(seed, rate, poison),
            record: Record::default(),
            in_hand: false,
            events: 0,
            begun: Instant::now(),
            begun_us: i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX),
            progress,
            stop,
        })
    }

    fn run(mut self) -> Result<(), FeedError> {
        self.begun = Instant::now();
        while !self.stop.load(Ordering::Acquire) {
            let pause = self.turn()?;
            self.producer.poll(pause);
            if let Some((code, reason)) = self.producer.client().fatal_error() {
                self.progress.given_up.get_or_init(|| code);
                return Err(FeedError::Fatal(format!("{code}: {reason}")));
            }
        }
        Ok(self.producer.flush(FLUSH_LIMIT)?)
    }

    /// Sends what is due; returns how long there is nothing to do.
    fn turn(&mut self) -> Result<Duration, FeedError> {
        let elapsed = self.begun.elapsed();
        let due = (elapsed.as_micros() * u128::from(self.rate) / 1_000_000) as u64;
        let now_us = self.begun_us.saturating_add(elapsed.as_micros() as i64);
        self.look_at_reader();
        for _ in 0..BURST_RECORDS {
            if self.events >= due {
                let next_us = u128::from(due + 1) * 1_000_000 / u128::from(self.rate.max(1));
                let until = Duration::from_micros(next_us.saturating_sub(elapsed.as_micros()) as u64);
                return Ok(until.clamp(TURN_MIN, TURN_MAX));
            }
            if self.offer(now_us)? == Offered::Held {
                self.progress.held_turns.fetch_add(1, Ordering::Relaxed);
                return Ok(HELD_TURN);
            }
        }
        Ok(Duration::ZERO)
    }

    /// What the reader has read is no longer ahead of it.
    fn look_at_reader(&mut self) {
        let mut ahead = self.producer.context().ahead();
        for (partition, ahead) in (0..).zip(ahead.iter_mut()) {
            let next = match &self.ahead {
                Some(limit) => (limit.position)(PartitionId(partition)).map_or(0, |next| next.0),
                // Nobody to wait for: what Kafka has answered is done.
                None => u64::MAX,
            };
            ahead.read_to(next);
        }
    }

    fn offer(&mut self, now_us: i64) -> Result<Offered, FeedError> {
        if !self.in_hand {
            self.records.next(now_us, &mut self.record);
            self.in_hand = true;
        }
        let record = &self.record;
        let partition = partition_of(&record.key, self.partitions);
        let bytes = (record.key.len() + record.value.len()) as u64;
        if let Some(limit) = &self.ahead {
            let ahead = self.producer.context().ahead();
            if ahead.get(partition as usize).is_some_and(|ahead| !ahead.has_room(bytes, limit.bytes)) {
                return Ok(Offered::Held);
            }
        }
        let mut kafka_record =
            BaseRecord::<[u8], [u8]>::to(&self.topic).partition(PartitionId(partition).to_kafka()).key(&record.key);
        kafka_record.payload = record.payload();
        match self.producer.send(kafka_record) {
            Ok(()) => {}
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => return Ok(Offered::Held),
            Err((error, _)) => return Err(FeedError::Fatal(error.to_string())),
        }
        if let Some(ahead) = self.producer.context().ahead().get_mut(partition as usize) {
            ahead.sent(bytes);
        }
        self.in_hand = false;
        self.events += record.events;
        self.progress.records.fetch_add(1, Ordering::Relaxed);
        self.progress.events.fetch_add(record.events, Ordering::Relaxed);
        if let Some(kind) = record.poison {
            self.progress.poison[kind as usize].fetch_add(1, Ordering::Relaxed);
        }
        if let Some(counter) = self.progress.partition_bytes.get(partition as usize) {
            counter.fetch_add(bytes, Ordering::Release);
        }
        Ok(Offered::Sent)
    }
}

#[cfg(test)]
#[path = "feeder_tests.rs"]
mod tests;
