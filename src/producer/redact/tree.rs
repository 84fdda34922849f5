//! Secrets in structures: attributes, JSON, JSON within texts within JSON. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::REDACTED;
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

    pub(super) fn text(&mut self, text: &mut String) {
        if let Some(json) = self.of_json(text.as_bytes()) {
            if let Some(changed) = json {
                *text = changed;
            }
            return;
        }
        if let Some((redacted, count)) = without_secrets(text, self.names) {
            *text = redacted;
            self.count += count;
        }
    }

    pub(super) fn named_text(&mut self, name: &str, text: &mut String) {
        if text.is_empty() || text == REDACTED {
            return;
        }
        if self.names.is_secret(name) {
            REDACTED.clone_into(text);
            self.count += 1;
        } else {
            self.text(text);
        }
    }

    /// Values that are text, JSON for the most part.
    pub(super) fn bytes(&mut self, bytes: &mut Vec<u8>) {
        if let Some(json) = self.of_json(bytes) {
            if let Some(changed) = json {
                *bytes = changed.into_bytes();
            }
            return;
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Some((redacted, count)) = without_secrets(text, self.names) {
            *bytes = redacted.into_bytes();
            self.count += count;
        }
    }

    /// JSON, or text, under a name.
    pub(super) fn named_bytes(&mut self, name: &str, bytes: &mut Vec<u8>) {
        if !self.names.is_secret(name) {
            return self.bytes(bytes);
        }
        let Ok(mut value) = serde_json::from_slice(bytes) else {
            if !bytes.is_empty() && bytes != REDACTED.as_bytes() {
                *bytes = REDACTED.as_bytes().to_vec();
                self.count += 1;
            }
            return;
        };
        let before = self.count;
        self.secret(&mut value);
        if self.count > before {
            *bytes = value.to_string().into_bytes();
        }
    }

    pub(super) fn texts(&mut self, map: &mut BTreeMap<String, String>) {
        for (name, text) in map.iter_mut() {
            self.named_text(name, text);
        }
        self.keys(map);
    }

    pub(super) fn attributes(&mut self, map: &mut BTreeMap<String, AttributeValue>, deep: u32) {
        for (name, value) in map.iter_mut() {
            if self.names.is_secret(name) {
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

    /// serde_json refuses to parse what is nested deeper than 128, so that this recursion is bounded for what was
    /// parsed; what an application builds deeper is cut there.
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
                    if self.names.is_secret(name) {
                        self.secret(value);
                    } else {
                        self.json_at(value, deep + 1);
                    }
                }
                let spoken: Vec<(String, String)> =
                    map.keys().filter_map(|name| Some((name.clone(), without_secrets(name, self.names)?.0))).collect();
                for (name, clean) in spoken {
                    if let Some(value) = map.remove(&name) {
                        map.insert(clean, value);
                        self.count += 1;
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

    /// `None`: it is no JSON. `Some(None)`: it is, without secrets.
    fn of_json(&mut self, text: &[u8]) -> Option<Option<String>> {
        let structure = matches!(text.trim_ascii_start().first(), Some(b'{' | b'['));
        if !structure || self.texts_deep >= TEXTS_DEEP_MAX {
            return None;
        }
        let mut value = serde_json::from_slice(text).ok()?;
        let before = self.count;
        self.texts_deep += 1;
        self.json(&mut value);
        self.texts_deep -= 1;
        Some((self.count > before).then(|| value.to_string()))
    }

    /// Names of a map that are secrets themselves, as where something is kept by its key.
    fn keys<T>(&mut self, map: &mut BTreeMap<String, T>) {
        let spoken: Vec<(String, String)> =
            map.keys().filter_map(|name| Some((name.clone(), without_secrets(name, self.names)?.0))).collect();
        for (name, clean) in spoken {
            if let Some(value) = map.remove(&name) {
                map.insert(clean, value);
                self.count += 1;
            }
        }
    }
}
