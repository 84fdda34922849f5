//! The codec of one entry: a span of one partition as Redis keeps it, with everything that is needed to believe it.
//!
//! ```text
//! 0  "DS"      magic          16  next          u64       all numbers big endian
//! 2  1         version        24  records       u32
//! 3  lost      reason or 0    28  whole length  u32
//! 4  partition u32            32  stream name   u8 length, bytes
//! 8  from      u64                then per record: offset u64, timestamp i64 (MIN: none), outcome u8,
//!                                 value u32 length, bytes; and at the end a CRC-32 of all before it
//! ```
//!
//! The codes of outcomes and reasons are fixed for ever: hosts of different versions share one Redis. The head alone
//! says what an entry covers, so that a reader can plan before it fetches. Whatever is not exactly this is refused,
//! and a refused entry counts as absent. Declared sizes are checked before anything is allocated.

use thiserror::Error;

use crate::log::{Chunk, Outcome};
use crate::replay::span::{Span, SpanRecord};
use crate::words::{DropReason, GapReason, Offset, PartitionId, SkipReason};

const MAGIC: [u8; 2] = *b"DS";
const VERSION: u8 = 1;
/// Up to the stream's name.
pub const HEAD_BYTES: usize = 32;
/// A record without its value.
pub const RECORD_BYTES: usize = 21;
const CRC_BYTES: usize = 4;

/// Why an entry is not believed. It counts as absent; none of these heals or needs anybody but for being many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum EntryError {
    #[error("not an entry, or of another version")]
    Version,
    #[error("another length than it says, or cut off")]
    Length,
    #[error("the checksum is wrong")]
    Checksum,
    #[error("of another stream, partition or offset than its key says")]
    Elsewhere,
    #[error("codes or offsets that no version writes")]
    Content,
}

/// What the first [`HEAD_BYTES`] say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    pub partition: PartitionId,
    pub from: Offset,
    pub next: Offset,
    pub lost: Option<GapReason>,
    pub records: u32,
    /// Of the whole entry.
    pub bytes: u32,
}

impl Head {
    /// Reads the first bytes of an entry; what follows is ignored and may be missing.
    pub fn read(bytes: &[u8]) -> Result<Self, EntryError> {
        let mut input = Input(bytes);
        let head: [u8; 4] = input.array()?;
        if head[..2] != MAGIC || head[2] != VERSION {
            return Err(EntryError::Version);
        }
        let lost = match head[3] {
            0 => None,
            code => Some(reason_of(code).ok_or(EntryError::Content)?),
        };
        let partition = PartitionId(input.u32()?);
        let (from, next) = (Offset(input.u64()?), Offset(input.u64()?));
        let (records, length) = (input.u32()?, input.u32()?);
        let span = next.0.checked_sub(from.0).filter(|span| *span > 0).ok_or(EntryError::Content)?;
        let room = (length as usize).saturating_sub(HEAD_BYTES + 1 + CRC_BYTES) / RECORD_BYTES;
        if u64::from(records) > span || records as usize > room || (lost.is_some() && records > 0) {
            return Err(EntryError::Content);
        }
        Ok(Self { partition, from, next, lost, records, bytes: length })
    }
}

/// Where an entry should be from: what its key says.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Name of the stream, at most 255 bytes.
    pub stream: &'a str,
    pub partition: PartitionId,
}

/// One record as it is written.
pub struct Written<'a> {
    pub offset: Offset,
    /// ms since the epoch; `i64::MIN` when there is none.
    pub timestamp_ms: i64,
    pub outcome: Outcome,
    /// Empty unless it is delivered.
    pub value: &'a [u8],
}

/// The records of chunks, as they are written.
pub fn records_of(chunk: &Chunk) -> impl Iterator<Item = Written<'_>> {
    chunk.entries().iter().map(|entry| Written {
        offset: entry.offset,
        timestamp_ms: entry.timestamp_ms,
        outcome: entry.outcome,
        value: chunk.value(entry),
    })
}

