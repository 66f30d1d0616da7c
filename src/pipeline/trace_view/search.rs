//! Which events belong to the trace that somebody asks for.
//!
//! What: an [`Id`] is a trace id, its first digits, or a request id. One pass finds the traces that it may mean and keeps
//! the spans of the first; a request id needs a second pass, because not every span of its trace has to carry it. Lines
//! without the id's text are not parsed. How it fails: an id that means several traces gives their list, one that means
//! none gives what was searched.

use super::listing::Summary;
use super::reading::Reading;
use super::source::Source;
use super::span::{Span, hex, parse};
use super::tree::Trace;
use crate::context::ids::trace_id_hex;
use memchr::memmem::Finder;
use std::collections::HashMap;

/// The fewest digits that may stand for a trace id: with 8, two of 10,000 traces share them once in 86 cases.
const PREFIX_DIGITS_MIN: usize = 8;

/// The longest request id is half of it (see `context::fields`).
const ID_BYTES_MAX: usize = 256;

/// So many spans of a trace are kept, some 60 MB; more are counted.
const SPANS_MAX: usize = 100_000;

/// So many traces that an id may mean are told apart.
const CANDIDATES_MAX: usize = 20;

/// So many spans of other traces that name one of this trace as a candidate for their parent are kept.
const LINKING_MAX: usize = 20;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id {
    text: String,
    /// In lower case; absent when it can only be a request id.
    trace_digits: Option<String>,
}

impl Id {
    /// Reads a trace id (32 hex digits), at least its first 8, a `traceparent`, or a request id.
    ///
    /// # Errors
    /// What an id may be.
    pub fn parse(text: &str) -> Result<Id, String> {
        let text = text.trim();
        if text.is_empty() || text.len() > ID_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("write a trace id, its first 8 digits or more, or a request id".into());
        }
        // A whole traceparent, copied from a header: `00-<trace>-<span>-<flags>`.
        let mut parts = text.split('-');
        let text = match (parts.next().map(str::len), parts.next()) {
            (Some(2), Some(trace)) if text.len() >= 55 && hex::<16>(trace).is_some() => trace,
            _ => text,
        };
        let is_prefix = (PREFIX_DIGITS_MIN..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let trace_digits = is_prefix.then(|| text.to_ascii_lowercase());
        Ok(Id { text: text.to_owned(), trace_digits })
    }

    /// The id as it was given; of a `traceparent`, the trace.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is too short for the first digits of a trace id, though it has only such digits.
    pub fn is_short(&self) -> bool {
        self.text.len() < PREFIX_DIGITS_MIN && self.text.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    fn whole_trace(&self) -> Option<[u8; 16]> {
        self.trace_digits.as_deref().and_then(hex)
    }
}

/// What an id means.
pub enum Answer {
    /// One trace.
    Trace(Box<Trace>),
    /// Several: the first of them, the newest first, and how many more there are at least.
    Several(Vec<Summary>, usize),
    /// None.
    Nothing,
}

/// Finds the trace that `id` means.
///
/// # Errors
/// A source that cannot be read.
pub fn find(id: &Id, sources: &mut [Source]) -> Result<(Answer, Reading), String> {
    let mut reading = Reading::default();
    let mut first = First::new(id);
    // Ids in events are escaped as JSON has it; few have anything to escape.
    let quoted = serde_json::Value::from(id.text.as_str()).to_string();
    let texts = [Some(quoted.trim_matches('"').to_owned()), id.trace_digits.clone()];
    scan(sources, &texts, false, &mut reading, &mut |span| first.take(span))?;
    let mut kept = match first.meaning() {
        Meaning::Nothing => return Ok((Answer::Nothing, reading)),
        Meaning::Several(list, more) => return Ok((Answer::Several(list, more), reading)),
        Meaning::Kept(kept) => kept,
        Meaning::Request(trace_id) => {
            let mut kept = Kept::of(trace_id);
            let digits = String::from_utf8_lossy(&trace_id_hex(&trace_id)).into_owned();
            // What is wrong with lines was told in the first pass.
            scan(sources, &[Some(digits)], true, &mut Reading::default(), &mut |span| kept.take(span))?;
            kept
        }
    };
    let trace_id = kept.trace_id;
    kept.linking.retain(|span| links_to(span, &trace_id));
    kept.linking.truncate(LINKING_MAX);
    let names = sources.iter().map(|source| source.name().to_owned()).collect();
    Ok((Answer::Trace(Box::new(Trace::new(trace_id, kept.spans, kept.linking, kept.more, names))), reading))
}

/// Gives every span in lines that contain one of `texts`; of all lines when there is none.
pub(super) fn scan(
    sources: &mut [Source],
    texts: &[Option<String>],
    is_last: bool,
    reading: &mut Reading,
    each: &mut dyn FnMut(Span),
) -> Result<(), String> {
    let mut texts: Vec<&str> = texts.iter().flatten().map(String::as_str).collect();
    texts.dedup();
    let finders: Vec<Finder<'_>> = texts.iter().map(Finder::new).collect();
    for (file, source) in sources.iter_mut().enumerate() {
        let name = source.name().to_owned();
        source.lines(is_last, reading, &mut |reading, number, line| {
            if !finders.is_empty() && finders.iter().all(|finder| finder.find(line).is_none()) {
                return;
            }
            match parse(line) {
                Ok(Some(span)) => each(Span { file, line: number, ..span }),
                Ok(None) => {}
                Err(why) => reading.fault(&name, number, why),
            }
        })?;
    }
    Ok(())
}

/// The spans of one trace.
struct Kept {
    trace_id: [u8; 16],
    spans: Vec<Span>,
    /// How many there were beyond those kept.
    more: u64,
    linking: Vec<Span>,
}

impl Kept {
    fn of(trace_id: [u8; 16]) -> Kept {
        Kept { trace_id, spans: Vec::new(), more: 0, linking: Vec::new() }
    }

