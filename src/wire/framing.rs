//! Payload framing: the byte before a `DashStreamMessage` in a Kafka value, read and written.
//!
//! | first byte | body |
//! |---|---|
//! | `0x00` | the rest is the message |
//! | `0x01` | the rest is a zstd frame of the message |
//! | `28 B5 2F FD` | the whole value is a zstd frame (legacy) |
//! | anything else | the whole value is the message (legacy): it begins with a field key, `0x0A` to `0x4A` |
//!
//! Nothing is decompressed or decoded here: see [`super::inflate`] and [`super::scan`].

use prost::Message;

use super::proto::dash_stream_message::Message as Payload;
use super::proto::{CompressionType, DashStreamMessage, Header};
use super::refusal::Refusal;

const PLAIN: u8 = 0x00;
const ZSTD: u8 = 0x01;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// How the body stands in the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    Plain,
    Zstd,
    LegacyZstd,
    LegacyPlain,
}

impl Framing {
    pub fn is_zstd(self) -> bool {
        matches!(self, Self::Zstd | Self::LegacyZstd)
    }
}

/// The framing of a value and what it frames. Never looks further than four bytes.
pub fn split(value: &[u8]) -> Result<(Framing, &[u8]), Refusal> {
    match value {
        [] => Err(Refusal::Empty),
        [PLAIN, body @ ..] => Ok((Framing::Plain, body)),
        [ZSTD, body @ ..] => Ok((Framing::Zstd, body)),
        _ if value.starts_with(&ZSTD_MAGIC) => Ok((Framing::LegacyZstd, value)),
        _ => Ok((Framing::LegacyPlain, value)),
    }
}

/// Messages longer than this are compressed, if that makes them smaller.
pub const COMPRESS_ABOVE_BYTES: usize = 512;
pub const COMPRESSION_LEVEL: i32 = 3;

/// Writes values. Keeps its compression context and buffer: a new context per message costs more than compressing.
pub struct Framer {
    compress_above: usize,
    compressor: Option<zstd::bulk::Compressor<'static>>,
    body: Vec<u8>,
    failures: u64,
}

impl Default for Framer {
    fn default() -> Self {
        Self::new(COMPRESS_ABOVE_BYTES, COMPRESSION_LEVEL)
    }
}

impl Framer {
    /// `compress_above` of `usize::MAX` never compresses. A level that zstd does not know is clamped by zstd.
    pub fn new(compress_above: usize, level: i32) -> Self {
        // Without memory for a context values are sent plain, which every reader accepts.
        let compressor = zstd::bulk::Compressor::new(level).ok();
        Self { compress_above, compressor, body: Vec::new(), failures: 0 }
    }

    /// Replaces `value` by the framed message. The `compression` of its headers (in a batch also of the inner ones)
    /// is set to what was done; one encoding and one compression, except where compression does not help.
    pub fn frame(&mut self, message: &mut DashStreamMessage, value: &mut Vec<u8>) -> Framing {
        mark(message, CompressionType::CompressionNone);
        let plain_bytes = message.encoded_len();
        self.frame_of(message, plain_bytes, value)
    }

    /// [`Framer::frame`], unless the message has more than `limit` bytes before compression: then nothing is done and
    /// they are told.
    pub fn frame_within(
        &mut self,
        message: &mut DashStreamMessage,
        limit: usize,
        value: &mut Vec<u8>,
    ) -> Result<Framing, usize> {
        mark(message, CompressionType::CompressionNone);
        let plain_bytes = message.encoded_len();
        if plain_bytes > limit { Err(plain_bytes) } else { Ok(self.frame_of(message, plain_bytes, value)) }
    }

