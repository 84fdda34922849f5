//! What a client wants to see, and whether a record is that.
//!
//! A record matches when one of its events matches every list that is not empty; it is delivered whole. The index of
//! a chunk answers most questions; what it leaves open (several events in a record, folded event types, hashed nodes,
//! sequences) is looked up in the value. Deliberately absent: who follows what (`shard::subscriptions`).

use super::decoder::Decoder;
use crate::log::chunk::{Chunk, Entry, NO_ID, Outcome, fnv};
use crate::wire::proto::EventType;
use crate::wire::scan::{EventMeta, Kind};
use crate::words::PartitionId;

/// Values that one filter may name, all lists together: a message has a limit too, this one bounds what is compared.
pub const VALUES_MAX: usize = 256;
/// Longest value, bytes: what chunks intern.
pub const VALUE_BYTES_MAX: usize = crate::log::chunk::ID_BYTES_MAX;

/// See the module. The default lets everything through.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filter {
    tenants: Box<[Box<str>]>,
    threads: Box<[Box<str>]>,
    nodes: Box<[Box<str>]>,
    event_types: Box<[i32]>,
    partitions: Box<[PartitionId]>,
    /// Bits of [`Kind`]; 0 is any.
    kinds: u16,
    /// Bits as in [`Entry::event_types`]; 0 is any.
    event_type_bits: u64,
    /// Only events whose sequence is above.
    after_sequence: u64,
}

/// As a client wrote it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Wanted {
    pub tenants: Vec<String>,
    pub threads: Vec<String>,
    pub kinds: Vec<String>,
    pub event_types: Vec<String>,
    pub nodes: Vec<String>,
    pub partitions: Vec<PartitionId>,
}

/// What a filter can be found by when a chunk arrives.
#[derive(Debug, PartialEq, Eq)]
pub enum Followed<'a> {
    /// One of these ids is in every chunk that may matter.
    Ids(&'a [Box<str>]),
    Anything,
}

