//! v1's replay by thread: records of some runs whose sequence is above what the client has, in offset order.

use std::collections::HashMap;

use crate::broadcast::decoder::Decoder;
use crate::log::frame;
use crate::log::{Chunk, Form, Outcome};

/// What the client has: the last sequence applied, per thread.
#[derive(Debug)]
pub struct ThreadReplay {
    applied: HashMap<String, u64>,
}

impl ThreadReplay {
    pub fn new(sequences: Vec<(String, u64)>) -> Self {
        Self { applied: sequences.into_iter().collect() }
    }

    /// The frames of the records in `chunk` that the client lacks, and how many they are.
    pub fn select(&self, chunk: &Chunk, form: Form, decoder: &mut Decoder) -> (Vec<u8>, u64) {
        let mut out = Vec::new();
        let mut count = 0;
        // The storage of a chunk is the v1 form; a chunk without records may still hold the frame of a lost range.
        let Some(storage) = chunk.form(Form::V1) else { return (out, 0) };
        debug_assert!(matches!(form, Form::V1 | Form::V1Stream), "only v1 has thread replay");
        for entry in chunk.entries().iter().filter(|entry| entry.outcome == Outcome::Delivered) {
            let wanted = |id: &u16| chunk.id(*id).is_some_and(|thread| self.applied.contains_key(thread));
            let listed = chunk.threads(entry).is_none_or(|threads| threads.iter().any(wanted));
            if listed && self.lacks(chunk.value(entry), decoder) {
                out.extend_from_slice(&storage[entry.unit_start as usize..entry.value_end as usize]);
                count += 1;
            }
        }
        debug_assert!(out.is_empty() || frame::length(&out) <= out.len());
        (out, count)
    }

    fn lacks(&self, value: &[u8], decoder: &mut Decoder) -> bool {
        decoder.any_event(value, |event, body| {
            self.applied.get(event.thread.str_of(body)).is_some_and(|applied| event.sequence > *applied)
        })
    }
}
