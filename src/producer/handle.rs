//! The producer as an application holds it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::{Engine, far};
use super::error::{Rejected, StartError, Why};
use super::options::Options;
use super::outcome::{Outcome, Reason};
use super::outgoing::Outgoing;
use super::state::StateTracker;
use super::ticket::{Ticket, TicketSlot, Waiter};

/// Sends events to one topic. Share it behind an `Arc`; dropping it closes it.
///
/// Accepting an event gives it the next number of its thread, and exactly one [`Outcome`] follows, within the delivery
/// timeout or when the producer is closed. librdkafka tries again where that cannot make a duplicate; nobody else does.
///
/// Callbacks run on the producer's own thread, which settles everything: what waits elsewhere ([`Self::send`],
/// [`Self::flush`], [`Self::close`]) does not wait there. A producer that is let go of in a callback closes itself behind
/// it.
pub struct Producer {
    engine: Arc<Engine>,
    thread: Option<JoinHandle<()>>,
    close_timeout: Duration,
}

/// What was still under way when a `flush` or `close` ended. Zero everywhere: everything is settled.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flushed {
    /// Accepted events whose outcome is not known yet. After `close` this is 0: they were refused or are unknown.
    pub pending: u64,
    /// Dead letters that Kafka has not acknowledged.
    pub letters_pending: u64,
    /// Since the producer was started: events that Kafka acknowledged.
    pub delivered: u64,
    /// Since the producer was started: accepted events that Kafka refused.
    pub refused: u64,
    /// Since the producer was started: accepted events of which nobody can say whether Kafka has them.
    pub unknown: u64,
}

impl Producer {
    /// Starts a producer and its thread. Brokers are not waited for: they are found, or events time out.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let close_timeout = options.close_timeout;
        let engine = Arc::new(Engine::new(options)?);
        let thread = {
            let engine = engine.clone();
            #[allow(clippy::disallowed_methods, reason = "an application has no gateway::threads; joined by close")]
            std::thread::Builder::new().name("producer".to_owned()).spawn(move || engine.serve())?
        };
        Ok(Self { engine, thread: Some(thread), close_timeout })
    }

    /// Accepts an event, or gives it back at once. Waits for nothing but, with a limiter in Redis, its answer.
    pub fn try_send(&self, event: Outgoing) -> Result<Ticket, Rejected> {
        let slot = Arc::new(TicketSlot::default());
        let sequence = self.offer(event, Waiter::Ticket(slot.clone()))?;
        Ok(Ticket::new(sequence, slot))
    }

    /// Like [`Self::try_send`], and `call` is told the outcome, on the producer's thread: be quick. Returns the event's
    /// sequence. When the event is not accepted, `call` is dropped.
    pub fn try_send_with(&self, event: Outgoing, call: impl FnOnce(Outcome) + Send + 'static) -> Result<u64, Rejected> {
        self.offer(event, Waiter::call(call))
    }

    fn offer(&self, mut event: Outgoing, mut waiter: Waiter) -> Result<u64, Rejected> {
        let accepted = self.engine.accept(&mut event, &mut waiter, &mut false);
        accepted.map_err(|why| self.engine.reject(why, event))
    }

    /// Accepts an event, and waits for room and for its tenant's rate, for `timeout` at most. Not for its outcome: the
    /// ticket does that.
    pub fn send(&self, mut event: Outgoing, timeout: Duration) -> Result<Ticket, Rejected> {
        let deadline = far(if self.engine.is_own_thread() { Duration::ZERO } else { timeout });
        let slot = Arc::new(TicketSlot::default());
        let (mut waiter, mut ready, mut until) = (Waiter::Ticket(slot.clone()), false, deadline);
        loop {
            let answer = self.engine.tally().wait_until(until, || {
                match self.engine.accept(&mut event, &mut waiter, &mut ready) {
                    Err(Why::Full) if Instant::now() < deadline => None,
                    answer => Some(answer),
                }
            });
            match answer {
                Some(Ok(sequence)) => return Ok(Ticket::new(sequence, slot)),
                // Nobody says when a bucket has a token again: its own arithmetic did.
                Some(Err(Why::RateLimited(wait))) if Instant::now() + wait < deadline => std::thread::sleep(wait),
                Some(Err(why)) => return Err(self.engine.reject(why, event)),
                // The deadline passed with the queue full: one last time, for the reason.
                None => until = Instant::now(),
            }
        }
    }

    /// Waits until everything that was accepted is settled, dead letters too, for `timeout` at most. Batches are sent
    /// at once. What others send meanwhile is waited for as well.
    pub fn flush(&self, timeout: Duration) -> Flushed {
        let deadline = far(if self.engine.is_own_thread() { Duration::ZERO } else { timeout });
        self.engine.tally().wait_until(deadline, || self.engine.is_settled().then_some(()));
        self.flushed()
    }

    /// Refuses new events, flushes for `timeout` at most, and gives up what is left: events that never left are
    /// `Refused`, those that may have are `Unknown`. Everything accepted has its outcome when this returns.
    pub fn close(mut self, timeout: Duration) -> Flushed {
        self.shut(timeout);
        self.flushed()
    }

    /// What is under way now, and how everything before ended.
    pub fn flushed(&self) -> Flushed {
        let reports = self.engine.reports();
        reports.count();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::SeqCst);
        Flushed {
            pending: reports.tally.events(),
            letters_pending: reports.letters.pending(),
            delivered: count(&reports.tally.delivered),
            refused: count(&reports.tally.refused),
            unknown: count(&reports.tally.unknown),
        }
    }

    /// The state of an agent, from which diffs and checkpoints are made. It is redacted as this producer's events are.
    pub fn state(&self) -> StateTracker {
        let engine = &self.engine;
        StateTracker::new(engine.redaction.clone(), engine.event_bytes_max, Some(engine.metrics().clone()))
    }

    /// Why this producer can send nothing any more ([`Why::Fatal`]), in the words of librdkafka; `None` while it can.
    pub fn fatal(&self) -> Option<(Reason, String)> {
        self.engine.fatal()
    }

    /// This producer's life, as records name it in the header `dashstream.producer`. A thread that was forgotten
    /// and came back has `.1`, `.2` … behind it.
    pub fn instance(&self) -> &str {
        &self.engine.instance_name
    }

    fn shut(&mut self, timeout: Duration) {
        let Some(thread) = self.thread.take() else { return };
        self.engine.close(far(timeout));
        // In a callback it cannot be waited for.
        if !self.engine.is_own_thread() {
            // It ends by that; a panic of a callback is caught where it is called.
            drop(thread.join());
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shut(self.close_timeout);
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Producer").field("instance", &self.engine.instance_name).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
