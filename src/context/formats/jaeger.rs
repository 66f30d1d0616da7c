//! Jaeger's `uber-trace-id`: `{trace id}:{span id}:{parent span id}:{flags}`, all hex,
//! <https://www.jaegertracing.io/docs/1.21/client-libraries/#propagation-format>.
//!
//! Ids have up to 32 and 16 digits, shorter ones mean zeros before them. The parent is deprecated, and 0 at the root.
//! Some clients encode the value as in a URL, so `%3A` is a colon as well. Of the flags, 1 is sampled and 2 is debug;
//! Jaeger's `jaeger-debug-id` and the firehose flag are not taken part in.

use super::{Foreign, Outgoing, Reading, Sampling, digits};

const SAMPLED: u64 = 1;
const DEBUG: u64 = 2;

/// Reads the header.
pub(super) fn read(value: &[u8]) -> Option<Reading> {
    let [trace_id, span_id, parent, flags] = parts(value)?;
    if flags.len() > 2 || !(parent.is_empty() || digits::hex(parent).is_some()) {
        return None;
    }
    let flags = digits::hex(flags)?;
    let sampling = if flags & DEBUG != 0 { Sampling::Debug } else { Sampling::of(flags & SAMPLED != 0) };
    let trace_id = digits::hex_trace_id(trace_id)?;
    Some(Reading::Valid(Foreign { trace_id, parent_id: Some(digits::hex_span_id(span_id)?), sampling }))
}

/// What is between the colons; `None` when there are not three of them.
fn parts(value: &[u8]) -> Option<[&[u8]; 4]> {
    let mut rest = value;
    let mut before_colon = || {
        let end = rest.iter().position(|byte| matches!(byte, b':' | b'%'))?;
        let (part, from) = rest.split_at_checked(end)?;
        rest = match from {
            [b':', rest @ ..] | [b'%', b'3', b'A' | b'a', rest @ ..] => rest,
            _ => return None,
        };
        Some(part)
    };
    let [trace_id, span_id, parent] = [before_colon()?, before_colon()?, before_colon()?];
    Some([trace_id, span_id, parent, rest])
}

/// Writes the header's value.
pub(super) fn write(outgoing: &Outgoing, out: &mut Vec<u8>) {
    digits::push_trace_id(out, &outgoing.trace.trace_id);
    out.push(b':');
    digits::push_span_id(out, &outgoing.trace.parent_id);
    out.push(b':');
    match &outgoing.parent_id {
        Some(parent_id) => digits::push_span_id(out, parent_id),
        None => out.push(b'0'),
    }
    out.push(b':');
    out.push(if outgoing.is_debug { b'3' } else { b'0' + u8::from(outgoing.is_sampled()) });
}
