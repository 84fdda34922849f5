//! How to ask for a place: what is said after Hello, and what each partition then waits for. Pure.
//!
//! A cursor on the wire names the last offset applied, so it has no word for a partition of which nothing was applied.
//! Such partitions are asked for by a resume for all (`earliest`, a timestamp ...) that goes before; the cursor, said
//! when that is answered, takes the others to their places, and those that it does not name go on where the first one left them.

use std::collections::BTreeMap;

use super::options::{Filter, Start};
use super::track::{State, Track};
use crate::wire::gateway::{self, Hello, resume::From};

/// What the user wants to see, now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) start: Start,
    pub(super) filter: Filter,
}

impl Wanted {
    /// Another filter; it takes the place of a run too.
    pub(super) fn set_filter(&mut self, filter: Filter) {
        if matches!(self.start, Start::Run(_)) {
            self.start = Start::Latest;
        }
        self.filter = filter;
    }
}

/// What to say, in this order: the filter, then the resumes. The first resume has the number 1.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) subscribe: Option<Filter>,
    pub(super) resumes: Vec<From>,
    pub(super) tracks: BTreeMap<u32, Track>,
    /// Places that are taken from Hello.
    pub(super) begin: Vec<(u32, u64)>,
    /// A run is asked for: other records are passed over.
    pub(super) run: bool,
}

/// `cursor`: next offset wanted, of this very stream; empty if there is none.
pub(super) fn plan(hello: &Hello, cursor: &BTreeMap<u32, u64>, wanted: &Wanted) -> Plan {
    let stands: BTreeMap<u32, u64> =
        hello.partitions.iter().map(|partition| (partition.partition, partition.position)).collect();
    let mut plan = Plan::default();
    let mut places = cursor.clone();
    if places.is_empty() && wanted.start == Start::Latest {
        // Asked for by name, so that "latest" is the moment of Hello and not a later one.
        places = stands.clone();
        plan.begin = stands.iter().map(|(partition, position)| (*partition, *position)).collect();
    } else if !places.is_empty() && matches!(wanted.start, Start::Latest | Start::Earliest) {
        // A host of a group holds partitions that this client never saw, since another host had them: to someone who
        // wanted the latest their past is no news. Otherwise what is not in the cursor was created after it.
        let past_is_no_news = wanted.start == Start::Latest && hello.assignment == "group";
        for (partition, position) in &stands {
            if !places.contains_key(partition) && (*position == 0 || past_is_no_news) {
                places.insert(*partition, *position);
                plan.begin.push((*partition, *position));
            }
        }
    }
    let missing = stands.keys().any(|partition| !places.contains_key(partition));
    let untouched =
        |partition: &u32, next: u64| next == 0 && stands.get(partition).is_some_and(|position| *position > 0);
    let base = if places.is_empty() {
        Some(first_resume(&wanted.start))
    } else if missing && let Start::Run(run) = &wanted.start {
        Some(From::Run(run.to_wire()))
    } else if places.iter().any(|(partition, next)| untouched(partition, *next)) {
        Some(From::Earliest(gateway::Earliest {}))
    } else if missing {
        Some(match wanted.start {
            Start::Timestamp(timestamp_ms) => From::TimestampMs(timestamp_ms),
            _ => From::Earliest(gateway::Earliest {}),
        })
    } else {
        None
    };
    plan.run = matches!(base, Some(From::Run(_)));
    plan.subscribe = match &wanted.start {
        Start::Run(_) if plan.run => None,
        Start::Run(run) => Some(run.to_filter()),
        _ => Some(wanted.filter.clone()).filter(|filter| !filter.is_empty()),
    };

    let has_base = base.is_some();
    plan.resumes.extend(base);
    let unnamed = |wanted: Option<u64>, run: bool| {
        let mut track = Track::new(match (has_base, wanted) {
            (true, _) => State::Awaiting { resume: 1, wanted, named: false },
            (false, Some(next)) => State::Flowing { next },
            (false, None) => State::Open,
        });
        track.overlap = run && wanted.is_some();
        track
    };
    let mut entries = Vec::new();
    for (partition, next) in &places {
        match next.checked_sub(1).filter(|_| !plan.run) {
            // No entry can be named for it without passing over more than was asked.
            None => {
                plan.tracks.insert(*partition, unnamed(Some(*next), plan.run));
            }
            Some(offset) => entries.push(gateway::CursorEntry { partition: *partition, offset }),
        }
    }
    for partition in stands.keys().filter(|partition| !places.contains_key(partition)) {
        plan.tracks.insert(*partition, unnamed(None, plan.run));
    }
    let limit = hello.limits.map_or(0, |limits| limits.resume_partitions_max as usize);
    for entries in entries.chunks(if limit == 0 { usize::MAX } else { limit }) {
        plan.resumes.push(From::Cursor(gateway::Cursor { entries: entries.to_vec() }));
        let resume = plan.resumes.len() as u64;
        for entry in entries {
            let state = State::Awaiting { resume, wanted: Some(entry.offset.saturating_add(1)), named: true };
            plan.tracks.insert(entry.partition, Track::new(state));
        }
    }
    plan
}

