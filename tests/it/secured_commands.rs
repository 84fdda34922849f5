//! The commands that read and send work on a cluster that asks who they are, with the settings of `serve`: what one
//! door takes in, the same door shows again. A right that is missing is named and nothing more is needed than that
//! right, and a key of ours may have a password.

use serde_json::Value;

use crate::harness::command::Answer;
use crate::harness::secured::{ADMIN, BOB, Door, KEY_PASSWORD, Secured};

/// Two runs of two events each, as a file that `produce` takes.
fn events() -> String {
    let file = Secured::shared().file("events.jsonl");
    let line = |thread: &str, event_type: &str| {
        format!(
            "{{\"kind\":\"event\",\"thread_id\":\"{thread}\",\"event_type\":\"{event_type}\",\"node_id\":\"plan\"}}\n"
        )
    };
    let lines = ["t-1", "t-2"].map(|thread| line(thread, "GRAPH_START") + &line(thread, "GRAPH_END"));
    std::fs::write(&file, lines.concat()).expect("a file can be written");
    file
}

fn counts(answer: &Answer) -> Value {
    serde_json::from_str(answer.lines().last().expect("a last line")).expect("JSON")
}

/// Thread and type of every event, sorted.
fn shown(answer: &Answer) -> Vec<(String, String)> {
    let text = |object: &Value, name: &str| object[name].as_str().expect("a text").to_owned();
    let mut shown: Vec<_> =
        answer.objects().iter().map(|object| (text(object, "thread_id"), text(object, "event_type"))).collect();
    shown.sort();
    shown
}

fn expected(threads: &[&str]) -> Vec<(String, String)> {
    let both = |thread: &&str| ["GRAPH_END", "GRAPH_START"].map(|kind| ((*thread).to_owned(), kind.to_owned()));
    let mut expected: Vec<_> = threads.iter().flat_map(both).collect();
    expected.sort();
    expected
}

#[test]
fn what_is_sent_through_a_door_is_read_through_it() {
    let secured = Secured::shared();
    let file = events();
    for (what, door) in secured.open_doors() {
        let topic = secured.kafka.topic("sent", 2);
        let sent = door.answer(&topic, &["produce", &file, "--output", "json"]).expect(what);
        assert_eq!((&counts(&sent)["read"], &counts(&sent)["delivered"]), (&4.into(), &4.into()), "{what}: {sent:?}");
        let tail = door.answer(&topic, &["tail", "--from", "earliest", "--output", "jsonl"]).expect(what);
        assert_eq!((shown(&tail), tail.err.as_str()), (expected(&["t-1", "t-2"]), ""), "{what}: {tail:?}");
        let export = door.answer(&topic, &["export", "--thread", "t-2", "--output", "jsonl"]).expect(what);
        assert_eq!(shown(&export), expected(&["t-2"]), "{what}: {export:?}");
        let inspect = door.answer(&topic, &["inspect", "--thread", "t-1"]).expect(what);
        assert!(inspect.out.contains("t-1") && inspect.out.contains("2 events"), "{what}: {inspect:?}");
        let simulate = ["simulate", "--rate", "500", "--seconds", "1", "--seed", "7", "--output", "json"];
        let made_up = counts(&door.answer(&topic, &simulate).expect(what));
        let number = |name: &str| made_up[name].as_u64().unwrap_or_else(|| panic!("{what}: {name} in {made_up}"));
        assert!(number("events") >= 100, "{what}: {made_up}");
        assert_eq!((number("acknowledged"), number("failed")), (number("records"), 0), "{what}: {made_up}");
    }
}

/// One line, which has these parts.
fn denied(answer: &Answer, parts: &[&str]) {
    assert_eq!((answer.code, answer.err.lines().count()), (Some(1), 1), "{answer:?}");
    for part in parts {
        assert!(answer.err.contains(part), "{part:?} is missing in: {}", answer.err);
    }
}

