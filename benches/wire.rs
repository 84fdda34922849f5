//! Decoding one event of 190 and of 876 bytes: the scan beside its floor (the same checks, nothing extracted), prost's
//! full decode, and decompression with a kept against a new zstd context.
//!
//! `cargo bench --bench wire -- --quick`

#![allow(clippy::let_underscore_must_use, reason = "the macros of criterion drop results")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dashstream::wire::framing::Framer;
use dashstream::wire::inflate::Inflater;
use dashstream::wire::json::events_json;
use dashstream::wire::proto::dash_stream_message::Message as Payload;
use dashstream::wire::proto::{AttributeValue, DashStreamMessage, Event, Header, attribute_value};
use dashstream::wire::scan::{Scan, scan, validate};
use prost::Message;

/// A node event with `attributes` attributes, the last of them as long as it takes to have `bytes` in all.
fn event(attributes: usize, bytes: usize) -> Vec<u8> {
    let value = |index: usize| match index % 4 {
        0 => attribute_value::Value::StringValue(format!("value-{index}")),
        1 => attribute_value::Value::IntValue(index as i64 * 1_000),
        2 => attribute_value::Value::FloatValue(index as f64 / 3.0),
        _ => attribute_value::Value::BoolValue(true),
    };
    let mut event = Event {
        header: Some(Header {
            message_id: (0..16).map(|index| index * 13).collect(),
            timestamp_us: 1_763_000_000_123_456,
            tenant_id: "default".to_owned(),
            thread_id: "run-000123".to_owned(),
            sequence: 4_711,
            r#type: 1,
            schema_version: 1,
            ..Header::default()
        }),
        event_type: 11,
        node_id: "plan".to_owned(),
        attributes: (0..attributes)
            .map(|index| (format!("attribute_{index}"), AttributeValue { value: Some(value(index)) }))
            .collect(),
        duration_us: 12_345,
        llm_request_id: String::new(),
    };
    let mut filler = 0;
    loop {
        let value = Some(attribute_value::Value::StringValue("lorem ipsum ".chars().cycle().take(filler).collect()));
        event.attributes.insert("text".to_owned(), AttributeValue { value });
        let body = DashStreamMessage { message: Some(Payload::Event(event.clone())) }.encode_to_vec();
        if body.len() >= bytes {
            return body;
        }
        filler += 1;
    }
}

fn decode(criterion: &mut Criterion) {
    for body in [event(3, 190), event(16, 876)] {
        let bytes = body.len();
        let mut group = criterion.benchmark_group("decode");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("floor: checks only", bytes), |bencher| {
            bencher.iter(|| validate(black_box(&body)));
        });
        let mut scanned = Scan::default();
        group.bench_function(BenchmarkId::new("scan", bytes), |bencher| {
            bencher.iter(|| {
                let verdict = scan(black_box(&body), &mut scanned);
                black_box(&scanned);
                verdict
            });
        });
        group.bench_function(BenchmarkId::new("prost", bytes), |bencher| {
            bencher.iter(|| DashStreamMessage::decode(black_box(body.as_slice())));
        });
        let mut text = Vec::new();
        group.bench_function(BenchmarkId::new("json", bytes), |bencher| {
            bencher.iter(|| {
                text.clear();
                events_json(black_box(&body), 1 << 20, &mut text)
            });
        });
        group.finish();
    }
}

fn inflate(criterion: &mut Criterion) {
    for body in [event(3, 190), event(16, 876)] {
        let bytes = body.len();
        let mut value = Vec::new();
        Framer::new(0, 3).frame_encoded(&body, &mut value);
        let mut group = criterion.benchmark_group("inflate");
        group.throughput(Throughput::Bytes(bytes as u64));
        let mut inflater = Inflater::new(10 << 20);
        group.bench_function(BenchmarkId::new("kept context", bytes), |bencher| {
            bencher.iter(|| inflater.body(black_box(&value)).map(|body| body.bytes().len()));
        });
        group.bench_function(BenchmarkId::new("new context", bytes), |bencher| {
            bencher.iter(|| Inflater::new(10 << 20).body(black_box(&value)).map(|body| body.bytes().len()));
        });
        group.finish();
    }
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(20)
        .without_plots()
}

criterion_group! { name = benches; config = quick(); targets = decode, inflate }
criterion_main!(benches);
