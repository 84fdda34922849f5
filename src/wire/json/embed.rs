//! May these bytes stand inside a JSON document as they are? Stricter than the grammar: whatever embeds them must be
//! readable by every client, so broken surrogates, numbers beyond all floats and deep nesting are refused too.

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

/// Readers commonly stop at 128; the document around it needs a few.
const NESTING_MAX: u8 = 64;

/// Builds nothing.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    reader.deserialize_any(Checked { levels: NESTING_MAX }).is_ok() && reader.end().is_ok()
}

/// A value that may nest `levels` deep.
struct Checked {
    levels: u8,
}

impl Checked {
    fn inside<E: Error>(&self) -> Result<u8, E> {
        self.levels.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let levels = self.inside()?;
        while items.next_element_seed(Self { levels })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let levels = self.inside()?;
        while fields.next_key_seed(Self { levels: 0 })?.is_some() {
            fields.next_value_seed(Self { levels })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_embedded() {
        let check = |text: &str, expected: bool| assert_eq!(is_json(text.as_bytes()), expected, "{text:.60}");
        for good in ["null", " {\"a\": [1, 2.5, -3e10, \"\\u00e9\\n\"], \"b\": {}}\n", "\"\\ud83d\\ude00\"", "[]", "0"]
        {
            check(good, true);
        }
        for bad in
            ["", " ", "{", "[1,]", "{a:1}", "nul", "1 2", "NaN", "\"\\ud83d\"", "1e999", "\"\n\"", "{\"\\ud800\":1}"]
        {
            check(bad, false);
        }
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        check(&nested(64), true);
        check(&nested(65), false);
        check(&nested(100_000), false);
        let nested = |levels: usize| format!("{}1{}", "{\"k\":".repeat(levels), "}".repeat(levels));
        check(&nested(64), true);
        check(&nested(65), false);
        assert!(!is_json(b"\"\xFF\""));
    }
}
