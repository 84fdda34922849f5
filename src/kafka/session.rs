//! One consumer reading one stream: how partitions are added, removed, repaired and committed. Runs on the
//! kafka-poll thread, which decides when.
//!
//! A partition is added by [`Session::add`] and removed by [`Session::remove`], whatever the cause: discovery, the
//! group, a watchdog, an offset out of range. The order inside them is what keeps records from being lost:
//! split before assign; and stop, unassign, discard, destroy before the same partition is assigned again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};

use super::admin::AskError;
use super::client::{Purpose, client_config};
use super::commit::CommitBook;
use super::commit_queue::CommitQueue;
use super::context::StreamContext;
use super::host::{PartitionHost, PartitionStart, Stopped};
use super::identity::{IdentityError, Topic, identify};
use super::metadata::CommitNote;
use super::offsets::{self, Committed, PartitionOffsets};
use super::poll::{PollSetup, Timings};
use super::queue::PartitionQueue;
use super::start::{self, Begin, Facts, Warm};
use super::watch::{AskContext, BrokerWatch};
use crate::observe::stats::{PartitionStats, Stats, monotonic_ms, wall_clock_ms};
use crate::words::{Offset, PartitionId};

/// Smaller records than this are rare; it turns the byte budget of a warm start into a number of records where
/// nobody knows their sizes.
const WARM_RECORD_BYTES: u64 = 256;

/// Why the stream cannot go on as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// The topic was deleted and made again, or another cluster answers.
    Recreated,
    /// A partition ended below what was read, and did not come back.
    Truncated,
}

impl Change {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Recreated => "topic_recreated",
            Self::Truncated => "truncated",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Client(#[from] KafkaError),
    #[error(transparent)]
    Queue(#[from] AskError),
}

/// What happens to a partition's place in the process when it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    /// It comes back at once: its log and its numbers stay.
    Place,
    /// It is no longer ours.
    Nothing,
}

/// How the stream came to us. Survives a change of the consumer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Origin {
    /// Partitions that were there when we began; the others appeared while we were watching. 0 when the topic itself
    /// did.
    pub(super) counted: u32,
    /// It follows upon a truncation.
    pub(super) truncated: bool,
}

/// Whether somebody waits for the assignment call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Own,
    Group,
}

/// A partition that is to be added and could not be yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    due: Instant,
    /// Since when Kafka has said that it ends below what was read.
    beyond_since: Option<Instant>,
}

pub(super) struct Session {
    /// Before the consumer that it belongs to.
    commits: CommitQueue<StreamContext>,
    pub(super) consumer: Arc<BaseConsumer<StreamContext>>,
    pub(super) topic: Topic,
    /// Partitions that the queue budget was divided by.
    pub(super) budgeted: u32,
    /// The name of the stream's identity.
    stream: String,
    origin: Origin,
    running: BTreeSet<PartitionId>,
    pending: BTreeMap<PartitionId, Pending>,
    /// When each was last assigned again: an error that repairing does not mend must not become a busy loop.
    repaired: BTreeMap<PartitionId, Instant>,
    /// Their workers did not stop in time; until they do, they are not assigned again.
    late: BTreeSet<PartitionId>,
    book: CommitBook,
}

/// What the session works with and does not own.
pub(super) struct Around<'a> {
    pub(super) setup: &'a PollSetup,
    pub(super) host: &'a mut dyn PartitionHost,
    pub(super) probe: &'a BaseConsumer<AskContext>,
    pub(super) epoch: &'a mut u64,
    pub(super) turn: &'a mut usize,
}

impl Around<'_> {
    fn stats(&self) -> &Stats {
        &self.setup.stats
    }

    fn timings(&self) -> &Timings {
        &self.setup.timings
    }

    pub(super) fn identify(&mut self) -> Result<Topic, IdentityError> {
        *self.turn = self.turn.wrapping_add(1);
        self.stats().kafka.identity_checks.add(1);
        let result = identify(self.probe.client(), &self.setup.kafka.topic, *self.turn, self.timings().ask);
        if let Err(error) = &result {
            self.probe.context().0.count(error.code());
        } else {
            self.probe.context().0.heard_well();
        }
        result
    }

    fn ask<T>(&self, result: Result<T, AskError>) -> Result<T, AskError> {
        result.inspect_err(|error| {
            self.probe.context().0.count(error.code());
        })
    }

    /// In words for a human, while it holds.
    pub(super) fn say_stopped(&self, partition: PartitionId, why: Option<String>) {
        let mut stream = self.stats().stream.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        match why {
            Some(why) => {
                if stream.stopped.get(&partition) != Some(&why) {
                    tracing::warn!(partition = partition.0, "partition is stopped: {why}");
                    stream.stopped.insert(partition, why);
                }
            }
            None => {
                if stream.stopped.remove(&partition).is_some() {
                    tracing::info!(partition = partition.0, "partition is no longer held back");
                }
            }
        }
    }
}

