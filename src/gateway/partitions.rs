//! Starts and stops workers for kafka-poll, and tells the shards which partitions there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender};

use super::commits::{Position, Positions};
use super::threads::{self, Ended};
use super::wiring;
use crate::broadcast::inbox::{ShardInbox, ToShard};
use crate::config::{Config, DlqMode, OnDecodeError, SchemaPolicy};
use crate::dlq::{DlqInlet, Ledger};
use crate::kafka::host::{PartitionHost, PartitionStart, PollCommand, Stopped};
use crate::kafka::queue::{PartitionQueue, QueueWaker};
use crate::log::ChunkBuilder;
use crate::observe::stats::Stats;
use crate::partition::core::{Core, CoreSettings};
use crate::partition::dispose::Rules;
use crate::partition::sequence;
use crate::partition::worker::{Progress, Worker, WorkerSettings};
use crate::replay::reader::StreamNow;
use crate::replay::rebuild::Makings;
use crate::replay::redis::RedisInlet;
use crate::words::{Offset, PartitionId, StreamIdentity};

/// A shard takes what it is told within this, or it is stuck, and the watchdog sees that.
const SHARD_PATIENCE: Duration = Duration::from_secs(10);

/// How often a wait for workers looks.
const LOOK: Duration = Duration::from_millis(1);

/// Whom workers hand on to.
pub struct Downstream {
    pub shards: Vec<ShardInbox>,
    pub dlq: DlqInlet,
    /// None when there is no Redis tier.
    pub redis: Option<RedisInlet>,
}

/// Implements [`PartitionHost`]; owned by the kafka-poll thread.
pub struct Partitions {
    pub config: Config,
    pub shards: Vec<ShardInbox>,
    pub dlq: DlqInlet,
    pub redis: Option<RedisInlet>,
    pub commands: Sender<PollCommand>,
    pub ended: Sender<Ended>,
    pub stats: Arc<Stats>,
    /// Shared with the shutdown.
    pub positions: Positions,
    /// What the cold readers read.
    pub stream_now: Arc<ArcSwapOption<StreamNow>>,
    stream: Option<Arc<StreamIdentity>>,
    partition_count: u32,
    running: BTreeMap<PartitionId, Running>,
    /// Told to stop, not ended in time.
    late: Vec<(PartitionId, JoinHandle<Option<PartitionQueue>>)>,
    /// Where the log of each partition ends, once it was started in this stream.
    log_next: BTreeMap<PartitionId, Arc<Progress>>,
}

struct Running {
    progress: Arc<Progress>,
    waker: QueueWaker,
    /// Dropped to end waits towards the dlq.
    _stop: Sender<()>,
    handle: JoinHandle<Option<PartitionQueue>>,
}

impl Partitions {
    pub fn new(
        config: Config,
        Downstream { shards, dlq, redis }: Downstream,
        commands: Sender<PollCommand>,
        ended: Sender<Ended>,
        stats: Arc<Stats>,
        positions: Positions,
        stream_now: Arc<ArcSwapOption<StreamNow>>,
    ) -> Self {
        Self {
            config,
            shards,
            dlq,
            redis,
            commands,
            ended,
            stats,
            positions,
            stream_now,
            stream: None,
            partition_count: 0,
            running: BTreeMap::new(),
            late: Vec::new(),
            log_next: BTreeMap::new(),
        }
    }

    fn tell(&self, message: impl Fn() -> ToShard) {
        for shard in &self.shards {
            if shard.send_timeout(message(), SHARD_PATIENCE).is_err() {
                tracing::error!("a shard takes nothing");
            }
        }
    }

    fn worker(
        &self,
        start: PartitionStart,
        stream: Arc<StreamIdentity>,
        stop: Receiver<()>,
        progress: Arc<Progress>,
    ) -> Worker {
        let PartitionStart { partition, epoch, queue, plan } = start;
        let config = &self.config;
        let begin = plan.lost.map_or(plan.from, |(first, ..)| first);
        let builder =
            ChunkBuilder::new(partition, begin, config.log.chunk_bytes, stream.clone(), self.stats.chunk_bytes.clone());
        let core = Core::new(
            CoreSettings {
                rules: rules(config),
                pause_on_bad: config.kafka.on_decode_error == OnDecodeError::Pause,
                live_from: plan.live_from,
                sequence_keys: sequence::keys_per_partition(self.partition_count),
            },
            builder,
        );
        let share = u64::from(self.partition_count.max(1));
        let settings = WorkerSettings {
            fail_closed: config.dlq.mode == DlqMode::FailClosed,
            letter_value_max_bytes: config.dlq.value_max_bytes as usize,
            ledger_max: config.dlq.ledger_max as usize,
            // The ring makes room at its bound; a worker waits a little above it, so that only a stuck shard holds it.
            chunk_bytes_max: config.log.max_bytes + config.log.max_bytes / 8,
            warm_bytes: config.log.warm_bytes / share,
            warm_age_ms: config.log.warm_age.as_millis() as u64,
        };
        Worker {
            partition,
            epoch,
            queue,
            core,
            lost: plan.lost.map(|(_, last, reason)| (last.next(), reason)),
            settings,
            progress,
            shards: self.shards.clone(),
            dlq: self.dlq.for_stream(stream.clone()),
            redis: self.redis.as_ref().map(|redis| redis.for_stream(stream)),
            stop,
            ledger: Arc::new(Ledger::default()),
            commands: self.commands.clone(),
            stats: self.stats.hold(partition),
            process: self.stats.clone(),
        }
    }
}

