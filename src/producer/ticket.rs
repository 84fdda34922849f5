//! Who is told what became of an event: the holder of a ticket, a callback, or nobody.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::lock;
use super::outcome::Outcome;

/// The promise of an [`Outcome`]. Dropping it is no loss: outcomes are counted, and refused events go where
/// `on_refused` says.
#[must_use = "a ticket says what became of the event; drop it knowingly"]
#[derive(Debug)]
pub struct Ticket {
    sequence: u64,
    slot: Arc<TicketSlot>,
}

impl Ticket {
    pub(super) fn new(sequence: u64, slot: Arc<TicketSlot>) -> Self {
        Self { sequence, slot }
    }

    /// The event's number within its tenant and thread, from 1.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What became of the event, if that is known by now.
    pub fn outcome(&self) -> Option<Outcome> {
        lock(&self.slot.state).outcome
    }

    /// Waits until it is known what became of the event, for `timeout` at most. None: not known yet. An outcome comes
    /// within the delivery timeout, or when the producer is closed.
    pub fn wait(&self, timeout: Duration) -> Option<Outcome> {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = lock(&self.slot.state);
        loop {
            if state.outcome.is_some() {
                return state.outcome;
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return None;
            }
            state.waited_for = true;
            let left = left.min(Duration::from_secs(3600));
            state = self.slot.settled.wait_timeout(state, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct TicketSlot {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    /// Waking costs a system call, also when nobody waits.
    waited_for: bool,
}

/// Is told one outcome, once.
pub(super) enum Waiter {
    Ticket(Arc<TicketSlot>),
    /// Taken out once. The lock makes it shareable, which librdkafka's binding asks of what travels.
    Call(Mutex<Box<dyn FnOnce(Outcome) + Send>>),
    /// Its place, when it was taken.
    Nobody,
}

impl Waiter {
    pub(super) fn call(call: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Self::Call(Mutex::new(Box::new(call)))
    }

    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Nobody)
    }

    /// False: a callback panicked, which is the application's matter and ends nothing here.
    pub(super) fn tell(self, outcome: Outcome) -> bool {
        match self {
            Self::Ticket(slot) => {
                let mut state = lock(&slot.state);
                assert!(state.outcome.is_none(), "an event got two outcomes");
                state.outcome = Some(outcome);
                if state.waited_for {
                    slot.settled.notify_all();
                }
                true
            }
            Self::Call(call) => {
                let call = call.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(outcome))).is_ok()
            }
            Self::Nobody => true,
        }
    }
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Ticket(_) => "Ticket",
            Self::Call(_) => "Call",
            Self::Nobody => "Nobody",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::outcome::Reason;

    const OUTCOME: Outcome = Outcome::Refused { sequence: 3, reason: Reason::TooLarge };

    #[test]
    fn a_ticket_says_nothing_before_and_the_outcome_ever_after() {
        let slot = Arc::new(TicketSlot::default());
        let ticket = Ticket::new(3, slot.clone());
        assert_eq!((ticket.outcome(), ticket.wait(Duration::ZERO)), (None, None));
        assert_eq!(ticket.wait(Duration::from_millis(1)), None);
        assert!(Waiter::Ticket(slot).tell(OUTCOME));
        assert_eq!((ticket.outcome(), ticket.wait(Duration::ZERO)), (Some(OUTCOME), Some(OUTCOME)));
        assert_eq!(ticket.sequence(), 3);
    }

    #[test]
    fn who_waits_is_woken() {
        let slot = Arc::new(TicketSlot::default());
        let ticket = Ticket::new(3, slot.clone());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || ticket.wait(Duration::from_secs(60)));
            scope.spawn(move || {
                while !lock(&slot.state).waited_for {
                    std::thread::yield_now();
                }
                Waiter::Ticket(slot).tell(OUTCOME)
            });
            assert_eq!(waiting.join().expect("no panic"), Some(OUTCOME));
        });
    }

    #[test]
    fn a_callback_that_panics_ends_nothing() {
        assert!(Waiter::call(|outcome| assert_eq!(outcome, OUTCOME)).tell(OUTCOME));
        assert!(!Waiter::call(|_| std::panic::resume_unwind(Box::new("mine"))).tell(OUTCOME));
    }
}
