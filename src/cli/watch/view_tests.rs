//! Whole frames, letter by letter, and keys against the same model.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::super::source::Item;
use super::super::super::source::Seen;
use super::super::model::{Key, Model};
use super::*;
use crate::analysis::fixture::{BEGIN_US, Script, text};
use crate::wire::proto::EventType;
use crate::words::{Offset, PartitionId};

fn frame(model: &Model, columns: u16, rows: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a screen");
    terminal.draw(|frame| draw(frame, model, BEGIN_US + 10_000_000, false)).expect("drawn");
    let buffer = terminal.backend().buffer().clone();
    let row = |y: u16| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..rows).map(|y| row(y).trim_end().to_owned()).collect()
}

fn watched(script: &Script) -> Model {
    let mut model = Model::new("events at kafka:9092".to_owned());
    for (offset, message) in script.messages.iter().enumerate() {
        model.item(&Item::Event(Seen {
            partition: PartitionId(0),
            offset: Offset(offset as u64),
            timestamp_ms: None,
            key: None,
            index_in_record: 0,
            message: message.clone(),
        }));
    }
    model
}

fn two_runs() -> Script {
    let mut script = Script::new("acme", "run-1");
    script.graph_start().start("plan").wait(1_500);
    script.event(EventType::NodeError, "plan", &[("error", text("no plan"))]).graph_error("plan failed");
    script.thread("run-2").graph_start().node("plan", 300).start("write");
    script.event_with(EventType::LlmStart, "write", &[("model", text("large"))], |event| {
        event.llm_request_id = "r".to_owned();
    });
    script.chunk("r", |chunk| chunk.text = "It was a dark and ".to_owned());
    script.chunk("r", |chunk| (chunk.chunk_index, chunk.text) = (1, "stormy night.\nThen".to_owned()));
    script
}

#[test]
fn a_frame_shows_runs_nodes_tokens_and_keys() {
    let mut model = watched(&two_runs());
    model.item(&Item::Live);
    assert_eq!(
        frame(&model, 100, 14),
        [
            " events at kafka:9092  live",
            " all runs: 1 running, 0 waiting, 0 done, 1 failed  11 events",
            " run                               status        time  events  tokens  err  gap  where",
            ">acme/run-2                        running     8.50 s       7       2    -    -  write",
            " acme/run-1                        failed      1.50 s       4       0    2    -",
            " acme/run-2 graph: running ─────────────────────────────────────────────────────────────────────────",
            " ✓ plan               1x  300.0 ms                 large in write says (2 tokens):",
            " ▶ write              1x    8.20 s                 It was a dark and stormy night.",
            "                                                   Then",
            "",
            "",
            "",
            "",
            " ↑↓ choose  g newest  Enter open  Esc back  f filter  q quit",
        ]
    );
}

#[test]
fn a_narrow_screen_shows_less_and_a_tiny_one_says_so() {
    let mut model = watched(&two_runs());
    model.key(Key::Down);
    assert_eq!(
        frame(&model, 60, 12),
        [
            " events at kafka:9092  catching up",
            " all runs: 1 running, 0 waiting, 0 done, 1 failed  11 events",
            " run                  status        time  events  tokens  e…",
            " acme/run-2           running     8.50 s       7       2   …",
            ">acme/run-1           failed      1.50 s       4       0   …",
            " acme/run-1 graph: failed ──────────────────────────────────",
            " +1.50 s  run failed: plan failed",
            " ✗ plan                   1x    1.50 s",
            "",
            "",
            "",
            " ↑↓ choose  g newest  Enter open  Esc back  f filter  q quit",
        ]
    );
    assert_eq!(frame(&model, 30, 9)[0], "make it larger");
    for (columns, rows) in [(1, 1), (40, 8), (41, 9), (300, 90)] {
        frame(&model, columns, rows);
    }
}

#[test]
fn a_lost_connection_is_told_and_so_is_what_is_missing() {
    let mut model = watched(&two_runs());
    model.item(&Item::Live);
    model.item(&Item::Missing { tenant: "acme".to_owned(), thread: "run-2".to_owned(), from: 8, to: 11 });
    model.item(&Item::Disconnected { why: "connection \u{1b}[2Jreset".to_owned(), retry_in: Duration::from_secs(2) });
    let lines = frame(&model, 100, 10);
    assert_eq!(lines[0], " events at kafka:9092  CONNECTION LOST, trying again in 2.00 s: connection \\u{1b}[2Jreset");
    assert!(lines[1].ends_with("3 missing  acme/run-2: sequences 8 to…"), "{lines:#?}");
    assert!(lines[3].contains("   -    3  write"), "{lines:#?}");
    model.item(&Item::Duplicate {
        partition: PartitionId(0),
        offset: Offset(11),
        tenant: "acme".to_owned(),
        thread: "run-2".to_owned(),
        sequence: 1,
    });
    let again = two_runs().messages.remove(4);
    model.item(&Item::Event(Seen {
        partition: PartitionId(0),
        offset: Offset(11),
        timestamp_ms: None,
        key: None,
        index_in_record: 0,
        message: again,
    }));
    assert_eq!((model.live.events, model.runs()[0].duplicates), (11, 1), "counted, and not shown twice");
    model.item(&Item::Connected);
    let lines = frame(&model, 100, 10);
    assert_eq!(lines[0], " events at kafka:9092  live");
    assert!(lines[1].contains("1 reconnects"), "{lines:#?}");
}

#[test]
fn keys_choose_open_filter_and_quit() {
    let mut model = watched(&two_runs());
    let chosen = |model: &Model| {
        let runs = model.runs();
        runs.get(model.chosen(&runs)).map(|run| run.id.to_string())
    };
    assert_eq!(chosen(&model).as_deref(), Some("acme/run-2"));
    model.key(Key::Down);
    model.key(Key::Down);
    assert_eq!(chosen(&model).as_deref(), Some("acme/run-1"));
    // What begins meanwhile moves the list, not the choice.
    let mut more = two_runs();
    more.messages.clear();
    more.thread("run-3").graph_start();
    for message in more.messages {
        let seen = Seen {
            partition: PartitionId(0),
            offset: Offset(99),
            timestamp_ms: None,
            key: None,
            index_in_record: 0,
            message,
        };
        model.item(&Item::Event(seen));
    }
    assert_eq!(chosen(&model).as_deref(), Some("acme/run-1"));
    model.key(Key::Newest);
    assert_eq!(chosen(&model).as_deref(), Some("acme/run-3"));
    model.key(Key::Filter);
    assert_eq!(model.runs().len(), 2, "under way");
    model.key(Key::Filter);
    assert_eq!(chosen(&model).as_deref(), Some("acme/run-1"), "in trouble");
    model.key(Key::Open);
    assert!(frame(&model, 80, 10)[2].starts_with(" acme/run-1 graph: failed"));
    model.key(Key::Back);
    assert!(!model.is_quit());
    model.key(Key::Back);
    assert!(model.is_quit());
}

#[test]
fn text_is_wrapped_at_blanks_and_within_words_that_are_too_long() {
    assert_eq!(wrapped("a bc def", 4), ["a bc", "def"]);
    assert_eq!(wrapped("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
    assert_eq!(wrapped("日本語", 4), ["日本", "語"]);
    assert_eq!(wrapped("a\n\nb", 9), ["a", "", "b"]);
}
