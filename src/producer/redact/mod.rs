//! Secrets are taken out of events before anything leaves: values under names that say so (`api_key`, `password` …),
//! and texts that look like one (`sk-…`, `AKIA…`, bearer tokens, private keys …), in every text of an event but the ids
//! of tenant, thread and message, and in every name of a map: in attributes, JSON and free text, however they are nested
//! in each other. Ids by which readers pair events are such texts too: the same id becomes the same text.
//!
//! Only secrets are replaced; JSON keeps its numbers, its blanks and the order of its members, even equal ones. Of free
//! text rather too much goes than too little: a header's line as a whole, a bracket that is not closed to the end.
//! Names of one map that look the same once their secrets are gone are numbered: `[REDACTED]`, `[REDACTED] 2`.
//!
//! What cannot be seen cannot be taken out: a secret in bytes of which ASCII is no part (UTF-16, archives), one that is
//! cut in two by token streaming, one whose `=` is encoded (`password%3D…`), and in free text what goes on
//! behind a blank or on the next line without a quote. A compressed checkpoint is refused for that reason.

mod names;
mod text;
mod value;
mod json;
mod tree;

use sha2::{Digest, Sha256};

use super::outgoing::Outgoing;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::diff_operation::ValueEncoding;
use crate::wire::proto::metric_value;
use crate::wire::proto::{Checkpoint, Error, Event, ExecutionTrace, Metrics, StateDiff, TokenChunk, ToolExecution};

use names::Names;
use tree::Walk;

/// What a secret is replaced by.
pub const REDACTED: &str = "[REDACTED]";

/// What is taken out of events.
#[derive(Clone, Debug)]
pub enum Redaction {
    /// Nothing: events leave as they are.
    Off,
    /// What is under a name of a secret, and what looks like one.
    On(Secrets),
}

impl Default for Redaction {
    fn default() -> Self {
        Self::On(Secrets::default())
    }
}

/// Which names mean that their value is a secret, beside the well-known ones.
#[derive(Clone, Default, Debug)]
pub struct Secrets {
    names: Names,
}

impl Secrets {
    /// One more name. Case and punctuation do not matter, and a longer name that ends with it counts too:
    /// `pin` also means `card_pin` and `X-Card-Pin`, but not `pins`.
    pub fn name(mut self, name: &str) -> Self {
        self.names.add(name);
        self
    }
}

impl Redaction {
    /// A text as it may leave.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Self::On(secrets) = self {
            Walk::new(&secrets.names).text(&mut text);
        }
        text
    }

    /// A JSON value as it may leave. Returns how many secrets were taken out.
    pub fn json(&self, value: &mut serde_json::Value) -> u64 {
        let Self::On(secrets) = self else { return 0 };
        let mut walk = Walk::new(&secrets.names);
        walk.json(value);
        walk.count
    }

    /// An event as it may leave, as the producer does it: everything in it that is text, but the header. Returns how many secrets were
    /// taken out; an error names a part that cannot be looked into.
    pub fn apply(&self, outgoing: &mut Outgoing) -> Result<u64, &'static str> {
        let Self::On(secrets) = self else { return Ok(0) };
        let mut walk = Walk::new(&secrets.names);
        match &mut outgoing.message.message {
            Some(Payload::Event(event)) => of_event(&mut walk, event),
            Some(Payload::StateDiff(diff)) => of_diff(&mut walk, diff)?,
            Some(Payload::TokenChunk(chunk)) => of_chunk(&mut walk, chunk),
            Some(Payload::ToolExecution(tool)) => of_tool(&mut walk, tool),
            Some(Payload::Checkpoint(checkpoint)) => of_checkpoint(&mut walk, checkpoint)?,
            Some(Payload::Metrics(metrics)) => of_metrics(&mut walk, metrics),
            Some(Payload::Error(error)) => of_error(&mut walk, error),
            Some(Payload::ExecutionTrace(trace)) => of_trace(&mut walk, trace),
            Some(Payload::EventBatch(batch)) => batch.events.iter_mut().for_each(|event| of_event(&mut walk, event)),
            None => {}
        }
        Ok(walk.count)
    }
}

fn of_event(walk: &mut Walk<'_>, event: &mut Event) {
    walk.text(&mut event.node_id);
    walk.text(&mut event.llm_request_id);
    walk.attributes(&mut event.attributes, 0);
}

