//! `dashstream watch` on a real (pseudo-)terminal shows runs as they go: nodes, tokens as they stream, errors, what is
//! missing. It draws anew when the terminal is resized, says so when its gateway is gone, goes on when that is back
//! without losing or repeating anything, and gives the screen back when it ends.

use std::process::Command;

use crate::harness::gateway::Setup;
use crate::harness::kafka::Kafka;
use crate::harness::pty::Pty;
use crate::harness::story::{BEGIN_US, Story, string};

const S0: &str = r#"{"n":0}"#;

fn watch(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashstream"));
    command.arg("watch").args(arguments).env_clear();
    command
}

fn line<'a>(lines: &'a [String], part: &str) -> Option<&'a String> {
    lines.iter().find(|line| line.contains(part))
}

fn has(lines: &[String], part: &str) -> bool {
    line(lines, part).is_some()
}

fn begun(thread: &str) -> Story {
    let mut story = Story::new("acme", thread, BEGIN_US);
    story.graph_start("research", S0).event(10, "write", 0, &[]);
    story.event_about(30, "write", 0, "req-1", &[("model", string("large"))]).wait(50);
    story.chunk("req-1", 0, "Whales ").chunk("req-1", 1, "sing.");
    story
}

#[test]
fn a_terminal_is_drawn_resized_and_given_back() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("watched", 1);
    let producer = kafka.producer(&topic);
    begun("run-1").send(&producer, 0);
    let mut pty = Pty::start(watch(&["--brokers", &kafka.brokers, "--topic", &topic, "--from", "earliest"]), 24, 110);
    let lines = pty.until("the run, its node and its tokens", |lines| {
        has(lines, "acme/run-1") && has(lines, "Whales sing.") && has(lines, "live")
    });
    assert!(pty.is_alternate());
    assert!(
        line(&lines, ">acme/run-1").is_some_and(|line| line.contains("running") && line.ends_with("write")),
        "{lines:#?}"
    );
    assert!(has(&lines, "large in write says (2 tokens):"), "{lines:#?}");
    assert_eq!(lines[23], " ↑↓ choose  g newest  Enter open  Esc back  f filter  q quit");

    // Another run fails, and one of its events is lost.
    let mut failing = Story::new("acme", "run-2", BEGIN_US);
    failing.graph_start("research", S0).event(10, "plan", 0, &[]).event(80, "plan", 0, &[]);
    failing.wait(40).event(12, "plan", 40, &[("error", string("no net"))]);
    failing.event(3, "", 40, &[("error", string("plan failed"))]).lose(3);
    failing.send(&producer, 0);
    let lines = pty
        .until("the error, and what is missing", |lines| has(lines, "plan failed: no net") && has(lines, "1 missing"));
    assert!(has(&lines, "acme/run-2: sequences 3 to 3 are miss…"), "{lines:#?}");
    assert!(has(&lines, "1 running, 0 waiting, 0 done, 1 failed"), "{lines:#?}");

    // Half as wide: everything is drawn anew for that, and nothing of the old frame is left.
    pty.resize(16, 60);
    let lines = pty.until("a frame for the new size", |lines| {
        lines.len() == 16 && lines[15].starts_with(" ↑↓ choose") && has(lines, ">acme/run-2")
    });
    assert!(has(&lines, "acme/run-1") && has(&lines, "plan failed: no net"), "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("↑↓")).count(), 1, "{lines:#?}");
    pty.resize(5, 30);
    pty.until("a screen that is too small", |lines| lines[0] == "make it larger");
    pty.resize(24, 110);

    // The other run, alone on the screen.
    pty.press("j\r");
    let lines = pty.until("the other run alone", |lines| lines[2].starts_with(" acme/run-1 research: running"));
    assert!(has(&lines, "Whales sing.") && !has(&lines, "acme/run-2 "), "{lines:#?}");
    let mut more = begun("run-1");
    more.forget().chunk("req-1", 2, " Orcas too.").send(&producer, 0);
    pty.until("tokens that stream", |lines| has(lines, "Whales sing. Orcas too."));

    pty.press("q");
    assert!(pty.wait_exit().success());
    assert!(!pty.is_alternate(), "the screen is given back");
}

#[test]
fn a_gateway_that_goes_and_comes_back_is_told_and_nothing_is_lost() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("rewatched", 1);
    let producer = kafka.producer(&topic);
    begun("run-1").send(&producer, 0);
    let mut gateway = Setup::new(&kafka, &topic).start();
    let url = format!("ws://{}", gateway.ws());
    let mut pty = Pty::start(watch(&["--gateway", &url, "--from", "earliest"]), 24, 110);
    pty.until("the run", |lines| has(lines, ">acme/run-1") && has(lines, "Whales sing.") && has(lines, "  live"));

    gateway.kill();
    let lines = pty.until("the loss", |lines| lines[0].contains("CONNECTION LOST, trying again in"));
    assert!(has(&lines, "Whales sing."), "what is known stays on the screen: {lines:#?}");
    // What happens meanwhile is there afterwards, once.
    let mut more = begun("run-1");
    more.forget().chunk("req-1", 2, " Orcas too.").send(&producer, 0);
    gateway.kill_and_restart();
    let lines = pty.until("the return", |lines| has(lines, "Whales sing. Orcas too.") && has(lines, "1 reconnects"));
    assert!(lines[0].ends_with("live"), "{lines:#?}");
    assert!(line(&lines, ">acme/run-1").is_some_and(|line| line.contains(" 6 ")), "six events, none twice: {lines:#?}");
    assert!(!has(&lines, "missing"), "{lines:#?}");

    pty.press("\u{3}");
    assert!(pty.wait_exit().success(), "Ctrl-C is a way to end it");
    assert!(!pty.is_alternate());
}
