//! How the steps of a run are said: the payload of each message, and the pause until the next step.
//!
//! Deliberately absent: headers, sequences and batches (`run`), model and tool calls (`calls`), and which steps there
//! are (`script`).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::dice::Dice;
use super::run::{Pause, Run};
use super::script::{NodeId, Step};
use super::state::Change;
use super::tools::round;
use crate::wire::proto::attribute_value::Value;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::error::Severity;
use crate::wire::proto::metric_value::{MetricType, Value as Metric};
use crate::wire::proto::{
    AttributeArray, AttributeValue, Checkpoint, CompressionInfo, CompressionType, Error, Event, EventType, MetricValue,
    Metrics, StateDiff,
};

/// A checkpoint's state is compressed from this size on.
const CHECKPOINT_COMPRESS_BYTES: usize = 512;

/// What a step came to.
pub(super) struct Said {
    pub payload: Option<Payload>,
    pub pause: Pause,
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue { value: Some(Value::StringValue(value.into())) }
}

pub(super) fn int(value: impl TryInto<i64>) -> AttributeValue {
    AttributeValue { value: Some(Value::IntValue(value.try_into().unwrap_or(i64::MAX))) }
}

pub(super) fn float(value: f64) -> AttributeValue {
    AttributeValue { value: Some(Value::FloatValue(value)) }
}

pub(super) fn flag(value: bool) -> AttributeValue {
    AttributeValue { value: Some(Value::BoolValue(value)) }
}

fn list(values: impl IntoIterator<Item = &'static str>) -> AttributeValue {
    let values = values.into_iter().map(text).collect();
    AttributeValue { value: Some(Value::ArrayValue(AttributeArray { values })) }
}

