//! What one client got, offset by offset: the judge of "nothing lost, nothing repeated, always in order".
//! One ledger outlives connections: a client that resumes goes on writing into the same.

use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    Nothing,
    Record,
    Gap,
}

#[derive(Clone, Debug, Default)]
struct Track {
    marks: Vec<Mark>,
    /// Last offset that is settled: the cursor.
    last: Option<u64>,
    last_record: Option<u64>,
}

impl Track {
    fn mark(&mut self, offset: u64) -> &mut Mark {
        let index = usize::try_from(offset).expect("a small offset");
        assert!(index < 50_000_000, "offset {offset} is none that a test produces");
        if self.marks.len() <= index {
            self.marks.resize(index + 1, Mark::Nothing);
        }
        &mut self.marks[index]
    }
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    partitions: BTreeMap<u32, Track>,
    pub records: u64,
    /// Gap frames as they came: partition, first, last, reason.
    pub gaps: Vec<(u32, u64, u64, String)>,
}

impl Ledger {
    pub fn new() -> Self {
        Self::default()
    }

    /// A client that has everything up to `last`, as if it had received it.
    pub fn with_cursor(cursor: &BTreeMap<u32, u64>) -> Self {
        let mut ledger = Self::new();
        for (partition, last) in cursor {
            let track = ledger.partitions.entry(*partition).or_default();
            (track.last, track.last_record) = (Some(*last), Some(*last));
        }
        ledger
    }

    pub fn record(&mut self, partition: u32, offset: u64) {
        let track = self.partitions.entry(partition).or_default();
        if let Some(last) = track.last_record {
            assert!(offset > last, "partition {partition}: offset {offset} came after {last}");
        }
        let mark = track.mark(offset);
        assert_eq!(*mark, Mark::Nothing, "partition {partition}: record {offset} after it was settled");
        *mark = Mark::Record;
        track.last_record = Some(offset);
        track.last = track.last.max(Some(offset));
        self.records += 1;
    }

    /// The client was told that it will not get these.
    pub fn gap(&mut self, partition: u32, first: u64, last: u64, reason: &str) {
        assert!(first <= last, "a gap from {first} to {last}");
        let track = self.partitions.entry(partition).or_default();
        for offset in first..=last {
            let mark = track.mark(offset);
            assert_ne!(*mark, Mark::Record, "partition {partition}: {offset} is called a gap and was delivered");
            *mark = Mark::Gap;
        }
        track.last = track.last.max(Some(last));
        self.gaps.push((partition, first, last, reason.to_owned()));
    }

    /// Everything below `next` is settled, records or not.
    pub fn covered(&mut self, partition: u32, next: u64) {
        let track = self.partitions.entry(partition).or_default();
        track.last = track.last.max(next.checked_sub(1));
    }

    /// Last settled offset per partition.
    pub fn cursor(&self) -> BTreeMap<u32, u64> {
        self.partitions.iter().filter_map(|(partition, track)| Some((*partition, track.last?))).collect()
    }

    /// What a client of the predecessor's protocol knows: the last record of each partition.
    pub fn record_cursor(&self) -> BTreeMap<u32, u64> {
        self.partitions.iter().filter_map(|(partition, track)| Some((*partition, track.last_record?))).collect()
    }

    pub fn has(&self, partition: u32, offset: u64) -> bool {
        self.mark_at(partition, offset) == Mark::Record
    }

    fn mark_at(&self, partition: u32, offset: u64) -> Mark {
        let track = self.partitions.get(&partition);
        track.and_then(|track| track.marks.get(offset as usize)).copied().unwrap_or(Mark::Nothing)
    }

    /// Offsets in `[from, next)` that were neither delivered nor named in a gap.
    pub fn missing(&self, partition: u32, from: u64, next: u64) -> Vec<u64> {
        (from..next).filter(|offset| self.mark_at(partition, *offset) == Mark::Nothing).collect()
    }

    pub fn count(&self, partition: u32) -> usize {
        let track = self.partitions.get(&partition);
        track.map_or(0, |track| track.marks.iter().filter(|mark| **mark == Mark::Record).count())
    }

    /// Has the last record of every partition whose length is given here.
    pub fn reached(&self, lengths: &[u64]) -> bool {
        let mut partitions = (0u32..).zip(lengths);
        partitions.all(|(partition, length)| {
            let last = self.partitions.get(&partition).and_then(|track| track.last);
            *length == 0 || last.is_some_and(|last| last + 1 >= *length)
        })
    }

    /// Every offset of every partition was delivered.
    pub fn assert_all(&self, who: &str, lengths: &[u64]) {
        for (partition, length) in (0u32..).zip(lengths) {
            let lost: Vec<u64> = (0..*length).filter(|offset| !self.has(partition, *offset)).collect();
            assert!(
                lost.is_empty(),
                "{who}: {} of {length} records of partition {partition} lost, first {:?}; gaps told: {:?}",
                lost.len(),
                &lost[..lost.len().min(5)],
                self.gaps.iter().take(5).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn the_ledger_sees_repeats_disorder_and_loss() {
    let ledger = |offsets: &[u64]| {
        let offsets = offsets.to_vec();
        std::panic::catch_unwind(move || {
            let mut ledger = Ledger::new();
            offsets.iter().for_each(|offset| ledger.record(0, *offset));
            ledger.assert_all("test", &[3]);
        })
    };
    assert!(ledger(&[0, 1, 2]).is_ok());
    for bad in [&[0, 1, 1, 2][..], &[0, 2, 1], &[0, 1], &[1, 2], &[0, 2]] {
        assert!(ledger(bad).is_err(), "{bad:?} was accepted");
    }
}
