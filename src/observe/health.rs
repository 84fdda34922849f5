//! The JSON bodies of `/health`, `/ready`, `/live` and `/version`, from the snapshot. Keys that the predecessor had
//! keep their names and meanings; what is unknown is `null`.
//!
//! Deliberately absent: judgement (`observe::verdict`) and the effective configuration (`config`).

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::build;
use super::snapshot::{Partition, Snapshot};
use super::stats::Protocol;
use super::window::Recent;
use crate::config::{Assignment, DlqMode, OnDecodeError, SchemaPolicy};
use crate::words::DropReason;

/// The schema version that this program knows.
const SCHEMA_VERSION: u32 = 1;
/// Raised when a disposition changes although no setting did.
const DISPOSITION_RULES: u32 = 1;
/// Records that came within this count as a live connection in `kafka_status`.
const RECENT_RECORD_MS: u64 = 60_000;

pub fn health(snapshot: &Snapshot, recent: &Recent) -> Value {
    let verdict = snapshot.verdict(recent);
    let mut body = json!({
        "status": verdict.status.label(),
        "reasons": verdict.reasons,
        "ready": snapshot.ready().is_ok(),
        "live": snapshot.live(),
        "metrics": metrics(snapshot, recent),
        "replay_buffer": replay_buffer(snapshot),
        "kafka_status": kafka_status(snapshot),
        "websocket_status": match snapshot.connected_clients() {
            0 => "no_clients".to_owned(),
            clients => format!("{clients}_clients_connected"),
        },
        "stream": stream(snapshot),
        "partitions": snapshot.partitions.iter().map(partition).collect::<Vec<_>>(),
        "threads": threads(snapshot),
        "log": {
            "chunks": snapshot.shards.log_chunks,
            "bytes": snapshot.shards.log_bytes,
            "live_chunk_bytes": snapshot.chunk_bytes,
            "max_bytes": snapshot.facts.log_max_bytes,
            "oldest_age_seconds": seconds(snapshot.shards.log_oldest_age_ms),
        },
        "dlq": dlq(snapshot),
        "tiers": {"redis": redis(snapshot)},
        "commits": {
            "confirmed": snapshot.kafka.commits,
            "failed": snapshot.kafka.commit_failures,
            "last_ago_seconds": seconds(snapshot.kafka.last_commit_age_ms),
        },
    });
    // Absent without an alert, as in the predecessor: its page shows whatever is there.
    if let (Some(alert), Some(object)) = (verdict.alert, body.as_object_mut()) {
        object.insert("alert".to_owned(), Value::String(alert));
    }
    body
}

/// Whether it is, and the body.
pub fn ready(snapshot: &Snapshot) -> (bool, Value) {
    match snapshot.ready() {
        Ok(()) => (true, json!({"ready": true})),
        Err(reasons) => (false, json!({"ready": false, "reasons": reasons})),
    }
}

/// Whether it is, and the body.
pub fn live(snapshot: &Snapshot) -> (bool, Value) {
    let live = snapshot.live();
    (live, json!({"live": live, "threads": threads(snapshot)}))
}

pub fn version(snapshot: &Snapshot) -> Value {
    let facts = &snapshot.facts;
    let name = snapshot.stream.identity.as_ref().map(|identity| identity.name());
    json!({
        "component": "websocket-server",
        "version": build::VERSION,
        "git_sha": build::GIT_SHA,
        "build_date": build::DATE,
        "schema_version": SCHEMA_VERSION,
        "resume_namespace": name,
        "stream": name,
        "kafka_topic": facts.topic,
        "kafka_group_id": facts.group_id,
        "max_payload_bytes": facts.payload_max_bytes,
        "decode_error_policy": match facts.on_decode_error {
            OnDecodeError::Skip => "skip",
            OnDecodeError::Pause => "pause",
        },
        "schema_policy": schema_policy(snapshot),
        "disposition_hash": disposition_hash(snapshot),
        "protocols": Protocol::ALL.map(Protocol::label),
    })
}

