//! OpenTracing's `ot-tracer-traceid`, `ot-tracer-spanid` and `ot-tracer-sampled`, as the basic tracers write them
//! (<https://github.com/opentracing/basictracer-python>) and OpenTelemetry's OT Trace propagators read them.
//!
//! There is no specification. Ids are hex; basic tracers write them without leading zeros, OpenTelemetry writes 16
//! digits and reads 32 as well. What is written is always 64 bits, the right half of a longer trace id: that is what
//! every implementation does, because the old ones refuse more. Sampled is a boolean, of which some write a digit.

use super::headers::Header;
use super::{Foreign, Outgoing, Reading, Sampling, digits, without_ids};
use crate::context::ids;
use crate::svc::Fields;

/// Reads the headers.
pub(super) fn read<'a>(value: impl Fn(Header) -> &'a [u8]) -> Option<Reading> {
    let sampling = match value(Header::OtSampled) {
        b"" => Sampling::Defer,
        text => Sampling::of(digits::boolean(text)?),
    };
    let (trace_id, span_id) = (value(Header::OtTraceId), value(Header::OtSpanId));
    if trace_id.is_empty() && span_id.is_empty() {
        return Some(without_ids(sampling));
    }
    let trace_id = digits::hex_trace_id(trace_id)?;
    Some(Reading::Valid(Foreign { trace_id, parent_id: Some(digits::hex_span_id(span_id)?), sampling }))
}

/// Writes the headers. The right half of the trace id is not zero.
pub(super) fn write(outgoing: &Outgoing, fields: &mut Fields) {
    let (_, right) = digits::halves(&outgoing.trace.trace_id);
    Header::OtTraceId.set(fields, &ids::span_id_hex(&right.to_be_bytes()));
    Header::OtSpanId.set(fields, &ids::span_id_hex(&outgoing.trace.parent_id));
    Header::OtSampled.set(fields, if outgoing.is_sampled() { b"true" } else { b"false" });
}
