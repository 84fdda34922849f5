//! Two gateways of different groups read one topic. They name the stream alike, a client moves between them with its
//! cursor and loses and repeats nothing, and a poison record has one distinct key in the dead-letter topic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::harness::corpus;
use crate::harness::gateway::Setup;
use crate::harness::json::JsonClient;
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::load::{Load, PARTITIONS, StopOnDrop};
use crate::harness::v1::V1Client;
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_client_moves_between_hosts_with_its_cursor() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("two", PARTITIONS as i32);
    let setup = Setup::new(&kafka, &topic);
    let gateways = [setup.start(), setup.sibling(&kafka).start()];
    assert_eq!(gateways[0].stream(), gateways[1].stream(), "the stream does not depend on the host");
    let load = Load::new();
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&load);
        scope.spawn(|| load.run(&kafka, &topic, 2_000));
        let (mut json, mut v1) = (Ledger::new(), Ledger::new());
        for step in 0..12u64 {
            let gateway = &gateways[(step % 2) as usize];
            if step == 11 {
                load.stop();
                wait::until_true("the end of producing", LIMIT, || load.lengths().is_some());
            }
            let lengths = load.lengths();
            let enough = |ledger: &Ledger| match &lengths {
                Some(lengths) => ledger.reached(lengths),
                None => ledger.records > step * 300 && ledger.cursor().len() == PARTITIONS as usize,
            };

            let mut client = JsonClient::connect(gateway.ws());
            if step == 0 {
                client.resume_from("earliest")
            } else {
                client.resume(&gateways[0].stream(), &json.cursor())
            }
            let (frames, closed) = client.follow(&mut json, LIMIT, |ledger, _| enough(ledger));
            assert_eq!(closed, None);
            for frame in frames.iter().filter(|frame| frame["type"] == "answers" && step > 0) {
                let answers = frame["answers"].as_array().expect("answers");
                assert!(answers.iter().all(|answer| answer["answer"] == "resumed"), "{frame}");
            }

            let mut client = V1Client::connect(gateway.ws());
            if step == 0 {
                client.resume_from("earliest")
            } else {
                client.resume(&v1.record_cursor())
            }
            let followed = client.follow(&mut v1, LIMIT, Load::check, enough);
            assert!(followed.closed.is_none() && !followed.timed_out, "{followed:?}");
            assert!(followed.texts.iter().all(|text| text["type"] == "replay_complete"), "{:?}", followed.texts);
        }
        let lengths = load.lengths().expect("producing is over");
        json.assert_all("json", &lengths);
        v1.assert_all("v1", &lengths);
    });
}

#[test]
fn a_poison_record_has_one_distinct_key() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("two-poison", 2);
    let setup = Setup::new(&kafka, &topic);
    let mut gateways = [setup.start(), setup.sibling(&kafka).start()];
    let producer = kafka.producer(&topic);
    let mut poison = BTreeSet::new();
    for index in 0..200u64 {
        for partition in 0..2u32 {
            if index % 10 == 3 {
                poison.insert((partition, index));
                producer.send(partition, b"\x00\xff\xff\xff\xff not a message");
            } else {
                producer.send(partition, &corpus::ordinary(partition, index));
            }
        }
    }
    producer.flush();
    let mut ids_of_clients = Vec::new();
    for gateway in &gateways {
        let mut client = JsonClient::connect(gateway.ws());
        client.resume_from("earliest");
        let mut ids = BTreeMap::new();
        let deadline = std::time::Instant::now() + LIMIT;
        while ids.len() < poison.len() {
            match client.next(deadline) {
                Some(crate::harness::json::JsonEvent::Frame(frame)) if frame["type"] == "dead_lettered" => {
                    let partition = frame["partition"].as_u64().expect("a partition") as u32;
                    let id = frame["id"].as_str().expect("an id").to_owned();
                    ids.insert((partition, crate::harness::json::decimal(&frame["offset"])), id);
                }
                Some(crate::harness::json::JsonEvent::Closed(closed)) => panic!("{closed:?}"),
                Some(_) => {}
                None => panic!("told of {} of {} dead letters", ids.len(), poison.len()),
            }
        }
        ids_of_clients.push(ids);
    }
    assert_eq!(ids_of_clients[0], ids_of_clients[1], "both hosts name the letters alike");
    let dlq = format!("{topic}-dlq");
    wait::until_true("the letters of both", LIMIT, || kafka.watermarks(&dlq, 0).1 >= 2 * poison.len() as i64);
    gateways.iter_mut().for_each(|gateway| gateway.stop());
    let mut keys: BTreeMap<(u32, u64), BTreeSet<String>> = BTreeMap::new();
    for letter in kafka.read(&dlq) {
        let envelope = letter.json();
        let partition = envelope["kafka_partition"].as_u64().expect("kafka_partition") as u32;
        let offset = envelope["kafka_offset"].as_u64().expect("kafka_offset");
        keys.entry((partition, offset)).or_default().insert(letter.key_text());
    }
    assert_eq!(keys.keys().copied().collect::<BTreeSet<_>>(), poison);
    for (place, keys) in &keys {
        let expected = BTreeSet::from([ids_of_clients[0][place].clone()]);
        assert_eq!(*keys, expected, "one distinct key for {place:?}, the one that clients are told");
    }
}
