//! AWS X-Ray's `X-Amzn-Trace-Id`: `Root=1-{8 hex}-{24 hex};Parent={16 hex};Sampled={0, 1 or ?}`,
//! <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>.
//!
//! The parts come in any order. A load balancer sends a root without a parent, a sampled part may stand alone, and `?`
//! leaves the decision to the receiver. Parts with other keys (`Self`, `Lineage`, `CalledFrom`, …) are AWS's or the
//! application's: they go on behind ours, byte for byte.

use super::{Foreign, Outgoing, Reading, Sampling, digits, without_ids};
use crate::context::{ids, trim_ows};

/// The most bytes that are read or written. AWS names no limit; what its services send stays far below.
const BYTES_MAX: usize = 1024;

const ROOT: &[u8] = b"Root=";
const PARENT: &[u8] = b"Parent=";
const SAMPLED: &[u8] = b"Sampled=";

/// Reads the header.
pub(super) fn read(value: &[u8]) -> Option<Reading> {
    if value.len() > BYTES_MAX {
        return None;
    }
    let [mut root, mut parent, mut sampled] = [None; 3];
    for part in parts(value) {
        let (slot, text) = if let Some(text) = part.strip_prefix(ROOT) {
            (&mut root, text)
        } else if let Some(text) = part.strip_prefix(PARENT) {
            (&mut parent, text)
        } else if let Some(text) = part.strip_prefix(SAMPLED) {
            (&mut sampled, text)
        } else {
            continue;
        };
        if slot.replace(text).is_some() {
            return None;
        }
    }
    // As in AWS's own SDKs, what is neither yes nor no decides nothing.
    let sampling = match sampled {
        Some(b"0") => Sampling::Deny,
        Some(b"1") => Sampling::Accept,
        _ => Sampling::Defer,
    };
    let parent = parent.filter(|text| !text.is_empty());
    let Some(root) = root.filter(|text| !text.is_empty()) else {
        return parent.is_none().then(|| without_ids(sampling));
    };
    let parent_id = match parent {
        Some(text) if text.len() == 16 => Some(digits::hex_span_id(text)?),
        Some(_) => return None,
        None => None,
    };
    Some(Reading::Valid(Foreign { trace_id: trace_id(root)?, parent_id, sampling }))
}

/// `1-{8 hex}-{24 hex}`: a version, the time in seconds, and what is random.
fn trace_id(root: &[u8]) -> Option<[u8; 16]> {
    let (time, random) = root.strip_prefix(b"1-")?.split_at_checked(8)?;
    let (left, right) = random.strip_prefix(b"-").filter(|random| random.len() == 24)?.split_at_checked(8)?;
    digits::trace_id(digits::hex(time)? << 32 | digits::hex(left)?, digits::hex(right)?)
}

/// Writes the header's value; `came` is the one that came, or empty.
pub(super) fn write(outgoing: &Outgoing, came: &[u8], out: &mut Vec<u8>) {
    let trace_id = ids::trace_id_hex(&outgoing.trace.trace_id);
    let (time, random) = trace_id.split_at(8);
    out.extend_from_slice(b"Root=1-");
    out.extend_from_slice(time);
    out.push(b'-');
    out.extend_from_slice(random);
    out.extend_from_slice(b";Parent=");
    digits::push_span_id(out, &outgoing.trace.parent_id);
    out.extend_from_slice(if outgoing.is_sampled() { b";Sampled=1" } else { b";Sampled=0" });
    let is_ours = |part: &[u8]| [ROOT, PARENT, SAMPLED].iter().any(|key| part.starts_with(key));
    for part in parts(came).filter(|part| !is_ours(part)) {
        if out.len() + 1 + part.len() <= BYTES_MAX {
            out.push(b';');
            out.extend_from_slice(part);
        }
    }
}

/// What is between the semicolons, without whitespace around it and without empty ones.
fn parts(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b';').map(trim_ows).filter(|part| !part.is_empty())
}