    fn frame_of(&mut self, message: &mut DashStreamMessage, plain_bytes: usize, value: &mut Vec<u8>) -> Framing {
        if plain_bytes > self.compress_above {
            mark(message, CompressionType::CompressionZstd);
            let mut body = std::mem::take(&mut self.body);
            body.clear();
            body.reserve(plain_bytes + 16);
            message.encode_raw(&mut body);
            let compressed = self.compress(&body, plain_bytes, value);
            self.body = body;
            if compressed {
                return Framing::Zstd;
            }
            mark(message, CompressionType::CompressionNone);
        }
        value.clear();
        value.reserve(1 + plain_bytes);
        value.push(PLAIN);
        message.encode_raw(value);
        Framing::Plain
    }

    /// Replaces `value` by the framed bytes of an encoded message, whose headers already say what they say.
    pub fn frame_encoded(&mut self, body: &[u8], value: &mut Vec<u8>) -> Framing {
        if body.len() > self.compress_above && self.compress(body, body.len(), value) {
            return Framing::Zstd;
        }
        frame_plain(body, value);
        Framing::Plain
    }

    /// True if `value` now is a compressed frame shorter than `plain_bytes`.
    fn compress(&mut self, body: &[u8], plain_bytes: usize, value: &mut Vec<u8>) -> bool {
        let Some(compressor) = self.compressor.as_mut() else { return false };
        value.clear();
        value.reserve(1 + zstd::zstd_safe::compress_bound(body.len()));
        value.push(ZSTD);
        let mut target = std::io::Cursor::new(value);
        target.set_position(1);
        match compressor.compress_to_buffer(body, &mut target) {
            Ok(written) => written < plain_bytes,
            Err(_) => {
                self.failures += 1;
                false
            }
        }
    }

    /// How often zstd refused since this was last asked; those values went plain.
    pub fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}

/// Replaces `value` by the plain frame of an encoded message.
pub fn frame_plain(body: &[u8], value: &mut Vec<u8>) {
    value.clear();
    value.reserve(1 + body.len());
    value.push(PLAIN);
    value.extend_from_slice(body);
}

/// Writes `compression` into every header that the message has.
fn mark(message: &mut DashStreamMessage, compression: CompressionType) {
    let set = |header: &mut Option<Header>| {
        if let Some(header) = header {
            header.compression = compression as i32;
        }
    };
    let Some(payload) = &mut message.message else { return };
    set(header_mut(payload));
    if let Payload::EventBatch(batch) = payload {
        batch.events.iter_mut().for_each(|event| set(&mut event.header));
    }
}

