//! DashStream: one Kafka topic of agent telemetry, streamed to browsers and tools over WebSocket, live, and honest:
//! a client always knows what it has, what it missed and why.

pub mod words;
#[cfg(feature = "gateway")]
pub mod config;
pub mod wire;

#[cfg(feature = "gateway")]
pub mod kafka;
#[cfg(feature = "gateway")]
pub mod partition;
#[cfg(feature = "gateway")]
pub mod log;
#[cfg(feature = "gateway")]
pub mod broadcast;

#[cfg(feature = "gateway")]
pub mod dlq;
#[cfg(feature = "gateway")]
pub mod lag;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(feature = "gateway")]
pub mod observe;
#[cfg(feature = "gateway")]
pub mod page;
#[cfg(feature = "cli")]
pub mod demo;
#[cfg(feature = "cli")]
pub mod cli;
