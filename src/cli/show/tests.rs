//! What is written is what was read: shape of each form, and that texts from outside stay texts.

use super::human::{fit, middle, pad, plain};
use super::terminal::Screen;
use super::*;
use crate::cli::source::{Bad, Seen};
use crate::wire::proto::attribute_value::Value as Attribute;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{AttributeValue, DashStreamMessage, Event, EventType, Header};
use crate::words::{Offset, PartitionId};

fn event(sequence: u64) -> Item {
    let header = Header {
        message_id: vec![0xAB; 16],
        timestamp_us: 1_790_000_000_000_000 + sequence as i64 * 1_500,
        tenant_id: "acme".to_owned(),
        thread_id: "run, \"one\"".to_owned(),
        sequence,
        schema_version: 1,
        ..Header::default()
    };
    let text = AttributeValue { value: Some(Attribute::StringValue("\u{1b}[2Jhi\n".to_owned())) };
    let event = Event {
        header: Some(header),
        event_type: EventType::NodeEnd as i32,
        node_id: "plan".to_owned(),
        duration_us: 1_200,
        attributes: [("text".to_owned(), text)].into(),
        ..Event::default()
    };
    Item::Event(Seen {
        partition: PartitionId(2),
        offset: Offset(40 + sequence),
        timestamp_ms: Some(1_790_000_000_001),
        key: Some(b"k".to_vec()),
        index_in_record: 0,
        message: DashStreamMessage { message: Some(Payload::Event(event)) },
    })
}

fn bad() -> Item {
    Item::Bad(Bad {
        partition: PartitionId(0),
        offset: Offset(7),
        timestamp_ms: None,
        reason: "null".to_owned(),
        detail: "a tombstone".to_owned(),
    })
}

fn gap() -> Item {
    Item::Gap { partition: PartitionId(1), from: Offset(10), to: Offset(12), reason: "retention".to_owned() }
}

fn shown(form: Form, width: Option<usize>, items: &[Item]) -> String {
    shown_to(Extent::Whole, form, width, items)
}

fn shown_to(extent: Extent, form: Form, width: Option<usize>, items: &[Item]) -> String {
    let mut out = Vec::new();
    let style = Style { screen: Screen { width, colour: false } };
    let mut printer = Printer::new(&mut out, form, style, Some("run".to_owned()));
    for item in items {
        printer.item(item).expect("written to memory");
    }
    printer.finish(extent).expect("written to memory");
    String::from_utf8(out).expect("UTF-8")
}

const OBJECT: &str = "{\"message_id\":\"abababababababababababababababab\",\"sequence\":1,\
    \"timestamp_micros\":1790000000001500,\"tenant_id\":\"acme\",\"thread_id\":\"run, \\\"one\\\"\",\
    \"event_type\":\"NODE_END\",\"node_id\":\"plan\",\"duration_us\":1200,\"llm_request_id\":\"\",\
    \"attributes\":{\"text\":\"\\u001b[2Jhi\\n\"},\"kind\":\"event\",\"partition\":2,\"offset\":41,\"index\":0,\
    \"timestamp_ms\":1790000000001,\"key\":\"k\",\"schema_version\":1}";

#[test]
fn jsonl_is_an_object_per_line_with_findings_where_they_belong() {
    let text = shown(Form::Jsonl, None, &[gap(), event(1), bad(), Item::Idle, Item::End]);
    let gap = "{\"kind\":\"gap\",\"partition\":1,\"from\":10,\"to\":12,\"reason\":\"retention\"}";
    let bad = "{\"kind\":\"bad\",\"partition\":0,\"offset\":7,\"reason\":\"null\",\"detail\":\"a tombstone\"}";
    assert_eq!(text, format!("{gap}\n{OBJECT}\n{bad}\n"));
}

#[test]
fn json_is_one_document_with_the_sum_behind_the_events() {
    let text = shown(Form::Json, None, &[event(1), gap(), event(3)]);
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(text.starts_with("{\"thread_id\":\"run\",\"events\":[\n{\"message_id\""), "{text}");
    assert_eq!(document["events"].as_array().map(Vec::len), Some(2));
    assert_eq!(document["total_events"], 2);
    assert_eq!(document["start_time"], "2026-09-21T14:13:20.001500Z");
    assert_eq!(document["end_time"], "2026-09-21T14:13:20.004500Z");
    assert_eq!(document["duration_micros"], 3_000);
    assert_eq!(document["missing_records"], 2);
    assert_eq!(document["findings"][0]["kind"], "gap");
    let empty: serde_json::Value = serde_json::from_str(&shown(Form::Json, None, &[])).expect("JSON");
    assert_eq!((&empty["total_events"], &empty["start_time"]), (&0.into(), &serde_json::Value::Null));
}

