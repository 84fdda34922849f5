//! Patches against a library that knows nothing of us, by hand where the RFC has an opinion, and against hostile ones.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn operation(op: OpType, path: &str, from: &str, value: &str) -> DiffOperation {
    DiffOperation {
        op: op as i32,
        path: path.to_owned(),
        from: from.to_owned(),
        value: value.as_bytes().to_vec(),
        encoding: ValueEncoding::Json as i32,
    }
}

/// From the form that RFC 6902 writes.
fn operations(patch: &Value) -> Vec<DiffOperation> {
    let one = |one: &Value| {
        let text = |key: &str| one[key].as_str().unwrap_or_default();
        let op = OpType::from_str_name(&format!("OP_TYPE_{}", text("op").to_uppercase()))
            .or_else(|| OpType::from_str_name(&text("op").to_uppercase()))
            .expect("an operation");
        let value = one.get("value").map_or(String::new(), Value::to_string);
        operation(op, text("path"), text("from"), &value)
    };
    patch.as_array().expect("a list").iter().map(one).collect()
}

fn plenty() -> Work {
    Work { left: u64::MAX }
}

fn apply(state: &Value, patch: &Value) -> Result<Value, String> {
    let state = State::new(state.clone()).expect("a small state");
    let after = state.apply(&operations(patch), &mut plenty()).map_err(|error| error.to_string())?;
    assert_eq!(after.bytes(), extent(after.value()).bytes, "{patch}");
    Ok(after.value)
}

fn check(state: Value, patch: Value, expected: Value) {
    assert_eq!(apply(&state, &patch), Ok(expected), "{state} {patch}");
}

fn refused(state: Value, patch: Value, expected: &str) {
    assert_eq!(apply(&state, &patch), Err(expected.to_owned()), "{state} {patch}");
}

#[test]
fn every_operation_does_what_the_rfc_says() {
    check(json!({}), json!([{ "op": "add", "path": "/a", "value": [1] }]), json!({ "a": [1] }));
    check(json!({ "a": 1 }), json!([{ "op": "add", "path": "/a", "value": 2 }]), json!({ "a": 2 }));
    check(json!([1, 3]), json!([{ "op": "add", "path": "/1", "value": 2 }]), json!([1, 2, 3]));
    check(json!([1]), json!([{ "op": "add", "path": "/-", "value": 2 }]), json!([1, 2]));
    check(json!([1]), json!([{ "op": "add", "path": "/1", "value": 2 }]), json!([1, 2]));
    check(json!(1), json!([{ "op": "add", "path": "", "value": { "b": 2 } }]), json!({ "b": 2 }));
    check(json!({ "a": 1, "b": 2 }), json!([{ "op": "remove", "path": "/a" }]), json!({ "b": 2 }));
    check(json!([1, 2, 3]), json!([{ "op": "remove", "path": "/1" }]), json!([1, 3]));
    check(json!({ "a": [0] }), json!([{ "op": "replace", "path": "/a/0", "value": 1 }]), json!({ "a": [1] }));
    check(json!({ "a": 1 }), json!([{ "op": "replace", "path": "", "value": 1 }]), json!(1));
    check(json!({ "a": [1] }), json!([{ "op": "move", "from": "/a/0", "path": "/b" }]), json!({ "a": [], "b": 1 }));
    check(json!({ "a": 1 }), json!([{ "op": "move", "from": "/a", "path": "/a" }]), json!({ "a": 1 }));
    check(json!({ "a": 1 }), json!([{ "op": "copy", "from": "", "path": "/a" }]), json!({ "a": { "a": 1 } }));
    check(json!({ "a": 1 }), json!([{ "op": "test", "path": "/a", "value": 1.0 }]), json!({ "a": 1 }));
    check(
        json!({ "": 1, "a/b": 2, "m~n": 3 }),
        json!([
            { "op": "replace", "path": "/", "value": 4 },
            { "op": "replace", "path": "/a~1b", "value": 5 },
            { "op": "replace", "path": "/m~0n", "value": 6 },
        ]),
        json!({ "": 4, "a/b": 5, "m~n": 6 }),
    );
}

