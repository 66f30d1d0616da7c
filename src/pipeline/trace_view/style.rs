//! How texts for people look: colours, times, and nothing that a terminal would obey.
//!
//! Paths, ids and names in events were written by peers. A control character in them could move the cursor, hide what was
//! printed or paste into the shell, so it is shown as its number.

use std::borrow::Cow;

/// Where a text is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// How wide lines may be; where it is narrow, the bars are left out.
    pub columns: usize,
    /// Whether colours are wanted.
    pub is_color: bool,
}

/// What a text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Bold,
    Dim,
    Good,
    Bad,
    Name,
}

impl Look {
    /// `text` in its colour (ECMA-48 SGR).
    pub(super) fn paint(self, ink: Ink, text: &str) -> String {
        if !self.is_color || text.is_empty() {
            return text.into();
        }
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Good => "32",
            Ink::Bad => "31",
            Ink::Name => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Whether a terminal would do something else with it than show it, or show the text around it in another order.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `text` with nothing hidden in it, and at most so many characters of it.
pub(super) fn clean(text: &str, chars_max: usize) -> Cow<'_, str> {
    let is_long = text.len() > chars_max && text.chars().count() > chars_max;
    if !is_long && !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len().min(4 * chars_max));
    for c in text.chars().take(if is_long { chars_max.saturating_sub(1) } else { chars_max }) {
        if is_hostile(c) {
            clean.push_str(&c.escape_unicode().to_string());
        } else {
            clean.push(c);
        }
    }
    if is_long {
        clean.push('…');
    }
    Cow::Owned(clean)
}

/// A time in microseconds: `0.123 ms`, `12.345 s`, with a sign where it is negative.
pub(super) fn time(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    if micros < 1_000_000 {
        format!("{sign}{}.{:03} ms", micros / 1000, micros % 1000)
    } else {
        format!("{sign}{}.{:03} s", micros / 1_000_000, micros / 1000 % 1000)
    }
}

/// Rows with columns as wide as their widest cell; the last column is not padded. The first row is the head.
pub(super) fn table(look: Look, rows: &[Vec<(Option<Ink>, String)>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|(_, text)| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, ((ink, cell), width)) in row.iter().zip(&widths).enumerate() {
            let room = width.saturating_sub(cell.chars().count());
            let cell = ink.map_or_else(|| cell.clone(), |ink| look.paint(ink, cell));
            line.push_str(&cell);
            if column + 1 < row.len() {
                line.push_str(&" ".repeat(room + 2));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_that_fits() {
        let cases = [
            (0, "0.000 ms"),
            (1, "0.001 ms"),
            (12_345, "12.345 ms"),
            (999_999, "999.999 ms"),
            (1_000_000, "1.000 s"),
            (3_600_123_456, "3600.123 s"),
            (-3_210, "-3.210 ms"),
            (i64::MIN, "-9223372036854.775 s"),
        ];
        for (micros, want) in cases {
            assert_eq!(time(micros), want);
        }
    }

    #[test]
    fn no_text_of_a_peer_reaches_the_terminal_as_a_command() {
        let cases = [
            ("/orders/42", 40, "/orders/42"),
            ("\u{1b}[2Jgone\r\n", 40, "\\u{1b}[2Jgone\\u{d}\\u{a}"),
            ("a\u{202e}b\u{9b}1m", 40, "a\\u{202e}b\\u{9b}1m"),
            ("Größe 漢字", 40, "Größe 漢字"),
            ("12345", 5, "12345"),
            ("123456", 5, "1234…"),
            ("", 5, ""),
        ];
        for (text, max, want) in cases {
            assert_eq!(clean(text, max), want, "{text:?}");
        }
    }
}
