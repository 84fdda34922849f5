//! Why an event is not accepted, and why a producer cannot be started. What is not accepted comes back to the caller,
//! has no sequence and leaves no gap.

use std::time::Duration;

use super::outgoing::Outgoing;

/// An event that was not accepted, and why. It comes back as it would have left: redacted, if redaction is on.
#[derive(Debug, thiserror::Error)]
#[error("the event was not accepted: {why}")]
pub struct Rejected {
    /// Why not, and what to do.
    #[source]
    pub why: Why,
    /// The event, to be sent later, stored elsewhere, or dropped knowingly.
    pub event: Box<Outgoing>,
}

/// Why an event was not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Why {
    /// The queue holds its limit of events or bytes. Heals as brokers answer: wait, or use `send` with a deadline.
    #[error("the queue is full; wait, or raise queue_events_max or queue_bytes_max")]
    Full,
    /// The tenant has used up its rate.
    #[error("the tenant's rate is used up; again in {0:?}")]
    RateLimited(Duration),
    /// Larger than a limit, in bytes. Sending it again does not help.
    #[error("{bytes} bytes are more than {limit} ({what})")]
    TooLarge {
        /// Which limit: `event_bytes_max` before compression, `record_bytes_max` after it.
        what: &'static str,
        /// What it has.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// Tenant or thread is empty, blank, or longer than [`ID_BYTES_MAX`](super::ID_BYTES_MAX).
    #[error("{0} is blank or longer than {max} bytes", max = super::outgoing::ID_BYTES_MAX)]
    BadId(&'static str),
    /// A batch. Hand over its events one by one: batches are made here, since sequences are.
    #[error("an EventBatch cannot be handed over; hand over its events")]
    Batch,
    /// It cannot be looked into for secrets. Hand it over as JSON, or turn redaction off.
    #[error("{0} cannot be searched for secrets; hand it over as plain JSON, or turn redaction off")]
    Sealed(&'static str),
    /// The producer is being closed.
    #[error("the producer is closed")]
    Closed,
    /// librdkafka gave up idempotence and with it this producer.
    #[error("this producer can send nothing any more; make a new one")]
    Fatal,
    /// librdkafka refused the record at once, for a reason of its own.
    #[error("librdkafka: {0}")]
    Kafka(String),
}

impl Why {
    /// The word in metrics.
    pub fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }

    pub(super) const LABELS: [&'static str; 9] =
        ["queue_full", "rate_limited", "too_large", "bad_id", "batch", "sealed", "closed", "fatal", "kafka"];

    pub(super) fn index(&self) -> usize {
        match self {
            Self::Full => 0,
            Self::RateLimited(_) => 1,
            Self::TooLarge { .. } => 2,
            Self::BadId(_) => 3,
            Self::Batch => 4,
            Self::Sealed(_) => 5,
            Self::Closed => 6,
            Self::Fatal => 7,
            Self::Kafka(_) => 8,
        }
    }
}

/// Why a producer cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option is outside its range.
    #[error("option {option}: {why}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is allowed.
        why: String,
    },
    /// librdkafka refuses the settings.
    #[error("librdkafka refuses the settings: {0}; check access and topic")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// The system gives no thread.
    #[error("no thread for the producer: {0}")]
    Thread(#[from] std::io::Error),
}