/// The bytes of one entry for `[from, next)`. None when it is longer than `bytes_max`, or than a length can say.
///
/// The records must be in ascending order, inside the interval.
pub fn encode<'a>(
    place: Place<'_>,
    (from, next): (Offset, Offset),
    lost: Option<GapReason>,
    records: impl Iterator<Item = Written<'a>>,
    bytes_max: u64,
) -> Option<Vec<u8>> {
    assert!(from < next, "a span covers something");
    let name = place.stream.as_bytes();
    let name_length = u8::try_from(name.len()).ok()?;
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, lost.map_or(0, code_of)]);
    bytes.extend_from_slice(&place.partition.0.to_be_bytes());
    bytes.extend_from_slice(&from.0.to_be_bytes());
    bytes.extend_from_slice(&next.0.to_be_bytes());
    // Number of records and length are known at the end.
    bytes.extend_from_slice(&[0; 8]);
    bytes.push(name_length);
    bytes.extend_from_slice(name);
    let mut count = 0u32;
    for record in records {
        assert!(from <= record.offset && record.offset < next, "a record lies inside its span");
        count += 1;
        bytes.extend_from_slice(&record.offset.0.to_be_bytes());
        bytes.extend_from_slice(&record.timestamp_ms.to_be_bytes());
        bytes.push(outcome_code(record.outcome));
        bytes.extend_from_slice(&u32::try_from(record.value.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(record.value);
        if bytes.len() as u64 > bytes_max {
            return None;
        }
    }
    let length = u32::try_from(bytes.len() + CRC_BYTES).ok().filter(|length| u64::from(*length) <= bytes_max)?;
    bytes[24..28].copy_from_slice(&count.to_be_bytes());
    bytes[28..32].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    Some(bytes)
}

/// The span of an entry that was found where `place` and `from` say. Never panics and allocates no more than a small
/// multiple of `bytes`.
pub fn decode(bytes: &[u8], place: Place<'_>, from: Offset) -> Result<Span, EntryError> {
    let head = Head::read(bytes)?;
    if head.bytes as usize != bytes.len() {
        return Err(EntryError::Length);
    }
    let (content, checksum) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(EntryError::Length)?;
    if crc32fast::hash(content) != u32::from_be_bytes(*checksum) {
        return Err(EntryError::Checksum);
    }
    let mut input = Input(&content[HEAD_BYTES..]);
    let [name_length] = input.array()?;
    let name = input.take(usize::from(name_length))?;
    if name != place.stream.as_bytes() || head.partition != place.partition || head.from != from {
        return Err(EntryError::Elsewhere);
    }
    // Bounded by the length of what is there: the head was checked against it.
    let mut records = Vec::with_capacity(head.records as usize);
    let mut lowest = head.from;
    for _ in 0..head.records {
        let record = record(&mut input)?;
        if record.offset < lowest || record.offset >= head.next {
            return Err(EntryError::Content);
        }
        lowest = record.offset.next();
        records.push(record);
    }
    if !input.0.is_empty() {
        return Err(EntryError::Content);
    }
    Ok(Span { from: head.from, next: head.next, lost: head.lost, records })
}

fn record(input: &mut Input<'_>) -> Result<SpanRecord, EntryError> {
    let offset = Offset(input.u64()?);
    let timestamp_ms = i64::from_be_bytes(input.array()?);
    let [code] = input.array()?;
    let outcome = outcome_of(code).ok_or(EntryError::Content)?;
    let length = input.u32()? as usize;
    let value = input.take(length)?.to_vec();
    if outcome != Outcome::Delivered && !value.is_empty() {
        return Err(EntryError::Content);
    }
    Ok(SpanRecord { offset, timestamp_ms: Some(timestamp_ms).filter(|stamp| *stamp != i64::MIN), outcome, value })
}

/// What is left to read. Nothing is read beyond its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], EntryError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(EntryError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(EntryError::Length)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32, EntryError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, EntryError> {
        Ok(u64::from_be_bytes(self.array()?))
    }
}

/// Codes that mean an outcome or the loss of a whole interval. A number never gets another meaning.
const DELIVERED: u8 = 1;
const RETENTION: u8 = 2;
const SLOW_CLIENT: u8 = 3;

fn drop_code(reason: DropReason) -> u8 {
    match reason {
        DropReason::PayloadTooLarge => 16,
        DropReason::BufferUnderflow => 17,
        DropReason::SchemaVersionMismatch => 18,
        DropReason::InvalidProtobuf => 19,
        DropReason::BadCompression => 20,
    }
}

fn skip_code(reason: SkipReason) -> u8 {
    match reason {
        SkipReason::Null => 48,
    }
}

fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Delivered => DELIVERED,
        Outcome::DeadLettered(reason) => drop_code(reason),
        Outcome::Skipped(reason) => skip_code(reason),
    }
}

fn outcome_of(code: u8) -> Option<Outcome> {
    if code == DELIVERED {
        return Some(Outcome::Delivered);
    }
    let dropped = DropReason::ALL.into_iter().find(|reason| drop_code(*reason) == code).map(Outcome::DeadLettered);
    dropped.or_else(|| SkipReason::ALL.into_iter().find(|reason| skip_code(*reason) == code).map(Outcome::Skipped))
}

fn code_of(reason: GapReason) -> u8 {
    match reason {
        GapReason::Retention => RETENTION,
        GapReason::SlowClient => SLOW_CLIENT,
        GapReason::DeadLettered(reason) => drop_code(reason),
        GapReason::Skipped(reason) => skip_code(reason),
    }
}

fn reason_of(code: u8) -> Option<GapReason> {
    GapReason::ALL.into_iter().find(|reason| code_of(*reason) == code)
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
