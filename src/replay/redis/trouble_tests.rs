//! Redis that is away, slow, full or closed to us: nobody waits, everything is counted, and it heals by itself.

use std::time::{Duration, Instant};

use super::fixture::*;
use super::*;
use crate::words::{Offset, PartitionId};

const P: PartitionId = PartitionId(2);

#[test]
fn a_server_that_comes_late_is_found() {
    let mut server = Server::absent(&[]);
    let host = Host::start(&server.url(), &[]);
    eventually("it is tried", || host.stats.redis.errors.get() > 0);
    assert_eq!((host.is_up(), host.bounds(2)), (false, None));
    assert!(host.offer(&chunk(2, 0, 50)), "it waits in the queue");
    let mut reader = host.reader();
    assert_eq!(reader.read(P, Offset(0), Offset(9), 1_000), Err(RedisDown));
    server.launch();
    assert!(server.came_up());
    eventually("what waited is written", || host.written() == 45);
    eventually("bounds are known", || host.bounds(2) == Some((0, 50)));
    eventually("and readers find it", || read_through(&mut reader, 2, 0, 1_000) == Ok(50));
}

#[test]
fn a_restart_empties_bounds_and_is_survived() {
    let mut server = Server::start(&[]);
    let host = Host::start(&server.url(), &[]);
    eventually("Redis answers", || host.is_up());
    host.write(&[chunk(2, 0, 50)]);
    eventually("bounds are known", || host.bounds(2).is_some());
    let mut reader = host.reader();
    assert_eq!(read_through(&mut reader, 2, 0, 1_000), Ok(50));
    server.kill();
    eventually("it is known to be away", || !host.is_up() && host.bounds(2).is_none());
    assert_eq!(reader.read(P, Offset(0), Offset(9), 1_000), Err(RedisDown));
    let errors = host.stats.redis.errors.get();
    // Within the pause nothing is tried, so it costs nothing.
    let began = Instant::now();
    let tries = std::iter::repeat_with(|| reader.read(P, Offset(0), Offset(9), 1_000)).take(1_000);
    assert!(tries.into_iter().all(|answer| answer == Err(RedisDown)));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(host.stats.redis.errors.get() >= errors);
    server.launch();
    assert!(server.came_up());
    eventually("it is back, and empty", || host.is_up());
    assert_eq!(host.bounds(2), None);
    host.write(&[chunk(2, 50, 90)]);
    eventually("readers come back too", || read_through(&mut reader, 2, 50, 1_000) == Ok(90));
    eventually("bounds are known", || host.bounds(2) == Some((50, 90)));
}

#[test]
fn a_server_that_stands_still_holds_nobody() {
    let server = Server::start(&[]);
    let host = Host::start(&server.url(), &[("replay.redis.timeout", "100ms"), ("replay.redis.queue_bytes", "256KiB")]);
    eventually("Redis answers", || host.is_up());
    host.write(&[chunk(2, 0, 50)]);
    let mut reader = host.reader();
    assert_eq!(read_through(&mut reader, 2, 0, 1_000), Ok(50));
    server.signal(libc::SIGSTOP);
    let sender = host.sender();
    let large = chunk_of(1, 0, 8, &|_| vec![7; 8_000]);
    let mut longest = Duration::ZERO;
    let mut refused = 0;
    eventually("the queue is full and offers are turned away", || {
        let began = Instant::now();
        refused += u64::from(!sender.offer(&large));
        longest = longest.max(began.elapsed());
        refused >= 20
    });
    assert!(longest < Duration::from_secs(2), "an offer took {longest:?}");
    assert_eq!(host.stats.redis.write_dropped.get(), refused * large.entries().len() as u64);
    assert!(host.stats.redis.queue_bytes.get() <= 256 << 10);
    assert_eq!(reader.read(P, Offset(0), Offset(9), 1_000), Err(RedisDown));
    eventually("its connection is given up", || !host.is_up() && host.bounds(2).is_none());
    server.signal(libc::SIGCONT);
    eventually("it answers again", || host.is_up());
    eventually("what waited is gone", || host.stats.redis.queue_bytes.get() == 0);
    host.write(&[chunk(2, 50, 90)]);
    // No reply to an older question is taken for the answer to a newer one.
    eventually("and is read back", || read_through(&mut reader, 2, 0, 1_000) == Ok(90));
    eventually("bounds are known", || host.bounds(2) == Some((0, 90)));
}

