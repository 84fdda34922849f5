//! From a Kafka value to the protobuf body, decompressed if need be, under a hard limit.
//!
//! One reused zstd context and one small buffer per [`Inflater`]; a body that does not fit takes one of few seats
//! of the whole process and allocates for the time it is held. Nothing about events is known here.

use std::sync::{Condvar, Mutex, PoisonError};

use zstd::zstd_safe::{self, DCtx};

use super::framing::{self, Framing};
use super::refusal::Refusal;

/// What an inflater keeps between records, at most.
pub const SCRATCH_BYTES_MAX: usize = 256 * 1024;
/// A zstd context, made with the first compressed record. A test compares it with what zstd says.
pub const CONTEXT_BYTES: usize = 96 * 1024;
/// Bodies larger than [`SCRATCH_BYTES_MAX`] that may exist at once in the process; one more waits. Few, because such
/// records are rare and each may be as large as the payload limit.
pub const LARGE_BODIES_MAX: usize = 4;

/// The first size of the buffer: a compressed record of a few KiB, the usual case, needs no second one.
const SCRATCH_BYTES_MIN: usize = 16 * 1024;
/// Without a declared size the buffer grows by this factor: less than a third of the work is done twice.
const GROWTH: usize = 4;

/// What `inflaters` and the large bodies may take together: a line of the memory sum.
pub const fn memory_bytes_max(inflaters: usize, decoded_max: usize) -> usize {
    inflaters * (SCRATCH_BYTES_MAX + CONTEXT_BYTES) + LARGE_BODIES_MAX * decoded_max
}

/// Turns values into bodies, one at a time. Owned by one thread.
pub struct Inflater {
    /// Largest body, inclusive.
    decoded_max: usize,
    context: Option<DCtx<'static>>,
    /// Invariant: never grows beyond `SCRATCH_BYTES_MAX`.
    scratch: Vec<u8>,
}

/// A protobuf body. While it is held it may occupy one of the large seats, so it is not kept across waiting.
pub struct Body<'a> {
    pub framing: Framing,
    held: Held<'a>,
}

enum Held<'a> {
    Borrowed(&'a [u8]),
    Large(Large),
}

/// Field order matters: the bytes are freed before the seat is given to the next.
struct Large {
    bytes: Vec<u8>,
    _seat: Seat,
}

impl Body<'_> {
    pub fn bytes(&self) -> &[u8] {
        match &self.held {
            Held::Borrowed(bytes) => bytes,
            Held::Large(large) => &large.bytes,
        }
    }
}

impl Inflater {
    /// `decoded_max` is the largest body in bytes, inclusive.
    pub fn new(decoded_max: usize) -> Self {
        Self { decoded_max, context: None, scratch: Vec::new() }
    }

    /// The body of a value. The limit on the value itself is the caller's business. For zstd exactly what
    /// `ZSTD_decompressDCtx` accepts: several frames in a row and skippable ones count as one stream.
    pub fn body<'a>(&'a mut self, value: &'a [u8]) -> Result<Body<'a>, Refusal> {
        let (framing, body) = framing::split(value)?;
        let held = if framing.is_zstd() {
            match self.inflate(body)? {
                Some(large) => Held::Large(large),
                None => Held::Borrowed(&self.scratch),
            }
        } else if body.len() > self.decoded_max {
            return Err(self.too_large());
        } else {
            Held::Borrowed(body)
        };
        Ok(Body { framing, held })
    }

    /// Decompresses a bare zstd stream, as checkpoints carry one, never beyond the small buffer: what is larger than
    /// that or the limit is refused as too large.
    pub fn small(&mut self, frames: &[u8]) -> Result<&[u8], Refusal> {
        let declared = self.declared(frames)?;
        if declared.unwrap_or(0) > SCRATCH_BYTES_MAX || !self.fill_scratch(frames, declared)? {
            return Err(Refusal::TooLarge { limit: self.decoded_max.min(SCRATCH_BYTES_MAX) });
        }
        Ok(&self.scratch)
    }

    /// Into the scratch buffer (None) or, if that is too small, into a large one.
    fn inflate(&mut self, frames: &[u8]) -> Result<Option<Large>, Refusal> {
        let declared = self.declared(frames)?;
        if declared.unwrap_or(0) <= SCRATCH_BYTES_MAX && self.fill_scratch(frames, declared)? {
            return Ok(None);
        }
        if self.decoded_max <= SCRATCH_BYTES_MAX {
            return Err(self.too_large());
        }

        let mut large = Large { bytes: Vec::new(), _seat: Seat::take() };
        let mut capacity = match declared {
            Some(declared) if declared > SCRATCH_BYTES_MAX => declared,
            _ => SCRATCH_BYTES_MAX * GROWTH,
        };
        loop {
            capacity = capacity.min(self.decoded_max);
            // A new buffer instead of a longer one: the old content is of no use, and both at once would be too much.
            large.bytes = Vec::new();
            large.bytes.reserve_exact(capacity);
            if self.decompress(frames, Target::Large(&mut large.bytes))? {
                return Ok(Some(large));
            }
            if capacity == self.decoded_max {
                return Err(self.too_large());
            }
            capacity = capacity.saturating_mul(GROWTH);
        }
    }

