//! Clients of `dashstream.v2` that hold a conversation: told to follow runs or to resume, they say what came and when.
//! A child process, which answers one line of JSON to each line it is told:
//!
//! | line | every client | answer |
//! |---|---|---|
//! | `count` | | records and bytes in all; latencies since the last count |
//! | `records` | | records in all |
//! | `follow NAME` | follows the run NAME and its own number | when all were told that it applies |
//! | `resume N` | resumes at once, N records before where the log ends now (`all`: from the earliest) | when all are live |
//! | `alone N TIMES` | instead of them, one new client after the other resumes | when the last was live |
//! | `churn` | resumes from the earliest again and again | at once |
//! | `yield` | | at once; from here on this process takes what others leave |

use std::collections::BTreeMap;
use std::io::BufRead;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use dashstream::wire::gateway::client_frame::Frame as Said;
use dashstream::wire::gateway::server_frame::Frame;
use dashstream::wire::gateway::{ClientFrame, Cursor, CursorEntry, Earliest, Resume, ServerFrame, Subscribe, resume};
use prost::Message;
use serde_json::{Value, json};

use crate::clients::Clients;
use crate::events::stamps;
use crate::frames::{is_batch, records_in_v2};
use crate::process::{Helper, clock_ns, fine_timers, own_cpu_seconds, yield_to_others};
use crate::times::Times;
use crate::{Outcome, PATIENCE, Protocol};

/// From here, as a helper process.
pub fn start(address: SocketAddr, clients: usize) -> Outcome<Helper> {
    let mut helper = Helper::start(&["crowd".to_owned(), address.to_string(), clients.to_string()])?;
    helper.answer()?;
    Ok(helper)
}

#[derive(Default)]
struct Member {
    /// By partition: where the log ended when it connected.
    next: BTreeMap<u32, u64>,
    stream: String,
    resumes: u64,
    /// Its last resume was answered, so that batches from here on are of it.
    answered: bool,
    asked_ns: u64,
    first_ns: Option<u64>,
    live_ns: Option<u64>,
    applied: bool,
}

struct Crowd {
    address: SocketAddr,
    clients: Clients,
    members: Vec<Member>,
    latency: Times,
    records: u64,
    refused: Option<String>,
}

/// The child. Ends with its input.
pub fn run(address: SocketAddr, count: usize) -> Outcome<()> {
    fine_timers();
    let (sender, lines) = sync_channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
        std::process::exit(0);
    });
    let mut crowd = Crowd::connect(address, count)?;
    println!("{}", json!({ "connected": count }));
    crowd.obey(&lines)
}

impl Crowd {
    fn connect(address: SocketAddr, count: usize) -> Outcome<Self> {
        let clients = Clients::connect(address, count, Protocol::V2)?;
        let members = (0..count).map(|_| Member::default()).collect();
        let mut crowd = Self { address, clients, members, latency: Times::new()?, records: 0, refused: None };
        crowd.until(|crowd| crowd.members.iter().all(|member| !member.stream.is_empty()))?;
        Ok(crowd)
    }

    fn obey(&mut self, lines: &Receiver<String>) -> Outcome<()> {
        let mut churning = false;
        loop {
            self.turn(Duration::from_millis(20))?;
            if churning {
                for number in 0..self.members.len() {
                    if self.members[number].live_ns.is_some() {
                        self.resume(number, resume::From::Earliest(Earliest {}))?;
                    }
                }
            }
            let Ok(line) = lines.try_recv() else { continue };
            let words: Vec<&str> = line.split_whitespace().collect();
            let answer = match words[..] {
                ["count"] => json!({
                    "records": self.records, "bytes": self.clients.bytes, "open": self.clients.open,
                    "cpu": own_cpu_seconds(), "latency": self.latency.take(),
                }),
                ["records"] => json!({ "records": self.records }),
                ["follow", name] => self.follow(name)?,
                ["resume", missed] => self.resume_all(missed)?,
                ["alone", missed, times] => self.alone(missed, times.parse()?)?,
                ["churn"] => {
                    churning = true;
                    for number in 0..self.members.len() {
                        self.resume(number, resume::From::Earliest(Earliest {}))?;
                    }
                    json!({})
                }
                ["yield"] => {
                    yield_to_others();
                    json!({})
                }
                _ => return Err(format!("a crowd does not understand {line:?}").into()),
            };
            println!("{answer}");
        }
    }

