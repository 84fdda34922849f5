//! However a command that reads ends, what it leaves is true: a file of `--to` is whole or as it was before, a document
//! that is not whole says so, what could not be read is no empty document, and one Ctrl-C is enough wherever a command
//! waits.
//!
//! A named pipe that somebody holds open is a source that neither ends nor fails.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::command::{Watched, answer, answer_with};
use crate::harness::gateway::signal;
use crate::harness::kafka::Kafka;
use crate::harness::{broker, ports, wait};

/// Far below what brokers and gateways are waited for, far above what a slow machine takes.
const SOON: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(60);
const EVENT: &str = "{\"kind\":\"event\",\"thread_id\":\"run-1\",\"event_type\":\"NODE_START\",\"node_id\":\"plan\"}\n";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(broker::scratch(name))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    fn pipe(&self, name: &str) -> String {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Waits until the other side reads, which it does when signals ask it to end.
fn writer(pipe: &str, text: &str) -> File {
    let mut writer = OpenOptions::new().write(true).open(pipe).expect("somebody reads it");
    writer.write_all(text.as_bytes()).expect("it is read");
    writer
}

/// Waits until an interrupt asks this process to end instead of ending it.
fn listens_to_signals(pid: u32) {
    wait::until_true("a handler of SIGINT", LIMIT, || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask of signals");
        let mask = u64::from_str_radix(caught.trim(), 16).expect("hexadecimal");
        mask >> (libc::SIGINT - 1) & 1 == 1
    });
}

/// Ctrl-C during `export --to` put half a document in the place of a good one, and said that all was well.
#[test]
fn an_interrupt_leaves_the_file_that_was_there() {
    let folder = Folder::new("interrupted");
    let (pipe, old) = (folder.pipe("pipe"), folder.file("old", "yesterday's"));
    for arguments in [
        &["export"][..],
        &["export", "--output", "jsonl"],
        &["export", "--output", "otlp"],
        &["inspect", "--thread", "run-1"],
        &["flamegraph", "--thread", "run-1"],
    ] {
        for path in [&old, &folder.path("new")] {
            for text in ["", EVENT] {
                let running = Watched::start(&[arguments, &["--file", &pipe, "--to", path]].concat(), &[]);
                let held = writer(&pipe, text);
                running.signal(libc::SIGINT);
                let answer = running.end(SOON);
                drop(held);
                assert_eq!((answer.code, answer.out.as_str()), (Some(1), ""), "{arguments:?}: {answer:?}");
                assert!(answer.err.contains(path.as_str()) && answer.err.contains("as it was"), "{answer:?}");
            }
        }
        assert_eq!(folder.names(), ["old", "pipe"], "{arguments:?} leaves nothing beside it");
    }
    assert_eq!(std::fs::read_to_string(&old).expect("it is there"), "yesterday's");
}

#[test]
fn a_failure_leaves_the_file_that_was_there() {
    let folder = Folder::new("failed");
    let (cut, old) = (folder.file("cut.jsonl", &format!("{EVENT}{{\"kind\":")), folder.file("old", "yesterday's"));
    let failed = answer(&["export", "--file", &cut, "--to", &old]);
    assert_eq!((failed.code, failed.out.as_str()), (Some(2), ""), "{failed:?}");
    assert_eq!(std::fs::read_to_string(&old).expect("it is there"), "yesterday's");
    let whole = folder.file("whole.jsonl", EVENT);
    let refused = answer(&["export", "--file", &whole, "--to", folder.0.to_str().expect("UTF-8")]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(refused.err.to_lowercase().matches("is a directory").count(), 1, "said once: {refused:?}");
    assert_eq!(folder.names(), ["cut.jsonl", "old", "whole.jsonl"]);
    let beside = std::fs::read_dir(folder.0.parent().expect("a folder")).expect("readable");
    let left = beside.filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().contains(&*folder.0.file_name().expect("a name").to_string_lossy())
    });
    assert_eq!(left.count(), 1, "nothing beside the folder either");
    answer(&["export", "--file", &whole, "--to", &old]).expect("a whole one");
    assert!(std::fs::read_to_string(&old).expect("it is there").contains("\"total_events\":1,"));
}

/// A script took `{"events":[],"total_events":0}` of a topic that does not exist for a quiet one.
#[test]
fn what_cannot_be_read_is_no_empty_document() {
    let kafka = Kafka::shared();
    let (nobody, missing) = (ports::free_address().to_string(), kafka.fresh_name("no-such-topic"));
    let places: [(&[&str], i32); 4] = [
        (&["--file", "no/such/file.json"], 2),
        (&["--file", "Cargo.toml"], 2),
        (&["--brokers", &kafka.brokers, "--topic", &missing], 2),
        (&["--brokers", &nobody], 1),
    ];
    for (place, code) in places {
        for command in [&["export"][..], &["export", "--output", "csv"], &["replay", "--thread", "a", "-o", "json"]] {
            let answer = answer_with(&[command, place].concat(), &[]);
            assert_eq!((answer.code, answer.out.as_str()), (Some(code), ""), "{command:?} {place:?}: {answer:?}");
            assert!(!answer.err.is_empty());
        }
    }
}

