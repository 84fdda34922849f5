//! `dlq.mode = fail_closed` with no dead-letter topic: it is said at start, live delivery goes on, and the commit does
//! not pass the dead letter, also not over SIGKILL. When the topic is made, the letter arrives and the commit moves on.

use std::time::Duration;

use crate::harness::corpus;
use crate::harness::gateway::{Setup, until_health};
use crate::harness::http;
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::v1::V1Client;
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn fail_closed_holds_the_commit() {
    let kafka = Kafka::shared();
    let topic = kafka.fresh_name("fail-closed");
    let dlq = format!("{topic}-dlq");
    kafka.create(&topic, 2, &[]);
    let setup = Setup::new(&kafka, &topic)
        .set("DASHSTREAM_DLQ_MODE", "fail_closed")
        .set("DASHSTREAM_KAFKA_COMMIT_INTERVAL", "1s");
    let mut gateway = setup.spawn();
    wait::until_true("it to answer", LIMIT, || http::try_get(setup.admin, "/health").is_some());
    until_health(&gateway, "the missing dead-letter topic in /health", |health| health.to_string().contains(&dlq));
    wait::until_true("the missing dead-letter topic in /ready", LIMIT, || {
        let ready = gateway.get_admin("/ready");
        ready.status == 503 && ready.text().contains(&dlq)
    });

    let producer = kafka.producer(&topic);
    for index in 0..21 {
        producer.send(0, if index == 10 { b"\x00\xff\xff\xff\xff" } else { corpus::ordinary(0, index).leak() });
        producer.send(1, &corpus::ordinary(1, index));
    }
    producer.flush();
    let mut client = V1Client::connect_soon(gateway.ws());
    client.resume_from("earliest");
    let mut ledger = Ledger::new();
    let followed = client.follow(&mut ledger, LIMIT, |_, _, _| {}, |ledger| ledger.reached(&[21, 21]));
    assert!(!followed.timed_out, "live delivery goes on");
    assert_eq!(ledger.missing(0, 0, 21), [10]);

    let committed = |partition| kafka.committed(&setup.group, &topic, partition).map(|(offset, _)| offset);
    let mut length = 21;
    let mut more = || {
        (0..2).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, length)));
        producer.flush();
        length += 1;
        length
    };
    // The other partition's commits show that commits happen; each time this one stands.
    for _ in 0..3 {
        let next = more();
        wait::until_true("partition 1 to be committed", LIMIT, || committed(1) == Some(next));
        assert!(
            committed(0).is_none_or(|offset| offset <= 10),
            "the commit passed the dead letter: {:?}",
            committed(0)
        );
    }
    gateway.kill();
    let mut gateway = setup.spawn();
    let next = more();
    wait::until_true("partition 1 to be committed", LIMIT, || committed(1) == Some(next));
    assert!(committed(0).is_none_or(|offset| offset <= 10), "the commit passed the dead letter: {:?}", committed(0));

    kafka.create(&dlq, 1, &[]);
    wait::until_true("the letter", LIMIT, || kafka.watermarks(&dlq, 0).1 >= 1);
    wait::until_true("the commit to move on", LIMIT, || committed(0) == Some(next));
    wait::until_true("/ready", LIMIT, || gateway.get_admin("/ready").status == 200);
    gateway.stop();
    let letters = kafka.read(&dlq);
    assert_eq!(letters.len(), 1, "one letter");
    assert_eq!(letters[0].json()["kafka_offset"], 10);
}