/// Scripts took the empty document of a topic that could not be read for one without events.
#[test]
fn a_document_that_is_not_whole_says_so_and_one_that_has_not_begun_is_none() {
    for form in Form::ALL {
        assert_eq!(shown_to(Extent::Incomplete, form, None, &[]), "", "{form:?}");
    }
    let text = shown_to(Extent::Incomplete, Form::Json, None, &[event(1)]);
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&document["incomplete"], &document["total_events"]), (&true.into(), &1.into()));
    let whole: serde_json::Value = serde_json::from_str(&shown(Form::Json, None, &[event(1)])).expect("JSON");
    assert_eq!(whole.get("incomplete"), None);
    assert_eq!(shown_to(Extent::Incomplete, Form::Jsonl, None, &[event(1)]), shown(Form::Jsonl, None, &[event(1)]));
}

#[test]
fn a_topic_that_was_made_again_is_told_in_every_form() {
    let told = "{\"kind\":\"stream_changed\"}";
    assert_eq!(shown(Form::Jsonl, None, &[Item::StreamChanged]), format!("{told}\n"));
    let csv = shown(Form::Csv, None, &[Item::StreamChanged]);
    assert_eq!(csv.lines().last(), Some(",,,,,,,,,stream_changed,\"{\"\"kind\"\":\"\"stream_changed\"\"}\""));
    let json: serde_json::Value = serde_json::from_str(&shown(Form::Json, None, &[Item::StreamChanged])).expect("JSON");
    assert_eq!(json["findings"][0]["kind"], "stream_changed");
    assert!(shown(Form::Human, None, &[Item::StreamChanged]).starts_with("-- the topic was made again"));
}

#[test]
fn csv_has_the_columns_of_the_predecessor_and_quotes_what_it_must() {
    let text = shown(Form::Csv, None, &[event(1), bad()]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "message_id,sequence,timestamp_micros,tenant_id,thread_id,event_type,node_id,duration_us,llm_request_id,\
             kind,data",
            "abababababababababababababababab,1,1790000000001500,acme,\"run, \"\"one\"\"\",NODE_END,plan,1200,,event,\
             \"{\"\"text\"\":\"\"\\u001b[2Jhi\\n\"\"}\"",
            ",,,,,,,,,bad,\"{\"\"kind\"\":\"\"bad\"\",\"\"partition\"\":0,\"\"offset\"\":7,\"\"reason\"\":\"\"null\"\",\
             \"\"detail\"\":\"\"a tombstone\"\"}\"",
        ]
    );
}

#[test]
fn lines_for_people_fit_the_screen_and_obey_nobody() {
    let text = shown(Form::Human, Some(80), &[event(1), gap(), bad(), Item::Live]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "14:13:20.001 2/41   run, \"one\"   #1   NODE_END           plan       1.2 ms text…",
            "-- partition 1: offsets 10 to 11 are gone: retention",
            "-- 0/7 holds no event: null: a tombstone",
        ]
    );
    let wide = shown(Form::Human, None, &[event(1)]);
    assert!(wide.ends_with("1.2 ms text=\"\\u001b[2Jhi\\n\"\n"), "{wide}");
    assert!(wide.starts_with("09-21 14:13:20.001 2/41"), "{wide}");
    assert!(!wide.contains('\u{1b}'));
}

#[test]
fn texts_are_cut_by_columns_and_not_by_bytes() {
    assert_eq!(
        (fit("abc", 3), fit("abcd", 3), fit("日本語", 5), fit("a", 0)),
        ("abc".to_owned(), "ab…".to_owned(), "日本…".to_owned(), String::new())
    );
    assert_eq!(
        (middle("0123456789", 5), middle("0123", 5), middle("01", 1)),
        ("01…89".to_owned(), "0123".to_owned(), "…".to_owned())
    );
    assert_eq!(pad("日", 4), "日  ");
    assert_eq!(plain("a\u{1b}[31m\u{202e}b\t"), "a\\u{1b}[31m\\u{202e}b\\t");
}