impl Session {
    pub(super) fn open(around: &Around<'_>, topic: Topic, origin: Origin) -> Result<Self, OpenError> {
        let setup = around.setup;
        let budgeted = topic.partition_count.next_power_of_two().min(setup.kafka.partitions_max).max(1);
        let config = client_config(&setup.kafka, Purpose::Stream { partitions: budgeted });
        let context = StreamContext::new(BrokerWatch::new("stream", setup.stats.clone()));
        let consumer = Arc::new(BaseConsumer::from_config_and_context(&config, context)?);
        Ok(Self {
            commits: CommitQueue::new(consumer.clone())?,
            consumer,
            stream: topic.identity.name(),
            topic,
            budgeted,
            origin,
            running: BTreeSet::new(),
            pending: BTreeMap::new(),
            repaired: BTreeMap::new(),
            late: BTreeSet::new(),
            book: CommitBook::default(),
        })
    }

    /// Adds partitions as soon as possible: those that cannot be started now are tried again. The identity is checked
    /// first, so that nothing begins in a topic that has taken the place of ours. `Answer::Group` is given even if
    /// nothing could be started, because the group waits for it.
    pub(super) fn add(
        &mut self,
        around: &mut Around<'_>,
        partitions: &[PartitionId],
        answer: Answer,
    ) -> Result<(), Change> {
        let now = Instant::now();
        let fresh = partitions.iter().filter(|partition| !self.running.contains(partition));
        let fresh: Vec<PartitionId> = fresh.copied().collect();
        for partition in &fresh {
            self.pending.entry(*partition).or_insert(Pending { due: now, beyond_since: None });
        }
        let ready: Vec<PartitionId> = fresh.into_iter().filter(|partition| !self.late.contains(partition)).collect();
        if ready.is_empty() {
            self.assign(&TopicPartitionList::new(), answer);
            return Ok(());
        }
        let why = match around.identify() {
            Ok(topic) if topic.identity != self.topic.identity => return Err(Change::Recreated),
            Ok(_) => match self.gather(around, &ready) {
                Ok(gathered) => return self.start(around, gathered, answer),
                // A coordinator that refuses us is met by the client alone; the question only ends without an answer.
                Err(error) => match self.consumer.context().watch.heard() {
                    Some(heard) if heard.kind.needs_a_human() => heard.to_string(),
                    _ => error.to_string(),
                },
            },
            Err(error) => error.to_string(),
        };
        self.postpone(around, &ready, &why);
        self.assign(&TopicPartitionList::new(), answer);
        Ok(())
    }

    /// Assigns partitions again where their logs end; one that was repaired just now waits a little.
    pub(super) fn reassign(&mut self, around: &mut Around<'_>, partitions: &[PartitionId]) -> Result<(), Change> {
        self.remove(around, partitions, Keep::Place);
        let now = Instant::now();
        for partition in partitions {
            let again = self.repaired.insert(*partition, now).map_or(now, |last| last + around.timings().retry);
            self.pending.insert(*partition, Pending { due: again, beyond_since: None });
        }
        self.retry(around)
    }

    /// The topic is gone: nothing is read until it is there again, and then only if it is the same.
    pub(super) fn suspend(&mut self, around: &mut Around<'_>, why: &str) {
        let running = self.running();
        if running.is_empty() {
            return;
        }
        self.remove(around, &running, Keep::Place);
        for partition in &running {
            self.pending.insert(*partition, Pending { due: Instant::now(), beyond_since: None });
        }
        self.postpone(around, &running, why);
    }

