//! Headers of the WebSocket frames that a server sends (RFC 6455 §5.2): final, unmasked, no extension.
//!
//! Deliberately absent: reading what clients send (`broadcast::inbound`).

/// The opcodes that we send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opcode {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn bits(self) -> u8 {
        match self {
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }
}

/// Largest header that [`push_header`] writes, bytes.
pub const HEADER_MAX: usize = 10;

/// Appends the header of a frame with `payload_bytes` of payload.
pub fn push_header(out: &mut Vec<u8>, opcode: Opcode, payload_bytes: usize) {
    out.push(0x80 | opcode.bits());
    match payload_bytes {
        0..=125 => out.push(payload_bytes as u8),
        126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}

/// Appends a whole frame.
pub fn push_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    push_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a frame whose payload `write` appends, without knowing its length beforehand.
pub fn push_frame_with(out: &mut Vec<u8>, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_MAX]);
    write(out);
    let payload_bytes = out.len() - start - HEADER_MAX;
    let mut header = Vec::with_capacity(HEADER_MAX);
    push_header(&mut header, opcode, payload_bytes);
    let spare = HEADER_MAX - header.len();
    out[start..start + header.len()].copy_from_slice(&header);
    if spare > 0 {
        out.copy_within(start + HEADER_MAX.., start + header.len());
        out.truncate(out.len() - spare);
    }
}

/// Total length, header and payload, of the frame that begins `bytes`, which we wrote ourselves.
pub fn length(bytes: &[u8]) -> usize {
    assert!(bytes.len() >= 2, "a frame of ours has a header");
    match bytes[1] & 0x7F {
        126 => 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => {
            let mut wide = [0; 8];
            wide.copy_from_slice(&bytes[2..10]);
            10 + u64::from_be_bytes(wide) as usize
        }
        short => 2 + usize::from(short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_long_as_it_says_and_parses_with_another_reader() {
        for payload_bytes in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload = vec![7; payload_bytes];
            let mut plain = Vec::new();
            push_frame(&mut plain, Opcode::Binary, &payload);
            let mut deferred = vec![1, 2, 3];
            push_frame_with(&mut deferred, Opcode::Binary, |out| out.extend_from_slice(&payload));
            assert_eq!(plain, deferred[3..], "{payload_bytes}");
            assert_eq!(length(&plain), plain.len());
            let mut cursor = std::io::Cursor::new(&plain);
            let (header, bytes) = tungstenite::protocol::frame::FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert!(header.is_final && header.mask.is_none());
            assert_eq!(bytes as usize, payload_bytes);
        }
    }
}
