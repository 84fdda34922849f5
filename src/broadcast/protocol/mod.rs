//! What is said between a client and us, and how each of the three protocols writes it.
//!
//! One vocabulary, three writers: `v1` is the predecessor's protocol, `v2` protobuf, `json` the same conversation as
//! text. Batches are not here: they are forms of chunks (`log::forms`).

pub mod v1;
pub mod v2;
pub mod json;

use crate::broadcast::filter::{Filter, Wanted};
use crate::log::Form;
use crate::log::frame::{self, Opcode};
use crate::observe::stats::{Answer, Protocol};
use crate::words::{CloseReason, GapReason, Offset, PartitionId, SlowPolicy};

/// Something that a client said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    Resume(Resume),
    /// v1 only: per thread, the last sequence applied.
    Threads {
        sequences: Vec<(String, u64)>,
        stream: Option<String>,
    },
    /// v1 only.
    CursorReset,
    /// From here on, only what the filter lets through.
    Subscribe(Filter),
    Pause,
    Continue,
    /// What should become of this client when it falls off the log.
    SlowPolicy(SlowPolicy),
    /// With what is to be sent back; at most 125 bytes.
    Ping(Vec<u8>),
    /// Understood, but not to be had here.
    Unsupported {
        what: &'static str,
        why: &'static str,
    },
    /// A resume that cannot be honoured as a whole.
    Malformed {
        what: &'static str,
        why: &'static str,
    },
    /// More partitions or threads than the limit.
    TooMany {
        what: Many,
        limit: usize,
    },
    /// Nothing to answer.
    Ignored,
    /// Not of this protocol at all; counted, survived.
    Unparseable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Many {
    Partitions,
    Threads,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The stream that the cursor is of, if the client says so.
    pub stream: Option<String>,
    pub start: Start,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Start {
    /// Last applied offset per partition, ascending partitions, each at most once.
    Cursor(Vec<(PartitionId, Offset)>),
    Earliest,
    Latest,
    /// The first record whose Kafka timestamp is not earlier, ms since the epoch.
    Timestamp(i64),
    /// One run from its beginning.
    Run(RunStart),
}

/// "Give me this run."
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunStart {
    pub thread: String,
    /// Of any tenant when none is named.
    pub tenant: Option<String>,
    /// Only events whose sequence is above.
    pub after_sequence: u64,
    /// How old what is looked through may be, when nobody has seen the run; `None`: the gateway's setting.
    pub search_age_ms: Option<u64>,
}

/// The limits on what one message may name.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub partitions: usize,
    pub threads: usize,
}

/// Something that we say, besides chunks.
#[derive(Clone, Debug)]
pub enum Notice<'a> {
    Hello(&'a Hello),
    Answers {
        resume: u64,
        answers: &'a [(PartitionId, Answered)],
    },
    Gap {
        partition: PartitionId,
        first: Offset,
        last: Offset,
        reason: GapReason,
    },
    /// Where the client stands, for one that was sent nothing for a while.
    Progress {
        cursor: &'a [(PartitionId, Offset)],
    },
    /// The replay waits for its turn.
    Waiting {
        resume: u64,
    },
    /// From here on the client is told gaps instead of being brought up to date.
    FallingBehind,
    /// A filter, a pause or a continue has taken effect after this cursor.
    Applied {
        what: &'static str,
        cursor: &'a [(PartitionId, Offset)],
    },
    /// The search for a run is through this partition: `[from, to)` was looked at.
    Searched {
        partition: PartitionId,
        from: Offset,
        to: Offset,
    },
    /// A replay is done: `live` in v2 and json, `replay_complete` in v1.
    Done(&'a Done),
    /// v1 only.
    CursorReset {
        latest: &'a [(PartitionId, Offset)],
    },
    /// v1 only: followed by a close.
    TooMany {
        what: Many,
        limit: usize,
    },
    Pong(&'a [u8]),
    Refused {
        what: &'a str,
        why: &'a str,
    },
    Bye {
        reason: CloseReason,
        cursor: &'a [(PartitionId, Offset)],
        reconnect_after_ms: u64,
    },
}

#[derive(Clone, Debug)]
pub struct Hello {
    pub stream: String,
    pub topic: String,
    pub weak: bool,
    pub group: bool,
    pub partitions: Vec<HelloPartition>,
    pub message_max_bytes: u32,
    pub resume_partitions_max: u32,
    pub stall_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub ping_interval_ms: u64,
    /// What becomes of this client when it falls off the log, and what it may choose.
    pub slow_policy: SlowPolicy,
    pub slow_policies: Vec<SlowPolicy>,
}

#[derive(Clone, Copy, Debug)]
pub struct HelloPartition {
    pub partition: PartitionId,
    pub oldest: Offset,
    pub next: Offset,
    /// Records that Kafka has beyond `next`; `None` while unknown.
    pub lag: Option<u64>,
    pub position: Offset,
}

/// The typed answer to a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answered {
    Resumed { from: Offset },
    Truncated { requested: Offset, oldest: Offset, reason: TruncatedReason },
    Future { requested: Offset, newest: Offset },
    WrongStream { newest: Offset },
    UnknownPartition,
    NotHere,
    Unavailable { retry_after_ms: u64 },
}

/// Why a cursor is older than what can be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TruncatedReason {
    /// The log has moved on; Kafka may still have the records.
    Evicted,
    /// Kafka no longer has them either.
    Retention,
}