    /// Tries again what could not be added.
    pub(super) fn retry(&mut self, around: &mut Around<'_>) -> Result<(), Change> {
        for (partition, queue) in around.host.reap() {
            finish_queue(queue);
            self.late.remove(&partition);
        }
        let now = Instant::now();
        let due =
            self.pending.iter().filter(|(partition, pending)| pending.due <= now && !self.late.contains(*partition));
        let due: Vec<PartitionId> = due.map(|(partition, _)| *partition).collect();
        if due.is_empty() { Ok(()) } else { self.add(around, &due, Answer::Own) }
    }

    pub(super) fn running(&self) -> Vec<PartitionId> {
        self.running.iter().copied().collect()
    }

    fn postpone(&mut self, around: &Around<'_>, partitions: &[PartitionId], why: &str) {
        let due = Instant::now() + around.timings().retry;
        for partition in partitions {
            if let Some(pending) = self.pending.get_mut(partition) {
                pending.due = due;
            }
            around.say_stopped(*partition, Some(why.to_owned()));
        }
    }

    /// Everything that the plans need, for all partitions in as many requests as there are questions.
    fn gather(&self, around: &Around<'_>, partitions: &[PartitionId]) -> Result<Vec<Gathered>, AskError> {
        let (topic, limit) = (&around.setup.kafka.topic, around.timings().ask);
        let ends = around.ask(offsets::ends(around.probe.client(), topic, partitions, limit))?;
        let mut committed = around.ask(offsets::committed(&self.consumer, topic, partitions, limit))?;
        self.consumer.context().watch.heard_well();
        let notes: BTreeMap<PartitionId, (Offset, Option<CommitNote>)> = partitions
            .iter()
            .filter_map(|partition| {
                let commit = committed.remove(partition)?;
                Some((*partition, (commit.next, CommitNote::parse(&commit.metadata))))
            })
            .collect();
        let unwarmed = |partition: &PartitionId| {
            let noted = |(_, note): &(Offset, Option<CommitNote>)| note.as_ref().is_none_or(|n| n.warm_from.is_none());
            around.host.log_next(*partition).is_none() && notes.get(partition).is_some_and(noted)
        };
        let aged: Vec<PartitionId> = partitions.iter().copied().filter(unwarmed).collect();
        let by_age = if aged.is_empty() {
            BTreeMap::new()
        } else {
            let since = wall_clock_ms().saturating_sub(around.setup.warm_age.as_millis() as i64);
            around.ask(offsets::at_time(around.probe.client(), topic, &aged, since, limit))?
        };
        let gathered = partitions.iter().map(|partition| Gathered {
            partition: *partition,
            ends: ends.get(partition).copied(),
            committed: notes.get(partition).cloned(),
            by_age: by_age.get(partition).copied(),
        });
        Ok(gathered.collect())
    }

    fn start(&mut self, around: &mut Around<'_>, gathered: Vec<Gathered>, answer: Answer) -> Result<(), Change> {
        let now = Instant::now();
        let mut list = TopicPartitionList::with_capacity(gathered.len());
        let mut started = Vec::with_capacity(gathered.len());
        for one in gathered {
            let partition = one.partition;
            let Some(ends) = one.ends else {
                self.postpone(around, &[partition], "its leader does not say where it begins and ends");
                continue;
            };
            let facts = Facts {
                stream: &self.stream,
                committed: one.committed.clone(),
                low: ends.low,
                high: ends.high,
                log_next: around.host.log_next(partition),
                begin: self.begin(around, partition),
                warm: Warm { by_age: one.by_age, records_max: self.warm_records_max(around) },
                truncated: self.origin.truncated,
            };
            let plan = match start::plan(&facts) {
                Ok(plan) => plan,
                Err(beyond) => {
                    let why = format!(
                        "Kafka ends at {}, but {} was already read; waiting for the brokers to recover it",
                        beyond.high, beyond.next
                    );
                    self.postpone(around, &[partition], &why);
                    let pending = self.pending.get_mut(&partition);
                    let since = pending.map_or(now, |pending| *pending.beyond_since.get_or_insert(now));
                    if now.duration_since(since) >= around.timings().truncated_after {
                        return Err(Change::Truncated);
                    }
                    continue;
                }
            };
            let queue = match PartitionQueue::split(&self.consumer, &around.setup.kafka.topic, partition) {
                Ok(queue) => queue,
                Err(error) => {
                    self.postpone(around, &[partition], &error.to_string());
                    continue;
                }
            };
            *around.epoch += 1;
            let epoch = *around.epoch;
            let same = |note: &CommitNote| note.stream == self.stream;
            if let Some((committed, note)) = &one.committed {
                let ours = note.as_ref().is_some_and(same);
                let counts = ours || note.is_none();
                let floor = counts.then_some(*committed).filter(|_| !self.origin.truncated);
                self.book.track(partition, floor, ours, monotonic_ms());
            } else {
                self.book.track(partition, None, false, monotonic_ms());
            }
            let stats = around.setup.partition_stats(partition);
            if stats.epoch.get() == 0 {
                stats.catch_up_to.set(Some(ends.stable.0));
            }
            stats.epoch.set(epoch);
            stats.low_watermark.set(Some(ends.low.0));
            stats.high_watermark.set(Some(ends.high.0));
            stats.last_stable.set(Some(ends.stable.0));
            stats.warm_until.set((plan.from < plan.live_from).then_some(plan.live_from.0));
            tracing::info!(
                partition = partition.0,
                epoch,
                from = plan.from.0,
                live_from = plan.live_from.0,
                low = ends.low.0,
                high = ends.high.0,
                "partition begins"
            );
            if let Some((first, last, reason)) = plan.lost {
                let (first, last) = (first.0, last.0);
                tracing::error!(partition = partition.0, first, last, reason = reason.label(), "records are lost");
            }
            let offset = KafkaOffset::Offset(plan.from.to_kafka());
            around.host.start(PartitionStart { partition, epoch, queue, plan });
            if list.add_partition_offset(&around.setup.kafka.topic, partition.to_kafka(), offset).is_ok() {
                started.push(partition);
            }
        }
        if self.assign(&list, answer) {
            for partition in started {
                self.pending.remove(&partition);
                self.running.insert(partition);
                around.say_stopped(partition, None);
            }
        } else {
            self.stop(around, &started);
            self.postpone(around, &started, "the client library refused the assignment");
        }
        Ok(())
    }