fn first_resume(start: &Start) -> From {
    match start {
        Start::Earliest => From::Earliest(gateway::Earliest {}),
        Start::Latest => From::Latest(gateway::Latest {}),
        Start::Timestamp(timestamp_ms) => From::TimestampMs(*timestamp_ms),
        Start::Run(run) => From::Run(run.to_wire()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Run;

    fn hello(positions: &[u64], assignment: &str, resume_partitions_max: u32) -> Hello {
        let partitions = (0..).zip(positions).map(|(partition, position)| gateway::PartitionState {
            partition,
            oldest: 0,
            next: *position,
            lag: None,
            position: *position,
        });
        Hello {
            assignment: assignment.to_owned(),
            partitions: partitions.collect(),
            limits: Some(gateway::Limits { resume_partitions_max, ..gateway::Limits::default() }),
            ..Hello::default()
        }
    }

    fn shown(plan: &Plan) -> String {
        let mut words: Vec<String> =
            plan.subscribe.iter().map(|filter| format!("threads {:?}", filter.threads)).collect();
        words.extend(plan.resumes.iter().map(|resume| match resume {
            From::Cursor(cursor) => {
                let entries: Vec<_> =
                    cursor.entries.iter().map(|entry| format!("{}:{}", entry.partition, entry.offset)).collect();
                format!("cursor {}", entries.join(" "))
            }
            From::Earliest(_) => "earliest".to_owned(),
            From::Latest(_) => "latest".to_owned(),
            From::TimestampMs(timestamp_ms) => format!("since {timestamp_ms}"),
            From::Run(run) => format!("run {}", run.thread_id),
        }));
        words.push("->".to_owned());
        words.extend(plan.tracks.iter().map(|(partition, track)| match track.state {
            State::Open => format!("{partition} open"),
            State::Flowing { next } => format!("{partition} at {next}"),
            State::Awaiting { resume, wanted: None, .. } => format!("{partition} awaits {resume}"),
            State::Awaiting { resume, wanted: Some(next), .. } => format!("{partition} at {next} awaits {resume}"),
            State::Held { .. } => format!("{partition} held"),
        }));
        words.join(", ")
    }

    fn check(start: Start, cursor: &[(u32, u64)], positions: &[u64], assignment: &str, expected: &str) {
        let wanted = Wanted { start, filter: Filter::default() };
        let cursor = cursor.iter().copied().collect();
        let plan = plan(&hello(positions, assignment, 0), &cursor, &wanted);
        assert_eq!(shown(&plan), expected, "{wanted:?} {cursor:?} {positions:?} {assignment}");
    }

    fn run() -> Start {
        Start::Run(Run { thread: "t".to_owned(), ..Run::default() })
    }

    #[test]
    fn without_a_cursor_the_start_decides() {
        check(Start::Earliest, &[], &[4, 0], "all", "earliest, ->, 0 awaits 1, 1 awaits 1");
        check(Start::Timestamp(9), &[], &[4], "all", "since 9, ->, 0 awaits 1");
        check(run(), &[], &[4], "all", "run t, ->, 0 awaits 1");
        // The place of Hello, by name; of an empty partition it is where the connection stands anyhow.
        check(Start::Latest, &[], &[4, 0], "all", "cursor 0:3, ->, 0 at 4 awaits 1, 1 at 0");
        check(Start::Latest, &[], &[], "all", "latest, ->");
    }

    #[test]
    fn a_cursor_that_names_everything_is_all_that_is_said() {
        for start in [Start::Earliest, Start::Latest, Start::Timestamp(9)] {
            check(start, &[(0, 3), (1, 8)], &[4, 9], "all", "cursor 0:2 1:7, ->, 0 at 3 awaits 1, 1 at 8 awaits 1");
        }
        let expected = "threads [\"t\"], cursor 0:2, ->, 0 at 3 awaits 1";
        check(run(), &[(0, 3)], &[4], "all", expected);
        // A partition that this host does not have (yet) is asked for all the same: the answer says why.
        check(Start::Latest, &[(0, 3), (5, 8)], &[4], "all", "cursor 0:2 5:7, ->, 0 at 3 awaits 1, 5 at 8 awaits 1");
    }

    #[test]
    fn partitions_of_which_nothing_was_applied_are_asked_for_before_the_cursor() {
        let earliest = "earliest, cursor 0:2, ->, 0 at 3 awaits 2, 1 at 0 awaits 1";
        check(Start::Latest, &[(0, 3), (1, 0)], &[4, 7], "all", earliest);
        check(Start::Timestamp(9), &[(0, 3), (1, 0)], &[4, 7], "all", earliest);
        check(Start::Latest, &[(0, 3), (1, 0)], &[4, 0], "all", "cursor 0:2, ->, 0 at 3 awaits 1, 1 at 0");
    }

    #[test]
    fn a_new_partition_is_read_from_its_beginning() {
        let earliest = "earliest, cursor 0:2, ->, 0 at 3 awaits 2, 1 awaits 1";
        check(Start::Latest, &[(0, 3)], &[4, 7], "all", earliest);
        check(Start::Earliest, &[(0, 3)], &[4, 7], "all", earliest);
        check(Start::Timestamp(9), &[(0, 3)], &[4, 7], "all", "since 9, cursor 0:2, ->, 0 at 3 awaits 2, 1 awaits 1");
        check(Start::Latest, &[(0, 3)], &[4, 0], "all", "cursor 0:2, ->, 0 at 3 awaits 1, 1 at 0");
        check(Start::Latest, &[(0, 3)], &[4, 7], "group", "cursor 0:2 1:6, ->, 0 at 3 awaits 1, 1 at 7 awaits 1");
    }

    #[test]
    fn a_search_that_was_cut_off_is_begun_again_over_what_is_there() {
        let wanted = Wanted { start: run(), filter: Filter::default() };
        let plan = plan(&hello(&[9, 9], "all", 0), &BTreeMap::from([(0, 5)]), &wanted);
        assert_eq!(shown(&plan), "run t, ->, 0 at 5 awaits 1, 1 awaits 1");
        assert!(plan.run && plan.tracks[&0].overlap && !plan.tracks[&1].overlap);
    }

    #[test]
    fn a_cursor_above_the_limit_is_said_in_pieces() {
        let wanted = Wanted { start: Start::Latest, filter: Filter::default() };
        let cursor = (0..5).map(|partition| (partition, 10)).collect();
        let plan = plan(&hello(&[10; 5], "all", 2), &cursor, &wanted);
        let expected = "cursor 0:9 1:9, cursor 2:9 3:9, cursor 4:9, ->, 0 at 10 awaits 1, 1 at 10 awaits 1, \
                        2 at 10 awaits 2, 3 at 10 awaits 2, 4 at 10 awaits 3";
        assert_eq!(shown(&plan), expected);
    }
}
