//! Encoder threads: they render the JSON form of chunks on request, since that has to decode every value.
//!
//! A shard asks with `try_send` and goes on; when a form is there, every shard is woken to look again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::inbox::{ShardInbox, ToShard};
use crate::log::Chunk;
use crate::log::chunk::Entry;
use crate::log::forms::JsonForm;
use crate::observe::stats::Heartbeat;
use crate::wire::inflate::Inflater;
use crate::wire::json::events_json;

/// A record whose events are larger than this as JSON is shown by header and size only.
pub const RECORD_JSON_MAX: usize = 256 * 1024;

/// Forms made before the shards are woken although more are wanted: one wake per form would cost more than the form.
const WAKE_AFTER: u32 = 8;

/// How often an idle encoder shows that it lives.
const IDLE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub struct Encoder {
    pub requests: Receiver<Arc<Chunk>>,
    pub shards: Vec<ShardInbox>,
    pub payload_max_bytes: usize,
    pub heartbeat: Arc<Heartbeat>,
}

impl Encoder {
    pub fn run(self, stop: &AtomicBool) {
        let mut inflater = Inflater::new(self.payload_max_bytes);
        let mut untold = 0;
        while !stop.load(Ordering::Acquire) {
            self.heartbeat.beat();
            let chunk = match self.requests.recv_timeout(IDLE) {
                Ok(chunk) => chunk,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            render(&chunk, &mut inflater);
            drop(chunk);
            untold += 1;
            if self.requests.is_empty() || untold >= WAKE_AFTER {
                untold = 0;
                self.wake_shards();
            }
        }
    }

    fn wake_shards(&self) {
        for shard in &self.shards {
            // A full inbox will be looked into anyway.
            if shard.try_send(ToShard::LookAgain).is_err() {
                shard.wake();
            }
        }
    }
}

/// Makes the JSON form of `chunk`.
pub fn render(chunk: &Chunk, inflater: &mut Inflater) {
    let (bytes, objects) = chunk.encode_json(chunk.from, |index, out| {
        push_record(chunk, &chunk.entries()[index], inflater, out);
    });
    chunk.set_json(JsonForm { bytes: bytes.into_boxed_slice(), objects });
}

fn push_record(chunk: &Chunk, entry: &Entry, inflater: &mut Inflater, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"offset":""#);
    out.extend_from_slice(entry.offset.to_string().as_bytes());
    out.push(b'"');
    if entry.timestamp_ms != i64::MIN {
        out.extend_from_slice(br#","timestamp_ms":"#);
        out.extend_from_slice(entry.timestamp_ms.to_string().as_bytes());
    }
    let value = chunk.value(entry);
    let start = out.len();
    out.extend_from_slice(br#","events":"#);
    match inflater.body(value) {
        Ok(body) => {
            let decoded_bytes = body.bytes().len();
            if events_json(body.bytes(), RECORD_JSON_MAX, out) {
                out.extend_from_slice(format!(r#","truncated":true,"bytes":{decoded_bytes}"#).as_bytes());
            }
        }
        // The worker has inflated this value before; that it fails now is a fault of ours, and must not end the stream.
        Err(error) => {
            tracing::error!(offset = entry.offset.0, %error, "a delivered value cannot be inflated again");
            out.truncate(start);
            out.extend_from_slice(br#","events":[],"truncated":true"#);
        }
    }
    out.push(b'}');
}
