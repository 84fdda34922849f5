//! A compacted topic: what compaction took never counts as lost. Whoever comes back, from before the log or within it,
//! with a cursor on a record or on nothing, receives every record that survived, in order, once, every byte, and then
//! what is live; a tombstone is named as null, and nothing else is called a gap.
//!
//! Kafka's cleaner goes on working while clients read. So they are judged between two readings of the topic: nothing
//! that was not there before, everything that is still there afterwards; and where the cleaner is known to be through,
//! exactly what the keys say.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::corpus;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::json::{JsonClient, decimal};
use crate::harness::kafka::{Kafka, Parts, Producer};
use crate::harness::ledger::Ledger;
use crate::harness::v1::V1Client;
use crate::harness::v2::{V2Client, V2Event};
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(90);
const PARTITIONS: u32 = 2;
/// Some six segments in each partition, of which the cleaner leaves the last one alone.
const LENGTH: u64 = 14_000;
/// All that is below lies in segments that are cleaned.
const CLEANED: u64 = LENGTH - 6_000;
/// Produced while the clients replay, and when they are live.
const MORE: u64 = 1_000;
/// Nothing is left around this one: the next record and many more are gone.
const ON_A_HOLE: u64 = 4_011;

type Records = BTreeMap<(u32, u64), Option<Vec<u8>>>;

/// Every tenth record is the only one of its key. Every fiftieth is taken back by a tombstone four records later. All
/// others have keys that come again soon.
fn key(index: u64) -> String {
    match index % 50 {
        3 => format!("taken-back-{index}"),
        7 => format!("taken-back-{}", index - 4),
        rest if rest % 10 == 0 => format!("once-{index}"),
        _ => format!("again-{}", index % 300),
    }
}

fn is_tombstone(index: u64) -> bool {
    index % 50 == 7
}

fn produce(producer: &Producer, from: u64, next: u64, key: impl Fn(u64) -> String) {
    for index in from..next {
        let key = key(index);
        for partition in 0..PARTITIONS {
            let value = (index >= LENGTH || !is_tombstone(index)).then(|| corpus::ordinary(partition, index));
            let parts = Parts { key: Some(key.as_bytes()), value: value.as_deref(), ..Parts::default() };
            producer.send_parts(partition, parts);
        }
    }
    producer.flush();
}

fn read(kafka: &Kafka, topic: &str) -> Records {
    kafka.read(topic).into_iter().map(|record| ((record.partition, record.offset), record.value)).collect()
}

/// Of the part that is cleaned, only what the keys say is left.
fn is_compacted(records: &Records) -> bool {
    (0..PARTITIONS).all(|partition| {
        let left = records.range((partition, 0)..(partition, CLEANED)).map(|((_, offset), _)| *offset);
        left.eq((0..CLEANED).filter(|index| index % 10 == 0 || is_tombstone(*index)))
    })
}

/// What one client got, beside its ledger.
struct Got {
    who: &'static str,
    /// It has everything up to here, or was not to get it.
    from: u64,
    ledger: Ledger,
    /// Absent for a protocol that does not hand out the bytes.
    values: Option<Records>,
    is_told_of_nulls: bool,
}

impl Got {
    fn new(who: &'static str, from: u64) -> Self {
        Self { who, from, ledger: Ledger::new(), values: Some(Records::new()), is_told_of_nulls: true }
    }

