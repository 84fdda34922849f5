//! The shipped binary as a process: `dashstream serve` with the environment that an operator would give it.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::broker::die_with_parent;
use super::http::{self, Metrics, Response};
use super::kafka::Kafka;
use super::{ports, wait};

/// What a gateway is started with. Starting it twice with the same setup is a restart.
#[derive(Clone, Debug)]
pub struct Setup {
    pub ws: SocketAddr,
    pub admin: SocketAddr,
    pub group: String,
    environment: BTreeMap<String, String>,
}

impl Setup {
    pub fn new(kafka: &Kafka, topic: &str) -> Self {
        let (ws, admin) = (ports::free_address(), ports::free_address());
        let group = kafka.fresh_name("group");
        let environment = [
            ("KAFKA_BROKERS", kafka.brokers.clone()),
            ("KAFKA_TOPIC", topic.to_owned()),
            ("KAFKA_GROUP_ID", group.clone()),
            ("WEBSOCKET_HOST", ws.ip().to_string()),
            ("WEBSOCKET_PORT", ws.port().to_string()),
            ("DASHSTREAM_ADMIN_LISTEN", admin.to_string()),
            // All clients of a test come from one address.
            ("WEBSOCKET_MAX_CONNECTIONS_PER_IP", "10000".to_owned()),
        ];
        let environment = environment.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { ws, admin, group, environment }
    }

    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.environment.insert(key.to_owned(), value.to_string());
        self
    }

    /// Another host: own group and ports, everything else equal.
    pub fn sibling(&self, kafka: &Kafka) -> Self {
        let mut other = self.clone();
        (other.ws, other.admin, other.group) =
            (ports::free_address(), ports::free_address(), kafka.fresh_name("group"));
        let (port, admin, group) = (other.ws.port(), other.admin, other.group.clone());
        other.set("WEBSOCKET_PORT", port).set("DASHSTREAM_ADMIN_LISTEN", admin).set("KAFKA_GROUP_ID", group)
    }

    /// Starts `dashstream serve` and waits for nothing.
    pub fn spawn(&self) -> Gateway {
        let mut command = self.command(&["serve"]);
        let mut process = command.spawn().expect("the binary starts");
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            collect(process.stderr.take().expect("piped"), output.clone()),
            collect(process.stdout.take().expect("piped"), output.clone()),
        ];
        Gateway { process, setup: self.clone(), output, readers, ended: None }
    }

    /// Starts `dashstream serve` and waits until it says that it is ready.
    pub fn start(&self) -> Gateway {
        let mut gateway = self.spawn();
        gateway.wait_ready();
        gateway
    }

    /// What `check-config` says that a gateway with these settings takes at most, in bytes.
    pub fn memory_max(&self, partitions: u32) -> u64 {
        let arguments = ["check-config", "--output", "json", "--partitions", &partitions.to_string()];
        let output = self.command(&arguments).output().expect("it runs");
        assert!(output.status.success(), "check-config: {}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let sums = report["memory"].as_array().expect("memory");
        let sum = sums.iter().find(|sum| sum["partitions"] == partitions).expect("the sum that was asked for");
        sum["total_bytes"].as_u64().expect("total_bytes")
    }

    /// A command of the binary with this environment and no other.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dashstream"));
        command
            .args(arguments)
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_parent(&mut command);
        command
    }
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            into.lock().expect("not poisoned").extend_from_slice(&buffer[..length]);
        }
    })
}

/// A running gateway. It is killed when this is dropped, and its last output is printed if the test failed.
pub struct Gateway {
    process: Child,
    pub setup: Setup,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

impl Gateway {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn ws(&self) -> SocketAddr {
        self.setup.ws
    }

    /// Everything that it printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().expect("not poisoned")).into_owned()
    }

    pub fn wait_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if http::try_get(self.setup.ws, "/ready").is_some_and(|response| response.status == 200) {
                return;
            }
            if let Some(status) = self.exited() {
                panic!("the gateway ended ({status}) before it was ready:\n{}", self.output());
            }
            assert!(
                Instant::now() < deadline,
                "not ready in a minute: {:?}\n{}",
                http::try_get(self.setup.admin, "/ready").map(|response| response.text()),
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited() {
                // Its last words may still be in the pipe.
                self.readers.drain(..).for_each(|reader| reader.join().expect("a reader"));
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway did not end in {limit:?}:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn terminate(&self) {
        signal(self.pid(), libc::SIGTERM);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            self.process.kill().expect("a running process can be killed");
            self.ended = Some(self.process.wait().expect("a killed process ends"));
        }
    }

    /// SIGTERM and exit code 0 within the promised ten seconds.
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait_exit(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "after SIGTERM:\n{}", self.output());
    }

    /// Kills it and starts it again with the same setup.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        let next = self.setup.spawn();
        *self = next;
    }

    pub fn get(&self, path: &str) -> Response {
        http::get(self.setup.ws, path)
    }

    pub fn get_admin(&self, path: &str) -> Response {
        http::get(self.setup.admin, path)
    }

    pub fn health(&self) -> serde_json::Value {
        let response = self.get_admin("/health");
        assert_eq!(response.status, 200, "/health always answers 200: {}", response.text());
        response.json()
    }

    pub fn metrics(&self) -> Metrics {
        let response = self.get_admin("/metrics");
        assert_eq!(response.status, 200);
        Metrics::parse(response.text())
    }

    /// `stream` of the protocols.
    pub fn stream(&self) -> String {
        self.get("/version").json()["resume_namespace"].as_str().expect("resume_namespace in /version").to_owned()
    }

    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process lives").count()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that it ever had, in bytes: the kernel's own record.
    pub fn resident_max(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process lives");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of that name");
        line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("kB") << 10
    }

    pub fn assert_alive(&mut self) {
        let status = self.exited();
        assert!(status.is_none(), "the gateway ended: {status:?}\n{}", self.output());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- the gateway's last output ---\n{}", tail.join("\n"));
        }
    }
}

pub fn signal(pid: u32, signal: i32) {
    // SAFETY: kill takes two numbers and touches no memory of ours; the child was not waited for yet.
    let result = unsafe { libc::kill(pid as libc::pid_t, signal) };
    assert_eq!(result, 0, "signal {signal} to {pid}: {}", std::io::Error::last_os_error());
}

/// Waits until a predicate on `/health` holds.
pub fn until_health(gateway: &Gateway, what: &str, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    wait::until(what, Duration::from_secs(60), || Some(gateway.health()).filter(|health| holds(health)))
}
