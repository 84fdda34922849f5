//! Resume latency of a short absence: from sending Resume to the first replayed record and to `live`, one client at a
//! time and all at once, beside a server that has the same bytes ready, turn by turn.
//!
//! How to read it: one at a time is what one returning client waits. All at once is bounded by moving that many bytes
//! through two sockets each and reading them here, which is what the bare server shows. Where the processors are shared
//! with others, the server's CPU time per client is the ratio to trust: waiting is not in it. The gateway also sends
//! everybody what is produced meanwhile.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::events::{Template, paced};
use crate::gateway::Gateway;
use crate::process::Process;
use crate::report::{Report, median, number, text};
use crate::topic::Topic;
use crate::{Outcome, Setting, bare_server, crowd, times};

pub fn measure(setting: &Setting, clients: usize, missed: u64, rate: u64, rounds: u32) -> Outcome<Report> {
    let mut template = Template::new(setting.value_bytes)?;
    let topic = Topic::make(setting)?;
    let mut gateway = Gateway::start(setting, &topic.name, true)?;
    gateway.wait_ready()?;
    // What will have been missed is in the log.
    let ahead = (missed * 4).max(1000);
    topic.fill(&mut template, ahead)?;
    gateway.wait_for("the first records", |metrics| {
        metrics.get("dashstream_partition_consumed_records_total").is_some_and(|read| *read >= ahead as f64)
    })?;
    let (server, floor) = bare_server::start(missed, setting.value_bytes, setting.partitions)?;

    // While it is measured, production goes on.
    let stop = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        let production = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                paced(&topic, &mut template, rate, Duration::from_secs(1), "5").map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        });
        let told = turns([(&gateway.process, gateway.address), (&server.process, floor)], clients, missed, rounds);
        stop.store(true, Ordering::Relaxed);
        production.join().map_err(|_| "the generator panicked")??;
        told
    })?;
    gateway.stop()?;

    let mut report = Report::new(
        format!(
            "resume: {clients} clients, each {missed} records of {} bytes behind, {rate} records/s meanwhile, milliseconds",
            template.bytes()
        ),
        &["path", "until", "p50", "p90", "p99", "max", "server cpu us/client"],
    );
    let quantiles = ["p50", "p90", "p99", "max"];
    let of =
        |told: &[Value], until: &str, key: &str| median(told.iter().map(|one| times::of(&one[until], key)).collect());
    let cpu =
        |told: &[Value]| median(told.iter().map(|one| times::of(one, "server_cpu") / clients as f64 * 1e6).collect());
    for (way, [gateway, floor]) in ["one at a time", "all at once"].into_iter().zip(&told) {
        for until in ["first", "live"] {
            for (path, told) in [("gateway", gateway), ("bare server", floor)] {
                let cells = quantiles.map(|key| number(of(told, until, key), 3));
                let cpu = if until == "live" { number(cpu(told), 0) } else { text("") };
                let head = [text(format!("{way}: {path}")), text(until)];
                report.row(head.into_iter().chain(cells).chain([cpu]).collect());
            }
            let ratios = quantiles.map(|key| number(of(gateway, until, key) / of(floor, until, key), 2));
            let cpu = if until == "live" { number(cpu(gateway) / cpu(floor), 2) } else { text("") };
            let head = [text(format!("{way}: ratio")), text(until)];
            report.row(head.into_iter().chain(ratios).chain([cpu]).collect());
        }
    }
    report.note("Medians of the rounds. first: the first replayed record is read. live: everything missed is, and `live` after it.");
    report.note("All clients are one process on this machine; it reads every byte that it measures.");
    Ok(report)
}

/// What came of each way and side, by round.
fn turns(
    sides: [(&Process, SocketAddr); 2],
    clients: usize,
    missed: u64,
    rounds: u32,
) -> Outcome<[[Vec<Value>; 2]; 2]> {
    let mut told: [[Vec<Value>; 2]; 2] = Default::default();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (side, (process, address)) in sides.into_iter().enumerate() {
            let mut alone = crowd::start(address, 0)?;
            told[0][side].push(costing(process, || alone.ask(&format!("alone {missed} {clients}")))?);
            let mut herd = crowd::start(address, clients)?;
            told[1][side].push(costing(process, || herd.ask(&format!("resume {missed}")))?);
        }
    }
    Ok(told)
}

/// With the CPU time that it cost the server, as `server_cpu`.
fn costing(server: &Process, act: impl FnOnce() -> Outcome<Value>) -> Outcome<Value> {
    let before = server.cpu_seconds()?;
    let mut told = act()?;
    told["server_cpu"] = (server.cpu_seconds()? - before).into();
    Ok(told)
}
