//! What a read that follows looks at beside records: whether the brokers are there, whether the topic is, whether it is
//! still the same, and whether it has more partitions. Nothing of it ends the read but a topic that stays away.
//!
//! librdkafka adopts a topic that was made again without a word and keeps the old offset, so the identity is asked for.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::super::{From, Item, SourceError};
use super::{KafkaSource, LOOK};
use crate::kafka::identity::{IdentityError, Topic, identify};
use crate::words::{Offset, PartitionId};

/// A topic that is gone may be made again meanwhile.
const GONE: Duration = Duration::from_secs(30);

impl KafkaSource {
    pub(super) fn keep_up(&mut self, now: Instant) -> Result<(), SourceError> {
        if let Some(why) = self.consumer.context().take_all_down() {
            self.is_away(why);
        } else if self.silent_for.is_zero() && self.gone_since.is_none() {
            self.is_there();
        }
        let interval = if self.connected { self.kafka.discovery_interval } else { LOOK };
        if now.duration_since(self.looked_around_at) > interval {
            self.look_around()?;
            if self.connected && std::mem::take(&mut self.in_doubt) {
                let open: Vec<_> = self.open_lanes().map(|(partition, _)| partition).collect();
                self.skip_what_is_gone(&open)?;
            }
        }
        Ok(())
    }

    fn is_away(&mut self, why: String) {
        if self.connected {
            self.connected = false;
            self.out.push_back(Item::Disconnected { why, retry_in: LOOK });
        }
    }

    /// The brokers answer.
    fn is_there(&mut self) {
        if !self.connected {
            self.connected = true;
            self.out.push_back(Item::Connected);
        }
    }

    /// The topic is not there, or a broker that just came back does not know it yet. Nothing is read until it is known
    /// whether it is the same when it is there again.
    pub(super) fn is_gone(&mut self) -> Result<(), SourceError> {
        if self.gone_since.is_none() {
            self.consumer.unassign()?;
        }
        let topic = &self.kafka.topic;
        if self.gone_since.get_or_insert_with(Instant::now).elapsed() > GONE {
            return Err(SourceError::NoTopic(topic.clone()));
        }
        let why = format!("topic {topic:?} does not exist any more");
        self.is_away(why);
        Ok(())
    }

    /// Asks what the topic is now. True if it is another one, which is read from its beginning. That it cannot be seen
    /// does not matter: it is looked at again.
    pub(super) fn look_around(&mut self) -> Result<bool, SourceError> {
        self.turn = self.turn.wrapping_add(1);
        let found = identify(self.consumer.client(), &self.kafka.topic, self.turn, LOOK);
        self.looked_around_at = Instant::now();
        match found {
            Ok(found) => {
                self.is_there();
                let was_gone = self.gone_since.take().is_some();
                let identity = found.identity.clone();
                let is_other = self.meet(found)?;
                if was_gone && !is_other && self.stream == Some(identity) {
                    self.placings = 0;
                    self.place_anew()?;
                }
                Ok(is_other)
            }
            Err(IdentityError::NoTopic(_)) => self.is_gone().map(|()| false),
            Err(_) => Ok(false),
        }
    }

    fn meet(&mut self, found: Topic) -> Result<bool, SourceError> {
        let other = self.stream.as_ref().is_some_and(|known| *known != found.identity);
        if other && !found.identity.is_weak() {
            return self.begin_anew(found);
        }
        self.stream = Some(found.identity);
        let wanted = (0..found.partition_count).map(PartitionId);
        let new: Vec<_> = wanted.filter(|partition| !self.lanes.contains_key(partition)).collect();
        if !self.all_partitions || new.is_empty() {
            return Ok(false);
        }
        // What was added is read from its beginning.
        match self.place(&new, From::Offset(Offset(0)), LOOK) {
            // Its leader may not be there yet: the next look will tell.
            Err(SourceError::Unreachable { .. }) => Ok(false),
            placed => placed.map(|()| false),
        }
    }

    /// What was read of the old stream is shown first. Until the new one can be placed it is not known as ours, so that
    /// the next look comes here again.
    fn begin_anew(&mut self, found: Topic) -> Result<bool, SourceError> {
        self.consumer.unassign()?;
        let old = std::mem::take(&mut self.lanes);
        old.keys().for_each(|partition| self.merge.close(*partition));
        while let Some(held) = self.merge.pop() {
            self.release(held);
        }
        let asked = |partition: &PartitionId| self.all_partitions || old.contains_key(partition);
        let wanted: Vec<_> = (0..found.partition_count).map(PartitionId).filter(asked).collect();
        match self.place(&wanted, From::Earliest, LOOK) {
            Err(SourceError::Unreachable { .. }) => {
                // Which partitions are asked for.
                self.lanes = old;
                return Ok(false);
            }
            placed => placed?,
        }
        self.out.push_back(Item::StreamChanged);
        self.stream = Some(found.identity);
        self.placings = 0;
        Ok(true)
    }
}
