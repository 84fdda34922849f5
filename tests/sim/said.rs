//! What a client says, as its protocol writes it.

use std::collections::BTreeMap;

use dashstream::broadcast::protocol::{self, Limits};
use dashstream::observe::stats::Protocol;
use dashstream::wire::gateway as v2;
use prost::Message;

use crate::client::Client;

const LIMITS: Limits = Limits { partitions: 1024, threads: 1000 };

/// The resume as this client writes it, read back by the gateway's own parser.
pub(crate) fn said(client: &Client, stream: &str, cursor: &BTreeMap<u32, u64>) -> protocol::Said {
    let offsets = || -> serde_json::Map<_, _> {
        cursor.iter().map(|(p, offset)| (p.to_string(), serde_json::Value::from(offset.to_string()))).collect()
    };
    let (text, message) = match client.protocol {
        Protocol::V1 => {
            let mut resume = serde_json::json!({"type": "resume", "lastOffsetsByPartition": offsets()});
            if client.aware {
                resume["stream"] = stream.into();
            }
            (true, resume.to_string().into_bytes())
        }
        Protocol::Json => {
            let resume = serde_json::json!({"type": "resume", "from": "cursor", "stream": stream, "cursor": offsets()});
            (true, resume.to_string().into_bytes())
        }
        Protocol::V2 => {
            let entries = cursor.iter().map(|(p, offset)| v2::CursorEntry { partition: *p, offset: *offset }).collect();
            let from = Some(v2::resume::From::Cursor(v2::Cursor { entries }));
            let resume = v2::Resume { stream: stream.to_owned(), from };
            let frame = v2::ClientFrame { frame: Some(v2::client_frame::Frame::Resume(resume)) };
            (false, frame.encode_to_vec())
        }
    };
    protocol::read(client.protocol, text, &message, LIMITS)
}

/// What else a client of v2 or json may say.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Only this run; `None`: everything.
    Follow(Option<u64>),
    Pause,
    Continue,
    /// What should become of it when it falls off the log.
    Policy(&'static str),
}

pub(crate) fn wish(protocol: Protocol, wish: &Wish) -> protocol::Said {
    let threads = |run: &Option<u64>| -> Vec<String> { run.iter().map(|run| format!("run-{run}")).collect() };
    match protocol {
        Protocol::V1 => unreachable!("v1 has no words for it"),
        Protocol::Json => {
            let text = match wish {
                Wish::Follow(run) => serde_json::json!({"type": "subscribe", "threads": threads(run)}),
                Wish::Pause => serde_json::json!({"type": "pause"}),
                Wish::Continue => serde_json::json!({"type": "continue"}),
                Wish::Policy(policy) => serde_json::json!({"type": "slow_policy", "policy": policy}),
            };
            protocol::read(protocol, true, text.to_string().as_bytes(), LIMITS)
        }
        Protocol::V2 => {
            use v2::client_frame::Frame;
            let frame = match wish {
                Wish::Follow(run) => Frame::Subscribe(v2::Subscribe { threads: threads(run), ..Default::default() }),
                Wish::Pause => Frame::Pause(v2::Pause {}),
                Wish::Continue => Frame::Continue(v2::Continue {}),
                Wish::Policy(policy) => Frame::SlowPolicy(v2::SlowPolicy { policy: (*policy).to_owned() }),
            };
            protocol::read(protocol, false, &v2::ClientFrame { frame: Some(frame) }.encode_to_vec(), LIMITS)
        }
    }
}