    fn turn(&mut self, limit: Duration) -> Outcome<()> {
        let Self { clients, members, latency, records, refused, .. } = self;
        clients.turn(limit, |number, payload| {
            let now = clock_ns();
            let member = &mut members[number];
            if is_batch(payload) {
                let count = records_in_v2(payload);
                *records += count;
                if member.answered && count > 0 {
                    member.first_ns.get_or_insert(now);
                }
                // What was written before the measurement has no time of sending.
                stamps(payload, |intended| {
                    if intended > 0 {
                        latency.record(now.saturating_sub(intended));
                    }
                });
                return;
            }
            match ServerFrame::decode(payload).ok().and_then(|frame| frame.frame) {
                Some(Frame::Hello(hello)) => {
                    member.next = hello.partitions.iter().map(|state| (state.partition, state.next)).collect();
                    member.stream = hello.stream;
                }
                Some(Frame::Answers(answers)) => member.answered |= answers.resume == member.resumes,
                Some(Frame::Live(live)) if live.resume == member.resumes && live.resume > 0 => {
                    member.live_ns.get_or_insert(now);
                }
                Some(Frame::Applied(_)) => member.applied = true,
                Some(Frame::Refused(why)) => *refused = Some(format!("{}: {}", why.what, why.why)),
                Some(Frame::Bye(bye)) => *refused = Some(format!("closed: {}", bye.reason)),
                Some(Frame::Gap(gap)) => *refused = Some(format!("a gap: {}", gap.reason)),
                _ => {}
            }
        })
    }

    /// Turns until it is so.
    fn until(&mut self, done: impl Fn(&Self) -> bool) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE * 4;
        while !done(self) {
            self.turn(Duration::from_millis(50))?;
            if let Some(why) = &self.refused {
                return Err(format!("a client was told {why}").into());
            }
            if self.clients.open < self.members.len() || Instant::now() > deadline {
                return Err("clients were closed, or never told what they waited for".into());
            }
        }
        Ok(())
    }

    fn say(&mut self, number: usize, said: Said) -> Outcome<()> {
        self.clients.say(number, &ClientFrame { frame: Some(said) }.encode_to_vec())
    }

    fn follow(&mut self, name: &str) -> Outcome<Value> {
        for number in 0..self.members.len() {
            self.members[number].applied = false;
            let threads = vec![format!("{name}{number:08}")];
            self.say(number, Said::Subscribe(Subscribe { threads, ..Subscribe::default() }))?;
        }
        self.until(|crowd| crowd.members.iter().all(|member| member.applied))?;
        self.latency.take();
        Ok(json!({}))
    }

    fn resume(&mut self, number: usize, from: resume::From) -> Outcome<()> {
        let member = &mut self.members[number];
        member.resumes += 1;
        (member.answered, member.first_ns, member.live_ns) = (false, None, None);
        member.asked_ns = clock_ns();
        let stream = member.stream.clone();
        self.say(number, Said::Resume(Resume { stream, from: Some(from) }))
    }

    fn resume_all(&mut self, missed: &str) -> Outcome<Value> {
        let from = match missed {
            "all" => resume::From::Earliest(Earliest {}),
            missed => {
                let fresh = Self::connect(self.address, 1)?;
                behind(&fresh.members[0].next, missed.parse()?)
            }
        };
        let (begun, cpu) = (Instant::now(), own_cpu_seconds());
        let (records, bytes) = (self.records, self.clients.bytes);
        for number in 0..self.members.len() {
            self.resume(number, from.clone())?;
        }
        self.until(|crowd| crowd.members.iter().all(|member| member.live_ns.is_some()))?;
        let [mut first, mut live] = [Times::new()?, Times::new()?];
        self.members.iter().for_each(|member| note(member, &mut first, &mut live));
        Ok(json!({
            "seconds": begun.elapsed().as_secs_f64(), "cpu": own_cpu_seconds() - cpu,
            "records": self.records - records, "bytes": self.clients.bytes - bytes,
            "first": first.take(), "live": live.take(),
        }))
    }

    fn alone(&mut self, missed: &str, times: usize) -> Outcome<Value> {
        let [mut first, mut live] = [Times::new()?, Times::new()?];
        let missed = missed.parse()?;
        let mut records = 0;
        for _ in 0..times {
            let mut one = Self::connect(self.address, 1)?;
            let from = behind(&one.members[0].next, missed);
            one.resume(0, from)?;
            one.until(|crowd| crowd.members[0].live_ns.is_some())?;
            note(&one.members[0], &mut first, &mut live);
            records += one.records;
            // What the others are sent meanwhile is taken off their sockets.
            self.turn(Duration::ZERO)?;
        }
        Ok(json!({ "records": records, "first": first.take(), "live": live.take() }))
    }
}

fn note(member: &Member, first: &mut Times, live: &mut Times) {
    let since = |at: Option<u64>| at.map(|at| at.saturating_sub(member.asked_ns));
    if let Some(ns) = since(member.first_ns) {
        first.record(ns);
    }
    if let Some(ns) = since(member.live_ns) {
        live.record(ns);
    }
}

/// A cursor that lacks so many records, spread evenly.
fn behind(next: &BTreeMap<u32, u64>, missed: u64) -> resume::From {
    let each = missed / next.len().max(1) as u64;
    let last = |next: u64| next.checked_sub(each + 1);
    let entries =
        next.iter().filter_map(|(partition, next)| Some(CursorEntry { partition: *partition, offset: last(*next)? }));
    resume::From::Cursor(Cursor { entries: entries.collect() })
}
