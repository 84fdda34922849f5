//! Kafka as a source: a consumer of its own, placed by offset, in no group, that commits nothing.
//!
//! Where the log ends is asked once, at the start; without `follow` that is where reading ends, whatever is appended
//! meanwhile. What retention takes away on the way is told as a gap. Under `follow` brokers that are away are waited
//! for, and which stream the topic is now is asked again and again (`follow`).

mod begin;
mod follow;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::expand::{Expander, Record};
use super::merge::Merge;
use super::{Item, Progress, Source, SourceError};
use crate::config::KafkaConfig;
use crate::kafka::headers;
use crate::kafka::offsets::{self, PartitionOffsets};
use crate::kafka::reading::ReadContext;
use crate::words::header;
use crate::words::{Offset, PartitionId, StreamIdentity};

/// Kafka is asked about offsets and topics for so long.
const ANSWER: Duration = Duration::from_secs(10);
/// Listening in vain for so long, a read that has an end is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// A wait is cut into pieces, so that complaints of librdkafka are seen.
const TICK: Duration = Duration::from_millis(100);
/// Where a live partition begins is looked at this often at most.
const LOOK: Duration = Duration::from_secs(1);
/// Placing a partition anew this often without getting on is no way forward.
const PLACINGS_MAX: u32 = 10;

pub(super) struct KafkaSource {
    consumer: BaseConsumer<ReadContext>,
    kafka: KafkaConfig,
    follow: bool,
    /// New partitions of the topic are read too.
    all_partitions: bool,
    lanes: BTreeMap<PartitionId, Lane>,
    merge: Merge<Held>,
    expander: Expander,
    out: VecDeque<Item>,
    /// How long Kafka was listened to since it last said something.
    silent_for: Duration,
    looked_around_at: Instant,
    /// The stream that is followed, once it is known.
    stream: Option<StreamIdentity>,
    /// Which broker is asked first the next time.
    turn: usize,
    gone_since: Option<Instant>,
    /// What retention took could not be asked for.
    in_doubt: bool,
    /// Since the last record.
    placings: u32,
    live: bool,
    connected: bool,
}

/// One partition.
struct Lane {
    start: Offset,
    /// Of the log, as of the start.
    end: Offset,
    /// What is expected.
    next: Offset,
    over: bool,
    low_known_at: Instant,
}

/// What waits for its turn in the merge.
enum Held {
    Record {
        partition: PartitionId,
        offset: Offset,
        timestamp_ms: Option<i64>,
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        instance: u64,
    },
    /// Boxed, since these are few and large.
    Item(Box<Item>),
}

impl Source for KafkaSource {
    fn next(&mut self, deadline: Instant) -> Result<Item, SourceError> {
        let mut polled = false;
        loop {
            if let Some(item) = self.out.pop_front() {
                return Ok(item);
            }
            if let Some(held) = self.merge.pop() {
                self.release(held);
                continue;
            }
            if !self.follow && self.merge.is_over() {
                return Ok(Item::End);
            }
            if self.follow && !self.live && self.merge.is_caught_up() && self.merge.is_empty() {
                self.live = true;
                return Ok(Item::Live);
            }
            let now = Instant::now();
            if polled && now >= deadline {
                return Ok(Item::Idle);
            }
            let left = deadline.saturating_duration_since(now).min(TICK);
            self.poll(self.merge.due_in().map_or(left, |due| left.min(due)))?;
            self.look_after(Instant::now())?;
            polled = true;
        }
    }

    fn progress(&self) -> Progress {
        let span = |to: Offset, lane: &Lane| to.0.saturating_sub(lane.start.0);
        Progress {
            done: self.lanes.values().map(|lane| span(lane.next, lane)).sum(),
            total: (!self.follow).then(|| self.lanes.values().map(|lane| span(lane.end, lane)).sum()),
        }
    }
}

impl KafkaSource {
    fn release(&mut self, held: Held) {
        match held {
            Held::Item(item) => self.out.push_back(*item),
            Held::Record { partition, offset, timestamp_ms, key, value, instance } => {
                let (key, value) = (key.as_deref(), value.as_deref());
                let record = Record { partition, offset, timestamp_ms, key, value, instance };
                self.expander.expand(&record, &mut self.out);
            }
        }
    }

