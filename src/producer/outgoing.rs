//! An event on its way out: what the application says, and the header that is completed here.
//!
//! Deliberately absent: the sequence, which is allocated when the event is accepted (`lane`).

use std::time::Duration;

use super::instance::Instance;
use crate::wire::framing::header_mut;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{
    AttributeArray, AttributeMap, AttributeValue, Checkpoint, DashStreamMessage, Error, Event, EventType,
    ExecutionTrace, Header, MessageType, Metrics, StateDiff, TokenChunk, ToolExecution, attribute_value,
};

/// Longest tenant and thread, in bytes: both are in the header, and the thread is the record's key.
pub const ID_BYTES_MAX: usize = 1024;
/// Longest trace header that is passed on; W3C allows 55 and 512.
const TRACE_BYTES_MAX: usize = 512;
const SCHEMA_VERSION: u32 = 1;

/// W3C trace context of whoever caused an event, passed on as record headers. Longer than 512 bytes is left out.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Trace {
    /// `00-<trace id>-<span id>-<flags>`
    pub traceparent: Option<Box<str>>,
    /// Vendors' own, comma separated.
    pub tracestate: Option<Box<str>>,
}

impl Trace {
    fn bounded(parent: &str, state: Option<&str>) -> Self {
        let fits = |text: &str| !text.is_empty() && text.len() <= TRACE_BYTES_MAX;
        Self {
            traceparent: fits(parent).then(|| parent.into()),
            tracestate: state.filter(|text| fits(text)).map(Into::into),
        }
    }
}

/// An event to be sent: anything that a `DashStreamMessage` can hold, but batches.
#[derive(Clone, PartialEq, Debug)]
pub struct Outgoing {
    pub(super) message: DashStreamMessage,
    pub(super) trace: Option<Box<Trace>>,
}

impl Outgoing {
    /// An event of a thread (a run, a session): the unit of order. A header that `payload` has already is kept, but
    /// for thread, sequence, type and schema version.
    pub fn new(thread: impl Into<String>, payload: impl Into<Payload>) -> Self {
        let mut outgoing = Self { message: DashStreamMessage { message: Some(payload.into()) }, trace: None };
        outgoing.header().thread_id = thread.into();
        outgoing
    }

    /// Whose it is; without it, the producer's own tenant.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.header().tenant_id = tenant.into();
        self
    }

    /// The message that caused this one: its message id.
    pub fn parent(mut self, message_id: impl Into<Vec<u8>>) -> Self {
        self.header().parent_id = message_id.into();
        self
    }

    /// When it happened, µs since the epoch; without it, now.
    pub fn at_us(mut self, timestamp_us: i64) -> Self {
        self.header().timestamp_us = timestamp_us;
        self
    }

    /// Passes W3C trace context on. What is empty or longer than 512 bytes is left out.
    pub fn trace(mut self, traceparent: &str, tracestate: Option<&str>) -> Self {
        self.trace = Some(Box::new(Trace::bounded(traceparent, tracestate)));
        self
    }

    /// What is sent.
    pub fn payload(&self) -> Option<&Payload> {
        self.message.message.as_ref()
    }

    pub(super) fn header(&mut self) -> &mut Header {
        let payload = self.message.message.get_or_insert_with(|| Payload::Event(Event::default()));
        header_mut(payload).get_or_insert_default()
    }

    pub(super) fn kind(&self) -> Kind {
        self.message.message.as_ref().map_or(Kind::Event, Kind::of)
    }

    /// Everything in the header but sequence and compression. Says what is wrong with tenant or thread.
    pub(super) fn complete(
        &mut self,
        tenant: &str,
        instance: &Instance,
        now_us: impl FnOnce() -> i64,
    ) -> Result<(), &'static str> {
        let kind = self.kind();
        let header = self.header();
        if header.tenant_id.is_empty() {
            header.tenant_id.push_str(tenant);
        }
        let good = |id: &str| id.len() <= ID_BYTES_MAX && !id.chars().all(char::is_whitespace);
        if !good(&header.tenant_id) {
            return Err("the tenant");
        }
        if !good(&header.thread_id) {
            return Err("the thread");
        }
        if header.message_id.len() != 16 {
            header.message_id = instance.message_id().to_vec();
        }
        if header.timestamp_us == 0 {
            header.timestamp_us = now_us();
        }
        header.r#type = kind.message_type() as i32;
        header.schema_version = SCHEMA_VERSION;
        Ok(())
    }
}

/// What a message is: the label of metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Event,
    StateDiff,
    TokenChunk,
    ToolExecution,
    Checkpoint,
    Metrics,
    Error,
    Batch,
    Trace,
}

impl Kind {
    pub(super) const LABELS: [&'static str; 9] = [
        "event",
        "state_diff",
        "token_chunk",
        "tool_execution",
        "checkpoint",
        "metrics",
        "error",
        "event_batch",
        "execution_trace",
    ];

