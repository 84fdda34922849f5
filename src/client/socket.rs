//! The socket: connecting, whole frames of `dashstream.v2`, and whether the peer still lives.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use prost::Message as _;
use tungstenite::client::IntoClientRequest;
use tungstenite::error::{CapacityError, ProtocolError as WireError};
use tungstenite::handshake::client::Response;
use tungstenite::http::{HeaderValue, Uri};
use tungstenite::protocol::{WebSocket, WebSocketConfig};
use tungstenite::{Error, HandshakeError, Message};

use super::error::{ClientError, ProtocolError, Why};
use super::handle::Handle;
use super::options::Settings;
use crate::wire::gateway::{ClientFrame, ServerFrame, server_frame::Frame};

/// How long a read waits for a first byte: the time in which a [`Handle`] is noticed.
pub(super) const TICK: Duration = Duration::from_millis(100);
const PROTOCOL: &str = "dashstream.v2";
/// What is written is a resume at most: 16 bytes per partition.
const WRITE_BYTES_MAX: usize = 2 << 20;
/// Of what a server writes to explain a refusal.
const EXPLANATION_BYTES_MAX: usize = 200;

pub(super) struct Socket {
    inner: WebSocket<Counted>,
    pulse: Pulse,
    frame_max_bytes: usize,
}

/// Why there is no socket.
pub(super) enum NoSocket {
    Later { why: Why, after: Duration },
    Never(ClientError),
    Stopped,
}

/// What a read brought.
pub(super) enum Got {
    Frame(Frame),
    /// Something that is none of ours to act on.
    Other,
    /// Nothing for a tick.
    Nothing,
    Over(Why),
}

impl Socket {
    pub(super) fn connect(url: &Uri, settings: &Settings, handle: &Handle) -> Result<Self, NoSocket> {
        let stream = reach(url, settings)?;
        let mut request = url.into_client_request().map_err(|error| unreachable(&error))?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
        let config = WebSocketConfig::default()
            .read_buffer_size(64 << 10)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BYTES_MAX)
            .max_message_size(Some(settings.frame_max_bytes))
            .max_frame_size(Some(settings.frame_max_bytes));
        let began = Instant::now();
        let counted = Counted { stream, bytes: 0 };
        let mut result = tungstenite::client::client_with_config(request, counted, Some(config));
        let inner = loop {
            match result {
                Ok((inner, _)) => break inner,
                Err(HandshakeError::Failure(error)) => return Err(refused(error)),
                Err(HandshakeError::Interrupted(unfinished)) => {
                    if handle.is_stopped() {
                        return Err(NoSocket::Stopped);
                    }
                    if began.elapsed() >= settings.connect_timeout {
                        return Err(unreachable(&"the handshake takes too long"));
                    }
                    result = unfinished.handshake();
                }
            }
        };
        let pulse = Pulse {
            ping_interval: settings.ping_interval,
            pong_timeout: settings.pong_timeout,
            bytes: 0,
            heard: Instant::now(),
            pinged: None,
        };
        Ok(Self { inner, pulse, frame_max_bytes: settings.frame_max_bytes })
    }

    /// Waits a tick at most. Once it is over it must not be read again.
    pub(super) fn read(&mut self) -> Result<Got, ProtocolError> {
        let got = match self.inner.read() {
            Ok(Message::Binary(bytes)) => match ServerFrame::decode(bytes) {
                // A kind of frame that is newer than this client.
                Ok(ServerFrame { frame: None }) => Got::Other,
                Ok(ServerFrame { frame: Some(frame) }) => Got::Frame(frame),
                Err(_) => return Err(ProtocolError::Undecodable),
            },
            Ok(Message::Text(_)) => return Err(ProtocolError::Undecodable),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Got::Other,
            Ok(Message::Close(frame)) => {
                // The answer to it; that the other side is gone already is no news.
                let _gone_anyhow = self.inner.flush();
                let code = frame.as_ref().map(|frame| frame.code.into());
                let reason = frame.map(|frame| frame.reason.as_str().to_owned()).unwrap_or_default();
                Got::Over(Why::Closed { code, reason })
            }
            Err(Error::Io(error)) if would_wait(&error) => Got::Nothing,
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                return Err(ProtocolError::TooLarge { limit: self.frame_max_bytes });
            }
            Err(Error::Protocol(WireError::ResetWithoutClosingHandshake)) => {
                Got::Over(Why::Lost("it ended without a close frame".to_owned()))
            }
            Err(Error::Protocol(error)) => return Err(ProtocolError::WebSocket(error.to_string())),
            Err(Error::Utf8(error)) => return Err(ProtocolError::WebSocket(error)),
            Err(error) => Got::Over(Why::Lost(error.to_string())),
        };
        if matches!(got, Got::Nothing) {
            let bytes = self.inner.get_ref().bytes;
            return Ok(match self.pulse.silence(bytes, Instant::now()) {
                Silence::Fine => Got::Nothing,
                Silence::Ask => {
                    self.send(Message::Ping(tungstenite::Bytes::new())).err().map_or(Got::Nothing, Got::Over)
                }
                Silence::Dead => Got::Over(Why::DeadPeer),
            });
        }
        self.pulse.heard(self.inner.get_ref().bytes, Instant::now());
        Ok(got)
    }

    pub(super) fn say(&mut self, frame: &ClientFrame) -> Result<(), Why> {
        self.send(Message::Binary(frame.encode_to_vec().into()))
    }

    /// Says goodbye, without waiting for an answer.
    pub(super) fn close(mut self) {
        let _gone_anyhow = self.inner.close(None);
    }

    fn send(&mut self, message: Message) -> Result<(), Why> {
        self.inner.send(message).map_err(|error| match error {
            // Nothing was taken for as long as a pong may take.
            Error::Io(error) if would_wait(&error) => Why::DeadPeer,
            error => Why::Lost(error.to_string()),
        })
    }
}

