//! How `watch` looks: the stream and its troubles on top, runs below, then the run that is chosen, and keys at the
//! bottom. Every frame is made from the model and the size of the screen alone.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use unicode_width::UnicodeWidthStr;

use super::super::show::human::{fit, middle, plain};
use super::model::{Link, Model};
use crate::analysis::live::{LiveNode, LiveRun, Stream};
use crate::analysis::runs::Status;
use crate::analysis::text::{count, duration};

/// Below this nothing can be read.
const COLUMNS_MIN: u16 = 40;
const ROWS_MIN: u16 = 8;
/// From here on what a run says stands beside its nodes.
const COLUMNS_WIDE: u16 = 90;

const KEYS: &str = " ↑↓ choose  g newest  Enter open  Esc back  f filter  q quit";

struct Painter {
    colour: bool,
}

impl Painter {
    fn style(&self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn status(&self, status: Status) -> Style {
        self.style(match status {
            Status::Running => Color::Cyan,
            Status::Waiting => Color::Yellow,
            Status::Done => Color::Green,
            Status::Failed => Color::Red,
        })
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, now_us: i64, colour: bool) {
    let painter = Painter { colour };
    let area = frame.area();
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        frame.render_widget(Paragraph::new("make it larger"), area);
        return;
    }
    let [head, body, keys] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(1), Constraint::Length(1)]).areas(area);
    painter.head(frame, head, model);
    let runs = model.runs();
    let chosen = model.chosen(&runs);
    match (runs.get(chosen), model.opened) {
        (None, _) => {
            let text = match model.live.events {
                0 => " nothing has come yet",
                _ => " none of the runs is shown: f shows others",
            };
            frame.render_widget(Paragraph::new(text), body);
        }
        (Some(run), true) => painter.run(frame, body, run, now_us),
        (Some(run), false) => {
            // The list gets what it needs, up to half.
            let wanted = u16::try_from(runs.len() + 1).unwrap_or(u16::MAX);
            let list_rows = wanted.clamp(3, (body.height / 2).max(3));
            let [list, detail] = Layout::vertical([Constraint::Length(list_rows), Constraint::Min(0)]).areas(body);
            painter.list(frame, list, &runs, chosen, now_us);
            painter.run(frame, detail, run, now_us);
        }
    }
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    let width = usize::from(keys.width);
    frame.render_widget(Paragraph::new(fit(KEYS, width)).style(reversed), keys);
}

impl Painter {
    fn head(&self, frame: &mut Frame<'_>, area: Rect, model: &Model) {
        let (link, colour) = match &model.link {
            Link::CatchingUp => ("catching up".to_owned(), Color::Yellow),
            Link::Live => ("live".to_owned(), Color::Green),
            Link::Ended => ("all read".to_owned(), Color::Green),
            Link::Lost { why, retry_in } => {
                let retry = duration(i64::try_from(retry_in.as_micros()).unwrap_or(i64::MAX));
                (format!("CONNECTION LOST, trying again in {retry}: {}", plain(why)), Color::Red)
            }
        };
        let of = |status: Status| model.live.newest_first().filter(|run| run.status() == status).count();
        let counts = format!(
            "{} running, {} waiting, {} done, {} failed  {} events",
            of(Status::Running),
            of(Status::Waiting),
            of(Status::Done),
            of(Status::Failed),
            count(model.live.events)
        );
        let mut troubles = String::new();
        if model.gaps > 0 {
            troubles.push_str(&format!("  {} missing", count(model.gaps)));
        }
        if model.reconnects > 0 {
            troubles.push_str(&format!("  {} reconnects", count(model.reconnects)));
        }
        if model.live.evicted > 0 {
            troubles.push_str(&format!("  {} older runs let go", count(model.live.evicted)));
        }
        let width = usize::from(area.width);
        let place = middle(&plain(&model.place), width / 3);
        let link = fit(&link, width.saturating_sub(place.width() + 4));
        let first = Line::from(vec![
            Span::raw(format!(" {place}  ")),
            Span::styled(link, self.style(colour).add_modifier(Modifier::BOLD)),
        ]);
        let shown = format!(" {}: {counts}{troubles}", model.shown.label());
        let second = match model.notices.back() {
            Some(notice) => {
                let room = width.saturating_sub(shown.width() + 2);
                Line::from(vec![
                    Span::raw(format!("{}  ", fit(&shown, width))),
                    Span::styled(fit(notice, room), self.style(Color::Yellow)),
                ])
            }
            None => Line::from(fit(&shown, width)),
        };
        frame.render_widget(Paragraph::new(vec![first, second]), area);
    }

