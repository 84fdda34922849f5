//! Sequence numbers per (tenant, thread), 1-based, in bounded memory. Pure.
//!
//! A number is looked at first and allocated only when its event is accepted. Of more threads than the limit, the one
//! that was quiet for longest is forgotten. Should it speak again it begins at 1 in a new *generation*, which is part of
//! the producer's instance as records name it, so that consumers see a restart, not a gap or a repetition.

use std::collections::HashMap;
use std::sync::Arc;

/// A thread of a tenant.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct ThreadName {
    pub(super) tenant: Box<str>,
    pub(super) thread: Box<str>,
}

/// Where a thread stands in the table. Good until the next [`Sequences::insert`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Slot(u32);

impl Slot {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Entry {
    name: Arc<ThreadName>,
    next: u64,
    generation: u64,
    /// Neighbours in the order of use.
    older: u32,
    newer: u32,
}

#[derive(Debug)]
pub(super) struct Sequences {
    limit: usize,
    slots: HashMap<Box<[u8]>, u32>,
    entries: Vec<Entry>,
    oldest: u32,
    newest: u32,
    forgotten: u64,
    key: Vec<u8>,
}

impl Sequences {
    /// Knows up to `limit` threads, at least one.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, NONE as usize - 1);
        Self {
            limit,
            slots: HashMap::new(),
            entries: Vec::new(),
            oldest: NONE,
            newest: NONE,
            forgotten: 0,
            key: Vec::new(),
        }
    }

    /// The thread's place, which is the most recently used now.
    pub(super) fn find(&mut self, tenant: &str, thread: &str) -> Option<Slot> {
        write_key(&mut self.key, tenant, thread);
        let slot = *self.slots.get(self.key.as_slice())?;
        self.detach(slot);
        self.attach(slot);
        Some(Slot(slot))
    }

    /// The thread that the next [`Self::insert`] forgets.
    pub(super) fn victim(&self) -> Option<Slot> {
        (self.entries.len() == self.limit).then_some(Slot(self.oldest))
    }

    /// The generation that a thread gets that is inserted now.
    pub(super) fn next_generation(&self) -> u64 {
        self.forgotten + u64::from(self.victim().is_some())
    }

    /// A place for a thread that [`Self::find`] does not know.
    pub(super) fn insert(&mut self, name: Arc<ThreadName>) -> Slot {
        write_key(&mut self.key, &name.tenant, &name.thread);
        let key: Box<[u8]> = self.key.as_slice().into();
        let slot = match self.victim() {
            Some(Slot(slot)) => {
                self.detach(slot);
                let gone = self.entries[slot as usize].name.clone();
                write_key(&mut self.key, &gone.tenant, &gone.thread);
                self.slots.remove(self.key.as_slice());
                self.forgotten += 1;
                slot
            }
            None => {
                self.entries.push(Entry { name: name.clone(), next: 1, generation: 0, older: NONE, newer: NONE });
                // Below the limit, which fits.
                (self.entries.len() - 1) as u32
            }
        };
        self.entries[slot as usize] = Entry { name, next: 1, generation: self.forgotten, older: NONE, newer: NONE };
        let before = self.slots.insert(key, slot);
        assert!(before.is_none(), "a thread was inserted twice");
        self.attach(slot);
        Slot(slot)
    }

    /// The number that the next accepted event of the thread gets.
    pub(super) fn next(&self, slot: Slot) -> u64 {
        self.entries[slot.index()].next
    }

    /// The event with [`Self::next`] was accepted.
    pub(super) fn allocate(&mut self, slot: Slot) {
        let next = &mut self.entries[slot.index()].next;
        *next = next.saturating_add(1);
    }

    pub(super) fn name(&self, slot: Slot) -> &Arc<ThreadName> {
        &self.entries[slot.index()].name
    }

    /// By [`Slot::index`].
    pub(super) fn name_at(&self, index: usize) -> &Arc<ThreadName> {
        &self.entries[index].name
    }

