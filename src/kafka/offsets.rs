//! Where partitions begin and end in Kafka, and what was committed: a few questions, each for all partitions at once
//! and with a deadline.
//!
//! The mock cluster answers ListOffsets like a broker, except that it has no transactions (the last stable offset is
//! the high watermark) and answers every timestamp with the end.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::admin::{AskError, OffsetAt, Offsets, list_offsets};
use crate::words::{Offset, PartitionId};

/// One partition's place in Kafka.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionOffsets {
    pub low: Offset,
    pub high: Offset,
    /// The last stable offset.
    pub stable: Offset,
}

/// Low, high and stable offset of every partition whose leader answered all three questions. An error when none did:
/// then Kafka was asked in vain, whatever each leader gave as its reason.
pub fn ends<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: &[PartitionId],
    limit: Duration,
) -> Result<BTreeMap<PartitionId, PartitionOffsets>, AskError> {
    // Asked together but answered in any order: a partition that is appended to meanwhile can show a stable offset
    // beyond its high watermark, which is then too old.
    let at = [OffsetAt::Earliest, OffsetAt::HighWatermark, OffsetAt::LastStable];
    let answers = list_offsets(client, topic, partitions, &at, limit)?;
    let [low, high, stable] = answers.as_slice() else {
        return Err(AskError::Local { request: "ListOffsets" });
    };
    let known = |offsets: &Offsets, partition| offsets.get(&partition).copied().and_then(Result::ok).flatten();
    let mut ends = BTreeMap::new();
    for partition in partitions.iter().copied() {
        let (Some(low), Some(high), Some(stable)) =
            (known(low, partition), known(high, partition), known(stable, partition))
        else {
            continue;
        };
        ends.insert(partition, PartitionOffsets { low, high: high.max(stable), stable });
    }
    if ends.is_empty()
        && let Some(code) = answers.iter().flat_map(Offsets::values).find_map(|answer| answer.as_ref().err())
    {
        return Err(AskError::Refused { request: "ListOffsets", code: *code });
    }
    Ok(ends)
}

/// The first offset of each partition whose record is not older than `timestamp_ms`; absent when no record is, or
/// when the leader did not say.
pub fn at_time<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: &[PartitionId],
    timestamp_ms: i64,
    limit: Duration,
) -> Result<BTreeMap<PartitionId, Offset>, AskError> {
    let answer = ask_time(client, topic, partitions, timestamp_ms, limit)?;
    Ok(answer.into_iter().filter_map(|(partition, offset)| Some((partition, offset.ok().flatten()?))).collect())
}

/// The same, when every leader answered; absent means then that no record is that late.
pub fn at_time_of_all<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: &[PartitionId],
    timestamp_ms: i64,
    limit: Duration,
) -> Result<BTreeMap<PartitionId, Offset>, AskError> {
    let mut found = BTreeMap::new();
    for (partition, offset) in ask_time(client, topic, partitions, timestamp_ms, limit)? {
        let offset = offset.map_err(|code| AskError::Refused { request: "ListOffsets", code })?;
        found.extend(offset.map(|offset| (partition, offset)));
    }
    Ok(found)
}

fn ask_time<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: &[PartitionId],
    timestamp_ms: i64,
    limit: Duration,
) -> Result<Offsets, AskError> {
    let answers = list_offsets(client, topic, partitions, &[OffsetAt::Timestamp(timestamp_ms)], limit)?;
    Ok(answers.into_iter().next().unwrap_or_default())
}

/// A commit as Kafka keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    pub next: Offset,
    pub metadata: String,
}

