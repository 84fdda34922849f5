//! How a client is set up: what was wished for, checked once.

use std::time::Duration;

use tungstenite::http::Uri;

use super::backoff::Reconnect;
use super::error::ConfigError;
use super::shell::Client;
use super::store::{CursorStore, MemoryStore};
use crate::wire::gateway;

/// Where to begin when there is no cursor.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// Everything that there is.
    Earliest,
    /// What comes after the first Hello.
    #[default]
    Latest,
    /// The first record whose Kafka timestamp is not earlier, ms since the epoch.
    Timestamp(i64),
    /// One run, and nothing else. Takes the place of the filter.
    Run(Run),
}

/// One run from its beginning, then live. With a cursor it goes on from there, filtered by thread and tenant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Run {
    /// 1 to 256 bytes.
    pub thread: String,
    /// `None`: of any tenant.
    pub tenant: Option<String>,
    /// Only events whose sequence is above; 0 for all.
    pub after_sequence: u64,
    /// How old what is looked through may be, when the gateway has not seen the run; `None`: the gateway's setting.
    pub search_age: Option<Duration>,
}

/// What to see. A record matches when one of its events matches every list that is not empty; it comes whole.
/// All empty: everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    pub tenants: Vec<String>,
    pub threads: Vec<String>,
    /// event, state_diff, token_chunk, tool_execution, checkpoint, metrics, error, execution_trace.
    pub kinds: Vec<String>,
    /// Names of `EventType` without the prefix: NODE_START ...
    pub event_types: Vec<String>,
    pub nodes: Vec<String>,
    pub partitions: Vec<u32>,
}

impl Filter {
    /// Lets everything through.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn to_wire(&self) -> gateway::Subscribe {
        gateway::Subscribe {
            tenants: self.tenants.clone(),
            threads: self.threads.clone(),
            kinds: self.kinds.clone(),
            event_types: self.event_types.clone(),
            nodes: self.nodes.clone(),
            partitions: self.partitions.clone(),
        }
    }
}

impl Run {
    pub(super) fn to_wire(&self) -> gateway::Run {
        let search_age = self.search_age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        gateway::Run {
            thread_id: self.thread.clone(),
            tenant_id: self.tenant.clone().unwrap_or_default(),
            after_sequence: self.after_sequence,
            search_age_ms: search_age,
        }
    }

    /// The filter that lets the same run through.
    pub(super) fn to_filter(&self) -> Filter {
        Filter {
            threads: vec![self.thread.clone()],
            tenants: self.tenant.iter().cloned().collect(),
            ..Filter::default()
        }
    }
}

/// Made by [`Client::builder`].
pub struct Builder {
    url: String,
    pub(super) start: Start,
    pub(super) filter: Filter,
    store: Box<dyn CursorStore + Send>,
    settings: Settings,
}

/// What the shell needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) reconnect: Reconnect,
    pub(super) save_interval: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) answer_timeout: Duration,
    pub(super) ping_interval: Duration,
    pub(super) pong_timeout: Duration,
    pub(super) frame_max_bytes: usize,
}

impl Builder {
    pub(super) fn new(url: &str) -> Self {
        let settings = Settings {
            reconnect: Reconnect::default(),
            save_interval: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(15),
            pong_timeout: Duration::from_secs(15),
            frame_max_bytes: 32 << 20,
        };
        Self {
            url: url.to_owned(),
            start: Start::default(),
            filter: Filter::default(),
            store: Box::new(MemoryStore::default()),
            settings,
        }
    }

    /// Where to begin when the store has no cursor of this stream. Default: [`Start::Latest`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// What to see. Default: everything.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Where the cursor is kept. Default: [`MemoryStore`].
    pub fn store(mut self, store: impl CursorStore + Send + 'static) -> Self {
        self.store = Box::new(store);
        self
    }

