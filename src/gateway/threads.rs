//! The one place that starts threads: every thread has a name that Linux can show, tells when and how it ends, and is
//! joined by whoever started it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;

/// Linux keeps this much of a thread's name, bytes.
pub const NAME_BYTES_MAX: usize = 15;

/// How a thread ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Its work was done, or it was told to stop.
    Done,
    /// It gave up, with what it says.
    Failed(String),
    Panicked(String),
}

/// Told to the supervisor by every thread as its last act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    pub thread: String,
    pub ending: Ending,
}

/// Starts a thread that reports its end to `ended`. A panic is caught there: it takes the process down in order.
#[allow(clippy::disallowed_methods, reason = "the one place that starts threads")]
pub fn spawn<T, F>(name: &str, ended: Sender<Ended>, run: F) -> std::io::Result<JoinHandle<Option<T>>>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, String> + Send + 'static,
{
    let thread = short(name);
    std::thread::Builder::new().name(thread.clone()).spawn(move || {
        let (value, ending) = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(value)) => (Some(value), Ending::Done),
            Ok(Err(error)) => (None, Ending::Failed(error)),
            Err(panic) => (None, Ending::Panicked(words_of(panic.as_ref()))),
        };
        if let Err(unsent) = ended.try_send(Ended { thread, ending }) {
            tracing::debug!(?unsent, "nobody waits for the end of a thread any more");
        }
        value
    })
}

fn short(name: &str) -> String {
    assert!(name.is_ascii(), "thread names are ours");
    name[..name.len().min(NAME_BYTES_MAX)].to_owned()
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}
