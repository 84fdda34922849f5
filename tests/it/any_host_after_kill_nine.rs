//! Two gateways read one topic, and one of them is killed with SIGKILL at each of twenty moments, now and then while it
//! still starts. Clients come back with their cursors, to the same host or to the other, at once or so late that the log
//! has moved on; what they missed comes from below the log, from Kafka alone or with a Redis that both hosts write. In
//! the end an independent reader of the topic agrees with what every client has, to the byte, and nobody was sent
//! anything twice.
//!
//! The moments, the hosts and the naps come from one seed, which a failure prints and `DASHSTREAM_TEST_SEED` replaces.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::gateway::{Gateway, Setup};
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::load::{Load, PARTITIONS, StopOnDrop};
use crate::harness::ports;
use crate::harness::redis::Redis;
use crate::harness::rng::Rng;
use crate::harness::v1::V1Client;
use crate::harness::v2::{V2Client, V2Event};
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(240);
const SEED: u64 = 20;
const RECORDS_PER_SECOND: u64 = 2_500;
/// A log of 4 MiB holds fewer records than this: who was away so long comes back from below it.
const LONG_AWAY: u64 = 14_000;
/// Connections from below the log that each host has to have seen.
const FROM_BELOW: u64 = 3;

#[derive(Clone, Copy, PartialEq)]
enum Habit {
    /// Stays until it is cut off, and is back at once.
    Steady,
    /// Leaves by itself after a while, and comes back late.
    Sleeper,
}

#[derive(Clone, Copy)]
enum Protocol {
    V1,
    V2,
}

const CLIENTS: [(&str, Protocol, Habit); 6] = [
    ("v2, steady", Protocol::V2, Habit::Steady),
    ("v2, also steady", Protocol::V2, Habit::Steady),
    ("v2, sleeper", Protocol::V2, Habit::Sleeper),
    ("v2, also sleeper", Protocol::V2, Habit::Sleeper),
    ("v1, steady", Protocol::V1, Habit::Steady),
    ("v1, sleeper", Protocol::V1, Habit::Sleeper),
];

/// What all threads of a test see.
struct Stage {
    setups: [Setup; 2],
    load: Load,
    failed: AtomicBool,
    /// Clients that have something of every partition.
    started: AtomicU64,
    /// Resumes that began below the log, by host.
    from_below: [AtomicU64; 2],
}

impl Stage {
    fn has_all(&self, ledger: &Ledger) -> bool {
        self.load.lengths().is_some_and(|lengths| ledger.reached(&lengths))
    }

    /// Waits until so many more records were produced, or producing is over.
    fn nap(&self, records: u64) {
        let until = self.load.sent.load(Ordering::Relaxed) + records;
        wait::until_true("the end of a nap", LIMIT, || {
            self.load.sent.load(Ordering::Relaxed) >= until || self.load.lengths().is_some()
        });
    }

    /// Waits for something that clients bring about.
    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        wait::until_true(what, LIMIT, || {
            assert!(!self.failed.load(Ordering::Relaxed), "a client failed, see above");
            holds()
        });
    }

    fn begun_below(&self, host: usize) -> u64 {
        self.from_below[host].load(Ordering::Relaxed)
    }
}

/// One client, and everything that it has, over all its connections.
struct Client<'a> {
    name: &'static str,
    stage: &'a Stage,
    ledger: Ledger,
    records: BTreeMap<u32, Vec<(u64, Vec<u8>)>>,
    started: bool,
}

impl<'a> Client<'a> {
    fn new(name: &'static str, stage: &'a Stage) -> Self {
        Self { name, stage, ledger: Ledger::new(), records: BTreeMap::new(), started: false }
    }

