//! Replay: what a resume from the beginning costs the gateway, served from the log, from Redis and from Kafka, beside
//! a plain read of the same data and a bare send of the same bytes, turn by turn.
//!
//! How to read it: `of plain read` is what a plain read costs of what the gateway spends with one client (1 would be
//! reading and nothing else). `of read + send` is the plain read, once, and the bare sends to all clients; the rest is
//! what the gateway adds: judging, chunks, forms, the tiers' proofs. From the log there is nothing to read. What
//! several clients want at the same time is read once if they keep together, and `from cache` says how much was.

use crate::crowd;
use crate::events::Template;
use crate::gateway::Gateway;
use crate::process::Helper;
use crate::redis_server::RedisServer;
use crate::report::{Report, median, number, text};
use crate::times::of;
use crate::topic::Topic;
use crate::{Outcome, Protocol, Setting, Tier, clients};

/// Bytes of one bare send: the most that the gateway puts together for one write.
const SEND_BYTES: usize = 256 * 1024;
/// And of a frame in it: a chunk.
const FRAME_BYTES: usize = 64 * 1024;
/// Seconds of bare sending: enough that it costs more than a clock tick.
const SEND_SECONDS: u64 = 2;

struct Run {
    seconds: f64,
    cpu: f64,
    client_cpu: f64,
    read_cpu: f64,
    send_cpu: f64,
    records: f64,
    bytes: f64,
    cached: f64,
    elsewhere: f64,
}

pub fn measure(setting: &Setting, records: u64, tiers: &[Tier], counts: &[usize], rounds: u32) -> Outcome<Report> {
    let mut template = Template::new(setting.value_bytes)?;
    let topic = Topic::make(setting)?;
    eprintln!("writing {records} records of {} bytes", template.bytes());
    topic.fill(&mut template, records)?;
    let mut report = Report::new(
        format!("replay: {records} records of {} bytes, {} partitions, v2", template.bytes(), setting.partitions),
        &[
            "tier",
            "clients",
            "records/s and client",
            "MiB/s",
            "gateway cpu s",
            "deliveries/cpu-s",
            "client cpu %",
            "plain read cpu s",
            "bare send cpu s",
            "of plain read",
            "of read + send",
            "from cache %",
            "from elsewhere %",
        ],
    );
    for tier in tiers {
        let redis = if *tier == Tier::Redis { Some(RedisServer::start()?) } else { None };
        let gateway = start(setting, &topic, *tier, redis.as_ref(), records)?;
        for count in counts {
            let mut runs = Vec::new();
            for round in 0..rounds {
                eprintln!("{tier:?}, {count} clients, round {} of {rounds}", round + 1);
                runs.push(run(setting, &topic, &gateway, *tier, redis.as_ref(), *count, records)?);
            }
            let of = |value: &dyn Fn(&Run) -> f64| median(runs.iter().map(value).collect());
            let each =
                if *tier == Tier::Log || *count > 1 { text("") } else { number(of(&|run| run.read_cpu / run.cpu), 2) };
            report.row(vec![
                text(format!("{tier:?}").to_lowercase()),
                number(*count as f64, 0),
                number(of(&|run| run.records / run.seconds / *count as f64), 0),
                number(of(&|run| run.bytes / run.seconds / 1_048_576.0), 0),
                number(of(&|run| run.cpu), 2),
                number(of(&|run| run.records / run.cpu), 0),
                number(of(&|run| run.client_cpu / run.seconds * 100.0), 0),
                number(of(&|run| run.read_cpu), 2),
                number(of(&|run| run.send_cpu), 2),
                each,
                number(of(&|run| (run.read_cpu + run.send_cpu) / run.cpu), 2),
                number(of(&|run| run.cached * 100.0), 0),
                number(of(&|run| run.elsewhere * 100.0), 0),
            ]);
        }
        gateway.stop()?;
    }
    report
        .note("Medians. plain read: pipelined GETs of all entries, or librdkafka's batch call; values not looked at.");
    report
        .note("bare send: as many bytes to as many clients, from one buffer. from elsewhere: not from the tier named.");
    Ok(report)
}

