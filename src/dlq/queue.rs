//! From the workers to the dlq thread: bounded in letters by its channel and in bytes by a budget that a letter
//! gives back only when it is acknowledged or given up, so that what waits for Kafka is counted too.
//!
//! Deliberately absent: the channels themselves, which `gateway::wiring` makes and hands in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, select};

use super::letter::DeadLetter;
use crate::config::{DlqConfig, DlqMode};
use crate::observe::stats::{DlqFailure, Stats};
use crate::words::StreamIdentity;

/// A letter on its way, with what it holds of the budget. Made by [`DlqSender`], read by the thread.
#[derive(Debug)]
pub struct Queued {
    pub(super) letter: DeadLetter,
    /// The stream that it was read from: by the time it is sent there may be another one.
    pub(super) stream: Arc<StreamIdentity>,
    /// Given back with the letter.
    _share: Share,
}

/// The two channels as wiring makes them.
#[derive(Debug)]
pub struct DlqChannels {
    /// Bounded by count; the other end is [`super::DlqThread`]'s.
    pub letters: Sender<Queued>,
    /// Capacity 1 suffices: a token says "there is room, look again", and whoever found room passes it on.
    pub room: (Sender<()>, Receiver<()>),
}

/// The worker's end. One per stream: the identity is stamped on every letter.
#[derive(Clone, Debug)]
pub struct DlqSender {
    letters: Sender<Queued>,
    budget: Arc<Budget>,
    stream: Arc<StreamIdentity>,
    stats: Arc<Stats>,
    mode: DlqMode,
    patience: std::time::Duration,
}

/// What makes senders. Kept by whoever starts workers.
#[derive(Clone, Debug)]
pub struct DlqInlet {
    letters: Sender<Queued>,
    budget: Arc<Budget>,
    stats: Arc<Stats>,
    mode: DlqMode,
    patience: std::time::Duration,
}

/// What became of a letter that was handed over.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made once per dead letter and taken apart at once")]
pub enum HandedOver {
    Queued,
    /// fail_open only: there was no room for `dlq.send_timeout`, or none while Kafka refuses letters. It is counted
    /// as lost, its ledger is marked, the record counts as dead-lettered.
    Lost,
    /// Stop came first, or the dlq thread is gone. Nothing was marked: the record is read again after the restart.
    Stopped(DeadLetter),
}

impl DlqInlet {
    pub fn new(channels: DlqChannels, config: &DlqConfig, stats: Arc<Stats>) -> Self {
        let (room, wait_for_room) = channels.room;
        let budget = Budget {
            used: AtomicU64::new(0),
            max: config.queue_max_bytes,
            waiting: AtomicUsize::new(0),
            room,
            wait_for_room,
            stats: stats.clone(),
        };
        Self {
            letters: channels.letters,
            budget: Arc::new(budget),
            stats,
            mode: config.mode,
            patience: config.send_timeout,
        }
    }

    pub fn for_stream(&self, stream: Arc<StreamIdentity>) -> DlqSender {
        DlqSender {
            letters: self.letters.clone(),
            budget: self.budget.clone(),
            stream,
            stats: self.stats.clone(),
            mode: self.mode,
            patience: self.patience,
        }
    }
}

impl DlqSender {
    /// Never waits. The letter comes back when there is no room or nobody to take it.
    // A letter is large; it comes back whole so that nothing of it is lost.
    #[allow(clippy::result_large_err, reason = "the error is the letter itself")]
    pub fn try_send(&self, letter: DeadLetter) -> Result<(), DeadLetter> {
        let Some(share) = self.budget.take(letter.bytes()) else {
            return Err(letter);
        };
        self.letters.try_send(self.queued(letter, share)).map_err(|refused| refused.into_inner().letter)
    }

    /// Waits for room until `stop` is closed. The letter comes back when stop came first, or nobody takes letters.
    ///
    /// `stop` is only ever closed, never sent to, so that looking at it takes nothing from others.
    #[allow(clippy::result_large_err, reason = "the error is the letter itself")]
    pub fn send_or_stop<T>(&self, letter: DeadLetter, stop: &Receiver<T>) -> Result<(), DeadLetter> {
        let never = crossbeam_channel::never();
        match self.send(letter, stop, &never) {
            Sent::Yes => Ok(()),
            Sent::Stopped(letter) | Sent::TooLate(letter) => Err(letter),
        }
    }

