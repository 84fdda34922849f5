//! What the promise files stand on: a real Kafka, the shipped binary as a process, and clients written from the
//! contract alone. Nothing here imports the crate: a reader that shares code with what it judges proves little.
//!
//! Deliberately absent: sleeps (everything waits for something, with a deadline) and fixed ports.

pub mod wait;
pub mod ports;
pub mod rng;
pub mod proto;
pub mod corpus;
pub mod kafka;
pub mod broker;
pub mod secured;
pub mod redis;
pub mod http;
pub mod gateway;
pub mod socket;
pub mod v1;
pub mod json;
pub mod v2;
pub mod ledger;
pub mod load;
pub mod hostile;
pub mod browser;
pub mod seeded;
pub mod golden;
pub mod command;
pub mod pty;
pub mod story;
