//! Which dead letters of one partition are sent and not yet acknowledged: what holds the commit back.
//!
//! Written by the worker (open) and the dlq thread (acknowledge); read by whoever wants the commit watermark.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::words::Offset;

/// Invariant: `open` equals the length of `offsets`, and is what the path of a record looks at: while no dead letter
/// is open, nobody takes the lock.
#[derive(Debug, Default)]
pub struct Ledger {
    open: AtomicUsize,
    offsets: Mutex<BTreeSet<Offset>>,
}

impl Ledger {
    /// The worker is about to hand over the dead letter at `offset`.
    pub fn open(&self, offset: Offset) {
        let mut offsets = self.lock();
        offsets.insert(offset);
        self.open.store(offsets.len(), Ordering::Release);
    }

    /// Kafka has the dead letter (or it was given up under fail_open). Twice is harmless.
    pub fn acknowledge(&self, offset: Offset) {
        let mut offsets = self.lock();
        offsets.remove(&offset);
        self.open.store(offsets.len(), Ordering::Release);
    }

    pub fn len(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The commit must not pass this.
    pub fn first_open(&self) -> Option<Offset> {
        if self.is_empty() {
            return None;
        }
        self.lock().first().copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Offset>> {
        // A set of numbers has no broken intermediate state: a panic elsewhere does not spoil it.
        self.offsets.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
