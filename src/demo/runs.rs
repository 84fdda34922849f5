//! A town of agents: some runs alive at a time, each moving at its own pace, a new one whenever one has ended.
//!
//! Pure and seeded: equal seeds, rates and times give equal messages. Time only stamps what is said; which run is
//! next is decided by a virtual clock that moves from step to step, so whoever asks for messages sets the speed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::agents::{AGENTS, TENANTS};
use super::dice::Dice;
use super::manifest::{Manifest, manifest};
use super::run::{Identity, Run};
use crate::wire::proto::DashStreamMessage;
use crate::wire::proto::dash_stream_message::Message as Payload;

/// Events per second of one run whose virtual clock moves like a real one; makes runs last 5 to 30 s.
const EVENTS_PER_RUN_AND_SECOND: u32 = 14;
const ALIVE_MIN: u32 = 3;
/// Bounds the memory of the generator, at some 10 KiB per run.
const ALIVE_MAX: u32 = 1_500;

pub struct Runs {
    dice: Dice,
    manifests: Vec<Arc<Manifest>>,
    /// Invariant: as long as `due`; the run of a slot is replaced when it ends.
    slots: Vec<Option<Run>>,
    /// Virtual milliseconds at which a slot is next, and the slot.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    ready: VecDeque<DashStreamMessage>,
    started: u64,
    ended: u64,
}

/// How many events a message holds.
pub fn events_in(message: &DashStreamMessage) -> u64 {
    match &message.message {
        Some(Payload::EventBatch(batch)) => batch.events.len() as u64,
        Some(_) => 1,
        None => 0,
    }
}

impl Runs {
    pub fn new(seed: u64, rate: u32) -> Self {
        let alive = (rate / EVENTS_PER_RUN_AND_SECOND).clamp(ALIVE_MIN, ALIVE_MAX) as usize;
        let mut dice = Dice::new(seed);
        // The first runs begin one after the other, so that not all of them end at once.
        let due = (0..alive).map(|slot| Reverse((dice.below(9_000) * u64::from(slot > 0), slot))).collect();
        Self {
            dice,
            manifests: AGENTS.iter().map(|agent| Arc::new(manifest(agent))).collect(),
            slots: (0..alive).map(|_| None).collect(),
            due,
            ready: VecDeque::new(),
            started: 0,
            ended: 0,
        }
    }

    /// Runs begun and ended so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.started, self.ended)
    }

    /// The next message of any run. The messages of one run come in the order of their sequences.
    pub fn next(&mut self, now_us: i64) -> DashStreamMessage {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return message;
            }
            self.turn(now_us);
        }
    }

    fn turn(&mut self, now_us: i64) {
        let Some(Reverse((now_ms, index))) = self.due.pop() else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let run = match slot {
            Some(run) => run,
            None => {
                self.started += 1;
                let identity = identity(&self.manifests, &mut self.dice);
                slot.insert(Run::new(identity, now_us, &mut self.dice))
            }
        };
        let pause = match run.step(now_us, &mut self.dice, &mut self.ready) {
            Some(pause) => pause,
            None => {
                self.ended += 1;
                *slot = None;
                self.dice.between(100, 2_500)
            }
        };
        self.due.push(Reverse((now_ms + pause, index)));
    }
}

fn identity(manifests: &[Arc<Manifest>], dice: &mut Dice) -> Identity {
    let index = dice.below(AGENTS.len() as u64) as usize;
    let agent = &AGENTS[index];
    Identity {
        agent,
        manifest: Arc::clone(&manifests[index]),
        tenant: dice.pick(TENANTS),
        thread: format!("{}-{:010x}", agent.short, dice.below(1 << 40)),
        topic: dice.pick(agent.topics),
        model: dice.pick(agent.models),
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
