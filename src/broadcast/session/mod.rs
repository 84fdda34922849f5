//! The pure core of one client: where it stands, what it is owed, what it is told. No sockets, no clock.
//!
//! A session has no queue but a position in the shard's ring. What it owes apart from that is a bounded few control
//! frames (`outbox`) and the rest of at most one unit (`owed`). In transition, after a resume, it has a floor per
//! partition: what lies below was already sent, or was never wanted.
//!
//! Order of what is written: the unit under way, control frames, gaps, then chunks. Between two accepted resumes the
//! offsets of a partition only go up, and none is sent twice.

mod judge;
mod cold;
mod follow;
mod place;
mod replay;
mod standing;
mod threads;
#[cfg(test)]
mod falls_tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use cold::{Cold, ColdStep, Falls};
use follow::Follow;
use replay::Active;
use threads::ThreadReplay;

use super::decoder::Decoder;
use super::filter::Filter;
use super::protocol::{self, Answered, Hello, HelloPartition, Notice, Resume, Said};
use super::runs::RunIndex;
use crate::log::{Chunk, Form, Ring, frame};
use crate::observe::stats::{Protocol, ResumeMode, ShardStats};
use crate::replay::ask::Wish;
use crate::words::{CloseReason, Offset, PartitionId, SlowPolicy, StreamIdentity};

/// Kafka's own bounds of the partitions, as last published.
#[derive(Clone, Default, Debug)]
pub struct Watermarks {
    /// Monotonic ms when the request for these began: a cursor that came later may not be judged by them.
    pub asked_at_ms: u64,
    /// `(log start, high watermark)`.
    pub bounds: BTreeMap<PartitionId, (Offset, Offset)>,
    /// Where the second tier's part begins, if it is there and has any.
    pub second_tier: BTreeMap<PartitionId, Offset>,
}

impl Watermarks {
    /// The first offset that some tier still has.
    pub fn oldest(&self, partition: PartitionId) -> Option<Offset> {
        let (low, _) = self.bounds.get(&partition)?;
        Some(self.second_tier.get(&partition).map_or(*low, |second| (*second).min(*low)))
    }
}

/// What a shard knows besides its ring.
#[derive(Clone, Debug)]
pub struct Topology {
    pub identity: Arc<StreamIdentity>,
    /// The text form of the identity, made once.
    pub stream: String,
    pub partition_count: u32,
}

/// Settings that sessions share.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    pub group: bool,
    /// For a client that says nothing about it, and what one may choose.
    pub slow: SlowPolicy,
    pub slow_allowed: Vec<SlowPolicy>,
    /// What is older than the log can be read. Without it, the log is all there is.
    pub cold: bool,
    /// How old what is looked through for a run may be, and how many bytes of it.
    pub search_age_ms: u64,
    pub search_max_bytes: u64,
    pub message_max_bytes: u32,
    pub resume_partitions_max: u32,
    pub stall_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub ping_interval_ms: u64,
    /// How long an answer may wait for Kafka before it is `unavailable`.
    pub judge_timeout_ms: u64,
}

/// What the shell shows a session.
pub struct World<'a> {
    pub ring: &'a Ring,
    pub topology: &'a Topology,
    pub watermarks: &'a Watermarks,
    pub settings: &'a SessionSettings,
    pub stats: &'a ShardStats,
    /// Where runs that this shard has seen begin.
    pub runs: &'a RunIndex,
    pub now_ms: u64,
    /// Only to be compared with Kafka's timestamps, ms since the epoch.
    pub wall_ms: i64,
}

