//! What the events of a run mean: when each node began and ended, what took the time, what it cost, what the state was
//! and whether it can be believed.
//!
//! In the order of the data: an event in few words (`told`), how a run stands (`life`), events as runs
//! (`runs`), then what can be read from one
//! run: `spans`, `path`, `calls`, `trail`; and what is made of those: `compare`, `profile`, `stacks`, `otlp`. `live`
//! is the same for many runs at once, of which only the present is kept.
//!
//! Pure: events in, findings out. Time is what producers wrote. Everything that grows with the input has a bound in
//! [`limits`]; what a bound left out is said by a [`Note`], never passed over. No event can make it panic.
//!
//! Deliberately absent: where events come from, how findings are shown, and any clock.

pub mod limits;
pub mod text;
pub mod note;
pub mod told;
pub mod life;
pub mod runs;
pub mod spans;
pub mod path;
pub mod prices;
pub mod calls;
pub mod costs;
pub mod patch;
pub mod trail;
pub mod compare;
pub mod profile;
pub mod stacks;
pub mod otlp;
pub mod live;

pub use note::Note;
pub use runs::{Collector, Run, RunId};
pub use spans::{Pairing, Span, SpanKind, Spans};
pub use told::{Told, What};

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod hostile_tests;
