//! What a client follows: a filter, a pause, and the place of one that has nothing to look at.
//!
//! A client whose filter matches nothing of what arrives is parked: it stands nowhere in the log, and costs nothing
//! until a chunk comes that may matter, or the client says something. A paused one keeps only its cursor.

use std::collections::BTreeMap;

use super::{Notice, Session, World};
use crate::broadcast::decoder::Decoder;
use crate::broadcast::filter::{Filter, Followed};
use crate::log::{Chunk, Evicted, Form, Ring};
use crate::observe::stats::ShardStats;
use crate::words::{Offset, PartitionId};

/// The floor of a partition that was asked for in vain: nothing of it is sent until a resume names it again, since
/// what came first would pass over what lies between the cursor and there.
pub(super) const HELD: Offset = Offset(u64::MAX);

/// A client that sees nothing of so many offsets is told where it stands.
const PROGRESS_OFFSETS: u64 = 10_000;

/// The same after so long, if anything was withheld or a replay is under way.
const PROGRESS_MS: u64 = 5_000;

/// Where a session stands, besides its position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// At its position in the log.
    Log,
    /// At the head, wherever that is; nothing since it was parked may match.
    Parked,
    /// Nowhere: the next offset per partition when it was paused.
    Paused(BTreeMap<PartitionId, Offset>),
}

impl Session {
    pub(super) fn subscribe(&mut self, filter: Filter, world: &World<'_>) {
        self.settle_unit(world.ring);
        self.filter = (!filter.is_open()).then(|| Box::new(filter));
        self.filter_version += 1;
        self.withheld = 0;
        self.say_applied("subscribe", world);
    }

    /// Goes up with every change of the filter.
    pub fn filter_version(&self) -> u32 {
        self.filter_version
    }

    /// The filter of a client that has one.
    pub fn filter(&self) -> Option<&Filter> {
        self.filter.as_deref()
    }

    pub(super) fn pause(&mut self, world: &World<'_>) {
        if self.is_paused() {
            return self.say_applied("pause", world);
        }
        self.settle_unit(world.ring);
        self.end_judging(world);
        let wants = self.places(world);
        self.cold = None;
        self.floors.clear();
        self.position = world.ring.head();
        self.follow = Follow::Paused(wants);
        self.say_applied("pause", world);
    }

    pub(super) fn go_on(&mut self, world: &World<'_>) {
        self.unpause(world);
        self.say_applied("continue", world);
    }

    pub fn is_paused(&self) -> bool {
        matches!(self.follow, Follow::Paused(_))
    }

    /// Back into the log, or below it, where it was paused.
    pub(super) fn unpause(&mut self, world: &World<'_>) {
        if !self.is_paused() {
            return;
        }
        let places = self.places(world);
        self.follow = Follow::Log;
        self.go_from(places, world);
    }

    /// Goes on from these places: in the log, below it where that can be read, and else with a gap.
    pub(super) fn go_from(&mut self, mut wants: BTreeMap<PartitionId, Offset>, world: &World<'_>) {
        let mut below = Vec::new();
        for (partition, want) in &mut wants {
            let Some((oldest, _)) = world.ring.log(*partition) else { continue };
            if *want >= oldest {
                continue;
            }
            if world.settings.cold && !self.falling_behind {
                below.push((*partition, std::mem::replace(want, HELD)));
            } else {
                self.missed.entry(*partition).and_modify(|range| range.1 = oldest).or_insert((*want, oldest));
                *want = oldest;
            }
        }
        self.place_kept(&wants, world);
        for (partition, want) in below {
            self.go_cold(partition, want, world);
        }
    }

    /// Where a paused client goes on. A partition that came meanwhile begins for it where its log began.
    pub(super) fn away(&self, ring: &Ring, partition: PartitionId) -> Option<Offset> {
        match &self.follow {
            Follow::Paused(wants) => {
                wants.get(&partition).copied().or_else(|| ring.log(partition).map(|(oldest, _)| oldest))
            }
            Follow::Log | Follow::Parked => None,
        }
    }

    /// Chunks went that a paused client had not seen: where a partition that came meanwhile began is kept.
    pub(super) fn remember_evicted(&mut self, evicted: &Evicted) {
        if let Follow::Paused(wants) = &mut self.follow {
            for (partition, (from, _)) in evicted.missed_from(self.position) {
                wants.entry(partition).or_insert(from);
            }
        }
    }

    pub(super) fn say_applied(&mut self, what: &'static str, world: &World<'_>) {
        self.tell_known(world);
        let cursor = self.cursor(world.ring);
        self.told_at_ms = world.now_ms;
        self.say(&Notice::Applied { what, cursor: &cursor });
    }

