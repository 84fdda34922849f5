//! Runs with fixed ids and times, told message by message and written from the contract alone: what the explaining
//! commands are asked about.

use sha2::{Digest, Sha256};

use super::kafka::{Parts, Producer};
use super::proto::Writer;

/// 2026-09-21T14:13:20Z.
pub const BEGIN_US: u64 = 1_790_000_000_000_000;

/// One run after the other, each with sequences from 1.
pub struct Story {
    tenant: String,
    thread: String,
    sequence: u64,
    now_us: u64,
    messages: Vec<(u64, Vec<u8>)>,
}

pub fn string(text: &str) -> Writer {
    Writer::new().bytes(1, text)
}

pub fn int(number: u64) -> Writer {
    Writer::new().varint(2, number)
}

impl Story {
    pub fn new(tenant: &str, thread: &str, at_us: u64) -> Self {
        let (tenant, thread) = (tenant.to_owned(), thread.to_owned());
        Self { tenant, thread, sequence: 0, now_us: at_us, messages: Vec::new() }
    }

    pub fn wait(&mut self, ms: u64) -> &mut Self {
        self.now_us += ms * 1_000;
        self
    }

    /// The id of the message of a sequence.
    pub fn id(&self, sequence: u64) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(format!("{} {sequence}", self.thread))[..16]);
        id
    }

    fn say(&mut self, field: u32, kind: u64, body: Writer) -> &mut Self {
        self.sequence += 1;
        let header = Writer::new()
            .bytes(1, self.id(self.sequence))
            .varint(2, self.now_us)
            .bytes(3, &self.tenant)
            .bytes(4, &self.thread)
            .varint(5, self.sequence)
            .varint(6, kind)
            .varint(9, 1);
        let mut message = Writer::new().message(1, header);
        message.0.extend_from_slice(&body.0);
        self.messages.push((self.now_us, Writer::new().message(field, message).0));
        self
    }

    pub fn event(&mut self, kind: u64, node: &str, duration_ms: u64, attributes: &[(&str, Writer)]) -> &mut Self {
        self.event_about(kind, node, duration_ms, "", attributes)
    }

    pub fn event_about(
        &mut self,
        kind: u64,
        node: &str,
        duration_ms: u64,
        request: &str,
        attributes: &[(&str, Writer)],
    ) -> &mut Self {
        let mut body = Writer::new().varint(2, kind).bytes(3, node);
        for (key, value) in attributes {
            body = body.message(4, Writer::new().bytes(1, key).message(2, value.clone()));
        }
        self.say(1, 1, body.varint(5, duration_ms * 1_000).bytes(6, request))
    }

    pub fn graph_start(&mut self, graph: &str, state: &str) -> &mut Self {
        self.event(1, "", 0, &[("graph_name", string(graph)), ("initial_state_json", string(state))])
    }

    pub fn node(&mut self, node: &str, inside: impl FnOnce(&mut Self)) -> &mut Self {
        self.event(10, node, 0, &[]);
        let began_us = self.now_us;
        inside(self);
        let took_ms = (self.now_us - began_us) / 1_000;
        self.event(11, node, took_ms, &[])
    }

    pub fn edge(&mut self, from: &str, to: &str) -> &mut Self {
        self.event(20, from, 0, &[("edge_from", string(from)), ("edge_to", string(to))])
    }

    pub fn model(&mut self, node: &str, request: &str, model: &str, ms: u64, input: u64, output: u64) -> &mut Self {
        self.event_about(30, node, 0, request, &[("model", string(model))]).wait(ms);
        let attributes = [("model", string(model)), ("input_tokens", int(input)), ("output_tokens", int(output))];
        self.event_about(31, node, ms, request, &attributes)
    }

    pub fn chunk(&mut self, request: &str, index: u64, text: &str) -> &mut Self {
        self.say(3, 3, Writer::new().bytes(2, request).bytes(3, text).varint(6, index))
    }

    pub fn tool(&mut self, call: &str, tool: &str, stage: u64, error: &str) -> &mut Self {
        self.say(4, 4, Writer::new().bytes(2, call).bytes(3, tool).varint(4, stage).bytes(7, error))
    }

    /// Replaces one value; `after` is the whole state then, in canonical form.
    pub fn diff(&mut self, path: &str, value: &str, after: &str) -> &mut Self {
        let operation = Writer::new().varint(1, 2).bytes(2, path).bytes(3, value);
        self.say(2, 2, Writer::new().message(3, operation).bytes(4, Sha256::digest(after)))
    }

    pub fn checkpoint(&mut self, id: u8, state: &str) -> &mut Self {
        self.checkpoint_as([id; 16], state)
    }

    pub fn checkpoint_as(&mut self, id: [u8; 16], state: &str) -> &mut Self {
        let body = Writer::new().bytes(2, id).bytes(3, state).bytes(5, Sha256::digest(state));
        self.say(5, 5, body)
    }

    /// Lets the message of this sequence be said twice.
    pub fn repeat(&mut self, sequence: u64) -> &mut Self {
        let again = self.messages[sequence as usize - 1].clone();
        self.messages.push(again);
        self
    }

    /// What was said so far is not sent; it goes on from there.
    pub fn forget(&mut self) -> &mut Self {
        self.messages.clear();
        self
    }

    /// Lets the message of this sequence be lost.
    pub fn lose(&mut self, sequence: u64) -> &mut Self {
        self.messages.remove(sequence as usize - 1);
        self
    }

    pub fn send(&self, producer: &Producer, partition: u32) {
        for (now_us, message) in &self.messages {
            let value = [&[0], message.as_slice()].concat();
            let timestamp_ms = Some((now_us / 1_000) as i64);
            let key = Some(self.thread.as_bytes());
            producer.send_parts(partition, Parts { key, value: Some(&value), timestamp_ms, headers: &[] });
        }
        producer.flush();
    }
}
