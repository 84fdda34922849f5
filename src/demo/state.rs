//! The state of a run, its changes as JSON Patch, and its hash: SHA-256 over canonical JSON (keys sorted, no blanks).
//!
//! Bounded: old messages and notes are removed by the same patches, so that no state grows with the length of a run.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::dice::Dice;
use super::tools::round;
use crate::wire::proto::DiffOperation;
use crate::wire::proto::diff_operation::{OpType, ValueEncoding};

const MESSAGES_MAX: usize = 6;
const NOTES_MAX: usize = 8;
/// Percent of changes after which a run summarises its memory.
const SUMMARISED_PERCENT: u64 = 8;
/// Of an answer, this much goes into the state.
const CONTENT_MAX_CHARS: usize = 240;

// Invariant: the fields of these structs stand in alphabetical order, which makes what serde writes canonical.
#[derive(Serialize)]
struct Budget {
    limit: u64,
    used: u64,
}

#[derive(Serialize)]
struct Message {
    content: String,
    role: &'static str,
}

#[derive(Serialize)]
struct Note {
    node: &'static str,
    step: u64,
}

#[derive(Serialize)]
struct Fields {
    budget: Budget,
    confidence: f64,
    messages: Vec<Message>,
    notes: Vec<Note>,
    status: &'static str,
    step: u64,
    topic: &'static str,
}

pub struct State {
    fields: Fields,
    /// Invariant: canonical JSON of `fields`.
    json: Vec<u8>,
}

/// One change, as a `StateDiff` carries it: either operations or, where those would be larger, the whole state.
pub struct Change {
    pub operations: Vec<DiffOperation>,
    pub full_state: Vec<u8>,
}

impl State {
    pub fn new(topic: &'static str, dice: &mut Dice) -> Self {
        let question = format!("Please look into {topic} and tell me what to do.");
        let fields = Fields {
            budget: Budget { limit: dice.between(8, 40) * 1_000, used: 0 },
            confidence: round(dice.fraction(0.11, 0.39)),
            messages: vec![Message { content: question, role: "user" }],
            notes: Vec::new(),
            status: "running",
            step: 0,
            topic,
        };
        let mut state = Self { fields, json: Vec::new() };
        state.write();
        state
    }

    /// Canonical JSON.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    pub fn hash(&self) -> Vec<u8> {
        Sha256::digest(&self.json).to_vec()
    }

    /// What a node leaves behind: its note, what the model said, what it cost.
    pub fn change(&mut self, node: &'static str, said: &str, tokens: u64, dice: &mut Dice) -> Change {
        let fields = &mut self.fields;
        let mut operations = Vec::with_capacity(6);

        fields.step += 1;
        operations.push(operation(OpType::Replace, "/step", &fields.step));
        fields.confidence = round((fields.confidence + dice.fraction(0.0, 0.12)).min(0.97));
        operations.push(operation(OpType::Replace, "/confidence", &fields.confidence));
        if tokens > 0 {
            fields.budget.used += tokens;
            operations.push(operation(OpType::Replace, "/budget/used", &fields.budget.used));
        }
        if !said.is_empty() {
            let message = Message { content: said.chars().take(CONTENT_MAX_CHARS).collect(), role: "assistant" };
            operations.push(operation(OpType::Add, "/messages/-", &message));
            fields.messages.push(message);
            if fields.messages.len() > MESSAGES_MAX {
                fields.messages.remove(1);
                operations.push(removal("/messages/1"));
            }
        }
        let note = Note { node, step: fields.step };
        operations.push(operation(OpType::Add, "/notes/-", &note));
        fields.notes.push(note);
        if fields.notes.len() > NOTES_MAX {
            fields.notes.remove(0);
            operations.push(removal("/notes/0"));
        }
        if dice.chance(SUMMARISED_PERCENT) {
            return self.summarise();
        }
        self.finish(operations)
    }

    /// Drops all but the beginning and the end, which touches everything: such a change is larger than what it leaves.
    fn summarise(&mut self) -> Change {
        let fields = &mut self.fields;
        let last = fields.messages.len().saturating_sub(1).max(1);
        fields.messages.drain(1..last);
        fields.notes.drain(..fields.notes.len().saturating_sub(2));
        let operations = vec![
            operation(OpType::Replace, "/budget", &fields.budget),
            operation(OpType::Replace, "/confidence", &fields.confidence),
            operation(OpType::Replace, "/messages", &fields.messages),
            operation(OpType::Replace, "/notes", &fields.notes),
            operation(OpType::Replace, "/step", &fields.step),
        ];
        self.finish(operations)
    }

    /// The last change of a run.
    pub fn end(&mut self, status: &'static str) -> Change {
        self.fields.status = status;
        self.finish(vec![operation(OpType::Replace, "/status", &status)])
    }

    fn finish(&mut self, operations: Vec<DiffOperation>) -> Change {
        self.write();
        let patch_bytes: usize = operations.iter().map(|op| op.path.len() + op.value.len() + PATCH_KEYS_BYTES).sum();
        // The predecessor's rule: a patch more than a tenth larger than the state is replaced by the state.
        match patch_bytes > self.json.len() * 11 / 10 {
            true => Change { operations: Vec::new(), full_state: self.json.clone() },
            false => Change { operations, full_state: Vec::new() },
        }
    }

    fn write(&mut self) {
        self.json.clear();
        // Neither maps with other keys than text nor failing writers are in it, so this cannot fail; if it did, the
        // state would be empty and its hash that of nothing.
        if serde_json::to_writer(&mut self.json, &self.fields).is_err() {
            self.json.clear();
        }
    }
}

