//! The state of a run from its beginning to a point: what each change made of it, and whether that is what the
//! producer had.
//!
//! A change is applied to the state as it is. Where that fails, or comes to another hash than the producer's, the
//! checkpoint that the change names is tried in its place. After a change that could not be applied the state is
//! unknown, until one comes whole.

use std::io::Read;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::wire::state_hash::{StateHash, state_hash};

use super::limits::{STATE_BYTES_MAX, STATE_WORK_MAX};
use super::patch::{PatchError, State, Work};
use super::runs::Run;
use super::told::{Diff, Saved, Told, What};

/// Up to where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Point {
    End,
    /// The state after the event of this sequence.
    Sequence(u64),
    /// The state at this moment, microseconds since the epoch.
    Time(i64),
    /// The state that this checkpoint saved; the start of its id is enough.
    Checkpoint(String),
}

/// In which form a state came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    Initial,
    Whole,
    Changes(usize),
    Checkpoint(Vec<u8>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The hash is that of the producer.
    Verified,
    /// The producer sent none.
    NoHash,
    /// What we have is not what the producer had.
    Mismatch { told: Vec<u8>, found: StateHash },
    /// A checkpoint whose checksum holds, but which is not the state that the changes before it lead to.
    Differs,
    /// It could not be applied or read, and says why.
    Unusable(String),
    /// Changes of a state that is not known.
    NoBase,
}

impl Verdict {
    pub fn is_trouble(&self) -> bool {
        !matches!(self, Verdict::Verified | Verdict::NoHash)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Verified => formatter.write_str("verified"),
            Verdict::NoHash => formatter.write_str("no hash to verify"),
            Verdict::Mismatch { told, found } => {
                let start = |bytes: &[u8]| super::text::hex(bytes.get(..4).unwrap_or(bytes));
                write!(formatter, "HASH DIFFERS: told {}…, found {}…", start(told), start(found))
            }
            Verdict::Differs => formatter.write_str("DIFFERS from the state that its changes lead to"),
            Verdict::Unusable(why) => write!(formatter, "UNUSABLE: {why}"),
            Verdict::NoBase => formatter.write_str("NO BASE: the state before it is not known"),
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Place in the events of the run.
    pub event: usize,
    pub form: Form,
    pub verdict: Verdict,
    /// Size after the step; `None` while the state is not known.
    pub bytes: Option<usize>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Trail {
    pub steps: Vec<Step>,
    /// `None` if it is not known at the point.
    pub state: Option<Arc<State>>,
    /// Whether the point was found.
    pub reached: bool,
}

impl Trail {
    pub fn trouble(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.verdict.is_trouble())
    }
}

pub fn follow(run: &Run, point: &Point) -> Trail {
    let mut follower =
        Follower { state: None, checkpoint: None, work: Work { left: STATE_WORK_MAX }, steps: Vec::new() };
    let mut reached = *point == Point::End;
    for (index, event) in run.events.iter().enumerate() {
        if is_after(point, event) {
            reached = matches!(point, Point::Sequence(_));
            break;
        }
        follower.event(index, event);
        let here = match (point, &event.what) {
            (Point::Sequence(sequence), _) => event.sequence == *sequence,
            (Point::Checkpoint(start), What::Checkpoint(saved)) => {
                !start.is_empty() && super::text::hex(&saved.checkpoint).starts_with(&plain(start))
            }
            _ => false,
        };
        if here {
            reached = true;
            break;
        }
    }
    reached |= matches!(point, Point::Time(at_us) if run.events.iter().any(|event| event.at_us <= *at_us));
    Trail { steps: follower.steps, state: follower.state, reached }
}

fn is_after(point: &Point, event: &Told) -> bool {
    match point {
        Point::Sequence(sequence) => event.sequence > *sequence,
        Point::Time(at_us) => event.at_us > *at_us,
        Point::End | Point::Checkpoint(_) => false,
    }
}

/// An id as people copy it: UUIDs have hyphens.
fn plain(id: &str) -> String {
    id.chars().filter(|letter| *letter != '-').flat_map(char::to_lowercase).collect()
}

struct Follower {
    state: Option<Arc<State>>,
    /// The last that could be read.
    checkpoint: Option<(Vec<u8>, Arc<State>)>,
    work: Work,
    steps: Vec<Step>,
}

impl Follower {
    fn event(&mut self, index: usize, event: &Told) {
        let (form, verdict) = match &event.what {
            What::GraphStart { state: Some(state), .. } => (Form::Initial, self.initial(state)),
            What::Diff(diff) => {
                let whole = !diff.full_state.is_empty();
                (if whole { Form::Whole } else { Form::Changes(diff.operations.len()) }, self.diff(diff))
            }
            What::Checkpoint(saved) => (Form::Checkpoint(saved.checkpoint.clone()), self.saved(saved)),
            _ => return,
        };
        let bytes = self.state.as_ref().map(|state| state.bytes());
        self.steps.push(Step { event: index, form, verdict, bytes });
    }

