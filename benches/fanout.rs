//! From records to sockets, each step beside its floor in the same run: building a chunk (floor: the same bytes
//! copied into one buffer), encoding its v2 form (floor: one copy of the storage), and fan-out of fresh chunks to a
//! hundred sockets (floor: bare sends of a buffer of the same size).
//!
//! `cargo bench --bench fanout -- --quick`. What a whole gateway reaches is measured by the loadtest example.

#![allow(clippy::let_underscore_must_use, reason = "the macros of criterion drop results")]
#![allow(clippy::disallowed_methods, reason = "the fences are the gateway's; a bench is not the gateway")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dashstream::log::{Chunk, ChunkBuilder, Form};
use dashstream::observe::stats::Gauge;
use dashstream::wire::framing::frame_plain;
use dashstream::wire::proto::dash_stream_message::Message as Payload;
use dashstream::wire::proto::{AttributeValue, DashStreamMessage, Event, Header, attribute_value};
use dashstream::wire::scan::{Scan, scan};
use dashstream::words::{Offset, PartitionId, StreamIdentity};
use prost::Message;

const CLIENTS: usize = 100;

/// Values of a few runs, about `bytes` long each.
fn values(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    let one = |number: usize| {
        let text = |text: String| AttributeValue { value: Some(attribute_value::Value::StringValue(text)) };
        let event = Event {
            header: Some(Header {
                message_id: vec![7; 16],
                timestamp_us: 1_763_000_000_123_456,
                tenant_id: "default".to_owned(),
                thread_id: format!("run-{:06}", number % 20),
                sequence: number as u64,
                r#type: 1,
                schema_version: 1,
                ..Header::default()
            }),
            event_type: 11,
            node_id: format!("node-{}", number % 5),
            attributes: [("text".to_owned(), text("x".repeat(bytes.saturating_sub(110))))].into(),
            duration_us: 12_345,
            llm_request_id: String::new(),
        };
        let mut value = Vec::new();
        frame_plain(&DashStreamMessage { message: Some(Payload::Event(event)) }.encode_to_vec(), &mut value);
        value
    };
    (0..count).map(one).collect()
}

fn builder() -> ChunkBuilder {
    let stream = StreamIdentity { cluster_id: "bench".to_owned(), topic: "bench".to_owned(), topic_id: [1; 16] };
    ChunkBuilder::new(PartitionId(3), Offset(1_000_000), u32::MAX / 2, Arc::new(stream), Arc::new(Gauge::default()))
}

fn build(builder: &mut ChunkBuilder, values: &[Vec<u8>], scanned: &mut Scan) -> Arc<Chunk> {
    for value in values {
        let body = &value[1..];
        scan(body, scanned).expect("our own event");
        let offset = builder.next();
        builder.deliver(offset, Some(1_763_000_000_123), value, scanned, body);
    }
    builder.finish(0).expect("records were delivered")
}

fn building(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("build a chunk of 200 records");
    for bytes in [200, 1000] {
        let values = values(200, bytes);
        group.throughput(Throughput::Elements(values.len() as u64));
        let (mut builder, mut scanned) = (builder(), Scan::default());
        group.bench_with_input(BenchmarkId::new("scan, index, frame", bytes), &values, |bencher, values| {
            bencher.iter(|| build(&mut builder, values, &mut scanned));
        });
        let mut scanned = Scan::default();
        group.bench_with_input(BenchmarkId::new("floor: scan and copy", bytes), &values, |bencher, values| {
            let mut buffer = Vec::new();
            bencher.iter(|| {
                buffer.clear();
                for value in values {
                    scan(black_box(&value[1..]), &mut scanned).expect("our own event");
                    buffer.extend_from_slice(value);
                }
                let chunk: Arc<[u8]> = buffer.as_slice().into();
                chunk
            });
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode a chunk of 200 records");
    for bytes in [200, 1000] {
        let values = values(200, bytes);
        let chunk = build(&mut builder(), &values, &mut Scan::default());
        group.throughput(Throughput::Elements(values.len() as u64));
        group.bench_with_input(BenchmarkId::new("v2", bytes), &chunk, |bencher, chunk| {
            bencher.iter(|| chunk.encode(Form::V2, chunk.from));
        });
        let storage = chunk.form(Form::V1).expect("v1 is the storage").to_vec();
        group.bench_with_input(BenchmarkId::new("floor: one copy", bytes), &storage, |bencher, storage| {
            bencher.iter(|| black_box(storage.as_slice()).to_vec());
        });
    }
    group.finish();
}

/// Connected pairs whose other ends are read by one thread until the first ends are gone.
fn pairs() -> (Vec<TcpStream>, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut near = Vec::new();
    let mut poll = mio::Poll::new().expect("a poll");
    let mut far = Vec::new();
    for number in 0..CLIENTS {
        near.push(TcpStream::connect(address).expect("a connection"));
        near[number].set_nodelay(true).expect("an option");
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_nonblocking(true).expect("an option");
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry().register(&mut stream, mio::Token(number), mio::Interest::READABLE).expect("registered");
        far.push(Some(stream));
    }
    let reader = std::thread::spawn(move || {
        let mut events = mio::Events::with_capacity(256);
        let mut buffer = vec![0; 256 * 1024];
        while far.iter().any(Option::is_some) {
            if poll.poll(&mut events, Some(Duration::from_secs(1))).is_err() {
                continue;
            }
            for event in &events {
                let slot = &mut far[event.token().0];
                let ended = slot.as_mut().is_none_or(|stream| {
                    loop {
                        match stream.read(&mut buffer) {
                            Ok(0) => return true,
                            Ok(_) => {}
                            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
                        }
                    }
                });
                if ended {
                    *slot = None;
                }
            }
        }
    });
    (near, reader)
}

fn fanning_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("fan out to {CLIENTS} sockets"));
    group.measurement_time(Duration::from_secs(4));
    let (mut sockets, reader) = pairs();
    for records in [1, 16, 64] {
        let values = values(records, 250);
        group.throughput(Throughput::Elements((records * CLIENTS) as u64));
        let (mut builder, mut scanned) = (builder(), Scan::default());
        let mut send = |bytes: &[u8]| {
            for socket in &mut sockets {
                socket.write_all(bytes).expect("the reader reads");
            }
        };
        let size = build(&mut builder, &values, &mut scanned).form(Form::V1).map_or(0, <[u8]>::len);
        for form in [Form::V1, Form::V2] {
            group.bench_with_input(BenchmarkId::new(format!("{form:?}"), records), &values, |bencher, values| {
                bencher.iter(|| {
                    let chunk = build(&mut builder, values, &mut scanned);
                    send(chunk.form(form).expect("made on demand"));
                });
            });
        }
        let buffer = vec![0; size];
        group.bench_with_input(BenchmarkId::new("floor: bare send", records), &buffer, |bencher, buffer| {
            bencher.iter(|| send(buffer));
        });
    }
    group.finish();
    drop(sockets);
    reader.join().expect("no panic");
}

criterion_group! {
    name = fanout;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = building, encoding, fanning_out
}
criterion_main!(fanout);
