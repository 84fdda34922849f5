//! What happens to a host and its clients from outside: records are produced, logs open and evict, tiers answer, retention
//! goes on, time passes, clients say what they want.

use dashstream::observe::stats::Protocol;

use super::{Host, SEATS, World};
use crate::produced::RUNS;
use crate::produced::{Item, good_value};
use crate::said::{self, Wish};
use crate::tiers;
use dashstream::words::PartitionId;

impl World {
    /// Retention takes what every host has read already.
    pub(super) fn retain(&mut self) {
        let partition = self.dice.below(self.produced.len() as u64) as usize;
        let read = self.hosts.iter().map(|host| host.cores[partition].next().0).min().unwrap_or(0);
        let low = self.produced[partition].low;
        let log = &mut self.produced[partition];
        if let Some(redis) = log.redis
            && read > redis
        {
            log.redis = Some(redis + self.dice.below(read - redis));
        }
        if self.settings.cold && read > low {
            self.produced[partition].low = low + self.dice.below((read - low).min(200)) + 1;
        }
    }

    /// A reader answers one of those who ask.
    pub(super) fn answer_cold(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let pending = self.pending.swap_remove(self.dice.below(self.pending.len() as u64) as usize);
        let Some(who) = self.connected.iter().position(|connected| connected.id == pending.who) else { return };
        let host = self.connected[who].host;
        let stream = self.hosts[host].topology.identity.clone();
        let found = tiers::answer(&pending.wish, &self.produced, &stream, &mut self.dice);
        self.connected[who].client.note(|| format!("tiers: {:?} {}", pending.wish, tiers::brief(&found)));
        let mut connected = self.connected.swap_remove(who);
        self.with_world(host, |world, _| connected.session.cold_answer(pending.ticket, found, world));
        self.put_back(who, connected);
        if !self.connected[who].stalled {
            let appetite = 1 + self.dice.below(9_000);
            self.serve(who, appetite);
        }
    }

    /// Seats are free again, or a client whose socket is full lets go.
    pub(super) fn let_cold_go(&mut self) {
        let Some(who) = self.anybody() else { return };
        if self.connected[who].stalled {
            self.connected[who].session.let_go();
        } else if !self.connected[who].seated && self.seats_taken(self.connected[who].host) < SEATS {
            self.connected[who].seated = self.connected[who].session.is_cold();
            self.connected[who].session.cold_go();
        }
    }

    pub(super) fn seats_taken(&self, host: usize) -> usize {
        self.connected.iter().filter(|connected| connected.host == host && connected.seated).count()
    }

    pub(super) fn by_the_clock(&mut self, who: usize) {
        let host = self.connected[who].host;
        let mut connected = self.connected.swap_remove(who);
        self.with_world(host, |world, _| {
            connected.session.check_pace(world);
            connected.session.progress_by_time(world)
        });
        self.put_back(who, connected);
    }

    /// Everything below the log is read to its end.
    pub(super) fn settle_cold(&mut self) {
        for _ in 0..100_000 {
            self.now_ms += 1;
            for who in 0..self.connected.len() {
                self.connected[who].seated = self.connected[who].session.is_cold();
                self.connected[who].session.begin();
                self.connected[who].session.cold_go();
                self.serve(who, u64::MAX);
            }
            if self.pending.is_empty() && self.connected.iter().all(|connected| !connected.session.is_cold()) {
                return;
            }
            while !self.pending.is_empty() {
                self.answer_cold();
            }
        }
        let cold: Vec<_> = self.connected.iter().filter(|connected| connected.session.is_cold()).collect();
        panic!("a replay from below the log does not end: {:?}", cold.first().map(|connected| &connected.session));
    }

    /// A filter, a pause, or the end of one.
    pub(super) fn say_something_else(&mut self) {
        let Some(who) = self.anybody() else { return };
        if self.connected[who].client.protocol == Protocol::V1 || self.connected[who].stalled {
            return;
        }
        let wish = match self.dice.below(5) {
            0 => Wish::Follow(None),
            1 => Wish::Pause,
            2 => Wish::Continue,
            3 => Wish::Policy(if self.dice.chance(70) { "catchup" } else { "gap" }),
            _ => Wish::Follow(Some(self.dice.below(RUNS))),
        };
        self.say(who, wish);
    }

