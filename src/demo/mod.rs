//! An embedded broker and a generator of believable agent runs.
//!
//! In the order of the data: what agents are (`agents`, `prose`, `tools`), what a run does and how it is said
//! (`script`, `run`, `saying`, `calls`, `state`), many runs as records (`runs`, `poison`, `records`), and their way
//! into Kafka (`feeder`, `broker`). Everything up to `records` is pure: seed and time in, bytes out.
//!
//! Deliberately absent: anything that the gateway does. A demo runs the very gateway that `serve` runs.

pub mod dice;
pub mod agents;
pub mod prose;
pub mod tools;
pub mod manifest;
pub mod script;
pub mod state;
pub mod run;
mod saying;
mod calls;
pub mod runs;
pub mod poison;
pub mod records;
pub mod partitioner;
pub mod ahead;
pub mod broker;
pub mod feeder;
pub mod settings;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;

pub use settings::DemoOptions;

use crate::config::{ConfigErrors, load_with};
use crate::gateway::{self, GatewayError};
use crate::kafka::client::{Purpose, client_config};
use crate::observe::stats::Stats;
use crate::words::PartitionId;
use broker::{Broker, BrokerError, PARTITIONS};
use feeder::{AheadLimit, FeedError, Feeder, FeederOptions};

/// Half of what the embedded broker keeps: what is counted is not to the byte what it stores.
const AHEAD_BYTES: u64 = 2_560 * 1024;

#[derive(Debug, Error)]
pub enum DemoError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("{address} cannot be listened on: is another program there? Choose another with --port, or --port 0")]
    Port { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Gateway(GatewayError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Logging(#[from] crate::observe::logging::LoggingError),
}

impl From<GatewayError> for DemoError {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Listen { address, source } => Self::Port { address, source },
            other => Self::Gateway(other),
        }
    }
}

/// Runs until Ctrl-C.
pub fn run(options: &DemoOptions) -> Result<(), DemoError> {
    // Dropped last: the gateway and the feeder talk to it until they have ended.
    let broker = Broker::start(&[settings::TOPIC, settings::DLQ_TOPIC])?;
    let settings = settings::settings(options, &broker.bootstrap_servers());
    let pairs: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let loaded = load_with(&pairs)?;
    crate::observe::logging::init(&loaded.config.logging)?;
    let client = client_config(&loaded.config.kafka, Purpose::Producer);

    let running = gateway::start(loaded)?;
    let seed = options.seed.unwrap_or_else(any_seed);
    let stats = Arc::clone(&running.stats);
    let feeder = Feeder::start(FeederOptions {
        client,
        topic: settings::TOPIC.to_owned(),
        partitions: PARTITIONS,
        rate: options.rate,
        seed,
        poison: options.poison,
        ahead: Some(AheadLimit { bytes: AHEAD_BYTES, position: Box::new(move |partition| stats.next(partition)) }),
    })?;
    wait_for_partitions(&running.stats);
    announce(&running, options.rate, seed);
    let ended = running.run_until_stopped();
    let fed = feeder.stop();
    ended?;
    Ok(fed?)
}

/// Until clients are let in, so that whoever follows the printed address at once finds the runs there.
fn wait_for_partitions(stats: &Stats) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let open = || (0..PARTITIONS).all(|partition| stats.next(PartitionId(partition)).is_some());
    while !open() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Another one each time.
pub fn any_seed() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Few digits, so that it can be typed again.
    since_epoch.as_micros() as u64 % 1_000_000
}

fn announce(running: &gateway::Running, rate: u32, seed: u64) {
    let text = format!(
        "Agent runs are arriving at {rate} events/s. Open http://{}/ to watch them, and press Ctrl-C to end.\n\
         Clients connect to ws://{}/ws, metrics are at http://{}/metrics, `--seed {seed}` makes the same runs again.\n",
        running.service, running.service, running.admin,
    );
    // A closed standard output does not stop a demo: the page is what matters.
    std::io::stdout().write_all(text.as_bytes()).ok();
}
