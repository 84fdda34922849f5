//! Two processes on one Redis hold a tenant to one rate: never more than burst + rate x span + 1 by the clock of Redis,
//! and at twice the offered load at least 98 % of what is allowed.
//!
//! The processes are this test binary again, told by [`CHILD`] to be one of the two. This file uses the crate, since
//! its limiter is what is judged; the span is read from Redis by hand.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use dashstream::producer::{Limiter, Rate};

use crate::harness::broker::die_with_parent;
use crate::harness::ports;
use crate::harness::redis::Redis;

const PROCESSES: u32 = 2;
const PER_SECOND: f64 = 200.0;
/// Two seconds of the rate: no token is lost while the machine is busy elsewhere for less than that.
const BURST: f64 = 400.0;
const SPAN: Duration = Duration::from_secs(8);
/// Names the address of Redis to a child.
const CHILD: &str = "DASHSTREAM_TEST_LIMITER_CHILD";
/// Begins what a child says: libtest prints lines of its own.
const READY: &str = "child is ready";
const TOLD: &str = "child told ";

/// The clock of Redis, in seconds.
fn time_of(address: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(address).expect("redis");
    stream.write_all(b"TIME\r\n").expect("sent");
    // *2, $10, seconds, $6, microseconds
    let lines: Vec<String> = BufReader::new(stream).lines().take(5).map(|line| line.expect("a line")).collect();
    let number = |line: &str| line.parse::<f64>().expect("a number");
    number(&lines[2]) + number(&lines[4]) / 1e6
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "\n{line}").and_then(|()| stdout.flush()).expect("the parent listens");
}

/// A child: offers its share of twice the rate, from the word of the parent on.
fn offer(address: SocketAddr) {
    let rate = Rate::new(PER_SECOND, BURST).expect("a rate");
    let limiter = Limiter::shared(&format!("redis://{address}"), Duration::from_secs(20), rate).expect("a URL");
    limiter.take("somebody else").expect("its first, over a connection that stands from now on");
    say(READY);
    std::io::stdin().read_line(&mut String::new()).expect("the word of the parent");
    let (began, start) = (time_of(address), Instant::now());
    // Each at its moments, late ones at once.
    let step = Duration::from_secs_f64(f64::from(PROCESSES) / (2.0 * PER_SECOND));
    let (mut offered, mut allowed) = (0u32, 0u64);
    while start.elapsed() < SPAN {
        let due = start + step * offered;
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
        if Instant::now() >= due {
            offered += 1;
            allowed += u64::from(limiter.take("acme").is_ok());
        }
    }
    say(&format!("{TOLD}{offered} {allowed} {began} {}", time_of(address)));
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

struct Told {
    offered: u64,
    allowed: u64,
    began: f64,
    ended: f64,
}

impl Process {
    fn start(address: SocketAddr) -> Self {
        let itself = std::env::current_exe().expect("this binary");
        let mut command = Command::new(itself);
        command
            .args(["--exact", "limiter_is_shared::two_processes_on_one_redis_allow_what_one_would", "--nocapture"])
            .env(CHILD, address.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn().expect("this binary starts again");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, stdout }
    }

    /// What follows `beginning` in the next line that begins so.
    fn hear(&mut self, beginning: &str) -> String {
        let lines = (&mut self.stdout).lines().map(|line| line.expect("UTF-8"));
        let mut told = lines.filter_map(|line| line.strip_prefix(beginning).map(str::to_owned));
        told.next().unwrap_or_else(|| panic!("a process ended before it said {beginning:?}"))
    }

    fn go(&mut self) {
        self.stdin.write_all(b"go\n").expect("the process listens");
    }

    fn end(mut self) -> Told {
        let told = self.hear(TOLD);
        let told: Vec<&str> = told.split(' ').collect();
        let [offered, allowed, began, ended] = told.as_slice() else { panic!("four numbers: {told:?}") };
        assert!(self.child.wait().expect("a child can be waited for").success());
        let seconds = |text: &str| text.parse::<f64>().expect("seconds");
        Told {
            offered: offered.parse().expect("a number"),
            allowed: allowed.parse().expect("a number"),
            began: seconds(began),
            ended: seconds(ended),
        }
    }
}

#[test]
fn two_processes_on_one_redis_allow_what_one_would() {
    if let Ok(address) = std::env::var(CHILD) {
        return offer(address.parse().expect("an address"));
    }
    let redis = Redis::start(ports::free_address(), &[]);
    let mut processes: Vec<Process> = (0..PROCESSES).map(|_| Process::start(redis.address)).collect();
    processes.iter_mut().for_each(|process| drop(process.hear(READY)));
    processes.iter_mut().for_each(Process::go);
    let told: Vec<Told> = processes.into_iter().map(Process::end).collect();
    let began = told.iter().map(|told| told.began).fold(f64::INFINITY, f64::min);
    let ended = told.iter().map(|told| told.ended).fold(f64::NEG_INFINITY, f64::max);
    let span = ended - began;
    let offered: u64 = told.iter().map(|told| told.offered).sum();
    let allowed: u64 = told.iter().map(|told| told.allowed).sum();
    let each: Vec<u64> = told.iter().map(|told| told.allowed).collect();
    let most = BURST + PER_SECOND * span;
    eprintln!("{allowed} of {offered} allowed in {span:.3} s, of {most:.1} at most; each {each:?}");
    assert!(allowed as f64 <= most + 1.0, "{allowed} were allowed, {most} is the most");
    assert!(allowed as f64 >= 0.98 * most, "{allowed} were allowed of {most}");
    assert!(each.iter().all(|allowed| *allowed > 0), "one had nothing: {each:?}");
}
