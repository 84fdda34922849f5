//! The topic is deleted and made again under its name. Clients are closed with 4004, the records of the new stream
//! flow within a minute, and a cursor of the old one is answered `wrong_stream`, never believed.

use std::time::Duration;

use crate::harness::corpus;
use crate::harness::gateway::Setup;
use crate::harness::json::JsonClient;
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::load::Load;
use crate::harness::socket::Closed;
use crate::harness::v1::V1Client;
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn stream_changed_is_told() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("again", 2);
    let mut gateway = Setup::new(&kafka, &topic).start();
    let old_stream = gateway.stream();
    let (mut v1, mut json) = (V1Client::connect(gateway.ws()), JsonClient::connect(gateway.ws()));
    let (mut v1_ledger, mut json_ledger) = (Ledger::new(), Ledger::new());
    let produce = |length: u64| {
        let producer = kafka.producer(&topic);
        (0..length).for_each(|index| {
            (0..2).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index)))
        });
        producer.flush();
    };
    produce(100);
    v1.follow(&mut v1_ledger, LIMIT, Load::check, |ledger| ledger.reached(&[100, 100]));
    json.follow(&mut json_ledger, LIMIT, |ledger, _| ledger.reached(&[100, 100]));
    let old_cursor = json_ledger.cursor();

    kafka.delete(&topic);
    kafka.create(&topic, 2, &[]);
    // More than before: the old cursor lies within the new topic.
    produce(150);
    let closed = Closed { code: Some(4004), reason: "stream_changed".to_owned() };
    assert_eq!(v1.socket.wait_closed(LIMIT), closed);
    let (frames, ended) = json.follow(&mut json_ledger, LIMIT, |_, _| false);
    assert_eq!(ended, Some(closed));
    assert!(frames.iter().any(|frame| frame["type"] == "bye" && frame["reason"] == "stream_changed"), "{frames:?}");

    wait::until_true("the new stream", LIMIT, || {
        JsonClient::try_connect(gateway.ws()).is_ok_and(|client| client.stream() != old_stream)
    });
    // `/version` is written once a second, and names no stream while none is known.
    wait::until_true("the new stream in /version", LIMIT, || {
        let version = gateway.get("/version").json();
        version["resume_namespace"].as_str().is_some_and(|stream| stream != old_stream)
    });
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    let mut ledger = Ledger::new();
    let followed = client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.reached(&[150, 150]));
    assert!(!followed.timed_out, "the new records within a minute");
    ledger.assert_all("a client of the new stream", &[150, 150]);

    let mut client = JsonClient::connect(gateway.ws());
    client.resume(&old_stream, &old_cursor);
    let answers = client.until(&mut Ledger::new(), "answers", LIMIT);
    for answer in answers["answers"].as_array().expect("answers") {
        assert_eq!(answer["answer"], "wrong_stream", "{answers}");
    }
    // It also comes up again: what was committed for the old stream is not believed either.
    gateway.stop();
    let mut gateway = gateway.setup.start();
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    let mut ledger = Ledger::new();
    client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.reached(&[150, 150]));
    ledger.assert_all("a client after the restart", &[150, 150]);
    gateway.stop();
}

/// The change happens while no gateway runs: the commit of the old stream must not be used for the new one.
#[test]
fn a_change_while_nobody_looked_is_noticed_at_start() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("again-offline", 1);
    let mut gateway = Setup::new(&kafka, &topic).start();
    let produce = |length: u64| {
        let producer = kafka.producer(&topic);
        (0..length).for_each(|index| producer.send(0, &corpus::ordinary(0, index)));
        producer.flush();
    };
    produce(100);
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    client.follow(&mut Ledger::new(), LIMIT, Load::check, |ledger| ledger.reached(&[100]));
    let old_stream = gateway.stream();
    gateway.stop();
    kafka.delete(&topic);
    kafka.create(&topic, 1, &[]);
    produce(120);
    let mut gateway = gateway.setup.start();
    assert_ne!(gateway.stream(), old_stream);
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    let mut ledger = Ledger::new();
    client.follow(&mut ledger, LIMIT, Load::check, |ledger| ledger.reached(&[120]));
    ledger.assert_all("from the first record of the new stream", &[120]);
    gateway.stop();
}
