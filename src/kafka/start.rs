//! Where a partition begins: the pure decision behind every assignment.
//!
//! Deliberately absent: asking Kafka, and what happens to a partition that is refused (`poll`).

use super::host::StartPlan;
use super::metadata::CommitNote;
use crate::config::OffsetReset;
use crate::words::{GapReason, Offset};

/// All that is known about a partition when it is to be assigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts<'a> {
    /// Name of the stream as it is now.
    pub stream: &'a str,
    /// The group's commit, and what was written beside it if a gateway wrote it.
    pub committed: Option<(Offset, Option<CommitNote>)>,
    /// The first offset that Kafka still has.
    pub low: Offset,
    /// The offset after the last record of any kind.
    pub high: Offset,
    /// Where the log of this process ends, if the partition ran here before.
    pub log_next: Option<Offset>,
    pub begin: Begin,
    pub warm: Warm,
    /// The operator was told that the partition lost its end and it did not come back: what lies beyond `high` in a
    /// commit is void.
    pub truncated: bool,
}

/// Where a partition without a usable commit begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// As `KAFKA_AUTO_OFFSET_RESET` says: the topic was there before us.
    Configured(OffsetReset),
    /// At the start: the partition or the stream appeared while we were watching, so all of it is new to everybody.
    Discovered,
}

/// How much of what was already committed is read again to fill the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Warm {
    /// First offset that is young enough, where it was asked for (no `warm_from` in the commit) and known.
    pub by_age: Option<Offset>,
    /// At most this many records, an estimate of the byte budget: without a `warm_from` nobody knows sizes.
    pub records_max: u64,
}

/// Kafka ends below what was already read: within one stream nothing is ever assigned lower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BeyondEnd {
    /// Where we wanted to go on.
    pub next: Offset,
    pub high: Offset,
}

/// Decides. Invariants of the plan: `low ≤ from ≤ live_from`, `from ≤ high`, and `lost` ends right below `from`.
pub fn plan(facts: &Facts<'_>) -> Result<StartPlan, BeyondEnd> {
    let commit = usable_commit(facts);
    if let Some(next) = facts.log_next {
        let from = within(next, facts)?;
        // What others of the group committed meanwhile fills the log and is not counted again.
        let live_from = commit.map_or(from, |(committed, _)| committed.min(facts.high)).max(from);
        return Ok(StartPlan { from, live_from, lost: lost(next, from) });
    }
    if let Some((committed, warm_from)) = commit {
        let end = if facts.truncated { committed.min(facts.high) } else { committed };
        let live_from = within(end, facts)?;
        let by_age = || {
            let by_size = Offset(live_from.0.saturating_sub(facts.warm.records_max));
            facts.warm.by_age.map(|by_age| by_age.max(by_size))
        };
        let from = warm_from.or_else(by_age).unwrap_or(live_from).max(facts.low).min(live_from);
        return Ok(StartPlan { from, live_from, lost: lost(end, live_from) });
    }
    let from = match facts.begin {
        Begin::Configured(OffsetReset::Latest) => facts.high,
        Begin::Configured(OffsetReset::Earliest) | Begin::Discovered => facts.low,
    };
    Ok(StartPlan { from, live_from: from, lost: None })
}

/// The commit and its warm start, unless it was made for another stream. A commit that no gateway wrote is an
/// operator's and counts.
fn usable_commit(facts: &Facts<'_>) -> Option<(Offset, Option<Offset>)> {
    let (committed, note) = facts.committed.as_ref()?;
    match note {
        Some(note) if note.stream != facts.stream => None,
        Some(note) => Some((*committed, note.warm_from)),
        None => Some((*committed, None)),
    }
}

fn within(next: Offset, facts: &Facts<'_>) -> Result<Offset, BeyondEnd> {
    if next > facts.high {
        return Err(BeyondEnd { next, high: facts.high });
    }
    Ok(next.max(facts.low))
}

