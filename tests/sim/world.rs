//! Two hosts that read the same partitions, each with its own chunking and ring, clients that connect to either, and
//! dice that decide what happens next.

#[path = "below.rs"]
mod below;
#[path = "faults.rs"]
mod faults;

use std::collections::{BTreeMap, BTreeSet};

use dashstream::broadcast::decoder::Decoder;
use dashstream::broadcast::encoder;
use dashstream::broadcast::session::{self, Session, SessionSettings, Step};
use dashstream::observe::stats::Protocol;
use dashstream::partition::Verdict;
use dashstream::partition::core::Record;
use dashstream::replay::ask::Wish as Ask;
use dashstream::wire::inflate::Inflater;
use dashstream::words::{CloseReason, Offset, PartitionId, SlowPolicy};

use crate::client::{Client, Place};
use crate::host::{Host, PAYLOAD_MAX, host};
use crate::produced::{Dice, Item, Partition};
use crate::said::{Wish, said};
use crate::seen::Seen;
use crate::tiers::Pending;

/// Sessions of a host that may replay from below the log at a time.
const SEATS: usize = 2;

struct Connected {
    id: u64,
    /// It may replay from below the log.
    seated: bool,
    client: Client,
    session: Session,
    host: usize,
    /// Bytes that its socket takes per turn.
    appetite: u64,
    stalled: bool,
}

pub(crate) struct World {
    dice: Dice,
    produced: Vec<Partition>,
    hosts: Vec<Host>,
    connected: Vec<Connected>,
    settings: SessionSettings,
    decoder: Decoder,
    inflater: Inflater,
    pending: Vec<Pending>,
    last_id: u64,
    trace: bool,
    now_ms: u64,
    /// Goes up when the topic is made again.
    stream: u8,
    /// There is a second tier.
    redis: bool,
    pub seen: Seen,
}

impl World {
    pub(crate) fn new(seed: u64, trace: bool) -> Self {
        let mut dice = Dice::new(seed);
        let partitions = 1 + dice.below(4) as usize;
        let cold = dice.chance(67);
        let hosts = (0..2).map(|_| host(&vec![0; partitions], 300 + dice.below(4_000) as u32, 1)).collect();
        let redis = cold && dice.chance(50);
        let settings = SessionSettings {
            group: dice.chance(30),
            slow: if dice.chance(80) { SlowPolicy::Catchup } else { SlowPolicy::Gap },
            slow_allowed: SlowPolicy::ALL.to_vec(),
            cold,
            search_age_ms: 1_000,
            search_max_bytes: 1 << 20,
            message_max_bytes: 1 << 20,
            resume_partitions_max: 1024,
            stall_timeout_ms: 60_000,
            idle_timeout_ms: 60_000,
            ping_interval_ms: 20_000,
            judge_timeout_ms: 50,
        };
        Self {
            dice,
            produced: vec![Partition::default(); partitions],
            hosts,
            connected: Vec::new(),
            settings,
            decoder: Decoder::new(PAYLOAD_MAX),
            inflater: Inflater::new(PAYLOAD_MAX),
            pending: Vec::new(),
            last_id: 0,
            trace,
            now_ms: 1,
            stream: 1,
            redis,
            seen: Seen::default(),
        }
    }

    pub(crate) fn step(&mut self) {
        self.now_ms += if self.dice.below(1_000) == 0 { 6_000 } else { self.dice.below(3) };
        match self.dice.below(120) {
            100..=108 => self.answer_cold(),
            109 => self.let_cold_go(),
            110..=112 => self.say_something_else(),
            113 => self.retain(),
            118 => self.lose_partition(),
            119 if self.dice.chance(20) => self.lose_redis(),
            115..=117 => self.evict(),
            114 => {
                if let Some(who) = self.anybody() {
                    self.by_the_clock(who);
                }
            }
            0..=29 => self.produce(),
            30..=49 => {
                let (host, partition) = (self.dice.below(2), self.dice.below(self.produced.len() as u64));
                let count = 1 + self.dice.below(12);
                self.take(host as usize, partition as usize, count);
            }
            50..=53 => self.connect(),
            54..=56 => self.leave(),
            57..=60 => self.resume_again(),
            61..=63 => self.evict(),
            64..=66 => {
                let kafka_answers = self.dice.chance(85);
                self.publish_watermarks(kafka_answers);
            }
            67 => {
                if let Some(connected) = self.connected.last_mut() {
                    connected.session.pong(b"x");
                    connected.session.ping();
                }
            }
            68..=70 => {
                if let Some(who) = self.anybody() {
                    self.connected[who].stalled ^= true;
                }
            }
            71..=72 => self.open_one(),
            73 if self.dice.chance(10) => self.restart(),
            74 if self.dice.chance(6) => self.recreate(),
            75 if self.settings.cold && self.dice.chance(4) => self.overrun(),
            _ => self.serve_some(),
        }
        self.turn_away();
    }

