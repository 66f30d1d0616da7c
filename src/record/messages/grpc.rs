//! Length-prefixed messages: a byte of flags, four bytes of length (big endian), the payload.

use super::{Payload, Rest};
use crate::record::Side;
use bytes::Bytes;

/// The flag that gRPC-Web sets where the payload are trailers.
pub const TRAILERS_FLAG: u8 = 0x80;

/// The flag that the payload is compressed, as `grpc-encoding` says.
const COMPRESSED_FLAG: u8 = 1;

/// Bytes before the payload.
const HEAD_BYTES: usize = 5;

/// A message of a gRPC call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcMessage {
    /// Who sent it.
    pub side: Side,
    /// When the piece was there that completed it: nanoseconds since the entry's start.
    pub at_ns: u64,
    /// Where it begins: bytes from the begin of this side's content.
    pub offset: u64,
    /// Whether the payload is compressed, as `grpc-encoding` says.
    pub is_compressed: bool,
    /// Whether the payload are trailers (gRPC-Web).
    pub is_trailers: bool,
    /// How long the payload is, whatever of it was kept.
    pub bytes: u64,
    /// The payload, as it was sent, up to the finder's limit.
    pub payload: Bytes,
}

/// Finds the messages of one side.
#[derive(Debug)]
pub struct GrpcFinder {
    side: Side,
    payload_bytes_max: usize,
    head: [u8; HEAD_BYTES],
    head_len: usize,
    payload: Option<Payload>,
    /// Where the message under way begins.
    offset: u64,
    problem: Option<&'static str>,
}

impl GrpcFinder {
    /// A finder before the first byte of `side`, that keeps `payload_bytes_max` of each message.
    pub fn new(side: Side, payload_bytes_max: usize) -> GrpcFinder {
        GrpcFinder {
            side,
            payload_bytes_max,
            head: [0; HEAD_BYTES],
            head_len: 0,
            payload: None,
            offset: 0,
            problem: None,
        }
    }

    /// Takes the next piece; appends the messages that it completes.
    pub fn push(&mut self, at_ns: u64, piece: &Bytes, out: &mut Vec<GrpcMessage>) {
        let mut piece = piece.clone();
        while self.problem.is_none() {
            if self.payload.is_none() {
                while self.head_len < HEAD_BYTES && !piece.is_empty() {
                    let byte = piece.split_to(1);
                    if let (Some(slot), Some(byte)) = (self.head.get_mut(self.head_len), byte.first()) {
                        *slot = *byte;
                    }
                    self.head_len += 1;
                }
                let [flags, length @ ..] = self.head;
                if self.head_len > 0 && flags & !(COMPRESSED_FLAG | TRAILERS_FLAG) != 0 {
                    self.problem = Some("a message begins with flags that gRPC does not have");
                    return;
                }
                if self.head_len < HEAD_BYTES {
                    return;
                }
                self.payload = Some(Payload::new(u32::from_be_bytes(length).into(), self.payload_bytes_max));
            }
            let Some(mut payload) = self.payload.take() else { return };
            if !payload.take(&mut piece) {
                self.payload = Some(payload);
                return;
            }
            let (bytes, [flags, ..]) = (payload.bytes, self.head);
            out.push(GrpcMessage {
                side: self.side,
                at_ns,
                offset: self.offset,
                is_compressed: flags & COMPRESSED_FLAG != 0,
                is_trailers: flags & TRAILERS_FLAG != 0,
                bytes,
                payload: payload.into_bytes(),
            });
            self.offset += HEAD_BYTES as u64 + bytes;
            self.head_len = 0;
        }
    }

    /// What was not a whole message when the content ended.
    pub fn rest(&self) -> Rest {
        let missing = self.payload.as_ref().map(|payload| payload.left);
        let there = self.payload.as_ref().map_or(0, |payload| payload.bytes - payload.left);
        Rest { offset: self.offset, bytes: self.head_len as u64 + there, missing, problem: self.problem }
    }
}
