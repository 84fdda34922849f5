//! Against a real redis-server: what a host writes another reads, exactly and as far as it is proven.

use std::time::Duration;

use super::fixture::*;
use super::keys::Keys;
use super::*;
use crate::log::Outcome;
use crate::words::{Offset, PartitionId};

const P: PartitionId = PartitionId(2);

#[test]
fn what_was_offered_is_read_back_by_another_host() {
    let server = Server::start(&[]);
    let writing = Host::start(&server.url(), &[]);
    eventually("Redis answers", || writing.is_up());
    writing.write(&[chunk(2, 100, 150), chunk(2, 150, 230), chunk(3, 7, 9), chunk(2, 230, 900)]);
    let reading = Host::start(&server.url(), &[]);
    let mut reader = reading.reader();
    assert_eq!(read_through(&mut reader, 2, 100, 10_000), Ok(900));
    assert_eq!(read_through(&mut reader, 2, 333, 500), Ok(500), "cut at both ends");
    assert_eq!(read_through(&mut reader, 2, 899, 10_000), Ok(900));
    for (partition, want, until) in [(2, 99, 1_000), (2, 900, 1_000), (2, 0, 50), (1, 100, 1_000), (2, 200, 200)] {
        let spans = reader.read(PartitionId(partition), Offset(want), Offset(until), 1_000);
        assert_eq!(spans, Ok(Vec::new()), "{partition} {want} {until}");
    }
    assert_eq!(reading.stats.redis.misses.get(), 6, "an interval without an offset is no question");
    assert!(reading.stats.redis.hits.get() >= 3);
    eventually("bounds are known to whoever has a writer", || reading.bounds(2) == Some((100, 900)));
    assert_eq!((reading.bounds(3), reading.bounds(0)), (Some((7, 9)), None));
    assert_eq!(reading.stats.redis.errors.get() + writing.stats.redis.errors.get(), 0);
}

#[test]
fn every_key_ends_by_itself() {
    let server = Server::start(&[]);
    let host = Host::start(&server.url(), &[("replay.redis.ttl", "90s")]);
    eventually("Redis answers", || host.is_up());
    host.write(&[chunk(2, 100, 150)]);
    let keys = Keys::new(&stream());
    for key in [keys.entry(P, Offset(100)), keys.index(P)] {
        let ttl: i64 = server.ask(&["PTTL", &key]);
        assert!((1..=90_000).contains(&ttl), "{key}: {ttl}");
    }
}

#[test]
fn chunks_that_follow_each_other_share_an_entry_up_to_its_size() {
    let server = Server::start(&[]);
    let host = Host::start(&server.url(), &[]);
    eventually("Redis answers", || host.is_up());
    let small: Vec<_> = (0..40).map(|index| chunk(2, index * 5, index * 5 + 5)).collect();
    host.write(&small);
    let large: Vec<_> = (0..4).map(|index| chunk_of(1, index * 2, index * 2 + 2, &|_| vec![7; 60_000])).collect();
    host.write(&large);
    let entries = |partition| -> usize { server.ask(&["ZCARD", &Keys::new(&stream()).index(PartitionId(partition))]) };
    assert!(entries(2) < 20, "{} entries for 40 chunks at once", entries(2));
    assert!(entries(1) >= 2, "large chunks stand alone");
    assert_eq!(read_through(&mut host.reader(), 2, 0, 10_000), Ok(200));
}

#[test]
fn hosts_that_cut_differently_do_no_harm() {
    let server = Server::start(&[]);
    let one = Host::start(&server.url(), &[]);
    let other = Host::start(&server.url(), &[]);
    eventually("Redis answers", || one.is_up() && other.is_up());
    // One after the other, so that they do not become one entry.
    for (from, next) in [(0, 100), (100, 160), (200, 260), (300, 400)] {
        one.write(&[chunk(2, from, next)]);
    }
    for (from, next) in [(10, 30), (30, 35), (150, 210), (255, 270), (280, 290), (100, 120)] {
        other.write(&[chunk(2, from, next)]);
    }
    let mut reader = one.reader();
    // [100, 120) took the place of [100, 160), so 120 to 150 is in nobody's entry any more.
    assert_eq!(read_through(&mut reader, 2, 0, 1_000), Ok(120));
    assert_eq!(read_through(&mut reader, 2, 32, 1_000), Ok(120), "the larger entry lies behind a smaller one");
    assert_eq!(read_through(&mut reader, 2, 155, 1_000), Ok(270));
    assert_eq!(read_through(&mut reader, 2, 285, 1_000), Ok(290), "a hole in coverage ends it");
    assert_eq!(read_through(&mut reader, 2, 300, 1_000), Ok(400));
    one.write(&[chunk(2, 100, 160)]);
    assert_eq!(read_through(&mut reader, 2, 0, 1_000), Ok(270));
}

