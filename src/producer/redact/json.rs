//! Secrets in the text of JSON. Only they are replaced: numbers keep their digits, and everything else its bytes. Pure.
//!
//! Nothing is parsed into a map, in which the last of two equal keys hides the first: every member that is in the text
//! is looked at. How deep it is nested does not matter.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::de::IgnoredAny;

use super::REDACTED;
use super::tree::Walk;

/// An object or array that is being gone through.
#[derive(Default)]
struct Open {
    object: bool,
    /// Only in an object: the next string is a key.
    key_next: bool,
    keys: Keys,
}

/// Names that were cut, of one object: a second one that looks the same gets a number.
#[derive(Default)]
struct Keys {
    taken: BTreeSet<Vec<u8>>,
    numbered: u64,
}

/// Structures and strings; what else is JSON is no text. Its first and last byte spare most texts the parser.
pub(super) fn is_json(text: &[u8]) -> bool {
    let ends = matches!(text.trim_ascii(), [b'{', .., b'}'] | [b'[', .., b']'] | [b'"', .., b'"']);
    ends && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// The text, which is JSON, as it may leave; None if it may as it is.
pub(super) fn rewritten(text: &[u8], walk: &mut Walk<'_>) -> Option<Vec<u8>> {
    let mut output = Output { text, written: Vec::new(), copied: 0 };
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'{' => open.push(Open { object: true, key_next: true, ..Open::default() }),
            b'[' => open.push(Open::default()),
            b'}' | b']' => drop(open.pop()),
            b',' => {
                if let Some(open) = open.last_mut() {
                    open.key_next = open.object;
                }
            }
            b'"' => {
                let end = at + string_length(&text[at..]);
                match open.last_mut() {
                    Some(open) if open.key_next => {
                        open.key_next = false;
                        at = member(&mut output, at, end, &mut open.keys, walk);
                    }
                    _ => {
                        let string = unescaped(&text[at..end]);
                        if let Some(clean) = walk.clean(&string) {
                            output.put(at, end, &clean);
                        }
                        at = end;
                    }
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    output.finished()
}

/// A name from `at` to `end`, and its value if that is a secret. Returns where to go on.
fn member(output: &mut Output<'_>, at: usize, end: usize, keys: &mut Keys, walk: &mut Walk<'_>) -> usize {
    let text = output.text;
    let name = unescaped(&text[at..end]);
    if let Some(name) = keys.cleaned(&name, walk) {
        output.put(at, end, &name);
    }
    if !walk.is_secret(&name) {
        return end;
    }
    let blank = |byte: &u8| !(byte.is_ascii_whitespace() || *byte == b':');
    let from = end + text[end..].iter().position(blank).unwrap_or(text.len() - end);
    let to = from + value_length(&text[from..]);
    if walk.takes(&text[from..to]) {
        output.put(from, to, REDACTED.as_bytes());
    }
    to
}

impl Keys {
    /// The name as it may leave, if that is another.
    fn cleaned(&mut self, name: &[u8], walk: &mut Walk<'_>) -> Option<Vec<u8>> {
        let clean = walk.clean(name);
        if clean.is_none() && !contains(name, REDACTED.as_bytes()) {
            return None;
        }
        let mut unique = clean.clone().unwrap_or_else(|| name.to_vec());
        let bare = unique.len();
        while !self.taken.insert(unique.clone()) {
            self.numbered += 1;
            unique.truncate(bare);
            unique.extend_from_slice(format!(" {}", self.numbered + 1).as_bytes());
        }
        let numbered = unique.len() > bare;
        walk.count += u64::from(numbered && clean.is_none());
        (clean.is_some() || numbered).then_some(unique)
    }
}

/// Whether a value under the name of a secret is one: whether there is one is not.
pub(super) fn is_harmless(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let quoted = || value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    matches!(value, b"" | b"null" | b"true" | b"false" | b"\"\"") || quoted() == Some(REDACTED.as_bytes())
}

struct Output<'a> {
    text: &'a [u8],
    written: Vec<u8>,
    copied: usize,
}

impl Output<'_> {
    /// A string instead of what is there from `from` to `to`.
    fn put(&mut self, from: usize, to: usize, string: &[u8]) {
        self.written.extend_from_slice(&self.text[self.copied..from]);
        self.written.push(b'"');
        for byte in string {
            match byte {
                b'"' | b'\\' => self.written.extend_from_slice(&[b'\\', *byte]),
                b'\n' => self.written.extend_from_slice(b"\\n"),
                b'\r' => self.written.extend_from_slice(b"\\r"),
                b'\t' => self.written.extend_from_slice(b"\\t"),
                0..0x20 => self.written.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => self.written.push(*byte),
            }
        }
        self.written.push(b'"');
        self.copied = to;
    }

    fn finished(mut self) -> Option<Vec<u8>> {
        (self.copied > 0).then(|| {
            self.written.extend_from_slice(&self.text[self.copied..]);
            self.written
        })
    }
}

/// From quote to quote, both of them too.
fn string_length(text: &[u8]) -> usize {
    let mut length = 1;
    while let Some(byte) = text.get(length) {
        match byte {
            b'"' => return length + 1,
            b'\\' => length += 2,
            _ => length += 1,
        }
    }
    text.len()
}

fn value_length(text: &[u8]) -> usize {
    let (mut open, mut length) = (0u64, 0);
    while let Some(byte) = text.get(length) {
        match byte {
            b'"' => {
                length += string_length(&text[length..]);
                if open == 0 {
                    return length;
                }
                continue;
            }
            b'{' | b'[' => open += 1,
            b'}' | b']' if open == 1 => return length + 1,
            b'}' | b']' if open > 1 => open -= 1,
            byte if open == 0 && (b",]}".contains(byte) || byte.is_ascii_whitespace()) => return length,
            _ => {}
        }
        length += 1;
    }
    length
}

/// What a string of JSON says. Half a surrogate pair, which JavaScript writes, is no reason not to look at the rest.
fn unescaped(quoted: &[u8]) -> Cow<'_, [u8]> {
    let inner = quoted.strip_prefix(b"\"").unwrap_or(quoted);
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let mut output = Vec::with_capacity(inner.len());
    let mut rest = inner;
    loop {
        let plain = rest.iter().position(|byte| *byte == b'\\').unwrap_or(rest.len());
        output.extend_from_slice(&rest[..plain]);
        let [_, escape, after @ ..] = &rest[plain..] else { return Cow::Owned(output) };
        rest = after;
        match escape {
            b'n' => output.push(b'\n'),
            b'r' => output.push(b'\r'),
            b't' => output.push(b'\t'),
            b'b' => output.push(8),
            b'f' => output.push(12),
            b'u' => {
                let mut number = hex(rest);
                rest = rest.get(4..).unwrap_or_default();
                if let (0xD800..0xDC00, Some(low)) = (number, rest.strip_prefix(b"\\u"))
                    && let second @ 0xDC00..0xE000 = hex(low)
                {
                    number = 0x10000 + ((number - 0xD800) << 10) + (second - 0xDC00);
                    rest = &low[4..];
                }
                let character = char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER);
                output.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => output.push(*other),
        }
    }
}

/// Four digits, or what is no character.
fn hex(digits: &[u8]) -> u32 {
    let digits = digits.get(..4).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0xD800)
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.contains(&wanted[0]) && text.windows(wanted.len()).any(|window| window == wanted)
}
