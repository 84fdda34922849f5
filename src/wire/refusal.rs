//! Why a record value cannot be turned into a protobuf body. Whether the body itself is good is said by
//! [`super::scan::ScanError`].

use crate::words::DropReason;

/// A value that has no body. All of these are properties of the bytes and the limit: the same record is refused on
/// every host and at every time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// A producer sent a record without content. Mend the producer; a tombstone is a null value, not an empty one.
    #[error("the value is empty: even an empty message has its framing byte")]
    Empty,
    /// The value was cut on its way: a producer or proxy with a size limit, or a hand-made record.
    #[error("the compressed value ends inside a zstd frame: the producer cut it")]
    Truncated,
    /// Raise the limit or make the producer send less. Nothing beyond the limit was ever allocated.
    #[error("the decoded value exceeds the limit of {limit} bytes: raise kafka.payload_max_bytes or send less")]
    TooLarge { limit: usize },
    /// Marked as compressed, but zstd refuses it.
    #[error("the value is marked as zstd, but zstd says: {what}")]
    BadCompression { what: &'static str },
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Empty | Refusal::Truncated => Self::BufferUnderflow,
            Refusal::TooLarge { .. } => Self::PayloadTooLarge,
            Refusal::BadCompression { .. } => Self::BadCompression,
        }
    }
}
