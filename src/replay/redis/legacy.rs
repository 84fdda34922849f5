//! Reads what the predecessor left in Redis, so that clients can go on across the change. Only its keys by partition
//! and offset are read: each is one record and proves nothing but itself, so coverage lasts while consecutive offsets
//! are there.
//!
//! Its names hold the topic, the group and the brokers as they were configured, and no incarnation of the topic: it
//! serves an older topic of the same name without noticing. That is why this is off unless asked for.
//!
//! Deliberately absent: its indexes, whose scores are floating point numbers, its keys by thread, and writing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{Pipeline, Value};

use super::link::{Failure, bytes_of, number_of};
use crate::config::Config;
use crate::log::Outcome;
use crate::replay::span::{Span, SpanRecord};
use crate::words::{Offset, PartitionId, StreamIdentity};

/// Offsets looked at in one go.
const WINDOW: u64 = 256;

/// The names under which the predecessor may have written this topic.
pub struct Legacy {
    prefixes: Vec<String>,
    payload_max_bytes: u64,
}

impl Legacy {
    /// None unless `replay.redis.read_legacy` is set.
    pub fn new(config: &Config, stream: &StreamIdentity) -> Option<Self> {
        config.replay.redis.read_legacy.then(|| Self {
            prefixes: prefixes(&config.kafka.topic, &config.kafka.group_id, &config.kafka.brokers, &stream.cluster_id),
            payload_max_bytes: config.kafka.payload_max_bytes,
        })
    }

    /// One span from `want` on, as far as every offset is there. None when the first is not.
    pub(super) fn read(
        &self,
        ask: &mut dyn FnMut(&mut Pipeline) -> Result<Vec<Value>, Failure>,
        partition: PartitionId,
        (want, until): (Offset, Offset),
        bytes_max: u64,
    ) -> Result<Option<Span>, Failure> {
        let offsets = want.0..until.0.min(want.0.saturating_add(WINDOW));
        for prefix in &self.prefixes {
            let key = |offset: u64| format!("{prefix}:partition:{partition}:offset:{offset}");
            let mut commands = Pipeline::new();
            for offset in offsets.clone() {
                commands.cmd("STRLEN").arg(key(offset));
            }
            let lengths = ask(&mut commands)?;
            let lengths = self.consecutive(lengths.iter().map(number_of), bytes_max);
            let mut commands = Pipeline::new();
            for (offset, length) in offsets.clone().zip(&lengths) {
                commands.cmd("GETRANGE").arg(key(offset)).arg(0).arg(length - 1);
            }
            let values = ask(&mut commands)?;
            let mut records = Vec::with_capacity(lengths.len());
            for ((offset, length), value) in offsets.clone().zip(&lengths).zip(&values) {
                // Expired in between.
                let Some(value) = bytes_of(value).filter(|value| value.len() as u64 == *length) else { break };
                let (offset, value) = (Offset(offset), value.to_vec());
                records.push(SpanRecord { offset, timestamp_ms: None, outcome: Outcome::Delivered, value });
            }
            if !records.is_empty() {
                let next = Offset(want.0 + records.len() as u64);
                return Ok(Some(Span { from: want, next, lost: None, records }));
            }
        }
        Ok(None)
    }

    /// Lengths up to the first offset that is not there, or whose value would be too much. One is never too much.
    fn consecutive(&self, lengths: impl Iterator<Item = Option<u64>>, bytes_max: u64) -> Vec<u64> {
        let mut kept = Vec::new();
        let mut bytes = 0;
        for length in lengths.map(Option::unwrap_or_default) {
            bytes += length;
            if length == 0 || length > self.payload_max_bytes || (!kept.is_empty() && bytes > bytes_max) {
                break;
            }
            kept.push(length);
        }
        kept
    }
}

/// With and without the id of the cluster, which an operator could name by hand; what they named is the id as a rule.
fn prefixes(topic: &str, group: &str, brokers: &str, cluster: &str) -> Vec<String> {
    let mut brokers: Vec<&str> = brokers.split(',').map(str::trim).filter(|broker| !broker.is_empty()).collect();
    brokers.sort_unstable();
    let plain = format!("topic={topic};group={group};brokers={}", brokers.join(","));
    let name = |version: &str, raw: &str| format!("dashstream-replay:{version}_{}", URL_SAFE_NO_PAD.encode(raw));
    vec![name("v2", &format!("cluster={cluster};{plain}")), name("v1", &plain)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_predecessors() {
        let names = prefixes("quality", "ws-v4", "b:2, a:1,,", "abc");
        let raw = |name: &str| {
            let (_, encoded) = name.split_once('_').expect("a version");
            String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).expect("base64")).expect("text")
        };
        assert!(names[0].starts_with("dashstream-replay:v2_") && names[1].starts_with("dashstream-replay:v1_"));
        assert_eq!(raw(&names[0][18..]), "cluster=abc;topic=quality;group=ws-v4;brokers=a:1,b:2");
        assert_eq!(raw(&names[1][18..]), "topic=quality;group=ws-v4;brokers=a:1,b:2");
    }

    #[test]
    fn coverage_ends_at_the_first_offset_that_is_not_there() {
        let legacy = Legacy { prefixes: Vec::new(), payload_max_bytes: 50 };
        let check = |lengths: &[u64], bytes_max, expected: &[u64]| {
            assert_eq!(legacy.consecutive(lengths.iter().copied().map(Some), bytes_max), expected);
        };
        check(&[3, 4, 0, 5], 1_000, &[3, 4]);
        check(&[0, 4], 1_000, &[]);
        check(&[30, 30, 30], 60, &[30, 30]);
        check(&[30, 30], 1, &[30]);
        check(&[51, 3], 1_000, &[]);
    }
}
