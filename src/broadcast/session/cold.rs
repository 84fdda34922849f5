//! The part of a replay that is older than the log: what is wanted from the tiers, what has come, and when a
//! partition joins the log.
//!
//! While a partition is cold its entries in the log are skipped, by a floor that nothing passes. It joins alone, and
//! only when its next offset lies in the newer half of the log, so that it does not fall off at once. Credit is one
//! request at a time, so what a session holds is bounded by one answer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::follow::HELD;
use super::{Notice, Session, World};
use crate::log::{Chunk, Place, Ring};
use crate::observe::stats::Protocol;
use crate::replay::ask::{Found, Wish};
use crate::words::{CloseReason, Offset, PartitionId};

/// A tier that could not answer is asked again after this.
const RETRY_MS: u64 = 500;

/// No tier answered for this long: the client is told that it cannot be had now.
const PATIENCE_MS: u64 = 15_000;

/// A partition is read for so many bytes before another has its turn: a reader that goes on where it stands has fetched
/// ahead, and one that is placed anew throws that away.
const TURN_BYTES: u64 = 4 << 20;

/// A client that takes less than arrives is judged over this long.
const PACE_MS: u64 = 30_000;

/// Falling off the log so often within `FALLS_MS` is falling behind.
const FALLS_MAX: u32 = 3;
const FALLS_MS: u64 = 60_000;

/// Exists while some partition is cold.
#[derive(Debug)]
pub(super) struct Cold {
    /// The next offset to send, per cold partition. Invariant: not empty between two steps.
    wants: BTreeMap<PartitionId, Offset>,
    /// Came and not yet begun: consecutive, all of one partition, the first covers what that one wants.
    ready: VecDeque<Arc<Chunk>>,
    /// The chunk under way and how many bytes of its form are out.
    sending: Option<(Arc<Chunk>, usize)>,
    asked: Option<Asked>,
    /// Partition of the last request: the next one is of the partition after it.
    turn: PartitionId,
    /// Bytes that it may still have before the next.
    turn_left: u64,
    /// There is no room among the readers: not asked again before [`Session::cold_go`].
    waits: bool,
    told_waiting: bool,
    retry_at_ms: u64,
    failing_since_ms: Option<u64>,
    /// When the pace was measured last, and how many offsets were missing then.
    pace: (u64, u64),
    /// The log had its turn, so the next is ours.
    log_had_turn: bool,
}

#[derive(Debug)]
struct Asked {
    ticket: u64,
    partition: PartitionId,
}

/// How often this session fell off the log lately: was in it with all partitions, and then was not.
#[derive(Default, Debug)]
pub(super) struct Falls {
    count: u32,
    since_ms: u64,
}

impl Falls {
    /// True: once too often.
    pub(super) fn note(&mut self, now_ms: u64) -> bool {
        if self.count == 0 || now_ms.saturating_sub(self.since_ms) > FALLS_MS {
            (self.count, self.since_ms) = (0, now_ms);
        }
        self.count += 1;
        self.count >= FALLS_MAX
    }
}

/// What a look at the cold part says.
pub(super) enum ColdStep {
    /// Bytes of the chunk under way are to be written.
    Send,
    NeedsJson,
    Ask(Wish),
    /// Something changed, look again.
    Again,
    /// Nothing to do here; the log may have something.
    Nothing,
}

impl Session {
    /// From here on `partition` is read from the tiers, beginning with `want`.
    pub(super) fn go_cold(&mut self, partition: PartitionId, want: Offset, world: &World<'_>) {
        let cold = self.cold.get_or_insert_with(|| {
            Box::new(Cold {
                wants: BTreeMap::new(),
                ready: VecDeque::new(),
                sending: None,
                asked: None,
                turn: partition,
                turn_left: TURN_BYTES,
                waits: false,
                told_waiting: false,
                retry_at_ms: 0,
                failing_since_ms: None,
                pace: (world.now_ms, 0),
                log_had_turn: false,
            })
        });
        cold.wants.insert(partition, want);
        cold.pace = (world.now_ms, missing(cold, world.ring));
        self.floors.insert(partition, HELD);
    }

    /// The next offset that a cold partition needs.
    pub(super) fn cold_want(&self, partition: PartitionId) -> Option<Offset> {
        self.cold.as_ref()?.wants.get(&partition).copied()
    }

