//! The `http` thread: renders all bodies about once a second, and serves the admin port with tiny_http.
//!
//! tiny_http ends its listener for ever when an accept fails or its thread panics, both of which running out of
//! descriptors brings about, and says so only sometimes. Hence the thread connects to its own port every few
//! seconds, and builds the server anew when that is refused.
//!
//! A connection costs tiny_http a thread, and it has no timeouts of its own. Timeouts set on the listener are inherited by
//! what it accepts: a connection on which nothing comes, and a client that does not read, end after them. Request
//! bodies are not waited for. Even so the admin port belongs on loopback or behind a firewall.
//!
//! Deliberately absent: starting the thread (`gateway::threads`) and deciding an answer (`observe::http`).

use std::io::{self, Cursor, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tiny_http::{Header, ListenAddr, Server, StatusCode};

use super::http::{Request, Response, SharedBodies, Surface, respond};
use super::process::Process;
use super::render::Renderer;
use super::snapshot::Snapshot;
use super::stats::{Heartbeat, Stats, monotonic_ms};
use super::throttle::Throttle;
use crate::config::Config;

/// Between two renderings. Whoever scrapes more often gets the same numbers again.
const RENDER_EVERY: Duration = Duration::from_secs(1);
/// How long one turn waits for a request: also how late `stop` is noticed.
const TURN: Duration = Duration::from_millis(100);
/// Between two looks whether the port still accepts. Requests prove nothing: they may come over old connections.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection on which no byte comes for this long ends. Short, because tiny_http hands several connections that come
/// at once to one thread, where they wait for each other. Above `PROBE_EVERY`, because the listener has the timeout
/// too: an accept that waits longer fails, which costs a new server, and every probe ends such a wait.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// A client that takes no byte for this long is given up. While it waits, nothing is rendered.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// A client that takes bytes, but not all of them within this, is given up as well.
const RESPONSE_DEADLINE: Duration = Duration::from_secs(4);
/// Asked of the kernel, so that a usual answer fits and a slow reader costs this thread nothing.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// Bodies up to this are read by tiny_http before we see the request; longer ones when the request is dropped.
const BUFFERED_BODY_MAX: usize = 1024;
/// Claimed bodies up to this may be dropped.
const DROPPED_BODY_MAX: usize = 1 << 20;
/// Between two attempts to build a server that could not be built.
const REBUILD_EVERY: Duration = Duration::from_secs(1);

/// The longest that the thread may go without a beat: a client that is given up, with room.
pub const HEARTBEAT_LIMIT_MS: u64 = 15_000;

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("cannot listen on admin.listen = {address}: choose another address or end what uses it")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot serve HTTP on admin.listen = {address}")]
    Serve {
        address: SocketAddr,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Everything that the thread owns or shares.
#[derive(Debug)]
pub struct AdminInputs {
    pub server: AdminServer,
    pub stats: Arc<Stats>,
    pub config: Arc<Config>,
    pub renderer: Renderer,
    /// Where renderings are swapped in; the shards hold the same.
    pub bodies: SharedBodies,
    pub heartbeat: Arc<Heartbeat>,
}

/// A tiny_http server and the address that it really has.
pub struct AdminServer {
    server: Server,
    pub address: SocketAddr,
}

impl std::fmt::Debug for AdminServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AdminServer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Binds and listens. At start a port in use ends the process with this error; later it is tried again.
pub fn start_server(address: SocketAddr) -> Result<AdminServer, AdminError> {
    let listener = listen(address).map_err(|source| AdminError::Listen { address, source })?;
    let server = Server::from_listener(listener, None).map_err(|source| AdminError::Serve { address, source })?;
    let address = match server.server_addr() {
        ListenAddr::IP(address) => address,
        _ => address,
    };
    Ok(AdminServer { server, address })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_read_timeout(Some(IDLE_TIMEOUT))?;
    socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// The body of the `http` thread. Returns when `stop` is set.
pub fn run(inputs: AdminInputs, stop: &AtomicBool) {
    let AdminInputs { server, stats, config, mut renderer, bodies, heartbeat } = inputs;
    let mut front = Front::new(server);
    let mut rendered_at: Option<Instant> = None;
    let mut complaints = Throttle::new(5, 60_000);
    while !stop.load(Ordering::Acquire) {
        heartbeat.beat();
        if rendered_at.is_none_or(|at| at.elapsed() >= RENDER_EVERY) {
            rendered_at = Some(Instant::now());
            let mut snapshot = Snapshot::take(&stats, &config, monotonic_ms());
            snapshot.process = Process::read();
            match renderer.render(snapshot) {
                Ok(rendered) => bodies.store(Arc::new(rendered)),
                Err(error) => {
                    if let Some(suppressed) = complaints.allow(monotonic_ms()) {
                        tracing::error!(%error, suppressed, "metrics were not rendered; the port answers that they are stale");
                    }
                }
            }
        }
        front.turn(&bodies);
    }
}

/// The server while there is one, and what is needed to notice that it died.
struct Front {
    address: SocketAddr,
    server: Option<Server>,
    probed_at: Instant,
    rebuilt_at: Option<Instant>,
    complaints: Throttle,
}

impl Front {
    fn new(server: AdminServer) -> Self {
        Self {
            address: server.address,
            server: Some(server.server),
            probed_at: Instant::now(),
            rebuilt_at: None,
            complaints: Throttle::new(5, 60_000),
        }
    }

    /// Serves at most one request, or finds out that the server is dead, or tries to replace it.
    fn turn(&mut self, bodies: &SharedBodies) {
        let Some(server) = &self.server else {
            self.rebuild();
            return;
        };
        if self.probed_at.elapsed() >= PROBE_EVERY {
            self.probed_at = Instant::now();
            if probe(self.address) == Listener::Dead {
                self.lost("nobody listens on the admin port any more");
                return;
            }
        }
        match server.recv_timeout(TURN) {
            Ok(Some(request)) => {
                let served = panic::catch_unwind(AssertUnwindSafe(|| serve(request, bodies)));
                if served.is_err() {
                    self.complain("a request to the admin port ended in a panic");
                }
            }
            Ok(None) => {}
            Err(error) => self.lost(&format!("the admin port stopped accepting: {error}")),
        }
    }

    fn lost(&mut self, why: &str) {
        self.complain(&format!("{why}; it is built again"));
        self.server = None;
    }

    fn rebuild(&mut self) {
        if self.rebuilt_at.is_some_and(|at| at.elapsed() < REBUILD_EVERY) {
            std::thread::sleep(TURN);
            return;
        }
        self.rebuilt_at = Some(Instant::now());
        match start_server(self.address) {
            Ok(server) => {
                tracing::info!(address = %self.address, "the admin port answers again");
                self.server = Some(server.server);
                self.probed_at = Instant::now();
            }
            Err(AdminError::Listen { address, source }) => {
                self.complain(&format!("cannot listen on {address}: {source}"))
            }
            Err(AdminError::Serve { address, source }) => self.complain(&format!("cannot serve {address}: {source}")),
        }
    }

    fn complain(&mut self, what: &str) {
        if let Some(suppressed) = self.complaints.allow(monotonic_ms()) {
            tracing::warn!(suppressed, "{what}");
        }
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Listener {
    Answers,
    Dead,
    /// We could not ask, for want of a descriptor or of time.
    Unknown,
}

fn probe(address: SocketAddr) -> Listener {
    let mut target = address;
    if address.ip().is_unspecified() {
        target.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    match TcpStream::connect_timeout(&target, PROBE_TIMEOUT) {
        Ok(_) => Listener::Answers,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Listener::Dead,
        Err(_) => Listener::Unknown,
    }
}

fn serve(request: tiny_http::Request, bodies: &SharedBodies) {
    let method = request.method().to_string();
    let if_none_match = request.headers().iter().find(|header| header.field.equiv("If-None-Match"));
    let asked = Request {
        method: &method,
        path: request.url(),
        if_none_match: if_none_match.map(|header| header.value.as_str()),
        now_ms: monotonic_ms(),
    };
    let response = respond(&asked, &bodies.load(), Surface::Admin);
    let Some(claimed) = unread_body(&request) else {
        if let Err(error) = request.respond(to_tiny(&response)) {
            tracing::debug!(%error, "a client of the admin port did not take its answer");
        }
        return;
    };
    // Dropping such a request reads its body to the end, in this thread and into a buffer of the length that the
    // client claims. With its socket shut down there is nothing to wait for; a claim that is too large is never
    // dropped, which costs a thread of tiny_http and is better than the memory.
    let peer = request.remote_addr().copied();
    let stream = request.upgrade("close", to_tiny(&response));
    let ended = peer.is_some_and(hang_up);
    if !ended || claimed > DROPPED_BODY_MAX {
        std::mem::forget(stream);
    }
}

/// The length of a body that tiny_http left in the socket.
fn unread_body(request: &tiny_http::Request) -> Option<usize> {
    let expects = request.headers().iter().any(|header| header.field.equiv("Expect"));
    request.body_length().filter(|length| *length > BUFFERED_BODY_MAX || (expects && *length > 0))
}

/// Shuts down our end of the connection with `peer`, which tiny_http keeps to itself.
fn hang_up(peer: SocketAddr) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return false };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for number in numbers {
        // SAFETY: the descriptor is only used within this turn. If it was closed since it was listed, the calls
        // below fail; the one that matches cannot be closed, because the caller holds the request that owns it.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let socket = SockRef::from(&descriptor);
        if socket.peer_addr().ok().and_then(|address| address.as_socket()) == Some(peer) {
            return socket.shutdown(Shutdown::Both).is_ok();
        }
    }
    false
}

fn to_tiny(response: &Response) -> tiny_http::Response<Deadline> {
    let body = response.body.as_bytes().to_vec();
    let length = body.len();
    let reader = Deadline { body: Cursor::new(body), until: Instant::now() + RESPONSE_DEADLINE };
    let named = response.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let headers = named.chain([("Content-Type", response.content_type), ("Server", "dashstream")]);
    let headers = headers.filter_map(|(name, value)| Header::from_bytes(name, value).ok()).collect();
    tiny_http::Response::new(StatusCode(response.status), headers, reader, Some(length), None)
        .with_chunked_threshold(usize::MAX)
}

/// A body that gives up on a client who reads too slowly.
struct Deadline {
    body: Cursor<Vec<u8>>,
    until: Instant,
}

impl Read for Deadline {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > self.until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly"));
        }
        self.body.read(buffer)
    }
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