impl TruncatedReason {
    pub fn label(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Retention => "retention",
        }
    }
}

impl Answered {
    pub fn kind(&self) -> Answer {
        match self {
            Self::Resumed { .. } => Answer::Resumed,
            Self::Truncated { .. } => Answer::Truncated,
            Self::Future { .. } => Answer::Future,
            Self::WrongStream { .. } => Answer::WrongStream,
            Self::UnknownPartition => Answer::UnknownPartition,
            Self::NotHere => Answer::NotHere,
            Self::Unavailable { .. } => Answer::Unavailable,
        }
    }
}

/// How a replay went.
#[derive(Clone, Debug)]
pub struct Done {
    /// Number of the resume; 0 is the start of the connection.
    pub resume: u64,
    pub replayed: u64,
    /// v1's `mode`: cursor, earliest, latest or thread.
    pub mode: &'static str,
    /// v1's `lastOffsetsByPartition`.
    pub last: Vec<(PartitionId, Offset)>,
    /// Another resume ended it before it was through.
    pub capped: bool,
}

/// The form in which a client gets chunks.
pub fn form(protocol: Protocol, stream_aware: bool) -> Form {
    match (protocol, stream_aware) {
        (Protocol::V1, false) => Form::V1,
        (Protocol::V1, true) => Form::V1Stream,
        (Protocol::V2, _) => Form::V2,
        (Protocol::Json, _) => Form::Json,
    }
}

/// Appends what `notice` is in `protocol`: no frame, one, or several. `stream_aware`: a v1 client that sent `stream`.
pub fn say(protocol: Protocol, stream_aware: bool, notice: &Notice<'_>, out: &mut Vec<u8>) {
    match protocol {
        Protocol::V1 => v1::say(stream_aware, notice, out),
        Protocol::V2 => v2::say(notice, out),
        Protocol::Json => json::say(notice, out),
    }
}

/// Reads a message of a client. `text`: it came as a text frame and is UTF-8.
pub fn read(protocol: Protocol, text: bool, message: &[u8], limits: Limits) -> Said {
    match (protocol, text) {
        (Protocol::V1, true) => v1::read(message, limits),
        (Protocol::Json, true) => json::read(message, limits),
        (Protocol::V2, false) => v2::read(message, limits),
        // The predecessor ignores what comes in the other kind of frame.
        (Protocol::V1, false) => Said::Ignored,
        (Protocol::Json, false) | (Protocol::V2, true) => Said::Unparseable,
    }
}

/// What a client wants to see, checked.
fn subscribe(wanted: Wanted) -> Said {
    Filter::new(wanted).map_or_else(|why| Said::Malformed { what: "subscribe", why }, Said::Subscribe)
}

/// What a client wants to become of it, checked.
fn slow_policy(word: &str) -> Said {
    const WHY: &str = "`policy` is catchup, gap or close";
    SlowPolicy::parse(word).map_or(Said::Malformed { what: "slow_policy", why: WHY }, Said::SlowPolicy)
}

/// A run, checked.
fn run(run: RunStart) -> Result<Start, Said> {
    let long = |text: &str| text.len() > crate::broadcast::filter::VALUE_BYTES_MAX;
    if run.thread.is_empty() || long(&run.thread) || run.tenant.as_deref().is_some_and(long) {
        return Err(Said::Malformed {
            what: "resume",
            why: "a run names a thread, and maybe a tenant, of 1 to 256 bytes",
        });
    }
    Ok(Start::Run(run))
}

/// A close frame.
pub fn push_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    frame::push_frame_with(out, Opcode::Close, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(reason.as_bytes());
    });
}

/// Digits only, no sign, no space: an offset or sequence as text.
fn decimal(text: &str) -> Option<u64> {
    (!text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// A partition number as a JSON key.
fn partition_key(text: &str) -> Option<PartitionId> {
    decimal(text).and_then(|number| i32::try_from(number).ok()).and_then(PartitionId::from_kafka)
}

/// A JSON number or decimal string.
fn number(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str().and_then(decimal))
}
