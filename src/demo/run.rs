//! One agent run: performs its script and says each step as the message that a real producer would send.
//!
//! Pure: time is handed in, chance comes from the dice. Sequences count from 1 over everything the run sends; the
//! header of a batch has none.

use std::collections::VecDeque;
use std::sync::Arc;

use super::agents::Agent;
use super::dice::Dice;
use super::manifest::Manifest;
use super::script::{NodeId, Step, script};
use super::state::State;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{DashStreamMessage, Event, EventBatch, Header, MessageType};

/// How long a producer holds events back to fill a batch.
const BATCH_HELD_US: i64 = 100_000;

/// What is the same during the whole run.
pub struct Identity {
    pub agent: &'static Agent,
    pub manifest: Arc<Manifest>,
    pub tenant: &'static str,
    pub thread: String,
    pub topic: &'static str,
    pub model: &'static str,
}

pub struct Run {
    pub(super) identity: Identity,
    pub(super) state: State,
    pub(super) started_us: i64,
    /// Open nodes and when they started; as many as a fork has branches at most.
    pub(super) open_nodes: Vec<(NodeId, i64)>,
    pub(super) checkpoint_id: Vec<u8>,
    /// Output tokens since the last change of the state, in total, and the last answer.
    pub(super) tokens: u64,
    pub(super) tokens_total: u64,
    pub(super) said: String,
    pub(super) retries: u64,
    /// The state says that the run is done; said before `GRAPH_END`.
    pub(super) concluded: bool,
    steps: Vec<Step>,
    sequence: u64,
    held: Vec<Event>,
    held_since_us: i64,
}

/// What a step does besides sending: how long until the next one, in virtual milliseconds.
pub type Pause = u64;

impl Run {
    pub fn new(identity: Identity, now_us: i64, dice: &mut Dice) -> Self {
        let state = State::new(identity.topic, dice);
        let mut steps = script(identity.agent, dice);
        steps.shrink_to_fit();
        Self {
            identity,
            state,
            started_us: now_us,
            open_nodes: Vec::new(),
            checkpoint_id: Vec::new(),
            tokens: 0,
            tokens_total: 0,
            said: String::new(),
            retries: 0,
            concluded: false,
            steps,
            sequence: 0,
            held: Vec::new(),
            held_since_us: 0,
        }
    }

    /// Performs the next step, which adds zero or more messages to `out`. None when the run has ended; then nothing
    /// is held back any more.
    pub fn step(&mut self, now_us: i64, dice: &mut Dice, out: &mut VecDeque<DashStreamMessage>) -> Option<Pause> {
        if !self.held.is_empty() && now_us.saturating_sub(self.held_since_us) >= BATCH_HELD_US {
            self.flush(now_us, dice, out);
        }
        let mut steps = std::mem::take(&mut self.steps);
        let pause = steps.pop().map(|step| self.perform(step, &mut steps, now_us, dice, out));
        self.steps = steps;
        if pause.is_none() || self.steps.is_empty() {
            self.flush(now_us, dice, out);
            return None;
        }
        pause
    }

    fn perform(
        &mut self,
        step: Step,
        steps: &mut Vec<Step>,
        now_us: i64,
        dice: &mut Dice,
        out: &mut VecDeque<DashStreamMessage>,
    ) -> Pause {
        match step {
            Step::Lanes(mut lanes) => {
                lanes.retain(|lane| !lane.is_empty());
                let lane = dice.below(lanes.len() as u64) as usize;
                let Some(lane) = lanes.get_mut(lane) else { return 0 };
                let Some(step) = lane.pop() else { return 0 };
                let pause = self.perform(step, lane, now_us, dice, out);
                let branches = lanes.len() as u64;
                steps.push(Step::Lanes(lanes));
                pause / branches
            }
            step => {
                let said = self.say(step, steps, now_us, dice);
                if let Some(payload) = said.payload {
                    self.send(payload, now_us, dice, out);
                }
                said.pause
            }
        }
    }

    /// Gives the payload its header and its place: events of a batching agent wait, everything else goes at once
    /// after what waits.
    fn send(&mut self, payload: Payload, now_us: i64, dice: &mut Dice, out: &mut VecDeque<DashStreamMessage>) {
        self.sequence += 1;
        let sequence = self.sequence;
        match payload {
            Payload::Event(mut event) if self.identity.agent.batch > 1 => {
                event.header = Some(self.header(MessageType::Event, sequence, now_us, dice));
                if self.held.is_empty() {
                    self.held_since_us = now_us;
                }
                self.held.push(event);
                if self.held.len() >= self.identity.agent.batch {
                    self.flush(now_us, dice, out);
                }
            }
            mut payload => {
                self.flush(now_us, dice, out);
                let (kind, header) = match &mut payload {
                    Payload::Event(payload) => (MessageType::Event, &mut payload.header),
                    Payload::StateDiff(payload) => (MessageType::StateDiff, &mut payload.header),
                    Payload::TokenChunk(payload) => (MessageType::TokenChunk, &mut payload.header),
                    Payload::ToolExecution(payload) => (MessageType::ToolExecution, &mut payload.header),
                    Payload::Checkpoint(payload) => (MessageType::Checkpoint, &mut payload.header),
                    Payload::Metrics(payload) => (MessageType::Metrics, &mut payload.header),
                    Payload::Error(payload) => (MessageType::Error, &mut payload.header),
                    Payload::EventBatch(payload) => (MessageType::EventBatch, &mut payload.header),
                    Payload::ExecutionTrace(payload) => (MessageType::ExecutionTrace, &mut payload.header),
                };
                *header = Some(self.header(kind, sequence, now_us, dice));
                out.push_back(DashStreamMessage { message: Some(payload) });
            }
        }
    }

    fn flush(&mut self, now_us: i64, dice: &mut Dice, out: &mut VecDeque<DashStreamMessage>) {
        let payload = match self.held.len() {
            0 => return,
            1 => match self.held.pop() {
                Some(event) => Payload::Event(event),
                None => return,
            },
            _ => Payload::EventBatch(EventBatch {
                header: Some(self.header(MessageType::EventBatch, 0, now_us, dice)),
                events: std::mem::take(&mut self.held),
            }),
        };
        out.push_back(DashStreamMessage { message: Some(payload) });
    }

    fn header(&self, kind: MessageType, sequence: u64, now_us: i64, dice: &mut Dice) -> Header {
        Header {
            message_id: dice.uuid().to_vec(),
            timestamp_us: now_us,
            tenant_id: self.identity.tenant.to_owned(),
            thread_id: self.identity.thread.clone(),
            sequence,
            r#type: kind as i32,
            parent_id: Vec::new(),
            compression: 0,
            schema_version: 1,
        }
    }
}
