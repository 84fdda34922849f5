//! Bytes to events and nothing else: payload framing, protobuf types, bounded decoding.

pub mod generated;

/// What agents send: package `dashstream.v1`.
pub use generated::dashstream_v1 as proto;
/// What clients of `dashstream.v2` and the gateway say to each other: package `dashstream.gateway.v2`.
pub use generated::gateway_v2 as gateway;
