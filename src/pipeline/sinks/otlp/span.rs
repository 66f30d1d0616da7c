//! An exchange, or a further attempt of one, as an OTLP `Span`.
//!
//! Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto`; the rules for names, kinds and status are the
//! semantic conventions' for HTTP and gRPC spans (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).
//! How it fails: an event without ids or a time is no span, and is passed over.

use super::clock::{Clock, span_nanos};
use super::proto;
use super::resource::Known;
use crate::pipeline::event::{self, Text, Value};

/// `Span`'s fields.
mod field {
    pub(super) const TRACE_ID: u8 = 1;
    pub(super) const SPAN_ID: u8 = 2;
    pub(super) const PARENT_SPAN_ID: u8 = 4;
    pub(super) const NAME: u8 = 5;
    pub(super) const KIND: u8 = 6;
    pub(super) const START: u8 = 7;
    pub(super) const END: u8 = 8;
    pub(super) const ATTRIBUTES: u8 = 9;
    pub(super) const LINKS: u8 = 13;
    pub(super) const STATUS: u8 = 15;
    pub(super) const FLAGS: u8 = 16;
}

/// `SpanKind`.
const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// `SpanFlags`: whether the parent is remote is known, and it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// Most links of one span, as OpenTelemetry's SDKs bound them.
const LINKS_MAX: usize = 128;

/// What an event became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It was written.
    Written,
    /// It has no form here: not sampled, without ids.
    Nothing,
    /// It is not a JSON object.
    Malformed,
}

/// What is kept between events.
#[derive(Default)]
pub(super) struct Tools {
    pub(super) clock: Clock,
    pub(super) scratch: Vec<u8>,
}

/// What is not written at once.
#[derive(Default)]
struct Found<'a> {
    trace_id: Option<[u8; 16]>,
    span_id: Option<[u8; 8]>,
    parent_id: Option<[u8; 8]>,
    is_sampled: bool,
    is_kept: bool,
    is_grpc: bool,
    is_error: bool,
    kind: u64,
    start: u64,
    duration: u64,
    name: Option<Text<'a>>,
    method: Option<Text<'a>>,
    route: Option<Text<'a>>,
    path: Option<Text<'a>>,
    detail: Option<Text<'a>>,
    links: Option<&'a [u8]>,
}

/// Appends the event as field `spans` of `ScopeSpans`. What is not written leaves `out` as it was.
pub(super) fn write(out: &mut Vec<u8>, tools: &mut Tools, known: &Known, payload: &[u8]) -> Became {
    let before = out.len();
    let span = proto::open(out, 2);
    let mut found = Found { kind: INTERNAL, ..Found::default() };
    let mut members = event::members(payload);
    for (key, value) in members.by_ref() {
        let name = key.raw();
        if !found.take(name, value, tools) {
            write_attribute(out, &mut tools.scratch, known, name, value);
        }
        if name == b"sampled" && !found.is_sampled && !may_be_kept(payload) {
            out.truncate(before);
            return Became::Nothing;
        }
    }
    let became = match (members.is_whole(), found.trace_id, found.span_id) {
        (false, ..) => Became::Malformed,
        (true, Some(trace_id), Some(span_id)) if (found.is_sampled || found.is_kept) && found.start > 0 => {
            proto::bytes(out, field::TRACE_ID, &trace_id);
            proto::bytes(out, field::SPAN_ID, &span_id);
            Became::Written
        }
        _ => Became::Nothing,
    };
    if became != Became::Written {
        out.truncate(before);
        return became;
    }
    found.finish(out, &mut tools.scratch);
    proto::close(out, span);
    became
}

