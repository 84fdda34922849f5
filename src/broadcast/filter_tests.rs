//! What a filter lets through, against records built as producers build them.

use std::sync::Arc;

use super::*;
use crate::log::ChunkBuilder;
use crate::observe::stats::Gauge;
use crate::wire::framing::frame_plain;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{DashStreamMessage, Event, EventBatch, Header, TokenChunk};
use crate::wire::scan::{Scan, scan};
use crate::words::{DropReason, Offset, SkipReason, StreamIdentity};
use prost::Message;

fn header(tenant: &str, thread: &str, sequence: u64) -> Option<Header> {
    Some(Header { tenant_id: tenant.to_owned(), thread_id: thread.to_owned(), sequence, ..Header::default() })
}

fn event(tenant: &str, thread: &str, sequence: u64, kind: EventType, node: &str) -> Event {
    Event {
        header: header(tenant, thread, sequence),
        event_type: kind as i32,
        node_id: node.to_owned(),
        ..Event::default()
    }
}

fn one(event: Event) -> Payload {
    Payload::Event(event)
}

/// A chunk with a record for each payload, from offset 10 on, then a dead letter and a null.
fn chunk(payloads: Vec<Payload>) -> Arc<Chunk> {
    let stream = Arc::new(StreamIdentity { cluster_id: "c".into(), topic: "t".into(), topic_id: [1; 16] });
    let mut builder = ChunkBuilder::new(PartitionId(3), Offset(10), 64 << 10, stream, Arc::new(Gauge::default()));
    let mut found = Scan::default();
    let mut offset = Offset(10);
    for payload in payloads {
        let body = DashStreamMessage { message: Some(payload) }.encode_to_vec();
        scan(&body, &mut found).expect("a message");
        let mut value = Vec::new();
        frame_plain(&body, &mut value);
        builder.deliver(offset, Some(5), &value, &found, &body);
        offset = offset.next();
    }
    builder.withhold(offset, None, Outcome::DeadLettered(DropReason::InvalidProtobuf));
    builder.withhold(offset.next(), None, Outcome::Skipped(SkipReason::Null));
    builder.finish(0).expect("a chunk")
}

fn check(wanted: Wanted, chunk: &Chunk, expected: &[u64]) {
    let filter = Filter::new(wanted).expect("a filter");
    check_filter(&filter, chunk, expected);
}

