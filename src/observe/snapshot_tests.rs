//! The picture: what is unknown stays unknown, sums are whole, books balance.

use super::super::fixture;
use super::*;

#[test]
fn nothing_known_is_none_everywhere() {
    let snapshot = Snapshot::take(&Stats::default(), &fixture::config(), 1_000);
    assert!(snapshot.partitions.is_empty());
    assert_eq!((snapshot.last_record_age_ms, snapshot.lag_records()), (None, None));
    assert_eq!((snapshot.dlq.topic_found, snapshot.kafka.last_answer_age_ms), (None, None));
    assert_eq!(snapshot.shards.log_oldest_age_ms, None);
}

#[test]
fn books_of_a_partition_balance_or_show_by_how_much_not() {
    for (consumed, delivered, dead, null, expected) in
        [(10, 7, 2, 1, 0), (10, 7, 1, 1, 1), (10, 8, 2, 1, -1), (u64::MAX, 0, 0, 0, i128::from(u64::MAX))]
    {
        let stats = Stats::default();
        let held = stats.hold(PartitionId(0));
        held.flush(|books| {
            books.consumed.add(consumed);
            books.delivered.add(delivered);
            books.dead_lettered[3].add(dead);
            books.skipped[0].add(null);
        });
        let snapshot = Snapshot::take(&stats, &fixture::config(), 0);
        assert_eq!(snapshot.partitions[0].balance, Some(expected));
    }
}

#[test]
fn totals_do_not_fall_when_a_partition_goes() {
    let (stats, config) = (Stats::default(), fixture::config());
    stats.hold(PartitionId(0)).consumed.add(5);
    stats.hold(PartitionId(1)).consumed.add(6);
    stats.hold(PartitionId(1)).last_record_at_ms.set(Some(400));
    stats.release(PartitionId(1));
    let snapshot = Snapshot::take(&stats, &config, 1_000);
    assert_eq!((snapshot.partitions.len(), snapshot.totals.consumed), (1, 11));
    assert_eq!(snapshot.last_record_age_ms, Some(600));
}

#[test]
fn lag_is_zero_when_caught_up_and_a_sum_only_when_whole() {
    let (stats, config) = (Stats::default(), fixture::config());
    stats.hold(PartitionId(0)).lag_records.set(Some(0));
    stats.hold(PartitionId(0)).lag_ms.set(Some(90_000));
    stats.hold(PartitionId(1));
    let snapshot = Snapshot::take(&stats, &config, 0);
    assert_eq!((snapshot.partitions[0].lag_ms, snapshot.lag_records()), (Some(0), None));
    stats.hold(PartitionId(1)).lag_records.set(Some(4));
    let snapshot = Snapshot::take(&stats, &config, 0);
    assert_eq!((snapshot.partitions[1].lag_ms, snapshot.lag_records()), (None, Some(4)));
}

#[test]
fn warming_lasts_until_next_comes_to_its_end() {
    for (next, end, expected) in
        [(None, Some(9), true), (Some(8), Some(9), true), (Some(9), Some(9), false), (Some(0), None, false)]
    {
        let stats = Stats::default();
        stats.hold(PartitionId(0)).next.set(next);
        stats.hold(PartitionId(0)).warm_until.set(end);
        let snapshot = Snapshot::take(&stats, &fixture::config(), 0);
        assert_eq!(snapshot.partitions[0].warming_until.is_some(), expected, "{next:?} {end:?}");
    }
}

#[test]
fn shards_are_summed_and_a_thread_name_appears_once() {
    let stats = fixture::busy();
    let snapshot = Snapshot::take(&stats, &fixture::config(), 1_000_000);
    assert_eq!(snapshot.shards.count, 2);
    assert_eq!(snapshot.connected_clients(), 6);
    let (old, new) = (stats.heartbeat("p-0", 1_000), stats.heartbeat("p-0", 1_000));
    old.last_ms.set(10);
    new.last_ms.set(900);
    let shown: Vec<Thread> = threads(&stats, 1_000).into_iter().filter(|thread| thread.name == "p-0").collect();
    assert_eq!(shown, [Thread { name: "p-0".to_owned(), age_ms: 990, limit_ms: 1_000 }]);
}
