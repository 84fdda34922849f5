//! The value behind a name of a secret, in free text: where it begins, and above all where it ends. Pure.
//!
//! Texts quote and escape each other, and most of what is met here was cut, wrapped or printed by somebody: where an
//! end is not certain, the later one is taken. Deliberately absent: values on the next line, and what is quoted over
//! several lines.

use super::REDACTED;
use super::names::Names;
use super::text::{run, word};

/// What may stand before the secret in a header, and stays.
const SCHEMES: [&[u8]; 8] = [b"bearer", b"basic", b"token", b"digest", b"apikey", b"bot", b"negotiate", b"ntlm"];
/// Under the name of a secret, and none.
const HARMLESS: [&[u8]; 6] = [b"", b"null", b"true", b"false", b"none", REDACTED.as_bytes()];

/// The value behind `name=`, `name: ` or `"name":`, if the name is one of a secret; `at` is the `=` or `:`.
pub(super) fn value_of_name(bytes: &[u8], at: usize, floor: usize, names: &Names) -> Option<(usize, usize)> {
    let mut end = at;
    while end > floor && blank(bytes[end - 1]) {
        end -= 1;
    }
    let unquoted = end;
    while end > floor && b"\"'\\".contains(&bytes[end - 1]) {
        end -= 1;
    }
    let mut start = end;
    while start > floor && end - start < 96 && (word(bytes[start - 1]) || bytes[start - 1] == b'.') {
        start -= 1;
    }
    let name = &bytes[start..end];
    if name.is_empty() || !names.is_secret(name) {
        return None;
    }
    // `=>` and `:=` too.
    let mut from = at + 1 + run(&bytes[at + 1..], |byte| byte == b'=' || byte == b'>');
    from += run(&bytes[from..], blank);
    // `b"…"` of Python, `$'…'` of a shell.
    if let [letter, b'"' | b'\'', ..] = bytes[from..]
        && b"bBuUrRfF$@".contains(&letter)
    {
        from += 1;
    }
    let to = if let Some((quote, width)) = Quote::opened_by(&bytes[from..])? {
        from += width;
        from + quote.length(&bytes[from..], Newlines::Raw)
    } else {
        let header = Names::is_header(name);
        let scheme = scheme(&bytes[from..]);
        from += scheme;
        if !header {
            from + unquoted_length(&bytes[from..])
        } else if harmless_word(&bytes[from..]) {
            return None;
        } else {
            let enclosing = if end == unquoted { Quote::closed_by(&bytes[floor..start]) } else { None };
            from + header_length(&bytes[from..], enclosing)
        }
    };
    let secret = &bytes[from..to];
    (!HARMLESS.iter().any(|word| secret.eq_ignore_ascii_case(word))).then_some((from, to))
}

fn blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// "Authorization: Basic dXNlcjpwYXNz": how much of it is the scheme and the blanks behind it.
fn scheme(rest: &[u8]) -> usize {
    let length = run(rest, |byte| byte.is_ascii_alphabetic());
    let blanks = run(&rest[length..], blank);
    let known = SCHEMES.iter().any(|scheme| rest[..length].eq_ignore_ascii_case(scheme));
    if known && blanks > 0 { length + blanks } else { 0 }
}

/// `authorization=None, …`
fn harmless_word(rest: &[u8]) -> bool {
    let length = run(rest, |byte| byte.is_ascii_alphabetic());
    let known = length > 0 && HARMLESS.iter().any(|word| rest[..length].eq_ignore_ascii_case(word));
    known && rest.get(length).is_none_or(|byte| b",}])\r\n".contains(byte))
}

/// A quote that opened something: which one, and how many backslashes were before it, as in JSON within text.
#[derive(Clone, Copy)]
struct Quote {
    mark: u8,
    slashes: usize,
}

/// What ends a quoted text that is not closed.
#[derive(Clone, Copy, PartialEq)]
enum Newlines {
    /// The end of the line.
    Raw,
    /// That, or an escaped one.
    Escaped,
}

impl Quote {
    /// The quote that a value begins with, and its width. `Some(None)`: it has none. `None`: what it quotes is empty.
    fn opened_by(rest: &[u8]) -> Option<Option<(Self, usize)>> {
        let slashes = run(rest, |byte| byte == b'\\');
        let Some(mark @ (b'"' | b'\'')) = rest.get(slashes).copied() else { return Some(None) };
        // `''` is empty, if it is not the beginning of a longer quote: `"""…"""`, or `''…''` within `'…'`.
        let marks = run(&rest[slashes..], |byte| byte == mark);
        let empty = marks == 2 && !rest.get(slashes + 2).is_some_and(u8::is_ascii_alphanumeric);
        (!empty).then_some(Some((Self { mark, slashes }, slashes + marks)))
    }

