//! Two limiters with connections of their own and one Redis hold a tenant to one rate: never more than burst + rate x
//! span + 1 by the clock of Redis, and at twice the offered load at least 98 % of what is allowed.
//!
//! This file uses the crate, since its limiter is what is judged; the span is read from Redis by hand.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dashstream::producer::{Limiter, Rate};

use crate::harness::{ports, wait};

const LIMITERS: u32 = 2;
const PER_SECOND: f64 = 200.0;
/// Two seconds of the rate: no token is lost while the machine is busy elsewhere for less than that.
const BURST: f64 = 400.0;
const SPAN: Duration = Duration::from_secs(8);

struct Redis {
    address: SocketAddr,
    process: Child,
}

impl Redis {
    fn start() -> Self {
        let address = ports::free_address();
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: prctl only sets a flag of the new process.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let process = command.spawn().expect("redis-server, which tests/run installs");
        wait::until_true("redis to listen", wait::SOON, || TcpStream::connect(address).is_ok());
        Self { address, process }
    }

    /// Its clock, in seconds.
    fn time(&self) -> f64 {
        let mut stream = TcpStream::connect(self.address).expect("redis");
        stream.write_all(b"TIME\r\n").expect("sent");
        // *2, $10, seconds, $6, microseconds
        let lines: Vec<String> = BufReader::new(stream).lines().take(5).map(|line| line.expect("a line")).collect();
        let number = |line: &str| line.parse::<f64>().expect("a number");
        number(&lines[2]) + number(&lines[4]) / 1e6
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().expect("a running process can be killed");
        self.process.wait().expect("a killed process ends");
    }
}

#[test]
fn two_limiters_on_one_redis_allow_what_one_would() {
    let redis = Redis::start();
    let rate = Rate::new(PER_SECOND, BURST).expect("a rate");
    let limiters: Vec<Limiter> = (0..LIMITERS)
        .map(|_| {
            let url = format!("redis://{}", redis.address);
            Limiter::shared(&url, Duration::from_secs(20), rate).expect("a URL")
        })
        .collect();
    let began = redis.time();
    let start = Instant::now();
    let counts: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = limiters
            .iter()
            .map(|limiter| {
                scope.spawn(move || {
                    // All of them together offer twice the rate, each at its moments, late ones at once.
                    let step = Duration::from_secs_f64(f64::from(LIMITERS) / (2.0 * PER_SECOND));
                    let (mut offered, mut allowed) = (0u32, 0u64);
                    while start.elapsed() < SPAN {
                        let due = start + step * offered;
                        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
                        if Instant::now() >= due {
                            offered += 1;
                            allowed += u64::from(limiter.take("acme").is_ok());
                        }
                    }
                    (u64::from(offered), allowed)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let span = redis.time() - began;
    let offered: u64 = counts.iter().map(|(offered, _)| offered).sum();
    let allowed: u64 = counts.iter().map(|(_, allowed)| allowed).sum();
    let most = BURST + PER_SECOND * span;
    eprintln!("{allowed} of {offered} allowed in {span:.3} s, of {most:.1} at most; each {counts:?}");
    assert!(allowed as f64 <= most + 1.0, "{allowed} were allowed, {most} is the most");
    assert!(allowed as f64 >= 0.98 * most, "{allowed} were allowed of {most}");
    assert!(counts.iter().all(|(_, allowed)| *allowed > 0), "one had nothing: {counts:?}");
}