fn check_filter(filter: &Filter, chunk: &Chunk, expected: &[u64]) {
    let (kept, delivered) = filter.keep(chunk, &mut Decoder::new(1 << 20));
    let entries = chunk.entries().iter().zip(&kept).filter(|(_, kept)| **kept);
    let offsets: Vec<u64> = entries.clone().map(|(entry, _)| entry.offset.0).collect();
    assert_eq!(offsets, expected, "{filter:?}");
    assert_eq!(delivered, entries.filter(|(entry, _)| entry.outcome == Outcome::Delivered).count() as u64);
    assert!(expected.is_empty() || filter.may_match(chunk), "{filter:?} must look at what it keeps");
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn sample() -> Arc<Chunk> {
    use EventType::{GraphEnd, NodeEnd, NodeStart, OptimizationEnd};
    chunk(vec![
        one(event("acme", "run-1", 1, NodeStart, "plan")),
        one(event("acme", "run-2", 2, NodeEnd, "plan")),
        one(event("other", "run-1", 3, GraphEnd, "")),
        Payload::TokenChunk(TokenChunk { header: header("acme", "run-1", 4), ..TokenChunk::default() }),
        // Two events: neither is of run-1 of acme with NODE_START, although both things are in the record.
        Payload::EventBatch(EventBatch {
            header: header("acme", "run-1", 0),
            events: vec![event("acme", "run-1", 5, NodeEnd, "act"), event("other", "run-2", 6, NodeStart, "plan")],
        }),
        // 91 and 27 have the same folded bit.
        one(event("acme", "run-3", 7, OptimizationEnd, "")),
    ])
}

#[test]
fn everything_passes_an_open_filter() {
    check(Wanted::default(), &sample(), &[10, 11, 12, 13, 14, 15, 16, 17]);
    assert!(Filter::default().is_open());
}

#[test]
fn threads_and_tenants() {
    check(Wanted { threads: texts(&["run-1"]), ..Wanted::default() }, &sample(), &[10, 12, 13, 14]);
    check(Wanted { tenants: texts(&["other"]), ..Wanted::default() }, &sample(), &[12, 14]);
    check(Wanted { tenants: texts(&["acme"]), threads: texts(&["run-2"]), ..Wanted::default() }, &sample(), &[11]);
    check(Wanted { threads: texts(&["run-9"]), ..Wanted::default() }, &sample(), &[]);
}

#[test]
fn kinds_types_and_nodes() {
    check(Wanted { kinds: texts(&["token_chunk"]), ..Wanted::default() }, &sample(), &[13]);
    check(Wanted { event_types: texts(&["NODE_START"]), ..Wanted::default() }, &sample(), &[10, 14]);
    check(Wanted { event_types: texts(&["EVENT_TYPE_OPTIMIZATION_END"]), ..Wanted::default() }, &sample(), &[15]);
    check(Wanted { nodes: texts(&["plan"]), ..Wanted::default() }, &sample(), &[10, 11, 14]);
    let all = Wanted {
        tenants: texts(&["acme"]),
        threads: texts(&["run-1"]),
        event_types: texts(&["NODE_START"]),
        ..Wanted::default()
    };
    check(all, &sample(), &[10]);
}

#[test]
fn partitions_decide_alone_about_what_nobody_can_read() {
    check(
        Wanted { partitions: vec![PartitionId(3)], ..Wanted::default() },
        &sample(),
        &[10, 11, 12, 13, 14, 15, 16, 17],
    );
    assert!(
        !Filter::new(Wanted { partitions: vec![PartitionId(4)], ..Wanted::default() }).unwrap().may_match(&sample())
    );
}

#[test]
fn a_run_from_behind_a_sequence() {
    check_filter(&Filter::of_run("run-1", None, 3), &sample(), &[13, 14]);
    check_filter(&Filter::of_run("run-1", Some("acme"), 0), &sample(), &[10, 13, 14]);
}

#[test]
fn what_could_never_match_is_refused() {
    let refused = |wanted| Filter::new(wanted).expect_err("refused");
    assert!(refused(Wanted { kinds: texts(&["event_batch"]), ..Wanted::default() }).contains("kind"));
    assert!(refused(Wanted { event_types: texts(&["NODE"]), ..Wanted::default() }).contains("event type"));
    assert!(refused(Wanted { threads: texts(&[""]), ..Wanted::default() }).contains("1 to 256"));
    assert!(refused(Wanted { threads: vec!["x".repeat(257)], ..Wanted::default() }).contains("1 to 256"));
    assert!(refused(Wanted { threads: vec!["x".to_owned(); 257], ..Wanted::default() }).contains("256 values"));
}

#[test]
fn threads_that_are_too_many_to_list_or_too_long_are_found_all_the_same() {
    let events: Vec<_> = (0..20).map(|n| event("acme", &format!("run-{n}"), 1, EventType::NodeStart, "")).collect();
    let long = "x".repeat(300);
    let chunk = chunk(vec![
        Payload::EventBatch(EventBatch { header: None, events }),
        one(event("acme", &long, 1, EventType::NodeStart, "")),
    ]);
    check(Wanted { threads: texts(&["run-17"]), ..Wanted::default() }, &chunk, &[10]);
    assert!(chunk.is_opaque());
}

#[test]
fn of_many_runs_in_a_chunk_each_is_found_by_its_follower_alone() {
    let run = |number: u64| format!("run-{number}");
    let payloads = (0..300).map(|number| one(event("acme", &run(number), 1, EventType::NodeEnd, "plan")));
    let chunk = chunk(payloads.collect());
    let before = chunk.bytes();
    let follow = |number: u64| Wanted { threads: vec![run(number)], ..Wanted::default() };
    for number in 0..300 {
        check(follow(number), &chunk, &[10 + number]);
    }
    let stranger = Filter::new(follow(300)).expect("a filter");
    assert!(!stranger.may_match(&chunk), "nothing of it is there");
    // 300 runs and their tenant, as two bytes each.
    assert_eq!(chunk.bytes() - before, 301 * 2, "what is made for looking up is counted");
}
