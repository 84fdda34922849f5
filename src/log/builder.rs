//! Builds chunks from records as they come: one buffer per worker, reused; nothing is allocated per record.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use super::chunk::{Chunk, Entry, ID_BYTES_MAX, MANY_THREADS, NO_ID, Outcome, THREADS_MAX, fnv};
use super::frame::{self, Opcode};
use crate::observe::stats::Gauge;
use crate::wire::scan::Scan;
use crate::words::{GapReason, Offset, PartitionId, StreamIdentity};

/// Entries per chunk: keeps every index inside `u16`, whatever the size of the records.
const ENTRIES_MAX: usize = 4096;

/// One per worker.
#[derive(Debug)]
pub struct ChunkBuilder {
    partition: PartitionId,
    chunk_bytes: usize,
    stream: Arc<StreamIdentity>,
    live_bytes: Arc<Gauge>,
    /// The chunk under way covers `[from, next)`.
    from: Offset,
    next: Offset,
    delivered: u32,
    opaque: bool,
    entries: Vec<Entry>,
    storage: Vec<u8>,
    thread_lists: Vec<u16>,
    ids: Interner,
}

impl ChunkBuilder {
    /// A builder whose first chunk begins at `from`. A chunk is full at `chunk_bytes` of storage.
    pub fn new(
        partition: PartitionId,
        from: Offset,
        chunk_bytes: u32,
        stream: Arc<StreamIdentity>,
        live_bytes: Arc<Gauge>,
    ) -> Self {
        Self {
            partition,
            chunk_bytes: chunk_bytes as usize,
            stream,
            live_bytes,
            from,
            next: from,
            delivered: 0,
            opaque: false,
            entries: Vec::new(),
            storage: Vec::new(),
            thread_lists: Vec::new(),
            ids: Interner::default(),
        }
    }

    /// The next offset that may be pushed: everything below is covered.
    pub fn next(&self) -> Offset {
        self.next
    }

    pub fn is_full(&self) -> bool {
        self.storage.len() >= self.chunk_bytes || self.entries.len() >= ENTRIES_MAX
    }

    /// A record to deliver, `value` unchanged; `body` is what `scan` was made from.
    pub fn deliver(&mut self, offset: Offset, timestamp_ms: Option<i64>, value: &[u8], scan: &Scan, body: &[u8]) {
        let unit_start = self.storage.len();
        push_cursor_frame(&mut self.storage, self.partition, offset);
        frame::push_header(&mut self.storage, Opcode::Binary, value.len());
        let value_start = self.storage.len();
        self.storage.extend_from_slice(value);
        let mut entry = self.entry(offset, timestamp_ms, Outcome::Delivered);
        // A chunk holds at most one record beyond `chunk_bytes`, and a record is at most `i32::MAX` bytes.
        entry.unit_start = unit_start as u32;
        entry.value_start = value_start as u32;
        entry.value_end = self.storage.len() as u32;
        self.index(&mut entry, scan, body);
        self.delivered += 1;
        self.push(entry);
    }

    /// A record that clients do not get.
    pub fn withhold(&mut self, offset: Offset, timestamp_ms: Option<i64>, outcome: Outcome) {
        let at = self.storage.len() as u32;
        let mut entry = self.entry(offset, timestamp_ms, outcome);
        (entry.unit_start, entry.value_start, entry.value_end) = (at, at, at);
        self.push(entry);
    }

    /// Nothing below `next` that was not pushed will ever come: holes at the end.
    pub fn cover(&mut self, next: Offset) {
        self.next = self.next.max(next);
    }

    /// The chunk under way, if it covers anything.
    pub fn finish(&mut self, now_ms: u64) -> Option<Arc<Chunk>> {
        if self.next == self.from {
            return None;
        }
        let chunk = self.chunk(self.next, None, now_ms);
        self.entries.clear();
        self.storage.clear();
        // One huge record must not keep its buffer for ever.
        self.storage.shrink_to(self.chunk_bytes * 2);
        self.thread_lists.clear();
        self.ids.clear();
        self.delivered = 0;
        self.opaque = false;
        self.from = self.next;
        Some(chunk)
    }

    /// A chunk that covers up to `next` and says that all of it is lost. Nothing may be under way.
    pub fn lost(&mut self, next: Offset, reason: GapReason, now_ms: u64) -> Option<Arc<Chunk>> {
        assert!(self.entries.is_empty(), "a lost range comes before the records after it");
        if next <= self.from {
            return None;
        }
        // Every client is told of a loss, also those who get the storage form.
        super::forms::push_v1_gap(
            &mut self.storage,
            self.partition,
            self.from,
            super::forms::last_before(next),
            reason,
        );
        self.next = next;
        let chunk = self.chunk(next, Some(reason), now_ms);
        self.storage.clear();
        self.from = next;
        Some(chunk)
    }

    /// Drops the chunk under way: the records in it count as not read.
    pub fn abandon(&mut self) {
        self.next = self.from;
        self.entries.clear();
        self.storage.clear();
        self.thread_lists.clear();
        self.ids.clear();
        self.delivered = 0;
        self.opaque = false;
    }

