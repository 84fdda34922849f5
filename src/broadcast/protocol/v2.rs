//! `dashstream.v2`: the messages of `proto/gateway.proto`, one per binary WebSocket message.

use prost::Message;

use super::{Answered, Limits, Many, Notice, Resume, RunStart, Said, Start, run, slow_policy, subscribe};
use crate::broadcast::filter::Wanted;
use crate::log::frame::{self, Opcode};
use crate::wire::gateway::{self as proto, client_frame, resume, server_frame::Frame};
use crate::words::{Offset, PartitionId};

pub fn read(message: &[u8], limits: Limits) -> Said {
    let Ok(message) = proto::ClientFrame::decode(message) else { return Said::Unparseable };
    match message.frame {
        Some(client_frame::Frame::Resume(resume)) => read_resume(resume, limits),
        Some(client_frame::Frame::Ping(ping)) if ping.nonce.len() > 125 => {
            Said::Malformed { what: "ping", why: "a nonce has at most 125 bytes" }
        }
        Some(client_frame::Frame::Ping(ping)) => Said::Ping(ping.nonce),
        Some(client_frame::Frame::Subscribe(wanted)) => subscribe(Wanted {
            tenants: wanted.tenants,
            threads: wanted.threads,
            kinds: wanted.kinds,
            event_types: wanted.event_types,
            nodes: wanted.nodes,
            partitions: wanted.partitions.into_iter().map(PartitionId).collect(),
        }),
        Some(client_frame::Frame::Pause(_)) => Said::Pause,
        Some(client_frame::Frame::Continue(_)) => Said::Continue,
        Some(client_frame::Frame::SlowPolicy(slow)) => slow_policy(&slow.policy),
        None => Said::Unsupported { what: "frame", why: "unsupported" },
    }
}

fn read_resume(resume: proto::Resume, limits: Limits) -> Said {
    let start = match resume.from {
        Some(resume::From::Earliest(_)) => Start::Earliest,
        Some(resume::From::Latest(_)) => Start::Latest,
        Some(resume::From::Cursor(cursor)) if cursor.entries.len() > limits.partitions => {
            return Said::TooMany { what: Many::Partitions, limit: limits.partitions };
        }
        Some(resume::From::Cursor(cursor)) => {
            let mut entries: Vec<_> =
                cursor.entries.iter().map(|entry| (PartitionId(entry.partition), Offset(entry.offset))).collect();
            entries.sort_unstable();
            entries.dedup_by_key(|(partition, _)| *partition);
            Start::Cursor(entries)
        }
        Some(resume::From::TimestampMs(timestamp_ms)) => Start::Timestamp(timestamp_ms),
        Some(resume::From::Run(one)) => {
            let start = run(RunStart {
                thread: one.thread_id,
                tenant: Some(one.tenant_id).filter(|tenant| !tenant.is_empty()),
                after_sequence: one.after_sequence,
                search_age_ms: Some(one.search_age_ms).filter(|age| *age > 0),
            });
            match start {
                Ok(start) => start,
                Err(said) => return said,
            }
        }
        None => return Said::Unsupported { what: "resume", why: "unsupported" },
    };
    Said::Resume(Resume { stream: Some(resume.stream).filter(|stream| !stream.is_empty()), start })
}

