//! What is published about ourselves: stats, snapshot, metrics, health, HTTP, logging.

pub mod stats;
pub mod replay_stats;
pub mod clients;
pub mod snapshot;
pub mod process;
pub mod window;
pub mod verdict;
pub mod build;
pub mod metrics;
pub mod exposition;
pub mod health;
pub mod http;
pub mod render;
pub mod admin;
pub mod logging;
pub mod throttle;
#[cfg(test)]
mod fixture;
