//! The commands that read show exactly what a topic holds, in every form, from Kafka, from a gateway and from a file;
//! they say what is missing, repeated or unreadable; and they leave nothing behind.
//!
//! How each form looks is judged in `every_form_is_as_committed`.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

use crate::harness::command::{self, Answer, Running, answer, of_topic};
use crate::harness::gateway::Setup;
use crate::harness::kafka::{Kafka, Parts};
use crate::harness::{corpus, golden, ports, seeded, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// What is committed of each form is one and the same corpus.
#[test]
fn the_forms_agree_with_each_other() {
    // json, jsonl and csv of everything are the same for both commands that have them.
    assert_eq!(golden::read("tail.jsonl"), golden::read("export.jsonl"));
    assert_eq!(golden::read("tail.csv"), golden::read("export.csv"));
    let document: Value = serde_json::from_str(&golden::read("export.json")).expect("JSON");
    assert_eq!((&document["total_events"], &document["bad_records"]), (&20.into(), &4.into()));
    assert_eq!((&document["missing_sequences"], &document["duplicates"]), (&2.into(), &1.into()));
}

/// Events without what only Kafka knows, and where no event is.
fn told(answer: Answer) -> (Vec<Value>, BTreeSet<(u64, u64, String)>) {
    let (mut events, mut bad) = (Vec::new(), BTreeSet::new());
    for mut object in answer.objects() {
        match object["kind"].as_str().expect("a kind") {
            "bad" => {
                let number = |name: &str| object[name].as_u64().expect("a number");
                let reason = object["reason"].as_str().expect("a reason").to_owned();
                bad.insert((number("partition"), number("offset"), reason));
            }
            "gap" => panic!("nothing is gone: {object}"),
            "missing" | "duplicate" => events.push(object),
            _ => {
                object.as_object_mut().expect("an object").remove("key");
                events.push(object);
            }
        }
    }
    (events, bad)
}

#[test]
fn kafka_a_gateway_and_a_file_tell_the_same() {
    let kafka = Kafka::shared();
    let topic = seeded::topic(&kafka);
    let setup = Setup::new(&kafka, &topic);
    let mut gateway = setup.start();
    let url = format!("ws://{}", gateway.ws());
    let folder = std::env::temp_dir().join(&topic);
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();

    let kafka_says = told(of_topic(&kafka, &topic, &["export", "--output", "jsonl"]).expect("from Kafka"));
    assert_eq!((kafka_says.0.len(), kafka_says.1.len()), (22, 4), "20 events, a gap in a run, a repeat");
    // The gateway begins to read when it is asked to; that it is ready does not say that it has read.
    wait::until_true("the gateway to have read the topic", LIMIT, || {
        let counted = gateway.health()["partitions"].as_array().map_or(0, Vec::len);
        counted >= 3 || gateway.metrics().all("websocket_kafka_consumer_lag", &[]) == [0.0, 0.0, 0.0]
    });
    let gateway_says = wait::until("the same from the gateway", LIMIT, || {
        let says = told(answer(&["export", "--output", "jsonl", "--gateway", &url]).expect("from a gateway"));
        (says.0.len() >= kafka_says.0.len()).then_some(says)
    });
    assert_eq!(gateway_says, kafka_says);

    for form in ["json", "jsonl"] {
        let file = path(&format!("export.{form}"));
        let made = of_topic(&kafka, &topic, &["export", "--output", form, "--to", &file]).expect("to a file");
        assert_eq!(made.out, "");
        let again = answer(&["export", "--output", form, "--file", &file]).expect("from a file");
        let written = std::fs::read_to_string(&file).expect("the file");
        // Findings of json stand behind the events and are not read again; all else is the same, byte for byte.
        match form {
            "jsonl" => assert_eq!(told(again), kafka_says),
            _ => {
                let (written, again): (Value, Value) =
                    (serde_json::from_str(&written).expect("JSON"), serde_json::from_str(&again.out).expect("JSON"));
                assert_eq!(again["events"], written["events"]);
                assert_eq!(again["missing_sequences"], written["missing_sequences"]);
            }
        }
    }
    // Filters mean the same everywhere.
    let file = path("export.jsonl");
    for filter in [
        &["--thread", "run-1"][..],
        &["--tenant", "default"],
        &["--kind", "error,metrics"],
        &["--event-type", "error"],
        &["--node", "retrieve", "--node", "answer"],
        &["--partition", "1"],
    ] {
        let asked = [&["export", "--output", "jsonl"][..], filter].concat();
        let with = |flag, place| [&asked[..], &[flag, place]].concat();
        let from_kafka = told(of_topic(&kafka, &topic, &asked).expect("from Kafka")).0;
        assert!(!from_kafka.is_empty(), "{filter:?}");
        let from_gateway = told(answer(&with("--gateway", url.as_str())).expect("from a gateway")).0;
        assert_eq!(from_gateway, from_kafka, "{filter:?}");
        let from_file = told(answer(&with("--file", file.as_str())).expect("from a file")).0;
        assert_eq!(from_file, from_kafka, "{filter:?}");
    }
    std::fs::remove_dir_all(&folder).expect("ours");
    gateway.stop();
}

#[test]
fn an_empty_topic_is_no_error() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("empty", 2);
    assert_eq!(of_topic(&kafka, &topic, &["tail"]).expect("tail").out, "");
    // A run that is named is asked for.
    let replayed = of_topic(&kafka, &topic, &["replay", "--thread", "x"]);
    assert_eq!((replayed.code, replayed.out.as_str()), (Some(2), ""), "{}", replayed.err);
    assert_eq!(of_topic(&kafka, &topic, &["runs", "--output", "jsonl"]).expect("runs").out, "");
    let document = of_topic(&kafka, &topic, &["export"]).expect("export").out;
    let document: Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!((&document["events"], &document["total_events"]), (&Value::Array(Vec::new()), &0.into()));
    let csv = of_topic(&kafka, &topic, &["export", "--output", "csv"]).expect("export").out;
    assert_eq!(csv.lines().count(), 1, "the names of the columns: {csv}");
}

