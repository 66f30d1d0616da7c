//! Which names a further field and its carriers may have.

use super::{CARRIER_BYTES_MAX, NAME_BYTES_MAX};
use crate::context::{Field, is_context_header, signature};
use crate::svc::Known;
use crate::svc::fields::is_token_byte;

/// What is wrong, and what to write instead.
pub(super) type Wrong = (String, String);

/// Names that events and rules have for something else.
const NAMES_TAKEN: [&str; 10] = [
    "id",
    "trace_id",
    "span_id",
    "parent_id",
    "sampled",
    "tracestate",
    "baggage",
    "signature",
    "schema",
    "timestamp",
];

pub(super) fn check_name(name: &str) -> Result<(), Wrong> {
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_name {
        let help =
            format!("use `a-z`, `0-9` and `_`, a letter first, at most {NAME_BYTES_MAX}: `cost_centre`");
        return Err(("a field cannot have this name".to_owned(), help));
    }
    if NAMES_TAKEN.contains(&name) || Field::ALL.iter().any(|field| field.name() == name) {
        let help = "it is there without being configured: remove this, or choose another name".to_owned();
        return Err((format!("`{name}` is a field that every context has"), help));
    }
    Ok(())
}

/// Headers of tracers and proxies, beyond those that are known by name; with `-` or `:` at the end, all that begin so.
const HEADERS_TAKEN: [&str; 16] = [
    ":",
    "x-b3-",
    "x-datadog-",
    "ot-tracer-",
    "x-ot-span-context",
    "sw8",
    "traceresponse",
    "server-timing",
    "grpc-",
    "proxy-",
    "sec-",
    "access-control-",
    "content-",
    "x-forwarded-",
    "x-envoy-",
    "x-client-request-id",
];

pub(super) fn check_header(name: &str) -> Result<(), Wrong> {
    let taken = |taken: &&str| match taken.strip_suffix(['-', ':']) {
        Some(_) => name.starts_with(*taken),
        None => name == *taken,
    };
    let advice = "choose one of its own, such as `x-tenant`".to_owned();
    if is_context_header(name.as_bytes()) || name == signature::HEADER {
        return Err((format!("`{name}` carries another part of the context"), advice));
    }
    if Known::classify(name.as_bytes()).is_some() || HEADERS_TAKEN.iter().any(taken) {
        return Err((format!("`{name}` means something else to HTTP, to proxies or to tracers"), advice));
    }
    if !is_carrier(name) {
        let help = format!("a name has letters, digits and `-`, at most {CARRIER_BYTES_MAX}: `x-tenant`");
        return Err((format!("`{}` is not the name of a header field", excerpt(name)), help));
    }
    Ok(())
}

pub(super) fn check_baggage_key(key: &str) -> Result<(), Wrong> {
    if Field::from_baggage_key(key.as_bytes()).is_some() || key == signature::BAGGAGE_KEY {
        return Err((
            format!("`{key}` carries another part of the context"),
            "choose one of its own".to_owned(),
        ));
    }
    if !is_carrier(key) || key.contains(['%', '+']) {
        let help =
            format!("a key has letters, digits, `.`, `_` and `-`, at most {CARRIER_BYTES_MAX}: `tenant.id`");
        return Err((format!("`{}` is not a key of baggage", excerpt(key)), help));
    }
    Ok(())
}

fn is_carrier(name: &str) -> bool {
    (1..=CARRIER_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_token_byte)
}

/// The start of what was written, for a message of one line.
fn excerpt(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(CARRIER_BYTES_MAX + 1).collect()
}
