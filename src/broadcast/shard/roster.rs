//! What a shard tells operators about its clients: a bounded list, published about once a second into a slot that
//! `http` reads. Between two publications a client costs a few additions per visit.
//!
//! Deliberately absent: how the list is shown (`observe::clients`).

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Shard;
use super::connection::{Connection, Phase, unix_ms};
use crate::broadcast::session::Session;
use crate::log::Ring;
use crate::observe::clients::{CLIENTS_MAX, CLOSES_MAX, Client, Closed, End, Roster, Who};
use crate::observe::stats::ShardStats;

/// Between two publications.
const PUBLISH_MS: u64 = 1_000;

/// Places of the log that are looked up for one publication: about a millisecond. Clients at the head need none, and
/// those who stand together need one set; who comes after the last is shown without a number.
const LOOKUPS_MAX: usize = 10_000;

/// What the shard remembers for it.
#[derive(Debug, Default)]
pub(super) struct Register {
    published_ms: u64,
    /// Invariant: at most [`CLOSES_MAX`], oldest first.
    closed: VecDeque<Closed>,
}

/// Records and gap frames that left this shard so far. Only the shard itself adds to them, so that what is added
/// during a visit belongs to the client that was visited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sent {
    records: u64,
    gaps: u64,
}

impl Sent {
    pub(super) fn so_far(stats: &ShardStats) -> Self {
        Self {
            records: stats.delivered_records.get(),
            gaps: stats.gap_frames.iter().map(crate::observe::stats::Counter::get).sum(),
        }
    }
}

impl Shard {
    /// A visit to `key` is over that began when so much was sent.
    pub(super) fn credit(&mut self, key: usize, before: Sent) {
        let now = Sent::so_far(&self.ports.shard_stats);
        if now != before
            && let Some(connection) = self.connections.get_mut(key)
        {
            connection.records_sent += now.records - before.records;
            connection.gaps_told += now.gaps - before.gaps;
        }
    }

    /// A client is gone, or was told everything.
    pub(super) fn note_end(&mut self, key: usize, end: End) {
        let Some(who) = self.connections.get(key).and_then(who) else { return };
        if self.register.closed.len() >= CLOSES_MAX {
            self.register.closed.pop_front();
        }
        self.register.closed.push_back(Closed { who, end, at_ms: self.scene.now_ms, at_unix_ms: unix_ms() });
    }

    pub(super) fn publish_roster(&mut self) {
        let now_ms = self.scene.now_ms;
        if now_ms.saturating_sub(self.register.published_ms) < PUBLISH_MS {
            return;
        }
        self.register.published_ms = now_ms;
        let places: Vec<_> = self.connections.iter().filter_map(|(key, connection)| place(key, connection)).collect();
        let total = places.len() as u64;
        let mut measure = Measure::new(&self.scene.ring);
        let clients = slowest(places, CLIENTS_MAX).into_iter().filter_map(|key| {
            let connection = self.connections.get(key)?;
            let Phase::Open(open) = &connection.phase else { return None };
            Some(Client {
                who: who(connection)?,
                state: open.session.client_state(),
                behind: measure.behind(&open.session),
                waiting_since_ms: connection.blocked.then_some(connection.progress_ms),
                policy: open.session.policy(&self.scene.settings),
            })
        });
        let clients = clients.collect();
        let closed = self.register.closed.iter().cloned().collect();
        self.ports.shard_stats.roster.store(Arc::new(Roster { total, clients, closed }));
    }
}

fn who(connection: &Connection) -> Option<Who> {
    let Phase::Open(open) = &connection.phase else { return None };
    Some(Who {
        id: connection.id,
        address: open.address.address(),
        protocol: open.session.protocol(),
        since_ms: connection.since_ms,
        since_unix_ms: connection.since_unix_ms,
        records_sent: connection.records_sent,
        gaps_told: connection.gaps_told,
    })
}

/// How slow a client is, roughly: the lower its position, the slower; among equals who took nothing for longest.
type Place = (u64, Reverse<bool>, u64, usize);

fn place(key: usize, connection: &Connection) -> Option<Place> {
    let Phase::Open(open) = &connection.phase else { return None };
    Some((open.session.rank(), Reverse(connection.blocked), connection.progress_ms, key))
}

/// The keys of the slowest `count`, slowest first.
fn slowest(mut places: Vec<Place>, count: usize) -> Vec<usize> {
    if places.len() > count {
        places.select_nth_unstable(count);
        places.truncate(count);
    }
    places.sort_unstable();
    places.into_iter().map(|(.., key)| key).collect()
}

/// Counts how far behind clients are, within a bound of work.
struct Measure<'a> {
    ring: &'a Ring,
    partitions: usize,
    lookups_left: usize,
    /// By position, for clients whose position says it all.
    known: HashMap<u64, u64>,
}

impl<'a> Measure<'a> {
    fn new(ring: &'a Ring) -> Self {
        Self { ring, partitions: ring.partitions().count(), lookups_left: LOOKUPS_MAX, known: HashMap::new() }
    }

    fn behind(&mut self, session: &Session) -> Option<u64> {
        let shared = session.stands_at_its_position();
        if shared && session.position() >= self.ring.head() {
            return Some(0);
        }
        if let Some(known) = self.known.get(&session.position()).filter(|_| shared) {
            return Some(*known);
        }
        self.lookups_left = self.lookups_left.checked_sub(self.partitions)?;
        let behind = session.behind(self.ring);
        if shared {
            self.known.insert(session.position(), behind);
        }
        Some(behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_are_those_with_the_lowest_position_and_the_longest_silence() {
        let places = vec![
            (9, Reverse(false), 400, 1),
            (3, Reverse(false), 100, 2),
            (9, Reverse(true), 200, 3),
            (9, Reverse(true), 100, 4),
            (5, Reverse(false), 900, 5),
        ];
        assert_eq!(slowest(places.clone(), 9), [2, 5, 4, 3, 1]);
        assert_eq!(slowest(places.clone(), 3), [2, 5, 4]);
        assert_eq!(slowest(places, 0), [0; 0]);
        let many: Vec<Place> = (0..10_000).rev().map(|key| (key as u64, Reverse(false), 0, key)).collect();
        assert_eq!(slowest(many, CLIENTS_MAX), (0..CLIENTS_MAX).collect::<Vec<_>>());
    }
}