fn reach(url: &Uri, settings: &Settings) -> Result<TcpStream, NoSocket> {
    let host = url.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let addresses = (host, url.port_u16().unwrap_or(80)).to_socket_addrs().map_err(|error| unreachable(&error))?;
    let mut last = unreachable(&"the name has no address");
    for address in addresses {
        let stream = TcpStream::connect_timeout(&address, settings.connect_timeout).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TICK))?;
            stream.set_write_timeout(Some(settings.pong_timeout))?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => return Ok(stream),
            Err(error) => last = unreachable(&error),
        }
    }
    Err(last)
}

fn unreachable(error: &dyn std::fmt::Display) -> NoSocket {
    NoSocket::Later { why: Why::Unreachable(error.to_string()), after: Duration::ZERO }
}

fn refused(error: Error) -> NoSocket {
    match error {
        Error::Http(response) => status(&response),
        Error::Protocol(WireError::SecWebSocketSubProtocolError(_)) => NoSocket::Never(ClientError::Refused {
            what: PROTOCOL.to_owned(),
            why: "the server does not speak it".to_owned(),
        }),
        error => unreachable(&error),
    }
}

fn status(response: &Response) -> NoSocket {
    let status = response.status();
    if !status.is_client_error() || matches!(status.as_u16(), 408 | 425 | 429) {
        let seconds = response.headers().get("Retry-After").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let after = Duration::from_secs(seconds.unwrap_or(0));
        return NoSocket::Later { why: Why::Status(status.as_u16()), after };
    }
    let body = response.body().as_deref().unwrap_or_default();
    let text = String::from_utf8_lossy(&body[..body.len().min(EXPLANATION_BYTES_MAX)]);
    NoSocket::Never(ClientError::Refused {
        what: "the connection".to_owned(),
        why: format!("HTTP status {status}: {}", text.trim()),
    })
}

fn would_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Counts what comes: a large frame that trickles in is a sign of life before it is whole.
struct Counted {
    stream: TcpStream,
    bytes: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.bytes = self.bytes.wrapping_add(length as u64);
        Ok(length)
    }
}

impl Write for Counted {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Judged only when a read found nothing: while a handler took its time, the answer to a ping may have come.
#[derive(Debug)]
struct Pulse {
    ping_interval: Duration,
    pong_timeout: Duration,
    bytes: u64,
    heard: Instant,
    pinged: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Silence {
    Fine,
    Ask,
    Dead,
}

impl Pulse {
    fn heard(&mut self, bytes: u64, now: Instant) {
        (self.bytes, self.heard, self.pinged) = (bytes, now, None);
    }

    fn silence(&mut self, bytes: u64, now: Instant) -> Silence {
        if bytes != self.bytes {
            self.heard(bytes, now);
        }
        match self.pinged {
            Some(pinged) if now.saturating_duration_since(pinged) >= self.pong_timeout => Silence::Dead,
            Some(_) => Silence::Fine,
            None if now.saturating_duration_since(self.heard) >= self.ping_interval => {
                self.pinged = Some(now);
                Silence::Ask
            }
            None => Silence::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_about_and_then_death() {
        let start = Instant::now();
        let (ping_interval, pong_timeout) = (Duration::from_secs(10), Duration::from_secs(3));
        let mut pulse = Pulse { ping_interval, pong_timeout, bytes: 0, heard: start, pinged: None };
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pulse.silence(0, at(9)), Silence::Fine);
        assert_eq!(pulse.silence(0, at(10)), Silence::Ask);
        assert_eq!(pulse.silence(0, at(12)), Silence::Fine, "asked once");
        assert_eq!(pulse.silence(1, at(14)), Silence::Fine, "part of a frame came");
        assert_eq!(pulse.silence(1, at(24)), Silence::Ask);
        pulse.heard(9, at(26));
        assert_eq!(pulse.silence(9, at(30)), Silence::Fine);
        // The handler took a minute: first the question, then the verdict.
        assert_eq!(pulse.silence(9, at(90)), Silence::Ask);
        assert_eq!(pulse.silence(9, at(93)), Silence::Dead);
    }
}
