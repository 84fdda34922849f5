//! A session as an operator sees it: what it is at, how far behind, and what happens when it falls off the log.

use super::{Session, SessionSettings};
use crate::log::Ring;
use crate::observe::clients::{ClientState, Policy};

impl Session {
    pub fn client_state(&self) -> ClientState {
        if self.ending.is_some() {
            ClientState::Closing
        } else if self.active.is_some() || self.judging.is_some() {
            ClientState::Replaying
        } else {
            ClientState::Live
        }
    }

    pub fn policy(&self, settings: &SessionSettings) -> Policy {
        if settings.close_slow { Policy::Close } else { Policy::Gap }
    }

    /// Its position alone says how far behind it is: it is not in transition.
    pub fn stands_at_its_position(&self) -> bool {
        self.floors.is_empty() && self.missed.is_empty()
    }

    /// Offsets from where it stands to the end of the log, all partitions together.
    pub fn behind(&self, ring: &Ring) -> u64 {
        let behind = ring.partitions().map(|(partition, _, next)| {
            self.stands_at(ring, partition).map_or(0, |stands_at| next.0.saturating_sub(stands_at.0))
        });
        behind.sum()
    }
}
