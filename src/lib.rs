//! DashStream: one Kafka topic of agent telemetry, streamed to browsers and tools over WebSocket, live, and honest:
//! a client always knows what it has, what it missed and why.
//!
//! # Bird's eye view
//!
//! One process reads one topic and is one stream. There is no async runtime: a thread per partition, a few shards
//! that own the clients, and a few threads beside the path. Nothing is shared on the path but immutable chunks.
//!
//! ```text
//! librdkafka ──partition queue──> p-<n>   validate, decide, build chunks       (one per partition)
//!                                  │  bounded channel per shard, Arc<Chunk>
//!                                  ├────> ws-<s>      mio loop; owns its clients, ring and positions  (1..N)
//!                                  ├────> dlq         own producer; acknowledgements mark a ledger    (1)
//!                                  ├────> redis       writes what may be asked for later; never waited for (0..1)
//!                                  └─ atomics ──────> lag         watermarks, stall watchdog          (1)
//! cold-<k>: read what is older than the log, on request, by quanta: cache, Redis, Kafka
//! kafka-poll: assignment, identity, commits     ws-accept: accept and limits     enc-<k>: JSON forms
//! http: admin port and the bodies of both ports      main: start, signals, supervision
//! ```
//!
//! A record is read by its worker ([`partition::worker`]), judged by a pure function ([`partition::dispose`]), and
//! becomes an entry of a chunk ([`log::Chunk`]), which covers an interval of offsets. A shard appends the chunk to its
//! ring ([`log::Ring`]). A client has no queue but a position in that ring ([`broadcast::session`]): live delivery, a
//! slow client and a resume are the same walk from a position to the head.
//!
//! # Where to begin
//!
//! - `gateway::start` starts every thread, in the order in which they need each other; [`gateway::wiring`] makes every
//!   channel, with its bound and what happens when it is full.
//! - [`partition::core`], [`broadcast::session`] and [`log`] are the heart, and pure: no socket, no clock, no thread.
//!   `tests/sim` drives them against a shadow model that knows only what was produced.
//! - [`config::table`] is every setting, `observe::metrics` every series, [`words`] every reason: one table each, from
//!   which code, metrics, `README.md` and tests take their names.
//!
//! # Rooms, in the order of the data, and what is deliberately not in them
//!
//! | room | holds | never |
//! |---|---|---|
//! | [`words`] | newtypes, reasons, the stream's identity | behaviour |
//! | [`config`] | raw to checked settings, the memory sum | is read a second time: the environment is read here only |
//! | [`wire`] | framing, bounded decompression, the borrowed scan, JSON of events | decisions about records |
//! | [`kafka`] | every client, partition queues, assignment, start offsets, commits, identity | what a record means; who listens |
//! | [`partition`] | disposition, sequence validator, the worker | who gets a chunk |
//! | [`log`] | chunk, builder, forms, ring | sockets, clocks, Kafka |
//! | [`broadcast`] | accept, shards, sessions, three protocols | Kafka; a queue per client |
//! | [`replay`] | what left the log: Redis, Kafka, the cold readers and their cache | what a client is told; when it joins the log |
//! | [`dlq`] | envelope, ledger, breaker, the producer of dead letters | the decision that a record is bad |
//! | [`lag`] | how far behind, whether stuck | what follows for readiness |
//! | [`topics`] | declared topics: what differs from the cluster, and making it so | deleting or lowering anything |
//! | [`gateway`] | wiring, threads, supervision, shutdown | decisions about records and clients |
//! | [`observe`] | stats, one snapshot, metrics, health, both HTTP fronts, logging | anything on the path of a record |
//! | [`client`] | the reference client: its conversation, its cursor, its socket | gateway code; threads; other protocols than v2 |
//! | [`producer`] | the producer library: sequence, limits, redaction, batches, limiter, outcome | gateway code; a second try; a queue without a bound |
//! | `analysis` | what the events of a run mean: spans, critical path, costs, states | where events come from; how findings look; a clock |
//! | [`page`], `demo`, `cli` | the web page; embedded broker and made-up runs; the command line | gateway code of their own |
//! | `cli::source`, `cli::show` | events from Kafka, a gateway or a file as one stream; events for people and tools | a consumer group; a commit |
//!
//! # Invariants
//!
//! 1. Everything is an interval of offsets `[from, next)`. An offset inside that is no record is a hole, never a gap.
//! 2. A record that was read is delivered to the log, dead-lettered, or skipped with a reason; the difference of the
//!    books is exported and is 0.
//! 3. Between two accepted resumes the offsets of a partition only go up on a connection, and none is sent twice.
//!    Whatever a client does not get is inside a gap frame with its reason.
//! 4. Every queue, buffer and wait has a bound, summed by `check-config`. Blocking sends point downstream only and end
//!    on stop; towards a client nothing ever blocks.
//! 5. A commit never passes what not every shard has taken or, under `fail_closed`, an unwritten dead letter.
//! 6. A cursor belongs to a stream (cluster, topic, topic id). A topic that was made again is another stream: everyone
//!    is closed with `stream_changed`, nothing is committed, and the old cursor is answered `wrong_stream`.
//! 7. Unknown is absent: no series shows -1, NaN or a frozen value.
//! 8. A thread that dies takes the process down in order; Kafka holds the data.
//!
//! # Decisions that are ours
//!
//! - A partition that a v2 or json cursor does not name goes on where the connection stands; before anything was sent
//!   that is Hello's position. v1 gets all that there is.
//! - A cursor ahead of our log, or of a partition whose log is not open yet, holds the session until Kafka's watermarks
//!   are there, five seconds at most. What cannot be answered then is `unavailable`, and nothing of that partition is
//!   sent until it is asked for again: whatever came first would pass over what lies between.
//! - "All shards took it" means that the shard's inbox took it; the warm start covers what a crash loses between.
//! - A producer instance (header `dashstream.producer`) is looked at only when a sequence is not the expected one, so
//!   that no headers are parsed for a record that is in order.
//! - Redis is a cache: a worker offers it a chunk after every shard has it, and does not wait. Consecutive chunks of a
//!   partition become one entry; of two entries that begin at one offset the later stays, and what it covers less is
//!   read from Kafka. An interval that is lost to us is not written, since another host may have it.
//! - `replay.redis.max_bytes` is for the whole stream, shared equally by its partitions, and judged by the mean size of
//!   entries; exact is only the maxmemory of Redis. What waits for Redis pins chunks, so it may take a quarter of
//!   `log.max_bytes` at most, and the log gives way.
//! - A resume resets what a session was told before: a pause ends, and `falling_behind` is forgotten. A filter stays,
//!   except that "from a run" puts its own in its place.
//! - What is older than the log is judged by watermarks that were asked for after the resume arrived: `resumed` means
//!   that Kafka or Redis has it. Cold chunks count apart from the log (`cold.max_bytes`), so that a crowd of replays does
//!   not push out what everybody else needs.
//! - A run index says where a run begins only as far as the shard has read and not forgotten; what it cannot know is
//!   looked for, by time, and `searched` says what was looked through.
//! - Under a filter on content, dead letters and nulls are withheld: nobody can read whose they are.
//! - The delivery timeout of the producer library is its own. A message that times out within librdkafka makes it go on
//!   under another epoch and send again, as new, what may be stored already; so all that is under way is given up at
//!   once before its oldest part is overdue, and an event is on the topic once at most.
//! - A session has one request to the cold readers out at a time, and lets go of what it has not begun when its socket
//!   is full: who does not read holds no memory, and after two seconds no seat.
//! - `/version`, `/health` and `/metrics` are written once a second and copied to whoever asks.

pub mod words;
#[cfg(feature = "gateway")]
pub mod config;
pub mod wire;

#[cfg(any(feature = "gateway", feature = "producer"))]
pub mod kafka;
#[cfg(feature = "gateway")]
pub mod partition;
#[cfg(feature = "gateway")]
pub mod log;
#[cfg(feature = "gateway")]
pub mod broadcast;
#[cfg(any(feature = "gateway", feature = "limiter-redis"))]
#[cfg_attr(not(feature = "gateway"), allow(dead_code, reason = "the limiter asks less of Redis than the gateway"))]
mod redis_link;
#[cfg(feature = "gateway")]
pub mod replay;

#[cfg(feature = "gateway")]
pub mod dlq;
#[cfg(feature = "gateway")]
pub mod lag;
#[cfg(feature = "gateway")]
pub mod topics;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(feature = "gateway")]
pub mod observe;
#[cfg(feature = "gateway")]
pub mod page;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "producer")]
pub mod producer;
#[cfg(feature = "gateway")]
pub mod analysis;
#[cfg(feature = "cli")]
pub mod demo;
#[cfg(feature = "cli")]
pub mod cli;
