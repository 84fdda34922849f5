//! The thread against librdkafka's mock cluster: what arrives, what an outage does under both modes, and that equal
//! letters have equal keys.

#![allow(clippy::disallowed_methods, reason = "tests make their own channels and threads")]

use std::collections::{BTreeMap, BTreeSet};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use rdkafka::types::RDKafkaApiKey;
use rdkafka::types::RDKafkaRespErr as Refusal;

use super::*;
use crate::dlq::envelope::tests::{letter, stream};
use crate::dlq::{DeadLetter, DlqChannels, DlqInlet, DlqSender, HandedOver, Ledger};
use crate::words::Offset;

const LIMIT: Duration = Duration::from_secs(60);
const TOPIC: &str = "quality-dlq";

struct Rig {
    sender: Option<DlqSender>,
    heartbeat: Arc<Heartbeat>,
    stats: Arc<Stats>,
    ledger: Arc<Ledger>,
    stop: Sender<Instant>,
    never: Receiver<()>,
    _never: Sender<()>,
    thread: Option<JoinHandle<Flushed>>,
}

fn cluster(with_topic: bool) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    if with_topic {
        cluster.create_topic(TOPIC, 1, 1).expect("a topic");
    }
    cluster
}

fn start(brokers: &str, mode: DlqMode) -> Rig {
    let (letters_in, letters) = bounded(10_000);
    let dlq = DlqConfig {
        topic: TOPIC.to_owned(),
        mode,
        value_max_bytes: 1 << 20,
        queue_max_bytes: 64 << 20,
        ledger_max: 10_000,
        send_timeout: Duration::from_secs(1),
    };
    let stats = Arc::new(Stats::default());
    let channels = DlqChannels { letters: letters_in, room: bounded(1) };
    let sender = DlqInlet::new(channels, &dlq, stats.clone()).for_stream(Arc::new(stream()));
    let sender = Some(sender);
    let heartbeat = Arc::new(Heartbeat {
        name: "dlq".to_owned(),
        last_ms: Default::default(),
        limit_ms: HEARTBEAT_LIMIT.as_millis() as u64,
    });
    let kafka = crate::kafka::mock::settings(brokers);
    let options = DlqThreadOptions { letters, kafka, dlq, stats: stats.clone(), heartbeat: heartbeat.clone() };
    let thread = DlqThread::new(options).expect("settings that librdkafka accepts");
    let (stop, stopped) = bounded(1);
    let (_never, never) = bounded(0);
    let thread = Some(std::thread::spawn(move || thread.run(&stopped)));
    Rig { sender, heartbeat, stats, ledger: Arc::default(), stop, never, _never, thread }
}

impl Rig {
    fn sender(&self) -> &DlqSender {
        self.sender.as_ref().expect("not dropped before")
    }

    fn numbered(&self, offset: u64) -> DeadLetter {
        let letter = DeadLetter { offset: Offset(offset), ledger: self.ledger.clone(), ..letter() };
        self.ledger.open(letter.offset);
        letter
    }

    fn hand_over(&self, offsets: std::ops::Range<u64>) {
        for offset in offsets {
            assert!(matches!(self.sender().hand_over(self.numbered(offset), &self.never), HandedOver::Queued));
        }
    }

    fn sum(counters: &[crate::observe::stats::Counter]) -> u64 {
        counters.iter().map(crate::observe::stats::Counter::get).sum()
    }

