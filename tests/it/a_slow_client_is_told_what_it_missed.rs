//! Clients that fall off a small log: under `catchup` they get all of it, from Kafka; under `gap` they are told exactly what they missed and go on, under `close` they
//! are closed with their reason; one that takes nothing at all, or shows no sign of life, does not hold its place.

use std::time::{Duration, Instant};

use crate::harness::corpus;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::hostile::{End, Hostile, text};
use crate::harness::json::JsonClient;
use crate::harness::kafka::{Kafka, Producer};
use crate::harness::ledger::Ledger;
use crate::harness::v1::{V1Client, V1Event};
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(60);
const RECORD: usize = 64 << 10;

/// A gateway with a log of 8 MiB, and a client that keeps up.
struct Stage {
    gateway: Gateway,
    producer: Producer,
    healthy: V1Client,
    ledger: Ledger,
    length: u64,
}

impl Stage {
    fn start(what: &str, settings: &[(&str, &str)]) -> Self {
        let kafka = Kafka::shared();
        let topic = kafka.topic(what, 1);
        let setup = Setup::new(&kafka, &topic)
            .set("DASHSTREAM_LOG_MAX_BYTES", "8MiB")
            .set("WEBSOCKET_MAX_PAYLOAD_BYTES", 1 << 20);
        let setup = settings.iter().fold(setup, |setup, (key, value)| setup.set(key, value));
        let gateway = setup.start();
        let healthy = V1Client::connect(gateway.ws());
        Self { producer: kafka.producer(&topic), gateway, healthy, ledger: Ledger::new(), length: 0 }
    }

    /// So many MiB more, never faster than the healthy client reads.
    fn produce_mib(&mut self, mib: u64) {
        let value = corpus::exactly(RECORD);
        for _ in 0..mib {
            (0..(1 << 20) / RECORD).for_each(|_| self.producer.send(0, &value));
            self.producer.flush();
            self.length += (1 << 20) / RECORD as u64;
            let lengths = [self.length];
            let followed =
                self.healthy.follow(&mut self.ledger, LIMIT, |_, _, _| {}, |ledger| ledger.reached(&lengths));
            assert!(!followed.timed_out && followed.closed.is_none(), "the healthy client: {followed:?}");
            assert!(followed.texts.is_empty(), "the healthy client missed nothing: {:?}", followed.texts);
        }
        self.ledger.assert_all("the healthy client", &[self.length]);
    }
}

/// One client of each kind that does not read until it is told to.
struct Sleepers {
    v1: (V1Client, Ledger),
    json: (JsonClient, Ledger),
}

impl Sleepers {
    fn connect(stage: &Stage) -> Self {
        let (v1, json) = (V1Client::connect(stage.gateway.ws()), JsonClient::connect(stage.gateway.ws()));
        Self { v1: (v1, Ledger::new()), json: (json, Ledger::new()) }
    }

    /// They read until they have the end of what was produced.
    fn read_on(&mut self, stage: &Stage) {
        let lengths = [stage.length];
        let (v1, ledger) = &mut self.v1;
        let followed = v1.follow(ledger, LIMIT, |_, _, _| {}, |ledger| ledger.reached(&lengths));
        assert!(!followed.timed_out && followed.closed.is_none(), "{followed:?}");
        let (json, ledger) = &mut self.json;
        json.follow(ledger, LIMIT, |ledger, _| ledger.reached(&lengths));
    }

