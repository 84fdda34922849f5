//! What goes out. Everybody who stands at the same place gets the same contiguous bytes, put together once.

use std::io::{ErrorKind, Write};
use std::time::Instant;

use super::cold::{Asked, ask_for_json};
use super::connection::{Connection, Open, Phase};
use super::roster::Sent;
use super::{Shard, TURN};
use crate::broadcast::filter::Filter;
use crate::broadcast::session::{Session, Step};
use crate::config::memory::{ASSEMBLIES, ASSEMBLY_BYTES};
use crate::log::{Form, Ring};
use crate::observe::clients::End;
use crate::observe::stats::ShardStats;
use crate::replay::ask::Wish;
use crate::words::CloseReason;

/// Bytes put together for one write.
const ASSEMBLY_MAX: usize = ASSEMBLY_BYTES as usize;

/// Bytes written to one client before the next has its turn.
const SHARE_MAX: usize = 512 * 1024;

/// Chunks whose JSON is asked for at once: half of what the encoders' channel holds.
const JSON_AHEAD: u64 = 32;

/// Clients served between two looks at the clock.
const CLOCK_EVERY: usize = 16;

/// Assemblies kept during a turn.
const ASSEMBLIES_MAX: usize = ASSEMBLIES as usize;

/// Whole chunks from `position` on, in one buffer.
#[derive(Debug)]
pub(super) struct Assembly {
    position: u64,
    form: Form,
    limit: u64,
    bytes: Vec<u8>,
    /// Where each chunk ends in `bytes`, and how many records are in all up to there.
    ends: Vec<(usize, u64)>,
}

/// How a visit to a client ended.
enum Visit {
    /// It wants something of the cold readers.
    Ask(Wish),
    /// Nothing more to do for now.
    Done,
    /// The socket takes no more.
    Blocked,
    /// Its share of this turn is used up.
    Again,
    Gone,
    Finished(CloseReason),
}

/// What one write did.
enum Wrote {
    All(usize),
    Part(usize),
    Broken,
}

