//! Reads spans back for one cold reader, over a connection of its own. What comes out is proven: coverage without a
//! hole from the wanted offset on, every entry with its checksum, stream and place.
//!
//! Two questions find out what there is (members around the offset, then their heads), the third fetches. Sizes are
//! known before anything is fetched, so that a reader holds no more than it was allowed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};

use super::RedisDown;
use super::cover::cover;
use super::entry::{HEAD_BYTES, Head, Place, decode};
use super::keys::{Keys, member, offset_of};
use super::legacy::Legacy;
use super::link::{Failure, Link, Pauses, bytes_of, members_of};
use crate::config::Config;
use crate::observe::stats::Stats;
use crate::replay::span::Span;
use crate::words::{Offset, PartitionId, StreamIdentity};

/// Entries below the wanted offset that are looked at: more hosts than this that cut in smaller pieces, with holes just
/// there, hide a larger entry, and Kafka serves.
const BEHIND: usize = 32;
/// And above it.
const AHEAD: usize = 128;
/// After a failure nobody tries for this long, so that readers do not wait again and again.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module. Owned by one thread.
pub struct RedisReader {
    link: Link,
    paused_until: Option<Instant>,
    keys: Keys,
    entry_bytes_max: u64,
    legacy: Option<Legacy>,
    config: Arc<Config>,
    stats: Arc<Stats>,
}

impl RedisReader {
    /// None when `replay.redis.url` is not set. Does not connect yet.
    pub fn new(config: Arc<Config>, stats: Arc<Stats>, stream: &StreamIdentity) -> Option<Self> {
        let link = Link::new(&config.replay.redis, Pauses { first: PAUSE, longest: PAUSE })?;
        let entry_bytes_max = config.redis_entry_bytes_max();
        let legacy = Legacy::new(&config, stream);
        Some(Self { link, paused_until: None, keys: Keys::new(stream), entry_bytes_max, legacy, config, stats })
    }

    /// From now on this is the stream.
    pub fn set_stream(&mut self, stream: &StreamIdentity) {
        self.keys = Keys::new(stream);
        self.legacy = Legacy::new(&self.config, stream);
    }

    /// Consecutive spans of `partition`: the first begins at `want`, each begins where the one before ends, and none
    /// goes beyond `until`. Together about `bytes_max`, and at least one entry, whatever its size.
    ///
    /// Empty when Redis does not have `want`, in which case it may have what comes later. `RedisDown` when it did not
    /// answer in `replay.redis.timeout`, refused, or did so within the last second; then nothing was waited for.
    pub fn read(
        &mut self,
        partition: PartitionId,
        want: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Span>, RedisDown> {
        if want >= until {
            return Ok(Vec::new());
        }
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return Err(RedisDown);
        }
        match self.try_read(partition, want, until, bytes_max as u64) {
            Ok(spans) => {
                self.paused_until = None;
                let redis = &self.stats.redis;
                if spans.is_empty() {
                    redis.misses.add(1)
                } else {
                    redis.hits.add(1)
                }
                Ok(spans)
            }
            Err(failure) => {
                self.stats.redis.errors.add(1);
                self.paused_until = Some(Instant::now() + PAUSE);
                if let Failure::Failed(why) = failure {
                    tracing::debug!(redis = self.link.address(), why, "Redis cannot be read");
                }
                Err(RedisDown)
            }
        }
    }

    fn try_read(
        &mut self,
        partition: PartitionId,
        want: Offset,
        until: Offset,
        bytes_max: u64,
    ) -> Result<Vec<Span>, Failure> {
        let heads = self.heads(partition, want, until)?;
        let chosen: Vec<Head> =
            cover(&heads, want, until, bytes_max).into_iter().filter_map(|place| heads.get(place).copied()).collect();
        let spans = self.spans(partition, &chosen, want, until)?;
        if !spans.is_empty() {
            return Ok(spans);
        }
        match &self.legacy {
            Some(legacy) => {
                let redis = &self.stats.redis;
                let mut ask = |commands: &mut Pipeline| {
                    believed(self.link.ask(commands, &|took| redis.read_latency_ms.observe(took))?)
                };
                Ok(legacy.read(&mut ask, partition, (want, until), bytes_max)?.into_iter().collect())
            }
            None => Ok(spans),
        }
    }

