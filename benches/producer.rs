//! What the producer costs over librdkafka alone. The floor is a `BaseProducer` that sends the identical final bytes
//! (key, value, headers), made beforehand, with the same settings, in the same run, turn by turn with ours; both have a
//! thread that polls and a mock cluster. Then what is in our part, each beside its own floor: encoding and framing,
//! redaction, zstd.
//!
//! `cargo bench --bench producer`

#![allow(clippy::disallowed_methods, reason = "a bench is not the gateway")]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashstream::producer::proto::dash_stream_message::Message as Payload;
use dashstream::producer::proto::{AttributeValue, DashStreamMessage, attribute_value};
use dashstream::producer::{Access, Event, EventType, Limiter, Options, Outgoing, Producer, Rate, Redaction};
use dashstream::wire::framing::Framer;
use prost::Message as _;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

const ROUNDS: usize = 9;
const EVENTS: usize = 40_000;
/// Events are made a moment before they are sent, as an application does, and their making is taken off: so many at
/// once, so that clocks are read seldom.
const AT_ONCE: usize = 100;
const TOPIC: &str = "bench";
const LIMIT: Duration = Duration::from_secs(120);

/// An event of a node whose encoding has about so many bytes.
fn event(bytes: usize) -> Outgoing {
    let text =
        |length: usize| "a few words of what an agent may say, ".chars().cycle().take(length).collect::<String>();
    let of = |length: usize| {
        let event = Event::of(EventType::NodeEnd, "plan").took(Duration::from_millis(12)).with("attempt", 2);
        Outgoing::new("run-000123", event.with("text", text(length))).at_us(1_763_000_000_123_456)
    };
    (0..bytes).map(of).find(|event| message(event).encoded_len() + 45 >= bytes).expect("a text that long")
}

fn message(event: &Outgoing) -> DashStreamMessage {
    DashStreamMessage { message: event.payload().cloned() }
}

#[derive(Default)]
struct Counted(AtomicU64);

impl ClientContext for Counted {}

impl ProducerContext for Counted {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "the mock takes everything");
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// ns per event.
#[derive(Clone, Copy, Default)]
struct Took {
    /// CPU of the sending thread until all are handed over.
    accepted: f64,
    /// CPU of the process, the mock cluster's with it, until all are delivered.
    delivered: f64,
    /// On the clock on the wall, until all are delivered.
    wall: f64,
}

fn per_event(took: Duration) -> f64 {
    took.as_nanos() as f64 / EVENTS as f64
}

/// CPU that was used: `CLOCK_THREAD_CPUTIME_ID` or `CLOCK_PROCESS_CPUTIME_ID`.
fn cpu(clock: libc::clockid_t) -> Duration {
    let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into `used`, which is a `timespec`.
    assert_eq!(unsafe { libc::clock_gettime(clock, &mut used) }, 0);
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).expect("below a second"))
}

struct Meter {
    began: Instant,
    process: Duration,
    thread: Duration,
}

impl Meter {
    fn start() -> Self {
        Self {
            process: cpu(libc::CLOCK_PROCESS_CPUTIME_ID),
            thread: cpu(libc::CLOCK_THREAD_CPUTIME_ID),
            began: Instant::now(),
        }
    }

    fn accepted(&self) -> Duration {
        cpu(libc::CLOCK_THREAD_CPUTIME_ID) - self.thread
    }

    /// `making` is taken off everywhere.
    fn took(self, accepted: Duration, making: Duration) -> Took {
        Took {
            accepted: per_event(accepted - making),
            delivered: per_event(cpu(libc::CLOCK_PROCESS_CPUTIME_ID) - self.process - making),
            wall: per_event(self.began.elapsed() - making),
        }
    }
}

