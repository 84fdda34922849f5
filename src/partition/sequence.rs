//! The sequence validator: tells gaps, duplicates and reorders per (tenant, thread, producer instance).
//!
//! It counts and annotates; it never withholds a record. A key that was never seen, or was forgotten because the
//! table is full, is a new baseline and not a gap. Memory is fixed: a set-associative table, the least recently used
//! of eight makes room.

/// What one sequence number says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// The expected one, or the first of its key.
    InOrder,
    /// Numbers are missing before it.
    Gap { missing: u64 },
    /// The number before the expected one, again.
    Duplicate,
    /// An older number: late, or repeated.
    Reordered,
    /// 0, or no thread: nothing can be said.
    Unknown,
}

/// Keys per set.
const WAYS: usize = 8;

#[derive(Clone, Copy, Default, Debug)]
struct Slot {
    /// 0 is free.
    key: u64,
    /// The producer instance that wrote last; 0 when unknown.
    instance: u64,
    expected: u64,
    used: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Validator {
    sets: Box<[[Slot; WAYS]]>,
    tick: u32,
}

/// Bytes of one tracked key.
pub const KEY_BYTES: usize = std::mem::size_of::<Slot>();

/// Keys that all validators of the process track together.
pub const KEYS_TOTAL: usize = 131_072;

/// Keys per partition when `partitions` are held: a share of the total, between 512 and 16,384.
pub fn keys_per_partition(partitions: u32) -> usize {
    (KEYS_TOTAL / partitions.max(1) as usize).clamp(512, 16_384)
}

impl Validator {
    /// Tracks up to `keys` keys, rounded up to a power of two.
    pub fn new(keys: usize) -> Self {
        let sets = keys.div_ceil(WAYS).next_power_of_two();
        Self { sets: vec![[Slot::default(); WAYS]; sets].into_boxed_slice(), tick: 0 }
    }

    /// `instance` says which producer instance wrote the record (0: unknown). It is asked only for a thread's first
    /// record and when the sequence is not the expected one, since it costs a parse of the record's headers: an
    /// instance that takes over with exactly the expected number is not told apart, and nothing is missing then.
    pub fn check(&mut self, tenant: &[u8], thread: &[u8], instance: impl FnOnce() -> u64, sequence: u64) -> Finding {
        if sequence == 0 || thread.is_empty() {
            return Finding::Unknown;
        }
        self.tick = self.tick.wrapping_add(1);
        let key = key(tenant, thread);
        let Some(slot) = self.slot(key) else {
            self.begin(key, instance(), sequence);
            return Finding::InOrder;
        };
        if sequence == slot.expected {
            slot.expected = sequence.saturating_add(1);
            return Finding::InOrder;
        }
        let (instance, usual) = (instance(), *slot);
        if instance == usual.instance {
            return slot.find(sequence);
        }
        // Another instance writes this thread now. It becomes the usual one; the other keeps its place apart.
        let own = self.slot(apart(key, instance)).map(|slot| *slot);
        self.begin_at(apart(key, usual.instance), usual.instance, usual.expected);
        let Some(mut own) = own else {
            self.begin(key, instance, sequence);
            return Finding::InOrder;
        };
        let finding = own.find(sequence);
        self.begin_at(key, instance, own.expected);
        finding
    }

    /// The slot of a key, used now.
    fn slot(&mut self, key: u64) -> Option<&mut Slot> {
        let (tick, mask) = (self.tick, self.sets.len() - 1);
        let slot = self.sets[(key >> 20) as usize & mask].iter_mut().find(|slot| slot.key == key)?;
        slot.used = tick;
        Some(slot)
    }

    fn begin(&mut self, key: u64, instance: u64, sequence: u64) {
        self.begin_at(key, instance, sequence.saturating_add(1));
    }

    /// Sets what a key expects; the least recently used makes room for a new one.
    fn begin_at(&mut self, key: u64, instance: u64, expected: u64) {
        let (tick, mask) = (self.tick, self.sets.len() - 1);
        let set = &mut self.sets[(key >> 20) as usize & mask];
        let age = |slot: &Slot| match slot.key {
            other if other == key => u64::MAX,
            0 => u64::MAX - 1,
            _ => u64::from(tick.wrapping_sub(slot.used)),
        };
        if let Some(slot) = set.iter_mut().max_by_key(|slot| age(slot)) {
            *slot = Slot { key, instance, expected, used: tick };
        }
    }
}

impl Slot {
    fn find(&mut self, sequence: u64) -> Finding {
        let expected = self.expected;
        if sequence >= expected {
            self.expected = sequence.saturating_add(1);
            if sequence == expected { Finding::InOrder } else { Finding::Gap { missing: sequence - expected } }
        } else if sequence + 1 == expected {
            Finding::Duplicate
        } else {
            Finding::Reordered
        }
    }
}

/// Where the place of an instance is kept that is not the usual one of its thread.
fn apart(key: u64, instance: u64) -> u64 {
    let mixed = (key ^ instance.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 32)).max(1)
}

