//! How far a long read is: on standard error, and only where a person looks at it.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::source::{Progress, Source};

/// The bar moves this often.
const EVERY: Duration = Duration::from_millis(100);

pub struct Bar {
    bar: Option<ProgressBar>,
    moved_at: Instant,
    bytes: bool,
}

impl Bar {
    /// `wanted`: nothing else is written to the terminal meanwhile. `bytes`: that is what a file is counted in.
    pub fn new(wanted: bool, bytes: bool) -> Self {
        let bar = (wanted && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style(false, bytes));
            bar
        });
        Self { bar, moved_at: Instant::now(), bytes }
    }

    pub fn tick(&mut self, source: &dyn Source) {
        let Some(bar) = &self.bar else { return };
        if self.moved_at.elapsed() < EVERY {
            return;
        }
        self.moved_at = Instant::now();
        let Progress { done, total } = source.progress();
        if let Some(total) = total
            && bar.length() != Some(total)
        {
            bar.set_length(total);
            bar.set_style(style(true, self.bytes));
        }
        bar.set_position(done);
    }

    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(known: bool, bytes: bool) -> ProgressStyle {
    let template = match (known, bytes) {
        (true, false) => "{bar:30} {pos}/{len} records, {per_sec}, {eta} left",
        (true, true) => "{bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
        (false, false) => "{spinner} {pos} records, {per_sec}",
        (false, true) => "{spinner} {bytes}, {bytes_per_sec}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
