//! `dashstream topics`: what differs is said in one line each and in JSON, `apply` makes it so and looks again, nothing
//! is ever deleted or lowered, and `check` and `serve` end with the documented exit code. Everything that `check` can
//! print is provoked once, against a real Kafka, plain and with authorisation.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::harness::broker::scratch;
use crate::harness::gateway::Setup;
use crate::harness::kafka::Kafka;
use crate::harness::ports;
use crate::harness::secured::{ADMIN, BOB, Secured};
use crate::harness::wait;

/// A configuration file, and the setup of a cluster that it is used with.
struct Declared {
    setup: Setup,
    directory: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    output: String,
    errors: String,
}

impl Ended {
    /// Its output is exactly these lines.
    fn says(&self, code: i32, lines: &[&str]) -> &Self {
        let said: Vec<&str> = self.output.lines().collect();
        assert_eq!((self.code, said.as_slice()), (Some(code), lines), "{}", self.errors);
        self
    }

    /// One line on standard error, with these parts.
    fn fails(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.errors.lines().count(), 1, "{}", self.errors);
        for part in parts {
            assert!(self.errors.contains(part), "{part:?} is missing in: {}", self.errors);
        }
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl Declared {
    fn new(setup: Setup, what: &str) -> Self {
        Self { setup, directory: scratch(what) }
    }

    fn file(&self) -> PathBuf {
        self.directory.join("dashstream.toml")
    }

    fn write(&self, toml: &str) {
        std::fs::write(self.file(), toml).expect("the file is written");
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let file = self.file();
        let file = file.to_str().expect("UTF-8");
        let output = self.setup.command(&[&["topics"], arguments, &["--config", file]].concat()).output();
        let output = output.expect("the binary runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ended { code: output.status.code(), output: text(output.stdout), errors: text(output.stderr) }
    }

    /// The differences as (what, setting, is, declared), of one topic alone.
    fn check_json(&self, code: i32) -> Vec<(String, Value, Value, Value, bool)> {
        let ended = self.run(&["check", "--output", "json"]);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let json = ended.json();
        let topics = json["topics"].as_array().expect("topics");
        assert_eq!(topics.len(), 1, "{json}");
        let differences = topics[0]["differences"].as_array().expect("differences").iter();
        differences
            .map(|one| {
                assert!(one["text"].as_str().is_some_and(|text| !text.contains('\n')), "one line: {one}");
                let what = one["what"].as_str().expect("a kind").to_owned();
                let applied = one["apply"].as_bool().expect("true or false");
                (what, one["setting"].clone(), one["is"].clone(), one["declared"].clone(), applied)
            })
            .collect()
    }
}

impl Drop for Declared {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // What cannot be removed is in the ignored scratch directory and goes with the next run.
            drop(std::fs::remove_dir_all(Path::new(&self.directory)));
        }
    }
}

#[test]
fn a_topic_is_planned_made_and_found_as_declared() {
    let kafka = Kafka::shared();
    let topic = kafka.fresh_name("declared");
    let declared = Declared::new(Setup::new(&kafka, &topic), "declared");
    declared.write(&format!("[topics.{topic}]\npreset = \"dlq\"\nretention = \"36h\"\nmax_message_bytes = \"2MiB\"\n"));
    let would = format!(
        "{topic}: does not exist; create it with partitions = 3, replication_factor = 1, retention = 36h, \
         segment_bytes = 256MiB, cleanup_policy = delete, compression_type = zstd, max_message_bytes = 2MiB"
    );
    let summary = "1 to do with `dashstream topics apply`, 0 that it leaves alone";
    declared.run(&["plan"]).says(0, &[&would, summary]);
    declared.run(&["check"]).says(3, &[&would, summary]).fails(3, &["1 of the declared topics differ"]);
    // Neither of them made it.
    declared.run(&["describe", &topic]).says(0, &["brokers: 1", &format!("{topic}: does not exist")]);

    let as_declared = format!("{topic}: as declared");
    declared.run(&["apply"]).says(0, &[&would.replacen(": ", ": done: ", 1), &as_declared]);
    declared.run(&["apply"]).says(0, &[&as_declared]);
    declared.run(&["plan"]).says(0, &[&as_declared]);
    declared.run(&["check"]).says(0, &[&as_declared]);
    let described = declared.run(&["describe", &topic, "--output", "json"]).json();
    let found = &described["topics"][0];
    assert_eq!(
        (&found["exists"], &found["partitions"], &found["replication_factor"]),
        (&true.into(), &3.into(), &1.into())
    );
    for (name, value) in [
        ("retention.ms", "129600000"),
        ("segment.bytes", "268435456"),
        ("cleanup.policy", "delete"),
        ("compression.type", "zstd"),
        ("max.message.bytes", "2097152"),
    ] {
        assert_eq!(found["settings"][name], value, "{found}");
    }
    let line = format!(
        "{topic}: partitions = 3, replication_factor = 1, retention = 36h, retention_bytes = unlimited, \
         segment_bytes = 256MiB, cleanup_policy = delete, compression_type = zstd, min_insync_replicas = 1, \
         max_message_bytes = 2MiB"
    );
    declared.run(&["describe", &topic]).says(0, &["brokers: 1", &line]);
    // The records are really taken by it.
    let producer = kafka.producer(&topic);
    (0..3).for_each(|partition| producer.send(partition, b"value"));
    producer.flush();
    assert_eq!(kafka.read(&topic).len(), 3);
}