/// Two hosts with equal hashes give every record the same disposition.
fn disposition_hash(snapshot: &Snapshot) -> String {
    let settings = format!(
        "rules={DISPOSITION_RULES}\nschema_version={SCHEMA_VERSION}\nkafka.payload_max_bytes={}\nschema.policy={}\n",
        snapshot.facts.payload_max_bytes,
        schema_policy(snapshot)
    );
    Sha256::digest(settings.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn schema_policy(snapshot: &Snapshot) -> &'static str {
    match snapshot.facts.schema_policy {
        SchemaPolicy::Forward => "forward",
        SchemaPolicy::Exact => "exact",
    }
}

fn metrics(snapshot: &Snapshot, recent: &Recent) -> Value {
    json!({
        "kafka_messages_received": snapshot.totals.consumed,
        "kafka_errors": snapshot.decode_errors(),
        "infrastructure_errors": snapshot.infrastructure_errors(),
        "connected_clients": snapshot.connected_clients(),
        "uptime_seconds": snapshot.now_ms / 1_000,
        "last_kafka_message_ago_seconds": seconds(snapshot.last_record_age_ms),
        "dropped_messages": snapshot.dropped_records(),
        "dropped_messages_last_120s": recent.counts.dropped,
        "last_drop_ago_seconds": seconds(recent.last_drop_age_ms),
        "decode_errors": snapshot.decode_errors(),
        // No record is treated differently for its age.
        "old_data_decode_errors": 0,
        "payload_missing": snapshot.totals.skipped.iter().sum::<u64>(),
        "last_infrastructure_error_ago_seconds": seconds(snapshot.kafka.last_trouble_age_ms),
        "decode_errors_last_120s": recent.counts.decode_errors,
        "messages_last_120s": recent.counts.messages,
        "send_failed": snapshot.shards.vanished,
        "send_timeout": snapshot.closed(crate::words::CloseReason::Stalled),
        "send_failed_last_120s": recent.counts.send_failed,
        "send_timeout_last_120s": recent.counts.send_timeout,
        "window_seconds": recent.span_ms / 1_000,
        "lag_records": snapshot.lag_records(),
    })
}

/// The predecessor's keys. The log is bounded in bytes, and an entry in Redis holds many records, so that their bounds
/// in messages are unknown rather than invented.
fn replay_buffer(snapshot: &Snapshot) -> Value {
    let redis = &snapshot.redis;
    json!({
        "redis_enabled": snapshot.facts.redis.is_some(),
        "memory_hits": snapshot.shards.replayed_records.iter().sum::<u64>(),
        "redis_hits": redis.hits,
        "redis_misses": redis.misses,
        "redis_write_dropped": redis.write_dropped,
        "redis_write_failures": redis.write_failures,
        "memory_buffer_size": null,
        "max_memory_size": null,
        "redis_message_ttl_secs": snapshot.facts.redis.as_ref().map(|facts| facts.ttl_seconds),
        "redis_max_sequences": null,
        "redis_max_entries": snapshot.facts.redis.as_ref().map(|facts| facts.max_entries),
    })
}

/// Away changes nothing in `status` and `ready`: the log and Kafka serve without it.
fn redis(snapshot: &Snapshot) -> Value {
    if snapshot.facts.redis.is_none() {
        return json!({"state": "off"});
    }
    let known = snapshot.partitions.iter().filter_map(|partition| {
        let (oldest, next) = partition.redis?;
        Some(json!({"partition": partition.partition.0, "oldest": oldest.0, "next": next.0}))
    });
    json!({
        "state": if snapshot.redis.up == Some(true) { "up" } else { "down" },
        "errors": snapshot.redis.errors,
        "queue_bytes": snapshot.redis.queue_bytes,
        "last_write_ago_seconds": seconds(snapshot.redis.last_write_age_ms),
        "partitions": known.collect::<Vec<_>>(),
    })
}

fn kafka_status(snapshot: &Snapshot) -> &'static str {
    match snapshot.last_record_age_ms {
        None => "waiting_for_messages",
        Some(age) if age < RECENT_RECORD_MS => "connected",
        Some(_) => "no_recent_messages",
    }
}

