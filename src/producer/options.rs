//! What a producer can be told, and what of it is refused.

use std::time::Duration;

use super::dead_letter::{LETTER_BYTES_MAX, LETTERS_BYTES_MAX, LETTERS_MAX};
use super::error::StartError;
use super::lane::{BatchLimits, LaneLimits};
use super::limiter::Limiter;
use super::metrics::Metrics;
use super::outgoing::ID_BYTES_MAX;
use super::redact::Redaction;
use super::tally::EVENT_OVERHEAD_BYTES;
use crate::kafka::connect::client_of;
use crate::wire::framing::{COMPRESS_ABOVE_BYTES, COMPRESSION_LEVEL};
use crate::words::access::Access;

/// Room that librdkafka has beyond ours, for what is counted a little later there than here.
const SLACK_KBYTES: u64 = 1024;
/// librdkafka's own end of the range.
const QUEUE_KBYTES_MAX: u64 = 2_097_151;
/// Key, headers and framing of a record, at most.
const RECORD_FRAME_BYTES: usize = ID_BYTES_MAX + 2048;

/// What a producer is told. Every bound is here; [`Options::new`] has the defaults.
#[derive(Debug)]
pub struct Options {
    /// Where Kafka is, and how to be let in.
    pub access: Access,
    /// Where events go. It has to exist.
    pub topic: String,
    /// Whose events are which name no tenant. 1 to 1024 bytes; `default`.
    pub tenant: String,
    /// Largest event before compression, in bytes, inclusive: 1 KiB to 64 MiB; 1 MiB, which is also what the
    /// predecessor's readers take.
    pub event_bytes_max: usize,
    /// Largest record value after compression, in bytes, inclusive: 1 KiB to 64 MiB; 1,000,000, which every broker
    /// with default settings takes.
    pub record_bytes_max: usize,
    /// Events that are accepted and not settled, at most: 1 to 5,000,000; 100,000. Too low and bursts are refused.
    pub queue_events_max: u32,
    /// Their bytes, with 512 for each record of bookkeeping: 64 KiB to 1.5 GiB; 64 MiB. This is the producer's memory.
    pub queue_bytes_max: u64,
    /// How long an event may be under way: 1 s to 1 h; 30 s. When the oldest one is overdue, everything that is under
    /// way is given up with it, refused or unknown: librdkafka cannot give up one message without the danger that it
    /// sends others twice.
    pub delivery_timeout: Duration,
    /// How long librdkafka gathers records for one request: 0 to 1 s; 5 ms. More is fewer requests and later events.
    pub linger: Duration,
    /// Threads (of agents) whose sequences are remembered: 16 to 10,000,000; 100,000, about 200 bytes each. A thread
    /// that was forgotten begins at 1 again, under another instance, so that consumers see a restart.
    pub threads_max: usize,
    /// Messages above this are compressed, if that makes them smaller, in bytes; 512. `usize::MAX`: never.
    pub compress_above_bytes: usize,
    /// zstd's level, 1 to 22; 3.
    pub compression_level: i32,
    /// Events of a thread sent together, or `None`: each alone.
    pub batching: Option<Batching>,
    /// What is taken out of events before they leave; on.
    pub redaction: Redaction,
    /// How many events a tenant may send, or `None`: any number.
    pub limiter: Option<Limiter>,
    /// Where accepted events go that Kafka refused; their outcome tells it in any case.
    pub on_refused: OnRefused,
    /// How long dropping the producer waits for what is under way; 5 s.
    pub close_timeout: Duration,
    /// Counted there. Keep a clone to register it.
    pub metrics: Metrics,
}

/// Events of a thread sent together, as an `EventBatch`. Only events proper are gathered; other kinds are sent alone,
/// after what was gathered before them. The record limit applies to a batch as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batching {
    /// Events in a batch, at most: 2 to 1000; 100.
    pub events_max: usize,
    /// Bytes before compression, at most: 1 KiB to the record limit less 4 KiB; 256 KiB.
    pub bytes_max: usize,
    /// How long the first event of a batch waits, at most: 1 ms to 60 s, or to half of the delivery timeout, of which it
    /// is a part; 100 ms.
    pub linger: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self { events_max: 100, bytes_max: 256 * 1024, linger: Duration::from_millis(100) }
    }
}

/// Where accepted events go that Kafka refused. Those of unknown outcome go nowhere: they may be on the topic.
#[derive(Default)]
pub enum OnRefused {
    /// Nowhere: the outcome tells it, the caller decides.
    #[default]
    Outcome,
    /// To the caller, with the bytes that would have been the record's. Called on the producer's thread: be quick. Nothing
    /// waits there: see [`Producer`](super::Producer).
    Caller(Box<dyn Fn(&Refused<'_>) + Send + Sync>),
    /// To a dead-letter topic, in an envelope, through the same client. At most 1,000 and 16 MiB are not acknowledged
    /// at a time; what does not fit is counted as dropped. They have no delivery timeout: while the topic takes nothing,
    /// they wait until the producer is closed.
    DeadLetter {
        /// The predecessor's is `dashstream-dlq`.
        topic: String,
    },
}

impl std::fmt::Debug for OnRefused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Outcome => formatter.write_str("Outcome"),
            Self::Caller(_) => formatter.write_str("Caller"),
            Self::DeadLetter { topic } => write!(formatter, "DeadLetter({topic:?})"),
        }
    }
}

