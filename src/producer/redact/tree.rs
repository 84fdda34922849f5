//! Secrets in structures: attributes, values of JSON, and all the texts in them, which may be JSON themselves. Pure.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::REDACTED;
use super::json;
use super::names::Names;
use super::text::without_secrets;
use crate::wire::proto::AttributeValue;
use crate::wire::proto::attribute_value::Value as Attribute;

/// Attributes nested deeper are replaced: readers refuse a message that is nested 100 deep, and an attribute within an
/// attribute is three messages.
const ATTRIBUTES_DEEP_MAX: u32 = 30;
/// A text that holds JSON that holds a text … deeper than this is looked at as text.
const TEXTS_DEEP_MAX: u32 = 4;
const TOO_DEEP: &str = "[REDACTED: nested too deep]";

/// One event that is gone through.
pub(super) struct Walk<'a> {
    names: &'a Names,
    /// Secrets that were taken out.
    pub(super) count: u64,
    texts_deep: u32,
}

impl<'a> Walk<'a> {
    pub(super) fn new(names: &'a Names) -> Self {
        Self { names, count: 0, texts_deep: 0 }
    }

    /// A text, JSON for the most part or at least at times, as it may leave; None if it may as it is.
    pub(super) fn clean(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        if self.texts_deep < TEXTS_DEEP_MAX && json::is_json(text) {
            self.texts_deep += 1;
            let changed = json::rewritten(text, self);
            self.texts_deep -= 1;
            return changed;
        }
        let (clean, count) = without_secrets(text, self.names)?;
        self.count += count;
        Some(clean)
    }

    pub(super) fn is_secret(&self, name: &[u8]) -> bool {
        self.names.is_secret(name)
    }

    /// Whether JSON under the name of a secret is one; then it counts.
    pub(super) fn takes(&mut self, json: &[u8]) -> bool {
        let secret = !json::is_harmless(json);
        self.count += u64::from(secret);
        secret
    }

    pub(super) fn text(&mut self, text: &mut String) {
        if let Some(clean) = self.clean(text.as_bytes()) {
            *text = string(clean);
        }
    }

    pub(super) fn named_text(&mut self, name: &str, text: &mut String) {
        if text.is_empty() || text == REDACTED {
            return;
        }
        if self.is_secret(name.as_bytes()) {
            REDACTED.clone_into(text);
            self.count += 1;
        } else {
            self.text(text);
        }
    }

    /// Values that are text, in whatever encoding: all that is looked for is ASCII.
    pub(super) fn bytes(&mut self, bytes: &mut Vec<u8>) {
        if let Some(clean) = self.clean(bytes) {
            *bytes = clean;
        }
    }

    /// JSON, or text, under a name.
    pub(super) fn named_bytes(&mut self, name: &str, bytes: &mut Vec<u8>) {
        if self.is_secret(name.as_bytes()) { self.secret_bytes(bytes) } else { self.bytes(bytes) }
    }

    /// JSON, or text, under the name of a secret.
    pub(super) fn secret_bytes(&mut self, bytes: &mut Vec<u8>) {
        if bytes == REDACTED.as_bytes() || !self.takes(bytes) {
            return;
        }
        let json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
        *bytes = if json { format!("\"{REDACTED}\"").into_bytes() } else { REDACTED.as_bytes().to_vec() };
    }

    pub(super) fn texts(&mut self, map: &mut BTreeMap<String, String>) {
        for (name, text) in map.iter_mut() {
            self.named_text(name, text);
        }
        self.keys(map);
    }

    pub(super) fn attributes(&mut self, map: &mut BTreeMap<String, AttributeValue>, deep: u32) {
        for (name, value) in map.iter_mut() {
            if self.is_secret(name.as_bytes()) {
                self.secret_attribute(value);
            } else {
                self.attribute(value, deep);
            }
        }
        self.keys(map);
    }

    fn attribute(&mut self, value: &mut AttributeValue, deep: u32) {
        match &mut value.value {
            Some(Attribute::StringValue(text)) => self.text(text),
            Some(Attribute::BytesValue(bytes)) => self.bytes(bytes),
            Some(Attribute::ArrayValue(_) | Attribute::MapValue(_)) if deep >= ATTRIBUTES_DEEP_MAX => {
                value.value = Some(Attribute::StringValue(TOO_DEEP.to_owned()));
                self.count += 1;
            }
            Some(Attribute::ArrayValue(array)) => {
                array.values.iter_mut().for_each(|value| self.attribute(value, deep + 1));
            }
            Some(Attribute::MapValue(map)) => self.attributes(&mut map.values, deep + 1),
            _ => {}
        }
    }

    /// Under the name of a secret. Whether there is one is not one.
    fn secret_attribute(&mut self, value: &mut AttributeValue) {
        match &value.value {
            None | Some(Attribute::BoolValue(_)) => return,
            Some(Attribute::StringValue(text)) if text.is_empty() || text == REDACTED => return,
            _ => {}
        }
        value.value = Some(Attribute::StringValue(REDACTED.to_owned()));
        self.count += 1;
    }

    /// What an application builds deeper than 128 is cut there, which is also what serde_json refuses to parse.
    pub(super) fn json(&mut self, value: &mut Value) {
        self.json_at(value, 0);
    }

    fn json_at(&mut self, value: &mut Value, deep: u32) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(_) | Value::Object(_) if deep >= 128 => {
                *value = TOO_DEEP.into();
                self.count += 1;
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.json_at(value, deep + 1)),
            Value::Object(map) => {
                for (name, value) in map.iter_mut() {
                    if self.is_secret(name.as_bytes()) {
                        self.secret(value);
                    } else {
                        self.json_at(value, deep + 1);
                    }
                }
                let mut names = NewNames::default();
                for (name, clean) in self.spoken(map.keys()) {
                    if let Some(value) = map.remove(&name) {
                        let name = names.of(clean, |name| map.contains_key(name));
                        map.insert(name, value);
                    }
                }
            }
            _ => {}
        }
    }

    fn secret(&mut self, value: &mut Value) {
        match value {
            Value::Null | Value::Bool(_) => return,
            Value::String(text) if text.is_empty() || text == REDACTED => return,
            _ => {}
        }
        *value = REDACTED.into();
        self.count += 1;
    }

    /// Names of a map that are secrets themselves, as where something is kept by its key.
    pub(super) fn keys<T>(&mut self, map: &mut BTreeMap<String, T>) {
        let mut names = NewNames::default();
        for (name, clean) in self.spoken(map.keys()) {
            if let Some(value) = map.remove(&name) {
                map.insert(names.of(clean, |name| map.contains_key(name)), value);
            }
        }
    }

    /// The names that may not leave as they are, and how they may.
    fn spoken<'k>(&mut self, names: impl Iterator<Item = &'k String>) -> Vec<(String, String)> {
        names.filter_map(|name| Some((name.clone(), string(self.clean(name.as_bytes())?)))).collect()
    }
}

/// Names that look the same once their secrets are gone get numbers: no value is lost for its name.
#[derive(Default)]
struct NewNames {
    numbered: u64,
}

impl NewNames {
    fn of(&mut self, clean: String, taken: impl Fn(&str) -> bool) -> String {
        let mut name = clean.clone();
        while taken(&name) {
            self.numbered += 1;
            name = format!("{clean} {}", self.numbered + 1);
        }
        name
    }
}

/// What was text and lost only ASCII is still text.
fn string(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
