//! One line, read.

use super::{ansi, json, plain};
use std::borrow::Cow;
use std::time::SystemTime;

/// The trace and the request that a line names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ids<'a> {
    /// The trace.
    pub trace_id: Option<[u8; 16]>,
    /// The span; the application's own, or that of the exchange.
    pub span_id: Option<[u8; 8]>,
    /// The request id.
    pub request_id: Option<Cow<'a, str>>,
}

impl Ids<'_> {
    /// Whether there is something that an exchange can be found by.
    pub fn is_empty(&self) -> bool {
        self.trace_id.is_none() && self.request_id.is_none()
    }
}

/// What a line says.
#[derive(Debug, Default)]
pub struct Parsed<'a> {
    /// OpenTelemetry's severity number, 1 to 24.
    pub severity: Option<u8>,
    /// The level as it was written.
    pub severity_text: Option<Cow<'a, str>>,
    /// What it says; of a JSON line its message, if it has one.
    pub body: Option<Cow<'a, str>>,
    /// When, by its own account.
    pub timestamp: Option<SystemTime>,
    /// Which trace and request it belongs to.
    pub ids: Ids<'a>,
    /// The line, where it is one JSON object.
    pub attributes: Option<&'a str>,
    /// `binary` or `lossy`, where its bytes are not those of its text.
    pub encoding: Option<&'static str>,
    /// Bytes that were cut off its end.
    pub truncated_bytes: u64,
}

/// Reads a line, given without its end, of which so many bytes were cut off.
pub fn parse(line: &[u8], truncated_bytes: u64) -> Parsed<'_> {
    let line = if truncated_bytes > 0 { whole_chars(line) } else { line.strip_suffix(b"\r").unwrap_or(line) };
    let mut parsed = match str::from_utf8(line) {
        Ok(text) => of_text(text),
        Err(_) => of_bytes(line),
    };
    parsed.truncated_bytes = truncated_bytes;
    parsed
}

fn of_text(text: &str) -> Parsed<'_> {
    if let Some(mut known) = json::read(text) {
        let (severity, severity_text) = known.severity();
        return Parsed {
            severity,
            severity_text,
            body: known.body().map(ansi::stripped),
            timestamp: known.time(),
            ids: known.ids(),
            attributes: Some(text.trim_ascii()),
            ..Parsed::default()
        };
    }
    let encoding = memchr::memchr(0, text.as_bytes()).map(|_| "binary");
    Parsed { encoding, ..of_plain(ansi::strip(text)) }
}

fn of_bytes(line: &[u8]) -> Parsed<'_> {
    let encoding = if memchr::memchr(0, line).is_some() { "binary" } else { "lossy" };
    let text = String::from_utf8_lossy(line).into_owned();
    Parsed { encoding: Some(encoding), ..of_plain(ansi::strip(&text).into_owned().into()) }
}

fn of_plain(body: Cow<'_, str>) -> Parsed<'_> {
    let (severity, severity_text, ids) = match &body {
        Cow::Borrowed(text) => {
            let level = plain::level(text);
            (level.map(|(number, _)| number), level.map(|(_, word)| Cow::Borrowed(word)), plain::ids(text))
        }
        Cow::Owned(text) => {
            let level = plain::level(text);
            let Ids { trace_id, span_id, request_id } = plain::ids(text);
            let request_id = request_id.map(|id| Cow::Owned(id.into_owned()));
            let word = level.map(|(_, word)| Cow::Owned(word.to_owned()));
            (level.map(|(number, _)| number), word, Ids { trace_id, span_id, request_id })
        }
    };
    Parsed { severity, severity_text, ids, body: Some(body), ..Parsed::default() }
}

/// Without the part of a character that is left where a line was cut.
fn whole_chars(line: &[u8]) -> &[u8] {
    match str::from_utf8(line) {
        Err(error) if error.error_len().is_none() => line.get(..error.valid_up_to()).unwrap_or(line),
        _ => line,
    }
}

/// An id in hexadecimal digits, of exactly its length, not all zero.
pub(super) fn hex_id<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut id = [0; N];
    for (byte, [high, low]) in id.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    (id != [0; N]).then_some(id)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
