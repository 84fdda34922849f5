//! The protobuf wire format, checked the way prost checks it: keys, numbers, lengths, groups, depth.
//!
//! A reader never looks beyond its message, where prost looks to the end of the buffer and complains later; the
//! verdict is the same. Two habits of prost are kept on purpose: a map field is read as length-delimited whatever
//! its wire type says, and an unknown field counts as one level of nesting.

use super::{ScanError, Span};
use crate::wire::schema::{Field, Shape};

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const DELIMITED: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// Told about the known fields of one message, in order. What is not overridden is only checked.
pub(super) trait Visit {
    #[inline]
    fn varint(&mut self, _number: u32, _value: u64) {}

    #[inline]
    fn span(&mut self, _number: u32, _span: Span) {}

    /// Must walk `reader` to its end. Map entries do not come here.
    #[inline]
    fn message(
        &mut self,
        _number: u32,
        reader: Reader<'_>,
        shape: &'static Shape,
        depth: u32,
    ) -> Result<(), ScanError> {
        walk(reader, shape, depth, &mut super::Nothing)
    }
}

/// Where we are in a message.
///
/// Invariant: `bytes` begins with the whole body and ends where this message does, so that `at` is a place in the
/// body; `bytes` is at most `u32::MAX` long.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// All fields of one message. `depth` is how many levels may still be entered.
#[inline]
pub(super) fn walk<V: Visit>(
    mut reader: Reader<'_>,
    shape: &'static Shape,
    depth: u32,
    visit: &mut V,
) -> Result<(), ScanError> {
    while !reader.is_at_end() {
        let (number, wire_type) = reader.key()?;
        let Some(field) = shape.fields.get(number as usize - 1) else {
            reader.skip(number, wire_type, depth)?;
            continue;
        };
        match (field, wire_type) {
            (Field::Varint, VARINT) => {
                let value = reader.varint()?;
                visit.varint(number, value);
            }
            (Field::String, DELIMITED) => {
                let span = reader.delimited()?;
                if std::str::from_utf8(reader.slice(span)).is_err() {
                    return Err(ScanError::Utf8);
                }
                visit.span(number, span);
            }
            (Field::Bytes, DELIMITED) => {
                let span = reader.delimited()?;
                visit.span(number, span);
            }
            (Field::Message(inner), DELIMITED) => {
                let depth = depth.checked_sub(1).ok_or(ScanError::TooDeep)?;
                let inside = reader.enter()?;
                visit.message(number, inside, inner, depth)?;
            }
            (Field::Map(entry), _) => {
                let depth = depth.checked_sub(1).ok_or(ScanError::TooDeep)?;
                let inside = reader.enter()?;
                walk(inside, entry, depth, &mut super::Nothing)?;
            }
            (Field::Fixed64, FIXED64) => reader.advance(8)?,
            (Field::Fixed32 | Field::Fixed32s, FIXED32) => reader.advance(4)?,
            (Field::Varints, VARINT) => {
                reader.varint()?;
            }
            (Field::Varints, DELIMITED) => {
                let mut packed = reader.enter()?;
                while !packed.is_at_end() {
                    packed.varint()?;
                }
            }
            (Field::Fixed32s, DELIMITED) => {
                let span = reader.delimited()?;
                if !span.len.is_multiple_of(4) {
                    return Err(ScanError::Truncated);
                }
            }
            _ => return Err(ScanError::WireType),
        }
    }
    Ok(())
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Result<Self, ScanError> {
        if u32::try_from(body.len()).is_err() {
            return Err(ScanError::TooLong);
        }
        Ok(Self { bytes: body, at: 0 })
    }

    #[inline]
    fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Field number, at least 1, and wire type, at most 5.
    #[inline]
    fn key(&mut self) -> Result<(u32, u8), ScanError> {
        let key = u32::try_from(self.varint()?).map_err(|_| ScanError::Key)?;
        let (number, wire_type) = (key >> 3, (key & 7) as u8);
        if number == 0 || wire_type > FIXED32 {
            return Err(ScanError::Key);
        }
        Ok((number, wire_type))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, ScanError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            Some(_) => self.long_varint(),
            None => Err(ScanError::Truncated),
        }
    }

    /// At most ten bytes, of which the last may only carry the 64th bit. A longer form than needed is accepted.
    fn long_varint(&mut self) -> Result<u64, ScanError> {
        let bytes = self.bytes.get(self.at..).unwrap_or_default();
        let mut value = 0_u64;
        for (index, &byte) in bytes.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                if index == 9 && byte > 1 {
                    return Err(ScanError::Varint);
                }
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(if bytes.len() < 10 { ScanError::Truncated } else { ScanError::Varint })
    }

    #[inline]
    fn delimited(&mut self) -> Result<Span, ScanError> {
        let len = self.varint()?;
        let start = self.at;
        let left = self.bytes.len() - start;
        if len > left as u64 {
            return Err(ScanError::Truncated);
        }
        self.at = start + len as usize;
        // Both fit: the body is at most `u32::MAX` long.
        Ok(Span { start: start as u32, len: len as u32 })
    }

    #[inline]
    fn slice(&self, span: Span) -> &'a [u8] {
        span.of(self.bytes)
    }

    /// A reader for the message or packed field that begins here; this one goes on behind it.
    #[inline]
    fn enter(&mut self) -> Result<Reader<'a>, ScanError> {
        let span = self.delimited()?;
        let bytes = self.bytes.get(..self.at).unwrap_or_default();
        Ok(Reader { bytes, at: span.start as usize })
    }

    #[inline]
    fn advance(&mut self, count: usize) -> Result<(), ScanError> {
        if self.bytes.len() - self.at < count {
            return Err(ScanError::Truncated);
        }
        self.at += count;
        Ok(())
    }

    /// A field that the schema does not know.
    #[cold]
    fn skip(&mut self, number: u32, wire_type: u8, depth: u32) -> Result<(), ScanError> {
        let inner_depth = depth.checked_sub(1).ok_or(ScanError::TooDeep)?;
        match wire_type {
            VARINT => self.varint().map(|_| ()),
            FIXED64 => self.advance(8),
            DELIMITED => self.delimited().map(|_| ()),
            GROUP_START => loop {
                let (inner, wire_type) = self.key()?;
                if wire_type == GROUP_END {
                    return if inner == number { Ok(()) } else { Err(ScanError::Group) };
                }
                self.skip(inner, wire_type, inner_depth)?;
            },
            FIXED32 => self.advance(4),
            _ => Err(ScanError::Group),
        }
    }
}
