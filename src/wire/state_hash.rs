//! The hash of a state: SHA-256 over its canonical JSON, which is the same for every producer and every reader.
//!
//! Canonical means: keys of every object in the order of their UTF-8 bytes, no blanks, scalars as `serde_json` prints
//! them. The order is made here and not left to the map of `serde_json`, whose order is decided by whoever in the
//! build asks for its feature `preserve_order`.

use std::io::{self, Write};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// As `state_hash` of a `StateDiff` carries it.
pub type StateHash = [u8; 32];

/// What producers send and readers compare.
pub fn state_hash(state: &Value) -> StateHash {
    let mut hasher = Hasher(Sha256::new());
    match write_canonical(state, &mut hasher) {
        Ok(()) => hasher.0.finalize().into(),
        Err(error) => unreachable!("a hash takes every byte: {error}"),
    }
}

/// The bytes that are hashed.
pub fn canonical_json(state: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    match write_canonical(state, &mut bytes) {
        Ok(()) => bytes,
        Err(error) => unreachable!("memory takes every byte: {error}"),
    }
}

/// A container that is being written. The stack is a list of these and not that of the thread, so that a state which
/// somebody nested ten thousand deep costs memory and no crash.
enum Open<'a> {
    Array(std::slice::Iter<'a, Value>),
    Object(std::vec::IntoIter<(&'a String, &'a Value)>),
}

/// Writes `state` in its one canonical form; fails only if `out` does.
pub fn write_canonical(state: &Value, out: &mut impl Write) -> io::Result<()> {
    let mut open = Vec::new();
    begin(state, &mut open, out)?;
    // Whether a container has just been opened: then no comma comes first.
    let mut fresh = true;
    while let Some(container) = open.last_mut() {
        let next = match container {
            Open::Array(values) => values.next().map(|value| (None, value)),
            Open::Object(members) => members.next().map(|(key, value)| (Some(key), value)),
        };
        let Some((key, value)) = next else {
            out.write_all(if matches!(container, Open::Array(_)) { b"]" } else { b"}" })?;
            open.pop();
            fresh = false;
            continue;
        };
        if !fresh {
            out.write_all(b",")?;
        }
        if let Some(key) = key {
            serde_json::to_writer(&mut *out, key)?;
            out.write_all(b":")?;
        }
        let depth = open.len();
        begin(value, &mut open, out)?;
        fresh = open.len() > depth;
    }
    Ok(())
}

/// A scalar is written, a container opened.
fn begin<'a>(value: &'a Value, open: &mut Vec<Open<'a>>, out: &mut impl Write) -> io::Result<()> {
    match value {
        Value::Array(values) => {
            open.push(Open::Array(values.iter()));
            out.write_all(b"[")
        }
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            // Strings compare by their bytes.
            members.sort_unstable_by_key(|(key, _)| *key);
            open.push(Open::Object(members.into_iter()));
            out.write_all(b"{")
        }
        scalar => Ok(serde_json::to_writer(out, scalar)?),
    }
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hex(hash: StateHash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn check(state: &Value, expected: &str) {
        assert_eq!(String::from_utf8(canonical_json(state)).expect("JSON is text"), expected);
        assert_eq!(state_hash(state), <StateHash>::from(Sha256::digest(expected)));
    }

    /// The vector that the predecessor's producers and its page agreed on.
    #[test]
    fn the_golden_vector_of_the_predecessor() {
        let state = json!({ "b": 2, "a": 1, "nested": { "z": "x", "y": [true, null] } });
        check(&state, r#"{"a":1,"b":2,"nested":{"y":[true,null],"z":"x"}}"#);
        assert_eq!(hex(state_hash(&state)), "f35279c8aa6b00bc82d43a191596cc3b41b7de7899ee16e36a08efe3afc45103");
    }

    /// Says something only where the build unifies `preserve_order` in, which `tests/run` does in a stage of its own:
    /// then the map gives back what was put in last at the end.
    #[test]
    fn the_order_is_ours_whatever_the_map_does() {
        let mut inner = serde_json::Map::new();
        let mut outer = serde_json::Map::new();
        for key in ["zz", "a", "z", "é", "Z", "", "10", "9", "\u{10000}", "\u{ffff}"] {
            inner.insert(key.to_owned(), json!(key.len()));
            outer.insert(key.to_owned(), Value::Object(inner.clone()));
        }
        // By bytes: the page's order, by UTF-16 units, would have U+10000 before U+FFFF.
        let all = "{\"\":0,\"10\":2,\"9\":1,\"Z\":1,\"a\":1,\"z\":1,\"zz\":2,\"é\":2,\"\u{ffff}\":3,\"\u{10000}\":4}";
        check(&Value::Object(inner), all);
        let text = String::from_utf8(canonical_json(&Value::Object(outer))).expect("JSON is text");
        let keys: Vec<usize> = ["\"\":{", "\"10\":{", "\"9\":{", "\"Z\":{", "\"a\":{"]
            .iter()
            .map(|key| text.find(*key).expect("every key is there"))
            .collect();
        assert!(keys.is_sorted(), "{text}");
    }

    #[test]
    fn scalars_are_printed_as_serde_json_prints_them() {
        for (state, expected) in [
            (json!(null), "null"),
            (json!(1.0), "1.0"),
            (json!(-0.5), "-0.5"),
            (json!(1e300), "1e+300"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(i64::MIN), "-9223372036854775808"),
            (json!("\u{1}\"\\\n/é"), r#""\u0001\"\\\n/é""#),
            (json!([]), "[]"),
            (json!({}), "{}"),
            (json!([[], {}, [1, [2]], { "a": {} }]), r#"[[],{},[1,[2]],{"a":{}}]"#),
        ] {
            check(&state, expected);
        }
    }

    /// Without its feature `float_roundtrip`, `serde_json` reads some numbers as their neighbours.
    #[test]
    fn a_state_that_was_written_and_read_has_the_same_hash() {
        for number in [0.385_142_326_217_920_05, 1.797_693_134_862_315_7e308, 5e-324, 0.1 + 0.2, 1.0 / 3.0] {
            let state = json!({ "number": number });
            let read: Value = serde_json::from_slice(&canonical_json(&state)).expect("JSON");
            assert_eq!(state_hash(&read), state_hash(&state), "{number}");
        }
    }

    #[test]
    fn a_deep_state_is_hashed_and_no_stack_overflows() {
        let mut state = json!(1);
        for _ in 0..100_000 {
            state = Value::Array(vec![state]);
        }
        assert_eq!(canonical_json(&state).len(), 200_001);
        // To drop it is what overflows.
        std::mem::forget(state);
    }
}
