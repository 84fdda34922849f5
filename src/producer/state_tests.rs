//! What a viewer would do with the events: apply, compare the hash. And the predecessor's golden vector.

use serde_json::{Map, json};

use super::*;
use crate::wire::state_hash::canonical_json;

fn tracker() -> StateTracker {
    StateTracker::new(Redaction::default(), 1 << 20, None)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A viewer: applies a diff as RFC 6902 says, and verifies.
fn apply(state: &mut Value, diff: &StateDiff) {
    if diff.full_state.is_empty() {
        let patch: Vec<Value> = diff
            .operations
            .iter()
            .map(|operation| {
                let name = match operation.op() {
                    OpType::Add => "add",
                    OpType::Remove => "remove",
                    OpType::Replace => "replace",
                    other => panic!("{other:?}"),
                };
                let mut step = json!({ "op": name, "path": operation.path });
                if operation.op() != OpType::Remove {
                    step["value"] = serde_json::from_slice(&operation.value).expect("JSON");
                }
                step
            })
            .collect();
        let patch: json_patch::Patch = serde_json::from_value(patch.into()).expect("a patch");
        json_patch::patch(state, &patch).expect("it applies");
    } else {
        assert!(diff.operations.is_empty());
        *state = serde_json::from_slice(&diff.full_state).expect("JSON");
    }
    assert_eq!(hex(&state_hash(state)), hex(&diff.state_hash));
}

#[test]
fn the_golden_vector_of_the_predecessor() {
    // Members in an order that is not the sorted one, for a serde_json that keeps it.
    let state: Value =
        serde_json::from_str(r#"{"b": 2, "a": 1, "nested": {"z": "x", "y": [true, null]}}"#).expect("JSON");
    assert_eq!(canonical_json(&state), br#"{"a":1,"b":2,"nested":{"y":[true,null],"z":"x"}}"#);
    assert_eq!(hex(&state_hash(&state)), "f35279c8aa6b00bc82d43a191596cc3b41b7de7899ee16e36a08efe3afc45103");
}

#[test]
fn the_order_in_which_members_were_made_does_not_matter() {
    let (mut forth, mut back) = (Map::new(), Map::new());
    let names = ["é", "z", "a", "\u{ffff}", "\u{1f980}", "A", "", "a\"b"];
    names.iter().for_each(|name| drop(forth.insert((*name).to_owned(), 1.into())));
    names.iter().rev().for_each(|name| drop(back.insert((*name).to_owned(), 1.into())));
    let (forth, back) = (Value::Object(forth), Value::Object(back));
    assert_eq!(canonical_json(&forth), canonical_json(&back));
    // By UTF-8 bytes: U+FFFF before U+1F980, which by UTF-16 units would be the other way round.
    let expected = "{\"\":1,\"A\":1,\"a\":1,\"a\\\"b\":1,\"z\":1,\"é\":1,\"\u{ffff}\":1,\"\u{1f980}\":1}";
    assert_eq!(String::from_utf8(canonical_json(&forth)).expect("text"), expected);
    let numbers = json!([1.0, 1, -0.5, 1e300, 9007199254740993u64]);
    assert_eq!(canonical_json(&numbers), b"[1.0,1,-0.5,1e+300,9007199254740993]");
}

#[test]
fn a_change_is_a_patch_and_a_whole_new_state_is_not() {
    let mut tracker = tracker();
    let long = "a long text that stays as it is. ".repeat(20);
    let mut seen = Value::Null;

    let (diff, told) = tracker.change(json!({ "long": long, "n": 1 })).expect("the first");
    assert!(!diff.full_state.is_empty());
    apply(&mut seen, &diff);
    tracker.accepted(told);

    assert!(tracker.change(json!({ "n": 1, "long": long })).is_none(), "nothing changed");

    let (diff, told) = tracker.change(json!({ "long": long, "n": 2, "list": [1] })).expect("a change");
    assert!(diff.full_state.is_empty() && diff.operations.len() == 2, "{diff:?}");
    apply(&mut seen, &diff);
    tracker.accepted(told);

    let (diff, _) = tracker.change(json!({ "x": 1 })).expect("a change");
    assert_eq!(diff.full_state, br#"{"x":1}"#);
    apply(&mut seen, &diff);
}

#[test]
fn what_was_not_accepted_is_no_base() {
    let mut tracker = tracker();
    let state = |n: u32| json!({ "text": "the same all the time, and long enough for a patch", "n": n });
    let mut seen = Value::Null;
    let (diff, told) = tracker.change(state(1)).expect("the first");
    apply(&mut seen, &diff);
    tracker.accepted(told);
    drop(tracker.change(state(2)).expect("made, and never sent"));
    let (diff, told) = tracker.change(state(3)).expect("a change");
    assert!(diff.full_state.is_empty());
    apply(&mut seen, &diff);
    tracker.accepted(told);
    tracker.forget();
    let (diff, _) = tracker.change(state(3)).expect("all of it again");
    assert!(!diff.full_state.is_empty());
}

#[test]
fn diffs_name_the_last_checkpoint() {
    let mut tracker = tracker();
    let state = json!({ "text": "the same all the time, and long enough for a patch", "n": 1 });
    let (checkpoint, told) = tracker.checkpoint(state.clone()).expect("small enough");
    assert_eq!(checkpoint.checkpoint_id.len(), 16);
    assert_eq!(checkpoint.checksum, Sha256::digest(&checkpoint.state).to_vec());
    assert_eq!(serde_json::from_slice::<Value>(&checkpoint.state).expect("JSON"), state);
    tracker.accepted(told);
    let mut next = state;
    next["n"] = 2.into();
    let (diff, _) = tracker.change(next).expect("a change");
    assert_eq!((&diff.base_checkpoint_id, diff.operations.len()), (&checkpoint.checkpoint_id, 1));
}

#[test]
fn states_are_redacted_before_they_are_hashed_and_too_large_ones_are_not_made() {
    let tracker = StateTracker::new(Redaction::default(), 200, None);
    let (diff, _) = tracker.change(json!({ "api_key": "abc" })).expect("small enough");
    assert_eq!(diff.full_state, br#"{"api_key":"[REDACTED]"}"#);
    assert_eq!(diff.state_hash, state_hash(&json!({ "api_key": "[REDACTED]" })));
    assert!(tracker.change(json!("x".repeat(200))).is_none());
    assert!(tracker.checkpoint(json!("x".repeat(200))).is_none());
}

#[test]
fn any_two_states_are_bridged() {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z~/ é]{0,6}".prop_map(Value::from),
    ];
    let state = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c~/]{0,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    proptest!(|(states in prop::collection::vec(state, 1..6))| {
        let mut tracker = tracker();
        let mut seen = Value::Null;
        for state in states {
            if let Some((diff, told)) = tracker.change(state.clone()) {
                apply(&mut seen, &diff);
                tracker.accepted(told);
            }
            prop_assert_eq!(&seen, &state);
        }
    });
}
