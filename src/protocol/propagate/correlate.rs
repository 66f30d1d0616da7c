//! How a context gets through an application that does not pass it on: what is kept of each inbound exchange under way, and
//! what an outbound request takes from it.
//!
//! A request that brings a trace keeps it; where that trace is known here, it only gets the fields that it lacks. One that
//! brings none gets the trace of the exchange that it serves, where that is certain
//! ([`in_flight`](crate::exchange::in_flight)); where it is not, the candidates become links.

use super::fields::Values;
use super::rules::Correlation;
use super::trace::Came;
use super::{CARRIERS, REQUEST_TYPE, State};
use crate::cluster::clock_ns;
use crate::context::RequestType;
use crate::context::extra::FIELDS_MAX;
use crate::exchange::in_flight::{Call, Keys, Match, Place, Shard};
use crate::exchange::{ParentSource, Record};
use crate::svc::{Fields, Known};
use std::sync::Arc;

/// An inbound exchange whose context is written.
pub(super) struct Inbound<'a> {
    pub fields: &'a Fields,
    pub values: &'a Values,
    /// The signature that goes to the application; empty: none.
    pub token: &'a [u8],
    /// What the further fields are: [`Rules::extra_tag`](super::Rules).
    pub extra_tag: u16,
}

/// Where in a kept context each part is.
const TRACESTATE: usize = 0;
const BAGGAGE: usize = 1;
const TOKEN: usize = 2;
const REQUEST_ID: usize = 3;
const ECHO: usize = 4;
const MAIN: usize = 5;
const EXTRA: usize = MAIN + CARRIERS.len();
const PARTS_MAX: usize = EXTRA + FIELDS_MAX;

/// A kept context begins with the number of its parts, what the further fields were when it was written, and the length of each
/// part. A part that is too long to tell is left out: bounds of headers are far below.
type Length = u16;
const LENGTH_BYTES: usize = size_of::<Length>();
/// Lengths before those of the parts.
const HEAD: usize = 2;

impl Inbound<'_> {
    /// Enters it into the table of those under way.
    pub(super) fn enter(&self, record: &Record, shard: &Arc<Shard>, correlation: &Correlation) -> Place {
        let echo = if correlation.echo.is_empty() { None } else { one(self.fields, &correlation.echo) };
        let echo = echo.unwrap_or_default();
        let request_id = record.text(record.request_id);
        let keys = Keys { trace: record.trace, request_id, echo };
        let mut parts: [&[u8]; PARTS_MAX] = [&[]; PARTS_MAX];
        parts[TRACESTATE] = self.fields.get(Known::Tracestate).unwrap_or_default();
        parts[BAGGAGE] = self.fields.get(Known::Baggage).unwrap_or_default();
        parts[TOKEN] = self.token;
        parts[REQUEST_ID] = request_id;
        parts[ECHO] = echo;
        let values = self.values.main.iter().chain(self.values.extra.iter().take(self.values.extra_count));
        for (part, value) in parts.iter_mut().skip(MAIN).zip(values) {
            *part = record.text(*value);
        }
        let parts = parts.get(..EXTRA + self.values.extra_count).unwrap_or_default();
        shard.enter(&keys, clock_ns(record.started), |out| write(self.extra_tag, parts, out))
    }
}

fn write(extra_tag: u16, parts: &[&[u8]], out: &mut Vec<u8>) {
    let mut lengths = [0; HEAD + PARTS_MAX];
    (lengths[0], lengths[1]) = (parts.len() as Length, extra_tag);
    let mut bytes = 0;
    for (part, length) in parts.iter().zip(&mut lengths[HEAD..]) {
        *length = Length::try_from(part.len()).unwrap_or_default();
        bytes += part.len();
    }
    out.reserve((HEAD + parts.len()) * LENGTH_BYTES + bytes);
    for length in &lengths[..HEAD + parts.len()] {
        out.extend_from_slice(&length.to_le_bytes());
    }
    for part in parts.iter().filter(|part| !part.is_empty() && Length::try_from(part.len()).is_ok()) {
        out.extend_from_slice(part);
    }
}

