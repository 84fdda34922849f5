//! Where events come from: the one client factory, partition queues, assignment, start offsets, commits, identity.
//!
//! Deliberately absent: what a record means (`partition`), and who listens (`broadcast`).

pub mod client;
pub mod watch;
mod oauth;
pub mod queue;
pub mod headers;
pub mod host;
pub mod admin;
pub mod identity;
pub mod offsets;
pub mod metadata;
pub mod start;
pub mod commit;
pub mod commit_queue;
pub mod context;
pub mod reading;
pub mod control;
mod session;
pub mod poll;
#[cfg(test)]
pub(crate) mod mock;
