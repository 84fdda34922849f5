//! The words of the house: newtypes for what must not be swapped, the identity of a stream, and the closed
//! enums of everything that can be refused. One meaning each, in code, metrics, logs and docs.
//!
//! Deliberately absent: behaviour. Every room may use these; this room uses none.

pub mod offset;
#[cfg(feature = "gateway")]
pub mod identity;
pub mod reason;
#[cfg(feature = "gateway")]
pub mod slow_policy;
#[cfg(any(feature = "gateway", feature = "producer"))]
pub mod access;
#[cfg(any(feature = "gateway", feature = "producer"))]
pub mod header;

#[cfg(feature = "gateway")]
pub use identity::StreamIdentity;
pub use offset::{Offset, PartitionId};
pub use reason::{CloseReason, DropReason, GapReason, SkipReason};
#[cfg(feature = "gateway")]
pub use slow_policy::SlowPolicy;
