//! Real sockets on a free port. Every wait has a deadline.

use std::io::Write;
use std::thread;

use super::super::fixture;
use super::*;

#[allow(clippy::disallowed_methods, reason = "a test plays gateway::threads")]
fn spawn(work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(work)
}

/// The thread under test; stopped and joined when dropped.
struct Running {
    address: SocketAddr,
    stats: Arc<Stats>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        let server = start_server(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        Self::with(server)
    }

    fn with(server: AdminServer) -> Self {
        let address = server.address;
        let (stats, config) = (Arc::new(fixture::serving()), Arc::new(fixture::config()));
        // The fixture's moments lie in another time than the process's clock.
        stats.kafka.lag_polled_at_ms.set(Some(monotonic_ms()));
        stats.heartbeats.lock().expect("lock").clear();
        let mut renderer = Renderer::new("{\"settings\":[]}").expect("the table is sound");
        let bodies = renderer.first(Snapshot::take(&stats, &config, monotonic_ms())).expect("bodies");
        let heartbeat = stats.heartbeat("http", HEARTBEAT_LIMIT_MS);
        let inputs = AdminInputs { server, stats: stats.clone(), config, renderer, bodies, heartbeat };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = spawn(move || run(inputs, &stopped));
        Self { address, stats, stop, thread: Some(thread) }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        Ok(stream)
    }

    /// Status and everything after the head.
    fn get(&self, method: &str, path: &str) -> io::Result<(u16, String)> {
        let mut stream = self.connect()?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        read_answer(&mut stream)
    }

    fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: did not happen");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the http thread panicked");
        }
    }
}

fn read_answer(stream: &mut TcpStream) -> io::Result<(u16, String)> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}

#[test]
fn every_body_is_served_and_moves_with_the_numbers() {
    let running = Running::start();
    for (method, path, status, word) in [
        ("GET", "/health", 200, "\"status\":\"healthy\""),
        ("GET", "/ready", 200, "true"),
        ("GET", "/live", 200, "\"http\""),
        ("GET", "/version", 200, "resume_namespace"),
        ("GET", "/config", 200, "settings"),
        ("GET", "/clients", 200, "\"total\":0"),
        ("GET", "/metrics", 200, "websocket_uptime_seconds"),
        ("GET", "/metrics", 200, "process_resident_memory_bytes"),
        ("GET", "/", 200, "/metrics"),
        ("GET", "/nothing", 404, ""),
        ("POST", "/health", 405, ""),
    ] {
        running.eventually(path, |running| {
            let (got, body) = running.get(method, path).expect("an answer");
            assert_eq!(got, status, "{path}");
            body.contains(word)
        });
    }
    assert_eq!(running.get("HEAD", "/metrics").expect("an answer"), (200, String::new()));
    running.stats.stopping.set(1);
    running.eventually("ready turns", |running| running.get("GET", "/ready").is_ok_and(|(status, _)| status == 503));
}

#[test]
fn a_port_in_use_is_an_error_that_names_key_and_address() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = taken.local_addr().expect("its address");
    let error = start_server(address).expect_err("the port is taken");
    let cause = std::error::Error::source(&error).expect("what the system said").to_string();
    let error = error.to_string();
    assert!(!error.contains(&cause), "it is said once, as the cause: {error}");
    assert!(error.contains("admin.listen") && error.contains(&address.to_string()), "{error}");
}

