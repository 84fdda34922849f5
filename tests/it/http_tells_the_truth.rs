//! Every page on both ports, metrics that Prometheus' own tool accepts, keys of the predecessor kept, unknown values
//! absent; a port in use and a bad configuration are clear errors with the right exit code.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::corpus;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::http;
use crate::harness::kafka::Kafka;
use crate::harness::ledger::Ledger;
use crate::harness::load::Load;
use crate::harness::v1::V1Client;
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(30);

/// The predecessor's series that exist before anything happened.
const SERIES: [&str; 26] = [
    "websocket_kafka_messages_total",
    "websocket_connected_clients",
    "websocket_dropped_messages_total",
    "websocket_uptime_seconds",
    "websocket_infrastructure_errors_total",
    "websocket_decode_errors_total",
    "websocket_kafka_errors_by_type_total",
    "websocket_kafka_payload_missing_total",
    "websocket_client_lag_events_total",
    "websocket_client_lag_messages_total",
    "websocket_slow_client_disconnects_total",
    "websocket_control_oversized_total",
    "websocket_control_parse_failures_total",
    "websocket_rejected_connections_total",
    "websocket_send_failed_total",
    "websocket_e2e_latency_ms_count",
    "dashstream_sequence_gaps_total",
    "dashstream_sequence_duplicates_total",
    "dashstream_sequence_reorders_total",
    "websocket_multi_thread_batches_total",
    "websocket_dlq_sends_total",
    "websocket_dlq_send_failures_total",
    "websocket_resume_requests_total",
    "websocket_replay_messages_total",
    "websocket_replay_gaps_total",
    "websocket_replay_latency_ms_count",
];

fn started(what: &str) -> (Kafka, String, Gateway) {
    let kafka = Kafka::shared();
    let topic = kafka.topic(what, 2);
    let gateway = Setup::new(&kafka, &topic).set("KAFKA_LAG_CHECK_INTERVAL_SECS", 1).start();
    (kafka, topic, gateway)
}

#[test]
fn every_page_on_both_ports() {
    let (_, topic, gateway) = started("pages");
    for address in [gateway.setup.ws, gateway.setup.admin] {
        // The page is the service port's; the admin port lists what it has.
        let root = if address == gateway.setup.ws { "text/html" } else { "text/plain" };
        for (path, content_type) in [
            ("/", root),
            ("/health", "application/json"),
            ("/ready", ""),
            ("/live", ""),
            ("/version", "application/json"),
            ("/config", ""),
            ("/clients", "application/json"),
            ("/metrics", "text/plain"),
        ] {
            let response = http::get(address, path);
            assert_eq!(response.status, 200, "{path} at {address}: {}", response.text());
            assert!(!response.body.is_empty(), "{path} at {address}");
            let found = response.header("content-type").unwrap_or_default();
            assert!(found.starts_with(content_type), "{path} at {address}: {found}");
        }
        assert_eq!(http::get(address, "/nowhere").status, 404);
        assert_eq!(http::get(address, "/../../etc/passwd").status, 404);
        let posted = http::request(
            address,
            "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(posted.expect("an answer").status, 405);
        let version = http::get(address, "/version").json();
        assert_eq!(version["kafka_topic"], topic.as_str());
        assert_eq!(version["kafka_group_id"], gateway.setup.group.as_str());
        assert_eq!(version["schema_version"], 1);
        assert_eq!(version["decode_error_policy"], "skip");
        assert_eq!(version["max_payload_bytes"], 10_485_760);
        for key in ["git_sha", "build_date", "component", "resume_namespace"] {
            assert!(version[key].is_string(), "{key} in {version}");
        }
        let health = http::get(address, "/health").json();
        assert!(health["status"].is_string(), "{health}");
        for key in
            ["kafka_messages_received", "connected_clients", "decode_errors", "payload_missing", "dropped_messages"]
        {
            assert!(health["metrics"][key].is_u64(), "metrics.{key} in {health}");
        }
        assert!(health["metrics"]["last_kafka_message_ago_seconds"].is_null(), "null is never: {health}");
        assert!(health["kafka_status"].is_string() && health["websocket_status"].is_string(), "{health}");
    }
}

#[test]
fn metrics_are_what_prometheus_accepts() {
    let (kafka, topic, gateway) = started("metrics");
    let fresh = gateway.metrics();
    for name in SERIES {
        assert!(!fresh.all(name, &[]).is_empty(), "{name} is there from the start:\n{}", fresh.text);
    }
    let honest = |metrics: &http::Metrics| {
        for (series, value) in &metrics.series {
            assert!(value.is_finite() && *value >= 0.0, "{series} {value}: unknown is absent");
        }
    };
    honest(&fresh);
    let producer = kafka.producer(&topic);
    (0..100)
        .for_each(|index| (0..2).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index))));
    producer.flush();
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    client.follow(&mut Ledger::new(), LIMIT, Load::check, |ledger| ledger.reached(&[100, 100]));
    let metrics = wait::until("the counts", LIMIT, || {
        let metrics = gateway.metrics();
        let known = metrics.all("websocket_kafka_consumer_lag", &[]) == [0.0, 0.0];
        (known && metrics.sum("websocket_kafka_messages_total", &["success"]) == 200.0).then_some(metrics)
    });
    honest(&metrics);
    assert_eq!(metrics.sum("websocket_connected_clients", &[]), 1.0);
    assert!(metrics.sum("websocket_resume_requests_total", &["partition"]) >= 1.0);
    assert!(metrics.series.len() >= fresh.series.len(), "no series went away");
    promtool(&metrics.text);
    promtool(&gateway.get("/metrics").text());
}

