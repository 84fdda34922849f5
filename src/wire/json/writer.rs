//! JSON text under a byte limit: what does not fit is not written, and said.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::embed;

/// Appends to `out` until `end_max`. Once something did not fit nothing more is written: the text is then broken and
/// the caller throws it away.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    end_max: usize,
    over: bool,
    /// The next key or element needs a comma before it.
    comma: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, bytes_max: usize) -> Self {
        let end_max = out.len().saturating_add(bytes_max);
        Self { out, end_max, over: false, comma: false }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// There is a limit to be kept at all.
    pub(super) fn is_bounded(&self) -> bool {
        self.end_max != usize::MAX
    }

    /// Something was left out on purpose: the same as not fitting.
    pub(super) fn give_up(&mut self) {
        self.over = true;
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes back everything after `len`, which stood before a whole element.
    pub(super) fn rewind(&mut self, len: usize, comma: bool) {
        self.out.truncate(len);
        self.over = false;
        self.comma = comma;
    }

    pub(super) fn array(&mut self, items: impl FnOnce(&mut Self)) {
        self.nest(b"[", items, b"]");
    }

    pub(super) fn object(&mut self, fields: impl FnOnce(&mut Self)) {
        self.nest(b"{", fields, b"}");
    }

    fn nest(&mut self, open: &[u8], inside: impl FnOnce(&mut Self), close: &[u8]) {
        self.begin();
        self.raw(open);
        self.comma = false;
        inside(self);
        self.raw(close);
        self.comma = true;
    }

    /// The value is what is written next.
    pub(super) fn key(&mut self, key: &str) -> &mut Self {
        self.begin();
        self.quoted(key);
        self.raw(b":");
        self.comma = false;
        self
    }

    pub(super) fn string(&mut self, text: &str) {
        self.begin();
        self.quoted(text);
        self.comma = true;
    }

    /// A number, `true`, `false` or `null`.
    pub(super) fn literal(&mut self, text: &str) {
        self.begin();
        self.raw(text.as_bytes());
        self.comma = true;
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.literal(if value { "true" } else { "false" });
    }

    pub(super) fn null(&mut self) {
        self.literal("null");
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.literal(&value.to_string());
    }

    /// A number as long as every JSON reader keeps it exactly, else its decimal text. Without a limit, which is to be
    /// read by us again, always a number.
    pub(super) fn i64(&mut self, value: i64) {
        const EXACT: u64 = 1 << 53;
        if value.unsigned_abs() <= EXACT || !self.is_bounded() {
            self.literal(&value.to_string());
        } else {
            self.string(&value.to_string());
        }
    }

    /// JSON has no word for what is not finite: then its name.
    pub(super) fn f64(&mut self, value: f64) {
        if value.is_finite() {
            // The debug form is the shortest that reads back equal, with an exponent where that is shorter.
            self.literal(&format!("{value:?}"));
        } else {
            self.string(not_finite(value));
        }
    }

    pub(super) fn f32(&mut self, value: f32) {
        if value.is_finite() {
            self.literal(&format!("{value:?}"));
        } else {
            self.string(not_finite(f64::from(value)));
        }
    }

    pub(super) fn hex(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.begin();
        self.raw(b"\"");
        if bytes.len() > self.room() / 2 {
            self.over = true;
        }
        for byte in bytes {
            if self.over {
                break;
            }
            let [high, low] = [byte >> 4, byte & 0xF].map(|digit| DIGITS.get(digit as usize).copied().unwrap_or(b'0'));
            self.raw(&[high, low]);
        }
        self.raw(b"\"");
        self.comma = true;
    }

    /// `{"base64": …}`.
    pub(super) fn base64(&mut self, bytes: &[u8]) {
        self.object(|writer| writer.key("base64").base64_text(bytes));
    }

    pub(super) fn base64_text(&mut self, bytes: &[u8]) {
        if bytes.len() > self.room() {
            self.over = true;
        }
        if !self.over {
            self.string(&STANDARD.encode(bytes));
        }
    }

    /// Bytes that are JSON by convention, as they are; else `{"base64": …}`; nothing is `null`.
    pub(super) fn json(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.null();
        } else if bytes.len() > self.room() {
            self.over = true;
        } else if embed::is_json(bytes) {
            self.begin();
            self.raw(bytes);
            self.comma = true;
        } else {
            self.base64(bytes);
        }
    }

    fn begin(&mut self) {
        if self.comma {
            self.raw(b",");
        }
    }

    fn quoted(&mut self, text: &str) {
        self.raw(b"\"");
        let bytes = text.as_bytes();
        let mut plain_from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.raw(bytes.get(plain_from..at).unwrap_or_default());
            plain_from = at + 1;
            match byte {
                b'"' => self.raw(b"\\\""),
                b'\\' => self.raw(b"\\\\"),
                b'\n' => self.raw(b"\\n"),
                b'\r' => self.raw(b"\\r"),
                b'\t' => self.raw(b"\\t"),
                _ => self.raw(format!("\\u{byte:04x}").as_bytes()),
            }
            if self.over {
                return;
            }
        }
        self.raw(bytes.get(plain_from..).unwrap_or_default());
        self.raw(b"\"");
    }

    fn raw(&mut self, bytes: &[u8]) {
        if self.over || bytes.len() > self.room() {
            self.over = true;
        } else {
            self.out.extend_from_slice(bytes);
        }
    }

    fn room(&self) -> usize {
        self.end_max.saturating_sub(self.out.len())
    }
}

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}