#[test]
fn settings_are_set_one_by_one_and_partitions_are_added() {
    let kafka = Kafka::shared();
    let topic = kafka.fresh_name("altered");
    // Two settings that nobody declares must stay.
    kafka.create(&topic, 2, &[("retention.ms", "3600000"), ("flush.ms", "12345"), ("compression.type", "gzip")]);
    let declared = Declared::new(Setup::new(&kafka, &topic), "altered");
    declared.write(&format!(
        "[topics.{topic}]\npartitions = 5\nreplication_factor = 1\nretention = \"2h\"\nretention_bytes = \"unlimited\"\n\
         segment_bytes = \"16MiB\"\ncompression_type = \"lz4\"\nmin_insync_replicas = 1\nmax_message_bytes = \"2MiB\"\n"
    ));
    // The harness allows larger messages: less is not set.
    let lowers = format!(
        "{topic}: max_message_bytes is 16MiB and 2MiB is declared, which would refuse records that are taken now; this \
         is not done here: if it is meant, use kafka-configs.sh with max.message.bytes=2097152"
    );
    let steps = [
        "retention is 1h; set it to 2h",
        "segment_bytes is 1GiB; set it to 16MiB",
        "compression_type is gzip; set it to lz4",
        "has 2 partitions; add 3 to make 5 (warning: keys then go to other partitions, so the order of records with one \
         key is lost across this moment)",
    ];
    let planned: Vec<String> = steps.iter().map(|step| format!("{topic}: {step}")).collect();
    let mut lines: Vec<&str> = planned.iter().map(String::as_str).collect();
    lines.extend([lowers.as_str(), "4 to do with `dashstream topics apply`, 1 that it leaves alone"]);
    declared.run(&["plan"]).says(0, &lines);
    let done: Vec<String> = steps.iter().map(|step| format!("{topic}: done: {step}")).collect();
    let mut lines: Vec<&str> = done.iter().map(String::as_str).collect();
    lines.push(&lowers);
    declared.run(&["apply"]).says(3, &lines).fails(3, &["1 of the declared topics differ"]);
    let found = declared.run(&["describe", &topic, "--output", "json"]).json()["topics"][0].clone();
    assert_eq!(found["partitions"], 5);
    for (name, value) in [
        ("retention.ms", "7200000"),
        ("segment.bytes", "16777216"),
        ("compression.type", "lz4"),
        ("max.message.bytes", "16777216"),
    ] {
        assert_eq!(found["settings"][name], value, "{found}");
    }
    assert_eq!(kafka.topic_setting(&topic, "flush.ms").as_deref(), Some("12345"), "what is not declared stays");
}

/// Kafka refuses a record that is larger than a segment. `apply` made the segments of a topic smaller than the records
/// that it took, said "done", and nobody heard of it until a record was refused.
#[test]
fn a_topic_takes_afterwards_what_it_took_before() {
    let kafka = Kafka::shared();
    let topic = kafka.fresh_name("segments");
    kafka.create(&topic, 1, &[("max.message.bytes", "16777216"), ("segment.bytes", "33554432")]);
    let declared = Declared::new(Setup::new(&kafka, &topic), "segments");
    declared.write(&format!("[topics.{topic}]\npartitions = 1\nreplication_factor = 1\nsegment_bytes = \"1MiB\"\n"));
    let left = format!(
        "{topic}: segment_bytes is 32MiB and 1MiB is declared, which would refuse larger records, which \
         max_message_bytes allows; this is not done here: if it is meant, use kafka-configs.sh with \
         segment.bytes=1048576"
    );
    declared.run(&["apply"]).says(3, &[&left]).fails(3, &["1 of the declared topics differ"]);
    let producer = kafka.producer(&topic);
    producer.send(0, &vec![7; 3 << 20]);
    producer.flush();
    assert_eq!(kafka.read(&topic).len(), 1);
}

