//! How far behind Kafka we are, and whether a partition is stuck.
//!
//! Deliberately absent: what follows from it for readiness and clients.

pub mod arithmetic;
pub mod retention;
pub mod thread;

pub use thread::{Lag, LagError, LagRequest, LagSetup, Watermarks};
