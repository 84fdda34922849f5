//! What happens by the clock: time-outs, pings, goodbyes, and room in the log.

use super::Shard;
use super::connection::Phase;
use crate::log::Chunk;
use crate::observe::clients::End;
use crate::observe::stats::Rejection;
use crate::words::CloseReason;

/// An answer over HTTP, and the goodbye to a client that took nothing for `client.stall_timeout`, have this long to go
/// out; any other goodbye waits for `client.stall_timeout`, since who is closed for being slow reads slowly.
const CLOSE_MS: u64 = 5_000;

/// After everything was said, what the peer still sends is discarded for this long.
const LINGER_MS: u64 = 2_000;

/// Before the deadline of a drain everybody is told goodbye, whatever they still lack.
const GOODBYE_MS: u64 = 2_500;

/// Who took nothing for this long gives the seat for replay to somebody who does.
const SEAT_MS: u64 = 2_000;

/// How often the numbers of the log are published: what renders them does so once a second.
const PUBLISH_MS: u64 = 500;

/// What the sweep does to one connection.
enum Due {
    Nothing,
    /// Look again at what it may have.
    Serve,
    Close(CloseReason),
    Reject(Rejection, u16, &'static str),
    /// It could not take its goodbye.
    Abort(CloseReason),
    Remove,
}

impl Shard {
    pub(super) fn sweep(&mut self) {
        self.scene.watermarks = self.ports.watermarks.load_full();
        self.scene.wall_ms = crate::observe::stats::wall_clock_ms();
        self.mind_seats();
        let keys: Vec<_> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            match self.due(key) {
                Due::Nothing => {}
                Due::Serve => self.on_socket(key, false, true),
                Due::Close(reason) => self.close(key, reason),
                Due::Reject(rejection, status, text) => {
                    self.reject(key, rejection, status, text);
                    self.on_socket(key, false, true);
                }
                Due::Abort(reason) => {
                    self.ports.shard_stats.closed[reason as usize].add(1);
                    self.ports.shard_stats.aborted.add(1);
                    self.note_end(key, End::Aborted(reason));
                    self.remove(key);
                }
                Due::Remove => self.remove(key),
            }
        }
        self.evict_old();
        if self.scene.now_ms.saturating_sub(self.published_ms) >= PUBLISH_MS {
            self.published_ms = self.scene.now_ms;
            self.publish();
        }
        self.publish_roster();
    }

    fn due(&mut self, key: usize) -> Due {
        let now_ms = self.scene.now_ms;
        let settings = &self.scene.settings;
        let draining = self.draining;
        let Some(connection) = self.connections.get_mut(key) else { return Due::Nothing };
        let age = now_ms.saturating_sub(connection.since_ms);
        let open = match &mut connection.phase {
            Phase::Handshake { .. } if draining.is_some() => return Due::Remove,
            // Browsers connect ahead of need. An answer to nothing would be taken for the answer to what they ask
            // next, just a closed connection they open again.
            Phase::Handshake { head } if age > self.settings.handshake_timeout_ms && head.is_empty() => {
                self.ports.stats.rejections[Rejection::Timeout as usize].add(1);
                return Due::Remove;
            }
            Phase::Handshake { .. } if age > self.settings.handshake_timeout_ms => {
                return Due::Reject(Rejection::Timeout, 408, "no complete request in time");
            }
            Phase::Handshake { .. } => return Due::Nothing,
            Phase::Answer { .. } if now_ms.saturating_sub(connection.progress_ms) > CLOSE_MS => return Due::Remove,
            Phase::Answer { .. } => return Due::Nothing,
            Phase::Lingering { since_ms } => {
                let over = now_ms.saturating_sub(*since_ms) > LINGER_MS || draining.is_some_and(|end| now_ms >= end);
                return if over { Due::Remove } else { Due::Nothing };
            }
            Phase::Open(open) => open,
        };
        if let Some(since_ms) = connection.ending_since_ms {
            let patience = match open.session.ending() {
                Some(CloseReason::Stalled) => CLOSE_MS,
                _ => settings.stall_timeout_ms,
            };
            let over = now_ms.saturating_sub(since_ms) > patience || draining.is_some_and(|end| now_ms >= end);
            // A session whose close frame could not be written; why it was closed is known to the session alone.
            return if over {
                Due::Abort(open.session.ending().unwrap_or(CloseReason::Internal))
            } else {
                Due::Nothing
            };
        }
        if let Some(deadline_ms) = draining {
            let caught_up = !connection.blocked && open.session.position() >= self.scene.ring.head();
            let out_of_time = now_ms + GOODBYE_MS >= deadline_ms;
            return if caught_up || out_of_time { Due::Close(CloseReason::ShuttingDown) } else { Due::Nothing };
        }
        if let Some(world) = self.scene.world() {
            open.session.check_pace(&world);
        }
        if connection.blocked {
            open.session.let_go();
            if now_ms.saturating_sub(connection.progress_ms) > SEAT_MS {
                // It asks for one again when it reads again.
                connection.cold_seat = None;
            }
            // While bytes wait, progress is what counts, not silence.
            let stalled = now_ms.saturating_sub(connection.progress_ms) > settings.stall_timeout_ms;
            return if stalled { Due::Close(CloseReason::Stalled) } else { Due::Nothing };
        }
        if !open.session.is_flowing() && age >= self.settings.grace_ms {
            open.session.begin();
            return Due::Serve;
        }
        let silence = now_ms.saturating_sub(connection.heard_ms);
        // A slow reader finds our pings behind what it has yet to read.
        let unanswered = now_ms.saturating_sub(connection.heard_ms.max(connection.waited_ms));
        if unanswered > settings.idle_timeout_ms {
            return Due::Close(CloseReason::IdleTimeout);
        }
        if silence > settings.ping_interval_ms
            && now_ms.saturating_sub(connection.pinged_ms) > settings.ping_interval_ms
        {
            connection.pinged_ms = now_ms;
            open.session.ping();
            return Due::Serve;
        }
        if open.session.waits_for_watermarks().is_some() {
            if self.ports.lag.try_send(crate::lag::LagRequest::Refresh).is_err() {
                tracing::debug!("watermarks have been asked for already");
            }
            return Due::Serve;
        }
        if let Some(world) = self.scene.world()
            && open.session.progress_by_time(&world)
        {
            return Due::Serve;
        }
        let waits = connection.waits_for_json || connection.waits_for_cold || open.session.waits_for_cold();
        if waits || connection.unread { Due::Serve } else { Due::Nothing }
    }

