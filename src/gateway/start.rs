//! Starts the threads, in the order in which they need each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::Sender;

use super::commits::Positions;
use super::partitions::{Downstream, Partitions};
use super::supervise::{House, Stops};
use super::threads::{self, Ended, Ending};
use super::wiring::Wiring;
use super::{GatewayError, Running};
use crate::broadcast::accept::Acceptor;
use crate::broadcast::addresses::Addresses;
use crate::broadcast::encoder::Encoder;
use crate::broadcast::inbox::{ShardInbox, ToShard};
use crate::broadcast::session::{SessionSettings, Watermarks};
use crate::broadcast::shard::{ColdPorts, Shard, ShardPorts, ShardSettings};
use crate::config::{Assignment, Config, Loaded};
use crate::dlq::{DlqInlet, DlqThread, DlqThreadOptions, thread as dlq_thread};
use crate::kafka::control::PollControl;
use crate::kafka::poll::{Poll, PollSetup, Timings};
use crate::lag::{Lag, LagSetup};
use crate::observe::admin::{self, AdminInputs};
use crate::observe::http::Surface;
use crate::observe::render::Renderer;
use crate::observe::snapshot::Snapshot;
use crate::observe::stats::{RedisBounds, ShardStats, Stats, monotonic_ms};
use crate::replay::cache::ChunkCache;
use crate::replay::kafka::KafkaReader;
use crate::replay::reader::{ColdReader, StreamNow};
use crate::replay::redis::{RedisInlet, RedisWriter, RedisWriterOptions, writer as redis_writer};
use crate::replay::seats::ColdSeats;

/// Encoder threads for JSON. One keeps up with a busy page; two use what two cores leave.
const ENCODERS: usize = 1;

/// A shard, an encoder and accept beat several times a second; this much later they are stuck.
const QUICK_LIMIT_MS: u64 = 5_000;

/// A cold reader may wait for Kafka a few times in one request.
const COLD_LIMIT_MS: u64 = 20_000;

/// How long an answer to a cursor may wait for Kafka.
const JUDGE_TIMEOUT_MS: u64 = 5_000;

