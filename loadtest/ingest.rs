//! Ingest: records per CPU-second from Kafka into the log, with no client, beside a bare consumer of the same topic.

use std::time::{Duration, Instant};

use crate::events::Template;
use crate::gateway::Gateway;
use crate::process::Helper;
use crate::report::{Report, median, number, text};
use crate::topic::Topic;
use crate::{Outcome, PATIENCE, Setting};

struct Run {
    records: f64,
    cpu: f64,
    busy: f64,
}

impl Run {
    fn per_cpu_second(&self) -> f64 {
        self.records / self.cpu
    }
}

pub fn measure(setting: &Setting, records: u64, rounds: u32) -> Outcome<Report> {
    let mut template = Template::new(setting.value_bytes)?;
    let topic = Topic::make(setting)?;
    eprintln!("writing {records} records of {} bytes", template.bytes());
    topic.fill(&mut template, records)?;
    let mut report = Report::new(
        format!(
            "ingest: {records} records of {} bytes, {} partitions, no client",
            template.bytes(),
            setting.partitions
        ),
        &["run", "cpu s", "busy s", "records/s", "records/cpu-s"],
    );
    let (mut gateways, mut floors) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (name, run, all) in [
            ("floor", floor(setting, &topic, records)?, &mut floors),
            ("gateway", gateway(setting, &topic, records)?, &mut gateways),
        ] {
            report.row(vec![
                text(name),
                number(run.cpu, 2),
                number(run.busy, 2),
                number(run.records / run.busy, 0),
                number(run.per_cpu_second(), 0),
            ]);
            all.push(run);
        }
    }
    let of = |runs: &[Run]| median(runs.iter().map(Run::per_cpu_second).collect());
    let ratio = of(&gateways) / of(&floors);
    report.row(vec![text("ratio"), text(""), text(""), text(""), number(ratio, 2)]);
    report.note("cpu: the whole process from its start. busy: from the first record to the last.");
    report.note("floor: rd_kafka_consume_batch_queue over all partitions, one thread, values not looked at.");
    Ok(report)
}

fn floor(setting: &Setting, topic: &Topic, records: u64) -> Outcome<Run> {
    let arguments = ["--brokers", &setting.brokers, "floor-drain", &topic.name, &records.to_string()];
    let mut helper = Helper::start(&arguments.map(str::to_owned))?;
    let answer = helper.answer()?;
    let read = answer["records"].as_f64().unwrap_or(0.0);
    if read < records as f64 {
        return Err(format!("the bare consumer read {read} of {records} records").into());
    }
    let of = |key: &str| answer[key].as_f64().unwrap_or(f64::NAN);
    Ok(Run { records: read, cpu: of("cpu"), busy: of("busy") })
}

/// The end is when the metrics have counted every record; the moment is found in samples of CPU time, which is finer
/// than the second that bodies may be old.
fn gateway(setting: &Setting, topic: &Topic, records: u64) -> Outcome<Run> {
    const SAMPLE: Duration = Duration::from_millis(20);
    let mut gateway = Gateway::start(setting, &topic.name, true)?;
    let mut samples = vec![(Instant::now(), 0.0)];
    let deadline = Instant::now() + PATIENCE;
    let mut looked = Instant::now();
    loop {
        std::thread::sleep(SAMPLE);
        if gateway.process.has_ended() || Instant::now() > deadline {
            gateway.wait_ready()?;
            return Err("the gateway did not read the topic in time".into());
        }
        samples.push((Instant::now(), gateway.process.cpu_seconds()?));
        if looked.elapsed() > Duration::from_millis(500) {
            looked = Instant::now();
            let consumed =
                gateway.metrics().ok().and_then(|all| all.get("dashstream_partition_consumed_records_total").copied());
            if consumed.unwrap_or(0.0) >= records as f64 {
                break;
            }
        }
    }
    gateway.stop()?;
    // Busy is a window of five samples in which at least a fifth of one core was used.
    let busy: Vec<usize> = (5..samples.len())
        .filter(|index| {
            let (from, to) = (samples[index - 5], samples[*index]);
            (to.1 - from.1) / (to.0 - from.0).as_secs_f64() > 0.2
        })
        .collect();
    let (Some(first), Some(last)) = (busy.first(), busy.last()) else {
        return Err("the gateway was never busy".into());
    };
    let (start, end) = (samples[first - 5], samples[*last]);
    Ok(Run { records: records as f64, cpu: end.1, busy: (end.0 - start.0).as_secs_f64() })
}
