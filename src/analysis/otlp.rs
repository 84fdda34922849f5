//! A run as spans of OpenTelemetry, in the JSON form of OTLP: what `inspect --output otlp` prints is what a collector
//! takes at `/v1/traces`.
//!
//! The trace id is the first 16 bytes of SHA-256 over tenant, a zero byte, thread, and the message id of the start of
//! the run; a span's id is the first 8 of SHA-256 over trace id and the message id of its start. So an export that is
//! repeated says the same, and a collector that knows the trace adds nothing.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::runs::Run;
use super::spans::{Pairing, Span, SpanKind, Spans};
use super::text::hex;
use super::told::{Tokens, What};

/// `{"resourceSpans": [...]}`, one resource per run.
pub fn traces(runs: &[(&Run, &Spans)]) -> Value {
    let resources: Vec<_> = runs.iter().map(|(run, spans)| resource(run, spans)).collect();
    json!({ "resourceSpans": resources })
}

/// As a collector shows it: 32 hexadecimal digits.
pub fn trace_id(run: &Run, spans: &Spans) -> String {
    hex(&trace_bytes(run, spans))
}

fn trace_bytes(run: &Run, spans: &Spans) -> [u8; 16] {
    let start = spans.root().start_at.and_then(|index| run.events.get(index));
    let mut hasher = Sha256::new();
    hasher.update(&run.id.owner.tenant);
    hasher.update([0]);
    hasher.update(&run.id.owner.thread);
    // Of a run whose start was not seen all parts have one trace, which is not that of the whole run.
    hasher.update(start.map_or(&[][..], |start| &start.id));
    first(hasher)
}

fn first<const N: usize>(hasher: Sha256) -> [u8; N] {
    let hash = hasher.finalize();
    let mut bytes = [0; N];
    bytes.copy_from_slice(&hash[..N]);
    bytes
}

fn span_id(run: &Run, trace: &[u8; 16], spans: &Spans, index: usize) -> [u8; 8] {
    let span = &spans.all[index];
    let mut hasher = Sha256::new();
    hasher.update(trace);
    hasher.update(span.kind.label());
    match span.start_at.or(span.end_at).and_then(|event| run.events.get(event)) {
        Some(event) if event.id.len() == 16 => hasher.update(&event.id),
        // Without an id its place must do.
        _ => hasher.update(index.to_be_bytes()),
    }
    first(hasher)
}