/// A gateway that has read the topic, and kept it only where this tier will be asked.
fn start(setting: &Setting, topic: &Topic, tier: Tier, redis: Option<&RedisServer>, records: u64) -> Outcome<Gateway> {
    let name = |name: &'static str, value: &str| (name, value.to_owned());
    let mut environment = vec![name("DASHSTREAM_LOG_MAX_BYTES", "2GiB")];
    match tier {
        Tier::Log => environment.push(name("DASHSTREAM_LOG_MAX_AGE", "2h")),
        Tier::Redis | Tier::Kafka => environment.push(name("DASHSTREAM_LOG_MAX_AGE", "1s")),
    }
    if let Some(redis) = redis {
        environment.push(name("REDIS_URL", &redis.url()));
        // All of it may wait: it comes as fast as Kafka is read.
        environment.push(name("DASHSTREAM_REPLAY_REDIS_QUEUE_BYTES", "512MiB"));
        environment.push(name("DASHSTREAM_REPLAY_REDIS_MAX_BYTES", "8GiB"));
    }
    let mut gateway = Gateway::start_with(setting, &topic.name, true, &environment)?;
    gateway.wait_ready()?;
    let reached = |name: &'static str| {
        move |metrics: &std::collections::HashMap<String, f64>| {
            metrics.get(name).copied().unwrap_or(0.0) >= records as f64
        }
    };
    gateway.wait_for("read everything", reached("dashstream_partition_consumed_records_total"))?;
    if redis.is_some() {
        gateway.wait_for("everything in Redis", reached("dashstream_redis_next_offset"))?;
    }
    if tier != Tier::Log {
        // The newest chunk always stays.
        gateway.wait_for("an empty log", |metrics| {
            metrics.get("dashstream_log_chunks").is_some_and(|left| *left <= 1.0)
        })?;
    }
    Ok(gateway)
}

fn run(
    setting: &Setting,
    topic: &Topic,
    gateway: &Gateway,
    tier: Tier,
    redis: Option<&RedisServer>,
    count: usize,
    expected: u64,
) -> Outcome<Run> {
    let read = match (tier, redis) {
        (Tier::Log, _) => None,
        (_, Some(redis)) => Some(vec!["floor-redis".to_owned(), redis.url()]),
        (_, None) => Some(
            ["--brokers", &setting.brokers, "floor-drain", &topic.name, &expected.to_string()]
                .map(str::to_owned)
                .to_vec(),
        ),
    };
    let mut read_cpu = 0.0;
    if let Some(arguments) = read {
        let told = Helper::start(&arguments)?.answer()?;
        if of(&told, "records") < expected as f64 {
            return Err(format!("the plain read found {} of {expected} records", of(&told, "records")).into());
        }
        read_cpu = of(&told, "cpu");
    }
    let mut crowd = crowd::start(gateway.address, count)?;
    let before = (gateway.settled_metrics()?, gateway.process.cpu_seconds()?);
    let told = crowd.ask("resume all")?;
    let cpu = gateway.process.cpu_seconds()? - before.1;
    drop(crowd);
    let after = gateway.settled_metrics()?;
    let records = of(&told, "records");
    if records < (expected * count as u64) as f64 {
        return Err(format!("only {records} records came").into());
    }
    let asked = |tier: &str| {
        let name = format!("dashstream_replay_requests_total{{tier=\"{tier}\"}}");
        after.get(&name).unwrap_or(&0.0) - before.0.get(&name).unwrap_or(&0.0)
    };
    let [cache, redis, kafka] = ["cache", "redis", "kafka"].map(asked);
    let all = (cache + redis + kafka).max(1.0);
    let elsewhere = match tier {
        Tier::Log => (cache + redis + kafka).min(1.0),
        Tier::Redis => kafka / all,
        Tier::Kafka => redis / all,
    };
    let sent = bare_send(count)?;
    Ok(Run {
        seconds: of(&told, "seconds"),
        cpu,
        client_cpu: of(&told, "cpu"),
        read_cpu,
        send_cpu: of(&sent, "cpu") / of(&sent, "bytes") * of(&told, "bytes"),
        records,
        bytes: of(&told, "bytes"),
        cached: cache / all,
        elsewhere,
    })
}

fn bare_send(count: usize) -> Outcome<serde_json::Value> {
    let mut floor = Helper::start(&["floor-send".to_owned(), count.to_string()])?;
    let port = of(&floor.answer()?, "port");
    let _sink = clients::start_sink(format!("127.0.0.1:{port}"), count, Protocol::V2)?;
    floor.ask(&format!("{SEND_BYTES} {FRAME_BYTES} {SEND_SECONDS} 0"))
}
