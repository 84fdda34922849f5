//! Whatever arrives, in whatever order: nothing panics, and what is said holds together.

use proptest::prelude::*;

use super::costs::{By, Costs};
use super::fixture::{BEGIN_US, Script, int, text};
use super::live::Live;
use super::path::critical_path;
use super::prices::Prices;
use super::profile::{profile, self_times};
use super::runs::{Collector, Wanted};
use super::spans::Spans;
use super::trail::{Point, follow};
use super::{otlp, stacks};
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{
    Checkpoint, DashStreamMessage, DiffOperation, Error, Event, EventBatch, ExecutionTrace, Header, Metrics, StateDiff,
    TokenChunk, TokenStats, ToolExecution,
};

/// Few names, so that things meet; numbers at the edges, so that they hurt.
fn header() -> impl Strategy<Value = Option<Header>> {
    let sequence = prop_oneof![0..20_u64, Just(u64::MAX)];
    let time = prop_oneof![BEGIN_US..BEGIN_US + 1_000_000, Just(i64::MAX), Just(i64::MIN), Just(0)];
    let id = prop_oneof![prop::collection::vec(0..3_u8, 16), Just(vec![1; 40]), Just(Vec::new())];
    prop::option::weighted(
        0.95,
        (sequence, time, id, "[ab]?").prop_map(|(sequence, timestamp_us, message_id, thread_id)| Header {
            sequence,
            timestamp_us,
            message_id,
            thread_id,
            tenant_id: "t".to_owned(),
            ..Header::default()
        }),
    )
}

fn payload() -> impl Strategy<Value = Payload> {
    let duration = prop_oneof![0..1_000_000_i64, Just(i64::MAX), Just(i64::MIN)];
    let json = prop_oneof![Just("{\"a\":[1]}".to_owned()), Just("[".repeat(3_000)), Just(String::new()), "[ -~]{0,8}",];
    let name = "[ab;]{0,1}";
    (header(), -1..95_i32, name, duration, json, "[ab]?", 0..10_u8).prop_map(
        |(header, kind, node, duration_us, json, call, which)| match which {
            0..4 => Payload::Event(Event {
                header,
                event_type: kind,
                node_id: node.clone(),
                duration_us,
                llm_request_id: call.clone(),
                attributes: [
                    ("call_id", text(&call)),
                    ("tool_name", text(&node)),
                    ("edge_from", text("a")),
                    ("edge_to", text(&node)),
                    ("input_tokens", int(duration_us)),
                    ("output_tokens", text(&json)),
                    ("initial_state_json", text(&json)),
                    ("error", text("\u{1b}[31m")),
                ]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            }),
            4 => Payload::TokenChunk(TokenChunk {
                header,
                request_id: call,
                text: json,
                chunk_index: if kind < 0 { u32::MAX } else { kind as u32 % 4 },
                stats: (kind % 2 == 0).then_some(TokenStats {
                    prompt_tokens: u32::MAX,
                    completion_tokens: 3,
                    total_tokens: 0,
                }),
                ..TokenChunk::default()
            }),
            5 => Payload::ToolExecution(ToolExecution {
                header,
                call_id: call,
                stage: kind % 7,
                duration_us,
                ..ToolExecution::default()
            }),
            6 => Payload::StateDiff(StateDiff {
                header,
                operations: vec![DiffOperation {
                    op: kind % 7,
                    path: format!("/{node}"),
                    from: "/a".to_owned(),
                    value: json.clone().into_bytes(),
                    encoding: i32::from(kind == 9),
                }],
                full_state: if kind % 3 == 0 { json.into_bytes() } else { Vec::new() },
                state_hash: vec![1; kind.unsigned_abs() as usize % 40],
                base_checkpoint_id: vec![1],
            }),
            7 => Payload::Checkpoint(Checkpoint {
                header,
                checkpoint_id: vec![1],
                state: json.into_bytes(),
                ..Checkpoint::default()
            }),
            8 => Payload::Error(Error { header, severity: kind, message: json, ..Error::default() }),
            _ if kind % 2 == 0 => Payload::Metrics(Metrics { header, scope_id: call, ..Metrics::default() }),
            _ => Payload::ExecutionTrace(ExecutionTrace { header, thread_id: call, ..ExecutionTrace::default() }),
        },
    )
}

fn messages() -> impl Strategy<Value = Vec<DashStreamMessage>> {
    let batch = prop::collection::vec(payload(), 0..4).prop_map(|payloads| {
        let events = payloads.into_iter().filter_map(|payload| match payload {
            Payload::Event(event) => Some(event),
            _ => None,
        });
        Payload::EventBatch(EventBatch { header: None, events: events.collect() })
    });
    let message = prop_oneof![9 => payload(), 1 => batch].prop_map(Some);
    let message = prop_oneof![20 => message, 1 => Just(None)];
    prop::collection::vec(message.prop_map(|message| DashStreamMessage { message }), 0..60)
}

proptest! {
    #[test]
    fn whatever_arrives_nothing_panics_and_what_is_said_holds_together(messages in messages()) {
        let mut collector = Collector::new(vec![Wanted::All]);
        let mut costs = Costs::new(By::Run, Prices::parse("*=1/1").expect("prices"));
        let mut live = Live::default();
        for (offset, message) in messages.iter().enumerate() {
            collector.take(Script::place(offset), message);
            costs.take(Script::place(offset), message);
            live.take(Script::place(offset), message);
        }
        let table = costs.finish();
        prop_assert_eq!(table.rows.iter().map(|(_, sum)| sum.calls).sum::<u64>(), table.total.calls);
        for run in collector.finish().0 {
            prop_assert!(run.events.len() <= messages.len() * 4);
            let spans = Spans::of(&run);
            for (index, span) in spans.all.iter().enumerate() {
                prop_assert!(span.start_us <= span.end_us, "{:?}", span);
                prop_assert!(span.parent.is_none_or(|parent| parent < index), "{:?}", span);
            }
            prop_assert!(self_times(&spans).iter().all(|own_us| *own_us >= 0));
            let (path, _) = critical_path(&run, &spans);
            if let Some(path) = path {
                prop_assert!(path.spans.len() >= 2 && path.spans.is_sorted() && path.took_us >= 0);
            }
            profile(&run, &spans, &Prices::default());
            for line in stacks::folded(&spans) {
                let (stack, us) = line.rsplit_once(' ').expect("a stack and a number");
                prop_assert!(!stack.is_empty() && us.parse::<i64>().is_ok_and(|us| us > 0), "{}", line);
            }
            otlp::traces(&[(&run, &spans)]).to_string();
            for point in [Point::End, Point::Sequence(3), Point::Time(BEGIN_US), Point::Checkpoint("01".to_owned())] {
                let trail = follow(&run, &point);
                prop_assert!(trail.steps.len() <= run.events.len());
            }
        }
    }
}
