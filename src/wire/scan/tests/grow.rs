//! Bodies grown from the field table: mostly right, with every liberty of the wire format and some offences.

use proptest::prelude::*;

use crate::wire::schema::{DASH_STREAM_MESSAGE, Field, Shape};

/// SplitMix64: a seed is a body.
pub(super) struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Once in `bound` times.
    fn once_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length-delimited field.
pub(super) fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(u64::from(number << 3 | 2), &mut out);
    put_varint(content.len() as u64, &mut out);
    out.extend_from_slice(content);
    out
}

pub(super) fn body(seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut out = Vec::new();
    put_message(&mut dice, &DASH_STREAM_MESSAGE, 6, &mut out);
    out
}

fn put_message(dice: &mut Dice, shape: &'static Shape, depth: u32, out: &mut Vec<u8>) {
    for _ in 0..dice.below(5) {
        let number = 1 + dice.below(shape.fields.len());
        // Headers more often than chance has it: they are what is extracted.
        let number = if dice.once_in(3) { 1 } else { number };
        let wire_type = if dice.once_in(150) { dice.below(8) as u8 } else { u8::MAX };
        match shape.fields.get(number - 1) {
            Some(field) if wire_type == u8::MAX => put_field(dice, number as u32, field, depth, out),
            _ => put_anything(dice, number as u64, wire_type, depth, out),
        }
        if dice.once_in(20) {
            const NUMBERS: [u64; 7] = [15, 16, 100, 1 << 20, (1 << 29) - 1, 1 << 29, 0];
            let allowed = if dice.once_in(8) { 7 } else { 5 };
            let number = NUMBERS[dice.below(allowed)];
            let wire_type = if dice.once_in(10) { dice.below(8) } else { [0, 1, 2, 3, 5][dice.below(5)] };
            put_anything(dice, number, wire_type as u8, depth, out);
        }
    }
}

fn put_key(dice: &mut Dice, number: u64, wire_type: u8, out: &mut Vec<u8>) {
    let key = number << 3 | u64::from(wire_type);
    put_varint(key, out);
    if dice.once_in(60) {
        lengthen(dice, out);
    }
}

/// Makes the varint that ends here longer than needed, sometimes too long.
fn lengthen(dice: &mut Dice, out: &mut Vec<u8>) {
    if let Some(last) = out.last_mut() {
        *last |= 0x80;
    }
    out.extend(std::iter::repeat_n(0x80, dice.below(9)));
    out.push(if dice.once_in(6) { dice.below(4) as u8 } else { 0 });
}

fn put_value(dice: &mut Dice, out: &mut Vec<u8>) {
    let any = dice.next();
    let value = [any & 0x7F, any & 0x3FFF, any >> 32, any, u64::MAX, i64::MAX as u64, u64::from(u32::MAX) + 1, 0];
    put_varint(value[dice.below(8)], out);
    if dice.once_in(40) {
        lengthen(dice, out);
    }
}

fn put_delimited(dice: &mut Dice, number: u32, content: &[u8], out: &mut Vec<u8>) {
    put_key(dice, u64::from(number), 2, out);
    let len = if dice.once_in(300) { content.len() + dice.below(3) } else { content.len() };
    put_varint(len as u64, out);
    if dice.once_in(100) {
        lengthen(dice, out);
    }
    out.extend_from_slice(content);
}