#[test]
fn a_document_that_ends_in_the_middle_says_so() {
    let folder = Folder::new("middle");
    let cut = folder.file("cut.jsonl", &format!("{EVENT}{{\"kind\":"));
    for command in [&["export"][..], &["tail", "-o", "json"], &["replay", "--thread", "run-1", "-o", "json"]] {
        let failed = answer(&[command, &["--file", &cut]].concat());
        let document: Value = serde_json::from_str(&failed.out).expect("the document is whole JSON");
        assert_eq!((failed.code, &document["incomplete"]), (Some(2), &true.into()), "{command:?}: {failed:?}");
        assert_eq!(document["total_events"], 1);
    }
    let lines = answer(&["export", "--file", &cut, "--output", "jsonl"]);
    assert_eq!((lines.code, lines.lines().len()), (Some(2), 1), "lines just end: {lines:?}");
    // Somebody asked it to end, which is no failure, but the document is not all of it.
    let pipe = folder.pipe("pipe");
    let running = Watched::start(&["export", "--file", &pipe], &[]);
    let held = writer(&pipe, EVENT);
    // The event is read within the first look, and nothing tells us so.
    wait::until_true("the event to be read", LIMIT, || unread(&held) == 0);
    running.signal(libc::SIGINT);
    let stopped = running.end(SOON);
    let document: Value = serde_json::from_str(&stopped.out).expect("the document is whole JSON");
    assert_eq!((stopped.code, &document["incomplete"]), (Some(0), &true.into()), "{stopped:?}");
}

/// Bytes that are still in the pipe.
fn unread(pipe: &File) -> i32 {
    use std::os::fd::AsRawFd;
    let mut bytes = 0;
    // SAFETY: a descriptor that is open, and a number to be filled in.
    assert_eq!(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) }, 0);
    bytes
}

#[test]
fn one_interrupt_ends_every_wait_of_who_reads() {
    let folder = Folder::new("waits");
    let (pipe, nobody) = (folder.pipe("pipe"), ports::free_address().to_string());
    let gateway = format!("ws://{nobody}");
    for command in [&["tail"][..], &["export"], &["inspect", "--thread", "run-1"], &["replay", "--thread", "run-1"]] {
        let running = Watched::start(&[command, &["--file", &pipe]].concat(), &[]);
        let held = writer(&pipe, "");
        running.signal(libc::SIGINT);
        let answer = running.end(SOON);
        drop(held);
        assert_eq!(answer.code, Some(0), "{command:?}: {answer:?}");
        for place in [["--brokers", nobody.as_str()], ["--gateway", gateway.as_str()]] {
            let running = Watched::start(&[command, &place].concat(), &[]);
            listens_to_signals(running.pid());
            running.signal(libc::SIGINT);
            let answer = running.end(SOON);
            let said = (answer.code, answer.out.as_str(), answer.err.as_str());
            assert_eq!(said, (Some(0), "", ""), "{command:?} {place:?}");
        }
    }
}

#[test]
fn one_interrupt_ends_who_sends() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("idle", 1);
    let nobody = ports::free_address().to_string();
    for command in [&["produce", "/dev/null"][..], &["simulate"]] {
        // Nothing was sent yet, so that it may end where it stands.
        let running = Watched::start(command, &[("KAFKA_BROKERS", &nobody)]);
        wait::until_true("the threads of a Kafka client", LIMIT, || {
            std::fs::read_dir(format!("/proc/{}/task", running.pid())).is_ok_and(|tasks| tasks.count() > 1)
        });
        running.signal(libc::SIGINT);
        let answer = running.end(SOON);
        assert_ne!(answer.code, Some(0), "{command:?}: {answer:?}");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_dashstream"))
        .args(["produce", "--output", "json"])
        .env_clear()
        .envs([("KAFKA_BROKERS", kafka.brokers.as_str()), ("KAFKA_TOPIC", &topic)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut input = child.stdin.take().expect("piped");
    // The second one is cut: the end of the input is not its fault.
    input.write_all(format!("{EVENT}{{\"kind\":").as_bytes()).expect("it reads");
    wait::until_true("the first event to be on the topic", LIMIT, || kafka.watermarks(&topic, 0).1 == 1);
    let began = Instant::now();
    signal(child.id(), libc::SIGINT);
    let output = child.wait_with_output().expect("it ends");
    drop(input);
    assert!(began.elapsed() < SOON, "it ended after {:?}", began.elapsed());
    let counts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&counts["read"], &counts["delivered"]), (&1.into(), &1.into()));
    assert!(output.status.code().is_some_and(|code| code <= 1), "{output:?}");
}
