//! The second tier: what left the log, kept in Redis for clients that were away for a while.
//!
//! It is a cache and nothing else. A record that is not there, not believed, or not answered for in time is read from
//! Kafka; contiguity is proven on read, since every entry says which interval it covers. Redis that is slow, full,
//! away or wiped costs replays their speed and nobody anything else: workers offer chunks and never wait.
//!
//! Hosts of one stream share entries: keys name the stream only ([`keys`]), and an entry that is written twice, or cut
//! otherwise by another host, is as good as the first. An interval that is lost to us (`lost`) is not written: another
//! host may have had it, and Kafka knows what it no longer has.
//!
//! One address is spoken to: a Redis cluster is not followed (a `MOVED` counts as a refusal), nor is Sentinel; what is
//! reached after a failover is a cache that may have lost its newest entries, and is read as what it has.
//!
//! Deliberately absent: which tier is asked when, and what clients are told (`replay`, `broadcast::session`).

pub mod entry;
pub mod keys;
mod cover;
pub mod inlet;
mod gather;
mod upkeep;
pub mod writer;
pub mod reader;
pub mod legacy;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod trouble_tests;
use thiserror::Error;

use crate::redis_link as link;

pub use crate::observe::stats::RedisBounds;
pub use inlet::{RedisInlet, RedisSender, ToRedis};
pub use reader::RedisReader;
pub use writer::{RedisWriter, RedisWriterOptions};

/// Redis did not answer, refused, or did so a moment ago. Heals by itself; Kafka serves meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("Redis is not reachable")]
pub struct RedisDown;

impl From<link::Failure> for RedisDown {
    fn from(_: link::Failure) -> Self {
        RedisDown
    }
}
