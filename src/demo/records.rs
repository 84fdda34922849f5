//! What a producer hands to Kafka: the runs' messages framed as record values, with a poison record now and then.
//!
//! Pure and seeded, like `runs`. Deliberately absent: Kafka (`feeder`).

use super::dice::Dice;
use super::poison::Poison;
use super::runs::{Runs, events_in};
use crate::wire::framing::Framer;
use crate::wire::proto::dash_stream_message::Message as Payload;

/// A record, in buffers that are used again.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Record {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// Events in it; 0 for poison.
    pub events: u64,
    pub poison: Option<Poison>,
}

impl Record {
    /// As Kafka gets it: a null value is not an empty one.
    pub fn payload(&self) -> Option<&[u8]> {
        (self.poison != Some(Poison::Null)).then_some(self.value.as_slice())
    }
}

pub struct Records {
    runs: Runs,
    framer: Framer,
    /// Of its own, so that runs are the same with and without poison.
    poison: Option<(Dice, i64)>,
}

/// Between two poison records.
const POISON_US: (u64, u64) = (6_000_000, 14_000_000);

impl Records {
    pub fn new(seed: u64, rate: u32, poison: bool) -> Self {
        let poison = poison.then(|| (Dice::new(!seed), 0));
        Self { runs: Runs::new(seed, rate), framer: Framer::default(), poison }
    }

    /// Runs begun and ended so far.
    pub fn runs(&self) -> (u64, u64) {
        self.runs.counts()
    }

    /// Replaces `record` by the next one.
    pub fn next(&mut self, now_us: i64, record: &mut Record) {
        record.key.clear();
        if let Some((dice, due_us)) = &mut self.poison
            && now_us >= *due_us
        {
            let first = *due_us == 0;
            let (least, most) = POISON_US;
            *due_us = now_us.saturating_add(dice.between(least, most) as i64);
            if !first {
                let kind = dice.pick(&Poison::ALL);
                record.key.extend_from_slice(kind.key().as_bytes());
                kind.write(dice, &mut record.value);
                record.events = 0;
                record.poison = Some(kind);
                return;
            }
        }
        let mut message = self.runs.next(now_us);
        record.events = events_in(&message);
        record.poison = None;
        self.framer.frame(&mut message, &mut record.value);
        if let Some(thread) = thread_of(&message.message) {
            record.key.extend_from_slice(thread.as_bytes());
        }
    }
}

fn thread_of(payload: &Option<Payload>) -> Option<&str> {
    let header = match payload.as_ref()? {
        Payload::Event(payload) => &payload.header,
        Payload::StateDiff(payload) => &payload.header,
        Payload::TokenChunk(payload) => &payload.header,
        Payload::ToolExecution(payload) => &payload.header,
        Payload::Checkpoint(payload) => &payload.header,
        Payload::Metrics(payload) => &payload.header,
        Payload::Error(payload) => &payload.header,
        Payload::EventBatch(payload) => &payload.header,
        Payload::ExecutionTrace(payload) => &payload.header,
    };
    header.as_ref().map(|header| header.thread_id.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::wire::inflate::Inflater;
    use crate::wire::json::events_json;
    use crate::wire::scan::{Scan, scan as scan_body};
    use crate::words::DropReason;

    /// The records of `seconds` at `rate`, at even times.
    fn records(seed: u64, rate: u32, poison: bool, seconds: i64) -> Vec<Record> {
        let mut records = Records::new(seed, rate, poison);
        (0..i64::from(rate) * seconds)
            .map(|index| {
                let mut record = Record::default();
                records.next(1_700_000_000_000_000 + index * 1_000_000 / i64::from(rate), &mut record);
                record
            })
            .collect()
    }

    #[test]
    fn equal_seeds_give_equal_bytes() {
        assert_eq!(records(1, 200, true, 60), records(1, 200, true, 60));
        assert_ne!(records(1, 200, true, 5), records(2, 200, true, 5));
    }

    #[test]
    fn poison_of_every_kind_comes_about_every_ten_seconds_and_changes_nothing_else() {
        let poisoned = records(3, 50, true, 600);
        let count = |kind| poisoned.iter().filter(|record| record.poison == Some(kind)).count();
        let counts = Poison::ALL.map(count);
        assert!(counts.iter().all(|count| *count >= 3), "{counts:?}");
        assert!((45..=75).contains(&counts.iter().sum::<usize>()), "{counts:?}");
        for record in poisoned.iter().filter(|record| record.poison.is_some()) {
            assert!(record.key.starts_with(b"poison-"));
            assert_eq!((record.payload().is_none(), record.events), (record.poison == Some(Poison::Null), 0));
        }
        assert!(records(3, 50, false, 600).iter().all(|record| record.poison.is_none() && record.events > 0));
    }

    #[test]
    fn the_gateway_reads_every_record_and_refuses_every_poison_for_its_own_reason() {
        let (mut inflater, mut scan, mut json) = (Inflater::new(1 << 20), Scan::default(), Vec::new());
        let mut poisons = [0_u32; 4];
        for record in records(6, 200, true, 300) {
            let Some(value) = record.payload() else {
                assert_eq!(record.poison, Some(Poison::Null));
                poisons[Poison::Null as usize] += 1;
                continue;
            };
            let refusal = match inflater.body(value) {
                Err(refusal) => DropReason::from(refusal),
                Ok(body) => match scan_body(body.bytes(), &mut scan) {
                    Err(_) => DropReason::InvalidProtobuf,
                    Ok(()) => {
                        assert_eq!((scan.events.len() as u64, record.poison), (record.events, None));
                        for event in &scan.events {
                            assert_eq!(event.thread.of(body.bytes()), record.key);
                            assert!(event.sequence > 0 && !event.tenant.is_empty());
                        }
                        json.clear();
                        events_json(body.bytes(), 1 << 18, &mut json);
                        let events: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
                        assert_eq!(events.as_array().map(Vec::len), Some(record.events as usize));
                        continue;
                    }
                },
            };
            let kind = record.poison.expect("only poison is refused");
            poisons[kind as usize] += 1;
            let expected = match kind {
                Poison::Undecodable => DropReason::InvalidProtobuf,
                Poison::Empty | Poison::TruncatedZstd | Poison::Null => DropReason::BufferUnderflow,
            };
            assert_eq!(refusal, expected, "{kind:?}");
        }
        assert!(poisons.iter().all(|count| *count > 0), "{poisons:?}");
    }

    #[test]
    fn the_key_is_the_thread_and_long_values_are_compressed() {
        let records = records(4, 200, false, 60);
        assert!(records.iter().all(|record| !record.key.is_empty()));
        let compressed = records.iter().filter(|record| record.value[0] == 0x01).count();
        assert!(compressed > records.len() / 100 && compressed < records.len() / 2, "{compressed}");
        let mean = records.iter().map(|record| record.value.len()).sum::<usize>() / records.len();
        assert!((120..600).contains(&mean), "{mean} bytes per record");
    }

    /// Not a gate: printed, so that one can see what share of a core a demo costs.
    #[test]
    #[allow(clippy::print_stderr, reason = "a number to look at")]
    fn the_speed_of_the_generator_is_reported() {
        let mut records = Records::new(5, 20_000, true);
        let mut record = Record::default();
        let (mut events, mut bytes, start) = (0, 0, Instant::now());
        for index in 0..60_000 {
            records.next(1_700_000_000_000_000 + index * 50, &mut record);
            events += record.events;
            bytes += record.value.len();
        }
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{:.0} events/s on one core, {} bytes per record", events as f64 / seconds, bytes / 60_000);
        assert!(events >= 59_000);
    }
}