fn stream(snapshot: &Snapshot) -> Value {
    let state = &snapshot.stream;
    let identity = state.identity.as_ref();
    let held = snapshot.partitions.len() as u64;
    json!({
        "name": identity.map(|identity| identity.name()),
        "topic": snapshot.facts.topic,
        "cluster_id": identity.map(|identity| &identity.cluster_id),
        "topic_id": identity.map(|identity| uuid::Uuid::from_bytes(identity.topic_id).to_string()),
        "identity": identity.map(|identity| if identity.is_weak() { "weak" } else { "strong" }),
        "partition_count": state.partition_count,
        "held_partitions": held,
        // In group mode a host may hold a share, and its clients see only that.
        "share": state.partition_count.map(|count| held < u64::from(count)),
        "assignment": match snapshot.facts.assignment {
            Assignment::All => "all",
            Assignment::Group => "group",
        },
        "assigned": state.assigned,
        "waiting_for": state.waiting_for,
        "stopped": state.stopped.iter().map(|(partition, why)| json!({"partition": partition.0, "reason": why}))
            .collect::<Vec<_>>(),
    })
}

fn partition(partition: &Partition) -> Value {
    json!({
        "partition": partition.partition.0,
        "state": if partition.paused.is_some() { "paused" } else { partition.state.label() },
        "next": partition.next,
        "commit_watermark": partition.commit_watermark,
        "committed": partition.committed,
        "lag": partition.lag_records,
        "lag_seconds": partition.lag_ms.map(|ms| ms as f64 / 1_000.0),
        "retention_margin_seconds": partition.retention_margin_ms.map(|ms| ms as f64 / 1_000.0),
        "warming_until": partition.warming_until.map(|end| end.0),
        "catching_up": partition.catching_up,
        "paused_at": partition.paused.map(|paused| paused.at.0),
        "paused_reason": partition.paused.and_then(|paused| paused.reason).map(DropReason::label),
        "dead_lettered": partition.books.dead_lettered.iter().sum::<u64>(),
        "ledger_open": partition.ledger_open,
        "books_difference": partition.balance.and_then(|difference| i64::try_from(difference).ok()),
        "stall_repairs": partition.stall_repairs,
        "last_record_ago_seconds": seconds(partition.last_record_age_ms),
    })
}

fn threads(snapshot: &Snapshot) -> Vec<Value> {
    let shown = snapshot.threads.iter().map(|thread| {
        json!({
            "name": thread.name,
            "heartbeat_age_ms": thread.age_ms,
            "limit_ms": thread.limit_ms,
            "fresh": thread.age_ms <= thread.limit_ms,
        })
    });
    shown.collect()
}

fn dlq(snapshot: &Snapshot) -> Value {
    json!({
        "topic": snapshot.facts.dlq_topic,
        "mode": match snapshot.facts.dlq_mode {
            DlqMode::FailOpen => "fail_open",
            DlqMode::FailClosed => "fail_closed",
        },
        "topic_found": snapshot.dlq.topic_found,
        "breaker": if snapshot.dlq.breaker_open { "open" } else { "closed" },
        "sent": snapshot.dlq.sent.iter().sum::<u64>(),
        "failed_attempts": snapshot.dlq.failures.iter().sum::<u64>(),
        "lost": snapshot.dlq.lost.iter().sum::<u64>(),
        "queue_bytes": snapshot.dlq.queue_bytes,
    })
}