#[test]
fn what_retention_took_is_told_and_holes_are_not() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("gone", 1);
    let producer = kafka.producer(&topic);
    (1..=20).for_each(|sequence| producer.send(0, &seeded::numbered(0, sequence, 20)));
    producer.flush();
    kafka.delete_records(&topic, 0, 5);
    let answer = of_topic(&kafka, &topic, &["tail", "--from", "0", "--output", "jsonl"]).expect("tail");
    let objects = answer.objects();
    assert_eq!(
        objects[0],
        serde_json::json!({
            "kind": "gap", "partition": 0, "from": 0, "to": 5, "reason": "retention",
        })
    );
    let offsets: Vec<_> = objects[1..].iter().map(|object| object["offset"].as_u64().expect("an offset")).collect();
    assert_eq!(offsets, (5..20).collect::<Vec<_>>());
    // Whoever asks for all that there is misses nothing.
    let all = of_topic(&kafka, &topic, &["tail", "--from", "earliest", "--output", "jsonl"]).expect("tail");
    assert_eq!(all.objects().len(), 15);

    let topic = kafka.topic("holes", 1);
    let producer = kafka.producer_with(&topic, &[("transactional.id", &topic), ("transaction.timeout.ms", "180000")]);
    producer.init_transactions();
    for transaction in 0..4u64 {
        producer.begin();
        let sequences = if transaction % 2 == 1 { 100..103 } else { transaction * 2 + 1..transaction * 2 + 5 };
        sequences.for_each(|sequence| producer.send(0, &seeded::numbered(0, sequence, 20)));
        if transaction % 2 == 1 { producer.abort() } else { producer.commit() }
    }
    let objects = of_topic(&kafka, &topic, &["export", "--output", "jsonl"]).expect("export").objects();
    let sequences: Vec<_> = objects.iter().map(|object| object["sequence"].as_u64().unwrap_or(0)).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6, 7, 8], "aborted events never were, and nothing is missing: {objects:?}");
}