    fn take(&mut self, span: Span) {
        if span.trace_id == self.trace_id {
            if self.spans.len() < SPANS_MAX {
                self.spans.push(span);
            } else {
                self.more += 1;
            }
        } else if self.linking.len() < LINKING_MAX && links_to(&span, &self.trace_id) {
            self.linking.push(span);
        }
    }
}

/// Whether a span of another trace names one of this trace as a candidate.
fn links_to(span: &Span, trace_id: &[u8; 16]) -> bool {
    span.links.iter().any(|link| link.trace_id.as_ref() == Some(trace_id))
}

/// The first pass.
struct First<'a> {
    id: &'a Id,
    whole: Option<[u8; 16]>,
    /// The first trace whose id begins as asked.
    kept: Option<Kept>,
    /// Every trace that may be meant, with whether its id begins as asked.
    candidates: HashMap<[u8; 16], (Summary, bool)>,
    more: usize,
    /// Spans that name a trace as asked as a candidate for their parent.
    linking: Vec<Span>,
}

/// What the first pass found.
enum Meaning {
    Nothing,
    Several(Vec<Summary>, usize),
    Kept(Kept),
    Request([u8; 16]),
}

impl<'a> First<'a> {
    fn new(id: &'a Id) -> Self {
        let (candidates, linking) = (HashMap::new(), Vec::new());
        First { id, whole: id.whole_trace(), kept: None, candidates, more: 0, linking }
    }

    fn begins_as_asked(&self, trace_id: &[u8; 16]) -> bool {
        let digits = self.id.trace_digits.as_deref();
        digits.is_some_and(|digits| trace_id_hex(trace_id).starts_with(digits.as_bytes()))
    }

    fn take(&mut self, span: Span) {
        let is_trace = self.begins_as_asked(&span.trace_id);
        let is_request = span.context.as_ref().is_some_and(|context| context.request_id == self.id.text);
        if !is_trace && !is_request {
            let linked = span.links.iter().filter_map(|link| link.trace_id.as_ref());
            if self.linking.len() < LINKING_MAX && linked.into_iter().any(|id| self.begins_as_asked(id)) {
                self.linking.push(span);
            }
            return;
        }
        if let Some((summary, _)) = self.candidates.get_mut(&span.trace_id) {
            summary.add(&span);
        } else if self.candidates.len() < CANDIDATES_MAX || self.whole == Some(span.trace_id) {
            self.candidates.insert(span.trace_id, (Summary::of(&span), is_trace));
        } else {
            self.more += 1;
        }
        if is_trace {
            self.kept.get_or_insert_with(|| Kept::of(span.trace_id)).take(span);
        }
    }

    fn meaning(mut self) -> Meaning {
        // A whole trace id means that trace, even if somebody uses the same text as the id of another request.
        let is_sure = self.whole.is_some_and(|whole| self.candidates.contains_key(&whole));
        if (is_sure || self.candidates.len() == 1)
            && let Some(kept) = &mut self.kept
        {
            kept.linking.append(&mut self.linking);
        }
        match (self.candidates.len(), self.kept) {
            (0, _) => Meaning::Nothing,
            (_, Some(kept)) if is_sure => Meaning::Kept(kept),
            (1, Some(kept)) => Meaning::Kept(kept),
            (1, None) => match self.candidates.into_keys().next() {
                Some(trace_id) => Meaning::Request(trace_id),
                None => Meaning::Nothing,
            },
            _ => {
                let mut list: Vec<Summary> =
                    self.candidates.into_values().map(|(summary, _)| summary).collect();
                list.sort_by_key(|summary| (std::cmp::Reverse(summary.start), summary.trace_id));
                Meaning::Several(list, self.more)
            }
        }
    }
}