fn floor(brokers: &str, value: &[u8]) -> Took {
    let producer: BaseProducer<Counted> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("broker.address.family", "v4")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("partitioner", "murmur2_random")
        .set("message.max.bytes", "1003072")
        .set("queue.buffering.max.messages", "101001")
        .set("queue.buffering.max.kbytes", "82944")
        .create_with_context(Counted::default())
        .expect("a producer");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                producer.poll(Duration::from_millis(50));
            }
        });
        let one = |producer: &BaseProducer<Counted>| {
            let headers = OwnedHeaders::new_with_capacity(2)
                .insert(Header { key: "dashstream.producer", value: Some("67e55044-10b1-426f-9247-bb680e5fe0c8") })
                .insert(Header { key: "message_id", value: Some("67e55044-10b1-426f-9247-bb680e5fe0c8") });
            let record = BaseRecord::to(TOPIC).key("run-000123").payload(value).headers(headers);
            producer.send(record).map_err(|(error, _)| error).expect("there is room");
        };
        let delivered = |count: u64| {
            while producer.context().0.load(Ordering::Acquire) < count {
                std::thread::park_timeout(Duration::from_micros(200));
            }
        };
        one(&producer);
        delivered(1);
        let meter = Meter::start();
        (0..EVENTS).for_each(|_| one(&producer));
        let accepted = meter.accepted();
        delivered(EVENTS as u64 + 1);
        let took = meter.took(accepted, Duration::ZERO);
        over.store(true, Ordering::Relaxed);
        took
    })
}

