//! Against a redis-server of the tests' own: the script, its key, and Redis away.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

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

    /// Its clock, in seconds.
    fn time(&self) -> f64 {
        let time: (u64, u64) = self.ask(&["TIME"]);
        time.0 as f64 + time.1 as f64 / 1e6
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

fn errors(metrics: &Metrics, operation: &str) -> u64 {
    let registry = prometheus::Registry::new();
    metrics.register(&registry).expect("registered");
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
    let name = format!("dashstream_rate_limiter_redis_errors_total{{operation=\"{operation}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).expect("a number").parse().expect("a number")
}

/// One connection of something that speaks as Redis does, as slowly as `bucket` likes: it is told the key of each
/// bucket that is asked for, and gives the reply.
fn pretend(listener: &TcpListener, mut bucket: impl FnMut(&str) -> &'static str) {
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    while let Some(words) = words(&mut reader) {
        let reply = if words[0] == "EVAL" { bucket(&words[3]) } else { "+OK\r\n" };
        if stream.write_all(reply.as_bytes()).is_err() {
            return;
        }
    }
}

/// One command; none when the connection is over.
fn words(reader: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let number = |reader: &mut BufReader<TcpStream>| -> Option<usize> {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        line.trim_end().get(1..)?.parse().ok()
    };
    let count = number(reader)?;
    let word = |_| {
        let mut word = vec![0; number(reader)? + 2];
        reader.read_exact(&mut word).ok()?;
        word.truncate(word.len() - 2);
        String::from_utf8(word).ok()
    };
    (0..count).map(word).collect()
}

const ALLOWED: &str = "*2\r\n:1\r\n:0\r\n";
const DENIED: &str = "*2\r\n:0\r\n:60000000\r\n";

/// One lock was held over each round trip: of 16 threads that asked a slow Redis at once, each for another tenant, the
/// last waited for all of them, 3.2 s with a timeout of 250 ms.
#[test]
fn a_slow_redis_holds_nobody_longer_than_promised() {
    const TIMEOUT: Duration = Duration::from_millis(250);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("it is bound"));
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pretend(&listener, |_| {
                std::thread::sleep(Duration::from_millis(200));
                ALLOWED
            });
        });
        let limiter = Limiter::shared(&url, TIMEOUT, rate(1.0, 5.0)).expect("a URL").metrics(&metrics);
        limiter.take("before").expect("its first, over a connection that stands from now on");
        let took: Vec<Duration> = std::thread::scope(|within| {
            let limiter = &limiter;
            let one = |number| {
                within.spawn(move || {
                    let began = Instant::now();
                    limiter.take(&format!("tenant-{number}")).expect("its first");
                    began.elapsed()
                })
            };
            let asking: Vec<_> = (0..16).map(one).collect();
            asking.into_iter().map(|one| one.join().expect("no panic")).collect()
        });
        // For its turn, and for its answer; and some for a machine that is busy.
        let longest = took.iter().max().expect("16 of them");
        assert!(*longest < 2 * TIMEOUT + Duration::from_millis(500), "{took:?}");
    });
    let fallen_back = errors(&metrics, "fallback_to_local");
    assert!(fallen_back >= 5, "whose turn does not come has a bucket here: {fallen_back}");
}

#[test]
fn what_is_known_is_said_while_redis_is_asked_for_another() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("it is bound"));
    let (arrived, arrives) = mpsc::sync_channel(1);
    let (release, released) = mpsc::sync_channel::<()>(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pretend(&listener, move |key| match key {
                "rate_limit:denied:bucket" => DENIED,
                _ => {
                    arrived.send(()).expect("the test waits");
                    released.recv().ok();
                    ALLOWED
                }
            });
        });
        // Gone with what fails here, so that nobody waits for it.
        let release = release;
        let limiter = Limiter::shared(&url, LIMIT, rate(1.0, 5.0)).expect("a URL");
        limiter.take("denied").expect_err("empty");
        std::thread::scope(|within| {
            let slow = within.spawn(|| limiter.take("slow"));
            arrives.recv().expect("the slow question is under way");
            let began = Instant::now();
            let wait = limiter.take("denied").expect_err("still empty");
            assert!(wait > Duration::from_secs(20), "{wait:?}");
            assert!(began.elapsed() < LIMIT / 4, "{:?}", began.elapsed());
            release.send(()).expect("it is waited for");
            assert_eq!(slow.join().expect("no panic"), Ok(()));
        });
    });
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
fn tokens_are_fractions() {
    let server = Server::start();
    let limiter = limiter(&server.url(), rate(0.001, 5.0), &Metrics::new());
    server.ask::<i64>(&["HSET", "rate_limit:a:bucket", "tokens", "1.5", "last_refill", &server.time().to_string()]);
    assert_eq!(limiter.take("a"), Ok(()));
    let wait = limiter.take("a").expect_err("half a token is none");
    assert!(wait > Duration::from_secs(400) && wait <= Duration::from_secs(500), "{wait:?}");
    let tokens: f64 = server.ask(&["HGET", "rate_limit:a:bucket", "tokens"]);
    assert!((0.5..0.6).contains(&tokens), "{tokens}");
}

/// The clock of Redis went back ten minutes. The bucket kept the later time as that of its last refill, so that nothing
/// came into it until the clock was there again: the tenant stood still for ten minutes, told each time to wait for
/// some milliseconds.
#[test]
fn a_clock_that_went_back_gives_nothing_and_from_then_on_tokens_come_as_ever() {
    let server = Server::start();
    let limiter = limiter(&server.url(), rate(100.0, 10.0), &Metrics::new());
    let ahead = (server.time() + 600.0).to_string();
    server.ask::<i64>(&["HSET", "rate_limit:a:bucket", "tokens", "1.5", "last_refill", &ahead]);
    assert_eq!(limiter.take("a"), Ok(()));
    let tokens: f64 = server.ask(&["HGET", "rate_limit:a:bucket", "tokens"]);
    assert!((tokens - 0.5).abs() < 1e-9, "going back gives nothing: {tokens}");
    let last: f64 = server.ask(&["HGET", "rate_limit:a:bucket", "last_refill"]);
    assert!(last <= server.time(), "{last}");
    // Whoever waits as told has the token.
    let (began, mut taken) = (Instant::now(), 0);
    while taken < 20 {
        assert!(began.elapsed() < LIMIT, "{taken} tokens in {LIMIT:?}, at 100 a second");
        match limiter.take("a") {
            Ok(()) => taken += 1,
            Err(wait) => std::thread::sleep(wait),
        }
    }
    assert!(
        began.elapsed() > Duration::from_millis(50),
        "20 tokens of a bucket of 10 take 100 ms: {:?}",
        began.elapsed()
    );
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
    assert_eq!(errors(&metrics, "fallback_to_local"), 10);
    assert!(errors(&metrics, "rate_limit_check") + errors(&metrics, "new_connection") >= 1);
    assert_eq!(
        Limiter::shared("http://nowhere", LIMIT, Rate::default()).expect_err("no URL"),
        super::super::RedisUrlError
    );
}
