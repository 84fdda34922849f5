//! A borrowed scan of a protobuf body: what the path of an event needs to know, without building the message.
//!
//! Accepts and rejects exactly what prost's `DashStreamMessage::decode` does, and finds the same values, also where
//! fields come twice, submessages merge or the oneof switches; a property test holds it to that. The one difference
//! is [`EVENTS_MAX`]. Attributes, metrics and the like are checked but not extracted: see [`super::json`].

mod reader;

use self::reader::{Reader, Visit, walk};
use super::schema::{DASH_STREAM_MESSAGE, Shape};
use crate::words::DropReason;

/// More events than this in one record are refused: an empty event takes two bytes, its entry here sixty-four.
/// Producers batch at most 1,000.
pub const EVENTS_MAX: usize = 16_384;
/// Room for this many events is kept from one record to the next.
const EVENTS_KEPT: usize = 1_024;
/// prost's own limit: how deep messages, map entries and groups may stand inside each other.
const DEPTH_MAX: u32 = 100;

/// Why a body is not a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScanError {
    #[error("not a DashStreamMessage: it ends inside a field")]
    Truncated,
    #[error("not a DashStreamMessage: a number is longer than 64 bits")]
    Varint,
    #[error("not a DashStreamMessage: a field has number 0, one above 536870911, or an unknown wire type")]
    Key,
    #[error("not a DashStreamMessage: a known field has the wire type of another kind")]
    WireType,
    #[error("not a DashStreamMessage: a group ends that did not begin")]
    Group,
    #[error("not a DashStreamMessage: a string is not UTF-8")]
    Utf8,
    #[error("nested deeper than {DEPTH_MAX} levels: flatten the attributes")]
    TooDeep,
    #[error("more than {EVENTS_MAX} events in one record: send smaller batches")]
    TooManyEvents,
    #[error("longer than 4 GiB")]
    TooLong,
}

impl From<ScanError> for DropReason {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::TooManyEvents | ScanError::TooLong => Self::PayloadTooLarge,
            ScanError::Truncated
            | ScanError::Varint
            | ScanError::Key
            | ScanError::WireType
            | ScanError::Group
            | ScanError::Utf8
            | ScanError::TooDeep => Self::InvalidProtobuf,
        }
    }
}

/// A part of the body that was scanned. Empty if the field was absent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    /// Empty for any other body than the one that was scanned and too short for it.
    pub fn of(self, body: &[u8]) -> &[u8] {
        let start = self.start as usize;
        body.get(start..start.saturating_add(self.len as usize)).unwrap_or_default()
    }

    /// For spans of strings, which the scan has found to be UTF-8.
    pub fn str_of(self, body: &[u8]) -> &str {
        std::str::from_utf8(self.of(body)).unwrap_or_default()
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// What a message is: the field of the oneof.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Kind {
    #[default]
    Event,
    StateDiff,
    TokenChunk,
    ToolExecution,
    Checkpoint,
    Metrics,
    Error,
    EventBatch,
    ExecutionTrace,
}

impl Kind {
    /// In the order of the field numbers, from 1.
    pub const ALL: [Self; 9] = [
        Self::Event,
        Self::StateDiff,
        Self::TokenChunk,
        Self::ToolExecution,
        Self::Checkpoint,
        Self::Metrics,
        Self::Error,
        Self::EventBatch,
        Self::ExecutionTrace,
    ];

    /// The name of the field in the oneof.
    pub fn label(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::StateDiff => "state_diff",
            Self::TokenChunk => "token_chunk",
            Self::ToolExecution => "tool_execution",
            Self::Checkpoint => "checkpoint",
            Self::Metrics => "metrics",
            Self::Error => "error",
            Self::EventBatch => "event_batch",
            Self::ExecutionTrace => "execution_trace",
        }
    }

    /// One bit per kind, for sets of kinds.
    pub fn bit(self) -> u16 {
        1 << self as u16
    }

    fn of_field(number: u32) -> Option<Self> {
        Self::ALL.get((number as usize).checked_sub(1)?).copied()
    }
}

/// What is known of one event. Spans point into the scanned body.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EventMeta {
    pub kind: Kind,
    /// `EventType`, for events only; any number may come.
    pub event_type: i32,
    /// Producer's clock: never used to classify anything.
    pub timestamp_us: i64,
    /// 0: not present.
    pub sequence: u64,
    /// As sent; 0 is to be read as 1.
    pub schema_version: u32,
    pub tenant: Span,
    pub thread: Span,
    /// `Event.node_id`, for events only.
    pub node: Span,
    pub message_id: Span,
}

/// The result of [`scan`]; made once and used for many bodies.
#[derive(Default, Debug)]
pub struct Scan {
    /// None for a message without content: an empty body, or only fields that this schema does not know.
    pub kind: Option<Kind>,
    /// The header of the message itself; for a batch its own, which has sequence 0 on purpose.
    pub outer: EventMeta,
    /// Exactly one, equal to `outer`; for a batch those inside, in order, possibly none.
    pub events: Vec<EventMeta>,
}

