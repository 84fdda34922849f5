//! What happens to the stream and to who reads it: the topic is deleted and made again, partitions move between hosts
//! of a group, the second tier is lost, and Kafka does not answer.

use std::collections::BTreeMap;

use dashstream::broadcast::session::Watermarks;
use dashstream::words::{CloseReason, Offset, PartitionId};

use super::{Connected, World, host};
use crate::produced::Partition;

impl World {
    /// The topic is deleted and made again, of which both hosts learn: everybody is told goodbye, and comes back with
    /// a cursor of what is no more.
    pub(super) fn recreate(&mut self) {
        self.pending.clear();
        let mut gone = Vec::new();
        for who in (0..self.connected.len()).rev() {
            let host = self.connected[who].host;
            let mut connected = self.connected.swap_remove(who);
            self.with_world(host, |world, _| connected.session.close(CloseReason::StreamChanged, world));
            self.connected.push(connected);
            self.serve(self.connected.len() - 1, u64::MAX);
            let connected = self.connected.pop().expect("just served");
            // One that was ending already has its own goodbye.
            assert!(connected.client.closed.is_some(), "everybody is told");
            connected.client.assert_at_boundary();
            gone.push(connected);
        }
        self.stream += 1;
        let partitions = self.produced.len();
        self.produced = vec![Partition::default(); partitions];
        for which in 0..self.hosts.len() {
            self.hosts[which] = host(&vec![0; partitions], 300 + self.dice.below(4_000) as u32, self.stream);
        }
        self.seen.recreated += 1;
        for mut connected in gone {
            let Connected { client, .. } = &mut connected;
            client.stale.extend(client.places.keys().copied());
            self.come_back(connected);
        }
    }

    /// The host is killed and comes back with a log that begins a little before where it was. Its clients come back
    /// to either host, mostly before all its partitions are open.
    pub(super) fn restart(&mut self) {
        let which = self.dice.below(2) as usize;
        let next: Vec<_> = self.hosts[which].cores.iter().map(|core| core.next().0).collect();
        let starts = next.iter().map(|next| next - self.dice.below(next.min(&100) + 1));
        let lows: Vec<_> = self.produced.iter().map(|log| log.low).collect();
        let starts: Vec<_> = starts.zip(lows).map(|(start, low)| start.max(low)).collect();
        self.hosts[which] = host(&starts, 300 + self.dice.below(4_000) as u32, self.stream);
        self.seen.restarts += 1;
        while let Some(who) = self.connected.iter().position(|connected| connected.host == which) {
            let gone = self.connected.swap_remove(who);
            self.come_back(gone);
        }
    }

    /// A rebalance: a partition is no longer this host's. Its log stays, and goes on when it comes back.
    pub(super) fn lose_partition(&mut self) {
        let host = self.dice.below(2) as usize;
        let partition = PartitionId(self.dice.below(self.produced.len() as u64) as u32);
        if self.settings.group && self.hosts[host].ring.bounds(partition).is_some() {
            self.hosts[host].ring.close(partition);
            self.seen.rebalanced += 1;
        }
    }

    /// The second tier is emptied, and fills again from here on.
    pub(super) fn lose_redis(&mut self) {
        for log in &mut self.produced {
            log.redis = self.redis.then_some(log.end);
        }
    }

    /// Kafka's own bounds, where it answers, and those of the second tier.
    pub(super) fn publish_watermarks(&mut self, kafka_answers: bool) {
        let logs = || self.produced.iter().enumerate().map(|(partition, log)| (PartitionId(partition as u32), log));
        let bounds: BTreeMap<_, _> = match kafka_answers {
            true => logs().map(|(partition, log)| (partition, (Offset(log.low), Offset(log.end)))).collect(),
            false => BTreeMap::new(),
        };
        let second_tier: BTreeMap<_, _> =
            logs().filter_map(|(partition, log)| Some((partition, Offset(log.redis?)))).collect();
        self.seen.kafka_silent += u64::from(!kafka_answers);
        for host in &mut self.hosts {
            let (bounds, second_tier) = (bounds.clone(), second_tier.clone());
            host.watermarks = Watermarks { asked_at_ms: self.now_ms, bounds, second_tier };
        }
    }
}
