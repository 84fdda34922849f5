//! A long read shows how far it is, how fast, and how long it will still take: on standard error, on a terminal, and
//! nowhere else. The bar is gone when the answer is there, and never in it.

use std::io::Read;
use std::process::{ChildStdout, Command};
use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::command::{Answer, of_topic};
use crate::harness::kafka::Kafka;
use crate::harness::pty::Pty;
use crate::harness::{broker, seeded};

const RECORDS: u64 = 300_000;
const PARTITIONS: u64 = 3;

/// Made once for all tests of this file.
fn topic() -> &'static (Kafka, String) {
    static TOPIC: OnceLock<(Kafka, String)> = OnceLock::new();
    TOPIC.get_or_init(|| {
        let kafka = Kafka::shared();
        let topic = kafka.topic("long", PARTITIONS as i32);
        let producer = kafka.producer_with(&topic, &[("linger.ms", "50"), ("batch.num.messages", "20000")]);
        for index in 0..RECORDS {
            let partition = (index % PARTITIONS) as u32;
            producer.send(partition, &seeded::numbered(partition, index / PARTITIONS + 1, 150));
        }
        producer.flush();
        (kafka, topic)
    })
}

fn command(arguments: &[&str]) -> Command {
    let (kafka, topic) = topic();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashstream"));
    command.args(arguments).env_clear().env("KAFKA_BROKERS", &kafka.brokers).env("KAFKA_TOPIC", topic);
    command
}

fn everything(mut output: ChildStdout) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).expect("UTF-8");
        text
    })
}

/// `━━━━╸────  123,456 of 300,000 records  45,678/s  3 s left`
fn is_bar(line: &str, unit: &str) -> bool {
    let Some((bar, rest)) = line.split_once("  ") else { return false };
    let parts: Vec<&str> = rest.trim().split("  ").collect();
    let [done, rate, left] = parts.as_slice() else { return false };
    let number = |text: &str| text.chars().any(|letter| letter.is_ascii_digit());
    bar.contains('━')
        && done.split_once(" of ").is_some_and(|(done, all)| number(done) && number(all) && all.ends_with(unit))
        && rate.strip_suffix("/s").is_some_and(number)
        && left.strip_suffix(" left").is_some_and(number)
}

/// Waits for a bar, then for the end, after which nothing of it may be left. Gives back the screen.
fn watched(pty: &mut Pty, unit: &str) -> Vec<String> {
    let with = pty.until("a bar with a rate and a remaining time", |lines| lines.iter().any(|line| is_bar(line, unit)));
    eprintln!("{}", with.join("\n").trim_end());
    assert_eq!(with.iter().filter(|line| line.contains('━')).count(), 1, "drawn again where it was: {with:#?}");
    assert_eq!(pty.wait_exit().code(), Some(0));
    let left = |lines: &[String]| lines.iter().any(|line| line.contains('━') || line.contains("left"));
    pty.until("the bar to be gone", |lines| !left(lines))
}

#[test]
fn an_export_into_a_pipe_shows_a_bar_and_leaves_nothing_of_it() {
    let (mut pty, output) = Pty::start_in_a_pipe(command(&["export"]), 10, 100);
    let output = everything(output);
    assert_eq!(watched(&mut pty, "records"), [""; 10], "nothing else is said");
    let output = output.join().expect("it was read");
    let document: Value = serde_json::from_str(&output).expect("the document and nothing else");
    assert_eq!((&document["total_events"], &document["findings"]), (&RECORDS.into(), &Value::Array(Vec::new())));
}

#[test]
fn an_export_into_a_file_and_a_file_that_is_read_show_bars() {
    let folder = broker::scratch("progress");
    let file = folder.join("all.json");
    let file = file.to_str().expect("UTF-8");
    let mut pty = Pty::start(command(&["export", "--to", file]), 10, 80);
    assert_eq!(watched(&mut pty, "records"), [""; 10]);
    let (mut pty, output) = Pty::start_in_a_pipe(command(&["runs", "--file", file]), 10, 100);
    let output = everything(output);
    assert_eq!(watched(&mut pty, "MiB"), [""; 10]);
    assert_eq!(output.join().expect("it was read").lines().count(), 1 + PARTITIONS as usize);
    std::fs::remove_dir_all(folder).expect("ours");
}

#[test]
fn an_answer_on_the_same_terminal_stands_where_the_bar_was() {
    let mut pty = Pty::start(command(&["inspect", "--thread", "run-1"]), 12, 100);
    let lines = watched(&mut pty, "records");
    assert!(lines[0].starts_with("default/run-1  "), "{lines:#?}");
    assert!(lines[1].contains("100,000 events"), "{lines:#?}");
}

#[test]
fn who_does_not_look_is_told_nothing() {
    let (kafka, topic) = topic();
    for arguments in [&["export", "--output", "csv"][..], &["runs"], &["costs", "--price", "*=1/1"]] {
        let Answer { err, .. } = of_topic(kafka, topic, arguments).expect("it reads");
        assert_eq!(err, "", "{arguments:?}");
    }
    // Events go to the terminal themselves: a bar between them would be noise.
    let pty = Pty::start(command(&["tail", "--from", "earliest", "--partition", "1", "--limit", "20000"]), 10, 100);
    let lines = pty.until("the last event", |lines| lines.iter().any(|line| line.contains("#20000")));
    assert!(!lines.iter().any(|line| line.contains('━') || line.contains(" left")), "{lines:#?}");
}
