//! One JSON object per event: the field names and forms of every kind of message.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::writer::Writer;
use crate::wire::inflate::{Inflater, SCRATCH_BYTES_MAX};
use crate::wire::proto::attribute_value::Value as Attribute;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::diff_operation::{OpType, ValueEncoding};
use crate::wire::proto::error::Severity;
use crate::wire::proto::metric_value::{MetricType, Value as Metric};
use crate::wire::proto::token_chunk::FinishReason;
use crate::wire::proto::tool_execution::ExecutionStage;
use crate::wire::proto::{
    AttributeValue, Checkpoint, DiffOperation, Error, ErrorRecord, Event, EventType, ExecutionTrace, Header,
    MetricValue, Metrics, NodeExecutionRecord, StateDiff, TokenChunk, ToolExecution,
};
use crate::wire::scan::Kind;
use crate::wire::{Refusal, framing};

/// What every event shows of its header.
pub(super) struct HeaderFields<'a> {
    pub(super) message_id: &'a [u8],
    pub(super) timestamp_us: i64,
    pub(super) tenant_id: &'a str,
    pub(super) thread_id: &'a str,
    pub(super) sequence: u64,
    pub(super) schema_version: u32,
}

/// The fields that open every event object. All are present, also where the producer sent none.
pub(super) fn header(writer: &mut Writer<'_>, kind: Kind, header: &HeaderFields<'_>) {
    writer.key("kind").string(kind.label());
    writer.key("message_id").hex(header.message_id);
    decimal(writer, "timestamp_us", header.timestamp_us);
    writer.key("tenant_id").string(header.tenant_id);
    writer.key("thread_id").string(header.thread_id);
    decimal(writer, "sequence", header.sequence);
    writer.key("schema_version").u32(header.schema_version);
}

fn opening(writer: &mut Writer<'_>, kind: Kind, message_header: &Option<Header>) {
    let absent = Header::default();
    let found = message_header.as_ref().unwrap_or(&absent);
    let fields = HeaderFields {
        message_id: &found.message_id,
        timestamp_us: found.timestamp_us,
        tenant_id: &found.tenant_id,
        thread_id: &found.thread_id,
        sequence: found.sequence,
        schema_version: found.schema_version,
    };
    header(writer, kind, &fields);
}

/// A message that is not a batch.
pub(super) fn message(writer: &mut Writer<'_>, message: &Payload) {
    match message {
        Payload::Event(message) => event(writer, message),
        Payload::StateDiff(message) => state_diff(writer, message),
        Payload::TokenChunk(message) => token_chunk(writer, message),
        Payload::ToolExecution(message) => tool_execution(writer, message),
        Payload::Checkpoint(message) => checkpoint(writer, message),
        Payload::Metrics(message) => metrics(writer, message),
        Payload::Error(message) => error(writer, message),
        Payload::ExecutionTrace(message) => execution_trace(writer, message),
        // Its events are written one by one.
        Payload::EventBatch(_) => {}
    }
}

pub(super) fn event(writer: &mut Writer<'_>, event: &Event) {
    writer.object(|writer| {
        opening(writer, Kind::Event, &event.header);
        writer.key("event_type").string(&event_type(event.event_type));
        writer.key("node_id").string(&event.node_id);
        decimal(writer, "duration_us", event.duration_us);
        writer.key("llm_request_id").string(&event.llm_request_id);
        writer.key("attributes");
        attributes(writer, event);
    });
}

fn attributes(writer: &mut Writer<'_>, event: &Event) {
    writer.object(|writer| {
        for (name, value) in &event.attributes {
            attribute(writer.key(name), value);
        }
    });
}

/// What a message says beyond its header, as one object; of an event its attributes.
pub(super) fn data(writer: &mut Writer<'_>, message: &Payload) {
    match message {
        Payload::Event(message) => attributes(writer, message),
        Payload::StateDiff(message) => writer.object(|writer| state_diff_fields(writer, message)),
        Payload::TokenChunk(message) => writer.object(|writer| token_chunk_fields(writer, message)),
        Payload::ToolExecution(message) => writer.object(|writer| tool_execution_fields(writer, message)),
        Payload::Checkpoint(message) => writer.object(|writer| checkpoint_fields(writer, message)),
        Payload::Metrics(message) => writer.object(|writer| metrics_fields(writer, message)),
        Payload::Error(message) => writer.object(|writer| error_fields(writer, message)),
        Payload::ExecutionTrace(message) => writer.object(|writer| execution_trace_fields(writer, message)),
        Payload::EventBatch(_) => writer.object(|_| {}),
    }
}

