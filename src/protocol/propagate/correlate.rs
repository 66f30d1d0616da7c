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
use crate::context::RequestType;
use crate::context::fields::Field;
use crate::exchange::in_flight::{Call, Keys, Match, Place, Shard, TEXT_BYTES_MAX};
use crate::exchange::{ParentSource, Record, Text};
use crate::svc::{Fields, Known};
use std::sync::Arc;

/// An inbound exchange whose context is written.
pub(super) struct Inbound<'a> {
    pub fields: &'a Fields,
    pub values: &'a Values,
    /// The names of the further fields.
    pub names: &'a [Arc<str>],
    /// The signature that goes to the application; empty: none.
    pub token: &'a [u8],
    /// The time, on the clock of [`clock_ns`](crate::cluster::clock_ns).
    pub now_ns: u64,
}

/// What an inbound exchange gives to a call that serves it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Serves {
    /// Whether there is one: its context is in the scratch.
    pub is_known: bool,
    /// Whether the call's `baggage` is that of the exchange, for the call brought none.
    pub gave_baggage: bool,
}

/// Where in a kept context each part is.
const TOKEN: usize = 0;
const ECHO: usize = 1;
const REQUEST_ID: usize = 2;
const MAIN: usize = 3;
const TRACESTATE: usize = MAIN + CARRIERS.len();
const BAGGAGE: usize = TRACESTATE + 1;
/// Behind these come the further fields, each with its name: the rules that read it may be newer ones.
const PARTS: usize = BAGGAGE + 1;

/// A kept context begins with the length of each part.
type Length = u16;
const LENGTH_BYTES: usize = size_of::<Length>();

impl Inbound<'_> {
    /// Enters it into the table of those under way.
    pub(super) fn enter(&self, record: &Record, shard: &Arc<Shard>, correlation: &Correlation) -> Place {
        let echo = if correlation.echo.is_empty() { None } else { one(self.fields, &correlation.echo) };
        let echo = echo.unwrap_or_default();
        let request_id = record.text(record.request_id);
        let mut parts: [&[u8]; PARTS] = [&[]; PARTS];
        (parts[TOKEN], parts[REQUEST_ID], parts[ECHO]) = (self.token, request_id, echo);
        for (part, value) in parts[MAIN..].iter_mut().zip(&self.values.main) {
            *part = record.text(*value);
        }
        let mut joined = [Vec::new(), Vec::new()];
        // What others said may be as long as they like, and must not push the fields out.
        let of_extra: usize = self.extra(record).map(|(name, value)| pair_bytes(name, value)).sum();
        let of_parts: usize = parts.iter().map(|part| part.len()).sum();
        let mut room = TEXT_BYTES_MAX.saturating_sub(PARTS * LENGTH_BYTES + of_parts);
        let has_room = take(&mut room, of_extra);
        let lists = [(TRACESTATE, Known::Tracestate), (BAGGAGE, Known::Baggage)];
        for ((at, known), joined) in lists.into_iter().zip(&mut joined) {
            let list = list(self.fields, known, joined);
            if Length::try_from(list.len()).is_ok() && take(&mut room, list.len()) {
                parts[at] = list;
            }
        }
        let keys = Keys { trace: record.trace, request_id, echo };
        shard.enter(&keys, self.now_ns, |out| {
            write(&parts, self.block(record), out);
            for (name, value) in self.extra(record).filter(|_| has_room) {
                put(out, name);
                put(out, value);
            }
        })
    }

    /// The request id and the built-in fields as they lie in the record, where they lie side by side.
    fn block<'r>(&self, record: &'r Record) -> Option<&'r [u8]> {
        let start = record.request_id.start;
        let mut end = start + record.request_id.len;
        for value in self.values.main.iter().filter(|value| !value.is_empty()) {
            if value.start != end {
                return None;
            }
            end += value.len;
        }
        Some(record.text(Text { start, len: end - start }))
            .filter(|block| block.len() <= usize::from(Length::MAX))
    }

    /// Names and values of the further fields that there are.
    fn extra<'r>(&self, record: &'r Record) -> impl Iterator<Item = (&[u8], &'r [u8])> {
        let values = self.values.extra.iter().map(|value| record.text(*value));
        self.names.iter().map(|name| name.as_bytes()).zip(values).filter(|(_, value)| !value.is_empty())
    }
}

