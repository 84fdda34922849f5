//! What the picture means: is the process alive, may it be sent clients, and what should a human know. Pure
//! functions of a [`Snapshot`] and of what happened lately; idle is healthy.
//!
//! Deliberately absent: thresholds anywhere else. `/health`, `/ready`, `/live` and the metrics ask here.

use super::snapshot::{Partition, Snapshot};
use super::stats::WorkerState;
use super::window::Recent;
use crate::config::{Assignment, DlqMode};

/// Reasons that are listed; the rest is counted. A topic of 1,024 partitions must not make a body of 1,024 lines.
const REASONS_MAX: usize = 20;
/// A share of undecodable records above 1 % is trouble …
const DECODE_ERROR_SHARE: (u64, u64) = (1, 100);
/// … once there are this many records to judge by.
const SAMPLE_MIN: u64 = 100;
/// Records that live clients lost within the window before an alert says so.
const DROPPED_ALERT_MIN: u64 = 10;
/// On top of three intervals: the time that one unanswered lag poll may take.
const ANSWER_GRACE_MS: u64 = 5_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Healthy,
    /// Something is wrong that will not pass by waiting, or records are being lost.
    Degraded,
    /// Kafka does not answer.
    Reconnecting,
    /// On the way to serving: no topic yet, no assignment yet, warming.
    Waiting,
    /// The process is ending in order.
    Stopping,
}

impl Status {
    pub const ALL: [Self; 5] = [Self::Healthy, Self::Degraded, Self::Reconnecting, Self::Waiting, Self::Stopping];

    pub fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Reconnecting => "reconnecting",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
        }
    }
}

/// The answer to "how are you", with everything that speaks against "healthy".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub status: Status,
    pub reasons: Vec<String>,
    /// What should page somebody, in one line.
    pub alert: Option<String>,
}

impl Snapshot {
    /// Every thread showed life within its limit.
    pub fn live(&self) -> bool {
        self.threads.iter().all(|thread| thread.age_ms <= thread.limit_ms)
    }

