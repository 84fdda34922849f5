//! What `completions` prints is taken by the shell that it is for, and completes commands, flags and values there; what
//! `man` prints is taken by roff without a complaint, for every command.
//!
//! Bash is everywhere; zsh, fish and roff judge where they are installed.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::harness::broker::scratch;
use crate::harness::command::answer;

/// A program with this as its standard input; `None` where it is not installed.
fn fed(program: &str, arguments: &[&str], input: &str) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        started => started.expect("it starts"),
    };
    let (mut into, input) = (process.stdin.take().expect("piped"), input.to_owned());
    // It may answer before it has read all of it.
    let writer = std::thread::spawn(move || into.write_all(input.as_bytes()).expect("it reads"));
    let output = process.wait_with_output().expect("it ends");
    writer.join().expect("it read everything");
    Some(output)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn completions_are_taken_by_their_shells() {
    for (shell, part, check) in [
        ("bash", "_dashstream()", &["-n"][..]),
        ("zsh", "#compdef dashstream", &["-n"]),
        ("fish", "complete -c dashstream", &["--no-execute"]),
    ] {
        let script = answer(&["completions", shell]).expect(shell).out;
        assert!(script.contains(part) && script.contains("event-type"), "{shell}: {script}");
        if let Some(judged) = fed(shell, check, &script) {
            assert!(judged.status.success() && judged.stderr.is_empty(), "{shell}: {}", text(&judged.stderr));
        }
    }
    let script = answer(&["completions", "bash"]).expect("bash").out;
    // The last word is the one that Tab is pressed behind.
    let completed = |words: &[&str]| -> Vec<String> {
        let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
        let ask = format!(
            "{script}\nCOMP_WORDS=({})\nCOMP_CWORD={}\n_dashstream dashstream {last:?} {before:?}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" "),
            words.len() - 1,
        );
        let judged = fed("bash", &["--norc"], &ask).expect("bash is everywhere");
        assert!(judged.status.success() && judged.stderr.is_empty(), "{words:?}: {}", text(&judged.stderr));
        text(&judged.stdout).lines().map(str::to_owned).collect()
    };
    assert_eq!(completed(&["dashstream", "ta"]), ["tail"]);
    assert_eq!(completed(&["dashstream", "topics", "des"]), ["describe"]);
    assert_eq!(completed(&["dashstream", "tail", "--event"]), ["--event-type"]);
    assert_eq!(completed(&["dashstream", "inspect", "--output", ""]), ["human", "json", "otlp"]);
}

#[test]
fn manual_pages_are_taken_by_roff() {
    let page = answer(&["man", "topics", "plan"]).expect("man").out;
    assert!(page.contains(".TH") && page.contains("dashstream\\-topics\\-plan \\-"), "{page}");
    let wrong = answer(&["man", "topics", "coffee"]);
    assert!(wrong.code == Some(2) && wrong.err.contains("plan, apply, check, describe"), "{wrong:?}");
    let folder = scratch("man");
    answer(&["man", "--write", folder.to_str().expect("UTF-8")]).expect("man");
    let page = std::fs::read_to_string(folder.join("dashstream-tail.1")).expect("a page");
    assert!(page.contains("DASHSTREAM_KAFKA_BROKERS"), "environment names are there");
    let mut pages = 0;
    for entry in std::fs::read_dir(&folder).expect("pages") {
        let path = entry.expect("a page").path();
        let page = std::fs::read_to_string(&path).expect("text");
        // Examples may be longer than a line.
        if let Some(judged) = fed("groff", &["-man", "-Tutf8", "-ww", "-Wbreak", "-Kutf8", "-P-cbu"], &page) {
            assert!(
                judged.status.success() && judged.stderr.is_empty(),
                "{}: {}",
                path.display(),
                text(&judged.stderr)
            );
            assert!(text(&judged.stdout).contains("SYNOPSIS"), "{}", path.display());
        }
        pages += 1;
    }
    assert!(pages > 20, "the program, its commands and theirs: {pages}");
    std::fs::remove_dir_all(&folder).expect("ours");
}
