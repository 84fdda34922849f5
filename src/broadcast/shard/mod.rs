//! One shard: a thread with a mio loop that owns its clients, its ring of chunks, and nothing shared.
//!
//! A round is: wait, take the inbox into the ring, read what clients say, make room, serve those who are ready, look
//! after the rest. Serving stops after `TURN`, so that a round with many clients does not keep anybody waiting;
//! whoever was not served stays on the ready list. Sockets are edge-triggered: a client that was stopped by its
//! budget, and not by its socket, is put back by us, since no event will.

mod connection;
mod heard;
mod roster;
mod serve;
mod cold;
mod subscriptions;
mod sweep;

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use connection::{Connection, Phase};
use serve::Assembly;
use subscriptions::Subscriptions;

use super::addresses::{Addresses, Seat};
use super::decoder::Decoder;
use super::inbox::{Bell, ToShard};
use super::runs::RunIndex;
use super::session::{SessionSettings, Topology, Watermarks, World};
use crate::lag::LagRequest;
use crate::log::{Chunk, Ring};
use crate::observe::http::{Bodies, Surface};
use crate::observe::stats::{Heartbeat, ShardStats, Stats, monotonic_ms, wall_clock_ms};
use crate::replay::ask::{ColdAnswer, ColdRequest};
use crate::replay::seats::ColdSeats;
use crate::words::CloseReason;

/// The token of the waker; connections are their slab index plus one.
pub const WAKE: Token = Token(0);

/// Longest stretch of serving before the inbox and the sockets are looked at again.
const TURN: Duration = Duration::from_millis(2);

/// How often timers are looked at: the accuracy of every time-out towards clients.
const SWEEP_MS: u64 = 100;

/// Messages taken from the inbox in one round: what is taken is served before more is.
const INBOX_BATCH: usize = 256;

/// Busy time is weighed over windows of this length.
const LOAD_WINDOW: Duration = Duration::from_millis(4);

/// What a shard is made with.
#[derive(Debug)]
pub struct ShardSettings {
    pub session: SessionSettings,
    pub log_max_bytes: u64,
    pub log_max_age_ms: u64,
    pub flush: Duration,
    pub mid_frame_max_bytes: u64,
    pub inbound_max_bytes: u64,
    pub head_max_bytes: usize,
    pub message_max_bytes: usize,
    pub resume_partitions_max: usize,
    pub resume_threads_max: usize,
    pub handshake_timeout_ms: u64,
    pub grace_ms: u64,
    pub trusted_proxies: Vec<IpAddr>,
    pub surface: Surface,
    pub payload_max_bytes: usize,
    /// Runs whose beginning is remembered.
    pub runs_max: usize,
}

/// A shard's ends of what the cold readers hold the other end of.
#[derive(Debug)]
pub struct ColdPorts {
    /// Of this shard among the shards.
    pub shard: usize,
    /// One channel per reader; a partition always asks the same one.
    pub requests: Vec<Sender<ColdRequest>>,
    pub answers: Receiver<ColdAnswer>,
    pub seats: Arc<ColdSeats>,
}

/// A shard's ends of everything that others hold the other end of.
#[derive(Debug)]
pub struct ShardPorts {
    pub poll: Poll,
    pub inbox: Receiver<ToShard>,
    pub bell: Arc<Bell<AtomicBool>>,
    pub encoders: Sender<Arc<Chunk>>,
    /// `None`: the log is all there is.
    pub cold: Option<ColdPorts>,
    pub lag: Sender<LagRequest>,
    pub watermarks: Arc<ArcSwap<Watermarks>>,
    pub bodies: Arc<ArcSwap<Bodies>>,
    pub addresses: Arc<Addresses>,
    pub stats: Arc<Stats>,
    pub shard_stats: Arc<ShardStats>,
    pub heartbeat: Arc<Heartbeat>,
}

/// See the module.
pub struct Shard {
    settings: ShardSettings,
    ports: ShardPorts,
    scene: Scene,
    connections: Slab<Connection>,
    ready: VecDeque<usize>,
    /// Clients that new chunks may concern: all but the parked.
    followers: BTreeSet<usize>,
    subscriptions: Subscriptions,
    /// Parked until a chunk of this round came; they are served with the next pass.
    woken: Vec<usize>,
    /// Sessions that want a seat among those who replay from below the log, in the order in which they asked.
    waiting: VecDeque<usize>,
    last_ticket: u64,
    assemblies: Vec<Assembly>,
    decoder: Decoder,
    scratch: Vec<u8>,
    swept_ms: u64,
    published_ms: u64,
    /// New chunks wait for the next pass.
    news: bool,
    passed_at: Instant,
    load: Load,
    /// Monotonic ms by which everybody must be gone.
    draining: Option<u64>,
    /// For operators.
    register: roster::Register,
}