    fn poll(&mut self, wait: Duration) -> Result<(), SourceError> {
        enum Heard {
            Record(Held, PartitionId, Offset, usize),
            Trouble(KafkaError),
        }
        let began = Instant::now();
        let heard = match self.consumer.poll(wait) {
            None => None,
            Some(Err(error)) => Some(Heard::Trouble(error)),
            Some(Ok(message)) => {
                let place = (PartitionId::from_kafka(message.partition()), Offset::from_kafka(message.offset()));
                let (Some(partition), Some(offset)) = place else { return Ok(()) };
                let bytes = message.payload_len() + message.key_len();
                Some(Heard::Record(copied(&message, partition, offset), partition, offset, bytes))
            }
        };
        let waited = began.elapsed();
        self.merge.listen(waited);
        let said = matches!(heard, Some(Heard::Record(..) | Heard::Trouble(KafkaError::PartitionEOF(_))));
        self.silent_for = if said { Duration::ZERO } else { self.silent_for.saturating_add(waited) };
        match heard {
            None => Ok(()),
            Some(Heard::Record(held, partition, offset, bytes)) => {
                self.take(held, partition, offset, bytes);
                Ok(())
            }
            Some(Heard::Trouble(KafkaError::PartitionEOF(partition))) => match PartitionId::from_kafka(partition) {
                Some(partition) => self.at_end(partition),
                None => Ok(()),
            },
            Some(Heard::Trouble(error)) => self.trouble(error),
        }
    }