/// Lengths go in, so that ("a", "bc") and ("ab", "c") differ. 64 bits: two keys that meet share a baseline, which at
/// the table's size happens about once in 10^10 runs and only miscounts.
fn key(tenant: &[u8], thread: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ ((tenant.len() as u64) << 32);
    for byte in tenant.iter().chain(thread) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    }
    // The low bits of FNV are weak for the set index; mix, and keep 0 for "free".
    let mixed = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 32)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sequences: &[u64], expected: &[Finding]) {
        let mut validator = Validator::new(16);
        let found: Vec<_> = sequences.iter().map(|sequence| validator.check(b"t", b"run", || 0, *sequence)).collect();
        assert_eq!(found, expected, "{sequences:?}");
    }

    #[test]
    fn findings_follow_the_table_of_the_contract() {
        use Finding::{Duplicate, Gap, InOrder, Reordered, Unknown};
        check(&[1, 2, 3], &[InOrder, InOrder, InOrder]);
        check(&[5, 6], &[InOrder, InOrder]);
        check(&[1, 4, 5], &[InOrder, Gap { missing: 2 }, InOrder]);
        check(&[1, 2, 2, 3], &[InOrder, InOrder, Duplicate, InOrder]);
        check(&[1, 2, 3, 1], &[InOrder, InOrder, InOrder, Reordered]);
        check(&[0], &[Unknown]);
        check(&[u64::MAX, u64::MAX], &[InOrder, InOrder]);
    }

    #[test]
    fn tenants_and_threads_are_told_apart() {
        let mut validator = Validator::new(64);
        for (tenant, thread) in [("a", "bc"), ("ab", "c")] {
            assert_eq!(validator.check(tenant.as_bytes(), thread.as_bytes(), || 0, 9), Finding::InOrder);
        }
        assert_eq!(validator.check(b"a", b"bc", || 0, 10), Finding::InOrder);
        assert_eq!(validator.check(b"a", b"", || 0, 10), Finding::Unknown);
    }

    /// (producer instance, sequence) -> finding.
    #[test]
    fn instances_of_one_thread_have_sequences_of_their_own() {
        use Finding::{Duplicate, Gap, InOrder, Reordered};
        let restart = [(7, 1, InOrder), (7, 2, InOrder), (8, 1, InOrder), (8, 2, InOrder), (8, 2, Duplicate)];
        let in_turns =
            [(7, 5, InOrder), (8, 90, InOrder), (7, 6, InOrder), (8, 91, InOrder), (7, 9, Gap { missing: 2 })];
        let late = [(7, 5, InOrder), (8, 1, InOrder), (7, 3, Reordered), (8, 1, Duplicate), (7, 6, InOrder)];
        for told in [restart.as_slice(), &in_turns, &late] {
            let mut validator = Validator::new(64);
            for (instance, sequence, expected) in told {
                let found = validator.check(b"t", b"run", || *instance, *sequence);
                assert_eq!(found, *expected, "{instance} {sequence} in {told:?}");
            }
        }
    }

    #[test]
    fn headers_are_not_parsed_while_all_is_in_order() {
        let mut validator = Validator::new(64);
        assert_eq!(validator.check(b"t", b"run", || 7, 1), Finding::InOrder);
        for sequence in 2..100 {
            assert_eq!(validator.check(b"t", b"run", || unreachable!("in order"), sequence), Finding::InOrder);
        }
    }

    #[test]
    fn a_forgotten_key_is_a_baseline_and_not_a_gap() {
        let mut validator = Validator::new(8);
        assert_eq!(validator.check(b"t", b"first", || 0, 1), Finding::InOrder);
        for other in 0..1000u32 {
            assert_eq!(validator.check(b"t", &other.to_be_bytes(), || 0, 1), Finding::InOrder);
        }
        assert_eq!(validator.check(b"t", b"first", || 0, 77), Finding::InOrder);
    }
}