    pub(super) fn cold_wants(&self) -> impl Iterator<Item = (PartitionId, Offset)> + '_ {
        self.cold.iter().flat_map(|cold| cold.wants.iter().map(|(partition, want)| (*partition, *want)))
    }

    /// It replays from below the log, or wants to: it needs a seat among those who do.
    pub fn is_cold(&self) -> bool {
        self.cold.is_some()
    }

    /// It waits for room among the readers, or for a tier to come back.
    pub fn waits_for_cold(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.asked.is_none() && (cold.waits || cold.failing_since_ms.is_some()))
    }

    /// It waits for a seat.
    pub fn cold_waits(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.waits)
    }

    /// Its wish is on the way, under this ticket.
    pub fn cold_asked(&mut self, ticket: u64, partition: Option<PartitionId>) {
        match (&mut self.cold, partition, &mut self.judging) {
            (Some(cold), Some(partition), _) => cold.asked = Some(Asked { ticket, partition }),
            (_, None, Some(judging)) => judging.time_asked(ticket),
            _ => {}
        }
    }

    /// There is no room for its wish: it waits, and is told so once.
    pub fn cold_full(&mut self) {
        let Some(cold) = &mut self.cold else { return };
        cold.waits = true;
        if !std::mem::replace(&mut cold.told_waiting, true) {
            self.say(&Notice::Waiting { resume: self.resumes });
        }
    }

    /// There may be room again.
    pub fn cold_go(&mut self) {
        if let Some(cold) = &mut self.cold {
            cold.waits = false;
        }
    }

    /// What the readers found, if it is what this session still waits for.
    pub fn cold_answer(&mut self, ticket: u64, found: Found, world: &World<'_>) {
        if let Some(judging) = &mut self.judging {
            match found {
                Found::AtTime(offsets) => return judging.time_answer(ticket, Some(offsets)),
                Found::Unavailable => judging.time_answer(ticket, None),
                Found::Chunks(_) => {}
            }
        }
        let Some(cold) = &mut self.cold else { return };
        let Some(asked) = cold.asked.take_if(|asked| asked.ticket == ticket) else { return };
        match found {
            Found::Chunks(chunks) => {
                cold.failing_since_ms = None;
                cold.told_waiting = false;
                let Some(want) = cold.wants.get(&asked.partition).copied() else { return };
                let mut end =
                    cold.ready.back().filter(|last| last.partition == asked.partition).map_or(want, |last| last.next);
                if cold.ready.front().is_some_and(|first| first.partition != asked.partition) {
                    return;
                }
                for chunk in chunks {
                    if chunk.partition == asked.partition && chunk.from <= end && chunk.next > end {
                        end = chunk.next;
                        cold.turn_left = cold.turn_left.saturating_sub(chunk.bytes());
                        cold.ready.push_back(chunk);
                    }
                }
            }
            Found::AtTime(_) | Found::Unavailable => {
                cold.retry_at_ms = world.now_ms + RETRY_MS;
                let since_ms = *cold.failing_since_ms.get_or_insert(world.now_ms);
                if world.now_ms.saturating_sub(since_ms) >= PATIENCE_MS {
                    self.give_cold_up(world);
                }
            }
        }
    }

    /// No tier answers: what is cold cannot be had now, and the client is told so.
    fn give_cold_up(&mut self, world: &World<'_>) {
        let Some(cold) = self.cold.take() else { return };
        if self.protocol == Protocol::V1 {
            return self.close(CloseReason::Unavailable, world);
        }
        let answers: Vec<_> = cold.wants.keys().map(|partition| (*partition, super::judge::UNAVAILABLE)).collect();
        // The floors stay: nothing of these partitions is sent until they are asked for again.
        self.say_answers(self.resumes, &answers, world);
    }

    /// One look at the cold part. Called only between two units.
    pub(super) fn step_cold(&mut self, world: &World<'_>) -> ColdStep {
        if self.cold.is_none() {
            return ColdStep::Nothing;
        }
        if self.end_search(world) || self.join(world) {
            return ColdStep::Again;
        }
        let form = self.form();
        let filtered = self.filter.is_some() || self.threads.is_some();
        let Some(cold) = &mut self.cold else { return ColdStep::Again };
        let is_next = |front: &Arc<Chunk>| {
            cold.wants.get(&front.partition).is_some_and(|want| front.from <= *want && *want < front.next)
        };
        if !cold.ready.front().is_none_or(is_next) {
            // What was let go of left a hole before it.
            cold.ready.clear();
        }
        if let Some(front) = cold.ready.front().cloned() {
            if cold.log_had_turn || self.position >= world.ring.head() {
                if form == crate::log::Form::Json && front.form(form).is_none() {
                    return ColdStep::NeedsJson;
                }
                cold.log_had_turn = false;
                cold.ready.pop_front();
                let whole = !filtered && cold.wants.get(&front.partition) == Some(&front.from);
                cold.sending = Some((front, 0));
                return if whole { ColdStep::Send } else { ColdStep::Again };
            }
            cold.log_had_turn = true;
        }
        if cold.asked.is_none() && cold.ready.len() <= 1 && !cold.waits && world.now_ms >= cold.retry_at_ms {
            return match next_wish(cold, world.ring) {
                Some(wish) => ColdStep::Ask(wish),
                None => ColdStep::Nothing,
            };
        }
        ColdStep::Nothing
    }

    /// The chunk under way, if it is sent as a whole form.
    pub(super) fn cold_sending(&self) -> Option<(&Arc<Chunk>, usize)> {
        self.cold.as_ref()?.sending.as_ref().map(|(chunk, sent)| (chunk, *sent))
    }

    pub(super) fn wrote_cold(&mut self, bytes: usize) {
        let form = self.form();
        let Some((chunk, sent)) = self.cold.as_mut().and_then(|cold| cold.sending.as_mut()) else { return };
        *sent += bytes;
        let total = chunk.form(form).map_or(0, <[u8]>::len);
        assert!(*sent <= total, "no more is written than there is");
        if *sent == total {
            let chunk = chunk.clone();
            self.cold_sent(&chunk, chunk.from, chunk.next);
        }
    }

    /// `[from, next)` of a cold chunk is through.
    pub(super) fn cold_sent(&mut self, chunk: &Chunk, from: Offset, next: Offset) {
        self.count_passed(chunk, from, next);
        self.cold_passed(chunk, next);
    }

    /// The chunk under way is through up to `next`, whatever of it was counted.
    pub(super) fn cold_passed(&mut self, chunk: &Chunk, next: Offset) {
        let Some(cold) = &mut self.cold else { return };
        cold.sending = None;
        if let Some(want) = cold.wants.get_mut(&chunk.partition) {
            *want = (*want).max(next);
        }
        self.searched_bytes(chunk.bytes());
    }

    /// The cold chunk under way whose form was not begun: a part of it, or what a filter keeps, is made for this
    /// session alone.
    pub(super) fn cold_part(&mut self) -> Option<(Arc<Chunk>, Offset)> {
        let cold = self.cold.as_ref()?;
        let (chunk, sent) = cold.sending.as_ref()?;
        let want = *cold.wants.get(&chunk.partition)?;
        (*sent == 0 && (want != chunk.from || self.filter.is_some() || self.threads.is_some()))
            .then(|| (chunk.clone(), want))
    }

    /// What of the cold chunk under way must be finished before anything else may be said.
    pub(super) fn settle_cold(&mut self) {
        let form = self.form();
        let Some((chunk, sent)) = self.cold.as_ref().and_then(|cold| cold.sending.clone()) else { return };
        let Some(bytes) = chunk.form(form) else { return };
        if sent == 0 {
            self.put_back(chunk);
            return;
        }
        let (end, next) = chunk.boundary(form, bytes, sent);
        assert!(self.owed.is_empty(), "a chunk is begun only when nothing is owed");
        self.owed = bytes[sent..end].to_vec();
        self.owed_sent = 0;
        self.cold_sent(&chunk, chunk.from, next);
        if next < chunk.next {
            // The rest of it is made when its turn comes.
            self.put_back(chunk);
        }
    }

    fn put_back(&mut self, chunk: Arc<Chunk>) {
        if let Some(cold) = &mut self.cold {
            cold.sending = None;
            cold.ready.push_front(chunk);
        }
    }

    /// A session whose socket takes nothing holds on to no more than the chunk it is in the middle of.
    pub fn let_go(&mut self) {
        if let Some(cold) = &mut self.cold {
            cold.ready.clear();
        }
    }

    /// Chunks that have to be rendered before this session can go on.
    pub fn unrendered<'a>(&'a self, ring: &'a Ring, ahead: u64) -> impl Iterator<Item = &'a Arc<Chunk>> {
        let cold = self.cold.iter().flat_map(|cold| &cold.ready);
        cold.chain((self.position..self.position + ahead).map_while(|sequence| ring.chunk(sequence)))
    }

    /// Partitions that lie in the newer half of the log go back to it. True: one did.
    fn join(&mut self, world: &World<'_>) -> bool {
        let Some(cold) = &self.cold else { return false };
        if cold.sending.is_some() {
            return false;
        }
        let ring = world.ring;
        let half = ring.tail() + (ring.head() - ring.tail()) / 2;
        let joins = cold.wants.iter().find(|(partition, want)| match ring.find(**partition, **want) {
            Place::InLog { sequence } => sequence >= half,
            // A cursor ahead of the log is held by its floor.
            Place::Ahead { .. } => true,
            Place::Before { .. } | Place::Absent => false,
        });
        let Some((partition, want)) = joins.map(|(partition, want)| (*partition, *want)) else { return false };
        self.join_at(&[(partition, want)], world);
        true
    }

    /// Nothing of `partition` is wanted any more.
    pub(super) fn leave_cold(&mut self, partition: PartitionId) {
        let Some(cold) = &mut self.cold else { return };
        cold.wants.remove(&partition);
        cold.ready.retain(|chunk| chunk.partition != partition);
        if cold.wants.is_empty() {
            self.cold = None;
        }
    }

    /// Back to the log: everybody else's floor says what they have.
    fn join_at(&mut self, joining: &[(PartitionId, Offset)], world: &World<'_>) {
        let mut wants = self.places(world);
        // What stays cold is skipped in the log.
        wants.extend(self.cold_wants().map(|(partition, _)| (partition, HELD)));
        wants.extend(joining.iter().copied());
        for (partition, _) in joining {
            self.leave_cold(*partition);
        }
        self.place_kept(&wants, world);
    }

    /// By the clock: a client that takes less than arrives is told so, and is told gaps from then on.
    pub fn check_pace(&mut self, world: &World<'_>) {
        let Some(cold) = &mut self.cold else { return };
        if cold.waits || cold.failing_since_ms.is_some() || (cold.ready.is_empty() && cold.sending.is_none()) {
            // It is not the client who is slow.
            cold.pace = (world.now_ms, missing(cold, world.ring));
            return;
        }
        let (since_ms, before) = cold.pace;
        if world.now_ms.saturating_sub(since_ms) < PACE_MS {
            return;
        }
        let now = missing(cold, world.ring);
        cold.pace = (world.now_ms, now);
        if now > before {
            self.fall_behind(world);
        }
    }

    /// A client that asks for a place in the stream again begins anew.
    pub(super) fn forget_falls(&mut self) {
        (self.falls, self.falling_behind) = (Falls::default(), false);
    }

    /// Told gaps instead of being brought up to date, from here on.
    pub(super) fn fall_behind(&mut self, world: &World<'_>) {
        if std::mem::replace(&mut self.falling_behind, true) {
            return;
        }
        world.stats.falling_behind.add(1);
        self.settle_unit(world.ring);
        self.say(&Notice::FallingBehind);
        self.jump(world);
    }

    /// What is cold becomes a gap up to the newer half of the log.
    pub(super) fn jump(&mut self, world: &World<'_>) {
        let ring = world.ring;
        let half = ring.tail() + (ring.head() - ring.tail()) / 2;
        let mut joining = Vec::new();
        let mut lost = 0;
        for (partition, want) in self.cold_wants().collect::<Vec<_>>() {
            let target = ring.next_at(partition, half).unwrap_or(want).max(want);
            joining.push((partition, target));
            if target > want {
                lost += target.0 - want.0;
                self.missed.entry(partition).and_modify(|range| range.1 = target).or_insert((want, target));
            }
        }
        if lost > 0 {
            world.stats.fell_behind(lost);
        }
        self.join_at(&joining, world);
    }
}

