//! Messages as producers make them, of every kind. Strategies are boxed: nested types of this size would take the
//! compiler minutes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::*;

fn text() -> BoxedStrategy<String> {
    prop_oneof!["[a-z0-9_-]{0,12}", "\\PC{0,8}"].boxed()
}

fn bytes() -> BoxedStrategy<Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..20).boxed()
}

fn strings() -> BoxedStrategy<BTreeMap<String, String>> {
    prop::collection::btree_map(text(), text(), 0..3).boxed()
}

fn header() -> BoxedStrategy<Option<Header>> {
    let numbers = (any::<i64>(), any::<u64>(), -1..12_i32, 0..4_i32, 0..3_u32);
    let header = (bytes(), text(), text(), bytes(), numbers).prop_map(
        |(
            message_id,
            tenant_id,
            thread_id,
            parent_id,
            (timestamp_us, sequence, r#type, compression, schema_version),
        )| {
            Header {
                message_id,
                timestamp_us,
                tenant_id,
                thread_id,
                sequence,
                r#type,
                parent_id,
                compression,
                schema_version,
            }
        },
    );
    prop::option::weighted(0.9, header).boxed()
}

fn attribute() -> BoxedStrategy<AttributeValue> {
    use attribute_value::Value;
    let leaf = prop_oneof![
        Just(None),
        text().prop_map(|value| Some(Value::StringValue(value))),
        any::<i64>().prop_map(|value| Some(Value::IntValue(value))),
        any::<f64>().prop_map(|value| Some(Value::FloatValue(value))),
        any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        bytes().prop_map(|value| Some(Value::BytesValue(value))),
    ]
    .prop_map(|value| AttributeValue { value });
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|values| AttributeValue { value: Some(Value::ArrayValue(AttributeArray { values })) }),
            prop::collection::btree_map(text(), inner, 0..3)
                .prop_map(|values| AttributeValue { value: Some(Value::MapValue(AttributeMap { values })) }),
        ]
    })
    .boxed()
}

fn event() -> BoxedStrategy<Event> {
    let attributes = prop::collection::btree_map(text(), attribute(), 0..3);
    (header(), any::<i32>(), text(), attributes, any::<i64>(), text())
        .prop_map(|(header, event_type, node_id, attributes, duration_us, llm_request_id)| Event {
            header,
            event_type,
            node_id,
            attributes,
            duration_us,
            llm_request_id,
        })
        .boxed()
}

fn state_diff() -> BoxedStrategy<StateDiff> {
    let operation = (0..7_i32, text(), bytes(), text(), 0..4_i32)
        .prop_map(|(op, path, value, from, encoding)| DiffOperation { op, path, value, from, encoding });
    (header(), bytes(), prop::collection::vec(operation, 0..3), bytes(), bytes())
        .prop_map(|(header, base_checkpoint_id, operations, state_hash, full_state)| StateDiff {
            header,
            base_checkpoint_id,
            operations,
            state_hash,
            full_state,
        })
        .boxed()
}

fn token_chunk() -> BoxedStrategy<TokenChunk> {
    let stats = prop::option::of((any::<u32>(), any::<u32>()).prop_map(|(prompt_tokens, completion_tokens)| {
        TokenStats { prompt_tokens, completion_tokens, total_tokens: 3 }
    }));
    let lists = (prop::collection::vec(any::<u32>(), 0..5), prop::collection::vec(any::<f32>(), 0..5));
    (header(), text(), text(), lists, any::<u32>(), any::<bool>(), stats)
        .prop_map(|(header, request_id, text, (token_ids, logprobs), chunk_index, is_final, stats)| TokenChunk {
            header,
            request_id,
            text,
            token_ids,
            logprobs,
            chunk_index,
            is_final,
            finish_reason: 1,
            model: "m".to_owned(),
            stats,
        })
        .boxed()
}

fn error() -> BoxedStrategy<Error> {
    let suggestions = prop::collection::vec(text(), 0..3);
    (header(), text(), text(), strings(), 0..7_i32, suggestions)
        .prop_map(|(header, error_code, message, context, severity, suggestions)| Error {
            header,
            error_code,
            message,
            stack_trace: "at line 1".to_owned(),
            context,
            severity,
            exception_type: String::new(),
            suggestions,
        })
        .boxed()
}

fn tool_execution() -> BoxedStrategy<ToolExecution> {
    (header(), text(), 0..7_i32, bytes(), prop::option::of(error()), any::<i64>())
        .prop_map(|(header, call_id, stage, arguments, error_details, duration_us)| ToolExecution {
            header,
            call_id,
            stage,
            arguments,
            error_details,
            duration_us,
            ..ToolExecution::default()
        })
        .boxed()
}

fn checkpoint() -> BoxedStrategy<Checkpoint> {
    (header(), bytes(), bytes(), any::<Option<f32>>(), strings())
        .prop_map(|(header, checkpoint_id, state, ratio, metadata)| Checkpoint {
            header,
            checkpoint_id,
            state,
            compression_info: ratio
                .map(|compression_ratio| CompressionInfo { compression_ratio, ..CompressionInfo::default() }),
            metadata,
            ..Checkpoint::default()
        })
        .boxed()
}

fn metrics() -> BoxedStrategy<Metrics> {
    use metric_value::Value;
    let value = prop_oneof![
        any::<i64>().prop_map(Value::IntValue),
        any::<f64>().prop_map(Value::FloatValue),
        text().prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        bytes().prop_map(Value::BytesValue),
    ];
    let metric = (prop::option::of(value), text(), 0..6_i32).prop_map(|(value, unit, r#type)| MetricValue {
        value,
        unit,
        r#type,
    });
    (header(), text(), prop::collection::btree_map(text(), metric, 0..4), strings())
        .prop_map(|(header, scope_id, metrics, tags)| Metrics {
            header,
            scope: "quality".to_owned(),
            scope_id,
            metrics,
            tags,
        })
        .boxed()
}

fn execution_trace() -> BoxedStrategy<ExecutionTrace> {
    let node = (text(), any::<u64>(), any::<bool>(), bytes(), strings()).prop_map(
        |(node, duration_ms, succeeded, input, metadata)| NodeExecutionRecord {
            node,
            duration_ms,
            succeeded,
            input,
            metadata,
            ..NodeExecutionRecord::default()
        },
    );
    let error = text().prop_map(|message| ErrorRecord { message, recovered: true, ..ErrorRecord::default() });
    let metadata = prop::collection::btree_map(text(), bytes(), 0..3);
    (header(), prop::collection::vec(node, 0..3), prop::collection::vec(error, 0..3), metadata)
        .prop_map(|(header, nodes_executed, errors, metadata)| ExecutionTrace {
            header,
            nodes_executed,
            errors,
            metadata,
            ..ExecutionTrace::default()
        })
        .boxed()
}

pub(crate) fn message() -> BoxedStrategy<DashStreamMessage> {
    let batch = (header(), prop::collection::vec(event(), 0..4))
        .prop_map(|(header, events)| Payload::EventBatch(EventBatch { header, events }));
    let payload = prop_oneof![
        event().prop_map(Payload::Event),
        state_diff().prop_map(Payload::StateDiff),
        token_chunk().prop_map(Payload::TokenChunk),
        tool_execution().prop_map(Payload::ToolExecution),
        checkpoint().prop_map(Payload::Checkpoint),
        metrics().prop_map(Payload::Metrics),
        error().prop_map(Payload::Error),
        batch,
        execution_trace().prop_map(Payload::ExecutionTrace),
    ];
    prop::option::weighted(0.98, payload).prop_map(|message| DashStreamMessage { message }).boxed()
}