    /// Who was closed comes back.
    fn turn_away(&mut self) {
        while let Some(who) = self.connected.iter().position(|connected| connected.client.closed.is_some()) {
            let gone = self.connected.swap_remove(who);
            assert_eq!(gone.client.closed, Some(1013), "only a v1 client that cannot be answered is closed here");
            assert_eq!(gone.client.protocol, Protocol::V1);
            gone.client.assert_at_boundary();
            self.seen.turned_away += 1;
            self.come_back(gone);
        }
    }

    /// Everybody reads on until nothing is left; then everybody must stand at the end.
    pub(crate) fn settle(&mut self) {
        for host in 0..self.hosts.len() {
            for partition in 0..self.produced.len() {
                self.open(host, partition);
                self.take(host, partition, u64::MAX);
            }
        }
        for who in 0..self.connected.len() {
            self.connected[who].stalled = false;
            self.serve(who, u64::MAX);
            if self.connected[who].client.is_paused() {
                self.say(who, Wish::Continue);
            }
        }
        // A tier that was away is back: who was turned away for it comes again.
        for _ in 0..50 {
            self.turn_away();
            self.now_ms += 1;
            self.publish_watermarks(true);
            self.settle_cold();
            if self.connected.iter().all(|connected| connected.client.closed.is_none()) {
                break;
            }
        }
        for who in 0..self.connected.len() {
            self.connected[who].session.begin();
            self.now_ms += 1;
            self.publish_watermarks(true);
            self.serve(who, u64::MAX);
            self.settle_cold();
            if self.connected[who].client.unavailable {
                // What could not be had then is asked for again.
                self.resume(who, false);
                let last = self.connected.len() - 1;
                self.connected.swap(who, last);
                self.now_ms += 1;
                self.publish_watermarks(true);
                self.serve(who, u64::MAX);
                self.settle_cold();
            }
            let client = &self.connected[who].client;
            client.assert_at_boundary();
            for (partition, log) in self.produced.iter().enumerate() {
                let next = client.places[&(partition as u32)].next;
                let left: Vec<_> = log.items.range(next..).collect();
                let silent = client.protocol == Protocol::V1 && !client.aware;
                let follows = client.follows();
                let told = |(offset, item): &&(&u64, &Item)| match follows {
                    Some(run) => log.runs.get(offset) == Some(&run),
                    None => matches!(item, Item::Good(_)) || !silent,
                };
                let told = left.iter().filter(told).count();
                assert_eq!(
                    told, 0,
                    "partition {partition}: stands at {next} of {}: {:?}, closed {:?}",
                    log.end, client.protocol, client.closed
                );
                let covered = client.protocol == Protocol::V1 || follows.is_some() || next >= log.end;
                assert!(covered, "holes at the end are covered too");
            }
            if client.protocol == Protocol::V1 {
                assert_eq!(client.completes, client.resumes_sent, "one end per resume");
            } else {
                assert!(client.lives.contains(&client.resumes_sent), "the last resume became live");
                let expected: Vec<_> = (1..=client.resumes_sent).collect();
                assert_eq!(client.answered, expected, "one answer per resume, in order");
            }
        }
        while !self.connected.is_empty() {
            self.say_bye(0);
        }
    }

    fn anybody(&mut self) -> Option<usize> {
        (!self.connected.is_empty()).then(|| self.dice.below(self.connected.len() as u64) as usize)
    }

