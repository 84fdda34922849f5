//! The exposition is read back by a strict parser that shares nothing with the code that wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::exposition::Exposition;
use super::super::fixture;
use super::super::process::Process;
use super::super::stats::Stats;
use super::*;
use crate::words::PartitionId;

/// Samples by name and label text, e.g. `x_total{a="b"}`, and the type of every family.
struct Scrape {
    samples: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

impl Scrape {
    /// Panics on anything that Prometheus or we would not accept.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut scrape = Scrape { samples: BTreeMap::new(), types: BTreeMap::new() };
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("HELP has a text");
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "HELP of {name}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("TYPE has a type");
                assert!(helped.contains(name), "TYPE before HELP: {name}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(scrape.types.insert(name.to_owned(), kind.to_owned()).is_none(), "two families: {name}");
                family = name.to_owned();
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
                let name = series.split('{').next().unwrap_or_default();
                let base = match scrape.types.get(&family).map(String::as_str) {
                    Some("histogram") => {
                        let stripped = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                        stripped.unwrap_or_else(|| panic!("{name} is not part of a histogram"))
                    }
                    _ => name,
                };
                assert_eq!(base, family, "a sample outside of its family");
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(value.is_finite() && value >= 0.0 || name.ends_with("_difference_records"), "{line}");
                assert!(scrape.samples.insert(series.to_owned(), value).is_none(), "twice: {series}");
            }
        }
        scrape
    }

    fn get(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    fn of(stats: &Stats) -> Self {
        Self::with_process(stats, Process::default())
    }

    fn with_process(stats: &Stats, process: Process) -> Self {
        let mut snapshot = Snapshot::take(stats, &fixture::config(), fixture::NOW_MS);
        snapshot.process = process;
        Self::parse(&Exposition::new().expect("the table is sound").render(Arc::new(snapshot)).expect("text"))
    }
}

#[test]
fn every_row_is_there_when_everything_is_known_with_its_type() {
    let scrape = Scrape::with_process(
        &fixture::busy(),
        Process {
            resident_bytes: Some(1),
            open_fds: Some(1),
            max_fds: Some(1),
            threads: Some(1),
            cpu_seconds: Some(0.5),
        },
    );
    for series in TABLE {
        assert_eq!(scrape.types.get(series.name).map(String::as_str), Some(series.kind.label()), "{}", series.name);
    }
    assert_eq!(scrape.types.len(), TABLE.len());
    assert!(TABLE.len() > 90, "the table shrank to {}", TABLE.len());
}

#[test]
fn with_nothing_known_exactly_the_unconditional_rows_are_there() {
    let scrape = Scrape::of(&Stats::default());
    for series in TABLE {
        let there = scrape.types.contains_key(series.name);
        assert_eq!(there, series.presence == Presence::Always, "{} {:?}", series.name, series.presence);
    }
}

#[test]
fn rows_per_held_partition_come_and_go_with_it() {
    let stats = fixture::busy();
    let per_partition: Vec<&Series> =
        TABLE.iter().filter(|series| series.labels.first() == Some(&"partition")).collect();
    let count = |scrape: &Scrape, partition: u32| {
        let label = format!("partition=\"{partition}\"");
        scrape.samples.keys().filter(|series| series.contains(&label)).count()
    };
    let before = Scrape::of(&stats);
    assert!(count(&before, 1) >= per_partition.len(), "{} of {}", count(&before, 1), per_partition.len());
    let total = before.get("websocket_kafka_messages_total{status=\"success\"}");
    stats.release(PartitionId(1));
    let after = Scrape::of(&stats);
    assert_eq!(count(&after, 1), 0, "a released partition is still exported");
    assert_eq!(count(&after, 0), count(&before, 0));
    assert_eq!(after.get("websocket_kafka_messages_total{status=\"success\"}"), total, "a total fell");
    stats.hold(PartitionId(1));
    let again = Scrape::of(&stats);
    assert_eq!(again.get("websocket_kafka_consumer_lag{partition=\"1\"}"), None, "lag of an older assignment");
    for series in TABLE.iter().filter(|series| series.presence == Presence::Held) {
        let start = format!("{}{{partition=\"1\"", series.name);
        assert!(again.samples.keys().any(|key| key.starts_with(&start)), "{} is not there at once", series.name);
    }
}

