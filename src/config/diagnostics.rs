//! Problems of a configuration, shown as rustc shows them: what, where, the line itself, and what to write instead.
//!
//! Bounds: a long line is cut around the place, control characters of the file never reach the terminal, and after
//! [`SHOWN_MAX`] problems only their number is told.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde_json::{Value, json};

use super::node::Span;

/// Problems that are kept; a file with more is not the file that was meant.
pub const SHOWN_MAX: usize = 100;
/// Problems up to which the name that was meant is looked for; beyond, that would only cost time.
pub const HELPED_MAX: usize = 10 * SHOWN_MAX;
/// Characters of a source line that are shown.
const LINE_CHARS_MAX: usize = 140;

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted, but probably not what was meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where; absent when it is about the file as a whole.
    pub span: Option<Span>,
    /// What to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Error, message: message.into(), span: None, help: None }
    }

    /// A warning.
    pub fn warning(message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(message) }
    }

    /// The same, with its place.
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// The same, with what to write instead.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The problems of one file, in the order of the file.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    file: String,
    text: Arc<str>,
    list: Vec<Diagnostic>,
    omitted: usize,
}

impl Diagnostics {
    /// Of a file and its text; `list` is sorted by place.
    pub fn new(file: &str, text: Arc<str>, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_key(|problem| (problem.span.unwrap_or_default(), problem.severity == Severity::Warning));
        let omitted = list.len().saturating_sub(SHOWN_MAX);
        if omitted > 0 {
            list.sort_by_key(|problem| problem.severity != Severity::Error);
            list.truncate(SHOWN_MAX);
        }
        Diagnostics { file: file.to_owned(), text, list, omitted }
    }

    /// One problem of a file that could not be read.
    pub fn whole_file(file: &str, problem: Diagnostic) -> Self {
        Diagnostics::new(file, "".into(), vec![problem])
    }

    /// The problems.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether there is an error among them.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// The text for people; colours (ANSI) are for terminals only.
    pub fn render(&self, color: bool) -> String {
        let mut out = String::new();
        for problem in &self.list {
            self.render_one(problem, color, &mut out);
            out.push('\n');
        }
        if self.omitted > 0 {
            let _ = writeln!(out, "… and {} more", self.omitted);
        }
        out
    }

    fn render_one(&self, problem: &Diagnostic, color: bool, out: &mut String) {
        let paint = |code: &str, text: &str| {
            if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let hue = if problem.severity == Severity::Error { "1;31" } else { "1;33" };
        let severity = paint(hue, problem.severity.as_str());
        let _ = writeln!(out, "{severity}{}", paint("1", &format!(": {}", problem.message)));
        let number = problem.span.map_or_else(String::new, |span| span.line.to_string());
        let gutter = " ".repeat(number.len().max(1));
        let arrow = paint("1;34", "-->");
        let bar = paint("1;34", "|");
        match problem.span {
            None => {
                let _ = writeln!(out, "{gutter}{arrow} {}", self.file);
            }
            Some(span) => {
                let _ = writeln!(out, "{gutter}{arrow} {}:{}:{}", self.file, span.line, span.column);
                let (line, offset, width) = self.excerpt(span);
                let carets = paint(hue, &"^".repeat(width));
                let _ = writeln!(out, "{gutter} {bar}");
                let _ = writeln!(out, "{} {bar} {line}", paint("1;34", &number));
                let _ = writeln!(out, "{gutter} {bar} {}{carets}", " ".repeat(offset));
            }
        }
        if let Some(help) = &problem.help {
            let _ = writeln!(out, "{gutter} {} {}: {help}", paint("1;34", "="), paint("1", "help"));
        }
    }

    /// The line of a place, cut to what can be shown; the caret's offset and width in it.
    fn excerpt(&self, span: Span) -> (String, usize, usize) {
        let line = nth_line(&self.text, span.line);
        let column = span.column.saturating_sub(1);
        let skipped = if column + span.length.min(LINE_CHARS_MAX / 2) < LINE_CHARS_MAX {
            0
        } else {
            column.saturating_sub(LINE_CHARS_MAX / 2)
        };
        let mut shown = String::new();
        if skipped > 0 {
            shown.push('…');
        }
        let cut = line.chars().skip(skipped);
        shown.extend(cut.clone().take(LINE_CHARS_MAX).map(|c| match c {
            '\t' => ' ', // one column, so that the caret stands below its character
            c if c.is_control() => '\u{fffd}',
            c => c,
        }));
        let is_cut = cut.clone().nth(LINE_CHARS_MAX).is_some();
        let offset = column - skipped + usize::from(skipped > 0);
        let room = shown.chars().count().saturating_sub(offset);
        if is_cut {
            shown.push('…');
        }
        let shown = shown.trim_end().to_owned();
        (shown, offset.min(LINE_CHARS_MAX + 1), span.length.clamp(1, room.max(1)))
    }

    /// A JSON array: `severity`, `message`, `file`, `line`, `column`, `length`, `help`.
    pub fn to_json(&self) -> Value {
        let one = |problem: &Diagnostic| {
            json!({
                "severity": problem.severity.as_str(),
                "message": problem.message,
                "file": self.file,
                "line": problem.span.map(|span| span.line),
                "column": problem.span.map(|span| span.column),
                "length": problem.span.map(|span| span.length),
                "help": problem.help,
            })
        };
        Value::Array(self.list.iter().map(one).collect())
    }
}

/// Line `number`, from 1. YAML ends a line at LF, CRLF and a lone CR.
fn nth_line(text: &str, number: usize) -> &str {
    let mut rest = text;
    for _ in 1..number {
        let Some(end) = rest.find(['\n', '\r']) else { return "" };
        let (_, after) = rest.split_at(end);
        rest = after.strip_prefix("\r\n").or_else(|| after.get(1..)).unwrap_or_default();
    }
    rest.split(['\n', '\r']).next().unwrap_or_default()
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