/// Nesting is bounded by the decoder, at less than fifty levels.
fn attribute(writer: &mut Writer<'_>, value: &AttributeValue) {
    match &value.value {
        None => writer.null(),
        Some(Attribute::StringValue(value)) => writer.string(value),
        Some(Attribute::IntValue(value)) => writer.i64(*value),
        Some(Attribute::FloatValue(value)) => writer.f64(*value),
        Some(Attribute::BoolValue(value)) => writer.bool(*value),
        Some(Attribute::BytesValue(value)) => writer.base64(value),
        Some(Attribute::ArrayValue(array)) => writer.array(|writer| {
            for value in &array.values {
                attribute(writer, value);
            }
        }),
        Some(Attribute::MapValue(map)) => writer.object(|writer| {
            for (name, value) in &map.values {
                attribute(writer.key(name), value);
            }
        }),
    }
}

fn state_diff(writer: &mut Writer<'_>, diff: &StateDiff) {
    writer.object(|writer| {
        opening(writer, Kind::StateDiff, &diff.header);
        state_diff_fields(writer, diff);
    });
}

fn state_diff_fields(writer: &mut Writer<'_>, diff: &StateDiff) {
    writer.key("base_checkpoint_id").hex(&diff.base_checkpoint_id);
    writer.key("operations").array(|writer| {
        for operation in &diff.operations {
            diff_operation(writer, operation);
        }
    });
    writer.key("full_state").json(&diff.full_state);
    writer.key("state_hash").hex(&diff.state_hash);
}

/// As in RFC 6902: `from` and `value` only where the operation has them.
fn diff_operation(writer: &mut Writer<'_>, operation: &DiffOperation) {
    writer.object(|writer| {
        let op = name(operation.op, OpType::try_from(operation.op).ok().map(|op| op.as_str_name()), "OP_TYPE_");
        writer.key("op").string(&op.to_ascii_lowercase());
        writer.key("path").string(&operation.path);
        if !operation.from.is_empty() {
            writer.key("from").string(&operation.from);
        }
        if operation.value.is_empty() {
            return;
        }
        if operation.encoding == ValueEncoding::Json as i32 {
            writer.key("value").json(&operation.value);
        } else {
            let encoding = ValueEncoding::try_from(operation.encoding).ok().map(|encoding| encoding.as_str_name());
            writer.key("value").object(|writer| {
                writer.key("base64").base64_text(&operation.value);
                writer.key("encoding").string(&name(operation.encoding, encoding, "VALUE_ENCODING_"));
            });
        }
    });
}

fn token_chunk(writer: &mut Writer<'_>, chunk: &TokenChunk) {
    writer.object(|writer| {
        opening(writer, Kind::TokenChunk, &chunk.header);
        token_chunk_fields(writer, chunk);
    });
}

fn token_chunk_fields(writer: &mut Writer<'_>, chunk: &TokenChunk) {
    writer.key("request_id").string(&chunk.request_id);
    writer.key("text").string(&chunk.text);
    writer.key("chunk_index").u32(chunk.chunk_index);
    writer.key("is_final").bool(chunk.is_final);
    let reason = FinishReason::try_from(chunk.finish_reason).ok().map(|reason| reason.as_str_name());
    writer.key("finish_reason").string(&name(chunk.finish_reason, reason, "FINISH_REASON_"));
    writer.key("model").string(&chunk.model);
    writer.key("stats");
    match &chunk.stats {
        None => writer.null(),
        Some(stats) => writer.object(|writer| {
            writer.key("prompt_tokens").u32(stats.prompt_tokens);
            writer.key("completion_tokens").u32(stats.completion_tokens);
            writer.key("total_tokens").u32(stats.total_tokens);
        }),
    }
    if !chunk.token_ids.is_empty() {
        writer.key("token_ids").array(|writer| chunk.token_ids.iter().for_each(|id| writer.u32(*id)));
    }
    if !chunk.logprobs.is_empty() {
        writer.key("logprobs").array(|writer| chunk.logprobs.iter().for_each(|value| writer.f32(*value)));
    }
}