    /// Stands at the head, and nothing that it would have to look at is between.
    pub(super) fn park(&mut self) {
        let can = self.filter.as_ref().is_some_and(|filter| filter.followed() != Followed::Anything);
        if can && self.cold.is_none() && self.floors.is_empty() && self.active.is_none() && self.missed.is_empty() {
            self.follow = Follow::Parked;
        }
    }

    /// Costs nothing until [`Session::unpark`].
    pub fn is_parked(&self) -> bool {
        self.follow == Follow::Parked
    }

    /// Something that may match is at `sequence`; all before it does not.
    pub fn unpark(&mut self, sequence: u64) {
        if self.is_parked() {
            self.follow = Follow::Log;
            self.withheld += sequence.saturating_sub(self.position);
            self.position = sequence;
        }
    }

    /// What the filter keeps of a log chunk becomes owed. False: its JSON form is needed first.
    pub(super) fn pass_filtered(
        &mut self,
        chunk: &Chunk,
        from: Offset,
        decoder: &mut Decoder,
        stats: &ShardStats,
    ) -> bool {
        if !self.owe_filtered(chunk, from, decoder, stats) {
            return false;
        }
        self.position += 1;
        true
    }

    /// The same of any chunk, without moving.
    fn owe_filtered(&mut self, chunk: &Chunk, from: Offset, decoder: &mut Decoder, stats: &ShardStats) -> bool {
        let form = self.form();
        let Some(filter) = &self.filter else { return true };
        if filter.may_match(chunk) {
            if form == Form::Json && chunk.form(form).is_none() {
                return false;
            }
            let (kept, _) = filter.keep(chunk, decoder);
            self.owe_kept(chunk, from, kept, stats);
        }
        if self.owed.is_empty() {
            self.withheld += chunk.next.0 - from.0;
        } else {
            self.withheld = 0;
        }
        true
    }

    /// What of the entries at or after `from` has a flag becomes owed.
    pub(super) fn owe_kept(&mut self, chunk: &Chunk, from: Offset, mut kept: Vec<bool>, stats: &ShardStats) {
        kept[..chunk.entry_at(from)].fill(false);
        stats.delivered_records.add(chunk.delivered_of(&kept));
        chunk.encode_kept(self.form(), from, Some(&kept), &mut self.owed);
        self.count_kept(chunk, &kept);
    }

    /// A cold chunk that is not sent as a whole form: the part that is wanted, or what the filter keeps. True: it was
    /// made, or there is nothing in it for this client. (Its JSON form is there: it was asked for before.)
    pub(super) fn make_cold_part(&mut self, decoder: &mut Decoder, stats: &ShardStats) -> bool {
        let Some((chunk, want)) = self.cold_part() else {
            let empty = self.own().is_empty();
            if empty {
                self.wrote_cold(0);
            }
            return empty;
        };
        if self.owe_threads(&chunk, want, decoder, stats) {
            self.cold_passed(&chunk, chunk.next);
        } else if self.filter.is_some() {
            if self.owe_filtered(&chunk, want, decoder, stats) {
                self.cold_passed(&chunk, chunk.next);
            }
        } else {
            self.owed = chunk.encode(self.form(), want);
            stats.delivered_records.add(chunk.delivered_from(want));
            self.cold_sent(&chunk, want, chunk.next);
        }
        true
    }

    /// Tells where the client stands, when it was not told otherwise for long. True: it was told.
    pub(super) fn tell_progress(&mut self, world: &World<'_>) -> bool {
        if self.withheld < PROGRESS_OFFSETS {
            return false;
        }
        self.say_progress(world);
        true
    }

    /// By the clock: the same for one that is parked, or in a long replay. True: there is something to write.
    pub fn progress_by_time(&mut self, world: &World<'_>) -> bool {
        let concerned = self.is_parked() || self.withheld > 0 || self.cold.is_some();
        let due = world.now_ms.saturating_sub(self.told_at_ms) >= PROGRESS_MS;
        let in_unit = self.sent > 0 || !self.owed.is_empty() || self.cold_sending().is_some();
        if !concerned || !due || in_unit || self.ending.is_some() || self.judging.is_some() || self.is_owed_control() {
            return false;
        }
        if self.is_parked() {
            if self.position >= world.ring.head() {
                return false;
            }
            self.position = world.ring.head();
        }
        self.say_progress(world);
        true
    }

    fn say_progress(&mut self, world: &World<'_>) {
        self.withheld = 0;
        self.told_at_ms = world.now_ms;
        let cursor = self.cursor(world.ring);
        self.say(&Notice::Progress { cursor: &cursor });
    }
}
