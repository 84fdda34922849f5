//! The whole producer against librdkafka's mock cluster: outcomes, headers, batches, refusals, letters, the end.

use std::sync::mpsc;

use prost::Message as _;
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::producer::Redaction;
use crate::producer::limiter::{Limiter, Rate};
use crate::producer::options::{Batching, OnRefused};
use crate::producer::outcome::Reason;
use crate::wire::framing::split;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{DashStreamMessage, Event, EventType, StateDiff};
use crate::words::access::Access;

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
const TOPIC: &str = "events";
const LETTERS: &str = "events-dlq";

struct Stage {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

struct Read {
    partition: i32,
    offset: i64,
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Read {
    fn message(&self) -> DashStreamMessage {
        let (framing, body) = split(&self.value).expect("framed");
        let body = if framing.is_zstd() { zstd::bulk::decompress(body, 1 << 20).expect("zstd") } else { body.to_vec() };
        DashStreamMessage::decode(body.as_slice()).expect("a message")
    }
}

impl Stage {
    fn new() -> Self {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        cluster.create_topic(TOPIC, 3, 1).expect("a topic");
        cluster.create_topic(LETTERS, 1, 1).expect("a topic");
        Self { cluster }
    }

    fn options(&self) -> Options {
        Options::new(Access::plaintext(self.cluster.bootstrap_servers()), TOPIC)
    }

    /// Reads `count` records.
    fn read(&self, topic: &str, partitions: i32, count: usize) -> Vec<Read> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "test")
            .set("fetch.wait.max.ms", "5");
        let consumer = BaseConsumer::<DefaultConsumerContext>::from_config(&config).expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, KafkaOffset::Beginning).expect("an offset");
        }
        consumer.assign(&list).expect("assigned");
        let deadline = Instant::now() + LIMIT;
        let mut read = Vec::new();
        while read.len() < count {
            assert!(Instant::now() < deadline, "only {} of {count} records", read.len());
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
            let headers = message.headers().into_iter().flat_map(|headers| headers.iter()).map(|header| {
                (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
            });
            read.push(Read {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().unwrap_or_default().to_vec(),
                value: message.payload().unwrap_or_default().to_vec(),
                headers: headers.collect(),
            });
        }
        read
    }
}

fn event(thread: &str, node: &str) -> Outgoing {
    Outgoing::new(thread, Event::of(EventType::NodeStart, node))
}

