//! gRPC messages and WebSocket frames, found in recorded content.
//!
//! What: a recording holds content in the pieces in which it came; these finders are given the pieces one after the other
//! and say which messages ended in them. Why not at recording time: what was sent is what is kept, so that a finder's
//! fault costs nothing. Sources: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>,
//! <https://www.rfc-editor.org/rfc/rfc6455#section-5.2>, <https://www.rfc-editor.org/rfc/rfc7692>.
//! How it fails: at bytes that are no message a finder stops, and its [`Rest`] says where and why. A finder keeps at most
//! the payload that it was told to keep; the length of a longer one is still told.

mod grpc;
mod websocket;

#[cfg(test)]
mod tests;

pub use grpc::{GrpcFinder, GrpcMessage, TRAILERS_FLAG};
pub use websocket::{Frame, FrameFinder, Opcode, put_frame};

use super::{Event, Side, What};
use bytes::Bytes;

/// The most of a payload that is kept, unless told otherwise: 64 MiB, the largest entry.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// What is left when the content ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Where the incomplete message begins: bytes from the begin of this side's content.
    pub offset: u64,
    /// How much of it is there; 0: the content ended with a message.
    pub bytes: u64,
    /// How many bytes of its payload are missing, if its head is there.
    pub missing: Option<u64>,
    /// What was wrong, if the bytes at `offset` are no message. What followed was not looked at.
    pub problem: Option<&'static str>,
}

impl Rest {
    /// Whether the content ended with a message.
    pub fn is_none(&self) -> bool {
        self.bytes == 0 && self.problem.is_none()
    }
}

/// All that was found in the events of an entry, in the order in which it was complete.
#[derive(Clone, Debug)]
pub struct Found<M> {
    /// The messages.
    pub messages: Vec<M>,
    /// What was left of the request's content.
    pub request_rest: Rest,
    /// What was left of the answer's content.
    pub response_rest: Rest,
}

/// The pieces of content among events, with their sides and times.
fn content<'a>(events: impl IntoIterator<Item = &'a Event>) -> impl Iterator<Item = (Side, u64, &'a Bytes)> {
    events.into_iter().filter_map(|event| match &event.what {
        What::Data(side, piece) => Some((*side, event.at_ns, piece)),
        _ => None,
    })
}

/// The gRPC messages of a call. `payload_bytes_max` of each are kept.
pub fn grpc_messages<'a>(
    events: impl IntoIterator<Item = &'a Event>,
    payload_bytes_max: usize,
) -> Found<GrpcMessage> {
    let mut request = GrpcFinder::new(Side::Request, payload_bytes_max);
    let mut response = GrpcFinder::new(Side::Response, payload_bytes_max);
    let mut messages = Vec::new();
    for (side, at_ns, piece) in content(events) {
        match side {
            Side::Request => request.push(at_ns, piece, &mut messages),
            Side::Response => response.push(at_ns, piece, &mut messages),
        }
    }
    Found { messages, request_rest: request.rest(), response_rest: response.rest() }
}

/// The WebSocket frames of a tunnel. `payload_bytes_max` of each are kept.
pub fn frames<'a>(events: impl IntoIterator<Item = &'a Event>, payload_bytes_max: usize) -> Found<Frame> {
    let mut request = FrameFinder::new(Side::Request, payload_bytes_max);
    let mut response = FrameFinder::new(Side::Response, payload_bytes_max);
    let mut messages = Vec::new();
    for (side, at_ns, piece) in content(events) {
        match side {
            Side::Request => request.push(at_ns, piece, &mut messages),
            Side::Response => response.push(at_ns, piece, &mut messages),
        }
    }
    Found { messages, request_rest: request.rest(), response_rest: response.rest() }
}

/// Gathers a payload of known length out of pieces. One that is whole in a piece is not copied.
#[derive(Debug, Default)]
struct Payload {
    /// How long it is.
    bytes: u64,
    /// How much of it is to come.
    left: u64,
    /// The most of it that is kept.
    kept_max: usize,
    shared: Bytes,
    copied: Vec<u8>,
}

impl Payload {
    fn new(bytes: u64, kept_max: usize) -> Payload {
        Payload { bytes, left: bytes, kept_max, ..Payload::default() }
    }

    /// Takes what belongs to it from the begin of `piece`; whether it is complete.
    fn take(&mut self, piece: &mut Bytes) -> bool {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece.len());
        let is_first = self.left == self.bytes;
        self.left -= len as u64;
        let mut part = piece.split_to(len);
        part.truncate(self.kept_max.saturating_sub(self.copied.len()));
        if is_first && self.left == 0 {
            self.shared = part;
        } else {
            self.copied.extend_from_slice(&part);
        }
        self.left == 0
    }

    /// What was kept.
    fn into_bytes(self) -> Bytes {
        if self.copied.is_empty() { self.shared } else { self.copied.into() }
    }
}
