//! Reading through a gateway goes on where it was when the connection breaks half way or the gateway dies: every record
//! is shown once, and what Kafka does not have any more is named as a gap.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::command::{Watched, answer, of_topic};
use crate::harness::gateway::Setup;
use crate::harness::kafka::Kafka;
use crate::harness::{seeded, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// What a connection may bring before it is cut.
const CUT_AFTER_BYTES: u64 = 300_000;

/// Stands before a gateway and cuts every connection that has brought so much, until it has cut so many.
fn cutter(gateway: SocketAddr, cuts: u64) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let done = Arc::new(AtomicU64::new(0));
    let count = done.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(gateway)) else { continue };
            let (mut to_server, mut from_client) =
                (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
            std::thread::spawn(move || {
                let _ended = std::io::copy(&mut from_client, &mut to_server);
                let _closed = to_server.shutdown(Shutdown::Both);
            });
            let count = count.clone();
            std::thread::spawn(move || bring(server, client, cuts, &count));
        }
    });
    (address, done)
}

fn bring(mut server: TcpStream, mut client: TcpStream, cuts: u64, count: &AtomicU64) {
    let (mut brought, mut piece) = (0u64, [0; 16 << 10]);
    while let Ok(length @ 1..) = server.read(&mut piece) {
        if client.write_all(&piece[..length]).is_err() {
            break;
        }
        brought += length as u64;
        if brought >= CUT_AFTER_BYTES && count.load(Ordering::Relaxed) < cuts {
            count.fetch_add(1, Ordering::Relaxed);
            break;
        }
    }
    let _closed = (server.shutdown(Shutdown::Both), client.shutdown(Shutdown::Both));
}

#[test]
fn a_read_that_has_an_end_is_whole_after_every_cut() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("cut", 2);
    let producer = kafka.producer(&topic);
    for sequence in 1..=3_000 {
        (0..2).for_each(|partition| producer.send(partition, &seeded::numbered(partition, sequence, 500)));
    }
    producer.flush();
    let mut gateway = Setup::new(&kafka, &topic).start();
    wait::until_true("the gateway to have read the topic", LIMIT, || {
        gateway.metrics().all("websocket_kafka_consumer_lag", &[]) == [0.0, 0.0]
    });
    let lines = |out: &str| -> Vec<String> {
        // Only Kafka knows the key.
        let bare = |line: &str| {
            let mut object: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
            object.as_object_mut().expect("an object").remove("key");
            object.to_string()
        };
        let mut lines: Vec<_> = out.lines().map(bare).collect();
        lines.sort();
        lines
    };
    let from_kafka = lines(&of_topic(&kafka, &topic, &["export", "--output", "jsonl"]).expect("from Kafka").out);
    assert_eq!(from_kafka.len(), 6_000);
    let (address, cuts) = cutter(gateway.ws(), 4);
    let url = format!("ws://{address}");
    let export = answer(&["export", "--output", "jsonl", "--gateway", &url]).expect("from a gateway");
    assert_eq!(cuts.load(Ordering::Relaxed), 4, "it was cut");
    assert!(lines(&export.out) == from_kafka, "the same, each record once: {}", export.out.lines().count());
    let (address, cuts) = cutter(gateway.ws(), 2);
    let url = format!("ws://{address}");
    let inspect = answer(&["inspect", "--thread", "run-1", "--gateway", &url]).expect("inspect");
    assert_eq!(cuts.load(Ordering::Relaxed), 2, "it was cut");
    let whole = of_topic(&kafka, &topic, &["inspect", "--thread", "run-1"]).expect("inspect");
    assert_eq!(inspect.out, whole.out);
    gateway.stop();
}

#[test]
fn a_gateway_that_dies_costs_what_kafka_lost_and_that_is_named() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("lost", 1);
    let producer = kafka.producer(&topic);
    let send = |sequences: std::ops::RangeInclusive<u64>| {
        sequences.for_each(|sequence| producer.send(0, &seeded::numbered(0, sequence, 20)));
        producer.flush();
    };
    send(1..=3);
    let mut gateway = Setup::new(&kafka, &topic).start();
    let url = format!("ws://{}", gateway.ws());
    let arguments = ["tail", "--gateway", &url, "--from", "earliest", "--follow", "--output", "jsonl"];
    let mut tail = Watched::start(&arguments, &[]);
    let next = |tail: &mut Watched| -> serde_json::Value {
        let mut object: serde_json::Value = serde_json::from_str(&tail.line(LIMIT)).expect("a line of JSON");
        // How a hole in the offsets looks to the run; it is the gap that is judged here.
        if object["kind"] == "missing" {
            object = serde_json::from_str(&tail.line(LIMIT)).expect("a line of JSON");
        }
        object
    };
    (1..=3).for_each(|sequence| assert_eq!(next(&mut tail)["sequence"], sequence));
    for (first, lost) in [(3u64, 4u64), (11, 2)] {
        // `first` is the offset that comes next, and the sequence before the next.
        gateway.kill();
        send(first + 1..=first + 8);
        kafka.delete_records(&topic, 0, (first + lost) as i64);
        gateway = gateway.setup.spawn();
        gateway.wait_ready();
        let gap = next(&mut tail);
        assert_eq!(
            (&gap["kind"], &gap["from"], &gap["to"]),
            (&"gap".into(), &first.into(), &(first + lost).into()),
            "{gap}"
        );
        (first + lost + 1..=first + 8).for_each(|sequence| assert_eq!(next(&mut tail)["sequence"], sequence));
    }
    tail.signal(libc::SIGINT);
    let answer = tail.end(LIMIT);
    assert_eq!((answer.code, answer.out.as_str()), (Some(0), ""), "nothing is repeated: {answer:?}");
    assert_eq!(answer.err.matches("connected again").count(), 2, "{answer:?}");
    gateway.stop();
}
