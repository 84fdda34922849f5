//! kafka-poll against the mock cluster, with workers that only drain: start and order, commits and what stands beside
//! them, a topic and partitions that come later, offsets out of range, lost ends, the group, the ordered end.
#![allow(clippy::disallowed_methods, reason = "the tests play gateway: they make its threads and channels")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use rdkafka::types::RDKafkaRespErr;

use super::*;
use crate::config::OffsetReset;
use crate::kafka::host::{PartitionStart, StartPlan, Stopped};
use crate::kafka::metadata::CommitNote;
use crate::kafka::mock::{Mock, TOPIC, settings, until};
use crate::kafka::offsets::{Committed, commit_list, committed, ends};
use crate::kafka::queue::{Arrival, Flow, PartitionQueue};
use crate::words::StreamIdentity;

/// What the fake gateway saw, in order where it matters.
#[derive(Default)]
struct Seen {
    records: BTreeMap<PartitionId, Vec<u64>>,
    /// Where the reader was told to stand at the end of what can be read.
    ends: BTreeMap<PartitionId, Vec<u64>>,
    starts: Vec<(PartitionId, u64, StartPlan)>,
    lost: Vec<PartitionId>,
    topologies: Vec<u32>,
    changes: Vec<&'static str>,
}

struct FakeHost {
    seen: Arc<Mutex<Seen>>,
    stats: Arc<Stats>,
    commands: Sender<PollCommand>,
    next: Arc<Mutex<BTreeMap<PartitionId, u64>>>,
    /// Where the log is said to end, whatever was read.
    pretended: Arc<Mutex<BTreeMap<PartitionId, u64>>>,
    workers: BTreeMap<PartitionId, (Arc<AtomicBool>, JoinHandle<PartitionQueue>)>,
    /// Workers of these partitions do not stop in time.
    stubborn: Arc<Mutex<Vec<PartitionId>>>,
    late: Vec<(PartitionId, JoinHandle<PartitionQueue>)>,
}

impl PartitionHost for FakeHost {
    fn start(&mut self, start: PartitionStart) {
        let PartitionStart { partition, epoch, mut queue, plan } = start;
        self.seen.lock().expect("seen").starts.push((partition, epoch, plan.clone()));
        let stats = self.stats.partition(partition).expect("registered before its worker starts");
        assert_eq!(stats.epoch.get(), epoch);
        stats.next.set(Some(plan.from.0));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, next, commands, stopped) =
            (self.seen.clone(), self.next.clone(), self.commands.clone(), stop.clone());
        let worker = std::thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                queue.consume(Duration::from_millis(10), &mut |arrival| {
                    let reached = match arrival {
                        Arrival::Record(record) => {
                            let mut seen = seen.lock().expect("seen");
                            seen.records.entry(partition).or_default().push(record.offset.0);
                            record.offset.0 + 1
                        }
                        Arrival::End { offset } => {
                            seen.lock().expect("seen").ends.entry(partition).or_default().push(offset.0);
                            offset.0
                        }
                        Arrival::Error { offset, .. } => {
                            let command = PollCommand::OutOfRange { partition, epoch, offset };
                            commands.try_send(command).expect("room");
                            return Flow::More;
                        }
                    };
                    stats.next.set(Some(reached));
                    stats.commit_watermark.set(Some(reached));
                    next.lock().expect("next").insert(partition, reached);
                    Flow::More
                });
            }
            queue
        });
        assert!(self.workers.insert(partition, (stop, worker)).is_none(), "two workers of one partition");
    }

    fn stop(&mut self, partitions: &[PartitionId], _: Duration) -> Vec<(PartitionId, Stopped)> {
        let stop = |partition: &PartitionId| {
            let Some((stop, worker)) = self.workers.remove(partition) else {
                return (*partition, Stopped::NotRunning);
            };
            stop.store(true, Ordering::Release);
            if self.stubborn.lock().expect("stubborn").contains(partition) {
                self.late.push((*partition, worker));
                return (*partition, Stopped::Late);
            }
            (*partition, Stopped::Ended(worker.join().expect("a worker")))
        };
        partitions.iter().map(stop).collect()
    }

    fn reap(&mut self) -> Vec<(PartitionId, PartitionQueue)> {
        let stubborn = self.stubborn.lock().expect("stubborn").clone();
        let ended = self.late.extract_if(.., |(partition, _)| !stubborn.contains(partition));
        ended.map(|(partition, worker)| (partition, worker.join().expect("a worker"))).collect()
    }

    fn log_next(&self, partition: PartitionId) -> Option<Offset> {
        let pretended = self.pretended.lock().expect("pretended").get(&partition).copied();
        pretended.or_else(|| self.next.lock().expect("next").get(&partition).copied()).map(Offset)
    }

    fn lost(&mut self, partition: PartitionId) {
        self.next.lock().expect("next").remove(&partition);
        self.seen.lock().expect("seen").lost.push(partition);
    }

    fn topology(&mut self, _: &StreamIdentity, partition_count: u32) {
        self.seen.lock().expect("seen").topologies.push(partition_count);
    }

    fn stream_changed(&mut self, reason: &'static str) {
        assert!(self.workers.is_empty(), "a worker runs while the stream changes");
        self.next.lock().expect("next").clear();
        self.pretended.lock().expect("pretended").clear();
        self.seen.lock().expect("seen").changes.push(reason);
    }
}