    fn judge(&self, before: &Records, after: &Records) {
        let who = self.who;
        let wanted = || after.iter().filter(|((_, offset), _)| *offset >= self.from);
        let has = |(partition, offset): &(u32, u64)| self.ledger.has(*partition, *offset);
        let lost: Vec<_> =
            wanted().filter(|(place, value)| value.is_some() && !has(place)).map(|(place, _)| place).collect();
        assert!(
            lost.is_empty(),
            "{who}: {} records survived and did not come, the first and last are {:?} and {:?}",
            lost.len(),
            lost.first(),
            lost.last()
        );
        for ((partition, offset), value) in wanted() {
            let named = self.ledger.gaps.contains(&(*partition, *offset, *offset, "null".to_owned()));
            let is_tombstone = value.is_none() && self.is_told_of_nulls;
            assert_eq!(named, is_tombstone, "{who}: partition {partition}, offset {offset} is named as null");
        }
        let all = |place: &(u32, u64)| before.get(place).or_else(|| after.get(place));
        for partition in 0..PARTITIONS {
            for offset in (0..LENGTH + 2 * MORE).filter(|offset| self.ledger.has(partition, *offset)) {
                assert!(offset >= self.from, "{who}: partition {partition}, offset {offset} is before the cursor");
                assert!(all(&(partition, offset)).is_some(), "{who}: partition {partition}, offset {offset} is a hole");
            }
        }
        for (partition, first, last, reason) in &self.ledger.gaps {
            assert!(first == last && reason == "null", "{who}: {first} to {last} of {partition}: {reason}");
            assert_eq!(all(&(*partition, *first)), Some(&None), "{who}: {first} of {partition} is a tombstone");
        }
        for (place, value) in self.values.iter().flatten() {
            assert!(all(place) == Some(value), "{who}: {place:?}: bytes differ");
        }
        let records = self.values.as_ref().map_or(self.ledger.records, |values| values.len() as u64);
        assert_eq!(records, self.ledger.records, "{who}: each once");
    }
}

fn lengths(more: u64) -> [u64; PARTITIONS as usize] {
    [LENGTH + more; PARTITIONS as usize]
}

fn v2(gateway: &Gateway, who: &'static str, cursor: Option<u64>) -> (V2Client, Got) {
    let mut client = V2Client::connect(gateway.ws());
    match cursor {
        Some(cursor) => client.resume(&(0..PARTITIONS).map(|partition| (partition, cursor)).collect()),
        None => client.resume_earliest(),
    }
    let mut got = Got::new(who, cursor.map_or(0, |cursor| cursor + 1));
    let others = follow_v2(&mut client, &mut got, |_, others| {
        others.iter().any(|event| matches!(event, V2Event::Live { resume: 1, .. }))
    });
    let answers = others.iter().filter_map(|event| match event {
        V2Event::Answers { answers, .. } => Some(answers),
        _ => None,
    });
    for answer in answers.flatten() {
        assert_eq!((answer.kind, answer.numbers[0]), ("resumed", got.from), "{who}: a hole is no gap");
    }
    (client, got)
}

fn follow_v2(client: &mut V2Client, got: &mut Got, done: impl FnMut(&Ledger, &[V2Event]) -> bool) -> Vec<V2Event> {
    let Got { ledger, values, .. } = got;
    let values = values.as_mut().expect("v2 has bytes");
    let keep = |partition, offset, value: &[u8]| {
        values.insert((partition, offset), Some(value.to_vec()));
    };
    client.follow(ledger, LIMIT, keep, done)
}

fn follow_v1(client: &mut V1Client, got: &mut Got, done: impl FnMut(&Ledger) -> bool) {
    let Got { ledger, values, who, .. } = got;
    let values = values.as_mut().expect("v1 has bytes");
    let keep = |partition, offset, value: &[u8]| {
        values.insert((partition, offset), Some(value.to_vec()));
    };
    let followed = client.follow(ledger, LIMIT, keep, done);
    assert!(followed.closed.is_none() && !followed.timed_out, "{who}: {:?}", followed.texts);
    assert!(followed.texts.iter().all(|text| text["type"] == "replay_complete"), "{who}: {:?}", followed.texts);
}

