//! The hand of another thread on a running client. One slot per wish: only the newest matters.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::options::Filter;

#[derive(Debug, Default)]
struct Wishes {
    stop: bool,
    paused: bool,
    filter: Option<Filter>,
}

#[derive(Debug, Default)]
struct Shared {
    wishes: Mutex<Wishes>,
    changed: Condvar,
}

/// Stops, pauses or re-filters a client from any thread. What it asks for is noticed within a tenth of a second, but
/// not while the handler runs, nor while an address is resolved or tried ([`super::Builder::connect_timeout`]).
#[derive(Clone, Debug, Default)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Ends the run after the event under way. A client that was stopped stays so.
    pub fn stop(&self) {
        self.wish(|wishes| wishes.stop = true);
    }

    /// Nothing is sent until [`Handle::unpause`], also over a new connection; the place is kept. What is under way
    /// still comes; [`super::Event::Applied`] says from when on nothing does.
    pub fn pause(&self) {
        self.wish(|wishes| wishes.paused = true);
    }

    pub fn unpause(&self) {
        self.wish(|wishes| wishes.paused = false);
    }

    /// From [`super::Event::Applied`] on, only what matches. What was withheld before does not come. Takes the place of
    /// a run too. A filter that the gateway refuses ends the client.
    pub fn set_filter(&self, filter: Filter) {
        self.wish(|wishes| wishes.filter = Some(filter));
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.wishes());
        self.shared.changed.notify_all();
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.shared.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.wishes().stop
    }

    pub(super) fn is_paused(&self) -> bool {
        self.wishes().paused
    }

    pub(super) fn take_filter(&self) -> Option<Filter> {
        self.wishes().filter.take()
    }

    /// Waits, but not longer than until somebody asks to stop.
    pub(super) fn rest(&self, wait: Duration) {
        let wishes = self.wishes();
        drop(self.shared.changed.wait_timeout_while(wishes, wait, |wishes| !wishes.stop));
    }
}
