//! The producer's metrics, in the predecessor's names where it had one. The application passes in its registry;
//! nothing is registered by itself, and the default registry is not touched.
//!
//! Everything with a closed set of labels is there from the start, so that 0 means 0. Tenants are the only open label,
//! and bounded (`limiter::labels`).

use prometheus::core::Collector;
use prometheus::{Error, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::error::Why;
use super::limiter::RedisOperation;
use super::outcome::Settled;
use super::outgoing::Kind;

/// Handles to the producer's numbers. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    sent: IntCounter,
    failures: IntCounter,
    pub(super) retries: IntCounter,
    pub(super) compression_failures: IntCounter,
    outcomes: IntCounterVec,
    /// By kind: delivered, refused, unknown.
    outcome: [[IntCounter; 3]; Kind::LABELS.len()],
    send_failures: IntCounterVec,
    send_failure: [IntCounter; Kind::LABELS.len()],
    dropped: IntCounterVec,
    drop: [[IntCounter; Why::LABELS.len()]; Kind::LABELS.len()],
    pub(super) batch_size: Histogram,
    pub(super) queue_events: IntGauge,
    pub(super) queue_bytes: IntGauge,
    pub(super) letters_sent: IntCounter,
    pub(super) letters_failed: IntCounter,
    pub(super) letters_dropped: IntCounter,
    pub(super) callback_panics: IntCounter,
    pub(super) redactions: IntCounter,
    degraded: IntCounterVec,
    pub(super) allowed: IntCounterVec,
    pub(super) exceeded: IntCounterVec,
    redis_errors: IntCounterVec,
    redis_latency: HistogramVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Names and labels are constants that a test has registered: there is nothing that could be refused.
const CONSTANT: &str = "a metric of constant name and labels";

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect(CONSTANT)
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect(CONSTANT)
}

impl Metrics {
    /// All at 0, registered nowhere.
    pub fn new() -> Self {
        let outcomes = counters(
            "dashstream_producer_outcomes_total",
            "Events whose outcome is known, by what became of them.",
            &["message_type", "outcome"],
        );
        let send_failures = counters(
            "dashstream_telemetry_send_failures_total",
            "Accepted events that were refused or whose outcome is unknown.",
            &["message_type"],
        );
        let dropped = counters(
            "dashstream_telemetry_dropped_total",
            "Events that were not accepted and went back to the caller.",
            &["message_type", "reason"],
        );
        let kinds = Kind::LABELS;
        Self {
            sent: counter("dashstream_messages_sent_total", "Events that Kafka acknowledged."),
            failures: counter(
                "dashstream_send_failures_total",
                "Accepted events that were refused or whose outcome is unknown.",
            ),
            retries: counter(
                "dashstream_send_retries_total",
                "Requests that librdkafka sent again; nobody else does that.",
            ),
            compression_failures: counter(
                "dashstream_compression_failures_total",
                "Records that went plain because zstd failed.",
            ),
            outcome: kinds.map(|kind| {
                ["delivered", "refused", "unknown"].map(|outcome| outcomes.with_label_values(&[kind, outcome]))
            }),
            outcomes,
            send_failure: kinds.map(|kind| send_failures.with_label_values(&[kind])),
            send_failures,
            drop: kinds.map(|kind| Why::LABELS.map(|reason| dropped.with_label_values(&[kind, reason]))),
            dropped,
            batch_size: Histogram::with_opts(
                HistogramOpts::new("dashstream_batch_size", "Events per record.")
                    .buckets(vec![1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]),
            )
            .expect(CONSTANT),
            queue_events: IntGauge::new("dashstream_queue_depth", "Events accepted and not settled, now.")
                .expect(CONSTANT),
            queue_bytes: IntGauge::new("dashstream_queue_bytes", "Bytes of events accepted and not settled, now.")
                .expect(CONSTANT),
            letters_sent: counter("dashstream_dlq_sends_total", "Dead letters that Kafka acknowledged."),
            letters_failed: counter(
                "dashstream_dlq_send_failures_total",
                "Dead letters that Kafka did not acknowledge.",
            ),
            letters_dropped: counter("dashstream_dlq_dropped_total", "Dead letters for which there was no room."),
            callback_panics: counter(
                "dashstream_producer_callback_panics_total",
                "Callbacks of the application that panicked.",
            ),
            redactions: counter("dashstream_producer_redactions_total", "Secrets that were taken out of events."),
            degraded: {
                let degraded = counters(
                    "dashstream_state_diff_degraded_total",
                    "Changes of state that went whole (full_state) or not at all (too_large).",
                    &["reason"],
                );
                for reason in ["full_state", "too_large"] {
                    degraded.with_label_values(&[reason]);
                }
                degraded
            },
            allowed: counters(
                "dashstream_rate_limit_allowed_total",
                "Events within their tenant's rate; at most 1,000 tenants, then overflow.",
                &["tenant_id"],
            ),
            exceeded: counters(
                "dashstream_rate_limit_exceeded_total",
                "Events beyond their tenant's rate; at most 1,000 tenants, then overflow.",
                &["tenant_id"],
            ),
            redis_errors: {
                let errors = counters(
                    "dashstream_rate_limiter_redis_errors_total",
                    "Troubles of the rate limiter with Redis.",
                    &["operation"],
                );
                for operation in RedisOperation::ALL {
                    errors.with_label_values(&[operation.label()]);
                }
                errors
            },
            redis_latency: {
                let opts = HistogramOpts::new(
                    "dashstream_rate_limiter_redis_latency_ms",
                    "Round trips of the rate limiter to Redis, ms.",
                )
                .buckets(vec![0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]);
                let latency = HistogramVec::new(opts, &["operation"]).expect(CONSTANT);
                latency.with_label_values(&[RedisOperation::Check.label()]);
                latency
            },
        }
    }

