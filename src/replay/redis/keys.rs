//! Names of keys. They begin with the stream, never with a host or a group, so that hosts share entries and a topic
//! that was made again finds nothing. The braces keep one stream together in a Redis cluster.

use crate::words::{Offset, PartitionId, StreamIdentity};

/// The names of one stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keys {
    stream: String,
}

impl Keys {
    pub fn new(identity: &StreamIdentity) -> Self {
        Self { stream: identity.name() }
    }

    /// Of no stream at all, before one is known.
    pub(super) fn none() -> Self {
        Self { stream: String::new() }
    }

    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The entry that begins at `from`.
    pub fn entry(&self, partition: PartitionId, from: Offset) -> String {
        self.entry_of(partition, &member(from))
    }

    /// The entry of that member of the index.
    pub fn entry_of(&self, partition: PartitionId, member: &str) -> String {
        format!("dashstream:{{{}}}:p:{partition}:{member}", self.stream)
    }

    /// A sorted set, all of one score, so that it is sorted by member: exact for every offset, which a score, being a
    /// floating point number, is not.
    pub fn index(&self, partition: PartitionId) -> String {
        format!("dashstream:{{{}}}:p:{partition}:index", self.stream)
    }
}

/// How the index names an entry: sorted as text they are sorted as numbers.
pub fn member(from: Offset) -> String {
    format!("{:020}", from.0)
}

/// The offset of a member; None for what we did not write.
pub fn offset_of(member: &[u8]) -> Option<Offset> {
    let digits = member.len() == 20 && member.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(member).ok().filter(|_| digits)?.parse().ok().map(Offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_every_host_uses() {
        let identity = StreamIdentity { cluster_id: "c".to_owned(), topic: "t".to_owned(), topic_id: [7; 16] };
        let keys = Keys::new(&identity);
        let name = identity.name();
        assert_eq!(
            keys.entry(PartitionId(12), Offset(345)),
            format!("dashstream:{{{name}}}:p:12:00000000000000000345")
        );
        assert_eq!(keys.index(PartitionId(12)), format!("dashstream:{{{name}}}:p:12:index"));
    }

    #[test]
    fn members_sort_as_offsets_do_and_read_back() {
        let offsets = [0, 1, 9, 10, 999, 1 << 53, (1 << 53) + 1, u64::MAX];
        let members: Vec<_> = offsets.map(|offset| member(Offset(offset))).into();
        assert!(members.windows(2).all(|pair| pair[0] < pair[1]));
        for (offset, member) in offsets.iter().zip(&members) {
            assert_eq!(offset_of(member.as_bytes()), Some(Offset(*offset)));
        }
        for bad in
            ["", "5", "-0000000000000000001", "+0000000000000000001", "99999999999999999999", "0000000000000000000x"]
        {
            assert_eq!(offset_of(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
