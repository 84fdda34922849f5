//! From the value of a record to its message, under a limit.

use prost::Message;

use crate::wire::Refusal;
use crate::wire::inflate::Inflater;
use crate::wire::proto::DashStreamMessage;

/// The largest message that [`super::Record::message`] decodes, in bytes: above the gateway's own default limit.
pub const DECODED_BYTES_MAX: usize = 16 << 20;

/// Why a value is no message.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Value(#[from] Refusal),
    #[error("not a DashStreamMessage: {0}")]
    Message(#[from] prost::DecodeError),
}

/// Decodes values one after another, and keeps its decompression context between them.
pub struct Decoder {
    inflater: Inflater,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DECODED_BYTES_MAX)
    }
}

impl Decoder {
    /// `decoded_bytes_max` is the largest encoded message after decompression, inclusive. The decoded one may take a
    /// multiple of that.
    pub fn new(decoded_bytes_max: usize) -> Self {
        Self { inflater: Inflater::new(decoded_bytes_max) }
    }

    /// # Errors
    /// When the value is empty, cut, larger than the limit, or no message.
    pub fn message(&mut self, value: &[u8]) -> Result<DashStreamMessage, DecodeError> {
        let body = self.inflater.body(value)?;
        Ok(DashStreamMessage::decode(body.bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::framing::Framer;
    use crate::wire::proto::{Event, dash_stream_message};

    #[test]
    fn every_framing_is_read_and_the_limit_holds() {
        let event = Event { node_id: "n".repeat(5_000), ..Event::default() };
        let message = DashStreamMessage { message: Some(dash_stream_message::Message::Event(event)) };
        let body = message.encode_to_vec();
        let (mut zstd, mut plain) = (Vec::new(), Vec::new());
        Framer::default().frame_encoded(&body, &mut zstd);
        crate::wire::framing::frame_plain(&body, &mut plain);
        assert!(zstd.len() < 200 && plain.len() > 5_000);
        let mut decoder = Decoder::default();
        for value in [&zstd[..], &plain, &zstd[1..], &body] {
            assert_eq!(decoder.message(value).as_ref(), Ok(&message));
            assert_eq!(
                Decoder::new(5_000).message(value),
                Err(DecodeError::Value(Refusal::TooLarge { limit: 5_000 })),
                "a body of {} bytes",
                body.len()
            );
        }
        assert_eq!(decoder.message(&[]), Err(DecodeError::Value(Refusal::Empty)));
        assert!(matches!(decoder.message(&[0, 0xFF, 0xFF]), Err(DecodeError::Message(_))));
    }
}
