//! The dlq thread: takes letters, sends them, and acts on what became of each attempt. Under fail_closed a letter
//! is tried until Kafka has it; under fail_open it is given up after its attempts or their time, and counted.
//!
//! Deliberately absent: when to wait and when to give up (`breaker`), what is written (`envelope`, `headers`).

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, never, select};
use rdkafka::error::KafkaError;

use super::breaker::{Attempts, Breaker, Jitter, Next, Verdict, failure_label};
use super::envelope::{ENVELOPE_MAX_BYTES, ENVELOPE_MIN_BYTES};
use super::producer::{InHand, LetterProducer, Outcome, TopicAnswer};
use super::queue::{Queued, Received, try_receive};
use crate::config::{DlqConfig, DlqMode, KafkaConfig};
use crate::observe::stats::{DlqFailure, Heartbeat, Stats, monotonic_ms};

/// Letters taken from the queue and not settled: enough for full batches, small enough to try them all again.
const IN_HAND_MAX: usize = 256;
/// Envelopes copied into librdkafka. One alone may exceed it.
const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// While reports are expected, how often they are looked for.
const REPORT_INTERVAL: Duration = Duration::from_millis(5);
/// The longest sleep: errors and token refreshes of an idle producer are served this often.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// A topic that is missing, or not answered for, is asked for again this soon.
const TOPIC_RETRY: Duration = Duration::from_secs(5);
/// Lost letters are logged this often at most; the metric has every one.
const LOG_INTERVAL_MS: u64 = 10_000;
/// The thread's heartbeat may be this old: a topic look-up or a new producer blocks it for seconds.
/// Between a producer with a fatal error and the next, doubled while that fails as well.
const REPLACE_WAIT_MIN_MS: u64 = 1_000;
const REPLACE_WAIT_MAX_MS: u64 = 60_000;
pub const HEARTBEAT_LIMIT: Duration = Duration::from_secs(15);

/// What the thread is made from.
#[derive(Debug)]
pub struct DlqThreadOptions {
    pub letters: Receiver<Queued>,
    pub kafka: KafkaConfig,
    pub dlq: DlqConfig,
    pub stats: Arc<Stats>,
    /// Made with [`HEARTBEAT_LIMIT`].
    pub heartbeat: Arc<Heartbeat>,
}

/// librdkafka refuses the settings: a matter of configuration, which does not heal by itself.
#[derive(Debug, thiserror::Error)]
#[error("the producer of dead letters cannot be made; check the kafka and security settings")]
pub struct DlqStartError(#[from] KafkaError);

/// What was left when the thread ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flushed {
    /// Letters that Kafka did not acknowledge by the deadline. Under fail_closed their ledgers stay open, so the
    /// commit stays below them and they are read again; under fail_open they are counted as lost.
    pub remaining: usize,
}

/// Made by `gateway` before the workers, run on its own thread.
pub struct DlqThread {
    options: DlqThreadOptions,
    producer: LetterProducer,
    breaker: Breaker,
    /// Sent, outcome not yet known.
    in_flight: usize,
    in_flight_bytes: usize,
    /// Waiting for their next attempt: the letter and when.
    retries: Vec<(u64, Box<InHand>)>,
    /// Shrinks when the broker refuses a size.
    envelope_limit: usize,
    topic_due_ms: u64,
    replace_due_ms: u64,
    replace_wait_ms: u64,
    topic: TopicAnswer,
    random: u64,
    lost: u64,
    lost_logged_ms: Option<u64>,
}

impl DlqThread {
    pub fn new(options: DlqThreadOptions) -> Result<Self, DlqStartError> {
        let producer = LetterProducer::new(&options.kafka, &options.dlq, &options.stats)?;
        Ok(Self {
            options,
            producer,
            breaker: Breaker::default(),
            in_flight: 0,
            in_flight_bytes: 0,
            retries: Vec::new(),
            envelope_limit: ENVELOPE_MAX_BYTES,
            topic_due_ms: 0,
            replace_due_ms: 0,
            replace_wait_ms: 0,
            topic: TopicAnswer::Unknown,
            random: uuid::Uuid::new_v4().as_u64_pair().0,
            lost: 0,
            lost_logged_ms: None,
        })
    }

