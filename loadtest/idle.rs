//! Memory with idle connections: resident in the process, and in the kernel apart.

use std::time::Duration;

use crate::gateway::Gateway;
use crate::process::Helper;
use crate::report::{Report, number, text};
use crate::topic::Topic;
use crate::{Outcome, Setting};

/// Until allocators and the kernel have settled.
const SETTLE: Duration = Duration::from_secs(2);

pub fn measure(setting: &Setting, connections: &[usize]) -> Outcome<Report> {
    let topic = Topic::make(setting)?;
    let mut gateway = Gateway::start(setting, &topic.name, false)?;
    gateway.wait_ready()?;
    let mut report = Report::new(
        "idle connections",
        &["protocol", "connections", "RSS KiB", "KiB/connection", "TCP buffers KiB", "sockets in use"],
    );
    let mut sinks: Vec<Helper> = Vec::new();
    let mut open = 0;
    let mut base = None;
    for wanted in connections {
        if *wanted > open {
            let new = (wanted - open).to_string();
            let mut sink = Helper::start(&["sink".to_owned(), gateway.address.to_string(), new, "v1".to_owned()])?;
            sink.answer()?;
            sinks.push(sink);
            open = *wanted;
        }
        std::thread::sleep(SETTLE);
        let resident = gateway.process.resident_bytes()? as f64;
        let (zero, from) = *base.get_or_insert((resident, open));
        let per_connection =
            if open > from { number((resident - zero) / 1024.0 / (open - from) as f64, 2) } else { text("") };
        let (pages, sockets) = kernel()?;
        report.row(vec![
            text("v1"),
            number(open as f64, 0),
            number(resident / 1024.0, 0),
            per_connection,
            number(pages * 4.0, 0),
            number(sockets, 0),
        ]);
    }
    drop(sinks);
    gateway.stop()?;
    report.note("TCP buffers and sockets are the kernel's, of the whole machine, both ends of every connection.");
    Ok(report)
}

/// Pages of TCP buffers and sockets in use.
fn kernel() -> Outcome<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = stat.lines().find(|line| line.starts_with("TCP:")).ok_or("no TCP line in sockstat")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let of = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse::<f64>().ok()
    };
    Ok((of("mem").unwrap_or(f64::NAN), of("inuse").unwrap_or(f64::NAN)))
}