#[test]
fn delivered_is_where_it_says_with_its_headers() {
    let stage = Stage::new();
    let producer = Producer::start(stage.options()).expect("started");
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut tickets = Vec::new();
    for index in 0..30 {
        let thread = format!("run-{}", index % 5);
        let event = event(&thread, &format!("node-{index}")).trace(parent, Some("a=b"));
        tickets.push((thread, index, producer.send(event, LIMIT).expect("accepted")));
    }
    let read = stage.read(TOPIC, 3, 30);
    for (thread, index, ticket) in tickets {
        assert_eq!(ticket.sequence(), index / 5 + 1);
        let Some(Outcome::Delivered { sequence, partition, offset }) = ticket.wait(LIMIT) else {
            panic!("{:?}", ticket.outcome())
        };
        assert_eq!(sequence, ticket.sequence());
        let place = (partition.to_kafka(), offset.to_kafka());
        let record = read.iter().find(|record| (record.partition, record.offset) == place).expect("it is there");
        assert_eq!(record.key, thread.as_bytes());
        let Some(Payload::Event(event)) = record.message().message else { panic!("an event") };
        let header = event.header.expect("a header");
        assert_eq!((event.node_id, header.sequence), (format!("node-{index}"), sequence));
        assert_eq!((header.tenant_id.as_str(), header.schema_version), ("default", 1));
        let id = uuid::Uuid::from_slice(&header.message_id).expect("an id").to_string();
        let expected = [
            ("dashstream.producer", producer.instance()),
            ("message_id", &id),
            ("traceparent", parent),
            ("tracestate", "a=b"),
        ];
        assert_eq!(record.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    let flushed = producer.close(LIMIT);
    assert_eq!(flushed, Flushed { delivered: 30, ..Flushed::default() });
}

#[test]
fn events_are_gathered_and_share_their_place() {
    let stage = Stage::new();
    let batching = Batching { events_max: 4, linger: Duration::from_secs(15), ..Batching::default() };
    let producer = Producer::start(Options { batching: Some(batching), ..stage.options() }).expect("started");
    let (sender, outcomes) = mpsc::sync_channel(16);
    for index in 0..6 {
        let sender = sender.clone();
        let told = move |outcome| sender.send(outcome).expect("the test listens");
        assert_eq!(producer.try_send_with(event("run", "n"), told).expect("accepted"), index + 1);
    }
    let diff = producer.try_send(Outgoing::new("run", StateDiff::default())).expect("accepted");
    assert_eq!(producer.flush(LIMIT).pending, 0);
    let outcomes: Vec<Outcome> = outcomes.try_iter().collect();
    let place = |outcome: &Outcome| match outcome {
        Outcome::Delivered { partition, offset, .. } => (*partition, *offset),
        other => panic!("{other:?}"),
    };
    assert_eq!(outcomes.iter().map(Outcome::sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(outcomes[..4].iter().all(|outcome| place(outcome) == place(&outcomes[0])));
    assert_eq!(place(&outcomes[4]), place(&outcomes[5]));
    let mut read = stage.read(TOPIC, 3, 3);
    read.sort_by_key(|record| record.offset);
    let kinds: Vec<String> = read
        .iter()
        .map(|record| match record.message().message.expect("a payload") {
            Payload::EventBatch(batch) => format!("batch of {}", batch.events.len()),
            Payload::StateDiff(diff) => format!("diff {}", diff.header.expect("a header").sequence),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["batch of 4", "batch of 2", "diff 7"]);
    assert!(diff.outcome().is_some_and(|outcome| outcome.is_delivered()));
}

#[test]
fn what_the_broker_refuses_is_refused_and_becomes_a_letter() {
    let stage = Stage::new();
    let on_refused = OnRefused::DeadLetter { topic: LETTERS.to_owned() };
    let producer = Producer::start(Options { on_refused, ..stage.options() }).expect("started");
    let first = producer.send(event("run", "one"), LIMIT).expect("accepted");
    assert!(first.wait(LIMIT).is_some_and(|outcome| outcome.is_delivered()));
    stage.cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let second = producer.send(event("run", "two"), LIMIT).expect("accepted");
    assert_eq!(second.wait(LIMIT), Some(Outcome::Refused { sequence: 2, reason: Reason::TooLarge }));
    let third = producer.send(event("run", "three"), LIMIT).expect("accepted");
    assert!(matches!(third.wait(LIMIT), Some(Outcome::Delivered { sequence: 3, .. })), "the gap is real");
    assert_eq!(producer.flush(LIMIT), Flushed { delivered: 2, refused: 1, ..Flushed::default() });
    let letters = stage.read(LETTERS, 1, 1);
    let envelope: serde_json::Value = serde_json::from_slice(&letters[0].value).expect("JSON");
    assert_eq!(envelope["reason"], "too_large");
    assert_eq!((&envelope["sequence_first"], &envelope["source_topic"]), (&2.into(), &TOPIC.into()));
    assert_eq!(envelope["trace_id"].as_str().expect("an id").as_bytes(), letters[0].key);
    assert_eq!(producer.engine.metrics().letters_sent.get(), 1);
}

#[test]
fn a_refused_record_comes_back_to_the_caller_with_its_bytes() {
    let stage = Stage::new();
    let (sender, refused) = mpsc::sync_channel(4);
    let on_refused = OnRefused::Caller(Box::new(move |refused| {
        let told = (refused.tenant.to_owned(), refused.thread.to_owned(), refused.value.to_vec(), refused.sequences);
        sender.send(told).expect("the test listens");
    }));
    let producer = Producer::start(Options { on_refused, ..stage.options() }).expect("started");
    stage.cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    let ticket = producer.send(event("run", "one").tenant("acme"), LIMIT).expect("accepted");
    ticket.wait(LIMIT).expect("an outcome");
    let (tenant, thread, value, sequences) = refused.recv_timeout(LIMIT).expect("told before the ticket");
    assert_eq!((tenant.as_str(), thread.as_str(), sequences), ("acme", "run", (1, 1)));
    assert!(value.windows(3).any(|window| window == b"one"));
}

/// Also when it is larger than any record may be.
#[test]
fn a_letter_of_a_large_record_goes() {
    let stage = Stage::new();
    let on_refused = OnRefused::DeadLetter { topic: LETTERS.to_owned() };
    let options =
        Options { on_refused, record_bytes_max: 100_000, compress_above_bytes: usize::MAX, ..stage.options() };
    let producer = Producer::start(options).expect("started");
    let first = producer.send(event("run", "one"), LIMIT).expect("accepted");
    assert!(first.wait(LIMIT).is_some_and(|outcome| outcome.is_delivered()));
    stage.cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    drop(producer.send(event("run", &"x".repeat(90_000)), LIMIT).expect("accepted"));
    assert_eq!(producer.flush(LIMIT), Flushed { delivered: 1, refused: 1, ..Flushed::default() });
    assert_eq!(producer.engine.metrics().letters_sent.get(), 1);
    assert!(stage.read(LETTERS, 1, 1)[0].value.len() > 100_000);
}

#[test]
fn who_waits_for_room_uses_one_token_and_is_counted_once() {
    let stage = Stage::new();
    stage.cluster.broker_down(1).expect("down");
    let limiter = Some(Limiter::local(Rate::new(0.001, 6.0).expect("a rate")));
    let options = Options { queue_bytes_max: 64 << 10, limiter, redaction: Redaction::Off, ..stage.options() };
    let options = Options { compress_above_bytes: usize::MAX, ..options };
    let metrics = options.metrics.clone();
    let registry = prometheus::Registry::new();
    metrics.register(&registry).expect("registered");
    let producer = Producer::start(options).expect("started");
    // There is room, but not for this one: it is found out in the lane.
    let large = || event("run", &"x".repeat(40_000));
    drop(producer.try_send(large()).expect("there is room"));
    let rejected = producer.send(large(), Duration::from_millis(200)).expect_err("no room");
    assert_eq!(rejected.why, Why::Full);
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
    let line = "dashstream_telemetry_dropped_total{message_type=\"event\",reason=\"queue_full\"} 1";
    assert!(text.lines().any(|found| found == line), "{text}");
    // Two of six are used, however often room was looked for.
    stage.cluster.broker_up(1).expect("up");
    for _ in 0..4 {
        drop(producer.send(event("run", "small"), LIMIT).expect("within the rate"));
    }
    assert!(matches!(producer.try_send(event("run", "small")).expect_err("the seventh").why, Why::RateLimited(_)));
}

/// A callback may do what it likes, though it is the lane's own events that are refused.
#[test]
fn what_is_refused_on_the_way_is_told_without_any_lock() {
    let stage = Stage::new();
    let batching = Some(Batching { linger: Duration::from_secs(15), ..Batching::default() });
    let producer = Arc::new(Producer::start(Options { batching, ..stage.options() }).expect("started"));
    let (sender, told) = mpsc::sync_channel(4);
    let inner = Arc::downgrade(&producer);
    let sequence = producer
        .try_send_with(event("run", "n"), move |outcome| {
            let producer = inner.upgrade().expect("it is there");
            // All lanes, and waiting for itself.
            let flushed = producer.flush(LIMIT);
            let rejected = producer.send(event("run", "n"), LIMIT).expect_err("it is over");
            sender.send((outcome, flushed.pending, rejected.why)).expect("the test listens");
        })
        .expect("accepted");
    drop(producer.try_send(event("other", "n")).expect("accepted"));
    let fatal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    let client = producer.engine.native();
    // SAFETY: the client is alive, and so is the text.
    unsafe { rdkafka_sys::rd_kafka_test_fatal_error(client, fatal, c"a test".as_ptr()) };
    producer.flush(LIMIT);
    let (outcome, pending, why) = told.recv_timeout(LIMIT).expect("told");
    assert_eq!(outcome, Outcome::Refused { sequence, reason: Reason::Fatal });
    assert!(pending >= 1 && why == Why::Fatal, "{pending} {why:?}");
}

#[test]
fn a_producer_that_is_let_go_of_in_its_own_callback_settles_everything() {
    let stage = Stage::new();
    let producer = Arc::new(Producer::start(stage.options()).expect("started"));
    stage.cluster.broker_down(1).expect("down");
    let last = producer.clone();
    producer.try_send_with(event("run", "n"), move |_| drop(last)).expect("accepted");
    let other = producer.try_send(event("other", "n")).expect("accepted");
    drop(producer);
    stage.cluster.broker_up(1).expect("up");
    assert!(other.wait(LIMIT).expect("an outcome").is_delivered());
}

#[test]
fn a_full_queue_refuses_and_leaves_no_gap() {
    let stage = Stage::new();
    stage.cluster.broker_down(1).expect("down");
    let options = Options { queue_events_max: 3, ..stage.options() };
    let metrics = options.metrics.clone();
    let producer = Producer::start(options).expect("started");
    let tickets: Vec<Ticket> = (0..3).map(|_| producer.try_send(event("run", "n")).expect("there is room")).collect();
    let rejected = producer.try_send(event("run", "late")).expect_err("full");
    assert_eq!(rejected.why, Why::Full);
    let rejected = producer.send(*rejected.event, Duration::from_millis(50)).expect_err("still full");
    assert_eq!(rejected.why, Why::Full);
    assert_eq!(producer.flush(Duration::from_millis(1)).pending, 3);
    stage.cluster.broker_up(1).expect("up");
    let last = producer.send(*rejected.event, LIMIT).expect("there is room again");
    assert_eq!(last.sequence(), 4);
    assert!(tickets.iter().chain([&last]).all(|ticket| ticket.wait(LIMIT).expect("an outcome").is_delivered()));
    drop(metrics);
}

#[test]
fn what_is_overdue_is_given_up_and_the_producer_goes_on() {
    let stage = Stage::new();
    let producer =
        Producer::start(Options { delivery_timeout: Duration::from_secs(3), ..stage.options() }).expect("started");
    let first = producer.try_send(event("run", "n")).expect("accepted");
    assert!(first.wait(LIMIT).is_some_and(|outcome| outcome.is_delivered()));
    stage.cluster.broker_down(1).expect("down");
    let second = producer.try_send(event("run", "n")).expect("accepted");
    let outcome = second.wait(LIMIT).expect("an outcome while no broker is there");
    assert!(
        matches!(
            outcome,
            Outcome::Refused { sequence: 2, reason: Reason::TimedOut }
                | Outcome::Unknown { sequence: 2, reason: Reason::TimedOut }
        ),
        "{outcome:?}"
    );
    stage.cluster.broker_up(1).expect("up");
    // The broker may take longer to be found than an event may be under way.
    let deadline = Instant::now() + LIMIT;
    loop {
        let ticket = producer.send(event("run", "n"), LIMIT).expect("accepted");
        if ticket.wait(LIMIT).is_some_and(|outcome| outcome.is_delivered()) {
            break;
        }
        assert!(Instant::now() < deadline, "the producer never goes on");
    }
}

#[test]
fn the_end_tells_everybody() {
    let stage = Stage::new();
    stage.cluster.broker_down(1).expect("down");
    let batching = Some(Batching { linger: Duration::from_secs(15), ..Batching::default() });
    let producer = Producer::start(Options { batching, ..stage.options() }).expect("started");
    let gathered = producer.try_send(event("run", "n")).expect("accepted");
    let alone = producer.try_send(Outgoing::new("other", StateDiff::default())).expect("accepted");
    let flushed = producer.close(Duration::from_millis(10));
    assert_eq!(flushed, Flushed { refused: 2, ..Flushed::default() });
    for ticket in [gathered, alone] {
        let expected = Outcome::Refused { sequence: 1, reason: Reason::Closed };
        assert_eq!(ticket.outcome(), Some(expected));
    }
}

#[test]
fn a_tenant_is_held_to_its_rate() {
    let stage = Stage::new();
    let limiter =
        Limiter::local(Rate::new(0.01, 2.0).expect("a rate")).tenant("fast", Rate::new(1e6, 1e6).expect("a rate"));
    let options = Options { limiter: Some(limiter), ..stage.options() };
    let metrics = options.metrics.clone();
    let producer = Producer::start(options).expect("started");
    for _ in 0..2 {
        drop(producer.try_send(event("run", "n")).expect("within the burst"));
    }
    let rejected = producer.try_send(event("run", "n")).expect_err("beyond it");
    assert!(matches!(rejected.why, Why::RateLimited(wait) if wait > Duration::from_secs(90)), "{:?}", rejected.why);
    let rejected = producer.send(*rejected.event, Duration::from_secs(5)).expect_err("it would take longer");
    assert!(matches!(rejected.why, Why::RateLimited(_)));
    for _ in 0..50 {
        drop(producer.try_send(event("run", "n").tenant("fast")).expect("far from its rate"));
    }
    assert_eq!(producer.close(LIMIT).delivered, 52);
    assert_eq!(metrics.allowed.with_label_values(&["fast"]).get(), 50);
    assert_eq!(metrics.exceeded.with_label_values(&["default"]).get(), 2);
}

#[test]
fn what_cannot_be_accepted_is_named() {
    let stage = Stage::new();
    let producer = Producer::start(stage.options()).expect("started");
    let why =
        |event: Outgoing| producer.try_send(event).map(|ticket| ticket.sequence()).map_err(|rejected| rejected.why);
    let batch =
        Outgoing { message: DashStreamMessage { message: Some(Payload::EventBatch(Default::default())) }, trace: None };
    assert_eq!(why(batch), Err(Why::Batch));
    assert_eq!(why(event(" ", "n")), Err(Why::BadId("the thread")));
    let huge = Event::of(EventType::NodeStart, "n").with("text", "x".repeat(2 << 20));
    assert!(matches!(why(Outgoing::new("run", huge)), Err(Why::TooLarge { what: "event_bytes_max", .. })));
    assert_eq!(why(event("run", "n")), Ok(1), "none of them used a number");
    for options in [
        Options { topic: " ".to_owned(), ..stage.options() },
        Options { queue_events_max: 0, ..stage.options() },
        Options { delivery_timeout: Duration::from_millis(1), ..stage.options() },
        Options { batching: Some(Batching { events_max: 1, ..Batching::default() }), ..stage.options() },
    ] {
        assert!(matches!(Producer::start(options), Err(StartError::Option { .. })));
    }
}

#[test]
fn many_threads_of_senders_keep_the_order_of_each_thread() {
    const EACH: u64 = 500;
    let stage = Stage::new();
    let producer = Producer::start(stage.options()).expect("started");
    std::thread::scope(|scope| {
        for sender in 0..4 {
            let producer = &producer;
            scope.spawn(move || {
                for index in 0..EACH {
                    let thread = format!("run-{}", (sender + index) % 7);
                    drop(producer.send(event(&thread, "n"), LIMIT).expect("accepted"));
                }
            });
        }
    });
    assert_eq!(producer.flush(LIMIT).delivered, 4 * EACH);
    let mut read = stage.read(TOPIC, 3, 4 * EACH as usize);
    read.sort_by_key(|record| (record.partition, record.offset));
    let mut next = std::collections::HashMap::new();
    for record in read {
        let Some(Payload::Event(event)) = record.message().message else { panic!("an event") };
        let expected = next.entry(record.key.clone()).or_insert(0);
        *expected += 1;
        assert_eq!(event.header.expect("a header").sequence, *expected);
    }
}
