//! A message of HTTP/1.x as a file has it: all bytes of one request or answer.
//!
//! Why not the proxy's own parser: that one refuses what a proxy must refuse; here, what was recorded is kept. How it fails:
//! with what is wrong; content that is shorter than its length says is truncated and marked so.

use super::make::{self, Message};
use super::{ENTRY_BYTES_MAX, FIELDS_MAX};
use crate::http1::chunked;
use crate::record::entry::field;
use crate::record::{Entry, Field, RequestHead, ResponseHead, Side};
use crate::svc::Version;
use bytes::Bytes;

/// What was read.
pub(super) struct Read<H> {
    pub message: Message<H>,
    pub version: Version,
}

fn fields(raw: &Bytes, parsed: &[httparse::Header<'_>]) -> Vec<Field> {
    let one = |header: &httparse::Header<'_>| {
        Field::new(raw.slice_ref(header.name.as_bytes()), raw.slice_ref(header.value))
    };
    parsed.iter().map(one).collect()
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

fn why(error: httparse::Error) -> String {
    format!("no head of HTTP/1: {error}")
}

const INCOMPLETE: &str = "the head has no end";

/// Reads a request.
pub(super) fn request(raw: &Bytes) -> Result<Read<RequestHead>, String> {
    let mut room = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut room);
    let httparse::Status::Complete(at) = parsed.parse(raw).map_err(why)? else {
        return Err(INCOMPLETE.into());
    };
    let mut head = RequestHead {
        method: Bytes::copy_from_slice(parsed.method.unwrap_or_default().as_bytes()),
        scheme: Bytes::from_static(b"http"),
        target: Bytes::copy_from_slice(parsed.path.unwrap_or_default().as_bytes()),
        fields: fields(raw, parsed.headers),
        ..RequestHead::default()
    };
    let version = version(parsed.version);
    let framing = head_fields(&mut head.fields);
    head.authority = framing.host.clone();
    let message = content(&framing, raw.slice(at..), false)?;
    // The absolute form, as proxies get it.
    let target = head.target.clone();
    if let Some((scheme, authority, target)) = std::str::from_utf8(&target).ok().and_then(make::split_url) {
        head.scheme = Bytes::copy_from_slice(scheme.as_bytes());
        head.authority = Bytes::copy_from_slice(authority.as_bytes());
        head.target = if target.is_empty() { "/".into() } else { Bytes::copy_from_slice(target.as_bytes()) };
    }
    let is_upgrade = field(&head.fields, b"connection")
        .is_some_and(|value| value.to_ascii_lowercase().windows(7).any(|part| part == b"upgrade"));
    if is_upgrade && let Some(protocol) = field(&head.fields, b"upgrade") {
        head.upgrade = Bytes::copy_from_slice(protocol);
    }
    Ok(Read { message: message.with(head), version })
}

/// Reads the final answer to a request; interim ones are passed over.
pub(super) fn response(raw: &Bytes, is_head: bool) -> Result<Read<ResponseHead>, String> {
    let mut raw = raw.clone();
    loop {
        let mut room = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut room);
        let httparse::Status::Complete(at) = parsed.parse(&raw).map_err(why)? else {
            return Err(INCOMPLETE.into());
        };
        let status = parsed.code.unwrap_or_default();
        let rest = raw.slice(at..);
        if (100..200).contains(&status) && status != 101 && !rest.is_empty() {
            raw = rest;
            continue;
        }
        let mut head = ResponseHead { status, fields: fields(&raw, parsed.headers) };
        let version = version(parsed.version);
        let has_content = !is_head && status >= 200 && !matches!(status, 204 | 304);
        let message = content(&head_fields(&mut head.fields), rest, !has_content)?;
        return Ok(Read { message: message.with(head), version });
    }
}

/// How the content is framed, taken out of a head.
struct Framing {
    host: Bytes,
    is_chunked: bool,
    length: Option<u64>,
}

/// `host` and the transfer coding are not fields of an entry.
fn head_fields(fields: &mut Vec<Field>) -> Framing {
    let host = fields.iter().find(|field| field.is(b"host")).map(|field| field.value.clone());
    let is_chunked = fields.iter().any(|field| {
        field.is(b"transfer-encoding") && field.value.to_ascii_lowercase().ends_with(b"chunked")
    });
    let length = field(fields, b"content-length")
        .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    fields.retain(|field| !(field.is(b"host") || is_chunked && field.is(b"transfer-encoding")));
    Framing { host: host.unwrap_or_default(), is_chunked, length }
}

/// Content and what is behind it.
struct Rest {
    body: Bytes,
    bytes: u64,
    is_truncated: bool,
    trailers: Vec<Field>,
}

impl Rest {
    fn with<H>(self, head: H) -> Message<H> {
        Message {
            head,
            body: self.body,
            bytes: self.bytes,
            is_truncated: self.is_truncated,
            trailers: self.trailers,
            head_ns: 0,
            end_ns: 0,
        }
    }
}

fn content(framing: &Framing, rest: Bytes, is_none: bool) -> Result<Rest, String> {
    let mut out = Rest { body: Bytes::new(), bytes: 0, is_truncated: false, trailers: Vec::new() };
    if is_none {
        return Ok(out);
    }
    match (framing.is_chunked, framing.length) {
        // GoReplay's middleware and others may have stored it decoded already.
        (true, _) if is_chunk(&rest) => {
            let (body, trailers, is_whole) = dechunk(&rest)?;
            out.bytes = body.len() as u64;
            (out.body, out.trailers, out.is_truncated) = (body.into(), trailers, !is_whole);
        }
        (false, Some(length)) => {
            let there = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
            out.body = rest.slice(..there);
            (out.bytes, out.is_truncated) = (length, (there as u64) < length);
        }
        _ => {
            out.bytes = rest.len() as u64;
            out.body = rest;
        }
    }
    Ok(out)
}

