//! A client that knows the rules and breaks them: frames made by hand over a plain socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub struct Hostile {
    pub stream: TcpStream,
    inbox: Vec<u8>,
}

/// How the gateway ended the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// A close frame with this code and reason.
    Close(u16, String),
    /// A close frame without a code.
    BareClose,
    /// End of stream or reset without a close frame.
    Cut,
    /// It did not.
    Open,
}

impl Hostile {
    /// Connects and shakes hands properly.
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, "")
    }

    /// `headers` are complete lines with CRLF.
    pub fn connect_with(address: SocketAddr, headers: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("the gateway listens");
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket option");
        stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{headers}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut client = Self { stream, inbox: Vec::new() };
        let deadline = Instant::now() + Duration::from_secs(20);
        let end = loop {
            if let Some(end) = client.inbox.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(Instant::now() < deadline, "no handshake in 20 s");
            assert!(client.fill(), "cut during the handshake: {:?}", String::from_utf8_lossy(&client.inbox));
        };
        let head = String::from_utf8_lossy(&client.inbox[..end]).into_owned();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "Sec-WebSocket-Accept in {head}");
        client.inbox.drain(..end);
        client
    }

    /// What cannot be sent because the gateway has gone shows in how it ended.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Reads what is there; false at the end of the stream.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.inbox.extend_from_slice(&buffer[..length]);
                true
            }
            Err(error) => matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted
            ),
        }
    }

    /// The next whole frame: opcode and payload. `Err` when the connection ended, `Ok(None)` at the deadline.
    pub fn frame(&mut self, deadline: Instant) -> Result<Option<(u8, Vec<u8>)>, ()> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Ok(Some(frame));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            if !self.fill() {
                return self.take_frame().map(Some).ok_or(());
            }
        }
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let bytes = &self.inbox;
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        assert_eq!(second & 0x80, 0, "a server never masks");
        let (length, head) = match second & 0x7f {
            126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize, 4),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
            length => (length as usize, 2),
        };
        let payload = bytes.get(head..head + length)?.to_vec();
        self.inbox.drain(..head + length);
        Some((first & 0x0f, payload))
    }

    /// How the gateway ends this connection by `limit`; data frames before that are passed over.
    pub fn end(&mut self, limit: Duration) -> End {
        let deadline = Instant::now() + limit;
        loop {
            match self.frame(deadline) {
                Ok(Some((8, payload))) if payload.len() >= 2 => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    return End::Close(code, String::from_utf8(payload[2..].to_vec()).expect("a reason in UTF-8"));
                }
                Ok(Some((8, _))) => return End::BareClose,
                Ok(Some(_)) => {}
                Ok(None) => return End::Open,
                Err(()) => return End::Cut,
            }
        }
    }
}

/// A frame as a client sends it. `first` is FIN, RSV and opcode.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=65535 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = [0x12, 0x34, 0x56, 0x78];
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A text message in one frame.
pub fn text(payload: &[u8]) -> Vec<u8> {
    masked(0x81, payload)
}

/// Only a frame's head, announcing `length`.
pub fn announced(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | 127];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[1, 2, 3, 4]);
    bytes
}
