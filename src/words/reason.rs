//! Everything that can be refused, each a closed enum: the variant is the match arm, the metric label, the log
//! field, the close code and the README row.

/// Why a record was dead-lettered. The first five labels are the predecessor's `error_type` values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DropReason {
    /// The value, or what it decompresses to, is larger than the payload limit.
    PayloadTooLarge,
    /// The value is empty (not null), or ends inside a frame.
    BufferUnderflow,
    /// `schema.policy = exact` and the schema version is not the one this program knows.
    SchemaVersionMismatch,
    /// Not a `DashStreamMessage`, or nested deeper than the limit.
    InvalidProtobuf,
    /// Marked as compressed, but zstd refuses it.
    BadCompression,
}

impl DropReason {
    pub const ALL: [Self; 5] = [
        Self::PayloadTooLarge,
        Self::BufferUnderflow,
        Self::SchemaVersionMismatch,
        Self::InvalidProtobuf,
        Self::BadCompression,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::PayloadTooLarge => "payload_too_large",
            Self::BufferUnderflow => "buffer_underflow",
            Self::SchemaVersionMismatch => "schema_version_mismatch",
            Self::InvalidProtobuf => "invalid_protobuf",
            Self::BadCompression => "unknown_decode_error",
        }
    }
}

/// Why a record was passed over without being dead-lettered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SkipReason {
    /// A null value (tombstone): there is nothing to deliver.
    Null,
}

impl SkipReason {
    pub const ALL: [Self; 1] = [Self::Null];

    pub fn label(self) -> &'static str {
        match self {
            Self::Null => "null",
        }
    }
}

/// Why a client does not get some records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GapReason {
    /// The client read slower than the log moved on; the records were evicted before it came to them.
    SlowClient,
    /// The records were dead-lettered.
    DeadLettered(DropReason),
    /// The records were skipped.
    Skipped(SkipReason),
    /// Kafka no longer has the records: its retention passed the gateway or the cursor.
    Retention,
}

impl GapReason {
    pub const ALL: [Self; 8] = [
        Self::SlowClient,
        Self::DeadLettered(DropReason::PayloadTooLarge),
        Self::DeadLettered(DropReason::BufferUnderflow),
        Self::DeadLettered(DropReason::SchemaVersionMismatch),
        Self::DeadLettered(DropReason::InvalidProtobuf),
        Self::DeadLettered(DropReason::BadCompression),
        Self::Skipped(SkipReason::Null),
        Self::Retention,
    ];

    /// The `reason` of a gap frame.
    pub fn label(self) -> &'static str {
        match self {
            Self::SlowClient => "slow_client",
            Self::DeadLettered(_) => "dead_lettered",
            Self::Skipped(SkipReason::Null) => "null",
            Self::Retention => "retention",
        }
    }
}

/// Why we end a connection. Every end by us is a close frame with this code and reason.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CloseReason {
    /// The gateway stops. Reconnect, here or to another host, with the cursor.
    ShuttingDown,
    /// The client closed first; its code is answered.
    ClientClosed,
    /// A frame that RFC 6455 forbids: reserved bits or opcodes, unmasked, a broken fragment order.
    ProtocolError,
    /// A text frame, or a close reason, that is not UTF-8.
    InvalidUtf8,
    /// A message larger than the client limit.
    MessageTooBig,
    /// Nothing was accepted by the client for `client.stall_timeout`.
    Stalled,
    /// No pong within the idle limit, while nothing waited to be sent.
    IdleTimeout,
    /// The policy `close`, and the client fell off the log.
    FellBehind,
    /// The topic was deleted and made again, or truncated: old cursors mean nothing.
    StreamChanged,
    /// The client asked to resume and the answer cannot be known now (v1 without `stream` has no frame for it).
    Unavailable,
    /// A resume names more partitions or threads than the limit.
    ResumeTooLarge,
    /// The memory set aside for clients in mid-frame is used up.
    OutOfBudget,
    /// A bug of ours: the session was ended to protect the others.
    Internal,
}

impl CloseReason {
    pub const ALL: [Self; 13] = [
        Self::ShuttingDown,
        Self::ClientClosed,
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::MessageTooBig,
        Self::Stalled,
        Self::IdleTimeout,
        Self::FellBehind,
        Self::StreamChanged,
        Self::Unavailable,
        Self::ResumeTooLarge,
        Self::OutOfBudget,
        Self::Internal,
    ];

    /// The close code on the wire (RFC 6455 §7.4).
    pub fn code(self) -> u16 {
        match self {
            Self::ShuttingDown => 1001,
            Self::ClientClosed => 1000,
            Self::ProtocolError => 1002,
            Self::InvalidUtf8 => 1007,
            Self::MessageTooBig => 1009,
            Self::Stalled => 4001,
            Self::IdleTimeout => 4002,
            Self::FellBehind => 4003,
            Self::StreamChanged => 4004,
            Self::Unavailable => 1013,
            Self::ResumeTooLarge => 1008,
            Self::OutOfBudget => 4005,
            Self::Internal => 1011,
        }
    }

    /// The close reason on the wire, the metric label and the log field.
    pub fn label(self) -> &'static str {
        match self {
            Self::ShuttingDown => "shutting_down",
            Self::ClientClosed => "client_closed",
            Self::ProtocolError => "protocol_error",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::MessageTooBig => "message_too_big",
            Self::Stalled => "stalled",
            Self::IdleTimeout => "idle_timeout",
            Self::FellBehind => "fell_behind",
            Self::StreamChanged => "stream_changed",
            Self::Unavailable => "unavailable",
            Self::ResumeTooLarge => "resume_too_large",
            Self::OutOfBudget => "out_of_budget",
            Self::Internal => "internal",
        }
    }

    /// May the client connect again, and when: the README's column.
    pub fn advice(self) -> &'static str {
        match self {
            Self::ShuttingDown => "yes, with the cursor, after a random 0-5 s",
            Self::ClientClosed => "as you like",
            Self::ProtocolError | Self::InvalidUtf8 | Self::MessageTooBig | Self::ResumeTooLarge => {
                "not before the client is mended"
            }
            Self::Stalled | Self::IdleTimeout | Self::FellBehind => "yes, with the cursor, at once",
            Self::StreamChanged => "yes, without the cursor, at once",
            Self::Unavailable | Self::OutOfBudget => "yes, with the cursor, after 1-5 s",
            Self::Internal => "yes, with the cursor, after 1-5 s; report it",
        }
    }
}
