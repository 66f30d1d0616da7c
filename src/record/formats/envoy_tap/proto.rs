//! `TraceWrapper` in Protocol Buffers' wire format.

use super::{Body, Message, Piece, Trace};
use crate::record::Field;
use crate::record::wire::{Fields, Value};
use bytes::Bytes;

/// Reads a wrapper; `None` if these bytes are none.
pub(super) fn trace(raw: &Bytes) -> Option<Trace> {
    let mut found = None;
    for field in Fields::new(raw) {
        found = match field.ok()? {
            (1, value) => Some(buffered(raw, value.bytes())?),
            (2, value) => Some(segment(raw, value.bytes())?),
            (3 | 4, _) => Some(Trace::Socket),
            _ => found,
        };
    }
    found
}

fn shared(raw: &Bytes, value: Value<'_>) -> Bytes {
    match value.bytes() {
        [] => Bytes::new(),
        bytes => raw.slice_ref(bytes),
    }
}

fn buffered(raw: &Bytes, bytes: &[u8]) -> Option<Trace> {
    let (mut request, mut response, mut peer) = (Message::default(), None, String::new());
    for field in Fields::new(bytes) {
        match field.ok()? {
            (1, value) => request = message(raw, value.bytes())?,
            (2, value) => response = Some(message(raw, value.bytes())?),
            (3, value) => peer = remote(value.bytes()).unwrap_or_default(),
            _ => {}
        }
    }
    Some(Trace::Buffered { request, response, peer })
}

fn segment(raw: &Bytes, bytes: &[u8]) -> Option<Trace> {
    let (mut id, mut piece) = (0, None);
    for field in Fields::new(bytes) {
        piece = match field.ok()? {
            (1, value) => {
                id = value.number();
                piece
            }
            (2, value) => Some(Piece::RequestHeaders(map(raw, value.bytes())?)),
            (3, value) => Some(Piece::RequestBody(body(raw, value.bytes())?)),
            (4, value) => Some(Piece::RequestTrailers(map(raw, value.bytes())?)),
            (5, value) => Some(Piece::ResponseHeaders(map(raw, value.bytes())?)),
            (6, value) => Some(Piece::ResponseBody(body(raw, value.bytes())?)),
            (7, value) => Some(Piece::ResponseTrailers(map(raw, value.bytes())?)),
            _ => piece,
        };
    }
    Some(Trace::Segment { id, piece: piece? })
}

fn message(raw: &Bytes, bytes: &[u8]) -> Option<Message> {
    let mut out = Message::default();
    for field in Fields::new(bytes) {
        match field.ok()? {
            (1, value) => out.headers.push(header(raw, value.bytes())?),
            (2, value) => out.body = body(raw, value.bytes())?,
            (3, value) => out.trailers.push(header(raw, value.bytes())?),
            (4, value) => out.received_ns = timestamp(value.bytes())?,
            _ => {}
        }
    }
    Some(out)
}

fn map(raw: &Bytes, bytes: &[u8]) -> Option<Vec<Field>> {
    let mut out = Vec::new();
    for field in Fields::new(bytes) {
        if let (1, value) = field.ok()? {
            out.push(header(raw, value.bytes())?);
        }
    }
    Some(out)
}

/// A `HeaderValue`: the value is text, or bytes where it was none.
fn header(raw: &Bytes, bytes: &[u8]) -> Option<Field> {
    let mut out = Field::default();
    for field in Fields::new(bytes) {
        match field.ok()? {
            (1, value) => out.name = shared(raw, value),
            (2 | 3, value) if !value.bytes().is_empty() => out.value = shared(raw, value),
            _ => {}
        }
    }
    Some(out)
}

fn body(raw: &Bytes, bytes: &[u8]) -> Option<Body> {
    let mut out = Body::default();
    for field in Fields::new(bytes) {
        match field.ok()? {
            (1 | 2, value) => out.bytes = shared(raw, value),
            (3, value) => out.is_truncated = value.number() != 0,
            _ => {}
        }
    }
    Some(out)
}

fn timestamp(bytes: &[u8]) -> Option<u64> {
    let (mut seconds, mut nanos) = (0u64, 0);
    for field in Fields::new(bytes) {
        match field.ok()? {
            (1, value) => seconds = value.number(),
            (2, value) => nanos = value.number(),
            _ => {}
        }
    }
    // Before 1970, and what cannot be, is "not known".
    Some(seconds.checked_mul(1_000_000_000).and_then(|at| at.checked_add(nanos)).unwrap_or(0))
}

/// `Connection.remote_address.socket_address`, as `host:port`.
fn remote(bytes: &[u8]) -> Option<String> {
    let inner = |bytes, wanted| {
        Fields::new(bytes).map_while(Result::ok).find(|(number, _)| *number == wanted).map(|(_, value)| value)
    };
    let socket = inner(inner(bytes, 2)?.bytes(), 1)?.bytes();
    let host = String::from_utf8_lossy(inner(socket, 2)?.bytes()).into_owned();
    Some(format!("{host}:{}", inner(socket, 3)?.number()))
}
