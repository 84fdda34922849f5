//! Raw (what was written) to checked (what is meant); the only reader of the environment.

pub mod checked;

pub use checked::*;
