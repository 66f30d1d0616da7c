//! HTTP/2 frames (RFC 9113) as bytes, for a peer that sends any of them.

use crate::hpack;
pub use crate::peer::{Peer, Stream};

/// Frame types (section 6).
pub const DATA: u8 = 0;
/// HEADERS.
pub const HEADERS: u8 = 1;
/// PRIORITY.
pub const PRIORITY: u8 = 2;
/// RST_STREAM.
pub const RST_STREAM: u8 = 3;
/// SETTINGS.
pub const SETTINGS: u8 = 4;
/// PUSH_PROMISE.
pub const PUSH_PROMISE: u8 = 5;
/// PING.
pub const PING: u8 = 6;
/// GOAWAY.
pub const GOAWAY: u8 = 7;
/// WINDOW_UPDATE.
pub const WINDOW_UPDATE: u8 = 8;
/// CONTINUATION.
pub const CONTINUATION: u8 = 9;

/// The flag of DATA and HEADERS that ends the stream, and the one of SETTINGS and PING that acknowledges.
pub const END_STREAM: u8 = 1;
/// The same bit, where it acknowledges.
pub const ACK: u8 = 1;
/// The flag that ends a header block.
pub const END_HEADERS: u8 = 4;
/// The flag of a padded frame.
pub const PADDED: u8 = 8;
/// The flag of a HEADERS frame with a priority.
pub const HAS_PRIORITY: u8 = 0x20;

/// Error codes (section 7) by number, for messages and expectations.
pub mod code {
    /// Not an error.
    pub const NO_ERROR: u32 = 0;
    /// The protocol was broken.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// A defect of the sender.
    pub const INTERNAL_ERROR: u32 = 2;
    /// More was sent than the window allows.
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    /// A frame on a stream that was half closed.
    pub const STREAM_CLOSED: u32 = 5;
    /// A frame of a wrong size.
    pub const FRAME_SIZE_ERROR: u32 = 6;
    /// Nothing was processed: it may be sent again.
    pub const REFUSED_STREAM: u32 = 7;
    /// No longer wanted.
    pub const CANCEL: u32 = 8;
    /// The header block cannot be decoded.
    pub const COMPRESSION_ERROR: u32 = 9;
    /// The peer is abusive.
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// HEADERS with the whole block.
pub fn headers<N: AsRef<[u8]>, V: AsRef<[u8]>>(stream: u32, fields: &[(N, V)], ends_stream: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | u8::from(ends_stream), stream, &hpack::block(fields))
}

/// HEADERS and as many CONTINUATION frames as a frame of 16 KiB makes necessary.
pub fn long_headers<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    stream: u32,
    fields: &[(N, V)],
    ends_stream: bool,
) -> Vec<u8> {
    let block = hpack::block(fields);
    let parts: Vec<&[u8]> = block.chunks(16 * 1024).collect();
    let mut bytes = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let last = if index + 1 == parts.len() { END_HEADERS } else { 0 };
        bytes.extend(match index {
            0 => frame(HEADERS, last | u8::from(ends_stream), stream, part),
            _ => frame(CONTINUATION, last, stream, part),
        });
    }
    bytes
}

/// DATA.
pub fn data(stream: u32, bytes: impl AsRef<[u8]>, ends_stream: bool) -> Vec<u8> {
    frame(DATA, u8::from(ends_stream), stream, bytes.as_ref())
}

/// SETTINGS.
pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in pairs {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// WINDOW_UPDATE.
pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// RST_STREAM.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// GOAWAY.
pub fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// The pseudo-header fields of a request to `app.example`.
pub fn request<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "http"), (":authority", "app.example"), (":path", path)]
}

/// The same and further fields.
pub fn request_with<'a>(
    method: &'a str,
    path: &'a str,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    [&request(method, path), more].concat()
}