    fn stop_within(&mut self, limit: Duration) -> Flushed {
        self.stop.send(Instant::now() + limit).expect("the thread listens");
        self.thread.take().expect("not stopped before").join().expect("no panic")
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Arrived {
    key: String,
    headers: Vec<(String, String)>,
    value: serde_json::Value,
    bytes: usize,
}

/// Reads until `distinct` keys were seen.
fn read(brokers: &str, distinct: usize) -> Vec<Arrived> {
    let mut config = crate::kafka::client::client_config(
        &crate::kafka::mock::settings(brokers),
        crate::kafka::client::Purpose::Probe,
    );
    config.set("group.id", "reader").set("enable.auto.commit", "false").set("fetch.wait.max.ms", "5");
    let consumer = BaseConsumer::<rdkafka::consumer::DefaultConsumerContext>::from_config(&config).expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 0, KafkaOffset::Beginning).expect("an offset");
    consumer.assign(&list).expect("assigned");
    let deadline = Instant::now() + LIMIT;
    let mut arrived: Vec<Arrived> = Vec::new();
    let mut keys = BTreeSet::new();
    while keys.len() < distinct {
        assert!(Instant::now() < deadline, "only {} of {distinct} letters arrived", keys.len());
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let key = text(message.key());
        keys.insert(key.clone());
        arrived.push(Arrived {
            key,
            headers: message
                .headers()
                .map(|headers| headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect())
                .unwrap_or_default(),
            value: serde_json::from_slice(message.payload().unwrap_or_default()).expect("valid JSON"),
            bytes: message.payload().unwrap_or_default().len(),
        });
    }
    arrived
}

#[test]
fn letters_arrive_with_key_headers_and_envelope() {
    let cluster = cluster(true);
    let brokers = cluster.bootstrap_servers();
    let mut rig = start(&brokers, DlqMode::FailClosed);
    rig.hand_over(0..300);
    let arrived = read(&brokers, 300);
    for letter in &arrived {
        let offset = letter.value["kafka_offset"].as_u64().expect("an offset");
        let id = stream().dead_letter_id(super::super::envelope::tests::letter().partition, Offset(offset)).to_string();
        assert_eq!(letter.key, id);
        assert_eq!(letter.value["trace_id"], id);
        let headers: BTreeMap<&str, &str> = letter.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(headers.get("__connect.errors.offset"), Some(&offset.to_string().as_str()));
        assert_eq!(headers.get("dashstream.dlq.reason"), Some(&"invalid_protobuf"));
        assert!(headers.contains_key("traceparent"));
    }
    wait_until("all ledgers empty", || rig.ledger.is_empty());
    assert_eq!(rig.stop_within(LIMIT), Flushed { remaining: 0 });
    assert_eq!(Rig::sum(&rig.stats.dlq.sent), 300);
    assert_eq!(Rig::sum(&rig.stats.dlq.lost), 0);
    assert_eq!(rig.stats.dlq.queue_bytes.get(), 0);
    assert_eq!(rig.stats.dlq.topic_found.get(), Some(1));
}

#[test]
fn refusals_are_tried_again_until_they_end() {
    use Refusal::*;
    let several: [&[Refusal]; 5] = [
        &[RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3],
        &[RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3],
        &[RD_KAFKA_RESP_ERR__TRANSPORT; 3],
        // librdkafka gives these up at once; we do not.
        &[RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED],
        &[RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS],
    ];
    for refusals in several {
        let cluster = cluster(true);
        cluster.request_errors(RDKafkaApiKey::Produce, refusals);
        let brokers = cluster.bootstrap_servers();
        let mut rig = start(&brokers, DlqMode::FailClosed);
        rig.hand_over(0..10);
        let arrived = read(&brokers, 10);
        wait_until("all ledgers empty", || rig.ledger.is_empty());
        assert_eq!(rig.stop_within(LIMIT).remaining, 0, "{refusals:?}");
        assert_eq!(arrived.len(), 10, "{refusals:?}: a refused attempt left nothing behind");
        assert_eq!(Rig::sum(&rig.stats.dlq.sent), 10);
    }
}

#[test]
fn a_producer_with_a_fatal_error_is_replaced() {
    let cluster = cluster(true);
    let fatal = Refusal::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[fatal]);
    let brokers = cluster.bootstrap_servers();
    let mut rig = start(&brokers, DlqMode::FailClosed);
    rig.hand_over(0..10);
    read(&brokers, 10);
    wait_until("all ledgers empty", || rig.ledger.is_empty());
    assert_eq!(rig.stop_within(LIMIT).remaining, 0);
}

#[test]
fn an_outage_under_fail_closed_loses_nothing() {
    let cluster = cluster(true);
    let brokers = cluster.bootstrap_servers();
    let mut rig = start(&brokers, DlqMode::FailClosed);
    rig.hand_over(0..20);
    wait_until("the first letters are there", || rig.ledger.is_empty());
    cluster.broker_down(-1).expect("down");
    rig.hand_over(20..600);
    // Longer than one attempt: letters fail and the breaker opens.
    wait_until("the breaker is open", || rig.stats.dlq.breaker_open.get() == 1);
    assert!(rig.ledger.first_open() >= Some(Offset(20)));
    assert_eq!(Rig::sum(&rig.stats.dlq.lost), 0);
    cluster.broker_up(-1).expect("up");
    wait_until("all ledgers empty", || rig.ledger.is_empty());
    assert_eq!(rig.stop_within(LIMIT).remaining, 0);
    assert_eq!(Rig::sum(&rig.stats.dlq.sent), 600);
    assert_eq!(Rig::sum(&rig.stats.dlq.lost), 0);
    assert!(Rig::sum(&rig.stats.dlq.failures) > 0);
    assert_eq!(rig.stats.dlq.breaker_open.get(), 0);
    assert_eq!(rig.stats.dlq.queue_bytes.get(), 0);
    let offsets: BTreeSet<u64> =
        read(&brokers, 600).iter().filter_map(|letter| letter.value["kafka_offset"].as_u64()).collect();
    assert_eq!(offsets, (0..600).collect());
}

