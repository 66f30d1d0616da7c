//! Datadog's headers, as its tracers write them (<https://github.com/DataDog/dd-trace-go>, `ddtrace/tracer/textmap.go`).
//!
//! `x-datadog-trace-id` and `x-datadog-parent-id` are decimal and have 64 bits. The left half of a longer trace id is
//! in `x-datadog-tags` under `_dd.p.tid`, as 16 hex digits. `x-datadog-sampling-priority` is -1 or 0 (not recorded, by
//! the user or by the sampler) or 1 or 2 (recorded, by the sampler or by the user). Parent 0 is none: browsers' synthetic
//! tests begin like that.
//!
//! Other tags stay byte for byte and in order, `x-datadog-origin` is not touched. A `_dd.p.tid` that is malformed, or in
//! a list that is too long, counts as not there, as in Datadog's tracers: the trace goes on with 64 bits.

use super::headers::{Header, Headers};
use super::{Foreign, Outgoing, Reading, Sampling, digits, without_ids};
use crate::context::{ids, trim_ows};
use crate::svc::Fields;

/// The most bytes of tags that are read or written: Datadog's own limit, over which its tracers drop all of them.
const TAGS_BYTES_MAX: usize = 512;

/// What the tag with the left half of the trace id starts with.
const LEFT_HALF: &[u8] = b"_dd.p.tid=";
/// Bytes in that tag.
const LEFT_HALF_BYTES: usize = LEFT_HALF.len() + 16;

/// Reads the headers.
pub(super) fn read<'a>(value: impl Fn(Header) -> &'a [u8]) -> Option<Reading> {
    let sampling = match value(Header::DatadogSamplingPriority) {
        b"" => Sampling::Defer,
        b"-1" | b"0" => Sampling::Deny,
        b"1" | b"2" => Sampling::Accept,
        _ => return None,
    };
    let (trace_id, parent_id) = (value(Header::DatadogTraceId), value(Header::DatadogParentId));
    if trace_id.is_empty() && parent_id.is_empty() {
        return Some(without_ids(sampling));
    }
    let right = digits::decimal(trace_id).filter(|right| *right != 0)?;
    let trace_id = digits::trace_id(left_half(value(Header::DatadogTags)).unwrap_or(0), right)?;
    let parent_id = match parent_id {
        [] => None,
        number => digits::span_id(digits::decimal(number)?),
    };
    Some(Reading::Valid(Foreign { trace_id, parent_id, sampling }))
}

/// The left half of the trace id; `None` unless it is there once and well formed.
fn left_half(list: &[u8]) -> Option<u64> {
    if list.len() > TAGS_BYTES_MAX {
        return None;
    }
    let mut found = tags(list).filter_map(|tag| trim_ows(tag).strip_prefix(LEFT_HALF));
    let text = found.next().filter(|text| text.len() == 16)?;
    found.next().is_none().then(|| digits::hex(text))?
}

/// What is between the commas, as it came, without empty ones.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').filter(|tag| !trim_ows(tag).is_empty())
}

/// Writes the headers. The right half of the trace id is not zero.
pub(super) fn write(outgoing: &Outgoing, headers: &Headers, fields: &mut Fields, scratch: &mut Vec<u8>) {
    let (left, right) = digits::halves(&outgoing.trace.trace_id);
    write_tags(left, headers, fields, scratch);
    for (header, number) in [
        (Header::DatadogTraceId, right),
        (Header::DatadogParentId, u64::from_be_bytes(outgoing.trace.parent_id)),
    ] {
        scratch.clear();
        digits::push_decimal(scratch, number);
        header.set(fields, scratch);
    }
    // Who decided is told as well; that stays where the decision stays.
    let came = headers.single(Header::DatadogSamplingPriority, fields);
    let priority: &[u8] = match (outgoing.is_sampled(), came) {
        (true, _) if outgoing.is_debug => b"2",
        (true, b"2") => b"2",
        (true, _) => b"1",
        (false, b"-1") => b"-1",
        (false, _) => b"0",
    };
    Header::DatadogSamplingPriority.set(fields, priority);
}

/// Writes the left half among the tags that came: in the place of the one that came, else behind the others.
fn write_tags(left: u64, headers: &Headers, fields: &mut Fields, scratch: &mut Vec<u8>) {
    let came = headers.single(Header::DatadogTags, fields);
    let kept = if came.len() > TAGS_BYTES_MAX { &[] } else { came };
    let mut is_due = left != 0;
    for tag in tags(kept) {
        let reserved = if is_due { LEFT_HALF_BYTES + 1 } else { 0 };
        if !trim_ows(tag).starts_with(LEFT_HALF) {
            if scratch.len() + 1 + tag.len() + reserved <= TAGS_BYTES_MAX {
                push_tag(scratch, tag, b"");
            }
        } else if is_due {
            push_tag(scratch, LEFT_HALF, &ids::span_id_hex(&left.to_be_bytes()));
            is_due = false;
        }
    }
    if is_due {
        push_tag(scratch, LEFT_HALF, &ids::span_id_hex(&left.to_be_bytes()));
    }
    if scratch.is_empty() {
        Header::DatadogTags.remove(fields);
    } else if scratch.as_slice() != came {
        Header::DatadogTags.set(fields, scratch);
    }
}

fn push_tag(list: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if !list.is_empty() {
        list.push(b',');
    }
    list.extend_from_slice(key);
    list.extend_from_slice(value);
}
