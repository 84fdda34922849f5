//! From a record to items: the value is opened under a limit, looked through without building anything, and only what
//! the filter wants is decoded.

use std::collections::VecDeque;

use prost::Message as _;

use super::order::Order;
use super::{Bad, Filter, Item, Seen};
use crate::wire::inflate::Inflater;
use crate::wire::proto::DashStreamMessage;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::scan::{EventMeta, Scan, scan};
use crate::words::{DropReason, Offset, PartitionId};

/// A record as a source has it.
pub(super) struct Record<'a> {
    pub(super) partition: PartitionId,
    pub(super) offset: Offset,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    /// Hash of the producer instance that its headers name; 0 if none.
    pub(super) instance: u64,
}

pub(super) struct Expander {
    inflater: Inflater,
    scan: Scan,
    filter: Filter,
    order: Order,
    payload_max_bytes: usize,
    /// Whoever wrote the records down saw all events, and said what was missing.
    told_missing: bool,
}

impl Expander {
    pub(super) fn new(filter: Filter, payload_max_bytes: usize) -> Self {
        Self {
            inflater: Inflater::new(payload_max_bytes),
            scan: Scan::default(),
            filter,
            order: Order::default(),
            payload_max_bytes,
            told_missing: false,
        }
    }

    /// Leaves it to others to say which sequences are missing.
    pub(super) fn without_missing(self) -> Self {
        Self { told_missing: true, ..self }
    }

    /// Appends what the record holds.
    pub(super) fn expand(&mut self, record: &Record<'_>, out: &mut VecDeque<Item>) {
        if let Err((reason, detail)) = self.open(record, out)
            // Nobody can read whose it is.
            && self.filter == Filter::default()
        {
            out.push_back(Item::Bad(Bad {
                partition: record.partition,
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                reason: reason.to_owned(),
                detail,
            }));
        }
    }

    fn open(&mut self, record: &Record<'_>, out: &mut VecDeque<Item>) -> Result<(), (&'static str, String)> {
        let value = record.value.ok_or(("null", "the value is null: a tombstone".to_owned()))?;
        if value.len() > self.payload_max_bytes {
            let limit = self.payload_max_bytes;
            let detail = format!("{} bytes, more than kafka.payload_max_bytes = {limit}", value.len());
            return Err((DropReason::PayloadTooLarge.label(), detail));
        }
        let body =
            self.inflater.body(value).map_err(|refusal| (DropReason::from(refusal).label(), refusal.to_string()))?;
        let body = body.bytes();
        scan(body, &mut self.scan).map_err(|error| (DropReason::from(error).label(), error.to_string()))?;
        if self.scan.events.is_empty() {
            return Err(("no_content", "a message without content, or a batch without events".to_owned()));
        }
        let mut wanted = false;
        for meta in &self.scan.events {
            wanted |= self.filter.matches(meta, body);
        }
        if !wanted {
            // Sequences are followed all the same, or the next one would look like a gap.
            for meta in &self.scan.events {
                found(&mut self.order, (&self.filter, self.told_missing), record, meta, body, out);
            }
            return Ok(());
        }
        let message = DashStreamMessage::decode(body)
            .map_err(|error| (DropReason::InvalidProtobuf.label(), format!("not a DashStreamMessage: {error}")))?;
        let mut events = single_messages(message);
        for (index, meta) in (0u32..).zip(&self.scan.events) {
            let Some(message) = events.next() else { break };
            found(&mut self.order, (&self.filter, self.told_missing), record, meta, body, out);
            if self.filter.matches(meta, body) {
                out.push_back(Item::Event(Seen {
                    partition: record.partition,
                    offset: record.offset,
                    timestamp_ms: record.timestamp_ms,
                    key: record.key.map(<[u8]>::to_vec),
                    index_in_record: index,
                    message,
                }));
            }
        }
        Ok(())
    }
}

/// Tells what an event says about those before it.
fn found(
    order: &mut Order,
    (filter, told_missing): (&Filter, bool),
    record: &Record<'_>,
    meta: &EventMeta,
    body: &[u8],
    out: &mut VecDeque<Item>,
) {
    let (tenant, thread) = (meta.tenant.str_of(body), meta.thread.str_of(body));
    if !filter.wants(tenant, thread) {
        return;
    }
    let found = order.check(tenant, thread, record.instance, meta.sequence, meta.message_id.of(body));
    if let Some((from, to)) = found.missing
        && filter.keeps_runs_whole()
        && !told_missing
    {
        out.push_back(Item::Missing { tenant: tenant.to_owned(), thread: thread.to_owned(), from, to });
    }
    if found.duplicate && filter.matches(meta, body) {
        out.push_back(Item::Duplicate {
            partition: record.partition,
            offset: record.offset,
            tenant: tenant.to_owned(),
            thread: thread.to_owned(),
            sequence: meta.sequence,
        });
    }
}

