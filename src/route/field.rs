//! Which header fields a route may write.

use crate::context::is_context_header;
use crate::svc::Known;
use crate::svc::fields::{is_field_value, is_token_byte};

/// Why a route may not change the field of this name; `None` when it may.
///
/// The framing belongs to the codecs, fields of the hop to the connection, the host to `rewrite.host`, and the context
/// to nobody on the way: a route that could write it could say whom a request belongs to.
pub(super) fn objection(name: &str) -> Option<&'static str> {
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return Some("is not a field name");
    }
    if is_context_header(name.as_bytes()) {
        return Some("is part of the context, which routes do not change");
    }
    match Known::classify(name.as_bytes()) {
        Some(Known::Host) => Some("is changed by `rewrite.host`"),
        Some(Known::ContentLength | Known::TransferEncoding) => Some("frames the message and is not changed"),
        Some(
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::Upgrade
            | Known::Http2Settings
            | Known::Expect
            | Known::MaxForwards,
        ) => Some("belongs to one connection and is not changed"),
        _ => None,
    }
}

/// Why `value` cannot be written; `None` when it can.
pub(super) fn value_objection(value: &str) -> Option<&'static str> {
    if !is_field_value(value.as_bytes()) {
        return Some("has a value with a control character");
    }
    (value.trim_ascii() != value).then_some("has a value with white space at its ends")
}
