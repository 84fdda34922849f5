//! What is published about ourselves: stats, snapshot, metrics, health, HTTP, logging.

pub mod stats;