fn put_field(dice: &mut Dice, number: u32, field: &'static Field, depth: u32, out: &mut Vec<u8>) {
    let mut content = Vec::new();
    match field {
        Field::Varint => {
            put_key(dice, u64::from(number), 0, out);
            put_value(dice, out);
        }
        Field::Fixed64 => {
            put_key(dice, u64::from(number), 1, out);
            out.extend_from_slice(&dice.next().to_le_bytes());
        }
        Field::Fixed32 => {
            put_key(dice, u64::from(number), 5, out);
            out.extend_from_slice(&(dice.next() as u32).to_le_bytes());
        }
        Field::String => {
            const STRINGS: [&[u8]; 8] = [
                b"",
                b"a",
                b"node-7",
                "größe".as_bytes(),
                "\u{0}\u{10FFFF}".as_bytes(),
                b"tenant",
                b"0123456789abcdef",
                b"\x7F",
            ];
            const BROKEN: [&[u8]; 5] = [b"\xFF", b"\xC0\x80", b"\xED\xA0\x80", b"abc\xE2\x82", b"\xF4\x90\x80\x80"];
            let text = if dice.once_in(60) { BROKEN[dice.below(5)] } else { STRINGS[dice.below(8)] };
            put_delimited(dice, number, text, out);
        }
        Field::Bytes => {
            content.extend((0..dice.below(20)).map(|_| dice.next() as u8));
            put_delimited(dice, number, &content, out);
        }
        Field::Message(shape) | Field::Map(shape) => {
            if depth > 0 {
                put_message(dice, shape, depth - 1, &mut content);
            }
            if matches!(field, Field::Map(_)) && dice.once_in(12) {
                // prost does not look at the wire type of a map field.
                let wire_type = dice.below(8) as u8;
                put_key(dice, u64::from(number), wire_type, out);
                put_varint(content.len() as u64, out);
                out.extend_from_slice(&content);
            } else {
                put_delimited(dice, number, &content, out);
            }
        }
        Field::Varints | Field::Fixed32s => {
            let wire_type = if matches!(field, Field::Varints) { 0 } else { 5 };
            let packed = dice.once_in(2);
            for _ in 0..dice.below(4) {
                if !packed {
                    put_key(dice, u64::from(number), wire_type, &mut content);
                }
                if wire_type == 0 {
                    put_value(dice, &mut content);
                } else {
                    content.extend_from_slice(&(dice.next() as u32).to_le_bytes());
                }
            }
            if packed {
                if dice.once_in(20) {
                    content.push(dice.next() as u8);
                }
                put_delimited(dice, number, &content, out);
            } else {
                out.extend_from_slice(&content);
            }
        }
    }
}

/// A field with the given wire type, whatever the schema says.
fn put_anything(dice: &mut Dice, number: u64, wire_type: u8, depth: u32, out: &mut Vec<u8>) {
    put_key(dice, number, wire_type & 7, out);
    match wire_type & 7 {
        0 => put_value(dice, out),
        1 => out.extend_from_slice(&dice.next().to_le_bytes()),
        2 => {
            let content: Vec<u8> = (0..dice.below(9)).map(|_| dice.next() as u8).collect();
            put_varint(content.len() as u64, out);
            out.extend_from_slice(&content);
        }
        3 => {
            for _ in 0..dice.below(4) {
                let (number, wire_type) = (1 + dice.below(20) as u64, [0, 1, 2, 3, 5][dice.below(5)]);
                if depth > 0 {
                    put_anything(dice, number, wire_type, depth - 1, out);
                }
            }
            let end = if dice.once_in(12) { number + 1 } else { number };
            put_key(dice, end, 4, out);
        }
        5 => out.extend_from_slice(&(dice.next() as u32).to_le_bytes()),
        _ => {}
    }
}

/// One change: a bit, a cut, a piece removed, doubled or moved, a byte put in.
pub(super) fn mutate(body: &mut Vec<u8>, seed: u64) {
    let mut dice = Dice(seed);
    let at = dice.below(body.len() + 1);
    let end = (at + dice.below(12)).min(body.len());
    match dice.below(7) {
        0 | 1 => {
            if let Some(byte) = body.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
        2 => body.truncate(at),
        3 => {
            body.drain(at..end);
        }
        4 => {
            let piece = body[at..end].to_vec();
            body.splice(at..at, piece);
        }
        5 => {
            let piece = body[at..end].to_vec();
            let target = dice.below(body.len() + 1);
            body.splice(target..target, piece);
        }
        _ => body.insert(at, dice.next() as u8),
    }
}

/// A few bytes that mean something on the wire.
pub(super) fn fragment() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        // Keys of the first fields with every wire type, and lengths.
        (1_u8..16, 0_u8..8, any::<Option<u8>>()).prop_map(|(number, wire_type, len)| {
            [Some(number << 3 | wire_type), len.map(|len| len % 24)].into_iter().flatten().collect()
        }),
        any::<u64>().prop_map(|value| {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            out
        }),
        prop::collection::vec(any::<u8>(), 1..9),
        any::<u64>().prop_map(|seed| {
            let mut out = Vec::new();
            put_message(&mut Dice(seed), &DASH_STREAM_MESSAGE, 3, &mut out);
            out
        }),
    ]
}
