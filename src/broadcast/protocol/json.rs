//! `dashstream.json`: the conversation of `proto/gateway.proto` as JSON text. Offsets and counts are decimal strings,
//! since a JavaScript number does not hold them.

use serde_json::{Map, Value, json};

use super::{
    Answered, Limits, Many, Notice, Resume, RunStart, Said, Start, number, partition_key, run, slow_policy, subscribe,
};
use crate::broadcast::filter::Wanted;
use crate::log::forms;
use crate::log::frame::{self, Opcode};
use crate::words::{Offset, PartitionId};

/// Longest nonce of a ping that is sent back, bytes.
const NONCE_MAX: usize = 125;

pub fn read(message: &[u8], limits: Limits) -> Said {
    let Ok(Value::Object(message)) = serde_json::from_slice::<Value>(message) else { return Said::Unparseable };
    match message.get("type").and_then(Value::as_str) {
        Some("resume") => resume(&message, limits),
        Some("ping") => {
            let nonce = message.get("nonce").and_then(Value::as_str).unwrap_or_default();
            if nonce.len() > NONCE_MAX {
                return Said::Malformed { what: "ping", why: "a nonce has at most 125 bytes" };
            }
            Said::Ping(nonce.as_bytes().to_vec())
        }
        Some("subscribe") => match wanted(&message) {
            Ok(wanted) => subscribe(wanted),
            Err(why) => Said::Malformed { what: "subscribe", why },
        },
        Some("pause") => Said::Pause,
        Some("continue") => Said::Continue,
        Some("slow_policy") => slow_policy(message.get("policy").and_then(Value::as_str).unwrap_or_default()),
        Some(_) => Said::Unsupported { what: "type", why: "unsupported" },
        None => Said::Malformed { what: "message", why: "a message is an object with a string `type`" },
    }
}

fn resume(message: &Map<String, Value>, limits: Limits) -> Said {
    let stream = match message.get("stream") {
        None | Some(Value::Null) => None,
        Some(Value::String(stream)) => Some(stream.clone()).filter(|stream| !stream.is_empty()),
        Some(_) => return Said::Malformed { what: "resume", why: "`stream` is a string" },
    };
    let start = match message.get("from").and_then(Value::as_str) {
        Some("earliest") => Start::Earliest,
        Some("latest") => Start::Latest,
        Some("cursor") => match cursor(message.get("cursor"), limits) {
            Ok(cursor) => Start::Cursor(cursor),
            Err(said) => return said,
        },
        Some("timestamp") => match message.get("timestamp_ms").and_then(signed) {
            Some(timestamp_ms) => Start::Timestamp(timestamp_ms),
            None => return Said::Malformed { what: "resume", why: "`timestamp_ms` is ms since the epoch" },
        },
        Some("run") => match run_start(message).and_then(run) {
            Ok(start) => start,
            Err(said) => return said,
        },
        Some(_) => return Said::Unsupported { what: "resume", why: "unsupported" },
        None => {
            return Said::Malformed { what: "resume", why: "`from` is cursor, earliest, latest, timestamp or run" };
        }
    };
    Said::Resume(Resume { stream, start })
}

/// A JSON number or decimal string, with a sign.
fn signed(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

fn run_start(message: &Map<String, Value>) -> Result<RunStart, Said> {
    const WHY: &str = "`thread` and `tenant` are strings, `after_sequence` and `search_age_ms` are numbers";
    let malformed = || Said::Malformed { what: "resume", why: WHY };
    let text = |key: &str| match message.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(malformed()),
    };
    let count = |key: &str| match message.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => number(value).map(Some).ok_or_else(malformed),
    };
    Ok(RunStart {
        thread: text("thread")?.unwrap_or_default(),
        tenant: text("tenant")?,
        after_sequence: count("after_sequence")?.unwrap_or(0),
        search_age_ms: count("search_age_ms")?,
    })
}

fn wanted(message: &Map<String, Value>) -> Result<Wanted, &'static str> {
    const WHY: &str = "tenants, threads, kinds, event_types and nodes are lists of strings, partitions of numbers";
    let list = |key: &str| match message.get(key) {
        None | Some(Value::Null) => Ok([].as_slice()),
        Some(Value::Array(list)) => Ok(list.as_slice()),
        Some(_) => Err(WHY),
    };
    let texts = |key: &str| -> Result<Vec<String>, &'static str> {
        list(key)?.iter().map(|value| value.as_str().map(str::to_owned).ok_or(WHY)).collect()
    };
    let partitions = list("partitions")?.iter().map(|value| {
        number(value).and_then(|number| i32::try_from(number).ok()).and_then(PartitionId::from_kafka).ok_or(WHY)
    });
    Ok(Wanted {
        tenants: texts("tenants")?,
        threads: texts("threads")?,
        kinds: texts("kinds")?,
        event_types: texts("event_types")?,
        nodes: texts("nodes")?,
        partitions: partitions.collect::<Result<_, _>>()?,
    })
}

