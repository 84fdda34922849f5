//! Several partitions as one stream in the order of the records' time, as far as it can be known. Pure: time is told.
//!
//! Each partition is a lane that keeps its order of offsets always; a record that is older than the one before it
//! counts as equally old. The oldest head goes first once every lane that may still bring an older one has a head.
//! That is waited for, within bounds: a lane that has shown its end is waited for [`WINDOW`], one that is known to have
//! more [`PATIENCE`], and no lane holds more than its share of bytes. Beyond them the order across partitions is given
//! up, never the order within one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::words::PartitionId;

/// How long a record is held back for a partition that has nothing now.
pub const WINDOW: Duration = Duration::from_secs(2);
/// How long for one that has more, and only does not bring it: its leader is away, or slow.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of records that one lane holds before it goes on by itself.
pub const LANE_BYTES: usize = 8 << 20;
/// Of all lanes together: with many partitions each gets less.
const LANES_BYTES: usize = 256 << 20;
/// Counted for each record besides its bytes.
const RECORD_BYTES: usize = 192;

/// What may still come of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Prospect {
    More,
    /// It stood at its end when it was last looked at.
    CaughtUp,
    Closed,
}

struct Waiting<T> {
    time: i64,
    since: Duration,
    bytes: usize,
    what: T,
}

struct Lane<T> {
    queue: VecDeque<Waiting<T>>,
    bytes: usize,
    prospect: Prospect,
    /// The latest time so far: no record of this lane counts as older.
    time: i64,
}

pub struct Merge<T> {
    lanes: BTreeMap<PartitionId, Lane<T>>,
    lane_bytes: usize,
    /// Runs only while the caller listens: who was busy elsewhere has not waited for anybody.
    listened: Duration,
}

impl<T> Default for Merge<T> {
    fn default() -> Self {
        Self { lanes: BTreeMap::new(), lane_bytes: LANE_BYTES, listened: Duration::ZERO }
    }
}

impl<T> Merge<T> {
    /// A lane that has something to bring. Opens a closed one again.
    pub fn open(&mut self, partition: PartitionId) {
        let lane = Lane { queue: VecDeque::new(), bytes: 0, prospect: Prospect::More, time: i64::MIN };
        self.lanes.entry(partition).or_insert(lane).prospect = Prospect::More;
        self.lane_bytes = LANE_BYTES.min(LANES_BYTES / self.lanes.len());
    }

    /// Nothing more comes of this lane; what waits still does.
    pub fn close(&mut self, partition: PartitionId) {
        self.expect(partition, Prospect::Closed);
    }

    /// The lane stands at its end for now. A closed one stays closed.
    pub fn caught_up(&mut self, partition: PartitionId) {
        self.expect(partition, Prospect::CaughtUp);
    }

    fn expect(&mut self, partition: PartitionId, prospect: Prospect) {
        if let Some(lane) = self.lanes.get_mut(&partition)
            && lane.prospect != Prospect::Closed
        {
            lane.prospect = prospect;
        }
    }

    /// `bytes` is what the record takes. Of a lane that was never opened it opens one.
    pub fn push(&mut self, partition: PartitionId, timestamp_ms: Option<i64>, bytes: usize, what: T) {
        if !self.lanes.contains_key(&partition) {
            self.open(partition);
        }
        let since = self.listened;
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        lane.time = timestamp_ms.map_or(lane.time, |time| time.max(lane.time));
        let bytes = bytes.saturating_add(RECORD_BYTES);
        lane.bytes = lane.bytes.saturating_add(bytes);
        lane.queue.push_back(Waiting { time: lane.time, since, bytes, what });
    }

    /// So long the caller has waited for lanes to bring something.
    pub fn listen(&mut self, waited: Duration) {
        self.listened = self.listened.saturating_add(waited);
    }