/// A quick look before a whole event is read for nothing.
fn may_be_kept(payload: &[u8]) -> bool {
    memchr::memmem::find(payload, br#""sidelight.kept.by""#).is_some()
}

impl<'a> Found<'a> {
    /// Takes a member that is (also) something else than an attribute; returns whether it is no attribute.
    #[inline]
    fn take(&mut self, name: &[u8], value: Value<'a>, tools: &mut Tools) -> bool {
        if let Some(own) = name.strip_prefix(b"sidelight.") {
            match own {
                b"direction" => {
                    self.kind = if value.text().is_some_and(|text| text.raw() == b"inbound") {
                        SERVER
                    } else {
                        CLIENT
                    };
                }
                b"duration_ms" => self.duration = span_nanos(value.number().unwrap_or(0.0)),
                b"detail" => self.detail = value.text(),
                b"kept.by" => self.is_kept = true,
                b"links" => {
                    if let Value::Array(links) = value {
                        self.links = Some(links);
                    }
                    return true;
                }
                b"labels" => return true,
                _ => {}
            }
            return false;
        }
        // Half of the other names are told apart by their first letter.
        if !matches!(
            name.first(),
            Some(b's' | b'i' | b't' | b'p' | b'k' | b'n' | b'd' | b'h' | b'u' | b'e' | b'r')
        ) {
            return false;
        }
        match name {
            b"schema" | b"id" => {}
            b"timestamp" => self.start = value.text().map_or(0, |text| tools.clock.nanos(text.raw())),
            b"trace_id" => self.trace_id = hex(value),
            b"span_id" => self.span_id = hex(value),
            b"parent_id" => self.parent_id = hex(value),
            b"sampled" => self.is_sampled = value == Value::Bool(true),
            b"kind" => {
                self.kind = match value.text().map(Text::raw) {
                    Some(b"client") => CLIENT,
                    Some(b"server") => SERVER,
                    _ => INTERNAL,
                };
            }
            b"name" => self.name = value.text(),
            b"duration_ms" => self.duration = span_nanos(value.number().unwrap_or(0.0)),
            b"http.request.method" => {
                self.method = value.text();
                return false;
            }
            b"http.route" => {
                self.route = value.text();
                return false;
            }
            b"url.path" => {
                self.path = value.text();
                return false;
            }
            b"error.type" => {
                self.is_error = true;
                return false;
            }
            b"rpc.system.name" => {
                self.is_grpc = value.text().is_some_and(|text| text.raw() == b"grpc");
                return false;
            }
            _ => return false,
        }
        true
    }

    fn finish(&self, out: &mut Vec<u8>, scratch: &mut Vec<u8>) {
        let mut flags = u32::from(self.is_sampled) | HAS_IS_REMOTE;
        if let Some(parent) = &self.parent_id {
            proto::bytes(out, field::PARENT_SPAN_ID, parent);
            // The parent of a further attempt, which alone has a name of its own, is the exchange.
            if self.name.is_none() {
                flags |= IS_REMOTE;
            }
        }
        proto::fixed32(out, field::FLAGS, flags);
        proto::number(out, field::KIND, self.kind);
        proto::fixed64(out, field::START, self.start);
        proto::fixed64(out, field::END, self.start.saturating_add(self.duration));
        scratch.clear();
        self.append_name(scratch);
        proto::bytes(out, field::NAME, scratch);
        if let Some(links) = self.links {
            write_links(out, links);
        }
        if self.is_error {
            let status = proto::open(out, field::STATUS);
            if let Some(detail) = self.detail {
                proto::bytes(out, 2, proto::plain(detail, scratch));
            }
            proto::number(out, 3, ERROR);
            proto::close(out, status);
        }
    }

    /// `{method} {route}`, for gRPC `{package}.{service}/{method}`: few names, whatever is asked for.
    fn append_name(&self, name: &mut Vec<u8>) {
        if let Some(own) = self.name {
            return proto::append_plain(own, name);
        }
        if let (true, Some(path)) = (self.is_grpc, self.path) {
            proto::append_plain(path, name);
            if name.first() == Some(&b'/') {
                name.remove(0);
            }
            if !name.is_empty() {
                return;
            }
        }
        match self.method {
            Some(method) if method.raw() != b"_OTHER" => proto::append_plain(method, name),
            _ => name.extend_from_slice(b"HTTP"),
        }
        if let Some(route) = self.route {
            name.push(b' ');
            proto::append_plain(route, name);
        }
    }
}

#[inline]
fn write_attribute(out: &mut Vec<u8>, scratch: &mut Vec<u8>, known: &Known, name: &[u8], value: Value<'_>) {
    let is_of_resource =
        matches!(name, [b's', b'e', b'r', b'v', b'i', ..] | [b'd', b'e', b'p', ..] | [b'c', b'l', b'o', ..]);
    if is_of_resource && value.text().is_some_and(|text| known.has(name, proto::plain(text, scratch))) {
        return;
    }
    let key = renamed(name);
    proto::attribute(out, scratch, field::ATTRIBUTES, key, value);
    if name == b"request_type" && value.text().is_some_and(|text| text.raw() == b"TRACE") {
        proto::text_attribute(out, field::ATTRIBUTES, b"user_agent.synthetic.type", b"test");
    }
}

/// The context fields that OpenTelemetry, or the contract's baggage, has another name for.
pub(super) fn renamed(name: &[u8]) -> &[u8] {
    match name {
        b"user_id" => b"user.id",
        b"account_id" => b"account.id",
        other => other,
    }
}

fn write_links(out: &mut Vec<u8>, links: &[u8]) {
    for link in event::items(links).take(LINKS_MAX) {
        let Value::Object(link) = link else { continue };
        let id = |name| event::member(link, name);
        if let (Some(trace_id), Some(span_id)) =
            (id("trace_id").and_then(hex::<16>), id("span_id").and_then(hex::<8>))
        {
            let open = proto::open(out, field::LINKS);
            proto::bytes(out, 1, &trace_id);
            proto::bytes(out, 2, &span_id);
            proto::close(out, open);
        }
    }
}

/// An id in hex digits; one of zeros only is none.
#[inline]
pub(super) fn hex<const BYTES: usize>(value: Value<'_>) -> Option<[u8; BYTES]> {
    let digits = value.text()?.raw();
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    (bytes != [0; BYTES]).then_some(bytes)
}

#[inline]
fn digit(hex: u8) -> Option<u8> {
    match hex {
        b'0'..=b'9' => Some(hex - b'0'),
        b'a'..=b'f' => Some(hex - b'a' + 10),
        b'A'..=b'F' => Some(hex - b'A' + 10),
        _ => None,
    }
}
