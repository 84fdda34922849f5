//! The shadow model: what was produced, and nothing else. Shares no code with the program.

use std::collections::BTreeMap;

/// What is at an offset. An offset without an entry is a hole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    /// A good record with its exact value.
    Good(Vec<u8>),
    Poison(Vec<u8>),
    Null,
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Partition {
    pub items: BTreeMap<u64, Item>,
    /// Which run each good record is of.
    pub runs: BTreeMap<u64, u64>,
    /// One more than the last offset, holes at the end included.
    pub end: u64,
    /// Retention took everything below.
    pub low: u64,
    /// Where what the second tier has begins, if there is one; it may be below Kafka's.
    pub redis: Option<u64>,
}

/// xorshift64*: a simulation needs repeatable dice and nothing more.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % bound.max(1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Runs that records are of.
pub(crate) const RUNS: u64 = 3;

/// A framed protobuf event, written by hand: header {message_id, thread_id, sequence}, node id as padding.
pub(crate) fn good_value(partition: u32, offset: u64, run: u64, dice: &mut Dice) -> Vec<u8> {
    let mut id = vec![0u8; 16];
    id[..4].copy_from_slice(&partition.to_be_bytes());
    id[8..].copy_from_slice(&offset.to_be_bytes());
    let mut header = Vec::new();
    bytes_field(&mut header, 1, &id);
    bytes_field(&mut header, 4, format!("run-{run}").as_bytes());
    header.push(5 << 3);
    varint(&mut header, offset + 1);
    let mut event = Vec::new();
    bytes_field(&mut event, 1, &header);
    let size = if dice.chance(3) { 3_000 } else { dice.below(200) };
    bytes_field(&mut event, 3, &vec![b'n'; size as usize]);
    let mut value = vec![0u8];
    bytes_field(&mut value, 1, &event);
    value
}

fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
