//! A redis-server of a measurement's own: on a free port, without persistence, ended with it. And the floor of reading
//! from it, as a child process: the same entries, pipelined, not looked at.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::gateway::free_address;
use crate::process::{Process, own_cpu_seconds};
use crate::{Outcome, PATIENCE};

pub struct RedisServer {
    pub process: Process,
    address: SocketAddr,
}

impl RedisServer {
    pub fn start() -> Outcome<Self> {
        Self::start_at(free_address()?)
    }

    pub fn start_at(address: SocketAddr) -> Outcome<Self> {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Process::start(&mut command)?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                return Err("redis-server does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { process, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

/// Entries fetched with one round trip: about as many bytes as a cold reader fetches at once.
const PIPELINE: usize = 16;

/// Reads every entry that is there, and says what that cost.
pub fn read(url: &str) -> Outcome<()> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let (cpu, start) = (own_cpu_seconds(), Instant::now());
    let indices: Vec<String> = redis::cmd("KEYS").arg("dashstream:*:index").query(&mut connection)?;
    let (mut entries, mut records, mut bytes) = (0, 0, 0);
    for index in indices {
        let members: Vec<String> = redis::cmd("ZRANGE").arg(&index).arg(0).arg(-1).query(&mut connection)?;
        let prefix = index.trim_end_matches("index");
        for some in members.chunks(PIPELINE) {
            let mut pipeline = redis::Pipeline::with_capacity(some.len());
            for member in some {
                pipeline.cmd("GET").arg(format!("{prefix}{member}"));
            }
            let values: Vec<Vec<u8>> = pipeline.query(&mut connection)?;
            for value in &values {
                // Its head says how many records it holds.
                records += value.get(24..28).and_then(|part| part.try_into().ok()).map_or(0, u32::from_be_bytes);
                bytes += value.len();
            }
            entries += values.len();
        }
    }
    let (cpu, seconds) = (own_cpu_seconds() - cpu, start.elapsed().as_secs_f64());
    println!("{}", json!({ "entries": entries, "records": records, "bytes": bytes, "cpu": cpu, "seconds": seconds }));
    Ok(())
}
