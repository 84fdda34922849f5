//! Which entries together cover an interval, judged by their heads. Pure.
//!
//! Entries of several hosts overlap in any way; a wanted offset is covered by whichever entry holds it, and the choice
//! is the one that reaches furthest, so that few are fetched.

use super::entry::Head;
use crate::words::Offset;

/// Places in `heads` to fetch, in order: together they cover from `want` on without a hole, as far as `until`, as long
/// as the sum of their bytes is not above `bytes_max`. The first is always there, whatever its size.
///
/// Empty when nothing covers `want`. Entries that say that their interval is lost cover nothing.
pub(super) fn cover(heads: &[Head], want: Offset, until: Offset, bytes_max: u64) -> Vec<usize> {
    let mut chosen = Vec::new();
    let mut at = want;
    let mut bytes = 0;
    while at < until {
        let covering =
            heads.iter().enumerate().filter(|(_, head)| head.lost.is_none() && head.from <= at && at < head.next);
        // Of two that reach equally far the smaller has less that was had already.
        let best = covering.max_by_key(|(_, head)| (head.next, std::cmp::Reverse(head.bytes)));
        let Some((place, head)) = best else { break };
        bytes += u64::from(head.bytes);
        if !chosen.is_empty() && bytes > bytes_max {
            break;
        }
        chosen.push(place);
        at = head.next;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::words::{GapReason, PartitionId};

    fn head(from: u64, next: u64, bytes: u32) -> Head {
        let (from, next) = (Offset(from), Offset(next));
        Head { partition: PartitionId(0), from, next, lost: None, records: 0, bytes }
    }

    fn check(heads: &[Head], (want, until, bytes_max): (u64, u64, u64), expected: &[usize]) {
        assert_eq!(cover(heads, Offset(want), Offset(until), bytes_max), expected);
    }

    #[test]
    fn the_entry_that_reaches_furthest_is_taken() {
        let two_hosts = [head(0, 100, 10), head(50, 60, 1), head(60, 130, 10), head(100, 120, 1), head(140, 150, 1)];
        check(&two_hosts, (0, 1_000, 1_000), &[0, 2]);
        check(&two_hosts, (70, 1_000, 1_000), &[2]);
        check(&two_hosts, (55, 1_000, 1_000), &[0, 2]);
        check(&two_hosts, (130, 1_000, 1_000), &[]);
        check(&two_hosts, (140, 1_000, 1_000), &[4]);
        check(&two_hosts, (150, 1_000, 1_000), &[]);
    }

    #[test]
    fn bounds_end_it_but_the_first_is_always_there() {
        let row = [head(0, 10, 60), head(10, 20, 60), head(20, 30, 60)];
        check(&row, (0, 30, 120), &[0, 1]);
        check(&row, (0, 30, 1), &[0]);
        check(&row, (0, 10, 1_000), &[0]);
        check(&row, (5, 5, 1_000), &[]);
    }

    #[test]
    fn a_lost_interval_covers_nothing() {
        let lost = Head { lost: Some(GapReason::Retention), ..head(0, 10, 60) };
        check(&[lost], (0, 30, 1_000), &[]);
        check(&[lost, head(5, 9, 60)], (5, 30, 1_000), &[1]);
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_a_chain_and_as_long_as_can_be(
            pieces in proptest::collection::vec((0u64..60, 1u64..20, 1u32..50), 0..20),
            want in 0u64..70,
            until in 0u64..90,
        ) {
            let heads: Vec<Head> = pieces.iter().map(|(from, length, bytes)| head(*from, from + length, *bytes)).collect();
            let chosen = cover(&heads, Offset(want), Offset(until), u64::MAX);
            let mut at = want;
            for place in &chosen {
                prop_assert!(heads[*place].from.0 <= at && at < heads[*place].next.0);
                at = heads[*place].next.0;
            }
            let covered = |offset: u64| heads.iter().any(|head| head.from.0 <= offset && offset < head.next.0);
            let end = (want..until).find(|offset| !covered(*offset)).unwrap_or(until);
            prop_assert_eq!(at.min(until.max(want)), end.max(want));
        }
    }
}