    pub(super) fn of(payload: &Payload) -> Self {
        match payload {
            Payload::Event(_) => Self::Event,
            Payload::StateDiff(_) => Self::StateDiff,
            Payload::TokenChunk(_) => Self::TokenChunk,
            Payload::ToolExecution(_) => Self::ToolExecution,
            Payload::Checkpoint(_) => Self::Checkpoint,
            Payload::Metrics(_) => Self::Metrics,
            Payload::Error(_) => Self::Error,
            Payload::EventBatch(_) => Self::Batch,
            Payload::ExecutionTrace(_) => Self::Trace,
        }
    }

    fn message_type(self) -> MessageType {
        match self {
            Self::Event => MessageType::Event,
            Self::StateDiff => MessageType::StateDiff,
            Self::TokenChunk => MessageType::TokenChunk,
            Self::ToolExecution => MessageType::ToolExecution,
            Self::Checkpoint => MessageType::Checkpoint,
            Self::Metrics => MessageType::Metrics,
            Self::Error => MessageType::Error,
            Self::Batch => MessageType::EventBatch,
            Self::Trace => MessageType::ExecutionTrace,
        }
    }
}

macro_rules! payload_from {
    ($($kind:ident),*) => {
        $(impl From<$kind> for Payload {
            fn from(payload: $kind) -> Self {
                Self::$kind(payload)
            }
        })*
    };
}
payload_from!(Event, StateDiff, TokenChunk, ToolExecution, Checkpoint, Metrics, Error, ExecutionTrace);

impl Event {
    /// An event of a node; `node` is empty for events of the graph as a whole.
    pub fn of(event_type: EventType, node: impl Into<String>) -> Self {
        Self { event_type: event_type as i32, node_id: node.into(), ..Self::default() }
    }

    /// Adds an attribute.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<AttributeValue>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// How long it took: for events that end something. Beyond `i64::MAX` µs it is that.
    pub fn took(mut self, duration: Duration) -> Self {
        self.duration_us = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        self
    }
}

macro_rules! attribute_from {
    ($($from:ty => $kind:ident($into:expr)),* $(,)?) => {
        $(impl From<$from> for AttributeValue {
            fn from(value: $from) -> Self {
                let into: fn($from) -> _ = $into;
                Self { value: Some(attribute_value::Value::$kind(into(value))) }
            }
        })*
    };
}
attribute_from! {
    &str => StringValue(str::to_owned),
    String => StringValue(|text| text),
    i64 => IntValue(|number| number),
    i32 => IntValue(i64::from),
    u32 => IntValue(i64::from),
    f64 => FloatValue(|number| number),
    bool => BoolValue(|yes| yes),
    Vec<u8> => BytesValue(|bytes| bytes),
    Vec<AttributeValue> => ArrayValue(|values| AttributeArray { values }),
    AttributeMap => MapValue(|map| map),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_completed_and_what_was_said_is_kept() {
        let instance = Instance::new();
        let mut outgoing = Outgoing::new("run-1", Event::of(EventType::NodeStart, "plan").with("attempt", 2));
        outgoing.complete("acme", &instance, || 77).expect("good ids");
        let header = outgoing.header().clone();
        assert_eq!((header.tenant_id.as_str(), header.thread_id.as_str()), ("acme", "run-1"));
        assert_eq!((header.timestamp_us, header.r#type, header.schema_version, header.sequence), (77, 1, 1, 0));
        assert_eq!(header.message_id.len(), 16);

        let mut outgoing = Outgoing::new("run-1", StateDiff::default()).tenant("other").at_us(5).parent([1, 2]);
        outgoing.complete("acme", &instance, || 77).expect("good ids");
        let kept = outgoing.header().clone();
        assert_eq!((kept.tenant_id.as_str(), kept.timestamp_us, kept.r#type), ("other", 5, 2));
        assert_eq!(kept.parent_id, [1, 2]);
        let id = kept.message_id.clone();
        outgoing.complete("acme", &instance, || 78).expect("good ids");
        assert_eq!(outgoing.header().message_id, id, "what is handed over again is the same message");
    }

    #[test]
    fn blank_and_endless_ids_are_named() {
        let check = |tenant: &str, thread: &str, expected| {
            let mut outgoing = Outgoing::new(thread, Event::default()).tenant(tenant);
            assert_eq!(outgoing.complete("default", &Instance::new(), || 1), expected);
        };
        check("", "t", Ok(()));
        check("  ", "t", Err("the tenant"));
        check("a", "", Err("the thread"));
        check("a", " \t", Err("the thread"));
        check("a", &"t".repeat(ID_BYTES_MAX), Ok(()));
        check("a", &"t".repeat(ID_BYTES_MAX + 1), Err("the thread"));
    }

    #[test]
    fn trace_context_is_bounded() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Trace::bounded(parent, Some(&"x".repeat(513)));
        assert_eq!((trace.traceparent.as_deref(), trace.tracestate), (Some(parent), None));
        assert_eq!(Trace::bounded("", None), Trace::default());
    }
}
