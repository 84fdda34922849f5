//! Results: a table for people, the same as JSON for programs.

use serde_json::{Map, Value};

#[derive(Default)]
pub struct Report {
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    notes: Vec<String>,
}

pub enum Cell {
    Text(String),
    Number { value: f64, digits: usize },
}

pub fn text(text: impl Into<String>) -> Cell {
    Cell::Text(text.into())
}

pub fn number(value: f64, digits: usize) -> Cell {
    Cell::Number { value, digits }
}

impl Report {
    pub fn new(title: impl Into<String>, columns: &[&'static str]) -> Self {
        Self { title: title.into(), columns: columns.to_vec(), ..Self::default() }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub fn print(&self) {
        println!("\n{}", self.title);
        let shown: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(show).collect()).collect();
        let width = |column: usize| {
            let cells = shown.iter().filter_map(|row| row.get(column)).map(String::len);
            cells.chain([self.columns[column].len()]).max().unwrap_or(0)
        };
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().enumerate().map(|(column, cell)| {
                let width = width(column);
                format!("{cell:>width$}")
            });
            println!("  {}", padded.collect::<Vec<_>>().join("  "));
        };
        line(self.columns.clone());
        for row in &shown {
            line(row.iter().map(String::as_str).collect());
        }
        for note in &self.notes {
            println!("  {note}");
        }
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = self.columns.iter().zip(row).map(|(column, cell)| {
                let value = match cell {
                    Cell::Text(text) => Value::from(text.clone()),
                    Cell::Number { value, .. } => Value::from(*value),
                };
                ((*column).to_owned(), value)
            });
            Value::Object(cells.collect::<Map<_, _>>())
        });
        serde_json::json!({ "title": self.title, "rows": rows.collect::<Vec<_>>(), "notes": self.notes })
    }
}

fn show(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Number { value, digits } => {
            let plain = format!("{value:.digits$}");
            // Thousands are set apart: 1234567 is hard to compare with 234567.
            let (whole, fraction) = plain.split_once('.').map_or((plain.as_str(), ""), |(whole, rest)| (whole, rest));
            let mut grouped = String::new();
            for (index, digit) in whole.chars().enumerate() {
                if index > 0
                    && (whole.len() - index).is_multiple_of(3)
                    && digit.is_ascii_digit()
                    && !grouped.ends_with('-')
                {
                    grouped.push(' ');
                }
                grouped.push(digit);
            }
            if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
        }
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
