//! Where events come from: the one client factory, partition queues, assignment, start offsets, commits, identity.
//!
//! Deliberately absent: what a record means (`partition`), and who listens (`broadcast`).

pub mod connect;
pub(crate) mod oauth;
#[cfg(feature = "gateway")]
pub mod client;
#[cfg(feature = "gateway")]
pub mod watch;
#[cfg(feature = "gateway")]
pub mod refusal;
#[cfg(feature = "gateway")]
mod certificate;
#[cfg(feature = "gateway")]
pub mod key;
#[cfg(feature = "gateway")]
pub mod queue;
#[cfg(feature = "gateway")]
pub mod headers;
#[cfg(feature = "gateway")]
pub mod host;
#[cfg(feature = "gateway")]
pub mod admin;
#[cfg(feature = "gateway")]
pub mod manage;
#[cfg(feature = "gateway")]
pub mod identity;
#[cfg(feature = "gateway")]
pub mod offsets;
#[cfg(feature = "gateway")]
pub mod metadata;
#[cfg(feature = "gateway")]
pub mod start;
#[cfg(feature = "gateway")]
pub mod commit;
#[cfg(feature = "gateway")]
pub mod commit_queue;
#[cfg(feature = "gateway")]
pub mod context;
#[cfg(feature = "gateway")]
pub mod reading;
#[cfg(feature = "gateway")]
pub mod control;
#[cfg(feature = "gateway")]
mod session;
#[cfg(feature = "gateway")]
pub mod poll;
#[cfg(all(test, feature = "gateway"))]
pub(crate) mod mock;
