//! What a request carries besides itself: the trace (W3C Trace Context), the business fields, and the two
//! carriers that bring them (plain headers and W3C Baggage).
//!
//! Everything here is a pure function over bytes: no header map, no clock, no global randomness, and no
//! allocation of its own (the caller hands in buffers it reuses). That keeps the parsers cheap enough to run
//! on every request, and lets the tests and fuzz targets feed them anything.
//!
//! - [`traceparent`] and [`tracestate`]: W3C Trace Context, level 2
//! - [`baggage`]: finding and rewriting the business keys among foreign members
//! - [`fields`]: the six fields, their names in each carrier, what is a valid value, which carrier wins
//! - [`formats`]: the trace formats of others (B3, X-Ray, Jaeger, Datadog, …)
//! - [`extra`]: further fields, by configuration; [`pseudonym`]: values that name a person
//! - [`signature`]: what binds the fields to the trace; [`third_party`]: who is told nothing of all this
//! - [`sampling`]: which traces are recorded
//! - [`ids`]: new trace, span and request ids out of a generator that the caller seeds
//! - [`config`]: what a user may set
//!
//! How it fails: a value that breaks its rules is treated as absent and reported to the caller, who counts it.
//! Nothing here can refuse a request, and no input can cause a panic.

pub mod baggage;
pub mod config;
pub mod extra;
pub mod fields;
pub mod formats;
pub mod ids;
pub mod pseudonym;
pub mod sampling;
pub mod signature;
pub mod third_party;
pub mod traceparent;
pub mod tracestate;
mod words;

pub use fields::{Field, RequestType};
pub use ids::Rng;
pub use traceparent::TraceParent;

/// Name of the header that carries a [`TraceParent`], in lower case.
pub const TRACEPARENT: &str = "traceparent";
/// Name of the header that carries the vendors' list of [`tracestate`], in lower case.
pub const TRACESTATE: &str = "tracestate";
/// Name of the header that carries [`baggage`], in lower case.
pub const BAGGAGE: &str = "baggage";

/// Whether a header of this name (in any case) carries context: a business field, one of the W3C headers, or a header
/// of another trace format.
///
/// These are the names that a peer must not nominate in `Connection`, because a proxy that obeys would drop
/// who the request belongs to.
pub fn is_context_header(name: &[u8]) -> bool {
    [TRACEPARENT, TRACESTATE, BAGGAGE].iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        || Field::from_header(name).is_some()
        || name.eq_ignore_ascii_case(signature::HEADER.as_bytes())
        || formats::is_header(name)
}

/// Removes RFC 9110's optional whitespace (spaces and tabs) from both ends.
pub(crate) fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    // Parsers have trimmed nearly all that comes here.
    if bytes.first() > Some(&b' ') && bytes.last() > Some(&b' ') {
        return bytes;
    }
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_carrier_of_context_is_known_in_any_case() {
        for name in ["traceparent", "TraceState", "BAGGAGE", "x-request-id", "X-User-Id", "x-feature-flags"] {
            assert!(is_context_header(name.as_bytes()), "{name}");
        }
        for name in ["", "host", "trace-parent", "trace.parent", "x-user", "x-request-id2", "baggages"] {
            assert!(!is_context_header(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn only_spaces_and_tabs_are_optional_whitespace() {
        for (given, want) in [("", ""), (" \t", ""), ("\t a b\t ", "a b"), ("\na\r", "\na\r")] {
            assert_eq!(trim_ows(given.as_bytes()), want.as_bytes());
        }
    }
}
