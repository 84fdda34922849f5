//! A small seeded generator of pseudo-random numbers (xoshiro256++, seeded by splitmix64): equal seeds give equal
//! demos on every machine, without a dependency.
//!
//! Deliberately absent: anything secret. These numbers are predictable on purpose.

/// The one source of chance in a demo.
#[derive(Clone, Debug)]
pub struct Dice {
    state: [u64; 4],
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        let mut mixed = seed;
        let mut next = || {
            mixed = mixed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut word = mixed;
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^ (word >> 31)
        };
        Self { state: [next(), next(), next(), next()] }
    }

    pub fn word(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let shifted = b << 17;
        let c = c ^ a;
        let d = d ^ b;
        self.state = [a ^ d, b ^ c, c ^ shifted, d.rotate_left(45)];
        result
    }

    /// Evenly in `0..bound`; 0 for a bound of 0. The bias of the multiplication does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(bound)) >> 64) as u64
    }

    /// Evenly in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Evenly in `low..high`.
    pub fn fraction(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.word() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// One of `items`, which is never empty: all of them are tables of this room.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    /// The 16 bytes of a UUID of version 4.
    pub fn uuid(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.word().to_be_bytes());
        bytes[8..].copy_from_slice(&self.word().to_be_bytes());
        bytes[6] = (bytes[6] & 0x0F) | 0x40;
        bytes[8] = (bytes[8] & 0x3F) | 0x80;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_numbers_and_other_seeds_others() {
        let numbers = |seed| {
            let mut dice = Dice::new(seed);
            (0..100).map(|_| dice.word()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        assert_ne!(numbers(0), vec![0; 100]);
    }

    #[test]
    fn ranges_are_kept_and_filled() {
        let mut dice = Dice::new(3);
        let mut seen = [0_u32; 6];
        for _ in 0..6_000 {
            let number = dice.between(10, 15);
            assert!((10..=15).contains(&number));
            seen[number as usize - 10] += 1;
        }
        assert!(seen.iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
        assert_eq!(dice.below(0), 0);
        assert!(!dice.chance(0) && dice.chance(100));
        assert!((0..100).all(|_| (0.25..0.5).contains(&dice.fraction(0.25, 0.5))));
    }

    #[test]
    fn a_uuid_says_that_it_is_of_version_4() {
        let mut dice = Dice::new(4);
        for _ in 0..100 {
            let uuid = uuid::Uuid::from_bytes(dice.uuid());
            assert_eq!(uuid.get_version_num(), 4);
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        }
    }
}
