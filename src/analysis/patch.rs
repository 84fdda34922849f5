//! A state and its changes: JSON Patch (RFC 6902) as `StateDiff` carries it, with bounds that hold after every
//! operation.
//!
//! Written here and not taken from a library because of the bounds: a patch of two hundred bytes that copies a list
//! into itself forty times asks for more memory than there is, and a library finds out too late. A change is applied
//! as a whole or not at all.

use serde_json::Value;
use thiserror::Error;

use crate::wire::proto::DiffOperation;
use crate::wire::proto::diff_operation::{OpType, ValueEncoding};

use super::limits::{STATE_BYTES_MAX, STATE_DEPTH_MAX};
use super::text::one_line;

/// Why a change cannot be applied. The state is what it was before.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PatchError {
    #[error("operation {index}: there is nothing at `{path}`")]
    NotThere { index: usize, path: String },
    #[error("operation {index}: `{path}` is no JSON pointer")]
    Pointer { index: usize, path: String },
    #[error("operation {index}: the value at `{path}` is not what the test says")]
    TestFailed { index: usize, path: String },
    #[error("operation {index}: its value is not JSON")]
    Value { index: usize },
    #[error("operation {index}: values are to be JSON, this is {encoding}")]
    Encoding { index: usize, encoding: String },
    #[error("operation {index}: {number} is no operation that is known")]
    Unknown { index: usize, number: i32 },
    #[error("operation {index}: `{path}` cannot be moved into itself")]
    IntoItself { index: usize, path: String },
    #[error("operation {index}: the state would be larger than {} MiB", STATE_BYTES_MAX >> 20)]
    TooLarge { index: usize },
    #[error("operation {index}: the state would be nested deeper than {STATE_DEPTH_MAX} levels")]
    TooDeep { index: usize },
    #[error("not looked at: the states of this run took all the work that may be spent on one")]
    TooMuchWork,
}

/// How much may still be done, in bytes that are parsed, walked or hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Work {
    pub left: u64,
}

impl Work {
    pub fn spend(&mut self, bytes: usize) -> Result<(), PatchError> {
        self.left = self.left.checked_sub(bytes as u64).ok_or(PatchError::TooMuchWork)?;
        Ok(())
    }
}

/// A JSON value whose size is known at any time.
#[derive(Clone, PartialEq, Debug)]
pub struct State {
    value: Value,
    /// Invariant: `size(&value)`, not above [`STATE_BYTES_MAX`].
    bytes: usize,
}

impl State {
    /// `None` if it is too large or too deep.
    pub fn new(value: Value) -> Option<Self> {
        let Extent { bytes, depth } = extent(&value);
        (bytes <= STATE_BYTES_MAX && depth <= STATE_DEPTH_MAX).then_some(Self { value, bytes })
    }

    pub fn value(&self) -> &Value {
        &self.value
    }

    /// About the length of its JSON text.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The state after all operations.
    pub fn apply(&self, operations: &[DiffOperation], work: &mut Work) -> Result<State, PatchError> {
        work.spend(self.bytes)?;
        let mut state = self.clone();
        for (index, operation) in operations.iter().enumerate() {
            state.operation(index, operation, work)?;
        }
        Ok(state)
    }