    fn list(&self, frame: &mut Frame<'_>, area: Rect, runs: &[&LiveRun], chosen: usize, now_us: i64) {
        let width = usize::from(area.width);
        let name_columns = (width / 3).clamp(12, 40);
        let title = format!(
            " {:<name_columns$} {:<8} {:>9} {:>7} {:>7} {:>4} {:>4}  {}",
            "run", "status", "time", "events", "tokens", "err", "gap", "where"
        );
        let mut lines = vec![Line::styled(fit(&title, width), Style::new().add_modifier(Modifier::DIM))];
        let rows = usize::from(area.height).saturating_sub(1);
        // The chosen one is always in sight.
        let first = chosen.saturating_sub(rows.saturating_sub(1) / 2).min(runs.len().saturating_sub(rows));
        for (place, run) in runs.iter().enumerate().skip(first).take(rows) {
            let name = middle(&run.id.to_string(), name_columns);
            let room = " ".repeat(name_columns.saturating_sub(name.width()));
            let mark = if place == chosen { '>' } else { ' ' };
            let front = format!("{mark}{name}{room} ");
            let status = format!("{:<8} ", run.status().label());
            let back = format!(
                "{:>9} {:>7} {:>7} {:>4} {:>4}  {}",
                duration(took_us(run, now_us)),
                count(run.events),
                count(run.tokens),
                nothing(run.error_count),
                nothing(run.missing),
                whereabouts(run)
            );
            let back = fit(&back, width.saturating_sub(front.width() + status.width()));
            let spans = vec![Span::raw(front), Span::styled(status, self.status(run.status())), Span::raw(back)];
            let line = Line::from(spans);
            let chosen_style = Style::new().add_modifier(Modifier::BOLD);
            lines.push(if place == chosen { line.style(chosen_style) } else { line });
        }
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn run(&self, frame: &mut Frame<'_>, area: Rect, run: &LiveRun, now_us: i64) {
        if area.height < 3 {
            return;
        }
        let graph = run.graph.as_deref().map_or(String::new(), |graph| format!(" {graph}"));
        let mut title = format!(" {}{graph}: {} ", run.id, run.status().label());
        if run.is_partial() {
            title.push_str("(its beginning was not seen) ");
        }
        if run.retries > 0 {
            title.push_str(&format!("{} retries ", count(run.retries)));
        }
        if run.duplicates > 0 {
            title.push_str(&format!("{} duplicates ", count(run.duplicates)));
        }
        let title = fit(&title, usize::from(area.width).saturating_sub(2));
        let block = Block::new().borders(Borders::TOP).title(Span::styled(title, self.status(run.status())));
        let inside = block.inner(area);
        frame.render_widget(block, area);
        // Errors first: they get their lines before anything else does.
        let errors = u16::try_from(run.errors.len()).unwrap_or(u16::MAX).min(inside.height / 3);
        let [top, rest] = Layout::vertical([Constraint::Length(errors), Constraint::Min(0)]).areas(inside);
        let latest = run.errors.iter().rev().take(usize::from(errors));
        let lines: Vec<_> = latest
            .map(|(at_us, text)| {
                let since = duration(at_us.saturating_sub(run.began_us()));
                let text = fit(&format!(" +{since}  {}", plain(text)), usize::from(top.width));
                Line::styled(text, self.style(Color::Red))
            })
            .collect();
        frame.render_widget(Paragraph::new(lines), top);
        if rest.width >= COLUMNS_WIDE {
            let [nodes, said] =
                Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(rest);
            self.nodes(frame, nodes, run, now_us);
            self.said(frame, said, run);
        } else {
            let node_rows = u16::try_from(run.nodes.len()).unwrap_or(u16::MAX).min(rest.height / 2);
            let [nodes, said] = Layout::vertical([Constraint::Length(node_rows), Constraint::Min(0)]).areas(rest);
            self.nodes(frame, nodes, run, now_us);
            self.said(frame, said, run);
        }
    }

    fn nodes(&self, frame: &mut Frame<'_>, area: Rect, run: &LiveRun, now_us: i64) {
        let width = usize::from(area.width);
        let rows = usize::from(area.height);
        // Those that are open are what one looks for; else the latest.
        let mut nodes: Vec<&LiveNode> = run.nodes.iter().collect();
        if nodes.len() > rows {
            nodes.sort_by_key(|node| node.open_us.is_empty());
            nodes.truncate(rows);
        }
        let lines: Vec<_> = nodes.into_iter().map(|node| self.node(node, width, run, now_us)).collect();
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn node(&self, node: &LiveNode, width: usize, run: &LiveRun, now_us: i64) -> Line<'static> {
        let until_us = if run.has_ended() { run.ended_us() } else { now_us };
        let open_us = node.open_us.front().map(|began_us| until_us.saturating_sub(*began_us).max(0));
        let (mark, style) = match (open_us, node.failed) {
            (Some(_), _) => ('▶', self.style(Color::Cyan)),
            (None, true) => ('✗', self.style(Color::Red)),
            (None, false) => ('✓', self.style(Color::Green)),
        };
        let took = duration(node.total_us.saturating_add(open_us.unwrap_or(0)));
        let name_columns = (width / 3).max(8);
        let name = middle(&node.name, name_columns);
        let room = " ".repeat(name_columns.saturating_sub(name.width()));
        let text = format!("{mark} {name}{room} {:>3}x {took:>9}  {}", node.times, plain(&node.note));
        Line::styled(format!(" {}", fit(&text, width.saturating_sub(1))), style)
    }

    /// The end of what models said last, so much as there is room for.
    fn said(&self, frame: &mut Frame<'_>, area: Rect, run: &LiveRun) {
        let Some(stream) = run.streams.iter().rev().find(|stream| !stream.done).or(run.streams.back()) else {
            return;
        };
        let (width, rows) = (usize::from(area.width).saturating_sub(2), usize::from(area.height));
        if rows < 2 || width < 8 {
            return;
        }
        let mut lines = vec![Line::styled(format!(" {}", fit(&heading(stream), width)), self.style(Color::Cyan))];
        let wrapped = wrapped(&stream.text, width);
        let first = wrapped.len().saturating_sub(rows - 1);
        lines.extend(wrapped.into_iter().skip(first).map(|line| Line::from(format!(" {line}"))));
        frame.render_widget(Paragraph::new(lines), area);
    }
}

fn heading(stream: &Stream) -> String {
    let model = stream.model.as_deref().unwrap_or("model");
    let node = stream.node.as_ref().map_or(String::new(), |node| format!(" in {node}"));
    let state = if stream.done { "said" } else { "says" };
    format!("{model}{node} {state} ({} tokens):", count(stream.tokens))
}

fn took_us(run: &LiveRun, now_us: i64) -> i64 {
    let until_us = if run.has_ended() { run.ended_us() } else { now_us.max(run.ended_us()) };
    until_us.saturating_sub(run.began_us())
}

fn nothing(number: u64) -> String {
    if number == 0 { "-".to_owned() } else { count(number) }
}

fn whereabouts(run: &LiveRun) -> String {
    let open: Vec<_> = run.open_nodes().map(|node| node.name.as_str()).collect();
    open.join(", ")
}

/// Lines of at most so many columns, broken at blanks where there are any.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let paragraph = plain(paragraph);
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let mut word = word.to_owned();
            loop {
                let space = usize::from(!line.is_empty());
                if line.width() + space + word.width() <= columns {
                    if space > 0 {
                        line.push(' ');
                    }
                    line.push_str(&word);
                    break;
                }
                if line.is_empty() {
                    // A word that is longer than a line.
                    let mut used = 0;
                    let end = word.char_indices().find(|(_, letter)| {
                        used += unicode_width::UnicodeWidthChar::width(*letter).unwrap_or(0);
                        used > columns
                    });
                    let at = end.map_or(word.len(), |(at, _)| at.max(1));
                    let at = word.ceil_char_boundary(at);
                    lines.push(word.drain(..at).collect());
                    if word.is_empty() {
                        break;
                    }
                } else {
                    lines.push(std::mem::take(&mut line));
                }
            }
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
