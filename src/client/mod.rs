//! The reference client: reads a stream over `dashstream.v2`, blocking, and never loses its place.
//!
//! ```no_run
//! use dashstream::client::{Client, DecodeError, Event, FileStore, Flow, Start};
//!
//! let mut client = Client::builder("ws://127.0.0.1:3002")
//!     .start(Start::Earliest) // where there is no cursor yet
//!     .store(FileStore::new("my.cursor"))
//!     .build()?;
//! client.run(|event| {
//!     match event {
//!         Event::Record(record) => println!("{} {}: {:?}", record.partition, record.offset, record.message()?),
//!         Event::Gap { first, last, reason, .. } => eprintln!("{first} to {last} are lost: {reason}"),
//!         Event::Disconnected { why, retry_in } => eprintln!("{why}; again in {retry_in:?}"),
//!         _ => {}
//!     }
//!     Ok::<_, DecodeError>(Flow::Continue)
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! - It connects again by itself after any end of a connection, and goes on where it was.
//! - The cursor moves only after the handler returned `Ok`. A handler that fails ends [`Client::run`] with the cursor
//!   before the event that failed.
//! - Per partition every offset comes once and in order, or is named by a [`Event::Gap`], [`Event::DeadLettered`] or
//!   [`Event::Truncated`], or never was a record. [`Event::Future`] alone goes back: Kafka itself lost what was there.
//! - The server is checked. One that repeats, goes back, or passes over something without a word is a
//!   [`ProtocolError`]. Under a filter it may pass over records: that is what a filter is for.
//! - A cursor is never used for another stream than the one it came from.
//!
//! What a store has may be up to [`Builder::save_interval`] behind the handler when the process is killed: then what
//! was handled in that time comes again.
//!
//! # How it is built
//!
//! `conversation` is the core, and pure: frames in, events and frames to say out. `track` is one partition of it,
//! `plan` says how to ask for a cursor, `backoff` when to come back. `socket` and `shell` are the thin rest, with the
//! only clock. Deliberately absent: threads (the caller's is used), queues (events of one frame wait, no more), TLS
//! (put a proxy before the gateway), JSON.

mod event;
mod error;
mod cursor;
mod store;
mod file_store;
mod options;
mod decode;
mod track;
mod plan;
mod conversation;
mod backoff;
mod handle;
mod socket;
mod shell;

#[cfg(test)]
mod conversation_tests;
#[cfg(test)]
mod tests;

pub use crate::wire::gateway::Hello;
pub use crate::wire::proto;
pub use backoff::Reconnect;
pub use cursor::Cursor;
pub use decode::{DECODED_BYTES_MAX, DecodeError, Decoder};
pub use error::{ClientError, ConfigError, ProtocolError, RunError, StoreError, Why};
pub use event::{Event, Flow, Record};
pub use file_store::FileStore;
pub use handle::Handle;
pub use options::{Builder, Filter, Run, Start};
pub use shell::Client;
pub use store::{CursorStore, MemoryStore};
