//! The lag thread against the mock cluster: what it publishes, when a request is answered, what is unknown without
//! brokers, and what becomes of a partition that does not move.
#![allow(clippy::disallowed_methods, reason = "the tests play gateway: they make its threads and channels")]

use std::sync::Mutex;
use std::thread::JoinHandle;

use super::*;
use crate::kafka::mock::{Mock, settings, until};
use crate::observe::stats::WorkerState;

struct Running {
    stats: Arc<Stats>,
    requests: Sender<LagRequest>,
    commands: Receiver<PollCommand>,
    watermarks: Arc<ArcSwap<Watermarks>>,
    fatal: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(mock: &Mock, held: &[u32], check_interval: Duration, stall_timeout: Duration) -> Self {
        let stats = Arc::new(Stats::default());
        for partition in held {
            let one = PartitionStats::default();
            one.next.set(Some(0));
            one.set_state(WorkerState::Waiting);
            stats.partitions.write().expect("partitions").insert(PartitionId(*partition), Arc::new(one));
        }
        let (requests, receiver) = crossbeam_channel::bounded(8);
        let (sender, commands) = crossbeam_channel::bounded(8);
        let watermarks: Arc<ArcSwap<Watermarks>> = Arc::default();
        let fatal: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = fatal.clone();
        let lag = Lag::new(LagSetup {
            kafka: settings(&mock.brokers()),
            lag: LagConfig { check_interval, stall_timeout },
            stats: stats.clone(),
            requests: receiver,
            commands: sender,
            watermarks: watermarks.clone(),
            on_published: Box::new(|| {}),
            on_fatal: Box::new(move |why| told.lock().expect("told").push(why)),
        });
        let lag = lag.expect("a client");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = Some(std::thread::spawn(move || lag.run(&stopped)));
        Self { stats, requests, commands, watermarks, fatal, stop, thread }
    }

    fn partition(&self, partition: u32) -> Arc<PartitionStats> {
        self.stats.partition(PartitionId(partition)).expect("held")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the lag thread panicked");
        }
    }
}

const SOON: Duration = Duration::from_millis(50);
const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn lag_is_what_is_unread_and_zero_when_caught_up() {
    let mock = Mock::new(2);
    mock.produce_numbers(0, 0..10);
    let running = Running::start(&mock, &[0, 1], SOON, NEVER);
    until("an answer", || running.partition(0).lag_records.get().filter(|lag| *lag == 10));
    assert_eq!(running.partition(0).lag_ms.get(), None, "nothing was read, and it was never caught up");
    until("an answer", || running.partition(1).lag_ms.get().filter(|lag| *lag == 0));
    running.partition(0).next.set(Some(10));
    until("caught up", || running.partition(0).lag_ms.get().filter(|lag| *lag == 0));
    assert_eq!(running.partition(0).high_watermark.get(), Some(10));
    mock.produce_numbers(0, 10..13);
    until("behind again", || running.partition(0).lag_records.get().filter(|lag| *lag == 3));
    until("an age", || running.partition(0).lag_ms.get().filter(|lag| *lag > 0));
}

#[test]
fn a_request_is_answered_by_a_question_that_was_begun_after_it() {
    let mock = Mock::new(1);
    let running = Running::start(&mock, &[0], NEVER, NEVER);
    until("the first answer", || (running.watermarks.load().asked_at_ms > 0).then_some(()));
    mock.produce_numbers(0, 0..5);
    let requested_at_ms = monotonic_ms();
    running.requests.send(LagRequest::Refresh).expect("a request");
    let answer = until("an answer", || {
        let watermarks = running.watermarks.load_full();
        (watermarks.asked_at_ms >= requested_at_ms).then_some(watermarks)
    });
    assert_eq!(answer.partitions[&PartitionId(0)].high, Offset(5));
}

#[test]
fn without_brokers_the_lag_is_absent_and_who_waits_is_told() {
    let mock = Mock::new(1);
    let running = Running::start(&mock, &[0], SOON, NEVER);
    until("an answer", || running.partition(0).lag_records.get());
    mock.cluster.broker_down(1).expect("down");
    until("absence", || running.partition(0).lag_records.get().is_none().then_some(()));
    assert_eq!(running.partition(0).high_watermark.get(), None);
    assert!(running.watermarks.load().partitions.is_empty());
    assert!(running.stats.kafka.lag_polls_failed.get() > 0);
    mock.cluster.broker_up(1).expect("up");
    until("an answer", || running.partition(0).lag_records.get());
}

#[test]
fn a_stuck_partition_is_repaired_three_times_and_then_given_up() {
    let mock = Mock::new(2);
    mock.produce_numbers(0, 0..10);
    let running = Running::start(&mock, &[0, 1], SOON, Duration::from_millis(100));
    let why = until("the verdict", || running.fatal.lock().expect("told").first().cloned());
    assert!(why.contains("partition 0 is stuck at 0, 10 behind"), "{why}");
    let commands: Vec<PollCommand> = running.commands.try_iter().collect();
    assert_eq!(commands, [PollCommand::Reassign { partition: PartitionId(0) }; 3]);
    assert_eq!(running.partition(0).stall_repairs.get(), 3);
    assert_eq!(running.partition(1).stall_repairs.get(), 0);
    assert_eq!(running.fatal.lock().expect("told").len(), 1);
}

#[test]
fn a_partition_that_is_known_to_be_stopped_is_not_stuck() {
    let mock = Mock::new(1);
    mock.produce_numbers(0, 0..10);
    let running = Running::start(&mock, &[], SOON, Duration::from_millis(1));
    running.stats.stream.write().expect("stream").stopped.insert(PartitionId(0), "for a reason".to_owned());
    let one = PartitionStats::default();
    one.next.set(Some(0));
    running.stats.partitions.write().expect("partitions").insert(PartitionId(0), Arc::new(one));
    until("some looks", || (running.stats.kafka.lag_poll_seconds_ok.read().0.iter().sum::<u64>() > 10).then_some(()));
    assert!(running.commands.is_empty());
}