#[test]
fn enum_labels_are_complete_from_the_start() {
    let scrape = Scrape::of(&Stats::default());
    let mut looked_at = 0;
    let mut check = |name: &str, label: &str, values: &[&str]| {
        for value in values {
            let series = format!("{name}{{{label}=\"{value}\"}}");
            assert_eq!(scrape.get(&series), Some(0.0), "{series}");
            looked_at += 1;
        }
    };
    check("websocket_kafka_messages_total", "status", &["success", "error", "old_data_error"]);
    check("websocket_decode_errors_total", "error_type", &DropReason::ALL.map(DropReason::label));
    check("websocket_dlq_sends_total", "error_type", &DropReason::ALL.map(DropReason::label));
    check("websocket_dlq_send_failures_total", "reason", &["timeout", "kafka_error", "backpressure"]);
    check("dashstream_dlq_dropped_total", "reason", &["timeout", "kafka_error", "backpressure"]);
    let kinds = ["dns_failure", "connection_timeout", "broker_down", "decode_error", "unknown", "authentication"];
    check("websocket_kafka_errors_by_type_total", "error_type", &kinds);
    check("websocket_dropped_messages_total", "reason", &["lagged_receiver"]);
    check("websocket_client_lag_events_total", "severity", &["info", "warning", "critical"]);
    check("websocket_resume_requests_total", "mode", &["partition", "thread"]);
    check("websocket_replay_gap_messages_total", "mode", &["partition", "thread"]);
    check("websocket_replay_latency_ms_count", "mode", &["partition", "thread"]);
    check("websocket_e2e_latency_ms_count", "stage", &["producer_to_consumer"]);
    check("dashstream_closes_total", "reason", &CloseReason::ALL.map(CloseReason::label));
    check("dashstream_rejections_total", "reason", &Rejection::ALL.map(Rejection::label));
    check("dashstream_resume_answers_total", "answer", &Answer::ALL.map(Answer::label));
    check("dashstream_websocket_redis_latency_ms_count", "operation", &["read", "write"]);
    check("dashstream_sessions", "protocol", &["dashstream.v1", "dashstream.v2", "dashstream.json"]);
    check("dashstream_gap_records_total", "reason", &["slow_client", "dead_lettered", "null", "retention"]);
    assert!(looked_at > 60, "{looked_at}");
}

#[test]
fn values_are_what_was_counted() {
    let scrape = Scrape::of(&fixture::busy());
    for (series, expected) in [
        ("websocket_kafka_messages_total{status=\"success\"}", 202.0),
        ("websocket_kafka_messages_total{status=\"error\"}", 10.0),
        ("websocket_kafka_payload_missing_total", 2.0),
        ("websocket_kafka_consumer_lag{partition=\"1\"}", 19.0),
        ("dashstream_lag_records", 38.0),
        ("websocket_kafka_lag_offset_age_seconds{partition=\"0\"}", 1.5),
        ("websocket_kafka_catchup_phase{partition=\"0\"}", 1.0),
        ("dashstream_partition_books_difference_records{partition=\"0\"}", 0.0),
        ("dashstream_partition_dead_lettered_records_total{partition=\"1\",reason=\"payload_too_large\"}", 1.0),
        ("dashstream_partition_worker_state{partition=\"0\",state=\"waiting\"}", 1.0),
        ("dashstream_partition_worker_state{partition=\"0\",state=\"stopped\"}", 0.0),
        ("dashstream_partition_paused_offset{partition=\"0\"}", 500.0),
        ("websocket_connected_clients", 6.0),
        ("websocket_dropped_messages_total{reason=\"lagged_receiver\"}", 50.0),
        ("websocket_client_lag_messages_total{severity=\"warning\"}", 50.0),
        ("dashstream_gap_records_total{reason=\"dead_lettered\"}", 10.0),
        ("websocket_uptime_seconds", 1_000.0),
        ("websocket_last_kafka_message_age_seconds", 5.0),
        ("websocket_last_infrastructure_error_age_seconds", 200.0),
        ("websocket_e2e_latency_ms_bucket{stage=\"producer_to_consumer\",le=\"1\"}", 1.0),
        ("websocket_e2e_latency_ms_bucket{stage=\"producer_to_consumer\",le=\"2500\"}", 1.0),
        ("websocket_e2e_latency_ms_bucket{stage=\"producer_to_consumer\",le=\"+Inf\"}", 2.0),
        ("websocket_e2e_latency_ms_sum{stage=\"producer_to_consumer\"}", 3_000.7),
        ("dashstream_thread_heartbeat_age_seconds{thread=\"lag\"}", 0.1),
        ("dashstream_ready", 0.0),
        ("dashstream_redis_up", 1.0),
        ("dashstream_redis_last_write_age_seconds", 2.0),
        ("dashstream_redis_oldest_offset{partition=\"1\"}", 300.0),
        ("dashstream_redis_next_offset{partition=\"1\"}", 499.0),
        ("dashstream_websocket_redis_latency_ms_bucket{operation=\"read\",le=\"5\"}", 1.0),
        ("dashstream_websocket_redis_latency_ms_bucket{operation=\"read\",le=\"1\"}", 0.0),
    ] {
        assert_eq!(scrape.get(series), Some(expected), "{series}");
    }
    assert_eq!(Scrape::of(&fixture::serving()).get("dashstream_ready"), Some(1.0));
}