/// What every session is shown.
struct Scene {
    ring: Ring,
    /// `None` until the stream is known.
    topology: Option<Topology>,
    /// As of this round.
    watermarks: Arc<Watermarks>,
    settings: SessionSettings,
    stats: Arc<ShardStats>,
    runs: RunIndex,
    now_ms: u64,
    wall_ms: i64,
}

impl Scene {
    fn world(&self) -> Option<World<'_>> {
        Some(World {
            ring: &self.ring,
            topology: self.topology.as_ref()?,
            watermarks: &self.watermarks,
            settings: &self.settings,
            stats: &self.stats,
            runs: &self.runs,
            now_ms: self.now_ms,
            wall_ms: self.wall_ms,
        })
    }
}

/// How busy the shard was lately.
#[derive(Debug)]
struct Load {
    window_from: Instant,
    busy: Duration,
    heavy: bool,
}

impl Shard {
    pub fn new(settings: ShardSettings, ports: ShardPorts) -> Self {
        let decoder = Decoder::new(settings.payload_max_bytes);
        let watermarks = ports.watermarks.load_full();
        let now = Instant::now();
        Self {
            scene: Scene {
                ring: Ring::default(),
                topology: None,
                watermarks,
                settings: settings.session.clone(),
                stats: ports.shard_stats.clone(),
                runs: RunIndex::new(settings.runs_max),
                now_ms: monotonic_ms(),
                wall_ms: wall_clock_ms(),
            },
            settings,
            ports,
            connections: Slab::new(),
            ready: VecDeque::new(),
            followers: BTreeSet::new(),
            subscriptions: Subscriptions::default(),
            woken: Vec::new(),
            waiting: VecDeque::new(),
            last_ticket: 0,
            assemblies: Vec::new(),
            decoder,
            scratch: vec![0; 64 * 1024],
            swept_ms: 0,
            published_ms: 0,
            news: false,
            passed_at: now,
            load: Load { window_from: now, busy: Duration::ZERO, heavy: false },
            draining: None,
            register: roster::Register::default(),
        }
    }

