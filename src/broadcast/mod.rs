//! Who is listening: accept, shards, sessions and the three protocols.
//!
//! A shard is one thread with a mio loop that owns its clients, its ring of chunks and nothing shared. `session` is
//! the pure core of one client. Deliberately absent: Kafka, and any queue per client: a client has a position.

pub mod inbox;
pub mod session;
pub mod filter;
pub mod runs;
pub mod decoder;
pub mod protocol;
pub mod frames;
pub mod handshake;
pub mod addresses;
pub mod accept;
pub mod shard;
pub mod encoder;