#[test]
fn an_entry_that_is_gone_ends_the_result_and_the_rest_is_found_again() {
    let server = Server::start(&[]);
    let host = Host::start(&server.url(), &[]);
    eventually("Redis answers", || host.is_up());
    for index in 0..6 {
        host.write(&[chunk(2, index * 50, index * 50 + 50)]);
    }
    let keys = Keys::new(&stream());
    let expired: u64 = server.ask(&["PEXPIRE", &keys.entry(P, Offset(150)), "1"]);
    assert_eq!(expired, 1);
    eventually("it expires", || server.ask::<u64>(&["EXISTS", &keys.entry(P, Offset(150))]) == 0);
    let mut reader = host.reader();
    assert_eq!(read_through(&mut reader, 2, 0, 1_000), Ok(150));
    assert_eq!(read_through(&mut reader, 2, 199, 1_000), Ok(199), "the hole itself");
    assert_eq!(read_through(&mut reader, 2, 200, 1_000), Ok(300));
    // At the old end, the index is tidied and the bounds follow.
    for from in [0, 50, 100] {
        let _: u64 = server.ask(&["DEL", &keys.entry(P, Offset(from))]);
    }
    eventually("bounds begin at what is there", || host.bounds(2) == Some((200, 300)));
    eventually("members without an entry go", || server.ask::<u64>(&["ZCARD", &keys.index(P)]) == 2);
}

#[test]
fn flushall_leaves_nothing_and_no_gap_is_invented() {
    let server = Server::start(&[]);
    let host = Host::start(&server.url(), &[]);
    eventually("Redis answers", || host.is_up());
    host.write(&[chunk(2, 0, 100)]);
    eventually("bounds are known", || host.bounds(2).is_some());
    let mut reader = host.reader();
    assert_eq!(read_through(&mut reader, 2, 0, 1_000), Ok(100));
    let _: () = server.ask(&["FLUSHALL"]);
    assert_eq!(reader.read(P, Offset(0), Offset(1_000), 1_000), Ok(Vec::new()));
    eventually("bounds are forgotten", || host.bounds(2).is_none());
    assert!(host.is_up());
    host.write(&[chunk(2, 100, 200)]);
    assert_eq!(read_through(&mut reader, 2, 100, 1_000), Ok(200));
    assert_eq!(reader.read(P, Offset(50), Offset(1_000), 1_000), Ok(Vec::new()));
}

#[test]
fn the_oldest_go_above_the_bounds() {
    let server = Server::start(&[]);
    let host = Host::start(&server.url(), &[("replay.redis.max_entries", "5")]);
    eventually("Redis answers", || host.is_up());
    for index in 0..12 {
        host.write(&[chunk(2, index * 50, index * 50 + 50)]);
    }
    eventually("the newest five are left", || host.bounds(2) == Some((350, 600)));
    let left: Vec<String> = server.ask(&["KEYS", "dashstream:*:p:2:0*"]);
    assert_eq!(left.len(), 5, "entries go with their members");
    assert_eq!(read_through(&mut host.reader(), 2, 350, 1_000), Ok(600));

    // A megabyte for four partitions: about five entries of 50 kB for each.
    let host = Host::start(&server.url(), &[("replay.redis.max_bytes", "1MiB")]);
    eventually("Redis answers", || host.is_up());
    for index in 0..10 {
        host.write(&[chunk_of(1, index * 2, index * 2 + 2, &|_| vec![7; 25_000])]);
    }
    let keys = Keys::new(&stream());
    eventually("bytes are bounded too", || server.ask::<u64>(&["ZCARD", &keys.index(PartitionId(1))]) < 10);
    let size: u64 = server.ask(&["ZCARD", &keys.index(PartitionId(1))]);
    assert!(size >= 4, "{size} entries are left");
}

