//! A program that uses `dashstream::client` loses nothing and repeats nothing, however often the gateway is killed:
//! one that runs all the time, and one that stops and is started again with its cursor in a file.
//!
//! This one file uses the crate, since its client is what is judged. The judge, the producer and the expected bytes
//! are the harness's own.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashstream::client::{Builder, Client, Event, FileStore, Flow, Start};

use crate::harness::gateway::Setup;
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::load::{Load, PARTITIONS, StopOnDrop};
use crate::harness::rng::Rng;
use crate::harness::wait;

const KILLS: u64 = 6;
const LIMIT: Duration = Duration::from_secs(180);

/// What one program got, over all its connections and lives.
#[derive(Default)]
struct Got {
    ledger: Ledger,
    connections: u64,
    lives: u64,
    done: bool,
}

impl Got {
    fn note(&mut self, event: Event) {
        match event {
            Event::Record(record) => {
                Load::check(record.partition, record.offset, &record.value);
                record.message().expect("every record of this load is a message");
                self.ledger.record(record.partition, record.offset);
            }
            Event::Hello(_) => self.connections += 1,
            Event::Resumed { .. } | Event::Live { .. } | Event::Disconnected { .. } | Event::Progress { .. } => {}
            other => panic!("within the warm span everything is resumed: {other:?}"),
        }
    }
}

fn builder(setup: &Setup) -> Builder {
    Client::builder(&format!("ws://{}", setup.ws)).start(Start::Earliest)
}

/// One life of a program: until it has `records` more, or it is done.
fn live(client: &mut Client, got: &Mutex<Got>, records: u64) -> ControlFlow<()> {
    let handle = client.handle();
    let mut left = records;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The last record may be there before it is known to be the last.
        scope.spawn(|| {
            wait::until_true("a life to be over", LIMIT, || {
                got.lock().expect("the judge is content").done || over.load(Ordering::Relaxed)
            });
            handle.stop();
        });
        let ran = client.run(|event| {
            left -= u64::from(matches!(event, Event::Record(_)));
            got.lock().expect("not poisoned").note(event);
            Ok::<_, std::convert::Infallible>(if left == 0 { Flow::Stop } else { Flow::Continue })
        });
        over.store(true, Ordering::Relaxed);
        ran.expect("a client ends only when it is told to");
    });
    let mut got = got.lock().expect("not poisoned");
    got.lives += 1;
    if got.done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

#[test]
fn the_reference_client_resumes() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("client", PARTITIONS as i32);
    let setup = Setup::new(&kafka, &topic);
    let mut gateway = setup.start();
    let load = Load::new();
    let path = std::env::temp_dir().join(format!("{topic}.cursor"));
    let (steady, reborn) = (Mutex::new(Got::default()), Mutex::new(Got::default()));
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&load);
        scope.spawn(|| load.run(&kafka, &topic, 2_000));
        let steady_thread = scope.spawn(|| {
            let mut client = builder(&setup).build().expect("a client");
            live(&mut client, &steady, u64::MAX)
        });
        let reborn_thread = scope.spawn(|| {
            let mut rng = Rng(4);
            let life = |records| {
                let store = FileStore::new(&path);
                let mut client = builder(&setup).store(store).build().expect("a client");
                live(&mut client, &reborn, records)
            };
            while life(rng.between(500, 5_000)).is_continue() {}
        });
        let alright = || {
            let failed = |got: &Mutex<Got>| got.is_poisoned();
            assert!(!failed(&steady) && !failed(&reborn), "a client failed, see above");
        };
        let records = || {
            alright();
            [&steady, &reborn].map(|got| got.lock().expect("not poisoned").ledger.records)
        };
        wait::until_true("both to have begun", LIMIT, || records().into_iter().all(|records| records > 1_000));
        let mut rng = Rng(9);
        for kill in 0..KILLS {
            // Every third time while it is still starting from the kill before.
            load.wait_more(if kill % 3 == 2 { rng.between(50, 1_000) } else { rng.between(2_000, 6_000) });
            let before = records();
            gateway.kill_and_restart();
            if kill % 3 != 1 {
                wait::until_true("records to flow again", LIMIT, || {
                    records().into_iter().zip(before).all(|(now, before)| now > before + 100)
                });
            }
        }
        load.wait_more(1_000);
        drop(stop);
        let lengths = wait::until("the producer to end", LIMIT, || load.lengths());
        for got in [&steady, &reborn] {
            wait::until_true("everything to arrive", LIMIT, || {
                alright();
                let mut got = got.lock().expect("not poisoned");
                got.done = got.ledger.reached(&lengths);
                got.done
            });
        }
        steady_thread.join().expect("the client is content").is_break().then_some(()).expect("it was stopped last");
        reborn_thread.join().expect("the client is content");
    });
    let lengths = load.lengths().expect("producing is over");
    let (steady, reborn) = (steady.into_inner().expect("content"), reborn.into_inner().expect("content"));
    for (name, got) in [("steady", &steady), ("reborn", &reborn)] {
        got.ledger.assert_all(name, &lengths);
        assert_eq!(got.ledger.records, lengths.iter().sum::<u64>(), "{name}");
    }
    // Not each kill needs to be one: one that falls into a start is not noticed.
    assert!(steady.connections > KILLS / 2, "{} connections", steady.connections);
    assert!(reborn.lives > 5, "{} lives", reborn.lives);
    let _it_is_gone = std::fs::remove_file(&path);
    gateway.stop();
}
