//! The predecessor's protocol: what its clients send, and the text frames that they understand.
//!
//! A client that never sent `stream` gets only the predecessor's frame types; one that did also gets `wrong_stream`,
//! `cursor_future` and gaps for dead letters. Keys of the predecessor keep their names and meaning.

use serde_json::{Map, Value, json};

use super::{Answered, Done, Limits, Many, Notice, Resume, Said, Start, number, partition_key};
use crate::log::forms;
use crate::log::frame::{self, Opcode};
use crate::words::{Offset, PartitionId};

/// Partitions that `cursor_reset_complete` names at most.
const RESET_OFFSETS_MAX: usize = 100;

pub fn read(message: &[u8], limits: Limits) -> Said {
    let Ok(Value::Object(message)) = serde_json::from_slice::<Value>(message) else { return Said::Unparseable };
    match message.get("type").and_then(Value::as_str) {
        Some("resume") => resume(&message, limits),
        Some("cursor_reset") => Said::CursorReset,
        Some("ping") => Said::Ping(Vec::new()),
        _ => Said::Ignored,
    }
}

fn resume(message: &Map<String, Value>, limits: Limits) -> Said {
    let stream = message.get("stream").and_then(Value::as_str).map(str::to_owned);
    let offsets = message.get("lastOffsetsByPartition");
    let by_partition = match message.get("mode").and_then(Value::as_str) {
        Some("partition") => true,
        Some("thread") => false,
        _ => offsets.is_some(),
    };
    let from = message.get("from").and_then(Value::as_str);
    if !by_partition && !matches!(from, Some("earliest" | "latest")) {
        return threads(message, stream, limits);
    }
    let start = match from {
        Some("latest") => Start::Latest,
        Some("earliest") => Start::Earliest,
        _ => {
            let offsets = offsets.and_then(Value::as_object);
            if offsets.is_some_and(|offsets| offsets.len() > limits.partitions) {
                return Said::TooMany { what: Many::Partitions, limit: limits.partitions };
            }
            let entries = offsets.into_iter().flatten().filter_map(|(partition, offset)| {
                let offset = number(offset).filter(|offset| *offset <= i64::MAX as u64)?;
                Some((partition_key(partition)?, Offset(offset)))
            });
            let mut cursor: Vec<_> = entries.collect();
            cursor.sort_unstable();
            // "1" and "01" are one partition: the lower offset is the safe one.
            cursor.dedup_by_key(|(partition, _)| *partition);
            Start::Cursor(cursor)
        }
    };
    Said::Resume(Resume { stream, start })
}

fn threads(message: &Map<String, Value>, stream: Option<String>, limits: Limits) -> Said {
    let by_thread = message.get("lastSequencesByThread").and_then(Value::as_object);
    if by_thread.is_some_and(|threads| threads.len() > limits.threads) {
        return Said::TooMany { what: Many::Threads, limit: limits.threads };
    }
    let mut sequences: Vec<_> = by_thread
        .into_iter()
        .flatten()
        .filter_map(|(thread, sequence)| Some((thread.clone(), number(sequence)?)))
        .collect();
    if let (Some(thread), Some(sequence)) =
        (message.get("threadId").and_then(Value::as_str), message.get("lastSequence").and_then(number))
        && !sequences.iter().any(|(other, _)| other == thread)
    {
        sequences.push((thread.to_owned(), sequence));
    }
    Said::Threads { sequences, stream }
}

