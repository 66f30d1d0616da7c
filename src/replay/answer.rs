//! What a target answered to a replayed request.

use crate::record::Field;
use bytes::Bytes;

/// See the module. Times are nanoseconds since the replay's start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The status; 0 when there was no answer.
    pub status: u16,
    /// Fields in their order.
    pub fields: Vec<Field>,
    /// Trailers in their order.
    pub trailers: Vec<Field>,
    /// The content, up to the replay's limit.
    pub body: Bytes,
    /// How long the content was.
    pub body_bytes: u64,
    /// Why there was no answer, or not all of it: `connect`, `timeout`, `reset`, `protocol`, `cancelled` …; `None`: complete.
    pub error: Option<String>,
    /// When the request was to be sent.
    pub intended_ns: u64,
    /// When its first byte was sent.
    pub sent_ns: u64,
    /// When the answer's head was there; 0 without one.
    pub first_byte_ns: u64,
    /// When the last byte was there, or it was given up.
    pub ended_ns: u64,
}