    /// What a worker does: take records, finish chunks, hand them on.
    fn take(&mut self, host: usize, partition: usize, count: u64) {
        let log = &self.produced[partition];
        let Host { cores, ring, .. } = &mut self.hosts[host];
        if ring.bounds(PartitionId(partition as u32)).is_none() {
            return;
        }
        let before = ring.head();
        let core = &mut cores[partition];
        let mut taken = 0;
        for (offset, item) in log.items.range(core.next().0..) {
            if taken >= count {
                break;
            }
            taken += 1;
            let value = match item {
                Item::Good(value) | Item::Poison(value) => Some(value.as_slice()),
                Item::Null => None,
            };
            let verdict = core.take(Record { offset: Offset(*offset), timestamp_ms: Some(5), value, instance: &|| 0 });
            match (item, &verdict) {
                (Item::Poison(_), Verdict::DeadLetter(_)) | (Item::Good(_) | Item::Null, Verdict::Taken) => {}
                other => panic!("{offset}: {other:?}"),
            }
            if core.is_full()
                && let (Some(chunk), _) = core.finish(self.now_ms)
            {
                assert!(ring.append(chunk));
            }
        }
        if taken < count {
            core.cover(Offset(log.end));
        }
        if let (Some(chunk), _) = core.finish(self.now_ms) {
            assert!(ring.append(chunk));
        }
        // What a shard's subscriptions do.
        for sequence in before..ring.head() {
            let Some(chunk) = ring.chunk(sequence) else { continue };
            for connected in self.connected.iter_mut().filter(|connected| connected.host == host) {
                let session = &mut connected.session;
                if session.is_parked() && session.filter().is_some_and(|filter| filter.may_match(chunk)) {
                    self.seen.unparked += 1;
                    session.unpark(sequence);
                }
            }
        }
    }

    /// Where it was taken from by `swap_remove`.
    fn put_back(&mut self, who: usize, connected: Connected) {
        self.connected.push(connected);
        let last = self.connected.len() - 1;
        self.connected.swap(who, last);
    }

    fn connect(&mut self) {
        if self.connected.len() < 6 {
            let protocol = Protocol::ALL[self.dice.below(3) as usize];
            let host = self.dice.below(2) as usize;
            let aware = protocol == Protocol::V1 && self.dice.chance(50);
            self.arrive(protocol, host, BTreeMap::new(), aware, BTreeSet::new());
        }
    }

    /// A new connection with what the client had before.
    fn arrive(
        &mut self,
        protocol: Protocol,
        host: usize,
        places: BTreeMap<u32, Place>,
        aware: bool,
        stale: BTreeSet<u32>,
    ) {
        let fresh = places.is_empty();
        let session = self.with_world(host, |world, _| Session::new(protocol, world));
        let catchup = self.settings.slow == SlowPolicy::Catchup;
        let mut client = Client::new(protocol, aware, self.settings.cold, catchup, places);
        client.stale = stale;
        client.group = self.settings.group;
        if protocol == Protocol::V1 && fresh {
            // A v1 client is not told where it stands before its first cursor; what it must not miss begins here.
            for (partition, _, next) in self.hosts[host].ring.partitions() {
                client.places.insert(partition.0, Place::at(next.0));
            }
        }
        // A partition that opens later begins for everybody where its log begins.
        for (partition, core) in self.hosts[host].cores.iter().enumerate() {
            if self.hosts[host].ring.bounds(PartitionId(partition as u32)).is_none() {
                let place = client.places.entry(partition as u32).or_insert(Place::at(core.next().0));
                if protocol == Protocol::V1 && place.next == 0 {
                    *place = Place::at(core.next().0);
                }
            }
        }
        self.last_id += 1;
        let id = self.last_id;
        client.trace = self.trace.then_some(id);
        self.connected.push(Connected { id, seated: false, client, session, host, appetite: 1_000, stalled: false });
        let who = self.connected.len() - 1;
        if !fresh || aware {
            self.serve(who, u64::MAX);
            // A partition that is left out goes on where this connection stands, which is not where the client was.
            self.resume(who, false);
        }
    }

    /// The client goes, often with a frame half received, and comes back to either host with its cursor.
    fn leave(&mut self) {
        let Some(who) = self.anybody() else { return };
        if self.dice.chance(30) {
            return self.say_bye(who);
        }
        let gone = self.connected.swap_remove(who);
        self.come_back(gone);
    }

