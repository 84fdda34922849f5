//! The kafka-poll thread: waits for the topic, keeps the identity of the stream, decides which partitions are ours,
//! and commits. It keeps polling librdkafka whatever else happens; no single question blocks it for longer than
//! `Timings::ask`.
//!
//! Deliberately absent: records. They go from librdkafka's partition queues straight to the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client::{Purpose, client_config};
use super::context::GroupEvent;
use super::control::{Phase, PollControl};
use super::host::{PartitionHost, PollCommand};
use super::identity::{IdentityError, Topic};
use super::refusal::{Explainer, Refusal};
use super::session::{Answer, Around, Change, Keep, Origin, Session};
use super::watch::{AskContext, BrokerWatch};
use crate::config::{Assignment, KafkaConfig};
use crate::observe::stats::{PartitionStats, Stats};
use crate::words::{Offset, PartitionId};

/// How long kafka-poll may be busy with questions between two beats: a handful of [`Timings::ask`].
const HEARTBEAT_LIMIT_MS: u64 = 30_000;
/// The identity is looked at at least this often, whatever the discovery interval is.
const IDENTITY_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// Many workers may ask for a check at once, and go on asking while a topic is away.
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// Everything that the thread is given.
pub struct PollSetup {
    pub kafka: KafkaConfig,
    /// `log.warm_bytes` and `log.warm_age`: how much a restart reads again where no commit says it.
    pub warm_bytes: u64,
    pub warm_age: Duration,
    /// Written beside commits, for a human: which process it was.
    pub instance: String,
    pub stats: Arc<Stats>,
    pub commands: Receiver<PollCommand>,
    pub control: Arc<PollControl>,
    pub timings: Timings,
}

/// Waits that are not settings, because no operator could choose them better; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// One wait for librdkafka's events: how fast commands are seen.
    pub turn: Duration,
    /// One question to Kafka.
    pub ask: Duration,
    /// Between two tries of what failed.
    pub retry: Duration,
    /// All workers of one change together.
    pub stop: Duration,
    /// Waiting for a commit that is the last chance: before partitions are given back, and at the end.
    pub commit: Duration,
    /// A partition that ends below what was read, for this long, was truncated.
    pub truncated_after: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            turn: Duration::from_millis(20),
            ask: Duration::from_secs(2),
            retry: Duration::from_secs(1),
            stop: Duration::from_millis(500),
            commit: Duration::from_secs(2),
            truncated_after: Duration::from_secs(30),
        }
    }
}

impl PollSetup {
    /// The numbers of a partition that is ours, made if it was not.
    pub(super) fn partition_stats(&self, partition: PartitionId) -> Arc<PartitionStats> {
        self.stats.hold(partition)
    }

    pub(super) fn remove_partition_stats(&self, partition: PartitionId) {
        self.stats.release(partition);
    }

    fn say_waiting(&self, why: Option<String>) {
        let text = why.clone();
        if self.note_waiting(why) {
            match text {
                Some(why) => tracing::warn!("{why}"),
                None => tracing::info!("nothing is in the way any more"),
            }
        }
    }

    /// For `/ready`, without a line. True when it is news.
    fn note_waiting(&self, why: Option<String>) -> bool {
        let mut stream = self.stats.stream.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let news = stream.waiting_for != why;
        stream.waiting_for = why;
        news
    }

    fn say_topic(&self, topic: &Topic) {
        let mut stream = self.stats.stream.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        stream.identity = Some(topic.identity.clone());
        stream.partition_count = Some(topic.partition_count);
    }

    fn too_many(&self, topic: &Topic) -> Option<String> {
        let (count, max) = (topic.partition_count, self.kafka.partitions_max);
        (count > max).then(|| {
            format!(
                "topic {:?} has {count} partitions, more than kafka.partitions_max = {max}: raise it",
                self.kafka.topic
            )
        })
    }

