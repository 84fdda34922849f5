//! How far a long read is: on standard error, and only where a person looks at it.

use std::fmt::Write;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::analysis::text::{count, duration};
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

/// `━━━━━━━━╸───────────  123,456 of 300,000 records  45,678/s  3 s left`: fits into 80 columns up to some millions, and
/// is cut where a terminal is narrower.
fn style(known: bool, bytes: bool) -> ProgressStyle {
    let template = match (known, bytes) {
        (true, false) => "{bar:20}  {human_pos} of {human_len} records  {rate}  {left}",
        (true, true) => "{bar:20}  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {left}",
        (false, false) => "{spinner}  {human_pos} records  {rate}",
        (false, true) => "{spinner}  {binary_bytes}  {binary_bytes_per_sec}",
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style
        .progress_chars("━╸─")
        .with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
            // What cannot be drawn is left out, and drawn the next time.
            write!(out, "{}/s", count(state.per_sec() as u64)).ok();
        })
        .with_key("left", |state: &ProgressState, out: &mut dyn Write| {
            // A second at least: where nothing is left, there is nothing to wait for.
            let seconds = state.eta().as_secs().max(1);
            match i64::try_from(seconds.saturating_mul(1_000_000)) {
                Ok(us @ 60_000_000..) => write!(out, "{} left", duration(us)),
                _ => write!(out, "{seconds} s left"),
            }
            .ok();
        })
}