    /// The quote that ends this text, as opening what follows.
    fn closed_by(before: &[u8]) -> Option<Self> {
        let [before @ .., mark @ (b'"' | b'\'')] = before else { return None };
        Some(Self { mark: *mark, slashes: before.iter().rev().take_while(|byte| **byte == b'\\').count() })
    }

    /// How much there is before the quote that closes this one. Within, a quote has more backslashes before it: each
    /// level of escaping doubles them and adds one.
    fn length(self, rest: &[u8], newlines: Newlines) -> usize {
        length(rest, Some(self), newlines)
    }

    fn is_closed(self, slashes: usize, next: Option<&u8>) -> Option<usize> {
        let own = slashes % (2 * (self.slashes + 1));
        // "it's": an apostrophe within a word closes nothing.
        let apostrophe = self.mark == b'\'' && next.is_some_and(u8::is_ascii_alphanumeric);
        (own <= self.slashes && !apostrophe).then_some(own)
    }
}

/// To the closing quote, if there is one to come, or the end of the line.
fn length(rest: &[u8], quote: Option<Quote>, newlines: Newlines) -> usize {
    let mut slashes = 0;
    for (index, byte) in rest.iter().enumerate() {
        match byte {
            b'\\' => {
                slashes += 1;
                continue;
            }
            b'\n' => return index,
            b'\r' | b'n' | b'r' if newlines == Newlines::Escaped && (*byte == b'\r' || slashes > 0) => {
                return index - slashes;
            }
            _ => {}
        }
        if let Some(quote) = quote
            && *byte == quote.mark
            && let Some(own) = quote.is_closed(slashes, rest.get(index + 1))
        {
            return index - own;
        }
        slashes = 0;
    }
    rest.len()
}

/// A header's value: the line, or what is left of the quoted text that it is in; a structure that goes on behind the
/// line as a whole.
fn header_length(rest: &[u8], enclosing: Option<Quote>) -> usize {
    let begins = if rest.starts_with(REDACTED.as_bytes()) { 0 } else { structure_length(rest, None) };
    let length = begins + length(&rest[begins..], enclosing, Newlines::Escaped);
    length - rest[..length].iter().rev().take_while(|byte| blank(**byte)).count()
}

/// To what ends a word, or a structure as a whole; `Some("…")` and `vec!["…"]` are words too.
fn unquoted_length(rest: &[u8]) -> usize {
    if rest.starts_with(REDACTED.as_bytes()) {
        return REDACTED.len();
    }
    let mut length = structure_length(rest, None);
    if length > 0 {
        return length;
    }
    while let Some(byte) = rest.get(length) {
        length += match byte {
            b'(' | b'[' | b'{' if length > 0 => structure_length(&rest[length..], Some(b'\n')),
            b'"' | b'\'' if length > 0 && rest.get(length + 1).is_some_and(u8::is_ascii_alphanumeric) => 1,
            b'\\' => {
                let slashes = run(&rest[length..], |byte| byte == b'\\');
                if rest.get(length + slashes).is_none_or(|byte| b"nrt\"'".contains(byte)) {
                    return length;
                }
                slashes
            }
            byte if byte.is_ascii_whitespace() || b",;&\"'<>(){}[]".contains(byte) => return length,
            _ => 1,
        };
    }
    length
}

/// To the bracket that closes the first one, to `stop`, or to the end; brackets within quotes do not count. 0 if there
/// is no bracket.
fn structure_length(rest: &[u8], stop: Option<u8>) -> usize {
    let (opening, closing) = match rest.first() {
        Some(b'[') => (b'[', b']'),
        Some(b'{') => (b'{', b'}'),
        Some(b'(') => (b'(', b')'),
        _ => return 0,
    };
    let (mut open, mut slashes, mut previous, mut index) = (0u32, 0, 0, 0);
    while let Some(byte) = rest.get(index).copied() {
        index += 1;
        match byte {
            _ if Some(byte) == stop => return index - 1,
            b'"' | b'\'' if b"[{(,:=".contains(&previous) => {
                index += Quote { mark: byte, slashes }.length(&rest[index..], Newlines::Raw);
                index += run(&rest[index..], |byte| byte == b'\\');
                index += usize::from(rest.get(index) == Some(&byte));
            }
            _ if byte == opening => open += 1,
            _ if byte == closing && open == 1 => return index,
            _ if byte == closing => open -= 1,
            _ => {}
        }
        slashes = if byte == b'\\' { slashes + 1 } else { 0 };
        if !byte.is_ascii_whitespace() && byte != b'\\' {
            previous = byte;
        }
    }
    rest.len()
}