    /// The content size that the first frame declares; refused here if it is beyond the limit, before anything is
    /// allocated. A broken header is left to zstd's own judgement.
    fn declared(&self, frames: &[u8]) -> Result<Option<usize>, Refusal> {
        if frames.is_empty() {
            return Err(Refusal::Truncated);
        }
        match zstd_safe::get_frame_content_size(frames) {
            Ok(Some(bytes)) => match usize::try_from(bytes) {
                Ok(bytes) if bytes <= self.decoded_max => Ok(Some(bytes)),
                _ => Err(self.too_large()),
            },
            Ok(None) | Err(_) => Ok(None),
        }
    }

    /// False if it does not fit into the largest scratch buffer.
    fn fill_scratch(&mut self, frames: &[u8], declared: Option<usize>) -> Result<bool, Refusal> {
        let mut capacity = declared.unwrap_or(0).next_power_of_two().clamp(SCRATCH_BYTES_MIN, SCRATCH_BYTES_MAX);
        loop {
            self.scratch.clear();
            self.scratch.reserve_exact(capacity);
            if self.decompress(frames, Target::Scratch)? {
                return Ok(true);
            }
            if capacity == SCRATCH_BYTES_MAX {
                return Ok(false);
            }
            capacity = (capacity * GROWTH).min(SCRATCH_BYTES_MAX);
        }
    }

    /// False if the target's capacity is too small. The window needs no bound of its own: in this mode zstd's window
    /// is the output itself.
    fn decompress(&mut self, frames: &[u8], target: Target<'_>) -> Result<bool, Refusal> {
        if self.context.is_none() {
            self.context = DCtx::try_create();
        }
        let Some(context) = &mut self.context else {
            return Err(Refusal::BadCompression { what: "no memory for a context" });
        };
        let bytes = match target {
            Target::Scratch => &mut self.scratch,
            Target::Large(bytes) => bytes,
        };
        match context.decompress(bytes, frames) {
            // A vector may have more room than was asked for.
            Ok(written) if written <= self.decoded_max => Ok(true),
            Ok(_) => Err(Refusal::TooLarge { limit: self.decoded_max }),
            Err(code) if code == zstd_code(DST_SIZE_TOO_SMALL) => Ok(false),
            Err(code) if code == zstd_code(SRC_SIZE_WRONG) && ends_inside_a_frame(frames) => Err(Refusal::Truncated),
            Err(code) => Err(Refusal::BadCompression { what: zstd_safe::get_error_name(code) }),
        }
    }

    fn too_large(&self) -> Refusal {
        Refusal::TooLarge { limit: self.decoded_max }
    }
}

enum Target<'a> {
    Scratch,
    Large(&'a mut Vec<u8>),
}

/// Numbers of `zstd_errors.h`; they are part of zstd's stable interface.
const DST_SIZE_TOO_SMALL: usize = 70;
const SRC_SIZE_WRONG: usize = 72;

/// zstd returns an error as the negative of its number.
fn zstd_code(number: usize) -> usize {
    number.wrapping_neg()
}

/// zstd has one code for input that is too short and for bytes after the last frame.
fn ends_inside_a_frame(mut frames: &[u8]) -> bool {
    while !frames.is_empty() {
        match zstd_safe::find_frame_compressed_size(frames) {
            Ok(bytes) if bytes > 0 => frames = frames.get(bytes..).unwrap_or_default(),
            Ok(_) => return false,
            Err(code) => return code == zstd_code(SRC_SIZE_WRONG) && zstd_magic_begins(frames),
        }
    }
    false
}

/// Trailing bytes that do not even begin like a frame are no frame that was cut.
fn zstd_magic_begins(frames: &[u8]) -> bool {
    const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
    frames.iter().zip(MAGIC).all(|(found, expected)| *found == expected)
}

/// Free seats for large bodies, in the whole process.
static SEATS: Mutex<usize> = Mutex::new(LARGE_BODIES_MAX);
static SEAT_FREED: Condvar = Condvar::new();

struct Seat;

impl Seat {
    /// Waits while all are taken. A holder only scans and copies its body, and an inflater never wants a second one
    /// while it has one, so the wait ends.
    fn take() -> Self {
        let mut free = SEATS.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = SEAT_FREED.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Self
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *SEATS.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        SEAT_FREED.notify_one();
    }
}

#[cfg(test)]
mod tests;