#[test]
fn an_entry_that_is_not_believed_is_absent_and_counted() {
    let server = Server::start(&[]);
    let host = Host::start(&server.url(), &[]);
    eventually("Redis answers", || host.is_up());
    for index in 0..3 {
        host.write(&[chunk(2, index * 50, index * 50 + 50)]);
    }
    let key = Keys::new(&stream()).entry(P, Offset(50));
    let mut reader = host.reader();
    let refused = || host.stats.redis.refused_entries.get();
    let _: u64 = server.ask(&["SETRANGE", &key, "100", "damaged"]);
    assert_eq!(read_through(&mut reader, 2, 0, 1_000), Ok(50));
    assert!(refused() > 0);
    let before = refused();
    let _: () = server.ask(&["SET", &key, "something else altogether, longer than a head is"]);
    assert_eq!(read_through(&mut reader, 2, 50, 1_000), Ok(50));
    assert!(refused() > before);
    let _: () = server.ask(&["RENAME", &Keys::new(&stream()).entry(P, Offset(100)), &key]);
    assert_eq!(read_through(&mut reader, 2, 50, 1_000), Ok(50), "an entry under another's name");
    assert_eq!(host.stats.redis.errors.get(), 0);
}

#[test]
fn another_stream_finds_nothing_and_an_old_chunk_is_not_written_to_it() {
    let server = Server::start(&[]);
    let host = Host::start(&server.url(), &[]);
    eventually("Redis answers", || host.is_up());
    host.write(&[chunk(2, 0, 50)]);
    eventually("bounds are known", || host.bounds(2).is_some());
    let again = crate::words::StreamIdentity { topic_id: [4; 16], ..stream() };
    host.inlet.stream_changed();
    eventually("bounds are forgotten with the stream", || host.bounds(2).is_none());
    host.inlet.topology(std::sync::Arc::new(again.clone()), 4);
    let dropped = host.stats.redis.write_dropped.get();
    assert!(host.offer(&chunk(2, 50, 60)), "a worker that is late");
    eventually("it is dropped", || host.stats.redis.write_dropped.get() == dropped + 9);
    let mut reader = host.reader();
    reader.set_stream(&again);
    assert_eq!(reader.read(P, Offset(0), Offset(1_000), 1_000), Ok(Vec::new()));
    let keys: Vec<String> = server.ask(&["KEYS", &format!("*{}*", again.name())]);
    assert_eq!(keys, Vec::<String>::new());
}

#[test]
fn what_waits_at_the_end_is_written() {
    let server = Server::start(&[]);
    let mut host = Host::start(&server.url(), &[]);
    eventually("Redis answers", || host.is_up());
    for index in 0..100 {
        assert!(host.offer(&chunk(2, index * 10, index * 10 + 10)));
    }
    host.stop(Duration::from_secs(20));
    assert_eq!(read_through(&mut host.reader(), 2, 0, 10_000), Ok(1_000));
    assert_eq!(host.stats.redis.queue_bytes.get(), 0);
}

#[test]
fn the_predecessors_records_are_read_when_asked_for() {
    let server = Server::start(&[]);
    let legacy = [
        ("replay.redis.read_legacy", "true"),
        ("kafka.topic", "quality"),
        ("kafka.group_id", "websocket-server-v4"),
        ("kafka.brokers", "b:2,a:1"),
    ];
    let host = Host::start(&server.url(), &legacy);
    use base64::Engine;
    let raw = "topic=quality;group=websocket-server-v4;brokers=a:1,b:2";
    let name = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(raw);
    for offset in [10, 11, 12, 14, 15] {
        let key = format!("dashstream-replay:v1_{name}:partition:2:offset:{offset}");
        let _: () = server.ask(&["SETEX", &key, "100", &format!("record {offset}")]);
    }
    let mut reader = host.reader();
    let check = |reader: &mut RedisReader, want, until, expected: Option<(u64, u64)>| {
        let spans = reader.read(P, Offset(want), Offset(until), 1_000).expect("it answers");
        assert_eq!(spans.first().map(|span| (span.from.0, span.next.0)), expected, "{want} {until}");
        for record in spans.iter().flat_map(|span| &span.records) {
            assert_eq!(record.value, format!("record {}", record.offset).into_bytes());
            assert_eq!((record.outcome, record.timestamp_ms), (Outcome::Delivered, None));
        }
    };
    check(&mut reader, 10, 100, Some((10, 13)));
    check(&mut reader, 11, 12, Some((11, 12)));
    check(&mut reader, 13, 100, None);
    check(&mut reader, 14, 100, Some((14, 16)));
    let without = Host::start(&server.url(), &legacy[1..]);
    check(&mut without.reader(), 10, 100, None);
}
