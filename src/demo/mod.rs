//! An embedded broker and a generator of believable agent runs.
//!
//! In the order of the data: what agents are (`agents`, `prose`, `tools`), what a run does and how it is said
//! (`script`, `run`, `saying`, `calls`, `state`), many runs as records (`runs`, `poison`, `records`), and their way
//! into Kafka (`feeder`, `broker`). Everything up to `records` is pure: seed and time in, bytes out.
//!
//! Deliberately absent: anything that the gateway does. A demo runs the very gateway that `serve` runs.

pub mod dice;
pub mod agents;
pub mod prose;
pub mod tools;
pub mod manifest;
pub mod script;
pub mod state;
pub mod run;
mod saying;
mod calls;
pub mod runs;
pub mod poison;
pub mod records;
pub mod partitioner;
pub mod ahead;
pub mod broker;
pub mod feeder;

use thiserror::Error;

use crate::cli::DemoOptions;

#[derive(Debug, Error)]
pub enum DemoError {
    #[error("this build has no generator yet: it checks its settings and ends")]
    NotWired,
}

/// Runs until Ctrl-C.
pub fn run(_options: &DemoOptions) -> Result<(), DemoError> {
    Err(DemoError::NotWired)
}
