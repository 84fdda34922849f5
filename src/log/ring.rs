//! A shard's ring of recent chunks, all partitions in the order in which this shard got them.
//!
//! A client stands at a sequence number of this ring. Deliberately absent: clients (`broadcast`), and what to do
//! about somebody who stands where nothing is left (`broadcast::session`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Chunk;
use crate::words::{Offset, PartitionId};

/// See the module.
#[derive(Debug, Default)]
pub struct Ring {
    chunks: VecDeque<Arc<Chunk>>,
    /// Sequence of the oldest chunk; the head is this plus the number of chunks.
    tail: u64,
    partitions: BTreeMap<PartitionId, PartitionLog>,
}

/// One partition inside a ring, known even when no chunk of it is left.
#[derive(Debug)]
struct PartitionLog {
    /// Where each chunk of the partition begins, and its sequence; both ascend.
    index: VecDeque<(Offset, u64)>,
    /// Invariant: `oldest` is the first of `index`, or `next` when that is empty.
    oldest: Offset,
    next: Offset,
    /// It is ours. One that was taken away keeps its place, so that it can go on there.
    held: bool,
}

/// Where the next wanted offset of a client lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the chunk with this sequence, or at the head of the ring when it is the partition's `next`.
    InLog { sequence: u64 },
    /// Older than the log.
    Before { oldest: Offset },
    /// Beyond the log's `next`.
    Ahead { next: Offset },
    /// This partition is not in the log.
    Absent,
}

/// What an eviction took away: a range of sequences, and where each partition's coverage in it began and ended.
#[derive(Debug, Default)]
pub struct Evicted {
    /// `(sequence, partition, from, next)`, ascending sequence.
    pub chunks: Vec<(u64, PartitionId, Offset, Offset)>,
}

impl Ring {
    /// The sequence that the next chunk will get: where a live client stands.
    pub fn head(&self) -> u64 {
        self.tail + self.chunks.len() as u64
    }

    /// The sequence of the oldest chunk; equal to the head when there is none.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub fn chunk(&self, sequence: u64) -> Option<&Arc<Chunk>> {
        self.chunks.get(usize::try_from(sequence.checked_sub(self.tail)?).ok()?)
    }

    /// The partition is ours from `at` on. Known already: it goes on where it is, and `at` must be that place.
    pub fn open(&mut self, partition: PartitionId, at: Offset) {
        let log = self.partitions.entry(partition).or_insert_with(|| PartitionLog {
            index: VecDeque::new(),
            oldest: at,
            next: at,
            held: true,
        });
        assert!(log.next == at, "a partition goes on at the log's own next");
        log.held = true;
    }

    /// The partition is no longer ours: its chunks stay until they are evicted, but nobody can ask for it.
    pub fn close(&mut self, partition: PartitionId) {
        if let Some(log) = self.partitions.get_mut(&partition) {
            log.held = false;
        }
    }

    /// The stream is another one: nothing of the old one may be served.
    pub fn clear(&mut self) {
        self.tail = self.head();
        self.chunks.clear();
        self.partitions.clear();
    }

    /// A chunk that continues its partition. Returns false, and takes nothing, for a partition that is not open:
    /// the last chunk of a worker that was told to stop.
    pub fn append(&mut self, chunk: Arc<Chunk>) -> bool {
        let sequence = self.head();
        let Some(log) = self.partitions.get_mut(&chunk.partition).filter(|log| log.held) else { return false };
        assert!(log.next == chunk.from, "a chunk begins where the one before ended");
        assert!(chunk.next > chunk.from, "a chunk covers something");
        if log.index.is_empty() {
            log.oldest = chunk.from;
        }
        log.index.push_back((chunk.from, sequence));
        log.next = chunk.next;
        self.chunks.push_back(chunk);
        true
    }

    /// `(partition, oldest, next)` of every partition that is ours, ascending.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, Offset, Offset)> + '_ {
        let held = self.partitions.iter().filter(|(_, log)| log.held);
        held.map(|(partition, log)| (*partition, log.oldest, log.next))
    }

    /// The same, and of those that are no longer ours: what is left of their logs is still sent to who stands before
    /// it, and a session keeps its place in them, since they may come back.
    pub fn logs(&self) -> impl Iterator<Item = (PartitionId, Offset, Offset)> + '_ {
        self.partitions.iter().map(|(partition, log)| (*partition, log.oldest, log.next))
    }

    /// Where the log of a partition begins and ends, whoever holds it now.
    pub fn log(&self, partition: PartitionId) -> Option<(Offset, Offset)> {
        self.partitions.get(&partition).map(|log| (log.oldest, log.next))
    }

    /// The same of one that is ours: what may be asked for.
    pub fn bounds(&self, partition: PartitionId) -> Option<(Offset, Offset)> {
        self.partitions.get(&partition).filter(|log| log.held).map(|log| (log.oldest, log.next))
    }

    /// Where `want`, the first offset that a client still needs, lies, whoever holds the partition now.
    pub fn find(&self, partition: PartitionId, want: Offset) -> Place {
        let Some(log) = self.partitions.get(&partition) else { return Place::Absent };
        if want < log.oldest {
            return Place::Before { oldest: log.oldest };
        }
        if want > log.next {
            return Place::Ahead { next: log.next };
        }
        if want == log.next {
            return Place::InLog { sequence: self.head() };
        }
        let after = log.index.partition_point(|(from, _)| *from <= want);
        let sequence = after.checked_sub(1).and_then(|place| log.index.get(place)).map(|(_, sequence)| *sequence);
        Place::InLog { sequence: sequence.unwrap_or_else(|| self.head()) }
    }

    /// The first offset of `partition` from which on all records of the log are of this time or later, by chunks from
    /// the newest back: looking ends at a chunk that holds an older record. `None`: the newest is older.
    pub fn since(&self, partition: PartitionId, timestamp_ms: i64) -> Option<Offset> {
        let log = self.partitions.get(&partition)?;
        let mut first = None;
        for (_, sequence) in log.index.iter().rev() {
            let entries = self.chunk(*sequence)?.entries();
            for entry in entries.iter().rev() {
                if entry.timestamp_ms < timestamp_ms {
                    return first;
                }
                first = Some(entry.offset);
            }
        }
        first
    }

    /// The first offset of `partition` that somebody standing at `sequence` has not passed.
    pub fn next_at(&self, partition: PartitionId, sequence: u64) -> Option<Offset> {
        let log = self.partitions.get(&partition)?;
        let place = log.index.partition_point(|(_, other)| *other < sequence);
        Some(log.index.get(place).map_or(log.next, |(from, _)| *from))
    }

    /// The tail after taking away the oldest chunks as long as `more` says so; the newest always stays.
    pub fn tail_after(&self, mut more: impl FnMut(&Arc<Chunk>) -> bool) -> u64 {
        let spare = self.chunks.len().saturating_sub(1);
        self.tail + self.chunks.iter().take(spare).take_while(|chunk| more(chunk)).count() as u64
    }

    /// Takes away everything below `tail`.
    pub fn evict_to(&mut self, tail: u64) -> Evicted {
        let mut evicted = Evicted::default();
        while self.tail < tail {
            let Some(chunk) = self.chunks.pop_front() else { break };
            evicted.chunks.push((self.tail, chunk.partition, chunk.from, chunk.next));
            if let Some(log) = self.partitions.get_mut(&chunk.partition)
                && log.index.front().is_some_and(|(_, sequence)| *sequence == self.tail)
            {
                log.index.pop_front();
                log.oldest = log.index.front().map_or(log.next, |(from, _)| *from);
            }
            self.tail += 1;
        }
        evicted
    }
}