    /// What a worker does with a dead letter, ledger already opened: fail_closed waits until there is room; fail_open
    /// waits at most `dlq.send_timeout`, and not at all while Kafka refuses letters, then counts the letter as lost.
    pub fn hand_over<T>(&self, letter: DeadLetter, stop: &Receiver<T>) -> HandedOver {
        let sent = match self.mode {
            DlqMode::FailClosed => self.send(letter, stop, &crossbeam_channel::never()),
            DlqMode::FailOpen => match self.try_send(letter) {
                Ok(()) => Sent::Yes,
                Err(letter) if self.stats.dlq.breaker_open.get() > 0 => Sent::TooLate(letter),
                Err(letter) => self.send(letter, stop, &crossbeam_channel::after(self.patience)),
            },
        };
        match sent {
            Sent::Yes => HandedOver::Queued,
            Sent::Stopped(letter) => HandedOver::Stopped(letter),
            Sent::TooLate(letter) => {
                letter.ledger.acknowledge(letter.offset);
                self.stats.dlq.lost[DlqFailure::Backpressure as usize].add(1);
                HandedOver::Lost
            }
        }
    }

    fn send<T>(&self, letter: DeadLetter, stop: &Receiver<T>, late: &Receiver<std::time::Instant>) -> Sent {
        let waiting = Waiting::new(&self.budget);
        let share = loop {
            // Room that comes after this look is a token in the channel.
            if let Some(share) = self.budget.take(letter.bytes()) {
                break share;
            }
            select! {
                recv(self.budget.wait_for_room) -> _ => {}
                recv(stop) -> _ => return Sent::Stopped(letter),
                recv(late) -> _ => return Sent::TooLate(letter),
            }
        };
        drop(waiting);
        let queued = self.queued(letter, share);
        match self.letters.try_send(queued) {
            Ok(()) => Sent::Yes,
            Err(TrySendError::Disconnected(queued)) => Sent::Stopped(queued.letter),
            Err(TrySendError::Full(queued)) => self.send_queued(queued, stop, late),
        }
    }

    /// The channel's own bound was reached before the budget.
    fn send_queued<T>(&self, queued: Queued, stop: &Receiver<T>, late: &Receiver<std::time::Instant>) -> Sent {
        let mut select = crossbeam_channel::Select::new();
        let sending = select.send(&self.letters);
        let stopping = select.recv(stop);
        let running_late = select.recv(late);
        let operation = select.select();
        match operation.index() {
            index if index == sending => match operation.send(&self.letters, queued) {
                Ok(()) => Sent::Yes,
                Err(refused) => Sent::Stopped(refused.into_inner().letter),
            },
            index if index == stopping => {
                operation.recv(stop).ok();
                Sent::Stopped(queued.letter)
            }
            index => {
                debug_assert_eq!(index, running_late);
                operation.recv(late).ok();
                Sent::TooLate(queued.letter)
            }
        }
    }

    fn queued(&self, letter: DeadLetter, share: Share) -> Queued {
        Queued { letter, stream: self.stream.clone(), _share: share }
    }
}

enum Sent {
    Yes,
    Stopped(DeadLetter),
    TooLate(DeadLetter),
}

/// What the thread finds in the channel.
pub(super) enum Received {
    Letter(Box<Queued>),
    Nothing,
    /// Every sender is gone.
    Closed,
}

pub(super) fn try_receive(letters: &Receiver<Queued>) -> Received {
    match letters.try_recv() {
        Ok(queued) => Received::Letter(Box::new(queued)),
        Err(TryRecvError::Empty) => Received::Nothing,
        Err(TryRecvError::Disconnected) => Received::Closed,
    }
}

/// Invariant: `used` is the sum of all live shares, and `max` is only exceeded by a single letter that is larger
/// than all of it.
#[derive(Debug)]
struct Budget {
    used: AtomicU64,
    max: u64,
    waiting: AtomicUsize,
    room: Sender<()>,
    wait_for_room: Receiver<()>,
    stats: Arc<Stats>,
}

impl Budget {
    fn take(self: &Arc<Self>, bytes: u64) -> Option<Share> {
        let fits = |used: u64| (used == 0 || used.saturating_add(bytes) <= self.max).then_some(used + bytes);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).ok()?;
        self.stats.dlq.queue_bytes.add(bytes);
        Some(Share { budget: self.clone(), bytes })
    }

    fn announce(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // A full channel already says so.
            self.room.try_send(()).ok();
        }
    }
}

/// Part of the budget, given back on drop.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::SeqCst);
        self.budget.stats.dlq.queue_bytes.sub(self.bytes);
        self.budget.announce();
    }
}

/// Somebody waits for room.
struct Waiting<'a>(&'a Budget);

impl<'a> Waiting<'a> {
    fn new(budget: &'a Budget) -> Self {
        budget.waiting.fetch_add(1, Ordering::SeqCst);
        Self(budget)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        // Whoever leaves may have taken a token that another could use. Not so on every look: two that both found
        // no room would hand the token to and fro.
        self.0.announce();
    }
}

#[cfg(test)]
mod tests;