pub fn say(stream_aware: bool, notice: &Notice<'_>, out: &mut Vec<u8>) {
    match notice {
        Notice::Gap { partition, first, last, reason } => forms::push_v1_gap(out, *partition, *first, *last, *reason),
        Notice::Answers { answers, .. } => {
            for (partition, answer) in *answers {
                if let Some(text) = answered(stream_aware, *partition, answer) {
                    push(out, &text);
                }
            }
        }
        Notice::Done(done) => {
            // The start of a connection has no resume, and the predecessor says nothing then.
            if done.resume > 0 {
                push(out, &replay_complete(done));
            }
        }
        Notice::CursorReset { latest } => {
            let offsets = offsets(&latest[..latest.len().min(RESET_OFFSETS_MAX)]);
            push(
                out,
                &json!({
                    "type": "cursor_reset_complete",
                    "latestOffsetsByPartition": offsets,
                    "bufferCleared": false,
                    "truncated": latest.len() > RESET_OFFSETS_MAX,
                    "totalPartitions": latest.len(),
                    "message": "this connection goes on at the newest record; nobody's history was cleared",
                }),
            );
        }
        Notice::TooMany { what, limit } => {
            let (code, what) = match what {
                Many::Partitions => ("RESUME_TOO_MANY_PARTITIONS", "partitions"),
                Many::Threads => ("RESUME_TOO_MANY_THREADS", "threads"),
            };
            push(
                out,
                &json!({"type": "error", "code": code, "message": format!("a resume names at most {limit} {what}")}),
            );
        }
        Notice::Pong(_) => push(out, &json!({"type": "pong"})),
        // The predecessor has no words for these: its cursors were in every frame, its refusals were silence.
        Notice::Hello(_)
        | Notice::Refused { .. }
        | Notice::Bye { .. }
        | Notice::Progress { .. }
        | Notice::Waiting { .. }
        | Notice::FallingBehind
        | Notice::Applied { .. }
        | Notice::Searched { .. } => {}
    }
}

fn answered(stream_aware: bool, partition: PartitionId, answer: &Answered) -> Option<Value> {
    let partition = partition.0;
    let text = match answer {
        // `unavailable` ends a v1 connection with its close code.
        Answered::Resumed { .. } | Answered::Unavailable { .. } => return None,
        Answered::Truncated { requested, oldest, reason } => json!({
            "type": "cursor_stale", "partition": partition, "requested": requested.to_string(),
            "oldest": oldest.to_string(), "reason": reason.label(),
            "message": format!("partition {partition}: the oldest record here is {oldest}"),
        }),
        Answered::Future { requested, newest } if stream_aware => json!({
            "type": "cursor_future", "partition": partition, "requested": requested.to_string(),
            "newest": newest.to_string(),
            "message": format!("partition {partition} ends before {newest}"),
        }),
        Answered::Future { requested, newest } => json!({
            "type": "cursor_stale", "partition": partition, "requested": requested.to_string(),
            "oldest": newest.to_string(), "reason": "future", "newest": newest.to_string(),
            "message": format!("partition {partition} ends before {newest}: the cursor is of another stream or host"),
        }),
        Answered::WrongStream { newest } if stream_aware => json!({
            "type": "wrong_stream", "partition": partition, "newest": newest.to_string(),
            "message": "the cursor is of another stream: the topic was deleted and made again, or is another one",
        }),
        // Only somebody who sent `stream` can be wrong about it.
        Answered::WrongStream { .. } => return None,
        Answered::UnknownPartition => json!({
            "type": "cursor_stale", "partition": partition, "reason": "unknown_partition",
            "message": format!("the topic has no partition {partition}"),
        }),
        Answered::NotHere => json!({
            "type": "cursor_stale", "partition": partition, "reason": "not_here",
            "message": format!("partition {partition} is served by another host of the group"),
        }),
    };
    Some(text)
}

fn replay_complete(done: &Done) -> Value {
    if done.mode == "thread" {
        return json!({"type": "replay_complete", "totalReplayed": done.replayed, "mode": "thread", "capped": done.capped});
    }
    json!({
        "type": "replay_complete", "totalReplayed": done.replayed, "lastOffsetsByPartition": offsets(&done.last),
        "capped": done.capped, "mode": done.mode,
    })
}

fn offsets(list: &[(PartitionId, Offset)]) -> Map<String, Value> {
    list.iter().map(|(partition, offset)| (partition.to_string(), Value::from(offset.to_string()))).collect()
}

fn push(out: &mut Vec<u8>, text: &Value) {
    frame::push_frame(out, Opcode::Text, text.to_string().as_bytes());
}
