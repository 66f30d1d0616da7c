//! The HTTP/1 wire format: heads and framing, parsed strictly and written plainly. Pure functions over bytes; the
//! server in `protocol` and the client in `connect` put sockets around them.
//!
//! Ambiguity is refused, never repaired (RFC 9112 §6.3, §11.2): Content-Length with Transfer-Encoding, more than one
//! Content-Length, a transfer coding other than a single `chunked`, a bare LF, a folded line. `httparse` splits the
//! lines; everything that a proxy must refuse beyond that is here.

pub mod chunked;
mod head;
mod request;
mod response;
mod write;

pub use request::{Request, parse_request};
pub use response::{Response, parse_interim_or_final};
pub use write::{Content, Persistence, write_interim, write_request, write_response};

/// How many bytes and fields a head may have.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, start line and final empty line included.
    pub head_bytes_max: usize,
    /// Fields.
    pub fields_max: usize,
    /// Bytes of a request's target.
    pub target_bytes_max: usize,
}

/// How the end of a message's content is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no content.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Until the connection closes; responses only.
    Close,
}

/// The largest number of fields any configuration may allow; `httparse` needs room for them up front.
pub const FIELDS_MAX: usize = 1024;

/// Whether a head that was incomplete with `old_len` bytes is worth parsing again: an end of head arrived since.
///
/// Without this, a head that comes byte by byte costs the square of its length.
pub fn may_be_complete(bytes: &[u8], old_len: usize) -> bool {
    let fresh = bytes.get(old_len.saturating_sub(3)..).unwrap_or_default();
    memchr::memchr_iter(b'\n', fresh)
        .any(|at| matches!(fresh.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}
