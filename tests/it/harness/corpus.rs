//! Kafka record values, written from the contract: `DashStreamMessage`s in every framing, and every way to be bad.
//! Everything is a pure function of its arguments, so that a checker can make the expected bytes again.

use super::proto::Writer;
use super::rng::Rng;

/// How a message lies in a Kafka value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    Plain,
    Zstd,
    LegacyPlain,
    LegacyZstd,
}

pub const FRAMINGS: [Framing; 4] = [Framing::Plain, Framing::Zstd, Framing::LegacyPlain, Framing::LegacyZstd];

pub fn frame(framing: Framing, message: &[u8]) -> Vec<u8> {
    match framing {
        Framing::Plain => [&[0x00], message].concat(),
        Framing::Zstd => [&[0x01], zstd(message).as_slice()].concat(),
        Framing::LegacyPlain => message.to_vec(),
        Framing::LegacyZstd => zstd(message),
    }
}

/// One zstd frame with its content size, level 3, as the producers make it.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).expect("zstd compresses")
}

fn header(thread: &str, sequence: u64, message_type: u64) -> Writer {
    let mut id = Rng(sequence ^ 0x5eed).bytes(16);
    id[6] = 0x40 | (id[6] & 0x0f);
    Writer::new()
        .bytes(1, id)
        .varint(2, 1_790_000_000_000_000 + sequence)
        .bytes(3, "default")
        .bytes(4, thread)
        .varint(5, sequence)
        .varint(6, message_type)
        .varint(9, 1)
}

fn string_attribute(text: &str) -> Writer {
    Writer::new().bytes(1, text)
}

fn attribute(key: &str, value: Writer) -> Writer {
    Writer::new().bytes(1, key).message(2, value)
}

/// The inside of an `Event`: NODE_PROGRESS with a message of `length` bytes that zstd cannot shrink to nothing.
fn event_body(thread: &str, sequence: u64, length: usize) -> Writer {
    let mut rng = Rng(sequence.wrapping_mul(7919) ^ thread.len() as u64);
    let text: String = rng.bytes(length).iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    Writer::new()
        .message(1, header(thread, sequence, 1))
        .varint(2, 80)
        .bytes(3, "retrieve")
        .message(4, attribute("message", string_attribute(&text)))
        .message(4, attribute("percent", Writer::new().double(3, 0.5)))
        .varint(5, sequence % 1000)
}

/// A `DashStreamMessage` with one event. About `length` + 130 bytes.
pub fn event(thread: &str, sequence: u64, length: usize) -> Vec<u8> {
    Writer::new().message(1, event_body(thread, sequence, length)).0
}

/// A `DashStreamMessage` with a batch of events.
pub fn event_batch(thread: &str, first_sequence: u64, count: u64, length: usize) -> Vec<u8> {
    let mut batch = Writer::new().message(1, header(thread, 0, 8));
    for sequence in first_sequence..first_sequence + count {
        batch = batch.message(2, event_body(thread, sequence, length));
    }
    Writer::new().message(8, batch).0
}

pub fn token_chunk(thread: &str, sequence: u64, text: &str) -> Vec<u8> {
    let chunk = Writer::new()
        .message(1, header(thread, sequence, 3))
        .bytes(2, "request-1")
        .bytes(3, text)
        .varint(6, sequence)
        .bytes(9, "model");
    Writer::new().message(3, chunk).0
}

pub fn state_diff(thread: &str, sequence: u64, length: usize) -> Vec<u8> {
    let operation = Writer::new().bytes(2, "/messages/0").bytes(3, Rng(sequence).bytes(length));
    let diff = Writer::new().message(1, header(thread, sequence, 2)).message(3, operation).bytes(4, [7u8; 32]);
    Writer::new().message(2, diff).0
}

/// An event without a header: the smallest things that a topic can hold. `length` bytes or a few more.
pub fn tiny(length: usize) -> Vec<u8> {
    Writer::new().message(1, Writer::new().bytes(3, vec![b'n'; length.saturating_sub(4)])).0
}

