//! How reading Kafka begins: is the topic there, where do its partitions begin and end, where are we to begin.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::MetadataTopic;

use super::super::merge::Merge;
use super::super::{Ask, From, Item, SourceError, error};
use super::{ANSWER, Held, KafkaSource, Lane, TICK};
use crate::cli::source::expand::Expander;
use crate::cli::stop::Stop;
use crate::config::KafkaConfig;
use crate::kafka::client::{Purpose, client_config};
use crate::kafka::identity::identify;
use crate::kafka::offsets;
use crate::kafka::reading::ReadContext;
use crate::words::PartitionId;

/// The brokers seem to speak another protocol: so long another one may still answer.
const DOUBT: Duration = Duration::from_secs(2);

impl KafkaSource {
    /// Asks where the topic begins and ends, and begins to fetch. `None`: somebody asked to end meanwhile.
    pub(in crate::cli::source) fn open(
        kafka: &KafkaConfig,
        ask: &Ask,
        stop: &Stop,
    ) -> Result<Option<Self>, SourceError> {
        let config = client_config(kafka, Purpose::Read);
        let consumer: BaseConsumer<ReadContext> =
            BaseConsumer::from_config_and_context(&config, ReadContext::default())?;
        let payload_max = usize::try_from(kafka.payload_max_bytes).unwrap_or(usize::MAX);
        let now = Instant::now();
        let mut source = Self {
            consumer,
            kafka: kafka.clone(),
            follow: ask.follow,
            all_partitions: ask.partitions.is_empty(),
            lanes: Default::default(),
            merge: Merge::default(),
            expander: Expander::new(ask.filter.clone(), payload_max),
            out: VecDeque::new(),
            silent_for: Duration::ZERO,
            looked_around_at: now,
            stream: None,
            turn: 0,
            gone_since: None,
            in_doubt: false,
            placings: 0,
            live: false,
            connected: true,
        };
        let Some(count) = source.partition_count(stop)? else { return Ok(None) };
        if let Some(wrong) = ask.partitions.iter().find(|partition| partition.0 >= count) {
            return Err(SourceError::NoPartition { topic: kafka.topic.clone(), count, partition: wrong.0 });
        }
        let all = (0..count).map(PartitionId).collect();
        let partitions: Vec<_> = if ask.partitions.is_empty() { all } else { ask.partitions.clone() };
        if ask.follow {
            // Before any offset, so that these are of this stream or of a later one.
            source.stream =
                identify(source.consumer.client(), &kafka.topic, 0, ANSWER).ok().map(|found| found.identity);
        }
        source.place(&partitions, ask.from, ANSWER)?;
        // What the brokers said while they were not there yet is over.
        source.consumer.context().is_well();
        Ok(Some(source))
    }

    /// Waits for the brokers, but not longer than it takes to know that they refuse us.
    fn partition_count(&self, stop: &Stop) -> Result<Option<u32>, SourceError> {
        let began = Instant::now();
        let mut doubted_since = None;
        while !stop.is_asked() {
            let failed = match self.consumer.fetch_metadata(Some(&self.kafka.topic), 5 * TICK) {
                Ok(metadata) => {
                    let topic = metadata.topics().iter().find(|topic| topic.name() == self.kafka.topic);
                    match topic.map(|topic| (state(topic), topic.partitions().len())) {
                        Some((Code::NoError, count)) if count > 0 => {
                            return Ok(Some(u32::try_from(count).unwrap_or(0)));
                        }
                        None | Some((Code::UnknownTopicOrPartition | Code::UnknownTopic, _)) => {
                            return Err(SourceError::NoTopic(self.kafka.topic.clone()));
                        }
                        Some((code, _)) => {
                            self.consumer.context().note(code, &code.to_string());
                            code.to_string()
                        }
                    }
                }
                Err(error) => error.to_string(),
            };
            // Lets librdkafka tell us what is wrong.
            let _nothing_is_assigned = self.consumer.poll(TICK / 10);
            if let Some(denied) = self.consumer.context().denied() {
                return Err(error::denied(&self.kafka, denied));
            }
            let doubted = self.consumer.context().doubt().is_some_and(|doubt| doubt.kind.needs_a_human());
            let doubted_for = doubted.then(|| doubted_since.get_or_insert_with(Instant::now).elapsed());
            if began.elapsed() > ANSWER || doubted_for.is_some_and(|doubted_for| doubted_for > DOUBT) {
                let context = self.consumer.context();
                return Err(match (context.denied(), context.doubt()) {
                    (None, Some(refusal)) => SourceError::Refused(refusal.looked_into(&self.kafka.security)),
                    _ => self.unreachable(&context.newest().unwrap_or(failed)),
                });
            }
        }
        Ok(None)
    }

    pub(super) fn place(&mut self, partitions: &[PartitionId], from: From, limit: Duration) -> Result<(), SourceError> {
        let ends = self.ends(partitions, limit)?;
        let at_time = match from {
            From::Time(timestamp_ms) => {
                offsets::at_time_of_all(self.consumer.client(), &self.kafka.topic, partitions, timestamp_ms, limit)
                    .map_err(|error| self.unreachable(&error.to_string()))?
            }
            _ => Default::default(),
        };
        for partition in partitions.iter().copied() {
            let Some(found) = ends.get(&partition) else {
                return Err(self.unreachable(&format!("nobody leads partition {partition}")));
            };
            // What a transaction still holds back has no end yet.
            let end = found.stable;
            let start = from.offset(found.low, end, at_time.get(&partition).copied());
            let next = start.max(found.low).min(end);
            let over = !self.follow && next >= end;
            self.merge.open(partition);
            if start < next {
                let gap = Item::Gap { partition, from: start, to: next, reason: "retention".to_owned() };
                self.merge.push(partition, None, 0, Held::Item(Box::new(gap)));
            }
            if over {
                self.merge.close(partition);
            } else if next >= end {
                self.merge.caught_up(partition);
            }
            self.lanes.insert(partition, Lane { start: next, end, next, over, low_known_at: Instant::now() });
        }
        let open: Vec<_> = self.open_lanes().filter(|(partition, _)| partitions.contains(partition)).collect();
        if !open.is_empty() {
            let list = self.places(open.into_iter())?;
            self.consumer.incremental_assign(&list)?;
        }
        Ok(())
    }
}

fn state(topic: &MetadataTopic) -> Code {
    topic.error().map_or(Code::NoError, Code::from)
}