    fn stop_asked(&self, stop: &AtomicBool) -> bool {
        stop.load(Ordering::Acquire) || self.control.phase() >= Phase::StopAsked
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the Kafka client cannot be made: {0}")]
pub struct PollError(#[from] rdkafka::error::KafkaError);

pub struct Poll {
    setup: PollSetup,
    host: Box<dyn PartitionHost>,
    probe: BaseConsumer<AskContext>,
    explainer: Explainer,
    epoch: u64,
    turn: usize,
}

/// How one stream ended for this thread.
enum Ended {
    Stopped,
    Changed(Change),
    /// More partitions than the queue budget was divided by: a new consumer for the same stream.
    Outgrown,
}

impl Poll {
    /// Fails only if librdkafka refuses the settings; no broker has to be there.
    pub fn new(setup: PollSetup, host: Box<dyn PartitionHost>) -> Result<Self, PollError> {
        let context = AskContext(BrokerWatch::new("probe", setup.stats.clone()));
        let probe = BaseConsumer::from_config_and_context(&client_config(&setup.kafka, Purpose::Probe), context)?;
        let explainer = Explainer::new(setup.kafka.security.clone());
        Ok(Self { setup, host, probe, explainer, epoch: 0, turn: 0 })
    }

    /// The body of the thread. Ends in order through [`PollControl`], or at once, without a commit, by `stop`.
    pub fn run(mut self, stop: &AtomicBool) {
        let heartbeat = self.setup.stats.heartbeat("kafka-poll", HEARTBEAT_LIMIT_MS);
        let beat = || heartbeat.beat();
        let mut known: Option<Origin> = None;
        while let Some((topic, waited)) = self.wait_for_topic(stop, &beat) {
            let counted = if waited { 0 } else { topic.partition_count };
            let origin = *known.get_or_insert(Origin { counted, truncated: false });
            match self.stream(topic, origin, stop, &beat) {
                Ended::Stopped => break,
                Ended::Outgrown => {}
                Ended::Changed(change) => {
                    known = Some(Origin { counted: 0, truncated: change == Change::Truncated });
                    self.setup.stats.kafka.stream_changes.add(1);
                    tracing::error!(reason = change.reason(), "the stream is another one now: everything begins anew");
                    self.host.stream_changed(change.reason());
                }
            }
        }
        self.setup.stats.retire(&heartbeat);
        self.setup.control.raise(Phase::WorkersStopped);
        if !stop.load(Ordering::Acquire) {
            // Nothing is left to commit here; the caller may still be flushing dead letters.
            while self.setup.control.phase() < Phase::CommitAsked && !stop.load(Ordering::Acquire) {
                self.probe.poll(self.setup.timings.turn);
            }
        }
        self.setup.control.raise(Phase::Ended);
    }

    fn around(&mut self) -> Around<'_> {
        Around {
            setup: &self.setup,
            host: &mut *self.host,
            probe: &self.probe,
            epoch: &mut self.epoch,
            turn: &mut self.turn,
        }
    }

    /// What was heard about the brokers, if that is why nobody answers.
    fn refusal(&mut self, error: &IdentityError) -> Option<Refusal> {
        if error.is_silence() { self.explainer.why(&self.probe.context().0) } else { None }
    }

    /// `None` when the process stops; else the topic, and whether it was seen not to exist.
    fn wait_for_topic(&mut self, stop: &AtomicBool, beat: &dyn Fn()) -> Option<(Topic, bool)> {
        let mut missing = false;
        loop {
            beat();
            if self.setup.stop_asked(stop) {
                return None;
            }
            let found = self.around().identify();
            // What is said about the brokers comes this way.
            self.probe.poll(self.setup.timings.turn);
            let why = match found {
                Ok(topic) => match self.setup.too_many(&topic) {
                    None => {
                        self.setup.say_waiting(None);
                        return Some((topic, missing));
                    }
                    Some(why) => why,
                },
                Err(error) => {
                    missing |= matches!(error, IdentityError::NoTopic(_));
                    match self.refusal(&error) {
                        // The client that met it has said so already.
                        Some(refusal) if refusal.precisely.is_none() && refusal.kind.needs_a_human() => {
                            self.setup.note_waiting(Some(refusal.to_string()));
                            String::new()
                        }
                        Some(refusal) => refusal.to_string(),
                        None => error.to_string(),
                    }
                }
            };
            if !why.is_empty() {
                self.setup.say_waiting(Some(why));
            }
            self.setup.stats.kafka.start_retries.add(1);
            let again = Instant::now() + self.setup.timings.retry;
            while Instant::now() < again && !self.setup.stop_asked(stop) {
                self.probe.poll(self.setup.timings.turn);
                // Nobody runs who could mean anything with it.
                self.setup.commands.try_iter().for_each(drop);
            }
        }
    }

    /// One stream with one consumer, until it ends.
    fn stream(&mut self, topic: Topic, origin: Origin, stop: &AtomicBool, beat: &dyn Fn()) -> Ended {
        self.setup.say_topic(&topic);
        tracing::info!(
            stream = topic.identity.name(),
            weak = topic.identity.is_weak(),
            partitions = topic.partition_count,
            "reading topic {:?}",
            self.setup.kafka.topic
        );
        self.host.topology(&topic.identity, topic.partition_count);
        let mut session = match Session::open(&self.around(), topic, origin) {
            Ok(session) => session,
            Err(error) => {
                // The probe was made of the same settings; only memory or threads can be missing.
                self.setup.say_waiting(Some(format!("the Kafka consumer cannot be made: {error}")));
                self.probe.poll(self.setup.timings.retry);
                return Ended::Outgrown;
            }
        };
        let ended = self.serve(&mut session, stop, beat);
        let mut around = self.around();
        match ended {
            Ended::Stopped => {}
            Ended::Changed(_) => {
                let all = all_partitions(session.topic.partition_count);
                session.remove(&mut around, &all, Keep::Place);
                self.forget_stream();
            }
            Ended::Outgrown => {
                let running = session.running();
                session.commit_now(&around, None, around.setup.timings.commit);
                session.remove(&mut around, &running, Keep::Place);
            }
        }
        ended
    }

    fn serve(&mut self, session: &mut Session, stop: &AtomicBool, beat: &dyn Fn()) -> Ended {
        let kafka = self.setup.kafka.clone();
        let identity_interval = kafka.discovery_interval.min(IDENTITY_INTERVAL_MAX);
        let begun = match kafka.assignment {
            Assignment::All => {
                session.add(&mut self.around(), &all_partitions(session.topic.partition_count), Answer::Own)
            }
            Assignment::Group => {
                if let Err(error) = session.consumer.subscribe(&[&kafka.topic]) {
                    self.setup.say_waiting(Some(format!("the topic cannot be subscribed to: {error}")));
                }
                Ok(())
            }
        };
        if let Err(change) = begun {
            return Ended::Changed(change);
        }
        let mut check_due = Instant::now() + identity_interval;
        let mut check_again = Instant::now();
        let mut wanted = false;
        let mut commit_due = Instant::now() + kafka.commit_interval;
        loop {
            beat();
            if stop.load(Ordering::Acquire) {
                session.stop_all(&mut self.around());
                return Ended::Stopped;
            }
            if self.setup.control.phase() >= Phase::StopAsked {
                self.end(session, stop, beat);
                return Ended::Stopped;
            }
            let strayed = session.serve(self.setup.timings.turn);
            self.probe.poll(Duration::ZERO);
            let mut asked = Asked::default();
            asked.reassign.extend(strayed);
            self.take_commands(&mut asked);
            let now = Instant::now();
            let commit = now >= commit_due;
            wanted |= asked.identity;
            if (wanted && now >= check_again) || commit || now >= check_due {
                wanted = false;
                check_due = now + identity_interval;
                check_again = now + CHECK_INTERVAL_MIN;
                match self.check(session) {
                    Checked::Same { grown } => {
                        if commit {
                            session.commit(&self.around(), None);
                        }
                        if session.topic.partition_count > session.budgeted {
                            return Ended::Outgrown;
                        }
                        if kafka.assignment == Assignment::All && !grown.is_empty() {
                            asked.add = grown;
                        }
                    }
                    Checked::Unknown => asked.unanswered = true,
                    Checked::Gone(why) => {
                        session.suspend(&mut self.around(), &why);
                        asked.unanswered = true;
                    }
                    Checked::Changed => return Ended::Changed(Change::Recreated),
                }
                if commit {
                    commit_due = now + kafka.commit_interval;
                }
            }
            session.settle(&self.around());
            if let Err(change) = self.apply(session, asked) {
                return Ended::Changed(change);
            }
        }
    }

    /// Every change of the assignment, whatever caused it.
    fn apply(&mut self, session: &mut Session, asked: Asked) -> Result<(), Change> {
        let mut around = self.around();
        for event in session.consumer.context().take_group_events() {
            around.setup.stats.kafka.rebalances.add(1);
            tracing::info!("the group decided: {event:?}");
            match event {
                GroupEvent::Assign(partitions) => session.add(&mut around, &partitions, Answer::Group)?,
                GroupEvent::Revoke { partitions, lost } => {
                    if !lost && around.identify().is_ok_and(|topic| topic.identity == session.topic.identity) {
                        session.commit_now(&around, Some(&partitions), around.setup.timings.commit);
                    }
                    session.remove(&mut around, &partitions, Keep::Nothing);
                }
            }
            mark_assigned(&around);
        }
        let running = session.running();
        let reassign: Vec<PartitionId> = asked.reassign.into_iter().filter(|one| running.contains(one)).collect();
        if !reassign.is_empty() {
            session.reassign(&mut around, &reassign)?;
        }
        if !asked.add.is_empty() {
            session.add(&mut around, &asked.add, Answer::Own)?;
        }
        if !asked.unanswered {
            session.retry(&mut around)?;
        }
        if around.setup.kafka.assignment == Assignment::All && !session.running().is_empty() {
            mark_assigned(&around);
        }
        Ok(())
    }

    fn take_commands(&mut self, asked: &mut Asked) {
        for command in self.setup.commands.try_iter() {
            match command {
                PollCommand::CheckIdentity => asked.identity = true,
                PollCommand::Reassign { partition } => {
                    tracing::warn!(partition = partition.0, "assigned again, because it does not move");
                    asked.reassign.insert(partition);
                }
                PollCommand::OutOfRange { partition, epoch, offset } => {
                    let Some(stats) = self.setup.stats.partition(partition) else { continue };
                    let next = stats.next.get().map(Offset);
                    if stats.epoch.get() != epoch || !counts(offset, next) {
                        continue;
                    }
                    let offset = offset.map(|offset| offset.0);
                    tracing::warn!(partition = partition.0, offset, "an offset is out of range");
                    asked.identity = true;
                    asked.reassign.insert(partition);
                }
            }
        }
    }

    /// Asks who the topic is now.
    fn check(&mut self, session: &mut Session) -> Checked {
        match self.around().identify() {
            Ok(topic) if topic.identity != session.topic.identity => Checked::Changed,
            Ok(topic) => {
                let (before, now) = (session.topic.partition_count, topic.partition_count);
                if now <= before {
                    self.setup.say_waiting(None);
                    return Checked::Same { grown: Vec::new() };
                }
                if let Some(why) = self.setup.too_many(&topic) {
                    // The partitions that we have go on.
                    self.setup.say_waiting(Some(why));
                    return Checked::Same { grown: Vec::new() };
                }
                self.setup.say_waiting(None);
                tracing::info!(before, now, "the topic has new partitions");
                self.setup.say_topic(&topic);
                self.host.topology(&topic.identity, now);
                session.topic = topic;
                Checked::Same { grown: (before..now).map(PartitionId).collect() }
            }
            Err(error) => {
                let why = error.to_string();
                self.setup.say_waiting(Some(why.clone()));
                if matches!(error, IdentityError::NoTopic(_)) { Checked::Gone(why) } else { Checked::Unknown }
            }
        }
    }

    /// The ordered end: see `control`.
    fn end(&mut self, session: &mut Session, stop: &AtomicBool, beat: &dyn Fn()) {
        session.stop_all(&mut self.around());
        self.setup.control.raise(Phase::WorkersStopped);
        while self.setup.control.phase() < Phase::CommitAsked {
            beat();
            if stop.load(Ordering::Acquire) {
                return;
            }
            session.serve(self.setup.timings.turn);
            session.settle(&self.around());
        }
        if matches!(self.check(session), Checked::Same { .. }) {
            let limit = self.setup.timings.commit;
            session.commit_now(&self.around(), None, limit);
        }
        // Closing the clients may take longer than anybody waits for it.
        self.setup.control.raise(Phase::Ended);
    }

    fn forget_stream(&self) {
        let mut stream = self.setup.stats.stream.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        stream.identity = None;
        stream.partition_count = None;
        stream.assigned = false;
        stream.stopped.clear();
        drop(stream);
        self.setup.stats.release_all();
    }
}

/// What the commands of one turn ask for together.
#[derive(Default)]
struct Asked {
    /// Kafka did not answer just now: nothing more is asked in this turn.
    unanswered: bool,
    identity: bool,
    reassign: std::collections::BTreeSet<PartitionId>,
    add: Vec<PartitionId>,
}

enum Checked {
    Same {
        grown: Vec<PartitionId>,
    },
    /// Kafka did not say.
    Unknown,
    /// The topic does not exist now.
    Gone(String),
    Changed,
}

/// An error at an offset below what was read since is an old one; an offset that librdkafka could not name counts.
fn counts(offset: Option<Offset>, next: Option<Offset>) -> bool {
    match (offset, next) {
        (Some(offset), Some(next)) => offset >= next,
        _ => true,
    }
}

fn all_partitions(count: u32) -> Vec<PartitionId> {
    (0..count).map(PartitionId).collect()
}

fn mark_assigned(around: &Around<'_>) {
    let stats = &around.setup.stats;
    if !stats.stream.read().unwrap_or_else(|poisoned| poisoned.into_inner()).assigned {
        stats.stream.write().unwrap_or_else(|poisoned| poisoned.into_inner()).assigned = true;
    }
}

#[cfg(test)]
#[path = "poll_tests.rs"]
mod tests;
