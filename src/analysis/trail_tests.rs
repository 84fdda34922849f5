//! States followed over runs made by hand, and over whatever the demo makes up.

use std::collections::HashMap;

use serde_json::json;

use super::super::fixture::{Script, text};
use super::super::runs::{Collector, Wanted};
use super::*;
use crate::demo::runs::Runs;
use crate::wire::proto::diff_operation::OpType;
use crate::wire::proto::{Checkpoint, CompressionInfo, CompressionType, DiffOperation, EventType, StateDiff};

fn replace(path: &str, value: &Value) -> DiffOperation {
    DiffOperation {
        op: OpType::Replace as i32,
        path: path.to_owned(),
        value: value.to_string().into_bytes(),
        ..DiffOperation::default()
    }
}

/// A change of `/n` to a number, with the hash of the state that is meant.
fn set(number: i64, state: Value) -> impl FnOnce(&mut StateDiff) {
    move |diff| {
        diff.operations = vec![replace("/n", &json!(number))];
        diff.state_hash = state_hash(&state).to_vec();
    }
}

fn begun(state: &Value) -> Script {
    let mut script = Script::new("t", "run");
    script.event(EventType::GraphStart, "", &[("initial_state_json", text(&state.to_string()))]);
    script
}

fn save(script: &mut Script, id: u8, state: &Value, change: impl FnOnce(&mut Checkpoint)) {
    let json = state.to_string().into_bytes();
    let mut saved = Checkpoint {
        checkpoint_id: vec![id; 16],
        checksum: Sha256::digest(&json).to_vec(),
        state: json,
        ..Checkpoint::default()
    };
    change(&mut saved);
    script.diff(|_| {});
    let Some(crate::wire::proto::dash_stream_message::Message::StateDiff(diff)) =
        script.messages.pop().and_then(|message| message.message)
    else {
        unreachable!("just pushed")
    };
    saved.header = diff.header;
    script.push(crate::wire::proto::dash_stream_message::Message::Checkpoint(saved));
}

fn check(script: &Script, point: Point, expected: &[&str], state: Option<Value>) {
    let trail = follow(&script.run(), &point);
    let lines: Vec<_> = trail.steps.iter().map(|step| step.verdict.to_string()).collect();
    assert_eq!(lines, expected);
    assert_eq!(trail.state.map(|state| state.value().clone()), state);
}

#[test]
fn a_state_is_followed_and_every_hash_verified() {
    let mut script = begun(&json!({ "n": 0, "z": [] }));
    script.diff(set(1, json!({ "n": 1, "z": [] })));
    script.diff(|diff| {
        diff.full_state = br#"{"z":[1],"n":2}"#.to_vec();
        diff.state_hash = state_hash(&json!({ "n": 2, "z": [1] })).to_vec();
    });
    save(&mut script, 7, &json!({ "n": 2, "z": [1] }), |_| {});
    script.diff(|diff| diff.operations = vec![replace("/n", &json!(3))]);
    let all = ["no hash to verify", "verified", "verified", "verified", "no hash to verify"];
    check(&script, Point::End, &all, Some(json!({ "n": 3, "z": [1] })));
    check(&script, Point::Sequence(2), &all[..2], Some(json!({ "n": 1, "z": [] })));
    check(&script, Point::Checkpoint("0707-07".to_owned()), &all[..4], Some(json!({ "n": 2, "z": [1] })));
    assert!(!follow(&script.run(), &Point::Checkpoint("08".to_owned())).reached);
    assert!(!follow(&script.run(), &Point::Time(5)).reached, "long before");
    assert!(follow(&script.run(), &Point::Time(i64::MAX)).reached);
}

#[test]
fn a_wrong_hash_is_trouble_and_the_next_right_one_ends_it() {
    let mut script = begun(&json!({ "n": 0 }));
    script.diff(set(1, json!({ "n": 99 }))).diff(set(2, json!({ "n": 2 })));
    let found = super::super::text::hex(&state_hash(&json!({ "n": 1 }))[..4]);
    let told = super::super::text::hex(&state_hash(&json!({ "n": 99 }))[..4]);
    let wrong = format!("HASH DIFFERS: told {told}…, found {found}…");
    check(&script, Point::End, &["no hash to verify", &wrong, "verified"], Some(json!({ "n": 2 })));
}

