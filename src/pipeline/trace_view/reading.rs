//! What was read, and what could not be: so that "not found" can be believed or doubted.

use std::fmt;

/// So many bad lines are named; of more there is only the number.
const FAULTS_MAX: usize = 10;

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file's name, as it was given.
    pub file: String,
    /// The number of the line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.why)
    }
}

/// What was read of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRead {
    /// Its name, as it was given; `-` is the standard input.
    pub name: String,
    /// Its lines.
    pub lines: u64,
    /// Its bytes.
    pub bytes: u64,
    /// `timestamp` of its first line, if that has one.
    pub first: Option<String>,
    /// `timestamp` of its last line, if that has one.
    pub last: Option<String>,
}

/// What was read of all files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Each file, in the order given.
    pub files: Vec<FileRead>,
    /// The first lines that are no events.
    pub faults: Vec<Fault>,
    /// How many lines are no events.
    pub faults_total: u64,
}

impl Reading {
    /// Notes a line that is no event.
    pub(super) fn fault(&mut self, file: &str, line: u64, why: impl Into<String>) {
        self.faults_total += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { file: file.into(), line, why: why.into() });
        }
    }

    /// One line for each bad line that is named, and one for the rest; empty when all lines were fine.
    pub fn complaint(&self) -> String {
        let mut text: String = self.faults.iter().map(|fault| format!("{fault}\n")).collect();
        let rest = self.faults_total - self.faults.len() as u64;
        if rest > 0 {
            text.push_str(&format!("and {rest} more lines that are no events\n"));
        }
        text
    }

    /// What was searched: a line for each file, with its size and its first and last time.
    pub fn searched(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            let lines = if file.lines == 1 { "line" } else { "lines" };
            text.push_str(&format!("  {}: {} {lines}, {} bytes", file.name, file.lines, file.bytes));
            // Events stand in the order in which exchanges ended, and say when they began.
            if let (Some(first), Some(last)) = (&file.first, &file.last) {
                text.push_str(&format!(", from {} to {}", first.min(last), first.max(last)));
            }
            text.push('\n');
        }
        text
    }
}
