//! A client of `dashstream.v2`, reading the frames of `proto/gateway.proto` field by field.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tungstenite::Message;

use super::ledger::Ledger;
use super::proto::{Value, Writer, fields};
use super::socket::{Closed, Frame, Refused, Socket};
use super::wait;

pub struct V2Client {
    pub socket: Socket,
    pub stream: String,
    /// The gateway's log when this connection began: oldest and next offset per partition.
    pub log: BTreeMap<u32, (u64, u64)>,
}

/// What one partition of a resume was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct V2Answer {
    pub partition: u32,
    pub kind: &'static str,
    /// The first two fields of the answer; 0 where there is none.
    pub numbers: [u64; 2],
}

const ANSWERS: [&str; 7] =
    ["resumed", "truncated", "future", "wrong_stream", "unknown_partition", "not_here", "unavailable"];

#[derive(Clone, PartialEq, Debug)]
pub enum V2Event {
    Batch {
        partition: u32,
        from: u64,
        next: u64,
        records: Vec<(u64, Vec<u8>)>,
    },
    Gap {
        partition: u32,
        first: u64,
        last: u64,
        reason: String,
    },
    DeadLettered {
        partition: u32,
        offset: u64,
    },
    Answers {
        resume: u64,
        answers: Vec<V2Answer>,
    },
    Live {
        resume: u64,
        replayed: u64,
    },
    Pong(Vec<u8>),
    /// Reason and cursor.
    Bye(String, Vec<(u32, u64)>),
    /// The number of the frame's field.
    Other(u32),
    Closed(Closed),
}

impl V2Client {
    pub fn try_connect(address: SocketAddr) -> Result<Self, Refused> {
        let mut socket = Socket::try_connect(address, Some("dashstream.v2"))?;
        let bytes = match socket.next(Instant::now() + Duration::from_secs(10)) {
            Some(Frame::Binary(bytes)) => bytes,
            Some(Frame::Closed(closed)) => return Err(Refused::Unreachable(format!("{closed:?}"))),
            other => panic!("the first frame is Hello, not {other:?}"),
        };
        let frame = fields(&bytes);
        assert_eq!(frame[0].0, 1, "the first frame is Hello");
        let hello = fields(frame[0].1.slice());
        let log = hello.iter().filter(|(field, _)| *field == 5).map(|(_, value)| {
            let state = fields(value.slice());
            (number(&state, 1) as u32, (number(&state, 2), number(&state, 3)))
        });
        Ok(Self { stream: text(&hello, 1), log: log.collect(), socket })
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|refused| panic!("no connection: {refused:?}"))
    }

    /// Connects to a gateway that is being started.
    pub fn connect_soon(address: SocketAddr) -> Self {
        wait::until("a connection", Duration::from_secs(60), || Self::try_connect(address).ok())
    }

    pub fn next(&mut self, deadline: Instant) -> Option<V2Event> {
        loop {
            match self.socket.next(deadline)? {
                Frame::Binary(bytes) => return Some(parse(&bytes)),
                Frame::Closed(closed) => return Some(V2Event::Closed(closed)),
                Frame::Text(text) => panic!("text in dashstream.v2: {text}"),
                Frame::Pong(_) => {}
            }
        }
    }

    pub fn ping(&mut self, nonce: &[u8]) {
        self.send(Writer::new().message(2, Writer::new().bytes(1, nonce)));
    }

    pub fn resume_earliest(&mut self) {
        let resume = Writer::new().bytes(1, self.stream.clone()).message(3, Writer::new());
        self.send(Writer::new().message(1, resume));
    }

    /// From behind this cursor.
    pub fn resume(&mut self, cursor: &BTreeMap<u32, u64>) {
        let stream = self.stream.clone();
        self.resume_in(&stream, cursor);
    }

    pub fn resume_in(&mut self, stream: &str, cursor: &BTreeMap<u32, u64>) {
        let entries = cursor.iter().fold(Writer::new(), |cursor, (partition, offset)| {
            cursor.message(1, Writer::new().varint(1, u64::from(*partition)).varint(2, *offset))
        });
        let resume = Writer::new().bytes(1, stream).message(2, entries);
        self.send(Writer::new().message(1, resume));
    }

    fn send(&mut self, frame: Writer) {
        self.socket.send(Message::binary(frame.0));
    }

    /// Reads into the ledger until `done`; returns everything that is not about records.
    pub fn follow(
        &mut self,
        ledger: &mut Ledger,
        limit: Duration,
        mut check: impl FnMut(u32, u64, &[u8]),
        mut done: impl FnMut(&Ledger, &[V2Event]) -> bool,
    ) -> Vec<V2Event> {
        let deadline = Instant::now() + limit;
        let mut others = Vec::new();
        while !done(ledger, &others) {
            // In slices, so that `done` is asked also when nothing comes.
            let slice = deadline.min(Instant::now() + Duration::from_millis(100));
            match self.next(slice) {
                Some(V2Event::Batch { partition, from, next, records }) => {
                    for (offset, value) in records {
                        assert!((from..next).contains(&offset), "offset {offset} outside of [{from}, {next})");
                        check(partition, offset, &value);
                        ledger.record(partition, offset);
                    }
                    ledger.covered(partition, next);
                }
                Some(V2Event::Gap { partition, first, last, reason }) => ledger.gap(partition, first, last, &reason),
                Some(V2Event::DeadLettered { partition, offset }) => {
                    ledger.gap(partition, offset, offset, "dead_lettered");
                }
                Some(other) => others.push(other),
                None => assert!(Instant::now() < deadline, "not done in {limit:?}; other frames: {others:?}"),
            }
            if matches!(others.last(), Some(V2Event::Closed(_))) {
                break;
            }
        }
        others
    }
}