    fn operation(&mut self, index: usize, operation: &DiffOperation, work: &mut Work) -> Result<(), PatchError> {
        work.spend(64 + operation.path.len() + operation.from.len() + operation.value.len())?;
        let path = Pointer::parse(index, &operation.path)?;
        let Ok(op) = OpType::try_from(operation.op) else {
            return Err(PatchError::Unknown { index, number: operation.op });
        };
        match op {
            OpType::Add => {
                let value = value_of(index, operation)?;
                self.add(&path, value, work)
            }
            OpType::Remove => self.remove(&path, work).map(drop),
            OpType::Replace => {
                let value = value_of(index, operation)?;
                self.replace(&path, value, work)
            }
            OpType::Move => {
                let from = Pointer::parse(index, &operation.from)?;
                if path.keys.len() > from.keys.len() && path.keys.starts_with(&from.keys) {
                    return Err(PatchError::IntoItself { index, path: from.shown() });
                }
                if path.keys == from.keys && !from.keys.is_empty() {
                    return self.get(&from).map(drop);
                }
                let value = self.remove(&from, work)?;
                self.add(&path, value, work)
            }
            OpType::Copy => {
                let from = Pointer::parse(index, &operation.from)?;
                let value = self.get(&from)?;
                let Extent { bytes, .. } = extent(value);
                // Before there are two of it.
                if self.bytes.saturating_add(bytes) > STATE_BYTES_MAX {
                    return Err(PatchError::TooLarge { index });
                }
                work.spend(bytes)?;
                let value = value.clone();
                self.add(&path, value, work)
            }
            OpType::Test => {
                let expected = value_of(index, operation)?;
                let found = self.get(&path)?;
                match same(found, &expected) {
                    true => Ok(()),
                    false => Err(PatchError::TestFailed { index, path: path.shown() }),
                }
            }
        }
    }

    fn get(&self, path: &Pointer) -> Result<&Value, PatchError> {
        path.keys.iter().try_fold(&self.value, |value, key| child(value, key)).ok_or_else(|| path.not_there())
    }

    fn get_mut(&mut self, path: &Pointer, keys: &[String]) -> Result<&mut Value, PatchError> {
        keys.iter().try_fold(&mut self.value, |value, key| child_mut(value, key)).ok_or_else(|| path.not_there())
    }

    /// Books what comes in instead of what goes out, before it does.
    fn book(&mut self, path: &Pointer, comes: Extent, goes: usize, work: &mut Work) -> Result<(), PatchError> {
        let Extent { bytes, depth } = comes;
        work.spend(bytes.saturating_add(goes))?;
        let after = self.bytes.saturating_sub(goes).saturating_add(bytes);
        if after > STATE_BYTES_MAX {
            return Err(PatchError::TooLarge { index: path.index });
        }
        if path.keys.len() + depth > STATE_DEPTH_MAX {
            return Err(PatchError::TooDeep { index: path.index });
        }
        self.bytes = after;
        Ok(())
    }

    fn add(&mut self, path: &Pointer, value: Value, work: &mut Work) -> Result<(), PatchError> {
        let Some((key, parents)) = path.keys.split_last() else {
            let goes = self.bytes;
            self.book(path, extent(&value), goes, work)?;
            self.value = value;
            return Ok(());
        };
        let mut comes = extent(&value);
        let goes = match self.get_mut(path, parents)? {
            Value::Object(map) => {
                comes.bytes += member_bytes(key);
                map.get(key).map_or(0, |old| extent(old).bytes + member_bytes(key))
            }
            Value::Array(list) => {
                // To make room moves what is behind it.
                work.spend(list.len())?;
                if place_in(list.len() + 1, key).is_none() && key != "-" {
                    return Err(path.not_there());
                }
                comes.bytes += ELEMENT_BYTES;
                0
            }
            _ => return Err(path.not_there()),
        };
        self.book(path, comes, goes, work)?;
        match self.get_mut(path, parents)? {
            Value::Object(map) => drop(map.insert(key.clone(), value)),
            Value::Array(list) => {
                let at = place_in(list.len() + 1, key).unwrap_or(list.len());
                list.insert(at, value);
            }
            _ => return Err(path.not_there()),
        }
        Ok(())
    }

    fn replace(&mut self, path: &Pointer, value: Value, work: &mut Work) -> Result<(), PatchError> {
        let goes = extent(self.get(path)?).bytes;
        self.book(path, extent(&value), goes, work)?;
        *self.get_mut(path, &path.keys)? = value;
        Ok(())
    }

    fn remove(&mut self, path: &Pointer, work: &mut Work) -> Result<Value, PatchError> {
        // Without the whole there would be no state.
        let Some((key, parents)) = path.keys.split_last() else { return Err(path.not_there()) };
        let (removed, around) = match self.get_mut(path, parents)? {
            Value::Object(map) => (map.remove(key), member_bytes(key)),
            Value::Array(list) => {
                work.spend(list.len())?;
                (place_in(list.len(), key).map(|at| list.remove(at)), ELEMENT_BYTES)
            }
            _ => (None, 0),
        };
        let removed = removed.ok_or_else(|| path.not_there())?;
        let goes = extent(&removed).bytes;
        work.spend(goes)?;
        self.bytes = self.bytes.saturating_sub(goes + around);
        Ok(removed)
    }
}