pub fn say(notice: &Notice<'_>, out: &mut Vec<u8>) {
    let frame = match notice {
        Notice::Hello(hello) => Frame::Hello(proto::Hello {
            stream: hello.stream.clone(),
            topic: hello.topic.clone(),
            identity: if hello.weak { "weak" } else { "strong" }.to_owned(),
            assignment: if hello.group { "group" } else { "all" }.to_owned(),
            partitions: hello
                .partitions
                .iter()
                .map(|partition| proto::PartitionState {
                    partition: partition.partition.0,
                    oldest: partition.oldest.0,
                    next: partition.next.0,
                    lag: partition.lag,
                    position: partition.position.0,
                })
                .collect(),
            limits: Some(proto::Limits {
                message_max_bytes: hello.message_max_bytes,
                resume_partitions_max: hello.resume_partitions_max,
                stall_timeout_ms: hello.stall_timeout_ms,
                idle_timeout_ms: hello.idle_timeout_ms,
                ping_interval_ms: hello.ping_interval_ms,
            }),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            slow_policy: hello.slow_policy.label().to_owned(),
            slow_policies: hello.slow_policies.iter().map(|policy| policy.label().to_owned()).collect(),
        }),
        Notice::Answers { resume, answers } => Frame::Answers(proto::Answers {
            resume: *resume,
            answers: answers.iter().map(|(partition, answer)| answered(*partition, answer)).collect(),
        }),
        Notice::Gap { partition, first, last, reason } => Frame::Gap(proto::Gap {
            partition: partition.0,
            first: first.0,
            last: last.0,
            reason: reason.label().to_owned(),
        }),
        // A replay that another resume ended never stood at the head.
        Notice::Done(done) if done.capped => return,
        Notice::Done(done) => Frame::Live(proto::Live { resume: done.resume, replayed: done.replayed }),
        Notice::CursorReset { .. } => return,
        Notice::TooMany { limit, .. } => Frame::Refused(proto::Refused {
            what: "resume".to_owned(),
            why: format!("a cursor names at most {limit} partitions"),
        }),
        Notice::Pong(nonce) => Frame::Pong(proto::Pong { nonce: nonce.to_vec() }),
        Notice::Refused { what, why } => {
            Frame::Refused(proto::Refused { what: (*what).to_owned(), why: (*why).to_owned() })
        }
        Notice::Bye { reason, cursor, reconnect_after_ms } => Frame::Bye(proto::Bye {
            reason: reason.label().to_owned(),
            cursor: entries(cursor),
            reconnect_after_ms: *reconnect_after_ms,
        }),
        Notice::Progress { cursor } => Frame::Progress(proto::Progress { cursor: entries(cursor) }),
        Notice::Waiting { resume } => Frame::Waiting(proto::Waiting { resume: *resume }),
        Notice::FallingBehind => Frame::FallingBehind(proto::FallingBehind {}),
        Notice::Applied { what, cursor } => {
            Frame::Applied(proto::Applied { what: (*what).to_owned(), cursor: entries(cursor) })
        }
        Notice::Searched { partition, from, to } => {
            Frame::Searched(proto::Searched { partition: partition.0, from: from.0, to: to.0 })
        }
    };
    let bytes = proto::ServerFrame { frame: Some(frame) }.encode_to_vec();
    frame::push_frame(out, Opcode::Binary, &bytes);
}

fn entries(cursor: &[(PartitionId, Offset)]) -> Vec<proto::CursorEntry> {
    cursor.iter().map(|(partition, offset)| proto::CursorEntry { partition: partition.0, offset: offset.0 }).collect()
}

fn answered(partition: PartitionId, answer: &Answered) -> proto::Answer {
    use proto::answer::Answer;
    let answer = match answer {
        Answered::Resumed { from } => Answer::Resumed(proto::Resumed { from: from.0 }),
        Answered::Truncated { requested, oldest, reason } => Answer::Truncated(proto::Truncated {
            requested: requested.0,
            oldest: oldest.0,
            reason: reason.label().to_owned(),
        }),
        Answered::Future { requested, newest } => {
            Answer::Future(proto::Future { requested: requested.0, newest: newest.0 })
        }
        Answered::WrongStream { newest } => Answer::WrongStream(proto::WrongStream { newest: newest.0 }),
        Answered::UnknownPartition => Answer::UnknownPartition(proto::UnknownPartition {}),
        Answered::NotHere => Answer::NotHere(proto::NotHere {}),
        Answered::Unavailable { retry_after_ms } => {
            Answer::Unavailable(proto::Unavailable { retry_after_ms: *retry_after_ms })
        }
    };
    proto::Answer { partition: partition.0, answer: Some(answer) }
}