/// The header of a message, whatever its kind; of a batch its own.
pub fn header_mut(payload: &mut Payload) -> &mut Option<Header> {
    match payload {
        Payload::Event(payload) => &mut payload.header,
        Payload::StateDiff(payload) => &mut payload.header,
        Payload::TokenChunk(payload) => &mut payload.header,
        Payload::ToolExecution(payload) => &mut payload.header,
        Payload::Checkpoint(payload) => &mut payload.header,
        Payload::Metrics(payload) => &mut payload.header,
        Payload::Error(payload) => &mut payload.header,
        Payload::ExecutionTrace(payload) => &mut payload.header,
        Payload::EventBatch(payload) => &mut payload.header,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::{Event, EventBatch};

    #[test]
    fn the_first_bytes_decide() {
        let check = |value: &[u8], expected: Result<(Framing, usize), Refusal>| {
            let found = split(value).map(|(framing, body)| (framing, value.len() - body.len()));
            assert_eq!(found, expected, "{value:02x?}");
        };
        check(&[], Err(Refusal::Empty));
        check(&[0x00], Ok((Framing::Plain, 1)));
        check(&[0x00, 0x28, 0xB5, 0x2F, 0xFD], Ok((Framing::Plain, 1)));
        check(&[0x01], Ok((Framing::Zstd, 1)));
        check(&[0x01, 0x28, 0xB5, 0x2F, 0xFD], Ok((Framing::Zstd, 1)));
        check(&[0x28, 0xB5, 0x2F, 0xFD], Ok((Framing::LegacyZstd, 0)));
        check(&[0x28, 0xB5, 0x2F, 0xFD, 0x00], Ok((Framing::LegacyZstd, 0)));
        check(&[0x28, 0xB5, 0x2F], Ok((Framing::LegacyPlain, 0)));
        check(&[0x28], Ok((Framing::LegacyPlain, 0)));
        check(&[0x0A, 0x00], Ok((Framing::LegacyPlain, 0)));
        check(&[0x42, 0x00], Ok((Framing::LegacyPlain, 0)));
        check(&[0x02], Ok((Framing::LegacyPlain, 0)));
    }

    fn event(node_id: String) -> Event {
        Event { header: Some(Header { sequence: 7, ..Header::default() }), node_id, ..Event::default() }
    }

    fn framed(framer: &mut Framer, payload: Payload) -> (Framing, DashStreamMessage, usize) {
        let mut message = DashStreamMessage { message: Some(payload) };
        let mut value = vec![0xEE; 5];
        let framing = framer.frame(&mut message, &mut value);
        let (found, body) = split(&value).expect("a framed value");
        assert_eq!(found, framing);
        let body = match framing.is_zstd() {
            true => zstd::bulk::decompress(body, 1 << 20).expect("a zstd frame with its content size"),
            false => body.to_vec(),
        };
        let read = DashStreamMessage::decode(body.as_slice()).expect("a message");
        assert_eq!(read, message, "what is read is what the caller now holds");
        (framing, read, value.len())
    }

    #[test]
    fn short_messages_stay_plain_and_long_ones_are_compressed_and_marked() {
        let mut framer = Framer::default();
        let compression = |message: &DashStreamMessage| match &message.message {
            Some(Payload::Event(event)) => event.header.as_ref().map(|header| header.compression()),
            _ => None,
        };

        let (framing, message, _) = framed(&mut framer, Payload::Event(event("n".repeat(100))));
        assert_eq!((framing, compression(&message)), (Framing::Plain, Some(CompressionType::CompressionNone)));

        let (framing, message, bytes) = framed(&mut framer, Payload::Event(event("n".repeat(5_000))));
        assert_eq!((framing, compression(&message)), (Framing::Zstd, Some(CompressionType::CompressionZstd)));
        assert!(bytes < 200, "{bytes}");
    }

    #[test]
    fn what_does_not_become_smaller_stays_plain_and_unmarked() {
        // A multiplicative generator: bytes that zstd cannot shorten.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let noise: Vec<u8> = (0..4_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let mut noisy = event(String::new());
        if let Some(header) = &mut noisy.header {
            header.message_id = noise;
            header.compression = 1;
        }
        let (framing, message, _) = framed(&mut Framer::default(), Payload::Event(noisy));
        assert_eq!(framing, Framing::Plain);
        let Some(Payload::Event(read)) = message.message else { panic!("an event") };
        assert_eq!(read.header.map(|header| header.compression), Some(0));
    }

    #[test]
    fn a_compressed_batch_is_marked_in_every_header() {
        let events = (0..50).map(|index| event(format!("node-{index}"))).collect();
        let batch = EventBatch { header: Some(Header::default()), events };
        let (framing, message, _) = framed(&mut Framer::default(), Payload::EventBatch(batch));
        assert_eq!(framing, Framing::Zstd);
        let Some(Payload::EventBatch(read)) = message.message else { panic!("a batch") };
        let mut headers = read.events.iter().map(|event| &event.header).chain([&read.header]).flatten();
        assert!(headers.all(|header| header.compression == 1));
        assert_eq!(read.events.len(), 50);
    }

    #[test]
    fn an_encoded_message_is_framed_unchanged() {
        let mut value = Vec::new();
        assert_eq!(Framer::default().frame_encoded(b"abc", &mut value), Framing::Plain);
        assert_eq!(value, b"\0abc");
        assert_eq!(Framer::default().frame_encoded(&[b'a'; 600], &mut value), Framing::Zstd);
        assert_eq!(zstd::bulk::decompress(&value[1..], 600).expect("a frame"), [b'a'; 600]);
    }
}