/// Beside its value a member of an object has its key, quotes, a colon and a comma.
fn member_bytes(key: &str) -> usize {
    key.len() + 4
}

/// Beside its value an element of a list has a comma.
const ELEMENT_BYTES: usize = 1;

struct Extent {
    bytes: usize,
    /// Levels of containers; 0 for a scalar.
    depth: usize,
}

/// How large and how deep, on a stack of its own.
fn extent(value: &Value) -> Extent {
    let mut found = Extent { bytes: 0, depth: 0 };
    let mut open = vec![(value, 0)];
    while let Some((value, depth)) = open.pop() {
        found.depth = found.depth.max(depth);
        found.bytes = found.bytes.saturating_add(match value {
            Value::Null | Value::Bool(_) => 5,
            Value::Number(_) => 12,
            Value::String(text) => text.len() + 2,
            Value::Array(list) => {
                found.depth = found.depth.max(depth + 1);
                open.extend(list.iter().map(|value| (value, depth + 1)));
                2 + list.len() * ELEMENT_BYTES
            }
            Value::Object(map) => {
                found.depth = found.depth.max(depth + 1);
                open.extend(map.values().map(|value| (value, depth + 1)));
                2 + map.keys().map(|key| member_bytes(key)).sum::<usize>()
            }
        });
    }
    found
}

/// Equal as JSON: `1` and `1.0` are one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64() && a.is_f64() != b.is_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

struct Pointer {
    /// Of the operation.
    index: usize,
    keys: Vec<String>,
}

impl Pointer {
    fn parse(index: usize, text: &str) -> Result<Self, PatchError> {
        let wrong = || PatchError::Pointer { index, path: one_line(text, 80) };
        if text.is_empty() {
            return Ok(Self { index, keys: Vec::new() });
        }
        let rest = text.strip_prefix('/').ok_or_else(wrong)?;
        let mut keys = Vec::new();
        for part in rest.split('/') {
            // `~` stands before 0 or 1 only.
            if part.split('~').skip(1).any(|rest| !rest.starts_with(['0', '1'])) {
                return Err(wrong());
            }
            if keys.len() > STATE_DEPTH_MAX {
                return Err(PatchError::TooDeep { index });
            }
            keys.push(part.replace("~1", "/").replace("~0", "~"));
        }
        Ok(Self { index, keys })
    }

    fn shown(&self) -> String {
        let parts = self.keys.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1")));
        one_line(&parts.collect::<String>(), 80)
    }

    fn not_there(&self) -> PatchError {
        PatchError::NotThere { index: self.index, path: self.shown() }
    }
}

/// An index as RFC 6901 writes it, below `len`: digits without a leading zero.
fn place_in(len: usize, key: &str) -> Option<usize> {
    let plain = key == "0" || !key.starts_with('0') && !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
    key.parse().ok().filter(|index| plain && *index < len)
}

fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key),
        Value::Array(list) => list.get(place_in(list.len(), key)?),
        _ => None,
    }
}

fn child_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(map) => map.get_mut(key),
        Value::Array(list) => {
            let at = place_in(list.len(), key)?;
            list.get_mut(at)
        }
        _ => None,
    }
}

/// `serde_json` refuses what is nested deeper than 128 levels.
fn value_of(index: usize, operation: &DiffOperation) -> Result<Value, PatchError> {
    if operation.encoding != ValueEncoding::Json as i32 {
        let encoding = ValueEncoding::try_from(operation.encoding);
        let encoding = encoding.map_or_else(|_| operation.encoding.to_string(), |one| one.as_str_name().to_owned());
        return Err(PatchError::Encoding { index, encoding });
    }
    serde_json::from_slice(&operation.value).map_err(|_| PatchError::Value { index })
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