#[test]
fn clients_are_listed_with_what_they_got_and_why_they_went() {
    let (kafka, topic, gateway) = started("clients");
    let producer = kafka.producer(&topic);
    (0..50)
        .for_each(|index| (0..2).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index))));
    producer.flush();
    let page = || http::get(gateway.setup.admin, "/clients").json();
    assert_eq!(page()["total"], 0);
    let mut client = V1Client::connect(gateway.ws());
    client.resume_from("earliest");
    client.follow(&mut Ledger::new(), LIMIT, Load::check, |ledger| ledger.reached(&[50, 50]));
    let row = wait::until("the client, live", LIMIT, || {
        let row = page().pointer("/clients/0")?.clone();
        (row["records_sent"] == 100 && row["state"] == "live").then_some(row)
    });
    for (key, expected) in [
        ("protocol", serde_json::json!("dashstream.v1")),
        ("address", serde_json::json!("127.0.0.1")),
        ("behind_records", serde_json::json!(0)),
        ("waiting_seconds", serde_json::Value::Null),
        ("gaps_told", serde_json::json!(0)),
    ] {
        assert_eq!(row[key], expected, "{key} in {row}");
    }
    drop(client);
    let closed = wait::until("the client, gone", LIMIT, || {
        let page = page();
        page.pointer("/closed/0").filter(|_| page["total"] == 0).cloned()
    });
    assert_eq!((&closed["id"], &closed["records_sent"]), (&row["id"], &row["records_sent"]), "{closed}");
    assert!(["vanished", "client_closed"].iter().any(|reason| closed["reason"] == *reason), "{closed}");
}

fn promtool(text: &str) {
    let mut process = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: tests/run installs it");
    process.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let output = process.wait_with_output().expect("it ends");
    let complaints = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // 0: nothing to complain about. 3: it parses, and names offend against the naming rules: those that the
    // predecessor's dashboards already use are kept, and no other may.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{complaints}");
    let kept = [
        "dashstream_websocket_redis_latency_ms ",
        "websocket_e2e_latency_ms ",
        "websocket_replay_latency_ms ",
        "dashstream_sequence_gap_size ",
    ];
    let lines = complaints.lines().filter(|line| !line.is_empty());
    let offences: Vec<_> = lines.filter(|line| !kept.iter().any(|name| line.starts_with(name))).collect();
    assert!(offences.is_empty(), "{offences:#?}");
}

