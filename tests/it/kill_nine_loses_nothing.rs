//! SIGKILL at ten moments under load. Clients come back with their cursors: within the warm span everyone is resumed,
//! nothing is lost, nothing is repeated, and records flow again within ten seconds.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::gateway::Setup;
use crate::harness::json::JsonClient;
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::load::{Load, PARTITIONS, StopOnDrop};
use crate::harness::rng::Rng;
use crate::harness::v1::V1Client;
use crate::harness::wait;

const KILLS: u64 = 10;
const LIMIT: Duration = Duration::from_secs(180);
/// What was promised.
const FLOWS_AGAIN: Duration = Duration::from_secs(10);

/// What the client threads tell the test.
#[derive(Default)]
struct Seen {
    /// Highest number of records that any client has.
    records: AtomicU64,
    /// Clients that have something of every partition.
    started: AtomicU64,
    failed: AtomicBool,
}

impl Seen {
    fn note(&self, ledger: &Ledger, started: &mut bool) {
        self.records.fetch_max(ledger.records, Ordering::Relaxed);
        if !*started && ledger.cursor().len() == PARTITIONS as usize {
            *started = true;
            self.started.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Connects, resumes, reads until it is cut off; again and again, until it has everything.
type Client = fn(&str, &Setup, &Load, &Seen) -> Ledger;

fn has_all(load: &Load, ledger: &Ledger) -> bool {
    load.lengths().is_some_and(|lengths| ledger.reached(&lengths))
}

fn v1_client(name: &str, setup: &Setup, load: &Load, seen: &Seen) -> Ledger {
    let deadline = Instant::now() + LIMIT;
    let (mut ledger, mut started) = (Ledger::new(), false);
    while !has_all(load, &ledger) {
        assert!(
            Instant::now() < deadline,
            "{name} has {} records and not all, cursor {:?}",
            ledger.records,
            ledger.cursor()
        );
        let mut client = V1Client::connect_soon(setup.ws);
        let cursor = ledger.record_cursor();
        if cursor.is_empty() {
            client.resume_from("earliest");
        } else {
            client.resume(&cursor);
        }
        let followed = client.follow(&mut ledger, LIMIT, Load::check, |ledger| {
            seen.note(ledger, &mut started);
            has_all(load, ledger)
        });
        let completed = followed.of_type("replay_complete").len();
        assert!(completed <= 1, "{name}: {completed} replay_complete for one resume");
        assert_eq!(
            followed.texts.len(),
            completed,
            "{name}: resumed exactly, hence told nothing else: {:?}",
            followed.texts
        );
    }
    ledger
}

fn json_client(name: &str, setup: &Setup, load: &Load, seen: &Seen) -> Ledger {
    let deadline = Instant::now() + LIMIT;
    let (mut ledger, mut started, mut stream) = (Ledger::new(), false, None);
    while !has_all(load, &ledger) {
        assert!(
            Instant::now() < deadline,
            "{name} has {} records and not all, cursor {:?}",
            ledger.records,
            ledger.cursor()
        );
        let mut client = wait::until("a connection", LIMIT, || JsonClient::try_connect(setup.ws).ok());
        let same = stream.get_or_insert_with(|| client.stream());
        assert_eq!(*same, client.stream(), "{name}: a restart does not change the stream");
        let cursor = ledger.cursor();
        if cursor.len() < PARTITIONS as usize {
            // Nobody is killed before everyone has something of every partition.
            client.resume_from("earliest");
        } else {
            client.resume(same, &cursor);
        }
        let (frames, _) = client.follow(&mut ledger, LIMIT, |ledger, _| {
            seen.note(ledger, &mut started);
            has_all(load, ledger)
        });
        for answers in frames.iter().filter(|frame| frame["type"] == "answers") {
            for answer in answers["answers"].as_array().expect("answers") {
                assert_eq!(answer["answer"], "resumed", "{name}: within the warm span: {answers}");
            }
        }
    }
    ledger
}

#[test]
fn kill_nine_loses_nothing() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("kill", PARTITIONS as i32);
    let setup = Setup::new(&kafka, &topic);
    let mut gateway = setup.start();
    let (load, seen) = (Load::new(), Seen::default());
    let clients: Vec<(&str, Client)> = vec![
        ("v1 a", v1_client),
        ("v1 b", v1_client),
        ("v1 c", v1_client),
        ("json a", json_client),
        ("json b", json_client),
    ];
    let count = clients.len() as u64;
    let ledgers: Vec<(&str, Ledger)> = std::thread::scope(|scope| {
        let stop = StopOnDrop(&load);
        scope.spawn(|| load.run(&kafka, &topic, 2_000));
        let (setup, load, seen) = (&setup, &load, &seen);
        let threads: Vec<_> = clients
            .into_iter()
            .map(|(name, client)| {
                let thread = scope.spawn(move || {
                    let ledger =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client(name, setup, load, seen)));
                    seen.failed.fetch_or(ledger.is_err(), Ordering::Relaxed);
                    ledger.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                });
                (name, thread)
            })
            .collect();
        let alright = || assert!(!seen.failed.load(Ordering::Relaxed), "a client failed, see above");
        wait::until_true("everyone to have begun", LIMIT, || {
            alright();
            seen.started.load(Ordering::Relaxed) == count
        });
        let mut rng = Rng(9);
        for kill in 0..KILLS {
            // Every third time while it is still starting from the kill before.
            let moment = if kill % 3 == 2 { rng.between(50, 1_000) } else { rng.between(2_000, 6_000) };
            load.wait_more(moment);
            let before = seen.records.load(Ordering::Relaxed);
            gateway.kill_and_restart();
            if kill % 3 != 1 {
                wait::until_true("records to flow again after SIGKILL", FLOWS_AGAIN, || {
                    alright();
                    seen.records.load(Ordering::Relaxed) > before + 100
                });
            }
        }
        load.wait_more(1_000);
        drop(stop);
        threads.into_iter().map(|(name, thread)| (name, thread.join().expect("the client is content"))).collect()
    });
    let lengths = load.lengths().expect("producing is over");
    for (name, ledger) in &ledgers {
        ledger.assert_all(name, &lengths);
        assert!(ledger.gaps.is_empty(), "{name}: {:?}", ledger.gaps);
    }
    gateway.stop();
}