    /// Runs until a deadline arrives on `stop` (or `stop` is closed, which is a deadline of now), then sends what is
    /// left until that deadline. Ends within a second after it. The workers have stopped before.
    pub fn run(mut self, stop: &Receiver<Instant>) -> Flushed {
        let mut deadline = None;
        let mut stop = stop.clone();
        let mut letters = self.options.letters.clone();
        loop {
            self.options.heartbeat.beat();
            let now = monotonic_ms();
            self.settle(now);
            self.expire(now);
            self.send_due(now);
            if deadline.is_none() {
                self.look_up_topic(now);
            }
            if let Some(deadline) = deadline {
                self.breaker.hurry(now);
                let done = self.in_flight == 0 && self.retries.is_empty() && letters.is_empty();
                if done || Instant::now() >= deadline {
                    break;
                }
            }
            let source = if self.accepts(now) { letters.clone() } else { never() };
            select! {
                recv(source) -> received => match received {
                    Ok(queued) => self.take_up(Box::new(queued), now),
                    // Every worker and the inlet are gone; what is in hand is still to be settled.
                    Err(_) => letters = never(),
                },
                recv(stop) -> received => {
                    deadline = Some(received.unwrap_or_else(|_| Instant::now()));
                    stop = never();
                    self.hurry(now);
                }
                default(self.sleep(now)) => {}
            }
        }
        self.end(&letters)
    }

    fn accepts(&self, now: u64) -> bool {
        let room = self.in_flight + self.retries.len() < IN_HAND_MAX && self.has_flight_room();
        match self.breaker.verdict(now) {
            Verdict::Send => room,
            // A letter in hand is the better probe; it was first.
            Verdict::Probe => room && self.retries.is_empty(),
            Verdict::Wait { .. } => false,
        }
    }