impl Shard {
    pub(super) fn serve(&mut self, begun: Instant) {
        self.assemblies.clear();
        let mut served = 0;
        while let Some(key) = self.ready.pop_front() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.queued = false;
            self.serve_one(key);
            served += 1;
            if served % CLOCK_EVERY == 0 && begun.elapsed() > TURN {
                return;
            }
        }
    }

    fn serve_one(&mut self, key: usize) {
        let sent = Sent::so_far(&self.ports.shard_stats);
        let visit = loop {
            match self.visit(key) {
                Visit::Ask(wish) => match self.ask_cold(key, wish) {
                    Asked::Sent => continue,
                    Asked::Full => break Visit::Done,
                },
                other => break other,
            }
        };
        self.credit(key, sent);
        match visit {
            Visit::Ask(_) => {}
            Visit::Gone => return self.vanished(key),
            Visit::Finished(reason) => self.finish(key, reason),
            Visit::Again | Visit::Blocked | Visit::Done => {}
        }
        self.count_mid_frame(key);
        self.leave_seat(key);
        self.note_following(key);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.blocked = matches!(visit, Visit::Blocked);
        if matches!(visit, Visit::Again) && !connection.queued {
            connection.queued = true;
            self.ready.push_back(key);
        }
        // Input that was left because answers waited: they are out now.
        let owed = matches!(&connection.phase, Phase::Open(open) if open.session.is_owed_control());
        if connection.unread && !owed && !connection.blocked {
            connection.unread = false;
            self.on_socket(key, true, false);
        }
    }

    fn visit(&mut self, key: usize) -> Visit {
        let Some(connection) = self.connections.get_mut(key) else { return Visit::Done };
        let Connection { stream, phase, progress_ms, waits_for_json, waits_for_cold, .. } = connection;
        let open = match phase {
            Phase::Handshake { .. } | Phase::Lingering { .. } => return Visit::Done,
            Phase::Answer { bytes, sent } => {
                return match write(stream, &bytes[*sent..]) {
                    Wrote::Broken => Visit::Gone,
                    Wrote::Part(taken) => {
                        *sent += taken;
                        *progress_ms = if taken > 0 { self.scene.now_ms } else { *progress_ms };
                        Visit::Blocked
                    }
                    Wrote::All(_) => {
                        shut_down(stream);
                        *phase = Phase::Lingering { since_ms: self.scene.now_ms };
                        Visit::Done
                    }
                };
            }
            Phase::Open(open) => open,
        };
        let Open { session, response, response_sent, .. } = &mut **open;
        if *response_sent < response.len() {
            match write(stream, &response[*response_sent..]) {
                Wrote::Broken => return Visit::Gone,
                Wrote::Part(taken) => {
                    *response_sent += taken;
                    return Visit::Blocked;
                }
                Wrote::All(_) => (*response, *response_sent) = (Vec::new(), 0),
            }
        }
        let Some(world) = self.scene.world() else {
            // The stream is another one: what is left to say is in the session already.
            return farewell(session, stream);
        };
        let stats = &self.ports.shard_stats;
        (*waits_for_json, *waits_for_cold) = (false, false);
        let mut spent = 0;
        loop {
            let before = session.replaying_since();
            let step = session.step(&world, &mut self.decoder);
            if let (Some((mode, since_ms)), None) = (before, session.replaying_since()) {
                self.ports.stats.replay_latency(mode).observe(self.scene.now_ms.saturating_sub(since_ms) as f64);
            }
            let wrote = match step {
                Step::Idle => return Visit::Done,
                Step::Finished(reason) => return Visit::Finished(reason),
                Step::NeedsJson => {
                    *waits_for_json = true;
                    ask_for_json(session.unrendered(&self.scene.ring, JSON_AHEAD), &self.ports.encoders);
                    return Visit::Done;
                }
                Step::Ask(wish) => return Visit::Ask(wish),
                Step::Own => {
                    let wrote = write(stream, session.own());
                    if let Wrote::All(taken) | Wrote::Part(taken) = wrote {
                        session.wrote_own(taken);
                    }
                    wrote
                }
                Step::Rest => rest(world.ring, session, stream, stats),
                // What is larger than an assembly is not copied into one.
                Step::Share { .. }
                    if first_form(world.ring, session).is_some_and(|bytes| bytes.len() > ASSEMBLY_MAX) =>
                {
                    session.begin_chunk(0);
                    rest(world.ring, session, stream, stats)
                }
                Step::Share { limit } => {
                    let assembly =
                        assembly(&mut self.assemblies, &self.scene.ring, session.position(), session.form(), limit);
                    let wrote = write(stream, &assembly.bytes);
                    if let Wrote::All(taken) | Wrote::Part(taken) = wrote {
                        let whole = assembly.ends.partition_point(|(end, _)| *end <= taken);
                        let (end, records) = whole.checked_sub(1).map_or((0, 0), |last| assembly.ends[last]);
                        session.passed_many(&self.scene.ring, whole as u64);
                        session.begin_chunk(taken - end);
                        stats.delivered_records.add(records);
                    }
                    wrote
                }
            };
            stats.writes.add(1);
            match wrote {
                Wrote::Broken => return Visit::Gone,
                Wrote::Part(taken) => {
                    stats.delivered_bytes.add(taken as u64);
                    if taken > 0 {
                        *progress_ms = self.scene.now_ms;
                    }
                    return Visit::Blocked;
                }
                Wrote::All(taken) => {
                    stats.delivered_bytes.add(taken as u64);
                    *progress_ms = self.scene.now_ms;
                    spent += taken;
                    if spent >= SHARE_MAX {
                        return Visit::Again;
                    }
                }
            }
        }
    }

    /// What a session follows may have changed, and whether new chunks concern it at all.
    fn note_following(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Phase::Open(open) = &connection.phase else { return };
        if connection.subscribed != open.session.filter_version() {
            connection.subscribed = open.session.filter_version();
            self.subscriptions.enter(key, open.session.filter().map(Filter::followed));
        }
        if open.session.is_parked() {
            self.followers.remove(&key);
        } else {
            self.followers.insert(key);
        }
    }

    /// The close frame is out.
    fn finish(&mut self, key: usize, reason: CloseReason) {
        self.ports.shard_stats.closed[reason as usize].add(1);
        self.note_end(key, End::Said(reason));
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.release(&self.ports.shard_stats);
        shut_down(&connection.stream);
        connection.phase = Phase::Lingering { since_ms: self.scene.now_ms };
    }

    /// Keeps the budget for what clients are in the middle of; whoever exceeds it goes, without ceremony, since a
    /// goodbye would need memory too.
    pub(super) fn count_mid_frame(&mut self, key: usize) {
        let stats = &self.ports.shard_stats;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Phase::Open(open) = &connection.phase else { return };
        let held = open.session.held_bytes() as u64;
        stats.mid_frame_bytes.add(held);
        stats.mid_frame_bytes.sub(connection.counted_mid_frame);
        connection.counted_mid_frame = held;
        if held > 0 && stats.mid_frame_bytes.get() > self.settings.mid_frame_max_bytes {
            stats.closed[CloseReason::OutOfBudget as usize].add(1);
            stats.aborted.add(1);
            self.note_end(key, End::Aborted(CloseReason::OutOfBudget));
            self.remove(key);
        }
    }
}