    /// The next record, if it is known to be next or has been held back long enough.
    pub fn pop(&mut self) -> Option<T> {
        let (partition, head) = self.oldest()?;
        let full = self.lanes.values().any(|lane| lane.bytes >= self.lane_bytes);
        if !full && self.hold(head.since).is_some_and(|hold| !hold.is_zero()) {
            return None;
        }
        let lane = self.lanes.get_mut(&partition)?;
        let waiting = lane.queue.pop_front()?;
        lane.bytes -= waiting.bytes;
        Some(waiting.what)
    }

    /// How much longer the next record is held back; `None` when there is none.
    pub fn due_in(&self) -> Option<Duration> {
        let (_, head) = self.oldest()?;
        Some(self.hold(head.since).unwrap_or_default())
    }

    /// Nothing waits, and nothing comes.
    pub fn is_over(&self) -> bool {
        self.lanes.values().all(|lane| lane.queue.is_empty() && lane.prospect == Prospect::Closed)
    }

    /// Every lane has shown its end, or is closed.
    pub fn is_caught_up(&self) -> bool {
        self.lanes.values().all(|lane| lane.prospect != Prospect::More)
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.values().all(|lane| lane.queue.is_empty())
    }

    fn oldest(&self) -> Option<(PartitionId, &Waiting<T>)> {
        let heads = self.lanes.iter().filter_map(|(partition, lane)| Some((*partition, lane.queue.front()?)));
        heads.min_by_key(|(partition, head)| (head.time, *partition))
    }

