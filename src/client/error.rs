//! What can go wrong, by who has to do something about it.

use std::fmt;
use std::io;

/// The gateway said something that would make records be lost or repeated if it were believed. It does not heal by
/// itself: report it. Nothing of the frame was delivered, and the cursor stands before it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    #[error("the first frame is not Hello")]
    NoHello,
    #[error("a second Hello on one connection")]
    SecondHello,
    #[error("a frame that is not a message of dashstream.v2")]
    Undecodable,
    #[error("a frame of more than {limit} bytes: raise Builder::frame_max_bytes if records are that large")]
    TooLarge { limit: usize },
    #[error("a frame that WebSocket forbids: {0}")]
    WebSocket(String),
    #[error("a stream has a name of 1 to 1024 bytes without control characters")]
    BadStreamName,
    #[error("more than {limit} partitions")]
    TooManyPartitions { limit: usize },
    /// It was delivered, or told, before.
    #[error("partition {partition} goes back: offset {offset} comes, {expected} was next")]
    Backwards { partition: u32, expected: u64, offset: u64 },
    /// Neither delivered nor explained.
    #[error("partition {partition}: offsets {expected} to {from} (exclusive) are passed over without a word")]
    Unexplained { partition: u32, expected: u64, from: u64 },
    #[error("partition {partition}: from {from} to {next} is no stretch")]
    BadInterval { partition: u32, from: u64, next: u64 },
    #[error("partition {partition}: record {offset} is out of order, or outside of its batch")]
    Disordered { partition: u32, offset: u64 },
    #[error("partition {partition} was asked for from {wanted} and resumed at {from}")]
    ResumedElsewhere { partition: u32, wanted: u64, from: u64 },
    #[error("an answer to resume {resume}, which was not asked")]
    UnknownResume { resume: u64 },
}

/// Why there is no connection now. All of these heal by connecting again.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Why {
    /// The address does not resolve, nobody listens, or the handshake broke.
    Unreachable(String),
    /// The gateway answered with this HTTP status, such as 503 while it starts.
    Status(u16),
    /// The gateway said goodbye, with its reason.
    Bye(String),
    /// Closed without goodbye; `None`: also without a code.
    Closed { code: Option<u16>, reason: String },
    /// The connection broke.
    Lost(String),
    /// Nothing came, not even an answer to a ping.
    DeadPeer,
    /// A resume was not answered in time.
    NoAnswer,
    /// The stream changed between Hello and the answer.
    WrongStream,
    /// A partition is to be asked for again, and this takes a new connection.
    Unavailable,
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(formatter, "unreachable: {why}"),
            Self::Status(status) => write!(formatter, "refused with HTTP status {status}"),
            Self::Bye(reason) => write!(formatter, "the gateway said goodbye: {reason}"),
            Self::Closed { code: Some(code), reason } => write!(formatter, "closed with {code} {reason}"),
            Self::Closed { code: None, .. } => formatter.write_str("closed without a code"),
            Self::Lost(why) => write!(formatter, "the connection broke: {why}"),
            Self::DeadPeer => formatter.write_str("no sign of life"),
            Self::NoAnswer => formatter.write_str("a resume was not answered"),
            Self::WrongStream => formatter.write_str("the stream changed"),
            Self::Unavailable => formatter.write_str("a partition is unavailable"),
        }
    }
}

/// Why a client ended. The cursor is where the handler left it, and was saved if the store let us.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    #[error("the gateway broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// What is asked for is not to be had: an unknown subprotocol, path or filter. Connecting again does not help.
    #[error("the gateway refuses {what}: {why}")]
    Refused { what: String, why: String },
    /// As many attempts in a row as [`super::Reconnect::attempts_max`] allows came to nothing.
    #[error("gave up after {attempts} attempts: {last}")]
    GaveUp { attempts: u32, last: Why },
    #[error("the cursor store failed: {0}")]
    Store(#[from] StoreError),
}

/// What [`super::Client::run`] ends with.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E> {
    /// The handler failed. The cursor stands before that event: the next run begins with it.
    #[error("the handler failed: {0}")]
    Handler(E),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// What [`super::Builder::build`] refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("{0:?} is no ws:// address with a host")]
    BadUrl(String),
    /// Put a proxy before the gateway, and connect to that over a network you trust.
    #[error("wss:// is not built in")]
    NoTls,
    #[error("{name} is out of range: {allowed}")]
    OutOfRange { name: &'static str, allowed: &'static str },
    #[error("a run takes the place of the filter: give one of them")]
    RunAndFilter,
    #[error("the cursor store failed: {0}")]
    Store(#[from] StoreError),
}

/// A cursor could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    /// Not written by us, or cut. Remove it to begin anew.
    #[error("{path} is not a cursor: {what}")]
    Damaged { path: String, what: &'static str },
    /// For stores of other kinds.
    #[error("{0}")]
    Other(String),
}
