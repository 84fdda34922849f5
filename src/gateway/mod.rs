//! The house put together: wiring of channels, threads, supervision and shutdown.
//!
//! Deliberately absent: every decision about records, clients and Kafka. What belongs to a room is made by the room;
//! here it gets its ends of the channels and a thread.

pub mod wiring;
pub mod threads;
pub mod partitions;
pub mod commits;
mod start;
mod supervise;

use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;

use crate::config::Loaded;
use crate::dlq::DlqStartError;
use crate::kafka::poll::PollError;
use crate::lag::LagError;
use crate::observe::admin::AdminError;
use crate::observe::exposition::ExpositionError;
use crate::observe::logging::LoggingError;
use crate::observe::stats::Stats;
use crate::topics::TopicsError;

/// Why the gateway did not start, or ended otherwise than it was told to.
#[derive(Debug, Error)]
pub enum GatewayError {
    #[error(
        "{address} cannot be listened on: is another program there? Set server.port (WEBSOCKET_PORT) or server.host (WEBSOCKET_HOST)"
    )]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Logging(#[from] LoggingError),
    #[error(transparent)]
    Exposition(#[from] ExpositionError),
    #[error(transparent)]
    DeadLetters(#[from] DlqStartError),
    #[error(transparent)]
    Poll(#[from] PollError),
    #[error(transparent)]
    Lag(#[from] LagError),
    #[error(transparent)]
    Topics(#[from] TopicsError),
    #[error("the system refused a thread, a socket or a signal handler: look at the limits of the process")]
    System(#[from] std::io::Error),
    #[error("thread {thread} ended: {what}. The process stopped; Kafka holds the data, start it again")]
    ThreadEnded { thread: String, what: String },
}

/// A gateway that runs. Dropping it without [`Running::run_until_stopped`] leaves its threads to the end of the process.
pub struct Running {
    pub stats: Arc<Stats>,
    /// The address of the service port, as the system gave it.
    pub service: SocketAddr,
    pub admin: SocketAddr,
    house: supervise::House,
}

/// Starts every thread. What can fail before the first byte flows, fails here.
pub fn start(loaded: Loaded) -> Result<Running, GatewayError> {
    start::start(loaded)
}

impl Running {
    /// Until SIGTERM, SIGINT, or the end of a thread that should not end; then everything is stopped in order.
    pub fn run_until_stopped(self) -> Result<(), GatewayError> {
        self.house.run_until_stopped()
    }
}

/// `dashstream serve`: logs where it listens, and runs until it is told to stop.
pub fn run(loaded: Loaded) -> Result<(), GatewayError> {
    crate::observe::logging::init(&loaded.config.logging)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if loaded.config.topics.check_at_start {
        crate::topics::require(&loaded.config)?;
    }
    let running = start(loaded)?;
    tracing::info!(service = %running.service, admin = %running.admin, "DashStream listens: http://{}/", running.service);
    running.run_until_stopped()
}