impl Evicted {
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// What somebody who stood at `sequence` had not passed: per partition `(from, next)`, in no order. Coverage of a
    /// partition has no holes, so one interval says it.
    pub fn missed_from(&self, sequence: u64) -> BTreeMap<PartitionId, (Offset, Offset)> {
        let start = self.chunks.partition_point(|(other, ..)| *other < sequence);
        let mut missed: BTreeMap<PartitionId, (Offset, Offset)> = BTreeMap::new();
        for (_, partition, from, next) in &self.chunks[start..] {
            missed.entry(*partition).and_modify(|range| range.1 = *next).or_insert((*from, *next));
        }
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{ChunkBuilder, Outcome};
    use crate::observe::stats::Gauge;
    use crate::words::{DropReason, StreamIdentity};

    #[test]
    fn what_is_of_a_time_or_later_is_found_from_the_newest_back() {
        let mut ring = Ring::default();
        let partition = PartitionId(3);
        ring.open(partition, Offset(10));
        assert_eq!(ring.since(partition, 0), None);
        // Two records in each chunk, one each second, and one without a time before all of them.
        let identity = Arc::new(StreamIdentity { cluster_id: "c".into(), topic: "t".into(), topic_id: [1; 16] });
        for from in [10, 12, 14] {
            let gauge = Arc::new(Gauge::default());
            let mut builder = ChunkBuilder::new(partition, Offset(from), 1 << 16, Arc::clone(&identity), gauge);
            for offset in from..from + 2 {
                let timestamp_ms = (offset > 10).then_some(offset as i64 * 1_000);
                builder.withhold(Offset(offset), timestamp_ms, Outcome::DeadLettered(DropReason::InvalidProtobuf));
            }
            assert!(ring.append(builder.finish(0).expect("a chunk")));
        }
        let check = |timestamp_ms: i64, expected: Option<u64>| {
            assert_eq!(ring.since(partition, timestamp_ms), expected.map(Offset), "{timestamp_ms}");
        };
        check(0, Some(11));
        check(12_000, Some(12));
        check(12_500, Some(13));
        check(15_000, Some(15));
        check(15_001, None);
        assert_eq!(ring.since(PartitionId(4), 0), None);
    }
}
