//! Google's `X-Cloud-Trace-Context`: `{32 hex}/{span id, decimal};o={options}`,
//! <https://cloud.google.com/trace/docs/trace-context>.
//!
//! Span and options may be missing or empty (App Engine's parser lists the nine forms). Span 0 is the root's way to say
//! that it has no parent. The lowest bit of the options is the decision; without options it is left to the receiver.

use super::{Foreign, Outgoing, Reading, Sampling, digits};
use crate::context::ids;

/// The options are a bit mask in decimal.
const OPTION_TRACED: u64 = 1;

/// Reads the header.
pub(super) fn read(value: &[u8]) -> Option<Reading> {
    let (ids, options) = match value.iter().position(|byte| *byte == b';') {
        Some(at) => {
            let (ids, options) = value.split_at_checked(at)?;
            (ids, options.strip_prefix(b";o=")?)
        }
        None => (value, &b""[..]),
    };
    let (trace_id, span_id) = ids.split_at_checked(32)?;
    let parent_id = match span_id {
        [] | [b'/'] => None,
        [b'/', number @ ..] => digits::span_id(digits::decimal(number)?),
        _ => return None,
    };
    let sampling = match options {
        [] => Sampling::Defer,
        _ => Sampling::of(digits::decimal(options)? & OPTION_TRACED != 0),
    };
    Some(Reading::Valid(Foreign { trace_id: digits::hex_trace_id(trace_id)?, parent_id, sampling }))
}

/// Writes the header's value.
pub(super) fn write(outgoing: &Outgoing, out: &mut Vec<u8>) {
    out.extend_from_slice(&ids::trace_id_hex(&outgoing.trace.trace_id));
    out.push(b'/');
    digits::push_decimal(out, u64::from_be_bytes(outgoing.trace.parent_id));
    out.extend_from_slice(if outgoing.is_sampled() { b";o=1" } else { b";o=0" });
}