/// A record that Kafka refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused<'a> {
    /// Whose it is.
    pub tenant: &'a str,
    /// The record's key.
    pub thread: &'a str,
    /// The framed value.
    pub value: &'a [u8],
    /// Sequences of its first and last event, inclusive.
    pub sequences: (u64, u64),
    /// Why.
    pub reason: super::outcome::Reason,
}

impl Options {
    /// The defaults.
    pub fn new(access: Access, topic: impl Into<String>) -> Self {
        Self {
            access,
            topic: topic.into(),
            tenant: "default".to_owned(),
            event_bytes_max: 1 << 20,
            record_bytes_max: 1_000_000,
            queue_events_max: 100_000,
            queue_bytes_max: 64 << 20,
            delivery_timeout: Duration::from_secs(30),
            linger: Duration::from_millis(5),
            threads_max: 100_000,
            compress_above_bytes: COMPRESS_ABOVE_BYTES,
            compression_level: COMPRESSION_LEVEL,
            batching: None,
            redaction: Redaction::default(),
            limiter: None,
            on_refused: OnRefused::default(),
            close_timeout: Duration::from_secs(5),
            metrics: Metrics::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), StartError> {
        let range = |option, value: u64, least: u64, most: u64, unit| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(StartError::Option { option, why: format!("{value} is not {least} to {most} {unit}") }),
        };
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let named = |option, name: &str, most: usize| match name.trim().is_empty() || name.len() > most {
            false => Ok(()),
            true => Err(StartError::Option { option, why: format!("must be 1 to {most} bytes and not blank") }),
        };
        named("topic", &self.topic, 249)?;
        named("tenant", &self.tenant, ID_BYTES_MAX)?;
        if let OnRefused::DeadLetter { topic } = &self.on_refused {
            named("on_refused", topic, 249)?;
        }
        range("event_bytes_max", self.event_bytes_max as u64, 1024, 64 << 20, "bytes")?;
        range("record_bytes_max", self.record_bytes_max as u64, 1024, 64 << 20, "bytes")?;
        range("queue_events_max", self.queue_events_max.into(), 1, 5_000_000, "events")?;
        range("queue_bytes_max", self.queue_bytes_max, 64 << 10, 3 << 29, "bytes")?;
        range("delivery_timeout", ms(self.delivery_timeout), 1_000, 3_600_000, "ms")?;
        range("linger", ms(self.linger), 0, 1_000, "ms")?;
        range("threads_max", self.threads_max as u64, 16, 10_000_000, "threads")?;
        range("compression_level", u64::try_from(self.compression_level).unwrap_or(0), 1, 22, "")?;
        if let Some(batching) = &self.batching {
            range("batching.events_max", batching.events_max as u64, 2, 1_000, "events")?;
            let most = self.record_bytes_max.saturating_sub(4096).max(1024) as u64;
            range("batching.bytes_max", batching.bytes_max as u64, 1024, most, "bytes")?;
            // What waited for its batch has time left to be delivered.
            let most = (ms(self.delivery_timeout) / 2).min(60_000);
            range("batching.linger", ms(batching.linger), 1, most, "ms")?;
        }
        Ok(())
    }

    pub(super) fn lane(&self, lanes: usize) -> LaneLimits {
        LaneLimits {
            threads_max: self.threads_max.div_ceil(lanes),
            event_bytes_max: self.event_bytes_max,
            record_bytes_max: self.record_bytes_max,
            compress_above_bytes: self.compress_above_bytes,
            compression_level: self.compression_level,
            batch: self.batching.map(|batching| BatchLimits {
                events_max: batching.events_max,
                bytes_max: batching.bytes_max,
                linger: batching.linger,
            }),
        }
    }

    /// What librdkafka is told. Idempotence, all replicas, and nobody else tries again.
    pub(super) fn client(&self) -> rdkafka::ClientConfig {
        let mut config = client_of(&self.access, "dashstream-producer");
        let kbytes = (self.queue_bytes_max + LETTERS_BYTES_MAX) / 1024 + SLACK_KBYTES;
        let messages = u64::from(self.queue_events_max) + LETTERS_MAX as u64 + 1;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5")
            // For ever: the delivery timeout is ours, see `ages`.
            .set("message.timeout.ms", "0")
            .set("linger.ms", self.linger.as_millis().to_string())
            .set("message.max.bytes", (self.value_bytes_max() + RECORD_FRAME_BYTES).to_string())
            .set("queue.buffering.max.messages", messages.to_string())
            .set("queue.buffering.max.kbytes", kbytes.min(QUEUE_KBYTES_MAX).to_string())
            // Messages are compressed by us, or are too small to gain.
            .set("compression.type", "none")
            // What Java's producers choose, so that a thread has one partition whoever writes it.
            .set("partitioner", "murmur2_random")
            .set("allow.auto.create.topics", "false")
            // Only for the count of librdkafka's retries.
            .set("statistics.interval.ms", "5000");
        config
    }

    /// Of records and letters; records have a bound of their own (`lane`).
    fn value_bytes_max(&self) -> usize {
        match self.on_refused {
            OnRefused::DeadLetter { .. } => self.record_bytes_max.max(LETTER_BYTES_MAX),
            OnRefused::Outcome | OnRefused::Caller(_) => self.record_bytes_max,
        }
    }

    /// What the queue may take in all, told in one number for a memory sum.
    pub fn memory_bytes_max(&self) -> u64 {
        self.queue_bytes_max + LETTERS_BYTES_MAX + self.threads_max as u64 * 200 + EVENT_OVERHEAD_BYTES
    }
}
