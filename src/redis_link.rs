//! One connection to Redis: made when it is needed, given up after any silence or error within a command, made again
//! after a pause. A connection that was left in the middle of a reply is never used again, so that no answer is taken
//! for another's.
//!
//! Deliberately absent: which commands, and what follows from their answers. Nothing here prints or keeps the URL: a
//! password stands in it, and what a server says to a command with a password in it may quote it.

use std::time::{Duration, Instant};

use redis::{Client, Connection, Pipeline, RedisError, RedisResult, Value};

/// How long nobody tries after a failure: doubled up to `longest`, less up to a quarter by chance, so that hosts do not
/// come back all at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

/// What Redis answered to one command, or what it calls its refusal: `OOM`, `READONLY`, `LOADING`, `NOAUTH` …
pub(crate) type Reply = Result<Value, String>;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed a moment ago; nothing was tried.
    Paused,
    /// What was tried and failed, in words without secrets.
    Failed(String),
}

/// The words of a [`Failure`] by silence.
pub(crate) const NO_ANSWER: &str = "it did not answer in time";

pub(crate) struct Link {
    client: Client,
    timeout: Duration,
    pauses: Pauses,
    connection: Option<Connection>,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Link {
    /// The URL was checked with the configuration; None when there is none.
    #[cfg(feature = "gateway")]
    pub(crate) fn new(config: &crate::config::RedisConfig, pauses: Pauses) -> Option<Self> {
        Self::open(&config.url.as_ref()?.0, config.timeout, pauses)
    }

    /// None: the URL is none of Redis. Nothing is connected yet.
    pub(crate) fn open(url: &str, timeout: Duration, pauses: Pauses) -> Option<Self> {
        let client = Client::open(url).ok()?;
        Some(Self { client, timeout, pauses, connection: None, failures: 0, retry_at: None })
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// When something may be tried: None is now.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        self.retry_at.filter(|at| *at > now)
    }

    /// Sends all commands at once and gives one reply for each. The time of the round trip, ms, goes to `took_ms`,
    /// also when it failed after it was sent.
    pub(crate) fn ask(&mut self, commands: &mut Pipeline, took_ms: &dyn Fn(f64)) -> Result<Vec<Reply>, Failure> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connected()?;
        let began = Instant::now();
        let answer: RedisResult<Vec<RedisResult<Value>>> = commands.ignore_errors().query(&mut connection);
        took_ms(began.elapsed().as_secs_f64() * 1_000.0);
        let replies = match answer {
            Ok(replies) if replies.len() == commands.len() => replies,
            Ok(_) => return Err(self.failed("it sent another number of replies than was asked for".to_owned())),
            Err(error) => return Err(self.failed(words_of(&error))),
        };
        self.connection = Some(connection);
        (self.failures, self.retry_at) = (0, None);
        Ok(replies.into_iter().map(|reply| reply.map_err(|error| code_of(&error))).collect())
    }

    /// Taken out, so that whatever happens on the way drops it.
    fn connected(&mut self) -> Result<Connection, Failure> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        if self.due(Instant::now()).is_some() {
            return Err(Failure::Paused);
        }
        let connected = self.client.get_connection_with_timeout(self.timeout).and_then(|connection| {
            connection.set_read_timeout(Some(self.timeout))?;
            connection.set_write_timeout(Some(self.timeout))?;
            Ok(connection)
        });
        connected.map_err(|error| self.failed(words_of(&error)))
    }

    fn failed(&mut self, why: String) -> Failure {
        let doubled = self.pauses.first.saturating_mul(1 << self.failures.min(16)).min(self.pauses.longest);
        let chance = uuid::Uuid::new_v4().as_u64_pair().0 % 256;
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + doubled - doubled / 4 * chance as u32 / 256);
        Failure::Failed(why)
    }
}

/// The class of a refusal. Never its text: a server may quote what it was sent.
fn code_of(error: &RedisError) -> String {
    error.code().unwrap_or_else(|| error.category()).to_owned()
}

fn words_of(error: &RedisError) -> String {
    if error.is_timeout() {
        return NO_ANSWER.to_owned();
    }
    match error.code() {
        Some(code) => format!("{} ({code})", error.category()),
        // The text of the operating system.
        None if error.is_io_error() => error.to_string(),
        None => error.category().to_owned(),
    }
}

/// The bytes of a reply; None when there is nothing, or something else.
pub(crate) fn bytes_of(reply: &Value) -> Option<&[u8]> {
    match reply {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// The members of a reply that is a list of them.
pub(crate) fn members_of(reply: &Value) -> Vec<&[u8]> {
    match reply {
        Value::Array(items) | Value::Set(items) => items.iter().filter_map(bytes_of).collect(),
        _ => Vec::new(),
    }
}

pub(crate) fn number_of(reply: &Value) -> Option<u64> {
    match reply {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Boolean(yes) => Some(u64::from(*yes)),
        _ => None,
    }
}