    /// Chunks go while the process holds more than its bound; a sixteenth more than needed goes at once, so that it
    /// happens seldom.
    pub(super) fn make_room(&mut self) {
        let live = self.ports.stats.chunk_bytes.get();
        if live <= self.settings.log_max_bytes {
            return;
        }
        let mut excess = live - (self.settings.log_max_bytes - self.settings.log_max_bytes / 16);
        self.evict(|chunk| {
            let more = excess > 0;
            excess = excess.saturating_sub(chunk.bytes());
            more
        });
    }

    fn evict_old(&mut self) {
        let Some(oldest_allowed_ms) = self.scene.now_ms.checked_sub(self.settings.log_max_age_ms) else { return };
        self.evict(|chunk| chunk.made_at_ms < oldest_allowed_ms);
    }

    fn evict(&mut self, mut more: impl FnMut(&Chunk) -> bool) {
        let tail = self.scene.ring.tail_after(|chunk| more(chunk));
        if tail == self.scene.ring.tail() {
            return;
        }
        // Whoever is in the middle of a chunk that goes keeps the rest of that one unit.
        let mut settled = Vec::new();
        for (key, connection) in &mut self.connections {
            if let Phase::Open(open) = &mut connection.phase
                && open.session.position() < tail
            {
                if let Some(chunk) = self.scene.ring.chunk(open.session.position()) {
                    open.session.before_eviction(chunk);
                }
                settled.push(key);
            }
        }
        let evicted = self.scene.ring.evict_to(tail);
        self.ports.shard_stats.log_evicted_chunks.add(evicted.chunks.len() as u64);
        for key in settled {
            let stays = self.with_session(key, |session, world| session.after_eviction(&evicted, world));
            self.count_mid_frame(key);
            if stays == Some(false) {
                self.close(key, CloseReason::FellBehind);
            }
        }
    }

    fn publish(&mut self) {
        let stats = &self.ports.shard_stats;
        stats.log_chunks.set(self.scene.ring.len() as u64);
        let oldest = self.scene.ring.chunk(self.scene.ring.tail()).map(|chunk| chunk.made_at_ms);
        stats.log_oldest_at_ms.set(oldest);
        stats.log_bytes.set(self.ports.stats.chunk_bytes.get());
        stats.runs.set(self.scene.runs.len() as u64);
        stats.waiting.set(self.waiting.len() as u64);
        if let Some(cold) = &self.ports.cold {
            self.ports.stats.replay.sessions.set(u64::from(cold.seats.taken()));
        }
        for (partition, oldest, _) in self.scene.ring.partitions() {
            if let Some(partition) = self.ports.stats.partition(partition) {
                partition.log_oldest.set(Some(oldest.0));
            }
        }
    }
}