#[test]
fn compaction_leaves_holes_and_no_gaps() {
    let kafka = Kafka::shared();
    let topic = kafka.topic_with(
        "compacted",
        PARTITIONS as i32,
        &[("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.001")],
    );
    let producer = kafka.producer(&topic);
    // This one saw everything before it was compacted, and has forgotten it.
    let setup = Setup::new(&kafka, &topic).set("DASHSTREAM_LOG_MAX_AGE", "1s");
    let forgot = setup.start();
    produce(&producer, 0, LENGTH, key);
    let before = wait::until("the topic to be compacted", LIMIT, || Some(read(&kafka, &topic)).filter(is_compacted));
    wait::until_true("the log to be read and forgotten", LIMIT, || {
        let log = V2Client::connect(forgot.ws()).log;
        log.len() == PARTITIONS as usize && log.values().all(|(oldest, next)| *oldest > CLEANED && *next == LENGTH)
    });
    // This one has read what is left, and holds it.
    let holds = setup.sibling(&kafka).set("DASHSTREAM_LOG_MAX_AGE", "1h").start();
    wait::until_true("what is left to be in the log", LIMIT, || {
        let hello = JsonClient::connect(holds.ws()).hello;
        let partitions = hello["partitions"].as_array().expect("partitions").clone();
        partitions.len() == PARTITIONS as usize
            && partitions.iter().all(|one| (decimal(&one["oldest"]), decimal(&one["next"])) == (0, LENGTH))
    });
    let live = |index: u64| format!("live-{index}");
    let everyone = std::thread::scope(|scope| {
        // Production goes on while they come back.
        let more = scope.spawn(|| {
            (0..MORE / 20).for_each(|step| produce(&producer, LENGTH + step * 20, LENGTH + (step + 1) * 20, live));
        });
        let mut clients = vec![
            v2(&forgot, "v2 from the start, below the log", None),
            v2(&forgot, "v2 from a hole, below the log", Some(ON_A_HOLE)),
            v2(&forgot, "v2 from a record before a hole, below the log", Some(ON_A_HOLE - 1)),
            v2(&holds, "v2 from the start, in the log", None),
            v2(&holds, "v2 from a hole, in the log", Some(ON_A_HOLE)),
        ];
        let mut json = JsonClient::connect(forgot.ws());
        json.resume(&json.stream(), &(0..PARTITIONS).map(|partition| (partition, ON_A_HOLE)).collect());
        let mut json_got = Got { values: None, ..Got::new("json from a hole, below the log", ON_A_HOLE + 1) };
        let answers = json.until(&mut json_got.ledger, "answers", LIMIT);
        for answer in answers["answers"].as_array().expect("answers") {
            assert_eq!(answer["answer"], "resumed", "a hole is no gap: {answers}");
        }
        json.until(&mut json_got.ledger, "live", LIMIT);
        // The predecessor's protocol has no word for a tombstone, for who does not say `stream`.
        let mut v1 = V1Client::connect(forgot.ws());
        v1.resume(&BTreeMap::new());
        let mut v1_got = Got { is_told_of_nulls: false, ..Got::new("v1 from the start, below the log", 0) };
        follow_v1(&mut v1, &mut v1_got, |ledger| ledger.reached(&lengths(0)));
        more.join().expect("produced");
        // All of them are live.
        produce(&producer, LENGTH + MORE, LENGTH + 2 * MORE, live);
        for (client, got) in &mut clients {
            follow_v2(client, got, |ledger, _| ledger.reached(&lengths(2 * MORE)));
        }
        json.follow(&mut json_got.ledger, LIMIT, |ledger, _| ledger.reached(&lengths(2 * MORE)));
        follow_v1(&mut v1, &mut v1_got, |ledger| ledger.reached(&lengths(2 * MORE)));
        clients.into_iter().map(|(_, got)| got).chain([json_got, v1_got]).collect::<Vec<_>>()
    });
    let after = read(&kafka, &topic);
    assert!(is_compacted(&after), "what is cleaned stays as it is");
    everyone.iter().for_each(|got| got.judge(&before, &after));
    // Where the cleaner was through, nothing depends on when the topic was read.
    for got in &everyone {
        let expected = (got.from..CLEANED).filter(|index| index % 10 == 0).count();
        for partition in 0..PARTITIONS {
            let count = (0..CLEANED).filter(|offset| got.ledger.has(partition, *offset)).count();
            assert_eq!(count, expected, "{}: partition {partition}", got.who);
        }
    }
    let metrics = forgot.metrics();
    assert!(metrics.sum("dashstream_replay_read_records_total", &["tier=\"kafka\""]) > 0.0, "read below the log");
}