fn tool_execution(writer: &mut Writer<'_>, tool: &ToolExecution) {
    writer.object(|writer| {
        opening(writer, Kind::ToolExecution, &tool.header);
        tool_execution_fields(writer, tool);
    });
}

fn tool_execution_fields(writer: &mut Writer<'_>, tool: &ToolExecution) {
    writer.key("call_id").string(&tool.call_id);
    writer.key("tool_name").string(&tool.tool_name);
    let stage = ExecutionStage::try_from(tool.stage).ok().map(|stage| stage.as_str_name());
    writer.key("stage").string(&name(tool.stage, stage, "EXECUTION_STAGE_"));
    writer.key("arguments").json(&tool.arguments);
    writer.key("result").json(&tool.result);
    writer.key("error").string(&tool.error);
    writer.key("error_details");
    match &tool.error_details {
        None => writer.null(),
        Some(details) => writer.object(|writer| error_fields(writer, details)),
    }
    decimal(writer, "duration_us", tool.duration_us);
    writer.key("retry_count").u32(tool.retry_count);
}

fn checkpoint(writer: &mut Writer<'_>, checkpoint: &Checkpoint) {
    writer.object(|writer| {
        opening(writer, Kind::Checkpoint, &checkpoint.header);
        checkpoint_fields(writer, checkpoint);
    });
}

fn checkpoint_fields(writer: &mut Writer<'_>, checkpoint: &Checkpoint) {
    writer.key("checkpoint_id").hex(&checkpoint.checkpoint_id);
    writer.key("state");
    checkpoint_state(writer, &checkpoint.state);
    writer.key("state_type").string(&checkpoint.state_type);
    writer.key("checksum").hex(&checkpoint.checksum);
    writer.key("storage_uri").string(&checkpoint.storage_uri);
    writer.key("metadata");
    strings(writer, &checkpoint.metadata);
}

/// The state says by its first bytes that it is compressed: no JSON begins with zstd's magic.
fn checkpoint_state(writer: &mut Writer<'_>, state: &[u8]) {
    let compressed = framing::split(state).is_ok_and(|(framing, _)| framing == framing::Framing::LegacyZstd);
    if !compressed {
        return writer.json(state);
    }
    match Inflater::new(SCRATCH_BYTES_MAX).small(state) {
        Ok(state) => writer.json(state),
        Err(Refusal::TooLarge { .. }) if writer.is_bounded() => writer.give_up(),
        Err(_) => writer.base64(state),
    }
}

fn metrics(writer: &mut Writer<'_>, metrics: &Metrics) {
    writer.object(|writer| {
        opening(writer, Kind::Metrics, &metrics.header);
        metrics_fields(writer, metrics);
    });
}

fn metrics_fields(writer: &mut Writer<'_>, metrics: &Metrics) {
    writer.key("scope").string(&metrics.scope);
    writer.key("scope_id").string(&metrics.scope_id);
    writer.key("metrics").object(|writer| {
        for (name, value) in &metrics.metrics {
            metric(writer.key(name), value);
        }
    });
    writer.key("tags");
    strings(writer, &metrics.tags);
}