pub(super) fn event<const N: usize>(
    event_type: EventType,
    node: NodeId,
    attributes: [(&'static str, AttributeValue); N],
) -> Event {
    Event {
        event_type: event_type as i32,
        node_id: node.to_owned(),
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..Event::default()
    }
}

fn say(event: Event, pause: Pause) -> Said {
    Said { payload: Some(Payload::Event(event)), pause }
}

impl Run {
    /// `steps` is the stack that `step` came from: a step that is not done yet puts itself back there.
    pub(super) fn say(&mut self, step: Step, steps: &mut Vec<Step>, now_us: i64, dice: &mut Dice) -> Said {
        match step {
            Step::GraphStart => self.graph_start(now_us),
            Step::Edge { from, to } => {
                say(event(EventType::EdgeTraversal, from, [("edge_from", text(from)), ("edge_to", text(to))]), 10)
            }
            Step::Branch { from, to, when } => {
                let attributes = [("edge_from", text(from)), ("edge_to", text(to)), ("condition", text(when))];
                say(event(EventType::ConditionalBranch, from, attributes), 20)
            }
            Step::NodeStart(node) => {
                self.open_nodes.push((node, now_us));
                say(event(EventType::NodeStart, node, self.configuration()), dice.between(20, 90))
            }
            Step::Thinking(node, step) => {
                let thought = super::prose::thought(self.identity.topic, dice);
                let attributes = [("thought", text(thought)), ("step", int(step))];
                say(event(EventType::NodeThinking, node, attributes), dice.between(150, 500))
            }
            Step::Progress(node, percent) => {
                let message = format!("{} of {} thousand rows", percent * 4, 400);
                let attributes = [("message", text(message)), ("percent", float(percent as f64 / 100.0))];
                say(event(EventType::NodeProgress, node, attributes), dice.between(120, 420))
            }
            Step::Substep(node, name) => {
                let attributes = [("substep_name", text(name)), ("status", text("completed"))];
                say(event(EventType::NodeSubstep, node, attributes), dice.between(40, 160))
            }
            Step::Warning(node) => {
                let message = dice.pick(&[
                    "context is 80 percent full; older messages will be summarised",
                    "the answer came from a fallback model",
                    "two sources disagree; both are kept",
                    "the budget of this run is almost used",
                ]);
                say(event(EventType::NodeWarning, node, [("message", text(message))]), 30)
            }
            Step::Speak(speech) => self.speak(speech, steps, now_us, dice),
            Step::Call(call) => self.call(call, steps, now_us, dice),
            Step::Interrupt(node) => {
                let attributes = [("reason", text("approval_required")), ("question", text("May the agent go on?"))];
                say(event(EventType::HumanInterrupt, node, attributes), dice.between(1_200, 3_500))
            }
            Step::Resume(node) => {
                let attributes = [("decision", text("approved")), ("by", text("on-call"))];
                say(event(EventType::HumanResume, node, attributes), 80)
            }
            Step::Diff(node) => {
                let said = std::mem::take(&mut self.said);
                let change = self.state.change(node, &said, std::mem::take(&mut self.tokens), dice);
                Said { payload: Some(Payload::StateDiff(self.diff(change))), pause: dice.between(10, 40) }
            }
            Step::Checkpoint(node) => {
                let checkpoint = self.checkpoint(node, dice);
                Said { payload: Some(Payload::Checkpoint(checkpoint)), pause: dice.between(20, 60) }
            }
            Step::NodeEnd(node) => {
                let mut ended = event(EventType::NodeEnd, node, self.configuration());
                ended.duration_us = self.close(node, now_us);
                say(ended, dice.between(10, 50))
            }
            Step::ForkStart { at, branches } => {
                let attributes = [("branch_count", int(branches.len())), ("branches", list(branches))];
                say(event(EventType::ParallelStart, at, attributes), 10)
            }
            Step::ForkEnd { at, branches } => {
                say(event(EventType::ParallelEnd, at, [("branch_count", int(branches))]), 10)
            }
            // `Run::perform` walks lanes itself.
            Step::Lanes(_) => Said { payload: None, pause: 0 },
            Step::Quality(node) => {
                Said { payload: Some(Payload::Metrics(self.quality(node, now_us, dice))), pause: 20 }
            }
            Step::Failure(node) => {
                let (code, message) = dice.pick(FAILURES);
                steps.push(Step::NodeFailed { node, message });
                Said { payload: Some(Payload::Error(self.failure(node, code, message, dice))), pause: 15 }
            }
            Step::NodeFailed { node, message } => {
                let mut failed = event(EventType::NodeError, node, [("error", text(message))]);
                failed.duration_us = self.close(node, now_us);
                say(failed, 30)
            }
            Step::GraphEnd => {
                if !std::mem::replace(&mut self.concluded, true) {
                    steps.push(Step::GraphEnd);
                    let change = self.state.end("done");
                    return Said { payload: Some(Payload::StateDiff(self.diff(change))), pause: 10 };
                }
                let attributes = [("status", text("completed")), ("total_tokens", int(self.tokens_total))];
                let mut ended = event(EventType::GraphEnd, "", attributes);
                ended.duration_us = now_us.saturating_sub(self.started_us);
                say(ended, 0)
            }
            Step::GraphError(node) => {
                let attributes = [("error", text(format!("node {node} failed"))), ("failed_node", text(node))];
                let mut ended = event(EventType::GraphError, "", attributes);
                ended.duration_us = now_us.saturating_sub(self.started_us);
                say(ended, 0)
            }
        }
    }

    fn graph_start(&mut self, now_us: i64) -> Said {
        self.started_us = now_us;
        let manifest = &self.identity.manifest;
        let initial_state = String::from_utf8_lossy(self.state.json()).into_owned();
        let attributes = [
            ("graph_name", text(self.identity.agent.name)),
            ("graph_manifest", text(manifest.json.clone())),
            ("graph_entry_point", text(manifest.entry_point)),
            ("graph_node_count", int(manifest.node_count)),
            ("graph_edge_count", int(manifest.edge_count)),
            ("schema_id", text(self.identity.agent.schema_id)),
            ("initial_state_json", text(initial_state)),
        ];
        say(event(EventType::GraphStart, "", attributes), 60)
    }

    fn configuration(&self) -> [(&'static str, AttributeValue); 2] {
        [("config_version", text("3")), ("config_hash", text(self.identity.agent.schema_id))]
    }

    /// How long the node was open.
    fn close(&mut self, node: NodeId, now_us: i64) -> i64 {
        let open = self.open_nodes.iter().position(|(open, _)| *open == node);
        open.map_or(0, |index| now_us.saturating_sub(self.open_nodes.swap_remove(index).1))
    }

    fn diff(&self, change: Change) -> StateDiff {
        StateDiff {
            header: None,
            base_checkpoint_id: self.checkpoint_id.clone(),
            operations: change.operations,
            state_hash: self.state.hash(),
            full_state: change.full_state,
        }
    }

    fn checkpoint(&mut self, node: NodeId, dice: &mut Dice) -> Checkpoint {
        let json = self.state.json();
        let checksum = Sha256::digest(json).to_vec();
        let compressed = match json.len() >= CHECKPOINT_COMPRESS_BYTES {
            true => zstd::bulk::compress(json, 3).ok(),
            false => None,
        };
        let compression_info = compressed.as_ref().map(|compressed| CompressionInfo {
            r#type: CompressionType::CompressionZstd as i32,
            compressed_size: compressed.len() as u64,
            uncompressed_size: json.len() as u64,
            compression_ratio: json.len() as f32 / compressed.len().max(1) as f32,
        });
        let state = compressed.unwrap_or_else(|| json.to_vec());
        self.checkpoint_id = dice.uuid().to_vec();
        Checkpoint {
            header: None,
            checkpoint_id: self.checkpoint_id.clone(),
            state,
            state_type: "serde_json::Value".to_owned(),
            checksum,
            storage_uri: String::new(),
            compression_info,
            metadata: BTreeMap::from([("node".to_owned(), node.to_owned())]),
        }
    }

    fn quality(&self, node: NodeId, now_us: i64, dice: &mut Dice) -> Metrics {
        let low = dice.chance(12);
        let score = round(if low { dice.fraction(0.35, 0.69) } else { dice.fraction(0.74, 0.98) });
        let near = |dice: &mut Dice| round((score + dice.fraction(-0.08, 0.08)).clamp(0.05, 0.99));
        let gauge = |value: Metric, unit: &str| MetricValue {
            unit: unit.to_owned(),
            r#type: MetricType::Gauge as i32,
            value: Some(value),
        };
        let latency_ms = (now_us.saturating_sub(self.started_us) / 1_000).max(1) as f64 + 0.5;
        let metrics = [
            ("quality_score", gauge(Metric::FloatValue(score), "")),
            ("accuracy", gauge(Metric::FloatValue(near(dice)), "")),
            ("relevance", gauge(Metric::FloatValue(near(dice)), "")),
            ("completeness", gauge(Metric::FloatValue(near(dice)), "")),
            ("latency_ms", gauge(Metric::FloatValue(latency_ms), "ms")),
            ("passed", gauge(Metric::BoolValue(score >= 0.7), "")),
            ("retry_count", gauge(Metric::IntValue(self.retries.min(100) as i64), "")),
        ];
        let tags = [("model", self.identity.model), ("category", self.identity.agent.category), ("node", node)];
        Metrics {
            header: None,
            scope: "quality".to_owned(),
            scope_id: self.identity.thread.clone(),
            metrics: metrics.into_iter().map(|(name, metric)| (name.to_owned(), metric)).collect(),
            tags: tags.into_iter().map(|(name, tag)| (name.to_owned(), tag.to_owned())).collect(),
        }
    }

    pub(super) fn failure(&self, node: NodeId, code: &str, message: &str, dice: &mut Dice) -> Error {
        let severity = if dice.chance(15) { Severity::Fatal } else { Severity::Error };
        let context = [("node", node), ("agent", self.identity.agent.short), ("topic", self.identity.topic)];
        Error {
            header: None,
            error_code: code.to_owned(),
            message: message.to_owned(),
            stack_trace: format!(
                "agents.{}.{node}.run\nruntime.executor.step\nruntime.executor.run",
                self.identity.agent.short
            ),
            context: context.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            severity: severity as i32,
            exception_type: "AgentError".to_owned(),
            suggestions: vec![
                "Run it again from the last checkpoint.".to_owned(),
                format!("Look at the last call of {node} and its arguments."),
            ],
        }
    }
}

const FAILURES: &[(&str, &str)] = &[
    ("MODEL_OVERLOADED", "the model refused the request three times: overloaded"),
    ("CONTEXT_TOO_LONG", "the conversation is longer than the context window of the model"),
    ("BUDGET_EXHAUSTED", "the token budget of this run is used up"),
    ("OUTPUT_NOT_JSON", "the answer of the model is not the JSON that was asked for"),
    ("TOOL_UNAVAILABLE", "the tool did not answer after three attempts"),
    ("POLICY_VIOLATION", "the answer was held back by the content policy"),
];
