//! The gRPC check: `grpc.health.v1.Health/Check` (the gRPC health checking protocol).
//!
//! The two messages have one field each, so they are coded by hand: `HealthCheckRequest { string service = 1 }` and
//! `HealthCheckResponse { ServingStatus status = 1 }`, each behind gRPC's five bytes (flag and length).

use super::http2::{Answer, exchange};
use super::{Limit, Stream, USER_AGENT, Verdict};
use crate::cluster::config::GrpcCheck;
use bytes::{BufMut, Bytes, BytesMut};
use http::uri::{Authority, Parts};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use std::time::Duration;

const PATH: &str = "/grpc.health.v1.Health/Check";

/// How much of an endpoint's own words is repeated.
const MESSAGE_CHARS_MAX: usize = 100;

/// What is asked about.
pub(super) struct Grpc {
    service: String,
}

impl Grpc {
    pub(super) fn new(config: &GrpcCheck) -> Grpc {
        Grpc { service: config.service.clone() }
    }

    /// Asks whether the service is serving.
    pub(super) async fn ask(
        &self,
        stream: Box<dyn Stream>,
        scheme: &str,
        authority: Authority,
        limit: Limit,
    ) -> Verdict {
        let request = request(scheme, authority, limit.timeout);
        let answer = exchange(stream, request, Some(message(&self.service)), limit).await?;
        judge(&answer)
    }
}

fn request(scheme: &str, authority: Authority, timeout: Duration) -> Request<()> {
    let mut parts = Parts::default();
    parts.scheme = scheme.parse().ok();
    parts.authority = Some(authority);
    parts.path_and_query = PATH.parse().ok();
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    // All three parts are there, so it is a URI.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Ok(value) = HeaderValue::try_from(timeout_text(timeout)) {
        headers.insert("grpc-timeout", value);
    }
    request
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout_text(timeout: Duration) -> String {
    const LARGEST: u128 = 99_999_999;
    match timeout.as_millis() {
        millis @ 1..=LARGEST => format!("{millis}m"),
        0 => format!("{}u", timeout.as_micros().max(1)),
        _ => format!("{}S", u128::from(timeout.as_secs()).min(LARGEST)),
    }
}

/// The request's message behind its prefix. The default service is the empty name, which protobuf does not write.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(0x0a); // field 1, length-delimited
        put_varint(&mut field, service.len() as u64);
        field.put_slice(service.as_bytes());
    }
    let mut message = BytesMut::with_capacity(field.len() + 5);
    message.put_u8(0); // not compressed
    message.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    message.put_slice(&field);
    message.freeze()
}

