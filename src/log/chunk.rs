//! A chunk: consecutive records of one partition, immutable, covering `[from, next)`.
//!
//! An offset inside the interval that has no entry is a hole: it never was a record for us. The values are kept once,
//! inside the frames that a v1 client gets (the storage form); other forms are made at most once, on demand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::forms::{Form, JsonForm};
use crate::observe::stats::Gauge;
use crate::words::{DropReason, GapReason, Offset, PartitionId, SkipReason};

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Delivered,
    DeadLettered(DropReason),
    Skipped(SkipReason),
}

/// Index of one record. Nothing in it points outside its chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub offset: Offset,
    /// Kafka's timestamp, ms since the epoch; `i64::MIN` when the record has none.
    pub timestamp_ms: i64,
    pub outcome: Outcome,
    /// Where the frames of this record begin in the storage; the value ends where the frames end.
    pub unit_start: u32,
    pub value_start: u32,
    pub value_end: u32,
    /// Into [`Chunk::id`]; [`NO_ID`] when the record has none or it is too long to intern.
    pub tenant: u16,
    /// Into the chunk's list of thread ids.
    pub threads_start: u16,
    /// [`MANY_THREADS`] when there are more than eight, or one too long to intern: then the value must be decoded.
    pub threads_len: u8,
    /// Events in it, at most `u16::MAX`. With one, the fields here say all that a filter asks; with more, which of them
    /// has what must be decoded.
    pub events: u16,
    /// One bit per message kind in the record.
    pub kinds: u16,
    /// One bit per event type, folded into 64: a match must be verified.
    pub event_types: u64,
    /// Hash of the node ids, or 0 without one; several nodes fold together: a match must be verified.
    pub node_hash: u32,
}

/// No tenant.
pub const NO_ID: u16 = u16::MAX;
/// More threads than are listed.
pub const MANY_THREADS: u8 = u8::MAX;
/// Threads listed per record.
pub const THREADS_MAX: usize = 8;
/// Longer ids are not interned, bytes.
pub const ID_BYTES_MAX: usize = 256;

/// See the module. Made by [`super::ChunkBuilder`] only.
#[derive(Debug)]
pub struct Chunk {
    pub partition: PartitionId,
    pub from: Offset,
    /// Invariant: above `from`, and above the offset of every entry.
    pub next: Offset,
    /// The whole interval is lost, with the reason; then there are no entries.
    pub lost: Option<GapReason>,
    /// Monotonic ms when it was made, as the worker's batch read the clock.
    pub made_at_ms: u64,
    /// Ascending offsets.
    pub(super) entries: Box<[Entry]>,
    pub(super) delivered: u32,
    /// Some record has a tenant or threads that are not listed.
    pub(super) opaque: bool,
    pub(super) ids: Box<[(u32, u32)]>,
    pub(super) id_bytes: Box<[u8]>,
    /// The ids in ascending order of their bytes; made for the first filter that looks.
    pub(super) ids_sorted: OnceLock<Box<[u16]>>,
    pub(super) thread_lists: Box<[u16]>,
    pub(super) storage: Box<[u8]>,
    pub(super) v1_stream: OnceLock<Box<[u8]>>,
    pub(super) v2: OnceLock<Box<[u8]>>,
    pub(super) json: OnceLock<JsonForm>,
    pub(super) json_requested: AtomicBool,
    /// Name of the stream, for the ids of dead letters in forms.
    pub(super) stream: Arc<crate::words::StreamIdentity>,
    /// Live bytes of all chunks of the process: added to on creation and when a form is made, subtracted on drop.
    pub(super) live_bytes: Arc<Gauge>,
    pub(super) base_bytes: u64,
}

impl Chunk {
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Records in it that clients get.
    pub fn delivered(&self) -> u32 {
        self.delivered
    }

    /// Records at or after `offset` that clients get.
    pub fn delivered_from(&self, offset: Offset) -> u64 {
        let entries = &self.entries[self.entry_at(offset)..];
        entries.iter().filter(|entry| entry.outcome == Outcome::Delivered).count() as u64
    }

    /// Records that clients get among those with a flag.
    pub fn delivered_of(&self, kept: &[bool]) -> u64 {
        let kept = self.entries.iter().zip(kept).filter(|(_, kept)| **kept);
        kept.filter(|(entry, _)| entry.outcome == Outcome::Delivered).count() as u64
    }

    /// Every record in it is delivered, so that all forms carry the same news.
    pub fn is_plain(&self) -> bool {
        self.lost.is_none() && self.delivered as usize == self.entries.len()
    }

    /// The raw Kafka value of a delivered entry.
    pub fn value(&self, entry: &Entry) -> &[u8] {
        &self.storage[entry.value_start as usize..entry.value_end as usize]
    }

    /// Some record has a tenant or threads that are not among [`Chunk::ids`].
    pub fn is_opaque(&self) -> bool {
        self.opaque
    }

