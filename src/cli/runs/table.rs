//! The runs that were seen, in a table of fixed size: the one seen longest ago makes room. A thread that starts its
//! graph again after it has ended begins another run, as in [`crate::analysis::runs`]. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::analysis::life::{Beat, Life, Sign};
use crate::analysis::runs::is_failure;
use crate::cli::show::line;
use crate::cli::source::{Item, Seen};
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::words::PartitionId;

/// About 4 MiB with ids of usual length.
pub(super) const RUNS_MAX: usize = 10_000;

#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) tenant: String,
    pub(super) thread: String,
    /// Of those of its thread, from 1.
    pub(super) nth: u32,
    /// Of its first event that was read.
    pub(super) partition: PartitionId,
    /// By the producer's clock, else Kafka's.
    pub(super) life: Life,
    pub(super) events: u64,
    pub(super) errors: u64,
    pub(super) missing: u64,
    pub(super) duplicates: u64,
    /// Number of the event by which it was seen last.
    seen: u64,
}

type Thread = (String, String);

#[derive(Default)]
pub(super) struct Table {
    runs: HashMap<(Thread, u32), Run>,
    /// The same by `seen`, to know the oldest.
    by_seen: BTreeMap<u64, (Thread, u32)>,
    /// The newest run of a thread.
    current: HashMap<Thread, u32>,
    events: u64,
    /// The event that comes next came before.
    repeated: bool,
    /// Runs that made room.
    pub(super) forgotten: u64,
}

impl Table {
    pub(super) fn note(&mut self, item: &Item) {
        match item {
            Item::Event(seen) => self.event(seen),
            Item::Missing { tenant, thread, from, to } => {
                if let Some(run) = self.current_mut(tenant, thread) {
                    run.missing = run.missing.saturating_add(to.saturating_sub(*from));
                }
            }
            Item::Duplicate { tenant, thread, .. } => {
                self.repeated = true;
                if let Some(run) = self.current_mut(tenant, thread) {
                    run.duplicates += 1;
                }
            }
            _ => {}
        }
    }

    fn current_mut(&mut self, tenant: &str, thread: &str) -> Option<&mut Run> {
        let key = (tenant.to_owned(), thread.to_owned());
        let nth = *self.current.get(&key)?;
        self.runs.get_mut(&(key, nth))
    }

    /// The latest `limit` runs, by when they began.
    pub(super) fn latest(&self, limit: usize) -> Vec<&Run> {
        let mut runs: Vec<_> = self.runs.values().collect();
        runs.sort_by(|left, right| {
            let key = |run: &&Run| (run.life.began_us(), run.partition);
            key(left)
                .cmp(&key(right))
                .then_with(|| (&left.tenant, &left.thread, left.nth).cmp(&(&right.tenant, &right.thread, right.nth)))
        });
        runs.split_off(runs.len().saturating_sub(limit))
    }