fn put_varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8((number as u8) | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// What the answer says.
fn judge(answer: &Answer) -> Verdict {
    if answer.head.status != http::StatusCode::OK {
        return Err(format!("HTTP status {}, expected 200 with a gRPC status", answer.head.status.as_u16()));
    }
    let head = &answer.head.headers;
    let content_type = head.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !content_type.starts_with(b"application/grpc") {
        return Err("the answer is not gRPC: no `content-type: application/grpc`".into());
    }
    // An answer without content has its status in the head ("Trailers-Only").
    let fields = answer.trailers.as_ref().filter(|fields| fields.contains_key("grpc-status")).unwrap_or(head);
    let Some(code) = fields.get("grpc-status") else {
        return Err("the answer is not gRPC: no grpc-status".into());
    };
    match code.to_str().ok().and_then(|code| code.parse::<u8>().ok()) {
        Some(0) => {}
        Some(code) => return Err(format!("grpc-status {}{}", status_name(code), message_of(fields))),
        None => return Err("the answer is not gRPC: grpc-status is not a number".into()),
    }
    match serving_status(&answer.content)? {
        1 => Ok(()),
        0 => Err("the service is UNKNOWN".into()),
        2 => Err("the service is NOT_SERVING".into()),
        3 => Err("the service is SERVICE_UNKNOWN".into()),
        other => Err(format!("the service's status is {other}")),
    }
}

/// Code and name of a status, with what it means here.
fn status_name(code: u8) -> String {
    let name = match code {
        1 => "CANCELLED",
        2 => "UNKNOWN",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND: the server does not know this service",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        12 => "UNIMPLEMENTED: the server has no grpc.health.v1.Health",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        16 => "UNAUTHENTICATED",
        _ => return code.to_string(),
    };
    format!("{code} ({name})")
}

/// The endpoint's own words, short and without control characters.
fn message_of(fields: &HeaderMap) -> String {
    let text = fields.get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text.is_empty() {
        return String::new();
    }
    let short: String = text.chars().take(MESSAGE_CHARS_MAX).collect();
    format!(": {}", short.escape_debug())
}

/// The status in the answer's message.
fn serving_status(content: &[u8]) -> Result<u64, String> {
    let broken = || "the answer is not a HealthCheckResponse".to_owned();
    let (prefix, rest) = content.split_at_checked(5).ok_or_else(broken)?;
    let (flag, length) = prefix.split_first().ok_or_else(broken)?;
    let length = length.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
    if *flag != 0 {
        return Err("the answer is compressed, which was not asked for".into());
    }
    // One call, one message.
    if rest.len() != length {
        return Err(broken());
    }
    let (mut message, mut status) = (rest, 0);
    while !message.is_empty() {
        let tag = take_varint(&mut message).ok_or_else(broken)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = take_varint(&mut message).ok_or_else(broken)?,
            (1, _) => return Err(broken()),
            (_, kind) => skip(&mut message, kind).ok_or_else(broken)?,
        }
    }
    Ok(status)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Passes over a field that later versions may have.
fn skip(bytes: &mut &[u8], kind: u64) -> Option<()> {
    let length = match kind {
        0 => return take_varint(bytes).map(drop),
        1 => 8,
        2 => usize::try_from(take_varint(bytes)?).ok()?,
        5 => 4,
        _ => return None,
    };
    *bytes = bytes.get(length..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_coded_as_protobuf_does() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("pay")[..], b"\0\0\0\0\x05\x0a\x03pay");
        let long = message(&"s".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 5 + 3 + 300);
    }

    #[test]
    fn timeouts_have_at_most_eight_digits() {
        for (timeout, text) in [
            (Duration::from_secs(2), "2000m"),
            (Duration::from_micros(300), "300u"),
            (Duration::ZERO, "1u"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(u64::MAX), "99999999S"),
        ] {
            assert_eq!(timeout_text(timeout), text);
        }
    }

    #[test]
    fn the_answer_is_read_past_fields_that_are_not_known() {
        let framed = |message: &[u8]| [&[0, 0, 0, 0, message.len() as u8], message].concat();
        assert_eq!(serving_status(&framed(b"\x08\x01")), Ok(1));
        assert_eq!(serving_status(&framed(b"")), Ok(0), "the default is not written");
        assert_eq!(
            serving_status(&framed(b"\x12\x02hi\x08\x02\x1d1234\x21\x31\x32\x33\x34\x35\x36\x37\x38")),
            Ok(2)
        );
        assert_eq!(serving_status(&framed(b"\x08\x01\x08\x02")), Ok(2), "the last one counts");
        for broken in
            [&b"\x08"[..], b"\x08\x80", b"\x0a\x01a", b"\x12\x09hi", b"\x0b", &[0x80; 11], b"\x15\x01"]
        {
            assert!(serving_status(&framed(broken)).is_err(), "{broken:?}");
        }
        for broken in
            [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02\x08", b"\0\0\0\0\x01\x08\x01", b"\0\xff\xff\xff\xff"]
        {
            assert!(serving_status(broken).is_err(), "{broken:?}");
        }
        assert!(serving_status(b"\x01\0\0\0\x02\x08\x01").unwrap_err().contains("compressed"));
    }

    proptest::proptest! {
        #[test]
        fn any_answer_ends_without_a_panic(content: Vec<u8>) {
            let _ = serving_status(&content);
        }

        #[test]
        fn what_is_written_is_read(number: u64) {
            let mut out = BytesMut::new();
            put_varint(&mut out, number);
            proptest::prop_assert_eq!(take_varint(&mut &out[..]), Some(number));
        }
    }
}
