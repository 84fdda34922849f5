//! What lies below the log: Kafka with its retention, and readers that answer late, partly, or not at all. The chunks
//! are made by the shipped code out of what was produced.

use std::sync::Arc;

use dashstream::log::Chunk;
use dashstream::observe::stats::Gauge;
use dashstream::partition::Rules;
use dashstream::replay::ask::{Found, Wish};
use dashstream::replay::rebuild::{Makings, take};
use dashstream::words::{GapReason, Offset, StreamIdentity};

use crate::host::PAYLOAD_MAX;
use crate::produced::{Dice, Item, Partition};

/// A question on its way.
pub(crate) struct Pending {
    pub who: u64,
    pub ticket: u64,
    pub wish: Wish,
}

fn makings(stream: &Arc<StreamIdentity>, dice: &mut Dice) -> Makings {
    Makings {
        stream: stream.clone(),
        rules: Rules { payload_max_bytes: PAYLOAD_MAX, schema_exact: false },
        chunk_bytes: 200 + dice.below(3_000) as u32,
        live_bytes: Arc::new(Gauge::default()),
    }
}

/// As a reader would answer, with a quantum of any size.
pub(crate) fn answer(wish: &Wish, produced: &[Partition], stream: &Arc<StreamIdentity>, dice: &mut Dice) -> Found {
    if dice.chance(5) {
        return Found::Unavailable;
    }
    let Wish::Read { partition, want, until } = *wish else { return Found::Unavailable };
    let log = &produced[partition.0 as usize];
    let makings = makings(stream, dice);
    let in_redis = log.redis.is_some_and(|redis| redis <= want.0);
    if want.0 < log.low && !in_redis {
        // What Kafka no longer has is lost only up to where the second tier begins.
        let next = Offset(log.low.min(until.0).min(log.redis.unwrap_or(u64::MAX)));
        return Found::Chunks(makings.lost(partition, want, next, GapReason::Retention).into_iter().collect());
    }
    // What was read for somebody else may begin earlier.
    let low = if in_redis { log.redis.unwrap_or(log.low).min(log.low) } else { log.low };
    let from = Offset(want.0 - dice.below((want.0 - low).min(20) + 1));
    let mut core = makings.core(partition, from);
    let mut chunks: Vec<Arc<Chunk>> = Vec::new();
    let quantum = 1 + dice.below(30);
    let mut left = quantum;
    for (offset, item) in log.items.range(from.0..until.0) {
        if left == 0 && core.next() > want {
            break;
        }
        left = left.saturating_sub(1);
        let value = match item {
            Item::Good(value) | Item::Poison(value) => Some(value.as_slice()),
            Item::Null => None,
        };
        take(&mut core, Offset(*offset), Some(5), value);
        if core.is_full() {
            chunks.extend(core.finish(0).0);
        }
    }
    if log.items.range(core.next().0..until.0).next().is_none() {
        core.cover(until);
    }
    chunks.extend(core.finish(0).0);
    // A cache answers with whole chunks, the first of which covers what is wanted.
    chunks.retain(|chunk| chunk.next > want);
    Found::Chunks(chunks)
}

/// For a trace.
pub(crate) fn brief(found: &Found) -> String {
    match found {
        Found::Chunks(chunks) => {
            format!("{:?}", chunks.iter().map(|chunk| (chunk.from.0, chunk.next.0)).collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    }
}
