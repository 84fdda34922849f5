//! What librdkafka says: delivery reports, errors, statistics. Called on the producer's thread, inside `poll`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;

use super::ages::Ages;
use super::dead_letter::{Letters, letter};
use super::flight::{Events, Flight};
use super::lock;
use super::metrics::Metrics;
use super::options::{OnRefused, Refused};
use super::outcome::{Reason, Settled};
use super::settling::Settling;
use super::tally::Tally;
use crate::kafka::oauth;

pub(super) struct Deliveries {
    pub(super) tally: Tally,
    pub(super) metrics: Metrics,
    pub(super) on_refused: OnRefused,
    pub(super) letters: Letters,
    /// Refused before they got to librdkafka, with the values that their records would have had. They wait for the
    /// producer's thread, and count as under way until then, which bounds them.
    left_behind: Mutex<Vec<(Events, Reason, Vec<u8>)>>,
    /// librdkafka gave up this producer.
    pub(super) fatal: AtomicBool,
    pub(super) topic: String,
    pub(super) ages: Ages,
    /// What is purged now is purged because the producer ends, not because it is overdue.
    pub(super) closing: AtomicBool,
    retries: AtomicU64,
    settling: Mutex<Settling>,
}

impl Deliveries {
    pub(super) fn new(tally: Tally, ages: Ages, metrics: Metrics, on_refused: OnRefused, topic: String) -> Self {
        Self {
            tally,
            settling: Mutex::new(Settling::new(&metrics)),
            metrics,
            on_refused,
            letters: Letters::default(),
            left_behind: Mutex::default(),
            fatal: AtomicBool::new(false),
            topic,
            ages,
            closing: AtomicBool::new(false),
            retries: AtomicU64::new(0),
        }
    }

    /// Counts the outcome of each event, tells it, and gives the room back. Refused events go where they are wanted
    /// before anybody is told, so that who waits for an outcome and then for the letters does not miss one.
    pub(super) fn settle(&self, events: Events, settled: Settled, value: &[u8]) {
        let (count, bytes) = (events.list.len(), events.bytes);
        if let Settled::At(..) = settled {
            let full = lock(&self.settling).delivered(events.kind, count, bytes, events.age, &self.ages);
            events.tell(settled, &self.metrics);
            if full || self.tally.is_waited_for() {
                self.count();
            }
            return;
        }
        if let Some(age) = events.age {
            self.ages.leave(age, 1);
        }
        if let Settled::Refused(reason) = settled {
            let thread = &events.thread;
            let refused = Refused {
                tenant: &thread.tenant,
                thread: &thread.thread,
                value,
                sequences: events.list.ends(),
                reason,
            };
            self.refused(&refused);
        }
        self.metrics.settled(events.kind, settled, count);
        self.tally.settle(settled, count);
        events.tell(settled, &self.metrics);
        self.tally.release(count, bytes);
    }

    /// Refused before it got to librdkafka: settled by the next [`Self::settle_left_behind`].
    pub(super) fn leave_behind(&self, events: Events, reason: Reason, value: &[u8]) {
        lock(&self.left_behind).push((events, reason, value.to_vec()));
    }

    pub(super) fn settle_left_behind(&self) {
        // Not under the lock: what is told may leave more behind.
        let left_behind = std::mem::take(&mut *lock(&self.left_behind));
        for (events, reason, value) in left_behind {
            self.settle(events, Settled::Refused(reason), &value);
        }
    }

    /// What was delivered and not counted yet is counted.
    pub(super) fn count(&self) {
        lock(&self.settling).count(&self.ages, &self.tally, &self.metrics);
    }

    fn refused(&self, refused: &Refused<'_>) {
        match &self.on_refused {
            OnRefused::Outcome => {}
            OnRefused::Caller(call) => {
                let call = std::panic::AssertUnwindSafe(|| call(refused));
                if std::panic::catch_unwind(call).is_err() {
                    self.metrics.callback_panics.inc();
                }
            }
            OnRefused::DeadLetter { .. } => {
                let id = uuid::Uuid::new_v4().to_string();
                if !self.letters.put(letter(refused, &self.topic, id, super::now_us())) {
                    self.metrics.letters_dropped.inc();
                }
            }
        }
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.fatal.store(true, Ordering::Release);
        }
        log::warn!("Kafka: {reason} ({error})");
    }

    fn stats(&self, statistics: Statistics) {
        let retries = statistics.brokers.values().map(|broker| broker.txretries).sum();
        let before = self.retries.swap(retries, Ordering::Relaxed);
        self.metrics.retries.inc_by(retries.saturating_sub(before));
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth::unsecured_token(config)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Flight>;

    fn delivery(&self, result: &DeliveryResult<'_>, flight: Box<Flight>) {
        match *flight {
            Flight::Events(events) => {
                let (settled, value) = match result {
                    Ok(message) => (Settled::stored(message.partition(), message.offset()), &[][..]),
                    Err((error, message)) => {
                        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                        // SAFETY: the message belongs to the delivery report, which outlives this call.
                        let status = unsafe { rdkafka_sys::rd_kafka_message_status(message.ptr()) };
                        let purged = matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight);
                        let overdue = purged && !self.closing.load(Ordering::SeqCst);
                        let code = if overdue { RDKafkaErrorCode::MessageTimedOut } else { code };
                        (Settled::failed(code, status), message.payload().unwrap_or_default())
                    }
                };
                self.settle(events, settled, value);
            }
            Flight::Letter(bytes) => {
                match result {
                    Ok(_) => self.metrics.letters_sent.inc(),
                    Err(_) => self.metrics.letters_failed.inc(),
                }
                self.letters.landed(bytes);
                self.tally.wake();
            }
        }
    }
}
