//! Protobuf by hand: enough to write `DashStreamMessage`s and to read the gateway's frames.

/// Appends fields to a message.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn varint(mut self, field: u32, value: u64) -> Self {
        self.raw_varint(u64::from(field) << 3);
        self.raw_varint(value);
        self
    }

    pub fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.raw_varint(u64::from(field) << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub fn double(mut self, field: u32, value: f64) -> Self {
        self.raw_varint(u64::from(field) << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub fn message(self, field: u32, message: Writer) -> Self {
        self.bytes(field, message.0)
    }
}

/// One field as it stands on the wire.
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub fn number(&self) -> u64 {
        match self {
            Value::Varint(number) | Value::Fixed(number) => *number,
            Value::Bytes(bytes) => panic!("a number was expected, not {bytes:?}"),
        }
    }

    pub fn slice(&self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            other => panic!("bytes were expected, not {other:?}"),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.slice().to_vec()).expect("a protobuf string is UTF-8")
    }
}

/// All fields of a message, in order. Panics on what is not protobuf: the gateway never sends that.
pub fn fields(mut bytes: &[u8]) -> Vec<(u32, Value<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = take_varint(&mut bytes);
        let value = match tag & 7 {
            0 => Value::Varint(take_varint(&mut bytes)),
            1 => Value::Fixed(u64::from_le_bytes(take(&mut bytes, 8).try_into().expect("eight"))),
            2 => {
                let length = take_varint(&mut bytes) as usize;
                Value::Bytes(take(&mut bytes, length))
            }
            5 => Value::Fixed(u64::from(u32::from_le_bytes(take(&mut bytes, 4).try_into().expect("four")))),
            other => panic!("wire type {other}"),
        };
        fields.push(((tag >> 3) as u32, value));
    }
    fields
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (head, tail) = bytes.split_at(length);
    *bytes = tail;
    head
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in 0..10 {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint of more than ten bytes");
}
