//! Measures the shipped binary against floors that run in the same minute: how much of what the machine can do at
//! all is left of it. Prints a table per measurement and, with `--json`, the same as one JSON document.
//!
//! `cargo build --release && cargo run --release --example loadtest -- --brokers HOST:PORT fanout`
//!
//! Everything is bounded in time and stops what it started. Deliberately absent: pass or fail. Absolute numbers of a
//! shared machine move by a third between runs; ratios to the floor are what can be compared.

#![allow(clippy::disallowed_methods, reason = "the fences are the gateway's; a measuring tool is not the gateway")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it does")]
#![allow(unreachable_pub, reason = "an example has no users")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

mod bare_server;
mod clients;
mod crowd;
mod disturbed;
mod events;
mod fanout;
mod filters;
mod floor;
mod frames;
mod gateway;
mod idle;
mod ingest;
mod latency;
mod process;
mod redis_server;
mod replay;
mod report;
mod resume;
mod times;
mod topic;

/// As the gateway's binary, so that both sides of a ratio allocate alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub type Failure = Box<dyn std::error::Error>;
pub type Outcome<T> = Result<T, Failure>;

#[derive(Parser)]
#[command(about = "Measures dashstream against floors of the same machine and minute")]
struct Arguments {
    /// A Kafka on which topics may be made and deleted.
    #[arg(long, global = true, default_value = "127.0.0.1:9092")]
    brokers: String,
    /// Use librdkafka's mock cluster inside this process instead. Enough for `idle`, `latency` and modest `fanout`
    /// rates: it keeps 5 MiB per partition, and its CPU time counts as the generator's.
    #[arg(long, global = true)]
    embedded_broker: bool,
    /// The binary to measure.
    #[arg(long, global = true, default_value = "target/release/dashstream")]
    binary: PathBuf,
    #[arg(long, global = true, default_value_t = 4)]
    partitions: i32,
    /// Bytes of a record's value, about.
    #[arg(long, global = true, default_value_t = 250)]
    value_bytes: usize,
    /// Also write the results here, as JSON.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Protocol {
    V1,
    V2,
}

/// Where replayed records come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Tier {
    Log,
    Redis,
    Kafka,
}

