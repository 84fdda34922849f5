//! Against a redis-server of the tests' own: the script, its key, and Redis away.

use std::process::{Child, Command, Stdio};

use super::super::super::metrics::Metrics;
use super::super::{Limiter, Rate};
use super::*;

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(30);

/// Killed with this value.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        for _ in 0..20 {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            let port = listener.local_addr().expect("it is bound").port();
            drop(listener);
            let child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--dir", "/tmp"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-server is installed (tests/run install)");
            let mut server = Self { child, port };
            let began = Instant::now();
            while began.elapsed() < LIMIT {
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return server;
                }
                if server.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        panic!("no redis-server comes up");
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = redis::Client::open(self.url()).expect("a URL").get_connection().expect("it runs");
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut connection).expect("a reply")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }
}

fn rate(per_second: f64, burst: f64) -> Rate {
    Rate::new(per_second, burst).expect("a rate")
}

fn limiter(url: &str, rate: Rate, metrics: &Metrics) -> Limiter {
    Limiter::shared(url, Duration::from_secs(5), rate).expect("a URL").metrics(metrics)
}

#[test]
fn two_processes_share_a_bucket_in_the_predecessors_key() {
    let server = Server::start();
    let metrics = Metrics::new();
    let (one, other) =
        (limiter(&server.url(), rate(0.001, 5.0), &metrics), limiter(&server.url(), rate(0.001, 5.0), &metrics));
    let allowed = (0..10).filter(|index| if index % 2 == 0 { one.take("acme") } else { other.take("acme") }.is_ok());
    assert_eq!(allowed.count(), 5);
    assert_eq!(one.take("another"), Ok(()));
    let wait = one.take("acme").expect_err("empty");
    assert!(wait > Duration::from_secs(900) && wait <= Duration::from_secs(1_000), "{wait:?}");
    let fields: Vec<String> = server.ask(&["HKEYS", "rate_limit:acme:bucket"]);
    assert_eq!(fields, ["tokens", "last_refill"]);
    let ttl: i64 = server.ask(&["TTL", "rate_limit:acme:bucket"]);
    assert!((5_000..=5_060).contains(&ttl), "a bucket outlives what it takes to fill it: {ttl}");
    assert_eq!(metrics.allowed.with_label_values(&["acme"]).get(), 5);
    assert_eq!(metrics.exceeded.with_label_values(&["acme"]).get(), 6);
}

#[test]
fn tokens_are_fractions_and_a_clock_that_went_back_gives_nothing() {
    let server = Server::start();
    let limiter = limiter(&server.url(), rate(1.0, 5.0), &Metrics::new());
    // As if the clock of Redis had been a year ahead.
    server.ask::<i64>(&["HSET", "rate_limit:a:bucket", "tokens", "1.5", "last_refill", "99999999999.5"]);
    assert_eq!(limiter.take("a"), Ok(()));
    let wait = limiter.take("a").expect_err("half a token is none");
    assert!(wait <= Duration::from_millis(500), "{wait:?}");
    let tokens: f64 = server.ask(&["HGET", "rate_limit:a:bucket", "tokens"]);
    assert!((tokens - 0.5).abs() < 1e-9, "{tokens}");
    let last: f64 = server.ask(&["HGET", "rate_limit:a:bucket", "last_refill"]);
    assert!(last > 99_999_999_999.0, "it never goes back");
}

#[test]
fn a_tenant_that_has_to_wait_is_not_asked_for() {
    let server = Server::start();
    let limiter = limiter(&server.url(), rate(0.001, 1.0), &Metrics::new());
    limiter.take("a").expect("the first");
    limiter.take("a").expect_err("empty");
    let calls = || {
        let info: String = server.ask(&["INFO", "commandstats"]);
        info.lines().find(|line| line.starts_with("cmdstat_eval:")).map(str::to_owned)
    };
    let before = calls();
    assert!(before.is_some());
    for _ in 0..100 {
        limiter.take("a").expect_err("empty");
    }
    assert_eq!(calls(), before);
}

#[test]
fn redis_away_falls_back_to_a_bucket_of_our_own() {
    let server = Server::start();
    let metrics = Metrics::new();
    let limiter = limiter(&server.url(), rate(0.001, 3.0), &metrics);
    for _ in 0..3 {
        limiter.take("a").expect("its burst");
    }
    drop(server);
    let allowed = (0..10).filter(|_| limiter.take("a").is_ok()).count();
    assert_eq!(allowed, 3, "a local bucket begins full");
    let registry = prometheus::Registry::new();
    metrics.register(&registry).expect("registered");
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
    let number = |operation: &str| -> u64 {
        let name = format!("dashstream_rate_limiter_redis_errors_total{{operation=\"{operation}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).expect("a number").parse().expect("a number")
    };
    assert_eq!(number("fallback_to_local"), 10);
    assert!(number("rate_limit_check") + number("new_connection") >= 1);
    assert_eq!(
        Limiter::shared("http://nowhere", LIMIT, Rate::default()).expect_err("no URL"),
        super::super::RedisUrlError
    );
}