    fn assign(&self, list: &TopicPartitionList, answer: Answer) -> bool {
        if answer == Answer::Own && list.count() == 0 {
            return true;
        }
        let result = self.consumer.incremental_assign(list);
        if let Err(error) = &result {
            tracing::warn!("assigning {} partitions: {error}", list.count());
        }
        result.is_ok()
    }

    fn begin(&self, around: &Around<'_>, partition: PartitionId) -> Begin {
        if partition.0 >= self.origin.counted {
            Begin::Discovered
        } else {
            Begin::Configured(around.setup.kafka.auto_offset_reset)
        }
    }

    fn warm_records_max(&self, around: &Around<'_>) -> u64 {
        around.setup.warm_bytes / u64::from(self.topic.partition_count.max(1)) / WARM_RECORD_BYTES
    }

    /// Takes partitions out of the assignment. Always answers the group.
    pub(super) fn remove(&mut self, around: &mut Around<'_>, partitions: &[PartitionId], keep: Keep) {
        let (held, waiting): (Vec<PartitionId>, Vec<PartitionId>) =
            partitions.iter().partition(|partition| self.running.contains(partition));
        for partition in &waiting {
            self.pending.remove(partition);
            around.say_stopped(*partition, None);
        }
        let queues = self.stop_workers(around, &held);
        let mut list = TopicPartitionList::with_capacity(held.len());
        for partition in &held {
            list.add_partition(&around.setup.kafka.topic, partition.to_kafka());
            self.running.remove(partition);
        }
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::warn!("unassigning {} partitions: {error}", held.len());
        }
        // After unassigning, so that nothing more comes in; before anything is assigned again, because what is
        // queued would survive that.
        queues.into_iter().for_each(finish_queue);
        if keep == Keep::Nothing {
            for partition in partitions {
                self.book.forget(*partition);
                around.setup.remove_partition_stats(*partition);
                around.host.lost(*partition);
            }
        }
    }

    /// Stops all workers for good; the assignment stays, so that the group is not disturbed twice.
    pub(super) fn stop_all(&mut self, around: &mut Around<'_>) {
        self.pending.clear();
        let running = self.running();
        let queues = self.stop_workers(around, &running);
        queues.into_iter().for_each(finish_queue);
    }

    fn stop(&mut self, around: &mut Around<'_>, partitions: &[PartitionId]) {
        let queues = self.stop_workers(around, partitions);
        queues.into_iter().for_each(finish_queue);
    }

    fn stop_workers(&mut self, around: &mut Around<'_>, partitions: &[PartitionId]) -> Vec<PartitionQueue> {
        if partitions.is_empty() {
            return Vec::new();
        }
        let mut queues = Vec::with_capacity(partitions.len());
        let limit = around.timings().stop;
        for (partition, stopped) in around.host.stop(partitions, limit) {
            match stopped {
                Stopped::Ended(queue) => queues.push(queue),
                Stopped::Late => {
                    tracing::warn!(partition = partition.0, "its worker did not stop in time and is fenced");
                    self.late.insert(partition);
                }
                Stopped::NotRunning => {}
            }
        }
        queues
    }

    /// Commits what is due, if nothing is on its way. The caller has just checked the identity.
    pub(super) fn commit(&mut self, around: &Around<'_>, only: Option<&[PartitionId]>) -> bool {
        let stats: BTreeMap<PartitionId, Arc<PartitionStats>> = self
            .running
            .iter()
            .filter(|partition| only.is_none_or(|only| only.contains(partition)))
            .filter_map(|partition| Some((*partition, around.stats().partition(*partition)?)))
            .collect();
        let watermarks =
            stats.iter().filter_map(|(partition, stats)| Some((*partition, Offset(stats.commit_watermark.get()?))));
        let due = self.book.begin(monotonic_ms(), watermarks);
        if due.is_empty() {
            return false;
        }
        let commits = due.into_iter().map(|(partition, next)| {
            let note = CommitNote {
                stream: self.stream.clone(),
                instance: around.setup.instance.clone(),
                warm_from: stats.get(&partition).and_then(|stats| stats.warm_from.get()).map(Offset),
            };
            (partition, Committed { next, metadata: note.to_text() })
        });
        let list = offsets::commit_list(&around.setup.kafka.topic, &commits.collect());
        let sent = list.and_then(|list| self.commits.send(&list));
        if let Err(error) = &sent {
            tracing::warn!("a commit could not be sent: {error}");
            self.book.finish(monotonic_ms(), &[]);
            around.stats().kafka.commit_failures.add(1);
        }
        sent.is_ok()
    }

    /// Takes note of commits that ended.
    pub(super) fn settle(&mut self, around: &Around<'_>) {
        while let Some(outcome) = self.commits.ended(Duration::ZERO) {
            let kafka = &around.stats().kafka;
            if let Some(code) = outcome.error {
                kafka.commit_failures.add(1);
                self.consumer.context().watch.count(code);
                tracing::warn!(%code, "a commit failed; it is tried again");
            }
            let confirmed = self.book.finish(monotonic_ms(), &outcome.confirmed);
            if !confirmed.is_empty() {
                kafka.commits.add(1);
                kafka.last_commit_at_ms.set(Some(monotonic_ms()));
            }
            for (partition, offset) in confirmed {
                if let Some(stats) = around.stats().partition(partition) {
                    stats.committed.set(Some(offset.0));
                }
            }
        }
    }

    /// Commits these partitions and waits for the answer, at most `limit`.
    pub(super) fn commit_now(&mut self, around: &Around<'_>, only: Option<&[PartitionId]>, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut sent = false;
        loop {
            self.settle(around);
            if !self.book.is_in_flight() {
                // One may have been on its way that knew less.
                if sent || !self.commit(around, only) {
                    return;
                }
                sent = true;
            }
            if Instant::now() >= deadline {
                tracing::warn!("the commit was not confirmed within {limit:?}; what it covered is read again");
                return;
            }
            self.serve(Duration::from_millis(10));
        }
    }

    /// Lets librdkafka run its callbacks. Gives the partition of a record that came to the wrong place.
    pub(super) fn serve(&self, wait: Duration) -> Option<PartitionId> {
        match self.consumer.poll(wait) {
            None => None,
            Some(Ok(message)) => {
                use rdkafka::Message;
                PartitionId::from_kafka(message.partition())
            }
            // Already counted and logged by the context; a fatal error cannot come to a consumer without a static
            // group membership.
            Some(Err(_)) => None,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.consumer.context().close();
    }
}

/// One partition's facts as far as Kafka told them.
struct Gathered {
    partition: PartitionId,
    ends: Option<PartitionOffsets>,
    committed: Option<(Offset, Option<CommitNote>)>,
    by_age: Option<Offset>,
}

/// The removal's last two steps.
fn finish_queue(mut queue: PartitionQueue) {
    queue.discard();
}