#[test]
fn where_to_begin_and_how_much_is_as_asked() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("begin", 1);
    let producer = kafka.producer(&topic);
    for sequence in 1..=50u64 {
        let value = seeded::numbered(0, sequence, 20);
        let timestamp_ms = Some((seeded::BEGAN_US / 1_000 + sequence) as i64);
        producer.send_parts(0, Parts { value: Some(&value), timestamp_ms, ..Parts::default() });
    }
    // A poison in between is shown, and is no event.
    producer.send(0, b"\x00\xff\xff garbage");
    producer.flush();
    let sequences = |arguments: &[&str]| -> Vec<u64> {
        let arguments = [&["tail", "--output", "jsonl"][..], arguments].concat();
        let objects = of_topic(&kafka, &topic, &arguments).expect("tail").objects();
        objects.iter().filter_map(|object| object["sequence"].as_u64()).collect()
    };
    assert_eq!(sequences(&["--from", "45"]), (46..=50).collect::<Vec<_>>());
    assert_eq!(sequences(&["--from", "-3"]), [49, 50]);
    assert_eq!(sequences(&[]), (42..=50).collect::<Vec<_>>(), "ten records, the last of them is none");
    assert_eq!(sequences(&["--from", "latest"]), [0; 0]);
    assert_eq!(sequences(&["--from", "2026-09-21T14:13:20.048Z"]), [48, 49, 50]);
    assert_eq!(sequences(&["--from", "2100-01-01T00:00:00Z"]), [0; 0]);
    assert_eq!(sequences(&["--from", "earliest", "--limit", "2"]), [1, 2]);
    // A limit counts what is shown, not what is read.
    assert_eq!(
        sequences(&["--from", "earliest", "--limit", "2", "--event-type", "progress", "--thread", "run-0"]),
        [1, 2]
    );
    assert_eq!(sequences(&["--from", "earliest", "--limit", "2", "--event-type", "NODE_START"]), [0; 0]);
}

#[test]
fn follow_goes_on_and_an_interrupt_ends_it_with_what_was_found() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("follow", 2);
    let producer = kafka.producer(&topic);
    producer.send(0, &seeded::numbered(0, 1, 20));
    producer.flush();
    let mut tail = Running::start(&kafka, &topic, &["tail", "--follow", "--output", "json"]);
    let mut lines = Running::start(&kafka, &topic, &["tail", "-f", "--output", "jsonl"]);
    assert_eq!(tail.line(), "{\"thread_id\":null,\"events\":[");
    let shows = |line: &str, sequence: u64| assert!(line.contains(&format!("\"sequence\":{sequence},")), "{line}");
    shows(&lines.line(), 1);
    producer.send(1, &seeded::numbered(1, 7, 20));
    producer.flush();
    shows(&lines.line(), 7);
    // A line of the document ends when the next event comes.
    let first = tail.line();
    shows(&first, 1);
    for running in [&tail, &lines] {
        running.interrupt();
    }
    let (tail, lines) = (tail.finish(), lines.finish());
    assert_eq!((tail.code, tail.err.as_str()), (Some(0), ""));
    assert_eq!((lines.code, lines.err.as_str(), lines.out.as_str()), (Some(0), "", ""));
    let document = format!("{{\"events\":[{first}{}", tail.out);
    let document: Value = serde_json::from_str(&document).expect("the document is whole");
    assert_eq!(document["total_events"], 2);
}

#[test]
fn a_gateway_that_comes_back_is_resumed_where_it_was() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("resumed", 1);
    let producer = kafka.producer(&topic);
    let send = |sequences: std::ops::RangeInclusive<u64>| {
        sequences.for_each(|sequence| producer.send(0, &seeded::numbered(0, sequence, 20)));
        producer.flush();
    };
    send(1..=3);
    let setup = Setup::new(&kafka, &topic);
    let mut gateway = setup.start();
    let url = format!("ws://{}", gateway.ws());
    let arguments = ["tail", "--gateway", &url, "--from", "earliest", "--follow", "--output", "jsonl"];
    let mut tail = Running::start_with(&arguments, &[]);
    let mut expect = |sequences: std::ops::RangeInclusive<u64>| {
        for sequence in sequences {
            let line = tail.line();
            assert!(line.contains(&format!("\"sequence\":{sequence},")), "{sequence} was next: {line}");
        }
    };
    expect(1..=3);
    gateway.kill_and_restart();
    send(4..=6);
    gateway.wait_ready();
    expect(4..=6);
    tail.interrupt();
    let answer = tail.finish();
    assert_eq!((answer.code, answer.out.as_str()), (Some(0), ""), "nothing is repeated");
    assert!(answer.err.contains("connection lost") && answer.err.contains("connected again"), "{}", answer.err);
    gateway.stop();
}

