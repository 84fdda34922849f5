//! The forms of a chunk: what clients of each protocol get for it, as WebSocket frames ready to be written.
//!
//! V1 is the storage itself. The others are made at most once per chunk; V1Stream and V2 by whoever needs them first,
//! JSON only by encoder threads, since it has to decode every value. Any form can also be made for the part of a
//! chunk from some offset on, for a client that has the part before.

use super::builder::push_decimal;
use super::chunk::{Chunk, Entry, Outcome};
use super::frame::{self, Opcode};
use crate::words::{GapReason, Offset, PartitionId};

/// What a client gets chunks as.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Form {
    /// The predecessor's protocol: cursor text, then the value; nothing about records that are withheld.
    V1,
    /// The same for a client that sent `stream`: `gap` frames for withheld records.
    V1Stream,
    /// `dashstream.v2`: protobuf.
    V2,
    /// `dashstream.json`: events decoded.
    Json,
}

/// The JSON form, with where each delivered entry's object lies in it, so that a part can be made without decoding.
#[derive(Debug)]
pub struct JsonForm {
    pub bytes: Box<[u8]>,
    /// Start and end of the object of each entry; equal for entries that are withheld.
    pub objects: Box<[(u32, u32)]>,
}

impl JsonForm {
    pub fn heap_bytes(&self) -> u64 {
        (self.bytes.len() + self.objects.len() * 8) as u64
    }
}

/// A stretch of a chunk that is told in one go: one frame (v1: the cursor and the value count as one).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    /// Entries `first..last` (delivered), covering up to `next`.
    Records { first: usize, last: usize, from: Offset, next: Offset },
    /// One record that is withheld.
    Withheld { entry: usize },
    /// The whole chunk is lost.
    Lost { from: Offset, next: Offset, reason: GapReason },
}

/// Which entries of a chunk a filter lets through: one flag per entry. `None`: all of them.
pub type Kept<'a> = Option<&'a [bool]>;

fn keeps(kept: Kept<'_>, index: usize) -> bool {
    kept.is_none_or(|kept| kept[index])
}

