//! An exported file as a source. Its events are made into records again and go the way of all records, so that the
//! filter and duplicates mean the same. Which sequences were missing is said by the file, which may hold only a part.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Instant;

use prost::Message as _;

use super::expand::{Expander, Record};
use super::split::{SplitError, Splitter};
use super::tap::Tap;
use super::thaw::{Thawed, thaw};
use super::{Ask, Filter, From, Item, Progress, Source, SourceError};
use crate::wire::framing::frame_plain;
use crate::words::{Offset, PartitionId};

/// Read at once.
const PIECE_BYTES: usize = 64 << 10;

pub(super) struct FileSource {
    tap: Tap,
    path: PathBuf,
    done: u64,
    piece: Vec<u8>,
    splitter: Splitter,
    taker: Taker,
    over: bool,
}

/// What is made of an object.
struct Taker {
    from: From,
    partitions: Vec<PartitionId>,
    filter: Filter,
    /// What was missing before the event that comes next.
    missing: Option<Item>,
    expander: Expander,
    value: Vec<u8>,
    out: VecDeque<Item>,
    objects: u64,
}

impl FileSource {
    pub(super) fn open(path: &std::path::Path, ask: &Ask) -> Result<Self, SourceError> {
        let unsupported = |flag, step| Err(SourceError::Unsupported { flag, with: "with --file", step });
        if ask.follow {
            return unsupported("--follow", "a file has an end; leave it out");
        }
        if matches!(ask.from, From::Last(_)) {
            return unsupported("--from -N", "say earliest, an offset or a time");
        }
        let failed = |source| SourceError::File { path: path.to_owned(), source };
        let tap = Tap::open(path).map_err(failed)?;
        let taker = Taker {
            from: ask.from,
            partitions: ask.partitions.clone(),
            filter: ask.filter.clone(),
            missing: None,
            // Whoever exported it has decoded it before, and seen what its filter left out.
            expander: Expander::new(ask.filter.clone(), usize::MAX).without_missing(),
            value: Vec::new(),
            out: VecDeque::new(),
            objects: 0,
        };
        Ok(Self {
            tap,
            path: path.to_owned(),
            done: 0,
            piece: vec![0; PIECE_BYTES],
            splitter: Splitter::default(),
            taker,
            over: ask.from == From::Latest,
        })
    }
}

impl Source for FileSource {
    fn next(&mut self, deadline: Instant) -> Result<Item, SourceError> {
        let mut read_some = false;
        loop {
            if let Some(item) = self.taker.out.pop_front() {
                return Ok(item);
            }
            if self.over {
                return Ok(Item::End);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if read_some && left.is_zero() {
                return Ok(Item::Idle);
            }
            read_some = true;
            let length = match self.tap.pour(&mut self.piece, left) {
                Ok(Some(length)) => length,
                Ok(None) => continue,
                Err(source) => return Err(SourceError::File { path: self.path.clone(), source }),
            };
            let not_an_export = |what: String| SourceError::NotAnExport { path: self.path.clone(), what };
            if length == 0 {
                self.over = true;
                self.splitter.end().map_err(|error| not_an_export(error.to_string()))?;
                continue;
            }
            self.done += length as u64;
            let taker = &mut self.taker;
            self.splitter
                .feed(self.piece.get(..length).unwrap_or_default(), |object| taker.take(object))
                .map_err(|Refused(what)| not_an_export(what))?;
        }
    }

    fn progress(&self) -> Progress {
        Progress { done: self.done, total: Some(self.tap.bytes().max(self.done)) }
    }
}

struct Refused(String);

impl std::convert::From<SplitError> for Refused {
    fn from(error: SplitError) -> Self {
        Self(error.to_string())
    }
}

impl Taker {
    fn take(&mut self, object: &[u8]) -> Result<(), Refused> {
        self.objects += 1;
        let thawed = thaw(object).map_err(|error| Refused(format!("object {}: {error}", self.objects)))?;
        match thawed {
            Thawed::Event(seen) => {
                let missing = self.missing.take();
                if !self.wanted(seen.partition, seen.offset, seen.timestamp_ms) {
                    return Ok(());
                }
                self.out.extend(missing);
                frame_plain(&seen.message.encode_to_vec(), &mut self.value);
                let before = self.out.len();
                let record = Record {
                    partition: seen.partition,
                    offset: seen.offset,
                    timestamp_ms: seen.timestamp_ms,
                    key: seen.key.as_deref(),
                    value: Some(&self.value),
                    instance: 0,
                };
                self.expander.expand(&record, &mut self.out);
                for item in self.out.iter_mut().skip(before) {
                    if let Item::Event(made) = item {
                        made.index_in_record = seen.index_in_record;
                    }
                }
            }
            Thawed::Bad(bad) => {
                if self.filter == Filter::default() && self.wanted(bad.partition, bad.offset, bad.timestamp_ms) {
                    self.out.push_back(Item::Bad(bad));
                }
            }
            Thawed::Gap(gap) => {
                if let Item::Gap { partition, from, .. } = &gap
                    && self.wanted(*partition, *from, None)
                {
                    self.out.push_back(gap);
                }
            }
            Thawed::StreamChanged => self.out.push_back(Item::StreamChanged),
            Thawed::Missing(item) => {
                let whole = self.partitions.is_empty() && self.from == From::Earliest;
                match &item {
                    Item::Missing { tenant, thread, .. }
                        if !self.filter.keeps_runs_whole() || !self.filter.wants(tenant, thread) => {}
                    _ if whole => self.out.push_back(item),
                    _ => self.missing = Some(item),
                }
            }
            // Found again by the ids of the events themselves.
            Thawed::Duplicate => {}
        }
        Ok(())
    }

    fn wanted(&self, partition: PartitionId, offset: Offset, timestamp_ms: Option<i64>) -> bool {
        let here = self.partitions.is_empty() || self.partitions.contains(&partition);
        here && match self.from {
            From::Earliest | From::Last(_) => true,
            From::Latest => false,
            From::Offset(from) => offset >= from,
            From::Time(from) => timestamp_ms.is_none_or(|time| time >= from),
        }
    }
}