pub(super) fn start(loaded: Loaded) -> Result<Running, GatewayError> {
    let config = Arc::new(loaded.config.clone());
    raise_descriptor_limit(u64::from(config.server.max_connections));
    let stats = Arc::new(Stats::default());
    let service_address = SocketAddr::new(config.server.host, config.server.port);
    let listener = mio::net::TcpListener::bind(service_address)
        .map_err(|source| GatewayError::Listen { address: service_address, source })?;
    let service = listener.local_addr()?;
    let admin_server = admin::start_server(config.admin.listen)?;
    let admin_address = admin_server.address;

    let wiring = Wiring::new(config.server.shards, &config.cold)?;
    let ended = wiring.ended.0.clone();
    let stops = Arc::new(Stops::default());
    let inboxes = wiring.inboxes();
    let control = PollControl::new();
    let positions = Positions::default();
    let watermarks: Arc<ArcSwap<Watermarks>> = Arc::new(ArcSwap::from_pointee(Watermarks::default()));
    let addresses = Addresses::new(config.server.max_connections, config.server.max_connections_per_ip);
    let mut renderer = Renderer::new(&loaded.to_json(None).to_string())?;
    let bodies = renderer.first(Snapshot::take(&stats, &config, monotonic_ms()))?;

    // Whatever reports its end to nobody has to be made before the first thread runs.
    let dlq = DlqThread::new(DlqThreadOptions {
        letters: wiring.letters.1.clone(),
        kafka: config.kafka.clone(),
        dlq: config.dlq.clone(),
        stats: stats.clone(),
        heartbeat: stats.heartbeat("dlq", dlq_thread::HEARTBEAT_LIMIT.as_millis() as u64),
    })?;
    let cold_kafka = wiring.cold_requests.iter().map(|_| KafkaReader::new(&config.kafka, stats.clone()));
    let cold_kafka: Vec<_> = cold_kafka.collect();
    let stream_now: Arc<ArcSwapOption<StreamNow>> = Arc::default();
    let inlet = DlqInlet::new(wiring.dlq_channels(), &config.dlq, stats.clone());
    let redis_inlet = config
        .replay
        .redis
        .is_on()
        .then(|| RedisInlet::new(wiring.to_redis.0.clone(), &config.replay.redis, stats.clone()));
    let redis = redis_inlet.clone().and_then(|inlet| {
        RedisWriter::new(RedisWriterOptions {
            chunks: wiring.to_redis.1.clone(),
            inlet,
            config: config.clone(),
            stats: stats.clone(),
            heartbeat: stats.heartbeat("redis", redis_writer::HEARTBEAT_LIMIT.as_millis() as u64),
        })
    });
    let host = Partitions::new(
        (*config).clone(),
        Downstream { shards: inboxes.clone(), dlq: inlet, redis: redis_inlet },
        wiring.commands.0.clone(),
        ended.clone(),
        stats.clone(),
        positions.clone(),
        stream_now.clone(),
    );
    let poll = Poll::new(
        PollSetup {
            kafka: config.kafka.clone(),
            warm_bytes: config.log.warm_bytes,
            warm_age: config.log.warm_age,
            instance: uuid::Uuid::new_v4().to_string(),
            stats: stats.clone(),
            commands: wiring.commands.1.clone(),
            control: control.clone(),
            timings: Timings::default(),
        },
        Box::new(host),
    )?;
    let answers: Arc<ArcSwap<crate::lag::Watermarks>> = Arc::default();
    let lag = Lag::new(LagSetup {
        kafka: config.kafka.clone(),
        lag: config.lag.clone(),
        stats: stats.clone(),
        requests: wiring.requests.1.clone(),
        commands: wiring.commands.0.clone(),
        watermarks: answers.clone(),
        on_published: on_published(answers, stats.redis.bounds.clone(), watermarks.clone(), inboxes.clone()),
        on_fatal: on_fatal(ended.clone()),
    })?;

    let mut house = House {
        ended: wiring.ended.1,
        stops: stops.clone(),
        control,
        positions,
        dlq_stop: wiring.dlq_stop.0,
        redis_stop: wiring.redis_stop.0,
        inboxes: inboxes.clone(),
        config: config.clone(),
        stats: stats.clone(),
        handles: Vec::new(),
    };
    let seats = Arc::new(ColdSeats::new(config.cold.max_sessions));
    let cold_requests: Vec<_> = wiring.cold_requests.iter().map(|(requests, _)| requests.clone()).collect();
    let cold_answers: Vec<_> =
        wiring.shards.iter().map(|shard| (shard.cold_answers.0.clone(), shard.sender.clone())).collect();
    let mut shard_stats = Vec::new();
    for (index, shard) in wiring.shards.into_iter().enumerate() {
        let name = format!("ws-{index}");
        let own = Arc::new(ShardStats::default());
        shard_stats.push(own.clone());
        let ports = ShardPorts {
            poll: shard.poll,
            inbox: shard.inbox,
            bell: shard.bell,
            encoders: wiring.rendering.0.clone(),
            cold: (!cold_requests.is_empty()).then(|| ColdPorts {
                shard: index,
                requests: cold_requests.clone(),
                answers: shard.cold_answers.1,
                seats: seats.clone(),
            }),
            lag: wiring.requests.0.clone(),
            watermarks: watermarks.clone(),
            bodies: bodies.clone(),
            addresses: addresses.clone(),
            stats: stats.clone(),
            shard_stats: own,
            heartbeat: stats.heartbeat(&name, QUICK_LIMIT_MS),
        };
        let shard = Shard::new(shard_settings(&config), ports);
        house.spawn(&name, &ended, move || shard.run().map_err(|error| error.to_string()))?;
    }
    // Nobody else sets it: `Stats` is new.
    stats.shards.get_or_init(|| shard_stats);
    for index in 0..ENCODERS {
        let name = format!("enc-{index}");
        let encoder = Encoder {
            requests: wiring.rendering.1.clone(),
            shards: inboxes.clone(),
            payload_max_bytes: config.kafka.payload_max_bytes as usize,
            heartbeat: stats.heartbeat(&name, QUICK_LIMIT_MS),
        };
        let stops = stops.clone();
        house.spawn(&name, &ended, move || {
            encoder.run(&stops.side);
            Ok(())
        })?;
    }
    let cache = Arc::new(ChunkCache::new(config.cold.cache_bytes));
    for (index, ((_, requests), kafka)) in wiring.cold_requests.into_iter().zip(cold_kafka).enumerate() {
        let name = format!("cold-{index}");
        let reader = ColdReader {
            requests,
            answers: cold_answers.clone(),
            config: config.clone(),
            kafka,
            cache: cache.clone(),
            stream: stream_now.clone(),
            bytes_max: config.cold.max_bytes,
            stats: stats.clone(),
            heartbeat: stats.heartbeat(&name, COLD_LIMIT_MS),
        };
        let stops = stops.clone();
        house.spawn(&name, &ended, move || {
            reader.run(&stops.side);
            Ok(())
        })?;
    }
    let dlq_stop = wiring.dlq_stop.1;
    house.spawn("dlq", &ended, move || {
        let flushed = dlq.run(&dlq_stop);
        if flushed.remaining > 0 {
            tracing::warn!(
                remaining = flushed.remaining,
                "dead letters are not acknowledged; their records are read again"
            );
        }
        Ok(())
    })?;
    if let Some(redis) = redis {
        let redis_stop = wiring.redis_stop.1;
        house.spawn("redis", &ended, move || {
            redis.run(&redis_stop);
            Ok(())
        })?;
    }
    let stop = stops.clone();
    house.spawn("lag", &ended, move || {
        lag.run(&stop.side);
        Ok(())
    })?;
    let stop = stops.clone();
    house.spawn("kafka-poll", &ended, move || {
        poll.run(&stop.now);
        Ok(())
    })?;
    let acceptor = Acceptor {
        listener,
        shards: inboxes,
        addresses,
        stats: stats.clone(),
        user_timeout: config.client.stall_timeout + std::time::Duration::from_secs(30),
        heartbeat: stats.heartbeat("ws-accept", QUICK_LIMIT_MS),
    };
    let stop = stops.clone();
    house.spawn("ws-accept", &ended, move || acceptor.run(&stop.accept).map_err(|error| error.to_string()))?;
    let inputs = AdminInputs {
        server: admin_server,
        stats: stats.clone(),
        config,
        renderer,
        bodies,
        heartbeat: stats.heartbeat("http", 15_000),
    };
    let stop = stops.clone();
    house.spawn("http", &ended, move || {
        admin::run(inputs, &stop.side);
        Ok(())
    })?;
    Ok(Running { stats, service, admin: admin_address, house })
}

