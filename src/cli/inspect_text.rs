//! How `inspect` looks on a terminal: most important things first, every line as wide as the screen at most.

use unicode_width::UnicodeWidthStr;

use super::inspect::Findings;
use super::sheet::{Align, Sheet};
use super::show::human::{DIM, GREEN, RED, Style, YELLOW, fit, rfc3339};
use crate::analysis::live::error_text;
use crate::analysis::runs::Status;
use crate::analysis::text::{count, counted, duration, hex};
use crate::analysis::told::{Told, What};
use crate::analysis::trail::{Form, Step, Verdict};
use crate::analysis::{Pairing, Span, SpanKind};
use crate::wire::state_hash::state_hash;

/// Columns of the bar that shows when a span was.
const BAR_COLUMNS: usize = 24;
/// Errors and troubles that are listed; more are counted.
const LISTED_MAX: usize = 20;
/// Lines of the timeline. A run of more is better read as json.
const LINES_MAX: usize = 2_000;

pub(super) struct Page {
    pub style: Style,
    pub priced: bool,
    pub events: bool,
}

impl Page {
    pub(super) fn run(&self, one: &Findings<'_>, out: &mut String) {
        self.head(one, out);
        self.errors(one, out);
        self.path(one, out);
        self.timeline(one, out);
        self.states(one, out);
    }

    fn line(&self, colour: &str, text: &str, out: &mut String) {
        let text = fit(text, self.style.screen.width.unwrap_or(usize::MAX));
        out.push_str(&self.style.paint(colour, text.trim_end()));
        out.push('\n');
    }

    fn title(&self, title: &str, detail: &str, out: &mut String) {
        out.push('\n');
        self.line("", &format!("{title}  {detail}"), out);
    }

    fn head(&self, one: &Findings<'_>, out: &mut String) {
        let root = one.spans.root();
        let colour = match one.run.status {
            Status::Done => GREEN,
            Status::Failed => RED,
            Status::Running | Status::Waiting => YELLOW,
        };
        let graph = one.run.graph.as_deref().map_or(String::new(), |graph| format!("{graph}  "));
        let status = one.run.status.label();
        let took = duration(root.took_us());
        self.line(colour, &format!("{}  {graph}{status}  {took}  {}", one.run.id, rfc3339(root.start_us)), out);
        let sum = &one.profile.sum;
        let spans = |kind, what| counted(one.spans.of_kind(kind).count() as u64, what);
        let mut facts = format!(
            "  {}, {}, {}, {}, {} + {} tokens",
            counted(one.run.events.len() as u64, "event"),
            spans(SpanKind::Node, "node execution"),
            spans(SpanKind::Model, "model call"),
            spans(SpanKind::Tool, "tool call"),
            count(sum.input),
            count(sum.output)
        );
        if self.priced {
            facts.push_str(&format!(", cost {}", sum.cost));
            if sum.unpriced > 0 {
                facts.push_str(&format!(" + {} unpriced", counted(sum.unpriced, "call")));
            }
        }
        self.line("", &facts, out);
        for note in &one.notes {
            self.line(YELLOW, &format!("  ! {note}"), out);
        }
    }

    fn errors(&self, one: &Findings<'_>, out: &mut String) {
        let total = one.run.errors().count();
        if total == 0 {
            return;
        }
        self.title("Errors", &count(total as u64), out);
        let mut sheet = Sheet::new(&[("", Align::Right), ("", Align::Right), ("", Align::Left)]);
        for event in one.run.errors().take(LISTED_MAX) {
            sheet.coloured(RED, vec![self.since(one, event.at_us), number(event), error_text(&event.what)]);
        }
        sheet.write(&self.style, "  ", out);
        if total > LISTED_MAX {
            self.line(DIM, &format!("  and {} more", total - LISTED_MAX), out);
        }
    }

    fn since(&self, one: &Findings<'_>, at_us: i64) -> String {
        let us = at_us.saturating_sub(one.spans.root().start_us);
        if us < 0 { format!("-{}", duration(us.saturating_neg())) } else { format!("+{}", duration(us)) }
    }

