//! A gateway as a source, through the reference client: it resumes by itself, and is told what it misses.
//!
//! The client blocks, and a command wants to look around now and then, so it runs on a thread of its own behind a
//! bounded channel. Before it a first connection asks what the gateway holds: where "now" is, and which partitions
//! there are.

#![allow(clippy::disallowed_methods, reason = "the one thread and the one channel of a command that reads a gateway")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::expand::{Expander, Record};
use super::merge::Merge;
use super::{Ask, Bad, From, Item, Progress, Source, SourceError};
use crate::cli::stop::Stop;
use crate::client::{
    Client, ClientError, Cursor, DECODED_BYTES_MAX, Event, Handle, Hello, MemoryStore, Reconnect, Start,
};
use crate::words::{Offset, PartitionId};

/// Events between the two threads; when they are full the client waits, and the gateway keeps our place.
const EVENTS_MAX: usize = 64;
/// Attempts before a gateway counts as not there: at the start, and for a read that has an end.
const ATTEMPTS_MAX: u32 = 5;
const TICK: Duration = Duration::from_millis(100);

pub(super) struct GatewaySource {
    url: String,
    follow: bool,
    lanes: BTreeMap<PartitionId, Lane>,
    merge: Merge<Held>,
    expander: Expander,
    out: VecDeque<Item>,
    /// Under a filter the gateway names what nobody can read all the same.
    open_filter: bool,
    live: bool,
    over: bool,
    client: Running,
}

struct Lane {
    start: Offset,
    end: Offset,
    next: Offset,
    over: bool,
}

enum Held {
    Record(crate::client::Record),
    /// Boxed, since these are few and large.
    Item(Box<Item>),
}

/// The thread of the client. Dropping stops and joins it.
struct Running {
    handle: Handle,
    /// `None` once it is being dropped.
    events: Option<Receiver<Result<Event, ClientError>>>,
    thread: Option<JoinHandle<()>>,
}