    fn live(&mut self, protocol: Protocol, habit: Habit, mut rng: Rng) {
        let deadline = Instant::now() + LIMIT;
        // Comes back to the same host, then goes to the other, and so on.
        for host in [0, 0, 1, 1].into_iter().cycle() {
            if self.stage.has_all(&self.ledger) {
                break;
            }
            let cursor = self.ledger.cursor();
            assert!(Instant::now() < deadline, "{}: {} records, {cursor:?}", self.name, self.ledger.records);
            let stays = if habit == Habit::Sleeper { rng.between(1_000, 6_000) } else { u64::MAX };
            let until = self.ledger.records.saturating_add(stays);
            match protocol {
                Protocol::V1 => self.connect_v1(host, until),
                Protocol::V2 => self.connect_v2(host, until),
            }
            if habit == Habit::Sleeper {
                self.stage.nap(rng.between(LONG_AWAY, LONG_AWAY + LONG_AWAY / 2));
            }
        }
    }

    /// One connection: until it is cut off, or there are so many records in all.
    fn connect_v2(&mut self, host: usize, until: u64) {
        let mut client = V2Client::connect_soon(self.stage.setups[host].ws);
        let cursor = self.ledger.cursor();
        let is_below =
            |(partition, last): (&u32, &u64)| client.log.get(partition).is_some_and(|(oldest, _)| last + 1 < *oldest);
        self.stage.from_below[host].fetch_add(u64::from(cursor.iter().any(is_below)), Ordering::Relaxed);
        // Nobody is killed before everyone has something of every partition.
        if cursor.len() < PARTITIONS as usize {
            client.resume_earliest()
        } else {
            client.resume(&cursor)
        }
        let Self { name, stage, ledger, records, started } = self;
        let keep = |partition, offset, value: &[u8]| keep(records, partition, offset, value);
        let others = client.follow(ledger, LIMIT, keep, |ledger, others| {
            note(stage, ledger, started);
            // A partition may come a second after the others: who left before would never be brought its beginning.
            *started && ledger.records >= until || others.iter().any(is_unavailable) || stage.has_all(ledger)
        });
        for event in others {
            match event {
                V2Event::Answers { answers, .. } => {
                    let is_expected = |kind: &str| ["resumed", "unavailable"].contains(&kind);
                    assert!(answers.iter().all(|answer| is_expected(answer.kind)), "{name}: {answers:?}");
                }
                // 10 and 11: how far it is, and that it waits.
                V2Event::Live { .. } | V2Event::Closed(_) | V2Event::Other(10 | 11) => {}
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    fn connect_v1(&mut self, host: usize, until: u64) {
        let mut client = V1Client::connect_soon(self.stage.setups[host].ws);
        // What the cursor does not name it gets from the start.
        client.resume(&self.ledger.record_cursor());
        let Self { name, stage, ledger, records, started } = self;
        let keep = |partition, offset, value: &[u8]| keep(records, partition, offset, value);
        let followed = client.follow(ledger, LIMIT, keep, |ledger| {
            note(stage, ledger, started);
            *started && ledger.records >= until || stage.has_all(ledger)
        });
        let completed = followed.of_type("replay_complete").len();
        assert!(completed <= 1 && completed == followed.texts.len(), "{name}: {:?}", followed.texts);
    }
}

fn keep(records: &mut BTreeMap<u32, Vec<(u64, Vec<u8>)>>, partition: u32, offset: u64, value: &[u8]) {
    records.entry(partition).or_default().push((offset, value.to_vec()));
}

fn note(stage: &Stage, ledger: &Ledger, started: &mut bool) {
    if !*started && ledger.cursor().len() == PARTITIONS as usize {
        *started = true;
        stage.started.fetch_add(1, Ordering::Relaxed);
    }
}

/// It cannot be said now, and the client is to come again: honest on a busy machine, and no loss.
fn is_unavailable(event: &V2Event) -> bool {
    matches!(event, V2Event::Answers { answers, .. } if answers.iter().any(|answer| answer.kind == "unavailable"))
}

fn seed() -> u64 {
    let seed = std::env::var("DASHSTREAM_TEST_SEED").map_or(SEED, |seed| seed.parse().expect("a number"));
    eprintln!("DASHSTREAM_TEST_SEED={seed}");
    seed
}

fn kill_at_moments(kills: u64, what: &str, redis: Option<&Redis>) {
    let mut rng = Rng(seed());
    let kafka = Kafka::shared();
    let topic = kafka.topic(what, PARTITIONS as i32);
    let mut setup = Setup::new(&kafka, &topic)
        .set("WEBSOCKET_MAX_PAYLOAD_BYTES", 1 << 20)
        .set("DASHSTREAM_LOG_MAX_BYTES", "4MiB")
        .set("DASHSTREAM_COLD_MAX_BYTES", "16MiB");
    if let Some(redis) = redis {
        setup = setup.set("REDIS_URL", format!("redis://{}", redis.address));
    }
    let setups = [setup.clone(), setup.sibling(&kafka)];
    let mut gateways = [setups[0].start(), setups[1].start()];
    let stage = Stage {
        setups,
        load: Load::new(),
        failed: AtomicBool::new(false),
        started: AtomicU64::new(0),
        from_below: Default::default(),
    };
    let clients: Vec<Client<'_>> = std::thread::scope(|scope| {
        let stop = StopOnDrop(&stage.load);
        scope.spawn(|| stage.load.run(&kafka, &topic, RECORDS_PER_SECOND));
        let threads = CLIENTS.map(|(name, protocol, habit)| {
            let (stage, rng) = (&stage, Rng(rng.next()));
            scope.spawn(move || {
                let mut client = Client::new(name, stage);
                let lived =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.live(protocol, habit, rng)));
                stage.failed.fetch_or(lived.is_err(), Ordering::Relaxed);
                lived.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                client
            })
        });
        stage.until("everyone to have begun", || stage.started.load(Ordering::Relaxed) == CLIENTS.len() as u64);
        for kill in 0..kills {
            stage.load.wait_more(rng.between(100, 4_000));
            let gateway = &mut gateways[rng.between(0, 2) as usize];
            gateway.kill_and_restart();
            // Every third time the next one falls into this start.
            if kill % 3 != 2 {
                gateway.wait_ready();
            }
        }
        gateways.iter_mut().for_each(|gateway| gateway.wait_ready());
        stage.until("enough resumes from below both logs", || (0..2).all(|host| stage.begun_below(host) >= FROM_BELOW));
        let written = |gateway: &Gateway| gateway.metrics().sum("dashstream_redis_written_records_total", &[]);
        stage.until("both hosts to write into Redis", || {
            redis.is_none() || gateways.iter().all(|gateway| written(gateway) > 0.0)
        });
        drop(stop);
        threads.into_iter().map(|thread| thread.join().expect("the client is content")).collect()
    });
    let read = kafka.read(&topic);
    let lengths = stage.load.lengths().expect("producing is over");
    assert_eq!(read.len() as u64, lengths.iter().sum::<u64>(), "the reader has everything that was produced");
    for client in &clients {
        assert_eq!(client.ledger.gaps, [], "{}: nothing is lost while Kafka has it", client.name);
        let got = client.records.iter().flat_map(|(partition, records)| {
            records.iter().map(move |(offset, value)| (*partition, *offset, Some(value.as_slice())))
        });
        let expected = read.iter().map(|record| (record.partition, record.offset, record.value.as_deref()));
        let differs = got.clone().zip(expected).find(|(got, expected)| got != expected);
        assert!(
            differs.is_none() && got.count() == read.len(),
            "{}: {} of {} records; the first that differs, and what the reader has: {:?}",
            client.name,
            client.ledger.records,
            read.len(),
            differs.map(|(got, expected)| ((got.0, got.1), (expected.0, expected.1)))
        );
    }
    gateways.iter_mut().for_each(|gateway| gateway.stop());
}

#[test]
fn twenty_kills_with_kafka_alone() {
    kill_at_moments(20, "kill-any", None);
}

#[test]
fn eight_kills_with_a_redis_that_both_hosts_write() {
    let redis = Redis::start(ports::free_address(), &[]);
    kill_at_moments(8, "kill-redis", Some(&redis));
}
