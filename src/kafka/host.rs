//! What kafka-poll asks of the house: start and stop the worker of a partition. Kafka knows neither workers nor
//! clients; `gateway` implements this.

use std::time::Duration;

use super::queue::PartitionQueue;
use crate::words::{GapReason, Offset, PartitionId, StreamIdentity};

/// A partition as it is handed to its worker.
#[derive(Debug)]
pub struct PartitionStart {
    pub partition: PartitionId,
    /// Grows with every assignment of any partition; a fenced worker is known by an old one.
    pub epoch: u64,
    pub queue: PartitionQueue,
    pub plan: StartPlan,
}

/// Where a partition begins, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartPlan {
    /// The first offset read.
    pub from: Offset,
    /// Records below this fill the log but are neither dead-lettered nor counted again (they are `warmed`).
    /// `from` when there is nothing to warm.
    pub live_from: Offset,
    /// Records that Kafka's retention took before us: first and last, inclusive.
    pub lost: Option<(Offset, Offset, GapReason)>,
}

/// What became of a worker that was asked to stop.
#[derive(Debug)]
pub enum Stopped {
    /// It ended and gave its queue back.
    Ended(PartitionQueue),
    /// It did not end in time. Its epoch fences it; the queue comes later through [`PartitionHost::reap`].
    Late,
    /// No worker ran for this partition.
    NotRunning,
}

/// Implemented by `gateway`; called by the kafka-poll thread only.
pub trait PartitionHost: Send {
    /// Announces the partition to the shards and starts its worker. Called before the partition is assigned, so no
    /// record can be in the queue yet.
    fn start(&mut self, start: PartitionStart);

    /// Asks all these workers to stop, then waits for them together, at most `limit` in total.
    fn stop(&mut self, partitions: &[PartitionId], limit: Duration) -> Vec<(PartitionId, Stopped)>;

    /// Queues of workers that ended late.
    fn reap(&mut self) -> Vec<(PartitionId, PartitionQueue)>;

    /// Where the log of this partition ends, if it was ever started in this process and stream: a re-assignment
    /// begins there.
    fn log_next(&self, partition: PartitionId) -> Option<Offset>;

    /// The partition is no longer ours (group mode) or no longer exists.
    fn lost(&mut self, partition: PartitionId);

    /// The number of partitions became known or changed, with the identity they belong to.
    fn topology(&mut self, identity: &StreamIdentity, partition_count: u32);

    /// The topic is another one now. Every worker was stopped before. The log is emptied, every client closed.
    fn stream_changed(&mut self, reason: &'static str);
}

/// Asked of kafka-poll by workers, by lag and by `gateway`. Bounded channel; a full one means that the same thing
/// was asked before, so a sender that finds it full may drop its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PollCommand {
    /// The broker says that this offset is out of range. `offset` is None when librdkafka gave an invalid one
    /// (truncation): that always counts.
    OutOfRange { partition: PartitionId, epoch: u64, offset: Option<Offset> },
    /// A worker saw an unknown-topic error: the identity must be checked at once.
    CheckIdentity,
    /// The stall watchdog wants this partition assigned again at the worker's own `next`.
    Reassign { partition: PartitionId },
}
