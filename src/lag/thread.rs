//! The lag thread: asks Kafka, with a client of its own, where all our partitions end; keeps the lag numbers; tells
//! shards that wait for a fresh watermark; and has a stuck partition assigned again.
//!
//! Deliberately absent: what lag means for readiness (`observe`), and assigning (`kafka::poll`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::arithmetic::{AgeFacts, Look, REPAIRS_MAX, StallWatch, Verdict, lag_ms, lag_records};
use super::retention;
use crate::config::{KafkaConfig, LagConfig};
use crate::kafka::client::{Purpose, client_config};
use crate::kafka::host::PollCommand;
use crate::kafka::manage::Manager;
use crate::kafka::offsets::{self, PartitionOffsets};
use crate::kafka::watch::{AskContext, BrokerWatch};
use crate::observe::stats::{PartitionStats, Stats, monotonic_ms};
use crate::words::{Offset, PartitionId};

/// Two questions are at least this far apart, however many resumes wait: they share the answer.
const ASK_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// One question; beyond it the lag is unknown.
const ASK_LIMIT: Duration = Duration::from_secs(3);
/// How often the thread looks at its stop flag.
const TURN: Duration = Duration::from_millis(100);
const HEARTBEAT_LIMIT_MS: u64 = 15_000;
/// How often the topic's retention is asked for while something is unread, and how long that may take: who waits for
/// a watermark waits for it too.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
const RETENTION_LIMIT: Duration = Duration::from_secs(1);

/// Asked of the lag thread. Bounded channel; one that is full holds a request that has not been begun, so a sender
/// that finds it full may drop its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LagRequest {
    /// A client's cursor is beyond our log: only a watermark asked for from now on can say whether that is the future.
    Refresh,
}

/// Where the partitions that we hold end, as Kafka said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Watermarks {
    /// Monotonic ms when the question was begun: whoever came before it may rely on the answer. 0 before the first.
    pub asked_at_ms: u64,
    /// A partition that Kafka did not answer for is absent; all of them are, when it did not answer in time.
    pub partitions: BTreeMap<PartitionId, PartitionOffsets>,
}

pub struct LagSetup {
    pub kafka: KafkaConfig,
    pub lag: LagConfig,
    pub stats: Arc<Stats>,
    pub requests: Receiver<LagRequest>,
    pub commands: Sender<PollCommand>,
    pub watermarks: Arc<ArcSwap<Watermarks>>,
    /// Called after every answer, also after one that says nothing: shards with waiting resumes wake up.
    pub on_published: Box<dyn Fn() + Send>,
    /// Called once when repairs do not help, with the reason: the process should end, non-zero.
    pub on_fatal: Box<dyn Fn(String) + Send>,
}

