//! A small agent that tells what it does: runs, nodes, calls of a model and of a tool, its state. It counts what became
//! of every event, and says so at the end.
//!
//! `cargo run --release --example instrument_an_agent -- localhost:9092 dashstream-quality [THREAD]`

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashstream::producer::proto::dash_stream_message::Message;
use dashstream::producer::proto::tool_execution::ExecutionStage;
use dashstream::producer::proto::{TokenChunk, ToolExecution};
use dashstream::producer::{
    Access, Batching, Event, EventType, Metrics, OnRefused, Options, Outgoing, Producer, StateTracker,
};
use serde_json::json;

/// How long the agent would rather wait than lose an event.
const PATIENCE: Duration = Duration::from_millis(200);

/// One run of the agent: everything that it says has its thread.
struct Run {
    producer: Arc<Producer>,
    thread: String,
    state: StateTracker,
    lost: u64,
}

impl Run {
    /// Telemetry must not stop the work: what is not accepted in time is counted and let go.
    fn say(&mut self, what: impl Into<Message>) -> bool {
        let said = self.producer.send(Outgoing::new(self.thread.as_str(), what), PATIENCE);
        if let Err(rejected) = &said {
            self.lost += 1;
            println!("{rejected}");
        }
        // The outcome is counted by the producer; an agent that must know keeps the ticket.
        said.map(drop).is_ok()
    }

    /// The first time all of the state, later what changed. What was not accepted is told with the next change.
    fn state(&mut self, state: serde_json::Value) {
        if let Some((diff, told)) = self.state.change(state)
            && self.say(diff)
        {
            self.state.accepted(told);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(brokers), Some(topic)) = (arguments.next(), arguments.next()) else {
        return Err("give brokers and a topic".into());
    };
    let thread = arguments.next().unwrap_or_else(|| format!("example-{}", std::process::id()));

    let metrics = Metrics::new();
    let registry = prometheus::Registry::new();
    metrics.register(&registry)?;
    let producer = Arc::new(Producer::start(Options {
        tenant: "example".to_owned(),
        batching: Some(Batching::default()),
        on_refused: OnRefused::DeadLetter { topic: format!("{topic}-dlq") },
        metrics,
        ..Options::new(Access::plaintext(brokers), topic)
    })?);

    let mut run = Run { producer: producer.clone(), thread, state: producer.state(), lost: 0 };
    run.say(Event::of(EventType::GraphStart, "").with("graph_name", "example"));
    let mut notes = Vec::new();
    let nodes = ["plan", "search", "answer"];
    for (step, node) in nodes.into_iter().enumerate() {
        if step > 0 {
            let edge = Event::of(EventType::EdgeTraversal, "").with("edge_from", nodes[step - 1]);
            run.say(edge.with("edge_to", node));
        }
        let began = Instant::now();
        run.say(Event::of(EventType::NodeStart, node));
        let text = think(&mut run, node, step);
        if node == "search" {
            // The key is taken out before the event leaves.
            let arguments = json!({ "query": text, "api_key": "sk-not-a-real-key-0123456789" });
            let tool = |stage: ExecutionStage| ToolExecution {
                call_id: format!("call-{step}"),
                tool_name: "web_search".to_owned(),
                stage: stage.into(),
                ..ToolExecution::default()
            };
            let arguments = arguments.to_string().into_bytes();
            run.say(ToolExecution { arguments, ..tool(ExecutionStage::Started) });
            run.say(ToolExecution { result: b"[]".to_vec(), ..tool(ExecutionStage::Completed) });
        }
        notes.push(text);
        run.state(json!({ "goal": "say hello", "step": step, "notes": notes }));
        run.say(Event::of(EventType::NodeEnd, node).took(began.elapsed()));
    }
    run.say(Event::of(EventType::GraphEnd, "").with("steps", 3));
    println!("thread {} said everything, {} events were not accepted", run.thread, run.lost);
    drop(run);

    let flushed = producer.flush(Duration::from_secs(10));
    println!(
        "{} delivered, {} refused, {} unknown, {} still under way",
        flushed.delivered, flushed.refused, flushed.unknown, flushed.pending
    );
    // An application shows its registry at /metrics.
    println!("{} metric families", registry.gather().len());
    Ok(())
}

/// Stands for a model that streams.
fn think(run: &mut Run, node: &str, step: usize) -> String {
    let request = format!("request-{step}");
    let words = ["I", "will", node, "now"];
    let start = Event { llm_request_id: request.clone(), ..Event::of(EventType::LlmStart, node) };
    run.say(start.with("model", "example"));
    for (index, word) in words.iter().enumerate() {
        run.say(TokenChunk {
            request_id: request.clone(),
            text: format!("{word} "),
            chunk_index: index as u32,
            is_final: index + 1 == words.len(),
            model: "example".to_owned(),
            ..TokenChunk::default()
        });
    }
    let end = Event { llm_request_id: request, ..Event::of(EventType::LlmEnd, node) };
    run.say(end.with("model", "example").with("input_tokens", 12).with("output_tokens", words.len() as i64));
    words.join(" ")
}