fn cursor(cursor: Option<&Value>, limits: Limits) -> Result<Vec<(PartitionId, Offset)>, Said> {
    const WHY: &str = "`cursor` is an object of partition number to last applied offset as a decimal string";
    let Some(Value::Object(cursor)) = cursor else { return Err(Said::Malformed { what: "resume", why: WHY }) };
    if cursor.len() > limits.partitions {
        return Err(Said::TooMany { what: Many::Partitions, limit: limits.partitions });
    }
    let mut entries = Vec::with_capacity(cursor.len());
    for (partition, offset) in cursor {
        match (partition_key(partition), number(offset)) {
            (Some(partition), Some(offset)) => entries.push((partition, Offset(offset))),
            _ => return Err(Said::Malformed { what: "resume", why: WHY }),
        }
    }
    entries.sort_unstable();
    entries.dedup_by_key(|(partition, _)| *partition);
    Ok(entries)
}

pub fn say(notice: &Notice<'_>, out: &mut Vec<u8>) {
    let text = match notice {
        Notice::Hello(hello) => json!({
            "type": "hello", "protocol": "dashstream.json", "stream": hello.stream, "topic": hello.topic,
            "identity": if hello.weak { "weak" } else { "strong" },
            "assignment": if hello.group { "group" } else { "all" },
            "server_version": env!("CARGO_PKG_VERSION"),
            "partitions": hello.partitions.iter().map(|partition| {
                let mut entry = json!({
                    "partition": partition.partition.0, "oldest": partition.oldest.to_string(),
                    "next": partition.next.to_string(), "position": partition.position.to_string(),
                });
                if let Some(lag) = partition.lag {
                    entry["lag"] = Value::from(lag.to_string());
                }
                entry
            }).collect::<Vec<_>>(),
            "limits": {
                "message_max_bytes": hello.message_max_bytes, "resume_partitions_max": hello.resume_partitions_max,
                "stall_timeout_ms": hello.stall_timeout_ms, "idle_timeout_ms": hello.idle_timeout_ms,
                "ping_interval_ms": hello.ping_interval_ms,
            },
            "slow_policy": hello.slow_policy.label(),
            "slow_policies": hello.slow_policies.iter().map(|policy| policy.label()).collect::<Vec<_>>(),
        }),
        Notice::Answers { resume, answers } => json!({
            "type": "answers", "resume": resume.to_string(),
            "answers": answers.iter().map(|(partition, answer)| answered(*partition, answer)).collect::<Vec<_>>(),
        }),
        Notice::Gap { partition, first, last, reason } => {
            frame::push_frame_with(out, Opcode::Text, |out| {
                forms::push_json_gap(out, *partition, *first, *last, reason.label());
            });
            return;
        }
        // A replay that another resume ended never stood at the head.
        Notice::Done(done) if done.capped => return,
        Notice::Done(done) => {
            json!({"type": "live", "resume": done.resume.to_string(), "replayed": done.replayed.to_string()})
        }
        Notice::CursorReset { .. } => return,
        Notice::TooMany { limit, .. } => {
            json!({"type": "refused", "what": "resume", "why": format!("a cursor names at most {limit} partitions")})
        }
        Notice::Pong(nonce) => json!({"type": "pong", "nonce": String::from_utf8_lossy(nonce)}),
        Notice::Refused { what, why } => json!({"type": "refused", "what": what, "why": why}),
        Notice::Bye { reason, cursor, reconnect_after_ms } => json!({
            "type": "bye", "reason": reason.label(), "reconnect_after_ms": reconnect_after_ms,
            "cursor": entries(cursor),
        }),
        Notice::Progress { cursor } => json!({"type": "progress", "cursor": entries(cursor)}),
        Notice::Waiting { resume } => json!({"type": "waiting", "resume": resume.to_string()}),
        Notice::FallingBehind => json!({"type": "falling_behind"}),
        Notice::Applied { what, cursor } => json!({"type": "applied", "what": what, "cursor": entries(cursor)}),
        Notice::Searched { partition, from, to } => json!({
            "type": "searched", "partition": partition.0, "from": from.to_string(), "to": to.to_string(),
        }),
    };
    frame::push_frame(out, Opcode::Text, text.to_string().as_bytes());
}

fn entries(cursor: &[(PartitionId, Offset)]) -> Map<String, Value> {
    cursor.iter().map(|(partition, offset)| (partition.to_string(), Value::from(offset.to_string()))).collect()
}

fn answered(partition: PartitionId, answer: &Answered) -> Value {
    let mut entry = json!({"partition": partition.0, "answer": answer.kind().label()});
    let mut set = |key: &str, value: String| {
        entry[key] = Value::from(value);
    };
    match answer {
        Answered::Resumed { from } => set("from", from.to_string()),
        Answered::Truncated { requested, oldest, reason } => {
            set("requested", requested.to_string());
            set("oldest", oldest.to_string());
            set("reason", reason.label().to_owned());
        }
        Answered::Future { requested, newest } => {
            set("requested", requested.to_string());
            set("newest", newest.to_string());
        }
        Answered::WrongStream { newest } => set("newest", newest.to_string()),
        Answered::Unavailable { retry_after_ms } => entry["retry_after_ms"] = Value::from(*retry_after_ms),
        Answered::UnknownPartition | Answered::NotHere => {}
    }
    entry
}
