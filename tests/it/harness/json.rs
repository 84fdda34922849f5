//! A client of `dashstream.json`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ledger::Ledger;
use super::socket::{Closed, Frame, Refused, Socket};

pub struct JsonClient {
    pub socket: Socket,
    /// The first frame.
    pub hello: Value,
}

#[derive(Clone, PartialEq, Debug)]
pub enum JsonEvent {
    Frame(Value),
    Closed(Closed),
}

impl JsonClient {
    pub fn try_connect(address: SocketAddr) -> Result<Self, Refused> {
        let mut socket = Socket::try_connect(address, Some("dashstream.json"))?;
        match socket.next(Instant::now() + Duration::from_secs(10)) {
            Some(Frame::Text(text)) => {
                let hello: Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(hello["type"], "hello", "the first frame is hello: {text}");
                Ok(Self { socket, hello })
            }
            Some(Frame::Closed(closed)) => Err(Refused::Unreachable(format!("{closed:?}"))),
            other => panic!("the first frame is hello, not {other:?}"),
        }
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|refused| panic!("no connection: {refused:?}"))
    }

    pub fn stream(&self) -> String {
        self.hello["stream"].as_str().expect("stream in hello").to_owned()
    }

    pub fn next(&mut self, deadline: Instant) -> Option<JsonEvent> {
        loop {
            match self.socket.next(deadline)? {
                Frame::Text(text) => return Some(JsonEvent::Frame(serde_json::from_str(&text).expect("JSON"))),
                Frame::Closed(closed) => return Some(JsonEvent::Closed(closed)),
                Frame::Binary(bytes) => panic!("{} binary bytes in dashstream.json", bytes.len()),
                Frame::Pong(_) => {}
            }
        }
    }

    /// Reads until `done`, writing batches, gaps and dead letters into the ledger; returns all other frames.
    pub fn follow(
        &mut self,
        ledger: &mut Ledger,
        limit: Duration,
        mut done: impl FnMut(&Ledger, &[Value]) -> bool,
    ) -> (Vec<Value>, Option<Closed>) {
        let deadline = Instant::now() + limit;
        let mut frames = Vec::new();
        while !done(ledger, &frames) {
            let slice = deadline.min(Instant::now() + Duration::from_millis(100));
            match self.next(slice) {
                Some(JsonEvent::Frame(frame)) => {
                    if !apply(ledger, &frame) {
                        frames.push(frame);
                    }
                }
                Some(JsonEvent::Closed(closed)) => return (frames, Some(closed)),
                None => assert!(Instant::now() < deadline, "not done in {limit:?}; frames: {frames:?}"),
            }
        }
        (frames, None)
    }

    pub fn until(&mut self, ledger: &mut Ledger, name: &str, limit: Duration) -> Value {
        let (frames, closed) =
            self.follow(ledger, limit, |_, frames| frames.last().is_some_and(|frame| frame["type"] == name));
        assert_eq!(closed, None, "closed before a `{name}`; frames: {frames:?}");
        frames.last().cloned().expect("the one that ended the loop")
    }

    pub fn resume(&mut self, stream: &str, cursor: &BTreeMap<u32, u64>) {
        self.socket.send_json(&json!({
            "type": "resume", "from": "cursor", "stream": stream, "cursor": cursor_json(cursor)
        }));
    }

    pub fn resume_from(&mut self, from: &str) {
        self.socket.send_json(&json!({"type": "resume", "from": from, "stream": self.stream()}));
    }

    /// Anything else that a client may say.
    pub fn say(&mut self, message: &Value) {
        self.socket.send_json(message);
    }

    pub fn ping(&mut self, nonce: &str) {
        self.socket.send_json(&json!({"type": "ping", "nonce": nonce}));
    }
}

pub fn cursor_json(cursor: &BTreeMap<u32, u64>) -> Value {
    let entries = cursor.iter().map(|(partition, offset)| (partition.to_string(), json!(offset.to_string())));
    Value::Object(entries.collect())
}

/// The cursor of a `bye`, in the form that `resume` takes.
pub fn cursor_of(value: &Value) -> BTreeMap<u32, u64> {
    let entries = value.as_object().unwrap_or_else(|| panic!("a cursor is an object: {value}"));
    entries.iter().map(|(partition, offset)| (partition.parse().expect("a partition"), decimal(offset))).collect()
}

/// Offsets are decimal strings.
pub fn decimal(value: &Value) -> u64 {
    value.as_str().unwrap_or_else(|| panic!("a decimal string, not {value}")).parse().expect("decimal")
}

fn apply(ledger: &mut Ledger, frame: &Value) -> bool {
    let partition = || frame["partition"].as_u64().expect("a partition") as u32;
    match frame["type"].as_str().expect("a type") {
        "batch" => {
            let (from, next) = (decimal(&frame["from"]), decimal(&frame["next"]));
            for record in frame["records"].as_array().expect("records") {
                let offset = decimal(&record["offset"]);
                assert!((from..next).contains(&offset), "offset {offset} outside of [{from}, {next})");
                assert!(record["events"].is_array() || record["truncated"] == true, "events in {record}");
                ledger.record(partition(), offset);
            }
            ledger.covered(partition(), next);
            true
        }
        "gap" => {
            let reason = frame["reason"].as_str().expect("a reason");
            ledger.gap(partition(), decimal(&frame["first"]), decimal(&frame["last"]), reason);
            true
        }
        "dead_lettered" => {
            assert!(frame["reason"].is_string() && frame["id"].is_string(), "{frame}");
            let offset = decimal(&frame["offset"]);
            ledger.gap(partition(), offset, offset, "dead_lettered");
            true
        }
        _ => false,
    }
}
