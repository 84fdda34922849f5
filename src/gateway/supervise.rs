//! Waits for a signal or for the end of a thread, then takes everything down in order within one deadline.
//!
//! The order: nobody new is let in; workers stop at a chunk boundary; shards write what they have and say goodbye,
//! while dead letters are flushed, Redis gets what waits for it, and the last commit is made; then the threads beside the path. A second signal ends
//! the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::GatewayError;
use super::commits::Positions;
use super::threads::{Ended, Ending};
use crate::broadcast::inbox::{ShardInbox, ToShard};
use crate::config::{Config, DlqMode};
use crate::kafka::control::PollControl;
use crate::observe::stats::{Stats, monotonic_ms};

/// How fast a signal is seen.
const LOOK: Duration = Duration::from_millis(50);

/// After a thread died: time for goodbyes. The whole is over within a second.
const HASTE: Duration = Duration::from_millis(800);

/// What of the deadline is kept for joining and for what goes wrong.
const RESERVE: Duration = Duration::from_millis(1_000);

/// What waits for Redis is written for as long as this. It is a cache: nothing is lost with it.
const REDIS_FLUSH: Duration = Duration::from_millis(500);

/// Raised in the order of the shutdown.
#[derive(Debug, Default)]
pub(super) struct Stops {
    pub(super) accept: AtomicBool,
    /// Everything at once, nothing in order.
    pub(super) now: AtomicBool,
    /// The threads beside the path: encoders, lag, http.
    pub(super) side: AtomicBool,
}

/// What the main thread holds while everybody works.
pub(super) struct House {
    pub(super) ended: Receiver<Ended>,
    pub(super) stops: Arc<Stops>,
    pub(super) control: Arc<PollControl>,
    pub(super) positions: Positions,
    pub(super) dlq_stop: Sender<Instant>,
    pub(super) redis_stop: Sender<Instant>,
    pub(super) inboxes: Vec<ShardInbox>,
    pub(super) config: Arc<Config>,
    pub(super) stats: Arc<Stats>,
    pub(super) handles: Vec<(String, JoinHandle<Option<()>>)>,
}

impl House {
    pub(super) fn run_until_stopped(mut self) -> Result<(), GatewayError> {
        let signalled = signals()?;
        let failure = loop {
            match self.ended.recv_timeout(LOOK) {
                Ok(ended) => {
                    if let Some(error) = unexpected(&ended) {
                        tracing::error!(thread = ended.thread, "{error}");
                        break Some(error);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            if signalled.load(Ordering::Acquire) {
                tracing::info!("told to stop");
                break None;
            }
        };
        let time = if failure.is_some() { HASTE } else { self.config.shutdown.deadline };
        self.stop(Instant::now() + time);
        failure.map_or(Ok(()), Err)
    }

    fn stop(&mut self, deadline: Instant) {
        let left = || deadline.saturating_duration_since(Instant::now());
        let work = || left().saturating_sub(RESERVE.min(left() / 2));
        self.stats.stopping.set(1);
        Stops::raise(&self.stops.accept);
        if !self.control.stop_workers(work() / 3) {
            tracing::warn!("not every worker stopped in time; what they had in hand is read again");
        }
        // Chunks have an end now: shards can write out what they have and say goodbye while the rest goes on.
        let drain_ms = monotonic_ms() + work().as_millis() as u64;
        for inbox in &self.inboxes {
            if inbox.send_timeout(ToShard::Drain { deadline_ms: drain_ms }, work() / 4).is_err() {
                tracing::warn!("a shard does not take the order to drain");
            }
        }
        // Beside the others, and joined with what is left: a Redis that does not answer holds nobody up.
        if self.config.replay.redis.is_on()
            && self.redis_stop.try_send(Instant::now() + REDIS_FLUSH.min(work())).is_err()
        {
            tracing::debug!("the redis thread is gone already");
        }
        if self.dlq_stop.try_send(Instant::now() + work() / 2).is_err() {
            tracing::debug!("the dlq thread is gone already");
        }
        self.join("dlq", Instant::now() + work() * 2 / 3);
        self.positions.refresh(self.config.dlq.mode == DlqMode::FailClosed);
        if !self.control.commit_and_end(work() / 2) {
            tracing::warn!("the last commit was not confirmed in time; some records are read again");
        }
        for index in 0..self.inboxes.len() {
            self.join(&format!("ws-{index}"), deadline);
        }
        Stops::raise(&self.stops.side);
        Stops::raise(&self.stops.now);
        for (name, _) in std::mem::take(&mut self.handles).into_iter().filter(|(name, handle)| {
            while !handle.is_finished() && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(2));
            }
            if !handle.is_finished() {
                tracing::warn!(thread = name, "did not end in time");
            }
            !handle.is_finished()
        }) {
            tracing::debug!(thread = name, "left to the end of the process");
        }
        tracing::info!("stopped");
    }

    /// Waits for one thread.
    fn join(&mut self, name: &str, deadline: Instant) {
        let Some(place) = self.handles.iter().position(|(other, _)| other == name) else { return };
        while !self.handles[place].1.is_finished() {
            if Instant::now() >= deadline {
                tracing::warn!(thread = name, "did not end in time");
                return;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let (_, handle) = self.handles.swap_remove(place);
        if handle.join().is_err() {
            tracing::error!(thread = name, "panicked at its very end");
        }
    }
}

/// A worker that was told to stop ends, and that is right; every other thread runs until the process stops.
fn unexpected(ended: &Ended) -> Option<GatewayError> {
    let what = match &ended.ending {
        Ending::Done if ended.thread.starts_with("p-") => return None,
        Ending::Done => "it ended by itself".to_owned(),
        Ending::Failed(what) => what.clone(),
        Ending::Panicked(what) => format!("panic: {what}"),
    };
    Some(GatewayError::ThreadEnded { thread: ended.thread.clone(), what })
}

/// SIGTERM and SIGINT ask to stop; the second one ends the process where it stands.
fn signals() -> std::io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The order matters: a handler that runs first must find the flag that the one before set.
        signal_hook::flag::register_conditional_shutdown(signal, 1, asked.clone())?;
        signal_hook::flag::register(signal, asked.clone())?;
    }
    Ok(asked)
}