    /// Runs until it was told to drain and everybody is gone.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.ports.poll.poll(&mut events, Some(self.patience())) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let begun = Instant::now();
            self.scene.now_ms = monotonic_ms();
            self.ports.heartbeat.beat();
            self.take_inbox();
            self.take_cold_answers();
            for event in &events {
                if let Some(key) = event.token().0.checked_sub(1) {
                    self.on_socket(key, event.is_readable() || event.is_read_closed(), event.is_writable());
                }
            }
            self.make_room();
            self.call_pass(begun);
            self.serve(begun);
            if self.scene.now_ms.saturating_sub(self.swept_ms) >= SWEEP_MS {
                self.swept_ms = self.scene.now_ms;
                self.sweep();
            }
            self.note_load(begun);
            if self.draining.is_some() && self.connections.is_empty() {
                return Ok(());
            }
        }
    }

    /// How long to wait for something to happen.
    fn patience(&self) -> Duration {
        if !self.ready.is_empty() || !self.ports.inbox.is_empty() {
            return Duration::ZERO;
        }
        let sweep = Duration::from_millis((self.swept_ms + SWEEP_MS).saturating_sub(self.scene.now_ms).max(1));
        if self.news { sweep.min(self.settings.flush.saturating_sub(self.passed_at.elapsed())) } else { sweep }
    }

    /// New chunks are served at once while there is time; when the shard is busy they gather for a moment, which
    /// makes each write carry more.
    fn call_pass(&mut self, now: Instant) {
        if !self.news || (self.load.heavy && now.duration_since(self.passed_at) < self.settings.flush) {
            return;
        }
        self.news = false;
        self.passed_at = now;
        self.followers.extend(self.woken.drain(..));
        for key in &self.followers {
            if let Some(connection) = self.connections.get_mut(*key)
                && connection.wants_chunks()
                && !connection.queued
            {
                connection.queued = true;
                self.ready.push_back(*key);
            }
        }
    }

    fn note_load(&mut self, begun: Instant) {
        let now = Instant::now();
        self.load.busy += now.duration_since(begun);
        let window = now.duration_since(self.load.window_from);
        if window >= LOAD_WINDOW {
            self.load.heavy = self.load.busy * 2 > window;
            self.load.window_from = now;
            self.load.busy = Duration::ZERO;
        }
    }

    fn take_inbox(&mut self) {
        // Cleared before looking, so that whoever sends after the look rings again.
        self.ports.bell.clear();
        for _ in 0..INBOX_BATCH {
            let Ok(message) = self.ports.inbox.try_recv() else { return };
            self.take(message);
        }
    }

    fn take(&mut self, message: ToShard) {
        match message {
            ToShard::Chunk(chunk) => self.append(chunk),
            ToShard::Open { partition, at } => {
                self.scene.ring.open(partition, at);
                self.look_again();
            }
            ToShard::Close { partition } => self.scene.ring.close(partition),
            ToShard::Topology { identity, partition_count } => {
                let stream = identity.name();
                self.scene.topology = Some(Topology { identity, stream, partition_count });
            }
            ToShard::StreamChanged { reason } => {
                tracing::info!(reason, sessions = self.connections.len(), "stream changed: every client is closed");
                self.close_all(CloseReason::StreamChanged);
                self.scene.ring.clear();
                self.scene.runs.clear();
                self.scene.topology = None;
            }
            ToShard::Connection { stream, peer, seat } => self.welcome(stream, peer, seat),
            ToShard::LookAgain => self.look_again(),
            ToShard::Drain { deadline_ms } => {
                self.draining = Some(deadline_ms);
                self.news = true;
            }
        }
    }

    fn append(&mut self, chunk: Arc<Chunk>) {
        let sequence = self.scene.ring.head();
        if self.scene.ring.append(chunk.clone()) {
            self.news = true;
            self.scene.runs.note(&chunk);
            self.subscriptions.wake(&chunk, sequence, &mut self.connections, &mut self.woken);
        }
    }

    fn welcome(&mut self, stream: std::net::TcpStream, peer: IpAddr, seat: Seat) {
        if self.draining.is_some() || stream.set_nonblocking(true).is_err() {
            return;
        }
        let mut stream = mio::net::TcpStream::from_std(stream);
        let entry = self.connections.vacant_entry();
        let token = Token(entry.key() + 1);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.ports.poll.registry().register(&mut stream, token, interest) {
            tracing::warn!(%error, "a connection cannot be watched");
            return;
        }
        let key = entry.key();
        entry.insert(Connection::new(stream, peer, seat, self.scene.now_ms));
        self.ports.stats.connections_open.add(1);
        self.on_socket(key, true, true);
    }

    /// Watermarks or JSON forms are there that somebody may wait for.
    fn look_again(&mut self) {
        self.scene.watermarks = self.ports.watermarks.load_full();
        for (key, connection) in &mut self.connections {
            if connection.waits() && !connection.queued {
                connection.queued = true;
                self.ready.push_back(key);
            }
        }
    }

    pub(super) fn enqueue(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.queued
        {
            connection.queued = true;
            self.ready.push_back(key);
        }
    }

    fn on_socket(&mut self, key: usize, readable: bool, writable: bool) {
        if readable {
            self.read(key);
        }
        if let Some(connection) = self.connections.get_mut(key)
            && (writable || readable)
        {
            if connection.blocked && writable {
                connection.blocked = false;
                connection.waited_ms = self.scene.now_ms;
            }
            if !connection.queued {
                connection.queued = true;
                self.ready.push_back(key);
            }
        }
    }

    fn remove(&mut self, key: usize) {
        self.followers.remove(&key);
        self.subscriptions.leave(key);
        if let Some(mut connection) = self.connections.try_remove(key) {
            if let Err(error) = self.ports.poll.registry().deregister(&mut connection.stream) {
                tracing::debug!(%error, "deregister");
            }
            self.ports.stats.connections_open.sub(1);
            connection.release(&self.ports.shard_stats);
        }
    }

    /// Runs `act` on a session with the world as it is now. `None`: there is no session under this key.
    fn with_session<T>(
        &mut self,
        key: usize,
        act: impl FnOnce(&mut super::session::Session, &World<'_>) -> T,
    ) -> Option<T> {
        let world = self.scene.world()?;
        match &mut self.connections.get_mut(key)?.phase {
            Phase::Open(open) => Some(act(&mut open.session, &world)),
            _ => None,
        }
    }

    fn close(&mut self, key: usize, reason: CloseReason) {
        self.with_session(key, |session, world| session.close(reason, world));
        if let Some(connection) = self.connections.get_mut(key) {
            connection.ending_since_ms.get_or_insert(self.scene.now_ms);
        }
        self.enqueue(key);
    }

    fn close_all(&mut self, reason: CloseReason) {
        let keys: Vec<_> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.close(key, reason);
        }
    }
}
