//! Filters: what clients cost that each follow one run, beside as many that follow nothing that comes, at one rate of
//! events, beside a bare send of the same writes.
//!
//! How to read it: the cost of a client is `for clients`, the gateway's CPU time less that of the same events with
//! nobody connected. Were the cost clients x events, idle clients would cost what following ones do, and fifty times
//! the clients fifty times the time. It follows matches when `us/delivery` stays where it is from the first row with
//! deliveries to the last, and `idle` rows stay near nothing. The last row has few clients and as many deliveries as
//! the row with the most.

use std::time::{Duration, Instant};

use crate::events::{RUN, Template, paced};
use crate::gateway::Gateway;
use crate::process::Helper;
use crate::report::{Report, number, text};
use crate::times::of;
use crate::topic::Topic;
use crate::{Outcome, PATIENCE, Protocol, Setting, clients, crowd};

/// Nobody's name of a run.
const ABSENT: &str = "idle-";

struct Row {
    clients: usize,
    runs: u64,
    follow: &'static str,
}

struct Cost {
    cpu: f64,
    deliveries: f64,
    writes: f64,
    bytes: f64,
    told: serde_json::Value,
}

pub fn measure(setting: &Setting, counts: &[usize], rate: u64, length: Duration) -> Outcome<Report> {
    let topic = Topic::make(setting)?;
    let mut gateway = Gateway::start(setting, &topic.name, false)?;
    gateway.wait_ready()?;
    let most = counts.iter().copied().max().unwrap_or(1);
    let least = counts.iter().copied().min().unwrap_or(1);
    let mut rows = Vec::new();
    for clients in counts {
        rows.push(Row { clients: *clients, runs: most as u64, follow: ABSENT });
        rows.push(Row { clients: *clients, runs: most as u64, follow: RUN });
    }
    rows.push(Row { clients: least, runs: least as u64, follow: RUN });

    let mut report = Report::new(
        format!("filters: {rate} events/s in total over {most} runs, {} partitions, v2", setting.partitions),
        &[
            "clients",
            "runs",
            "follow",
            "gateway cpu %",
            "nobody cpu %",
            "for clients %",
            "deliveries/s",
            "per client and s",
            "expected %",
            "us/delivery",
            "bare send us",
            "ratio",
            "p50 ms",
            "p99 ms",
        ],
    );
    for row in rows {
        let what = if row.follow == RUN { "one run each" } else { "nothing" };
        eprintln!("{} clients, {what}, {} runs", row.clients, row.runs);
        let mut template = Template::of_runs(setting.value_bytes, row.runs)?;
        let nobody = cost(&gateway, &topic, &mut template, None, rate, length)?;
        let mut crowd = crowd::start(gateway.address, row.clients)?;
        crowd.ask(&format!("follow {}", row.follow))?;
        let cost = cost(&gateway, &topic, &mut template, Some(&mut crowd), rate, length)?;
        drop(crowd);
        let seconds = length.as_secs_f64();
        let expected = rate as f64 * seconds * row.clients as f64 / row.runs as f64;
        let extra = cost.cpu - nobody.cpu;
        let each = |cpu: f64| if cost.deliveries > 0.0 { number(cpu / cost.deliveries * 1e6, 2) } else { text("") };
        let bare = if cost.deliveries > 0.0 { bare_send(&cost, row.clients, length)? } else { f64::NAN };
        let latency = &cost.told["latency"];
        let or_nothing = |value: f64, digits| if cost.deliveries > 0.0 { number(value, digits) } else { text("") };
        report.row(vec![
            number(row.clients as f64, 0),
            number(row.runs as f64, 0),
            text(what),
            number(cost.cpu / seconds * 100.0, 1),
            number(nobody.cpu / seconds * 100.0, 1),
            number(extra / seconds * 100.0, 1),
            number(cost.deliveries / seconds, 0),
            number(cost.deliveries / seconds / row.clients as f64, 2),
            or_nothing(cost.deliveries / expected * 100.0, 1),
            each(extra),
            each(bare),
            or_nothing(bare / extra, 2),
            or_nothing(of(latency, "p50"), 2),
            or_nothing(of(latency, "p99"), 2),
        ]);
    }
    gateway.stop()?;
    report.note("nobody: the same events just before, without a client. bare send: as many writes of as many bytes to as many sockets.");
    report.note("p50, p99: from the intended time of sending, linger.ms 5.");
    Ok(report)
}

fn cost(
    gateway: &Gateway,
    topic: &Topic,
    template: &mut Template,
    mut crowd: Option<&mut Helper>,
    rate: u64,
    length: Duration,
) -> Outcome<Cost> {
    let before = (gateway.settled_metrics()?, gateway.process.cpu_seconds()?);
    paced(topic, template, rate, length, "5")?;
    // What is on its way arrives: the end is when nothing more comes.
    let deadline = Instant::now() + PATIENCE;
    let mut last = f64::NAN;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let Some(crowd) = &mut crowd else { break };
        let now = of(&crowd.ask("records")?, "records");
        if now == last || Instant::now() > deadline {
            break;
        }
        last = now;
    }
    let cpu = gateway.process.cpu_seconds()? - before.1;
    let told = crowd.map_or(Ok(serde_json::Value::Null), |crowd| crowd.ask("count"))?;
    let after = gateway.settled_metrics()?;
    let counted = |name: &str| after.get(name).unwrap_or(&0.0) - before.0.get(name).unwrap_or(&0.0);
    Ok(Cost {
        cpu,
        deliveries: told["records"].as_f64().unwrap_or(0.0),
        writes: counted("dashstream_writes_total"),
        bytes: counted("dashstream_delivered_bytes_total"),
        told,
    })
}

/// CPU seconds of as many bare writes.
fn bare_send(cost: &Cost, count: usize, length: Duration) -> Outcome<f64> {
    let mut floor = Helper::start(&["floor-send".to_owned(), count.to_string()])?;
    let port = of(&floor.answer()?, "port");
    let _sink = clients::start_sink(format!("127.0.0.1:{port}"), count, Protocol::V2)?;
    let bytes = (cost.bytes / cost.writes.max(1.0)).max(16.0);
    let rounds = (cost.writes / count as f64 / length.as_secs_f64()).ceil().max(1.0);
    let told = floor.ask(&format!("{bytes:.0} {bytes:.0} {} {rounds:.0}", length.as_secs()))?;
    Ok(of(&told, "cpu") / of(&told, "writes") * cost.writes)
}
