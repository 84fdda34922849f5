//! From the table of metrics and the newest snapshot to the text that Prometheus scrapes, through the `prometheus`
//! crate: one collector, registered once, reads the table.
//!
//! Deliberately absent: names and meanings (`observe::metrics`).

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use super::metrics::{Kind, Series, TABLE};
use super::snapshot::{Buckets, Snapshot};

/// What the body is served as.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// A row of the table that Prometheus' rules refuse, or text that could not be made. A bug in the table.
#[derive(Debug, thiserror::Error)]
#[error("the metrics table breaks the rules of Prometheus: {0}")]
pub struct ExpositionError(#[from] prometheus::Error);

/// Renders snapshots. Every series is registered when this is made.
#[derive(Debug)]
pub struct Exposition {
    registry: Registry,
    newest: Arc<ArcSwapOption<Snapshot>>,
}

impl Exposition {
    pub fn new() -> Result<Self, ExpositionError> {
        let newest = Arc::new(ArcSwapOption::empty());
        let descs = TABLE.iter().map(describe).collect::<Result<Vec<_>, _>>()?;
        let registry = Registry::new();
        registry.register(Box::new(TableCollector { descs, newest: newest.clone() }))?;
        Ok(Self { registry, newest })
    }

    pub fn render(&self, snapshot: Arc<Snapshot>) -> Result<String, ExpositionError> {
        self.newest.store(Some(snapshot));
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

fn describe(series: &Series) -> Result<Desc, prometheus::Error> {
    let labels = series.labels.iter().map(|label| (*label).to_owned()).collect();
    Desc::new(series.name.to_owned(), series.help.to_owned(), labels, HashMap::new())
}

struct TableCollector {
    descs: Vec<Desc>,
    newest: Arc<ArcSwapOption<Snapshot>>,
}

impl Collector for TableCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(snapshot) = self.newest.load_full() else { return Vec::new() };
        let mut families = Vec::with_capacity(TABLE.len());
        for series in TABLE {
            let mut out = Out { series: *series, metrics: Vec::new() };
            (series.read)(&snapshot, &mut out);
            let mut family = MetricFamily::default();
            family.set_name(series.name.to_owned());
            family.set_help(series.help.to_owned());
            family.set_field_type(match series.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family.set_metric(out.metrics);
            families.push(family);
        }
        families
    }
}

/// Where a row of the table writes its samples. A row that writes none is absent.
#[derive(Debug)]
pub struct Out {
    series: Series,
    metrics: Vec<Metric>,
}

impl Out {
    pub(super) fn value(&mut self, value: u64) {
        self.at(&[], value);
    }

    pub(super) fn at(&mut self, labels: &[&str], value: u64) {
        self.number(labels, value as f64);
    }

    pub(super) fn maybe(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.value(value);
        }
    }

    pub(super) fn seconds(&mut self, milliseconds: u64) {
        self.at_seconds(&[], milliseconds);
    }

    pub(super) fn at_seconds(&mut self, labels: &[&str], milliseconds: u64) {
        self.number(labels, milliseconds as f64 / 1000.0);
    }

    pub(super) fn maybe_seconds(&mut self, milliseconds: Option<u64>) {
        if let Some(milliseconds) = milliseconds {
            self.seconds(milliseconds);
        }
    }

    /// One sample per value of an enum.
    pub(super) fn each<const N: usize>(&mut self, labels: [&str; N], values: [u64; N]) {
        for (label, value) in labels.iter().zip(values) {
            self.at(&[label], value);
        }
    }

    /// The same where several values share a label: they are added.
    pub(super) fn merged(&mut self, labels: &[&'static str], values: &[u64]) {
        let mut sums: Vec<(&str, u64)> = Vec::new();
        for (label, value) in labels.iter().zip(values) {
            match sums.iter_mut().find(|(other, _)| other == label) {
                Some((_, sum)) => *sum += value,
                None => sums.push((label, *value)),
            }
        }
        for (label, value) in sums {
            self.at(&[label], value);
        }
    }

    pub(super) fn number(&mut self, labels: &[&str], value: f64) {
        let mut metric = self.labelled(labels);
        match self.series.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Kind::Histogram => unreachable!("{} is a histogram and was given a number", self.series.name),
        }
        self.metrics.push(metric);
    }

    pub(super) fn buckets(&mut self, labels: &[&str], buckets: &Buckets) {
        let mut histogram = Histogram::default();
        let mut cumulative = 0;
        let bounded = buckets.bounds.iter().zip(&buckets.counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        histogram.set_bucket(bounded.collect());
        histogram.set_sample_count(buckets.count());
        histogram.set_sample_sum(buckets.sum);
        let mut metric = self.labelled(labels);
        metric.set_histogram(histogram);
        self.metrics.push(metric);
    }

    fn labelled(&self, values: &[&str]) -> Metric {
        assert!(values.len() == self.series.labels.len(), "{}: one value for each label", self.series.name);
        let pairs = self.series.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }
}