/// A running kafka-poll thread and all that is around it.
struct Gateway {
    stats: Arc<Stats>,
    seen: Arc<Mutex<Seen>>,
    pretended: Arc<Mutex<BTreeMap<PartitionId, u64>>>,
    stubborn: Arc<Mutex<Vec<PartitionId>>>,
    commands: Sender<PollCommand>,
    control: Arc<PollControl>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    fn start(kafka: KafkaConfig) -> Self {
        let (commands, receiver) = crossbeam_channel::bounded(64);
        let stats = Arc::new(Stats::default());
        let (seen, pretended, stubborn) = (Arc::default(), Arc::default(), Arc::default());
        let host = FakeHost {
            seen: Arc::clone(&seen),
            stats: stats.clone(),
            commands: commands.clone(),
            next: Arc::default(),
            pretended: Arc::clone(&pretended),
            workers: BTreeMap::new(),
            stubborn: Arc::clone(&stubborn),
            late: Vec::new(),
        };
        let control = PollControl::new();
        let timings = Timings {
            turn: Duration::from_millis(5),
            ask: Duration::from_secs(5),
            retry: Duration::from_millis(50),
            truncated_after: Duration::from_millis(300),
            ..Timings::default()
        };
        let setup = PollSetup {
            kafka,
            warm_bytes: 1024 * 1024,
            warm_age: Duration::from_secs(60),
            instance: "test:1".to_owned(),
            stats: stats.clone(),
            commands: receiver,
            control: control.clone(),
            timings,
        };
        let poll = Poll::new(setup, Box::new(host)).expect("a client");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = Some(std::thread::spawn(move || poll.run(&stopped)));
        Self { stats, seen, pretended, stubborn, commands, control, stop, thread }
    }

    fn records(&self, partition: u32) -> Vec<u64> {
        self.seen.lock().expect("seen").records.get(&PartitionId(partition)).cloned().unwrap_or_default()
    }

    fn ends(&self, partition: u32) -> Vec<u64> {
        self.seen.lock().expect("seen").ends.get(&PartitionId(partition)).cloned().unwrap_or_default()
    }

    fn starts(&self) -> Vec<(PartitionId, u64, StartPlan)> {
        self.seen.lock().expect("seen").starts.clone()
    }

    fn until_read(&self, partition: u32, expected: std::ops::Range<u64>) {
        let expected: Vec<u64> = expected.collect();
        until(&format!("records of {partition}: {:?}", expected.last()), || {
            (self.records(partition).len() >= expected.len()).then_some(())
        });
        assert_eq!(self.records(partition), expected);
    }

    fn until_committed(&self, partition: u32, offset: u64) {
        until("the commit", || {
            let committed = self.stats.partition(PartitionId(partition))?.committed.get()?;
            (committed == offset).then_some(())
        });
    }

    fn waiting_for(&self) -> Option<String> {
        self.stats.stream.read().expect("stream").waiting_for.clone()
    }

    /// The ordered end.
    fn end(mut self) -> Arc<Stats> {
        let limit = Duration::from_secs(10);
        assert!(self.control.stop_workers(limit), "the workers were not stopped");
        assert!(self.control.commit_and_end(limit), "no last commit");
        self.thread.take().expect("running").join().expect("kafka-poll");
        self.stats.clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stubborn.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "kafka-poll panicked");
        }
    }
}

