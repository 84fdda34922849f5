//! From the JSON of an export back to what it was made from. The other way is `cli::show::line`; a test goes both ways
//! with every kind of message.
//!
//! Understands the predecessor's exports too, which hold plain events only. Deliberately not kept by an export: which
//! way a record was framed, `parent_id` (nobody sets it), and floats that are not finite.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Bad, Item, Seen};
use crate::wire::proto::attribute_value::Value as Attribute;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::metric_value::{MetricType, Value as Metric};
use crate::wire::proto::{self, DashStreamMessage, EventType, Header, MessageType};
use crate::words::{Offset, PartitionId};

mod fields;

/// What an object of an export is.
#[derive(Debug)]
pub(super) enum Thawed {
    Event(Seen),
    Bad(Bad),
    Gap(Item),
    /// What follows is another stream.
    StreamChanged,
    Missing(Item),
    /// It stands before the event that it is about, whose id says the same.
    Duplicate,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ThawError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("there is no kind {0:?}")]
    Kind(String),
    #[error("{field} is {value}, which is not {what}")]
    Field { field: &'static str, value: String, what: &'static str },
}

impl ThawError {
    fn field(field: &'static str, value: impl std::fmt::Debug, what: &'static str) -> Self {
        let value = format!("{value:?}");
        let cut = value.char_indices().nth(VALUE_CHARS_MAX).map_or(value.len(), |(at, _)| at);
        let dots = if cut < value.len() { "…" } else { "" };
        Self::Field { field, value: format!("{}{dots}", value.get(..cut).unwrap_or_default()), what }
    }
}

/// Of a value that is quoted in an error.
const VALUE_CHARS_MAX: usize = 60;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    message_id: String,
    #[serde(default, deserialize_with = "whole::sequence")]
    sequence: u64,
    #[serde(default, deserialize_with = "whole::timestamp_micros")]
    timestamp_micros: i64,
    #[serde(default)]
    tenant_id: String,
    #[serde(default)]
    thread_id: String,
    #[serde(default)]
    event_type: String,
    #[serde(default)]
    node_id: String,
    #[serde(default, deserialize_with = "whole::duration_us")]
    duration_us: i64,
    #[serde(default)]
    llm_request_id: String,
    #[serde(default)]
    attributes: Option<BTreeMap<String, Value>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    partition: u32,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    index: u32,
    #[serde(default)]
    timestamp_ms: Option<i64>,
    #[serde(default)]
    key: Option<Value>,
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    from: u64,
    #[serde(default)]
    to: u64,
}

/// One object.
pub(super) fn thaw(object: &[u8]) -> Result<Thawed, ThawError> {
    let line: Line<'_> = serde_json::from_slice(object)?;
    let (partition, offset) = (PartitionId(line.partition), Offset(line.offset));
    let kind = line.kind.as_deref().unwrap_or("event").to_owned();
    match kind.as_str() {
        "bad" => {
            let Line { timestamp_ms, reason, detail, .. } = line;
            return Ok(Thawed::Bad(Bad { partition, offset, timestamp_ms, reason, detail }));
        }
        "gap" => {
            let (from, to, reason) = (Offset(line.from), Offset(line.to), line.reason);
            return Ok(Thawed::Gap(Item::Gap { partition, from, to, reason }));
        }
        "stream_changed" => return Ok(Thawed::StreamChanged),
        "missing" => {
            let Line { tenant_id: tenant, thread_id: thread, from, to, .. } = line;
            return Ok(Thawed::Missing(Item::Missing { tenant, thread, from, to }));
        }
        "duplicate" => return Ok(Thawed::Duplicate),
        _ => {}
    }
    let key = match &line.key {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone().into_bytes()),
        Some(other) => {
            Some(bytes_of(other).ok_or_else(|| ThawError::field("key", Shown(other), "text or {\"base64\": …}"))?)
        }
    };
    let (index_in_record, timestamp_ms) = (line.index, line.timestamp_ms);
    let message = DashStreamMessage { message: Some(payload(&kind, line)?) };
    Ok(Thawed::Event(Seen { partition, offset, timestamp_ms, key, index_in_record, message }))
}

fn payload(kind: &str, line: Line<'_>) -> Result<Payload, ThawError> {
    let header = |message_type: MessageType| -> Result<Option<Header>, ThawError> {
        Ok(Some(Header {
            message_id: hex(&line.message_id).ok_or_else(|| ThawError::field("message_id", &line.message_id, "hex"))?,
            timestamp_us: line.timestamp_micros,
            tenant_id: line.tenant_id.clone(),
            thread_id: line.thread_id.clone(),
            sequence: line.sequence,
            r#type: message_type as i32,
            schema_version: line.schema_version.unwrap_or(1),
            ..Header::default()
        }))
    };
    let data = line.data.map_or("{}", RawValue::get);
    Ok(match kind {
        "event" => Payload::Event(proto::Event {
            header: header(MessageType::Event)?,
            event_type: event_type(&line.event_type)?,
            node_id: line.node_id.clone(),
            duration_us: line.duration_us,
            llm_request_id: line.llm_request_id.clone(),
            attributes: attributes(line.attributes.as_ref()),
        }),
        "state_diff" => Payload::StateDiff(fields::state_diff(data, header(MessageType::StateDiff)?)?),
        "token_chunk" => Payload::TokenChunk(fields::token_chunk(data, header(MessageType::TokenChunk)?)?),
        "tool_execution" => Payload::ToolExecution(fields::tool(data, header(MessageType::ToolExecution)?)?),
        "checkpoint" => Payload::Checkpoint(fields::checkpoint(data, header(MessageType::Checkpoint)?)?),
        "metrics" => Payload::Metrics(fields::metrics(data, header(MessageType::Metrics)?)?),
        "error" => Payload::Error(fields::error(data, header(MessageType::Error)?)?),
        "execution_trace" => Payload::ExecutionTrace(fields::trace(data, header(MessageType::ExecutionTrace)?)?),
        other => return Err(ThawError::Kind(other.chars().take(40).collect())),
    })
}