fn number(message: &[(u32, Value<'_>)], field: u32) -> u64 {
    message.iter().find(|(number, _)| *number == field).map_or(0, |(_, value)| value.number())
}

fn text(message: &[(u32, Value<'_>)], field: u32) -> String {
    message.iter().find(|(number, _)| *number == field).map(|(_, value)| value.text()).unwrap_or_default()
}

fn parse(bytes: &[u8]) -> V2Event {
    let frame = fields(bytes);
    assert_eq!(frame.len(), 1, "one kind of frame in a message");
    let message = fields(frame[0].1.slice());
    let partition = || number(&message, 1) as u32;
    match frame[0].0 {
        2 => {
            let records = message.iter().filter(|(field, _)| *field == 4).map(|(_, value)| {
                let record = fields(value.slice());
                let value = record.iter().find(|(field, _)| *field == 3).map(|(_, value)| value.slice().to_vec());
                (number(&record, 1), value.unwrap_or_default())
            });
            let records = records.collect();
            V2Event::Batch { partition: partition(), from: number(&message, 2), next: number(&message, 3), records }
        }
        3 => {
            let (first, last) = (number(&message, 2), number(&message, 3));
            V2Event::Gap { partition: partition(), first, last, reason: text(&message, 4) }
        }
        4 => {
            let answers = message.iter().filter(|(field, _)| *field == 2).map(|(_, value)| answer(value.slice()));
            V2Event::Answers { resume: number(&message, 1), answers: answers.collect() }
        }
        5 => V2Event::Live { resume: number(&message, 1), replayed: number(&message, 2) },
        6 => V2Event::DeadLettered { partition: partition(), offset: number(&message, 2) },
        7 => V2Event::Pong(message.first().map(|(_, value)| value.slice().to_vec()).unwrap_or_default()),
        9 => {
            let cursor = message.iter().filter(|(field, _)| *field == 2).map(|(_, value)| {
                let entry = fields(value.slice());
                (number(&entry, 1) as u32, number(&entry, 2))
            });
            V2Event::Bye(text(&message, 1), cursor.collect())
        }
        other => V2Event::Other(other),
    }
}

fn answer(bytes: &[u8]) -> V2Answer {
    let answer = fields(bytes);
    let (field, value) = answer.iter().find(|(field, _)| *field > 1).expect("an answer says something");
    let kind = ANSWERS.get(*field as usize - 2).unwrap_or_else(|| panic!("an answer of kind {field}"));
    let said = fields(value.slice());
    V2Answer { partition: number(&answer, 1) as u32, kind, numbers: [number(&said, 1), number(&said, 2)] }
}
