//! Chunks that cold readers made lately, shared by all of them, so that many who come back at once are served by one
//! reading. Bounded in bytes; the chunk that was not asked for longest goes first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::log::Chunk;
use crate::words::{Offset, PartitionId};

/// See the module.
#[derive(Debug)]
pub struct ChunkCache {
    inner: Mutex<Inner>,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: BTreeMap<(PartitionId, Offset), Cached>,
    /// Turn of the last look to key: the first is the one to go.
    order: BTreeMap<u64, (PartitionId, Offset)>,
    turn: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Cached {
    chunk: Arc<Chunk>,
    /// As counted when it was put in: forms that are made later count in the chunk's own gauge.
    bytes: u64,
    turn: u64,
}

impl ChunkCache {
    pub fn new(bytes_max: u64) -> Self {
        Self { inner: Mutex::new(Inner::default()), bytes_max }
    }

    /// Consecutive chunks from the one that covers `want` on, of about `bytes_max` bytes, none beyond `until`. Empty:
    /// it is not here.
    pub fn find(&self, partition: PartitionId, want: Offset, until: Offset, bytes_max: u64) -> Vec<Arc<Chunk>> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut next = want;
        let mut inner = self.lock();
        while bytes < bytes_max {
            let before = inner.chunks.range(..=(partition, next)).next_back();
            let Some((key, chunk)) = before.map(|(key, cached)| (*key, cached.chunk.clone())) else { break };
            if key.0 != partition || chunk.next <= next || chunk.next > until {
                break;
            }
            inner.touch(key);
            bytes += chunk.bytes();
            next = chunk.next;
            found.push(chunk);
        }
        found
    }

    pub fn put(&self, chunk: Arc<Chunk>) {
        let bytes = chunk.bytes();
        if bytes > self.bytes_max {
            return;
        }
        let key = (chunk.partition, chunk.from);
        let mut inner = self.lock();
        inner.take(key);
        inner.turn += 1;
        let turn = inner.turn;
        inner.bytes += bytes;
        inner.order.insert(turn, key);
        inner.chunks.insert(key, Cached { chunk, bytes, turn });
        while inner.bytes > self.bytes_max {
            let Some((_, oldest)) = inner.order.first_key_value().map(|(turn, key)| (*turn, *key)) else { break };
            inner.take(oldest);
        }
    }

    /// Another stream.
    pub fn clear(&self) {
        *self.lock() = Inner::default();
    }

    /// Held only for a few look-ups, by cold readers alone.
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn touch(&mut self, key: (PartitionId, Offset)) {
        self.turn += 1;
        let turn = self.turn;
        if let Some(cached) = self.chunks.get_mut(&key) {
            self.order.remove(&std::mem::replace(&mut cached.turn, turn));
            self.order.insert(turn, key);
        }
    }

    fn take(&mut self, key: (PartitionId, Offset)) {
        if let Some(cached) = self.chunks.remove(&key) {
            self.order.remove(&cached.turn);
            self.bytes -= cached.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ChunkBuilder;
    use crate::observe::stats::Gauge;
    use crate::words::{DropReason, StreamIdentity};

    /// A chunk that covers `[from, next)` and holds one dead letter, so that it has some bytes.
    fn chunk(partition: u32, from: u64, next: u64) -> Arc<Chunk> {
        let stream = Arc::new(StreamIdentity { cluster_id: "c".into(), topic: "t".into(), topic_id: [1; 16] });
        let partition = PartitionId(partition);
        let mut builder = ChunkBuilder::new(partition, Offset(from), 1024, stream, Arc::new(Gauge::default()));
        builder.withhold(Offset(from), None, crate::log::Outcome::DeadLettered(DropReason::InvalidProtobuf));
        builder.cover(Offset(next));
        builder.finish(0).expect("a chunk")
    }

    fn check(cache: &ChunkCache, partition: u32, want: u64, until: u64, expected: &[(u64, u64)]) {
        let found = cache.find(PartitionId(partition), Offset(want), Offset(until), u64::MAX);
        let found: Vec<_> = found.iter().map(|chunk| (chunk.from.0, chunk.next.0)).collect();
        assert_eq!(found, expected, "{partition}: {want}..{until}");
    }

    #[test]
    fn what_is_consecutive_is_found() {
        let cache = ChunkCache::new(1 << 20);
        for (partition, from, next) in [(0, 0, 10), (0, 10, 20), (0, 30, 40), (1, 20, 30)] {
            cache.put(chunk(partition, from, next));
        }
        check(&cache, 0, 0, 100, &[(0, 10), (10, 20)]);
        check(&cache, 0, 5, 100, &[(0, 10), (10, 20)]);
        check(&cache, 0, 19, 100, &[(10, 20)]);
        check(&cache, 0, 20, 100, &[]);
        check(&cache, 0, 35, 100, &[(30, 40)]);
        check(&cache, 1, 19, 100, &[]);
        // Never beyond what the log has.
        check(&cache, 0, 0, 15, &[(0, 10)]);
        check(&cache, 2, 0, 100, &[]);
        cache.clear();
        check(&cache, 0, 0, 100, &[]);
    }

    #[test]
    fn the_one_not_asked_for_longest_goes_first() {
        let one = chunk(0, 0, 10).bytes();
        let cache = ChunkCache::new(one * 2);
        cache.put(chunk(0, 0, 10));
        cache.put(chunk(0, 20, 30));
        check(&cache, 0, 0, 100, &[(0, 10)]);
        cache.put(chunk(0, 40, 50));
        check(&cache, 0, 20, 100, &[]);
        check(&cache, 0, 0, 100, &[(0, 10)]);
        check(&cache, 0, 40, 100, &[(40, 50)]);
    }
}