    fn take(&mut self, held: Held, partition: PartitionId, offset: Offset, bytes: usize) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        if lane.over || offset < lane.next {
            return;
        }
        self.placings = 0;
        if !self.follow && offset >= lane.end {
            lane.next = lane.end;
            return self.finish(partition);
        }
        lane.next = offset.next();
        let over = !self.follow && lane.next >= lane.end;
        let timestamp_ms = match &held {
            Held::Record { timestamp_ms, .. } => *timestamp_ms,
            Held::Item(_) => None,
        };
        self.merge.push(partition, timestamp_ms, bytes, held);
        if over {
            self.finish(partition);
        }
    }

    /// Reading this partition is over: nothing of it is fetched any more.
    fn finish(&mut self, partition: PartitionId) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        lane.over = true;
        self.merge.close(partition);
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(&self.kafka.topic, partition.to_kafka());
        // Where it cannot be let go, what still comes of it is passed over.
        self.consumer.incremental_unassign(&list).ok();
    }

    /// The partition has nothing more for now. librdkafka also says so in the place of "out of range" when both come
    /// together, so what retention took may have to be asked for.
    fn at_end(&mut self, partition: PartitionId) -> Result<(), SourceError> {
        let Some(lane) = self.lanes.get(&partition) else { return Ok(()) };
        if lane.over {
            return Ok(());
        }
        let doubtful = lane.next < lane.end || self.follow && lane.low_known_at.elapsed() >= LOOK;
        if doubtful && self.skip_what_is_gone(&[partition])? {
            return Ok(());
        }
        let Some(lane) = self.lanes.get_mut(&partition) else { return Ok(()) };
        // Between, there is nothing: transaction markers, what was aborted or compacted.
        lane.next = lane.next.max(lane.end);
        if self.follow {
            self.merge.caught_up(partition);
        } else {
            self.finish(partition);
        }
        Ok(())
    }

    fn trouble(&mut self, error: KafkaError) -> Result<(), SourceError> {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        match code {
            Code::OffsetOutOfRange | Code::AutoOffsetReset => {
                let open: Vec<_> = self.open_lanes().map(|(partition, _)| partition).collect();
                if !self.skip_what_is_gone(&open)? {
                    self.place_anew()?;
                }
                Ok(())
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition if self.follow => self.is_gone(),
            Code::UnknownTopic | Code::UnknownTopicOrPartition => Err(SourceError::NoTopic(self.kafka.topic.clone())),
            _ => {
                self.consumer.context().note(code, &error.to_string());
                Ok(())
            }
        }
    }

    /// Tells a gap where Kafka begins later than what is expected, and goes on there. True if there was one.
    fn skip_what_is_gone(&mut self, partitions: &[PartitionId]) -> Result<bool, SourceError> {
        let ends = match self.ends(partitions, if self.follow { LOOK } else { ANSWER }) {
            Err(SourceError::Unreachable { .. }) if self.follow => {
                self.in_doubt = true;
                return Ok(false);
            }
            ends => ends?,
        };
        let beyond = |(partition, ends): (&PartitionId, &PartitionOffsets)| {
            self.lanes.get(partition).is_some_and(|lane| lane.next > ends.high)
        };
        let ends_earlier = ends.iter().any(beyond);
        if ends_earlier && self.follow {
            let is_other = self.look_around()?;
            if is_other || self.gone_since.is_some() {
                return Ok(is_other);
            }
        }
        if ends_earlier {
            self.out.push_back(Item::StreamChanged);
        }
        let mut moved = false;
        for (partition, PartitionOffsets { low, high, .. }) in ends {
            let Some(lane) = self.lanes.get_mut(&partition) else { continue };
            lane.low_known_at = Instant::now();
            if lane.next > high {
                // A topic that was made again, or that lost its end.
                lane.next = low;
                lane.end = if self.follow { high } else { lane.end.min(high) };
                moved = true;
                continue;
            }
            let low = if self.follow { low } else { low.min(lane.end) };
            if low > lane.next {
                let reason = "retention".to_owned();
                let gap = Item::Gap { partition, from: lane.next, to: low, reason };
                lane.next = low;
                self.merge.push(partition, None, 0, Held::Item(Box::new(gap)));
                moved = true;
            }
        }
        let spent: Vec<_> = self.open_lanes().filter(|(_, lane)| !self.follow && lane.next >= lane.end).collect();
        let spent: Vec<_> = spent.into_iter().map(|(partition, _)| partition).collect();
        for partition in spent {
            self.finish(partition);
        }
        if moved {
            self.place_anew()?;
        }
        Ok(moved)
    }

    /// Every partition that is not over is fetched from where it stands; what was fetched is dropped.
    fn place_anew(&mut self) -> Result<(), SourceError> {
        self.placings += 1;
        if self.placings > PLACINGS_MAX {
            return Err(self.unreachable("offsets are out of range again and again"));
        }
        let list = self.places(self.open_lanes())?;
        self.consumer.assign(&list)?;
        Ok(())
    }

    fn places<'a>(
        &self,
        lanes: impl Iterator<Item = (PartitionId, &'a Lane)>,
    ) -> Result<TopicPartitionList, SourceError> {
        let mut list = TopicPartitionList::new();
        for (partition, lane) in lanes {
            let offset = KafkaOffset::Offset(lane.next.to_kafka());
            list.add_partition_offset(&self.kafka.topic, partition.to_kafka(), offset)?;
        }
        Ok(list)
    }

    fn open_lanes(&self) -> impl Iterator<Item = (PartitionId, &Lane)> {
        self.lanes.iter().filter(|(_, lane)| !lane.over).map(|(partition, lane)| (*partition, lane))
    }

    fn ends(
        &self,
        partitions: &[PartitionId],
        limit: Duration,
    ) -> Result<BTreeMap<PartitionId, PartitionOffsets>, SourceError> {
        offsets::ends(self.consumer.client(), &self.kafka.topic, partitions, limit).map_err(|error| {
            self.consumer.context().note(error.code(), &error.to_string());
            self.unreachable(&error.to_string())
        })
    }

    /// What is wrong with Kafka, if anything.
    fn look_after(&mut self, now: Instant) -> Result<(), SourceError> {
        if let Some(denied) = self.consumer.context().denied() {
            return Err(super::error::denied(&self.kafka, denied));
        }
        if self.follow {
            return self.keep_up(now);
        }
        if self.silent_for > SILENCE && !self.merge.is_caught_up() {
            let why = self.consumer.context().newest().unwrap_or_default();
            return Err(self.unreachable(&why));
        }
        Ok(())
    }

    fn unreachable(&self, why: &str) -> SourceError {
        let context = self.consumer.context();
        match context.denied() {
            Some(denied) => super::error::denied(&self.kafka, denied),
            None => SourceError::Unreachable { brokers: self.kafka.brokers.clone(), why: why.to_owned() },
        }
    }
}

fn copied(message: &BorrowedMessage<'_>, partition: PartitionId, offset: Offset) -> Held {
    Held::Record {
        partition,
        offset,
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        instance: instance(message),
    }
}

/// The producer instance that the headers name, hashed; 0 if they name none.
fn instance(message: &BorrowedMessage<'_>) -> u64 {
    let Some(list) = message.headers() else { return 0 };
    let named = list.iter().filter(|one| one.key.as_bytes() == header::PRODUCER.to_bytes()).last();
    named.and_then(|header| header.value).map_or(0, headers::instance)
}
