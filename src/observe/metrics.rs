//! Every series that this process can export, in one table: name, type, labels, meaning, and how it is read from the
//! snapshot. The names beginning with `websocket_`, and those of sequences, are the predecessor's, so that existing
//! alerts and dashboards keep working.
//!
//! Rules: a value that is unknown is absent, never 0, -1 or NaN; series of a partition that is no longer held are
//! absent; labels whose values are an enum are complete from the start; totals only go up.
//!
//! Deliberately absent: the text format (`observe::exposition`), and any metric outside of this table.

use super::exposition::Out;
use super::snapshot::{Partition, Snapshot};
use super::stats::{
    Answer, DlqFailure, KafkaTrouble, Protocol, Rejection, ReplayTier, ResumeMode, Severity, WorkerState,
};
use crate::words::{CloseReason, DropReason, GapReason, SkipReason};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// When a series is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// From the first scrape on.
    Always,
    /// For every held partition, and gone with it.
    Held,
    /// While the value is known.
    Known,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub presence: Presence,
    pub help: &'static str,
    pub read: fn(&Snapshot, &mut Out),
}

use Kind::{Counter, Gauge, Histogram};
use Presence::{Always, Held, Known};

const fn row(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    presence: Presence,
    help: &'static str,
    read: fn(&Snapshot, &mut Out),
) -> Series {
    Series { name, kind, labels, presence, help, read }
}