impl Chunk {
    /// The frames of this chunk from offset `from` on. JSON only once it was rendered, see [`Chunk::encode_json`].
    pub fn encode(&self, form: Form, from: Offset) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.storage.len() + 64);
        self.encode_kept(form, from, None, &mut out);
        out
    }

    /// Appends the frames of the entries at or after `from` that a filter keeps. A stretch without one is no frame.
    pub fn encode_kept(&self, form: Form, from: Offset, kept: Kept<'_>, out: &mut Vec<u8>) {
        match form {
            Form::V1 | Form::V1Stream => self.encode_v1(form, from, kept, out),
            Form::V2 => {
                for unit in self.batched(from, kept) {
                    match unit {
                        Unit::Records { first, last, from, next } => {
                            self.push_v2_batch(out, first..last, kept, from, next)
                        }
                        other => self.push_v2_notice(out, other),
                    }
                }
            }
            Form::Json => {
                if let Some(json) = self.json.get() {
                    self.push_json(from, kept, out, &mut [], |index, out| {
                        let (start, end) = json.objects[index];
                        out.extend_from_slice(&json.bytes[start as usize..end as usize]);
                    });
                }
            }
        }
    }

    /// The JSON frames from offset `from` on; `object` appends the object of one delivered entry.
    pub fn encode_json(&self, from: Offset, object: impl FnMut(usize, &mut Vec<u8>)) -> (Vec<u8>, Box<[(u32, u32)]>) {
        let mut out = Vec::with_capacity(self.storage.len() * 2 + 64);
        let mut objects = vec![(0u32, 0u32); self.entries.len()];
        self.push_json(from, None, &mut out, &mut objects, object);
        (out, objects.into_boxed_slice())
    }

    /// Appends JSON frames, and notes where the objects lie in `out` if there is room to.
    fn push_json(
        &self,
        from: Offset,
        kept: Kept<'_>,
        out: &mut Vec<u8>,
        objects: &mut [(u32, u32)],
        mut object: impl FnMut(usize, &mut Vec<u8>),
    ) {
        for unit in self.batched(from, kept) {
            match unit {
                Unit::Records { first, last, from, next } => {
                    let frame_start = out.len();
                    frame::push_frame_with(out, Opcode::Text, |out| {
                        let partition = self.partition;
                        out.extend_from_slice(
                            format!(r#"{{"type":"batch","partition":{partition},"from":"{from}","next":"{next}","records":["#)
                                .as_bytes(),
                        );
                        let head = out.len();
                        for index in (first..last).filter(|index| keeps(kept, *index)) {
                            if out.len() > head {
                                out.push(b',');
                            }
                            let start = out.len();
                            object(index, out);
                            if let Some(place) = objects.get_mut(index) {
                                *place = (start as u32, out.len() as u32);
                            }
                        }
                        out.extend_from_slice(b"]}");
                    });
                    // The header was made shorter after the objects were placed.
                    let spare = frame::HEADER_MAX - header_bytes(&out[frame_start..]);
                    for place in objects.get_mut(first..last).into_iter().flatten() {
                        *place = (place.0 - spare as u32, place.1 - spare as u32);
                    }
                }
                Unit::Withheld { entry } => {
                    let entry = &self.entries[entry];
                    frame::push_frame_with(out, Opcode::Text, |out| match entry.outcome {
                        Outcome::DeadLettered(reason) => {
                            let id = self.stream.dead_letter_id(self.partition, entry.offset);
                            out.extend_from_slice(
                                format!(
                                    r#"{{"type":"dead_lettered","partition":{},"offset":"{}","reason":"{}","id":"{id}"}}"#,
                                    self.partition,
                                    entry.offset,
                                    reason.label()
                                )
                                .as_bytes(),
                            );
                        }
                        _ => push_json_gap(
                            out,
                            self.partition,
                            entry.offset,
                            entry.offset,
                            withheld_reason(entry).label(),
                        ),
                    });
                }
                Unit::Lost { from, next, reason } => frame::push_frame_with(out, Opcode::Text, |out| {
                    push_json_gap(out, self.partition, from, last_before(next), reason.label());
                }),
            }
        }
    }

    /// For somebody who got `sent` bytes of this form (0 < sent): where the unit that `sent` lies in ends, and the
    /// first offset after it. The unit has to be finished before anything else may be said.
    pub fn boundary(&self, form: Form, bytes: &[u8], sent: usize) -> (usize, Offset) {
        let mut at = 0;
        let mut next = self.from;
        for unit in self.units(form) {
            if at >= sent {
                break;
            }
            let frames = match unit {
                Unit::Records { .. } if matches!(form, Form::V1 | Form::V1Stream) => 2,
                Unit::Withheld { .. } if form == Form::V1 => 0,
                _ => 1,
            };
            for _ in 0..frames {
                at += frame::length(&bytes[at..]);
            }
            next = match unit {
                Unit::Records { next, .. } | Unit::Lost { next, .. } => next,
                Unit::Withheld { entry } => self.entries[entry].offset.next(),
            };
        }
        if at >= bytes.len() { (bytes.len(), self.next) } else { (at, next) }
    }

    fn encode_v1(&self, form: Form, from: Offset, kept: Kept<'_>, out: &mut Vec<u8>) {
        for unit in self.single(from, kept) {
            match unit {
                Unit::Records { first, .. } => {
                    let entry = &self.entries[first];
                    out.extend_from_slice(&self.storage[entry.unit_start as usize..entry.value_end as usize]);
                }
                Unit::Withheld { entry } if form == Form::V1Stream => {
                    let entry = &self.entries[entry];
                    push_v1_gap(out, self.partition, entry.offset, entry.offset, withheld_reason(entry));
                }
                Unit::Withheld { .. } => {}
                Unit::Lost { from, next, reason } => push_v1_gap(out, self.partition, from, last_before(next), reason),
            }
        }
    }

    fn units(&self, form: Form) -> Vec<Unit> {
        match form {
            Form::V1 | Form::V1Stream => self.single(self.from, None),
            Form::V2 | Form::Json => self.batched(self.from, None),
        }
    }

    /// One unit per record.
    fn single(&self, from: Offset, kept: Kept<'_>) -> Vec<Unit> {
        if let Some(reason) = self.lost {
            return vec![Unit::Lost { from: from.max(self.from), next: self.next, reason }];
        }
        let indexes = (self.entry_at(from)..self.entries.len()).filter(|index| keeps(kept, *index));
        let units = indexes.map(|index| match self.entries[index].outcome {
            Outcome::Delivered => {
                let next = self.entries.get(index + 1).map_or(self.next, |entry| entry.offset);
                Unit::Records { first: index, last: index + 1, from: self.entries[index].offset, next }
            }
            _ => Unit::Withheld { entry: index },
        });
        units.collect()
    }

    /// As few units as can be: records between two that are withheld go together.
    fn batched(&self, from: Offset, kept: Kept<'_>) -> Vec<Unit> {
        if let Some(reason) = self.lost {
            return vec![Unit::Lost { from: from.max(self.from), next: self.next, reason }];
        }
        // Whoever filters is not told of a stretch in which nothing is for him.
        let any = |first: usize, last: usize| kept.is_none() || (first..last).any(|index| keeps(kept, index));
        let mut units = Vec::new();
        let mut from = from.max(self.from);
        let mut first = self.entry_at(from);
        for (index, entry) in self.entries.iter().enumerate().skip(first) {
            let offset = entry.offset;
            if entry.outcome == Outcome::Delivered || !keeps(kept, index) {
                continue;
            }
            if offset > from && any(first, index) {
                units.push(Unit::Records { first, last: index, from, next: offset });
            }
            units.push(Unit::Withheld { entry: index });
            from = offset.next();
            first = index + 1;
        }
        if self.next > from && any(first, self.entries.len()) {
            units.push(Unit::Records { first, last: self.entries.len(), from, next: self.next });
        }
        units
    }

    fn push_v2_batch(
        &self,
        out: &mut Vec<u8>,
        entries: std::ops::Range<usize>,
        kept: Kept<'_>,
        from: Offset,
        next: Offset,
    ) {
        let entries = || {
            let indexes = entries.clone().filter(|index| keeps(kept, *index));
            indexes.map(|index| &self.entries[index]).filter(|entry| entry.outcome == Outcome::Delivered)
        };
        let record_bytes = |entry: &Entry| {
            let value_bytes = (entry.value_end - entry.value_start) as usize;
            let timestamp = if entry.timestamp_ms == i64::MIN { 0 } else { 1 + varint_len(entry.timestamp_ms as u64) };
            let value = if value_bytes == 0 { 0 } else { 1 + varint_len(value_bytes as u64) + value_bytes };
            field_len(entry.offset.0) + timestamp + value
        };
        let records: usize = entries()
            .map(|entry| {
                let bytes = record_bytes(entry);
                1 + varint_len(bytes as u64) + bytes
            })
            .sum();
        let batch = field_len(u64::from(self.partition.0)) + field_len(from.0) + field_len(next.0) + records;
        frame::push_header(out, Opcode::Binary, 1 + varint_len(batch as u64) + batch);
        push_tag(out, 2, 2);
        push_varint(out, batch as u64);
        push_field(out, 1, u64::from(self.partition.0));
        push_field(out, 2, from.0);
        push_field(out, 3, next.0);
        for entry in entries() {
            push_tag(out, 4, 2);
            push_varint(out, record_bytes(entry) as u64);
            push_field(out, 1, entry.offset.0);
            if entry.timestamp_ms != i64::MIN {
                // An optional field is written also when it is 0.
                push_tag(out, 2, 0);
                push_varint(out, entry.timestamp_ms as u64);
            }
            let value = self.value(entry);
            if !value.is_empty() {
                push_tag(out, 3, 2);
                push_varint(out, value.len() as u64);
                out.extend_from_slice(value);
            }
        }
    }

    fn push_v2_notice(&self, out: &mut Vec<u8>, unit: Unit) {
        use crate::wire::gateway::{DeadLettered, Gap, ServerFrame, server_frame::Frame};
        let gap = |first: Offset, last: Offset, reason: &str| {
            Frame::Gap(Gap { partition: self.partition.0, first: first.0, last: last.0, reason: reason.to_owned() })
        };
        let notice = match unit {
            Unit::Records { .. } => return,
            Unit::Lost { from, next, reason } => gap(from, last_before(next), reason.label()),
            Unit::Withheld { entry } => {
                let entry = &self.entries[entry];
                match entry.outcome {
                    Outcome::DeadLettered(reason) => Frame::DeadLettered(DeadLettered {
                        partition: self.partition.0,
                        offset: entry.offset.0,
                        reason: reason.label().to_owned(),
                        id: self.stream.dead_letter_id(self.partition, entry.offset).to_string(),
                    }),
                    _ => gap(entry.offset, entry.offset, withheld_reason(entry).label()),
                }
            }
        };
        let bytes = prost::Message::encode_to_vec(&ServerFrame { frame: Some(notice) });
        frame::push_frame(out, Opcode::Binary, &bytes);
    }
}

