//! The third tier: Kafka itself, read by offset with a consumer that belongs to no group and commits nothing.
//!
//! Reading goes by quanta. The consumer stays where a quantum ended, so that whoever asks for what follows finds it
//! fetched already. Deliberately absent: who asks (`reader`), and what is kept (`cache`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::rebuild::{Makings, take};
use crate::config::KafkaConfig;
use crate::kafka::client::{Purpose, client_config};
use crate::kafka::offsets;
use crate::kafka::watch::{AskContext, BrokerWatch};
use crate::log::Chunk;
use crate::observe::stats::{Stats, monotonic_ms};
use crate::words::{GapReason, Offset, PartitionId};

/// Bytes of values in one quantum, about: one fetch.
pub const QUANTUM_BYTES: u64 = 1 << 20;

/// A quantum that has something ends after this.
const QUANTUM: Duration = Duration::from_millis(100);

/// One that has nothing is given up after this.
const PATIENCE: Duration = Duration::from_secs(2);

/// Kafka did not answer in time, or refused. Heals by itself; whoever asks is told to come back.
#[derive(Debug, thiserror::Error)]
#[error("Kafka could not be read")]
pub struct KafkaDown;

/// One per cold reader.
pub struct KafkaReader {
    kafka: KafkaConfig,
    stats: Arc<Stats>,
    /// Made with the first stream: one more client that knocks where nobody is let in helps nobody.
    consumer: Option<Arc<BaseConsumer<AskContext>>>,
    topic: String,
    /// What the consumer will hand over next, if it is assigned at all.
    at: Option<(PartitionId, Offset)>,
}

impl KafkaReader {
    pub fn new(kafka: &KafkaConfig, stats: Arc<Stats>) -> Self {
        Self { kafka: kafka.clone(), stats, consumer: None, topic: kafka.topic.clone(), at: None }
    }

    /// Fails only if librdkafka refuses the settings, which it took for other clients; no broker has to be there.
    fn open(&mut self) -> Result<Arc<BaseConsumer<AskContext>>, KafkaDown> {
        if let Some(consumer) = &self.consumer {
            return Ok(consumer.clone());
        }
        let context = AskContext(BrokerWatch::new("cold", self.stats.clone()));
        let consumer = BaseConsumer::from_config_and_context(&client_config(&self.kafka, Purpose::Cold), context);
        let consumer = Arc::new(consumer.map_err(|error| {
            tracing::error!(%error, "a cold reader's Kafka client cannot be made");
            KafkaDown
        })?);
        Ok(self.consumer.insert(consumer).clone())
    }

    /// Lets librdkafka run its callbacks while nobody asks, and is ready for the first who will.
    pub fn rest(&mut self, stream_is_known: bool) {
        let wanted = self.at.is_none() && (stream_is_known || self.consumer.is_some());
        if wanted && let Ok(consumer) = self.open() {
            consumer.poll(Duration::ZERO);
        }
    }

    /// Another stream: what was fetched is of the old one.
    pub fn forget(&mut self) {
        self.at = None;
        if let Some(Err(error)) = self.consumer.as_ref().map(|consumer| consumer.unassign()) {
            tracing::debug!(%error, "unassign");
        }
    }

    /// The chunks from `want` on, never beyond `until`, about a quantum of them. What Kafka no longer has is a chunk
    /// that says so. Never empty.
    pub fn read(
        &mut self,
        makings: &Makings,
        partition: PartitionId,
        want: Offset,
        until: Offset,
    ) -> Result<Vec<Arc<Chunk>>, KafkaDown> {
        let started = Instant::now();
        let consumer = self.open()?;
        let mut placed_now = self.stand_at(partition, want)?;
        let mut core = makings.core(partition, want);
        let mut chunks = Vec::new();
        let mut bytes = 0;
        while bytes < QUANTUM_BYTES && core.next() < until {
            let has_some = core.next() > want;
            let limit = if has_some { QUANTUM } else { PATIENCE };
            let Some(left) = limit.checked_sub(started.elapsed()) else { break };
            match consumer.poll(left) {
                None => {}
                Some(Ok(message)) => {
                    let Some(offset) = Offset::from_kafka(message.offset()) else { continue };
                    if message.partition() != partition.to_kafka() || offset < core.next() {
                        continue;
                    }
                    if offset >= until {
                        // It is the log's; between, there is nothing.
                        core.cover(until);
                        self.at = None;
                        break;
                    }
                    take(&mut core, offset, message.timestamp().to_millis(), message.payload());
                    bytes += message.payload_len() as u64;
                    self.at = Some((partition, core.next()));
                    if core.is_full() {
                        chunks.extend(core.finish(monotonic_ms()).0);
                    }
                }
                // It stands at the end of what may be read, which is not before the log's: the rest never were records.
                Some(Err(KafkaError::PartitionEOF(end))) if end == partition.to_kafka() && placed_now => {
                    core.cover(until);
                }
                // That was the end when this consumer was asked before, and waited in its queue since. Records may
                // have come; what a new placing finds is of now.
                Some(Err(KafkaError::PartitionEOF(end))) if end == partition.to_kafka() => {
                    self.at = None;
                    placed_now = self.stand_at(partition, core.next())?;
                }
                // Of a partition that was read before.
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => {
                    self.at = None;
                    if !has_some && is_out_of_range(&error) {
                        return self.gone(makings, partition, want, until);
                    }
                    consumer.context().0.count(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail));
                    if has_some {
                        break;
                    }
                    placed_now = self.stand_at(partition, want)?;
                }
            }
        }
        chunks.extend(core.finish(monotonic_ms()).0);
        if chunks.is_empty() {
            self.at = None;
            return Err(KafkaDown);
        }
        Ok(chunks)
    }

    /// Per partition the first offset of that time; absent when no record is that late. All leaders must answer.
    pub fn at_time(
        &mut self,
        partitions: &[PartitionId],
        timestamp_ms: i64,
    ) -> Result<BTreeMap<PartitionId, Offset>, KafkaDown> {
        let consumer = self.open()?;
        offsets::at_time_of_all(consumer.client(), &self.topic, partitions, timestamp_ms, PATIENCE).map_err(|error| {
            consumer.context().0.count(error.code());
            KafkaDown
        })
    }

    /// True: it was placed there now, and nothing that was fetched before is handed over any more.
    fn stand_at(&mut self, partition: PartitionId, want: Offset) -> Result<bool, KafkaDown> {
        if self.at == Some((partition, want)) {
            return Ok(false);
        }
        let consumer = self.open()?;
        let mut list = TopicPartitionList::with_capacity(1);
        let offset = KafkaOffset::Offset(want.to_kafka());
        let assigned =
            list.add_partition_offset(&self.topic, partition.to_kafka(), offset).and_then(|()| consumer.assign(&list));
        if let Err(error) = assigned {
            tracing::warn!(partition = partition.0, offset = want.0, %error, "a cold reader cannot be placed");
            return Err(KafkaDown);
        }
        self.at = Some((partition, want));
        Ok(true)
    }

    /// Kafka begins later than what is wanted.
    fn gone(
        &mut self,
        makings: &Makings,
        partition: PartitionId,
        want: Offset,
        until: Offset,
    ) -> Result<Vec<Arc<Chunk>>, KafkaDown> {
        let (low, _) =
            self.open()?.fetch_watermarks(&self.topic, partition.to_kafka(), PATIENCE).map_err(|_| KafkaDown)?;
        let low = Offset::from_kafka(low).ok_or(KafkaDown)?.min(until);
        if low <= want {
            return Err(KafkaDown);
        }
        Ok(makings.lost(partition, want, low, GapReason::Retention).into_iter().collect())
    }
}

fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset))
}

#[cfg(test)]
mod tests {
    use rdkafka_sys as native;

    use super::*;
    use crate::kafka::mock::{Mock, TOPIC, settings, until};
    use crate::observe::stats::Gauge;
    use crate::partition::dispose::Rules;
    use crate::words::StreamIdentity;

    const PARTITION: PartitionId = PartitionId(0);

    fn reader(mock: &Mock) -> (KafkaReader, Makings) {
        let stream = StreamIdentity { cluster_id: "c".into(), topic: TOPIC.into(), topic_id: [1; 16] };
        let makings = Makings {
            stream: Arc::new(stream),
            rules: Rules { payload_max_bytes: 1 << 20, schema_exact: false },
            chunk_bytes: 64 * 1024,
            live_bytes: Arc::new(Gauge::default()),
        };
        let stats = Arc::new(Stats::default());
        (KafkaReader::new(&settings(&mock.brokers()), stats), makings)
    }

    /// What one question after the other gives until `end` is covered: the offsets of the records.
    fn read(reader: &mut KafkaReader, makings: &Makings, from: u64, end: u64) -> Vec<u64> {
        let (mut next, mut offsets) = (Offset(from), Vec::new());
        while next < Offset(end) {
            let chunks = until("an answer", || reader.read(makings, PARTITION, next, Offset(end)).ok());
            for chunk in chunks {
                assert_eq!(chunk.from, next, "consecutive");
                offsets.extend(chunk.entries().iter().map(|entry| entry.offset.0));
                next = chunk.next;
            }
        }
        assert_eq!(next, Offset(end), "never beyond what was asked for");
        offsets
    }

    /// What the consumer has to hand over and nobody has taken.
    fn queued(reader: &KafkaReader) -> usize {
        let consumer = reader.consumer.as_ref().expect("it has read before");
        // SAFETY: the client lives as long as the reader; the reference to its queue is given back below.
        let queue = unsafe { native::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        // SAFETY: the queue was taken above.
        let length = unsafe { native::rd_kafka_queue_length(queue) };
        // SAFETY: the reference that was taken above.
        unsafe { native::rd_kafka_queue_destroy(queue) };
        length
    }

    /// A reader stood at the end of what there was, and was told so after it had stopped listening. By the time that it
    /// was asked again there was more, and the old end was taken for the end of that: the records in between became
    /// holes, which no client is told of.
    #[test]
    fn an_end_that_was_told_before_does_not_hide_what_came_after() {
        let mock = Mock::new(1);
        mock.produce_numbers(0, 0..10);
        let (mut reader, makings) = reader(&mock);
        assert_eq!(read(&mut reader, &makings, 0, 10), (0..10).collect::<Vec<_>>());
        until("the end to be told", || (queued(&reader) > 0).then_some(()));
        mock.produce_numbers(0, 10..20);
        assert_eq!(read(&mut reader, &makings, 10, 20), (10..20).collect::<Vec<_>>());
    }

    /// Markers and aborted records at the end: nothing comes for these offsets, however long one waits.
    #[test]
    fn what_is_no_record_at_the_end_is_covered() {
        let mock = Mock::new(1);
        mock.produce_numbers(0, 0..10);
        let (mut reader, makings) = reader(&mock);
        assert_eq!(read(&mut reader, &makings, 0, 15), (0..10).collect::<Vec<_>>());
        assert_eq!(read(&mut reader, &makings, 10, 17), [0u64; 0]);
    }
}