#[test]
fn what_cannot_be_applied_says_which_operation_and_changes_nothing() {
    let there = |path: &str| format!("operation 0: there is nothing at `{path}`");
    refused(json!({}), json!([{ "op": "remove", "path": "/a" }]), &there("/a"));
    refused(json!({}), json!([{ "op": "remove", "path": "" }]), &there(""));
    refused(json!({}), json!([{ "op": "move", "from": "", "path": "" }]), &there(""));
    refused(json!({}), json!([{ "op": "replace", "path": "/a", "value": 1 }]), &there("/a"));
    refused(json!({}), json!([{ "op": "add", "path": "/a/b", "value": 1 }]), &there("/a/b"));
    refused(json!([1]), json!([{ "op": "add", "path": "/2", "value": 1 }]), &there("/2"));
    refused(json!([1]), json!([{ "op": "remove", "path": "/-" }]), &there("/-"));
    refused(json!([1]), json!([{ "op": "replace", "path": "/00", "value": 1 }]), &there("/00"));
    refused(json!([1]), json!([{ "op": "replace", "path": "/+0", "value": 1 }]), &there("/+0"));
    refused(json!(1), json!([{ "op": "add", "path": "/a", "value": 1 }]), &there("/a"));
    refused(json!({}), json!([{ "op": "add", "path": "a", "value": 1 }]), "operation 0: `a` is no JSON pointer");
    refused(json!({}), json!([{ "op": "add", "path": "/~2", "value": 1 }]), "operation 0: `/~2` is no JSON pointer");
    refused(
        json!({ "a": {} }),
        json!([{ "op": "move", "from": "/a", "path": "/a/b" }]),
        "operation 0: `/a` cannot be moved into itself",
    );
    refused(
        json!({ "a": 1 }),
        json!([{ "op": "remove", "path": "/a" }, { "op": "test", "path": "", "value": 1 }]),
        "operation 1: the value at `` is not what the test says",
    );
    let state = State::new(json!({})).expect("small");
    for (mut wrong, expected) in [
        (operation(OpType::Add, "/a", "", "{"), PatchError::Value { index: 0 }),
        (operation(OpType::Add, "/a", "", &"[".repeat(5_000)), PatchError::Value { index: 0 }),
        (operation(OpType::Test, "/a", "", "1"), PatchError::NotThere { index: 0, path: "/a".to_owned() }),
    ] {
        assert_eq!(state.apply(std::slice::from_ref(&wrong), &mut plenty()), Err(expected));
        wrong.op = 77;
        let unknown = PatchError::Unknown { index: 0, number: 77 };
        assert_eq!(state.apply(&[wrong], &mut plenty()), Err(unknown));
    }
    let mut packed = operation(OpType::Add, "/a", "", "1");
    packed.encoding = ValueEncoding::Msgpack as i32;
    let error = state.apply(&[packed], &mut plenty()).expect_err("not JSON");
    assert_eq!(error.to_string(), "operation 0: values are to be JSON, this is VALUE_ENCODING_MSGPACK");
}

/// Each doubles what is there: forty would be a million million.
#[test]
fn a_patch_that_copies_the_state_into_itself_ends_at_the_bounds() {
    let state = State::new(json!({ "a": ["some text"] })).expect("small");
    let copies: Vec<_> = (0..60).map(|_| operation(OpType::Copy, "/a/-", "/a", "")).collect();
    let error = state.apply(&copies, &mut plenty()).expect_err("too much");
    assert!(matches!(error, PatchError::TooLarge { .. } | PatchError::TooDeep { .. }), "{error}");
    // Deeper and deeper instead of larger.
    let deeper: Vec<_> =
        (0..STATE_DEPTH_MAX + 10).map(|depth| operation(OpType::Add, &"/0".repeat(depth), "", "[0]")).collect();
    let error = State::new(json!(0)).expect("small").apply(&deeper, &mut plenty()).expect_err("too deep");
    assert!(matches!(error, PatchError::TooDeep { .. }), "{error}");
    // Back and forth costs work each time.
    let heavy = State::new(json!({ "a": "x".repeat(1 << 20) })).expect("small enough");
    let moves: Vec<_> = (0..100_000)
        .map(|turn| match turn % 2 {
            0 => operation(OpType::Move, "/b", "/a", ""),
            _ => operation(OpType::Move, "/a", "/b", ""),
        })
        .collect();
    assert_eq!(heavy.apply(&moves, &mut Work { left: 64 << 20 }), Err(PatchError::TooMuchWork));
}

#[test]
fn a_state_that_is_too_large_or_deep_is_none() {
    assert_eq!(State::new(json!("x".repeat(STATE_BYTES_MAX))), None);
    let mut deep = json!(1);
    for _ in 0..STATE_DEPTH_MAX {
        deep = json!([deep]);
    }
    assert!(State::new(deep.clone()).is_some());
    assert_eq!(State::new(json!([deep])), None);
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5_i64..5).prop_map(Value::from),
        (-2.0..2.0).prop_map(|number: f64| json!(number)),
        "[a-c~/é]{0,3}".prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-c~/]{0,2}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Operations of all kinds at places that often exist.
fn any_operation() -> impl Strategy<Value = Value> {
    let path = prop::collection::vec("[abc01-]", 0..3)
        .prop_map(|keys| keys.iter().map(|key| format!("/{key}")).collect::<String>());
    (0..6_usize, path.clone(), path, any_value()).prop_map(|(op, path, from, value)| {
        match ["add", "remove", "replace", "move", "copy", "test"][op] {
            op @ "remove" => json!({ "op": op, "path": path }),
            op @ ("move" | "copy") => json!({ "op": op, "path": path, "from": from }),
            op => json!({ "op": op, "path": path, "value": value }),
        }
    })
}

proptest! {
    /// A library says how `a` becomes `b`; we must come to `b`, and to its hash.
    #[test]
    fn patches_of_a_library_lead_where_it_says(a in any_value(), b in any_value()) {
        let patch = serde_json::to_value(json_patch::diff(&a, &b)).expect("JSON");
        let after = apply(&a, &patch).map_err(TestCaseError::fail)?;
        prop_assert_eq!(crate::wire::state_hash::state_hash(&after), crate::wire::state_hash::state_hash(&b));
        prop_assert_eq!(after, b);
    }

    /// Whatever the patch: we and the library agree, on the result and on whether there is one.
    #[test]
    fn any_patch_means_the_same_to_a_library(
        state in any_value(), patch in prop::collection::vec(any_operation(), 0..6),
    ) {
        let patch = Value::from(patch);
        let theirs: json_patch::Patch = serde_json::from_value(patch.clone()).expect("a patch");
        let mut expected = state.clone();
        // Not its `patch`, which panics where it cannot take back what it did.
        let expected = json_patch::patch_unsafe(&mut expected, &theirs).map(|()| expected).ok();
        prop_assert_eq!(apply(&state, &patch).ok(), expected);
    }
}