fn resource(run: &Run, spans: &Spans) -> Value {
    let trace = trace_bytes(run, spans);
    let service = run.graph.as_deref().unwrap_or("agent");
    let list: Vec<_> = (0..spans.all.len()).map(|index| span(run, &trace, spans, index)).collect();
    json!({
        "resource": { "attributes": [
            text("service.name", service),
            text("dashstream.tenant", &run.id.owner.tenant),
            text("dashstream.thread", &run.id.owner.thread),
        ] },
        "scopeSpans": [{
            "scope": { "name": "dashstream", "version": env!("CARGO_PKG_VERSION") },
            "spans": list,
        }],
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

/// What the start and the end of a model call tell of it, in the names of OpenTelemetry's conventions for generative
/// models. What they do not tell is not there; the later one knows better.
fn of_model(run: &Run, span: &Span) -> Vec<Value> {
    let told = [span.end_at, span.start_at].into_iter().flatten().filter_map(|index| run.events.get(index));
    let (mut model, mut tokens) = (None, Tokens::default());
    for event in told {
        let (name, more) = match &event.what {
            What::ModelStart { call, tokens } | What::ModelEnd { call, tokens, .. } => (&call.model, *tokens),
            What::ModelError { call, .. } => (&call.model, Tokens::default()),
            What::Chunk { model, tokens, .. } => (model, *tokens),
            _ => continue,
        };
        model = model.or(name.as_deref());
        tokens = Tokens { input: tokens.input.or(more.input), output: tokens.output.or(more.output) };
    }
    let model = model.map(|model| text("gen_ai.request.model", model));
    let input = tokens.input.map(|tokens| number("gen_ai.usage.input_tokens", tokens));
    let output = tokens.output.map(|tokens| number("gen_ai.usage.output_tokens", tokens));
    [model, input, output].into_iter().flatten().collect()
}

/// The protocol's numbers.
const SPAN_KIND_INTERNAL: u8 = 1;
const SPAN_KIND_CLIENT: u8 = 3;
const STATUS_OK: u8 = 1;
const STATUS_ERROR: u8 = 2;

fn nanos(us: i64) -> String {
    (u128::from(us.max(0).unsigned_abs()) * 1_000).min(u128::from(u64::MAX)).to_string()
}

fn span(run: &Run, trace: &[u8; 16], spans: &Spans, index: usize) -> Value {
    let span = &spans.all[index];
    let parent = span.parent.map_or(String::new(), |parent| hex(&span_id(run, trace, spans, parent)));
    let mut attributes = vec![text("dashstream.kind", span.kind.label())];
    if let Some(node) = &span.node {
        attributes.push(text("dashstream.node", node));
    }
    if span.pairing != Pairing::Paired {
        attributes.push(text("dashstream.unpaired", span.pairing.label()));
    }
    if span.retries > 0 {
        attributes.push(number("dashstream.retries", span.retries.into()));
    }
    match span.kind {
        SpanKind::Model => attributes.extend(of_model(run, span)),
        SpanKind::Tool => attributes.push(text("gen_ai.tool.name", &span.name)),
        SpanKind::Graph | SpanKind::Node => {}
    }
    let first_token = span.first_token_us.map(|at_us| json!({ "timeUnixNano": nanos(at_us), "name": "first token" }));
    json!({
        "traceId": hex(trace),
        "spanId": hex(&span_id(run, trace, spans, index)),
        "parentSpanId": parent,
        "name": span.name,
        "kind": if matches!(span.kind, SpanKind::Model | SpanKind::Tool) { SPAN_KIND_CLIENT } else { SPAN_KIND_INTERNAL },
        "startTimeUnixNano": nanos(span.start_us),
        "endTimeUnixNano": nanos(span.end_us),
        "attributes": attributes,
        "events": first_token.into_iter().collect::<Vec<_>>(),
        "status": status(span),
    })
}

fn status(span: &Span) -> Value {
    match &span.error {
        Some(error) => json!({ "code": STATUS_ERROR, "message": error }),
        None if span.pairing == Pairing::Paired => json!({ "code": STATUS_OK }),
        None => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

    use super::super::fixture::{BEGIN_US, Script};
    use super::*;

    /// Read by the types of the project that defines the format.
    fn parsed(script: &Script) -> ExportTraceServiceRequest {
        let run = script.run();
        let spans = Spans::of(&run);
        serde_json::from_str(&traces(&[(&run, &spans)]).to_string()).expect("OTLP")
    }

    #[test]
    fn a_collector_reads_what_happened() {
        let mut script = Script::new("acme", "run-1");
        script.graph_start().start("plan").model("plan", "r1", "large", 30, (10, 20)).end("plan").start("lost");
        script.wait(5).graph_error("broken");
        let request = parsed(&script);
        assert_eq!(request.resource_spans.len(), 1);
        let resource = request.resource_spans[0].resource.as_ref().expect("a resource");
        let said: Vec<_> = resource
            .attributes
            .iter()
            .map(|one| match one.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(Any::StringValue(text)) => format!("{}={text}", one.key),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(said, ["service.name=graph", "dashstream.tenant=acme", "dashstream.thread=run-1"]);
        let spans = &request.resource_spans[0].scope_spans[0].spans;
        // The definition, spelt out: tenant, 0, thread, id of the first message.
        let mut preimage = b"acme\0run-1".to_vec();
        preimage.extend_from_slice(&1_u128.to_be_bytes());
        let expected = &Sha256::digest(&preimage)[..16];
        assert!(spans.iter().all(|span| span.trace_id == expected && span.span_id.len() == 8));
        let ids: HashSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
        assert_eq!(ids.len(), spans.len());
        let begin = BEGIN_US as u64 * 1_000;
        let line = |span: &opentelemetry_proto::tonic::trace::v1::Span| {
            let parent = spans.iter().find(|other| other.span_id == span.parent_span_id);
            let unpaired = span.attributes.iter().any(|one| one.key == "dashstream.unpaired");
            let status = span.status.as_ref().map_or(0, |status| status.code);
            format!(
                "{} <{} {}..{} kind {} status {status}{}",
                span.name,
                parent.map_or("", |parent| parent.name.as_str()),
                (span.start_time_unix_nano - begin) / 1_000_000,
                (span.end_time_unix_nano - begin) / 1_000_000,
                span.kind,
                if unpaired { " unpaired" } else { "" }
            )
        };
        assert_eq!(
            spans.iter().map(line).collect::<Vec<_>>(),
            [
                "graph < 0..35 kind 1 status 2",
                "plan <graph 0..30 kind 1 status 1",
                "large <plan 0..30 kind 3 status 1",
                "lost <graph 30..35 kind 1 status 0 unpaired",
            ]
        );
        assert_eq!(spans[0].status.as_ref().map(|status| status.message.as_str()), Some("broken"));
        let of_model: Vec<_> = spans[2].attributes.iter().filter(|one| one.key.starts_with("gen_ai.")).collect();
        let value = |index: usize| of_model[index].value.as_ref().and_then(|value| value.value.clone());
        assert_eq!(
            of_model.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(),
            ["gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens",]
        );
        assert_eq!(
            [value(0), value(1), value(2)],
            [Some(Any::StringValue("large".to_owned())), Some(Any::IntValue(10)), Some(Any::IntValue(20)),]
        );
        assert!(spans[3].attributes.iter().all(|one| !one.key.starts_with("gen_ai.")));
    }

    #[test]
    fn the_same_run_has_the_same_ids_and_another_run_others() {
        let mut script = Script::new("t", "run");
        script.graph_start().node("a", 1).graph_end();
        assert_eq!(parsed(&script), parsed(&script));
        let mut other = Script::new("t2", "run");
        other.graph_start().node("a", 1).graph_end();
        let id = |script: &Script| parsed(script).resource_spans[0].scope_spans[0].spans[0].trace_id.clone();
        assert_ne!(id(&script), id(&other));
        // Times before the epoch and ids that are none are no trouble.
        script.now_us = -5;
        script.node("b", 1);
        parsed(&script);
    }
}