/// Each kind of difference once, as a script reads it.
#[test]
fn everything_that_check_can_print_is_printed() {
    let kafka = Kafka::shared();
    let topic = kafka.fresh_name("drift");
    let settings = [
        ("retention.ms", "7200000"),
        ("retention.bytes", "8388608"),
        ("segment.bytes", "2097152"),
        ("cleanup.policy", "delete"),
        ("compression.type", "gzip"),
        ("max.message.bytes", "1048576"),
    ];
    kafka.create(&topic, 3, &settings);
    let declared = Declared::new(Setup::new(&kafka, &topic), "drift");
    let base = format!("[topics.{topic}]\npartitions = 3\nreplication_factor = 1\n");
    let mut printed = BTreeSet::new();
    let mut provoke = |toml: &str, what: &str, setting: Option<&str>, is: Value, wanted: Value, applied: bool| {
        declared.write(toml);
        let expected = (what.to_owned(), setting.map_or(Value::Null, Value::from), is, wanted, applied);
        assert_eq!(declared.check_json(3), [expected], "{toml}");
        printed.insert((what.to_owned(), setting.map(str::to_owned), applied));
    };
    let with = |line: &str| format!("{base}{line}\n");
    provoke(&with("retention = '3h'"), "setting", Some("retention.ms"), "7200000".into(), "10800000".into(), true);
    provoke(&with("retention = '1h'"), "setting", Some("retention.ms"), "7200000".into(), "3600000".into(), false);
    let bytes = Some("retention.bytes");
    provoke(&with("retention_bytes = 'unlimited'"), "setting", bytes, "8388608".into(), "-1".into(), true);
    provoke(&with("retention_bytes = '4MiB'"), "setting", bytes, "8388608".into(), "4194304".into(), false);
    provoke(
        &with("segment_bytes = '3MiB'"),
        "setting",
        Some("segment.bytes"),
        "2097152".into(),
        "3145728".into(),
        true,
    );
    let policy = Some("cleanup.policy");
    provoke(&with("cleanup_policy = 'compact'"), "setting", policy, "delete".into(), "compact".into(), false);
    let segment = Some("segment.bytes");
    provoke(&with("segment_bytes = '1MiB'"), "setting", segment, "2097152".into(), "1048576".into(), true);
    let compression = Some("compression.type");
    provoke(&with("compression_type = 'zstd'"), "setting", compression, "gzip".into(), "zstd".into(), true);
    let message = Some("max.message.bytes");
    provoke(&with("max_message_bytes = '2MiB'"), "setting", message, "1048576".into(), "2097152".into(), true);
    provoke(&with("max_message_bytes = '512KiB'"), "setting", message, "1048576".into(), "524288".into(), false);
    let of = |partitions: u32, copies: u32, more: &str| {
        format!("[topics.{topic}]\npartitions = {partitions}\nreplication_factor = {copies}\n{more}\n")
    };
    provoke(&of(4, 1, ""), "partitions", None, 3.into(), 4.into(), true);
    provoke(&of(2, 1, ""), "partitions", None, 3.into(), 2.into(), false);
    provoke(&of(3, 2, ""), "replication_factor", None, 1.into(), 2.into(), false);
    let absent = kafka.fresh_name("absent");
    provoke(
        &format!("[topics.{absent}]\npartitions = 1\nreplication_factor = 3\n"),
        "brokers",
        None,
        1.into(),
        3.into(),
        false,
    );
    // Two differences that only come together: more copies, and so many of them in sync.
    declared.write(&of(3, 2, "min_insync_replicas = 2"));
    let both = declared.check_json(3);
    assert_eq!(both.iter().map(|one| one.0.as_str()).collect::<Vec<_>>(), ["copies", "replication_factor"]);
    declared.write(&format!("[topics.{absent}]\npartitions = 1\nreplication_factor = 1\n"));
    let missing = declared.check_json(3);
    assert_eq!((missing[0].0.as_str(), &missing[0].3["partitions"], missing[0].4), ("missing", &1.into(), true));
    declared.write(&base);
    assert_eq!(declared.check_json(0), []);
    assert_eq!(printed.len(), 13, "{printed:?}");
    // And as a person reads them.
    declared.write(&of(2, 3, "retention = '1h'"));
    let ended = declared.run(&["check"]);
    ended.says(
        3,
        &[
            &format!(
                "{topic}: retention is 2h and 1h is declared, which would delete records; this is not done here: if it \
                 is meant, use kafka-configs.sh with retention.ms=3600000"
            ),
            &format!("{topic}: has 3 partitions and 2 are declared; Kafka cannot take partitions away: declare 3"),
            &format!(
                "{topic}: replication_factor is 1 and 3 is declared; moving copies is not done here: use \
                 kafka-reassign-partitions.sh, or declare 1"
            ),
            "0 to do with `dashstream topics apply`, 3 that it leaves alone",
        ],
    );
    // Nothing of it is done.
    let before = declared.run(&["describe", &topic]).output;
    assert_eq!(declared.run(&["apply"]).code, Some(3));
    assert_eq!(declared.run(&["describe", &topic]).output, before);
}

