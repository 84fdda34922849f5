//! The run index says only what it can know, whatever it had to forget.

use std::sync::Arc;

use super::*;
use crate::log::ChunkBuilder;
use crate::observe::stats::Gauge;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{DashStreamMessage, Event, Header};
use crate::wire::scan::{Scan, scan};
use crate::words::{GapReason, StreamIdentity};
use prost::Message;

const P: PartitionId = PartitionId(0);

fn builder(from: u64) -> ChunkBuilder {
    let stream = Arc::new(StreamIdentity { cluster_id: "c".into(), topic: "t".into(), topic_id: [1; 16] });
    ChunkBuilder::new(P, Offset(from), 64 << 10, stream, Arc::new(Gauge::default()))
}

/// One record per thread, from `from` on.
fn chunk(from: u64, threads: &[&str]) -> Arc<Chunk> {
    let mut builder = builder(from);
    let mut found = Scan::default();
    for (index, thread) in threads.iter().enumerate() {
        let header = Some(Header { thread_id: (*thread).to_owned(), ..Header::default() });
        let event = Payload::Event(Event { header, ..Event::default() });
        let body = DashStreamMessage { message: Some(event) }.encode_to_vec();
        scan(&body, &mut found).expect("a message");
        builder.deliver(Offset(from + index as u64), None, &body, &found, &body);
    }
    builder.finish(0).expect("a chunk")
}

fn check(index: &RunIndex, thread: &str, expected: Option<(Option<u64>, u64)>) {
    let seen = index.seen(thread, P).map(|seen| (seen.first.map(|first| first.0), seen.since.0));
    assert_eq!(seen, expected, "{thread}");
}

#[test]
fn a_run_begins_where_it_was_first_seen() {
    let mut index = RunIndex::new(100);
    check(&index, "a", None);
    index.note(&chunk(10, &["a", "b", "a"]));
    index.note(&chunk(13, &["b", "c"]));
    check(&index, "a", Some((Some(10), 10)));
    check(&index, "b", Some((Some(11), 10)));
    check(&index, "c", Some((Some(14), 10)));
    check(&index, "d", Some((None, 10)));
    assert_eq!(index.seen("a", PartitionId(1)), None);
}

#[test]
fn what_was_forgotten_is_not_claimed() {
    let mut index = RunIndex::new(2);
    index.note(&chunk(0, &["a", "b", "c"]));
    // The index forgot a while it read this chunk: whoever is not in it may have been before.
    check(&index, "a", Some((None, 3)));
    index.note(&chunk(3, &["a"]));
    check(&index, "a", Some((Some(3), 3)));
    assert!(index.len() <= 2);
}

#[test]
fn a_run_that_goes_on_is_remembered() {
    let mut index = RunIndex::new(10);
    for round in 0..50u64 {
        index.note(&chunk(round * 2, &["long", &format!("short-{round}")]));
    }
    check(&index, "long", Some((Some(0), 0)));
    assert!(index.len() <= 10 && index.order.len() <= 20);
}

#[test]
fn a_hole_in_what_was_read_is_the_new_beginning() {
    let mut index = RunIndex::new(10);
    index.note(&chunk(0, &["a"]));
    index.note(&chunk(50, &["b"]));
    check(&index, "b", Some((Some(50), 51)));
    check(&index, "x", Some((None, 51)));
    let mut lost = builder(51);
    index.note(&lost.lost(Offset(60), GapReason::Retention, 0).expect("a chunk"));
    check(&index, "x", Some((None, 60)));
    index.clear();
    check(&index, "a", None);
}