    fn has_flight_room(&self) -> bool {
        self.in_flight == 0 || self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    fn take_up(&mut self, queued: Box<Queued>, now: u64) {
        let mut next = Some(queued);
        while let Some(queued) = next.take() {
            let attempts = Attempts {
                mode: self.options.dlq.mode,
                made: 0,
                since_ms: now,
                send_timeout_ms: self.options.dlq.send_timeout.as_millis() as u64,
            };
            let message_count = self.consumed();
            self.send(Box::new(InHand { queued: *queued, attempts, unix_ms: unix_ms(), message_count, bytes: 0 }), now);
            if self.accepts(now)
                && let Received::Letter(queued) = try_receive(&self.options.letters)
            {
                next = Some(queued);
            }
        }
    }

    fn send(&mut self, mut letter: Box<InHand>, now: u64) {
        if matches!(self.breaker.verdict(now), Verdict::Probe) {
            self.breaker.probing();
        }
        letter.attempts.made = letter.attempts.made.saturating_add(1);
        self.in_flight += 1;
        self.in_flight_bytes += letter.reserved();
        self.producer.send(letter, self.envelope_limit);
    }

    /// Sends the letters whose next attempt is due, as far as the breaker allows, the oldest due first.
    fn send_due(&mut self, now: u64) {
        self.retries.sort_by_key(|(at, letter)| (*at, letter.queued.letter.offset));
        while !matches!(self.breaker.verdict(now), Verdict::Wait { .. })
            && self.has_flight_room()
            && self.retries.first().is_some_and(|(at, _)| *at <= now)
        {
            let (_, letter) = self.retries.remove(0);
            self.send(letter, now);
        }
    }

    /// Acts on the outcomes that are known.
    fn settle(&mut self, now: u64) {
        for (letter, outcome) in self.producer.outcomes() {
            self.settle_one(letter, outcome, now);
        }
        if self.producer.is_fatal() {
            self.replace_producer(now);
        }
        self.options.stats.dlq.breaker_open.set(u64::from(self.breaker.is_open()));
    }

    fn settle_one(&mut self, letter: Box<InHand>, outcome: Outcome, now: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(letter.reserved());
        let jitter = self.jitter();
        match outcome {
            Outcome::Acknowledged => {
                if self.breaker.is_open() {
                    tracing::info!("dead letters are written again");
                }
                self.breaker.succeeded();
                self.options.stats.dlq.sent[letter.queued.letter.reason as usize].add(1);
                letter.queued.letter.ledger.acknowledge(letter.queued.letter.offset);
            }
            Outcome::TooLarge if letter.bytes > ENVELOPE_MIN_BYTES => {
                let limit = (letter.bytes / 2).max(ENVELOPE_MIN_BYTES);
                if limit < self.envelope_limit {
                    tracing::warn!(
                        topic = self.options.dlq.topic,
                        refused_bytes = letter.bytes,
                        limit,
                        "the dead-letter topic refuses this size: envelopes are cut to the limit; raise max.message.bytes"
                    );
                    self.envelope_limit = limit;
                }
                // A refusal of the size is not one of the topic, and tells a probe that it is there.
                self.breaker.succeeded();
                self.retries.push((now, letter.not_tried()));
            }
            Outcome::NotTried => {
                if self.breaker.is_open() {
                    self.breaker.failed(now, jitter);
                }
                self.retries.push((now + REPORT_INTERVAL.as_millis() as u64, letter.not_tried()));
            }
            Outcome::TooLarge => self.failed(letter, false, "message too large", now, jitter),
            Outcome::Failed { timed_out, code } => self.failed(letter, timed_out, &code.to_string(), now, jitter),
        }
    }

    fn failed(&mut self, letter: Box<InHand>, timed_out: bool, why: &str, now: u64, jitter: Jitter) {
        let failure = failure_label(timed_out);
        self.options.stats.dlq.failures[failure as usize].add(1);
        let was_open = self.breaker.is_open();
        self.breaker.failed(now, jitter);
        if self.breaker.is_open() && !was_open {
            tracing::error!(
                topic = self.options.dlq.topic,
                why,
                mode = ?self.options.dlq.mode,
                "dead letters cannot be written; tried again with growing pauses. Check that the topic exists, that \
                 this principal may write to it, and that enough replicas are in sync"
            );
        }
        match letter.attempts.after_failure(now, jitter) {
            Next::Retry { at_ms } => self.retries.push((at_ms, letter)),
            Next::GiveUp => self.lose(&letter, failure, now),
        }
    }

    /// Gives up letters whose time is over while the breaker keeps them waiting.
    fn expire(&mut self, now: u64) {
        let expired: Vec<_> = self.retries.extract_if(.., |(_, letter)| letter.attempts.expired(now)).collect();
        for (_, letter) in expired {
            self.lose(&letter, DlqFailure::Timeout, now);
        }
    }

    fn lose(&mut self, letter: &InHand, failure: DlqFailure, now: u64) {
        let dead = &letter.queued.letter;
        self.options.stats.dlq.lost[failure as usize].add(1);
        dead.ledger.acknowledge(dead.offset);
        self.lost += 1;
        if self.lost_logged_ms.is_none_or(|logged| now >= logged + LOG_INTERVAL_MS) {
            self.lost_logged_ms = Some(now);
            tracing::error!(
                partition = dead.partition.0,
                offset = dead.offset.0,
                reason = dead.reason.label(),
                failure = failure.label(),
                lost_so_far = self.lost,
                "a dead letter is lost: it could not be written and dlq.mode is fail_open"
            );
        }
    }

    /// A producer with a fatal error never sends again. What it had comes back and goes to the new one.
    /// One that fails at once, as without rights, is made again ever later.
    fn replace_producer(&mut self, now: u64) {
        if now < self.replace_due_ms {
            return;
        }
        self.replace_wait_ms = match now.saturating_sub(self.replace_due_ms) {
            ..REPLACE_WAIT_MAX_MS => (self.replace_wait_ms * 2).clamp(REPLACE_WAIT_MIN_MS, REPLACE_WAIT_MAX_MS),
            _ => REPLACE_WAIT_MIN_MS,
        };
        self.replace_due_ms = now + self.replace_wait_ms;
        let new = match LetterProducer::new(&self.options.kafka, &self.options.dlq, &self.options.stats) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!(%error, "the producer of dead letters failed and cannot be made again yet");
                return;
            }
        };
        tracing::warn!("the producer of dead letters had a fatal error and was made again");
        let old = std::mem::replace(&mut self.producer, new);
        for (letter, outcome) in old.take_down() {
            self.settle_one(letter, outcome, now);
        }
    }

    fn look_up_topic(&mut self, now: u64) {
        if now < self.topic_due_ms {
            return;
        }
        let answer = self.producer.topic();
        let interval = self.options.kafka.discovery_interval;
        let wait = if answer == TopicAnswer::Found { interval } else { interval.min(TOPIC_RETRY) };
        self.topic_due_ms = monotonic_ms() + wait.as_millis() as u64;
        if answer == TopicAnswer::Unknown || answer == self.topic {
            return;
        }
        let topic = self.options.dlq.topic.as_str();
        match answer {
            TopicAnswer::Missing(code) => tracing::error!(
                topic,
                %code,
                "the dead-letter topic cannot be used; create it, or allow this principal to write to it"
            ),
            _ => tracing::info!(topic, "the dead-letter topic is there"),
        }
        self.topic = answer;
        self.options.stats.dlq.topic_found.set(Some(u64::from(answer == TopicAnswer::Found)));
    }

    /// The process stops: what waits is tried at once.
    fn hurry(&mut self, now: u64) {
        for (at, _) in &mut self.retries {
            *at = (*at).min(now);
        }
    }

    fn sleep(&self, now: u64) -> Duration {
        if self.in_flight > 0 {
            return REPORT_INTERVAL;
        }
        let due = match self.breaker.verdict(now) {
            Verdict::Wait { until_ms } => until_ms,
            _ => self.retries.iter().map(|(at, _)| *at).min(),
        };
        let expires = self.retries.iter().map(|(_, letter)| letter.attempts.expires_ms()).min();
        let wait = due.into_iter().chain(expires).min().map(|at| Duration::from_millis(at.saturating_sub(now)));
        wait.map_or(IDLE_INTERVAL, |wait| wait.clamp(REPORT_INTERVAL, IDLE_INTERVAL))
    }

    fn end(mut self, letters: &Receiver<Queued>) -> Flushed {
        self.settle(monotonic_ms());
        let fail_open = self.options.dlq.mode == DlqMode::FailOpen;
        // A report that comes while the producer is taken down is believed, as any other.
        let (written, unwritten): (Vec<_>, Vec<_>) =
            self.producer.take_down().into_iter().partition(|(_, outcome)| *outcome == Outcome::Acknowledged);
        for (letter, _) in written {
            self.options.stats.dlq.sent[letter.queued.letter.reason as usize].add(1);
            letter.queued.letter.ledger.acknowledge(letter.queued.letter.offset);
        }
        let in_hand = unwritten.into_iter().map(|(letter, _)| letter);
        let in_hand = in_hand.chain(self.retries.into_iter().map(|(_, letter)| letter)).map(|letter| letter.queued);
        let mut remaining = 0;
        for queued in in_hand.chain(letters.try_iter()) {
            remaining += 1;
            if fail_open {
                self.options.stats.dlq.lost[DlqFailure::Timeout as usize].add(1);
                queued.letter.ledger.acknowledge(queued.letter.offset);
            }
        }
        if remaining > 0 && fail_open {
            tracing::error!(lost = remaining, "dead letters are lost: they were not written before the deadline");
        } else if remaining > 0 {
            tracing::warn!(remaining, "dead letters were not written before the deadline; they will be read again");
        }
        Flushed { remaining }
    }

    fn jitter(&mut self) -> Jitter {
        // Knuth's generator; all that is wanted is that hosts differ.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Jitter::new(self.random >> 33)
    }

    fn consumed(&self) -> u64 {
        let partitions = self.options.stats.partitions.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        partitions.values().map(|partition| partition.consumed.get()).sum()
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
