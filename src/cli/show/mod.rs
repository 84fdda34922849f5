//! How events are shown: for people, as JSON, or as CSV. One [`Printer`] takes items and writes them, in whatever form
//! was asked for, and in constant memory.
//!
//! Deliberately absent: where events come from, and which of them are wanted.

pub mod terminal;
pub mod human;
pub mod tame;
pub mod line;
pub mod csv;
pub mod tally;
pub mod progress;

use std::io::Write;

use self::human::Style;
use self::tally::Tally;
use super::source::Item;

/// `--output`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A line for each event, aligned, coloured on a terminal.
    Human,
    /// One document: the events, then their sum.
    Json,
    /// One object per line.
    Jsonl,
    Csv,
}

impl Form {
    pub const ALL: [Self; 4] = [Self::Human, Self::Json, Self::Jsonl, Self::Csv];

    pub fn label(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.label() == text)
    }
}

/// How a document ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// With all that was asked for.
    Whole,
    /// In the middle: reading failed, or somebody asked to end.
    Incomplete,
}

/// Writes items as they come.
pub struct Printer<'a> {
    output: &'a mut dyn Write,
    form: Form,
    style: Style,
    /// The one run that is shown, if only one is.
    thread: Option<String>,
    pub tally: Tally,
    /// Of the line under way; kept for its room.
    line: Vec<u8>,
    begun: bool,
}

impl<'a> Printer<'a> {
    pub fn new(output: &'a mut dyn Write, form: Form, style: Style, thread: Option<String>) -> Self {
        Self { output, form, style, thread, tally: Tally::default(), line: Vec::new(), begun: false }
    }

    /// Shows what is to be shown of an item. `Ok(true)`: it was an event.
    pub fn item(&mut self, item: &Item) -> std::io::Result<bool> {
        self.begin()?;
        let first = self.tally.events == 0;
        let is_event = matches!(item, Item::Event(_));
        self.tally.note(item);
        self.line.clear();
        match self.form {
            Form::Human => self.style.item(item, &mut self.line),
            Form::Jsonl => {
                if line::item(item, &mut self.line) {
                    self.line.push(b'\n');
                }
            }
            Form::Csv => csv::item(item, &mut self.line),
            Form::Json => {
                // What was found is summed up behind the events.
                if is_event {
                    self.line.extend_from_slice(if first { b"\n" } else { b",\n" });
                    line::item(item, &mut self.line);
                }
            }
        }
        self.output.write_all(&self.line)?;
        Ok(is_event)
    }

    /// What was written so far can be seen.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }

    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Closes the document, which says so if it is not whole. One that has not begun then does not begin: of what could
    /// not be read there is none.
    pub fn finish(&mut self, extent: Extent) -> std::io::Result<()> {
        match extent {
            Extent::Incomplete if !self.begun => return Ok(()),
            _ => self.begin()?,
        }
        if self.form == Form::Json {
            self.line.clear();
            self.tally.close(extent, &mut self.line);
            self.output.write_all(&self.line)?;
        }
        self.output.flush()
    }

    /// What stands before the first item. Once.
    pub fn begin(&mut self) -> std::io::Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        match self.form {
            Form::Human | Form::Jsonl => Ok(()),
            Form::Csv => self.output.write_all(csv::HEADER.as_bytes()),
            Form::Json => {
                let thread = tame::document(serde_json::to_string(&self.thread)?);
                write!(self.output, "{{\"thread_id\":{thread},\"events\":[")
            }
        }
    }
}

#[cfg(test)]
mod tests;
