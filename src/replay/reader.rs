//! The cold readers: a small fixed pool of threads that answer what sessions ask from below the log. First what was
//! read lately, then Redis, then Kafka.
//!
//! One request is one quantum, in the order in which they came, so that nobody waits for somebody else's whole replay.
//! A partition always asks the same reader, which then goes on where it stands. An answer is never waited for by the
//! reader: a session has one request out at a time, and the channel back holds one for every seat.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::ask::{ColdAnswer, ColdRequest, Found, Wish};
use super::cache::ChunkCache;
use super::kafka::{KafkaReader, QUANTUM_BYTES};
use super::rebuild::Makings;
use super::redis::RedisReader;
use crate::broadcast::inbox::ShardInbox;
use crate::config::Config;
use crate::log::Chunk;
use crate::observe::stats::{Heartbeat, ReplayTier, Stats};
use crate::words::{Offset, PartitionId};

/// How often an idle reader shows that it lives.
const IDLE: Duration = Duration::from_millis(200);

/// Bytes of chunks in one answer, about: what one session holds at a time.
pub const ANSWER_BYTES: u64 = 256 * 1024;

/// The stream as it is now, shared with whoever assigns.
#[derive(Debug)]
pub struct StreamNow {
    pub makings: Makings,
    pub partition_count: u32,
}

/// See the module.
pub struct ColdReader {
    pub requests: Receiver<ColdRequest>,
    /// By shard.
    pub answers: Vec<(Sender<ColdAnswer>, ShardInbox)>,
    pub config: Arc<Config>,
    pub kafka: KafkaReader,
    pub cache: Arc<ChunkCache>,
    pub stream: Arc<ArcSwapOption<StreamNow>>,
    /// All live chunks that are not the log's: above this, nothing more is read for anybody.
    pub bytes_max: u64,
    pub stats: Arc<Stats>,
    pub heartbeat: Arc<Heartbeat>,
}

impl ColdReader {
    /// The body of the thread.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut known: Option<Arc<StreamNow>> = None;
        let mut redis: Option<RedisReader> = None;
        while !stop.load(Ordering::Acquire) {
            self.heartbeat.beat();
            let request = match self.requests.recv_timeout(IDLE) {
                Ok(request) => request,
                Err(RecvTimeoutError::Timeout) => {
                    self.kafka.rest(self.stream.load().is_some());
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let stream = self.stream.load_full();
            if !same(&known, &stream) {
                self.cache.clear();
                self.kafka.forget();
                let identity = stream.as_ref().map(|stream| stream.makings.stream.clone());
                redis = identity.and_then(|stream| RedisReader::new(self.config.clone(), self.stats.clone(), &stream));
                known = stream;
            }
            let found = match &known {
                Some(stream) => self.find(stream, &mut redis, &request.wish),
                None => Found::Unavailable,
            };
            self.answer(request, found);
        }
    }

    fn answer(&self, request: ColdRequest, found: Found) {
        let sender = request.sender;
        let Some((answers, inbox)) = self.answers.get(sender.shard) else { return };
        if answers.try_send(ColdAnswer { sender, found }).is_err() {
            // More questions of time than seats: the session asks again.
            tracing::debug!(shard = sender.shard, "an answer found no room");
        }
        inbox.wake();
    }

    fn find(&mut self, stream: &StreamNow, redis: &mut Option<RedisReader>, wish: &Wish) -> Found {
        match *wish {
            Wish::Read { partition, want, until } => self.read(stream, redis, partition, want, until),
            Wish::AtTime { timestamp_ms } => {
                let partitions: Vec<_> = (0..stream.partition_count).map(PartitionId).collect();
                match self.kafka.at_time(&partitions, timestamp_ms) {
                    Ok(offsets) => Found::AtTime(offsets),
                    Err(_) => Found::Unavailable,
                }
            }
        }
    }

    fn read(
        &mut self,
        stream: &StreamNow,
        redis: &mut Option<RedisReader>,
        partition: PartitionId,
        want: Offset,
        until: Offset,
    ) -> Found {
        let cached = self.cache.find(partition, want, until, ANSWER_BYTES);
        if !cached.is_empty() {
            self.stats.replay.quanta[ReplayTier::Cache as usize].add(1);
            return Found::Chunks(cached);
        }
        if self.stats.cold_bytes.get() > self.bytes_max {
            // What nobody holds goes; what sessions hold they let go when their sockets are full.
            self.cache.clear();
            if self.stats.cold_bytes.get() > self.bytes_max {
                return Found::Unavailable;
            }
        }
        match redis.as_mut().map(|redis| redis.read(partition, want, until, QUANTUM_BYTES as usize)) {
            Some(Ok(spans)) if !spans.is_empty() => {
                return self.found(ReplayTier::Redis, stream.makings.chunks(partition, want, &spans));
            }
            // It is a cache: what it does not have, or does not say, Kafka has.
            Some(Ok(_)) | None => {}
            Some(Err(_)) => self.stats.replay.failures[ReplayTier::Redis as usize].add(1),
        }
        match self.kafka.read(&stream.makings, partition, want, until) {
            Ok(chunks) => {
                let chunks = self.not_in_redis(&stream.makings, partition, chunks);
                self.found(ReplayTier::Kafka, chunks)
            }
            Err(_) => {
                self.stats.replay.failures[ReplayTier::Kafka as usize].add(1);
                Found::Unavailable
            }
        }
    }

    /// What Kafka no longer has is lost only up to where Redis begins.
    fn not_in_redis(&self, makings: &Makings, partition: PartitionId, chunks: Vec<Arc<Chunk>>) -> Vec<Arc<Chunk>> {
        let [chunk] = chunks.as_slice() else { return chunks };
        let oldest = self.stats.redis.bounds.load().get(&partition).map(|(oldest, _)| *oldest);
        match (chunk.lost, oldest) {
            (Some(reason), Some(oldest)) if chunk.from < oldest && oldest < chunk.next => {
                makings.lost(partition, chunk.from, oldest, reason).into_iter().collect()
            }
            _ => chunks,
        }
    }

    /// Keeps all of it, and answers with as much as one session should hold.
    fn found(&self, tier: ReplayTier, chunks: Vec<Arc<Chunk>>) -> Found {
        self.stats.replay.quanta[tier as usize].add(1);
        let mut bytes = 0;
        let mut answer = Vec::new();
        for chunk in chunks {
            self.stats.replay.records[tier as usize].add(u64::from(chunk.delivered()));
            self.cache.put(chunk.clone());
            if bytes < ANSWER_BYTES {
                bytes += chunk.bytes();
                answer.push(chunk);
            }
        }
        Found::Chunks(answer)
    }
}

fn same(known: &Option<Arc<StreamNow>>, now: &Option<Arc<StreamNow>>) -> bool {
    match (known, now) {
        (Some(known), Some(now)) => Arc::ptr_eq(known, now) || known.makings.stream == now.makings.stream,
        (None, None) => true,
        _ => false,
    }
}

/// A quantum of Kafka is several answers, so that the next ones come out of the cache.
const _: () = assert!(QUANTUM_BYTES > ANSWER_BYTES);