fn committed_now(mock: &Mock, count: u32) -> BTreeMap<PartitionId, Committed> {
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", mock.brokers()).set("group.id", "gateway");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    committed(&consumer, TOPIC, &all_partitions(count), Duration::from_secs(10)).expect("an answer")
}

fn commit_before(mock: &Mock, partition: u32, next: u64, metadata: &str) {
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", mock.brokers()).set("group.id", "gateway");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let commit = Committed { next: Offset(next), metadata: metadata.to_owned() };
    let list = commit_list(TOPIC, &BTreeMap::from([(PartitionId(partition), commit)])).expect("a list");
    consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).expect("committed");
}

fn identity_name(mock: &Mock) -> String {
    let consumer = mock.consumer();
    let topic = crate::kafka::identity::identify(consumer.client(), TOPIC, 0, Duration::from_secs(10));
    topic.expect("an identity").identity.name()
}

#[test]
fn all_partitions_are_read_committed_with_a_note_and_gone_on_with() {
    let mock = Mock::new(3);
    mock.produce_numbers(0, 0..100);
    mock.produce_numbers(2, 0..7);
    let gateway = Gateway::start(settings(&mock.brokers()));
    gateway.until_read(0, 0..100);
    gateway.until_read(2, 0..7);
    gateway.until_committed(0, 100);
    gateway.until_committed(2, 7);
    {
        let stream = gateway.stats.stream.read().expect("stream");
        assert!(stream.assigned && stream.waiting_for.is_none() && stream.stopped.is_empty());
        assert_eq!(stream.partition_count, Some(3));
    }
    gateway.stats.partition(PartitionId(0)).expect("held").warm_from.set(Some(60));
    mock.produce_numbers(0, 100..110);
    gateway.until_read(0, 0..110);
    // The ordered end commits what was read since the last commit.
    gateway.end();
    let committed = committed_now(&mock, 3);
    assert_eq!(committed[&PartitionId(0)].next, Offset(110));
    let note = CommitNote::parse(&committed[&PartitionId(0)].metadata).expect("our note");
    assert_eq!((note.stream, note.warm_from), (identity_name(&mock), Some(Offset(60))));
    assert_eq!(note.instance, "test:1");

    let gateway = Gateway::start(settings(&mock.brokers()));
    gateway.until_read(0, 60..110);
    let plans = gateway.starts();
    assert_eq!(plans[0].2, StartPlan { from: Offset(60), live_from: Offset(110), lost: None });
    assert_eq!(gateway.stats.partition(PartitionId(0)).expect("held").warm_until.get(), Some(110));
    assert_eq!(plans[1].2.from, Offset(0));
    assert_eq!(plans[2].2, StartPlan { from: Offset(7), live_from: Offset(7), lost: None });
    mock.produce_numbers(0, 110..115);
    gateway.until_read(0, 60..115);
}

#[test]
fn without_a_commit_latest_begins_at_the_end() {
    let mock = Mock::new(1);
    mock.produce_numbers(0, 0..50);
    let mut kafka = settings(&mock.brokers());
    kafka.auto_offset_reset = OffsetReset::Latest;
    let gateway = Gateway::start(kafka);
    until("a start", || (!gateway.starts().is_empty()).then_some(()));
    mock.produce_numbers(0, 50..60);
    gateway.until_read(0, 50..60);
}

#[test]
fn a_commit_of_another_stream_is_ignored() {
    let mock = Mock::new(1);
    mock.produce_numbers(0, 0..20);
    let other = CommitNote { stream: "v3_other".to_owned(), instance: "x".to_owned(), warm_from: None };
    commit_before(&mock, 0, 15, &other.to_text());
    let gateway = Gateway::start(settings(&mock.brokers()));
    gateway.until_read(0, 0..20);
    gateway.until_committed(0, 20);
}

#[test]
fn a_topic_that_comes_later_is_waited_for_and_read_from_its_start() {
    let mock = Mock::new(0);
    let mut kafka = settings(&mock.brokers());
    kafka.auto_offset_reset = OffsetReset::Latest;
    let gateway = Gateway::start(kafka);
    until("the reason", || gateway.waiting_for().filter(|why| why.contains("does not exist yet")).map(|_| ()));
    mock.cluster.create_topic(TOPIC, 1, 1).expect("a topic");
    mock.produce_numbers(0, 0..10);
    gateway.until_read(0, 0..10);
    assert_eq!(gateway.waiting_for(), None);
}