impl GatewaySource {
    /// `None`: somebody asked to end while the gateway was waited for.
    pub(super) fn open(url: &str, ask: &Ask, stop: &Stop) -> Result<Option<Self>, SourceError> {
        let Some(hello) = look(url, stop)? else { return Ok(None) };
        let wanted = |partition: u32| ask.partitions.is_empty() || ask.partitions.contains(&PartitionId(partition));
        if let Some(wrong) =
            ask.partitions.iter().find(|wanted| hello.partitions.iter().all(|here| here.partition != wanted.0))
        {
            let count = u32::try_from(hello.partitions.len()).unwrap_or(u32::MAX);
            return Err(SourceError::NoPartition { topic: hello.topic.clone(), count, partition: wrong.0 });
        }
        let here: Vec<_> = hello.partitions.iter().filter(|state| wanted(state.partition)).collect();
        let (mut merge, mut lanes, mut next) = (Merge::default(), BTreeMap::new(), BTreeMap::new());
        for state in here {
            let partition = PartitionId(state.partition);
            let end = Offset(state.next);
            // Of the rest the gateway finds the offset by itself, which may be older than its log.
            let start = match ask.from {
                From::Offset(_) | From::Last(_) => ask.from.offset(Offset(0), end, None),
                From::Latest => end,
                From::Earliest | From::Time(_) => Offset(0),
            };
            next.insert(state.partition, start.0);
            merge.open(partition);
            let over = !ask.follow && start >= end;
            let start = start.max(Offset(state.oldest.min(state.next)));
            if over {
                merge.close(partition);
            }
            lanes.insert(partition, Lane { start, end, next: start, over });
        }
        let filter = ask.filter.to_client(ask.partitions.iter().map(|partition| partition.0).collect());
        let attempts_max = (!ask.follow).then_some(ATTEMPTS_MAX);
        let mut builder = Client::builder(url)
            .reconnect(Reconnect { attempts_max, ..Reconnect::default() })
            .filter(filter)
            .save_interval(Duration::from_secs(3_600));
        builder = match ask.from {
            From::Earliest => builder.start(Start::Earliest),
            From::Time(timestamp_ms) => builder.start(Start::Timestamp(timestamp_ms)),
            From::Latest | From::Offset(_) | From::Last(_) => {
                let cursor = Some(Cursor { stream: hello.stream.clone(), next });
                builder.start(Start::Earliest).store(MemoryStore { cursor })
            }
        };
        let over = lanes.values().all(|lane: &Lane| lane.over);
        Ok(Some(Self {
            url: url.to_owned(),
            follow: ask.follow,
            lanes,
            merge,
            expander: Expander::new(ask.filter.clone(), DECODED_BYTES_MAX),
            out: VecDeque::new(),
            open_filter: ask.filter == super::Filter::default(),
            live: false,
            over,
            client: Running::start(builder.build()?).map_err(SourceError::Thread)?,
        }))
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Record(record) => {
                let (partition, offset) = (PartitionId(record.partition), Offset(record.offset));
                if self.passed(partition, offset) {
                    return;
                }
                let (time, bytes) = (record.timestamp_ms, record.value.len());
                self.merge.push(partition, time, bytes, Held::Record(record));
                self.reach(partition, offset.next());
            }
            Event::Gap { partition, first, last, reason } => {
                let (partition, from, to) = (PartitionId(partition), Offset(first), Offset(last).next());
                // A tombstone is named by the gateway as a gap of one; Kafka itself shows it as a record.
                if reason == "null" {
                    for offset in from.0..to.0 {
                        self.bad(partition, Offset(offset), "null", "the value is null: a tombstone");
                    }
                } else {
                    self.gap(partition, from, to, reason);
                }
                self.reach(partition, to);
            }
            Event::DeadLettered { partition, offset, reason, id } => {
                let (partition, offset) = (PartitionId(partition), Offset(offset));
                self.bad(partition, offset, &reason, &format!("dead-lettered under the key {id}"));
                self.reach(partition, offset.next());
            }
            Event::Truncated { partition, wanted, oldest, reason } => {
                let (partition, from, to) = (PartitionId(partition), Offset(wanted), Offset(oldest));
                self.gap(partition, from, to, reason);
                self.reach(partition, to);
            }
            Event::Progress { next } => {
                for (partition, next) in next {
                    self.reach(PartitionId(partition), Offset(next));
                }
            }
            Event::Live { .. } => {
                for partition in self.lanes.keys().copied().collect::<Vec<_>>() {
                    let end = self.lanes.get(&partition).map_or(Offset(0), |lane| lane.end);
                    self.reach(partition, end);
                    self.merge.caught_up(partition);
                }
            }
            Event::Disconnected { why, retry_in } => {
                self.out.push_back(Item::Disconnected { why: why.to_string(), retry_in });
            }
            Event::Hello(_) => self.out.push_back(Item::Connected),
            Event::Future { .. } | Event::StreamChanged { .. } => self.out.push_back(Item::StreamChanged),
            _ => {}
        }
    }

    /// It lies beyond what was asked for, or was told already.
    fn passed(&self, partition: PartitionId, offset: Offset) -> bool {
        !self.follow && self.lanes.get(&partition).is_none_or(|lane| lane.over || offset >= lane.end)
    }

    fn gap(&mut self, partition: PartitionId, from: Offset, to: Offset, reason: String) {
        if !self.passed(partition, from) {
            let gap = Item::Gap { partition, from, to, reason };
            self.merge.push(partition, None, 0, Held::Item(Box::new(gap)));
        }
    }

    fn bad(&mut self, partition: PartitionId, offset: Offset, reason: &str, detail: &str) {
        if self.open_filter && !self.passed(partition, offset) {
            let (reason, detail) = (reason.to_owned(), detail.to_owned());
            let bad = Bad { partition, offset, timestamp_ms: None, reason, detail };
            self.merge.push(partition, None, 0, Held::Item(Box::new(Item::Bad(bad))));
        }
    }

    /// Everything below `next` has come.
    fn reach(&mut self, partition: PartitionId, next: Offset) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        lane.next = lane.next.max(next);
        if !self.follow && lane.next >= lane.end {
            lane.over = true;
            self.merge.close(partition);
        }
    }
}