    /// The heads of the entries around `want`, those that are believed.
    fn heads(&mut self, partition: PartitionId, want: Offset, until: Offset) -> Result<Vec<Head>, Failure> {
        let index = self.keys.index(partition);
        let mut commands = Pipeline::new();
        commands.cmd("ZREVRANGEBYLEX").arg(&index).arg(format!("[{}", member(want))).arg("-");
        commands.arg("LIMIT").arg(0).arg(BEHIND);
        commands.cmd("ZRANGEBYLEX").arg(&index).arg(format!("({}", member(want))).arg(format!("({}", member(until)));
        commands.arg("LIMIT").arg(0).arg(AHEAD);
        let replies = self.ask(&mut commands)?;
        let [behind, ahead] = &replies[..] else { return Ok(Vec::new()) };
        let behind = members_of(behind);
        if behind.is_empty() {
            return Ok(Vec::new());
        }
        let members = behind.into_iter().chain(members_of(ahead)).filter_map(offset_of);
        let members: Vec<Offset> = members.collect();
        let mut commands = Pipeline::with_capacity(members.len());
        for from in &members {
            commands.cmd("GETRANGE").arg(self.keys.entry(partition, *from)).arg(0).arg(HEAD_BYTES - 1);
        }
        let replies = self.ask(&mut commands)?;
        let mut heads = Vec::with_capacity(members.len());
        for (from, reply) in members.iter().zip(&replies) {
            // Nothing where a member says that there is something: expired or evicted.
            let Some(bytes) = bytes_of(reply).filter(|bytes| !bytes.is_empty()) else { continue };
            let head = Head::read(bytes).ok().filter(|head| {
                head.partition == partition && head.from == *from && u64::from(head.bytes) <= self.entry_bytes_max
            });
            match head {
                Some(head) => heads.push(head),
                None => self.stats.redis.refused_entries.add(1),
            }
        }
        Ok(heads)
    }

    /// The entries of these heads, trimmed so that they follow each other. The first that is gone or refused ends it.
    fn spans(
        &mut self,
        partition: PartitionId,
        heads: &[Head],
        want: Offset,
        until: Offset,
    ) -> Result<Vec<Span>, Failure> {
        let mut commands = Pipeline::with_capacity(heads.len());
        for head in heads {
            // As much as the head said, whatever is there by now.
            commands.cmd("GETRANGE").arg(self.keys.entry(partition, head.from)).arg(0).arg(head.bytes - 1);
        }
        let replies = self.ask(&mut commands)?;
        let mut spans = Vec::with_capacity(heads.len());
        let mut at = want;
        for (head, reply) in heads.iter().zip(replies) {
            let Some(bytes) = bytes_of(&reply).filter(|bytes| !bytes.is_empty()) else { break };
            let place = Place { stream: self.keys.stream(), partition };
            let Ok(span) = decode(bytes, place, head.from) else {
                self.stats.redis.refused_entries.add(1);
                break;
            };
            let Some(span) = trimmed(span, at, until) else { break };
            at = span.next;
            spans.push(span);
        }
        Ok(spans)
    }

    fn ask(&mut self, commands: &mut Pipeline) -> Result<Vec<Value>, Failure> {
        believed(self.link.ask(commands, &|took| self.stats.redis.read_latency_ms.observe(took))?)
    }
}

/// One refusal is a refusal of all: what is left out would look as if it were not there.
fn believed(replies: Vec<super::link::Reply>) -> Result<Vec<Value>, Failure> {
    let all: Result<Vec<Value>, String> = replies.into_iter().collect();
    all.map_err(|code| Failure::Failed(format!("it refuses to be read ({code})")))
}

/// What of the span lies in `[at, until)`. None when it does not cover `at`, or is lost.
fn trimmed(mut span: Span, at: Offset, until: Offset) -> Option<Span> {
    if span.lost.is_some() || span.from > at || span.next <= at {
        return None;
    }
    span.from = at;
    span.next = span.next.min(until);
    span.records.retain(|record| span.from <= record.offset && record.offset < span.next);
    Some(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Outcome;
    use crate::replay::span::SpanRecord;
    use crate::words::GapReason;

    #[test]
    fn a_span_is_cut_to_what_is_asked_for() {
        let record = |offset| SpanRecord {
            offset: Offset(offset),
            timestamp_ms: None,
            outcome: Outcome::Delivered,
            value: Vec::new(),
        };
        let span =
            || Span { from: Offset(10), next: Offset(20), lost: None, records: [10, 12, 15, 19].map(record).to_vec() };
        let check = |at, until, expected: Option<(u64, u64, &[u64])>| {
            let cut = trimmed(span(), Offset(at), Offset(until));
            let offsets: Option<Vec<u64>> =
                cut.as_ref().map(|cut| cut.records.iter().map(|record| record.offset.0).collect());
            assert_eq!(cut.map(|cut| (cut.from.0, cut.next.0)), expected.map(|(from, next, _)| (from, next)));
            assert_eq!(offsets.as_deref(), expected.map(|(.., offsets)| offsets));
        };
        check(10, 100, Some((10, 20, &[10, 12, 15, 19])));
        check(11, 19, Some((11, 19, &[12, 15])));
        check(16, 17, Some((16, 17, &[])));
        check(20, 100, None);
        check(9, 100, None);
        let lost = Span { lost: Some(GapReason::Retention), records: Vec::new(), ..span() };
        assert_eq!(trimmed(lost, Offset(10), Offset(20)), None);
    }
}