#[test]
fn a_right_that_is_missing_is_named_and_enough() {
    let secured = Secured::shared();
    let topic = secured.kafka.topic("granted", 1);
    let door = secured.sasl_ssl("SCRAM-SHA-512", BOB);
    let file = events();
    let answer = |arguments: &[&str]| door.answer(&topic, arguments);
    let read = ["tail", "--from", "earliest", "--output", "jsonl"];
    let simulate = ["simulate", "--rate", "100", "--seconds", "20"];
    let to_read = ["user \"bob\" is not allowed", &topic, "Describe and Read", "kafka.sasl_username"];
    let to_write = ["user \"bob\" is not allowed", &topic, "Describe and Write", "kafka.sasl_username"];
    secured.sasl_ssl("SCRAM-SHA-512", ADMIN).answer(&topic, &["produce", &file]).expect("produce");
    denied(&answer(&read), &to_read);
    denied(&answer(&["produce", &file]), &to_write);
    denied(&answer(&simulate), &to_write);
    // The topic is seen, and still neither may be done.
    secured.allow(&["--topic", &topic], &["Describe"]);
    denied(&answer(&read), &to_read);
    denied(&answer(&["produce", &file]), &to_write);
    denied(&answer(&simulate), &to_write);
    secured.allow(&["--topic", &topic], &["Write"]);
    let sent = answer(&["produce", &file, "--output", "json"]).expect("produce");
    assert_eq!(counts(&sent)["delivered"], 4, "{sent:?}");
    denied(&answer(&read), &to_read);
    secured.allow(&["--topic", &topic], &["Read"]);
    // No right on any group is needed.
    assert_eq!(shown(&answer(&read).expect("tail")), expected(&["t-1", "t-1", "t-2", "t-2"]));
}

/// Every command that comes to Kafka, and the one that only looks at settings.
fn refused(door: &Door, topic: &str, parts: &[&str]) {
    let file = events();
    for arguments in [
        &["tail"][..],
        &["export"],
        &["produce", &file],
        &["simulate", "--seconds", "1"],
        &["topics", "describe", topic],
        &["check-config"],
        &["serve"],
    ] {
        let answer = door.answer(topic, arguments);
        assert_eq!((answer.code, answer.out.as_str()), (Some(2), ""), "{arguments:?}: {answer:?}");
        // One mistake, below its headline.
        assert_eq!(answer.err.lines().count(), 2, "{arguments:?}: {answer:?}");
        for part in parts {
            assert!(answer.err.contains(part), "{arguments:?}: {part:?} is missing in: {}", answer.err);
        }
        assert!(!answer.err.contains("-secret") && !answer.err.contains("wrong word"), "a secret is told: {answer:?}");
    }
}

#[test]
fn a_key_of_ours_may_have_a_password_and_a_wrong_one_is_said_before_anybody_is_asked() {
    let secured = Secured::shared();
    let topic = secured.kafka.topic("locked", 1);
    let file = events();
    let door = secured.mutual_locked();
    for door in [
        door.clone(),
        // The predecessor's name.
        door.clone().without("DASHSTREAM_KAFKA_SSL_KEY_PASSWORD").set("KAFKA_SSL_KEY_PASSWORD", KEY_PASSWORD),
    ] {
        let topic = secured.kafka.topic("locked", 1);
        door.answer(&topic, &["topics", "describe", &topic]).expect("topics");
        let sent = door.answer(&topic, &["produce", &file, "--output", "json"]).expect("produce");
        assert_eq!(counts(&sent)["delivered"], 4, "{sent:?}");
        let tail = door.answer(&topic, &["tail", "--from", "earliest", "--output", "jsonl"]).expect("tail");
        assert_eq!(shown(&tail), expected(&["t-1", "t-2"]));
    }
    let mut gateway = door.setup(&secured.kafka, &topic).start();
    gateway.stop();

    let password = "DASHSTREAM_KAFKA_SSL_KEY_PASSWORD";
    let key = secured.file("client-locked.key");
    let wrong = ["kafka.ssl_key_password, kafka.ssl_key_location", "does not open the key", &key];
    refused(&door.clone().set(password, "wrong word"), &topic, &wrong);
    let none = ["kafka.ssl_key_password, kafka.ssl_key_location", "is encrypted, and there is no password", &key];
    refused(&door.clone().without(password), &topic, &none);
    let stranger = door.without(password).set("KAFKA_SSL_KEY_LOCATION", secured.file("server.key"));
    let apart = ["kafka.ssl_certificate_location, kafka.ssl_key_location", "do not belong together"];
    refused(&stranger, &topic, &apart);
}
