//! A connection as the shard keeps it: the socket, the phase it is in, and what the timers need.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use mio::net::TcpStream;

use crate::broadcast::addresses::{AddressSeat, Seat};
use crate::broadcast::frames::FrameReader;
use crate::broadcast::session::Session;
use crate::observe::stats::ShardStats;
use crate::replay::seats::ColdSeat;

pub(super) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Made so far by all shards of the process.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// Invariant: `queued` exactly while the key is on the shard's ready list.
#[derive(Debug)]
pub(super) struct Connection {
    /// Counts the connections of this process.
    pub(super) id: u64,
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    pub(super) phase: Phase,
    pub(super) queued: bool,
    /// The socket took less than it was offered; an event will say when it takes more.
    pub(super) blocked: bool,
    /// There may be input that was not read, because answers to earlier input wait.
    pub(super) unread: bool,
    /// Waits for a JSON form.
    pub(super) waits_for_json: bool,
    /// Waits for room in front of a cold reader.
    pub(super) waits_for_cold: bool,
    /// Its place among those who replay from below the log.
    pub(super) cold_seat: Option<ColdSeat>,
    /// The version of the filter that the subscriptions know.
    pub(super) subscribed: u32,
    /// Monotonic ms: accepted, last input, last byte taken by the socket, last ping of ours.
    pub(super) since_ms: u64,
    pub(super) heard_ms: u64,
    pub(super) progress_ms: u64,
    pub(super) pinged_ms: u64,
    /// When bytes waited for the socket last: until then nothing that we say, pings included, was seen in time.
    pub(super) waited_ms: u64,
    /// For operators: when it was accepted, ms since the epoch, and what it was sent.
    pub(super) since_unix_ms: u64,
    pub(super) records_sent: u64,
    pub(super) gaps_told: u64,
    /// It is being closed since then.
    pub(super) ending_since_ms: Option<u64>,
    /// As last added to the shard's budgets.
    pub(super) counted_mid_frame: u64,
    pub(super) counted_inbound: u64,
    /// Given back when the connection is dropped.
    _seat: Seat,
}

/// What the connection is at.
#[derive(Debug)]
pub(super) enum Phase {
    /// The request head so far.
    Handshake {
        head: Vec<u8>,
    },
    /// A plain HTTP answer, and how much of it is out.
    Answer {
        bytes: Vec<u8>,
        sent: usize,
    },
    Open(Box<Open>),
    /// Everything was said; what the peer still sends is discarded until it closes or time is up.
    Lingering {
        since_ms: u64,
    },
}

/// A client.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) session: Session,
    pub(super) reader: FrameReader,
    /// The 101 answer, and how much of it is out.
    pub(super) response: Vec<u8>,
    pub(super) response_sent: usize,
    /// Given back when the connection is dropped.
    pub(super) address: AddressSeat,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: IpAddr, seat: Seat, now_ms: u64) -> Self {
        Self {
            id: CONNECTIONS.fetch_add(1, Ordering::Relaxed) + 1,
            stream,
            peer,
            phase: Phase::Handshake { head: Vec::new() },
            queued: false,
            blocked: false,
            unread: false,
            waits_for_json: false,
            waits_for_cold: false,
            cold_seat: None,
            subscribed: 0,
            since_ms: now_ms,
            heard_ms: now_ms,
            progress_ms: now_ms,
            pinged_ms: now_ms,
            waited_ms: now_ms,
            since_unix_ms: unix_ms(),
            records_sent: 0,
            gaps_told: 0,
            ending_since_ms: None,
            counted_mid_frame: 0,
            counted_inbound: 0,
            _seat: seat,
        }
    }

    /// New chunks are worth a look.
    pub(super) fn wants_chunks(&self) -> bool {
        !self.blocked
            && matches!(&self.phase, Phase::Open(open) if (open.session.is_flowing() || open.session.is_ending()) && !open.session.is_parked())
    }

    /// Waits for something that another thread makes.
    pub(super) fn waits(&self) -> bool {
        match &self.phase {
            Phase::Open(open) => {
                self.waits_for_json || self.waits_for_cold || open.session.waits_for_watermarks().is_some()
            }
            _ => false,
        }
    }

    /// Takes what it holds out of the shard's numbers.
    pub(super) fn release(&mut self, stats: &ShardStats) {
        stats.mid_frame_bytes.sub(std::mem::take(&mut self.counted_mid_frame));
        stats.inbound_bytes.sub(std::mem::take(&mut self.counted_inbound));
        if let Phase::Open(open) = &self.phase {
            stats.sessions[open.session.protocol() as usize].sub(1);
        }
    }
}
