//! Many connected clients on one thread: handshake, edge-triggered reading, and saying something. And those that only
//! count, as a child process, so that what clients cost is not in the way of what is measured.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::json;

use crate::frames::{BINARY, Frames, PING, records_in_v2};
use crate::process::{Helper, own_cpu_seconds};
use crate::{Outcome, Protocol};

struct Client {
    stream: TcpStream,
    frames: Frames,
    open: bool,
}

pub struct Clients {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    /// Frames that came with the answer to a handshake.
    early: Vec<(usize, Vec<u8>)>,
    pub open: usize,
    pub bytes: u64,
}

impl Clients {
    pub fn connect(address: SocketAddr, count: usize, protocol: Protocol) -> Outcome<Self> {
        let poll = Poll::new()?;
        let mut clients = Vec::with_capacity(count);
        let mut early = Vec::new();
        for number in 0..count {
            let (stream, came) = handshake(address, protocol)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            let mut frames = Frames::default();
            frames.feed(&came, |opcode, payload| {
                if opcode == BINARY {
                    early.push((number, payload.to_vec()));
                }
            });
            clients.push(Client { stream, frames, open: true });
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            open: clients.len(),
            clients,
            buffer: vec![0; 256 * 1024].into(),
            early,
            bytes: 0,
        })
    }

    /// Waits for something to read, at most so long, and reads it all. `on_frame(client, payload)` is called for each
    /// binary frame.
    pub fn turn(&mut self, limit: Duration, mut on_frame: impl FnMut(usize, &[u8])) -> Outcome<()> {
        for (number, payload) in self.early.drain(..) {
            on_frame(number, &payload);
        }
        match self.poll.poll(&mut self.events, Some(limit)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let number = event.token().0;
            let Some(client) = self.clients.get_mut(number).filter(|client| client.open) else { continue };
            loop {
                let length = match client.stream.read(&mut self.buffer) {
                    Ok(length @ 1..) => length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Ok(0) | Err(_) => {
                        client.open = false;
                        self.open -= 1;
                        break;
                    }
                };
                self.bytes += length as u64;
                let stream = &mut client.stream;
                client.frames.feed(&self.buffer[..length], |opcode, payload| match opcode {
                    BINARY => on_frame(number, payload),
                    PING => pong(stream, payload),
                    _ => {}
                });
            }
        }
        Ok(())
    }

    /// One binary frame from this client. What a client says here is far smaller than a socket's buffer.
    pub fn say(&mut self, number: usize, payload: &[u8]) -> Outcome<()> {
        let length = u16::try_from(payload.len())?;
        // A mask of zeros leaves the payload as it is.
        let mut frame = vec![0x80 | BINARY, 0x80 | 126];
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        Ok(self.clients.get_mut(number).ok_or("no such client")?.stream.write_all(&frame)?)
    }
}

fn pong(stream: &mut TcpStream, payload: &[u8]) {
    // A mask of zeros leaves the payload as it is.
    let mut frame = vec![0x8A, 0x80 | payload.len().min(125) as u8, 0, 0, 0, 0];
    frame.extend_from_slice(&payload[..payload.len().min(125)]);
    // If so few bytes find no room the connection is beyond help, which reading will tell.
    stream.write_all(&frame).ok();
}

/// The connection, and what came behind the answer already.
fn handshake(address: SocketAddr, protocol: Protocol) -> Outcome<(std::net::TcpStream, Vec<u8>)> {
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let subprotocol = match protocol {
        Protocol::V1 => "",
        Protocol::V2 => "Sec-WebSocket-Protocol: dashstream.v2\r\n",
    };
    write!(
        stream,
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{subprotocol}\r\n"
    )?;
    let mut head = Vec::new();
    let mut part = [0; 1024];
    loop {
        let length = stream.read(&mut part)?;
        head.extend_from_slice(&part[..length]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            if !head.starts_with(b"HTTP/1.1 101") {
                return Err(format!("no upgrade: {}", String::from_utf8_lossy(&head[..end])).into());
            }
            return Ok((stream, head.split_off(end + 4)));
        }
        if length == 0 || head.len() > 16 * 1024 {
            return Err("the server closed during the handshake".into());
        }
    }
}

fn records_in(protocol: Protocol, payload: &[u8]) -> u64 {
    match protocol {
        Protocol::V1 => 1,
        Protocol::V2 => records_in_v2(payload),
    }
}

/// The child, connected.
pub fn start_sink(address: String, clients: usize, protocol: Protocol) -> Outcome<Helper> {
    let protocol = format!("{protocol:?}").to_lowercase();
    let mut sink = Helper::start(&["sink".to_owned(), address, clients.to_string(), protocol])?;
    sink.answer()?;
    Ok(sink)
}

/// The child: connects, says so, then answers each line with its counts, until its input ends.
pub fn sink(address: SocketAddr, count: usize, protocol: Protocol) -> Outcome<()> {
    let mut clients = Clients::connect(address, count, protocol)?;
    println!("{}", json!({ "connected": count }));
    let counts: Arc<[AtomicU64; 3]> = Arc::default();
    let asked = counts.clone();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines() {
            let [records, bytes, open] = [0, 1, 2].map(|index| asked[index].load(Ordering::Relaxed));
            println!("{}", json!({ "records": records, "bytes": bytes, "open": open, "cpu": own_cpu_seconds() }));
        }
        std::process::exit(0);
    });
    let mut records = 0;
    loop {
        clients.turn(Duration::from_secs(1), |_, payload| records += records_in(protocol, payload))?;
        for (count, value) in counts.iter().zip([records, clients.bytes, clients.open as u64]) {
            count.store(value, Ordering::Relaxed);
        }
    }
}
