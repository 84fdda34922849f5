//! Reads the frames that clients send (RFC 6455 §5), in whatever pieces they come.
//!
//! Everything is bounded before it is kept: a frame by its header, a message while its fragments are joined. Between
//! two whole frames nothing is held, so an idle client costs no buffer. Deliberately absent: what a message means.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::words::CloseReason;

/// Something whole that a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A message, fragments joined; text is UTF-8.
    Message {
        text: bool,
        bytes: &'a [u8],
    },
    Ping(&'a [u8]),
    Pong,
    /// With its code, if it gave one.
    Close(Option<u16>),
}

/// Longest header of a client frame: 2 + 8 + 4 bytes of mask.
const HEADER_MAX: usize = 14;

/// One per connection.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// A frame under way, as it came.
    partial: Vec<u8>,
    /// The fragments of a message under way, unmasked and joined.
    message: Vec<u8>,
    /// Whether that message is text; `None` when no message is under way.
    text: Option<bool>,
}

impl FrameReader {
    /// Bytes held between two calls.
    pub fn held_bytes(&self) -> usize {
        self.partial.capacity() + self.message.capacity()
    }

    /// Takes `input`, of which it may unmask parts in place, and calls `each` with everything that is now whole, until
    /// it says false. A message has at most `message_max` bytes. The error is why the connection has to end.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        message_max: usize,
        mut each: impl FnMut(Incoming<'_>) -> bool,
    ) -> Result<(), CloseReason> {
        if self.partial.is_empty() {
            let taken = self.frames(input, message_max, &mut each)?;
            self.partial.extend_from_slice(&input[taken..]);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(input);
            let taken = self.frames(&mut joined, message_max, &mut each)?;
            joined.drain(..taken);
            joined.shrink_to_fit();
            self.partial = joined;
        }
        Ok(())
    }