impl Filter {
    /// Refuses what could never match, in words for the client.
    pub fn new(wanted: Wanted) -> Result<Self, &'static str> {
        let Wanted { tenants, threads, kinds, event_types, nodes, partitions } = wanted;
        let counts = [tenants.len(), threads.len(), kinds.len(), event_types.len(), nodes.len(), partitions.len()];
        if counts.iter().sum::<usize>() > VALUES_MAX {
            return Err("a filter names at most 256 values");
        }
        if tenants.iter().chain(&threads).chain(&nodes).any(|value| value.is_empty() || value.len() > VALUE_BYTES_MAX) {
            return Err("a tenant, thread or node has 1 to 256 bytes");
        }
        let mut filter = Self {
            tenants: boxed(tenants),
            threads: boxed(threads),
            nodes: boxed(nodes),
            partitions: partitions.into(),
            ..Self::default()
        };
        for name in kinds {
            let known = Kind::ALL.iter().find(|kind| kind.label() == name && **kind != Kind::EventBatch);
            filter.kinds |= known.ok_or("an unknown kind: see dashstream.proto for the names")?.bit();
        }
        let mut numbers = Vec::new();
        for name in event_types {
            let name = if name.starts_with("EVENT_TYPE_") { name } else { format!("EVENT_TYPE_{name}") };
            let known = EventType::from_str_name(&name).ok_or("an unknown event type: see dashstream.proto")?;
            filter.event_type_bits |= 1 << (known as i32).rem_euclid(64);
            numbers.push(known as i32);
        }
        filter.event_types = numbers.into();
        Ok(filter)
    }

    /// One run, of any tenant when none is named, from behind a sequence.
    pub fn of_run(thread: &str, tenant: Option<&str>, after_sequence: u64) -> Self {
        Self {
            threads: [thread.into()].into(),
            tenants: tenant.into_iter().map(Box::from).collect(),
            after_sequence,
            ..Self::default()
        }
    }

    /// It lets everything through.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// What it costs besides its own struct, bytes.
    pub fn heap_bytes(&self) -> usize {
        let texts = [&self.tenants, &self.threads, &self.nodes].into_iter().flat_map(|list| list.iter());
        texts.map(|text| text.len() + 16).sum::<usize>() + self.event_types.len() * 4 + self.partitions.len() * 4
    }

    pub fn followed(&self) -> Followed<'_> {
        if !self.threads.is_empty() {
            Followed::Ids(&self.threads)
        } else if !self.tenants.is_empty() {
            Followed::Ids(&self.tenants)
        } else {
            Followed::Anything
        }
    }

    pub fn wants_partition(&self, partition: PartitionId) -> bool {
        self.partitions.is_empty() || self.partitions.contains(&partition)
    }

    /// Something in this chunk may match: false costs a look at the ids, never at a record.
    pub fn may_match(&self, chunk: &Chunk) -> bool {
        if !self.wants_partition(chunk.partition) {
            return false;
        }
        // What is lost might have matched.
        if chunk.lost.is_some() || chunk.is_opaque() {
            return true;
        }
        match self.followed() {
            Followed::Ids(wanted) => wanted.iter().any(|id| chunk.find(id).is_some()),
            Followed::Anything => true,
        }
    }

    /// One flag per entry, and how many of the kept are delivered.
    pub fn keep(&self, chunk: &Chunk, decoder: &mut Decoder) -> (Vec<bool>, u64) {
        let mut delivered = 0;
        let interned = Interned { tenants: find(chunk, &self.tenants), threads: find(chunk, &self.threads) };
        let kept = chunk.entries().iter().map(|entry| {
            let kept = self.matches(chunk, entry, &interned, decoder);
            delivered += u64::from(kept && entry.outcome == Outcome::Delivered);
            kept
        });
        (kept.collect(), delivered)
    }

    fn matches(&self, chunk: &Chunk, entry: &Entry, interned: &Interned, decoder: &mut Decoder) -> bool {
        if entry.outcome != Outcome::Delivered {
            // Nobody can read what is in it: only who asks for whole partitions misses it.
            return !self.asks_for_content();
        }
        if (self.kinds != 0 && entry.kinds & self.kinds == 0)
            || (self.event_type_bits != 0 && entry.event_types & self.event_type_bits == 0)
        {
            return false;
        }
        let single = entry.events == 1;
        let mut sure = single && self.event_types.is_empty() && self.nodes.is_empty() && self.after_sequence == 0;
        if !self.threads.is_empty() {
            match chunk.threads(entry).map(|threads| threads.iter().any(|id| interned.threads.contains(id))) {
                Some(false) => return false,
                Some(true) => {}
                None => sure = false,
            }
        }
        if !self.tenants.is_empty() {
            if entry.tenant == NO_ID {
                sure = false;
            } else if single && !interned.tenants.contains(&entry.tenant) {
                return false;
            }
        }
        if single
            && !self.nodes.is_empty()
            && !self.nodes.iter().any(|node| fnv(node.as_bytes()) as u32 == entry.node_hash)
        {
            return false;
        }
        sure || decoder.any_event(chunk.value(entry), |event, body| self.matches_event(event, body))
    }

    fn asks_for_content(&self) -> bool {
        !(self.tenants.is_empty() && self.threads.is_empty() && self.nodes.is_empty() && self.event_types.is_empty())
            || self.kinds != 0
            || self.after_sequence != 0
    }

    fn matches_event(&self, event: &EventMeta, body: &[u8]) -> bool {
        let in_list = |list: &[Box<str>], text: &str| list.is_empty() || has(list, text);
        (self.kinds == 0 || self.kinds & event.kind.bit() != 0)
            && (self.event_types.is_empty() || self.event_types.contains(&event.event_type))
            && in_list(&self.tenants, event.tenant.str_of(body))
            && in_list(&self.threads, event.thread.str_of(body))
            && in_list(&self.nodes, event.node.str_of(body))
            // A sequence of 0 says nothing: it is not known to be behind.
            && (event.sequence == 0 || event.sequence > self.after_sequence)
    }
}

/// What of a filter's ids one chunk has, as it names them: found once, so that a record costs comparing numbers.
struct Interned {
    tenants: Vec<u16>,
    threads: Vec<u16>,
}

fn find(chunk: &Chunk, wanted: &[Box<str>]) -> Vec<u16> {
    wanted.iter().filter_map(|id| chunk.find(id)).collect()
}

fn has(list: &[Box<str>], text: &str) -> bool {
    list.iter().any(|one| **one == *text)
}

fn boxed(texts: Vec<String>) -> Box<[Box<str>]> {
    texts.into_iter().map(String::into_boxed_str).collect()
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