/// `{"op":"replace","path":"","value":}` and a comma.
const PATCH_KEYS_BYTES: usize = 36;

fn operation<T: Serialize>(op: OpType, path: &str, value: &T) -> DiffOperation {
    DiffOperation {
        op: op as i32,
        path: path.to_owned(),
        value: serde_json::to_vec(value).unwrap_or_default(),
        from: String::new(),
        encoding: ValueEncoding::Json as i32,
    }
}

fn removal(path: &str) -> DiffOperation {
    DiffOperation { op: OpType::Remove as i32, path: path.to_owned(), ..DiffOperation::default() }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Value;

    use super::*;

    /// JSON Patch as far as states use it.
    pub(crate) fn apply(state: &mut Value, operation: &DiffOperation) {
        let (parent, key) = operation.path.rsplit_once('/').expect("a pointer");
        let parent = state.pointer_mut(parent).expect("the parent exists");
        let value = || serde_json::from_slice::<Value>(&operation.value).expect("JSON");
        match (parent, operation.op()) {
            (Value::Object(map), OpType::Replace) => *map.get_mut(key).expect("replaced what is there") = value(),
            (Value::Array(list), OpType::Add) if key == "-" => list.push(value()),
            (Value::Array(list), OpType::Remove) => drop(list.remove(key.parse().expect("an index"))),
            (parent, op) => panic!("{op:?} {key} in {parent}"),
        }
    }

    #[test]
    fn patches_lead_from_state_to_state_and_the_hash_is_that_of_canonical_json() {
        let mut dice = Dice::new(6);
        let mut state = State::new("a topic", &mut dice);
        let mut copy: Value = serde_json::from_slice(state.json()).expect("JSON");
        let mut whole = 0;
        for step in 0..60_u64 {
            let said = if step % 3 == 0 { "What a model said, at some length. ".repeat(10) } else { String::new() };
            let change = match step {
                59 => state.end("done"),
                _ => state.change("a_node", &said, step % 2 * 120, &mut dice),
            };
            match change.operations.is_empty() {
                true => {
                    whole += 1;
                    copy = serde_json::from_slice(&change.full_state).expect("JSON");
                }
                false => change.operations.iter().for_each(|operation| apply(&mut copy, operation)),
            }
            // A `Value` keeps its keys sorted: its text is canonical.
            let canonical = copy.to_string();
            assert_eq!(canonical.as_bytes(), state.json(), "step {step}");
            assert_eq!(state.hash(), Sha256::digest(canonical.as_bytes()).to_vec());
            assert!(state.json().len() < 4_096, "bounded");
        }
        assert_eq!(copy["status"], "done");
        assert!(whole >= 1, "a summary is sent whole");
    }
}
