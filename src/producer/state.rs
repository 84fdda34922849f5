//! An agent's state as events: what changed (JSON Patch), or all of it where that is smaller, with a hash by which a
//! viewer sees that it has the same.
//!
//! A tracker moves on only when it is told that an event was accepted: a diff that never left must not be the base of
//! the next. Deliberately absent: sending.

use json_patch::PatchOperation;
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::metrics::Metrics;
use super::redact::Redaction;
use crate::wire::proto::diff_operation::OpType;
use crate::wire::proto::{Checkpoint, DiffOperation, StateDiff};
use crate::wire::state_hash::state_hash;

/// What readers of the predecessor expect.
const STATE_TYPE: &str = "serde_json::Value";

/// One agent's state, as far as its events have told it.
#[derive(Debug)]
pub struct StateTracker {
    redaction: Redaction,
    bytes_max: usize,
    metrics: Option<Metrics>,
    told: Option<Value>,
    checkpoint_id: Vec<u8>,
}

/// A state that is told with an event that was made of it. Give it to [`StateTracker::accepted`] once that event
/// was accepted; drop it otherwise.
#[derive(Debug)]
#[must_use = "give it to `accepted` when the event was accepted"]
pub struct Told {
    state: Value,
    checkpoint_id: Option<Vec<u8>>,
}

impl StateTracker {
    /// Nothing was told yet. States are redacted first; an event larger than `bytes_max` is not made.
    pub fn new(redaction: Redaction, bytes_max: usize, metrics: Option<Metrics>) -> Self {
        Self { redaction, bytes_max, metrics, told: None, checkpoint_id: Vec::new() }
    }

    /// The event that turns what was told into this state. None if nothing changed, or if even the smaller of patch
    /// and full state is larger than the limit (counted as `too_large`).
    pub fn change(&self, mut state: Value) -> Option<(StateDiff, Told)> {
        self.redaction.json(&mut state);
        if self.told.as_ref() == Some(&state) {
            return None;
        }
        let full = full(&state);
        let patch = self.told.as_ref().map(|told| operations(told, &state));
        let mut diff = StateDiff {
            base_checkpoint_id: self.checkpoint_id.clone(),
            state_hash: state_hash(&state).to_vec(),
            ..StateDiff::default()
        };
        match patch {
            Some(operations) if operations.iter().map(wire_bytes).sum::<usize>() <= full.len() => {
                diff.operations = operations;
            }
            patch => {
                diff.full_state = full;
                if patch.is_some() {
                    self.degraded("full_state");
                }
            }
        }
        if diff.encoded_len() > self.bytes_max {
            self.degraded("too_large");
            return None;
        }
        Some((diff, Told { state, checkpoint_id: None }))
    }

    /// A checkpoint of this state, to which later diffs refer. None if it is larger than the limit (`too_large`). Its
    /// JSON is not compressed: the record as a whole is.
    pub fn checkpoint(&self, mut state: Value) -> Option<(Checkpoint, Told)> {
        self.redaction.json(&mut state);
        let json = full(&state);
        if json.len() > self.bytes_max {
            self.degraded("too_large");
            return None;
        }
        let id = Uuid::new_v4().as_bytes().to_vec();
        let checkpoint = Checkpoint {
            checkpoint_id: id.clone(),
            checksum: Sha256::digest(&json).to_vec(),
            state: json,
            state_type: STATE_TYPE.to_owned(),
            ..Checkpoint::default()
        };
        Some((checkpoint, Told { state, checkpoint_id: Some(id) }))
    }

    /// The event was accepted: the next change is told from here.
    pub fn accepted(&mut self, told: Told) {
        self.told = Some(told.state);
        if let Some(id) = told.checkpoint_id {
            self.checkpoint_id = id;
        }
    }

    /// An event was accepted and then refused: viewers miss it, so the next change is a full state.
    pub fn forget(&mut self) {
        self.told = None;
    }

    fn degraded(&self, reason: &str) {
        if let Some(metrics) = &self.metrics {
            metrics.degraded(reason);
        }
    }
}

fn full(state: &Value) -> Vec<u8> {
    state.to_string().into_bytes()
}

fn operations(old: &Value, new: &Value) -> Vec<DiffOperation> {
    let operation = |op: OpType, path: String, value: Option<&Value>| DiffOperation {
        op: op as i32,
        path,
        value: value.map(full).unwrap_or_default(),
        ..DiffOperation::default()
    };
    let patch = json_patch::diff(old, new);
    let each = patch.0.iter().map(|step| {
        let path = step.path().to_string();
        match step {
            PatchOperation::Add(step) => operation(OpType::Add, path, Some(&step.value)),
            PatchOperation::Remove(_) => operation(OpType::Remove, path, None),
            PatchOperation::Replace(step) => operation(OpType::Replace, path, Some(&step.value)),
            PatchOperation::Move(step) => {
                DiffOperation { from: step.from.to_string(), ..operation(OpType::Move, path, None) }
            }
            PatchOperation::Copy(step) => {
                DiffOperation { from: step.from.to_string(), ..operation(OpType::Copy, path, None) }
            }
            PatchOperation::Test(step) => operation(OpType::Test, path, Some(&step.value)),
        }
    });
    each.collect()
}

/// In a diff: the operation, its tag and its length.
fn wire_bytes(operation: &DiffOperation) -> usize {
    let bytes = operation.encoded_len();
    1 + prost::length_delimiter_len(bytes) + bytes
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
