//! The explaining commands say what happened in a run, exactly: every line that `inspect`, `diff`, `costs`, `profile`
//! and `flamegraph` print about runs with fixed ids and times is the expected one, and what is not there is one clear
//! line with exit code 2.
//!
//! One topic with four runs: one that went well along edges, one that failed and was told badly (an event lost, one
//! repeated, one with a wrong hash), one of another tenant, and a thread that ran twice. What is said about them stands
//! in `tests/it/golden/told.*`.

use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::broker::{die_with_parent, scratch};
use crate::harness::golden;
use crate::harness::kafka::Kafka;
use crate::harness::story::{BEGIN_US, Story, string};

const S0: &str = r#"{"n":0,"topic":"whales"}"#;
const S1: &str = r#"{"n":1,"topic":"whales"}"#;
const S2: &str = r#"{"n":1,"topic":"orcas"}"#;

fn well() -> Story {
    let mut story = Story::new("acme", "run-1", BEGIN_US);
    story.graph_start("research", S0).wait(10);
    story.node("plan", |story| {
        story.model("plan", "req-1", "large", 500, 1_000, 200).wait(20).diff("/n", "1", S1);
    });
    story.checkpoint(0xa1, S1).edge("plan", "search").edge("plan", "read").wait(5);
    story.event(10, "search", 0, &[]).event(10, "read", 0, &[]);
    story
        .tool("call-1", "web", 1, "")
        .wait(100)
        .tool("call-1", "web", 5, "busy")
        .wait(150)
        .tool("call-1", "web", 3, "");
    story.event(11, "search", 250, &[]).wait(350).event(11, "read", 600, &[]);
    story.edge("search", "write").edge("read", "write").wait(10);
    story.node("write", |story| {
        story.event_about(30, "write", 0, "req-2", &[("model", string("small"))]).wait(60);
        story.chunk("req-2", 0, "Whales ").wait(40).chunk("req-2", 1, "sing.").diff("/topic", "\"orcas\"", S2);
    });
    story.checkpoint(0xb2, S2).wait(5).event(2, "", 1_250, &[]);
    story
}

fn badly() -> Story {
    let mut story = Story::new("acme", "run-2", BEGIN_US + 1_000_000);
    story.graph_start("research", S0).wait(10);
    story.node("plan", |story| {
        story.model("plan", "req-9", "large", 2_000, 3_000, 50).diff("/n", "1", S2);
    });
    story.event(10, "search", 0, &[]).wait(30);
    story.event(12, "search", 30, &[("error", string("the net\u{1b}[31m is gone"))]);
    story.event(3, "", 2_040, &[("error", string("search failed"))]);
    story.repeat(2).lose(3);
    story
}

struct Corpus {
    brokers: String,
    topic: String,
}

/// Made once for all tests of this file.
fn corpus() -> &'static Corpus {
    static CORPUS: OnceLock<Corpus> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let kafka = Kafka::shared();
        let topic = kafka.topic("explained", 2);
        let producer = kafka.producer(&topic);
        well().send(&producer, 0);
        badly().send(&producer, 1);
        let mut other = Story::new("beta", "run-3", BEGIN_US);
        other.graph_start("chat", S0).model("answer", "req-1", "odd", 10, 7, 5).event(2, "", 10, &[]);
        other.send(&producer, 0);
        let mut twice = Story::new("acme", "twice", BEGIN_US);
        twice.graph_start("chat", S0).node("answer", |story| _ = story.wait(40)).event(2, "", 40, &[]);
        twice.graph_start("chat", S0).node("answer", |story| _ = story.wait(90)).event(2, "", 90, &[]);
        twice.send(&producer, 1);
        Corpus { brokers: kafka.brokers, topic }
    })
}

fn command(arguments: &[&str]) -> Command {
    let Corpus { brokers, topic } = corpus();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashstream"));
    command.args(arguments).env_clear().env("COLUMNS", "100").env("KAFKA_BROKERS", brokers).env("KAFKA_TOPIC", topic);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    die_with_parent(&mut command);
    command
}