#[test]
fn a_cluster_that_is_too_small_or_away_and_wrong_declarations_are_one_line_each() {
    let kafka = Kafka::shared();
    let topic = kafka.fresh_name("too-large");
    let declared = Declared::new(Setup::new(&kafka, &topic), "too-large");
    declared.write(&format!("[topics.{topic}]\npreset = \"recommended\"\n"));
    let line = format!(
        "{topic}: replication_factor = 3 needs as many brokers, and the cluster has 1; add brokers or declare less"
    );
    declared.run(&["apply"]).says(3, &[&line]).fails(3, &["1 of the declared topics differ"]);

    let away = Declared::new(
        declared
            .setup
            .clone()
            .set("KAFKA_BROKERS", format!("127.0.0.1:{}", ports::free()))
            .set("DASHSTREAM_TOPICS_TIMEOUT", "2s"),
        "away",
    );
    away.write(&format!("[topics.{topic}]\npreset = \"dev\"\n"));
    for command in ["plan", "apply", "check", "describe"] {
        away.run(&[command]).says(1, &[]).fails(1, &["kafka.brokers: no broker answers", "Connection refused"]);
    }

    declared.write(&format!("[topics.{topic}]\npreset = \"dev\"\nretentoin = \"1d\"\n"));
    let ended = declared.run(&["check"]);
    assert_eq!((ended.code, ended.output.as_str()), (Some(2), ""), "{ended:?}");
    assert!(
        ended.errors.contains("there is no setting \"retentoin\"") && ended.errors.contains("did you mean retention?")
    );
    declared.write("");
    declared.run(&["check"]).says(2, &[]).fails(2, &["no topic is declared", &format!("[topics.{topic}]")]);
    // Describing needs no declaration: the topic of the stream and of its dead letters.
    let ended = declared.run(&["describe"]);
    let absent = [format!("{topic}: does not exist"), format!("{topic}-dlq: does not exist")];
    ended.says(0, &["brokers: 1", &absent[0], &absent[1]]);

    // What Kafka alone knows to refuse: a name that differs from another only by '.' and '_'.
    let twin = topic.replace('-', "_");
    kafka.create(&twin, 1, &[]);
    let dotted = topic.replace('-', ".");
    declared.write(&format!("[topics.\"{dotted}\"]\npartitions = 1\nreplication_factor = 1\n"));
    let ended = declared.run(&["apply"]);
    assert!(
        ended.output.starts_with(&format!("{dotted}: refused: ")) && ended.output.contains("collides"),
        "{ended:?}"
    );
    ended.fails(1, &["1 of 1 steps failed"]);
}

#[test]
fn two_at_once_both_end_with_the_topic_as_declared() {
    let kafka = Kafka::shared();
    let topic = kafka.fresh_name("race");
    let declared = Declared::new(Setup::new(&kafka, &topic), "race");
    declared.write(&format!("[topics.{topic}]\npreset = \"dev\"\n"));
    let all: Vec<Ended> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..4).map(|_| scope.spawn(|| declared.run(&["apply"]))).collect();
        running.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    for ended in &all {
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.output.ends_with(&format!("{topic}: as declared\n")), "{ended:?}");
    }
}