/// Scans `body` into `out`. Allocates only when a record has more events than any before. After an error `out` is
/// as for an empty body.
pub fn scan(body: &[u8], out: &mut Scan) -> Result<(), ScanError> {
    out.clear();
    if out.events.capacity() > EVENTS_KEPT {
        out.events = Vec::new();
    }
    let result = scan_message(body, out);
    if result.is_err() {
        out.clear();
    }
    result
}

/// The verdict of [`scan`] alone, except for [`EVENTS_MAX`]: what the scan costs before it extracts anything.
pub fn validate(body: &[u8]) -> Result<(), ScanError> {
    walk(Reader::new(body)?, &DASH_STREAM_MESSAGE, DEPTH_MAX, &mut Nothing)
}

impl Scan {
    fn clear(&mut self) {
        self.kind = None;
        self.outer = EventMeta::default();
        self.events.clear();
    }
}

fn scan_message(body: &[u8], out: &mut Scan) -> Result<(), ScanError> {
    walk(Reader::new(body)?, &DASH_STREAM_MESSAGE, DEPTH_MAX, &mut InMessage { out })?;
    if out.kind.is_some_and(|kind| kind != Kind::EventBatch) {
        out.events.push(out.outer);
    }
    Ok(())
}

/// Checks and extracts nothing.
pub(super) struct Nothing;

impl Visit for Nothing {}

/// In a `DashStreamMessage`.
struct InMessage<'a> {
    out: &'a mut Scan,
}

impl Visit for InMessage<'_> {
    #[inline]
    fn message(&mut self, number: u32, reader: Reader<'_>, shape: &'static Shape, depth: u32) -> Result<(), ScanError> {
        let Some(kind) = Kind::of_field(number) else { return walk(reader, shape, depth, &mut Nothing) };
        // The same field again merges into what is there, another one replaces it.
        if self.out.kind != Some(kind) {
            self.out.clear();
            self.out.kind = Some(kind);
            self.out.outer.kind = kind;
        }
        match kind {
            Kind::Event => walk(reader, shape, depth, &mut InEvent { meta: &mut self.out.outer }),
            Kind::EventBatch => walk(reader, shape, depth, &mut InBatch { out: self.out }),
            _ => walk(reader, shape, depth, &mut InPayload { meta: &mut self.out.outer }),
        }
    }
}

/// In an `EventBatch`.
struct InBatch<'a> {
    out: &'a mut Scan,
}

impl Visit for InBatch<'_> {
    #[inline]
    fn message(&mut self, number: u32, reader: Reader<'_>, shape: &'static Shape, depth: u32) -> Result<(), ScanError> {
        match number {
            1 => walk(reader, shape, depth, &mut InHeader { meta: &mut self.out.outer }),
            2 => {
                if self.out.events.len() == EVENTS_MAX {
                    return Err(ScanError::TooManyEvents);
                }
                let mut meta = EventMeta::default();
                walk(reader, shape, depth, &mut InEvent { meta: &mut meta })?;
                self.out.events.push(meta);
                Ok(())
            }
            _ => walk(reader, shape, depth, &mut Nothing),
        }
    }
}

/// In an `Event`.
struct InEvent<'a> {
    meta: &'a mut EventMeta,
}

impl Visit for InEvent<'_> {
    #[inline]
    fn varint(&mut self, number: u32, value: u64) {
        if number == 2 {
            self.meta.event_type = value as i32;
        }
    }

    #[inline]
    fn span(&mut self, number: u32, span: Span) {
        if number == 3 {
            self.meta.node = span;
        }
    }

    #[inline]
    fn message(&mut self, number: u32, reader: Reader<'_>, shape: &'static Shape, depth: u32) -> Result<(), ScanError> {
        match number {
            1 => walk(reader, shape, depth, &mut InHeader { meta: self.meta }),
            _ => walk(reader, shape, depth, &mut Nothing),
        }
    }
}

/// In any other payload: they all have their header in field 1.
struct InPayload<'a> {
    meta: &'a mut EventMeta,
}

impl Visit for InPayload<'_> {
    #[inline]
    fn message(&mut self, number: u32, reader: Reader<'_>, shape: &'static Shape, depth: u32) -> Result<(), ScanError> {
        match number {
            1 => walk(reader, shape, depth, &mut InHeader { meta: self.meta }),
            _ => walk(reader, shape, depth, &mut Nothing),
        }
    }
}

/// In a `Header`.
struct InHeader<'a> {
    meta: &'a mut EventMeta,
}

impl Visit for InHeader<'_> {
    #[inline]
    fn varint(&mut self, number: u32, value: u64) {
        match number {
            2 => self.meta.timestamp_us = value as i64,
            5 => self.meta.sequence = value,
            9 => self.meta.schema_version = value as u32,
            _ => {}
        }
    }

    #[inline]
    fn span(&mut self, number: u32, span: Span) {
        match number {
            1 => self.meta.message_id = span,
            3 => self.meta.tenant = span,
            4 => self.meta.thread = span,
            _ => {}
        }
    }
}

#[cfg(test)]
pub(crate) use self::tests::typed::message as typed_message;
#[cfg(test)]
mod tests;