    fn event(&mut self, seen: &Seen) {
        let repeated = std::mem::take(&mut self.repeated);
        let Some(header) = line::header(&seen.message) else { return };
        if header.thread_id.is_empty() {
            return;
        }
        self.events += 1;
        let thread = (header.tenant_id.clone(), header.thread_id.clone());
        let kafka_us = seen.timestamp_ms.unwrap_or(0).saturating_mul(1_000);
        let sign = match &seen.message.message {
            Some(Payload::Event(event)) => Sign::of_type(event.event_type()),
            _ => None,
        };
        let at_us = if header.timestamp_us != 0 { header.timestamp_us } else { kafka_us };
        let beat = Beat { sign, at_us, sequence: header.sequence };
        let nth = match self.current.get(&thread) {
            None => 1,
            Some(nth) => {
                let over = self.runs.get(&(thread.clone(), *nth)).is_some_and(|run| run.life.is_over(beat));
                nth.saturating_add(u32::from(over && !repeated))
            }
        };
        let key = (thread, nth);
        if !self.runs.contains_key(&key) && self.runs.len() >= RUNS_MAX {
            self.forget_oldest();
        }
        self.current.insert(key.0.clone(), nth);
        let run = self.runs.entry(key.clone()).or_insert_with(|| Run {
            tenant: key.0.0.clone(),
            thread: key.0.1.clone(),
            nth,
            partition: seen.partition,
            life: Life::default(),
            events: 0,
            errors: 0,
            missing: 0,
            duplicates: 0,
            seen: 0,
        });
        self.by_seen.remove(&run.seen);
        run.seen = self.events;
        self.by_seen.insert(self.events, key);
        run.events += 1;
        run.life.note(beat);
        run.errors += u64::from(is_failure(&seen.message));
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.by_seen.pop_first() {
            self.runs.remove(&key);
            // Should its thread speak again, it is unknown like any other.
            if self.current.get(&key.0) == Some(&key.1) {
                self.current.remove(&key.0);
            }
            self.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::{DashStreamMessage, Event, EventType, Header};
    use crate::words::Offset;

    fn event(thread: &str, time: i64, event_type: EventType) -> Item {
        let header =
            Header { tenant_id: "t".to_owned(), thread_id: thread.to_owned(), timestamp_us: time, ..Header::default() };
        let event = Event { header: Some(header), event_type: event_type as i32, ..Event::default() };
        Item::Event(Seen {
            partition: PartitionId(3),
            offset: Offset(0),
            timestamp_ms: Some(1),
            key: None,
            index_in_record: 0,
            message: DashStreamMessage { message: Some(Payload::Event(event)) },
        })
    }

    #[test]
    fn a_run_is_what_its_events_say() {
        let mut table = Table::default();
        for item in [
            event("b", 50, EventType::GraphStart),
            event("a", 10, EventType::GraphStart),
            event("a", 30, EventType::NodeError),
            event("a", 20, EventType::GraphEnd),
            event("a", 45, EventType::NodeEnd),
            event("c", 60, EventType::GraphError),
            event("d", 0, EventType::NodeStart),
            event("e", 70, EventType::GraphStart),
            event("e", 75, EventType::GraphError),
            event("e", 79, EventType::GraphEnd),
            event("f", 80, EventType::GraphStart),
            event("f", 85, EventType::HumanInterrupt),
            event("", 1, EventType::NodeStart),
        ] {
            table.note(&item);
        }
        let runs = table.latest(9);
        let seen =
            |run: &&Run| (run.thread.clone(), run.life.status().label(), run.events, run.errors, run.life.took_us());
        let found: Vec<_> = runs.iter().map(seen).collect();
        let expected = [
            ("a", "done", 4, 1, Some(10)),
            ("b", "running", 1, 0, Some(0)),
            ("c", "failed", 1, 1, Some(0)),
            // Failed stays failed, until the first end.
            ("e", "failed", 3, 1, Some(5)),
            ("f", "waiting", 2, 0, Some(5)),
            ("d", "running", 1, 0, Some(0)),
        ];
        assert_eq!(
            found,
            expected.map(|(thread, status, events, errors, duration)| {
                (thread.to_owned(), status, events, errors, duration)
            })
        );
        assert_eq!(table.latest(1)[0].thread, "d");
    }

    #[test]
    fn a_thread_that_starts_again_after_its_end_is_another_run() {
        let mut table = Table::default();
        let mut note = |items: &[Item]| items.iter().for_each(|item| table.note(item));
        note(&[event("a", 10, EventType::GraphStart), event("a", 30, EventType::GraphEnd)]);
        // What comes twice begins nothing, and neither does what comes before an end.
        let (tenant, thread) = ("t".to_owned(), "a".to_owned());
        let (sequence, partition, offset) = (1, PartitionId(3), Offset(5));
        note(&[Item::Duplicate { tenant, thread, sequence, partition, offset }]);
        note(&[event("a", 10, EventType::GraphStart), event("a", 100, EventType::GraphStart)]);
        note(&[event("a", 110, EventType::GraphStart), event("a", 120, EventType::GraphError)]);
        // Its own start, late.
        note(&[event("b", 20, EventType::GraphEnd), event("b", 15, EventType::GraphStart)]);
        let runs = table.latest(9);
        let seen =
            |run: &&Run| (run.thread.clone(), run.nth, run.life.status().label(), run.events, run.life.took_us());
        let expected = [("a", 1, "done", 3, 20), ("b", 1, "done", 2, 5), ("a", 2, "failed", 3, 20)];
        assert_eq!(
            runs.iter().map(seen).collect::<Vec<_>>(),
            expected.map(|(thread, nth, status, events, us)| (thread.to_owned(), nth, status, events, Some(us)))
        );
    }

    #[test]
    fn the_table_is_bounded_and_keeps_what_was_seen_last() {
        let mut table = Table::default();
        table.note(&event("first", 1, EventType::GraphStart));
        for number in 0..RUNS_MAX as i64 - 1 {
            table.note(&event(&number.to_string(), number, EventType::NodeStart));
        }
        table.note(&event("first", 2, EventType::NodeStart));
        table.note(&event("one more", 3, EventType::NodeStart));
        assert_eq!((table.runs.len(), table.by_seen.len(), table.forgotten), (RUNS_MAX, RUNS_MAX, 1));
        let has = |thread: &str| table.runs.contains_key(&(("t".to_owned(), thread.to_owned()), 1));
        assert_eq!(table.current.len(), RUNS_MAX);
        assert!(has("first") && has("one more") && !has("0"));
    }
}
