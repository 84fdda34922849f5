//! The examples do what they are shown for: the run of the instrumented agent is on the topic completely, every span
//! ended, every state verified and its key taken out; and the follower of a run prints it from its beginning, and goes
//! on where it was when it is started again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::broker::{die_with_parent, scratch};
use crate::harness::command::of_topic;
use crate::harness::gateway::Setup;
use crate::harness::kafka::Kafka;

/// As `cargo build --release --examples` left it, beside the binary that is tested.
fn example(name: &str) -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_dashstream")).with_file_name("examples").join(name);
    assert!(path.exists(), "{} is not there: tests/run builds it", path.display());
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::null());
    die_with_parent(&mut command);
    command
}

/// One run of the agent under this thread, and how many events it says are on the topic.
fn instrumented(kafka: &Kafka, topic: &str, thread: &str) -> u64 {
    let output = example("instrument_an_agent").args([&kafka.brokers, topic, thread]).output().expect("it starts");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("thread {thread} said everything, 0 events were not accepted"));
    let delivered = lines[1].strip_suffix(" delivered, 0 refused, 0 unknown, 0 still under way");
    delivered.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn an_instrumented_agent_can_be_explained() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("example", 2);
    let events = instrumented(&kafka, &topic, "agent-1");
    let ask = |arguments: &[&str]| of_topic(&kafka, &topic, arguments).expect("an answer").out;
    let explained = ask(&["inspect", "--thread", "agent-1", "--output", "json", "--price", "example=1000/1000"]);
    let explained: Value = serde_json::from_str(&explained).expect("JSON");
    let run = &explained["runs"][0];
    for (key, expected) in [
        ("status", json!("done")),
        ("events", json!(events)),
        ("errors", json!([])),
        ("notes", json!([])),
        ("tokens", json!({ "calls": 3, "input": 36, "output": 12 })),
        ("cost", json!("0.048")),
        ("unpriced_calls", json!(0)),
    ] {
        assert_eq!(run[key], expected, "{key}: nothing is missing, repeated or unpaired");
    }
    let spans = run["spans"].as_array().expect("spans");
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().expect("a name")).collect();
    let expected = ["example", "plan", "example", "search", "example", "web_search", "answer", "example"];
    assert_eq!(names, expected, "the graph, its nodes, and what they called");
    assert_eq!(run["critical_path"]["spans"], json!([1, 3, 6]));
    let steps = run["state"]["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 3);
    assert!(steps.iter().all(|step| step["verdict"] == "verified"), "{steps:?}");
    let everything = ask(&["export", "--output", "jsonl"]);
    assert!(everything.contains("web_search") && !everything.contains("sk-not-a-real-key"), "secrets stay at home");
}

struct Follower(Child, BufReader<std::process::ChildStdout>);

impl Follower {
    fn start(gateway: &str, thread: &str, cursor: &Path) -> Self {
        let mut command = example("follow_a_run");
        command.args([gateway, thread]).arg(cursor).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        Self(process, output)
    }

    /// What it prints up to and with a line that ends so.
    fn up_to(&mut self, end: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.ends_with(end)) {
            let mut line = String::new();
            let length = self.1.read_line(&mut line).expect("text");
            assert!(length > 0, "it ended before {end:?}: {lines:#?}");
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ended");
    }
}

/// Events of the lines: one each, or as many as a batch holds.
fn events(lines: &[String]) -> u64 {
    let shown = lines.iter().filter(|line| !line.starts_with("--"));
    let batch = |line: &String| line.strip_suffix(" events")?.rsplit_once(' ')?.1.parse::<u64>().ok();
    shown.map(|line| batch(line).unwrap_or(1)).sum()
}

#[test]
fn a_follower_goes_on_where_it_was() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("example", 2);
    // Somebody else's run is nobody's business.
    instrumented(&kafka, &topic, "agent-2");
    let first = instrumented(&kafka, &topic, "agent-1");
    let mut gateway = Setup::new(&kafka, &topic).start();
    let url = format!("ws://{}", gateway.ws());
    let folder = scratch("follower");
    let cursor: PathBuf = folder.join("cursor");
    let mut follower = Follower::start(&url, "agent-1", &cursor);
    let mut shown = follower.up_to("now live");
    // Where the gateway had not read all of it yet, the rest arrives live.
    while events(&shown) < first {
        shown.extend(follower.up_to(""));
    }
    assert_eq!(events(&shown), first, "{shown:#?}");
    assert!(shown[0].contains("GRAPH_START") || shown[0].ends_with(" events"), "from its beginning: {shown:#?}");
    follower.kill();

    let second = instrumented(&kafka, &topic, "agent-1");
    let mut follower = Follower::start(&url, "agent-1", &cursor);
    let mut shown = Vec::new();
    while events(&shown) < second {
        shown.extend(follower.up_to(""));
    }
    assert_eq!(events(&shown), second, "nothing of the first run comes again: {shown:#?}");
    follower.kill();
    gateway.stop();
    std::fs::remove_dir_all(folder).expect("ours");
}