    pub(super) fn say(&mut self, who: usize, wish: Wish) {
        let host = self.connected[who].host;
        if self.connected[who].session.is_ending() {
            return;
        }
        let said = said::wish(self.connected[who].client.protocol, &wish);
        self.connected[who].client.note(|| format!("> {wish:?}"));
        self.connected[who].client.wishes.push_back(wish);
        let mut connected = self.connected.swap_remove(who);
        self.with_world(host, |world, _| connected.session.hear(said, world));
        self.put_back(who, connected);
    }

    pub(super) fn produce(&mut self) {
        let partition = self.dice.below(self.produced.len() as u64) as usize;
        for _ in 0..1 + self.dice.below(6) {
            let offset = self.produced[partition].end;
            let item = match self.dice.below(100) {
                0..=3 => Some(Item::Poison(vec![0x00, 0xFF, 0xFF])),
                4..=5 => Some(Item::Poison(Vec::new())),
                6..=8 => Some(Item::Null),
                9..=14 => None,
                _ => {
                    let run = self.dice.below(RUNS);
                    self.produced[partition].runs.insert(offset, run);
                    Some(Item::Good(good_value(partition as u32, offset, run, &mut self.dice)))
                }
            };
            let log = &mut self.produced[partition];
            if let Some(item) = item {
                log.items.insert(offset, item);
            }
            log.end = offset + 1;
        }
    }

    pub(super) fn evict(&mut self) {
        let host = self.dice.below(2) as usize;
        let length = self.hosts[host].ring.len() as u64;
        if length < 2 {
            return;
        }
        let count = 1 + self.dice.below(length / 2 + 1);
        self.evict_some(host, count);
    }

    /// The log moves on faster than anybody reads, three times, and everybody came back before each.
    pub(super) fn overrun(&mut self) {
        for _ in 0..3 {
            for connected in &mut self.connected {
                connected.stalled = false;
            }
            self.settle_cold();
            self.turn_away();
            (0..12).for_each(|_| self.produce());
            for host in 0..self.hosts.len() {
                for partition in 0..self.produced.len() {
                    self.open(host, partition);
                    self.take(host, partition, u64::MAX);
                }
                self.evict_some(host, u64::MAX);
            }
        }
    }

    /// So many chunks go, or all but the newest.
    fn evict_some(&mut self, host: usize, count: u64) {
        self.seen.evictions += 1;
        let mut left = count;
        let tail = self.hosts[host].ring.tail_after(|_| {
            let more = left > 0;
            left = left.saturating_sub(1);
            more
        });
        let ring = &self.hosts[host].ring;
        for connected in self.connected.iter_mut().filter(|connected| connected.host == host) {
            if connected.session.position() < tail
                && let Some(chunk) = ring.chunk(connected.session.position())
            {
                self.seen.mid_unit_evictions += u64::from(connected.session.sent_of_chunk() > 0);
                connected.session.before_eviction(chunk);
            }
        }
        let evicted = self.hosts[host].ring.evict_to(tail);
        let mut all = std::mem::take(&mut self.connected);
        for connected in all.iter_mut().filter(|connected| connected.host == host) {
            assert!(self.with_world(host, |world, _| connected.session.after_eviction(&evicted, world)));
        }
        self.connected = all;
    }

    /// The log of a partition opens, as it does some time after the start of a host.
    pub(super) fn open(&mut self, host: usize, partition: usize) {
        let Host { cores, ring, .. } = &mut self.hosts[host];
        let id = PartitionId(partition as u32);
        if ring.bounds(id).is_none() {
            ring.open(id, cores[partition].next());
        }
    }

    pub(super) fn open_one(&mut self) {
        let (host, partition) = (self.dice.below(2), self.dice.below(self.produced.len() as u64));
        self.open(host as usize, partition as usize);
    }
}
