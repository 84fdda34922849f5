//! Latency from the intended time of sending to a client, beside a bare consumer of the same topic, turn by turn.
//! Open loop: a record that waits because others were slow counts from when it should have been sent.

use std::io::BufRead;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::json;

use crate::clients::Clients;
use crate::events::{Generated, Template, paced, stamps};
use crate::gateway::Gateway;
use crate::process::{clock_ns, fine_timers};
use crate::report::{Report, number, text};
use crate::times::Times;
use crate::topic::Topic;
use crate::{Outcome, PATIENCE, Protocol, Setting};

/// The first records of a run find cold caches and are not measured.
const WARM_UP: Duration = Duration::from_secs(1);

pub fn measure(
    setting: &Setting,
    clients: usize,
    rate: u64,
    length: Duration,
    rounds: u32,
    protocol: Protocol,
) -> Outcome<Report> {
    let mut template = Template::new(setting.value_bytes)?;
    let topic = Topic::make(setting)?;
    let mut gateway = Gateway::start(setting, &topic.name, false)?;
    gateway.wait_ready()?;
    let [mut through, mut bare, mut late] =
        [(); 3].map(|()| Histogram::<u64>::new(3).unwrap_or_else(|_| unreachable!()));
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        let (times, generated) = through_gateway(&gateway, &topic, &mut template, clients, rate, length, protocol)?;
        through.add(times)?;
        late.add(generated.lateness)?;
        bare.add(through_consumer(setting, &topic, &mut template, rate, length)?)?;
    }
    gateway.stop()?;
    let mut report = Report::new(
        format!("latency: {rate} records/s x {clients} clients of {protocol:?}, milliseconds"),
        &["path", "samples", "p50", "p90", "p99", "p99.9", "p99.99", "max"],
    );
    for (name, times) in
        [("produce to client", &through), ("produce to bare consumer", &bare), ("generator late", &late)]
    {
        let at = |quantile: f64| number(times.value_at_quantile(quantile) as f64 / 1e6, 3);
        report.row(vec![
            text(name),
            number(times.len() as f64, 0),
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            at(0.9999),
            number(times.max() as f64 / 1e6, 3),
        ]);
    }
    report.note("From the intended time of sending; producer with linger.ms 0 and acks all; generator, clients and broker on this machine.");
    Ok(report)
}

fn through_gateway(
    gateway: &Gateway,
    topic: &Topic,
    template: &mut Template,
    count: usize,
    rate: u64,
    length: Duration,
    protocol: Protocol,
) -> Outcome<(Histogram<u64>, Generated)> {
    let mut clients = Clients::connect(gateway.address, count, protocol)?;
    let done = Arc::new(AtomicBool::new(false));
    let until = done.clone();
    let from = clock_ns() + WARM_UP.as_nanos() as u64;
    let expected = rate * (length + WARM_UP).as_secs() * count as u64;
    let reader = std::thread::spawn(move || -> Result<Histogram<u64>, String> {
        fine_timers();
        let mut times = Histogram::<u64>::new(3).map_err(|error| error.to_string())?;
        let (mut seen, deadline) = (0, clock_ns() + (length + WARM_UP + PATIENCE).as_nanos() as u64);
        while seen < expected && clock_ns() < deadline {
            let read = clients.turn(Duration::from_millis(50), |_, payload| {
                let now = clock_ns();
                stamps(payload, |intended| {
                    seen += 1;
                    if intended >= from {
                        times.record(now.saturating_sub(intended)).ok();
                    }
                });
            });
            read.map_err(|error| error.to_string())?;
            if until.load(Ordering::Relaxed) && clients.open < count {
                return Err("the gateway closed clients".to_owned());
            }
        }
        if seen < expected { Err(format!("only {seen} of {expected} deliveries came")) } else { Ok(times) }
    });
    let generated = paced(topic, template, rate, length + WARM_UP, "0")?;
    done.store(true, Ordering::Relaxed);
    let times = reader.join().map_err(|_| "the reading thread failed")??;
    Ok((times, generated))
}

fn through_consumer(
    setting: &Setting,
    topic: &Topic,
    template: &mut Template,
    rate: u64,
    length: Duration,
) -> Outcome<Histogram<u64>> {
    let consumer = consumer_at_the_end(&setting.brokers, &topic.name, setting.partitions)?;
    let from = clock_ns() + WARM_UP.as_nanos() as u64;
    let until = from + (length + WARM_UP).as_nanos() as u64;
    let wanted = rate * length.as_secs();
    let reader = std::thread::spawn(move || -> Result<Histogram<u64>, String> {
        fine_timers();
        let mut times = Histogram::<u64>::new(3).map_err(|error| error.to_string())?;
        while times.len() < wanted && clock_ns() < until {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
            let now = clock_ns();
            stamps(message.payload().unwrap_or_default(), |intended| {
                if intended >= from {
                    times.record(now.saturating_sub(intended)).ok();
                }
            });
        }
        Ok(times)
    });
    paced(topic, template, rate, length + WARM_UP, "0")?;
    Ok(reader.join().map_err(|_| "the reading thread failed")??)
}

/// A bare consumer that will be given what comes from now on.
fn consumer_at_the_end(brokers: &str, topic: &str, partitions: i32) -> Outcome<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{}-bare", topic))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::End)?;
    }
    consumer.assign(&list)?;
    // The end is looked up in the background; what is produced before that is not seen.
    let begun = clock_ns();
    while consumer.position()?.elements().iter().any(|part| part.offset() == Offset::Invalid)
        && clock_ns() - begun < 2_000_000_000
    {
        consumer.poll(Duration::from_millis(20));
    }
    Ok(consumer)
}

/// A child of a measurement: a bare consumer, which answers each line with the latencies since the last.
pub fn bare(brokers: &str, topic: &str, partitions: i32) -> Outcome<()> {
    fine_timers();
    let consumer = consumer_at_the_end(brokers, topic, partitions)?;
    println!("{}", json!({ "topic": topic }));
    let times = Arc::new(Mutex::new(Times::new()?));
    let asked = times.clone();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines() {
            println!("{}", asked.lock().map_or(serde_json::Value::Null, |mut times| times.take()));
        }
        std::process::exit(0);
    });
    loop {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
        let now = clock_ns();
        let mut times = times.lock().map_err(|_| "the other thread panicked")?;
        stamps(message.payload().unwrap_or_default(), |intended| times.record(now.saturating_sub(intended)));
    }
}
