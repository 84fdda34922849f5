//! Every channel of the process, made here, next to its bound, the reason for the number, and what happens when it
//! is full.
//!
//! | channel | from → to | bound | full |
//! |---|---|---|---|
//! | inbox | workers, accept, kafka-poll, lag, enc → ws | 256 messages | a worker waits, and thereby Kafka; accept tries the next shard; wake-ups are dropped, since the shard looks anyway |
//! | letters | workers → dlq | 1,024, and `dlq.queue_max_bytes` | the worker of the poison waits (fail_closed) or counts a loss (fail_open) |
//! | to_redis | workers → redis | 8,192 chunks, and `replay.redis.queue_bytes` | the chunk is not written to Redis, and counted: Kafka has it |
//! | commands | workers, lag → kafka-poll | 256 | dropped: the same was asked before |
//! | requests | ws → lag | 1 | dropped: a look is due anyway |
//! | cold requests | ws → cold | one per seat, and 256 questions of time | a session asks again at the next look |
//! | cold answers | cold → ws | one per seat, and 256 | a question of time is asked again; a seat has one request out |
//! | rendering | ws → enc | 64 chunks | the shard asks again at its next look |
//! | ended | every thread → main | 4,096 | cannot be: there are fewer threads |

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Poll, Waker};

use super::threads::Ended;
use crate::broadcast::inbox::{Bell, ShardInbox, ToShard};
use crate::broadcast::shard::WAKE;
use crate::config::{ColdConfig, memory};
use crate::dlq::{DlqChannels, Queued};
use crate::kafka::host::PollCommand;
use crate::lag::LagRequest;
use crate::log::Chunk;
use crate::replay::ask::{ColdAnswer, ColdRequest};
use crate::replay::redis::ToRedis;

/// A worker waits when this many letters wait; the byte budget usually comes first.
const LETTERS: usize = 1_024;
const COMMANDS: usize = 256;
/// Questions of time that may wait beside the requests of those who have a seat.
const TIME_QUESTIONS: usize = 256;
/// Small chunks of a quiet topic come to far less than the byte budget: several seconds of them fit.
const TO_REDIS: usize = 8_192;
/// What an encoder may be behind; each is a reference to a chunk that the log holds anyway.
const RENDERING: usize = 64;
/// More than there can be threads: 1,024 workers and a few dozen others.
const ENDED: usize = 4_096;

/// A shard's inbox, both ends.
pub struct ShardWiring {
    pub poll: Poll,
    pub inbox: Receiver<ToShard>,
    pub bell: Arc<Bell<AtomicBool>>,
    pub sender: ShardInbox,
    pub cold_answers: (Sender<ColdAnswer>, Receiver<ColdAnswer>),
}

/// Both ends of everything.
pub struct Wiring {
    pub shards: Vec<ShardWiring>,
    pub letters: (Sender<Queued>, Receiver<Queued>),
    /// One token says that there is room again.
    pub room: (Sender<()>, Receiver<()>),
    pub commands: (Sender<PollCommand>, Receiver<PollCommand>),
    pub requests: (Sender<LagRequest>, Receiver<LagRequest>),
    /// One per cold reader.
    pub cold_requests: Vec<(Sender<ColdRequest>, Receiver<ColdRequest>)>,
    pub rendering: (Sender<Arc<Chunk>>, Receiver<Arc<Chunk>>),
    pub ended: (Sender<Ended>, Receiver<Ended>),
    /// The deadline of the dlq's flush.
    pub dlq_stop: (Sender<Instant>, Receiver<Instant>),
    pub to_redis: (Sender<ToRedis>, Receiver<ToRedis>),
    /// Until when redis may write what waits.
    pub redis_stop: (Sender<Instant>, Receiver<Instant>),
}

#[allow(clippy::disallowed_methods, reason = "the one place that makes channels")]
impl Wiring {
    pub fn new(shards: u32, cold: &ColdConfig) -> std::io::Result<Self> {
        let seats = cold.max_sessions as usize + TIME_QUESTIONS;
        let shards = (0..shards.max(1)).map(|_| shard(seats)).collect::<std::io::Result<_>>()?;
        Ok(Self {
            shards,
            cold_requests: (0..cold.readers).map(|_| bounded(seats)).collect(),
            letters: bounded(LETTERS),
            room: bounded(1),
            commands: bounded(COMMANDS),
            requests: bounded(1),
            rendering: bounded(RENDERING),
            ended: bounded(ENDED),
            dlq_stop: bounded(1),
            to_redis: bounded(TO_REDIS),
            redis_stop: bounded(1),
        })
    }

    pub fn inboxes(&self) -> Vec<ShardInbox> {
        self.shards.iter().map(|shard| shard.sender.clone()).collect()
    }

    pub fn dlq_channels(&self) -> DlqChannels {
        DlqChannels { letters: self.letters.0.clone(), room: self.room.clone() }
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that makes channels")]
fn shard(seats: usize) -> std::io::Result<ShardWiring> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
    let bell = Arc::new(Bell::new(AtomicBool::new(false)));
    let (sender, inbox) = bounded(memory::SHARD_INBOX_CHUNKS as usize);
    Ok(ShardWiring {
        poll,
        inbox,
        bell: bell.clone(),
        sender: ShardInbox::new(sender, bell, waker),
        cold_answers: bounded(seats),
    })
}

/// A channel that is only ever closed: everybody who waits on the receiver sees that at once.
#[allow(clippy::disallowed_methods, reason = "the one place that makes channels")]
pub fn stop_signal() -> (Sender<()>, Receiver<()>) {
    bounded(0)
}