#[test]
fn too_many_partitions_are_refused_in_words() {
    let mock = Mock::new(3);
    let mut kafka = settings(&mock.brokers());
    kafka.partitions_max = 2;
    let gateway = Gateway::start(kafka);
    until("the reason", || {
        gateway.waiting_for().filter(|why| why.contains("kafka.partitions_max = 2: raise it")).map(|_| ())
    });
    assert!(gateway.starts().is_empty());
}

#[test]
fn a_reassigned_partition_goes_on_at_the_logs_own_next() {
    let mock = Mock::new(2);
    mock.produce_numbers(0, 0..30);
    let gateway = Gateway::start(settings(&mock.brokers()));
    gateway.until_read(0, 0..30);
    gateway.commands.send(PollCommand::Reassign { partition: PartitionId(0) }).expect("a command");
    until("a second start", || (gateway.starts().len() == 3).then_some(()));
    let (partition, epoch, plan) = gateway.starts()[2].clone();
    assert_eq!((partition, plan.from, plan.live_from), (PartitionId(0), Offset(30), Offset(30)));
    assert!(epoch > 2);
    mock.produce_numbers(0, 30..40);
    gateway.until_read(0, 0..40);
    assert!(gateway.seen.lock().expect("seen").lost.is_empty(), "the partition was ours all the time");
}

#[test]
fn a_worker_that_is_late_holds_its_partition_back_alone() {
    let mock = Mock::new(2);
    let gateway = Gateway::start(settings(&mock.brokers()));
    until("two starts", || (gateway.starts().len() == 2).then_some(()));
    gateway.stubborn.lock().expect("stubborn").push(PartitionId(0));
    for partition in [PartitionId(0), PartitionId(1)] {
        gateway.commands.send(PollCommand::Reassign { partition }).expect("a command");
    }
    until("the other's start", || {
        gateway.starts().iter().skip(2).any(|(partition, ..)| *partition == PartitionId(1)).then_some(())
    });
    mock.produce_numbers(1, 0..10);
    gateway.until_read(1, 0..10);
    assert_eq!(gateway.starts().len(), 3);
    gateway.stubborn.lock().expect("stubborn").clear();
    until("its start", || (gateway.starts().len() == 4).then_some(()));
    mock.produce_numbers(0, 0..10);
    gateway.until_read(0, 0..10);
}

#[test]
fn an_offset_out_of_range_is_assigned_again_and_nothing_is_lost_or_repeated() {
    let mock = Mock::new(1);
    mock.produce_numbers(0, 0..10);
    let gateway = Gateway::start(settings(&mock.brokers()));
    gateway.until_read(0, 0..10);
    // librdkafka puts the end of a partition in the place of an error that comes with it, and the mock errs once only,
    // where a broker would err again.
    until("the end", || gateway.ends(0).contains(&10).then_some(()));
    let errors = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE; 1];
    mock.cluster.request_errors(rdkafka::types::RDKafkaApiKey::Fetch, &errors);
    until("a second start", || (gateway.starts().len() >= 2).then_some(()));
    mock.produce_numbers(0, 10..30);
    gateway.until_read(0, 0..30);
    assert!(gateway.seen.lock().expect("seen").changes.is_empty());
}

#[test]
fn an_old_error_is_ignored() {
    let mock = Mock::new(1);
    mock.produce_numbers(0, 0..10);
    let gateway = Gateway::start(settings(&mock.brokers()));
    gateway.until_read(0, 0..10);
    let epoch = gateway.starts()[0].1;
    let partition = PartitionId(0);
    for command in [
        PollCommand::OutOfRange { partition, epoch: epoch + 7, offset: Some(Offset(50)) },
        PollCommand::OutOfRange { partition, epoch, offset: Some(Offset(9)) },
        PollCommand::OutOfRange { partition: PartitionId(99), epoch, offset: None },
    ] {
        gateway.commands.send(command).expect("a command");
    }
    // Commands are taken in order: when this one was obeyed, the others had their chance.
    gateway.commands.send(PollCommand::OutOfRange { partition, epoch, offset: None }).expect("a command");
    until("a second start", || (gateway.starts().len() == 2).then_some(()));
    mock.produce_numbers(0, 10..20);
    gateway.until_read(0, 0..20);
    assert_eq!(gateway.starts().len(), 2);
}

