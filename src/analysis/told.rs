//! One event in the few words that analysis needs: bounded texts, times and tokens; the rest of the message is let go.
//!
//! A batch is told event by event. The names of attributes are those that producers agreed on.

use crate::wire::proto::attribute_value::Value as Attribute;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::error::Severity;
use crate::wire::proto::metric_value::Value as Metric;
use crate::wire::proto::tool_execution::ExecutionStage;
use crate::wire::proto::{
    Checkpoint, CompressionType, DashStreamMessage, DiffOperation, Error, Event, EventType, Header, Metrics, StateDiff,
    TokenChunk, ToolExecution,
};
use crate::words::{Offset, PartitionId};

use super::life::{Beat, Sign};
use super::limits::{ERROR_CHARS_MAX, ID_BYTES_MAX, NAME_CHARS_MAX, OWNER_BYTES_MAX, TEXT_CHARS_MAX};
use super::text::{hex, name, one_line};

/// Where an event stands in Kafka.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub partition: PartitionId,
    pub offset: Offset,
    /// Kafka's timestamp of the record.
    pub timestamp_ms: Option<i64>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    pub place: Place,
    /// Microseconds since the epoch, as the producer said; else as Kafka said; else 0.
    pub at_us: i64,
    /// 0: none.
    pub sequence: u64,
    pub id: Vec<u8>,
    pub what: What,
}

impl Told {
    /// What it says about how its run stands.
    pub fn beat(&self) -> Beat {
        Beat { sign: Sign::of(&self.what), at_us: self.at_us, sequence: self.sequence }
    }
}

/// Tokens of a model call as far as one event tells.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tokens {
    pub input: Option<u64>,
    pub output: Option<u64>,
}

/// What happened. `took_us` is there where the producer measured it.
#[derive(Clone, PartialEq, Debug)]
pub enum What {
    GraphStart {
        graph: Option<String>,
        state: Option<Vec<u8>>,
    },
    GraphEnd {
        took_us: Option<i64>,
    },
    GraphError {
        took_us: Option<i64>,
        error: String,
    },
    NodeStart {
        node: String,
    },
    NodeEnd {
        node: String,
        took_us: Option<i64>,
        tokens: Tokens,
    },
    NodeError {
        node: String,
        took_us: Option<i64>,
        error: String,
    },
    Edge {
        from: String,
        to: String,
    },
    ModelStart {
        call: ModelRef,
        tokens: Tokens,
    },
    ModelEnd {
        call: ModelRef,
        took_us: Option<i64>,
        tokens: Tokens,
    },
    ModelError {
        call: ModelRef,
        took_us: Option<i64>,
        error: String,
    },
    ModelRetry {
        call: ModelRef,
        reason: String,
    },
    Chunk {
        request: String,
        model: Option<String>,
        index: u32,
        text: String,
        counted: u64,
        last: bool,
        tokens: Tokens,
    },
    ToolStart {
        call: ToolRef,
    },
    ToolEnd {
        call: ToolRef,
        took_us: Option<i64>,
    },
    ToolError {
        call: ToolRef,
        took_us: Option<i64>,
        error: String,
    },
    ToolRetry {
        call: ToolRef,
        reason: String,
    },
    Diff(Box<Diff>),
    Checkpoint(Box<Saved>),
    /// Judged or measured: `scope`, then `name value` for each.
    Measured {
        scope: String,
        values: Vec<(String, String)>,
    },
    Error {
        code: String,
        message: String,
        node: Option<String>,
        severity: Severity,
    },
    /// Waiting for a person, and going on.
    Interrupt {
        node: String,
    },
    Resume {
        node: String,
    },
    Warning {
        node: String,
        message: String,
    },
    /// What is worth a line in a timeline and nothing else.
    Remark {
        label: &'static str,
        node: String,
        text: String,
    },
}

/// Which model call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelRef {
    pub request: Option<String>,
    pub node: Option<String>,
    pub model: Option<String>,
}

/// Which tool call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolRef {
    pub call: Option<String>,
    pub tool: Option<String>,
    pub node: Option<String>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Diff {
    pub base_checkpoint: Vec<u8>,
    pub operations: Vec<DiffOperation>,
    /// Empty: the operations count.
    pub full_state: Vec<u8>,
    /// Empty: none was sent.
    pub hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Saved {
    pub checkpoint: Vec<u8>,
    pub state: Vec<u8>,
    pub compressed: bool,
    /// Of the uncompressed state; empty: none was sent.
    pub checksum: Vec<u8>,
    pub node: Option<String>,
}

/// Whose event: as producers wrote it, however odd, so that a filter finds it and its trace id is right.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Owner {
    pub tenant: String,
    pub thread: String,
}