#[rustfmt::skip]
pub const TABLE: &[Series] = &[
    // Records in.
    row("websocket_kafka_messages_total", Counter, &["status"], Always,
        "Records read from Kafka: delivered to the log (success) or dead-lettered (error). old_data_error stays 0: no record is treated differently for its age.",
        |s, out| {
            out.at(&["success"], s.totals.delivered);
            out.at(&["error"], s.decode_errors());
            out.at(&["old_data_error"], 0);
        }),
    row("websocket_decode_errors_total", Counter, &["error_type"], Always, "Records that were dead-lettered, by reason.",
        |s, out| out.each(DropReason::ALL.map(DropReason::label), s.totals.dead_lettered)),
    row("websocket_old_data_decode_errors_total", Counter, &[], Always,
        "Stays 0: no record is treated differently for its age.", |_, out| out.value(0)),
    row("websocket_kafka_payload_missing_total", Counter, &[], Always, "Records with a null value, which are skipped.",
        |s, out| out.value(s.totals.skipped.iter().sum())),
    row("websocket_kafka_errors_by_type_total", Counter, &["error_type"], Always,
        "Trouble with the brokers by kind; decode_error counts records that were dead-lettered.",
        |s, out| {
            out.each(KafkaTrouble::ALL.map(KafkaTrouble::label), s.kafka.troubles);
            out.at(&["decode_error"], s.decode_errors());
        }),
    row("websocket_infrastructure_errors_total", Counter, &[], Always, "Trouble with the brokers, of any kind.",
        |s, out| out.value(s.infrastructure_errors())),
    row("websocket_last_kafka_message_age_seconds", Gauge, &[], Known, "Time since the last record was read; absent before the first.",
        |s, out| out.maybe_seconds(s.last_record_age_ms)),
    row("websocket_last_infrastructure_error_age_seconds", Gauge, &[], Known, "Time since the last trouble with the brokers; absent if there was none.",
        |s, out| out.maybe_seconds(s.kafka.last_trouble_age_ms)),
    row("websocket_uptime_seconds", Gauge, &[], Always, "Time since the process started.", |s, out| out.seconds(s.now_ms)),
    row("websocket_e2e_latency_ms", Histogram, &["stage"], Always,
        "Producer's clock to our reading, sampled once per chunk. Clocks of two hosts differ: an estimate.",
        |s, out| out.buckets(&["producer_to_consumer"], &s.e2e_latency_ms)),
    row("websocket_clock_skew_events_total", Counter, &[], Always, "Latency samples that were discarded: negative or over an hour.",
        |s, out| out.value(s.clock_skew_events)),
    // Sequences.
    row("dashstream_sequence_gaps_total", Counter, &[], Always, "Gaps seen in producers' sequences. An annotation: nothing is withheld for it.",
        |s, out| out.value(s.totals.sequence_gaps)),
    row("dashstream_sequence_duplicates_total", Counter, &[], Always, "Sequence numbers that came twice in a row.",
        |s, out| out.value(s.totals.sequence_duplicates)),
    row("dashstream_sequence_reorders_total", Counter, &[], Always, "Sequence numbers that came late.",
        |s, out| out.value(s.totals.sequence_reorders)),
    row("dashstream_sequence_unknown_total", Counter, &[], Always, "Events without a sequence or a thread, of which the validator can say nothing.",
        |s, out| out.value(s.totals.sequence_unknown)),
    row("dashstream_sequence_gap_size", Histogram, &[], Always, "Missing sequence numbers per gap.",
        |s, out| out.buckets(&[], &s.sequence_gap_size)),
    row("websocket_multi_thread_batches_total", Counter, &[], Always, "Event batches that hold events of more than one thread.",
        |s, out| out.value(s.totals.multi_thread_batches)),
    row("dashstream_newer_schema_records_total", Counter, &[], Always, "Records of a newer schema version than ours, forwarded as they are.",
        |s, out| out.value(s.totals.newer_schema)),
    // Lag.
    row("websocket_kafka_consumer_lag", Gauge, &["partition"], Known, "Records between our position and the last stable offset; absent while unknown.",
        |s, out| out.partitions(s, |partition| partition.lag_records)),
    row("websocket_kafka_lag_offset_age_seconds", Gauge, &["partition"], Known,
        "Age of the next unread record by its Kafka timestamp; 0 when caught up, absent while unknown. Does not grow on an idle topic.",
        |s, out| out.partition_seconds(s, |partition| partition.lag_ms)),
    row("dashstream_partition_retention_margin_seconds", Gauge, &["partition"], Known,
        "Time until the topic's retention may take the next unread record; 0: it may be gone. Absent when caught up, without retention by time, and while unknown.",
        |s, out| out.partition_seconds(s, |partition| partition.retention_margin_ms)),
    row("dashstream_lag_records", Gauge, &[], Known, "Sum of the lag over all held partitions; absent while one of them is unknown.",
        |s, out| out.maybe(s.lag_records())),
    row("websocket_kafka_catchup_phase", Gauge, &["partition"], Known,
        "1 until the worker has read up to where the partition ended when it started, then 0.",
        |s, out| out.partitions(s, |partition| partition.catching_up.map(u64::from))),
    row("websocket_kafka_lag_poll_failures_total", Counter, &[], Always, "Lag polls that Kafka did not answer.",
        |s, out| out.value(s.kafka.lag_polls_failed)),
    row("websocket_kafka_lag_poll_duration_seconds", Histogram, &["status"], Always, "Duration of lag polls.",
        |s, out| {
            out.buckets(&["success"], &s.kafka.lag_poll_seconds_ok);
            out.buckets(&["error"], &s.kafka.lag_poll_seconds_failed);
        }),
    row("dashstream_kafka_last_answer_age_seconds", Gauge, &[], Known, "Time since Kafka last answered a lag poll; absent before the first answer.",
        |s, out| out.maybe_seconds(s.kafka.last_answer_age_ms)),
    // Partitions: assignment, worker, books, commits.
    row("dashstream_partition_assigned", Gauge, &["partition"], Held, "1 for every partition that this process holds.",
        |s, out| out.partitions(s, |_| Some(1))),
    row("dashstream_partition_epoch", Gauge, &["partition"], Held, "Epoch of the assignment of the partition.",
        |s, out| out.partitions(s, |partition| Some(partition.epoch))),
    row("dashstream_partition_worker_state", Gauge, &["partition", "state"], Held, "1 for what the worker is doing, 0 for the others.",
        |s, out| out.per_partition(s, WorkerState::ALL.map(WorkerState::label), |partition| WorkerState::ALL.map(|state| u64::from(partition.state == state)))),
    row("dashstream_partition_worker_heartbeat_age_seconds", Gauge, &["partition"], Known, "Time since the worker's last turn.",
        |s, out| out.partition_seconds(s, |partition| partition.heartbeat_age_ms)),
    row("dashstream_partition_consumed_records_total", Counter, &["partition"], Held, "Records read that have a disposition.",
        |s, out| out.partitions(s, |partition| Some(partition.books.consumed))),
    row("dashstream_partition_delivered_records_total", Counter, &["partition"], Held, "Records put into the log.",
        |s, out| out.partitions(s, |partition| Some(partition.books.delivered))),
    row("dashstream_partition_delivered_bytes_total", Counter, &["partition"], Held, "Bytes of the values put into the log.",
        |s, out| out.partitions(s, |partition| Some(partition.books.delivered_bytes))),
    row("dashstream_partition_events_total", Counter, &["partition"], Held, "Events in the delivered records; a record holds one or more.",
        |s, out| out.partitions(s, |partition| Some(partition.books.events))),
    row("dashstream_partition_dead_lettered_records_total", Counter, &["partition", "reason"], Held, "Records handed to the dead-letter queue.",
        |s, out| out.per_partition(s, DropReason::ALL.map(DropReason::label), |partition| partition.books.dead_lettered)),
    row("dashstream_partition_skipped_records_total", Counter, &["partition", "reason"], Held, "Records passed over on purpose.",
        |s, out| out.per_partition(s, SkipReason::ALL.map(SkipReason::label), |partition| partition.books.skipped)),
    row("dashstream_partition_books_difference_records", Gauge, &["partition"], Known,
        "consumed - delivered - dead_lettered - skipped. Anything but 0 is a bug: report it.",
        |s, out| out.partition_signed(s, |partition| partition.balance)),
    row("dashstream_partition_warmed_records_total", Counter, &["partition"], Held, "Records read again below the commit to fill the log after a start; in no other count.",
        |s, out| out.partitions(s, |partition| Some(partition.books.warmed))),
    row("dashstream_partition_hole_offsets_total", Counter, &["partition"], Held, "Offsets that never were records for us: markers, compaction, aborted transactions.",
        |s, out| out.partitions(s, |partition| Some(partition.books.holes))),
    row("dashstream_partition_retention_lost_records_total", Counter, &["partition"], Held, "Records that Kafka's retention took before they were read.",
        |s, out| out.partitions(s, |partition| Some(partition.books.lost_to_retention))),
    row("dashstream_partition_next_offset", Gauge, &["partition"], Known, "The next offset that the worker reads.",
        |s, out| out.partitions(s, |partition| partition.next)),
    row("dashstream_partition_commit_watermark_offset", Gauge, &["partition"], Known, "What may be committed: everything below has reached all shards and, under fail_closed, the dead-letter topic.",
        |s, out| out.partitions(s, |partition| partition.commit_watermark)),
    row("dashstream_partition_committed_offset", Gauge, &["partition"], Known, "What Kafka confirmed as committed.",
        |s, out| out.partitions(s, |partition| partition.committed)),
    row("dashstream_partition_low_watermark_offset", Gauge, &["partition"], Known, "Kafka's log start.",
        |s, out| out.partitions(s, |partition| partition.low_watermark)),
    row("dashstream_partition_log_oldest_offset", Gauge, &["partition"], Known, "Where the log of the partition begins; what is older is read from the tiers below.",
        |s, out| out.partitions(s, |partition| partition.log_oldest)),
    row("dashstream_partition_high_watermark_offset", Gauge, &["partition"], Known, "Kafka's high watermark.",
        |s, out| out.partitions(s, |partition| partition.high_watermark)),
    row("dashstream_partition_last_stable_offset", Gauge, &["partition"], Known, "Kafka's last stable offset.",
        |s, out| out.partitions(s, |partition| partition.last_stable)),
    row("dashstream_partition_last_record_age_seconds", Gauge, &["partition"], Known, "Time since the last record was read. Grows on an idle topic: no sign of trouble by itself.",
        |s, out| out.partition_seconds(s, |partition| partition.last_record_age_ms)),
    row("dashstream_partition_paused_offset", Gauge, &["partition"], Known, "The record at which KAFKA_ON_DECODE_ERROR=pause stopped the partition; absent while it runs.",
        |s, out| out.partitions(s, |partition| partition.paused.map(|paused| paused.at.0))),
    row("dashstream_partition_ledger_open_records", Gauge, &["partition"], Held, "Dead letters sent and not yet acknowledged.",
        |s, out| out.partitions(s, |partition| Some(partition.ledger_open))),
    row("dashstream_partition_stall_repairs_total", Counter, &["partition"], Held, "Times that the stall watchdog assigned the partition again.",
        |s, out| out.partitions(s, |partition| Some(partition.stall_repairs))),
    // The stream.
    row("dashstream_stream_info", Gauge, &["stream", "topic", "cluster_id", "identity"], Known,
        "1, with the identity of the stream; identity is weak where the broker has no topic ids. Absent until known.",
        |s, out| {
            if let Some(identity) = &s.stream.identity {
                let strength = if identity.is_weak() { "weak" } else { "strong" };
                out.at(&[&identity.name(), &identity.topic, &identity.cluster_id, strength], 1);
            }
        }),
    row("dashstream_stream_partitions", Gauge, &[], Known, "Partitions that the topic has; absent until known.",
        |s, out| out.maybe(s.stream.partition_count.map(u64::from))),
    row("dashstream_held_partitions", Gauge, &[], Always, "Partitions that this process holds.",
        |s, out| out.value(s.partitions.len() as u64)),
    row("dashstream_ready", Gauge, &[], Always, "1 when /ready answers 200.", |s, out| out.value(u64::from(s.ready().is_ok()))),
    row("dashstream_stream_changes_total", Counter, &[], Always, "Times that the topic turned out to be another one: deleted and made again, or truncated.",
        |s, out| out.value(s.kafka.stream_changes)),
    row("dashstream_identity_checks_total", Counter, &[], Always, "Checks of the stream's identity.",
        |s, out| out.value(s.kafka.identity_checks)),
    row("dashstream_commits_total", Counter, &[], Always, "Commits that Kafka confirmed.", |s, out| out.value(s.kafka.commits)),
    row("dashstream_commit_failures_total", Counter, &[], Always, "Commits that failed; they are tried again.",
        |s, out| out.value(s.kafka.commit_failures)),
    row("dashstream_last_commit_age_seconds", Gauge, &[], Known, "Time since Kafka last confirmed a commit; absent before the first.",
        |s, out| out.maybe_seconds(s.kafka.last_commit_age_ms)),
    row("dashstream_rebalances_total", Counter, &[], Always, "Rebalances of the consumer group (assignment = group).",
        |s, out| out.value(s.kafka.rebalances)),
    row("dashstream_start_retries_total", Counter, &[], Always, "Attempts that starting up needed beyond the first.",
        |s, out| out.value(s.kafka.start_retries)),
    // The log.
    row("dashstream_log_bytes", Gauge, &[], Always, "Bytes of the chunks in the log, summed over shards, which share them.",
        |s, out| out.value(s.shards.log_bytes)),
    row("dashstream_log_chunks", Gauge, &[], Always, "Chunks in the log, summed over shards.", |s, out| out.value(s.shards.log_chunks)),
    row("dashstream_log_evicted_chunks_total", Counter, &[], Always, "Chunks that left the log for age or size, summed over shards.",
        |s, out| out.value(s.shards.log_evicted_chunks)),
    row("dashstream_log_oldest_age_seconds", Gauge, &[], Known, "How far the log reaches back; absent while it is empty.",
        |s, out| out.maybe_seconds(s.shards.log_oldest_age_ms)),
    row("dashstream_chunk_bytes_live", Gauge, &[], Always, "Live bytes of chunks and their forms in the process: what the memory bound applies to.",
        |s, out| out.value(s.chunk_bytes)),
    row("dashstream_log_max_bytes", Gauge, &[], Always, "The memory bound of chunks and their forms.", |s, out| out.value(s.facts.log_max_bytes)),
    // Clients.
    row("websocket_connected_clients", Gauge, &[], Always, "Clients that are connected.", |s, out| out.value(s.connected_clients())),
    row("dashstream_sessions", Gauge, &["protocol"], Always, "Clients that are connected, by what they speak.",
        |s, out| out.each(Protocol::ALL.map(Protocol::label), s.shards.sessions)),
    row("dashstream_connections_open", Gauge, &[], Always, "Open connections to the service port, those without a session included.",
        |s, out| out.value(s.connections_open)),
    row("dashstream_connections_accepted_total", Counter, &[], Always, "Connections accepted on the service port.",
        |s, out| out.value(s.connections_accepted)),
    row("dashstream_shards", Gauge, &[], Always, "Threads that own clients.", |s, out| out.value(s.shards.count)),
    row("dashstream_delivered_records_total", Counter, &[], Always, "Records sent, summed over clients.",
        |s, out| out.value(s.shards.delivered_records)),
    row("dashstream_delivered_bytes_total", Counter, &[], Always, "Bytes sent, summed over clients.",
        |s, out| out.value(s.shards.delivered_bytes)),
    row("dashstream_writes_total", Counter, &[], Always, "Calls to write to a client's socket.", |s, out| out.value(s.shards.writes)),
    row("dashstream_gap_records_total", Counter, &["reason"], Always, "Records inside gaps that clients were told of, summed over clients.",
        |s, out| out.merged(&GapReason::ALL.map(GapReason::label), &s.shards.gap_records)),
    row("dashstream_gap_frames_total", Counter, &["reason"], Always, "Gaps that clients were told of.",
        |s, out| out.merged(&GapReason::ALL.map(GapReason::label), &s.shards.gap_frames)),
    row("websocket_dropped_messages_total", Counter, &["reason"], Always, "Records that clients lost because they were slower than the log moved on, summed over clients.",
        |s, out| out.at(&["lagged_receiver"], s.dropped_records())),
    row("websocket_client_lag_events_total", Counter, &["severity"], Always, "Times that a client fell off the tail of the log: info below 10 records, warning below 100, else critical.",
        |s, out| out.each(Severity::ALL.map(Severity::label), s.shards.lag_events)),
    row("websocket_client_lag_messages_total", Counter, &["severity"], Always, "Records lost by falling off the tail of the log.",
        |s, out| out.each(Severity::ALL.map(Severity::label), s.shards.lag_records)),
    row("dashstream_closes_total", Counter, &["reason"], Always, "Connections ended with a close frame, by reason.",
        |s, out| out.each(CloseReason::ALL.map(CloseReason::label), s.shards.closed)),
    row("websocket_slow_client_disconnects_total", Counter, &[], Always, "Clients closed because they fell behind or took nothing any more.",
        |s, out| out.value(s.closed(CloseReason::FellBehind) + s.closed(CloseReason::Stalled))),
    row("websocket_send_failed_total", Counter, &[], Always, "Connections that broke: ended without a close frame from either side.",
        |s, out| out.value(s.shards.vanished)),
    row("websocket_send_timeout_total", Counter, &[], Always, "Clients closed because they took no byte for client.stall_timeout.",
        |s, out| out.value(s.closed(CloseReason::Stalled))),
    row("dashstream_aborted_total", Counter, &[], Always, "Closes that the client could not take by the deadline.",
        |s, out| out.value(s.shards.aborted)),
    row("dashstream_rejections_total", Counter, &["reason"], Always, "Connections turned away before they became a session.",
        |s, out| out.each(Rejection::ALL.map(Rejection::label), s.rejections)),
    row("websocket_rejected_connections_total", Counter, &[], Always, "Connections turned away with 429: too many from one address.",
        |s, out| out.value(s.rejections[Rejection::PerIp as usize])),
    row("websocket_control_oversized_total", Counter, &[], Always, "Messages from clients that were larger than the limit.",
        |s, out| out.value(s.shards.control_oversized)),
    row("websocket_control_parse_failures_total", Counter, &[], Always, "Messages from clients that could not be read.",
        |s, out| out.value(s.shards.control_parse_failures)),
    row("dashstream_refused_frames_total", Counter, &[], Always, "Requests of clients that were answered with a refusal.",
        |s, out| out.value(s.shards.refused_frames)),
    row("dashstream_mid_frame_bytes", Gauge, &[], Always, "Bytes kept for clients that are in the middle of a frame.",
        |s, out| out.value(s.shards.mid_frame_bytes)),
    row("dashstream_inbound_bytes", Gauge, &[], Always, "Bytes that clients have sent and not finished.",
        |s, out| out.value(s.shards.inbound_bytes)),
    // Resumes.
    row("websocket_resume_requests_total", Counter, &["mode"], Always, "Resumes asked for.",
        |s, out| out.each(ResumeMode::ALL.map(ResumeMode::label), s.shards.resumes)),
    row("dashstream_resume_answers_total", Counter, &["answer"], Always, "Answers to cursors, per partition.",
        |s, out| out.each(Answer::ALL.map(Answer::label), s.shards.answers)),
    row("websocket_replay_messages_total", Counter, &["mode"], Always, "Records sent as replay.",
        |s, out| out.each(ResumeMode::ALL.map(ResumeMode::label), s.shards.replayed_records)),
    row("websocket_replay_gaps_total", Counter, &["mode"], Always, "Gaps told as the answer to a resume.",
        |s, out| out.each(ResumeMode::ALL.map(ResumeMode::label), s.shards.replay_gaps)),
    row("websocket_replay_gap_messages_total", Counter, &["mode"], Always, "Records in gaps told as the answer to a resume.",
        |s, out| out.each(ResumeMode::ALL.map(ResumeMode::label), s.shards.replay_gap_records)),
    row("websocket_replay_latency_ms", Histogram, &["mode"], Always, "From a resume to the end of its replay.",
        |s, out| ResumeMode::ALL.iter().zip(&s.replay_latency_ms).for_each(|(mode, buckets)| out.buckets(&[mode.label()], buckets))),
    row("replay_buffer_memory_hits_total", Counter, &[], Always, "Resumes that were answered from the log alone.",
        |s, out| out.value(s.shards.log_hits)),
    row("dashstream_replay_requests_total", Counter, &["tier"], Always, "Requests for records older than the log, by the tier that answered; cache is what was read a moment ago for somebody else.",
        |s, out| out.each(ReplayTier::ALL.map(ReplayTier::label), s.replay.quanta)),
    row("dashstream_replay_read_records_total", Counter, &["tier"], Always, "Records read from the tiers below the log, whoever got them.",
        |s, out| out.each(ReplayTier::ALL.map(ReplayTier::label), s.replay.records)),
    row("dashstream_replay_failures_total", Counter, &["tier"], Always, "Requests that a tier could not answer; the session asks again.",
        |s, out| out.each(ReplayTier::ALL.map(ReplayTier::label), s.replay.failures)),
    row("dashstream_cold_sessions", Gauge, &[], Always, "Clients that replay from below the log.", |s, out| out.value(s.replay.sessions)),
    row("dashstream_cold_waiting_sessions", Gauge, &[], Always, "Clients that wait for others to have replayed: cold.max_sessions do.",
        |s, out| out.value(s.shards.waiting)),
    row("dashstream_cold_bytes", Gauge, &[], Always, "Live bytes of records read from below the log: what cold.max_bytes applies to.",
        |s, out| out.value(s.replay.cold_bytes)),
    row("dashstream_falling_behind_total", Counter, &[], Always, "Clients that were told that they take less than arrives, and get gaps from then on.",
        |s, out| out.value(s.shards.falling_behind)),
    row("dashstream_runs_indexed", Gauge, &[], Always, "Runs whose beginning is remembered, of the shard that remembers most.",
        |s, out| out.value(s.shards.runs)),
    // Dead letters.
    row("websocket_dlq_sends_total", Counter, &["error_type"], Always, "Dead letters that Kafka acknowledged, by reason.",
        |s, out| out.each(DropReason::ALL.map(DropReason::label), s.dlq.sent)),
    row("websocket_dlq_send_failures_total", Counter, &["reason"], Always, "Attempts to write a dead letter that failed. Under fail_closed they are repeated.",
        |s, out| out.each(DlqFailure::ALL.map(DlqFailure::label), s.dlq.failures)),
    row("dashstream_dlq_dropped_total", Counter, &["reason"], Always, "Dead letters that were given up (fail_open only): data lost.",
        |s, out| out.each(DlqFailure::ALL.map(DlqFailure::label), s.dlq.lost)),
    row("dashstream_dlq_queue_bytes", Gauge, &[], Always, "Bytes of dead letters that wait to be written.", |s, out| out.value(s.dlq.queue_bytes)),
    row("dashstream_dlq_topic_found", Gauge, &[], Known, "1 when the dead-letter topic exists, 0 when it does not; absent before the first answer.",
        |s, out| out.maybe(s.dlq.topic_found.map(u64::from))),
    row("dashstream_dlq_breaker_open", Gauge, &[], Always, "1 while writing dead letters is suspended after repeated failures.",
        |s, out| out.value(u64::from(s.dlq.breaker_open))),
    // The Redis tier.
    row("dashstream_redis_up", Gauge, &[], Known, "1 while Redis answers, 0 while it does not; absent when replay.redis.url is not set.",
        |s, out| out.maybe(s.redis.up.map(u64::from))),
    row("dashstream_websocket_redis_errors_total", Counter, &[], Always, "Commands that Redis refused or did not answer, and connections that failed.",
        |s, out| out.value(s.redis.errors)),
    row("dashstream_websocket_redis_latency_ms", Histogram, &["operation"], Always, "Round trips to Redis, each of a whole batch of commands.",
        |s, out| {
            out.buckets(&["read"], &s.redis.read_latency_ms);
            out.buckets(&["write"], &s.redis.write_latency_ms);
        }),
    row("replay_buffer_redis_hits_total", Counter, &[], Always, "Reads of older records that Redis could serve.", |s, out| out.value(s.redis.hits)),
    row("replay_buffer_redis_misses_total", Counter, &[], Always, "Reads of older records that Redis could not serve; Kafka serves them.",
        |s, out| out.value(s.redis.misses)),
    row("dashstream_redis_refused_entries_total", Counter, &[], Always, "Entries in Redis that were not believed: of another version, stream or place, or damaged. They count as absent.",
        |s, out| out.value(s.redis.refused_entries)),
    row("dashstream_redis_written_records_total", Counter, &[], Always, "Records written to Redis.", |s, out| out.value(s.redis.written_records)),
    row("replay_buffer_redis_write_dropped_total", Counter, &[], Always, "Records not written to Redis, because too much waited for it already. Nothing is lost: Kafka has them.",
        |s, out| out.value(s.redis.write_dropped)),
    row("replay_buffer_redis_write_failures_total", Counter, &[], Always, "Records that Redis did not take. Nothing is lost: Kafka has them.",
        |s, out| out.value(s.redis.write_failures)),
    row("dashstream_redis_last_write_age_seconds", Gauge, &[], Known, "Time since Redis last took a record; absent before the first.",
        |s, out| out.maybe_seconds(s.redis.last_write_age_ms)),
    row("dashstream_redis_queue_bytes", Gauge, &[], Always, "Bytes of records on their way to Redis.", |s, out| out.value(s.redis.queue_bytes)),
    row("dashstream_redis_oldest_offset", Gauge, &["partition"], Known, "The oldest offset of the partition that Redis has; absent while Redis is away or has none.",
        |s, out| out.partitions(s, |partition| partition.redis.map(|(oldest, _)| oldest.0))),
    row("dashstream_redis_next_offset", Gauge, &["partition"], Known, "The offset after the newest that Redis has; absent while Redis is away or has none.",
        |s, out| out.partitions(s, |partition| partition.redis.map(|(_, next)| next.0))),
    // The process.
    row("dashstream_thread_heartbeat_age_seconds", Gauge, &["thread"], Known, "Time since the thread showed life.",
        |s, out| s.threads.iter().for_each(|thread| out.at_seconds(&[&thread.name], thread.age_ms))),
    row("dashstream_thread_heartbeat_limit_seconds", Gauge, &["thread"], Known, "Silence of the thread beyond which /live answers 503.",
        |s, out| s.threads.iter().for_each(|thread| out.at_seconds(&[&thread.name], thread.limit_ms))),
    row("dashstream_build_info", Gauge, &["version", "git_sha", "build_date"], Always, "1, with the build.",
        |_, out| out.at(&[super::build::VERSION, super::build::GIT_SHA, super::build::DATE], 1)),
    row("process_resident_memory_bytes", Gauge, &[], Known, "Resident memory.", |s, out| out.maybe(s.process.resident_bytes)),
    row("process_open_fds", Gauge, &[], Known, "Open file descriptors.", |s, out| out.maybe(s.process.open_fds)),
    row("process_max_fds", Gauge, &[], Known, "Limit of open file descriptors; absent when unlimited.", |s, out| out.maybe(s.process.max_fds)),
    row("process_threads", Gauge, &[], Known, "Operating system threads.", |s, out| out.maybe(s.process.threads)),
    row("process_cpu_seconds_total", Counter, &[], Known, "CPU time used, user and system.",
        |s, out| if let Some(seconds) = s.process.cpu_seconds { out.number(&[], seconds) }),
];

