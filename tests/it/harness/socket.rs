//! A well-behaved WebSocket client: tungstenite over a blocking socket, with deadlines.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocket;
use tungstenite::{Bytes, Error, HandshakeError, Message};

use super::wait;

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closed {
    /// `None`: without a close frame.
    pub code: Option<u16>,
    pub reason: String,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Frame {
    Text(String),
    Binary(Bytes),
    Pong(Bytes),
    Closed(Closed),
}

pub struct Socket {
    inner: WebSocket<TcpStream>,
    closed: Option<Closed>,
}

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The server answered with this status instead of 101.
    Status(u16),
    /// Nobody listens, or the connection broke.
    Unreachable(String),
}

impl Socket {
    pub fn try_connect(address: SocketAddr, protocol: Option<&'static str>) -> Result<Self, Refused> {
        let unreachable = |error: &dyn std::fmt::Display| Refused::Unreachable(error.to_string());
        let stream =
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).expect("a socket option");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
        let mut request = format!("ws://{address}/ws").into_client_request().expect("a valid address");
        if let Some(protocol) = protocol {
            request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(protocol));
        }
        match tungstenite::client(request, stream) {
            Ok((inner, response)) => {
                let chosen = response.headers().get("Sec-WebSocket-Protocol").map(|value| value.as_bytes().to_vec());
                assert_eq!(chosen.as_deref(), protocol.map(str::as_bytes), "the subprotocol is the one asked for");
                inner.get_ref().set_read_timeout(Some(Duration::from_millis(50))).expect("a socket option");
                Ok(Self { inner, closed: None })
            }
            Err(HandshakeError::Failure(Error::Http(response))) => Err(Refused::Status(response.status().as_u16())),
            Err(HandshakeError::Failure(error)) => Err(unreachable(&error)),
            Err(HandshakeError::Interrupted(_)) => Err(Refused::Unreachable("no answer in 20 s".to_owned())),
        }
    }

    pub fn connect(address: SocketAddr, protocol: Option<&'static str>) -> Self {
        Self::try_connect(address, protocol).unwrap_or_else(|refused| panic!("no connection: {refused:?}"))
    }

    /// Connects to a gateway that is being started.
    pub fn connect_soon(address: SocketAddr, protocol: Option<&'static str>) -> Self {
        wait::until("a connection", Duration::from_secs(60), || Self::try_connect(address, protocol).ok())
    }

    /// The next frame, or `None` at the deadline. After the end it is always the same `Closed`.
    pub fn next(&mut self, deadline: Instant) -> Option<Frame> {
        if let Some(closed) = &self.closed {
            return Some(Frame::Closed(closed.clone()));
        }
        loop {
            match self.inner.read() {
                Ok(Message::Text(text)) => return Some(Frame::Text(text.as_str().to_owned())),
                Ok(Message::Binary(bytes)) => return Some(Frame::Binary(bytes)),
                Ok(Message::Pong(bytes)) => return Some(Frame::Pong(bytes)),
                Ok(Message::Ping(_) | Message::Frame(_)) => {}
                Ok(Message::Close(frame)) => {
                    let code = frame.as_ref().map(|frame| frame.code.into());
                    let reason = frame.map(|frame| frame.reason.as_str().to_owned()).unwrap_or_default();
                    // tungstenite answers the close frame on its next read or write.
                    let _answered = self.inner.read();
                    return Some(self.ended(code, reason));
                }
                Err(Error::Io(error)) if would_wait(&error) => {
                    if Instant::now() >= deadline {
                        return None;
                    }
                }
                Err(Error::Protocol(error))
                    if !matches!(error, tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) =>
                {
                    panic!("the gateway broke the WebSocket protocol: {error}");
                }
                Err(error) => return Some(self.ended(None, error.to_string())),
            }
        }
    }

    fn ended(&mut self, code: Option<u16>, reason: String) -> Frame {
        let closed = Closed { code, reason };
        self.closed = Some(closed.clone());
        Frame::Closed(closed)
    }

    /// A failure to send shows when reading.
    pub fn send(&mut self, message: Message) {
        if self.closed.is_none() {
            let _shows_when_reading = self.inner.send(message);
        }
    }

    pub fn send_text(&mut self, text: &str) {
        self.send(Message::text(text));
    }

    pub fn send_json(&mut self, value: &serde_json::Value) {
        self.send_text(&value.to_string());
    }

    /// The close that the gateway sends by `limit`; what comes before it is passed over.
    pub fn wait_closed(&mut self, limit: Duration) -> Closed {
        let deadline = Instant::now() + limit;
        loop {
            match self.next(deadline) {
                Some(Frame::Closed(closed)) => return closed,
                Some(_) => assert!(Instant::now() < deadline, "not closed in {limit:?}"),
                None => panic!("not closed in {limit:?}"),
            }
        }
    }
}

fn would_wait(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}
