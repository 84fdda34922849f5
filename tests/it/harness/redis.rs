//! A Redis of a test's own, to kill, empty, stop and fill.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::broker::die_with_parent;
use super::gateway::signal;
use super::wait;

/// A redis-server of one's own, without persistence. It dies with the thread that made it, however that ends.
pub struct Redis {
    pub address: SocketAddr,
    process: Child,
}

impl Redis {
    pub fn start(address: SocketAddr, settings: &[&str]) -> Self {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--appendonly", "no"])
            .args(settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        die_with_parent(&mut command);
        let process = command.spawn().expect("redis-server, which tests/run installs");
        wait::until_true("redis to listen", wait::SOON, || TcpStream::connect(address).is_ok());
        Self { address, process }
    }

    /// One inline command, which succeeds.
    pub fn say(&self, command: &str) {
        let mut stream = TcpStream::connect(self.address).expect("redis");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        stream.write_all(format!("{command}\r\n").as_bytes()).expect("sent");
        let mut answer = [0; 256];
        let length = stream.read(&mut answer).expect("an answer");
        assert!(answer[..length].starts_with(b"+"), "{command}: {}", String::from_utf8_lossy(&answer[..length]));
    }

    pub fn signal(&self, number: i32) {
        signal(self.process.id(), number);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