#[test]
fn lag_age_is_zero_when_caught_up_and_absent_when_unknown() {
    let stats = fixture::serving();
    stats.hold(PartitionId(0)).last_record_at_ms.set(Some(1));
    stats.hold(PartitionId(1)).lag_records.set(None);
    stats.hold(PartitionId(1)).lag_ms.set(None);
    let scrape = Scrape::of(&stats);
    assert_eq!(scrape.get("websocket_kafka_lag_offset_age_seconds{partition=\"0\"}"), Some(0.0));
    assert_eq!(scrape.get("websocket_kafka_lag_offset_age_seconds{partition=\"1\"}"), None);
    assert_eq!(scrape.get("dashstream_lag_records"), None);
}

#[test]
fn what_is_not_known_of_redis_is_absent() {
    let scrape = Scrape::of(&fixture::serving());
    assert_eq!(scrape.get("dashstream_redis_up"), None, "there is no such tier");
    assert_eq!(scrape.get("replay_buffer_redis_hits_total"), Some(0.0));
    let stats = fixture::busy();
    stats.redis.up.set(Some(0));
    stats.redis.bounds.store(std::sync::Arc::default());
    let scrape = Scrape::of(&stats);
    assert_eq!(scrape.get("dashstream_redis_up"), Some(0.0));
    assert_eq!(scrape.get("dashstream_redis_oldest_offset{partition=\"1\"}"), None, "away is not empty");
}

#[test]
fn a_hostile_name_cannot_break_the_text() {
    let stats = fixture::serving();
    let mut identity = fixture::identity();
    identity.cluster_id = "a\"} 1\nfake_total 9\\".to_owned();
    stats.stream.write().expect("lock").identity = Some(identity);
    let scrape = Scrape::of(&stats);
    assert!(scrape.samples.keys().any(|series| series.starts_with("dashstream_stream_info{")));
    assert!(!scrape.samples.keys().any(|series| series.starts_with("fake_total")));
}

#[test]
fn the_readme_table_has_every_row_and_names_are_in_order() {
    let table = markdown();
    assert_eq!(table.lines().count(), TABLE.len() + 2);
    for series in TABLE {
        assert!(table.contains(&format!("| `{}` | {} |", series.name, series.kind.label())), "{}", series.name);
        assert_eq!(series.name.ends_with("_total"), series.kind == Kind::Counter, "{}", series.name);
        let ours = ["websocket_", "dashstream_", "replay_buffer_", "process_"]
            .iter()
            .any(|prefix| series.name.starts_with(prefix));
        assert!(ours, "{}", series.name);
    }
    let columns: BTreeSet<usize> = table.lines().map(|line| line.replace("\\|", "").matches('|').count()).collect();
    assert_eq!(columns.len(), 1, "a row with more or fewer columns");
}