/// Only what was said before the stream changed.
fn farewell(session: &mut Session, stream: &mut mio::net::TcpStream) -> Visit {
    loop {
        if session.own().is_empty() {
            return Visit::Finished(CloseReason::StreamChanged);
        }
        match write(stream, session.own()) {
            Wrote::Broken => return Visit::Gone,
            Wrote::Part(taken) => {
                session.wrote_own(taken);
                return Visit::Blocked;
            }
            Wrote::All(taken) => session.wrote_own(taken),
        }
    }
}

fn first_form<'a>(ring: &'a Ring, session: &Session) -> Option<&'a [u8]> {
    ring.chunk(session.position())?.form(session.form())
}

/// The chunk at the position, from where it was left.
fn rest(ring: &Ring, session: &mut Session, stream: &mut mio::net::TcpStream, stats: &ShardStats) -> Wrote {
    let (Some(chunk), Some(bytes)) = (ring.chunk(session.position()), first_form(ring, session)) else {
        unreachable!("the session has just looked at this chunk");
    };
    let wrote = write(stream, &bytes[session.sent_of_chunk()..]);
    if let Wrote::All(taken) | Wrote::Part(taken) = wrote
        && session.wrote_chunk(chunk, taken, bytes.len())
    {
        stats.delivered_records.add(u64::from(chunk.delivered()));
    }
    wrote
}

fn assembly<'a>(assemblies: &'a mut Vec<Assembly>, ring: &Ring, position: u64, form: Form, limit: u64) -> &'a Assembly {
    let known =
        assemblies.iter().position(|known| known.position == position && known.form == form && known.limit == limit);
    let place = known.unwrap_or_else(|| {
        let mut assembly = Assembly { position, form, limit, bytes: Vec::new(), ends: Vec::new() };
        let mut records = 0;
        for sequence in position..limit {
            let Some(chunk) = ring.chunk(sequence) else { break };
            let Some(bytes) = chunk.form(form) else { break };
            if !assembly.bytes.is_empty() && assembly.bytes.len() + bytes.len() > ASSEMBLY_MAX {
                break;
            }
            assembly.bytes.extend_from_slice(bytes);
            records += u64::from(chunk.delivered());
            assembly.ends.push((assembly.bytes.len(), records));
        }
        if assemblies.len() >= ASSEMBLIES_MAX {
            assemblies.remove(0);
        }
        assemblies.push(assembly);
        assemblies.len() - 1
    });
    &assemblies[place]
}

fn write(stream: &mut mio::net::TcpStream, bytes: &[u8]) -> Wrote {
    loop {
        return match stream.write(bytes) {
            Ok(taken) if taken == bytes.len() => Wrote::All(taken),
            // A short write means that the socket is full: an event follows.
            Ok(taken) if taken > 0 => Wrote::Part(taken),
            Ok(_) => Wrote::Broken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Wrote::Part(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => Wrote::Broken,
        };
    }
}

pub(super) fn shut_down(stream: &mio::net::TcpStream) {
    if let Err(error) = stream.shutdown(std::net::Shutdown::Write) {
        tracing::debug!(%error, "shutdown");
    }
}
