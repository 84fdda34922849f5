//! SIGTERM under load: everyone gets a close frame with 1001, json clients before it a bye whose cursor is what they
//! got, the process ends with 0 within ten seconds, and the next one goes on from there. A second signal ends it at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::gateway::{Gateway, Setup};
use crate::harness::hostile::{Hostile, text};
use crate::harness::json::{JsonClient, cursor_of};
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::load::{Load, PARTITIONS, StopOnDrop};
use crate::harness::socket::Closed;
use crate::harness::v1::V1Client;
use crate::harness::v2::{V2Client, V2Event};
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(60);

fn goodbye() -> Option<Closed> {
    Some(Closed { code: Some(1001), reason: "shutting_down".to_owned() })
}

fn v1(mut client: V1Client, seen: &AtomicU64) {
    let mut ledger = Ledger::new();
    client.resume_from("earliest");
    let mut counted = false;
    let followed = client.follow(&mut ledger, LIMIT, Load::check, |ledger| {
        count_once(ledger, &mut counted, seen);
        false
    });
    assert_eq!(followed.closed, goodbye());
    for (partition, last) in ledger.record_cursor() {
        assert_eq!(ledger.missing(partition, 0, last), [0; 0], "nothing is left out before the goodbye");
    }
}

fn v2(mut client: V2Client, seen: &AtomicU64) {
    let mut ledger = Ledger::new();
    client.resume_earliest();
    let mut counted = false;
    let frames = client.follow(&mut ledger, LIMIT, Load::check, |ledger, _| {
        count_once(ledger, &mut counted, seen);
        false
    });
    let [.., V2Event::Bye(reason, cursor), V2Event::Closed(closed)] = frames.as_slice() else {
        panic!("a bye, then the close: {frames:?}");
    };
    assert_eq!((reason.as_str(), Some(closed.clone())), ("shutting_down", goodbye()));
    assert_eq!(cursor.iter().copied().collect::<BTreeMap<_, _>>(), ledger.cursor(), "the cursor of the bye");
}

fn json(mut client: JsonClient, seen: &AtomicU64) -> (String, Ledger) {
    let mut ledger = Ledger::new();
    client.resume_from("earliest");
    let mut counted = false;
    let (frames, closed) = client.follow(&mut ledger, LIMIT, |ledger, _| {
        count_once(ledger, &mut counted, seen);
        false
    });
    assert_eq!(closed, goodbye());
    let bye =
        frames.last().filter(|frame| frame["type"] == "bye").unwrap_or_else(|| panic!("no bye at the end: {frames:?}"));
    assert_eq!(bye["reason"], "shutting_down");
    assert!(bye["reconnect_after_ms"].is_u64(), "{bye}");
    assert_eq!(cursor_of(&bye["cursor"]), ledger.cursor(), "the cursor of the bye is what was written");
    (client.stream(), ledger)
}

fn count_once(ledger: &Ledger, counted: &mut bool, seen: &AtomicU64) {
    if !*counted && ledger.records > 200 && ledger.cursor().len() == PARTITIONS as usize {
        *counted = true;
        seen.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn sigterm_says_goodbye() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("term", PARTITIONS as i32);
    let mut gateway = Setup::new(&kafka, &topic).start();
    let (load, seen) = (Load::new(), AtomicU64::new(0));
    let (stream, mut ledger) = std::thread::scope(|scope| {
        let stop = StopOnDrop(&load);
        scope.spawn(|| load.run(&kafka, &topic, 3_000));
        let (seen, address) = (&seen, gateway.ws());
        let v1_threads: Vec<_> = (0..12).map(|_| scope.spawn(move || v1(V1Client::connect(address), seen))).collect();
        let v2_thread = scope.spawn(move || v2(V2Client::connect(address), seen));
        let json_threads: Vec<_> =
            (0..3).map(|_| scope.spawn(move || json(JsonClient::connect(address), seen))).collect();
        wait::until_true("everyone in full flow", LIMIT, || seen.load(Ordering::Relaxed) == 16);
        gateway.terminate();
        let status = gateway.wait_exit(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "{}", gateway.output());
        drop(stop);
        v1_threads.into_iter().for_each(|thread| thread.join().expect("a v1 client is content"));
        v2_thread.join().expect("the v2 client is content");
        let mut json = json_threads.into_iter().map(|thread| thread.join().expect("a json client is content"));
        let first = json.next().expect("three");
        json.for_each(drop);
        first
    });
    // What was committed is not beyond what the clients could have; the next one serves the rest.
    let lengths = load.lengths().expect("producing is over");
    let gateway = gateway.setup.start();
    let mut client = JsonClient::connect(gateway.ws());
    client.resume(&stream, &ledger.cursor());
    client.follow(&mut ledger, LIMIT, |ledger, _| ledger.reached(&lengths));
    ledger.assert_all("a json client over the restart", &lengths);
}

#[test]
fn what_was_delivered_is_committed_at_the_end() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("term-commit", 1);
    let mut gateway = Setup::new(&kafka, &topic).start();
    let producer = kafka.producer(&topic);
    (0..100).for_each(|index| producer.send(0, &crate::harness::corpus::ordinary(0, index)));
    producer.flush();
    let mut ledger = Ledger::new();
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.reached(&[100]));
    gateway.stop();
    let (committed, metadata) = kafka.committed(&gateway.setup.group, &topic, 0).expect("a commit");
    assert_eq!(committed, 100);
    assert!(!metadata.is_empty(), "the commit says whose it is");
}

/// Clients that take nothing keep the first signal waiting; the second one does not wait.
#[test]
fn a_second_signal_ends_it_at_once() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("term-twice", 1);
    let mut gateway = Setup::new(&kafka, &topic).start();
    let stalled: Vec<Hostile> = stalled_clients(&gateway, 5);
    let producer = kafka.producer(&topic);
    let big = crate::harness::corpus::exactly(1 << 20);
    (0..20).for_each(|_| producer.send(0, &big));
    producer.flush();
    let mut reader = V1Client::connect(gateway.ws());
    reader.resume_from("earliest");
    let mut ledger = Ledger::new();
    reader.follow(&mut ledger, LIMIT, |_, _, _| {}, |ledger| ledger.reached(&[20]));
    gateway.terminate();
    wait::until_true("it to be stopping", LIMIT, || {
        gateway.exited().is_some() || V1Client::try_connect(gateway.ws()).is_err()
    });
    if gateway.exited().is_none() {
        gateway.terminate();
        gateway.wait_exit(Duration::from_secs(2));
    }
    drop(stalled);
}

fn stalled_clients(gateway: &Gateway, count: usize) -> Vec<Hostile> {
    let connect = |_| {
        let mut client = Hostile::connect(gateway.ws());
        client.send(&text(br#"{"type":"resume","from":"earliest","lastOffsetsByPartition":{}}"#));
        client
    };
    (0..count).map(connect).collect()
}
