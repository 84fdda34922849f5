//! Where the reading commands get their events from: Kafka itself, a gateway, or an exported file, all as one stream
//! of [`Item`]s.
//!
//! Whatever the source, batches are expanded, every kind of message comes, partitions are merged by the records' time
//! (see [`merge`]), the order of offsets within a partition is kept, and what is missing, repeated or unreadable is an
//! item of its own. Kafka is read without a group: nothing is committed, and nothing is left behind.
//!
//! ```text
//! let ask = reading::ask(matches)?;                  // flags of a command, made by reading::with_flags
//! let Some(mut source) = source::open(&ask, &stop)? else { return Err(CliError::Stopped) };
//! loop {
//!     match source.next(Instant::now() + Duration::from_millis(100))? {
//!         Item::Event(seen) => …,                    // matches the filter of `ask` already
//!         Item::End => break,
//!         Item::Idle | … => {}
//!     }
//! }
//! ```
//!
//! Deliberately absent: what is done with an event, and how it is shown.

pub mod start;
pub mod filter;
pub mod merge;
pub mod order;
mod expand;
mod kafka;
mod gateway;
mod file;
mod split;
pub(super) mod tap;
pub mod objects;
mod thaw;
pub mod error;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::stop::Stop;
use crate::config::KafkaConfig;
use crate::wire::proto::DashStreamMessage;
use crate::words::{Offset, PartitionId};

pub use error::SourceError;
pub use filter::Filter;
pub use start::From;

/// One event. An `EventBatch` never comes: its events do, one by one.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    pub partition: PartitionId,
    pub offset: Offset,
    /// Kafka's timestamp of the record, ms since the epoch; `None` if the record has none.
    pub timestamp_ms: Option<i64>,
    /// The record's key, where the source knows it: Kafka does, a gateway does not say.
    pub key: Option<Vec<u8>>,
    /// Position within a batch, from 0; 0 for a record that is one message.
    pub index_in_record: u32,
    /// Never empty, never a batch.
    pub message: DashStreamMessage,
}

/// Everything that a source can say. Offsets of one partition only go up.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all items are events, and few exist at a time")]
pub enum Item {
    Event(Seen),
    /// A record that holds no event.
    Bad(Bad),
    /// Records that will not come: `[from, to)` of a partition. `retention`, `slow_client` ...
    Gap {
        partition: PartitionId,
        from: Offset,
        to: Offset,
        reason: String,
    },
    /// Sequences that were passed over within a thread: events that their producer lost, or that are not in what is
    /// read. Told before the event that shows it.
    Missing {
        tenant: String,
        thread: String,
        /// The sequences `[from, to)`.
        from: u64,
        to: u64,
    },
    /// The event that comes next has the message id of one that came before.
    Duplicate {
        partition: PartitionId,
        offset: Offset,
        tenant: String,
        thread: String,
        sequence: u64,
    },
    /// The end of the log as of the start is reached; what comes now is new. Only under `follow`, and once.
    Live,
    /// The connection to the gateway stands (again).
    Connected,
    /// The connection to the gateway is lost; the place is kept, and it is tried again.
    Disconnected {
        why: String,
        retry_in: Duration,
    },
    /// The topic was made again: what follows is another stream. Offsets begin anew.
    StreamChanged,
    /// Nothing came by the deadline.
    Idle,
    /// All that was asked for has come. Stays so.
    End,
}

/// A record without an event: nobody can read it, or nothing is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bad {
    pub partition: PartitionId,
    pub offset: Offset,
    pub timestamp_ms: Option<i64>,
    /// A label: those of [`crate::words::DropReason`], `null` for a tombstone, `no_content` for a message without
    /// one and for a batch without events.
    pub reason: String,
    /// The sentence for people.
    pub detail: String,
}

/// How far a source is, for a progress bar.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// Offsets (or bytes of a file) read so far.
    pub done: u64,
    /// Of how many, where that is known: the end of the log as of the start.
    pub total: Option<u64>,
}

/// Reads on one thread, the caller's.
pub trait Source {
    /// What comes next; [`Item::Idle`] when nothing came by `deadline`.
    ///
    /// # Errors
    /// When trying again would not help. The source is over then.
    fn next(&mut self, deadline: Instant) -> Result<Item, SourceError>;

    fn progress(&self) -> Progress;
}

/// Where from.
#[derive(Clone, Debug)]
pub enum Place {
    /// Settings as `serve` has them: brokers, topic, security.
    Kafka(Box<KafkaConfig>),
    /// `ws://host:port`.
    Gateway(String),
    /// What `export` wrote, as json or jsonl.
    File(PathBuf),
}

/// What a command wants to read.
#[derive(Clone, Debug)]
pub struct Ask {
    pub place: Place,
    pub from: From,
    /// Empty: all.
    pub partitions: Vec<PartitionId>,
    pub filter: Filter,
    /// Go on after the end of the log as of the start.
    pub follow: bool,
}

/// Begins to read. `None`: somebody asked to end while brokers or a gateway were waited for.
///
/// # Errors
/// When what is asked for is not there or makes no sense, with the next step to take.
pub fn open(ask: &Ask, stop: &Stop) -> Result<Option<Box<dyn Source>>, SourceError> {
    fn boxed(source: impl Source + 'static) -> Box<dyn Source> {
        Box::new(source)
    }
    Ok(match &ask.place {
        Place::Kafka(kafka) => kafka::KafkaSource::open(kafka, ask, stop)?.map(boxed),
        Place::Gateway(url) => gateway::GatewaySource::open(url, ask, stop)?.map(boxed),
        Place::File(path) => Some(boxed(file::FileSource::open(path, ask)?)),
    })
}
