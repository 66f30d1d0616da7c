//! Trace formats besides W3C's: read where they come, written where they are asked for.
//!
//! What: eight ways to say "this trace, this span, sampled or not" in headers, each from and to the same ids. Why: a
//! mesh is never all of one age. An application that knows only B3 must find its trace in B3, and what it sends on
//! must lead back to the same trace.
//!
//! | format | headers | source |
//! |---|---|---|
//! | [`Format::B3`], [`Format::B3Multi`] | `b3`, `x-b3-*` | <https://github.com/openzipkin/b3-propagation> |
//! | [`Format::Xray`] | `x-amzn-trace-id` | <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader> |
//! | [`Format::CloudTrace`] | `x-cloud-trace-context` | <https://cloud.google.com/trace/docs/trace-context> |
//! | [`Format::Jaeger`] | `uber-trace-id` | <https://www.jaegertracing.io/docs/1.21/client-libraries/#propagation-format> |
//! | [`Format::Datadog`] | `x-datadog-*` | <https://github.com/DataDog/dd-trace-go> |
//! | [`Format::OtTracer`] | `ot-tracer-*` | <https://github.com/opentracing/basictracer-python> |
//! | [`Format::GrpcTraceBin`] | `grpc-trace-bin` | <https://github.com/census-instrumentation/opencensus-specs/blob/master/encodings/BinaryEncoding.md> |
//!
//! W3C wins over all of them, then they win in the order of [`Format::ALL`]. Ids of two formats are never mixed: trace
//! and parent come from one, also where another one knows more. Hex digits are read in both cases and written in lower
//! case. A 64-bit trace id is the right half of a 128-bit one, with zeros before it, and is written as 64 bits again
//! where a format can; it never counts as random in the sense of W3C, nor does any other id that came in these formats.
//!
//! How it fails: an empty header is no header (frameworks forward what they did not get). A header that breaks its
//! format's rules, or that came twice, makes the format [`Reading::Invalid`]; the next one may still be good.

mod b3;
mod cloud_trace;
mod datadog;
mod digits;
mod format;
mod headers;
mod jaeger;
mod opencensus;
mod ot_tracer;
mod xray;

pub use format::{Format, FormatSet};
pub use headers::Headers;

use super::TraceParent;
use super::traceparent::FLAG_SAMPLED;
use crate::svc::Fields;
use headers::Header;

/// What a caller decided about recording the trace; B3's four states, which hold those of all the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sampling {
    /// Nothing: whoever receives it decides.
    #[default]
    Defer,
    /// Not to be recorded.
    Deny,
    /// To be recorded.
    Accept,
    /// To be recorded whatever samplers say: somebody is looking for something.
    Debug,
}

impl Sampling {
    /// Whether the trace is recorded; `None` when that is left to the receiver.
    pub const fn is_sampled(self) -> Option<bool> {
        match self {
            Sampling::Defer => None,
            Sampling::Deny => Some(false),
            Sampling::Accept | Sampling::Debug => Some(true),
        }
    }

    /// Whether it is recorded by force.
    pub const fn is_debug(self) -> bool {
        matches!(self, Sampling::Debug)
    }

    const fn of(is_sampled: bool) -> Sampling {
        if is_sampled { Sampling::Accept } else { Sampling::Deny }
    }
}

/// A request's place in a trace, as a format other than W3C's named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The whole trace, never all zero.
    pub trace_id: [u8; 16],
    /// The caller's span, never all zero; `None` where the format may leave it out and did.
    pub parent_id: Option<[u8; 8]>,
    /// What the caller decided.
    pub sampling: Sampling,
}

impl Foreign {
    /// Whether the trace id has only 64 bits, or lost the others on its way.
    pub fn is_short(&self) -> bool {
        is_short(&self.trace_id)
    }

    /// Whether this names the trace `trace_id`: the same id, or the same right half where one of the two is short.
    /// Formats and libraries that know 64 bits only cut the left half off.
    pub fn is_of(&self, trace_id: &[u8; 16]) -> bool {
        let (_, own) = digits::halves(&self.trace_id);
        let (_, other) = digits::halves(trace_id);
        self.trace_id == *trace_id || (own == other && (self.is_short() || is_short(trace_id)))
    }

