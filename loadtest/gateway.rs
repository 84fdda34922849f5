//! The binary under measurement: started with the environment that an operator would give it, asked over HTTP.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::{Outcome, PATIENCE, Setting};

pub struct Gateway {
    pub process: Process,
    pub address: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl Gateway {
    /// Reads `topic` from its beginning, or from its end, under a group of its own.
    pub fn start(setting: &Setting, topic: &str, from_the_beginning: bool) -> Outcome<Self> {
        Self::start_with(setting, topic, from_the_beginning, &[])
    }

    /// As [`Self::start`], with more of its environment.
    pub fn start_with(
        setting: &Setting,
        topic: &str,
        from_the_beginning: bool,
        environment: &[(&str, String)],
    ) -> Outcome<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let log = std::env::temp_dir().join(format!("dashstream-loadtest-{}.log", address.port()));
        let output = File::create(&log)?;
        let mut command = Command::new(&setting.binary);
        command
            .arg("serve")
            .env_clear()
            .env("KAFKA_BROKERS", &setting.brokers)
            .env("KAFKA_TOPIC", topic)
            .env("KAFKA_GROUP_ID", format!("{topic}-{}", address.port()))
            .env("KAFKA_AUTO_OFFSET_RESET", if from_the_beginning { "earliest" } else { "latest" })
            .env("WEBSOCKET_HOST", "127.0.0.1")
            .env("WEBSOCKET_PORT", address.port().to_string())
            .env("WEBSOCKET_MAX_CONNECTIONS_PER_IP", "10000")
            .env("DASHSTREAM_ADMIN_LISTEN", admin.to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        if setting.embedded.is_some() {
            // It does not answer a waiting fetch when data comes.
            command.env("DASHSTREAM_KAFKA_FETCH_MAX_WAIT_MS", "5");
        }
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        // What a measurement wants to vary is handed through.
        command.envs(std::env::vars().filter(|(name, _)| name.starts_with("DASHSTREAM_")));
        Ok(Self { process: Process::start(&mut command)?, address, admin, log })
    }

    pub fn wait_ready(&mut self) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if get(self.admin, "/ready").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            if self.process.has_ended() || Instant::now() > deadline {
                let output = std::fs::read_to_string(&self.log).unwrap_or_default();
                let last = output.lines().rev().take(15).collect::<Vec<_>>().into_iter().rev();
                return Err(
                    format!("the gateway is not ready; it said:\n{}", last.collect::<Vec<_>>().join("\n")).into()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every series, by its name with labels, and by its name alone summed over them. Bodies are up to a second old.
    pub fn metrics(&self) -> Outcome<HashMap<String, f64>> {
        let (status, body) = get(self.admin, "/metrics")?;
        if status != 200 {
            return Err(format!("/metrics answers {status}").into());
        }
        let mut sums = HashMap::new();
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let value = value.parse::<f64>().unwrap_or(0.0);
            if let Some((name, _)) = series.split_once('{') {
                *sums.entry(name.to_owned()).or_insert(0.0) += value;
            }
            sums.insert(series.to_owned(), value);
        }
        Ok(sums)
    }

    /// Waits until the metrics say so.
    pub fn wait_for(&mut self, what: &str, reached: impl Fn(&HashMap<String, f64>) -> bool) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE * 4;
        while !self.metrics().is_ok_and(|metrics| reached(&metrics)) {
            if self.process.has_ended() || Instant::now() > deadline {
                self.wait_ready()?;
                return Err(format!("the gateway never had {what}: see {}", self.log.display()).into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// As [`Self::metrics`], but of a body that was made after this call.
    pub fn settled_metrics(&self) -> Outcome<HashMap<String, f64>> {
        self.metrics()?;
        std::thread::sleep(Duration::from_millis(2100));
        self.metrics()
    }

    pub fn stop(mut self) -> Outcome<()> {
        if !self.process.terminate(Duration::from_secs(15)) {
            return Err(format!("the gateway did not end well: see {}", self.log.display()).into());
        }
        std::fs::remove_file(&self.log).ok();
        Ok(())
    }
}

pub fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

fn get(address: SocketAddr, path: &str) -> Outcome<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_whitespace().nth(1).ok_or("no status line")?.parse()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}
