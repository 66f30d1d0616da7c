//! The trace: what came, what it becomes, and how it is written.

use super::{Rules, State, correlate};
use crate::context::formats::{self, Extracted, Outgoing, Sampling};
use crate::context::sampling::SampledBy;
use crate::context::traceparent::Received;
use crate::context::{TraceParent, ids, tracestate};
use crate::exchange::{ParentSource, Record};
use crate::svc::{Fields, Known};

/// What a request brought.
#[derive(Default)]
pub(super) struct Came {
    /// Its `traceparent`.
    pub w3c: Option<TraceParent>,
    /// Headers of other formats.
    pub headers: formats::Headers,
    /// What they say.
    pub foreign: Extracted,
    /// The inbound exchange that it serves, where it brought no trace: its trace, and how it was found.
    pub served: Option<(TraceParent, ParentSource)>,
    /// Whether its parent was not found, though there are inbound exchanges under way.
    pub is_lost: bool,
    /// Whether its parent is the span of an inbound exchange under way, whose `tracestate` it has to have.
    pub is_of_span: bool,
}

impl Came {
    /// Reads it; what is malformed is counted.
    pub(super) fn read(fields: &mut Fields, record: &mut Record, rules: &Rules) -> Came {
        let received = match fields.get(Known::Traceparent) {
            None => Received::Absent,
            first => {
                Received::from_headers(first, if fields.is_repeated(Known::Traceparent) { 2 } else { 1 })
            }
        };
        let w3c = match received {
            Received::Valid(parent) => Some(parent),
            Received::Absent => None,
            Received::Invalid => {
                record.context_dropped += 1;
                None
            }
        };
        let mut headers = formats::Headers::scan(fields);
        let mut foreign = Extracted::default();
        if !headers.is_empty() {
            headers.drop_empty(fields);
            foreign = formats::extract(&headers, fields, rules.formats.read, w3c.as_ref());
            record.context_dropped += foreign.invalid.len();
            record.context_disagreed += foreign.conflicts.len();
        }
        Came { w3c, headers, foreign, ..Came::default() }
    }

    /// The trace that it brought, in whatever form. Where the form names no span (X-Ray of a load balancer) the parent is
    /// zero, which is nobody's.
    pub(super) fn own(&self) -> Option<TraceParent> {
        self.w3c.or_else(|| {
            let (_, found) = self.foreign.found?;
            Some(found.child(found.parent_id.unwrap_or_default(), false))
        })
    }

    /// Leaves the trace of a peer that is not trusted in every form, read or not, with a link to it.
    pub(super) fn restart(&mut self, fields: &mut Fields, record: &mut Record) {
        if let Some(old) = self.own().filter(|old| old.parent_id != [0; 8]) {
            record.note().links.push((old.trace_id, old.parent_id));
        }
        if !self.headers.is_empty() {
            formats::remove(formats::FormatSet::ALL, fields);
        }
        fields.remove(Known::Tracestate);
        *self = Came::default();
    }

    /// The trace that goes on as it came, because nobody is told of a span of ours, and how it was found.
    fn untouched(&self, rules: &Rules) -> Option<(TraceParent, ParentSource)> {
        if rules.has_sink {
            return None;
        }
        if let Some(parent) = self.w3c {
            return Some((parent, ParentSource::Header));
        }
        let Some((format, found)) = self.foreign.found else { return self.served };
        // What the caller left open has to be decided here.
        let is_sampled = self.foreign.sampling().is_sampled()?;
        Some((found.child(found.parent_id?, false).with_sampled(is_sampled), ParentSource::Format(format)))
    }

    /// Whether the trace goes on as it came.
    pub(super) fn passes_through(&self, rules: &Rules) -> bool {
        self.untouched(rules).is_some()
    }

    /// Whether headers of `format` came that name the trace that goes on.
    fn has_same(&self, format: formats::Format) -> bool {
        let foreign = &self.foreign;
        foreign.came.contains(format)
            && !foreign.conflicts.contains(format)
            && !foreign.invalid.contains(format)
    }
}

