//! The fields of every kind of message, as an export writes them under `data`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{ThawError, bytes_of, enumerated, hex, metric, metric_type, whole};
use crate::wire::proto::diff_operation::{OpType, ValueEncoding};
use crate::wire::proto::error::Severity;
use crate::wire::proto::token_chunk::FinishReason;
use crate::wire::proto::tool_execution::ExecutionStage;
use crate::wire::proto::{
    Checkpoint, DiffOperation, Error, ErrorRecord, ExecutionTrace, Header, MetricValue, Metrics, NodeExecutionRecord,
    StateDiff, TokenChunk, TokenStats, ToolExecution,
};

/// Bytes that are JSON by convention, with their text as it was; `null` for none.
#[derive(Deserialize, Default)]
#[serde(transparent)]
struct Json<'a>(#[serde(borrow)] Option<&'a RawValue>);

impl Json<'_> {
    fn bytes(&self) -> Vec<u8> {
        let Some(raw) = self.0 else { return Vec::new() };
        let text = raw.get();
        if text.starts_with("{\"base64\":")
            && let Some(bytes) = serde_json::from_str(text).ok().as_ref().and_then(bytes_of)
        {
            return bytes;
        }
        text.as_bytes().to_vec()
    }
}

fn ids(text: &str, field: &'static str) -> Result<Vec<u8>, ThawError> {
    hex(text).ok_or_else(|| ThawError::field(field, text, "hex"))
}

fn word(text: &str, field: &'static str, prefix: &str, known: impl Fn(&str) -> Option<i32>) -> Result<i32, ThawError> {
    enumerated(text, prefix, known).ok_or_else(|| ThawError::field(field, text, "one of its words"))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StateDiffData<'a> {
    base_checkpoint_id: String,
    #[serde(borrow)]
    operations: Vec<OperationData<'a>>,
    #[serde(borrow)]
    full_state: Json<'a>,
    state_hash: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OperationData<'a> {
    op: String,
    path: String,
    from: String,
    #[serde(borrow)]
    value: Json<'a>,
}

#[derive(Deserialize)]
struct EncodedValue {
    base64: String,
    encoding: String,
}

pub(super) fn state_diff(data: &str, header: Option<Header>) -> Result<StateDiff, ThawError> {
    let data: StateDiffData<'_> = serde_json::from_str(data)?;
    let operations = data.operations.iter().map(operation).collect::<Result<_, _>>()?;
    Ok(StateDiff {
        header,
        base_checkpoint_id: ids(&data.base_checkpoint_id, "base_checkpoint_id")?,
        operations,
        state_hash: ids(&data.state_hash, "state_hash")?,
        full_state: data.full_state.bytes(),
    })
}