    /// Takes whole frames from the front of `input` and says how many bytes they were.
    fn frames(
        &mut self,
        input: &mut [u8],
        message_max: usize,
        each: &mut impl FnMut(Incoming<'_>) -> bool,
    ) -> Result<usize, CloseReason> {
        let mut taken = 0;
        loop {
            let rest = &mut input[taken..];
            let Some((header, header_bytes, payload_bytes)) = parse_header(rest, message_max)? else { break };
            let Some(payload) = rest.get_mut(header_bytes..header_bytes + payload_bytes) else { break };
            taken += header_bytes + payload_bytes;
            if let Some(mask) = header.mask {
                unmask(payload, mask);
            }
            if !self.frame(&header, payload, message_max, each)? {
                // What follows a close is not read.
                return Ok(input.len());
            }
        }
        Ok(taken)
    }

    /// One whole frame. False: read no further.
    fn frame(
        &mut self,
        header: &FrameHeader,
        payload: &[u8],
        message_max: usize,
        each: &mut impl FnMut(Incoming<'_>) -> bool,
    ) -> Result<bool, CloseReason> {
        match header.opcode {
            OpCode::Control(Control::Ping) => Ok(each(Incoming::Ping(payload))),
            OpCode::Control(Control::Pong) => Ok(each(Incoming::Pong)),
            OpCode::Control(Control::Close) => {
                each(Incoming::Close(close_code(payload)?));
                Ok(false)
            }
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => Err(CloseReason::ProtocolError),
            OpCode::Data(Data::Continue) => {
                let Some(text) = self.text else { return Err(CloseReason::ProtocolError) };
                if self.message.len() + payload.len() > message_max {
                    return Err(CloseReason::MessageTooBig);
                }
                self.message.extend_from_slice(payload);
                if !header.is_final {
                    return Ok(true);
                }
                self.text = None;
                let message = std::mem::take(&mut self.message);
                whole(text, &message, each)
            }
            OpCode::Data(data) => {
                if self.text.is_some() {
                    return Err(CloseReason::ProtocolError);
                }
                let text = data == Data::Text;
                if header.is_final {
                    return whole(text, payload, each);
                }
                self.text = Some(text);
                self.message.extend_from_slice(payload);
                Ok(true)
            }
        }
    }
}

fn whole(text: bool, bytes: &[u8], each: &mut impl FnMut(Incoming<'_>) -> bool) -> Result<bool, CloseReason> {
    if text && std::str::from_utf8(bytes).is_err() {
        return Err(CloseReason::InvalidUtf8);
    }
    Ok(each(Incoming::Message { text, bytes }))
}

/// The header at the front of `input`, its length, and the length of the payload; `None` while it is not all there.
fn parse_header(input: &[u8], message_max: usize) -> Result<Option<(FrameHeader, usize, usize)>, CloseReason> {
    let mut cursor = Cursor::new(&input[..input.len().min(HEADER_MAX)]);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| CloseReason::ProtocolError)?;
    // Refused as early as can be: the first two bytes say most.
    if let [first, second, ..] = input {
        let control = first & 0x08 != 0;
        let reserved = first & 0x70 != 0 || matches!(first & 0x0F, 0x3..=0x7 | 0xB..=0xF);
        let bad_control = control && (first & 0x80 == 0 || second & 0x7F > 125);
        if reserved || second & 0x80 == 0 || bad_control {
            return Err(CloseReason::ProtocolError);
        }
    }
    let Some((header, payload_bytes)) = parsed else { return Ok(None) };
    if payload_bytes > message_max as u64 {
        return Err(CloseReason::MessageTooBig);
    }
    Ok(Some((header, cursor.position() as usize, payload_bytes as usize)))
}

/// RFC 6455 §7.4: no code, or one that may be on the wire, and a reason that is UTF-8.
fn close_code(payload: &[u8]) -> Result<Option<u16>, CloseReason> {
    match payload {
        [] => Ok(None),
        [_] => Err(CloseReason::ProtocolError),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(CloseReason::ProtocolError);
            }
            std::str::from_utf8(reason).map_err(|_| CloseReason::InvalidUtf8)?;
            Ok(Some(code))
        }
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    for (place, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[place & 3];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// A client frame: first byte, then masked payload.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            0..=125 => out.push(0x80 | payload.len() as u8),
            126..=0xFFFF => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            }
            _ => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&MASK);
        out.extend(payload.iter().enumerate().map(|(place, byte)| byte ^ MASK[place & 3]));
        out
    }

    fn show(incoming: &Incoming<'_>) -> String {
        match incoming {
            Incoming::Message { text, bytes } => format!("{}:{}", if *text { "text" } else { "binary" }, bytes.len()),
            Incoming::Ping(payload) => format!("ping:{}", payload.len()),
            Incoming::Pong => "pong".to_owned(),
            Incoming::Close(code) => format!("close:{code:?}"),
        }
    }

    /// The same, whether it comes at once or byte by byte.
    fn check(bytes: &[u8], expected: &str) {
        for piece in [bytes.len().max(1), 1, 3] {
            let mut reader = FrameReader::default();
            let mut seen = Vec::new();
            let mut outcome = Ok(());
            for part in bytes.chunks(piece) {
                outcome = reader.feed(&mut part.to_vec(), 1000, |incoming| {
                    seen.push(show(&incoming));
                    true
                });
                if outcome.is_err() || seen.last().is_some_and(|last| last.starts_with("close")) {
                    break;
                }
            }
            if let Err(reason) = outcome {
                seen.push(reason.label().to_owned());
            }
            assert_eq!(seen.join(" "), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn whole_frames_come_through_in_order_whatever_the_pieces() {
        let mut bytes = frame(0x81, b"hello");
        bytes.extend(frame(0x82, &[7; 300]));
        bytes.extend(frame(0x89, b"?"));
        bytes.extend(frame(0x8A, b""));
        bytes.extend(frame(0x01, b"frag"));
        bytes.extend(frame(0x89, b"between"));
        bytes.extend(frame(0x80, b"ment"));
        bytes.extend(frame(0x88, &[0x03, 0xE8]));
        check(&bytes, "text:5 binary:300 ping:1 pong ping:7 text:8 close:Some(1000)");
    }

    #[test]
    fn what_the_standard_forbids_ends_the_connection() {
        check(&[0x81, 0x05, b'h', b'e', b'l', b'l', b'o'], "protocol_error");
        for first in [0x83, 0x87, 0x8B, 0x8F, 0xC1, 0xA1, 0x91] {
            check(&frame(first, b"x"), "protocol_error");
        }
        check(&frame(0x80, b"no start"), "protocol_error");
        check(&[frame(0x01, b"a"), frame(0x81, b"b")].concat(), "protocol_error");
        check(&frame(0x09, b"fragmented ping"), "protocol_error");
        check(&frame(0x89, &[0; 126]), "protocol_error");
        check(&frame(0x81, &[0xFF, 0xFE]), "invalid_utf8");
        check(&frame(0x82, &[0; 1001]), "message_too_big");
        check(&[frame(0x02, &[0; 600]), frame(0x80, &[0; 401])].concat(), "message_too_big");
        check(&frame(0x88, &[1]), "protocol_error");
        check(&frame(0x88, &[0x03, 0xED]), "protocol_error");
        check(&frame(0x88, &[0x03, 0xE8, 0xFF]), "invalid_utf8");
    }

    #[test]
    fn between_frames_nothing_is_held() {
        let mut reader = FrameReader::default();
        reader.feed(&mut frame(0x81, &[b'a'; 900]), 1000, |_| true).unwrap();
        assert_eq!(reader.held_bytes(), 0);
    }
}
