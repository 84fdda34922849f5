//! What comes in: request heads, frames, and the end of a connection.

use std::io::{ErrorKind, Read};

use super::Shard;
use super::connection::Connection;
use super::connection::{Open, Phase};
use crate::broadcast::addresses::client_address;
use crate::broadcast::frames::{FrameReader, Incoming};
use crate::broadcast::handshake::{self, Request};
use crate::broadcast::protocol::{self, Limits, Said};
use crate::broadcast::session::Session;
use crate::observe::clients::End;
use crate::observe::http;
use crate::observe::stats::{Protocol, Rejection};
use crate::words::CloseReason;

/// Reads of one connection in one go: a client that only sends must not keep the others waiting.
const READS_MAX: usize = 4;

impl Shard {
    /// Reads what is there, within bounds. Input that is left, because the answers to earlier input wait or the share
    /// of this turn is used up, is marked `unread`.
    pub(super) fn read(&mut self, key: usize) {
        for _ in 0..READS_MAX {
            let Some(connection) = self.connections.get_mut(key) else { return };
            let throttled = matches!(&connection.phase, Phase::Open(open) if open.session.is_owed_control());
            connection.unread = throttled;
            if throttled {
                return;
            }
            let mut scratch = std::mem::take(&mut self.scratch);
            let read = connection.stream.read(&mut scratch);
            let outcome = match read {
                Ok(0) => Err(true),
                Ok(bytes) => {
                    connection.heard_ms = self.scene.now_ms;
                    self.hear(key, &mut scratch[..bytes]);
                    // A short read means that nothing is left; the next arrival is a new event.
                    if bytes < scratch.len() { Err(false) } else { Ok(()) }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Err(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
                Err(_) => Err(true),
            };
            self.scratch = scratch;
            match outcome {
                Ok(()) => {}
                Err(true) => return self.vanished(key),
                Err(false) => return,
            }
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.unread = true;
        }
    }

    /// The peer closed its side, or the socket broke.
    pub(super) fn vanished(&mut self, key: usize) {
        if let Some(connection) = self.connections.get(key)
            && let Phase::Open(open) = &connection.phase
            && !open.session.is_ending()
        {
            self.ports.shard_stats.vanished.add(1);
            self.note_end(key, End::Vanished);
        }
        self.remove(key);
    }

    fn hear(&mut self, key: usize, input: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match &mut connection.phase {
            Phase::Handshake { head } => {
                if head.len() + input.len() > self.settings.head_max_bytes + self.settings.message_max_bytes {
                    return self.reject(key, Rejection::HeadTooLarge, 431, "request head too large");
                }
                head.extend_from_slice(input);
                self.shake_hands(key);
            }
            Phase::Open(_) => self.frames(key, input),
            Phase::Answer { .. } | Phase::Lingering { .. } => {}
        }
    }

    fn shake_hands(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Phase::Handshake { head } = &mut connection.phase else { return };
        match handshake::read(head) {
            Request::Incomplete if head.len() > self.settings.head_max_bytes => {
                self.reject(key, Rejection::HeadTooLarge, 431, "request head too large");
            }
            Request::Incomplete => {}
            Request::Bad { status, text } => {
                let rejection = if status == 431 { Rejection::HeadTooLarge } else { Rejection::BadUpgrade };
                self.reject(key, rejection, status, text);
            }
            Request::Plain { method, path, if_none_match } => {
                let bodies = self.ports.bodies.load();
                let request = http::Request {
                    method: &method,
                    path: &path,
                    if_none_match: if_none_match.as_deref(),
                    now_ms: self.scene.now_ms,
                };
                let response = http::respond(&request, &bodies, self.settings.surface);
                let mut bytes = response.head_bytes();
                bytes.extend_from_slice(response.body_bytes());
                self.answer(key, bytes);
            }
            Request::Upgrade { protocol, response, forwarded_for, head_bytes } => {
                let mut rest = head.split_off(head_bytes);
                self.open(key, protocol, response, &forwarded_for);
                if !rest.is_empty() {
                    self.frames(key, &mut rest);
                }
            }
        }
    }

    fn open(&mut self, key: usize, protocol: Protocol, response: Vec<u8>, forwarded_for: &[String]) {
        let Some(world) = self.scene.world().filter(|world| world.ring.partitions().next().is_some()) else {
            return self.reject(key, Rejection::NotReady, 503, "the stream is not known yet: see /ready");
        };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let forwarded_for: Vec<_> = forwarded_for.iter().map(String::as_str).collect();
        let address = client_address(connection.peer, &forwarded_for, &self.settings.trusted_proxies);
        let Some(address) = self.ports.addresses.sit_at(address) else {
            return self.reject(key, Rejection::PerIp, 429, "Too many connections from this IP");
        };
        let session = Session::new(protocol, &world);
        self.ports.shard_stats.sessions[protocol as usize].add(1);
        connection.since_ms = self.scene.now_ms;
        connection.phase = Phase::Open(Box::new(Open {
            session,
            reader: FrameReader::default(),
            response,
            response_sent: 0,
            address,
        }));
        self.followers.insert(key);
    }

    fn frames(&mut self, key: usize, input: &mut [u8]) {
        let Some(world) = self.scene.world() else { return };
        let limits =
            Limits { partitions: self.settings.resume_partitions_max, threads: self.settings.resume_threads_max };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Phase::Open(open) = &mut connection.phase else { return };
        let Open { session, reader, .. } = &mut **open;
        let protocol = session.protocol();
        let fed = reader.feed(input, self.settings.message_max_bytes, |incoming| {
            match incoming {
                Incoming::Message { text, bytes } => {
                    let said = protocol::read(protocol, text, bytes, limits);
                    if said == Said::Unparseable && protocol == Protocol::V1 {
                        // The predecessor counts and says nothing.
                        world.stats.control_parse_failures.add(1);
                        session.begin();
                    } else {
                        session.hear(said, &world);
                    }
                }
                Incoming::Ping(payload) => session.pong(payload),
                Incoming::Pong => {}
                Incoming::Close(code) => session.answer_close(code, &world),
            }
            true
        });
        let asks = session.waits_for_watermarks().is_some();
        let ending = session.is_ending();
        let inbound = reader.held_bytes() as u64;
        count_inbound(connection, inbound, &self.ports.shard_stats);
        if ending {
            connection.ending_since_ms.get_or_insert(self.scene.now_ms);
        }
        if asks {
            // Full: a request is under way that began before, and the sweep asks again.
            if self.ports.lag.try_send(crate::lag::LagRequest::Refresh).is_err() {
                tracing::debug!("watermarks have been asked for already");
            }
        }
        match fed {
            Ok(()) if self.ports.shard_stats.inbound_bytes.get() > self.settings.inbound_max_bytes => {
                self.close(key, CloseReason::OutOfBudget);
            }
            Ok(()) => {}
            Err(reason) => {
                if reason == CloseReason::MessageTooBig {
                    self.ports.shard_stats.control_oversized.add(1);
                }
                self.close(key, reason);
            }
        }
    }

    pub(super) fn reject(&mut self, key: usize, rejection: Rejection, status: u16, text: &'static str) {
        self.ports.stats.rejections[rejection as usize].add(1);
        self.answer(key, handshake::refusal(status, text));
    }

    fn answer(&mut self, key: usize, bytes: Vec<u8>) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.phase = Phase::Answer { bytes, sent: 0 };
        }
    }
}

fn count_inbound(connection: &mut Connection, held: u64, stats: &crate::observe::stats::ShardStats) {
    stats.inbound_bytes.add(held);
    stats.inbound_bytes.sub(connection.counted_inbound);
    connection.counted_inbound = held;
}
