//! Seats for sessions that replay from below the log: as many as `cold.max_sessions`, in the whole process. Whoever has
//! none waits, and is told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// See the module.
#[derive(Debug)]
pub struct ColdSeats {
    taken: AtomicU32,
    max: u32,
}

/// Given back when dropped.
#[derive(Debug)]
pub struct ColdSeat(Arc<ColdSeats>);

impl ColdSeats {
    pub fn new(max: u32) -> Self {
        Self { taken: AtomicU32::new(0), max }
    }

    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// A seat, if one is free.
    pub fn sit(self: &Arc<Self>) -> Option<ColdSeat> {
        let more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(ColdSeat(self.clone()))
    }
}

impl Drop for ColdSeat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_given_back() {
        let seats = Arc::new(ColdSeats::new(2));
        let (first, second) = (seats.sit(), seats.sit());
        assert!(first.is_some() && second.is_some() && seats.sit().is_none());
        drop(first);
        assert!(seats.sit().is_some());
        drop(second);
        assert_eq!(seats.taken(), 0);
    }
}
