//! Scratch for looking into values that are in the log already. One per shard: nothing is allocated per record.

use crate::wire::inflate::Inflater;
use crate::wire::scan::{EventMeta, Scan, scan};

/// See the module.
pub struct Decoder {
    inflater: Inflater,
    found: Scan,
}

impl Decoder {
    pub fn new(payload_max_bytes: usize) -> Self {
        Self { inflater: Inflater::new(payload_max_bytes), found: Scan::default() }
    }

    /// Some event of this value is as asked. `test` gets the event and the body that its spans point into.
    pub fn any_event(&mut self, value: &[u8], mut test: impl FnMut(&EventMeta, &[u8]) -> bool) -> bool {
        let Self { inflater, found } = self;
        let Ok(body) = inflater.body(value) else { return false };
        scan(body.bytes(), found).is_ok() && found.events.iter().any(|event| test(event, body.bytes()))
    }
}