fn ours(options: Options, event: &Outgoing) -> Took {
    let producer = Producer::start(options).expect("started");
    drop(producer.try_send(event.clone()).expect("there is room"));
    producer.flush(LIMIT);
    let (mut events, mut making) = (Vec::with_capacity(AT_ONCE), Duration::ZERO);
    let meter = Meter::start();
    for _ in 0..EVENTS / AT_ONCE {
        let before = meter.accepted();
        events.extend((0..AT_ONCE).map(|_| event.clone()));
        making += meter.accepted() - before;
        for event in events.drain(..) {
            drop(producer.try_send(event).expect("there is room"));
        }
    }
    let accepted = meter.accepted();
    assert_eq!(producer.flush(LIMIT).delivered, EVENTS as u64 + 1);
    meter.took(accepted, making)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Median ns of one call.
fn ns(mut call: impl FnMut()) -> f64 {
    const CALLS: u32 = 2_000;
    let round = |call: &mut dyn FnMut()| {
        let began = Instant::now();
        (0..CALLS).for_each(|_| call());
        began.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    round(&mut call);
    median((0..25).map(|_| round(&mut call)).collect())
}

/// Median ns of a call that takes what it is given.
fn ns_once_each<T>(make: impl Fn() -> T, call: impl Fn(T)) -> f64 {
    let round = || {
        let made: Vec<T> = (0..AT_ONCE).map(|_| make()).collect();
        let began = Instant::now();
        made.into_iter().for_each(&call);
        began.elapsed().as_nanos() as f64 / AT_ONCE as f64
    };
    median((0..200).map(|_| round()).collect())
}

/// Every byte of every text, looked at once: the least that a search for secrets can do.
fn look(event: &Outgoing, table: &[bool; 256]) -> usize {
    let Some(Payload::Event(event)) = event.payload() else { return 0 };
    let count = |text: &str| text.bytes().filter(|byte| table[usize::from(*byte)]).count();
    let attribute = |value: &AttributeValue| match &value.value {
        Some(attribute_value::Value::StringValue(text)) => count(text),
        _ => 0,
    };
    count(&event.node_id) + event.attributes.iter().map(|(name, value)| count(name) + attribute(value)).sum::<usize>()
}

fn main() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic(TOPIC, 4, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    println!("{ROUNDS} rounds of {EVENTS} events, turn by turn; medians; ns per event\n");
    for bytes in [200, 1024] {
        let event = event(bytes);
        let (body, mut value) = (message(&event).encode_to_vec(), Vec::new());
        let mut framer = Framer::new(usize::MAX, 3);
        // As it is on the topic: with tenant, ids and sequence, which take about 45 bytes.
        let stamped = [body.as_slice(), &[0x55; 45]].concat();
        framer.frame_encoded(&stamped, &mut value);

        let options = || {
            let fast = Rate::new(1e9, 1e9).expect("a rate");
            Options {
                redaction: Redaction::Off,
                compress_above_bytes: usize::MAX,
                limiter: Some(Limiter::local(fast)),
                ..Options::new(Access::plaintext(&brokers), TOPIC)
            }
        };
        let mut rounds = Vec::new();
        for round in 0..ROUNDS + 1 {
            let pair = match round % 2 {
                0 => (floor(&brokers, &value), ours(options(), &event)),
                _ => {
                    let ours = ours(options(), &event);
                    (floor(&brokers, &value), ours)
                }
            };
            // The first round warms up.
            if round > 0 {
                rounds.push(pair);
            }
        }
        let of = |number: &dyn Fn(&(Took, Took)) -> f64| median(rounds.iter().map(number).collect());
        let mut encoded = message(&event);
        let encode = ns(|| {
            framer.frame(black_box(&mut encoded), &mut value);
        });
        // Of an event that was encoded nothing is needed any more; a bare producer is never given one.
        let letting_go = ns_once_each(|| event.clone(), drop);
        let mut out = Vec::with_capacity(4096);
        let encode_floor = ns(|| {
            out.clear();
            black_box(&encoded).encode_raw(&mut out);
        });
        let mut table = [false; 256];
        b"=:-srAghxewbBnd".iter().for_each(|byte| table[usize::from(*byte)] = true);
        let redaction = Redaction::default();
        let mut redacted = event.clone();
        let redact = ns(|| {
            black_box(redaction.apply(black_box(&mut redacted)).is_ok());
        });
        let redact_floor = ns(|| {
            black_box(look(black_box(&event), &table));
        });
        let mut zstd_framer = Framer::default();
        let zstd = ns(|| {
            zstd_framer.frame_encoded(black_box(&body), &mut value);
        });
        let mut compressor = zstd::bulk::Compressor::new(3).expect("a context");
        let zstd_floor = ns(|| {
            out.clear();
            out.reserve(zstd::zstd_safe::compress_bound(body.len()));
            black_box(compressor.compress_to_buffer(black_box(&body), &mut out).expect("compressed"));
        });

        println!("{bytes} B");
        println!(
            "  handing over, CPU of the sender              {:6.0}   floor {:6.0}   ratio {:.2}, without encoding {:.2}",
            of(&|(_, ours)| ours.accepted),
            of(&|(floor, _)| floor.accepted),
            of(&|(floor, ours)| floor.accepted / ours.accepted),
            of(&|(floor, ours)| floor.accepted / (ours.accepted - encode - letting_go)),
        );
        println!(
            "  until delivered, CPU of all threads          {:6.0}   floor {:6.0}   ratio {:.2}",
            of(&|(_, ours)| ours.delivered),
            of(&|(floor, _)| floor.delivered),
            of(&|(floor, ours)| floor.delivered / ours.delivered),
        );
        println!(
            "  until delivered, on the wall                 {:6.0}   floor {:6.0}   ratio {:.2}",
            of(&|(_, ours)| ours.wall),
            of(&|(floor, _)| floor.wall),
            of(&|(floor, ours)| floor.wall / ours.wall),
        );
        println!("  letting go of the event                      {letting_go:6.0}");
        println!(
            "  encoding and framing                         {encode:6.0}   floor {encode_floor:6.0}   (prost into a kept buffer)"
        );
        println!(
            "  redaction                                    {redact:6.0}   floor {redact_floor:6.0}   (every byte looked up once)"
        );
        println!(
            "  zstd, if above 512 B                         {zstd:6.0}   floor {zstd_floor:6.0}   (a kept context)"
        );
    }
}
