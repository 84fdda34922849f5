//! The disposition of a record: a pure function of its bytes and the rules, so that live, replay and every host agree.

use crate::wire::Refusal;
use crate::wire::inflate::{Body, Inflater};
use crate::wire::scan::{Scan, scan};
use crate::words::{DropReason, SkipReason};

/// The schema version that this program knows. 0 on the wire is read as 1.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything besides the bytes that a disposition depends on. Its hash is part of `/version`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Largest value, and largest body that a value decompresses to, bytes, inclusive.
    pub payload_max_bytes: usize,
    /// Any schema version but ours is dead-lettered.
    pub schema_exact: bool,
}

/// What becomes of a record.
pub enum Disposition<'a> {
    /// To the log. `body` is the message without framing and compression; the scan that was passed in describes it.
    Deliver {
        body: Body<'a>,
    },
    DeadLetter(Fault),
    Skip(SkipReason),
}

/// Why a record goes to the dead-letter topic.
#[derive(Debug)]
pub struct Fault {
    pub reason: DropReason,
    /// What exactly was wrong, for a human.
    pub error: String,
    /// Whose record it is, as far as it could be read.
    pub thread_id: Option<String>,
    pub tenant_id: Option<String>,
}

impl Fault {
    fn new(reason: DropReason, error: String) -> Self {
        Self { reason, error, thread_id: None, tenant_id: None }
    }
}

/// Decides. `inflater` and `found` are scratch; `found` is filled when the record is delivered.
pub fn dispose<'a>(
    value: Option<&'a [u8]>,
    rules: &Rules,
    inflater: &'a mut Inflater,
    found: &mut Scan,
) -> Disposition<'a> {
    let Some(value) = value else { return Disposition::Skip(SkipReason::Null) };
    if value.is_empty() {
        return Disposition::DeadLetter(Fault::new(DropReason::BufferUnderflow, "the value is empty".to_owned()));
    }
    if value.len() > rules.payload_max_bytes {
        let text = format!("the value has {} bytes, the limit is {}", value.len(), rules.payload_max_bytes);
        return Disposition::DeadLetter(Fault::new(DropReason::PayloadTooLarge, text));
    }
    let body = match inflater.body(value) {
        Ok(body) => body,
        Err(refusal) => return refused(&refusal),
    };
    if let Err(error) = scan(body.bytes(), found) {
        return Disposition::DeadLetter(Fault::new(DropReason::InvalidProtobuf, error.to_string()));
    }
    if rules.schema_exact
        && let Some(version) = newest_schema(found).filter(|version| *version != SCHEMA_VERSION)
    {
        let text = format!("schema version {version}, and schema.policy = exact allows only {SCHEMA_VERSION}");
        let mut fault = Fault::new(DropReason::SchemaVersionMismatch, text);
        // The record was read in full, so it can be told whose it is.
        if let Some(event) = found.events.first() {
            fault.thread_id = std::str::from_utf8(event.thread.of(body.bytes())).ok().map(str::to_owned);
            fault.tenant_id = std::str::from_utf8(event.tenant.of(body.bytes())).ok().map(str::to_owned);
        }
        return Disposition::DeadLetter(fault);
    }
    Disposition::Deliver { body }
}

fn refused(refusal: &Refusal) -> Disposition<'static> {
    Disposition::DeadLetter(Fault::new(DropReason::from(*refusal), refusal.to_string()))
}

/// The schema version among the events that is farthest from ours; `None` for a record without events.
pub fn newest_schema(found: &Scan) -> Option<u32> {
    found.events.iter().map(|event| event.schema_version.max(1)).max_by_key(|version| version.abs_diff(SCHEMA_VERSION))
}
