//! The producer library: events out of an application, to Kafka, and the truth about what became of each.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use dashstream::producer::{Access, Event, EventType, Options, Outgoing, Producer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = Producer::start(Options::new(Access::plaintext("localhost:9092"), "dashstream-quality"))?;
//! let event = Event::of(EventType::NodeStart, "plan").with("attempt", 1);
//! let ticket = producer.send(Outgoing::new("run-1", event), Duration::from_secs(1))?;
//! println!("{:?}", ticket.wait(Duration::from_secs(30)));
//! producer.close(Duration::from_secs(5));
//! # Ok(())
//! # }
//! ```
//!
//! An event goes (`engine`): checked, limited ([`Limiter`]), redacted, numbered and framed under its lane's lock (`lane`), handed to
//! librdkafka, settled with one [`Outcome`] on the producer's thread (`delivery`). What is refused before it is numbered
//! comes back as [`Rejected`] and leaves no gap; what Kafka refuses later leaves a real one, which its outcome names.
//!
//! Invariants: an accepted event gets exactly one outcome; the records of a thread are handed over in the order of their
//! sequences; nobody but librdkafka tries again, and it only where a broker can tell a repetition; every queue and table has a bound in [`Options`].
//!
//! Deliberately absent: reading the environment or files, a retry of our own, an async interface, a global instance.

mod outcome;
mod error;
mod options;
mod outgoing;
mod handle;
mod engine;
mod ticket;
mod lane;
mod sequence;
mod instance;
mod flight;
mod delivery;
mod reports;
mod topic;
mod settling;
mod tally;
mod ages;
mod dead_letter;
mod limiter;
mod redact;
mod state;
mod metrics;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

pub use crate::wire::state_hash::{canonical_json, state_hash};
pub use error::{Rejected, StartError, Why};
pub use handle::{Flushed, Producer};
#[cfg(feature = "limiter-redis")]
pub use limiter::RedisUrlError;
pub use limiter::bucket::RateError;
pub use limiter::{Limiter, Rate};
pub use metrics::Metrics;
pub use options::{Batching, OnRefused, Options, Refused};
pub use outcome::{Outcome, Reason};
pub use outgoing::{ID_BYTES_MAX, Outgoing};
pub use redact::{REDACTED, Redaction, Secrets};
pub use state::{StateTracker, Told};
pub use ticket::Ticket;

/// The messages that can be sent, as generated from `proto/dashstream.proto`.
pub use crate::wire::proto;
pub use crate::wire::proto::{AttributeValue, Event, EventType};
pub use crate::words::access::{Access, AddressFamily, SaslMechanism, Secret, SecurityConfig, SecurityProtocol};
pub use crate::words::{Offset, PartitionId};

/// What the producer's locks guard is whole also where somebody panicked.
fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

/// µs since the epoch, for people and records; never for intervals.
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