    /// Shows the numbers in the application's registry. An error: a name is taken there.
    pub fn register(&self, registry: &Registry) -> Result<(), Error> {
        for collector in self.collectors() {
            registry.register(collector)?;
        }
        Ok(())
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        fn one(collector: &(impl Collector + Clone + 'static)) -> Box<dyn Collector> {
            Box::new(collector.clone())
        }
        vec![
            one(&self.sent),
            one(&self.failures),
            one(&self.retries),
            one(&self.compression_failures),
            one(&self.outcomes),
            one(&self.send_failures),
            one(&self.dropped),
            one(&self.batch_size),
            one(&self.queue_events),
            one(&self.queue_bytes),
            one(&self.letters_sent),
            one(&self.letters_failed),
            one(&self.letters_dropped),
            one(&self.callback_panics),
            one(&self.redactions),
            one(&self.degraded),
            one(&self.allowed),
            one(&self.exceeded),
            one(&self.redis_errors),
            one(&self.redis_latency),
        ]
    }

    /// The table of the README.
    #[cfg(feature = "cli")]
    pub(crate) fn markdown() -> String {
        use prometheus::proto::MetricType;
        let mut table = String::from("| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n");
        for collector in Self::new().collectors() {
            let kinds = collector.collect().into_iter().map(|family| match family.get_field_type() {
                MetricType::COUNTER => "counter",
                MetricType::GAUGE => "gauge",
                MetricType::HISTOGRAM => "histogram",
                other => unreachable!("{other:?} is none of those above"),
            });
            for (desc, kind) in collector.desc().into_iter().zip(kinds) {
                let labels: Vec<_> = desc.variable_labels.iter().map(|label| format!("`{label}`")).collect();
                table.push_str(&format!("| `{}` | {kind} | {} | {} |\n", desc.fq_name, labels.join(" "), desc.help));
            }
        }
        table
    }

    pub(super) fn settled(&self, kind: Kind, settled: Settled, events: u64) {
        let outcomes = &self.outcome[kind as usize];
        self.batch_size.observe(events as f64);
        match settled {
            Settled::At(..) => return self.delivered(kind as usize, events),
            Settled::Refused(_) => outcomes[1].inc_by(events),
            Settled::Unknown(_) => outcomes[2].inc_by(events),
        }
        self.failures.inc_by(events);
        self.send_failure[kind as usize].inc_by(events);
    }

    /// By the index of the kind.
    pub(super) fn delivered(&self, kind: usize, events: u64) {
        self.outcome[kind][0].inc_by(events);
        self.sent.inc_by(events);
    }

    pub(super) fn rejected(&self, kind: Kind, why: &Why) {
        self.drop[kind as usize][why.index()].inc();
    }

    /// A change of state that went as a full state (`full_state`) or not at all (`too_large`).
    pub(super) fn degraded(&self, reason: &str) {
        self.degraded.with_label_values(&[reason]).inc();
    }

    #[cfg(feature = "limiter-redis")]
    pub(super) fn redis_error(&self, operation: RedisOperation) {
        self.redis_errors.with_label_values(&[operation.label()]).inc();
    }

    #[cfg(feature = "limiter-redis")]
    pub(super) fn redis_took(&self, ms: f64) {
        self.redis_latency.with_label_values(&[RedisOperation::Check.label()]).observe(ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::outcome::Reason;
    use crate::words::{Offset, PartitionId};

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text")
    }

    #[test]
    fn everything_with_closed_labels_is_there_at_zero() {
        let registry = Registry::new();
        Metrics::new().register(&registry).expect("an empty registry takes all");
        let text = text(&registry);
        for line in [
            "dashstream_messages_sent_total 0",
            "dashstream_producer_outcomes_total{message_type=\"event\",outcome=\"unknown\"} 0",
            "dashstream_telemetry_dropped_total{message_type=\"state_diff\",reason=\"queue_full\"} 0",
            "dashstream_rate_limiter_redis_errors_total{operation=\"fallback_to_local\"} 0",
            "dashstream_state_diff_degraded_total{reason=\"too_large\"} 0",
            "dashstream_queue_depth 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(Metrics::new().register(&registry).is_err(), "a name is taken once");
    }

    #[test]
    fn outcomes_are_counted_by_events() {
        let registry = Registry::new();
        let metrics = Metrics::new();
        metrics.register(&registry).expect("registered");
        metrics.settled(Kind::Batch, Settled::At(PartitionId(1), Offset(2)), 7);
        metrics.settled(Kind::Event, Settled::Refused(Reason::TimedOut), 1);
        metrics.settled(Kind::Event, Settled::Unknown(Reason::TimedOut), 1);
        metrics.rejected(Kind::Checkpoint, &Why::Full);
        let text = text(&registry);
        for line in [
            "dashstream_messages_sent_total 7",
            "dashstream_send_failures_total 2",
            "dashstream_producer_outcomes_total{message_type=\"event_batch\",outcome=\"delivered\"} 7",
            "dashstream_producer_outcomes_total{message_type=\"event\",outcome=\"refused\"} 1",
            "dashstream_telemetry_send_failures_total{message_type=\"event\"} 2",
            "dashstream_telemetry_dropped_total{message_type=\"checkpoint\",reason=\"queue_full\"} 1",
            "dashstream_batch_size_count 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
