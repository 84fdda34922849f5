//! The second tier: resumes from before the log are served from Redis while it is there, and from Kafka whatever
//! happens to it. Killed, wiped, hung, full, or behind a wrong password: live clients receive every record meanwhile, and
//! resumes lose and repeat nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::broker::{Broker, scratch};
use crate::harness::corpus;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::json::{JsonClient, decimal};
use crate::harness::kafka::{Kafka, Producer};
use crate::harness::ledger::Ledger;
use crate::harness::redis::Redis;
use crate::harness::secured::make_certificates;
use crate::harness::v2::{V2Client, V2Event};
use crate::harness::{ports, wait};

const LIMIT: Duration = Duration::from_secs(180);
const PARTITIONS: u32 = 4;

struct Stage {
    producer: Producer,
    gateway: Gateway,
    live: V2Client,
    ledger: Ledger,
    length: u64,
}

impl Stage {
    fn start(url: &str) -> Self {
        Self::of(&Kafka::shared(), url, &[])
    }

    fn of(kafka: &Kafka, url: &str, settings: &[(&str, &str)]) -> Self {
        let topic = kafka.topic("redis", PARTITIONS as i32);
        let setup = Setup::new(kafka, &topic)
            .set("WEBSOCKET_MAX_PAYLOAD_BYTES", 1 << 20)
            // The log moves on by age, and the queue towards Redis holds all that is produced here, so that nothing is
            // left to Kafka for want of room, however slow the machine is.
            .set("DASHSTREAM_LOG_MAX_BYTES", "128MiB")
            .set("DASHSTREAM_LOG_MAX_AGE", "5s")
            .set("DASHSTREAM_REPLAY_REDIS_QUEUE_BYTES", "32MiB")
            .set("DASHSTREAM_COLD_MAX_BYTES", "16MiB")
            // The live client does not read while others come back, and is not to be taken for one that is gone.
            .set("DASHSTREAM_CLIENT_IDLE_TIMEOUT", "1h")
            .set("REDIS_URL", url);
        let gateway = settings.iter().fold(setup, |setup, (key, value)| setup.set(key, value)).start();
        let live = V2Client::connect(gateway.ws());
        Self { producer: kafka.producer(&topic), gateway, live, ledger: Ledger::new(), length: 0 }
    }

    /// So many more per partition, all of which the live client receives. In portions that the small log holds: a
    /// client that takes less than arrives is another promise.
    fn produce(&mut self, count: u64) {
        for _ in 0..count / 250 {
            for index in self.length..self.length + 250 {
                (0..PARTITIONS)
                    .for_each(|partition| self.producer.send(partition, &corpus::ordinary(partition, index)));
            }
            self.producer.flush();
            self.length += 250;
            let lengths = [self.length; PARTITIONS as usize];
            self.live.follow(&mut self.ledger, LIMIT, |_, _, _| {}, |ledger, _| ledger.reached(&lengths));
        }
        self.ledger.assert_all("the live client", &[self.length; PARTITIONS as usize]);
    }

    /// A client that has next to nothing gets all of it, every byte.
    fn resume(&self, who: &str) {
        let mut client = V2Client::connect(self.gateway.ws());
        client.resume(&(0..PARTITIONS).map(|partition| (partition, 9)).collect::<BTreeMap<_, _>>());
        let mut ledger = Ledger::new();
        let check = |partition: u32, offset: u64, value: &[u8]| {
            assert!(value == corpus::ordinary(partition, offset), "{who}: partition {partition}, offset {offset}");
        };
        client.follow(&mut ledger, LIMIT, check, |_, others| {
            others.iter().any(|event| matches!(event, V2Event::Live { resume: 1, .. }))
        });
        assert_eq!(ledger.gaps, [], "{who}: nothing is lost while Kafka has it");
        for partition in 0..PARTITIONS {
            assert_eq!(ledger.missing(partition, 10, self.length), [0u64; 0], "{who}: partition {partition}");
        }
    }

    /// The same, and it was Kafka that served it.
    fn resume_from_kafka(&self, who: &str) {
        let before = self.asked("kafka");
        self.resume(who);
        // Numbers are rendered once a second.
        wait::until_true("what Kafka served to be counted", LIMIT, || self.asked("kafka") > before);
    }

    fn asked(&self, tier: &str) -> f64 {
        self.gateway.metrics().sum("dashstream_replay_requests_total", &[&format!("tier=\"{tier}\"")])
    }

    fn up(&self, expected: f64) {
        wait::until_true("redis to be seen", LIMIT, || {
            self.gateway.metrics().all("dashstream_redis_up", &[]) == [expected]
        });
        let health = self.gateway.health();
        assert_eq!(health["tiers"]["redis"]["state"], if expected > 0.0 { "up" } else { "down" }, "{health}");
        assert_eq!(self.gateway.get("/ready").status, 200, "Redis is no condition for readiness");
    }

    fn all_is_in_redis(&self) {
        wait::until_true("everything to be in Redis", LIMIT, || {
            let next = self.gateway.metrics().all("dashstream_redis_next_offset", &[]);
            next.iter().sum::<f64>() >= (u64::from(PARTITIONS) * self.length) as f64
        });
    }