    fn path(&self, one: &Findings<'_>, out: &mut String) {
        let Some(path) = &one.path else {
            self.title("Critical path", "not known: no edges were told", out);
            return;
        };
        let whole_us = one.spans.root().took_us();
        let percent = i128::from(path.took_us) * 100 / i128::from(whole_us.max(1));
        let share = format!("{} of {} ({percent} %)", duration(path.took_us), duration(whole_us));
        self.title("Critical path", &share, out);
        let steps = path.spans.iter().map(|index| &one.spans.all[*index]);
        let texts = steps.map(|span| format!("{} {}", span.name, duration(span.took_us())));
        // Broken between steps, so that each can be read.
        let width = self.style.screen.width.unwrap_or(usize::MAX);
        let mut line = String::new();
        for text in texts {
            let more = if line.is_empty() { format!("  {text}") } else { format!("{line} → {text}") };
            if more.width() > width.saturating_sub(2) && !line.is_empty() {
                self.line("", &format!("{line} →"), out);
                line = format!("    {text}");
            } else {
                line = more;
            }
        }
        self.line("", &line, out);
    }

    fn timeline(&self, one: &Findings<'_>, out: &mut String) {
        self.title("Timeline", "", out);
        let mut columns = vec![("", Align::Right), ("", Align::Right), ("", Align::Left), ("", Align::Left)];
        if self.events {
            columns.insert(0, ("", Align::Right));
        }
        let mut sheet = Sheet::new(&columns);
        let mut rows: Vec<Row> = one.spans.all.iter().map(|span| self.span(one, span)).collect();
        if self.events {
            rows.extend(one.run.events.iter().enumerate().filter_map(|(index, event)| self.event(one, index, event)));
        }
        // Of what is at one place in the order of events, the span comes first.
        rows.sort_by_key(|row| (row.order, row.is_event));
        let left_out = rows.len().saturating_sub(LINES_MAX);
        for row in rows.into_iter().take(LINES_MAX) {
            let mut cells = vec![row.since, row.took, row.bar, row.text];
            if self.events {
                // Of a span, that of the event that began it, or ended it where no other is known.
                cells.insert(0, one.run.events.get(row.order).map_or(String::new(), number));
            }
            sheet.coloured(row.colour, cells);
        }
        sheet.write(&self.style, "  ", out);
        if left_out > 0 {
            self.line(DIM, &format!("  and {} lines more: see --output json", count(left_out as u64)), out);
        }
    }

    fn span(&self, one: &Findings<'_>, span: &Span) -> Row {
        let depth = std::iter::successors(span.parent, |parent| one.spans.all[*parent].parent).count();
        let what = match span.kind {
            SpanKind::Graph => format!("{} {}", span.kind.label(), span.name),
            SpanKind::Node => span.name.clone(),
            SpanKind::Model | SpanKind::Tool => format!("{} {}", span.kind.label(), span.name),
        };
        let mut text = format!("{}{what}", "  ".repeat(depth));
        if span.retries > 0 {
            text.push_str(&format!("  retried {}x", span.retries));
        }
        if span.pairing != Pairing::Paired {
            text.push_str(&format!("  ({})", span.pairing.label()));
        }
        if let Some(first_us) = span.first_token_us {
            text.push_str(&format!("  first token +{}", duration(first_us.saturating_sub(span.start_us))));
        }
        if span.error.is_some() {
            text.push_str("  FAILED");
        }
        let colour = match (span.error.is_some(), span.pairing) {
            (true, _) => RED,
            (false, Pairing::Paired) => "",
            (false, _) => YELLOW,
        };
        Row {
            order: span.order(),
            is_event: false,
            colour,
            since: self.since(one, span.start_us),
            took: duration(span.took_us()),
            bar: bar(one.spans.root(), span),
            text,
        }
    }

    fn event(&self, one: &Findings<'_>, index: usize, event: &Told) -> Option<Row> {
        let text = match &event.what {
            What::Edge { from, to } => format!("{from} → {to}"),
            What::Diff(diff) if !diff.full_state.is_empty() => "state whole".to_owned(),
            What::Diff(diff) => {
                format!("state changed by {}", counted(diff.operations.len() as u64, "operation"))
            }
            What::Checkpoint(saved) => format!("checkpoint {}", hex(&saved.checkpoint)),
            What::Measured { scope, values } => {
                let values: Vec<_> = values.iter().map(|(name, value)| format!("{name} {value}")).collect();
                format!("{scope} metrics: {}", values.join(", "))
            }
            What::Error { .. } => error_text(&event.what),
            What::ModelRetry { reason, .. } | What::ToolRetry { reason, .. } => format!("retry: {reason}"),
            What::Interrupt { node } => format!("{node} waits for a person"),
            What::Resume { node } => format!("{node} goes on"),
            What::Warning { node, message } => format!("{node} warns: {message}"),
            What::Remark { label, node, text } if node.is_empty() => format!("{label} {text}"),
            What::Remark { label, node, text } => format!("{node} {label}: {text}"),
            // Those begin or end a span, or are part of one.
            _ => return None,
        };
        Some(Row {
            order: index,
            is_event: true,
            colour: DIM,
            since: self.since(one, event.at_us),
            took: String::new(),
            bar: String::new(),
            text: format!("  · {text}"),
        })
    }