    /// May new clients be sent here: everything new reaches them. The reasons if not.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        reasons.extend(self.stopping.then(|| "the process is stopping".to_owned()));
        reasons.extend(self.waiting());
        reasons.extend(self.kafka_silent());
        reasons.extend(self.partitions.iter().filter_map(stopped));
        reasons.extend(self.stopped_partitions());
        if self.facts.dlq_mode == DlqMode::FailClosed {
            reasons.extend(self.dlq_topic_missing());
        }
        reasons.extend(self.stale_threads());
        if reasons.is_empty() { Ok(()) } else { Err(bounded(reasons)) }
    }

    pub fn verdict(&self, recent: &Recent) -> Verdict {
        let degraded = self.degraded(recent);
        let silent: Vec<String> = self.kafka_silent().into_iter().collect();
        let waiting = self.waiting();
        let status = if self.stopping {
            Status::Stopping
        } else if !degraded.is_empty() {
            Status::Degraded
        } else if !silent.is_empty() {
            Status::Reconnecting
        } else if !waiting.is_empty() {
            Status::Waiting
        } else {
            Status::Healthy
        };
        let reasons = bounded([degraded, silent, waiting].concat());
        Verdict { status, reasons, alert: self.alert(recent) }
    }

    /// What has to happen before anything can flow.
    fn waiting(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let stream = &self.stream;
        reasons.extend(stream.waiting_for.clone());
        if stream.identity.is_none() && stream.waiting_for.is_none() {
            reasons.push(format!("the identity of topic {} is not known yet", self.facts.topic));
        }
        if !stream.assigned {
            reasons.push("no partitions are assigned yet".to_owned());
        }
        if stream.assigned && self.facts.assignment == Assignment::All {
            let held = self.partitions.len() as u64;
            let missing = stream.partition_count.map_or(0, |count| u64::from(count).saturating_sub(held));
            if missing > 0 {
                reasons.push(format!("{missing} partitions of the topic are not read yet"));
            }
        }
        reasons.extend(self.partitions.iter().filter_map(|partition| {
            let end = partition.warming_until?;
            let next = partition.next.map_or_else(|| "nothing yet".to_owned(), |next| format!("up to {next}"));
            Some(format!("partition {} is warming: read {next} of {end}", partition.partition))
        }));
        reasons
    }

    /// Kafka gave no answer for longer than it takes to ask three times, or trouble is newer than its last answer.
    fn kafka_silent(&self) -> Option<String> {
        if self.stopping {
            return None;
        }
        let interval = self.facts.lag_check_interval_ms;
        let trouble = self.kafka.last_trouble_age_ms;
        let Some(answer) = self.kafka.last_answer_age_ms else {
            let waits = self.stream.identity.is_none() && trouble.is_some();
            return waits.then(|| "Kafka has not answered yet: see the log for the error".to_owned());
        };
        // Who holds nothing asks nothing.
        if self.partitions.is_empty() {
            return None;
        }
        let overdue = answer > interval.saturating_mul(3).saturating_add(ANSWER_GRACE_MS);
        let refused = trouble.is_some_and(|trouble| trouble < answer) && answer > interval.saturating_add(1_000);
        (overdue || refused).then(|| format!("Kafka has not answered for {} s", answer / 1_000))
    }

    fn degraded(&self, recent: &Recent) -> Vec<String> {
        let mut reasons = Vec::new();
        reasons.extend(self.partitions.iter().filter_map(stopped));
        reasons.extend(self.stopped_partitions());
        reasons.extend(self.stale_threads());
        if decode_errors_high(recent) && recent.counts.messages >= SAMPLE_MIN {
            reasons.push(format!(
                "{} of {} records of the last {} s could not be decoded",
                recent.counts.decode_errors,
                recent.counts.messages,
                recent.span_ms / 1_000
            ));
        }
        reasons.extend(self.dlq_topic_missing());
        if self.dlq.breaker_open {
            reasons.push("dead letters cannot be written: the breaker is open".to_owned());
        }
        if recent.counts.dead_letters_lost > 0 {
            reasons.push(format!("{} dead letters were lost lately", recent.counts.dead_letters_lost));
        }
        for partition in &self.partitions {
            if let Some(difference) = partition.balance.filter(|difference| *difference != 0) {
                reasons.push(format!("the books of partition {} are off by {difference}", partition.partition));
            }
        }
        reasons
    }

    fn stopped_partitions(&self) -> Vec<String> {
        let stopped = &self.stream.stopped;
        stopped.iter().map(|(partition, why)| format!("partition {partition} is stopped: {why}")).collect()
    }

    fn dlq_topic_missing(&self) -> Option<String> {
        let missing = self.dlq.topic_found == Some(false);
        missing.then(|| format!("the dead-letter topic {} does not exist", self.facts.dlq_topic))
    }

    fn stale_threads(&self) -> Vec<String> {
        let stale = self.threads.iter().filter(|thread| thread.age_ms > thread.limit_ms);
        stale
            .map(|thread| format!("thread {} gave no sign of life for {} s", thread.name, thread.age_ms / 1_000))
            .collect()
    }

    /// The predecessor's alert line, from the window only: what is over clears.
    fn alert(&self, recent: &Recent) -> Option<String> {
        let mut parts = Vec::new();
        let counts = &recent.counts;
        if counts.dropped > DROPPED_ALERT_MIN {
            parts.push(format!("WARNING: slow clients lost {} records in the last 2 minutes", counts.dropped));
        }
        if decode_errors_high(recent) {
            let level = if counts.messages >= SAMPLE_MIN { "CRITICAL" } else { "INFO" };
            let (errors, messages) = (counts.decode_errors, counts.messages);
            parts.push(format!("{level}: {errors} of {messages} records could not be decoded in the last 2 minutes"));
        }
        if counts.payload_missing > 0 {
            parts.push(format!("INFO: {} records without a value in the last 2 minutes", counts.payload_missing));
        }
        if counts.dead_letters_lost > 0 {
            parts.push(format!("CRITICAL: {} dead letters lost in the last 2 minutes", counts.dead_letters_lost));
        }
        (!parts.is_empty()).then(|| parts.join(" | "))
    }
}

fn decode_errors_high(recent: &Recent) -> bool {
    let (part, whole) = DECODE_ERROR_SHARE;
    recent.counts.decode_errors.saturating_mul(whole) > recent.counts.messages.saturating_mul(part)
}

