//! Fan-out: deliveries per gateway CPU-second, beside a bare send to the same number of clients, in the same minute,
//! with the bytes per write that the gateway was measured to write.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::clients::start_sink;
use crate::events::{Template, paced};
use crate::gateway::Gateway;
use crate::process::{Helper, own_cpu_seconds};
use crate::report::{Report, number};
use crate::topic::Topic;
use crate::{Outcome, PATIENCE, Protocol, Setting};

struct Sample {
    cpu: f64,
    sink_cpu: f64,
    own_cpu: f64,
    records: f64,
    bytes: f64,
    metrics: HashMap<String, f64>,
}

pub fn measure(
    setting: &Setting,
    clients: usize,
    rates: &[u64],
    length: Duration,
    protocol: Protocol,
) -> Outcome<Report> {
    let mut template = Template::new(setting.value_bytes)?;
    let topic = Topic::make(setting)?;
    let mut gateway = Gateway::start(setting, &topic.name, false)?;
    gateway.wait_ready()?;
    let (mut floor, mut floor_sink) = start_floor(clients, protocol)?;

    let mut report = Report::new(
        format!("fan-out: {clients} clients of {protocol:?}, values of {} bytes", template.bytes()),
        &[
            "records/s",
            "deliveries/s",
            "missing",
            "gateway cpu %",
            "of it ingest %",
            "sink cpu %",
            "generator cpu %",
            "bytes/write",
            "records/write",
            "deliveries/cpu-s",
            "fan-out alone",
            "floor",
            "ratio alone",
            "ratio whole",
        ],
    );
    for rate in rates {
        eprintln!("{rate} records/s for {} s with clients, and again with the floor in their place", length.as_secs());
        let mut sink = start_sink(gateway.address.to_string(), clients, protocol)?;
        let before = sample(&gateway, &mut sink)?;
        let start = Instant::now();
        let generated = paced(&topic, &mut template, *rate, length, "5")?;
        let expected = generated.records as f64 * clients as f64;
        let seconds = wait_for(&mut sink, before.records + expected, start)?;
        let after = sample(&gateway, &mut sink)?;
        drop(sink);
        let of = |name: &str| after.metrics.get(name).unwrap_or(&0.0) - before.metrics.get(name).unwrap_or(&0.0);
        let deliveries = after.records - before.records;
        let cpu = after.cpu - before.cpu;
        let writes = of("dashstream_writes_total").max(1.0);
        let (bytes_per_write, records_per_write) = ((after.bytes - before.bytes) / writes, deliveries / writes);

        // The same once more without clients: what is left is the ingest, and the floor sends meanwhile what the
        // gateway sent before, so that both had the same neighbours on the machine.
        let frame = (bytes_per_write / records_per_write.max(1.0)).max(8.0);
        let rounds = (writes / clients as f64 / seconds).ceil().max(1.0);
        let question = format!("{:.0} {frame:.0} {} {rounds:.0}", bytes_per_write.max(16.0), length.as_secs());
        let idle_cpu = gateway.process.cpu_seconds()?;
        let answer = std::thread::scope(|scope| {
            let floor = scope.spawn(|| floor.ask(&question).map_err(|error| error.to_string()));
            paced(&topic, &mut template, *rate, length, "5")?;
            floor.join().map_err(|_| "the floor panicked")?.map_err(Into::<crate::Failure>::into)
        })?;
        let ingest = gateway.process.cpu_seconds()? - idle_cpu;
        let of = |key: &str| answer[key].as_f64().unwrap_or(f64::NAN);
        let floor = of("bytes") / bytes_per_write.max(16.0) / of("cpu") * records_per_write;
        let alone = deliveries / (cpu - ingest).max(0.001);
        let share = |cpu: f64| number(cpu / seconds * 100.0, 0);
        report.row(vec![
            number(*rate as f64, 0),
            number(deliveries / seconds, 0),
            number(expected - deliveries, 0),
            share(cpu),
            share(ingest),
            share(after.sink_cpu - before.sink_cpu),
            share(after.own_cpu - before.own_cpu),
            number(bytes_per_write, 0),
            number(records_per_write, 1),
            number(deliveries / cpu, 0),
            number(alone, 0),
            number(floor, 0),
            number(alone / floor, 2),
            number(deliveries / cpu / floor, 2),
        ]);
    }
    floor_sink.ask("")?;
    drop((floor, floor_sink));
    gateway.stop()?;
    report.note("missing: told as gaps to clients that fell off the log, or not there when nothing more came.");
    report.note("ingest: the same records without a client. fan-out alone: the gateway's CPU less that.");
    report.note("floor: bare sends to as many clients, with as many bytes per write, at the gateway's pace, beside the same ingest.");
    report.note("A sink or generator above 85 % of a core limits the run.");
    Ok(report)
}

fn start_floor(clients: usize, protocol: Protocol) -> Outcome<(Helper, Helper)> {
    let mut floor = Helper::start(&["floor-send".to_owned(), clients.to_string()])?;
    let port = floor.answer()?["port"].as_u64().ok_or("the floor names no port")?;
    let sink = start_sink(format!("127.0.0.1:{port}"), clients, protocol)?;
    Ok((floor, sink))
}

fn sample(gateway: &Gateway, sink: &mut Helper) -> Outcome<Sample> {
    let counts = sink.ask("")?;
    let of = |key: &str| counts[key].as_f64().unwrap_or(0.0);
    Ok(Sample {
        cpu: gateway.process.cpu_seconds()?,
        sink_cpu: of("cpu"),
        own_cpu: own_cpu_seconds(),
        records: of("records"),
        bytes: of("bytes"),
        // Asked last: it waits for a fresh body while nothing is sent.
        metrics: gateway.settled_metrics()?,
    })
}

/// Until the sink has so many records, or gets no more for two seconds. The seconds until the last arrival.
fn wait_for(sink: &mut Helper, records: f64, start: Instant) -> Outcome<f64> {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut at) = (-1.0, Instant::now());
    while Instant::now() < deadline && at.elapsed() < Duration::from_secs(2) {
        let now = sink.ask("")?["records"].as_f64().unwrap_or(0.0);
        if now > last {
            (last, at) = (now, Instant::now());
        }
        if now >= records {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((at - start).as_secs_f64())
}
