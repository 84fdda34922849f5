//! How a command can fail, and which exit code says so.

use std::path::PathBuf;

use thiserror::Error;

use super::gather::ExplainError;
use super::produce::ProduceError;
use super::simulate::SimulateError;
use super::source::SourceError;
use crate::config::ConfigErrors;
use crate::demo::DemoError;
use crate::gateway::GatewayError;
use crate::topics::TopicsError;

#[derive(Debug, Error)]
pub enum CliError {
    /// Also the answers to `--help` and `--version`, which clap hands over in this way.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Topics(#[from] TopicsError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Explain(#[from] ExplainError),
    #[error(transparent)]
    Produce(#[from] ProduceError),
    #[error(transparent)]
    Simulate(#[from] SimulateError),
    /// Ctrl-C or SIGTERM before anything was there to be shown. Nothing to tell: whoever asked knows.
    #[error("stopped before anything was read")]
    Stopped,
    /// Ctrl-C or SIGTERM before the file of `--to` was complete. Heals by doing it again.
    #[error("stopped before everything was read: {} is as it was", .0.display())]
    Unmade(PathBuf),
    /// The same, where `--to` names what is no file and was written as it is.
    #[error("stopped before everything was read: what {} got is not all", .0.display())]
    CutShort(PathBuf),
    #[error("cannot write {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot read or write")]
    Output(#[from] std::io::Error),
}

impl CliError {
    /// 0 ended in order, 1 failed while running, 2 wrong arguments or settings, 3 topics are not as declared.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Usage(error) => u8::try_from(error.exit_code()).unwrap_or(2),
            CliError::Config(_) | CliError::Explain(_) => 2,
            CliError::Topics(error) | CliError::Gateway(GatewayError::Topics(error)) => error.exit_code(),
            CliError::Gateway(_) | CliError::Demo(_) | CliError::File { .. } => 1,
            CliError::Unmade(_) | CliError::CutShort(_) => 1,
            CliError::Stopped => 0,
            CliError::Source(error) => error.exit_code(),
            CliError::Produce(error) => error.exit_code(),
            CliError::Simulate(error) => error.exit_code(),
            // Whoever closes the pipe early, such as `head`, has what it wanted.
            CliError::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
            CliError::Output(_) => 1,
        }
    }

    /// Nothing to tell a person.
    pub fn is_silent(&self) -> bool {
        match self {
            CliError::Stopped => true,
            CliError::Output(error) => error.kind() == std::io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}
