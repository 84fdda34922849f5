//! The events of a measurement, and sending them on time.

use std::time::Duration;

use dashstream::wire::framing::Framer;
use dashstream::wire::proto::attribute_value::Value;
use dashstream::wire::proto::dash_stream_message::Message;
use dashstream::wire::proto::{AttributeValue, DashStreamMessage, Event, Header};
use hdrhistogram::Histogram;
use rdkafka::producer::Producer;

use crate::process::{clock_ns, fine_timers};
use crate::topic::Topic;
use crate::{Outcome, PATIENCE};

/// Marks where a record carries its intended time of sending. With it, it is the 16 bytes of a message id.
const MARK: [u8; 8] = *b"LOADTEST";

/// Every event belongs to a run of this name and an eight-digit number.
pub const RUN: &str = "run-";

/// One framed event that is stamped in place: making it costs the generator next to nothing.
pub struct Template {
    value: Vec<u8>,
    stamp_at: usize,
    run_at: usize,
    /// Events go round as many runs.
    runs: u64,
}

impl Template {
    pub fn new(value_bytes: usize) -> Outcome<Self> {
        Self::of_runs(value_bytes, 1)
    }

    pub fn of_runs(value_bytes: usize, runs: u64) -> Outcome<Self> {
        let text = |text: &str| AttributeValue { value: Some(Value::StringValue(text.to_owned())) };
        let make = |padding: usize| {
            let mut stamp = MARK.to_vec();
            stamp.extend_from_slice(&[0xFF; 8]);
            DashStreamMessage {
                message: Some(Message::Event(Event {
                    header: Some(Header {
                        message_id: stamp,
                        timestamp_us: 1_700_000_000_000_000,
                        tenant_id: "loadtest".to_owned(),
                        thread_id: run(0),
                        sequence: 0,
                        schema_version: 1,
                        ..Header::default()
                    }),
                    event_type: 1,
                    node_id: "measure".to_owned(),
                    attributes: [
                        ("model".to_owned(), text("a-model-name")),
                        ("padding".to_owned(), text(&"x".repeat(padding))),
                    ]
                    .into(),
                    duration_us: 1234,
                    llm_request_id: String::new(),
                })),
            }
        };
        let mut framer = Framer::new(usize::MAX, 3);
        let mut value = Vec::new();
        framer.frame(&mut make(0), &mut value);
        framer.frame(&mut make(value_bytes.saturating_sub(value.len())), &mut value);
        let stamp_at = position(&value).ok_or("the stamp is not in the value")?;
        let name = run(0);
        let run_at = value.windows(name.len()).position(|window| window == name.as_bytes());
        let run_at = run_at.ok_or("the run is not in the value")?;
        Ok(Self { value, stamp_at, run_at, runs })
    }

    pub fn bytes(&self) -> usize {
        self.value.len()
    }

    /// Key and value of the event of that number.
    pub fn stamped(&mut self, number: u64, stamp_ns: u64) -> (&[u8], &[u8]) {
        self.value[self.stamp_at..self.stamp_at + 8].copy_from_slice(&stamp_ns.to_le_bytes());
        let name = self.run_at..self.run_at + RUN.len() + 8;
        if self.runs > 1 {
            self.value[name.clone()].copy_from_slice(run(number % self.runs).as_bytes());
        }
        (&self.value[name], &self.value)
    }
}

fn run(number: u64) -> String {
    format!("{RUN}{number:08}")
}

fn position(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MARK.len()).position(|window| window == MARK).map(|at| at + MARK.len())
}

/// Calls `on_stamp` with the intended time of every stamp in these bytes: a value, or a frame that holds several.
pub fn stamps(mut bytes: &[u8], mut on_stamp: impl FnMut(u64)) {
    while let Some(at) = position(bytes) {
        let Some(stamp) = bytes.get(at..at + 8).and_then(|stamp| stamp.try_into().ok()) else { return };
        on_stamp(u64::from_le_bytes(stamp));
        bytes = &bytes[at + 8..];
    }
}

/// How the generator itself did.
pub struct Generated {
    pub records: u64,
    /// Nanoseconds from the intended to the real time of sending.
    pub lateness: Histogram<u64>,
}

/// Sends `rate` records per second for `length`, each at its intended time whatever happened to those before it.
pub fn paced(
    topic: &Topic,
    template: &mut Template,
    rate: u64,
    length: Duration,
    linger_ms: &str,
) -> Outcome<Generated> {
    fine_timers();
    let producer = topic.producer(linger_ms)?;
    // Connections and metadata are in place before the clock starts.
    producer.client().fetch_metadata(Some(&topic.name), PATIENCE)?;
    let total = rate * length.as_secs();
    let interval = 1_000_000_000.0 / rate as f64;
    let start = clock_ns() + 1_000_000;
    let mut lateness = Histogram::<u64>::new(3)?;
    let mut sent = 0;
    while sent < total {
        let now = clock_ns();
        loop {
            let intended = start + (sent as f64 * interval) as u64;
            if sent == total || intended > now {
                let wait = Duration::from_nanos(intended.saturating_sub(now));
                // Above some thousand records per second, one wake-up is for several.
                std::thread::sleep(wait.max(Duration::from_micros(200)).min(Duration::from_millis(5)));
                break;
            }
            lateness.record(now - intended).ok();
            topic.send(&producer, template, sent, intended)?;
            sent += 1;
        }
    }
    producer.flush(PATIENCE)?;
    Ok(Generated { records: sent, lateness })
}