/// Every event of a message, in order; `None` in place of an event that names no thread.
pub fn tell(place: Place, message: &DashStreamMessage) -> Vec<Option<(Owner, Told)>> {
    match &message.message {
        None => Vec::new(),
        Some(Payload::EventBatch(batch)) => {
            batch.events.iter().map(|event| told(place, &event.header, None, || tell_event(event))).collect()
        }
        Some(payload) => vec![tell_payload(place, payload)],
    }
}

fn tell_payload(place: Place, payload: &Payload) -> Option<(Owner, Told)> {
    match payload {
        Payload::Event(event) => told(place, &event.header, None, || tell_event(event)),
        Payload::StateDiff(diff) => told(place, &diff.header, None, || tell_diff(diff)),
        Payload::TokenChunk(chunk) => told(place, &chunk.header, None, || tell_chunk(chunk)),
        Payload::ToolExecution(tool) => told(place, &tool.header, None, || tell_tool(tool)),
        Payload::Checkpoint(saved) => told(place, &saved.header, None, || tell_checkpoint(saved)),
        Payload::Metrics(metrics) => told(place, &metrics.header, Some(&metrics.scope_id), || tell_metrics(metrics)),
        Payload::Error(error) => told(place, &error.header, None, || tell_error(error)),
        Payload::ExecutionTrace(trace) => told(place, &trace.header, Some(&trace.thread_id), || What::Remark {
            label: "trace",
            node: String::new(),
            text: format!("{} node executions, {} tokens", trace.nodes_executed.len(), trace.total_tokens),
        }),
        Payload::EventBatch(_) => None,
    }
}

/// Bytes that an event keeps in memory beyond a fixed size.
pub fn weight(what: &What) -> usize {
    match what {
        What::GraphStart { state: Some(state), .. } => state.len(),
        What::Diff(diff) => {
            let operations = diff.operations.iter();
            diff.full_state.len()
                + operations.map(|one| 96 + one.path.len() + one.from.len() + one.value.len()).sum::<usize>()
        }
        What::Checkpoint(saved) => saved.state.len(),
        What::Chunk { text, .. } => text.len(),
        What::Measured { values, .. } => values.len() * 96,
        _ => 0,
    }
}

fn told(
    place: Place,
    header: &Option<Header>,
    otherwise_thread: Option<&String>,
    what: impl FnOnce() -> What,
) -> Option<(Owner, Told)> {
    let absent = Header::default();
    let header = header.as_ref().unwrap_or(&absent);
    let thread = Some(&header.thread_id).filter(|thread| !thread.is_empty());
    let thread = thread.or(otherwise_thread.filter(|thread| !thread.is_empty()))?;
    let owner = Owner { tenant: bounded(&header.tenant_id), thread: bounded(thread) };
    let kafka_us = place.timestamp_ms.unwrap_or(0).saturating_mul(1_000);
    let at_us = if header.timestamp_us > 0 { header.timestamp_us } else { kafka_us.max(0) };
    let what = what();
    Some((owner, Told { place, at_us, sequence: header.sequence, id: id(&header.message_id), what }))
}

fn bounded(text: &str) -> String {
    text.get(..text.floor_char_boundary(OWNER_BYTES_MAX)).unwrap_or_default().to_owned()
}

fn id(bytes: &[u8]) -> Vec<u8> {
    bytes.get(..ID_BYTES_MAX).unwrap_or(bytes).to_vec()
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| name(text))
}

fn measured(duration_us: i64) -> Option<i64> {
    (duration_us > 0).then_some(duration_us)
}

fn said(event: &Event, key: &str) -> Option<String> {
    match event.attributes.get(key)?.value.as_ref()? {
        Attribute::StringValue(text) => Some(one_line(text, ERROR_CHARS_MAX)).filter(|text| !text.is_empty()),
        Attribute::IntValue(number) => Some(number.to_string()),
        Attribute::FloatValue(number) => Some(number.to_string()),
        Attribute::BoolValue(on) => Some(on.to_string()),
        Attribute::BytesValue(_) | Attribute::ArrayValue(_) | Attribute::MapValue(_) => None,
    }
}