#[test]
fn the_environment_may_name_the_gateway_and_every_flag_that_says_where_from_wins_over_it() {
    let kafka = Kafka::shared();
    let (topic, other) = (kafka.topic("named", 1), kafka.topic("other", 1));
    for (topic, sequence) in [(&topic, 1), (&other, 2)] {
        let producer = kafka.producer(topic);
        producer.send(0, &seeded::numbered(0, sequence, 20));
        producer.flush();
    }
    let mut gateway = Setup::new(&kafka, &topic).start();
    wait::until_true("the gateway to have read the topic", LIMIT, || {
        gateway.metrics().all("websocket_kafka_consumer_lag", &[]) == [0.0]
    });
    let (url, nowhere) = (format!("ws://{}", gateway.ws()), format!("ws://{}", ports::free_address()));
    let export = std::env::temp_dir().join(format!("{topic}.jsonl"));
    let file = export.to_str().expect("UTF-8");
    of_topic(&kafka, &other, &["export", "--output", "jsonl", "--to", file]).expect("to a file");
    // Settings of Kafka stand beside it, for those who mean Kafka.
    let sequences = |variable: &str, flags: &[&str]| -> Vec<u64> {
        let environment = [
            ("KAFKA_BROKERS", kafka.brokers.as_str()),
            ("KAFKA_TOPIC", other.as_str()),
            ("DASHSTREAM_GATEWAY", variable),
        ];
        let arguments = [&["tail", "--from", "earliest", "--output", "jsonl"], flags].concat();
        let answer = command::answer_with(&arguments, &environment).expect("tail");
        assert_eq!(answer.err, "", "{flags:?}");
        answer.objects().iter().filter_map(|object| object["sequence"].as_u64()).collect()
    };
    assert_eq!(sequences(&url, &[]), [1], "the environment alone");
    assert_eq!(sequences("", &[]), [2], "empty is not set");
    assert_eq!(sequences(&nowhere, &["--gateway", &url]), [1]);
    assert_eq!(sequences(&nowhere, &["--file", file]), [2]);
    assert_eq!(sequences(&nowhere, &["--topic", &topic]), [1]);
    assert_eq!(sequences(&nowhere, &["--brokers", &kafka.brokers]), [2]);
    // It is named when it is wrong, and it is no unknown setting of those who do not read from it.
    let wrong = command::answer_with(&["runs"], &[("DASHSTREAM_GATEWAY", "http://here")]);
    assert!(wrong.code == Some(2) && wrong.err.contains("DASHSTREAM_GATEWAY"), "{wrong:?}");
    let settings = command::answer_with(&["check-config"], &[("DASHSTREAM_GATEWAY", &url)]).expect("check-config");
    assert!(!settings.out.contains("DASHSTREAM_GATEWAY") && settings.err.is_empty(), "{settings:?}");
    std::fs::remove_file(&export).expect("ours");
    gateway.stop();
}

#[test]
fn a_partition_that_is_added_is_followed_too() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("grows", 1);
    let environment = [
        ("KAFKA_BROKERS", kafka.brokers.as_str()),
        ("KAFKA_TOPIC", &topic),
        ("DASHSTREAM_KAFKA_DISCOVERY_INTERVAL", "1s"),
    ];
    let mut tail = Running::start_with(&["tail", "--follow", "--output", "jsonl"], &environment);
    kafka.grow(&topic, 2);
    let producer = kafka.producer(&topic);
    wait::until_true("the new partition to have a leader", LIMIT, || kafka.watermarks(&topic, 1) == (0, 0));
    producer.send(1, &seeded::numbered(1, 1, 20));
    producer.flush();
    let line = tail.line();
    assert!(line.contains("\"partition\":1,\"offset\":0,"), "{line}");
    tail.interrupt();
    assert_eq!(tail.finish().code, Some(0));
}

#[test]
fn whoever_closes_the_pipe_has_what_it_wanted() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("pipe", 1);
    let producer = kafka.producer(&topic);
    (1..=5_000).for_each(|sequence| producer.send(0, &seeded::numbered(0, sequence, 200)));
    producer.flush();
    for arguments in [&["export", "--output", "jsonl"][..], &["export"], &["tail", "--from", "earliest"]] {
        let mut running = Running::start(&kafka, &topic, arguments);
        assert!(!running.line().is_empty());
        let answer = running.hang_up();
        assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
    // Also while nothing more comes.
    let mut running = Running::start(&kafka, &topic, &["tail", "--follow"]);
    assert!(!running.line().is_empty());
    assert_eq!(running.hang_up().code, Some(0));
}