    /// The same trace with `span_id` as the parent, as W3C writes it. What the caller left open becomes
    /// `default_sampled`. The random flag is never set: nobody said that the id is random.
    pub fn child(&self, span_id: [u8; 8], default_sampled: bool) -> TraceParent {
        let is_sampled = self.sampling.is_sampled().unwrap_or(default_sampled);
        let flags = if is_sampled { FLAG_SAMPLED } else { 0 };
        TraceParent { version: 0, trace_id: self.trace_id, parent_id: span_id, flags }
    }
}

fn is_short(trace_id: &[u8; 16]) -> bool {
    digits::halves(trace_id).0 == 0
}

/// What a request brought in one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Nothing, or empty headers.
    Absent,
    /// A header that breaks a rule of its format, or that came more than once.
    Invalid,
    /// No ids, but a decision (never [`Sampling::Defer`]): a trace that starts here obeys it.
    Decision(Sampling),
    /// A trace to continue.
    Valid(Foreign),
}

/// Reads one format.
pub fn read(format: Format, headers: &Headers, fields: &Fields) -> Reading {
    if headers.is_absent(format) {
        return Reading::Absent;
    }
    if headers.is_repeated(format) {
        return Reading::Invalid;
    }
    if headers.is_blank(format, fields) {
        return Reading::Absent;
    }
    let value = |header| headers.value(header, fields);
    let reading = match format {
        Format::B3 => b3::read(value(Header::B3)),
        Format::B3Multi => b3::read_multi(value),
        Format::Xray => xray::read(value(Header::AmznTraceId)),
        Format::CloudTrace => cloud_trace::read(value(Header::CloudTraceContext)),
        Format::Jaeger => jaeger::read(value(Header::UberTraceId)),
        Format::Datadog => datadog::read(value),
        Format::OtTracer => ot_tracer::read(value),
        Format::GrpcTraceBin => opencensus::read(value(Header::GrpcTraceBin)),
    };
    reading.unwrap_or(Reading::Invalid)
}

/// What headers without ids say.
fn without_ids(sampling: Sampling) -> Reading {
    if sampling == Sampling::Defer { Reading::Absent } else { Reading::Decision(sampling) }
}

/// What a request brought in all the formats that are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// The first valid one. Where a W3C parent came as well, that one wins, and this is only told.
    pub found: Option<(Format, Foreign)>,
    /// A decision without ids in a format that wins over `found`.
    pub decision: Option<Sampling>,
    /// Formats that named another trace than the one that won.
    pub conflicts: FormatSet,
    /// Formats whose headers break a rule.
    pub invalid: FormatSet,
    /// Formats of which anything came, valid or not.
    pub came: FormatSet,
}

impl Extracted {
    /// What was decided, by the format that wins: a decision without ids overrides one with ids.
    pub fn sampling(&self) -> Sampling {
        let with_ids = self.found.map(|(_, foreign)| foreign.sampling);
        self.decision.or(with_ids).unwrap_or_default()
    }
}

/// Reads the `enabled` formats by precedence. `w3c` is the request's valid `traceparent`, against which they are
/// compared if it has one.
pub fn extract(
    headers: &Headers,
    fields: &Fields,
    enabled: FormatSet,
    w3c: Option<&TraceParent>,
) -> Extracted {
    let mut extracted = Extracted::default();
    if headers.is_empty() {
        return extracted;
    }
    let mut trace_id = w3c.map(|parent| parent.trace_id);
    for format in enabled.iter() {
        match read(format, headers, fields) {
            Reading::Absent => continue,
            Reading::Invalid => extracted.invalid.insert(format),
            Reading::Decision(sampling) => {
                if extracted.found.is_none() && extracted.decision.is_none() {
                    extracted.decision = Some(sampling);
                }
            }
            Reading::Valid(foreign) => {
                if !foreign.is_of(trace_id.get_or_insert(foreign.trace_id)) {
                    extracted.conflicts.insert(format);
                }
                extracted.found.get_or_insert((format, foreign));
            }
        }
        extracted.came.insert(format);
    }
    extracted
}