#[test]
fn an_outage_under_fail_open_is_given_up_and_counted() {
    let cluster = cluster(true);
    let brokers = cluster.bootstrap_servers();
    cluster.broker_down(-1).expect("down");
    let mut rig = start(&brokers, DlqMode::FailOpen);
    rig.hand_over(0..20);
    wait_until("every letter is given up", || rig.ledger.is_empty());
    assert_eq!(Rig::sum(&rig.stats.dlq.lost), 20);
    assert_eq!(Rig::sum(&rig.stats.dlq.sent), 0);
    assert_eq!(rig.stop_within(LIMIT).remaining, 0);
    assert_eq!(rig.stats.dlq.queue_bytes.get(), 0);
}

#[test]
fn the_deadline_ends_the_thread_and_says_what_is_left() {
    for (mode, lost, open) in [(DlqMode::FailClosed, 0, 300), (DlqMode::FailOpen, 300, 0)] {
        let cluster = cluster(true);
        let brokers = cluster.bootstrap_servers();
        cluster.broker_down(-1).expect("down");
        let mut rig = start(&brokers, mode);
        rig.hand_over(0..300);
        assert_eq!(rig.stop_within(Duration::from_millis(100)), Flushed { remaining: 300 }, "{mode:?}");
        assert_eq!(Rig::sum(&rig.stats.dlq.lost), lost, "{mode:?}");
        assert_eq!(rig.ledger.len(), open, "{mode:?}: what is not written holds the commit only under fail_closed");
        assert_eq!(rig.stats.dlq.queue_bytes.get(), 0, "{mode:?}");
    }
}

#[test]
fn a_missing_topic_is_found_and_its_creation_too() {
    let cluster = cluster(true);
    cluster.topic_error(TOPIC, Refusal::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).expect("an error");
    let brokers = cluster.bootstrap_servers();
    let mut rig = start(&brokers, DlqMode::FailClosed);
    wait_until("the topic is known to be missing", || rig.stats.dlq.topic_found.get() == Some(0));
    rig.hand_over(0..10);
    wait_until("an attempt failed", || Rig::sum(&rig.stats.dlq.failures) > 0);
    assert_eq!(rig.ledger.first_open(), Some(Offset(0)));
    cluster.topic_error(TOPIC, Refusal::RD_KAFKA_RESP_ERR_NO_ERROR).expect("no error");
    wait_until("the topic is known to be there", || rig.stats.dlq.topic_found.get() == Some(1));
    wait_until("what waited is written", || rig.ledger.is_empty());
    assert_eq!(rig.stop_within(LIMIT).remaining, 0);
}

#[test]
fn a_letter_that_the_topic_finds_too_large_is_cut_until_it_fits() {
    let cluster = cluster(true);
    let refusals = [Refusal::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2];
    cluster.request_errors(RDKafkaApiKey::Produce, &refusals);
    let brokers = cluster.bootstrap_servers();
    let mut rig = start(&brokers, DlqMode::FailClosed);
    let large = DeadLetter { value: vec![7; 500_000].into(), value_bytes: 500_000, ..rig.numbered(1) };
    rig.sender().try_send(large).expect("room");
    let arrived = read(&brokers, 1);
    let letter = &arrived[0];
    assert!(letter.bytes < 170_000, "{} bytes", letter.bytes);
    let note = letter.value["payload_truncation_note"].as_str().expect("a note");
    assert!(note.ends_with("of 500000 bytes"), "{note}");
    wait_until("all ledgers empty", || rig.ledger.is_empty());
    assert_eq!(Rig::sum(&rig.stats.dlq.failures), 0);
    assert_eq!(rig.stop_within(LIMIT).remaining, 0);
}

#[test]
fn two_hosts_write_equal_keys() {
    let cluster = cluster(true);
    let brokers = cluster.bootstrap_servers();
    let mut rigs = [start(&brokers, DlqMode::FailClosed), start(&brokers, DlqMode::FailClosed)];
    for rig in &mut rigs {
        rig.hand_over(0..50);
        assert_eq!(rig.stop_within(LIMIT).remaining, 0);
        assert!(rig.ledger.is_empty());
    }
    // One record more, so that the reader sees everything before it.
    let mut last = start(&brokers, DlqMode::FailClosed);
    last.hand_over(1000..1001);
    let arrived = read(&brokers, 51);
    assert_eq!(arrived.len(), 101);
    assert_eq!(last.stop_within(LIMIT).remaining, 0);
}

#[test]
fn the_thread_shows_life_while_there_is_nothing_to_do() {
    let cluster = cluster(true);
    let mut rig = start(&cluster.bootstrap_servers(), DlqMode::FailClosed);
    wait_until("a topic", || rig.stats.dlq.topic_found.get() == Some(1));
    // Every sender is gone, which is not a reason to spin or to end.
    rig.sender = None;
    for _ in 0..2 {
        let last = rig.heartbeat.last_ms.get();
        wait_until("a sign of life", || rig.heartbeat.last_ms.get() > last);
    }
    assert!(!rig.thread.as_ref().expect("runs").is_finished());
    assert_eq!(rig.stop_within(LIMIT).remaining, 0);
}
