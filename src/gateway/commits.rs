//! How far each partition may be committed, looked at once more at the very end: dead letters are acknowledged after
//! their worker has stopped, and the last commit must see that.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::dlq::Ledger;
use crate::observe::stats::PartitionStats;
use crate::partition::worker::Progress;
use crate::words::PartitionId;

/// What the watermark of one partition is made of.
#[derive(Clone, Debug)]
pub struct Position {
    pub progress: Arc<Progress>,
    pub ledger: Arc<Ledger>,
    pub stats: Arc<PartitionStats>,
}

/// Shared by kafka-poll's host, which writes it, and the shutdown.
#[derive(Clone, Debug, Default)]
pub struct Positions(Arc<Mutex<BTreeMap<PartitionId, Position>>>);

impl Positions {
    pub fn set(&self, partition: PartitionId, position: Position) {
        self.lock().insert(partition, position);
    }

    pub fn forget(&self, partition: PartitionId) {
        self.lock().remove(&partition);
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Publishes the watermarks as they are now. Only for when no worker runs: a worker publishes its own.
    pub fn refresh(&self, fail_closed: bool) {
        for position in self.lock().values() {
            let sent = position.progress.sent_next.load(Ordering::Acquire);
            let open = position.ledger.first_open().filter(|_| fail_closed);
            position.stats.ledger_open.set(position.ledger.len() as u64);
            position.stats.commit_watermark.set(Some(open.map_or(sent, |open| open.0.min(sent))));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Position>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
