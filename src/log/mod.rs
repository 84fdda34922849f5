//! Chunk, ring, position, forms: the one structure for live, resume and replay.
//!
//! A chunk covers an interval `[from, next)` of one partition; everything here reasons in such intervals, never in
//! offset ± 1. Deliberately absent: sockets, clocks, Kafka. A ring belongs to one shard and is never shared.

pub mod chunk;
pub mod builder;
pub mod ring;
pub mod forms;
pub mod frame;

pub use builder::ChunkBuilder;
pub use chunk::{Chunk, Entry, Outcome};
pub use forms::Form;
pub use ring::{Evicted, Place, Ring};