/// The part at `index`; empty where there is none.
fn part(context: &[u8], index: usize) -> &[u8] {
    let length = |at: usize| {
        let bytes = context.get(at * LENGTH_BYTES..)?.first_chunk()?;
        Some(usize::from(Length::from_le_bytes(*bytes)))
    };
    let count = length(0).unwrap_or_default();
    if index >= count {
        return &[];
    }
    let before: usize = (0..index).filter_map(|at| length(HEAD + at)).sum();
    let start = (HEAD + count) * LENGTH_BYTES + before;
    context.get(start..start + length(HEAD + index).unwrap_or_default()).unwrap_or_default()
}

/// Whether the further fields of a kept context are those of today: a configuration may have come between.
fn has_extra(context: &[u8], extra_tag: u16) -> bool {
    context.get(LENGTH_BYTES..HEAD * LENGTH_BYTES) == Some(&extra_tag.to_le_bytes())
}

/// The `tracestate` of a kept context.
pub(super) fn tracestate(context: &[u8]) -> &[u8] {
    part(context, TRACESTATE)
}

/// The `baggage` of a kept context.
pub(super) fn baggage(context: &[u8]) -> &[u8] {
    part(context, BAGGAGE)
}

/// The signature of a kept context.
pub(super) fn token(context: &[u8]) -> &[u8] {
    part(context, TOKEN)
}

/// The request id of a kept context.
pub(super) fn request_id(context: &[u8]) -> &[u8] {
    part(context, REQUEST_ID)
}

/// The value of the built-in field at `index` of [`CARRIERS`].
pub(super) fn main(context: &[u8], index: usize) -> &[u8] {
    part(context, MAIN + index)
}

/// The value of the further field at `index`.
pub(super) fn extra(context: &[u8], extra_tag: u16, index: usize) -> &[u8] {
    if has_extra(context, extra_tag) { part(context, EXTRA + index) } else { &[] }
}

/// Whether a kept context has this request id, or this echoed field: what was found by a hash is compared.
fn is_of(context: &[u8], matched: Match, request_id: &[u8], echo: &[u8]) -> bool {
    match matched {
        Match::RequestId => part(context, REQUEST_ID) == request_id,
        Match::Echo => part(context, ECHO) == echo,
        _ => true,
    }
}

/// The value of a header that is there once.
fn one<'a>(fields: &'a Fields, name: &'a [u8]) -> Option<&'a [u8]> {
    let mut values = fields.named(name);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

impl State {
    /// Looks for the inbound exchange that an outbound request serves. Whether one was found: its context is in the
    /// scratch then.
    pub(super) fn correlate(
        &mut self,
        fields: &Fields,
        record: &mut Record,
        came: &mut Came,
        correlation: &Correlation,
    ) -> bool {
        let own = came.own();
        let echo = if correlation.echo.is_empty() { None } else { one(fields, &correlation.echo) };
        let call = Call {
            trace: own,
            request_id: if correlation.by_request_id { record.text(record.request_id) } else { &[] },
            echo: echo.unwrap_or_default(),
            believes_sole: correlation.by_sole,
        };
        let found = &mut self.scratch.found;
        let matched = self.in_flight.find(&call, clock_ns(record.started), found);
        let matched = match is_of(&found.context, matched, call.request_id, call.echo) {
            true => matched,
            false => Match::Nobody,
        };
        let source = match matched {
            Match::Span => {
                came.is_of_span = true;
                return true;
            }
            Match::Trace => return true,
            Match::RequestId => ParentSource::RequestId,
            Match::Echo => ParentSource::Echo,
            Match::Sole => ParentSource::Sole,
            Match::Lost => {
                // With a trace of its own, only its fields are in doubt.
                if own.is_none() {
                    came.is_lost = true;
                    record.note().links.extend_from_slice(&found.links);
                }
                return false;
            }
            Match::Nobody => return false,
        };
        came.served = found.trace.map(|trace| (trace, source));
        came.served.is_some()
    }
}

/// Whether a kept context is that of a tracer bullet.
pub(super) fn is_trace(context: &[u8]) -> bool {
    main(context, REQUEST_TYPE).eq_ignore_ascii_case(RequestType::Trace.as_str().as_bytes())
}
