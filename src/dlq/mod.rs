//! Dead letters: what a worker hands over, the envelope, the ledger that holds the commit back, the thread.

pub mod letter;
pub mod ledger;

mod text;
pub mod envelope;
pub mod headers;
pub mod breaker;

pub use ledger::Ledger;
pub use letter::DeadLetter;
