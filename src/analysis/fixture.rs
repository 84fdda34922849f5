//! Runs made by hand, message by message, for the tests of this room.

use std::collections::BTreeSet;

use crate::wire::proto::attribute_value::Value as Attribute;
use crate::wire::proto::dash_stream_message::Message as Payload;
use crate::wire::proto::{
    AttributeValue, DashStreamMessage, Event, EventType, Header, StateDiff, TokenChunk, ToolExecution,
};
use crate::words::{Offset, PartitionId};

use super::note::Note;
use super::runs::{Collector, Run, Wanted};
use super::told::Place;

/// 2023-11-14 22:13:20 UTC.
pub(crate) const BEGIN_US: i64 = 1_700_000_000_000_000;

/// Says one thing after the other; time moves by what nodes take.
pub(crate) struct Script {
    pub(crate) messages: Vec<DashStreamMessage>,
    pub(crate) sequence: u64,
    pub(crate) now_us: i64,
    tenant: String,
    thread: String,
    ids: u128,
}

pub(crate) fn text(value: &str) -> AttributeValue {
    AttributeValue { value: Some(Attribute::StringValue(value.to_owned())) }
}

pub(crate) fn int(value: i64) -> AttributeValue {
    AttributeValue { value: Some(Attribute::IntValue(value)) }
}

impl Script {
    pub(crate) fn new(tenant: &str, thread: &str) -> Self {
        let (tenant, thread) = (tenant.to_owned(), thread.to_owned());
        Self { messages: Vec::new(), sequence: 0, now_us: BEGIN_US, tenant, thread, ids: 0 }
    }

    /// Another run speaks from here on.
    pub(crate) fn thread(&mut self, thread: &str) -> &mut Self {
        self.thread = thread.to_owned();
        self.sequence = 0;
        self
    }

    fn header(&mut self) -> Option<Header> {
        self.sequence += 1;
        self.ids += 1;
        Some(Header {
            message_id: self.ids.to_be_bytes().to_vec(),
            timestamp_us: self.now_us,
            tenant_id: self.tenant.clone(),
            thread_id: self.thread.clone(),
            sequence: self.sequence,
            schema_version: 1,
            ..Header::default()
        })
    }

    pub(crate) fn wait(&mut self, ms: i64) -> &mut Self {
        self.now_us += ms * 1_000;
        self
    }

    pub(crate) fn event(&mut self, kind: EventType, node: &str, attributes: &[(&str, AttributeValue)]) -> &mut Self {
        self.event_with(kind, node, attributes, |_| {})
    }

    pub(crate) fn event_with(
        &mut self,
        kind: EventType,
        node: &str,
        attributes: &[(&str, AttributeValue)],
        change: impl FnOnce(&mut Event),
    ) -> &mut Self {
        let mut event = Event {
            header: self.header(),
            event_type: kind as i32,
            node_id: node.to_owned(),
            attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            ..Event::default()
        };
        change(&mut event);
        self.push(Payload::Event(event))
    }

    pub(crate) fn push(&mut self, payload: Payload) -> &mut Self {
        self.messages.push(DashStreamMessage { message: Some(payload) });
        self
    }

    pub(crate) fn graph_start(&mut self) -> &mut Self {
        self.event(EventType::GraphStart, "", &[("graph_name", text("graph"))])
    }

    pub(crate) fn graph_end(&mut self) -> &mut Self {
        self.event(EventType::GraphEnd, "", &[])
    }

    pub(crate) fn graph_error(&mut self, error: &str) -> &mut Self {
        self.event(EventType::GraphError, "", &[("error", text(error))])
    }

    pub(crate) fn start(&mut self, node: &str) -> &mut Self {
        self.event(EventType::NodeStart, node, &[])
    }

    pub(crate) fn end(&mut self, node: &str) -> &mut Self {
        self.event(EventType::NodeEnd, node, &[])
    }

    /// A node that takes so many milliseconds.
    pub(crate) fn node(&mut self, node: &str, ms: i64) -> &mut Self {
        self.start(node).wait(ms).end(node)
    }

    pub(crate) fn edge(&mut self, from: &str, to: &str) -> &mut Self {
        self.event(EventType::EdgeTraversal, from, &[("edge_from", text(from)), ("edge_to", text(to))])
    }

    /// A model call of so many milliseconds and tokens in and out.
    pub(crate) fn model(&mut self, node: &str, request: &str, model: &str, ms: i64, tokens: (i64, i64)) -> &mut Self {
        let about = |event: &mut Event| event.llm_request_id = request.to_owned();
        self.event_with(EventType::LlmStart, node, &[("model", text(model))], about);
        self.wait(ms);
        let attributes = [("model", text(model)), ("input_tokens", int(tokens.0)), ("output_tokens", int(tokens.1))];
        self.event_with(EventType::LlmEnd, node, &attributes, about)
    }

    pub(crate) fn chunk(&mut self, request: &str, change: impl FnOnce(&mut TokenChunk)) -> &mut Self {
        let mut chunk = TokenChunk { header: self.header(), request_id: request.to_owned(), ..TokenChunk::default() };
        change(&mut chunk);
        self.push(Payload::TokenChunk(chunk))
    }

    pub(crate) fn tool(&mut self, call: &str, stage: i32, change: impl FnOnce(&mut ToolExecution)) -> &mut Self {
        let mut tool = ToolExecution {
            header: self.header(),
            call_id: call.to_owned(),
            tool_name: "search".to_owned(),
            stage,
            ..ToolExecution::default()
        };
        change(&mut tool);
        self.push(Payload::ToolExecution(tool))
    }

    pub(crate) fn diff(&mut self, change: impl FnOnce(&mut StateDiff)) -> &mut Self {
        let mut diff = StateDiff { header: self.header(), ..StateDiff::default() };
        change(&mut diff);
        self.push(Payload::StateDiff(diff))
    }

    pub(crate) fn say_nothing_more(&self) {}

    pub(crate) fn place(offset: usize) -> Place {
        Place { partition: PartitionId(0), offset: Offset(offset as u64), timestamp_ms: None }
    }

    pub(crate) fn collect(&self, wanted: Vec<Wanted>) -> (Vec<Run>, BTreeSet<Note>) {
        let mut collector = Collector::new(wanted);
        for (offset, message) in self.messages.iter().enumerate() {
            collector.take(Self::place(offset), message);
        }
        collector.finish()
    }

    /// The one run that was said.
    pub(crate) fn run(&self) -> Run {
        let (mut runs, _) = self.collect(vec![Wanted::All]);
        assert_eq!(runs.len(), 1);
        runs.remove(0)
    }
}