/// What the lag thread learned, as sessions read it, and a wake for whoever waits.
fn on_published(
    answers: Arc<ArcSwap<crate::lag::Watermarks>>,
    redis: RedisBounds,
    watermarks: Arc<ArcSwap<Watermarks>>,
    inboxes: Vec<ShardInbox>,
) -> Box<dyn Fn() + Send> {
    Box::new(move || {
        let answer = answers.load();
        let bounds = answer.partitions.iter().map(|(partition, known)| (*partition, (known.low, known.high)));
        watermarks.store(Arc::new(Watermarks {
            asked_at_ms: answer.asked_at_ms,
            bounds: bounds.collect(),
            second_tier: redis.load().iter().map(|(partition, (oldest, _))| (*partition, *oldest)).collect(),
        }));
        for inbox in &inboxes {
            // A full inbox will be looked into anyway, and the sweep looks at watermarks by itself.
            if inbox.try_send(ToShard::LookAgain).is_err() {
                inbox.wake();
            }
        }
    })
}

/// The stall watchdog gave up: the process ends as if its thread had.
fn on_fatal(ended: Sender<Ended>) -> Box<dyn Fn(String) + Send> {
    Box::new(move |what| {
        if ended.try_send(Ended { thread: "lag".to_owned(), ending: Ending::Failed(what) }).is_err() {
            tracing::error!("nobody hears that the stall watchdog gave up");
        }
    })
}

fn shard_settings(config: &Config) -> ShardSettings {
    let client = &config.client;
    ShardSettings {
        session: SessionSettings {
            group: config.kafka.assignment == Assignment::Group,
            slow: client.slow_policy,
            slow_allowed: client.slow_policies.clone(),
            cold: config.cold.readers > 0,
            search_age_ms: config.cold.search_age.as_millis() as u64,
            search_max_bytes: config.cold.search_max_bytes,
            message_max_bytes: client.message_max_bytes,
            resume_partitions_max: client.resume_partitions_max,
            stall_timeout_ms: client.stall_timeout.as_millis() as u64,
            idle_timeout_ms: client.idle_timeout.as_millis() as u64,
            ping_interval_ms: client.ping_interval.as_millis() as u64,
            judge_timeout_ms: JUDGE_TIMEOUT_MS,
        },
        log_max_bytes: config.log.max_bytes,
        log_max_age_ms: config.log.max_age.as_millis() as u64,
        flush: config.fanout.flush,
        mid_frame_max_bytes: config.fanout.mid_frame_max_bytes,
        inbound_max_bytes: config.fanout.inbound_max_bytes,
        head_max_bytes: client.head_max_bytes as usize,
        message_max_bytes: client.message_max_bytes as usize,
        resume_partitions_max: client.resume_partitions_max as usize,
        resume_threads_max: client.resume_threads_max as usize,
        handshake_timeout_ms: client.handshake_timeout.as_millis() as u64,
        grace_ms: client.resume_grace.as_millis() as u64,
        trusted_proxies: config.server.trusted_proxy_ips.clone(),
        surface: Surface::Service { public: !config.server.host.is_loopback() },
        payload_max_bytes: config.kafka.payload_max_bytes as usize,
        runs_max: config.cold.runs_max as usize,
    }
}

impl House {
    fn spawn(
        &mut self,
        name: &str,
        ended: &Sender<Ended>,
        run: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> std::io::Result<()> {
        let handle = threads::spawn(name, ended.clone(), run)?;
        self.handles.push((name.to_owned(), handle));
        Ok(())
    }
}

/// Descriptors that are not clients': Kafka brokers, threads' wakers, listeners, the log.
const OTHER_DESCRIPTORS: u64 = 256;

/// As many descriptors as the system allows: one per client, and the soft limit is often 1,024.
fn raise_descriptor_limit(connections_max: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours and outlives the calls.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    if !raised {
        tracing::warn!("the limit of open files cannot be raised to its maximum");
    } else if limit.rlim_cur < connections_max + OTHER_DESCRIPTORS {
        tracing::warn!(
            limit = limit.rlim_cur,
            "server.max_connections = {connections_max} needs more open files than the system allows (ulimit -n, \
             LimitNOFILE): clients beyond the limit are refused with 503"
        );
    }
}

/// Flags that threads look at. Each is raised once, in the order of the shutdown.
impl Stops {
    pub(super) fn raise(flag: &AtomicBool) {
        flag.store(true, std::sync::atomic::Ordering::Release);
    }
}