impl State {
    /// Continues the trace, or starts one. What the caller decided about recording it, if it did.
    pub(super) fn trace(
        &mut self,
        fields: &mut Fields,
        record: &mut Record,
        came: &Came,
        rules: &Rules,
    ) -> Option<bool> {
        if let Some((parent, source)) = came.untouched(rules) {
            record.parent_id = Some(parent.parent_id);
            record.parent_source = source;
            record.trace = parent;
            if came.w3c.is_none() {
                record.context_dropped += u32::from(fields.remove(Known::Tracestate));
                if came.served.is_some() || came.is_of_span {
                    self.kept_tracestate(fields);
                }
            }
            return Some(parent.is_sampled());
        }
        if let Some(parent) = came.w3c {
            record.parent_id = Some(parent.parent_id);
            record.parent_source = ParentSource::Header;
            record.trace = parent.child(ids::span_id(&mut self.rng));
            if fields.has(Known::Tracestate) {
                self.tracestate(fields, record, rules.tracestate_bytes_max);
            } else if came.is_of_span {
                self.kept_tracestate(fields);
            }
            return Some(parent.is_sampled());
        }
        record.context_dropped += u32::from(fields.remove(Known::Tracestate));
        let span_id = ids::span_id(&mut self.rng);
        if let Some((format, found)) = came.foreign.found {
            record.parent_id = found.parent_id;
            record.parent_source = ParentSource::Format(format);
            record.trace = found.child(span_id, false);
            if came.is_of_span {
                self.kept_tracestate(fields);
            }
            return came.foreign.sampling().is_sampled();
        }
        if let Some((parent, source)) = came.served {
            record.parent_id = Some(parent.parent_id);
            record.parent_source = source;
            record.trace = parent.child(span_id);
            self.kept_tracestate(fields);
            return Some(parent.is_sampled());
        }
        record.parent_source = if came.is_lost { ParentSource::Lost } else { ParentSource::Root };
        record.trace = TraceParent::root(&mut self.rng, span_id, false);
        came.foreign.sampling().is_sampled()
    }

    /// The `tracestate` of the inbound exchange that it serves.
    fn kept_tracestate(&self, fields: &mut Fields) {
        let kept = correlate::tracestate(&self.scratch.found.context);
        if !kept.is_empty() {
            fields.set(Known::Tracestate, kept);
        }
    }

    /// Foreign members go on byte for byte; a list that is malformed does not.
    fn tracestate(&mut self, fields: &mut Fields, record: &mut Record, bytes_max: usize) {
        let list = &mut self.scratch.list;
        list.clear();
        match tracestate::accept(fields.all(Known::Tracestate), list) {
            tracestate::Outcome::Accepted { duplicates, .. } => {
                let shortened = tracestate::shorten(list, 0, bytes_max);
                record.context_dropped += u32::try_from(duplicates + shortened).unwrap_or(u32::MAX);
                let is_as_it_came = !fields.is_repeated(Known::Tracestate)
                    && fields.get(Known::Tracestate) == Some(list.as_slice());
                if !is_as_it_came {
                    fields.set(Known::Tracestate, list);
                }
            }
            outcome @ (tracestate::Outcome::Empty | tracestate::Outcome::Invalid) => {
                record.context_dropped += u32::from(outcome == tracestate::Outcome::Invalid);
                fields.remove(Known::Tracestate);
            }
        }
    }

    /// Writes the trace in every form that is wanted.
    pub(super) fn write_trace(&mut self, fields: &mut Fields, record: &Record, came: &Came, rules: &Rules) {
        let passes_through = came.passes_through(rules);
        if !(passes_through && came.w3c.is_some()) {
            fields.overwrite(Known::Traceparent, &record.trace.to_bytes());
        }
        if came.foreign.came.is_empty() && rules.formats.write.is_empty() {
            return;
        }
        // Also what came: an application that knows only that format would find its caller's span there, not ours.
        let is_honoured = record.trace.is_sampled() && record.sampled_by == Some(SampledBy::Parent);
        let outgoing = Outgoing {
            trace: record.trace,
            // Without a span of ours, the parent of the one that goes on is not known.
            parent_id: record.parent_id.filter(|_| !passes_through),
            // It is stronger than the sampled flag, so it needs the same word.
            is_debug: is_honoured && came.w3c.is_none() && came.foreign.sampling() == Sampling::Debug,
        };
        for format in rules.formats.write.iter().chain(came.foreign.came.iter()) {
            if !(passes_through && came.has_same(format)) {
                formats::write(format, &outgoing, &came.headers, fields, &mut self.scratch.list);
            }
        }
    }
}
