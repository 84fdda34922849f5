//! A transactional topic: aborted records and markers are holes. Committed records arrive exactly, no gap is told, and
//! cursor, commit and lag reach the end although the last offset is no record.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::corpus;
use crate::harness::gateway::Setup;
use crate::harness::json::JsonClient;
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::v1::V1Client;
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn transactions_are_holes() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("transactions", 2);
    let setup = Setup::new(&kafka, &topic)
        .set("KAFKA_LAG_CHECK_INTERVAL_SECS", 1)
        .set("DASHSTREAM_KAFKA_COMMIT_INTERVAL", "1s");
    let mut gateway = setup.start();
    let (mut v1, mut json) = (V1Client::connect(gateway.ws()), JsonClient::connect(gateway.ws()));
    v1.resume_in(&gateway.stream(), &std::collections::BTreeMap::new());
    let producer = kafka.producer_with(&topic, &[("transactional.id", &topic), ("transaction.timeout.ms", "180000")]);
    producer.init_transactions();
    let mut index = 0;
    for transaction in 0..12u64 {
        producer.begin();
        for _ in 0..5 {
            (0..2).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index)));
            index += 1;
        }
        // The last one is taken back: the end of the topic is aborted records and a marker.
        if transaction % 3 == 2 { producer.abort() } else { producer.commit() }
    }
    let committed = kafka.read(&topic);
    let ends: Vec<u64> = (0..2).map(|partition| kafka.watermarks(&topic, partition).1 as u64).collect();
    assert_eq!(committed.len(), 80, "what a reader of committed records gets");
    assert!(ends.iter().all(|end| *end == 72), "60 records and 12 markers in each: {ends:?}");

    let (mut v1_ledger, mut json_ledger) = (Ledger::new(), Ledger::new());
    let bytes = |partition: u32, offset: u64, value: &[u8]| {
        let record = committed.iter().find(|record| (record.partition, record.offset) == (partition, offset));
        let record = record.unwrap_or_else(|| panic!("partition {partition}, offset {offset} is no committed record"));
        assert!(record.value.as_deref() == Some(value), "partition {partition}, offset {offset}: bytes differ");
    };
    let followed = v1.follow(&mut v1_ledger, LIMIT, bytes, |ledger| ledger.records == 80);
    assert!(!followed.timed_out, "v1 got {} of 80", v1_ledger.records);
    // Batches cover the holes: the cursor reaches the end.
    json.follow(&mut json_ledger, LIMIT, |ledger, _| ledger.records == 80);
    for (who, ledger) in [("v1", &v1_ledger), ("json", &json_ledger)] {
        for partition in 0..2 {
            let expected: BTreeSet<u64> =
                committed.iter().filter(|record| record.partition == partition).map(|record| record.offset).collect();
            let got: BTreeSet<u64> = (0..72).filter(|offset| ledger.has(partition, *offset)).collect();
            assert_eq!(got, expected, "{who}, partition {partition}");
        }
        assert!(ledger.gaps.is_empty(), "{who}: a hole is no gap: {:?}", ledger.gaps);
    }
    wait::until_true("lag 0", LIMIT, || gateway.metrics().all("websocket_kafka_consumer_lag", &[]) == [0.0, 0.0]);
    for partition in 0..2 {
        wait::until_true("the commit to reach the end", LIMIT, || {
            kafka.committed(&setup.group, &topic, partition).is_some_and(|(offset, _)| offset == 72)
        });
    }
    assert!(
        gateway.metrics().all("dashstream_partition_books_difference_records", &[]).iter().all(|value| *value == 0.0)
    );
    // A cursor that stands on a hole, or at the very end, is resumed like any other.
    for last in [71, 70, 4, 5, 6] {
        let mut client = JsonClient::connect(gateway.ws());
        let mut ledger = Ledger::new();
        client.resume(&client.stream(), &[(0, last), (1, last)].into());
        let answers = client.until(&mut ledger, "answers", LIMIT);
        let all_resumed =
            answers["answers"].as_array().expect("answers").iter().all(|answer| answer["answer"] == "resumed");
        assert!(all_resumed, "cursor {last}: {answers}");
        client.until(&mut ledger, "live", LIMIT);
        let expected = committed.iter().filter(|record| record.offset > last).count() as u64;
        assert_eq!(ledger.records, expected, "after {last}");
    }
    gateway.stop();
}