    /// 0 until a thread was forgotten. A thread that is new after that cannot be told from one that came back.
    pub(super) fn generation(&self, slot: Slot) -> u64 {
        self.entries[slot.index()].generation
    }

    fn detach(&mut self, slot: u32) {
        let Entry { older, newer, .. } = self.entries[slot as usize];
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    fn attach(&mut self, slot: u32) {
        let before = std::mem::replace(&mut self.newest, slot);
        let entry = &mut self.entries[slot as usize];
        (entry.older, entry.newer) = (before, NONE);
        match self.entries.get_mut(before as usize) {
            Some(entry) => entry.newer = slot,
            None => self.oldest = slot,
        }
    }
}

/// No UTF-8 text has the byte 0xFF, so that no two pairs have one key.
fn write_key(key: &mut Vec<u8>, tenant: &str, thread: &str) {
    key.clear();
    key.extend_from_slice(tenant.as_bytes());
    key.push(0xFF);
    key.extend_from_slice(thread.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(tenant: &str, thread: &str) -> Arc<ThreadName> {
        Arc::new(ThreadName { tenant: tenant.into(), thread: thread.into() })
    }

    fn accept(sequences: &mut Sequences, tenant: &str, thread: &str) -> (u64, u64) {
        let slot = sequences.find(tenant, thread).unwrap_or_else(|| {
            let generation = sequences.next_generation();
            let slot = sequences.insert(name(tenant, thread));
            assert_eq!(sequences.generation(slot), generation);
            slot
        });
        let given = (sequences.generation(slot), sequences.next(slot));
        sequences.allocate(slot);
        given
    }

    #[test]
    fn numbers_begin_at_one_for_each_tenant_and_thread() {
        let mut sequences = Sequences::new(10);
        let steps = [("a", "t", 1), ("a", "t", 2), ("b", "t", 1), ("a", "u", 1), ("a", "t", 3), ("at", "", 1)];
        for (tenant, thread, expected) in steps {
            assert_eq!(accept(&mut sequences, tenant, thread), (0, expected), "{tenant} {thread}");
        }
    }

    #[test]
    fn what_is_not_accepted_uses_no_number() {
        let mut sequences = Sequences::new(10);
        let slot = sequences.insert(name("a", "t"));
        for _ in 0..3 {
            assert_eq!(sequences.next(slot), 1);
        }
        sequences.allocate(slot);
        assert_eq!(sequences.next(slot), 2);
    }

    #[test]
    fn the_quietest_thread_is_forgotten_and_comes_back_as_another_generation() {
        let mut sequences = Sequences::new(2);
        assert_eq!(accept(&mut sequences, "a", "one"), (0, 1));
        assert_eq!(accept(&mut sequences, "a", "two"), (0, 1));
        assert_eq!(accept(&mut sequences, "a", "one"), (0, 2));
        let victim = sequences.victim().expect("the table is full");
        assert_eq!(&*sequences.name(victim).thread, "two");
        assert_eq!(accept(&mut sequences, "a", "three"), (1, 1));
        assert_eq!(accept(&mut sequences, "a", "one"), (0, 3), "the other was forgotten");
        assert_eq!(accept(&mut sequences, "a", "two"), (2, 1));
    }

    /// Against a list of who was used when.
    #[test]
    fn a_long_mixed_use_agrees_with_a_simple_model() {
        const LIMIT: usize = 7;
        let mut sequences = Sequences::new(LIMIT);
        let mut model: Vec<(u64, u64)> = Vec::new();
        let mut state = 1u64;
        for step in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let thread = (state >> 33) % 12;
            let place = model.iter().position(|(known, _)| *known == thread);
            let next = place.map_or(1, |place| model.remove(place).1 + 1);
            if place.is_none() && model.len() == LIMIT {
                model.remove(0);
            }
            model.push((thread, next));
            assert_eq!(accept(&mut sequences, "t", &thread.to_string()).1, next, "step {step}");
        }
        assert_eq!(sequences.slots.len(), LIMIT);
    }
}