    fn log_has_moved_on(&self) {
        wait::until_true("the log to have moved on", LIMIT, || {
            let hello = JsonClient::connect(self.gateway.ws()).hello;
            hello["partitions"].as_array().is_some_and(|list| list.iter().all(|one| decimal(&one["oldest"]) > 500))
        });
    }
}

#[test]
fn it_serves_what_left_the_log_and_is_missed_by_nobody() {
    let address = ports::free_address();
    let redis = Redis::start(address, &[]);
    let mut stage = Stage::start(&format!("redis://{address}"));
    stage.up(1.0);
    stage.produce(10_000);
    stage.log_has_moved_on();
    stage.all_is_in_redis();
    stage.resume("from Redis");
    // Numbers are rendered once a second.
    wait::until_true("what Redis served to be counted", LIMIT, || stage.asked("redis") > 0.0);
    assert_eq!(stage.asked("kafka"), 0.0, "it was served from Redis alone");
    // Wiped: it is a cache.
    redis.say("FLUSHALL");
    stage.produce(500);
    stage.resume_from_kafka("after it was wiped");
    // Hung: nobody waits for it.
    redis.signal(libc::SIGSTOP);
    stage.produce(500);
    stage.resume_from_kafka("while it hangs");
    stage.up(0.0);
    redis.signal(libc::SIGCONT);
    stage.up(1.0);
    // Killed, and back, empty.
    drop(redis);
    stage.produce(500);
    stage.up(0.0);
    stage.resume_from_kafka("without it");
    let _redis = Redis::start(address, &[]);
    stage.up(1.0);
    stage.produce(500);
    stage.resume("when it is back");
}

#[test]
fn full_or_refusing_it_hurts_nobody() {
    let full = Redis::start(ports::free_address(), &["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"]);
    let mut stage = Stage::start(&format!("redis://{}", full.address));
    stage.produce(10_000);
    stage.log_has_moved_on();
    stage.resume_from_kafka("beside a full one");
    wait::until_true("refused writes to be counted", LIMIT, || {
        stage.gateway.metrics().sum("replay_buffer_redis_write_failures_total", &[]) > 0.0
    });
    let closed = Redis::start(ports::free_address(), &["--requirepass", "right"]);
    let mut stage = Stage::start(&format!("redis://:sesame@{}", closed.address));
    stage.produce(10_000);
    stage.log_has_moved_on();
    stage.up(0.0);
    stage.resume_from_kafka("behind a wrong password");
    assert!(!stage.gateway.output().contains("sesame"), "a password is never printed");
    assert!(!stage.gateway.get("/config").text().contains("sesame"));
}

#[test]
fn absent_at_start_it_is_found_when_it_comes() {
    let address = ports::free_address();
    let mut stage = Stage::start(&format!("redis://{address}"));
    stage.produce(250);
    stage.up(0.0);
    let _redis = Redis::start(address, &[]);
    stage.up(1.0);
    stage.produce(250);
    wait::until_true("it to be written to", LIMIT, || {
        stage.gateway.metrics().sum("dashstream_redis_written_records_total", &[]) > 0.0
    });
}

/// Kafka is away, and what a client lacks is in Redis: it is served from there. What only Kafka has is said to be
/// unavailable, and had as soon as Kafka is back.
#[test]
fn what_redis_has_is_served_while_kafka_is_away() {
    let address = ports::free_address();
    let _redis = Redis::start(address, &[]);
    let broker = Broker::start("redis-alone");
    let mut stage = Stage::of(&broker.kafka, &format!("redis://{address}"), &[]);
    stage.up(1.0);
    stage.produce(2_000);
    stage.log_has_moved_on();
    stage.all_is_in_redis();
    broker.pause();
    wait::until_true("the gateway to miss Kafka", LIMIT, || {
        stage.gateway.metrics().all("websocket_kafka_consumer_lag", &[]).is_empty()
    });
    let before = stage.asked("redis");
    stage.resume("while Kafka is away");
    wait::until_true("what Redis served to be counted", LIMIT, || stage.asked("redis") > before);
    broker.resume();
    stage.produce(250);
    stage.resume("with Kafka back");
}

#[test]
fn behind_tls_it_is_the_same() {
    let directory = scratch("redis-tls");
    make_certificates(&directory);
    let file = |name: &str| directory.join(name).to_str().expect("UTF-8").to_owned();
    let address = ports::free_address();
    let (port, certificate, key) = (address.port().to_string(), file("server.pem"), file("server.key"));
    let tls = ["--port", "0", "--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let ca = file("ca.pem");
    let more = ["--tls-ca-cert-file", ca.as_str(), "--tls-auth-clients", "no"];
    let _redis = Redis::start(address, &[&tls[..], &more[..]].concat());
    let mut stage = Stage::of(&Kafka::shared(), &format!("rediss://{address}"), &[("SSL_CERT_FILE", &ca)]);
    stage.up(1.0);
    stage.produce(2_000);
    stage.log_has_moved_on();
    stage.all_is_in_redis();
    let before = stage.asked("redis");
    stage.resume("over TLS");
    wait::until_true("what Redis served to be counted", LIMIT, || stage.asked("redis") > before);
    // Who shows a certificate that our authority has not signed is not believed.
    let stranger =
        Stage::of(&Kafka::shared(), &format!("rediss://{address}"), &[("SSL_CERT_FILE", &file("stranger.pem"))]);
    stranger.up(0.0);
}
