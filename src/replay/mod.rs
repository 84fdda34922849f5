//! Records that are older than the log: the Redis tier, Kafka itself, and the cold readers that serve from them.
//!
//! The log answers first; what it no longer has is read in spans that cover intervals of offsets, and becomes ordinary
//! chunks, judged by the same pure disposition as live ones. Deliberately absent: who asks, and when somebody joins the
//! log again (`broadcast::session`).

pub mod span;
pub mod ask;
pub mod seats;
pub mod cache;
pub mod rebuild;
pub mod kafka;
pub mod reader;
pub mod redis;
