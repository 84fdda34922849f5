//! Live latency while something else is wrong: Redis hangs, Redis is gone, a herd resumes from below the log again and
//! again. Each disturbance between two undisturbed runs, and a bare consumer beside every one of them.
//!
//! How to read it: `ratio` is p99 over the mean of the undisturbed runs before and after, median of the rounds; 1 means
//! that a live client notices nothing. `bare ratio` is the same of a consumer that has nothing to do with the gateway:
//! what the disturbance takes from everybody, because it keeps processor and broker busy. The clients of the herd run
//! at a lower priority, since in earnest they are on machines of their own.

use std::time::Duration;

use serde_json::Value;

use crate::events::{Template, paced};
use crate::gateway::Gateway;
use crate::process::Helper;
use crate::redis_server::RedisServer;
use crate::report::{Report, median, number, text};
use crate::times::of;
use crate::topic::Topic;
use crate::{Outcome, Setting, crowd};

/// The first records of a run find cold caches and are not measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// What the herd comes back from: this many records below the log.
pub struct Herd {
    pub clients: usize,
    pub records: u64,
}

struct Phase {
    live: Value,
    bare: Value,
    cpu: f64,
    /// Records per second that the herd got.
    herd: f64,
}

pub fn measure(
    setting: &Setting,
    clients: usize,
    rate: u64,
    length: Duration,
    rounds: u32,
    herd: &Herd,
) -> Outcome<Report> {
    let mut template = Template::new(setting.value_bytes)?;
    let topic = Topic::make(setting)?;
    let mut redis = RedisServer::start()?;
    let address = redis.address();
    topic.fill(&mut template, herd.records)?;
    let environment = [("REDIS_URL", redis.url()), ("DASHSTREAM_LOG_MAX_AGE", "5s".to_owned())];
    let mut gateway = Gateway::start_with(setting, &topic.name, true, &environment)?;
    gateway.wait_ready()?;
    // The newest chunk always stays.
    gateway.wait_for("the records of the herd below its log", |metrics| {
        let of = |name: &str| metrics.get(name).copied().unwrap_or(f64::NAN);
        of("dashstream_partition_consumed_records_total") >= herd.records as f64 && of("dashstream_log_chunks") <= 1.0
    })?;
    let mut live = crowd::start(gateway.address, clients)?;
    let partitions = setting.partitions.to_string();
    let arguments =
        ["--brokers", &setting.brokers, "floor-latency", &topic.name, "--partitions", &partitions].map(str::to_owned);
    let mut bare = Helper::start(&arguments)?;
    bare.answer()?;

    let mut phase = |name: &str, gateway: &Gateway, herd: Option<&mut Helper>| -> Outcome<Phase> {
        eprintln!("  {name}");
        let (first, records) = (gateway.process.cpu_seconds()?, &mut template);
        let taken = |herd: &mut Option<&mut Helper>| {
            herd.as_mut().map_or(Ok(0.0), |herd| herd.ask("records").map(|told| of(&told, "records")))
        };
        let mut herd = herd;
        let before = taken(&mut herd)?;
        let generated = std::thread::scope(|scope| {
            let production =
                scope.spawn(|| paced(&topic, records, rate, length + WARM_UP, "0").map_err(|error| error.to_string()));
            std::thread::sleep(WARM_UP);
            live.ask("count")?;
            bare.ask("count")?;
            production.join().map_err(|_| "the generator panicked")?.map_err(Into::<crate::Failure>::into)
        })?;
        let cpu = gateway.process.cpu_seconds()? - first;
        // The last of them are still on their way.
        std::thread::sleep(Duration::from_millis(500));
        let (live, bare) = (live.ask("count")?["latency"].clone(), bare.ask("count")?);
        let wanted = rate as f64 * length.as_secs_f64() * clients as f64 * 0.9;
        if of(&live, "samples") < wanted {
            eprintln!("    only {} of about {} deliveries came in time", of(&live, "samples"), generated.records);
        }
        let seconds = (length + WARM_UP).as_secs_f64();
        Ok(Phase { live, bare, cpu: cpu / seconds * 100.0, herd: (taken(&mut herd)? - before) / seconds })
    };

    let names = ["Redis hangs", "Redis is gone", "a herd resumes"];
    let mut quiet = Vec::new();
    let mut disturbed: [Vec<(Phase, f64, f64)>; 3] = Default::default();
    let p99 = |value: &Value| of(value, "p99");
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        let mut before = phase("undisturbed", &gateway, None)?;
        for (what, runs) in disturbed.iter_mut().enumerate() {
            let run = match what {
                0 => {
                    redis.process.signal(libc::SIGSTOP);
                    let run = phase(names[what], &gateway, None);
                    redis.process.signal(libc::SIGCONT);
                    run?
                }
                1 => {
                    drop(redis);
                    let run = phase(names[what], &gateway, None);
                    redis = RedisServer::start_at(address)?;
                    run?
                }
                _ => {
                    let mut crowd = crowd::start(gateway.address, herd.clients)?;
                    crowd.ask("yield")?;
                    crowd.ask("churn")?;
                    phase(names[what], &gateway, Some(&mut crowd))?
                }
            };
            gateway.wait_for("Redis back", |metrics| metrics.get("dashstream_redis_up") == Some(&1.0))?;
            let after = phase("undisturbed", &gateway, None)?;
            let ratio = |value: &dyn Fn(&Phase) -> f64| value(&run) * 2.0 / (value(&before) + value(&after));
            let ratios = (ratio(&|phase| p99(&phase.live)), ratio(&|phase| p99(&phase.bare)));
            runs.push((run, ratios.0, ratios.1));
            quiet.push(std::mem::replace(&mut before, after));
        }
        quiet.push(before);
    }
    drop((live, bare));
    gateway.stop()?;

    let mut report = Report::new(
        format!(
            "disturbed: {rate} records/s x {clients} live clients; herd: {} clients, {} records each; milliseconds",
            herd.clients, herd.records
        ),
        &["run", "p50", "p99", "p99.9", "max", "bare p99", "ratio", "bare ratio", "gateway cpu %", "herd records/s"],
    );
    let mut row = |name: &str, phases: Vec<&Phase>, ratios: Option<[f64; 2]>| {
        let middle = |value: &dyn Fn(&Phase) -> f64| median(phases.iter().map(|phase| value(phase)).collect());
        let [ratio, bare] = ratios.map_or([text(""), text("")], |ratios| ratios.map(|ratio| number(ratio, 2)));
        report.row(vec![
            text(name),
            number(middle(&|phase| of(&phase.live, "p50")), 3),
            number(middle(&|phase| of(&phase.live, "p99")), 3),
            number(middle(&|phase| of(&phase.live, "p99.9")), 3),
            number(middle(&|phase| of(&phase.live, "max")), 3),
            number(middle(&|phase| p99(&phase.bare)), 3),
            ratio,
            bare,
            number(middle(&|phase| phase.cpu), 0),
            number(middle(&|phase| phase.herd), 0),
        ]);
    };
    row("undisturbed", quiet.iter().collect(), None);
    for (name, runs) in names.iter().zip(&disturbed) {
        let ratios = [median(runs.iter().map(|run| run.1).collect()), median(runs.iter().map(|run| run.2).collect())];
        row(name, runs.iter().map(|run| &run.0).collect(), Some(ratios));
    }
    report.note(
        "Medians of the rounds. From the intended time of sending; linger.ms 0, acks all; everything on this machine.",
    );
    Ok(report)
}
