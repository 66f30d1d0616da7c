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
}

/// Where in a kept context each part is.
const TRACESTATE: usize = 0;
const BAGGAGE: usize = 1;
const TOKEN: usize = 2;
const REQUEST_ID: usize = 3;
const MAIN: usize = 4;
const EXTRA: usize = MAIN + CARRIERS.len();

/// The parts of a kept context are written one after the other, each behind its length.
type Length = u16;

impl Inbound<'_> {
    /// Enters it into the table of those under way.
    pub(super) fn enter(&self, record: &Record, shard: &Arc<Shard>, correlation: &Correlation) -> Place {
        let echo = if correlation.echo.is_empty() { None } else { one(self.fields, &correlation.echo) };
        let keys = Keys {
            trace: record.trace,
            request_id: record.text(record.request_id),
            echo: echo.unwrap_or_default(),
        };
        shard.enter(&keys, clock_ns(record.started), |out| {
            put(out, self.fields.get(Known::Tracestate).unwrap_or_default());
            put(out, self.fields.get(Known::Baggage).unwrap_or_default());
            put(out, self.token);
            put(out, record.text(record.request_id));
            for value in self.values.main {
                put(out, record.text(value));
            }
            for value in self.values.extra.iter().take(self.values.extra_count) {
                put(out, record.text(*value));
            }
        })
    }
}

/// Appends a part. One that is too long to tell is left out: bounds of headers are far below.
fn put(out: &mut Vec<u8>, part: &[u8]) {
    let (len, part) = Length::try_from(part.len()).map_or((0, &[][..]), |len| (len, part));
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(part);
}

/// The part at `index`; empty where there is none.
fn part(mut context: &[u8], index: usize) -> &[u8] {
    for _ in 0..index {
        context = split(context).map_or(&[][..], |(_, rest)| rest);
    }
    split(context).map_or(&[][..], |(part, _)| part)
}

fn split(context: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = context.split_first_chunk()?;
    rest.split_at_checked(Length::from_le_bytes(*len).into())
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
pub(super) fn extra(context: &[u8], index: usize) -> &[u8] {
    part(context, EXTRA + index)
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
