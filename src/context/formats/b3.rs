//! Zipkin's B3, in one header and in several, <https://github.com/openzipkin/b3-propagation>.
//!
//! `b3: {trace id}-{span id}-{state}-{parent span id}`, where the last two may be missing and the state may be all there
//! is; or one header for each part. Trace ids have 16 or 32 digits, span ids 16.
//!
//! In B3 caller and callee may share one span, which is why the parent is told: a callee reports its side under the
//! caller's span id, below that parent. A proxy that makes a span of its own is the caller of whoever comes next, so its
//! span id goes out as the span, and its parent as the parent. What came as parent is looked at and not used.

use super::headers::Header;
use super::{Foreign, Outgoing, Reading, Sampling, digits, without_ids};
use crate::context::ids;
use crate::svc::Fields;

/// Reads the single header.
pub(super) fn read(value: &[u8]) -> Option<Reading> {
    if let [state] = value {
        return Some(Reading::Decision(sampling(*state)?));
    }
    let mut parts = value.split(|byte| *byte == b'-');
    let (trace_id, span_id) = (trace_id(parts.next()?)?, span_id(parts.next()?)?);
    let sampling = match (parts.next(), parts.next(), parts.next()) {
        (None, _, _) => Sampling::Defer,
        (Some([state]), None, _) => sampling(*state)?,
        (Some([state]), Some(parent), None) if is_parent(parent) => sampling(*state)?,
        // Brave writes this for a child that is not yet decided about.
        (Some(parent), None, _) if is_parent(parent) => Sampling::Defer,
        _ => return None,
    };
    Some(Reading::Valid(Foreign { trace_id, parent_id: Some(span_id), sampling }))
}

fn sampling(state: u8) -> Option<Sampling> {
    match state {
        b'0' => Some(Sampling::Deny),
        b'1' => Some(Sampling::Accept),
        b'd' => Some(Sampling::Debug),
        _ => None,
    }
}

/// Reads the headers that start with `x-b3-`.
pub(super) fn read_multi<'a>(value: impl Fn(Header) -> &'a [u8]) -> Option<Reading> {
    let sampled = value(Header::B3Sampled);
    // Any other value of the flags means nothing, and debug needs no word of the sampled header.
    let sampling = if value(Header::B3Flags) == b"1" {
        Sampling::Debug
    } else if sampled.is_empty() {
        Sampling::Defer
    } else {
        Sampling::of(digits::boolean(sampled)?)
    };
    let [trace, span, parent] = [Header::B3TraceId, Header::B3SpanId, Header::B3ParentSpanId].map(value);
    if trace.is_empty() && span.is_empty() && parent.is_empty() {
        return Some(without_ids(sampling));
    }
    if !parent.is_empty() && !is_parent(parent) {
        return None;
    }
    Some(Reading::Valid(Foreign { trace_id: trace_id(trace)?, parent_id: Some(span_id(span)?), sampling }))
}

fn trace_id(text: &[u8]) -> Option<[u8; 16]> {
    matches!(text.len(), 16 | 32).then(|| digits::hex_trace_id(text))?
}

fn span_id(text: &[u8]) -> Option<[u8; 8]> {
    (text.len() == 16).then(|| digits::hex_span_id(text))?
}

/// Zeros, which some tracers write at the root, are a parent like any other: it is not used.
fn is_parent(text: &[u8]) -> bool {
    text.len() == 16 && digits::hex(text).is_some()
}

/// Writes the single header's value.
pub(super) fn write(outgoing: &Outgoing, out: &mut Vec<u8>) {
    digits::push_trace_id(out, &outgoing.trace.trace_id);
    out.push(b'-');
    digits::push_span_id(out, &outgoing.trace.parent_id);
    out.push(b'-');
    out.push(if outgoing.is_debug { b'd' } else { b'0' + u8::from(outgoing.is_sampled()) });
    if let Some(parent_id) = &outgoing.parent_id {
        out.push(b'-');
        digits::push_span_id(out, parent_id);
    }
}

/// Writes the headers that start with `x-b3-`; those that say nothing are removed.
pub(super) fn write_multi(outgoing: &Outgoing, fields: &mut Fields, scratch: &mut Vec<u8>) {
    digits::push_trace_id(scratch, &outgoing.trace.trace_id);
    Header::B3TraceId.set(fields, scratch);
    Header::B3SpanId.set(fields, &ids::span_id_hex(&outgoing.trace.parent_id));
    match &outgoing.parent_id {
        Some(parent_id) => Header::B3ParentSpanId.set(fields, &ids::span_id_hex(parent_id)),
        None => Header::B3ParentSpanId.remove(fields),
    }
    // Debug implies sampled, and B3 asks not to send both.
    if outgoing.is_debug {
        Header::B3Flags.set(fields, b"1");
        Header::B3Sampled.remove(fields);
    } else {
        Header::B3Flags.remove(fields);
        Header::B3Sampled.set(fields, if outgoing.is_sampled() { b"1" } else { b"0" });
    }
}
