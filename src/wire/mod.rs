//! Bytes to events and nothing else: payload framing, protobuf types, bounded decoding.
//!
//! A Kafka value goes through [`inflate`] (framing, decompression under a limit) to a body, and the body through
//! [`scan`] to what the path of an event needs. What becomes of a record is not decided here.

pub mod generated;
pub mod refusal;
pub mod framing;
pub mod inflate;
mod schema;
pub mod scan;
#[cfg(feature = "gateway")]
pub mod json;
#[cfg(any(feature = "gateway", feature = "producer"))]
pub mod state_hash;

/// What agents send: package `dashstream.v1`.
pub use generated::dashstream_v1 as proto;
/// What clients of `dashstream.v2` and the gateway say to each other: package `dashstream.gateway.v2`.
pub use generated::gateway_v2 as gateway;
pub use refusal::Refusal;
