//! Ctrl-C and SIGTERM: the first one asks a command to end with what it has, the second one ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

/// How fast a signal is seen during a wait.
const SLICE: Duration = Duration::from_millis(50);

/// Whether somebody asked the command to end.
#[derive(Clone, Default, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From here on signals ask, and do not kill.
    pub fn on_signals() -> std::io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal meets a flag that is set.
            signal_hook::flag::register_conditional_shutdown(signal, 130, asked.clone())?;
            signal_hook::flag::register(signal, asked.clone())?;
        }
        Ok(Self(asked))
    }

    /// As a signal does.
    #[cfg(test)]
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Waits so long, or until somebody asks.
    pub fn wait(&self, time: Duration) {
        let end = Instant::now().checked_add(time);
        while !self.is_asked() {
            let left = end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(SLICE));
        }
    }
}
