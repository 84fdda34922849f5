//! A shard's side of replay from below the log: seats, questions, answers. What is wanted is decided by the session.

use super::Shard;
use super::connection::Phase;
use crate::log::Chunk;
use crate::replay::ask::{ColdRequest, Sender, Wish};

/// What became of a wish.
pub(super) enum Asked {
    /// It is on the way; the answer comes by itself.
    Sent,
    /// There is no room now; the session is served again when there is.
    Full,
}

impl Shard {
    /// Sends what a session wishes, if it has a seat or there is a free one.
    pub(super) fn ask_cold(&mut self, key: usize, wish: Wish) -> Asked {
        let Some(cold) = &self.ports.cold else { return Asked::Full };
        let Some(connection) = self.connections.get_mut(key) else { return Asked::Full };
        let Phase::Open(open) = &mut connection.phase else { return Asked::Full };
        let partition = match &wish {
            Wish::Read { partition, .. } => Some(*partition),
            Wish::AtTime { .. } => None,
        };
        // A question of time is one short request and needs no seat. Nobody overtakes those who wait for one.
        if partition.is_some() && connection.cold_seat.is_none() {
            connection.cold_seat = if self.waiting.is_empty() { cold.seats.sit() } else { None };
            if connection.cold_seat.is_none() {
                open.session.cold_full();
                self.waiting.push_back(key);
                return Asked::Full;
            }
        }
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let reader = partition.map_or(0, |partition| partition.0 as usize) % cold.requests.len().max(1);
        let request = ColdRequest { wish, sender: Sender { shard: cold.shard, key, ticket } };
        match cold.requests.get(reader).map(|requests| requests.try_send(request)) {
            Some(Ok(())) => {
                open.session.cold_asked(ticket, partition);
                Asked::Sent
            }
            // Asked again by the sweep.
            _ => {
                connection.waits_for_cold = true;
                Asked::Full
            }
        }
    }

    pub(super) fn take_cold_answers(&mut self) {
        while let Some(answer) = self.ports.cold.as_ref().and_then(|cold| cold.answers.try_recv().ok()) {
            let Sender { key, ticket, .. } = answer.sender;
            self.with_session(key, |session, world| session.cold_answer(ticket, answer.found, world));
            self.enqueue(key);
        }
    }

    /// By the clock and after every visit: seats that are no longer needed are given back, and those who wait longest
    /// get them.
    pub(super) fn mind_seats(&mut self) {
        let Some(seats) = self.ports.cold.as_ref().map(|cold| cold.seats.clone()) else { return };
        while let Some(key) = self.waiting.front().copied() {
            let wants = self.connections.get_mut(key).and_then(|connection| match &mut connection.phase {
                Phase::Open(open) if open.session.is_cold() && connection.cold_seat.is_none() => {
                    Some((&mut connection.cold_seat, &mut open.session))
                }
                _ => None,
            });
            let Some((place, session)) = wants else {
                self.waiting.pop_front();
                continue;
            };
            let Some(seat) = seats.sit() else { return };
            *place = Some(seat);
            session.cold_go();
            self.waiting.pop_front();
            self.enqueue(key);
        }
    }

    /// A seat goes back as soon as its session has joined the log.
    pub(super) fn leave_seat(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let still = matches!(&connection.phase, Phase::Open(open) if open.session.is_cold());
        if !still && connection.cold_seat.take().is_some() {
            self.mind_seats();
        }
    }
}

/// Asks for the JSON forms of `chunks`. When the encoders are behind, the next look, at the latest that of the sweep,
/// asks again.
pub(super) fn ask_for_json<'a>(
    chunks: impl Iterator<Item = &'a std::sync::Arc<Chunk>>,
    encoders: &crossbeam_channel::Sender<std::sync::Arc<Chunk>>,
) {
    for chunk in chunks {
        if chunk.claim_json() && encoders.try_send(chunk.clone()).is_err() {
            chunk.unclaim_json();
            return;
        }
    }
}