/// A v1 `gap` frame. The first four keys are the predecessor's.
pub fn push_v1_gap(out: &mut Vec<u8>, partition: PartitionId, first: Offset, last: Offset, reason: GapReason) {
    let count = last.0.saturating_sub(first.0).saturating_add(1);
    let severity = match count {
        0..10 => "info",
        10..100 => "warning",
        _ => "critical",
    };
    let reason = reason.label();
    let text = format!(
        r#"{{"type":"gap","count":{count},"severity":"{severity}","message":"partition {partition}: offsets {first} to {last} are not delivered ({reason})","partition":{partition},"first":"{first}","last":"{last}","reason":"{reason}"}}"#
    );
    frame::push_frame(out, Opcode::Text, text.as_bytes());
}

/// The payload of a JSON `gap` frame.
pub fn push_json_gap(out: &mut Vec<u8>, partition: PartitionId, first: Offset, last: Offset, reason: &str) {
    out.extend_from_slice(br#"{"type":"gap","partition":"#);
    push_decimal(out, u64::from(partition.0));
    out.extend_from_slice(br#","first":""#);
    push_decimal(out, first.0);
    out.extend_from_slice(br#"","last":""#);
    push_decimal(out, last.0);
    out.extend_from_slice(br#"","reason":""#);
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(br#""}"#);
}

/// The last offset of an interval that ends before `next`.
pub fn last_before(next: Offset) -> Offset {
    Offset(next.0.saturating_sub(1))
}

fn withheld_reason(entry: &Entry) -> GapReason {
    match entry.outcome {
        Outcome::DeadLettered(reason) => GapReason::DeadLettered(reason),
        Outcome::Skipped(reason) => GapReason::Skipped(reason),
        Outcome::Delivered => unreachable!("a delivered record is not withheld"),
    }
}

fn header_bytes(frame: &[u8]) -> usize {
    match frame[1] & 0x7F {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

fn varint_len(value: u64) -> usize {
    prost::encoding::encoded_len_varint(value)
}

fn push_varint(out: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, out);
}

fn push_tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    push_varint(out, u64::from(field << 3 | wire_type));
}

/// Length of a number field with a one-byte tag; proto3 leaves 0 out.
fn field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

fn push_field(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        push_tag(out, field, 0);
        push_varint(out, value);
    }
}