    /// What cannot be read leaves the state unknown.
    fn initial(&mut self, json: &[u8]) -> Verdict {
        let read = self.read(json);
        self.settle(read, &[])
    }

    fn diff(&mut self, diff: &Diff) -> Verdict {
        if !diff.full_state.is_empty() {
            let read = self.read(&diff.full_state);
            return self.settle(read, &diff.hash);
        }
        let base = self.state.take();
        let Some(state) = base.clone().or_else(|| self.base_of(diff)) else { return Verdict::NoBase };
        let applied = state.apply(&diff.operations, &mut self.work).map(Arc::new);
        let verdict = self.settle(applied, &diff.hash);
        if !verdict.is_trouble() || base.is_none() {
            return verdict;
        }
        // Perhaps what lay between was rolled back: the change says on what it was made.
        let (after, mut other) = (self.state.take(), None);
        if let Some(state) = self.base_of(diff).filter(|state| base.as_ref() != Some(state)) {
            other = state.apply(&diff.operations, &mut self.work).map(Arc::new).ok();
        }
        if let Some(other) = other
            && self.settle(Ok(other), &diff.hash) == Verdict::Verified
        {
            return Verdict::Verified;
        }
        self.state = after;
        verdict
    }

    fn base_of(&self, diff: &Diff) -> Option<Arc<State>> {
        let (id, state) = self.checkpoint.as_ref()?;
        (!id.is_empty() && *id == diff.base_checkpoint).then(|| Arc::clone(state))
    }

    fn saved(&mut self, saved: &Saved) -> Verdict {
        let text = match text_of(saved) {
            Ok(text) => text,
            Err(why) => return Verdict::Unusable(why),
        };
        if self.work.spend(text.len()).is_err() {
            return Verdict::Unusable(PatchError::TooMuchWork.to_string());
        }
        let found: StateHash = Sha256::digest(&text).into();
        if !saved.checksum.is_empty() && saved.checksum != found {
            return Verdict::Mismatch { told: saved.checksum.clone(), found };
        }
        let state = match self.read(&text) {
            Ok(state) => state,
            Err(error) => return Verdict::Unusable(error.to_string()),
        };
        let same = self.state.as_ref().is_none_or(|known| known.value() == state.value());
        self.checkpoint = Some((saved.checkpoint.clone(), Arc::clone(&state)));
        self.state = Some(state);
        match (same, saved.checksum.is_empty()) {
            (false, _) => Verdict::Differs,
            (true, true) => Verdict::NoHash,
            (true, false) => Verdict::Verified,
        }
    }

    fn read(&mut self, json: &[u8]) -> Result<Arc<State>, PatchError> {
        self.work.spend(json.len())?;
        if json.len() > STATE_BYTES_MAX {
            return Err(PatchError::TooLarge { index: 0 });
        }
        let value: Value = serde_json::from_slice(json).map_err(|_| PatchError::Value { index: 0 })?;
        State::new(value).map(Arc::new).ok_or(PatchError::TooLarge { index: 0 })
    }

    fn settle(&mut self, state: Result<Arc<State>, PatchError>, told: &[u8]) -> Verdict {
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                self.state = None;
                return Verdict::Unusable(error.to_string());
            }
        };
        let verdict = match told.is_empty() {
            true => Verdict::NoHash,
            false => match self.work.spend(state.bytes()) {
                Err(error) => Verdict::Unusable(error.to_string()),
                Ok(()) => match state_hash(state.value()) {
                    found if found == *told => Verdict::Verified,
                    found => Verdict::Mismatch { told: told.to_vec(), found },
                },
            },
        };
        self.state = Some(state);
        verdict
    }
}

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The JSON text of a checkpoint, never more than a state may be.
fn text_of(saved: &Saved) -> Result<Vec<u8>, String> {
    if !saved.compressed && !saved.state.starts_with(&ZSTD_MAGIC) {
        return Ok(saved.state.clone());
    }
    let mut text = Vec::new();
    let read = zstd::stream::read::Decoder::new(saved.state.as_slice())
        .and_then(|decoder| decoder.take(STATE_BYTES_MAX as u64 + 1).read_to_end(&mut text));
    match read {
        Err(error) => Err(format!("zstd refuses it: {}", super::text::one_line(&error.to_string(), 80))),
        Ok(bytes) if bytes > STATE_BYTES_MAX => Err(format!("it is larger than {} MiB", STATE_BYTES_MAX >> 20)),
        Ok(_) => Ok(text),
    }
}

#[cfg(test)]
#[path = "trail_tests.rs"]
mod tests;