fn lost(next: Offset, from: Offset) -> Option<(Offset, Offset, GapReason)> {
    (next < from).then(|| (next, Offset(from.0 - 1), GapReason::Retention))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "v3_now";

    /// low 100, high 200, no commit, nothing in the log, earliest, room for 1000 warm records.
    fn facts() -> Facts<'static> {
        Facts {
            stream: STREAM,
            committed: None,
            low: Offset(100),
            high: Offset(200),
            log_next: None,
            begin: Begin::Configured(OffsetReset::Earliest),
            warm: Warm { by_age: None, records_max: 1000 },
            truncated: false,
        }
    }

    fn commit(next: u64, stream: &str, warm_from: Option<u64>) -> Option<(Offset, Option<CommitNote>)> {
        let note = CommitNote { stream: stream.to_owned(), instance: "x".to_owned(), warm_from: warm_from.map(Offset) };
        Some((Offset(next), Some(note)))
    }

    fn check(facts: Facts<'_>, expected: &str) {
        let told = match plan(&facts) {
            Ok(plan) => {
                assert!(facts.low <= plan.from && plan.from <= plan.live_from, "{plan:?}");
                assert!(plan.from <= facts.high, "{plan:?}");
                let lost = plan.lost.map_or(String::new(), |(first, last, reason)| {
                    assert_eq!(last.next(), plan.live_from.min(plan.from));
                    format!(" lost {first}-{last} {}", reason.label())
                });
                format!("{} live {}{lost}", plan.from, plan.live_from)
            }
            Err(beyond) => format!("refused {} > {}", beyond.next, beyond.high),
        };
        assert_eq!(told, expected, "{facts:?}");
    }

    #[test]
    fn without_a_commit_the_setting_decides() {
        check(facts(), "100 live 100");
        let latest = Begin::Configured(OffsetReset::Latest);
        check(Facts { begin: latest, ..facts() }, "200 live 200");
        check(Facts { begin: Begin::Discovered, ..facts() }, "100 live 100");
        check(Facts { begin: Begin::Discovered, low: Offset(0), high: Offset(0), ..facts() }, "0 live 0");
    }

    #[test]
    fn a_commit_of_another_stream_is_no_commit() {
        check(Facts { committed: commit(150, "v3_old", Some(120)), ..facts() }, "100 live 100");
        let latest = Begin::Configured(OffsetReset::Latest);
        check(Facts { committed: commit(150, "v3_old", None), begin: latest, ..facts() }, "200 live 200");
        check(Facts { committed: commit(900, "v3_old", None), ..facts() }, "100 live 100");
    }

    #[test]
    fn a_commit_that_no_gateway_wrote_counts() {
        check(Facts { committed: Some((Offset(150), None)), ..facts() }, "150 live 150");
        check(Facts { committed: Some((Offset(200), None)), ..facts() }, "200 live 200");
    }

    #[test]
    fn the_log_is_warmed_from_the_note() {
        for (warm_from, expected) in [
            (Some(120), "120 live 150"),
            (Some(100), "100 live 150"),
            (Some(7), "100 live 150"),
            (Some(150), "150 live 150"),
            (Some(199), "150 live 150"),
            (Some(u64::MAX), "150 live 150"),
            (None, "150 live 150"),
        ] {
            check(Facts { committed: commit(150, STREAM, warm_from), ..facts() }, expected);
        }
    }

    #[test]
    fn without_a_note_the_log_is_warmed_by_age_and_never_beyond_the_budget() {
        for (by_age, records_max, expected) in [
            (Some(120), 1000, "120 live 150"),
            (Some(120), 10, "140 live 150"),
            (Some(3), 1000, "100 live 150"),
            (Some(180), 1000, "150 live 150"),
            (Some(120), 0, "150 live 150"),
            (None, 1000, "150 live 150"),
        ] {
            let warm = Warm { by_age: by_age.map(Offset), records_max };
            check(Facts { committed: commit(150, STREAM, None), warm, ..facts() }, expected);
            check(Facts { committed: Some((Offset(150), None)), warm, ..facts() }, expected);
        }
        // A note knows better than the age.
        let warm = Warm { by_age: Some(Offset(101)), records_max: 1000 };
        check(Facts { committed: commit(150, STREAM, Some(130)), warm, ..facts() }, "130 live 150");
    }

    #[test]
    fn what_retention_took_is_named() {
        check(Facts { committed: commit(40, STREAM, Some(10)), ..facts() }, "100 live 100 lost 40-99 retention");
        check(Facts { committed: commit(100, STREAM, Some(10)), ..facts() }, "100 live 100");
        check(Facts { log_next: Some(Offset(99)), ..facts() }, "100 live 100 lost 99-99 retention");
    }

    #[test]
    fn nothing_is_assigned_below_what_was_read() {
        check(Facts { committed: commit(201, STREAM, Some(120)), ..facts() }, "refused 201 > 200");
        check(Facts { committed: Some((Offset(201), None)), ..facts() }, "refused 201 > 200");
        check(Facts { log_next: Some(Offset(201)), ..facts() }, "refused 201 > 200");
        check(Facts { committed: commit(200, STREAM, None), ..facts() }, "200 live 200");
    }

    #[test]
    fn a_truncation_that_was_declared_voids_what_lies_beyond_the_end() {
        let facts = Facts { truncated: true, ..facts() };
        check(Facts { committed: commit(500, STREAM, Some(150)), ..facts.clone() }, "150 live 200");
        check(Facts { committed: commit(500, STREAM, Some(300)), ..facts.clone() }, "200 live 200");
        check(Facts { committed: commit(150, STREAM, None), ..facts.clone() }, "150 live 150");
        // What this process read since is not void.
        check(Facts { log_next: Some(Offset(201)), ..facts }, "refused 201 > 200");
    }

    #[test]
    fn within_a_process_the_log_decides() {
        let ours = |next| Facts { log_next: Some(Offset(next)), ..facts() };
        check(ours(170), "170 live 170");
        check(ours(200), "200 live 200");
        // The warm part was being read when the partition was assigned again.
        check(Facts { committed: commit(180, STREAM, Some(110)), ..ours(120) }, "120 live 180");
        check(Facts { committed: commit(150, STREAM, Some(110)), ..ours(170) }, "170 live 170");
        check(Facts { committed: commit(900, STREAM, None), ..ours(170) }, "170 live 200");
    }
}