/// The events of a batch as messages of their own, or the one message.
fn single_messages(message: DashStreamMessage) -> Box<dyn Iterator<Item = DashStreamMessage>> {
    match message.message {
        Some(Payload::EventBatch(batch)) => {
            Box::new(batch.events.into_iter().map(|event| DashStreamMessage { message: Some(Payload::Event(event)) }))
        }
        one => Box::new(std::iter::once(DashStreamMessage { message: one })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::framing::Framer;
    use crate::wire::proto::{Event, EventBatch, Header, TokenChunk};

    fn event(sequence: u64) -> Event {
        let header = Header { tenant_id: "t".to_owned(), thread_id: "run".to_owned(), sequence, ..Header::default() };
        Event { header: Some(header), node_id: format!("n{sequence}"), ..Event::default() }
    }

    fn value(payload: Payload) -> Vec<u8> {
        let mut value = Vec::new();
        Framer::default().frame(&mut DashStreamMessage { message: Some(payload) }, &mut value);
        value
    }

    fn items(expander: &mut Expander, offset: u64, value: Option<&[u8]>) -> Vec<String> {
        let mut out = VecDeque::new();
        let record = Record {
            partition: PartitionId(1),
            offset: Offset(offset),
            timestamp_ms: Some(5),
            key: Some(b"k"),
            value,
            instance: 0,
        };
        expander.expand(&record, &mut out);
        let line = |item: Item| match item {
            Item::Event(seen) => {
                let what = match seen.message.message {
                    Some(Payload::Event(event)) => event.node_id,
                    Some(Payload::TokenChunk(chunk)) => chunk.text,
                    other => format!("{other:?}"),
                };
                format!("{}.{} {what}", seen.offset, seen.index_in_record)
            }
            Item::Bad(bad) => format!("{} bad {}", bad.offset, bad.reason),
            Item::Missing { thread, from, to, .. } => format!("{thread} misses {from}..{to}"),
            other => format!("{other:?}"),
        };
        out.into_iter().map(line).collect()
    }

    #[test]
    fn batches_are_expanded_and_what_is_not_there_is_told() {
        let mut expander = Expander::new(Filter::default(), 1 << 20);
        let batch = |sequences: &[u64]| {
            let events = sequences.iter().map(|sequence| event(*sequence)).collect();
            value(Payload::EventBatch(EventBatch { header: Some(Header::default()), events }))
        };
        assert_eq!(items(&mut expander, 7, Some(&batch(&[1, 2]))), ["7.0 n1", "7.1 n2"]);
        assert_eq!(items(&mut expander, 8, Some(&batch(&[3, 6]))), ["8.0 n3", "run misses 4..6", "8.1 n6"]);
        assert_eq!(items(&mut expander, 9, Some(&batch(&[]))), ["9 bad no_content"]);
        assert_eq!(items(&mut expander, 10, None), ["10 bad null"]);
        assert_eq!(items(&mut expander, 11, Some(b"")), ["11 bad buffer_underflow"]);
        assert_eq!(items(&mut expander, 12, Some(b"hello world")), ["12 bad invalid_protobuf"]);
        assert_eq!(items(&mut expander, 13, Some(&vec![0; (1 << 20) + 1])), ["13 bad payload_too_large"]);
    }

    #[test]
    fn a_filter_looks_at_each_event_and_hides_what_nobody_can_read() {
        let filter = Filter { nodes: vec!["n2".to_owned()], ..Filter::default() };
        let mut expander = Expander::new(filter, 1 << 20);
        let events = [1, 2, 9].map(event).to_vec();
        let batch = value(Payload::EventBatch(EventBatch { header: None, events }));
        assert_eq!(items(&mut expander, 1, Some(&batch)), ["1.1 n2"]);
        let chunk = value(Payload::TokenChunk(TokenChunk { text: "n2".to_owned(), ..TokenChunk::default() }));
        assert_eq!(items(&mut expander, 2, Some(&chunk)), [""; 0]);
        assert_eq!(items(&mut expander, 3, None), [""; 0]);
    }
}