#[test]
fn a_full_server_refuses_and_is_counted() {
    let server = Server::start(&["--maxmemory", "2mb", "--maxmemory-policy", "noeviction"]);
    let host = Host::start(&server.url(), &[]);
    eventually("Redis answers", || host.is_up());
    host.write(&[chunk(2, 0, 50)]);
    let mut offered = 0;
    eventually("it is full", || {
        host.offer(&chunk_of(1, offered * 8, offered * 8 + 8, &|_| vec![7; 8_000]));
        offered += 1;
        host.stats.redis.write_failures.get() > 0
    });
    assert!(host.stats.redis.errors.get() > 0);
    assert_eq!(read_through(&mut host.reader(), 2, 0, 1_000), Ok(50), "what is there can be read");
    assert!(host.is_up(), "it answers");
    let _: () = server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    host.write(&[chunk(2, 50, 90)]);
    assert_eq!(read_through(&mut host.reader(), 2, 50, 1_000), Ok(90));
}

#[test]
fn a_wrong_password_is_counted_and_never_shown() {
    let server = Server::start(&["--requirepass", "right"]);
    let wrong = format!("redis://:horse@127.0.0.1:{}", server.port);
    for url in [wrong.as_str(), &server.url()] {
        let host = Host::start(url, &[]);
        eventually("it is counted", || host.stats.redis.errors.get() >= 2);
        assert_eq!((host.is_up(), host.bounds(2)), (false, None));
        assert_eq!(host.reader().read(P, Offset(0), Offset(9), 1_000), Err(RedisDown));
        assert!(!format!("{:?}", host.config).contains("horse"));
    }
    let host = Host::start(&format!("redis://:right@127.0.0.1:{}", server.port), &[]);
    eventually("the right one is let in", || host.is_up());
    host.write(&[chunk(2, 0, 50)]);
    assert_eq!(read_through(&mut host.reader(), 2, 0, 1_000), Ok(50));
}

/// What is said of a failure is written by us, or by the operating system: a server may quote what it was sent.
#[test]
fn words_of_a_failure_hold_no_password() {
    use super::link::{Failure, Link, Pauses};
    let server = Server::start(&["--requirepass", "right", "--rename-command", "AUTH", "HIDDEN"]);
    let pauses = Pauses { first: Duration::ZERO, longest: Duration::ZERO };
    for scheme in ["", "/?protocol=resp3"] {
        let url = format!("redis://somebody:horse@127.0.0.1:{}{scheme}", server.port);
        let config = crate::config::load_with(&[("replay.redis.url", &url)]).expect("allowed").config;
        let mut link = Link::new(&config.replay.redis, pauses).expect("there is a URL");
        let failure = link.ask(::redis::pipe().cmd("PING"), &|_| {});
        let Err(Failure::Failed(why)) = failure else { panic!("{failure:?}") };
        assert!(!why.contains("horse") && !why.is_empty(), "{why}");
        assert!(!link.address().contains("horse"));
    }
}

#[test]
fn a_replica_that_may_not_be_written_to_is_read() {
    let server = Server::start(&[]);
    let host = Host::start(&server.url(), &[]);
    eventually("Redis answers", || host.is_up());
    host.write(&[chunk(2, 0, 50)]);
    let _: () = server.ask(&["CONFIG", "SET", "min-replicas-to-write", "3"]);
    let failures = host.stats.redis.write_failures.get();
    assert!(host.offer(&chunk(2, 50, 90)));
    eventually("refusals are counted", || host.stats.redis.write_failures.get() == failures + 36);
    assert_eq!(read_through(&mut host.reader(), 2, 0, 1_000), Ok(50));
    assert_eq!(host.stats.redis.write_dropped.get(), 0);
}