fn operation(data: &OperationData<'_>) -> Result<DiffOperation, ThawError> {
    let known = |text: &str| OpType::from_str_name(text).map(|known| known as i32);
    let op = word(&data.op.to_ascii_uppercase(), "op", "OP_TYPE_", known)?;
    let encoded: Option<EncodedValue> = data.value.0.and_then(|raw| serde_json::from_str(raw.get()).ok());
    let (value, encoding) = match encoded {
        Some(EncodedValue { base64, encoding }) => {
            let known = |text: &str| ValueEncoding::from_str_name(text).map(|known| known as i32);
            let encoding = word(&encoding, "encoding", "VALUE_ENCODING_", known)?;
            let wrapped = serde_json::json!({ "base64": base64 });
            (bytes_of(&wrapped).ok_or_else(|| ThawError::field("value", base64, "base64"))?, encoding)
        }
        None => (data.value.bytes(), ValueEncoding::Json as i32),
    };
    Ok(DiffOperation { op, path: data.path.clone(), value, from: data.from.clone(), encoding })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenChunkData {
    request_id: String,
    text: String,
    chunk_index: u32,
    is_final: bool,
    finish_reason: String,
    model: String,
    stats: Option<StatsData>,
    token_ids: Vec<u32>,
    logprobs: Vec<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StatsData {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
}

pub(super) fn token_chunk(data: &str, header: Option<Header>) -> Result<TokenChunk, ThawError> {
    let data: TokenChunkData = serde_json::from_str(data)?;
    let known = |text: &str| FinishReason::from_str_name(text).map(|known| known as i32);
    let logprob = |value: &Value| value.as_f64().map_or(f32::NAN, |value| value as f32);
    Ok(TokenChunk {
        header,
        finish_reason: word(&data.finish_reason, "finish_reason", "FINISH_REASON_", known)?,
        request_id: data.request_id,
        text: data.text,
        token_ids: data.token_ids,
        logprobs: data.logprobs.iter().map(logprob).collect(),
        chunk_index: data.chunk_index,
        is_final: data.is_final,
        model: data.model,
        stats: data.stats.map(|StatsData { prompt_tokens, completion_tokens, total_tokens }| TokenStats {
            prompt_tokens,
            completion_tokens,
            total_tokens,
        }),
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ToolData<'a> {
    call_id: String,
    tool_name: String,
    stage: String,
    #[serde(borrow)]
    arguments: Json<'a>,
    #[serde(borrow)]
    result: Json<'a>,
    error: String,
    error_details: Option<ErrorData>,
    #[serde(deserialize_with = "whole::duration_us")]
    duration_us: i64,
    retry_count: u32,
}

pub(super) fn tool(data: &str, header: Option<Header>) -> Result<ToolExecution, ThawError> {
    let data: ToolData<'_> = serde_json::from_str(data)?;
    let known = |text: &str| ExecutionStage::from_str_name(text).map(|known| known as i32);
    Ok(ToolExecution {
        header,
        stage: word(&data.stage, "stage", "EXECUTION_STAGE_", known)?,
        arguments: data.arguments.bytes(),
        result: data.result.bytes(),
        call_id: data.call_id,
        tool_name: data.tool_name,
        error: data.error,
        error_details: data.error_details.map(|details| details.made(None)).transpose()?,
        duration_us: data.duration_us,
        retry_count: data.retry_count,
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CheckpointData<'a> {
    checkpoint_id: String,
    #[serde(borrow)]
    state: Json<'a>,
    state_type: String,
    checksum: String,
    storage_uri: String,
    metadata: BTreeMap<String, String>,
}

pub(super) fn checkpoint(data: &str, header: Option<Header>) -> Result<Checkpoint, ThawError> {
    let data: CheckpointData<'_> = serde_json::from_str(data)?;
    Ok(Checkpoint {
        header,
        checkpoint_id: ids(&data.checkpoint_id, "checkpoint_id")?,
        state: data.state.bytes(),
        checksum: ids(&data.checksum, "checksum")?,
        state_type: data.state_type,
        storage_uri: data.storage_uri,
        compression_info: None,
        metadata: data.metadata,
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MetricsData {
    scope: String,
    scope_id: String,
    metrics: BTreeMap<String, MetricData>,
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MetricData {
    value: Value,
    unit: String,
    r#type: String,
}

pub(super) fn metrics(data: &str, header: Option<Header>) -> Result<Metrics, ThawError> {
    let data: MetricsData = serde_json::from_str(data)?;
    let made = |data: MetricData| MetricValue {
        value: metric(&data.value),
        r#type: metric_type(&data.r#type),
        unit: data.unit,
    };
    Ok(Metrics {
        header,
        scope: data.scope,
        scope_id: data.scope_id,
        metrics: data.metrics.into_iter().map(|(name, metric)| (name, made(metric))).collect(),
        tags: data.tags,
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorData {
    error_code: String,
    message: String,
    stack_trace: String,
    context: BTreeMap<String, String>,
    severity: String,
    exception_type: String,
    suggestions: Vec<String>,
}

impl ErrorData {
    fn made(self, header: Option<Header>) -> Result<Error, ThawError> {
        let known = |text: &str| Severity::from_str_name(text).map(|known| known as i32);
        Ok(Error {
            header,
            severity: word(&self.severity, "severity", "SEVERITY_", known)?,
            error_code: self.error_code,
            message: self.message,
            stack_trace: self.stack_trace,
            context: self.context,
            exception_type: self.exception_type,
            suggestions: self.suggestions,
        })
    }
}

pub(super) fn error(data: &str, header: Option<Header>) -> Result<Error, ThawError> {
    serde_json::from_str::<ErrorData>(data)?.made(header)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TraceData<'a> {
    trace_thread_id: String,
    execution_id: String,
    #[serde(borrow)]
    nodes_executed: Vec<NodeData<'a>>,
    #[serde(deserialize_with = "whole::total_duration_ms")]
    total_duration_ms: u64,
    #[serde(deserialize_with = "whole::total_tokens")]
    total_tokens: u64,
    errors: Vec<ErrorRecordData>,
    completed: bool,
    started_at: String,
    ended_at: String,
    #[serde(borrow)]
    final_state: Json<'a>,
    #[serde(borrow)]
    metadata: BTreeMap<String, Json<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeData<'a> {
    node: String,
    #[serde(deserialize_with = "whole::duration_ms")]
    duration_ms: u64,
    #[serde(deserialize_with = "whole::prompt_tokens")]
    prompt_tokens: u64,
    #[serde(deserialize_with = "whole::completion_tokens")]
    completion_tokens: u64,
    #[serde(deserialize_with = "whole::total_tokens")]
    total_tokens: u64,
    succeeded: bool,
    started_at: String,
    ended_at: String,
    #[serde(borrow)]
    input: Json<'a>,
    #[serde(borrow)]
    output: Json<'a>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorRecordData {
    node: String,
    message: String,
    error_code: String,
    timestamp: String,
    recovered: bool,
    stack_trace: String,
}

pub(super) fn trace(data: &str, header: Option<Header>) -> Result<ExecutionTrace, ThawError> {
    let data: TraceData<'_> = serde_json::from_str(data)?;
    let node = |node: NodeData<'_>| NodeExecutionRecord {
        input: node.input.bytes(),
        output: node.output.bytes(),
        node: node.node,
        duration_ms: node.duration_ms,
        prompt_tokens: node.prompt_tokens,
        completion_tokens: node.completion_tokens,
        total_tokens: node.total_tokens,
        succeeded: node.succeeded,
        started_at: node.started_at,
        ended_at: node.ended_at,
        metadata: node.metadata,
    };
    let error = |error: ErrorRecordData| ErrorRecord {
        node: error.node,
        message: error.message,
        error_code: error.error_code,
        timestamp: error.timestamp,
        recovered: error.recovered,
        stack_trace: error.stack_trace,
    };
    Ok(ExecutionTrace {
        header,
        final_state: data.final_state.bytes(),
        metadata: data.metadata.iter().map(|(name, json)| (name.clone(), json.bytes())).collect(),
        thread_id: data.trace_thread_id,
        execution_id: data.execution_id,
        nodes_executed: data.nodes_executed.into_iter().map(node).collect(),
        total_duration_ms: data.total_duration_ms,
        total_tokens: data.total_tokens,
        errors: data.errors.into_iter().map(error).collect(),
        completed: data.completed,
        started_at: data.started_at,
        ended_at: data.ended_at,
    })
}