    fn come_back(&mut self, gone: Connected) {
        self.seen.count(&gone.client.counts);
        if gone.client.places.is_empty() {
            return;
        }
        let host = self.dice.below(2) as usize;
        self.seen.moves += u64::from(host != gone.host);
        let mut places = gone.client.places;
        let future = self.dice.chance(5);
        for place in places.values_mut() {
            // A cursor that is ahead of Kafka: the stream was longer once.
            place.next += if future { 100_000 } else { 0 };
            place.last_sent = None;
            place.all &= !future;
        }
        let mut stale = gone.client.stale;
        if gone.client.protocol != Protocol::V1 {
            // No cursor can say "from 0": where it has nothing it takes what Hello offers.
            places.retain(|_, place| place.next > 0);
            if !stale.is_empty() {
                // One message names one stream: what it has of the new one it does without.
                places.retain(|partition, _| stale.contains(partition));
            }
            stale.retain(|partition| places.contains_key(partition));
        } else if !stale.is_empty() {
            // The predecessor's client cannot tell; one that can asks for what it had, if it can in one message.
            let whole = places.iter().all(|(partition, place)| place.next > 0 && stale.contains(partition));
            if !gone.client.aware || !whole || self.settings.group {
                return;
            }
        }
        self.arrive(gone.client.protocol, host, places, gone.client.aware, stale);
    }

    /// The gateway says goodbye: the cursor that it names must be what the client has.
    fn say_bye(&mut self, who: usize) {
        let host = self.connected[who].host;
        if self.connected[who].session.is_ending() {
            return self.serve(who, u64::MAX);
        }
        let mut connected = self.connected.swap_remove(who);
        self.with_world(host, |world, _| connected.session.close(CloseReason::ShuttingDown, world));
        self.connected.push(connected);
        let who = self.connected.len() - 1;
        self.serve(who, u64::MAX);
        let client = self.connected.swap_remove(who).client;
        client.assert_at_boundary();
        assert_eq!(client.closed, Some(1001));
        if let Some(cursor) = &client.bye {
            for (partition, place) in &client.places {
                // What is not open here, or was asked for in vain, is not for this host to say.
                let known = self.hosts[host].ring.log(PartitionId(*partition)).is_some() && !client.unavailable;
                if !known && !cursor.contains_key(partition) {
                    continue;
                }
                let told = cursor.get(partition).map_or(0, |last| last + 1);
                let (low, high) = (told.min(place.next), told.max(place.next));
                let log = &self.produced[*partition as usize];
                let concerns = |offset: &u64| match client.follows() {
                    Some(run) => log.runs.get(offset) == Some(&run),
                    None => !place.all || *offset >= log.low,
                };
                let differs = log.items.range(low..high).any(|(offset, _)| concerns(offset));
                assert!(!differs, "partition {partition}: bye says {told}, the client has {}", place.next);
            }
        }
        self.seen.byes += 1;
        self.seen.count(&client.counts);
    }

    fn resume_again(&mut self) {
        let Some(who) = self.anybody() else { return };
        if !self.connected[who].stalled {
            // What is under way is received first, so that the cursor sent is what the client has.
            self.serve(who, u64::MAX);
            let partial = self.dice.chance(10);
            self.resume(who, partial);
        }
    }

    fn resume(&mut self, who: usize, partial: bool) {
        let Connected { client, host, .. } = &mut self.connected[who];
        let host = *host;
        client.resumes_sent += 1;
        let partial = partial && client.stale.is_empty();
        client.unavailable &= partial;
        client.resumes();
        let mut cursor: BTreeMap<u32, u64> = BTreeMap::new();
        for (partition, place) in &mut client.places {
            let other_stream = !client.stale.is_empty() && !client.stale.contains(partition);
            let leave_out = client.protocol != Protocol::V1 && (other_stream || partial && !cursor.is_empty());
            if place.next > 0 && !leave_out {
                cursor.insert(*partition, place.next - 1);
                client.asked.insert(*partition, client.resumes_sent);
            } else if client.protocol == Protocol::V1 {
                // Not named: a v1 client gets all that there is.
                let Host { ring, cores, .. } = &self.hosts[host];
                let oldest = ring.bounds(PartitionId(*partition)).map(|(oldest, _)| oldest.0);
                if self.settings.cold && oldest.is_some() {
                    (place.next, place.all) = (0, true);
                } else {
                    // One that went to another host goes on where this connection stands; one that is not open yet
                    // begins where its log will.
                    let kept = ring.log(PartitionId(*partition)).map(|_| place.next);
                    place.next = oldest.or(kept).unwrap_or(cores[*partition as usize].next().0);
                }
            } else if leave_out {
                continue;
            }
            place.last_sent = None;
        }
        client.note(|| format!("> resume {cursor:?}, all of it: {}", !partial));
        let stream = &self.hosts[host].topology.stream;
        let said = said(client, if client.stale.is_empty() { stream } else { "another" }, &cursor);
        if cursor.is_empty() && client.protocol != Protocol::V1 {
            // No partition is named, so there is nothing to answer.
            client.answered.push(client.resumes_sent);
        }
        let mut connected = self.connected.swap_remove(who);
        self.with_world(host, |world, _| connected.session.hear(said, world));
        self.connected.push(connected);
        self.seen.resumes += 1;
    }

