//! A command of the binary that reads: run to its end, or talked to while it runs.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::broker::die_with_parent;
use super::gateway::signal;
use super::kafka::Kafka;

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }

    /// Each line as JSON.
    pub fn objects(&self) -> Vec<serde_json::Value> {
        self.lines().into_iter().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The answer of a command that ended well.
    pub fn expect(self, what: &str) -> Self {
        assert_eq!(self.code, Some(0), "{what}: {self:?}");
        self
    }
}

fn prepared(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashstream"));
    command
        .args(arguments)
        .env_clear()
        .env("TZ", "UTC")
        .env("COLUMNS", "100")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    die_with_parent(&mut command);
    command
}

/// Without any setting.
pub fn answer(arguments: &[&str]) -> Answer {
    answer_with(arguments, &[])
}

pub fn answer_with(arguments: &[&str], environment: &[(&str, &str)]) -> Answer {
    let output = prepared(arguments, environment).output().expect("the binary starts");
    Answer {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Of a topic of this Kafka.
pub fn of_topic(kafka: &Kafka, topic: &str, arguments: &[&str]) -> Answer {
    answer_with(arguments, &[("KAFKA_BROKERS", &kafka.brokers), ("KAFKA_TOPIC", topic)])
}

/// A command under way whose silence has a limit. It dies with the thread that started it.
pub struct Watched {
    child: Child,
    lines: Receiver<String>,
    err: Arc<Mutex<String>>,
}

impl Watched {
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = prepared(arguments, environment).spawn().expect("the binary starts");
        let (sender, lines) = sync_channel(100_000);
        let out = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line).ok()));
        let err = Arc::new(Mutex::new(String::new()));
        let (into, from) = (err.clone(), BufReader::new(child.stderr.take().expect("piped")));
        std::thread::spawn(move || {
            from.lines().map_while(Result::ok).for_each(|line| *into.lock().expect("not poisoned") += &(line + "\n"));
        });
        Self { child, lines, err }
    }

    /// The next line of its output.
    pub fn line(&mut self, limit: Duration) -> String {
        self.lines.recv_timeout(limit).unwrap_or_else(|why| {
            panic!("no line in {limit:?} ({why}); it ended: {:?}; it said: {}", self.child.try_wait(), self.err())
        })
    }

    /// What it said beside its output so far.
    pub fn err(&self) -> String {
        self.err.lock().expect("not poisoned").clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, number: i32) {
        signal(self.child.id(), number);
    }

    /// Waits until it has ended by itself, or because of an interrupt, and for what is left of its words.
    pub fn end(mut self, limit: Duration) -> Answer {
        let deadline = Instant::now() + limit;
        let mut out = String::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => out += &(line + "\n"),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it did not end in {limit:?}; it said: {}", self.err()),
            }
        }
        let status = self.child.wait().expect("a child can be waited for");
        // The other reader ends with the pipe, a moment later at most.
        super::wait::until_true("the end of what it says", limit, || Arc::strong_count(&self.err) == 1);
        Answer { code: status.code(), out, err: self.err() }
    }
}

/// A command under way. It dies with the test process at the latest.
pub struct Running {
    child: Child,
    pub out: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(kafka: &Kafka, topic: &str, arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[("KAFKA_BROKERS", &kafka.brokers), ("KAFKA_TOPIC", topic)])
    }

    pub fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = prepared(arguments, environment).spawn().expect("the binary starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, out }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line, without its end; empty at the end of the output.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("lines are UTF-8");
        line.trim_end().to_owned()
    }

    pub fn interrupt(&self) {
        signal(self.pid(), libc::SIGINT);
    }

    /// Reads what is left, and waits for the end.
    pub fn finish(mut self) -> Answer {
        let mut out = String::new();
        self.out.read_to_string(&mut out).expect("UTF-8");
        let mut err = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut err).expect("UTF-8");
        let status = self.child.wait().expect("a child can be waited for");
        Answer { code: status.code(), out, err }
    }

    /// Closes the pipe before it is read to its end, and waits for the command.
    pub fn hang_up(self) -> Answer {
        let Self { mut child, out } = self;
        drop(out);
        let deadline = Instant::now() + Duration::from_secs(60);
        while child.try_wait().expect("a child can be waited for").is_none() {
            assert!(Instant::now() < deadline, "it did not notice in a minute that nobody reads");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut err = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut err).expect("UTF-8");
        Answer { code: child.wait().expect("ended").code(), out: String::new(), err }
    }
}