fn event_type(name: &str) -> Result<i32, ThawError> {
    let known = |text: &str| EventType::from_str_name(text).map(|known| known as i32);
    enumerated(name, "EVENT_TYPE_", known).ok_or_else(|| ThawError::field("event_type", name, "an event type"))
}

/// The number of an enum value by its name without prefix, or of `UNKNOWN_<n>`.
fn enumerated(name: &str, prefix: &str, known: impl Fn(&str) -> Option<i32>) -> Option<i32> {
    if name.is_empty() {
        return Some(0);
    }
    let unknown = || name.strip_prefix("UNKNOWN_").and_then(|number| number.parse().ok());
    known(name).or_else(|| known(&format!("{prefix}{name}"))).or_else(unknown)
}

fn attributes(found: Option<&BTreeMap<String, Value>>) -> BTreeMap<String, proto::AttributeValue> {
    found.into_iter().flatten().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

fn attribute(value: &Value) -> proto::AttributeValue {
    let value = match value {
        Value::Null => None,
        Value::Bool(value) => Some(Attribute::BoolValue(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(value) => Some(Attribute::IntValue(value)),
            None => number.as_f64().map(Attribute::FloatValue),
        },
        Value::String(text) => Some(Attribute::StringValue(text.clone())),
        Value::Array(values) => {
            let values = values.iter().map(attribute).collect();
            Some(Attribute::ArrayValue(proto::AttributeArray { values }))
        }
        Value::Object(fields) => match bytes_of(value) {
            Some(bytes) => Some(Attribute::BytesValue(bytes)),
            None => {
                let values = fields.iter().map(|(name, value)| (name.clone(), attribute(value))).collect();
                Some(Attribute::MapValue(proto::AttributeMap { values }))
            }
        },
    };
    proto::AttributeValue { value }
}

/// The bytes of `{"base64": …}`.
fn bytes_of(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Object(fields) if fields.len() == 1 => STANDARD.decode(fields.get("base64")?.as_str()?).ok(),
        _ => None,
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.bytes().map(|digit| char::from(digit).to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    Some(pairs.map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// JSON as it is written.
struct Shown<'a>(&'a Value);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// A whole number of `field`, or its decimal text.
fn number<'de, D: Deserializer<'de>, T: TryFrom<i128>>(field: &'static str, reader: D) -> Result<T, D::Error> {
    struct Whole<T>(&'static str, PhantomData<T>);
    impl<T: TryFrom<i128>> Visitor<'_> for Whole<T> {
        type Value = T;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(formatter, "a whole number for {}", self.0)
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
            let refused = || E::custom(format!("{} is {number}, which is out of its range", self.0));
            T::try_from(number.into()).map_err(|_| refused())
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
            let refused = || E::custom(format!("{} is {number}, which is out of its range", self.0));
            T::try_from(number.into()).map_err(|_| refused())
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            let number = text.parse::<i128>().ok().and_then(|number| T::try_from(number).ok());
            number.ok_or_else(|| E::custom(ThawError::field(self.0, text, "a whole number in its range")))
        }
    }
    reader.deserialize_any(Whole(field, PhantomData))
}

/// [`number`] for serde, which does not say which field it reads.
mod whole {
    use super::{Deserializer, number};

    macro_rules! whole {
        ($($field:ident),*) => {
            $(pub(super) fn $field<'de, D: Deserializer<'de>, T: TryFrom<i128>>(reader: D) -> Result<T, D::Error> {
                number(stringify!($field), reader)
            })*
        };
    }
    whole!(
        sequence,
        timestamp_micros,
        duration_us,
        duration_ms,
        total_duration_ms,
        prompt_tokens,
        completion_tokens,
        total_tokens
    );
}

fn metric(value: &Value) -> Option<Metric> {
    match value {
        Value::Bool(value) => Some(Metric::BoolValue(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(value) => Some(Metric::IntValue(value)),
            None => number.as_f64().map(Metric::FloatValue),
        },
        Value::String(text) => Some(Metric::StringValue(text.clone())),
        _ => bytes_of(value).map(Metric::BytesValue),
    }
}

fn metric_type(name: &str) -> i32 {
    enumerated(name, "METRIC_TYPE_", |text| MetricType::from_str_name(text).map(|known| known as i32)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