/// The README's table.
pub fn markdown() -> String {
    let mut table = String::from("| Metric | Type | Labels | There | Meaning |\n|---|---|---|---|---|\n");
    for series in TABLE {
        let labels: Vec<String> = series.labels.iter().map(|label| format!("`{label}`")).collect();
        let there = match series.presence {
            Always => "always",
            Held => "per held partition",
            Known => "while known",
        };
        let (name, kind, help) = (series.name, series.kind.label(), series.help.replace('|', "\\|"));
        table.push_str(&format!("| `{name}` | {kind} | {} | {there} | {help} |\n", labels.join(" ")));
    }
    table
}

impl Out {
    /// One value per held partition, if it has one.
    fn partitions(&mut self, snapshot: &Snapshot, read: impl Fn(&Partition) -> Option<u64>) {
        for partition in &snapshot.partitions {
            if let Some(value) = read(partition) {
                self.at(&[&partition.partition.to_string()], value);
            }
        }
    }

    fn partition_seconds(&mut self, snapshot: &Snapshot, read: impl Fn(&Partition) -> Option<u64>) {
        for partition in &snapshot.partitions {
            if let Some(value) = read(partition) {
                self.at_seconds(&[&partition.partition.to_string()], value);
            }
        }
    }

    fn partition_signed(&mut self, snapshot: &Snapshot, read: impl Fn(&Partition) -> Option<i128>) {
        for partition in &snapshot.partitions {
            if let Some(value) = read(partition) {
                self.number(&[&partition.partition.to_string()], value as f64);
            }
        }
    }

    /// One value per held partition and label.
    fn per_partition<const N: usize>(
        &mut self,
        snapshot: &Snapshot,
        labels: [&str; N],
        read: impl Fn(&Partition) -> [u64; N],
    ) {
        for partition in &snapshot.partitions {
            let name = partition.partition.to_string();
            for (label, value) in labels.iter().zip(read(partition)) {
                self.at(&[&name, label], value);
            }
        }
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
