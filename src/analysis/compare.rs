//! Two states or two runs beside each other: what differs, in the order of the document.

use serde_json::Value;

use super::limits::DIFFERENCES_MAX;
use super::text::one_line;

#[derive(Clone, PartialEq, Debug)]
pub struct Difference {
    /// A JSON pointer; in lists the place is that in the list where the element is.
    pub path: String,
    /// `None`: it was not there.
    pub before: Option<Value>,
    /// `None`: it is there no more.
    pub after: Option<Value>,
}

impl Difference {
    /// `+`, `-` or `~`.
    pub fn sign(&self) -> char {
        match (&self.before, &self.after) {
            (None, _) => '+',
            (_, None) => '-',
            _ => '~',
        }
    }
}

/// What changed, and how many changes are beyond [`DIFFERENCES_MAX`]. Of lists, what is equal at both ends is left
/// out, and the middle is compared place by place.
pub fn differences(before: &Value, after: &Value) -> (Vec<Difference>, u64) {
    let mut found = Found { list: Vec::new(), left_out: 0 };
    found.compare(&mut String::new(), before, after);
    (found.list, found.left_out)
}

/// A value on one line.
pub fn shown(value: &Value, chars_max: usize) -> String {
    one_line(&value.to_string(), chars_max)
}

struct Found {
    list: Vec<Difference>,
    left_out: u64,
}

impl Found {
    fn note(&mut self, path: &str, before: Option<&Value>, after: Option<&Value>) {
        if self.list.len() >= DIFFERENCES_MAX {
            self.left_out += 1;
            return;
        }
        self.list.push(Difference { path: path.to_owned(), before: before.cloned(), after: after.cloned() });
    }

    /// States are nested as deep as [`super::limits::STATE_DEPTH_MAX`] at most, and so is this.
    fn compare(&mut self, path: &mut String, before: &Value, after: &Value) {
        match (before, after) {
            (Value::Object(before), Value::Object(after)) => {
                let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
                keys.sort_unstable();
                keys.dedup();
                for key in keys {
                    let key_text = key.replace('~', "~0").replace('/', "~1");
                    self.step(path, &key_text, before.get(key), after.get(key));
                }
            }
            (Value::Array(before), Value::Array(after)) => {
                let start = before.iter().zip(after).take_while(|(a, b)| a == b).count();
                let (before_rest, after_rest) = (&before[start..], &after[start..]);
                let end = before_rest.iter().rev().zip(after_rest.iter().rev()).take_while(|(a, b)| a == b).count();
                let before_rest = &before_rest[..before_rest.len() - end];
                let after_rest = &after_rest[..after_rest.len() - end];
                for index in 0..before_rest.len().max(after_rest.len()) {
                    let place = (start + index).to_string();
                    self.step(path, &place, before_rest.get(index), after_rest.get(index));
                }
            }
            (before, after) if before == after => {}
            (before, after) => self.note(path, Some(before), Some(after)),
        }
    }

    fn step(&mut self, path: &mut String, key: &str, before: Option<&Value>, after: Option<&Value>) {
        let length = path.len();
        path.push('/');
        path.push_str(key);
        match (before, after) {
            (Some(before), Some(after)) => self.compare(path, before, after),
            (before, after) => self.note(path, before, after),
        }
        path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(before: Value, after: Value, expected: &[&str]) {
        let (found, left_out) = differences(&before, &after);
        let side = |value: &Option<Value>| value.as_ref().map_or(String::new(), |value| format!(" {value}"));
        let lines =
            found.iter().map(|one| format!("{} {}{}{}", one.sign(), one.path, side(&one.before), side(&one.after)));
        assert_eq!(lines.collect::<Vec<_>>(), expected);
        assert_eq!(left_out, 0);
    }

    #[test]
    fn what_came_went_and_changed() {
        check(json!({ "a": 1 }), json!({ "a": 1 }), &[]);
        check(
            json!({ "z": 0, "a": 1, "b": 2 }),
            json!({ "b": 3, "c/d": 4, "z": 0 }),
            &["- /a 1", "~ /b 2 3", "+ /c~1d 4"],
        );
        check(json!([1, 2, 3, 4]), json!([1, 9, 3, 4, 5]), &["~ /1 2 9", "+ /4 5"]);
        check(json!([1, 2, 3]), json!([1, 3]), &["- /1 2"]);
        check(json!([{ "a": 1 }, 2]), json!([{ "a": 2 }, 2]), &["~ /0/a 1 2"]);
        check(json!(1), json!({ "a": [] }), &["~  1 {\"a\":[]}"]);
        check(json!({ "a": null }), json!({}), &["- /a null"]);
    }

    #[test]
    fn no_more_than_the_bound_are_listed() {
        let list = |start: usize| Value::from((start..start + DIFFERENCES_MAX + 5).collect::<Vec<_>>());
        let (found, left_out) = differences(&list(0), &list(100_000));
        assert_eq!((found.len(), left_out), (DIFFERENCES_MAX, 5));
    }

    proptest! {
        /// No difference means equal, and equal means no difference.
        #[test]
        fn differences_are_there_exactly_where_values_differ(
            a in prop::collection::btree_map("[ab]{0,2}", prop::collection::vec(0..3_u8, 0..4), 0..4),
            b in prop::collection::btree_map("[ab]{0,2}", prop::collection::vec(0..3_u8, 0..4), 0..4),
        ) {
            let (found, _) = differences(&json!(a), &json!(b));
            prop_assert_eq!(found.is_empty(), a == b);
        }
    }
}