/// A partition that stands still at a record, or that nobody reads.
fn stopped(partition: &Partition) -> Option<String> {
    let name = partition.partition;
    if let Some(paused) = partition.paused {
        let reason = paused.reason.map_or("unknown", |reason| reason.label());
        return Some(format!("partition {name} is paused at offset {}: {reason}", paused.at));
    }
    match partition.state {
        WorkerState::Paused => Some(format!("partition {name} is paused")),
        WorkerState::Stopped => Some(format!("partition {name} has no worker")),
        WorkerState::Waiting | WorkerState::Working | WorkerState::Sending | WorkerState::DeadLettering => None,
    }
}

fn bounded(mut reasons: Vec<String>) -> Vec<String> {
    let more = reasons.len().saturating_sub(REASONS_MAX);
    if more > 0 {
        reasons.truncate(REASONS_MAX);
        reasons.push(format!("and {more} more"));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, serving};
    use super::super::stats::Stats;
    use super::super::window::Tally;
    use super::*;
    use crate::words::PartitionId;

    /// A change to a serving process, the status that follows, whether it is ready, and a word of the reason.
    type Case = (&'static str, fn(&Stats), Status, bool, &'static str);

    const CASES: &[Case] = &[
        ("idle", |_| {}, Status::Healthy, true, ""),
        ("stopping", |s| s.stopping.set(1), Status::Stopping, false, "stopping"),
        (
            "no identity",
            |s| s.stream.write().expect("lock").identity = None,
            Status::Waiting,
            false,
            "identity of topic events",
        ),
        (
            "topic missing",
            |s| {
                let mut stream = s.stream.write().expect("lock");
                stream.identity = None;
                stream.waiting_for = Some("topic events does not exist yet".to_owned());
            },
            Status::Waiting,
            false,
            "does not exist yet",
        ),
        ("unassigned", |s| s.stream.write().expect("lock").assigned = false, Status::Waiting, false, "assigned"),
        (
            "a new partition",
            |s| s.stream.write().expect("lock").partition_count = Some(3),
            Status::Waiting,
            false,
            "1 partitions of the topic are not read yet",
        ),
        (
            "warming",
            |s| s.hold(PartitionId(1)).warm_until.set(Some(900)),
            Status::Waiting,
            false,
            "partition 1 is warming: read up to 500 of 900",
        ),
        (
            "paused",
            |s| {
                let held = s.hold(PartitionId(0));
                held.set_state(WorkerState::Paused);
                held.paused_at.set(Some(41));
                held.paused_reason.set(Some(3));
            },
            Status::Degraded,
            false,
            "partition 0 is paused at offset 41: invalid_protobuf",
        ),
        ("no worker", |s| s.hold(PartitionId(0)).set_state(WorkerState::Stopped), Status::Degraded, false, "no worker"),
        (
            "stopped by the assignment",
            |s| {
                let mut stream = s.stream.write().expect("lock");
                stream.stopped.insert(PartitionId(1), "the high watermark fell".to_owned());
            },
            Status::Degraded,
            false,
            "partition 1 is stopped: the high watermark fell",
        ),
        (
            "a thread hangs",
            |s| s.heartbeats.lock().expect("lock")[0].last_ms.set(1),
            Status::Degraded,
            false,
            "kafka-poll",
        ),
        ("brokers away", |s| s.kafka.lag_polled_at_ms.set(Some(900_000)), Status::Reconnecting, false, "100 s"),
        (
            "brokers just lost",
            |s| {
                s.kafka.lag_polled_at_ms.set(Some(985_000));
                s.kafka.last_trouble_at_ms.set(Some(990_000));
            },
            Status::Reconnecting,
            false,
            "15 s",
        ),
        ("trouble that is over", |s| s.kafka.last_trouble_at_ms.set(Some(900_000)), Status::Healthy, true, ""),
        ("books off", |s| s.hold(PartitionId(0)).consumed.add(2), Status::Degraded, true, "off by 2"),
        ("breaker", |s| s.dlq.breaker_open.set(1), Status::Degraded, true, "breaker"),
        ("dlq topic missing, fail_open", |s| s.dlq.topic_found.set(Some(0)), Status::Degraded, true, "events-dlq"),
        ("dlq topic not looked for yet", |s| s.dlq.topic_found.set(None), Status::Healthy, true, ""),
        ("lag is not a state", |s| s.hold(PartitionId(0)).lag_records.set(Some(1_000_000)), Status::Healthy, true, ""),
    ];

    fn quiet() -> Recent {
        Recent { span_ms: 120_000, ..Recent::default() }
    }

    #[test]
    fn every_state_has_its_status_its_readiness_and_its_reason() {
        for (name, change, status, ready, reason) in CASES {
            let stats = serving();
            change(&stats);
            let snapshot = Snapshot::take(&stats, &fixture::config(), fixture::NOW_MS);
            let verdict = snapshot.verdict(&quiet());
            assert_eq!(verdict.status, *status, "{name}: {verdict:?}");
            let answer = snapshot.ready();
            assert_eq!(answer.is_ok(), *ready, "{name}: {answer:?}");
            let all = [verdict.reasons, answer.err().unwrap_or_default()].concat().join("\n");
            assert!(all.contains(reason), "{name}: {all}");
            if *status == Status::Healthy {
                assert!(all.is_empty(), "{name}: {all}");
            }
        }
    }

    #[test]
    fn a_missing_dlq_topic_takes_readiness_only_under_fail_closed() {
        for (mode, ready) in [(DlqMode::FailOpen, true), (DlqMode::FailClosed, false)] {
            let (stats, mut config) = (serving(), fixture::config());
            config.dlq.mode = mode;
            stats.dlq.topic_found.set(Some(0));
            assert_eq!(Snapshot::take(&stats, &config, fixture::NOW_MS).ready().is_ok(), ready, "{mode:?}");
        }
    }

    #[test]
    fn a_share_of_the_partitions_is_enough_in_group_mode() {
        let (stats, mut config) = (serving(), fixture::config());
        config.kafka.assignment = Assignment::Group;
        stats.release(PartitionId(1));
        assert_eq!(Snapshot::take(&stats, &config, fixture::NOW_MS).ready(), Ok(()));
        stats.release(PartitionId(0));
        stats.kafka.lag_polled_at_ms.set(Some(1));
        assert_eq!(Snapshot::take(&stats, &config, fixture::NOW_MS).ready(), Ok(()), "nothing held, nothing asked");
    }

    #[test]
    fn liveness_is_heartbeats_and_nothing_else() {
        let stats = serving();
        stats.hold(PartitionId(0)).set_state(WorkerState::Stopped);
        stats.kafka.lag_polled_at_ms.set(Some(1));
        assert!(Snapshot::take(&stats, &fixture::config(), fixture::NOW_MS).live());
        assert!(!Snapshot::take(&stats, &fixture::config(), fixture::NOW_MS + 60_000).live());
    }

    #[test]
    fn decode_errors_are_judged_by_share_and_sample() {
        for (errors, messages, status, alert) in [
            (0, 0, Status::Healthy, None),
            (1, 99, Status::Healthy, Some("INFO")),
            (1, 100, Status::Healthy, None),
            (2, 100, Status::Degraded, Some("CRITICAL")),
            (100, 10_000, Status::Healthy, None),
            (101, 10_000, Status::Degraded, Some("CRITICAL")),
        ] {
            let mut recent = quiet();
            recent.counts = Tally { messages, decode_errors: errors, ..Tally::default() };
            let verdict = Snapshot::take(&serving(), &fixture::config(), fixture::NOW_MS).verdict(&recent);
            assert_eq!(verdict.status, status, "{errors} of {messages}");
            assert_eq!(verdict.alert.is_some(), alert.is_some(), "{errors} of {messages}: {verdict:?}");
            assert!(verdict.alert.unwrap_or_default().contains(alert.unwrap_or_default()));
        }
    }

    #[test]
    fn the_alert_joins_what_is_true_now() {
        let mut recent = quiet();
        recent.counts = Tally { dropped: 11, payload_missing: 1, dead_letters_lost: 2, ..Tally::default() };
        let verdict = Snapshot::take(&serving(), &fixture::config(), fixture::NOW_MS).verdict(&recent);
        let alert = verdict.alert.expect("three alerts");
        assert_eq!(alert.split(" | ").count(), 3, "{alert}");
        assert_eq!(verdict.status, Status::Degraded, "dead letters are being lost");
    }

    #[test]
    fn a_thousand_reasons_are_twenty_and_a_count() {
        let stats = serving();
        for partition in 0..1_024 {
            stats.hold(PartitionId(partition)).set_state(WorkerState::Stopped);
        }
        let reasons = Snapshot::take(&stats, &fixture::config(), fixture::NOW_MS).ready().expect_err("not ready");
        assert_eq!((reasons.len(), reasons.last().map(String::as_str)), (REASONS_MAX + 1, Some("and 1004 more")));
    }
}