    /// When to connect again.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.settings.reconnect = reconnect;
        self
    }

    /// How often a cursor that moved is saved; zero: after every event. Default 1 s. Too low: a file is synced for
    /// every record. Too high: more comes again after the process was killed.
    pub fn save_interval(mut self, save_interval: Duration) -> Self {
        self.settings.save_interval = save_interval;
        self
    }

    /// For each address and again for the handshake, 1 ms to 1 h. Default 10 s.
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.settings.connect_timeout = connect_timeout;
        self
    }

    /// How long a resume may go unanswered before the connection is given up, 1 ms to 1 h. Default 30 s; a replay
    /// that waits for its turn, and a pause, do not count.
    pub fn answer_timeout(mut self, answer_timeout: Duration) -> Self {
        self.settings.answer_timeout = answer_timeout;
        self
    }

    /// After this much silence a ping is sent, 1 ms to 1 h. Default 15 s.
    pub fn ping_interval(mut self, ping_interval: Duration) -> Self {
        self.settings.ping_interval = ping_interval;
        self
    }

    /// If nothing comes for this long after a ping, or nothing can be written, the peer is dead: 1 ms to 1 h. Default
    /// 15 s.
    pub fn pong_timeout(mut self, pong_timeout: Duration) -> Self {
        self.settings.pong_timeout = pong_timeout;
        self
    }

    /// The largest frame that is read, 1 KiB to 1 GiB; a larger one ends the client. Default 32 MiB. It holds at
    /// least one record, so it must be above the gateway's `kafka.payload_max_bytes`. A frame is in memory twice.
    pub fn frame_max_bytes(mut self, frame_max_bytes: usize) -> Self {
        self.settings.frame_max_bytes = frame_max_bytes;
        self
    }

    /// Reads the cursor; connects to nothing yet.
    ///
    /// # Errors
    /// When the address, a number or the combination is wrong, or the store cannot say whether it has a cursor.
    pub fn build(mut self) -> Result<Client, ConfigError> {
        let url = address(&self.url)?;
        let hour = Duration::from_secs(3_600);
        let settings = &self.settings;
        let millis = [
            ("connect_timeout", settings.connect_timeout),
            ("answer_timeout", settings.answer_timeout),
            ("ping_interval", settings.ping_interval),
            ("pong_timeout", settings.pong_timeout),
            ("reconnect.min", settings.reconnect.min),
            ("reconnect.max", settings.reconnect.max),
        ];
        for (name, value) in millis {
            if value < Duration::from_millis(1) || value > hour {
                return Err(ConfigError::OutOfRange { name, allowed: "1 ms to 1 h" });
            }
        }
        if settings.reconnect.min > settings.reconnect.max {
            return Err(ConfigError::OutOfRange { name: "reconnect.min", allowed: "at most reconnect.max" });
        }
        if settings.reconnect.attempts_max == Some(0) {
            return Err(ConfigError::OutOfRange { name: "reconnect.attempts_max", allowed: "1 or more" });
        }
        if !(1 << 10..=1 << 30).contains(&settings.frame_max_bytes) {
            return Err(ConfigError::OutOfRange { name: "frame_max_bytes", allowed: "1 KiB to 1 GiB" });
        }
        if let Start::Run(run) = &self.start {
            let fits = |text: &str| (1..=256).contains(&text.len());
            if !fits(&run.thread) || !run.tenant.as_deref().is_none_or(fits) {
                return Err(ConfigError::OutOfRange {
                    name: "run",
                    allowed: "a thread and a tenant of 1 to 256 bytes",
                });
            }
            if !self.filter.is_empty() {
                return Err(ConfigError::RunAndFilter);
            }
        }
        let cursor = self.store.load()?.unwrap_or_default();
        Ok(Client::new(url, self.settings, self.start, self.filter, self.store, cursor))
    }
}

/// A `ws://` address; without a path `/ws` is meant.
fn address(url: &str) -> Result<Uri, ConfigError> {
    let bad = || ConfigError::BadUrl(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad())?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") => return Err(ConfigError::NoTls),
        _ => return Err(bad()),
    }
    if uri.host().is_none_or(str::is_empty) || uri.authority().is_none_or(|authority| authority.as_str().contains('@'))
    {
        return Err(bad());
    }
    let mut parts = uri.into_parts();
    if parts.path_and_query.as_ref().is_none_or(|path| path.as_str() == "/") {
        parts.path_and_query = "/ws".parse().ok();
    }
    Uri::from_parts(parts).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_completed() {
        let check = |url: &str, expected: &str| {
            let found = match address(url) {
                Ok(uri) => uri.to_string(),
                Err(ConfigError::NoTls) => "no tls".to_owned(),
                Err(_) => "bad".to_owned(),
            };
            assert_eq!(found, expected, "{url}");
        };
        check("ws://localhost:3002", "ws://localhost:3002/ws");
        check("ws://localhost:3002/", "ws://localhost:3002/ws");
        check("ws://[::1]:3002/x/ws?a=b", "ws://[::1]:3002/x/ws?a=b");
        check("ws://host", "ws://host/ws");
        check("wss://host/ws", "no tls");
        for bad in ["", "host:3002", "http://host/ws", "ws:///ws", "ws://me:secret@host/ws", "ws://ho st/"] {
            check(bad, "bad");
        }
    }

    #[test]
    fn numbers_and_combinations_are_checked() {
        let builder = || Builder::new("ws://localhost:1");
        let run = |thread: &str| Start::Run(Run { thread: thread.to_owned(), ..Run::default() });
        assert!(builder().build().is_ok());
        assert!(builder().start(run("t")).build().is_ok());
        let filter = Filter { nodes: vec!["n".to_owned()], ..Filter::default() };
        assert!(matches!(builder().start(run("t")).filter(filter).build(), Err(ConfigError::RunAndFilter)));
        let none = Reconnect { attempts_max: Some(0), ..Reconnect::default() };
        let inverted = Reconnect { min: Duration::from_secs(60), ..Reconnect::default() };
        for bad in [
            builder().start(run("")),
            builder().frame_max_bytes(10),
            builder().ping_interval(Duration::ZERO),
            builder().reconnect(none),
            builder().reconnect(inverted),
        ] {
            assert!(matches!(bad.build(), Err(ConfigError::OutOfRange { .. })));
        }
    }
}