/// What the session wants next. The shell writes, then says how much went out.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// [`Session::own`] holds bytes to write; then [`Session::wrote_own`].
    Own,
    /// The rest of the chunk at the position, from [`Session::sent_of_chunk`] on; then [`Session::wrote_chunk`].
    Rest,
    /// Whole chunks from the position on, up to the sequence `limit`; shared with everybody who stands there.
    Share { limit: u64 },
    /// [`Session::unrendered`] has not been rendered as JSON yet.
    NeedsJson,
    /// This is to be asked of the cold readers; then [`Session::cold_asked`], or [`Session::cold_full`].
    Ask(Wish),
    /// Nothing to do until something happens.
    Idle,
    /// The close frame is out.
    Finished(CloseReason),
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    protocol: Protocol,
    /// v1: the client sent `stream`, so it knows of more than the predecessor.
    stream_aware: bool,
    /// Sending has begun: a first frame came, or the grace is over.
    flowing: bool,
    /// Sequence of the chunk to send next. Invariant: at most the ring's head; at least its tail between turns.
    position: u64,
    /// Bytes of that chunk's form already sent.
    sent: usize,
    owed: Vec<u8>,
    owed_sent: usize,
    outbox: Vec<u8>,
    outbox_sent: usize,
    /// Payload of the last ping, at most 125 bytes, until it is answered.
    owed_pong: Option<Vec<u8>>,
    /// Offsets below are not sent. Only in transition, or for a cursor ahead of our log.
    floors: BTreeMap<PartitionId, Offset>,
    /// The head when the floors were set: whoever is there has passed every floor that lay in the log then.
    floors_until: u64,
    /// Evicted before they were sent, and not yet told: `(first, next)`.
    missed: BTreeMap<PartitionId, (Offset, Offset)>,
    judging: Option<judge::Judging>,
    /// The last answer was `unavailable` for some partition.
    unavailable: bool,
    active: Option<Active>,
    threads: Option<Box<ThreadReplay>>,
    /// Partitions that are read from below the log.
    cold: Option<Box<Cold>>,
    falls: Falls,
    slow: SlowPolicy,
    /// Told gaps instead of being brought up to date.
    falling_behind: bool,
    filter: Option<Box<Filter>>,
    /// Goes up with every change of the filter.
    filter_version: u32,
    follow: Follow,
    /// Offsets that the filter withheld since the client was last told where it stands.
    withheld: u64,
    told_at_ms: u64,
    resumes: u64,
    ending: Option<CloseReason>,
    /// The close frame is in the outbox; nothing may follow it.
    closed: bool,
}