/// Whether it begins as a chunk does.
fn is_chunk(bytes: &[u8]) -> bool {
    let line = bytes.get(..bytes.len().min(64)).unwrap_or_default();
    let end = memchr::memchr(b'\n', line).unwrap_or(line.len());
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    digits > 0
        && digits <= 16
        && matches!(line.get(digits), Some(b'\r' | b'\n' | b';' | b' ') | None)
        && digits <= end
}

/// The content of chunks, the trailers, and whether its end was there.
fn dechunk(bytes: &[u8]) -> Result<(Vec<u8>, Vec<Field>, bool), String> {
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len().min(ENTRY_BYTES_MAX)), bytes);
    loop {
        let Some(end) = memchr::memchr(b'\n', rest) else { return Ok((out, Vec::new(), false)) };
        let line = rest.get(..end).unwrap_or_default();
        let digits = line.split(|byte| matches!(byte, b';' | b'\r' | b' ')).next().unwrap_or_default();
        let size = std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let size = size.ok_or("the chunked content is broken")?;
        rest = rest.get(end + 1..).unwrap_or_default();
        if size == 0 {
            break;
        }
        let Some(part) = rest.get(..size) else {
            out.extend_from_slice(rest);
            return Ok((out, Vec::new(), false));
        };
        out.extend_from_slice(part);
        rest = rest.get(size..).unwrap_or_default();
        rest = rest.strip_prefix(b"\r").unwrap_or(rest);
        rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    }
    let mut room = vec![httparse::EMPTY_HEADER; 64];
    let trailers = match httparse::parse_headers(rest, &mut room) {
        Ok(httparse::Status::Complete((_, headers))) => headers
            .iter()
            .filter(|header| chunked::is_allowed_trailer(header.name.as_bytes()))
            .map(|header| Field::new(header.name.as_bytes().to_vec(), header.value.to_vec()))
            .collect(),
        _ => Vec::new(),
    };
    Ok((out, trailers, true))
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

/// Fields as they were, but for those that frame the content; then the length, as it was when all was there.
fn put_fields(out: &mut Vec<u8>, fields: &[Field], length: Option<u64>) {
    for field in fields {
        if !field.is(b"transfer-encoding") && !field.is(b"content-length") && !field.is(b"host") {
            line(out, &[&field.name, b": ", &field.value]);
        }
    }
    if let Some(length) = length {
        line(out, &[b"Content-Length: ", length.to_string().as_bytes()]);
    }
    out.extend_from_slice(b"\r\n");
}

fn is_writable(fields: &[Field]) -> bool {
    fields.iter().all(|field| make::is_name(&field.name) && make::is_value(&field.value))
}

/// The request as HTTP/1.1 would have it; `None` if that cannot be.
pub(super) fn write_request(entry: &Entry) -> Option<Vec<u8>> {
    let head = entry.request_head()?;
    let is_plain =
        make::is_name(&head.method) && make::is_word(&head.target) && make::is_word(&head.authority);
    if !is_plain || !is_writable(&head.fields) {
        return None;
    }
    let mut out = Vec::new();
    let target: &[u8] = if head.target.is_empty() { b"/" } else { &head.target };
    let version: &[u8] = if entry.version == Version::Http10 { b" HTTP/1.0" } else { b" HTTP/1.1" };
    line(&mut out, &[&head.method, b" ", target, version]);
    if !head.authority.is_empty() {
        line(&mut out, &[b"Host: ", &head.authority]);
    }
    let has_length = field(&head.fields, b"content-length").is_some();
    let is_tunnel = entry.is_tunnel();
    let has_content = !is_tunnel && (entry.request.bytes > 0 || has_length);
    let body = if is_tunnel { Bytes::new() } else { entry.body(Side::Request) };
    put_fields(&mut out, &head.fields, has_content.then(|| entry.request.bytes.max(body.len() as u64)));
    out.extend_from_slice(&body);
    Some(out)
}

/// The final answer as HTTP/1.1 would have it; `None` if there is none, or it cannot be.
pub(super) fn write_response(entry: &Entry) -> Option<Vec<u8>> {
    let head = entry.response_head().filter(|head| is_writable(&head.fields))?;
    let mut out = Vec::new();
    let reason = http::StatusCode::from_u16(head.status).ok().and_then(|status| status.canonical_reason());
    let status = format!("HTTP/1.1 {} {}", head.status, reason.unwrap_or_default());
    line(&mut out, &[status.as_bytes()]);
    let body = if entry.is_tunnel() { Bytes::new() } else { entry.body(Side::Response) };
    let recorded = field(&head.fields, b"content-length")
        .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse::<u64>().ok());
    let is_head = entry.request_head().is_some_and(|head| head.method == "HEAD");
    let length = match head.status {
        100..200 | 204 => None,
        304 => recorded,
        _ if is_head => recorded,
        _ => Some(entry.response.bytes.max(body.len() as u64)),
    };
    put_fields(&mut out, &head.fields, length);
    out.extend_from_slice(&body);
    Some(out)
}