/// More of the partition whose turn it is, or the one after it.
fn next_wish(cold: &mut Cold, ring: &Ring) -> Option<Wish> {
    // While something is ready, only more of the same keeps it consecutive.
    if let Some(last) = cold.ready.back() {
        let (partition, want) = (last.partition, last.next);
        return wish(partition, want, ring);
    }
    if cold.turn_left > 0
        && let Some(wish) = cold.wants.get(&cold.turn).and_then(|want| wish(cold.turn, *want, ring))
    {
        return Some(wish);
    }
    let after = cold.wants.range((std::ops::Bound::Excluded(cold.turn), std::ops::Bound::Unbounded));
    let in_turn = after.chain(cold.wants.iter());
    let (partition, wish) =
        in_turn.filter_map(|(partition, want)| Some((*partition, wish(*partition, *want, ring)?))).next()?;
    (cold.turn, cold.turn_left) = (partition, TURN_BYTES);
    Some(wish)
}

fn wish(partition: PartitionId, want: Offset, ring: &Ring) -> Option<Wish> {
    let (_, until) = ring.log(partition)?;
    (want < until).then_some(Wish::Read { partition, want, until })
}

/// Offsets between what is cold and the log's end.
fn missing(cold: &Cold, ring: &Ring) -> u64 {
    let wants = cold.wants.iter();
    wants.filter_map(|(partition, want)| Some(ring.log(*partition)?.1.0.saturating_sub(want.0))).sum()
}
