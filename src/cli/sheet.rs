//! Tables for people: columns as wide as they must be, numbers to the right, the last column as wide as is left.

use unicode_width::UnicodeWidthStr;

use super::show::human::{Style, fit};

/// Where a lot of room is left, names still end here.
const NAME_COLUMNS_MAX: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows of as many cells as there are columns. Texts are fit for a terminal already.
pub(super) struct Sheet {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<(Vec<String>, &'static str)>,
}

impl Sheet {
    /// Without headings where all of them are empty.
    pub(super) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.coloured("", cells);
    }

    /// A whole line in a colour of [`super::show::human`].
    pub(super) fn coloured(&mut self, colour: &'static str, cells: Vec<String>) {
        self.rows.push((cells, colour));
    }

    /// Lines that begin with `indent`.
    pub(super) fn write(&self, style: &Style, indent: &str, out: &mut String) {
        let headed = self.columns.iter().any(|(title, _)| !title.is_empty());
        let last = self.columns.len().saturating_sub(1);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|(cells, _)| cells.get(column)).map(|cell| cell.width());
            let widest = cells.chain([self.columns[column].0.width()]).max().unwrap_or(0);
            if column == last { widest } else { widest.min(NAME_COLUMNS_MAX) }
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut line = |cells: &[String], colour: &str| {
            let mut text = indent.to_owned();
            for (column, cell) in cells.iter().enumerate().take(widths.len()) {
                if column > 0 {
                    text.push_str("  ");
                }
                let cell = match (column == last, style.screen.width) {
                    (true, Some(width)) => fit(cell, width.saturating_sub(text.width()).max(1)),
                    (true, None) => cell.clone(),
                    (false, _) => fit(cell, widths[column]),
                };
                let room = " ".repeat(widths[column].saturating_sub(cell.width()));
                match self.columns[column].1 {
                    Align::Left => text.extend([cell.as_str(), &room]),
                    Align::Right => text.extend([room.as_str(), &cell]),
                }
            }
            out.push_str(&style.paint(colour, text.trim_end()));
            out.push('\n');
        };
        if headed && !self.rows.is_empty() {
            let titles: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
            line(&titles, super::show::human::DIM);
        }
        for (cells, colour) in &self.rows {
            line(cells, colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::terminal::Screen;
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_no_wider_than_the_screen() {
        let mut sheet = Sheet::new(&[("name", Align::Left), ("n", Align::Right), ("what", Align::Left)]);
        sheet.row(vec!["é".to_owned(), "5".to_owned(), "short".to_owned()]);
        sheet.row(vec!["longer".to_owned(), "1,000".to_owned(), "a text that does not fit".to_owned()]);
        let check = |width, expected: &[&str]| {
            let mut out = String::new();
            sheet.write(&Style { screen: Screen { width, colour: false } }, "  ", &mut out);
            assert_eq!(out.lines().collect::<Vec<_>>(), expected);
        };
        check(Some(27), &["  name        n  what", "  é           5  short", "  longer  1,000  a text th…"]);
        check(None, &["  name        n  what", "  é           5  short", "  longer  1,000  a text that does not fit"]);
    }
}