#[test]
fn a_listener_that_died_without_a_word_comes_back() {
    // What running out of descriptors does to tiny_http, in its two forms. Descriptors are the whole test
    // process's, so the listener is ended directly: here its thread is gone and nothing was reported.
    let mut server = start_server(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let other = start_server(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("another port");
    let dead = other.address;
    drop(other);
    let deadline = Instant::now() + Duration::from_secs(20);
    while probe(dead) != Listener::Dead {
        assert!(Instant::now() < deadline, "the listener does not end");
        thread::sleep(Duration::from_millis(20));
    }
    // A server that never hears anything, believed to be at an address where nobody listens.
    server.address = dead;
    let running = Running::with(server);
    assert!(running.get("GET", "/live").is_err(), "it is dead at first");
    running.eventually("the port answers again", |running| {
        running.get("GET", "/live").is_ok_and(|(status, _)| status == 200)
    });
    assert_eq!(running.get("GET", "/metrics").expect("an answer").0, 200);
}

#[test]
fn a_listener_whose_accept_fails_comes_back() {
    let server = start_server(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    // Shutting a listening socket down makes its accept fail, as running out of descriptors does.
    let address = server.address;
    shut_listener(address);
    let running = Running::with(server);
    running.eventually("the port answers again", |running| {
        running.get("GET", "/live").is_ok_and(|(status, _)| status == 200)
    });
}

fn shut_listener(address: SocketAddr) {
    let entries = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    for number in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        // SAFETY: only asked for its address and shut down when it is the listener of this test.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let socket = SockRef::from(&descriptor);
        let listens = socket.is_listener().unwrap_or(false);
        if listens && socket.local_addr().ok().and_then(|local| local.as_socket()) == Some(address) {
            socket.shutdown(Shutdown::Both).expect("shut down");
            return;
        }
    }
    panic!("no listener at {address}");
}

#[test]
fn a_body_that_never_comes_holds_nobody_up() {
    let running = Running::start();
    let claims = ["5000", "5000000", "18446744073709551615", "9000000000000000000", "900000000000000"];
    let mut streams = Vec::new();
    for claim in claims {
        let mut stream = running.connect().expect("a connection");
        write!(stream, "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: {claim}\r\n\r\nx").expect("sent");
        streams.push((claim, stream));
    }
    for (claim, stream) in &mut streams {
        assert_eq!(read_answer(stream).expect("an answer").0, 405, "{claim}");
    }
    let mut expecting = running.connect().expect("a connection");
    write!(expecting, "PUT /health HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        .expect("sent");
    assert_eq!(read_answer(&mut expecting).expect("an answer").0, 405);
    let mut chunked = running.connect().expect("a connection");
    write!(chunked, "PUT /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n").expect("sent");
    assert_eq!(running.get("GET", "/live").expect("an answer").0, 200);
}

#[test]
fn half_requests_and_vanished_clients_hold_nobody_up() {
    let running = Running::start();
    let mut kept = Vec::new();
    for _ in 0..50 {
        let mut stream = running.connect().expect("a connection");
        stream.write_all(b"GET /health HTTP/1.1\r\nX-Half: ").expect("sent");
        kept.push(stream);
        drop(running.connect().expect("a connection"));
    }
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\r\n\r\n"[..], b"GET\r\n\r\n", b"\xff\xfe\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
    {
        running.connect().expect("a connection").write_all(garbage).expect("sent");
    }
    assert_eq!(running.get("GET", "/live").expect("an answer").0, 200);
}

/// Runs in a process of its own, because descriptors belong to the whole process: the test starts itself again with
/// few of them allowed, and does its work there.
#[test]
fn running_out_of_descriptors_kills_the_listener_and_it_comes_back() {
    const FEW: u64 = 64;
    if Process::read().max_fds.is_none_or(|most| most > FEW) {
        let this = std::env::current_exe().expect("the test binary");
        let name = "observe::admin::tests::running_out_of_descriptors_kills_the_listener_and_it_comes_back";
        let script = format!("ulimit -n {FEW} && exec \"$0\" --exact {name} --test-threads=1 --nocapture");
        let output = std::process::Command::new("sh").arg("-c").arg(script).arg(this).output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    // A waiting accept has its descriptor already. With one left besides the client's the server's clone of the socket
    // fits and the next accept fails; with none the clone fails, and panics.
    for left in [2, 1] {
        let alone = start_server(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        run_out(alone.address, left);
        assert_eq!(probe(alone.address), Listener::Dead);
        let running = Running::start();
        for _ in 0..2 {
            run_out(running.address, left);
            running.eventually("the port answers again", |running| {
                running.get("GET", "/live").is_ok_and(|(status, _)| status == 200)
            });
        }
    }
}

/// Takes all descriptors but `left`, connects, and gives them back when nobody listens at `address` any more.
fn run_out(address: SocketAddr, left: usize) {
    let mut sockets = std::fs::File::open("/proc/self/net/tcp").expect("the kernel's sockets");
    let listening = format!(":{:04X} 00000000:0000 0A ", address.port());
    let mut listens = || {
        let mut text = String::new();
        io::Seek::rewind(&mut sockets).expect("rewound");
        sockets.read_to_string(&mut text).expect("read");
        text.contains(&listening)
    };
    assert!(listens(), "nobody listens to begin with");
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    taken.truncate(taken.len().saturating_sub(left));
    let client = TcpStream::connect_timeout(&address, Duration::from_secs(5));
    let deadline = Instant::now() + Duration::from_secs(60);
    while listens() {
        assert!(Instant::now() < deadline, "tiny_http survives with {left} descriptors: the repair is not needed");
        thread::sleep(Duration::from_millis(20));
    }
    drop((client, taken));
}
