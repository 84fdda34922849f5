//! The floor of a resume: a server that answers each connection's first message with bytes that are there already, in
//! the frames of `dashstream.v2`. A child process.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;

use dashstream::wire::gateway::server_frame::Frame;
use dashstream::wire::gateway::{Answers, Batch, Hello, Live, PartitionState, Record, ServerFrame};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use prost::Message;
use serde_json::json;

use crate::Outcome;
use crate::events::Template;
use crate::floor::answer_handshake;
use crate::process::Helper;

/// As many bytes of values in a frame as the gateway's chunks have.
const BATCH_BYTES: usize = 64 * 1024;

pub fn start(records: u64, value_bytes: usize, partitions: i32) -> Outcome<(Helper, std::net::SocketAddr)> {
    let arguments = ["bare-server".to_owned(), records.to_string(), value_bytes.to_string(), partitions.to_string()];
    let mut helper = Helper::start(&arguments)?;
    let port = helper.answer()?["port"].as_u64().ok_or("the floor names no port")?;
    Ok((helper, format!("127.0.0.1:{port}").parse()?))
}

struct Target {
    stream: TcpStream,
    asked: bool,
    sent: usize,
}

pub fn run(records: u64, value_bytes: usize, partitions: u32) -> Outcome<()> {
    let answer = answer(&mut Template::new(value_bytes)?, records);
    let hello = frame(Frame::Hello(Hello {
        stream: "a-stream".to_owned(),
        partitions: (0..partitions)
            .map(|partition| PartitionState { partition, next: records + 1, ..PartitionState::default() })
            .collect(),
        ..Hello::default()
    }));
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    listener.set_nonblocking(true)?;
    let mut listener = mio::net::TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
    let mut targets: HashMap<usize, Target> = HashMap::new();
    let mut events = Events::with_capacity(1024);
    let mut last = 0;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == Token(0) {
                while let Ok((stream, _)) = listener.accept() {
                    let mut stream: std::net::TcpStream = std::net::TcpStream::from(std::os::fd::OwnedFd::from(stream));
                    stream.set_nonblocking(false)?;
                    answer_handshake(&mut stream)?;
                    stream.write_all(&hello)?;
                    stream.set_nodelay(true)?;
                    // As the gateway's.
                    socket2::SockRef::from(&stream).set_send_buffer_size(64 * 1024)?;
                    stream.set_nonblocking(true)?;
                    let mut stream = TcpStream::from_std(stream);
                    last += 1;
                    poll.registry().register(&mut stream, Token(last), Interest::READABLE | Interest::WRITABLE)?;
                    targets.insert(last, Target { stream, asked: false, sent: 0 });
                }
                continue;
            }
            let number = event.token().0;
            if targets.get_mut(&number).is_some_and(|target| !serve(target, &answer)) {
                targets.remove(&number);
            }
        }
    }
}

/// False: it is gone.
fn serve(target: &mut Target, answer: &[u8]) -> bool {
    let mut part = [0; 1024];
    loop {
        match target.stream.read(&mut part) {
            Ok(0) => return false,
            Ok(_) => target.asked = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
    }
    while target.asked && target.sent < answer.len() {
        match target.stream.write(&answer[target.sent..]) {
            Ok(taken) => target.sent += taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
    }
    true
}

fn answer(template: &mut Template, records: u64) -> Vec<u8> {
    let mut answer = frame(Frame::Answers(Answers { resume: 1, answers: Vec::new() }));
    let each = (BATCH_BYTES / template.bytes().max(1)).max(1) as u64;
    for from in (0..records).step_by(each as usize) {
        let next = records.min(from + each);
        let record = |offset| {
            let value = template.stamped(offset, 0).1.to_vec();
            Record { offset, timestamp_ms: Some(1_700_000_000_000), value }
        };
        answer.extend(frame(Frame::Batch(Batch {
            partition: 0,
            from,
            next,
            records: (from..next).map(record).collect(),
        })));
    }
    answer.extend(frame(Frame::Live(Live { resume: 1, replayed: records })));
    answer
}

/// One binary WebSocket frame.
fn frame(frame: Frame) -> Vec<u8> {
    let payload = ServerFrame { frame: Some(frame) }.encode_to_vec();
    let mut bytes = vec![0x82];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => bytes.push(short),
        (_, Ok(length)) => {
            bytes.push(126);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&payload);
    bytes
}