/// Takes `bytes` of the room, if there are as many.
fn take(room: &mut usize, bytes: usize) -> bool {
    let left = room.checked_sub(bytes);
    *room = left.unwrap_or(*room);
    left.is_some()
}

/// A list that may be in several headers, as one.
fn list<'a>(fields: &'a Fields, known: Known, joined: &'a mut Vec<u8>) -> &'a [u8] {
    if !fields.is_repeated(known) {
        return fields.get(known).unwrap_or_default();
    }
    for value in fields.all(known).filter(|value| !value.is_empty()) {
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(value);
    }
    joined
}

/// Writes the lengths of the parts, then the parts; `block` is what those from the request id to the last field are
/// together, if that is one piece. One that is too long to tell is left out: bounds of headers are far below.
fn write(parts: &[&[u8]; PARTS], block: Option<&[u8]>, out: &mut Vec<u8>) {
    let length = |part: &[u8]| Length::try_from(part.len()).unwrap_or_default();
    let mut head = [0; PARTS * LENGTH_BYTES];
    for (place, part) in head.as_chunks_mut::<LENGTH_BYTES>().0.iter_mut().zip(parts) {
        *place = length(part).to_le_bytes();
    }
    out.extend_from_slice(&head);
    let mut append = |parts: &[&[u8]]| {
        for part in parts.iter().filter(|part| length(part) > 0) {
            out.extend_from_slice(part);
        }
    };
    append(&parts[..REQUEST_ID]);
    match block {
        Some(block) => append(&[block]),
        None => append(&parts[REQUEST_ID..TRACESTATE]),
    }
    append(&parts[TRACESTATE..]);
}

fn pair_bytes(name: &[u8], value: &[u8]) -> usize {
    2 * LENGTH_BYTES + name.len() + value.len()
}

/// Appends a name or a value of a further field, both of which are short, behind its length.
fn put(out: &mut Vec<u8>, part: &[u8]) {
    let (len, part) = Length::try_from(part.len()).map_or((0, &[][..]), |len| (len, part));
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(part);
}

/// What [`put`] wrote, and what follows it.
fn split(context: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = context.split_first_chunk()?;
    rest.split_at_checked(Length::from_le_bytes(*len).into())
}

/// The part at `index` and what follows it; empty where there is none.
fn part_and_rest(context: &[u8], index: usize) -> (&[u8], &[u8]) {
    let Some((head, texts)) = context.split_at_checked(PARTS * LENGTH_BYTES) else { return (&[], &[]) };
    let lengths = head.as_chunks::<LENGTH_BYTES>().0;
    let length = |at: usize| lengths.get(at).map_or(0, |len| usize::from(Length::from_le_bytes(*len)));
    let start = (0..index).map(length).sum();
    let from = texts.get(start..).unwrap_or_default();
    from.split_at_checked(length(index)).unwrap_or_default()
}

fn part(context: &[u8], index: usize) -> &[u8] {
    part_and_rest(context, index).0
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

/// The request id and the built-in fields of a context that [`InFlight`](crate::exchange::in_flight::InFlight) keeps.
pub fn kept_texts(context: &[u8]) -> impl Iterator<Item = (Field, &[u8])> {
    let main = CARRIERS.iter().enumerate().map(|(at, (field, _))| (*field, main(context, at)));
    std::iter::once((Field::RequestId, request_id(context))).chain(main)
}

/// The value of the further field of this name.
pub(super) fn extra<'a>(context: &'a [u8], name: &str) -> &'a [u8] {
    extras(context).find(|(own, _)| *own == name.as_bytes()).map_or(&[], |(_, value)| value)
}

/// Names and values of all further fields.
pub(super) fn extras(context: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (_, mut rest) = part_and_rest(context, PARTS - 1);
    std::iter::from_fn(move || {
        let (name, after) = split(rest)?;
        let (value, after) = split(after)?;
        rest = after;
        Some((name, value))
    })
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
        now_ns: u64,
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
        let matched = self.in_flight.find(&call, now_ns, found);
        let source = match matched {
            // Found by their hashes; what is compared is what they are.
            Match::RequestId if part(&found.context, REQUEST_ID) != call.request_id => return false,
            Match::Echo if part(&found.context, ECHO) != call.echo => return false,
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