#[test]
fn nothing_is_left_behind() {
    let kafka = Kafka::shared();
    let topic = seeded::topic(&kafka);
    let group = kafka.fresh_name("nobody");
    let environment = [("KAFKA_BROKERS", kafka.brokers.as_str()), ("KAFKA_TOPIC", &topic), ("KAFKA_GROUP_ID", &group)];
    for arguments in [&["tail"][..], &["export"], &["runs"], &["replay", "--thread", "run-1", "--speed", "0"]] {
        command::answer_with(arguments, &environment).expect("a command");
    }
    let consumer: BaseConsumer = kafka.config().create().expect("a Kafka client");
    let groups = consumer.fetch_group_list(None, LIMIT).expect("the list of groups");
    let names: Vec<_> = groups.groups().iter().map(|group| group.name().to_owned()).collect();
    assert!(!names.contains(&group), "{names:?}");
    for partition in 0..seeded::PARTITIONS {
        assert_eq!(kafka.committed(&group, &topic, partition), None, "partition {partition}");
    }
}

#[test]
fn what_is_wrong_is_said_in_one_line_with_the_next_step() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("errors", 2);
    let check = |answer: Answer, code: i32, parts: &[&str]| {
        assert_eq!(answer.code, Some(code), "{answer:?}");
        let first = answer.err.lines().next().unwrap_or_default().to_owned();
        for part in parts {
            assert!(answer.err.contains(part), "{part:?} is missing in: {first}");
        }
    };
    let missing = kafka.fresh_name("no-such-topic");
    check(of_topic(&kafka, &missing, &["tail"]), 2, &[&missing, "does not exist", "--kafka-topic"]);
    check(of_topic(&kafka, &topic, &["tail", "--partition", "2"]), 2, &["has 2 partitions", "--partition"]);
    check(of_topic(&kafka, &topic, &["tail", "--from", "soon"]), 2, &["--from", "soon", "earliest"]);
    check(of_topic(&kafka, &topic, &["tail", "--kind", "batch"]), 2, &["--kind", "token_chunk"]);
    check(of_topic(&kafka, &topic, &["tail", "--event-type", "coffee"]), 2, &["--event-type", "NODE_START"]);
    check(of_topic(&kafka, &topic, &["replay"]), 2, &["--thread"]);
    check(answer(&["tail", "--file", "no/such/file.json"]), 2, &["no/such/file.json"]);
    check(answer(&["tail", "--file", "Cargo.toml"]), 2, &["Cargo.toml", "dashstream export"]);
    check(answer(&["tail", "--file", "Cargo.toml", "--follow"]), 2, &["--follow", "--file"]);
    check(answer(&["tail", "--gateway", "http://here"]), 2, &["ws://"]);
    // Nobody listens there: it was free a moment ago.
    let nobody = ports::free_address();
    check(answer(&["tail", "--gateway", &format!("ws://{nobody}")]), 1, &["--gateway", "gave up"]);
    let unreachable = nobody.to_string();
    check(command::answer_with(&["tail"], &[("KAFKA_BROKERS", &unreachable)]), 1, &[&unreachable, "--kafka-brokers"]);
}

#[test]
fn a_broken_topic_breaks_nobody() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("hostile", 1);
    let producer = kafka.producer(&topic);
    let good = corpus::event("run", 1, 300);
    for value in [
        corpus::frame(corpus::Framing::Plain, &good[..good.len() - 7]),
        corpus::bomb(200 << 20),
        corpus::frame(corpus::Framing::Plain, &corpus::nested(10_000)),
        b"\x01not a zstd frame".to_vec(),
        corpus::frame(corpus::Framing::Plain, &corpus::nested(20)),
    ] {
        producer.send(0, &value);
    }
    producer.flush();
    let objects = of_topic(&kafka, &topic, &["export", "--output", "jsonl"]).expect("export").objects();
    let shown: Vec<_> = objects.iter().map(|object| object["reason"].as_str().unwrap_or("shown").to_owned()).collect();
    assert_eq!(
        shown,
        ["invalid_protobuf", "payload_too_large", "invalid_protobuf", "unknown_decode_error", "shown"],
        "{objects:?}"
    );
}
