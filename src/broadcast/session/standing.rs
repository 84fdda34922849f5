//! A session as an operator sees it: what it is at, how far behind, and what happens when it falls off the log.

use super::follow::Follow;
use super::{Session, SessionSettings, Slow};
use crate::log::Ring;
use crate::observe::clients::{ClientState, Policy};

impl Session {
    pub fn client_state(&self) -> ClientState {
        if self.ending.is_some() {
            ClientState::Closing
        } else if self.is_paused() {
            ClientState::Paused
        } else if self.cold_waits() {
            ClientState::Waiting
        } else if self.is_cold() {
            ClientState::Cold
        } else if self.active.is_some() || self.judging.is_some() {
            ClientState::Replaying
        } else {
            ClientState::Live
        }
    }

    pub fn policy(&self, settings: &SessionSettings) -> Policy {
        match settings.slow {
            Slow::CatchUp if settings.cold && !self.falling_behind => Policy::Catchup,
            Slow::CatchUp | Slow::Gap => Policy::Gap,
            Slow::Close => Policy::Close,
        }
    }

    /// Its position alone says how far behind it is: it is not in transition.
    pub fn stands_at_its_position(&self) -> bool {
        self.floors.is_empty() && self.missed.is_empty() && self.follow == Follow::Log
    }

    /// For a list of the slowest: the lower, the slower.
    pub fn rank(&self) -> u64 {
        match self.follow {
            Follow::Log if self.is_cold() => 0,
            Follow::Log => self.position,
            // Nothing waits for it.
            Follow::Parked | Follow::Paused(_) => u64::MAX,
        }
    }

    /// Offsets from where it stands to the end of the log, all partitions together.
    pub fn behind(&self, ring: &Ring) -> u64 {
        if self.is_parked() {
            return 0;
        }
        let behind = ring.partitions().map(|(partition, _, next)| {
            self.stands_at(ring, partition).map_or(0, |stands_at| next.0.saturating_sub(stands_at.0))
        });
        behind.sum()
    }
}
