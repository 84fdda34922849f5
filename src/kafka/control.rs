//! The handshake by which the process ends kafka-poll in order, in two steps, because dead letters are flushed
//! between the last record and the last commit:
//!
//! 1. [`PollControl::stop_workers`]: nothing is assigned any more and every worker is stopped.
//! 2. The caller lets the dead-letter thread flush.
//! 3. [`PollControl::commit_and_end`]: the watermarks are committed, and the thread ends (and closes its clients).
//!
//! Both wait for at most the time they are given; what is not reached by then is repeated after the next start.
//! The stop flag given to `Poll::run` is for everything that is not in order: it stops the workers and ends the
//! thread without a commit.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Invariant: only goes up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    Running,
    StopAsked,
    WorkersStopped,
    CommitAsked,
    Ended,
}

#[derive(Debug)]
pub struct PollControl {
    phase: Mutex<Phase>,
    changed: Condvar,
}

impl PollControl {
    #[allow(clippy::new_ret_no_self, reason = "it is always shared between the thread and whoever ends it")]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { phase: Mutex::new(Phase::Running), changed: Condvar::new() })
    }

    /// Stops assigning and stops every worker. True when that was done within `limit`.
    pub fn stop_workers(&self, limit: Duration) -> bool {
        self.raise(Phase::StopAsked);
        self.wait_for(Phase::WorkersStopped, limit)
    }

    /// Commits what the workers reached, and ends the thread. True when that was done within `limit`. The commit is
    /// tried even if the workers did not all stop in time: it covers only what has a disposition.
    pub fn commit_and_end(&self, limit: Duration) -> bool {
        self.raise(Phase::CommitAsked);
        self.wait_for(Phase::Ended, limit)
    }

    pub fn phase(&self) -> Phase {
        *self.lock()
    }

    pub(super) fn raise(&self, to: Phase) {
        let mut phase = self.lock();
        *phase = (*phase).max(to);
        self.changed.notify_all();
    }

    fn wait_for(&self, wanted: Phase, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut phase = self.lock();
        while *phase < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            phase = self.changed.wait_timeout(phase, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
