//! What is missing and what is repeated within a run, as far as it can be told: by the sequences and message ids of
//! its events. Pure, and of fixed size: what was forgotten is a new beginning, and not a finding.

use std::collections::{HashSet, VecDeque};

use crate::partition::sequence::{Finding, Validator};

/// Runs whose sequence is known.
const RUNS: usize = 65_536;
/// Message ids that a repeat is recognised by. Producers that send again do so within seconds.
const IDS: usize = 65_536;

pub struct Order {
    sequences: Validator,
    ids: HashSet<[u8; 16]>,
    ids_in_order: VecDeque<[u8; 16]>,
}

/// What one event says about those before it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Found {
    /// The sequences `[from, to)` did not come.
    pub missing: Option<(u64, u64)>,
    /// An event with this message id came before.
    pub duplicate: bool,
}

impl Default for Order {
    fn default() -> Self {
        Self { sequences: Validator::new(RUNS), ids: HashSet::new(), ids_in_order: VecDeque::new() }
    }
}

impl Order {
    /// `instance` says which producer wrote it, 0 if that is not known.
    pub fn check(&mut self, tenant: &str, thread: &str, instance: u64, sequence: u64, message_id: &[u8]) -> Found {
        if let Ok(id) = <[u8; 16]>::try_from(message_id)
            && !self.remember(id)
        {
            return Found { missing: None, duplicate: true };
        }
        match self.sequences.check(tenant.as_bytes(), thread.as_bytes(), || instance, sequence) {
            Finding::Gap { missing } => {
                Found { missing: Some((sequence.saturating_sub(missing), sequence)), duplicate: false }
            }
            _ => Found::default(),
        }
    }

    /// False: it is known already.
    fn remember(&mut self, id: [u8; 16]) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.ids_in_order.push_back(id);
        if self.ids_in_order.len() > IDS
            && let Some(oldest) = self.ids_in_order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        id
    }

    #[test]
    fn gaps_and_repeats_are_found_once() {
        let mut order = Order::default();
        let mut check = |thread: &str, sequence: u64, number: u64, expected: Found| {
            assert_eq!(order.check("t", thread, 0, sequence, &id(number)), expected, "{thread} {sequence}");
        };
        let missing = |from, to| Found { missing: Some((from, to)), duplicate: false };
        check("a", 3, 1, Found::default());
        check("a", 4, 2, Found::default());
        check("b", 1, 3, Found::default());
        check("a", 4, 2, Found { missing: None, duplicate: true });
        check("a", 8, 4, missing(5, 8));
        check("a", 9, 5, Found::default());
        check("a", 6, 6, Found::default());
        check("a", 0, 7, Found::default());
        check("a", 10, 8, Found::default());
    }

    #[test]
    fn ids_are_bounded_and_other_ids_are_none() {
        let mut order = Order::default();
        for number in 0..3 * IDS as u64 {
            order.check("t", "", 0, 0, &id(number));
        }
        assert_eq!((order.ids.len(), order.ids_in_order.len()), (IDS, IDS));
        assert!(!order.check("t", "", 0, 0, &id(0)).duplicate, "forgotten");
        assert!(!order.check("t", "", 0, 0, b"").duplicate && !order.check("t", "", 0, 0, b"").duplicate);
    }
}