    fn ledgers(&self) -> [(&'static str, &Ledger); 2] {
        [("v1", &self.v1.1), ("json", &self.json.1)]
    }
}

#[test]
fn under_catchup_a_slow_client_gets_all_of_it() {
    let mut stage = Stage::start("catchup", &[]);
    let mut sleepers = Sleepers::connect(&stage);
    // They do not read for a while, and fall off a log of 8 MiB several times over.
    stage.produce_mib(60);
    sleepers.read_on(&stage);
    stage.produce_mib(1);
    sleepers.read_on(&stage);
    for (who, ledger) in sleepers.ledgers() {
        assert_eq!(ledger.gaps, [], "{who}: Kafka has all of it");
        ledger.assert_all(who, &[stage.length]);
    }
}

#[test]
fn a_slow_client_is_told_what_it_missed() {
    let mut stage = Stage::start("slow", &[("DASHSTREAM_CLIENT_SLOW_POLICY", "gap")]);
    let mut sleepers = Sleepers::connect(&stage);
    stage.produce_mib(60);
    // Now they read: what was in the sockets, then a gap with its exact range, then the rest of the log.
    sleepers.read_on(&stage);
    for (who, ledger) in sleepers.ledgers() {
        assert_eq!(ledger.missing(0, 0, stage.length), [0; 0], "{who}: every record came or is inside a gap");
        assert!(!ledger.gaps.is_empty(), "{who}: 60 MiB do not fit into a log of 8");
        assert!(ledger.gaps.iter().all(|gap| gap.3 == "slow_client"), "{who}: {:?}", ledger.gaps);
        assert!(ledger.has(0, stage.length - 1), "{who}: it goes on");
    }
    // Both are live again.
    stage.produce_mib(1);
    sleepers.read_on(&stage);
    for (who, ledger) in sleepers.ledgers() {
        assert!(ledger.has(0, stage.length - 1), "{who}: it is live");
    }
}

#[test]
fn under_close_it_is_closed_with_its_reason() {
    let mut stage = Stage::start("slow-close", &[("DASHSTREAM_CLIENT_SLOW_POLICY", "close")]);
    let mut slow = V1Client::connect(stage.gateway.ws());
    stage.produce_mib(60);
    let mut ledger = Ledger::new();
    let followed = slow.follow(&mut ledger, LIMIT, |_, _, _| {}, |_| false);
    let closed = followed.closed.expect("it is closed");
    assert_eq!((closed.code, closed.reason.as_str()), (Some(4003), "fell_behind"));
    let last = *ledger.record_cursor().get(&0).expect("some records");
    assert_eq!(ledger.missing(0, 0, last), [0; 0], "up to there it has everything");
    // With its cursor it gets the rest, which Kafka has.
    let mut again = V1Client::connect(stage.gateway.ws());
    again.resume(&ledger.record_cursor());
    let (_, before) = again.follow_until_text(&mut ledger, "replay_complete", LIMIT);
    assert!(before.is_empty(), "{before:?}");
    ledger.assert_all("the one that came back", &[stage.length]);
}

#[test]
fn one_that_takes_nothing_does_not_hold_its_place() {
    let mut stage = Stage::start("stalled", &[("DASHSTREAM_CLIENT_STALL_TIMEOUT", "2s")]);
    let mut stalled: Vec<Hostile> = (0..5).map(|_| Hostile::connect(stage.gateway.ws())).collect();
    let resume = text(br#"{"type":"resume","from":"earliest","lastOffsetsByPartition":{}}"#);
    stalled.iter_mut().for_each(|client| assert!(client.send(&resume)));
    stage.produce_mib(20);
    let closed = || stage.gateway.metrics().sum("dashstream_closes_total", &["stalled"]);
    wait::until_true("the stalled ones to be closed", LIMIT, || closed() == 5.0);
    let connected = || stage.gateway.metrics().sum("websocket_connected_clients", &[]);
    wait::until_true("their places to be free", LIMIT, || connected() == 1.0);
}

#[test]
fn one_that_shows_no_sign_of_life_is_closed() {
    let settings = [("DASHSTREAM_CLIENT_PING_INTERVAL", "1s"), ("DASHSTREAM_CLIENT_IDLE_TIMEOUT", "3s")];
    let mut stage = Stage::start("idle", &settings);
    let mut silent = Hostile::connect(stage.gateway.ws());
    let deadline = Instant::now() + LIMIT;
    loop {
        // The well-behaved one answers pings by reading, and stays.
        if let Some(V1Event::Closed(closed)) = stage.healthy.next(Instant::now() + Duration::from_millis(50)) {
            panic!("the healthy client was closed: {closed:?}");
        }
        match silent.end(Duration::from_millis(50)) {
            End::Open => assert!(Instant::now() < deadline, "the silent client is still open"),
            end => {
                assert_eq!(end, End::Close(4002, "idle_timeout".to_owned()));
                break;
            }
        }
    }
    stage.produce_mib(1);
}
