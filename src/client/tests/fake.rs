//! A gateway that does what a script says: one function per connection, in order.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use prost::Message as _;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use crate::wire::gateway::{self as wire, answer::Answer, client_frame, resume::From, server_frame::Frame};

/// Far more than anything takes here.
const LIMIT: Duration = Duration::from_secs(20);

type Script = Vec<Box<dyn FnOnce(TcpStream) + Send>>;

pub(crate) struct FakeGateway {
    pub(crate) address: SocketAddr,
    thread: JoinHandle<()>,
}

impl FakeGateway {
    pub(crate) fn new(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let thread = std::thread::spawn(move || {
            for act in script {
                let (stream, _) = listener.accept().expect("a client");
                stream.set_read_timeout(Some(LIMIT)).expect("a socket option");
                act(stream);
            }
        });
        Self { address, thread }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The script is through, and nothing in it failed.
    pub(crate) fn join(self) {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}

/// A connection on which the handshake is done.
pub(crate) struct Peer {
    pub(crate) inner: WebSocket<TcpStream>,
}

/// One connection of the script.
pub(crate) fn peer(act: impl FnOnce(&mut Peer) + Send + 'static) -> Box<dyn FnOnce(TcpStream) + Send> {
    Box::new(move |stream| {
        #[allow(clippy::result_large_err, reason = "tungstenite's own signature")]
        let choose = |request: &Request, mut response: Response| {
            assert_eq!(request.uri().path(), "/ws");
            assert_eq!(request.headers()["Sec-WebSocket-Protocol"], "dashstream.v2");
            let protocol = HeaderValue::from_static("dashstream.v2");
            response.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
            Ok(response)
        };
        let inner = tungstenite::accept_hdr(stream, choose).expect("a handshake");
        act(&mut Peer { inner });
    })
}

/// One connection that is answered with this instead of a handshake.
pub(crate) fn answer(text: &'static str) -> Box<dyn FnOnce(TcpStream) + Send> {
    Box::new(move |mut stream| {
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        while !request.ends_with(b"\r\n\r\n") {
            let length = stream.read(&mut buffer).expect("a request");
            request.extend_from_slice(&buffer[..length]);
        }
        stream.write_all(text.as_bytes()).expect("an answer");
    })
}

impl Peer {
    pub(crate) fn send(&mut self, frame: Frame) {
        let bytes = wire::ServerFrame { frame: Some(frame) }.encode_to_vec();
        self.inner.send(Message::Binary(bytes.into())).expect("the client listens");
    }

    pub(crate) fn hello(&mut self, stream: &str, position: u64) {
        let partition = wire::PartitionState { partition: 0, oldest: 0, next: position, lag: None, position };
        let hello = wire::Hello { stream: stream.to_owned(), partitions: vec![partition], ..wire::Hello::default() };
        self.send(Frame::Hello(hello));
    }

    /// The answer to resume 1 for partition 0.
    pub(crate) fn answer(&mut self, answer: Answer) {
        let answers = vec![wire::Answer { partition: 0, answer: Some(answer) }];
        self.send(Frame::Answers(wire::Answers { resume: 1, answers }));
    }

    pub(crate) fn resumed(&mut self, from: u64) {
        self.answer(Answer::Resumed(wire::Resumed { from }));
    }

    /// Records `[from, next)` of partition 0.
    pub(crate) fn batch(&mut self, from: u64, next: u64) {
        self.send(batch(from, next));
    }

    pub(crate) fn live(&mut self) {
        self.send(Frame::Live(wire::Live { resume: 1, replayed: 0 }));
    }

    /// What the client says next, but for pings; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<client_frame::Frame> {
        loop {
            match self.inner.read() {
                Ok(Message::Binary(bytes)) => return wire::ClientFrame::decode(bytes).expect("a frame").frame,
                Ok(Message::Close(_)) => return None,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the client says nothing for {LIMIT:?}");
                }
                Err(_) => return None,
            }
        }
    }

    /// The client resumes: from where in partition 0 (its last offset), or from what.
    pub(crate) fn resume(&mut self) -> String {
        match self.next() {
            Some(client_frame::Frame::Resume(resume)) => match resume.from.expect("from") {
                From::Cursor(cursor) => {
                    assert_eq!(cursor.entries.len(), 1);
                    format!("{} after {}", resume.stream, cursor.entries[0].offset)
                }
                From::Earliest(_) => format!("{} earliest", resume.stream),
                other => format!("{} {other:?}", resume.stream),
            },
            other => panic!("no resume: {other:?}"),
        }
    }

    /// Hello, and the resume that must be `expected`.
    pub(crate) fn greet(&mut self, stream: &str, position: u64, expected: &str) {
        self.hello(stream, position);
        assert_eq!(self.resume(), expected);
    }

    pub(crate) fn close(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        self.inner.close(Some(frame)).expect("the client listens");
        self.until_gone();
    }

    /// Until the client has closed.
    pub(crate) fn until_gone(&mut self) {
        while self.next().is_some() {}
    }

    /// The first bytes of a frame that never ends.
    pub(crate) fn half_a_frame(&mut self) {
        let stream = self.inner.get_mut();
        stream.write_all(&[0x82, 100, 0x12, 98]).expect("the client listens");
    }
}

pub(crate) fn batch(from: u64, next: u64) -> Frame {
    let record = |offset: u64| wire::Record { offset, timestamp_ms: Some(1), value: offset.to_be_bytes().to_vec() };
    Frame::Batch(wire::Batch { partition: 0, from, next, records: (from..next).map(record).collect() })
}
