//! Dead letters: what a worker hands over, the envelope, the ledger that holds the commit back, the thread.

pub mod letter;
pub mod ledger;

mod text;
pub mod envelope;
pub mod headers;
pub mod breaker;

pub mod queue;
mod producer;
pub mod thread;

pub use ledger::Ledger;
pub use letter::DeadLetter;
pub use queue::{DlqChannels, DlqInlet, DlqSender, HandedOver, Queued};
pub use thread::{DlqStartError, DlqThread, DlqThreadOptions, Flushed};
