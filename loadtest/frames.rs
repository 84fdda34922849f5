//! Server-to-client WebSocket frames, taken apart as they come off a socket, and records counted in them.
//!
//! Deliberately absent: everything that a correct server does not send (fragments, masks, reserved bits).

/// State between two reads of one connection.
#[derive(Default)]
pub struct Frames {
    header: Vec<u8>,
    /// Bytes of the payload still to come.
    left: u64,
    body: Vec<u8>,
}

pub const BINARY: u8 = 2;
pub const PING: u8 = 9;

impl Frames {
    /// Calls `on_frame(opcode, payload)` for each frame that is complete now.
    pub fn feed(&mut self, mut input: &[u8], mut on_frame: impl FnMut(u8, &[u8])) {
        while !input.is_empty() {
            if self.left == 0 {
                let Some(length) = self.take_header(&mut input) else { return };
                self.left = length;
                self.body.clear();
                if length == 0 {
                    self.complete(&[], &mut on_frame);
                    continue;
                }
            }
            let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
            let (part, rest) = input.split_at(take);
            input = rest;
            self.left -= take as u64;
            if self.left == 0 && self.body.is_empty() {
                self.complete(part, &mut on_frame);
            } else {
                self.body.extend_from_slice(part);
                if self.left == 0 {
                    let body = std::mem::take(&mut self.body);
                    self.complete(&body, &mut on_frame);
                    self.body = body;
                }
            }
        }
    }

    fn complete(&mut self, payload: &[u8], on_frame: &mut impl FnMut(u8, &[u8])) {
        on_frame(self.header[0] & 15, payload);
        self.header.clear();
    }

    /// The payload's length once the header is whole.
    fn take_header(&mut self, input: &mut &[u8]) -> Option<u64> {
        loop {
            let needed = match self.header.get(1) {
                None => 2,
                Some(126) => 4,
                Some(127) => 10,
                Some(_) => 2,
            };
            if self.header.len() == needed {
                return Some(match needed {
                    2 => u64::from(self.header[1]),
                    _ => self.header[2..].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
                });
            }
            let (first, rest) = input.split_first()?;
            self.header.push(*first);
            *input = rest;
        }
    }
}

/// Records in a `ServerFrame` of `dashstream.v2`: the `records` of its `batch`.
pub fn records_in_v2(frame: &[u8]) -> u64 {
    fields(frame)
        .filter(|(field, _)| *field == 2)
        .map(|(_, batch)| fields(batch).filter(|(field, _)| *field == 4).count() as u64)
        .sum()
}

/// The frame is a `batch`, the one kind that comes often; the others are worth decoding.
pub fn is_batch(frame: &[u8]) -> bool {
    frame.first() == Some(&(2 << 3 | 2))
}

/// Length-delimited fields of a protobuf message; the others are passed over.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let tag = varint(&mut message)?;
            match tag & 7 {
                0 => drop(varint(&mut message)?),
                1 => message = message.get(8..)?,
                2 => {
                    let length = usize::try_from(varint(&mut message)?).ok()?;
                    let (field, rest) = message.split_at_checked(length)?;
                    message = rest;
                    return Some((tag >> 3, field));
                }
                _ => message = message.get(4..)?,
            }
        }
    })
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(value);
        }
    }
    None
}

/// A buffer of about `bytes` bytes of binary frames of about `frame` bytes each, for the floor to send.
pub fn filled(bytes: usize, frame: usize) -> Vec<u8> {
    let count = (bytes / frame.max(8)).max(1);
    let mut buffer = Vec::with_capacity(bytes + 16);
    for number in 0..count {
        let length = bytes / count + usize::from(number < bytes % count);
        let payload = length.saturating_sub(if length <= 127 { 2 } else { 4 }).min(65_535);
        buffer.push(0x80 | BINARY);
        match u8::try_from(payload) {
            Ok(short) if short < 126 => buffer.push(short),
            _ => {
                buffer.push(126);
                buffer.extend_from_slice(&(payload as u16).to_be_bytes());
            }
        }
        buffer.resize(buffer.len() + payload, 0);
    }
    buffer
}