fn seconds(milliseconds: Option<u64>) -> Option<u64> {
    milliseconds.map(|milliseconds| milliseconds / 1_000)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::super::stats::Stats;
    use super::super::window::{Tally, Window};
    use super::*;
    use crate::words::{Offset, PartitionId};

    fn body_of(stats: &Stats) -> Value {
        let snapshot = Snapshot::take(stats, &fixture::config(), fixture::NOW_MS);
        let recent = Window::default().observe(fixture::NOW_MS, Tally::of(&snapshot));
        health(&snapshot, &recent)
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    #[test]
    fn the_keys_of_the_predecessor_are_there_from_the_start() {
        let body = body_of(&Stats::default());
        for (part, expected) in [
            ("", "status metrics replay_buffer kafka_status websocket_status"),
            (
                "metrics",
                "kafka_messages_received kafka_errors infrastructure_errors connected_clients uptime_seconds \
                 last_kafka_message_ago_seconds dropped_messages dropped_messages_last_120s last_drop_ago_seconds \
                 decode_errors old_data_decode_errors payload_missing last_infrastructure_error_ago_seconds \
                 decode_errors_last_120s messages_last_120s send_failed send_timeout send_failed_last_120s \
                 send_timeout_last_120s",
            ),
            (
                "replay_buffer",
                "redis_enabled memory_hits redis_hits redis_misses redis_write_dropped redis_write_failures \
                 memory_buffer_size max_memory_size redis_message_ttl_secs redis_max_sequences",
            ),
        ] {
            let object = if part.is_empty() { &body } else { &body[part] };
            for key in expected.split_whitespace() {
                assert!(keys(object).contains(&key), "{part}.{key}");
            }
        }
        assert_eq!(body["status"], "waiting");
        assert_eq!(body["kafka_status"], "waiting_for_messages");
        assert_eq!(body["websocket_status"], "no_clients");
        assert_eq!(body["metrics"]["last_kafka_message_ago_seconds"], Value::Null, "never is not 0");
        assert_eq!(body["stream"]["name"], Value::Null);
        assert!(!keys(&body).contains(&"alert"));
    }

    #[test]
    fn a_paused_partition_says_where_and_why() {
        let stats = fixture::serving();
        let held = stats.hold(PartitionId(1));
        held.paused_at.set(Some(41));
        held.paused_reason.set(Some(3));
        held.lag_ms.set(Some(2_500));
        held.lag_records.set(Some(9));
        let body = body_of(&stats);
        assert_eq!(body["status"], "degraded");
        let shown = &body["partitions"][1];
        for (key, expected) in [
            ("partition", json!(1)),
            ("state", json!("paused")),
            ("paused_at", json!(41)),
            ("paused_reason", json!("invalid_protobuf")),
            ("next", json!(500)),
            ("lag", json!(9)),
            ("lag_seconds", json!(2.5)),
            ("committed", Value::Null),
            ("books_difference", json!(0)),
        ] {
            assert_eq!(shown[key], expected, "{key}");
        }
        assert_eq!(body["partitions"][0]["state"], "waiting");
        assert_eq!(body["partitions"][0]["paused_at"], Value::Null);
    }

    #[test]
    fn a_busy_process_shows_its_numbers() {
        let body = body_of(&fixture::busy());
        assert_eq!(body["metrics"]["kafka_messages_received"], 214);
        assert_eq!(body["metrics"]["messages_last_120s"], 214);
        assert_eq!(body["metrics"]["dropped_messages_last_120s"], 50);
        assert_eq!(body["metrics"]["lag_records"], 38);
        assert_eq!(body["websocket_status"], "6_clients_connected");
        assert_eq!(body["kafka_status"], "connected");
        assert_eq!(body["log"]["oldest_age_seconds"], 60);
        assert_eq!(body["stream"]["identity"], "strong");
        assert_eq!(body["stream"]["share"], false);
        assert!(body["alert"].as_str().is_some_and(|alert| alert.contains("slow clients lost 50")), "{body}");
    }

    #[test]
    fn redis_is_off_up_or_down_and_none_of_it_is_bad_health() {
        let body = body_of(&fixture::busy());
        assert_eq!(body["tiers"]["redis"], json!({"state": "off"}));
        assert_eq!(
            (&body["replay_buffer"]["redis_enabled"], &body["replay_buffer"]["redis_message_ttl_secs"]),
            (&json!(false), &Value::Null)
        );
        let mut config = fixture::config();
        config.replay.redis.url = Some(crate::config::Secret("redis://:horse@cache".to_owned()));
        let of = |stats: &Stats| {
            let snapshot = Snapshot::take(stats, &config, fixture::NOW_MS);
            assert!(snapshot.ready().is_ok());
            health(&snapshot, &Window::default().observe(fixture::NOW_MS, Tally::of(&snapshot)))
        };
        let stats = fixture::serving();
        stats.redis.up.set(Some(1));
        stats.redis.hits.add(3);
        stats.redis.bounds.store(std::sync::Arc::new([(PartitionId(1), (Offset(7), Offset(9)))].into()));
        let up = of(&stats);
        assert_eq!((&up["tiers"]["redis"]["state"], &up["status"]), (&json!("up"), &json!("healthy")));
        assert_eq!(up["tiers"]["redis"]["partitions"], json!([{"partition": 1, "oldest": 7, "next": 9}]));
        let buffer = &up["replay_buffer"];
        assert_eq!((&buffer["redis_enabled"], &buffer["redis_hits"]), (&json!(true), &json!(3)));
        assert_eq!(buffer["redis_message_ttl_secs"], 3_600);
        stats.redis.up.set(Some(0));
        stats.redis.bounds.store(std::sync::Arc::default());
        let down = of(&stats);
        assert_eq!((&down["tiers"]["redis"]["state"], &down["status"]), (&json!("down"), &json!("healthy")));
        assert_eq!(down["tiers"]["redis"]["partitions"], json!([]));
        assert!(!down.to_string().contains("horse"));
    }

    #[test]
    fn idle_is_healthy() {
        let stats = fixture::serving();
        stats.hold(PartitionId(0)).last_record_at_ms.set(Some(1));
        let body = body_of(&stats);
        assert_eq!((&body["status"], &body["reasons"]), (&json!("healthy"), &json!([])));
        assert_eq!(body["kafka_status"], "no_recent_messages");
    }

    #[test]
    fn readiness_and_liveness_have_a_body() {
        let snapshot = Snapshot::take(&fixture::serving(), &fixture::config(), fixture::NOW_MS);
        assert_eq!(ready(&snapshot), (true, json!({"ready": true})));
        assert!(live(&snapshot).0);
        let snapshot = Snapshot::take(&fixture::serving(), &fixture::config(), fixture::NOW_MS * 2);
        let (is_ready, body) = ready(&snapshot);
        assert!(!is_ready && body["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{body}");
        let (is_live, body) = live(&snapshot);
        assert!(!is_live && body["threads"][0]["fresh"] == json!(false), "{body}");
    }

    #[test]
    fn version_names_the_stream_and_hashes_what_decides_dispositions() {
        let of = |change: fn(&mut crate::config::Config), stats: &Stats| {
            let mut config = fixture::config();
            change(&mut config);
            version(&Snapshot::take(stats, &config, fixture::NOW_MS))
        };
        let stats = fixture::serving();
        let base = of(|_| {}, &stats);
        let name = fixture::identity().name();
        assert_eq!((&base["resume_namespace"], &base["stream"]), (&json!(name), &json!(name)));
        assert_eq!(base["protocols"], json!(["dashstream.v1", "dashstream.v2", "dashstream.json"]));
        assert_eq!(base["decode_error_policy"], "skip");
        assert_eq!(base["max_payload_bytes"], 10 << 20);
        assert_eq!(base["disposition_hash"].as_str().map(str::len), Some(64));
        let same = of(|config| config.kafka.group_id = "another".to_owned(), &stats);
        assert_eq!(base["disposition_hash"], same["disposition_hash"], "a host's own settings decide nothing");
        assert_eq!(base["stream"], same["stream"]);
        for change in [(|config| config.kafka.payload_max_bytes += 1) as fn(&mut crate::config::Config), |config| {
            config.schema.policy = SchemaPolicy::Exact
        }] {
            assert_ne!(base["disposition_hash"], of(change, &stats)["disposition_hash"]);
        }
        assert_eq!(of(|_| {}, &Stats::default())["resume_namespace"], Value::Null);
    }
}