fn of_chunk(walk: &mut Walk<'_>, chunk: &mut TokenChunk) {
    walk.text(&mut chunk.request_id);
    walk.text(&mut chunk.text);
    walk.text(&mut chunk.model);
}

/// A diff is a patch of a state that went before; its hash is of a state that nobody here has. When the patch changes,
/// the hash goes: what cannot be verified is better than what looks corrupt.
fn of_diff(walk: &mut Walk<'_>, diff: &mut StateDiff) -> Result<(), &'static str> {
    let before = walk.count;
    walk.bytes(&mut diff.full_state);
    for operation in &mut diff.operations {
        if !matches!(operation.encoding(), ValueEncoding::Json | ValueEncoding::Raw) {
            return Err("a state diff that is not JSON");
        }
        // What is within a secret is one: `/password/-`. Of a name only letters and digits count, and `~1` is a slash.
        let secret = |part: &str| match part.contains('~') {
            true => walk.is_secret(part.replace("~1", "/").replace("~0", "~").as_bytes()),
            false => walk.is_secret(part.as_bytes()),
        };
        if operation.path.split('/').any(secret) {
            walk.secret_bytes(&mut operation.value);
        } else {
            walk.bytes(&mut operation.value);
        }
        walk.text(&mut operation.path);
        walk.text(&mut operation.from);
    }
    if walk.count > before {
        diff.state_hash.clear();
    }
    Ok(())
}

fn of_tool(walk: &mut Walk<'_>, tool: &mut ToolExecution) {
    walk.text(&mut tool.call_id);
    walk.text(&mut tool.tool_name);
    walk.bytes(&mut tool.arguments);
    walk.bytes(&mut tool.result);
    walk.text(&mut tool.error);
    if let Some(error) = &mut tool.error_details {
        of_error(walk, error);
    }
}

fn of_checkpoint(walk: &mut Walk<'_>, checkpoint: &mut Checkpoint) -> Result<(), &'static str> {
    if checkpoint.compression_info.as_ref().is_some_and(|info| info.r#type != 0) {
        return Err("a compressed checkpoint");
    }
    let before = walk.count;
    walk.bytes(&mut checkpoint.state);
    if walk.count > before && !checkpoint.checksum.is_empty() {
        checkpoint.checksum = Sha256::digest(&checkpoint.state).to_vec();
    }
    walk.text(&mut checkpoint.state_type);
    walk.text(&mut checkpoint.storage_uri);
    walk.texts(&mut checkpoint.metadata);
    Ok(())
}

fn of_metrics(walk: &mut Walk<'_>, metrics: &mut Metrics) {
    walk.text(&mut metrics.scope);
    walk.text(&mut metrics.scope_id);
    walk.texts(&mut metrics.tags);
    for (name, value) in &mut metrics.metrics {
        match &mut value.value {
            Some(metric_value::Value::StringValue(text)) => walk.named_text(name, text),
            Some(metric_value::Value::BytesValue(bytes)) => walk.named_bytes(name, bytes),
            _ => {}
        }
        walk.text(&mut value.unit);
    }
    walk.keys(&mut metrics.metrics);
}

fn of_error(walk: &mut Walk<'_>, error: &mut Error) {
    walk.text(&mut error.error_code);
    walk.text(&mut error.exception_type);
    walk.text(&mut error.message);
    walk.text(&mut error.stack_trace);
    walk.texts(&mut error.context);
    error.suggestions.iter_mut().for_each(|text| walk.text(text));
}

fn of_trace(walk: &mut Walk<'_>, trace: &mut ExecutionTrace) {
    for text in [&mut trace.execution_id, &mut trace.started_at, &mut trace.ended_at] {
        walk.text(text);
    }
    walk.bytes(&mut trace.final_state);
    for (name, value) in &mut trace.metadata {
        walk.named_bytes(name, value);
    }
    walk.keys(&mut trace.metadata);
    for node in &mut trace.nodes_executed {
        for text in [&mut node.node, &mut node.started_at, &mut node.ended_at] {
            walk.text(text);
        }
        walk.bytes(&mut node.input);
        walk.bytes(&mut node.output);
        walk.texts(&mut node.metadata);
    }
    for error in &mut trace.errors {
        for text in [&mut error.node, &mut error.error_code, &mut error.timestamp] {
            walk.text(text);
        }
        walk.text(&mut error.message);
        walk.text(&mut error.stack_trace);
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod hostile_tests;