/// The rules of disposition that follow from the configuration.
pub fn rules(config: &Config) -> Rules {
    Rules {
        payload_max_bytes: usize::try_from(config.kafka.payload_max_bytes).unwrap_or(usize::MAX),
        schema_exact: config.schema.policy == SchemaPolicy::Exact,
    }
}

impl PartitionHost for Partitions {
    fn start(&mut self, start: PartitionStart) {
        let partition = start.partition;
        let Some(stream) = self.stream.clone() else {
            tracing::error!(partition = partition.0, "a partition was started before its stream was known");
            return;
        };
        let at = start.plan.lost.map_or(start.plan.from, |(first, ..)| first);
        self.tell(|| ToShard::Open { partition, at });
        let (stop_sender, stop) = wiring::stop_signal();
        let progress = Arc::new(Progress::default());
        progress.sent_next.store(at.0, Ordering::Release);
        let waker = start.queue.waker();
        let worker = self.worker(start, stream, stop, progress.clone());
        let position =
            Position { progress: progress.clone(), ledger: worker.ledger.clone(), stats: worker.stats.clone() };
        self.positions.set(partition, position);
        let name = format!("p-{partition}");
        match threads::spawn(&name, self.ended.clone(), move || Ok(worker.run())) {
            Ok(handle) => {
                self.log_next.insert(partition, progress.clone());
                self.running.insert(partition, Running { progress, waker, _stop: stop_sender, handle });
            }
            // The queue went with the worker; the watchdog finds a partition without one.
            Err(error) => tracing::error!(partition = partition.0, %error, "a worker thread cannot be started"),
        }
    }

    fn stop(&mut self, partitions: &[PartitionId], limit: Duration) -> Vec<(PartitionId, Stopped)> {
        let mut stopping = Vec::new();
        for partition in partitions {
            match self.running.remove(partition) {
                None => stopping.push((*partition, None)),
                Some(Running { progress, waker, _stop, handle }) => {
                    progress.stop.store(true, Ordering::Release);
                    waker.wake();
                    handle.thread().unpark();
                    stopping.push((*partition, Some(handle)));
                }
            }
        }
        let deadline = Instant::now() + limit;
        let mut stopped = Vec::new();
        for (partition, handle) in stopping {
            let Some(handle) = handle else {
                stopped.push((partition, Stopped::NotRunning));
                continue;
            };
            while !handle.is_finished() && Instant::now() < deadline {
                std::thread::park_timeout(LOOK);
            }
            if handle.is_finished() {
                stopped.push((partition, join(handle).map_or(Stopped::NotRunning, Stopped::Ended)));
            } else {
                tracing::warn!(partition = partition.0, "a worker does not stop in time; it is fenced");
                self.late.push((partition, handle));
                stopped.push((partition, Stopped::Late));
            }
        }
        stopped
    }

    fn reap(&mut self) -> Vec<(PartitionId, PartitionQueue)> {
        let (done, late) = std::mem::take(&mut self.late).into_iter().partition(|(_, handle)| handle.is_finished());
        self.late = late;
        let done: Vec<(PartitionId, JoinHandle<Option<PartitionQueue>>)> = done;
        done.into_iter().filter_map(|(partition, handle)| Some((partition, join(handle)?))).collect()
    }

    fn log_next(&self, partition: PartitionId) -> Option<Offset> {
        self.log_next.get(&partition).map(|progress| Offset(progress.sent_next.load(Ordering::Acquire)))
    }

    fn lost(&mut self, partition: PartitionId) {
        self.stats.release(partition);
        // The log keeps its end: should the partition come back, it goes on there.
        self.positions.forget(partition);
        self.tell(|| ToShard::Close { partition });
    }

    fn topology(&mut self, identity: &StreamIdentity, partition_count: u32) {
        let identity = Arc::new(identity.clone());
        self.stream = Some(identity.clone());
        self.partition_count = partition_count;
        let makings = Makings {
            stream: identity.clone(),
            rules: rules(&self.config),
            chunk_bytes: self.config.log.chunk_bytes,
            live_bytes: self.stats.cold_bytes.clone(),
        };
        self.stream_now.store(Some(Arc::new(StreamNow { makings, partition_count })));
        if let Some(redis) = &self.redis {
            redis.topology(identity.clone(), partition_count);
        }
        self.tell(|| ToShard::Topology { identity: identity.clone(), partition_count });
    }

    fn stream_changed(&mut self, reason: &'static str) {
        self.stream = None;
        self.stream_now.store(None);
        self.log_next.clear();
        self.positions.clear();
        if let Some(redis) = &self.redis {
            redis.stream_changed();
        }
        self.tell(|| ToShard::StreamChanged { reason });
    }
}

/// A worker that panicked gave no queue back; its end was told to the supervisor already.
fn join(handle: JoinHandle<Option<PartitionQueue>>) -> Option<PartitionQueue> {
    handle.join().ok().flatten()
}