    /// How long a record that waits since then is still held back for lanes without a head; `None`: for none.
    fn hold(&self, since: Duration) -> Option<Duration> {
        let empty = self.lanes.values().filter(|lane| lane.queue.is_empty());
        let limit = empty.filter_map(|lane| match lane.prospect {
            Prospect::More => Some(PATIENCE),
            Prospect::CaughtUp => Some(WINDOW),
            Prospect::Closed => None,
        });
        Some(limit.max()?.saturating_sub(self.listened.saturating_sub(since)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: PartitionId = PartitionId(0);
    const B: PartitionId = PartitionId(1);

    fn merge(lanes: u32) -> Merge<(u32, usize, i64)> {
        let mut merge = Merge::default();
        (0..lanes).for_each(|lane| merge.open(PartitionId(lane)));
        merge
    }

    #[test]
    fn the_oldest_head_goes_first_once_all_have_one() {
        let mut merge = merge(2);
        merge.push(A, Some(20), 1, (0, 0, 20));
        assert_eq!(merge.pop(), None, "an older one may come");
        merge.push(B, Some(10), 1, (1, 0, 10));
        merge.push(B, Some(30), 1, (1, 1, 30));
        assert_eq!(merge.pop(), Some((1, 0, 10)));
        assert_eq!(merge.pop(), Some((0, 0, 20)));
        assert_eq!(merge.pop(), None);
        merge.close(A);
        assert_eq!(merge.pop(), Some((1, 1, 30)));
        assert!(!merge.is_over());
        merge.close(B);
        assert!(merge.is_over());
    }

    #[test]
    fn equal_times_go_by_partition_and_records_without_time_stay_beside_their_neighbours() {
        let mut merge = merge(2);
        merge.push(B, Some(10), 1, (1, 0, 10));
        merge.push(B, None, 1, (1, 1, 0));
        merge.push(A, Some(10), 1, (0, 0, 10));
        merge.push(A, Some(5), 1, (0, 1, 5));
        merge.close(A);
        merge.close(B);
        let order: Vec<_> = std::iter::from_fn(|| merge.pop()).map(|(lane, index, _)| (lane, index)).collect();
        assert_eq!(order, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    }

    #[test]
    fn a_lane_at_its_end_is_waited_for_shorter_and_only_while_somebody_listens() {
        let mut merge = merge(2);
        merge.push(A, Some(20), 1, (0, 0, 20));
        assert_eq!(merge.due_in(), Some(PATIENCE));
        merge.caught_up(B);
        assert_eq!(merge.due_in(), Some(WINDOW));
        merge.listen(WINDOW - Duration::from_millis(1));
        assert_eq!(merge.pop(), None);
        merge.push(A, Some(21), 1, (0, 1, 21));
        merge.listen(Duration::from_millis(1));
        assert_eq!(merge.pop(), Some((0, 0, 20)));
        assert_eq!(merge.pop(), None, "the second one waits since it came");
        merge.listen(WINDOW);
        assert_eq!(merge.pop(), Some((0, 1, 21)));
        assert_eq!(merge.due_in(), None);
    }

    #[test]
    fn a_full_lane_waits_for_nobody() {
        let mut merge = merge(2);
        let half = LANE_BYTES / 2;
        merge.push(A, Some(1), half, (0, 0, 1));
        assert_eq!(merge.pop(), None);
        merge.push(A, Some(2), half, (0, 1, 2));
        assert_eq!(merge.pop(), Some((0, 0, 1)));
        assert_eq!(merge.pop(), None);
    }

    #[test]
    fn many_lanes_share_what_there_is() {
        let merge = merge(1_024);
        assert_eq!(merge.lane_bytes * 1_024, LANES_BYTES);
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// The next record of a lane arrives, so many ms after the one before it in that lane (or before it).
        Arrive(u32, i64),
        Listen(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let arrive = (0..4u32, -20..100i64).prop_map(|(lane, after)| Step::Arrive(lane, after));
        let step = prop_oneof![8 => arrive, 1 => (0..3_000u64).prop_map(Step::Listen)];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// Whatever comes when: everything comes out once, and each lane in its order.
        #[test]
        fn nothing_is_lost_repeated_or_turned_around(steps in steps(), full in 200..2_000usize) {
            let mut merge = merge(4);
            merge.lane_bytes = full;
            let (mut times, mut counts, mut out) = ([0i64; 4], [0usize; 4], Vec::new());
            for step in &steps {
                match step {
                    Step::Arrive(lane, after) => {
                        let at = *lane as usize;
                        times[at] += after;
                        merge.push(PartitionId(*lane), Some(times[at]), 1, (*lane, counts[at], times[at]));
                        counts[at] += 1;
                    }
                    Step::Listen(ms) => merge.listen(Duration::from_millis(*ms)),
                }
                out.extend(std::iter::from_fn(|| merge.pop()));
                prop_assert!(merge.lanes.values().all(|lane| lane.bytes < full), "the bound of a lane");
            }
            (0..4).for_each(|lane| merge.close(PartitionId(lane)));
            out.extend(std::iter::from_fn(|| merge.pop()));
            prop_assert!(merge.is_over());
            for lane in 0..4u32 {
                let got: Vec<_> = out.iter().filter(|(of, ..)| *of == lane).map(|(_, index, _)| *index).collect();
                prop_assert_eq!(got, (0..counts[lane as usize]).collect::<Vec<_>>());
            }
        }

        /// When nothing is held back too long, and time goes up in each lane, all of it comes in the order of time.
        #[test]
        fn what_can_be_known_is_in_order(mut lanes in proptest::collection::vec(
            proptest::collection::vec(0..50i64, 0..40), 1..5), picks in proptest::collection::vec(0..5usize, 0..200)) {
            let mut merge = merge(lanes.len() as u32);
            let (mut out, mut time) = (Vec::new(), vec![0; lanes.len()]);
            let mut feed = |merge: &mut Merge<(u32, usize, i64)>, lane: usize| {
                if let Some(after) = lanes[lane].pop() {
                    time[lane] += after;
                    merge.push(PartitionId(lane as u32), Some(time[lane]), 1, (lane as u32, 0, time[lane]));
                }
            };
            let count = merge.lanes.len();
            for pick in picks {
                feed(&mut merge, pick % count);
                merge.listen(Duration::from_millis(1));
                out.extend(std::iter::from_fn(|| merge.pop()));
            }
            for lane in 0..count {
                for _ in 0..40 { feed(&mut merge, lane); }
            }
            for lane in 0..count {
                merge.close(PartitionId(lane as u32));
            }
            out.extend(std::iter::from_fn(|| merge.pop()));
            prop_assert!(out.is_sorted_by_key(|(.., time)| *time), "{:?}", out);
        }
    }
}
