//! Who follows which tenant or thread: what a chunk is looked up by, so that a client that matches nothing of it costs
//! nothing.

use std::collections::HashMap;

use slab::Slab;

use super::connection::{Connection, Phase};
use crate::broadcast::filter::Followed;
use crate::log::Chunk;

/// Keys of connections, by what they follow. Only sessions with a filter by tenant or thread are in it.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    by_id: HashMap<Box<str>, Vec<usize>>,
    /// What each key is entered under, to take it out again.
    entered: HashMap<usize, Vec<Box<str>>>,
}

impl Subscriptions {
    /// Enters what a session follows now, in place of what it followed before.
    pub(super) fn enter(&mut self, key: usize, followed: Option<Followed<'_>>) {
        self.leave(key);
        let Some(Followed::Ids(ids)) = followed else { return };
        for id in ids {
            let keys = self.by_id.entry(id.clone()).or_default();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        self.entered.insert(key, ids.to_vec());
    }

    pub(super) fn leave(&mut self, key: usize) {
        for id in self.entered.remove(&key).into_iter().flatten() {
            if let Some(keys) = self.by_id.get_mut(&id) {
                keys.retain(|other| *other != key);
                if keys.is_empty() {
                    self.by_id.remove(&id);
                }
            }
        }
    }

    /// Wakes those parked sessions that a chunk, just appended as `sequence`, may concern.
    pub(super) fn wake(
        &self,
        chunk: &Chunk,
        sequence: u64,
        connections: &mut Slab<Connection>,
        woken: &mut Vec<usize>,
    ) {
        if self.entered.is_empty() {
            return;
        }
        let mut one = |key: usize| {
            let Some(connection) = connections.get_mut(key) else { return };
            if let Phase::Open(open) = &mut connection.phase
                && open.session.is_parked()
                && open.session.filter().is_some_and(|filter| filter.wants_partition(chunk.partition))
            {
                open.session.unpark(sequence);
                woken.push(key);
            }
        };
        // What is lost, or not listed, may concern everybody.
        if chunk.lost.is_some() || chunk.is_opaque() {
            self.entered.keys().for_each(|key| one(*key));
            return;
        }
        for id in chunk.ids() {
            if let Some(keys) = self.by_id.get(id) {
                keys.iter().for_each(|key| one(*key));
            }
        }
    }
}
