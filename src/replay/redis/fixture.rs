//! A redis-server of the test's own, chunks to offer, and a writer on a thread. Compiled for tests only.

#![allow(clippy::disallowed_methods, reason = "tests make their own channels and threads")]

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::*;
use crate::config::{Config, load_with};
use crate::log::{Chunk, ChunkBuilder, Outcome};
use crate::observe::stats::{Gauge, Stats};
use crate::replay::span::Span;
use crate::wire::scan::Scan;
use crate::words::{Offset, PartitionId, SkipReason, StreamIdentity};

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn stream() -> StreamIdentity {
    StreamIdentity { cluster_id: "cluster".to_owned(), topic: "quality".to_owned(), topic_id: [3; 16] }
}

/// Waits until it holds.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Killed with this value, and by the kernel should the thread of the test end without dropping it.
pub(super) struct Server {
    child: Option<Child>,
    pub(super) port: u16,
    options: Vec<String>,
}

impl Server {
    pub(super) fn start(options: &[&str]) -> Self {
        for _ in 0..20 {
            let mut server = Self::absent(options);
            server.launch();
            if server.came_up() {
                return server;
            }
        }
        panic!("no redis-server comes up: is it installed? (tests/run install)");
    }

    /// A port on which nobody listens, until [`Server::launch`].
    pub(super) fn absent(options: &[&str]) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        Self { child: None, port, options: options.iter().map(|option| (*option).to_owned()).collect() }
    }

    pub(super) fn launch(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--dir", "/tmp"]).args(&self.options).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: prctl is async-signal-safe and touches nothing of ours.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        self.child = Some(command.spawn().expect("redis-server is installed (tests/run install)"));
    }

    pub(super) fn came_up(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            if self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_some())) {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        false
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
        }
    }

    pub(super) fn signal(&self, signal: i32) {
        let child = self.child.as_ref().expect("it runs");
        // SAFETY: the child was not waited for, so the id is still its.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn connect(&self) -> ::redis::Connection {
        ::redis::Client::open(self.url()).expect("a URL").get_connection().expect("it runs")
    }

    /// One command, and its reply.
    pub(super) fn ask<T: ::redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = ::redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut self.connect()).expect("a reply")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A gateway as Redis sees it: an inlet, a writer on its thread, and a reader.
pub(super) struct Host {
    pub(super) config: Arc<Config>,
    pub(super) stats: Arc<Stats>,
    pub(super) inlet: RedisInlet,
    stop: Sender<Instant>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    pub(super) fn start(url: &str, settings: &[(&str, &str)]) -> Self {
        let settings: Vec<(&str, &str)> =
            [("replay.redis.url", url)].into_iter().chain(settings.iter().copied()).collect();
        let config = Arc::new(load_with(&settings).expect("settings that are allowed").config);
        let stats = Arc::new(Stats::default());
        let (sender, chunks) = bounded(1_024);
        let inlet = RedisInlet::new(sender, &config.replay.redis, stats.clone());
        let writer = RedisWriter::new(RedisWriterOptions {
            chunks,
            inlet: inlet.clone(),
            config: config.clone(),
            stats: stats.clone(),
            heartbeat: stats.heartbeat("redis", 1_000),
        });
        let writer = writer.expect("there is a URL");
        let (stop, stopped) = bounded(1);
        let thread = Some(std::thread::spawn(move || writer.run(&stopped)));
        inlet.topology(Arc::new(stream()), 4);
        Self { config, stats, inlet, stop, thread }
    }

    pub(super) fn sender(&self) -> RedisSender {
        self.inlet.for_stream(Arc::new(stream()))
    }

    pub(super) fn offer(&self, chunk: &Arc<Chunk>) -> bool {
        self.sender().offer(chunk)
    }

    pub(super) fn is_up(&self) -> bool {
        self.stats.redis.up.get() == Some(1)
    }

    pub(super) fn written(&self) -> u64 {
        self.stats.redis.written_records.get()
    }

    pub(super) fn bounds(&self, partition: u32) -> Option<(u64, u64)> {
        self.stats.redis.bounds.load().get(&PartitionId(partition)).map(|(oldest, next)| (oldest.0, next.0))
    }

    pub(super) fn reader(&self) -> RedisReader {
        RedisReader::new(self.config.clone(), self.stats.clone(), &stream()).expect("there is a URL")
    }

    /// Offers the chunks and waits until Redis took all their records.
    pub(super) fn write(&self, chunks: &[Arc<Chunk>]) {
        let before = self.written();
        let records: u64 = chunks.iter().map(|chunk| chunk.entries().len() as u64).sum();
        chunks.iter().for_each(|chunk| assert!(self.offer(chunk), "there is room"));
        eventually("the records are written", || self.written() >= before + records);
    }

    /// Ends the writer in order.
    pub(super) fn stop(&mut self, time: Duration) {
        self.stop.try_send(Instant::now() + time).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer does not panic");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// The value of a made-up record.
pub(super) fn value(offset: u64) -> Vec<u8> {
    format!("value of {offset}").into_bytes()
}

/// A chunk that covers `[from, next)`: every offset is delivered, but every tenth, which is a null, and every tenth and
/// one, which is a hole.
pub(super) fn chunk(partition: u32, from: u64, next: u64) -> Arc<Chunk> {
    chunk_of(partition, from, next, &value)
}

pub(super) fn chunk_of(partition: u32, from: u64, next: u64, value: &dyn Fn(u64) -> Vec<u8>) -> Arc<Chunk> {
    let gauge = Arc::new(Gauge::default());
    let mut builder = ChunkBuilder::new(PartitionId(partition), Offset(from), 64 << 10, Arc::new(stream()), gauge);
    for offset in from..next {
        match offset % 10 {
            0 => builder.withhold(Offset(offset), Some(offset as i64), Outcome::Skipped(SkipReason::Null)),
            1 => builder.cover(Offset(offset + 1)),
            _ => builder.deliver(Offset(offset), Some(offset as i64), &value(offset), &Scan::default(), &[]),
        }
    }
    builder.finish(1).expect("it covers something")
}

/// Reads on until there is nothing more, and checks every record on the way. Where it ended.
pub(super) fn read_through(reader: &mut RedisReader, partition: u32, from: u64, until: u64) -> Result<u64, RedisDown> {
    let mut at = from;
    loop {
        let spans = reader.read(PartitionId(partition), Offset(at), Offset(until), 1_000)?;
        if spans.is_empty() {
            return Ok(at);
        }
        for span in spans {
            assert_eq!(span.from.0, at, "spans follow each other");
            assert!(at < span.next.0 && span.next.0 <= until, "{span:?}");
            check_records(&span);
            at = span.next.0;
        }
    }
}

fn check_records(span: &Span) {
    let expected: Vec<u64> = (span.from.0..span.next.0).filter(|offset| offset % 10 != 1).collect();
    let offsets: Vec<u64> = span.records.iter().map(|record| record.offset.0).collect();
    assert_eq!(offsets, expected);
    for record in &span.records {
        let offset = record.offset.0;
        assert_eq!(record.timestamp_ms, Some(offset as i64));
        match offset % 10 {
            0 => assert_eq!((record.outcome, record.value.len()), (Outcome::Skipped(SkipReason::Null), 0)),
            _ => assert_eq!((record.outcome, &record.value), (Outcome::Delivered, &value(offset))),
        }
    }
}
