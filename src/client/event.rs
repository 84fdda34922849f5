//! What a client is told.

use std::time::Duration;

use super::Hello;
use super::decode::{DecodeError, Decoder};
use super::error::Why;
use crate::wire::proto::DashStreamMessage;

/// One record of a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub partition: u32,
    pub offset: u64,
    /// Kafka's timestamp, ms since the epoch; `None` if the record has none.
    pub timestamp_ms: Option<i64>,
    /// The Kafka value, unchanged, with its framing byte.
    pub value: Vec<u8>,
}

impl Record {
    /// The message in the value. For many records a [`Decoder`] that is kept is faster.
    ///
    /// # Errors
    /// When the value is no message, or one larger than [`super::DECODED_BYTES_MAX`].
    pub fn message(&self) -> Result<DashStreamMessage, DecodeError> {
        Decoder::default().message(&self.value)
    }
}

/// Everything that a client can be told. An event counts as applied when the handler returned `Ok` for it.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection stands, and this is what the gateway holds.
    Hello(Box<Hello>),
    /// Where a partition goes on, by the gateway's answer.
    Resumed {
        partition: u32,
        from: u64,
    },
    Record(Record),
    /// Records that will not come: `first` to `last`, inclusive. `slow_client`, `retention`, `null` ...
    Gap {
        partition: u32,
        first: u64,
        last: u64,
        reason: String,
    },
    /// A record that nobody gets, since it is none of ours; `id` is its key in the dead-letter topic.
    DeadLettered {
        partition: u32,
        offset: u64,
        reason: String,
        id: String,
    },
    /// The log begins at `oldest`, later than `wanted`: what lies between will not come. It goes on at `oldest`.
    Truncated {
        partition: u32,
        wanted: u64,
        oldest: u64,
        reason: String,
    },
    /// The cursor was beyond Kafka's own end: Kafka lost what was there. The partition goes back to `newest`.
    Future {
        partition: u32,
        wanted: u64,
        newest: u64,
    },
    /// The topic has no such partition (any more).
    UnknownPartition {
        partition: u32,
    },
    /// Another host of the group holds the partition.
    NotHere {
        partition: u32,
    },
    /// Nothing of this partition for now. It is asked for again after `retry_in`.
    Unavailable {
        partition: u32,
        retry_in: Duration,
    },
    /// The topic was made again, or truncated. The cursor is forgotten; the new stream begins at the configured start.
    /// `now`: the name of the new one, where it is known already.
    StreamChanged {
        was: String,
        now: Option<String>,
    },
    /// The replay waits for its turn, and begins by itself.
    Waiting,
    /// This client takes less than arrives; from here on it is told gaps.
    FallingBehind,
    /// Everything below these offsets came, or was withheld by the filter: partition and next offset.
    Progress {
        next: Vec<(u32, u64)>,
    },
    /// The search for a run is through this partition: `[from, to)` was looked at, and before live nothing else. It
    /// ends before what is live where the gateway's limit on a search was reached.
    Searched {
        partition: u32,
        from: u64,
        to: u64,
    },
    /// A change by the [`super::Handle`] is in effect: `subscribe`, `pause` or `continue`. What the filter before
    /// withheld does not come any more.
    Applied {
        what: String,
    },
    /// What there was has come; from here on it is live. `replayed`: records since the connection began.
    Live {
        replayed: u64,
    },
    /// There is no connection. The next one is tried after `retry_in`.
    Disconnected {
        why: Why,
        retry_in: Duration,
    },
}

/// What [`super::Client::run`] does after an event that was handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    Continue,
    /// End, with this event applied and the cursor saved.
    Stop,
}
