//! An embedded broker and a generator of believable agent runs.

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
