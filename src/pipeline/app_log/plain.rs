//! A line that is plain text: what can be found in it cheaply and without doubt.
//!
//! **Level**: one of the first [`WORDS_MAX`] words, where it is in capitals (`INFO`), in brackets (`[error]`), before a
//! colon (`error: …`) or after `level=`. **Ids**: a W3C `traceparent` anywhere; `trace_id`, `span_id` and `request_id` (also
//! written as one word, with a point, a hyphen or capitals) before `=` or `:`. Times are not read: there are a hundred forms,
//! most of them without a zone.

use super::line::{Ids, hex_id};
use super::severity;
use crate::context::{Field, TraceParent, traceparent};
use memchr::memmem::Finder;
use std::borrow::Cow;
use std::sync::LazyLock;

/// How many words may be or precede a level: a date, a time, a zone, a thread, a level, and one more.
const WORDS_MAX: usize = 6;
/// How far it is looked for.
const LEVEL_BYTES_MAX: usize = 160;

static TRACEPARENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("00-"));
static TRACE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("race"));
static SPAN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("pan"));
static REQUEST: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("equest"));

/// The level: its number, and as it was written.
pub(super) fn level(line: &str) -> Option<(u8, &str)> {
    let end = line.floor_char_boundary(LEVEL_BYTES_MAX);
    let words = line.get(..end).unwrap_or_default().split_ascii_whitespace();
    words.take(WORDS_MAX).find_map(level_of)
}

fn level_of(given: &str) -> Option<(u8, &str)> {
    let named = ["level=", "lvl=", "severity="].into_iter().find_map(|name| given.strip_prefix(name));
    let word = named.unwrap_or(given).trim_start_matches(['[', '(', '<', '"', '|']);
    let end = word.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(word.len());
    let (word, rest) = word.split_at_checked(end)?;
    let number = severity::of_plain_word(word)?;
    let is_bracketed = given.starts_with(['[', '(', '<']) && rest.starts_with([']', ')', '>']);
    let is_capital = word.bytes().all(|byte| byte.is_ascii_uppercase());
    // `ERROR_COUNT` and `error-free` are no levels.
    let is_alone = rest.is_empty() || rest.starts_with([']', ')', '>', ':', '|', ',', '"']);
    (is_alone && (named.is_some() || is_capital || is_bracketed || rest.starts_with(':')))
        .then_some((number, word))
}

/// Which trace and request it belongs to.
pub(super) fn ids(line: &str) -> Ids<'_> {
    let bytes = line.as_bytes();
    let mut ids = Ids::default();
    if let Some(trace) = TRACEPARENT.find_iter(bytes).find_map(|at| trace_parent(bytes, at)) {
        (ids.trace_id, ids.span_id) = (Some(trace.trace_id), Some(trace.parent_id));
    }
    if ids.trace_id.is_none() {
        ids.trace_id = find(&TRACE, bytes, b't', "race").find_map(|value| hex_id(value.as_bytes()));
    }
    if ids.span_id.is_none() && ids.trace_id.is_some() {
        ids.span_id = find(&SPAN, bytes, b's', "pan").find_map(|value| hex_id(value.as_bytes()));
    }
    let mut requests = find(&REQUEST, bytes, b'r', "equest");
    ids.request_id = requests.find(|value| Field::RequestId.is_valid(value.as_bytes())).map(Cow::Borrowed);
    ids
}

fn trace_parent(bytes: &[u8], at: usize) -> Option<TraceParent> {
    let is_within_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    if is_within_word(before) || is_within_word(bytes.get(at + traceparent::BYTES)) {
        return None;
    }
    TraceParent::parse(bytes.get(at..at + traceparent::BYTES)?)
}

/// The values behind `{first}{rest}_id=`, however it is written.
fn find<'a>(
    finder: &'static Finder<'static>,
    bytes: &'a [u8],
    first: u8,
    rest: &'static str,
) -> impl Iterator<Item = &'a str> {
    finder.find_iter(bytes).filter_map(move |at| {
        let before = bytes.get(at.checked_sub(1)?)?;
        before.eq_ignore_ascii_case(&first).then_some(())?;
        let after = bytes.get(at + rest.len()..)?;
        let after = match after.split_first()? {
            (b'_' | b'.' | b'-', after) => after,
            _ => after,
        };
        let (id, after) = after.split_first_chunk::<2>()?;
        id.eq_ignore_ascii_case(b"id").then_some(())?;
        value(after)
    })
}

/// What stands behind the name: perhaps a quote that ends it, `=` or a colon with spaces, perhaps a quote, then the value.
fn value(after: &[u8]) -> Option<&str> {
    let after = after.strip_prefix(b"\"").unwrap_or(after);
    let (sign, after) = after.split_first()?;
    let after = match sign {
        b'=' => after,
        b':' => after.trim_ascii_start(),
        _ => return None,
    };
    let after = after.strip_prefix(b"\"").or_else(|| after.strip_prefix(b"'")).unwrap_or(after);
    let is_end = |byte: &u8| !byte.is_ascii_graphic() || b"\"',;)]}>".contains(byte);
    let end = after.iter().position(is_end).unwrap_or(after.len());
    after.get(..end).and_then(|value| str::from_utf8(value).ok())
}