    fn states(&self, one: &Findings<'_>, out: &mut String) {
        let steps = &one.trail.steps;
        if steps.is_empty() {
            return;
        }
        let of = |verdict: fn(&Verdict) -> bool| steps.iter().filter(|step| verdict(&step.verdict)).count();
        let verified = of(|verdict| *verdict == Verdict::Verified);
        let unhashed = of(|verdict| *verdict == Verdict::NoHash);
        let trouble = of(Verdict::is_trouble);
        let mut said = format!("{} told, {} verified", count(steps.len() as u64), count(verified as u64));
        if unhashed > 0 {
            said.push_str(&format!(", {} without a hash", count(unhashed as u64)));
        }
        if trouble > 0 {
            said.push_str(&format!(", {} in trouble", count(trouble as u64)));
        }
        self.title("State", &said, out);
        let mut sheet = Sheet::new(&[("", Align::Right), ("", Align::Right), ("", Align::Left), ("", Align::Left)]);
        for step in one.trail.trouble().take(LISTED_MAX) {
            let Some(event) = one.run.events.get(step.event) else { continue };
            let cells = vec![self.since(one, event.at_us), number(event), form(step), step.verdict.to_string()];
            sheet.coloured(RED, cells);
        }
        sheet.write(&self.style, "  ", out);
        if trouble > LISTED_MAX {
            self.line(DIM, &format!("  and {} more", trouble - LISTED_MAX), out);
        }
        if let Some(state) = &one.trail.state {
            let hash = hex(&state_hash(state.value()));
            let size = count(state.bytes() as u64);
            self.line(DIM, &format!("  at the end about {size} bytes, hash {hash}"), out);
        }
    }

    /// `--at`: the state itself, as JSON that can be cut out and used.
    pub(super) fn state(&self, one: &Findings<'_>, out: &mut String) {
        let last = one.trail.steps.last();
        let at = last.and_then(|step| one.run.events.get(step.event));
        let place = at.map_or("before any state was told".to_owned(), |event| {
            format!("as of {} {}", number(event), self.since(one, event.at_us))
        });
        let verdict = last.map_or(String::new(), |step| format!(", {}", step.verdict));
        let colour = if last.is_some_and(|step| step.verdict.is_trouble()) { RED } else { GREEN };
        self.line(colour, &format!("{}  state {place}{verdict}", one.run.id), out);
        match &one.trail.state {
            Some(state) => {
                self.line(DIM, &format!("hash {}", hex(&state_hash(state.value()))), out);
                out.push_str(&format!("{:#}\n", state.value()));
            }
            None => self.line(YELLOW, "the state is not known there", out),
        }
    }
}

/// A line of the timeline.
struct Row {
    order: usize,
    is_event: bool,
    colour: &'static str,
    since: String,
    took: String,
    bar: String,
    text: String,
}

fn number(event: &Told) -> String {
    if event.sequence == 0 { "#-".to_owned() } else { format!("#{}", event.sequence) }
}

pub(super) fn form(step: &Step) -> String {
    match &step.form {
        Form::Initial => "initial state".to_owned(),
        Form::Whole => "whole state".to_owned(),
        Form::Changes(operations) => counted(*operations as u64, "operation"),
        Form::Checkpoint(id) => format!("checkpoint {}", hex(id.get(..4).unwrap_or(id))),
    }
}

/// Where in the run it was, of which every column is an equal part.
fn bar(root: &Span, span: &Span) -> String {
    let whole = i128::from(root.took_us()).max(1);
    let column = |at_us: i64| {
        let part = i128::from(at_us.saturating_sub(root.start_us)) * BAR_COLUMNS as i128 / whole;
        usize::try_from(part.clamp(0, BAR_COLUMNS as i128)).unwrap_or(0)
    };
    let start = column(span.start_us).min(BAR_COLUMNS - 1);
    let end = column(span.end_us).max(start + 1);
    format!("{}{}{}", "·".repeat(start), "█".repeat(end - start), "·".repeat(BAR_COLUMNS - end))
}