/// What goes on to the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The trace; its `parent_id` is the span that sends.
    pub trace: TraceParent,
    /// The parent of the span that sends, for the formats that tell it (B3 and Jaeger).
    pub parent_id: Option<[u8; 8]>,
    /// Recorded by force, for the formats that tell it; implies sampled.
    pub is_debug: bool,
}

impl Outgoing {
    fn is_sampled(&self) -> bool {
        self.is_debug || self.trace.is_sampled()
    }
}

/// Writes `outgoing` in `format`, in the place of what came in it. What is not ours to change stays: unknown keys of
/// X-Ray, other tags and the origin of Datadog. `headers` are those that came, `scratch` is overwritten.
///
/// Where the format cannot say the ids (a trace id of zeros; one whose right half is zero in Datadog and OpenTracing,
/// which have 64 bits), its headers are removed: none is better than those of another span.
pub fn write(
    format: Format,
    outgoing: &Outgoing,
    headers: &Headers,
    fields: &mut Fields,
    scratch: &mut Vec<u8>,
) {
    let (_, right) = digits::halves(&outgoing.trace.trace_id);
    let has_64_bits = matches!(format, Format::Datadog | Format::OtTracer);
    let is_sayable = if has_64_bits { right != 0 } else { outgoing.trace.trace_id != [0; 16] };
    if !is_sayable || outgoing.trace.parent_id == [0; 8] {
        remove(FormatSet::from_iter([format]), fields);
        return;
    }
    scratch.clear();
    let header = match format {
        Format::B3Multi => return b3::write_multi(outgoing, fields, scratch),
        Format::Datadog => return datadog::write(outgoing, headers, fields, scratch),
        Format::OtTracer => return ot_tracer::write(outgoing, fields),
        Format::B3 => {
            b3::write(outgoing, scratch);
            Header::B3
        }
        Format::Xray => {
            xray::write(outgoing, headers.single(Header::AmznTraceId, fields), scratch);
            Header::AmznTraceId
        }
        Format::CloudTrace => {
            cloud_trace::write(outgoing, scratch);
            Header::CloudTraceContext
        }
        Format::Jaeger => {
            jaeger::write(outgoing, scratch);
            Header::UberTraceId
        }
        Format::GrpcTraceBin => {
            opencensus::write(outgoing, scratch);
            Header::GrpcTraceBin
        }
    };
    header.set(fields, scratch);
}

/// Removes every header of `formats`: towards third parties all of them.
pub fn remove(formats: FormatSet, fields: &mut Fields) {
    let headers = Headers::scan(fields);
    for header in headers.iter().filter(|header| formats.contains(header.format())) {
        header.remove(fields);
    }
}

/// Whether a header of this name (a token, in any case) belongs to one of the formats, or is baggage of theirs.
pub fn is_header(name: &[u8]) -> bool {
    Header::classify(name).is_some() || is_baggage_header(name)
}

/// Whether a header of this name carries baggage in the manner of Jaeger, OpenTracing, Datadog or OpenCensus. It goes
/// through the mesh untouched.
pub fn is_baggage_header(name: &[u8]) -> bool {
    let starts_with = |start: &[u8]| name.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start));
    match name.first().map(|byte| byte | 0x20) {
        Some(b'u') => starts_with(b"uberctx-"),
        Some(b'o') => starts_with(b"ot-baggage-"),
        Some(b'j') => name.eq_ignore_ascii_case(b"jaeger-baggage"),
        Some(b'g') => name.eq_ignore_ascii_case(b"grpc-tags-bin"),
        _ => false,
    }
}

/// Removes every header that [`is_baggage_header`] knows: towards third parties.
pub fn remove_all_baggage(fields: &mut Fields) {
    fields.remove_where(is_baggage_header);
}

#[cfg(test)]
mod tests;