    fn serve_some(&mut self) {
        let Some(who) = self.anybody() else { return };
        if self.dice.chance(20) {
            self.connected[who].session.begin();
        }
        if !self.connected[who].stalled {
            let appetite = 1 + self.dice.below(5_000);
            self.serve(who, appetite);
        }
    }

    /// What a shard does for one client, with a socket that takes `appetite` bytes.
    fn serve(&mut self, who: usize, appetite: u64) {
        let last = self.connected.len() - 1;
        self.connected.swap(who, last);
        let Some(mut connected) = self.connected.pop() else { return };
        connected.appetite = appetite;
        let host = connected.host;
        loop {
            let step = self.with_world(host, |world, decoder| connected.session.step(world, decoder));
            let ring = &self.hosts[host].ring;
            if connected.seated && !connected.session.is_cold() {
                connected.seated = false;
                self.seen.cold_joined += 1;
            }
            let Connected { client, session, appetite, .. } = &mut connected;
            let form = session.form();
            let room = |bytes: &[u8], appetite: u64| bytes.len().min(usize::try_from(appetite).unwrap_or(usize::MAX));
            let taken = match step {
                Step::Idle | Step::Finished(_) => break,
                Step::Ask(wish) => {
                    connected.seated |= self.seats_taken(host) < SEATS;
                    if connected.seated {
                        self.last_id += 1;
                        self.seen.cold_asked += 1;
                        let partition = match &wish {
                            Ask::Read { partition, .. } => Some(*partition),
                            Ask::AtTime { .. } => None,
                        };
                        connected.session.cold_asked(self.last_id, partition);
                        self.pending.push(Pending { who: connected.id, ticket: self.last_id, wish });
                    } else {
                        connected.session.cold_full();
                    }
                    continue;
                }
                Step::NeedsJson => {
                    if self.dice.chance(30) && *appetite < 1 << 40 {
                        break;
                    }
                    session.unrendered(ring, 1).for_each(|chunk| encoder::render(chunk, &mut self.inflater));
                    0
                }
                Step::Own => {
                    let taken = room(session.own(), *appetite);
                    client.receive(&session.own()[..taken], &self.produced);
                    session.wrote_own(taken);
                    taken
                }
                Step::Rest => {
                    let chunk = ring.chunk(session.position()).expect("there");
                    let bytes = chunk.form(form).expect("begun");
                    let rest = &bytes[session.sent_of_chunk()..];
                    let taken = room(rest, *appetite);
                    client.receive(&rest[..taken], &self.produced);
                    session.wrote_chunk(chunk, taken, bytes.len());
                    taken
                }
                Step::Share { limit } => {
                    let mut bytes = Vec::new();
                    let mut ends = Vec::new();
                    for sequence in session.position()..limit {
                        let Some(more) = ring.chunk(sequence).and_then(|chunk| chunk.form(form)) else { break };
                        bytes.extend_from_slice(more);
                        ends.push(bytes.len());
                        if bytes.len() > 10_000 {
                            break;
                        }
                    }
                    let taken = room(&bytes, *appetite);
                    client.receive(&bytes[..taken], &self.produced);
                    let whole = ends.partition_point(|end| *end <= taken);
                    let end = whole.checked_sub(1).map_or(0, |last| ends[last]);
                    session.passed_many(ring, whole as u64);
                    session.begin_chunk(taken - end);
                    taken
                }
            };
            *appetite -= taken as u64;
            if *appetite == 0 {
                break;
            }
        }
        self.connected.push(connected);
        let last = self.connected.len() - 1;
        self.connected.swap(who, last);
    }

    fn with_world<T>(&mut self, host: usize, act: impl FnOnce(&session::World<'_>, &mut Decoder) -> T) -> T {
        let Host { ring, topology, watermarks, runs, stats, .. } = &self.hosts[host];
        let world = session::World {
            ring,
            topology,
            watermarks,
            settings: &self.settings,
            stats,
            runs,
            now_ms: self.now_ms,
            wall_ms: 5,
        };
        act(&world, &mut self.decoder)
    }
}
