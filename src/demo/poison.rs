//! Records that no consumer can read, each kind under a name of its own, so that the gateway's books can be compared
//! with what was sent.

use super::dice::Dice;

/// A way in which a record is broken. The key of such a record is [`Poison::key`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Poison {
    /// Bytes that are not a message. Dead-lettered.
    Undecodable,
    /// A value of no bytes. Dead-lettered.
    Empty,
    /// A zstd frame without its end. Dead-lettered.
    TruncatedZstd,
    /// No value at all: a tombstone. Skipped.
    Null,
}

impl Poison {
    pub const ALL: [Self; 4] = [Self::Undecodable, Self::Empty, Self::TruncatedZstd, Self::Null];

    pub fn label(self) -> &'static str {
        match self {
            Self::Undecodable => "undecodable",
            Self::Empty => "empty",
            Self::TruncatedZstd => "truncated_zstd",
            Self::Null => "null",
        }
    }

    /// Key of its records.
    pub fn key(self) -> &'static str {
        match self {
            Self::Undecodable => "poison-undecodable",
            Self::Empty => "poison-empty",
            Self::TruncatedZstd => "poison-truncated_zstd",
            Self::Null => "poison-null",
        }
    }

    /// Replaces `value`, which a null record does not have.
    pub fn write(self, dice: &mut Dice, value: &mut Vec<u8>) {
        value.clear();
        match self {
            Self::Empty | Self::Null => {}
            Self::Undecodable => {
                // A plain frame whose field 1 claims more bytes than there are, and then noise.
                value.extend_from_slice(&[0x00, 0x0A, 0xFF, 0xFF, 0x03]);
                value.extend((0..dice.between(8, 60)).map(|_| dice.word() as u8));
            }
            Self::TruncatedZstd => {
                let text = "An answer that was cut off on its way. ".repeat(40);
                value.push(0x01);
                value.extend(zstd::bulk::compress(text.as_bytes(), 3).unwrap_or_default());
                value.truncate(value.len().saturating_sub(9).max(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::proto::DashStreamMessage;

    #[test]
    fn no_kind_can_be_read() {
        let mut dice = Dice::new(2);
        let mut value = vec![1, 2, 3];
        for _ in 0..100 {
            Poison::Undecodable.write(&mut dice, &mut value);
            assert_eq!(value[0], 0x00);
            DashStreamMessage::decode(&value[1..]).expect_err("not a message");

            Poison::TruncatedZstd.write(&mut dice, &mut value);
            assert_eq!(value[..5], [0x01, 0x28, 0xB5, 0x2F, 0xFD]);
            zstd::bulk::decompress(&value[1..], 1 << 20).expect_err("cut");
        }
        for kind in [Poison::Empty, Poison::Null] {
            kind.write(&mut dice, &mut value);
            assert!(value.is_empty());
        }
    }

    #[test]
    fn keys_end_with_the_label() {
        for kind in Poison::ALL {
            assert_eq!(kind.key(), format!("poison-{}", kind.label()));
        }
    }
}