#[test]
fn serve_begins_only_with_topics_as_declared_when_that_is_required() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("required", 2);
    let declared = Declared::new(Setup::new(&kafka, &topic), "required");
    let file = |partitions: u32| {
        declared.write(&format!(
            "[topics]\ncheck_at_start = true\n[topics.{topic}]\npartitions = {partitions}\nreplication_factor = 1\n"
        ));
    };
    let setup = declared.setup.clone().set("DASHSTREAM_CONFIG", declared.file().display());
    file(3);
    let mut refused = setup.spawn();
    let status = refused.wait_exit(Duration::from_secs(30));
    wait::until_true("what it said", wait::SOON, || refused.output().contains("1 of the declared topics differ"));
    assert_eq!(status.code(), Some(3), "{}", refused.output());
    let line = format!("{topic}: has 2 partitions; add 1 to make 3");
    assert!(
        refused.output().lines().any(|said| said.contains("ERROR") && said.contains(&line)),
        "{}",
        refused.output()
    );
    file(2);
    let mut gateway = setup.start();
    gateway.stop();
    // Off, nobody asks: the same drift is no hindrance.
    file(3);
    let mut gateway = setup.set("DASHSTREAM_TOPICS_CHECK_AT_START", "false").start();
    gateway.stop();
}

#[test]
fn rights_are_named_one_by_one() {
    let secured = Secured::shared();
    let kafka = &secured.kafka;
    let topic = kafka.fresh_name("rights");
    let door = secured.sasl_ssl("SCRAM-SHA-512", BOB);
    let declared = Declared::new(door.setup(kafka, &topic), "rights");
    declared.write(&format!("[topics.{topic}]\npartitions = 2\nreplication_factor = 1\nretention = \"2h\"\n"));
    let needs = |right: &str| {
        format!(
            "user \"bob\" is not allowed: it needs {right} on topic {topic:?}; give it the right, or set \
             kafka.sasl_username to a user that has it"
        )
    };
    // Nothing at all.
    let unseen = format!("{topic}: {}", needs("Describe"));
    let nothing = "0 to do with `dashstream topics apply`, 1 that it leaves alone";
    declared.run(&["check"]).says(1, &[&unseen, nothing]).fails(1, &["1 of the topics cannot be seen"]);
    declared.run(&["apply"]).says(1, &[&unseen]).fails(1, &["1 of the topics cannot be seen"]);
    declared.run(&["describe", &topic]).says(1, &["brokers: 1", &unseen]).fails(1, &["1 of the topics cannot be seen"]);
    assert_eq!(declared.check_json(1)[0].0, "rights");
    // It may look, and not create.
    secured.allow(&["--topic", &topic], &["Describe"]);
    let create = "does not exist; create it with partitions = 2, replication_factor = 1, retention = 2h";
    let missing = format!("{topic}: {create}");
    let refused = format!("{topic}: refused: {} (wanted: {create})", needs("Create"));
    wait::until_true("the rights to be known to the broker", wait::SOON, || declared.run(&["plan"]).code == Some(0));
    declared.run(&["apply"]).says(1, &[&refused, &missing]).fails(1, &["1 of 1 steps failed"]);
    // It is there, and its settings may not be looked at.
    kafka.create(&topic, 1, &[("retention.ms", "3600000")]);
    let unseen = format!("{topic}: {}", needs("DescribeConfigs"));
    declared.run(&["check"]).says(1, &[&unseen, nothing]).fails(1, &["1 of the topics cannot be seen"]);
    // It may look at everything, and change nothing.
    secured.allow(&["--topic", &topic], &["DescribeConfigs"]);
    wait::until_true("the rights to be known to the broker", wait::SOON, || declared.run(&["plan"]).code == Some(0));
    let alter = "retention is 1h; set it to 2h";
    let grow = "has 1 partition; add 1 to make 2 (warning: keys then go to other partitions, so the order of records \
                with one key is lost across this moment)";
    let ended = declared.run(&["apply"]);
    ended.says(
        1,
        &[
            &format!("{topic}: refused: {} (wanted: {alter})", needs("AlterConfigs")),
            &format!("{topic}: refused: {} (wanted: {grow})", needs("Alter")),
            &format!("{topic}: {alter}"),
            &format!("{topic}: {grow}"),
        ],
    );
    ended.fails(1, &["2 of 2 steps failed"]);
    // With the rights it is done, and the super user sees the same.
    secured.allow(&["--topic", &topic], &["Alter", "AlterConfigs"]);
    wait::until_true("the rights to be known to the broker", wait::SOON, || declared.run(&["apply"]).code == Some(0));
    let admin = Declared::new(secured.sasl_ssl("SCRAM-SHA-512", ADMIN).setup(kafka, &topic), "rights-admin");
    admin.write(&std::fs::read_to_string(declared.file()).expect("the declaration"));
    admin.run(&["check"]).says(0, &[&format!("{topic}: as declared")]);
}
