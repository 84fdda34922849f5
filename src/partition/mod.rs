//! What should happen to a record: a worker thread around a pure core.
//!
//! `dispose` says what becomes of one record, from its bytes and the rules alone; `core` applies it to a stream of
//! records and builds chunks; `worker` is the thread. Deliberately absent: who gets a chunk, and how a dead letter is
//! written.

pub mod dispose;
pub mod sequence;
pub mod warm;
pub mod core;
pub mod worker;

pub use core::{Core, Finding, Tally, Verdict};
pub use dispose::{Disposition, Rules};
