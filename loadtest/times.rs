//! Distributions of times, as a child process tells them: quantiles as JSON, milliseconds.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::Outcome;

/// Nanoseconds in.
pub struct Times(Histogram<u64>);

impl Times {
    pub fn new() -> Outcome<Self> {
        Ok(Self(Histogram::new(3)?))
    }

    pub fn record(&mut self, ns: u64) {
        self.0.record(ns).ok();
    }

    /// What was recorded since the last time that this was asked.
    pub fn take(&mut self) -> Value {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1e6;
        let told = json!({
            "samples": self.0.len(), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999),
            "max": self.0.max() as f64 / 1e6,
        });
        self.0.reset();
        told
    }
}

/// A number of what a child told; not a number if it did not.
pub fn of(told: &Value, key: &str) -> f64 {
    told[key].as_f64().unwrap_or(f64::NAN)
}
