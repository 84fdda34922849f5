//! `KAFKA_ON_DECODE_ERROR=pause`: a bad record stops its partition alone, at that record. It is seen in `/health` (200)
//! and `/ready` (503), the other partitions go on, and all of it is still so after a restart.

use std::time::Duration;

use serde_json::Value;

use crate::harness::corpus;
use crate::harness::gateway::{Gateway, Setup, until_health};
use crate::harness::http;
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::v1::V1Client;
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(60);

/// The entry of partition 0 in `/health`, wherever it stands.
fn paused(value: &Value) -> Option<&Value> {
    match value {
        Value::Object(map) if map.get("state").is_some_and(|state| state == "paused") => Some(value),
        Value::Object(map) => map.values().find_map(paused),
        Value::Array(values) => values.iter().find_map(paused),
        _ => None,
    }
}

fn assert_paused(gateway: &Gateway) {
    let health = until_health(gateway, "partition 0 to be paused", |health| paused(health).is_some());
    let entry = paused(&health).expect("just seen").to_string();
    assert!(entry.contains("10") && entry.contains("invalid_protobuf"), "offset and reason in {entry}");
    assert_ne!(health["status"], "healthy", "{health}");
    for address in [gateway.setup.ws, gateway.setup.admin] {
        assert_eq!(http::get(address, "/health").status, 200);
        let ready = http::get(address, "/ready");
        assert_eq!(ready.status, 503, "{}", ready.text());
        assert!(ready.text().contains("10"), "/ready says where it stopped: {}", ready.text());
        assert_eq!(http::get(address, "/live").status, 200, "it lives");
    }
}

#[test]
fn pause_stops_one_partition() {
    let kafka = Kafka::shared();
    let topic = kafka.topic_with("pause", 2, &[("retention.ms", "604800000")]);
    let setup = Setup::new(&kafka, &topic).set("KAFKA_ON_DECODE_ERROR", "pause");
    let mut gateway = setup.start();
    assert_eq!(gateway.get("/version").json()["decode_error_policy"], "pause");
    let producer = kafka.producer(&topic);
    for index in 0..21 {
        let value = if index == 10 { b"\x00\xff\xff\xff\xff".to_vec() } else { corpus::ordinary(0, index) };
        producer.send(0, &value);
        producer.send(1, &corpus::ordinary(1, index));
    }
    producer.flush();
    assert_paused(&gateway);
    // Kafka keeps it for a week: what is unread has that long, less its age.
    let margin = |health: &Value| paused(health).and_then(|entry| entry["retention_margin_seconds"].as_f64());
    let health = until_health(&gateway, "what is unread to have a margin", |health| margin(health).is_some());
    let margin = margin(&health).expect("just seen");
    assert!((604_000.0..=604_800.0).contains(&margin), "{margin} of a week");

    let follow = |gateway: &Gateway, length: u64| {
        let mut client = V1Client::connect(gateway.ws());
        client.resume_from("earliest");
        let mut ledger = Ledger::new();
        let followed = client.follow(&mut ledger, LIMIT, |_, _, _| {}, |ledger| ledger.reached(&[10, length]));
        assert!(!followed.timed_out && followed.closed.is_none(), "{followed:?}");
        (client, ledger)
    };
    let (mut client, mut ledger) = follow(&gateway, 21);
    producer.send(1, &corpus::ordinary(1, 21));
    producer.flush();
    client.follow(&mut ledger, LIMIT, |_, _, _| {}, |ledger| ledger.reached(&[10, 22]));
    ledger.assert_all("before the restart", &[10, 22]);
    assert_eq!(ledger.count(0), 10, "nothing of partition 0 from the bad record on");
    gateway.stop();
    assert_eq!(kafka.committed(&setup.group, &topic, 0).map(|(offset, _)| offset), Some(10));
    assert_eq!(kafka.committed(&setup.group, &topic, 1).map(|(offset, _)| offset), Some(22));

    let mut gateway = setup.spawn();
    wait::until_true("it to answer", LIMIT, || http::try_get(setup.admin, "/health").is_some());
    assert_paused(&gateway);
    producer.send(1, &corpus::ordinary(1, 22));
    producer.flush();
    let (_, ledger) = follow(&gateway, 23);
    ledger.assert_all("after the restart", &[10, 23]);
    assert_eq!(ledger.count(0), 10);
    gateway.stop();
    assert!(kafka.read(&format!("{topic}-dlq")).is_empty(), "pause dead-letters nothing");
}