/// What the group has committed for these partitions. A partition without a commit is absent.
pub fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: &[PartitionId],
    limit: Duration,
) -> Result<BTreeMap<PartitionId, Committed>, AskError> {
    const REQUEST: &str = "OffsetFetch";
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, partition.to_kafka());
    }
    let list = consumer.committed_offsets(list, limit).map_err(|error| refused(REQUEST, &error))?;
    let mut committed = BTreeMap::new();
    for entry in list.elements() {
        if let Err(error) = entry.error() {
            return Err(refused(REQUEST, &error));
        }
        let Some(partition) = PartitionId::from_kafka(entry.partition()) else { continue };
        let KafkaOffset::Offset(offset) = entry.offset() else { continue };
        let Some(next) = Offset::from_kafka(offset) else { continue };
        committed.insert(partition, Committed { next, metadata: entry.metadata().to_owned() });
    }
    Ok(committed)
}

/// The list that a commit call takes.
pub fn commit_list(topic: &str, commits: &BTreeMap<PartitionId, Committed>) -> Result<TopicPartitionList, AskError> {
    let local = AskError::Local { request: "OffsetCommit" };
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for (partition, commit) in commits {
        let mut entry = list.add_partition(topic, partition.to_kafka());
        entry.set_offset(KafkaOffset::Offset(commit.next.to_kafka())).map_err(|_| local.clone())?;
        entry.set_metadata(commit.metadata.as_str());
    }
    Ok(list)
}

fn refused(request: &'static str, error: &KafkaError) -> AskError {
    match error.rdkafka_error_code() {
        Some(code) => AskError::Refused { request, code },
        None => AskError::Refused { request, code: RDKafkaErrorCode::Fail },
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::CommitMode;

    use super::*;
    use crate::kafka::mock::{Mock, TOPIC, until};

    const LIMIT: Duration = Duration::from_secs(10);

    fn all(count: u32) -> Vec<PartitionId> {
        (0..count).map(PartitionId).collect()
    }

    #[test]
    fn all_partitions_are_asked_at_once() {
        let mock = Mock::new(4);
        mock.produce_numbers(1, 0..10);
        mock.produce_numbers(3, 0..3);
        let consumer = mock.consumer();
        let ends = ends(consumer.client(), TOPIC, &all(4), LIMIT).expect("answers");
        let highs: Vec<(u32, u64, u64, u64)> =
            ends.iter().map(|(partition, ends)| (partition.0, ends.low.0, ends.high.0, ends.stable.0)).collect();
        assert_eq!(highs, [(0, 0, 0, 0), (1, 0, 10, 10), (2, 0, 0, 0), (3, 0, 3, 3)]);
    }

    #[test]
    fn a_partition_that_does_not_exist_is_absent() {
        let mock = Mock::new(1);
        mock.produce_numbers(0, 0..1);
        let consumer = mock.consumer();
        let ends = ends(consumer.client(), TOPIC, &[PartitionId(0), PartitionId(9)], LIMIT).expect("answers");
        assert_eq!(ends.keys().copied().collect::<Vec<_>>(), [PartitionId(0)]);
    }

    #[test]
    fn nobody_there_is_an_error_by_the_deadline() {
        let mock = Mock::new(1);
        let consumer = mock.consumer();
        mock.cluster.broker_down(1).expect("down");
        let error = ends(consumer.client(), TOPIC, &all(1), Duration::from_millis(200)).expect_err("nobody answers");
        assert!(matches!(error, AskError::Deadline { .. } | AskError::Refused { .. }), "{error}");
    }

    #[test]
    fn a_commit_comes_back_with_its_metadata() {
        let mock = Mock::new(2);
        let consumer = mock.consumer();
        let none = until("an answer", || committed(&consumer, TOPIC, &all(2), LIMIT).ok());
        assert_eq!(none, BTreeMap::new());
        let commits = BTreeMap::from([(PartitionId(1), Committed { next: Offset(7), metadata: "a b".to_owned() })]);
        let list = commit_list(TOPIC, &commits).expect("a list");
        consumer.commit(&list, CommitMode::Sync).expect("committed");
        assert_eq!(committed(&consumer, TOPIC, &all(2), LIMIT), Ok(commits));
    }
}
