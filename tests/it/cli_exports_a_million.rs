//! An export of a million records takes a bounded amount of memory, loses nothing, and its rate is reported beside that
//! of a bare consumer of the same topic.

use std::io::Read;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::harness::command::Running;
use crate::harness::kafka::Kafka;
use crate::harness::seeded;

const RECORDS: u64 = 1_000_000;
const PARTITIONS: u64 = 3;
/// 16 MiB fetched ahead and what librdkafka adds for each record, 8 MiB per partition in the merge, an allocator, a
/// process: all of it does not grow with the topic.
const MEMORY_MAX: u64 = 160 << 20;

#[test]
fn a_million_records_are_exported_in_bounded_memory() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("million", PARTITIONS as i32);
    let producer = kafka.producer_with(&topic, &[("linger.ms", "50"), ("batch.num.messages", "20000")]);
    for index in 0..RECORDS {
        producer.send(
            (index % PARTITIONS) as u32,
            &seeded::numbered((index % PARTITIONS) as u32, index / PARTITIONS + 1, 150),
        );
    }
    producer.flush();

    let began = Instant::now();
    let bytes = consume(&kafka, &topic);
    let bare = began.elapsed();

    let began = Instant::now();
    let mut export = Running::start(&kafka, &topic, &["export", "--output", "json"]);
    let pid = export.pid();
    // The document is looked at as it comes: nobody needs to hold it.
    let mut reader = Looker::default();
    let (mut buffer, mut peak) = (vec![0; 1 << 20], 0);
    loop {
        let length = export.out.read(&mut buffer).expect("output");
        if length == 0 {
            break;
        }
        reader.look(&buffer[..length]);
        peak = peak.max(high_water(pid).unwrap_or(0));
    }
    let took = began.elapsed();
    let answer = export.finish();
    assert_eq!((answer.code, answer.err.as_str()), (Some(0), ""));
    assert_eq!(reader.events, RECORDS, "every record is an event of the document");
    let end = reader.last;
    for part in ["\"total_events\":1000000,", "\"bad_records\":0,", "\"missing_sequences\":0,", "\"duplicates\":0,"] {
        assert!(end.contains(part), "{part} is missing in: {end}");
    }
    let rate = |time: Duration| RECORDS as f64 / time.as_secs_f64();
    eprintln!(
        "export: {:.0} records/s, bare consumer {:.0} records/s, ratio {:.2}; peak {} MiB for {} MiB of values",
        rate(took),
        rate(bare),
        rate(took) / rate(bare),
        peak >> 20,
        bytes >> 20,
    );
    assert!(peak > 1 << 20, "the memory of the process was seen");
    assert!(peak < MEMORY_MAX, "{} MiB at its peak", peak >> 20);
}

/// Counts lines that are events, and keeps the last one that is none.
#[derive(Default)]
struct Looker {
    events: u64,
    line: Vec<u8>,
    last: String,
}

impl Looker {
    fn look(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if !piece.ends_with(b"\n") {
                continue;
            }
            if self.line.starts_with(b"{\"message_id\":\"") {
                self.events += 1;
            } else {
                self.last = String::from_utf8_lossy(&self.line).into_owned();
            }
            self.line.clear();
        }
    }
}

/// Peak resident memory of a process, while it lives.
fn high_water(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// Reads the topic and does nothing with it: what can be had at most.
fn consume(kafka: &Kafka, topic: &str) -> u64 {
    let consumer: BaseConsumer = kafka
        .config()
        .set("group.id", "floor")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("queued.min.messages", "100000")
        .set("queued.max.messages.kbytes", "32768")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition as i32, Offset::Beginning).expect("a valid offset");
    }
    consumer.assign(&list).expect("assigned");
    let (mut records, mut bytes) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(300);
    while records < RECORDS {
        assert!(Instant::now() < deadline, "{records} records in five minutes");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                records += 1;
                bytes += message.payload_len() as u64;
            }
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => panic!("reading {topic}: {error}"),
        }
    }
    bytes
}