fn number(event: &Event, key: &str) -> Option<u64> {
    match event.attributes.get(key)?.value.as_ref()? {
        Attribute::IntValue(number) => u64::try_from(*number).ok(),
        Attribute::FloatValue(number) if (0.0..9e15).contains(number) => Some(*number as u64),
        Attribute::StringValue(text) => text.parse().ok(),
        _ => None,
    }
}

fn tokens(event: &Event) -> Tokens {
    Tokens { input: number(event, "input_tokens"), output: number(event, "output_tokens") }
}

fn error_of(event: &Event) -> String {
    said(event, "error").or_else(|| said(event, "message")).unwrap_or_default()
}

fn tell_event(event: &Event) -> What {
    let node = name(&event.node_id);
    let took_us = measured(event.duration_us);
    let attribute = |key: &str| said(event, key).map(|text| name(&text));
    let model =
        || ModelRef { request: filled(&event.llm_request_id), node: filled(&event.node_id), model: attribute("model") };
    let tool = || ToolRef { call: attribute("call_id"), tool: attribute("tool_name"), node: filled(&event.node_id) };
    let text = |keys: &[&str]| {
        let found = keys.iter().find_map(|key| said(event, key)).unwrap_or_default();
        one_line(&found, TEXT_CHARS_MAX)
    };
    let remark = |label, text| What::Remark { label, node: filled(&event.node_id).unwrap_or_default(), text };
    let edge = || What::Edge {
        from: attribute("edge_from").or(filled(&event.node_id)).unwrap_or_else(|| name("")),
        to: attribute("edge_to").unwrap_or_else(|| name("")),
    };
    match EventType::try_from(event.event_type).unwrap_or(EventType::Unspecified) {
        EventType::GraphStart => {
            let state = ["initial_state_json", "state_json"].iter().find_map(|key| {
                match event.attributes.get(*key)?.value.as_ref()? {
                    Attribute::StringValue(text) => Some(text.as_bytes().to_vec()),
                    _ => None,
                }
            });
            What::GraphStart { graph: attribute("graph_name"), state }
        }
        EventType::GraphEnd => What::GraphEnd { took_us },
        EventType::GraphError => What::GraphError { took_us, error: error_of(event) },
        EventType::NodeStart => What::NodeStart { node },
        EventType::NodeEnd => What::NodeEnd { node, took_us, tokens: tokens(event) },
        EventType::NodeError => What::NodeError { node, took_us, error: error_of(event) },
        EventType::EdgeTraversal => edge(),
        // Without a target it says that there was a choice, not where it led.
        EventType::ConditionalBranch if event.attributes.contains_key("edge_to") => edge(),
        EventType::ConditionalBranch => remark("branch", text(&["condition"])),
        EventType::ParallelStart => remark("in parallel", text(&["branch_count"])),
        EventType::ParallelEnd => remark("joined", text(&["branch_count"])),
        EventType::LlmStart => What::ModelStart { call: model(), tokens: tokens(event) },
        EventType::LlmEnd => What::ModelEnd { call: model(), took_us, tokens: tokens(event) },
        EventType::LlmError => What::ModelError { call: model(), took_us, error: error_of(event) },
        EventType::LlmRetry => What::ModelRetry { call: model(), reason: text(&["reason", "error"]) },
        EventType::ToolStart => What::ToolStart { call: tool() },
        EventType::ToolEnd => What::ToolEnd { call: tool(), took_us },
        EventType::ToolError => What::ToolError { call: tool(), took_us, error: error_of(event) },
        EventType::CheckpointSave => remark("checkpoint saved", text(&["checkpoint_id"])),
        EventType::CheckpointLoad => remark("checkpoint loaded", text(&["checkpoint_id"])),
        EventType::CheckpointDelete => remark("checkpoint deleted", text(&["checkpoint_id"])),
        EventType::MemorySave => remark("memory saved", text(&["message", "key"])),
        EventType::MemoryLoad => remark("memory loaded", text(&["message", "key"])),
        EventType::HumanInterrupt => What::Interrupt { node },
        EventType::HumanResume => What::Resume { node },
        EventType::NodeProgress => remark("progress", text(&["message", "percent"])),
        EventType::NodeThinking => remark("thinking", text(&["thought"])),
        EventType::NodeSubstep => remark("step", text(&["substep_name", "status"])),
        EventType::NodeWarning => What::Warning { node, message: text(&["message", "warning"]) },
        EventType::OptimizationStart => remark("optimization", text(&["optimization_id", "strategy"])),
        EventType::OptimizationEnd => remark("optimization ended", text(&["optimization_id", "termination_reason"])),
        EventType::Unspecified => remark("event", format!("of type {}", event.event_type)),
    }
}