    fn chunk(&self, next: Offset, lost: Option<GapReason>, now_ms: u64) -> Arc<Chunk> {
        let entries: Box<[Entry]> = self.entries.as_slice().into();
        let base_bytes = (std::mem::size_of::<Chunk>()
            + std::mem::size_of_val(&*entries)
            + self.storage.len()
            + self.thread_lists.len() * 2
            + self.ids.bytes.len()
            + self.ids.spans.len() * 8
            + 16) as u64;
        self.live_bytes.add(base_bytes);
        Arc::new(Chunk {
            partition: self.partition,
            from: self.from,
            next,
            lost,
            made_at_ms: now_ms,
            entries,
            delivered: self.delivered,
            opaque: self.opaque,
            ids: self.ids.spans.as_slice().into(),
            id_bytes: self.ids.bytes.as_slice().into(),
            ids_sorted: OnceLock::new(),
            thread_lists: self.thread_lists.as_slice().into(),
            storage: self.storage.as_slice().into(),
            v1_stream: OnceLock::new(),
            v2: OnceLock::new(),
            json: OnceLock::new(),
            json_requested: AtomicBool::new(false),
            stream: self.stream.clone(),
            live_bytes: self.live_bytes.clone(),
            base_bytes,
        })
    }

    fn entry(&self, offset: Offset, timestamp_ms: Option<i64>, outcome: Outcome) -> Entry {
        Entry {
            offset,
            timestamp_ms: timestamp_ms.unwrap_or(i64::MIN),
            outcome,
            unit_start: 0,
            value_start: 0,
            value_end: 0,
            tenant: NO_ID,
            threads_start: 0,
            threads_len: 0,
            events: 0,
            kinds: 0,
            event_types: 0,
            node_hash: 0,
        }
    }

    fn push(&mut self, entry: Entry) {
        assert!(entry.offset >= self.next, "the worker pushes every offset once, in order");
        self.next = entry.offset.next();
        self.entries.push(entry);
    }

    fn index(&mut self, entry: &mut Entry, scan: &Scan, body: &[u8]) {
        let threads_start = self.thread_lists.len();
        let mut many = false;
        entry.events = u16::try_from(scan.events.len()).unwrap_or(u16::MAX);
        for (place, event) in scan.events.iter().enumerate() {
            entry.kinds |= event.kind.bit();
            entry.event_types |= 1u64 << (event.event_type.rem_euclid(64));
            let node = event.node.of(body);
            if !node.is_empty() {
                entry.node_hash ^= fnv(node) as u32;
            }
            // The tenants of the other events are interned too: whoever follows one of them must look at this chunk.
            let tenant = event.tenant.of(body);
            let id = self.ids.intern(tenant);
            self.opaque |= id.is_none() && !tenant.is_empty();
            if place == 0 {
                entry.tenant = id.unwrap_or(NO_ID);
            }
            let thread = event.thread.of(body);
            if many || thread.is_empty() {
                continue;
            }
            match self.ids.intern(thread) {
                Some(id) if self.thread_lists[threads_start..].contains(&id) => {}
                Some(id) if self.thread_lists.len() - threads_start < THREADS_MAX => self.thread_lists.push(id),
                _ => many = true,
            }
        }
        if many {
            // More threads than are listed are interned all the same, unless one is too long.
            for thread in scan.events.iter().map(|event| event.thread.of(body)).filter(|thread| !thread.is_empty()) {
                self.opaque |= self.ids.intern(thread).is_none();
            }
            self.thread_lists.truncate(threads_start);
            entry.threads_len = MANY_THREADS;
        } else {
            entry.threads_len = (self.thread_lists.len() - threads_start) as u8;
        }
        entry.threads_start = threads_start as u16;
    }
}

/// `{"type":"cursor",...}` as a text frame: what a v1 client gets before every record.
pub(super) fn push_cursor_frame(out: &mut Vec<u8>, partition: PartitionId, offset: Offset) {
    // At most 47 + 10 + 20 bytes of payload, so the header is always two bytes.
    let start = out.len();
    out.extend_from_slice(&[0x81, 0]);
    out.extend_from_slice(br#"{"type":"cursor","partition":"#);
    push_decimal(out, u64::from(partition.0));
    out.extend_from_slice(br#","offset":""#);
    push_decimal(out, offset.0);
    out.extend_from_slice(br#""}"#);
    out[start + 1] = (out.len() - start - 2) as u8;
}

/// Decimal digits without a formatter, which is on the path of every record.
pub(crate) fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Distinct ids of one chunk, found by open addressing.
#[derive(Debug, Default)]
struct Interner {
    bytes: Vec<u8>,
    spans: Vec<(u32, u32)>,
    /// Index into `spans` plus one; 0 is free. Invariant: a power of two, at most three quarters full.
    table: Vec<u16>,
}

impl Interner {
    fn intern(&mut self, id: &[u8]) -> Option<u16> {
        if id.is_empty() || id.len() > ID_BYTES_MAX || self.spans.len() >= usize::from(NO_ID) - 1 {
            return None;
        }
        if (self.spans.len() + 1) * 4 > self.table.len() * 3 {
            self.grow();
        }
        let mask = self.table.len() - 1;
        let mut slot = fnv(id) as usize & mask;
        loop {
            match self.table[slot] {
                0 => break,
                taken => {
                    let (start, end) = self.spans[usize::from(taken) - 1];
                    if &self.bytes[start as usize..end as usize] == id {
                        return Some(taken - 1);
                    }
                }
            }
            slot = (slot + 1) & mask;
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(id);
        self.spans.push((start, self.bytes.len() as u32));
        self.table[slot] = self.spans.len() as u16;
        Some(self.spans.len() as u16 - 1)
    }

    fn grow(&mut self) {
        let size = (self.table.len() * 2).max(64);
        self.table.clear();
        self.table.resize(size, 0);
        for (index, (start, end)) in self.spans.iter().enumerate() {
            let mut slot = fnv(&self.bytes[*start as usize..*end as usize]) as usize & (size - 1);
            while self.table[slot] != 0 {
                slot = (slot + 1) & (size - 1);
            }
            self.table[slot] = index as u16 + 1;
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.table.fill(0);
    }
}
