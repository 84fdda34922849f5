//! Runs as their readers see them: everything decodes, sequences are contiguous, every run ends.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;
use crate::wire::proto::attribute_value::Value as Attribute;
use crate::wire::proto::{Event, EventType, Header, StateDiff};

const START_US: i64 = 1_700_000_000_000_000;

/// `count` messages at `rate`, as a reader of their bytes sees them.
fn messages(seed: u64, rate: u32, count: i64) -> (Vec<Payload>, Runs) {
    let mut runs = Runs::new(seed, rate);
    let mut events = 0;
    let messages = (0..count)
        .map(|_| {
            let message = runs.next(START_US + events * 1_000_000 / i64::from(rate));
            events += events_in(&message) as i64;
            let bytes = message.encode_to_vec();
            assert!(bytes.len() < 64 * 1024, "bounded: {}", bytes.len());
            let read = DashStreamMessage::decode(bytes.as_slice()).expect("decodes");
            assert_eq!(read, message);
            read.message.expect("a payload")
        })
        .collect();
    (messages, runs)
}

/// All headers that count, in order; that of a batch is checked here.
fn headers(payload: &Payload) -> Vec<&Header> {
    let header = match payload {
        Payload::Event(payload) => &payload.header,
        Payload::StateDiff(payload) => &payload.header,
        Payload::TokenChunk(payload) => &payload.header,
        Payload::ToolExecution(payload) => &payload.header,
        Payload::Checkpoint(payload) => &payload.header,
        Payload::Metrics(payload) => &payload.header,
        Payload::Error(payload) => &payload.header,
        Payload::ExecutionTrace(payload) => &payload.header,
        Payload::EventBatch(batch) => {
            assert_eq!(batch.header.as_ref().map(|header| header.sequence), Some(0));
            assert!(batch.events.len() > 1);
            return batch.events.iter().filter_map(|event| event.header.as_ref()).collect();
        }
    };
    header.iter().collect()
}

fn events(payload: &Payload) -> &[Event] {
    match payload {
        Payload::Event(event) => std::slice::from_ref(event),
        Payload::EventBatch(batch) => &batch.events,
        _ => &[],
    }
}

