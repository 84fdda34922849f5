//! A broker of one's own, for tests that kill, pause or wipe it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::kafka::Kafka;
use super::ports;

/// A real Kafka broker. It dies with the thread that made it, however that ends.
pub struct Broker {
    process: Option<Child>,
    directory: PathBuf,
    port: u16,
    controller_port: u16,
    /// What makes it one of several.
    member: Vec<(&'static str, String)>,
    pub kafka: Kafka,
}

impl Broker {
    /// Starts a broker with nothing in it and waits until it answers.
    pub fn start(what: &str) -> Self {
        // Also says how to run tests where nothing is prepared.
        assert!(std::env::var("DASHSTREAM_TEST_KAFKA").is_ok(), "DASHSTREAM_TEST_KAFKA is not set: run tests/run");
        let directory = scratch(what);
        let port = ports::free();
        let kafka = Kafka { brokers: format!("127.0.0.1:{port}") };
        let controller_port = ports::free();
        let mut broker = Self { process: None, directory, port, controller_port, member: Vec::new(), kafka };
        broker.up();
        broker
    }

    /// Brokers that replicate each other, and wait for two replicas. Each one's `kafka` knows all of them.
    pub fn cluster(what: &str, count: usize) -> Vec<Self> {
        assert!(std::env::var("DASHSTREAM_TEST_KAFKA").is_ok(), "DASHSTREAM_TEST_KAFKA is not set: run tests/run");
        let places: Vec<(u16, u16)> = (0..count).map(|_| (ports::free(), ports::free())).collect();
        let all = |each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<Vec<_>>().join(",");
        let addresses = all(&|index| format!("127.0.0.1:{}", places[index].0));
        let voters = all(&|index| format!("{}@127.0.0.1:{}", index + 1, places[index].1));
        // 22 characters of base64, of which the last holds four bits only.
        let cluster = format!("dashstreamtest{:07}A", std::process::id());
        let broker = |index: usize| Self {
            process: None,
            directory: scratch(&format!("{what}-{index}")),
            port: places[index].0,
            controller_port: places[index].1,
            member: vec![
                ("DASHSTREAM_TEST_KAFKA_CLUSTER", cluster.clone()),
                ("DASHSTREAM_TEST_KAFKA_NODE", (index + 1).to_string()),
                ("DASHSTREAM_TEST_KAFKA_VOTERS", voters.clone()),
            ],
            kafka: Kafka { brokers: addresses.clone() },
        };
        let mut brokers: Vec<Self> = (0..count).map(broker).collect();
        // Not one after the other: none answers before most are there.
        brokers.iter_mut().for_each(Self::launch);
        brokers.iter().for_each(|broker| {
            Kafka { brokers: format!("127.0.0.1:{}", broker.port) }.wait_for_brokers(count);
        });
        brokers
    }

    /// Starts it again with the data that it had, and waits until it answers.
    pub fn up(&mut self) {
        self.launch();
        self.kafka.wait_for_metadata();
    }

    fn launch(&mut self) {
        assert!(self.process.is_none(), "the broker runs already");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/broker");
        let mut command = Command::new(script);
        command
            .arg(&self.directory)
            .arg(self.port.to_string())
            .arg(self.controller_port.to_string())
            .env("DASHSTREAM_TEST_KAFKA_HEAP", "320m")
            .envs(self.member.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        die_with_parent(&mut command);
        self.process = Some(command.spawn().expect("tests/kafka/broker starts"));
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a running process can be killed");
            process.wait().expect("a killed process ends");
        }
    }

    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        let pid = self.process.as_ref().expect("the broker runs").id();
        super::gateway::signal(pid, signal);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            // What cannot be removed is in the ignored scratch directory and goes with the next run.
            drop(std::fs::remove_dir_all(&self.directory));
        }
    }
}

/// A directory for one test, below the run's scratch directory.
pub fn scratch(what: &str) -> PathBuf {
    let name = format!("{what}-{}-{}", std::process::id(), ports::free());
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.run").join(name);
    std::fs::create_dir_all(&directory).expect("tests/.run is writable");
    directory
}

/// Linux kills the child when the thread that started it ends, also when that is by SIGKILL.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl with these arguments only sets a flag of the calling process, and is async-signal-safe.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

#[test]
fn a_broker_comes_back_with_its_data() {
    let mut broker = Broker::start("comes-back");
    let topic = broker.kafka.topic("data", 2);
    let producer = broker.kafka.producer(&topic);
    (0..100u64).for_each(|index| producer.send((index % 2) as u32, &index.to_be_bytes()));
    producer.flush();
    broker.kill();
    broker.up();
    broker.pause();
    broker.resume();
    let records = broker.kafka.read(&topic);
    let values: Vec<u64> = records
        .iter()
        .map(|record| u64::from_be_bytes(record.value.as_deref().expect("a value").try_into().expect("eight bytes")))
        .collect();
    assert_eq!(values, (0..100).step_by(2).chain((1..100).step_by(2)).collect::<Vec<u64>>());
    assert_eq!(broker.kafka.watermarks(&topic, 1), (0, 50));
    let pid = broker.process.as_ref().expect("it runs").id();
    drop(broker);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "nothing is left");
}
