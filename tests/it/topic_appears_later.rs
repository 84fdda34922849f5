//! A topic that does not exist yet is waited for, and `/ready` says so. When it is made, it is served from its first
//! record; partitions that are added later are picked up within 30 s, from their first record.

use std::time::Duration;

use crate::harness::corpus;
use crate::harness::gateway::Setup;
use crate::harness::http;
use crate::harness::json::JsonClient;
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::load::Load;
use crate::harness::socket::{Refused, Socket};
use crate::harness::v1::V1Client;
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(60);
/// What was promised, and the time that a record needs after that.
const PICKED_UP: Duration = Duration::from_secs(30 + 5);

#[test]
fn topic_appears_later() {
    let kafka = Kafka::shared();
    let topic = kafka.fresh_name("later");
    let setup = Setup::new(&kafka, &topic);
    let mut gateway = setup.spawn();
    wait::until_true("/ready to name the missing topic", LIMIT, || {
        [setup.ws, setup.admin].iter().all(|address| {
            http::try_get(*address, "/ready").is_some_and(|ready| ready.status == 503 && ready.text().contains(&topic))
        })
    });
    assert_eq!((gateway.get("/live").status, gateway.get("/health").status), (200, 200));
    assert_eq!(Socket::try_connect(setup.ws, None).err(), Some(Refused::Status(503)), "there is no stream to give");
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        setup.ws
    );
    let response = http::request(setup.ws, &upgrade).expect("an answer");
    let seconds = response.header("retry-after").expect("Retry-After with 503");
    assert!(seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0), "Retry-After: {seconds}");

    kafka.create(&format!("{topic}-dlq"), 1, &[]);
    kafka.create(&topic, 2, &[]);
    let producer = kafka.producer(&topic);
    (0..50)
        .for_each(|index| (0..2).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index))));
    producer.flush();
    gateway.wait_ready();
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    let mut ledger = Ledger::new();
    let followed = client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.reached(&[50, 50]));
    assert!(!followed.timed_out, "from the first record");

    kafka.grow(&topic, 4);
    // A client of the topic learns of new partitions when it asks anew.
    let producer = kafka.producer(&topic);
    (0..50)
        .for_each(|index| (2..4).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index))));
    producer.flush();
    let followed = client.follow(&mut ledger, PICKED_UP, Load::check, |ledger| ledger.reached(&[50; 4]));
    assert!(!followed.timed_out && followed.closed.is_none(), "new partitions after {PICKED_UP:?}: {followed:?}");
    ledger.assert_all("the client that was there", &[50; 4]);
    let hello = JsonClient::connect(gateway.ws()).hello;
    assert_eq!(hello["partitions"].as_array().map(Vec::len), Some(4), "{hello}");
    gateway.stop();
}
