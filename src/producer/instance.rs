//! Who sends: the id of this producer's life, and message ids.
//!
//! Message ids are UUIDs of version 4, but not each asks the system for randomness, which would cost more than the
//! rest of the event: a counter is mixed by a bijection from two random beginnings, so that no two ids of an instance are
//! equal, and ids of different instances are as unlikely to be equal as random ones.

use std::sync::atomic::{AtomicU64, Ordering};

use uuid::{Builder, Uuid};

/// The odd number next to 2^64 divided by the golden ratio: steps that visit every value.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

pub(super) struct Instance {
    /// New with each start.
    pub(super) id: Uuid,
    high: u64,
    low: u64,
    given: AtomicU64,
}

impl Instance {
    pub(super) fn new() -> Self {
        // Version bits are fixed in a UUID; two of them give 128 random bits and more.
        let fold = || {
            let (high, low) = Uuid::new_v4().as_u64_pair();
            high.rotate_left(17) ^ low
        };
        Self { id: Uuid::new_v4(), high: fold(), low: fold(), given: AtomicU64::new(0) }
    }

    pub(super) fn message_id(&self) -> [u8; 16] {
        let step = self.given.fetch_add(1, Ordering::Relaxed).wrapping_mul(STEP);
        let high = mix(self.high.wrapping_add(step));
        let low = mix(self.low.wrapping_add(step));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        Builder::from_random_bytes(bytes).into_uuid().into_bytes()
    }
}

/// A bijection of 64 bits in which every bit of the input moves about half of the output (SplitMix).
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn message_ids_are_version_four_and_never_equal() {
        let (one, other) = (Instance::new(), Instance::new());
        assert_ne!(one.id, other.id);
        let mut seen = HashSet::new();
        for _ in 0..50_000 {
            for instance in [&one, &other] {
                let id = instance.message_id();
                assert_eq!(Uuid::from_bytes(id).get_version_num(), 4);
                assert!(seen.insert(id), "twice");
            }
        }
        // Every bit that is not fixed is set about half of the time.
        for bit in (0..128).filter(|bit| !(48..52).contains(bit) && !(64..66).contains(bit)) {
            let set = seen.iter().filter(|id| id[bit / 8] & (0x80 >> (bit % 8)) != 0).count();
            assert!((45_000..55_000).contains(&set), "bit {bit} is set in {set} of 100,000");
        }
    }
}
