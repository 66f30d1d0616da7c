//! Recordings in the formats of other programs.
//!
//! What: readers that make [`Entry`]s of GoReplay's `.gor`, HAR 1.2 and Envoy's tap, and writers of these and of curl, k6,
//! vegeta and Locust. Why all over [`Entry`]: each format knows less than it, so that what is lost is lost in one place, and
//! is told ([`Notes`]). Sources: <http://www.softwareishard.com/blog/har-12-spec/>,
//! <https://github.com/buger/goreplay/wiki/Saving-and-Replaying-from-file>,
//! <https://github.com/envoyproxy/envoy/tree/main/api/envoy/data/tap/v3>.
//! How it fails: files are hostile. A record that cannot be read is a [`Problem`] with its place, and the reader goes on
//! behind it; no record holds more than [`ENTRY_BYTES_MAX`] of content, whatever it says; a file names no other file.

mod base64;
mod curl;
mod envoy_tap;
mod gor;
mod har;
mod http1;
mod json;
mod k6;
mod locust;
mod make;
pub mod packed;
mod vegeta;

#[cfg(test)]
mod tests;

use super::Entry;
use crate::units::moment;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};

pub use envoy_tap::Coding as TapCoding;

/// The most content of an entry that is read or written: 64 MiB, as in a recording.
pub const ENTRY_BYTES_MAX: usize = 64 << 20;

/// The longest record of a file: an entry's content in Base64, and its heads.
const RECORD_BYTES_MAX: usize = ENTRY_BYTES_MAX / 3 * 4 + (8 << 20);

/// What is kept of records that wait for others, as requests for their answers.
const PENDING_BYTES_MAX: usize = 2 * ENTRY_BYTES_MAX;

/// How many records may wait for others.
const PENDING_MAX: usize = 100_000;

/// Fields of a head.
const FIELDS_MAX: usize = 1024;

/// A format of another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// HTTP Archive 1.2, of browsers.
    Har,
    /// GoReplay.
    Gor,
    /// Envoy's tap filter: JSON, or `TraceWrapper` messages with their lengths.
    EnvoyTap,
    /// A shell script.
    Curl,
    /// A script for k6.
    K6,
    /// Targets for `vegeta attack -format=json`.
    Vegeta,
    /// A locustfile.
    Locust,
}

impl Format {
    /// All.
    pub const ALL: [Format; 7] = [
        Format::Har,
        Format::Gor,
        Format::EnvoyTap,
        Format::Curl,
        Format::K6,
        Format::Vegeta,
        Format::Locust,
    ];

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Har => "har",
            Format::Gor => "gor",
            Format::EnvoyTap => "envoy-tap",
            Format::Curl => "curl",
            Format::K6 => "k6",
            Format::Vegeta => "vegeta",
            Format::Locust => "locust",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether it can be read.
    pub const fn is_readable(self) -> bool {
        matches!(self, Format::Har | Format::Gor | Format::EnvoyTap)
    }

    /// Which format a file has, by its first bytes (1 KiB is enough).
    pub fn guess(start: &[u8]) -> Option<Format> {
        let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
        let text = start.trim_ascii_start();
        let has = |name: &[u8]| memchr::memmem::find(text, name).is_some();
        match text {
            [b'{', ..] if has(b"_trace") || has(b"BufferedTrace") || has(b"StreamedTrace") => {
                Some(Format::EnvoyTap)
            }
            [b'{', ..] => Some(Format::Har),
            [b'1'..=b'3', b' ', b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z', ..] => Some(Format::Gor),
            _ if envoy_tap::is_message(start) => Some(Format::EnvoyTap),
            _ => None,
        }
    }
}

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the file: bytes from its begin.
    pub offset: u64,
    /// The line, from 1, in formats that have lines.
    pub line: Option<u64>,
    /// What is wrong, and what became of it.
    pub message: String,
}

impl Problem {
    fn new(offset: u64, line: Option<u64>, message: impl Into<String>) -> Problem {
        Problem { offset, line, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line} (byte {}): {}", self.offset, self.message),
            None => write!(f, "byte {}: {}", self.offset, self.message),
        }
    }
}

/// What a format could not hold or tell, and how often. At most one line for each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(BTreeMap<&'static str, u64>);

impl Notes {
    fn add(&mut self, note: &'static str) {
        *self.0.entry(note).or_default() += 1;
    }

    fn add_if(&mut self, is_so: bool, note: &'static str) {
        if is_so {
            self.add(note);
        }
    }

    /// What, and in how many exchanges.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(note, count)| (*note, *count))
    }

    /// How often this was noted; found by a part of its text.
    pub fn count(&self, part: &str) -> u64 {
        self.iter().filter(|(note, _)| note.contains(part)).map(|(_, count)| count).sum()
    }
}

/// Reads the entries of a file. After a problem it goes on behind the record, if it can.
pub trait Import: Iterator<Item = Result<Entry, Problem>> {
    /// What the format did not tell, so far.
    fn notes(&self) -> &Notes;
}

/// A reader for `format`; `None` for a format that is only written.
pub fn import<'a>(format: Format, input: impl BufRead + 'a) -> Option<Box<dyn Import + 'a>> {
    match format {
        Format::Har => Some(Box::new(har::Reader::new(input))),
        Format::Gor => Some(Box::new(gor::Reader::new(input))),
        Format::EnvoyTap => Some(Box::new(envoy_tap::Reader::new(input))),
        Format::Curl | Format::K6 | Format::Vegeta | Format::Locust => None,
    }
}

/// Writes entries in a format. Each entry is written with all its events: put its parts together first.
pub trait Export {
    /// Writes an entry.
    ///
    /// # Errors
    /// Those of the output.
    fn write(&mut self, entry: &Entry) -> io::Result<()>;

    /// Writes what belongs behind the last entry, and tells what the format could not hold.
    ///
    /// # Errors
    /// Those of the output.
    fn finish(self: Box<Self>) -> io::Result<Notes>;
}

/// A writer of `format`.
///
/// # Errors
/// Those of the output.
pub fn export<'a>(
    format: Format,
    coding: TapCoding,
    out: impl Write + 'a,
) -> io::Result<Box<dyn Export + 'a>> {
    Ok(match format {
        Format::Har => Box::new(har::Writer::new(out)?),
        Format::Gor => Box::new(gor::Writer::new(out)),
        Format::EnvoyTap => Box::new(envoy_tap::Writer::new(out, coding)),
        Format::Curl => Box::new(curl::Writer::new(out)?),
        Format::K6 => Box::new(k6::Writer::new(out)?),
        Format::Vegeta => Box::new(vegeta::Writer::new(out)),
        Format::Locust => Box::new(locust::Writer::new(out)?),
    })
}