impl Source for GatewaySource {
    fn next(&mut self, deadline: Instant) -> Result<Item, SourceError> {
        let mut listened = false;
        loop {
            if let Some(item) = self.out.pop_front() {
                return Ok(item);
            }
            if let Some(held) = self.merge.pop() {
                match held {
                    Held::Item(item) => self.out.push_back(*item),
                    Held::Record(record) => {
                        let record = Record {
                            partition: PartitionId(record.partition),
                            offset: Offset(record.offset),
                            timestamp_ms: record.timestamp_ms,
                            key: None,
                            value: Some(&record.value),
                            instance: 0,
                        };
                        self.expander.expand(&record, &mut self.out);
                    }
                }
                continue;
            }
            if self.over || !self.follow && self.merge.is_over() {
                return Ok(Item::End);
            }
            if self.follow && !self.live && self.merge.is_caught_up() && self.merge.is_empty() {
                self.live = true;
                return Ok(Item::Live);
            }
            let now = Instant::now();
            if listened && now >= deadline {
                return Ok(Item::Idle);
            }
            listened = true;
            let left = deadline.saturating_duration_since(now).min(TICK);
            let wait = self.merge.due_in().map_or(left, |due| left.min(due));
            let heard = self.client.hear(wait);
            self.merge.listen(now.elapsed());
            match heard {
                Heard::Event(event) => self.hear(event),
                Heard::Nothing => {}
                Heard::Failed(source) => return Err(SourceError::Gateway { url: self.url.clone(), source }),
                Heard::Over => self.over = true,
            }
        }
    }

    fn progress(&self) -> Progress {
        let span = |to: Offset, lane: &Lane| to.0.saturating_sub(lane.start.0);
        Progress {
            done: self.lanes.values().map(|lane| span(lane.next.min(lane.end), lane)).sum(),
            total: (!self.follow).then(|| self.lanes.values().map(|lane| span(lane.end, lane)).sum()),
        }
    }
}

/// What the gateway holds now.
fn look(url: &str, stop: &Stop) -> Result<Option<Hello>, SourceError> {
    let reconnect = Reconnect { attempts_max: Some(ATTEMPTS_MAX), ..Reconnect::default() };
    let client = Client::builder(url).start(Start::Latest).reconnect(reconnect).build()?;
    let mut client = Running::start(client).map_err(SourceError::Thread)?;
    while !stop.is_asked() {
        match client.hear(TICK) {
            Heard::Event(Event::Hello(hello)) => return Ok(Some(*hello)),
            Heard::Event(_) | Heard::Nothing => {}
            Heard::Failed(source) => return Err(SourceError::Gateway { url: url.to_owned(), source }),
            // Nobody but us ends it without a reason.
            Heard::Over => break,
        }
    }
    // It may be trying an address, which takes seconds; the process is about to end.
    client.thread = None;
    Ok(None)
}

enum Heard {
    Event(Event),
    Nothing,
    Failed(ClientError),
    Over,
}

impl Running {
    fn start(mut client: Client) -> std::io::Result<Self> {
        let handle = client.handle();
        let (sender, events) = sync_channel(EVENTS_MAX);
        let thread = std::thread::Builder::new().name("gateway".to_owned()).spawn(move || run(&mut client, &sender))?;
        Ok(Self { handle, events: Some(events), thread: Some(thread) })
    }

    fn hear(&self, wait: Duration) -> Heard {
        let Some(events) = &self.events else { return Heard::Over };
        match events.recv_timeout(wait) {
            Ok(Ok(event)) => Heard::Event(event),
            Ok(Err(error)) => Heard::Failed(error),
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => Heard::Over,
        }
    }
}

fn run(client: &mut Client, events: &SyncSender<Result<Event, ClientError>>) {
    loop {
        let event = match client.next_event() {
            Ok(None) => return,
            Ok(Some(event)) => Ok(event),
            Err(error) => Err(error),
        };
        let failed = event.is_err();
        // Nobody listens any more, or nothing more comes.
        if events.send(event).is_err() || failed {
            return;
        }
        client.acknowledge();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        // A send that waits for room ends.
        self.events = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            thread.join().ok();
        }
    }
}