impl Session {
    /// A session whose position is fixed now, at the head. Hello, where the protocol has one, is its first frame.
    pub fn new(protocol: Protocol, world: &World<'_>) -> Self {
        let mut session = Self {
            protocol,
            stream_aware: false,
            flowing: false,
            position: world.ring.head(),
            sent: 0,
            owed: Vec::new(),
            owed_sent: 0,
            outbox: Vec::new(),
            outbox_sent: 0,
            owed_pong: None,
            floors: BTreeMap::new(),
            floors_until: 0,
            missed: BTreeMap::new(),
            judging: None,
            unavailable: false,
            active: None,
            threads: None,
            cold: None,
            falls: Falls::default(),
            slow: world.settings.slow,
            falling_behind: false,
            filter: None,
            filter_version: 0,
            follow: Follow::Log,
            withheld: 0,
            told_at_ms: world.now_ms,
            resumes: 0,
            ending: None,
            closed: false,
        };
        if protocol != Protocol::V1 {
            session.active = Some(session.replay(0, "start", ResumeMode::Partition, world));
            session.say(&Notice::Hello(&hello(world)));
        }
        session
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub fn form(&self) -> Form {
        protocol::form(self.protocol, self.stream_aware)
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of the chunk at the position that are already out.
    pub fn sent_of_chunk(&self) -> usize {
        self.sent
    }

    /// Bytes on the heap that are this session's alone: what counts against the budget for clients in mid-frame.
    pub fn held_bytes(&self) -> usize {
        self.owed.len()
    }

    /// Control frames wait: more input should not be read.
    pub fn is_owed_control(&self) -> bool {
        self.outbox.len() > self.outbox_sent
    }

    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Why it is being closed.
    pub fn ending(&self) -> Option<CloseReason> {
        self.ending
    }

    /// Waits for watermarks that were asked for after this monotonic ms.
    pub fn waits_for_watermarks(&self) -> Option<u64> {
        self.judging.as_ref().map(|judging| judging.since_ms)
    }

    /// Sending begins, whether the client spoke or not.
    pub fn begin(&mut self) {
        self.flowing = true;
    }

    pub fn is_flowing(&self) -> bool {
        self.flowing
    }

    /// A message of the client.
    pub fn hear(&mut self, said: Said, world: &World<'_>) {
        self.flowing = true;
        if self.ending.is_some() {
            return;
        }
        self.unpark(world.ring.head());
        match said {
            Said::Resume(resume) => self.resume(resume, world),
            Said::Threads { sequences, stream } => self.resume_threads(sequences, stream, world),
            Said::CursorReset => self.cursor_reset(world),
            Said::Subscribe(filter) => self.subscribe(filter, world),
            Said::Pause => self.pause(world),
            Said::Continue => self.go_on(world),
            Said::SlowPolicy(policy) => self.choose_policy(policy, world),
            Said::Ping(nonce) => self.say(&Notice::Pong(&nonce)),
            Said::Unsupported { what, why } | Said::Malformed { what, why } => {
                world.stats.refused_frames.add(1);
                self.say(&Notice::Refused { what, why });
            }
            Said::TooMany { what, limit } => {
                self.say(&Notice::TooMany { what, limit });
                self.close(CloseReason::ResumeTooLarge, world);
            }
            Said::Unparseable => {
                world.stats.control_parse_failures.add(1);
                self.say(&Notice::Refused { what: "message", why: "not a message of this protocol" });
            }
            Said::Ignored => {}
        }
    }

    /// What to do next. Makes progress over chunks that carry nothing for this client.
    pub fn step(&mut self, world: &World<'_>, decoder: &mut Decoder) -> Step {
        loop {
            if self.owed_sent < self.owed.len() {
                return Step::Own;
            }
            if self.sent > 0 {
                return Step::Rest;
            }
            if self.cold_sending().is_some() {
                if self.make_cold_part(decoder, world.stats) {
                    continue;
                }
                return Step::Own;
            }
            if self.outbox_sent < self.outbox.len() {
                return Step::Own;
            }
            if let Some(reason) = self.ending
                && self.closed
            {
                return Step::Finished(reason);
            }
            if let Some(payload) = self.owed_pong.take() {
                frame::push_frame(&mut self.outbox, frame::Opcode::Pong, &payload);
                continue;
            }
            if self.ending.is_some() || !self.flowing {
                return Step::Idle;
            }
            if self.judging.is_some() {
                if self.give_answer(world) {
                    continue;
                }
                return self.judging.as_ref().and_then(|judging| judging.wish()).map_or(Step::Idle, Step::Ask);
            }
            if self.follow != Follow::Log {
                return Step::Idle;
            }
            if !self.missed.is_empty() {
                self.tell_missed(world);
                continue;
            }
            self.drop_passed_floors(world);
            match self.step_cold(world) {
                ColdStep::Again | ColdStep::Send => continue,
                ColdStep::NeedsJson => return Step::NeedsJson,
                ColdStep::Ask(wish) => return Step::Ask(wish),
                ColdStep::Nothing => {}
            }
            if self.finish_replay(world) || self.tell_progress(world) {
                continue;
            }
            let Some(chunk) = world.ring.chunk(self.position) else {
                self.park();
                return Step::Idle;
            };
            if self.transition(chunk, decoder, world.stats) {
                continue;
            }
            if self.filter.is_some() {
                match self.pass_filtered(chunk, chunk.from, decoder, world.stats) {
                    true => continue,
                    false => return Step::NeedsJson,
                }
            }
            match chunk.form(self.form()) {
                None => return Step::NeedsJson,
                Some([]) => self.pass(chunk),
                Some(_) => return Step::Share { limit: self.share_limit(world) },
            }
        }
    }

    /// Bytes to write for [`Step::Own`].
    pub fn own(&self) -> &[u8] {
        if self.owed_sent < self.owed.len() {
            &self.owed[self.owed_sent..]
        } else if let Some((chunk, sent)) = self.cold_sending() {
            chunk.form(self.form()).map_or(&[], |form| &form[sent..])
        } else {
            &self.outbox[self.outbox_sent..]
        }
    }

    pub fn wrote_own(&mut self, bytes: usize) {
        if self.owed_sent == self.owed.len() && self.cold_sending().is_some() {
            self.wrote_cold(bytes);
        } else if self.owed_sent < self.owed.len() {
            self.owed_sent += bytes;
            assert!(self.owed_sent <= self.owed.len(), "no more is written than there is");
            if self.owed_sent == self.owed.len() {
                (self.owed, self.owed_sent) = (Vec::new(), 0);
            }
        } else {
            self.outbox_sent += bytes;
            assert!(self.outbox_sent <= self.outbox.len(), "no more is written than there is");
            if self.outbox_sent == self.outbox.len() {
                (self.outbox, self.outbox_sent) = (Vec::new(), 0);
            }
        }
    }

    /// `bytes` more of the chunk at the position, whose form has `total`, are out. True: it is through.
    pub fn wrote_chunk(&mut self, chunk: &Chunk, bytes: usize, total: usize) -> bool {
        self.sent += bytes;
        assert!(self.sent <= total, "no more is written than there is");
        if self.sent < total {
            return false;
        }
        self.sent = 0;
        self.pass(chunk);
        true
    }

    /// Ends the connection in order: the unit under way, what was said before, then goodbye. Nothing after.
    pub fn close(&mut self, reason: CloseReason, world: &World<'_>) {
        if self.ending.is_some() {
            return;
        }
        self.unpark(world.ring.head());
        self.settle_unit(world.ring);
        // An answer that waits is given as it can be now: the cursor of goodbye stands on it.
        self.end_judging(world);
        self.ending = Some(reason);
        self.closed = true;
        if self.protocol != Protocol::V1 && reason != CloseReason::StreamChanged {
            let cursor = self.cursor(world.ring);
            let notice =
                Notice::Bye { reason, cursor: &cursor, reconnect_after_ms: reconnect_after_ms(reason, self.position) };
            self.say(&notice);
        } else if self.protocol != Protocol::V1 {
            self.say(&Notice::Bye { reason, cursor: &[], reconnect_after_ms: 0 });
        }
        protocol::push_close(&mut self.outbox, reason.code(), reason.label());
        self.cold = None;
    }

    /// The client said goodbye: its code is sent back.
    pub fn answer_close(&mut self, code: Option<u16>, world: &World<'_>) {
        if self.ending.is_some() {
            return;
        }
        self.settle_unit(world.ring);
        self.ending = Some(CloseReason::ClientClosed);
        self.closed = true;
        self.cold = None;
        protocol::push_close(&mut self.outbox, code.unwrap_or(CloseReason::ClientClosed.code()), "");
    }

    /// A ping frame came. A flood of them owes one pong, to the last (RFC 6455, 5.5.3).
    pub fn pong(&mut self, payload: &[u8]) {
        self.owed_pong = Some(payload.to_vec());
    }

    /// A ping of ours.
    pub fn ping(&mut self) {
        if !self.closed && self.outbox.is_empty() {
            frame::push_frame(&mut self.outbox, frame::Opcode::Ping, &[]);
        }
    }

    fn say(&mut self, notice: &Notice<'_>) {
        protocol::say(self.protocol, self.stream_aware, notice, &mut self.outbox);
    }

    /// The whole chunk at the position is out, or carries nothing.
    fn pass(&mut self, chunk: &Chunk) {
        self.count_passed(chunk, chunk.from, chunk.next);
        self.position += 1;
    }

    /// Many whole chunks are out at once. The caller looks each up only when a replay counts them.
    pub fn passed_many(&mut self, ring: &Ring, chunks: u64) {
        if self.active.is_some() {
            for _ in 0..chunks {
                if let Some(chunk) = ring.chunk(self.position).cloned() {
                    self.pass(&chunk);
                }
            }
        } else {
            self.position += chunks;
        }
    }

    /// Part of the chunk at the position is out.
    pub fn begin_chunk(&mut self, bytes: usize) {
        self.sent = bytes;
    }

    /// Floors and thread filters, at the chunk that is next. True: something changed, look again.
    fn transition(&mut self, chunk: &Chunk, decoder: &mut Decoder, stats: &ShardStats) -> bool {
        let floor = self.floors.get(&chunk.partition).copied();
        if floor.is_some_and(|floor| floor >= chunk.next) {
            self.position += 1;
            return true;
        }
        if self.owe_threads(chunk, floor.unwrap_or(chunk.from).max(chunk.from), decoder, stats) {
            self.floors.remove(&chunk.partition);
            self.position += 1;
            return true;
        }
        let Some(floor) = floor else { return false };
        if floor <= chunk.from {
            self.floors.remove(&chunk.partition);
            return false;
        }
        if self.filter.is_some() {
            if !self.pass_filtered(chunk, floor, decoder, stats) {
                return false;
            }
            self.floors.remove(&chunk.partition);
            return true;
        }
        let form = self.form();
        if form == Form::Json && chunk.form(form).is_none() {
            return false;
        }
        self.owed = chunk.encode(form, floor);
        stats.delivered_records.add(chunk.delivered_from(floor));
        self.count_passed(chunk, floor, chunk.next);
        self.floors.remove(&chunk.partition);
        self.position += 1;
        true
    }

    /// What stays is the floor of a cursor ahead of our log.
    fn drop_passed_floors(&mut self, world: &World<'_>) {
        if !self.floors.is_empty() && self.position >= self.floors_until {
            self.floors_until = world.ring.head().max(self.position + 1);
            let (ring, position) = (world.ring, self.position);
            self.floors.retain(|partition, floor| ring.next_at(*partition, position).is_none_or(|next| *floor > next));
        }
    }

    /// How far one shared write may go: no farther than where something has to be looked at chunk by chunk.
    fn share_limit(&self, world: &World<'_>) -> u64 {
        if !self.floors.is_empty() {
            return self.position + 1;
        }
        match &self.active {
            Some(active) if self.protocol == Protocol::V1 => active.until.max(self.position + 1),
            _ => world.ring.head(),
        }
    }
}

fn hello(world: &World<'_>) -> Hello {
    let partitions = world.ring.partitions().map(|(partition, oldest, next)| HelloPartition {
        partition,
        oldest,
        next,
        lag: world.watermarks.bounds.get(&partition).map(|(_, high)| high.0.saturating_sub(next.0)),
        position: next,
    });
    Hello {
        stream: world.topology.stream.clone(),
        topic: world.topology.identity.topic.clone(),
        weak: world.topology.identity.is_weak(),
        group: world.settings.group,
        partitions: partitions.collect(),
        message_max_bytes: world.settings.message_max_bytes,
        resume_partitions_max: world.settings.resume_partitions_max,
        stall_timeout_ms: world.settings.stall_timeout_ms,
        idle_timeout_ms: world.settings.idle_timeout_ms,
        ping_interval_ms: world.settings.ping_interval_ms,
        slow_policy: world.settings.effective(world.settings.slow),
        slow_policies: world.settings.choices(),
    }
}

/// Spread over five seconds, so that a restart is not answered by everybody at once. No randomness in a core: the
/// position differs enough between clients only by chance, so the client adds its own.
fn reconnect_after_ms(reason: CloseReason, salt: u64) -> u64 {
    match reason {
        CloseReason::ShuttingDown => salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32 & 0x0FFF,
        CloseReason::Unavailable | CloseReason::OutOfBudget | CloseReason::Internal => 1000,
        _ => 0,
    }
}
