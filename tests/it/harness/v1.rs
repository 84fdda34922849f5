//! A client of the predecessor's protocol, written from its description alone: a cursor as text, then the record as
//! binary, strictly in turn; everything else is text.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::Bytes;

use super::ledger::Ledger;
use super::socket::{Closed, Frame, Refused, Socket};

pub struct V1Client {
    pub socket: Socket,
    /// A cursor whose record has not come yet.
    pending: Option<(u32, u64)>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum V1Event {
    Record {
        partition: u32,
        offset: u64,
        value: Bytes,
    },
    /// Any other text frame.
    Text(Value),
    Pong(Bytes),
    Closed(Closed),
}

/// What came besides records while following.
#[derive(Clone, Default, Debug)]
pub struct Followed {
    pub texts: Vec<Value>,
    pub closed: Option<Closed>,
    pub timed_out: bool,
}

impl Followed {
    pub fn of_type(&self, name: &str) -> Vec<&Value> {
        self.texts.iter().filter(|text| text["type"] == name).collect()
    }
}

impl V1Client {
    pub fn try_connect(address: SocketAddr) -> Result<Self, Refused> {
        Ok(Self { socket: Socket::try_connect(address, None)?, pending: None })
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self { socket: Socket::connect(address, None), pending: None }
    }

    pub fn connect_soon(address: SocketAddr) -> Self {
        Self { socket: Socket::connect_soon(address, None), pending: None }
    }

    pub fn next(&mut self, deadline: Instant) -> Option<V1Event> {
        loop {
            match self.socket.next(deadline)? {
                Frame::Text(text) => {
                    let value: Value =
                        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON: {error}: {text}"));
                    assert!(self.pending.is_none(), "between a cursor and its record came {text}");
                    if value["type"] != "cursor" {
                        return Some(V1Event::Text(value));
                    }
                    let partition = value["partition"].as_u64().expect("partition is a number") as u32;
                    let offset = value["offset"].as_str().expect("offset is a string").parse().expect("decimal");
                    self.pending = Some((partition, offset));
                }
                Frame::Binary(value) => {
                    let (partition, offset) = self.pending.take().expect("a record follows its cursor");
                    return Some(V1Event::Record { partition, offset, value });
                }
                Frame::Pong(bytes) => return Some(V1Event::Pong(bytes)),
                Frame::Closed(closed) => return Some(V1Event::Closed(closed)),
            }
        }
    }

    /// Reads into the ledger until `done`, the end of the connection or the limit. `check` sees every record.
    pub fn follow(
        &mut self,
        ledger: &mut Ledger,
        limit: Duration,
        mut check: impl FnMut(u32, u64, &[u8]),
        mut done: impl FnMut(&Ledger) -> bool,
    ) -> Followed {
        let deadline = Instant::now() + limit;
        let mut followed = Followed::default();
        while !done(ledger) {
            // In slices, so that `done` is asked also when nothing comes.
            let slice = deadline.min(Instant::now() + Duration::from_millis(100));
            match self.next(slice) {
                Some(V1Event::Record { partition, offset, value }) => {
                    check(partition, offset, &value);
                    ledger.record(partition, offset);
                }
                Some(V1Event::Text(text)) => {
                    note_gap(ledger, &text);
                    followed.texts.push(text);
                }
                Some(V1Event::Pong(_)) => {}
                Some(V1Event::Closed(closed)) => {
                    followed.closed = Some(closed);
                    break;
                }
                None if Instant::now() >= deadline => {
                    followed.timed_out = true;
                    break;
                }
                None => {}
            }
        }
        followed
    }

    /// Reads until a text frame of this type, which is returned with the other texts before it.
    pub fn follow_until_text(&mut self, ledger: &mut Ledger, name: &str, limit: Duration) -> (Value, Vec<Value>) {
        let deadline = Instant::now() + limit;
        let mut before = Vec::new();
        loop {
            match self.next(deadline) {
                Some(V1Event::Record { partition, offset, .. }) => ledger.record(partition, offset),
                Some(V1Event::Text(text)) if text["type"] == name => return (text, before),
                Some(V1Event::Text(text)) => {
                    note_gap(ledger, &text);
                    before.push(text);
                }
                Some(V1Event::Pong(_)) => {}
                Some(V1Event::Closed(closed)) => panic!("closed ({closed:?}) before a `{name}`; texts: {before:?}"),
                None => panic!("no `{name}` in {limit:?}; texts: {before:?}"),
            }
        }
    }

    pub fn resume(&mut self, cursor: &BTreeMap<u32, u64>) {
        self.socket.send_json(&resume(cursor));
    }

    pub fn resume_in(&mut self, stream: &str, cursor: &BTreeMap<u32, u64>) {
        let mut frame = resume(cursor);
        frame["stream"] = json!(stream);
        self.socket.send_json(&frame);
    }

    pub fn resume_from(&mut self, from: &str) {
        self.socket
            .send_json(&json!({"type": "resume", "mode": "partition", "lastOffsetsByPartition": {}, "from": from}));
    }
}

fn resume(cursor: &BTreeMap<u32, u64>) -> Value {
    let offsets: serde_json::Map<String, Value> =
        cursor.iter().map(|(partition, offset)| (partition.to_string(), json!(offset.to_string()))).collect();
    json!({"type": "resume", "mode": "partition", "lastOffsetsByPartition": offsets, "from": "cursor"})
}

/// Gap frames name their partition, first and last.
fn note_gap(ledger: &mut Ledger, text: &Value) {
    if text["type"] != "gap" {
        return;
    }
    let number =
        |key: &str| text[key].as_str().unwrap_or_else(|| panic!("{key} in {text}")).parse::<u64>().expect("decimal");
    let partition = text["partition"].as_u64().expect("partition in a gap") as u32;
    let (first, last) = (number("first"), number("last"));
    assert_eq!(text["count"].as_u64(), Some(last - first + 1), "count of {text}");
    for key in ["severity", "message", "reason"] {
        assert!(text[key].is_string(), "{key} in {text}");
    }
    ledger.gap(partition, first, last, text["reason"].as_str().unwrap_or_default());
}