#[test]
fn an_end_below_what_was_read_stops_the_partition_and_then_changes_the_stream() {
    let mock = Mock::new(2);
    mock.produce_numbers(0, 0..10);
    mock.produce_numbers(1, 0..5);
    let gateway = Gateway::start(settings(&mock.brokers()));
    gateway.until_read(0, 0..10);
    gateway.until_read(1, 0..5);
    // As if the brokers had lost the tail of partition 0.
    gateway.pretended.lock().expect("pretended").insert(PartitionId(0), 25);
    gateway.commands.send(PollCommand::Reassign { partition: PartitionId(0) }).expect("a command");
    until("the reason", || {
        let stream = gateway.stats.stream.read().expect("stream");
        stream.stopped.get(&PartitionId(0)).filter(|why| why.contains("10") && why.contains("25")).map(|_| ())
    });
    until("the change", || (gateway.seen.lock().expect("seen").changes == ["truncated"]).then_some(()));
    until("both start again", || (gateway.starts().len() == 4).then_some(()));
    mock.produce_numbers(0, 10..12);
    until("new records", || (gateway.records(0).last() == Some(&11)).then_some(()));
    assert!(gateway.stats.stream.read().expect("stream").stopped.is_empty());
}

#[test]
fn brokers_that_go_and_come_back_cost_nothing() {
    let mock = Mock::new(1);
    mock.produce_numbers(0, 0..10);
    let gateway = Gateway::start(settings(&mock.brokers()));
    gateway.until_read(0, 0..10);
    mock.cluster.broker_down(1).expect("down");
    until("the reason", || gateway.waiting_for());
    mock.cluster.broker_up(1).expect("up");
    until("nothing in the way", || gateway.waiting_for().is_none().then_some(()));
    mock.produce_numbers(0, 10..20);
    gateway.until_read(0, 0..20);
    gateway.until_committed(0, 20);
    assert_eq!(gateway.starts().len(), 1);
    assert!(gateway.seen.lock().expect("seen").changes.is_empty());
}

#[test]
fn the_end_without_brokers_is_still_an_end() {
    let mock = Mock::new(0);
    let gateway = Gateway::start(settings(&mock.brokers()));
    until("the reason", || gateway.waiting_for());
    let stats = gateway.end();
    assert!(stats.heartbeats.lock().expect("heartbeats").is_empty());
}

#[test]
fn two_hosts_of_a_group_share_the_partitions_and_hand_them_over() {
    let mock = Mock::new(4);
    for partition in 0..4 {
        mock.produce_numbers(partition, 0..10);
    }
    let mut kafka = settings(&mock.brokers());
    kafka.assignment = Assignment::Group;
    // The mock lets a first member wait for 3 s, and forgets it if its session ends before.
    kafka.session_timeout = Duration::from_millis(3500);
    let first = Gateway::start(kafka.clone());
    for partition in 0..4 {
        first.until_read(partition, 0..10);
    }
    let second = Gateway::start(kafka);
    until("a share each", || {
        let held = |gateway: &Gateway| gateway.stats.partitions.read().expect("partitions").len();
        (held(&first) == 2 && held(&second) == 2).then_some(())
    });
    for partition in 0..4 {
        mock.produce_numbers(partition, 10..20);
    }
    let given: Vec<PartitionId> = first.seen.lock().expect("seen").lost.clone();
    assert_eq!(given.len(), 2);
    for partition in 0..4 {
        if given.contains(&PartitionId(partition)) {
            // Committed when it was given up: the other goes on exactly there.
            second.until_read(partition, 10..20);
            first.until_read(partition, 0..10);
        } else {
            first.until_read(partition, 0..20);
        }
    }
    second.end();
    until("all four again", || (first.stats.partitions.read().expect("partitions").len() == 4).then_some(()));
    for partition in 0..4 {
        mock.produce_numbers(partition, 20..25);
    }
    for partition in &given {
        until("what came after", || (first.records(partition.0).last() == Some(&24)).then_some(()));
        let expected: Vec<u64> = (0..10).chain(20..25).collect();
        assert_eq!(first.records(partition.0), expected);
    }
    let probe = mock.consumer();
    let ends = ends(probe.client(), TOPIC, &all_partitions(4), Duration::from_secs(10)).expect("ends");
    assert!(ends.values().all(|ends| ends.high == Offset(25)));
}
