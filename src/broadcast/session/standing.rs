//! A session as an operator sees it: what it is at, how far behind, and what happens when it falls off the log.

use super::follow::Follow;
use super::{Notice, Session, SessionSettings, World};
use crate::log::Ring;
use crate::observe::clients::ClientState;
use crate::words::SlowPolicy;

impl SessionSettings {
    /// Nobody is brought up to date where nothing below the log can be read.
    pub(super) fn effective(&self, policy: SlowPolicy) -> SlowPolicy {
        match policy {
            SlowPolicy::Catchup if !self.cold => SlowPolicy::Gap,
            policy => policy,
        }
    }

    /// What a client may choose, in the order in which the words are listed.
    pub(super) fn choices(&self) -> Vec<SlowPolicy> {
        let allowed = |policy: &SlowPolicy| self.slow_allowed.contains(policy) && self.effective(*policy) == *policy;
        SlowPolicy::ALL.into_iter().filter(allowed).collect()
    }
}

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

    /// What becomes of it when it falls off the log.
    pub fn policy(&self, settings: &SessionSettings) -> SlowPolicy {
        match settings.effective(self.slow) {
            SlowPolicy::Catchup if self.falling_behind => SlowPolicy::Gap,
            policy => policy,
        }
    }

    pub(super) fn choose_policy(&mut self, policy: SlowPolicy, world: &World<'_>) {
        let why = if !world.settings.choices().contains(&policy) {
            Some("not among the slow_policies of Hello")
        } else if policy == SlowPolicy::Catchup && self.falling_behind {
            Some("this connection fell behind and is told gaps until it resumes")
        } else {
            None
        };
        if let Some(why) = why {
            world.stats.refused_frames.add(1);
            return self.say(&Notice::Refused { what: "slow_policy", why });
        }
        self.slow = policy;
        self.settle_unit(world.ring);
        // What was missed under the policy before is told before the new one applies.
        self.tell_known(world);
        self.tell_missed(world);
        self.say_applied("slow_policy", world);
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