#[derive(Debug, thiserror::Error)]
#[error("the lag thread's Kafka client cannot be made: {0}")]
pub struct LagError(#[from] rdkafka::error::KafkaError);

pub struct Lag {
    setup: LagSetup,
    client: BaseConsumer<AskContext>,
    watched: BTreeMap<PartitionId, Watched>,
    /// As it was read last, and when; `None` while it is not known.
    retention_ms: Option<u64>,
    retention_asked: Option<Instant>,
    given_up: bool,
}

/// What is remembered of one partition between two answers.
#[derive(Default)]
struct Watched {
    stall: StallWatch,
    caught_up_at_ms: Option<u64>,
    high: Option<Offset>,
}

impl Lag {
    /// Fails only if librdkafka refuses the settings; no broker has to be there.
    pub fn new(setup: LagSetup) -> Result<Self, LagError> {
        let context = AskContext(BrokerWatch::new("lag", setup.stats.clone()));
        let client = BaseConsumer::from_config_and_context(&client_config(&setup.kafka, Purpose::Lag), context)?;
        Ok(Self { setup, client, watched: BTreeMap::new(), retention_ms: None, retention_asked: None, given_up: false })
    }

    /// The body of the thread.
    pub fn run(mut self, stop: &AtomicBool) {
        let heartbeat = self.setup.stats.heartbeat("lag", HEARTBEAT_LIMIT_MS);
        let mut asked: Option<Instant> = None;
        let mut refresh = false;
        while !stop.load(Ordering::Acquire) {
            heartbeat.beat();
            self.client.poll(Duration::ZERO);
            let now = Instant::now();
            let again = asked.map_or(now, |asked| asked + ASK_INTERVAL_MIN);
            let due = asked.map_or(now, |asked| asked + self.setup.lag.check_interval);
            let wake = if refresh { again } else { due };
            if now >= wake {
                asked = Some(now);
                // What is in the channel now came before the question, and is answered by it.
                self.setup.requests.try_iter().for_each(drop);
                refresh = false;
                self.ask();
                continue;
            }
            match self.setup.requests.recv_timeout(TURN.min(wake - now)) {
                Ok(LagRequest::Refresh) => refresh = true,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TURN.min(wake - now)),
            }
        }
        self.setup.stats.retire(&heartbeat);
    }

    fn ask(&mut self) {
        let held: Vec<(PartitionId, Arc<PartitionStats>)> = {
            let partitions = self.setup.stats.partitions.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            partitions.iter().map(|(partition, stats)| (*partition, stats.clone())).collect()
        };
        self.watched.retain(|partition, _| held.iter().any(|(other, _)| other == partition));
        let asked_at_ms = monotonic_ms();
        let started = Instant::now();
        let partitions: Vec<PartitionId> = held.iter().map(|(partition, _)| *partition).collect();
        let answer = if partitions.is_empty() {
            // Nothing is ours, so there is nothing to ask; who waits is told so.
            Ok(BTreeMap::new())
        } else {
            offsets::ends(self.client.client(), &self.setup.kafka.topic, &partitions, ASK_LIMIT)
        };
        let seconds = started.elapsed().as_secs_f64();
        let kafka = &self.setup.stats.kafka;
        let ends = match answer {
            Ok(ends) => {
                kafka.lag_poll_seconds_ok.observe(seconds);
                kafka.lag_polled_at_ms.set(Some(monotonic_ms()));
                ends
            }
            Err(error) => {
                kafka.lag_poll_seconds_failed.observe(seconds);
                kafka.lag_polls_failed.add(1);
                self.client.context().0.count(error.code());
                tracing::debug!("the lag is unknown: {error}");
                BTreeMap::new()
            }
        };
        for (partition, stats) in &held {
            self.judge(*partition, stats, ends.get(partition).copied(), asked_at_ms);
        }
        self.setup.watermarks.store(Arc::new(Watermarks { asked_at_ms, partitions: ends }));
        (self.setup.on_published)();
        if held.iter().any(|(_, stats)| stats.lag_records.get().is_some_and(|records| records > 0)) {
            self.ask_retention();
        }
    }

    /// Now and then: nothing that anybody waits for depends on it.
    fn ask_retention(&mut self) {
        if self.retention_asked.is_some_and(|asked| asked.elapsed() < RETENTION_INTERVAL) {
            return;
        }
        self.retention_asked = Some(Instant::now());
        let manager = Manager { client: self.client.client(), limit: RETENTION_LIMIT, turn: &|| true };
        let topic = &self.setup.kafka.topic;
        self.retention_ms = match manager.settings(std::slice::from_ref(topic)) {
            Ok(mut answers) => answers.remove(topic).and_then(Result::ok).and_then(|one| retention::by_time_ms(&one)),
            Err(error) => {
                tracing::debug!("the retention of the topic is unknown: {error}");
                None
            }
        };
    }

    fn judge(
        &mut self,
        partition: PartitionId,
        stats: &PartitionStats,
        ends: Option<PartitionOffsets>,
        asked_at_ms: u64,
    ) {
        let watched = self.watched.entry(partition).or_default();
        stats.low_watermark.set(ends.map(|ends| ends.low.0));
        stats.high_watermark.set(ends.map(|ends| ends.high.0));
        stats.last_stable.set(ends.map(|ends| ends.stable.0));
        // Read after the answer: a partition that moves meanwhile looks nearer, never further.
        let next = stats.next.get().map(Offset);
        let (Some(ends), Some(next)) = (ends, next) else {
            watched.stall.unknown();
            stats.lag_records.set(None);
            stats.lag_ms.set(None);
            stats.retention_margin_ms.set(None);
            return;
        };
        if watched.high.replace(ends.high).is_some_and(|before| ends.high < before) {
            tracing::warn!(partition = partition.0, high = ends.high.0, "the end of a partition went back");
            self.setup.commands.try_send(PollCommand::CheckIdentity).ok();
        }
        let records = lag_records(ends.stable, next);
        if records == 0 {
            watched.caught_up_at_ms = Some(asked_at_ms);
        }
        stats.lag_records.set(Some(records));
        stats.lag_ms.set(lag_ms(AgeFacts {
            lag_records: records,
            last_record_timestamp_ms: stats.last_record_timestamp_ms.get(),
            wall_clock_ms: wall_clock_ms(),
            caught_up_at_ms: watched.caught_up_at_ms,
            asked_at_ms,
        }));
        let last_record = stats.last_record_timestamp_ms.get();
        let margin = retention::margin_ms(self.retention_ms, records, last_record, wall_clock_ms());
        stats.retention_margin_ms.set(margin);
        if self.given_up || is_stopped(&self.setup.stats, partition) {
            return;
        }
        let look = Look {
            now_ms: monotonic_ms(),
            stable: ends.stable,
            next,
            progress: stats.consumed.get() + stats.warmed.get() + stats.delivered_bytes.get(),
            state: stats.state(),
        };
        let stall_timeout_ms = u64::try_from(self.setup.lag.stall_timeout.as_millis()).unwrap_or(u64::MAX);
        match watched.stall.look(look, stall_timeout_ms) {
            Verdict::Fine => {}
            Verdict::Repair => {
                tracing::warn!(partition = partition.0, next = next.0, behind = records, "stuck: assigned again");
                stats.stall_repairs.add(1);
                // Full means that the same was asked before.
                self.setup.commands.try_send(PollCommand::Reassign { partition }).ok();
            }
            Verdict::GiveUp => {
                self.given_up = true;
                (self.setup.on_fatal)(format!(
                    "partition {partition} is stuck at {next}, {records} behind, after {REPAIRS_MAX} repairs within an hour"
                ));
            }
        }
    }
}

/// Held back by more than its worker: it is known not to move.
fn is_stopped(stats: &Stats, partition: PartitionId) -> bool {
    stats.stream.read().unwrap_or_else(|poisoned| poisoned.into_inner()).stopped.contains_key(&partition)
}

/// Only to compare with Kafka's timestamps.
fn wall_clock_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
