//! A cursor: per partition the next offset that is wanted, and the stream that it is good for.

use std::collections::BTreeMap;

/// A place in a stream. Unlike the cursor on the wire, which names the last offset applied, this one names the next
/// offset wanted, one above: so 0 says "nothing of it yet", which differs from a partition that is not known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    /// From Hello; empty while no stream was seen.
    pub stream: String,
    /// Partition to next offset wanted.
    pub next: BTreeMap<u32, u64>,
}

/// How an event moves a cursor once it is applied.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Move {
    /// Another stream: everything before is forgotten. Empty: no stream is known.
    pub(super) stream: Option<String>,
    pub(super) next: Positions,
}

/// Partition and next offset. The usual case is one, and takes no heap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Positions {
    #[default]
    None,
    One(u32, u64),
    Many(Vec<(u32, u64)>),
}

impl Move {
    pub(super) fn to(partition: u32, next: u64) -> Self {
        Self { stream: None, next: Positions::One(partition, next) }
    }

    pub(super) fn many(next: Vec<(u32, u64)>) -> Self {
        Self { stream: None, next: Positions::Many(next) }
    }

    pub(super) fn stream(stream: String, next: Vec<(u32, u64)>) -> Self {
        Self { stream: Some(stream), next: Positions::Many(next) }
    }
}

impl Positions {
    fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let (one, many) = match self {
            Self::None => (None, &[][..]),
            Self::One(partition, next) => (Some((*partition, *next)), &[][..]),
            Self::Many(many) => (None, many.as_slice()),
        };
        one.into_iter().chain(many.iter().copied())
    }
}

impl Cursor {
    pub(super) fn apply(&mut self, moved: &Move) {
        if let Some(stream) = &moved.stream
            && *stream != self.stream
        {
            *self = Self { stream: stream.clone(), next: BTreeMap::new() };
        }
        self.next.extend(moved.next.iter());
    }
}

/// Moves of events that were handed out and not yet acknowledged. Holds one place per partition, however many events.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    stream: Option<String>,
    next: BTreeMap<u32, u64>,
    /// An event is among them, not only stretches without a record.
    pub(super) events: bool,
}

impl Unacknowledged {
    pub(super) fn note(&mut self, moved: &Move) {
        if let Some(stream) = &moved.stream {
            self.stream = Some(stream.clone());
            self.next.clear();
        }
        self.next.extend(moved.next.iter());
    }

    /// True: the cursor has moved.
    pub(super) fn acknowledge(&mut self, cursor: &mut Cursor) -> bool {
        self.events = false;
        let moved = self.stream.is_some() || !self.next.is_empty();
        if let Some(stream) = self.stream.take() {
            cursor.apply(&Move::stream(stream, Vec::new()));
        }
        while let Some((partition, next)) = self.next.pop_first() {
            cursor.next.insert(partition, next);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_acknowledged_does_not_move_the_cursor_and_another_stream_forgets() {
        let mut cursor = Cursor { stream: "a".to_owned(), next: BTreeMap::from([(0, 5), (1, 9)]) };
        let mut waiting = Unacknowledged::default();
        waiting.note(&Move::to(0, 6));
        waiting.note(&Move::many(vec![(0, 8), (2, 1)]));
        assert_eq!(cursor.next, BTreeMap::from([(0, 5), (1, 9)]));
        assert!(waiting.acknowledge(&mut cursor));
        assert_eq!(cursor.next, BTreeMap::from([(0, 8), (1, 9), (2, 1)]));
        assert!(!waiting.acknowledge(&mut cursor));

        waiting.note(&Move::to(1, 10));
        waiting.note(&Move::stream("b".to_owned(), vec![(0, 0)]));
        waiting.note(&Move::to(0, 1));
        assert!(waiting.acknowledge(&mut cursor));
        assert_eq!(cursor, Cursor { stream: "b".to_owned(), next: BTreeMap::from([(0, 1)]) });
    }
}
