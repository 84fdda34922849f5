//! Dead letters: what a worker hands over, the envelope, the ledger that holds the commit back, the thread.

pub mod ledger;
pub mod letter;

pub use ledger::Ledger;
pub use letter::DeadLetter;
