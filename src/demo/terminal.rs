//! Text for people: headings, tables and colors, which only a terminal gets.

use crate::pipeline::trace_view::Look;
use std::io::{IsTerminal, Write};

/// No line is longer.
pub(super) const WIDTH: usize = 100;

/// What a text should look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    /// As it is.
    #[default]
    Plain,
    /// A heading.
    Bold,
    /// What matters less.
    Dim,
    /// As it should be.
    Good,
    /// What went wrong.
    Bad,
    /// A name to find again.
    Name,
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    style: Style,
    is_number: bool,
}

impl Cell {
    /// A text.
    pub(super) fn text(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), ..Cell::default() }
    }

    /// A number, at the right edge of its column.
    pub(super) fn number(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), is_number: true, ..Cell::default() }
    }

    /// The same in a style.
    pub(super) fn styled(self, style: Style) -> Cell {
        Cell { style, ..self }
    }
}

/// The standard output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    is_color: bool,
}

impl Terminal {
    /// With colors on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
    pub(super) fn new() -> Terminal {
        let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Terminal { is_color: is_wanted && std::io::stdout().is_terminal() }
    }

    /// The same for what other commands print.
    pub(super) fn look(self) -> Look {
        Look { columns: WIDTH, is_color: self.is_color }
    }

    /// `text` in a style.
    pub(super) fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => "",
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "31",
            Style::Name => "36",
        };
        if code.is_empty() || text.is_empty() || !self.is_color {
            text.into()
        } else {
            format!("\x1b[{code}m{text}\x1b[0m")
        }
    }

    /// A line. A reader that has gone does not matter: what was observed is also in the exit status.
    pub(super) fn line(self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// A heading.
    pub(super) fn heading(self, text: &str) {
        let rule = "─".repeat(WIDTH.saturating_sub(text.chars().count() + 4));
        self.line(&format!("\n── {} {}", self.paint(Style::Bold, text), self.paint(Style::Dim, &rule)));
    }

    /// A remark.
    pub(super) fn note(self, text: &str) {
        self.line(&format!("   {}", self.paint(Style::Dim, text)));
    }

    /// A table; columns are as wide as their widest cell.
    pub(super) fn table(self, head: &[&str], rows: &[Vec<Cell>]) {
        let width_of = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
            cells.chain(head.get(column).map(|name| name.chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width_of).collect();
        let is_number =
            |column: usize| rows.first().and_then(|row| row.get(column)).is_some_and(|cell| cell.is_number);
        let names = head.iter().enumerate().map(|(column, name)| Cell {
            text: (*name).into(),
            style: Style::Dim,
            is_number: is_number(column),
        });
        self.row(&names.collect::<Vec<_>>(), &widths);
        for row in rows {
            self.row(row, &widths);
        }
    }

    fn row(self, cells: &[Cell], widths: &[usize]) {
        let mut line = String::from("   ");
        for (cell, width) in cells.iter().zip(widths) {
            let room = " ".repeat(width.saturating_sub(cell.text.chars().count()));
            let text = self.paint(cell.style, &cell.text);
            let cell = if cell.is_number { format!("{room}{text}") } else { format!("{text}{room}") };
            line.push_str(&cell);
            line.push_str("  ");
        }
        self.line(line.trim_end());
    }

    /// A long text without spaces, broken after commas.
    pub(super) fn broken(self, text: &str) {
        let mut line = String::from("   ");
        for piece in text.split_inclusive(',') {
            if line.chars().count() + piece.chars().count() > WIDTH {
                self.line(&line);
                line = String::from("       ");
            }
            line.push_str(piece);
        }
        self.line(&line);
    }
}