#[derive(Subcommand)]
enum Command {
    /// Records per CPU-second with no client, beside a bare consumer that drains the same topic.
    Ingest {
        #[arg(long, default_value_t = 2_000_000)]
        records: u64,
        /// Gateway and floor, interleaved, so many times.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// Deliveries per gateway CPU-second, beside a bare send to the same clients with the same bytes per write.
    Fanout {
        #[arg(long, default_value_t = 100)]
        clients: usize,
        /// Records per second, one after the other.
        #[arg(long, value_delimiter = ',', default_value = "1000,5000,20000,50000")]
        rates: Vec<u64>,
        #[arg(long, default_value_t = 6)]
        seconds: u64,
        #[arg(long, value_enum, default_value_t = Protocol::V1)]
        protocol: Protocol,
    },
    /// Memory with idle connections.
    Idle {
        #[arg(long, value_delimiter = ',', default_value = "0,1000,5000")]
        connections: Vec<usize>,
    },
    /// From the intended time of sending to the client, beside a bare consumer of the same topic.
    Latency {
        #[arg(long, default_value_t = 20)]
        clients: usize,
        #[arg(long, default_value_t = 1000)]
        rate: u64,
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        #[arg(long, default_value_t = 2)]
        rounds: u32,
        #[arg(long, value_enum, default_value_t = Protocol::V1)]
        protocol: Protocol,
    },
    /// A resume from the beginning, from the log, Redis and Kafka, beside a plain read of the same data.
    Replay {
        #[arg(long, default_value_t = 600_000)]
        records: u64,
        #[arg(long, value_enum, value_delimiter = ',', default_value = "log,redis,kafka")]
        tiers: Vec<Tier>,
        /// Clients that resume at once, one number after the other.
        #[arg(long, value_delimiter = ',', default_value = "1,8")]
        clients: Vec<usize>,
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// From sending Resume after a short absence to the first record and to `live`, beside a bare server.
    Resume {
        #[arg(long, default_value_t = 1000)]
        clients: usize,
        /// Records that each has missed.
        #[arg(long, default_value_t = 200)]
        missed: u64,
        /// Records per second meanwhile.
        #[arg(long, default_value_t = 100)]
        rate: u64,
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// Live latency while Redis hangs, is gone, or a herd resumes from below the log, between undisturbed runs.
    Disturbed {
        #[arg(long, default_value_t = 20)]
        clients: usize,
        #[arg(long, default_value_t = 1000)]
        rate: u64,
        #[arg(long, default_value_t = 6)]
        seconds: u64,
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        #[arg(long, default_value_t = 200)]
        herd_clients: usize,
        #[arg(long, default_value_t = 200_000)]
        herd_records: u64,
    },
    /// Clients that follow one run each, beside as many that follow nothing, at one rate of events.
    Filters {
        #[arg(long, value_delimiter = ',', default_value = "100,1000,5000")]
        clients: Vec<usize>,
        /// Events per second in total.
        #[arg(long, default_value_t = 10_000)]
        rate: u64,
        #[arg(long, default_value_t = 6)]
        seconds: u64,
    },
    /// A child of a measurement: clients that hold a conversation.
    #[command(hide = true)]
    Crowd { address: std::net::SocketAddr, clients: usize },
    /// A child of a measurement: a server that has its answer ready.
    #[command(hide = true)]
    BareServer { records: u64, value_size: usize, hello_partitions: u32 },
    /// A child of a measurement: a plain read of what is in Redis.
    #[command(hide = true)]
    FloorRedis { url: String },
    /// A child of a measurement: a bare consumer of what comes.
    #[command(hide = true)]
    FloorLatency { topic: String },
    /// A child of a measurement: connected clients that count what they get.
    #[command(hide = true)]
    Sink { address: std::net::SocketAddr, clients: usize, protocol: Protocol },
    /// A child of a measurement: bare sends.
    #[command(hide = true)]
    FloorSend { clients: usize },
    /// A child of a measurement: a bare consumer.
    #[command(hide = true)]
    FloorDrain { topic: String, records: u64 },
}

/// What every measurement needs to know.
pub struct Setting {
    pub brokers: String,
    /// It makes topics by itself, and is ended with this.
    pub embedded: Option<MockCluster<'static, DefaultProducerContext>>,
    pub binary: PathBuf,
    pub partitions: i32,
    pub value_bytes: usize,
}

/// Nothing waits longer than this for something that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    process::raise_descriptor_limit();
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("loadtest: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Outcome<()> {
    let embedded = arguments.embedded_broker.then(|| MockCluster::new(1)).transpose()?;
    let setting = Setting {
        brokers: embedded.as_ref().map_or(arguments.brokers, MockCluster::bootstrap_servers),
        embedded,
        binary: arguments.binary,
        partitions: arguments.partitions,
        value_bytes: arguments.value_bytes,
    };
    let report = match arguments.command {
        Command::Ingest { records, rounds } => ingest::measure(&setting, records, rounds)?,
        Command::Fanout { clients, rates, seconds, protocol } => {
            fanout::measure(&setting, clients, &rates, Duration::from_secs(seconds), protocol)?
        }
        Command::Idle { connections } => idle::measure(&setting, &connections)?,
        Command::Latency { clients, rate, seconds, rounds, protocol } => {
            latency::measure(&setting, clients, rate, Duration::from_secs(seconds), rounds, protocol)?
        }
        Command::Replay { records, tiers, clients, rounds } => {
            replay::measure(&setting, records, &tiers, &clients, rounds)?
        }
        Command::Resume { clients, missed, rate, rounds } => resume::measure(&setting, clients, missed, rate, rounds)?,
        Command::Disturbed { clients, rate, seconds, rounds, herd_clients, herd_records } => {
            let herd = disturbed::Herd { clients: herd_clients, records: herd_records };
            disturbed::measure(&setting, clients, rate, Duration::from_secs(seconds), rounds, &herd)?
        }
        Command::Filters { clients, rate, seconds } => {
            filters::measure(&setting, &clients, rate, Duration::from_secs(seconds))?
        }
        Command::Crowd { address, clients } => return crowd::run(address, clients),
        Command::BareServer { records, value_size, hello_partitions } => {
            return bare_server::run(records, value_size, hello_partitions);
        }
        Command::FloorRedis { url } => return redis_server::read(&url),
        Command::FloorLatency { topic } => return latency::bare(&setting.brokers, &topic, setting.partitions),
        Command::Sink { address, clients, protocol } => return clients::sink(address, clients, protocol),
        Command::FloorSend { clients } => return floor::send(clients),
        Command::FloorDrain { topic, records } => return floor::drain(&setting.brokers, &topic, records),
    };
    report.print();
    if let Some(path) = arguments.json {
        std::fs::write(&path, serde_json::to_vec_pretty(&report.json())?)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}