fn tell_diff(diff: &StateDiff) -> What {
    What::Diff(Box::new(Diff {
        base_checkpoint: id(&diff.base_checkpoint_id),
        operations: diff.operations.clone(),
        full_state: diff.full_state.clone(),
        hash: id(&diff.state_hash),
    }))
}

fn tell_checkpoint(saved: &Checkpoint) -> What {
    let zstd = saved.compression_info.as_ref().is_some_and(|info| info.r#type() == CompressionType::CompressionZstd);
    What::Checkpoint(Box::new(Saved {
        checkpoint: id(&saved.checkpoint_id),
        state: saved.state.clone(),
        compressed: zstd,
        checksum: id(&saved.checksum),
        node: saved.metadata.get("node").and_then(|node| filled(node)),
    }))
}

fn tell_chunk(chunk: &TokenChunk) -> What {
    let stats = chunk.stats.as_ref();
    let counted = |number: u32| (number > 0).then_some(u64::from(number));
    What::Chunk {
        request: filled(&chunk.request_id).unwrap_or_else(|| "(no request)".to_owned()),
        model: filled(&chunk.model),
        index: chunk.chunk_index,
        text: chunk.text.chars().take(TEXT_CHARS_MAX * 4).collect(),
        // A chunk may hold several tokens; their ids tell how many.
        counted: if chunk.token_ids.is_empty() { 1 } else { chunk.token_ids.len() as u64 },
        last: chunk.is_final,
        tokens: Tokens {
            input: stats.and_then(|stats| counted(stats.prompt_tokens)),
            output: stats.and_then(|stats| counted(stats.completion_tokens)),
        },
    }
}

fn tell_tool(tool: &ToolExecution) -> What {
    let call = ToolRef { call: filled(&tool.call_id), tool: filled(&tool.tool_name), node: None };
    let took_us = measured(tool.duration_us);
    let details = tool.error_details.as_ref().map_or("", |details| details.message.as_str());
    let problem = if tool.error.is_empty() { details } else { &tool.error };
    let error = one_line(problem, ERROR_CHARS_MAX);
    match ExecutionStage::try_from(tool.stage).unwrap_or(ExecutionStage::Unspecified) {
        ExecutionStage::Retrying => What::ToolRetry { call, reason: one_line(problem, TEXT_CHARS_MAX) },
        ExecutionStage::Failed => What::ToolError { call, took_us, error },
        _ if !tool.error.is_empty() => What::ToolError { call, took_us, error },
        ExecutionStage::Completed => What::ToolEnd { call, took_us },
        ExecutionStage::Unspecified | ExecutionStage::Requested | ExecutionStage::Started => What::ToolStart { call },
    }
}

/// As many values as a line can show.
const VALUES_MAX: usize = 12;

fn tell_metrics(metrics: &Metrics) -> What {
    let values = metrics.metrics.iter().take(VALUES_MAX).map(|(key, metric)| {
        let value = match &metric.value {
            None => String::new(),
            Some(Metric::IntValue(number)) => number.to_string(),
            Some(Metric::FloatValue(number)) => number.to_string(),
            Some(Metric::StringValue(text)) => one_line(text, 40),
            Some(Metric::BoolValue(on)) => on.to_string(),
            Some(Metric::BytesValue(bytes)) => hex(bytes.get(..16).unwrap_or(bytes)),
        };
        (one_line(key, 40), value)
    });
    What::Measured { scope: one_line(&metrics.scope, NAME_CHARS_MAX), values: values.collect() }
}

fn tell_error(error: &Error) -> What {
    let code = filled(&error.error_code).or(filled(&error.exception_type));
    What::Error {
        code: code.unwrap_or_else(|| "error".to_owned()),
        message: one_line(&error.message, ERROR_CHARS_MAX),
        node: error.context.get("node_id").or(error.context.get("node")).and_then(|node| filled(node)),
        severity: Severity::try_from(error.severity).unwrap_or(Severity::Unspecified),
    }
}