    /// Every tenant and thread id in it, each once, in no order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        (0..self.ids.len()).filter_map(|index| self.id(index as u16))
    }

    /// An interned id.
    pub fn id(&self, index: u16) -> Option<&str> {
        let (start, end) = *self.ids.get(usize::from(index))?;
        std::str::from_utf8(self.id_bytes.get(start as usize..end as usize)?).ok()
    }

    /// The index under which a tenant or thread is interned here. As many sessions may ask as there are ids in a chunk,
    /// so none of them looks at each.
    pub fn find(&self, id: &str) -> Option<u16> {
        let bytes_of = |index: u16| {
            let (start, end) = self.ids.get(usize::from(index)).copied().unwrap_or_default();
            self.id_bytes.get(start as usize..end as usize).unwrap_or_default()
        };
        let sorted = self.ids_sorted.get_or_init(|| {
            let mut sorted: Box<[u16]> = (0..self.ids.len()).map(|index| index as u16).collect();
            sorted.sort_unstable_by_key(|index| bytes_of(*index));
            self.live_bytes.add(size_of_val(&*sorted) as u64);
            sorted
        });
        let place = sorted.binary_search_by_key(&id.as_bytes(), |index| bytes_of(*index)).ok()?;
        sorted.get(place).copied()
    }

    /// The distinct threads of a record, as interned; `None` when there are too many to list.
    pub fn threads(&self, entry: &Entry) -> Option<&[u16]> {
        if entry.threads_len == MANY_THREADS {
            return None;
        }
        let start = usize::from(entry.threads_start);
        self.thread_lists.get(start..start + usize::from(entry.threads_len))
    }

    /// Every thread of this chunk once, with the first offset that has it (where a record has too many to list: where
    /// the chunk begins). `seen` is scratch.
    pub fn each_thread(&self, seen: &mut Vec<bool>, mut see: impl FnMut(&str, Offset)) {
        seen.clear();
        seen.resize(self.ids.len(), false);
        let mut one = |id: u16, offset: Offset| {
            if let Some(seen) = seen.get_mut(usize::from(id))
                && !std::mem::replace(seen, true)
                && let Some(thread) = self.id(id)
            {
                see(thread, offset);
            }
        };
        for entry in &self.entries {
            if entry.threads_len == MANY_THREADS {
                (0..self.ids.len()).for_each(|id| one(id as u16, self.from));
                continue;
            }
            let start = usize::from(entry.threads_start);
            let list = self.thread_lists.get(start..start + usize::from(entry.threads_len)).unwrap_or_default();
            list.iter().for_each(|id| one(*id, entry.offset));
        }
    }

    /// Index of the first entry at or after `offset`.
    pub fn entry_at(&self, offset: Offset) -> usize {
        self.entries.partition_point(|entry| entry.offset < offset)
    }

    /// The bytes of a form. `None` only for JSON that nobody has rendered yet; the others are made here and now.
    pub fn form(&self, form: Form) -> Option<&[u8]> {
        match form {
            Form::V1 => Some(&self.storage),
            Form::V1Stream if self.is_plain() => Some(&self.storage),
            Form::V1Stream => Some(self.v1_stream.get_or_init(|| self.grown(self.encode(form, self.from)))),
            Form::V2 => Some(self.v2.get_or_init(|| self.grown(self.encode(form, self.from)))),
            Form::Json => self.json.get().map(|json| &*json.bytes),
        }
    }

    /// True for the first caller only: that one asks for the JSON form.
    pub fn claim_json(&self) -> bool {
        !self.json_requested.swap(true, Ordering::AcqRel)
    }

    /// Takes a claim back, when there was no room to ask.
    pub fn unclaim_json(&self) {
        self.json_requested.store(false, Ordering::Release);
    }

    /// Called by an encoder thread.
    pub fn set_json(&self, json: JsonForm) {
        let bytes = json.heap_bytes();
        if self.json.set(json).is_ok() {
            self.live_bytes.add(bytes);
        }
    }

    /// What it counts for now: storage, index, forms, and its own struct.
    pub fn bytes(&self) -> u64 {
        let forms = self.v1_stream.get().map_or(0, |form| form.len() as u64)
            + self.v2.get().map_or(0, |form| form.len() as u64)
            + self.json.get().map_or(0, JsonForm::heap_bytes);
        let sorted = self.ids_sorted.get().map_or(0, |sorted| size_of_val(&**sorted) as u64);
        self.base_bytes + forms + sorted
    }

    fn grown(&self, form: Vec<u8>) -> Box<[u8]> {
        let form = form.into_boxed_slice();
        self.live_bytes.add(form.len() as u64);
        form
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.live_bytes.sub(self.bytes());
    }
}

/// FNV-1a, 64 bit: short keys, no allocation, and not a defence: the table is bounded by the chunk.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