#[test]
fn what_cannot_be_applied_leaves_the_state_unknown_until_one_comes_whole() {
    let mut script = Script::new("t", "run");
    script.graph_start().diff(set(1, json!({ "n": 1 })));
    save(&mut script, 1, &json!({ "n": 1 }), |_| {});
    script.diff(|diff| diff.operations = vec![replace("/gone", &json!(1))]);
    script.diff(set(2, json!({ "n": 2 })));
    script.diff(|diff| diff.full_state = b"{\"n\":".to_vec());
    script.diff(|diff| diff.full_state = b"{\"n\":5}".to_vec());
    check(
        &script,
        Point::End,
        &[
            "NO BASE: the state before it is not known",
            "verified",
            "UNUSABLE: operation 0: there is nothing at `/gone`",
            "NO BASE: the state before it is not known",
            "UNUSABLE: operation 0: its value is not JSON",
            "no hash to verify",
        ],
        Some(json!({ "n": 5 })),
    );
}

#[test]
fn a_change_that_was_made_on_a_checkpoint_is_applied_to_that() {
    let mut script = begun(&json!({ "n": 0, "m": 0 }));
    save(&mut script, 1, &json!({ "n": 0, "m": 0 }), |_| {});
    script.diff(|diff| diff.operations = vec![replace("/m", &json!(5))]);
    // Rolled back: on the checkpoint, `m` is 0.
    script.diff(|diff| {
        set(1, json!({ "n": 1, "m": 0 }))(diff);
        diff.base_checkpoint_id = vec![1; 16];
    });
    let verdicts = ["no hash to verify", "verified", "no hash to verify", "verified"];
    check(&script, Point::End, &verdicts, Some(json!({ "n": 1, "m": 0 })));
}

#[test]
fn checkpoints_are_inflated_verified_and_compared() {
    let state = json!({ "n": 1, "text": "x".repeat(2_000) });
    let mut script = begun(&state);
    save(&mut script, 1, &state, |saved| {
        saved.state = zstd::bulk::compress(&saved.state, 3).expect("zstd");
        saved.compression_info =
            Some(CompressionInfo { r#type: CompressionType::CompressionZstd as i32, ..CompressionInfo::default() });
    });
    save(&mut script, 2, &json!({ "n": 2 }), |_| {});
    save(&mut script, 3, &json!({ "n": 3 }), |saved| saved.checksum = vec![1; 32]);
    save(&mut script, 4, &json!(0), |saved| saved.state = vec![0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3]);
    // A bomb: eleven MiB of blanks.
    save(&mut script, 5, &json!(0), |saved| {
        saved.state = zstd::bulk::compress(&vec![b' '; 11 << 20], 3).expect("zstd");
    });
    let trail = follow(&script.run(), &Point::End);
    let verdicts: Vec<_> = trail.steps.iter().map(|step| step.verdict.to_string()).collect();
    assert_eq!(verdicts[..3], ["no hash to verify", "verified", "DIFFERS from the state that its changes lead to"]);
    assert!(verdicts[3].starts_with("HASH DIFFERS: told 01010101…, found "), "{verdicts:?}");
    assert!(verdicts[4].starts_with("UNUSABLE: zstd refuses it: "), "{verdicts:?}");
    assert_eq!(verdicts[5], "UNUSABLE: it is larger than 10 MiB");
    assert_eq!(trail.state.map(|state| state.value().clone()), Some(json!({ "n": 2 })), "the last that can be read");
}

/// The demo hashes with code of its own: two makers of the same canonical form must agree.
#[test]
fn every_state_that_the_demo_makes_up_is_verified() {
    let mut runs = Runs::new(11, 200);
    let mut collectors: HashMap<String, Collector> = HashMap::new();
    for index in 0..20_000 {
        let message = runs.next(1_700_000_000_000_000 + index * 5_000);
        let Some(Some((owner, _))) = super::super::told::tell(Script::place(0), &message).into_iter().next() else {
            panic!("every event of the demo has a thread")
        };
        let collector = collectors.entry(owner.thread).or_insert_with(|| Collector::new(vec![Wanted::All]));
        collector.take(Script::place(index as usize), &message);
    }
    let (mut steps, mut checkpoints, mut whole) = (0, 0, 0);
    for collector in collectors.into_values() {
        for run in collector.finish().0 {
            for step in follow(&run, &Point::End).steps {
                assert!(!step.verdict.is_trouble(), "{}: {:?}", run.id, step);
                steps += 1;
                checkpoints += usize::from(matches!(step.form, Form::Checkpoint(_)));
                whole += usize::from(step.form == Form::Whole);
            }
        }
    }
    assert!(steps > 1_000 && checkpoints > 100 && whole > 10, "{steps} {checkpoints} {whole}");
}