fn output(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary starts")
}

fn said(arguments: &[&str]) -> String {
    let output = output(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

fn document(arguments: &[&str]) -> Value {
    serde_json::from_str(&said(arguments)).expect("JSON")
}

/// What is said is what is committed under this name.
fn check(name: &str, arguments: &[&str]) {
    golden::check(&format!("told.{name}"), &said(arguments));
}

fn refused(arguments: &[&str], expected: &str) {
    let output = output(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    assert!(errors.contains(expected), "{arguments:?}: {errors}");
    assert!(output.stdout.is_empty());
}

const PRICES: &str = "large=2.50/10,small=0.25/1.25";

#[test]
fn inspect_explains_a_run_that_went_well() {
    let priced = ["inspect", "--thread", "run-1", "--price", PRICES];
    check("inspect.txt", &priced);
    check("inspect.json", &[&priced[..], &["--output", "json"]].concat());
    check("inspect.events.txt", &["inspect", "--thread", "run-1", "--events"]);
}

/// Whoever reads the README sees what the program says.
#[test]
fn the_readme_shows_a_run_as_it_is_explained() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("there is a README");
    assert!(readme.contains(&format!("```text\n{}```", golden::read("told.inspect.txt"))));
}

#[test]
fn inspect_shows_errors_first_and_says_what_is_wrong_with_what_was_told() {
    check("inspect.badly.txt", &["inspect", "--thread", "run-2"]);
    check("inspect.badly.json", &["inspect", "--thread", "run-2", "--output", "json"]);
}

/// A thread that ran twice is two runs for every command.
#[test]
fn runs_are_listed_as_they_are_explained() {
    check("runs.txt", &["runs"]);
    let listed = document(&["runs", "--output", "json"]);
    let listed = listed["runs"].as_array().expect("runs");
    assert_eq!(listed.len(), 5);
    for run in listed {
        let text = |key: &str| run[key].as_str().expect("a text").to_owned();
        let nth = run["nth"].to_string();
        let asked = ["inspect", "--thread", &text("thread_id"), "--nth", &nth, "--output", "json"];
        let explained = document(&asked)["runs"][0].take();
        assert_eq!(run["status"], explained["status"], "{run}");
        assert_eq!(run["start_time"], explained["start_time"], "{run}");
        assert_eq!(run["errors"], json!(explained["errors"].as_array().expect("errors").len()), "{run}");
        // What came twice is on the topic twice, and told once.
        let events = run["events"].as_u64().zip(run["duplicates"].as_u64()).map(|(events, twice)| events - twice);
        assert_eq!(events, explained["events"].as_u64(), "{run}");
    }
}

#[test]
fn inspect_shows_the_state_at_a_point() {
    let hash = |state: &str| Sha256::digest(state).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let state = |at: &str| {
        document(&["inspect", "--thread", "run-1", "--at", at, "--output", "json"])["runs"][0]["state"].take()
    };
    for (at, expected) in [
        ("1", S0),
        ("6", S1),
        ("end", S2),
        ("checkpoint:a1a1", S1),
        ("checkpoint:B2B2B2B2-B2B2-B2B2-B2B2-B2B2B2B2B2B2", S2),
        ("2026-09-21T14:13:20.100Z", S0),
    ] {
        let state = state(at);
        assert_eq!(state["hash"], json!(hash(expected)), "{at}");
        assert_eq!(state["value"], serde_json::from_str::<Value>(expected).expect("JSON"), "{at}");
        let troubles: Vec<_> = state["steps"].as_array().expect("steps").iter().skip(1).collect();
        assert!(troubles.iter().all(|step| step["verdict"] == "verified"), "{at}: {troubles:?}");
    }
    let at = ["inspect", "--thread", "run-1", "--at", "6"];
    assert!(said(&at).contains(&format!("\nhash {}\n", hash(S1))));
    check("inspect.at.txt", &at);
    check("inspect.at.json", &[&at[..], &["--output", "json"]].concat());
}

#[test]
fn spans_are_those_of_opentelemetry() {
    let traces = document(&["inspect", "--thread", "run-1", "--output", "otlp"]);
    let spans = traces["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans");
    let mut preimage = b"acme\0run-1".to_vec();
    preimage.extend_from_slice(&well().id(1));
    let trace: String = Sha256::digest(&preimage)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<_> = spans
        .iter()
        .map(|span| {
            let at = |key: &str| span[key].as_str().expect("text").parse::<u64>().expect("a number") / 1_000 - BEGIN_US;
            assert_eq!(span["traceId"], json!(trace));
            let parent = spans.iter().find(|other| other["spanId"] == span["parentSpanId"]);
            let parent = parent.map_or("-", |parent| parent["name"].as_str().expect("a name"));
            let name = span["name"].as_str().expect("a name");
            format!("{name} <{parent} {}..{}", at("startTimeUnixNano") / 1_000, at("endTimeUnixNano") / 1_000)
        })
        .collect();
    assert_eq!(
        lines,
        [
            "research <- 0..1250",
            "plan <research 10..530",
            "large <plan 10..510",
            "search <research 535..785",
            "read <research 535..1135",
            "web <read 535..785",
            "write <research 1145..1245",
            "small <write 1145..1245",
        ]
    );
}

#[test]
fn an_export_as_spans_has_every_run() {
    let traces = document(&["export", "--output", "otlp"]);
    let mut runs: Vec<_> = traces["resourceSpans"]
        .as_array()
        .expect("resources")
        .iter()
        .map(|one| {
            let attributes = one["resource"]["attributes"].as_array().expect("attributes");
            let thread = attributes[2]["value"]["stringValue"].as_str().expect("text");
            format!("{thread}: {}", one["scopeSpans"][0]["spans"].as_array().expect("spans").len())
        })
        .collect();
    runs.sort();
    assert_eq!(runs, ["run-1: 8", "run-2: 4", "run-3: 2", "twice: 2", "twice: 2"]);
    // Failed spans, one without a start, and one without an end are in it.
    check("export.otlp.json", &["export", "--output", "otlp", "--thread", "run-1,run-2"]);
    let only = document(&["export", "--output", "otlp", "--thread", "run-1"]);
    let spans = document(&["inspect", "--output", "otlp", "--thread", "run-1"]);
    assert_eq!(only, spans);
}

#[test]
fn diff_compares_states_and_runs() {
    let states = ["diff", "--thread", "run-1", "--checkpoint", "a1", "--checkpoint", "b2"];
    check("diff.states.txt", &states);
    check("diff.states.json", &[&states[..], &["--output", "json"]].concat());
    check("diff.same.txt", &["diff", "--thread", "run-1", "--at", "6", "--at", "checkpoint:a1"]);
    check("diff.runs.txt", &["diff", "--thread", "run-2,run-1"]);
    check("diff.runs.json", &["diff", "--thread", "run-2,run-1", "--price", PRICES, "--output", "json"]);
    check("diff.priced.txt", &["diff", "--thread", "run-2,run-1", "--price", PRICES]);
    let document = document(&["diff", "--thread", "twice", "--nth", "1,2", "--output", "json"]);
    assert_eq!(document["first"]["run"], json!("acme/twice"));
    assert_eq!(document["second"]["run"], json!("acme/twice#2"));
    let expected = json!([{
        "kind": "node", "name": "answer",
        "first": { "times": 1, "failed": 0, "total_us": "40000" },
        "second": { "times": 1, "failed": 0, "total_us": "90000" },
    }]);
    assert_eq!(document["rows"], expected);
    assert_eq!(document["state"]["differences"], json!([]));
}

#[test]
fn costs_are_summed_by_what_is_asked_for() {
    for by in ["model", "run", "tenant", "node"] {
        check(&format!("costs.{by}.txt"), &["costs", "--by", by, "--price", PRICES]);
    }
    check("costs.run.csv", &["costs", "--by", "run", "--price", PRICES, "--output", "csv"]);
    check("costs.model.json", &["costs", "--by", "model", "--price", PRICES, "--output", "json"]);
    check("costs.unpriced.txt", &["costs", "--by", "tenant"]);
    let nodes = document(&["costs", "--by", "node", "--tenant", "acme", "--price", "*=1/1", "--output", "json"]);
    let rows = nodes["rows"].as_array().expect("rows");
    let plan = json!({
        "node": "plan", "calls": 2, "input_tokens": 4_000, "output_tokens": 250, "cost": "0.00425", "unpriced_calls": 0,
    });
    assert_eq!(rows[0], plan);
    assert_eq!((rows.len(), &rows[1]["node"]), (2, &json!("write")));
}

/// The price table of the configuration, and a flag above it.
#[test]
fn prices_stand_in_the_configuration() {
    let directory = scratch("prices");
    let path = directory.join("prices.toml");
    std::fs::write(&path, "[costs]\nprices = [\"large=1/1\", \"*=100/100\"]\n").expect("written");
    let path = path.to_str().expect("text");
    let cost = |more: &[&str]| {
        let arguments = [&["costs", "--config", path, "--thread", "run-2", "--output", "json"], more].concat();
        document(&arguments)["total"]["cost"].take()
    };
    assert_eq!(cost(&[]), json!("0.00305"));
    assert_eq!(cost(&["--price", "large=2/0"]), json!("0.006"));
    let run = document(&["inspect", "--config", path, "--thread", "run-2", "--output", "json"]);
    assert_eq!(run["runs"][0]["cost"], json!("0.00305"));
    std::fs::write(path, "[costs]\nprices = [\"large=cheap\"]\n").expect("written");
    refused(&["costs", "--config", path], "costs.prices");
    std::fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn profile_shows_where_time_and_tokens_went() {
    check("profile.txt", &["profile", "--thread", "run-1", "--price", PRICES]);
    check("profile.badly.txt", &["profile", "--thread", "run-2"]);
    check("profile.json", &["profile", "--thread", "run-1", "--price", PRICES, "--output", "json"]);
    let profile = document(&["profile", "--thread", "twice", "--nth", "2", "--output", "json"]);
    assert_eq!(profile["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(profile["runs"][0]["rows"][0]["total_us"], json!("90000"));
}

#[test]
fn a_flame_graph_is_drawn_from_stacks() {
    check("flamegraph.txt", &["flamegraph", "--thread", "run-1", "--output", "folded"]);
    check("flamegraph.svg", &["flamegraph", "--thread", "run-1"]);
    let directory = scratch("flames");
    let path = directory.join("run.svg");
    let arguments = ["flamegraph", "--thread", "run-1", "--to", path.to_str().expect("text")];
    assert_eq!(said(&arguments), "");
    let svg = std::fs::read_to_string(&path).expect("the picture");
    assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"));
    for part in ["acme/run-1", "model large (500,000 µs", "tool web (250,000 µs"] {
        assert!(svg.contains(part), "{part}");
    }
    assert_eq!(said(&["flamegraph", "--thread", "run-1"]), svg, "the same again");
    assert_eq!(std::fs::read_dir(&directory).expect("a directory").count(), 1, "nothing else is left");
    std::fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn what_is_not_there_is_said_with_the_next_step() {
    refused(&["inspect", "--thread", "nobody"], "no run of \"nobody\" is in what was read: look at --from");
    refused(&["profile", "--thread", "run-1", "--nth", "2"], "no run of \"run-1\" --nth 2 is in what was read");
    refused(&["inspect", "--thread", "acme/run-1"], "Is --tenant acme --thread run-1 meant?");
    refused(&["inspect", "--thread", "twice#2"], "Is --thread twice --nth 2 meant?");
    refused(&["replay", "--thread", "nobody", "--speed", "0"], "no event of \"nobody\" matched: look at --from");
    refused(&["export", "--output", "otlp", "--limit", "1"], "spans are made from whole runs");
    refused(&["export", "--output", "otlp", "--thread", "nobody"], "look at --from and --thread;");
    refused(&["export", "--output", "otlp", "--tenant", "nobody"], "no run is in what was read: look at --from and");
    refused(&["inspect", "--thread", "run-1", "--at", "9999"], "the run does not come to \"9999\"");
    refused(&["inspect", "--thread", "run-1", "--at", "soon"], "a sequence such as 40");
    refused(&["diff", "--thread", "run-1"], "two runs are to be compared, these were found: acme/run-1");
    refused(&["diff", "--thread", "run-1", "--at", "1"], "two points are compared");
    refused(
        &["diff", "--thread", "run-1", "--at", "1", "--checkpoint", "cc"],
        "the run does not come to \"checkpoint:cc\"",
    );
    refused(&["costs", "--price", "large"], "MODEL=INPUT/OUTPUT is meant");
    refused(&["watch"], "watch needs a terminal: use `dashstream tail --follow`");
}

/// Half of what was asked for is no success, and is shown all the same.
#[test]
fn what_is_there_is_shown_beside_what_is_not() {
    let check = |arguments: &[&str], shown: &str, expected: &str| {
        let output = output(arguments);
        let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(out.contains(shown) && errors.contains(expected), "{arguments:?}: {out} {errors}");
    };
    let nobody = "no run of \"nobody\" is in what was read";
    check(&["inspect", "--thread", "run-1,nobody"], "acme/run-1", nobody);
    check(&["profile", "--thread", "nobody,run-1"], "acme/run-1", nobody);
    check(&["flamegraph", "--thread", "run-1,nobody", "--output", "folded"], "plan", nobody);
    check(&["diff", "--thread", "run-1,run-2,nobody"], "acme/run-2", nobody);
    check(&["diff", "--thread", "run-1,nobody"], "", nobody);
    check(&["costs", "--thread", "run-1,nobody"], "small", "no event of \"nobody\" matched");
    check(&["export", "--thread", "run-1,nobody", "--output", "otlp"], "run-1", nobody);
    check(&["inspect", "--thread", "twice", "--nth", "1,9"], "acme/twice", "no run of \"twice\" --nth 9 is");
    check(&["replay", "--thread", "run-1,nobody", "--speed", "0"], "GRAPH_END", "no event of \"nobody\" matched");
}

/// What a filter leaves out is not lost: neither where it filters, nor in a file that was exported with it.
#[test]
fn what_a_filter_left_out_is_not_missing() {
    let inspected = said(&["inspect", "--thread", "run-1", "--kind", "event"]);
    assert!(!inspected.contains("missing"), "{inspected}");
    let folder = scratch("filtered");
    let check = |filter: &[&str], missing: u64| {
        for form in ["json", "jsonl"] {
            let file = folder.join(format!("{}.{form}", filter.len()));
            let file = file.to_str().expect("UTF-8");
            said(&[&["export", "--output", form, "--to", file], filter].concat());
            let again = document(&["export", "--file", file]);
            assert_eq!(again["missing_sequences"], missing, "{form} {filter:?}");
            let listed = document(&["runs", "--file", file, "--output", "json"]);
            let runs = listed["runs"].as_array().expect("runs").iter();
            let sum: u64 = runs.filter_map(|run| run["missing_sequences"].as_u64()).sum();
            assert_eq!(sum, missing, "{form} {filter:?}");
            let inspected = said(&["inspect", "--file", file, "--thread", "run-2"]);
            assert_eq!(inspected.contains("1 sequence missing, the first is 3"), missing == 1, "{form}: {inspected}");
            let told = said(&["tail", "--file", file]);
            assert_eq!(told.matches("are missing").count() as u64, missing, "{form}: {told}");
        }
    };
    check(&["--kind", "event"], 0);
    check(&[], 1);
}