fn metric(writer: &mut Writer<'_>, metric: &MetricValue) {
    writer.object(|writer| {
        writer.key("value");
        match &metric.value {
            None => writer.null(),
            Some(Metric::IntValue(value)) => writer.i64(*value),
            Some(Metric::FloatValue(value)) => writer.f64(*value),
            Some(Metric::StringValue(value)) => writer.string(value),
            Some(Metric::BoolValue(value)) => writer.bool(*value),
            Some(Metric::BytesValue(value)) => writer.base64(value),
        }
        writer.key("unit").string(&metric.unit);
        let kind = MetricType::try_from(metric.r#type).ok().map(|kind| kind.as_str_name());
        writer.key("type").string(&name(metric.r#type, kind, "METRIC_TYPE_"));
    });
}

fn error(writer: &mut Writer<'_>, error: &Error) {
    writer.object(|writer| {
        opening(writer, Kind::Error, &error.header);
        error_fields(writer, error);
    });
}

fn error_fields(writer: &mut Writer<'_>, error: &Error) {
    writer.key("error_code").string(&error.error_code);
    writer.key("message").string(&error.message);
    writer.key("stack_trace").string(&error.stack_trace);
    writer.key("context");
    strings(writer, &error.context);
    let severity = Severity::try_from(error.severity).ok().map(|severity| severity.as_str_name());
    writer.key("severity").string(&name(error.severity, severity, "SEVERITY_"));
    writer.key("exception_type").string(&error.exception_type);
    writer.key("suggestions").array(|writer| error.suggestions.iter().for_each(|text| writer.string(text)));
}

fn execution_trace(writer: &mut Writer<'_>, trace: &ExecutionTrace) {
    writer.object(|writer| {
        opening(writer, Kind::ExecutionTrace, &trace.header);
        execution_trace_fields(writer, trace);
    });
}

fn execution_trace_fields(writer: &mut Writer<'_>, trace: &ExecutionTrace) {
    // The header has a `thread_id` too, and that is the one by which events are found.
    writer.key("trace_thread_id").string(&trace.thread_id);
    writer.key("execution_id").string(&trace.execution_id);
    writer.key("nodes_executed").array(|writer| {
        for node in &trace.nodes_executed {
            node_record(writer, node);
        }
    });
    decimal(writer, "total_duration_ms", trace.total_duration_ms);
    decimal(writer, "total_tokens", trace.total_tokens);
    writer.key("errors").array(|writer| {
        for error in &trace.errors {
            error_record(writer, error);
        }
    });
    writer.key("completed").bool(trace.completed);
    writer.key("started_at").string(&trace.started_at);
    writer.key("ended_at").string(&trace.ended_at);
    writer.key("final_state").json(&trace.final_state);
    writer.key("metadata").object(|writer| {
        for (name, value) in &trace.metadata {
            writer.key(name).json(value);
        }
    });
}

fn node_record(writer: &mut Writer<'_>, node: &NodeExecutionRecord) {
    writer.object(|writer| {
        writer.key("node").string(&node.node);
        decimal(writer, "duration_ms", node.duration_ms);
        decimal(writer, "prompt_tokens", node.prompt_tokens);
        decimal(writer, "completion_tokens", node.completion_tokens);
        decimal(writer, "total_tokens", node.total_tokens);
        writer.key("succeeded").bool(node.succeeded);
        writer.key("started_at").string(&node.started_at);
        writer.key("ended_at").string(&node.ended_at);
        writer.key("input").json(&node.input);
        writer.key("output").json(&node.output);
        writer.key("metadata");
        strings(writer, &node.metadata);
    });
}

fn error_record(writer: &mut Writer<'_>, error: &ErrorRecord) {
    writer.object(|writer| {
        writer.key("node").string(&error.node);
        writer.key("message").string(&error.message);
        writer.key("error_code").string(&error.error_code);
        writer.key("timestamp").string(&error.timestamp);
        writer.key("recovered").bool(error.recovered);
        writer.key("stack_trace").string(&error.stack_trace);
    });
}

fn strings(writer: &mut Writer<'_>, map: &BTreeMap<String, String>) {
    writer.object(|writer| {
        for (name, value) in map {
            writer.key(name).string(value);
        }
    });
}

/// A 64-bit number of a fixed field, as decimal text; where there is no limit, as a number.
fn decimal(writer: &mut Writer<'_>, key: &str, value: impl std::fmt::Display) {
    let text = value.to_string();
    if writer.key(key).is_bounded() {
        writer.string(&text);
    } else {
        writer.literal(&text);
    }
}

pub(super) fn event_type(number: i32) -> Cow<'static, str> {
    name(number, EventType::try_from(number).ok().map(|known| known.as_str_name()), "EVENT_TYPE_")
}

/// The name of an enum value without its prefix; `UNKNOWN_<n>` for one that this schema does not have.
fn name(number: i32, known: Option<&'static str>, prefix: &str) -> Cow<'static, str> {
    match known {
        Some(known) => Cow::Borrowed(known.strip_prefix(prefix).unwrap_or(known)),
        None => Cow::Owned(format!("UNKNOWN_{number}")),
    }
}