/// An event whose one attribute is `depth` arrays inside each other.
pub fn nested(depth: usize) -> Vec<u8> {
    // Built from the inside: prepending is quadratic, so lengths are computed first.
    let mut lengths = vec![Writer::new().varint(2, 1).0.len()];
    for _ in 0..depth {
        let value = lengths[lengths.len() - 1];
        let array = 1 + varint_length(value) + value;
        lengths.push(1 + varint_length(array) + array);
    }
    let mut bytes = Writer::new();
    for value in lengths.iter().rev().skip(1) {
        let array = 1 + varint_length(*value) + value;
        // AttributeValue.array_value = 6, AttributeArray.values = 1.
        bytes.0.push(6 << 3 | 2);
        push_varint(&mut bytes.0, array);
        bytes.0.push(1 << 3 | 2);
        push_varint(&mut bytes.0, *value);
    }
    let bytes = bytes.varint(2, 1);
    let event = Writer::new().message(1, header("nest", 1, 1)).varint(2, 80).message(4, attribute("deep", bytes));
    Writer::new().message(1, event).0
}

fn varint_length(value: usize) -> usize {
    let bits = (usize::BITS - value.leading_zeros()).max(1) as usize;
    bits.div_ceil(7)
}

fn push_varint(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value as u8) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A good value of exactly `length` bytes, plain framing.
pub fn exactly(length: usize) -> Vec<u8> {
    let mut text = length - 150;
    loop {
        let value = frame(Framing::Plain, &event("exact", 1, text));
        if value.len() >= length {
            assert_eq!(value.len(), length, "the length of a message grows by one with its text");
            return value;
        }
        text += 1;
    }
}

/// A small value that decompresses to `decompressed` bytes.
pub fn bomb(decompressed: usize) -> Vec<u8> {
    frame(Framing::Zstd, &vec![0u8; decompressed])
}

/// The record `index` of `partition` in the ordinary corpus: some hundred bytes, framings in turn, all kinds.
pub fn ordinary(partition: u32, index: u64) -> Vec<u8> {
    let mut rng = Rng(u64::from(partition) << 40 ^ index);
    let thread = format!("run-{partition}-{}", index / 50);
    let length = rng.between(20, 600) as usize;
    let message = match rng.between(0, 10) {
        0 => token_chunk(&thread, index + 1, "a piece of text"),
        1 => state_diff(&thread, index + 1, length),
        2 => event_batch(&thread, index + 1, 3, length / 3 + 1),
        _ => event(&thread, index + 1, length),
    };
    frame(FRAMINGS[rng.between(0, 4) as usize], &message)
}

/// The record `index` of `partition` in the corpus of mixed sizes: 20 B to 200 KiB, and now and then some MiB.
pub fn mixed(partition: u32, index: u64) -> Vec<u8> {
    let mut rng = Rng(0xa11 ^ u64::from(partition) << 40 ^ index);
    let framing = FRAMINGS[rng.between(0, 4) as usize];
    let thread = format!("run-{partition}-{}", index / 50);
    let length = match rng.between(0, 1000) {
        _ if index % 2500 == 1250 => rng.between(2 << 20, 4 << 20),
        0..=49 => return frame(framing, &tiny(rng.between(18, 60) as usize)),
        50..=849 => rng.between(20, 1_000),
        850..=989 => rng.between(1_000, 12_000),
        _ => rng.between(12_000, 200 << 10),
    };
    let message = match rng.between(0, 8) {
        0 => token_chunk(&thread, index + 1, "a piece of text"),
        1 => state_diff(&thread, index + 1, length as usize),
        2 => event_batch(&thread, index + 1, 4, length as usize / 4 + 1),
        _ => event(&thread, index + 1, length as usize),
    };
    frame(framing, &message)
}

#[test]
fn the_corpus_is_what_it_says() {
    assert_eq!(ordinary(1, 7), ordinary(1, 7));
    assert_eq!(exactly(1000).len(), 1000);
    assert!(bomb(1 << 20).len() < 1 << 10);
    // The hand-made nesting is what the writer makes from the inside.
    let mut value = Writer::new().varint(2, 1);
    for _ in 0..200 {
        value = Writer::new().message(6, Writer::new().message(1, value));
    }
    let event = Writer::new().message(1, header("nest", 1, 1)).varint(2, 80).message(4, attribute("deep", value));
    assert_eq!(nested(200), Writer::new().message(1, event).0);
}
