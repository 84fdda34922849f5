//! Where events come from: the one client factory, partition queues, assignment, start offsets, commits, identity.
//!
//! Deliberately absent: what a record means (`partition`), and who listens (`broadcast`).

pub mod host;
pub mod queue;