#[test]
fn health_says_what_is_wrong_and_idle_is_healthy() {
    let (kafka, topic, gateway) = started("healthy");
    let status = || gateway.health()["status"].as_str().map(str::to_owned);
    wait::until_true("an idle gateway to be healthy", LIMIT, || status().as_deref() == Some("healthy"));
    // More than one in a hundred cannot be decoded.
    let producer = kafka.producer(&topic);
    for index in 0..200 {
        producer.send(0, &corpus::ordinary(0, index));
        if index % 20 == 0 {
            producer.send(1, b"\x00\xff\xff\xff\xff");
        }
    }
    producer.flush();
    wait::until_true("undecodable records to show", LIMIT, || status().as_deref() == Some("degraded"));
    assert_eq!(gateway.get("/ready").status, 200, "new data reaches new clients all the same");
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("ports", 1);
    for which in ["ws", "admin"] {
        let setup = Setup::new(&kafka, &topic);
        let address = if which == "ws" { setup.ws } else { setup.admin };
        let _held = TcpListener::bind(address).expect("it was free");
        let mut gateway = setup.spawn();
        let status = gateway.wait_exit(LIMIT);
        assert!(status.code().is_some_and(|code| code != 0), "{status:?}");
        let output = gateway.output();
        assert!(output.contains(&address.port().to_string()), "{which}: the address is named:\n{output}");
        assert!(!output.contains("panicked"), "{output}");
    }
}

#[test]
fn bad_configuration_ends_with_two_and_says_what_is_allowed() {
    let kafka = Kafka { brokers: "127.0.0.1:9".to_owned() };
    for (key, value, words) in [
        ("KAFKA_ON_DECODE_ERROR", "explode", &["skip", "pause"][..]),
        ("KAFKA_AUTO_OFFSET_RESET", "middle", &["earliest", "latest"]),
        ("WEBSOCKET_PORT", "65536", &[]),
        ("WEBSOCKET_HOST", "not an address", &[]),
        ("DASHSTREAM_LOG_MAX_BYTES", "-1", &[]),
        ("DASHSTREAM_LOG_UNHEARD_OF", "1", &[]),
        ("DASHSTREAM_KAFKA_ASSIGNMENT", "some", &["all", "group"]),
        ("WEBSOCKET_HOST", "0.0.0.0", &["allow_unauthenticated"]),
        ("KAFKA_LAG_CHECK_INTERVAL_SECS", "0", &[]),
        ("KAFKA_SECURITY_PROTOCOL", "tls", &["sasl_ssl"]),
    ] {
        for command in ["serve", "check-config"] {
            let setup = Setup::new(&kafka, "topic").set(key, value);
            let output = setup.command(&[command]).output().expect("it runs");
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{command} with {key}={value}:\n{text}");
            assert!(text.contains(value), "{command}: the value of {key} is named:\n{text}");
            for word in words {
                assert!(text.contains(word), "{command}: {key}={value} should mention {word}:\n{text}");
            }
            assert!(!text.contains("panicked"), "{text}");
        }
    }
}

#[test]
fn check_config_prints_sources_and_masks_secrets() {
    let kafka = Kafka { brokers: "127.0.0.1:9".to_owned() };
    let setup = Setup::new(&kafka, "my-topic")
        .set("KAFKA_SECURITY_PROTOCOL", "sasl_plaintext")
        .set("KAFKA_SASL_MECHANISM", "PLAIN")
        .set("KAFKA_SASL_USERNAME", "alice")
        .set("KAFKA_SASL_PASSWORD", "hunter2-secret");
    let output = setup.command(&["check-config"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["my-topic", "KAFKA_TOPIC", "alice", "127.0.0.1:9", "default"] {
        assert!(text.contains(expected), "{expected} in:\n{text}");
    }
    let everything = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!everything.contains("hunter2"), "a secret was printed:\n{everything}");
}