fn attribute<'a>(event: &'a Event, name: &str) -> &'a str {
    match event.attributes.get(name).and_then(|value| value.value.as_ref()) {
        Some(Attribute::StringValue(text)) => text,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn sequences_are_contiguous_per_tenant_and_thread_and_ids_are_unique() {
    let (messages, _) = messages(1, 200, 20_000);
    let mut last = BTreeMap::new();
    let mut ids = Vec::new();
    for header in messages.iter().flat_map(headers) {
        let last: &mut u64 = last.entry((&header.tenant_id, &header.thread_id)).or_default();
        assert_eq!(header.sequence, *last + 1, "{}", header.thread_id);
        *last = header.sequence;
        ids.push(header.message_id.clone());
        assert_eq!((header.message_id.len(), header.schema_version), (16, 1));
        assert!(TENANTS.contains(&header.tenant_id.as_str()));
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
    let tenants: std::collections::BTreeSet<_> = last.keys().map(|(tenant, _)| tenant).collect();
    assert_eq!(tenants.len(), TENANTS.len());
}

#[test]
fn at_200_events_a_second_a_handful_of_runs_is_alive_and_each_ends_within_a_minute() {
    let mut runs = Runs::new(2, 200);
    let mut seen = BTreeMap::new();
    let mut ended = Vec::new();
    let mut events_made = 0;
    for index in 0..40_000_i64 {
        let now_us = START_US + index * 5_000;
        let payload = runs.next(now_us).message.expect("a payload");
        events_made += 1;
        for header in headers(&payload) {
            seen.entry(header.thread_id.clone()).or_insert((now_us, now_us)).1 = now_us;
        }
        for event in events(&payload) {
            if matches!(event.event_type(), EventType::GraphEnd | EventType::GraphError) {
                let header = event.header.as_ref().expect("a header");
                let (first_us, _) = seen.remove(&header.thread_id).expect("seen before");
                ended.push((now_us - first_us) / 1_000_000);
            }
        }
        if index > 4_000 {
            assert!((4..=30).contains(&seen.len()), "{} alive", seen.len());
        }
    }
    let (started, counted) = runs.counts();
    assert_eq!(counted, ended.len() as u64);
    assert!(started >= counted && started - counted <= 30, "{started} {counted}");
    ended.sort();
    let median = ended[ended.len() / 2];
    assert!((5..=30).contains(&median), "{median} s in the middle of {}", ended.len());
    assert!(ended.iter().all(|seconds| *seconds <= 90), "{:?}", ended.last());
    assert!(events_made == 40_000 && ended.len() > 100, "{}", ended.len());
}

#[test]
fn every_kind_of_message_and_many_kinds_of_events_appear() {
    let (messages, _) = messages(3, 500, 60_000);
    let mut kinds = BTreeMap::<_, u32>::new();
    let mut tokens = 0;
    for payload in &messages {
        let kind = match payload {
            Payload::Event(_) => "event",
            Payload::StateDiff(_) => "state_diff",
            Payload::TokenChunk(chunk) => {
                assert!(!chunk.text.trim().is_empty() && !chunk.request_id.is_empty());
                tokens += 1;
                "token_chunk"
            }
            Payload::ToolExecution(execution) => {
                for json in [&execution.arguments, &execution.result] {
                    assert!(json.is_empty() || serde_json::from_slice::<Value>(json).is_ok());
                }
                "tool_execution"
            }
            Payload::Checkpoint(checkpoint) => {
                let json = match &checkpoint.compression_info {
                    None => checkpoint.state.clone(),
                    Some(info) => {
                        assert_eq!(info.compressed_size, checkpoint.state.len() as u64);
                        zstd::bulk::decompress(&checkpoint.state, info.uncompressed_size as usize).expect("zstd")
                    }
                };
                assert_eq!(Sha256::digest(&json).to_vec(), checkpoint.checksum);
                assert_eq!(checkpoint.compression_info.is_some(), json.len() >= 512);
                "checkpoint"
            }
            Payload::Metrics(metrics) => {
                assert_eq!((metrics.scope.as_str(), metrics.metrics.len()), ("quality", 7));
                assert!(metrics.tags.contains_key("model") && metrics.tags.contains_key("category"));
                "metrics"
            }
            Payload::Error(error) => {
                assert!(error.severity > 0 && !error.suggestions.is_empty());
                "error"
            }
            Payload::EventBatch(_) => "event_batch",
            Payload::ExecutionTrace(_) => "execution_trace",
        };
        *kinds.entry(kind.to_owned()).or_default() += 1;
        for event in events(payload) {
            *kinds.entry(event.event_type().as_str_name().to_owned()).or_default() += 1;
        }
    }
    for kind in "event state_diff token_chunk tool_execution checkpoint metrics error event_batch".split(' ') {
        assert!(kinds.get(kind).is_some_and(|count| *count >= 5), "{kind}: {kinds:?}");
    }
    let of_events = "GRAPH_START GRAPH_END GRAPH_ERROR NODE_START NODE_END NODE_ERROR EDGE_TRAVERSAL CONDITIONAL_BRANCH \
                     PARALLEL_START PARALLEL_END LLM_START LLM_END LLM_RETRY TOOL_START TOOL_END TOOL_ERROR HUMAN_INTERRUPT \
                     HUMAN_RESUME NODE_PROGRESS NODE_THINKING NODE_SUBSTEP NODE_WARNING";
    for kind in of_events.split_whitespace() {
        assert!(kinds.contains_key(&format!("EVENT_TYPE_{kind}")), "{kind}: {kinds:?}");
    }
    assert!(tokens * 10 > messages.len() * 3, "{tokens} of {} are tokens", messages.len());
}

#[test]
fn what_streams_in_is_one_answer_and_its_end_counts_its_tokens() {
    let (messages, _) = messages(4, 200, 20_000);
    let mut answers = BTreeMap::<_, (String, u32)>::new();
    let mut ended = 0;
    for payload in &messages {
        if let Payload::TokenChunk(chunk) = payload {
            let (text, next) = answers.entry(&chunk.request_id).or_default();
            assert_eq!(chunk.chunk_index, *next);
            text.push_str(&chunk.text);
            *next += 1;
            if chunk.is_final {
                ended += 1;
                assert!(text.ends_with(". ") && !text.contains("  ") && text.len() > 60, "{text}");
                let stats = chunk.stats.as_ref().expect("stats at the end");
                assert!(stats.completion_tokens >= *next);
            }
        }
    }
    assert!(ended > 50, "{ended}");
}

#[test]
fn a_reader_that_applies_every_diff_has_the_state_whose_hash_is_sent() {
    let (messages, _) = messages(5, 200, 20_000);
    let mut states = BTreeMap::<String, Value>::new();
    let (mut applied, mut whole) = (0, 0);
    for payload in &messages {
        for event in events(payload).iter().filter(|event| event.event_type() == EventType::GraphStart) {
            let header = event.header.as_ref().expect("a header");
            let state = serde_json::from_str(attribute(event, "initial_state_json")).expect("JSON");
            states.insert(header.thread_id.clone(), state);
            let manifest: Value = serde_json::from_str(attribute(event, "graph_manifest")).expect("JSON");
            assert_eq!(manifest["graph_name"], attribute(event, "graph_name"));
            assert_eq!(manifest["entry_point"], attribute(event, "graph_entry_point"));
        }
        if let Payload::StateDiff(StateDiff { header, operations, state_hash, full_state, .. }) = payload {
            let thread = &header.as_ref().expect("a header").thread_id;
            let state = states.get_mut(thread).expect("started before");
            match operations.is_empty() {
                true => {
                    whole += 1;
                    *state = serde_json::from_slice(full_state).expect("JSON");
                }
                false => {
                    applied += 1;
                    operations.iter().for_each(|operation| super::super::state::tests::apply(state, operation));
                }
            }
            assert_eq!(&Sha256::digest(state.to_string().as_bytes()).to_vec(), state_hash);
        }
    }
    assert!(applied > 200 && whole > 5, "{applied} {whole}");
}

#[test]
fn every_graph_names_the_nodes_that_run() {
    let (messages, _) = messages(6, 200, 20_000);
    let mut manifests = BTreeMap::<String, Value>::new();
    let mut open = BTreeMap::<(String, String), i64>::new();
    for event in messages.iter().flat_map(events) {
        let header = event.header.as_ref().expect("a header");
        let thread = header.thread_id.clone();
        let key = (thread.clone(), event.node_id.clone());
        match event.event_type() {
            EventType::GraphStart => {
                let manifest = serde_json::from_str(attribute(event, "graph_manifest")).expect("JSON");
                manifests.insert(thread, manifest);
            }
            EventType::NodeStart => {
                assert!(manifests[&thread]["nodes"].get(&event.node_id).is_some(), "{}", event.node_id);
                assert_eq!(open.insert(key, header.timestamp_us), None);
            }
            EventType::NodeEnd | EventType::NodeError => {
                let started_us = open.remove(&key).expect("it was started");
                assert_eq!(event.duration_us, header.timestamp_us - started_us);
            }
            EventType::GraphEnd | EventType::GraphError => {
                assert!(open.keys().all(|(running, _)| *running != thread), "{open:?}");
            }
            _ => {}
        }
    }
    assert!(manifests.len() > 30);
}
