//! Where in an entry's message things are: a walk that reads no more than it must.

use crate::record::entry::number as n;
use std::ops::Range;

/// An event in a message; places are offsets.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) kind: u64,
    /// 0: of the request.
    pub(super) side: usize,
    /// With its tag and length.
    pub(super) whole: Range<usize>,
    /// Its message.
    pub(super) event: Range<usize>,
    /// Where the tag of its content is.
    pub(super) data_tag: usize,
    pub(super) data: Range<usize>,
    pub(super) at_ns: u64,
}

/// How content is coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Coding {
    #[default]
    Identity,
    Gzip,
    Deflate,
    Zstd,
    /// It cannot be read.
    Unknown,
}

/// What content is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Other,
    Json,
    Form,
    Multipart,
    Binary,
    Grpc,
}

/// What a head says about its content.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) coding: Coding,
    pub(super) kind: Kind,
    /// How messages of gRPC are compressed, those that say that they are.
    pub(super) grpc_coding: Coding,
    pub(super) is_websocket: bool,
    /// It is lines, each for itself.
    pub(super) is_lines: bool,
    pub(super) status: u64,
}

impl Told {
    /// Learns from a field.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-encoding") || name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_framing =
                value.eq_ignore_ascii_case(b"chunked") || value.eq_ignore_ascii_case(b"identity");
            let coding = match value.to_ascii_lowercase().as_slice() {
                _ if is_framing || value.is_empty() => return,
                b"gzip" | b"x-gzip" => Coding::Gzip,
                b"deflate" => Coding::Deflate,
                b"zstd" => Coding::Zstd,
                _ => Coding::Unknown,
            };
            self.coding = if self.coding == Coding::Identity { coding } else { Coding::Unknown };
        } else if name.eq_ignore_ascii_case(b"grpc-encoding") {
            self.grpc_coding = match value.to_ascii_lowercase().as_slice() {
                b"identity" => Coding::Identity,
                b"gzip" => Coding::Gzip,
                b"deflate" => Coding::Deflate,
                b"zstd" => Coding::Zstd,
                _ => Coding::Unknown,
            };
        } else if name.eq_ignore_ascii_case(b"content-type") {
            let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let essence = essence.to_ascii_lowercase();
            let lines: [&[u8]; 4] = [b"/x-ndjson", b"/jsonl", b"/json-seq", b"/event-stream"];
            self.is_lines = lines.iter().any(|end| essence.ends_with(end));
            self.kind = match essence.as_slice() {
                b"application/x-www-form-urlencoded" => Kind::Form,
                b"application/grpc-web-text" | b"application/grpc-web-text+proto" => {
                    self.coding = Coding::Unknown; // base64
                    Kind::Grpc
                }
                e if e.starts_with(b"multipart/") => Kind::Multipart,
                e if e.ends_with(b"/json") || e.ends_with(b"+json") || e.ends_with(b"/x-ndjson") => {
                    Kind::Json
                }
                e if e.ends_with(b"/json-seq") || e.ends_with(b"/jsonl") => Kind::Json,
                e if e.starts_with(b"application/grpc") => Kind::Grpc,
                e if e.ends_with(b"protobuf") || e.ends_with(b"/octet-stream") || e.ends_with(b"msgpack") => {
                    Kind::Binary
                }
                _ => Kind::Other,
            };
        }
    }
}

/// A varint at `at`, and what is behind it.
#[inline]
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let first = *bytes.get(at)?;
    if first < 0x80 {
        return Some((first.into(), at + 1));
    }
    if let Some(four) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let word = u32::from_le_bytes(*four);
        if word & 0x8080_8080 == 0x0080_8080 {
            let len = word & 0x7f | word >> 1 & 0x3f80 | word >> 2 & 0x1f_c000 | word >> 3 & 0xfe0_0000;
            return Some((len.into(), at + 4));
        }
    }
    let rest = bytes.get(at..)?;
    let (value, after) = crate::record::wire::varint(rest)?;
    Some((value, at + rest.len() - after.len()))
}

/// A field at `at`: its number, its bytes (of a number: the number as the start of an empty range), and the next one.
#[inline]
pub(super) fn each_field(bytes: &[u8], at: usize, end: usize) -> Option<(u32, Range<usize>, usize)> {
    let (tag, at) = varint(bytes, at)?;
    let number = u32::try_from(tag >> 3).ok()?;
    let (range, next) = match tag & 7 {
        0 => {
            let (value, next) = varint(bytes, at)?;
            let value = usize::try_from(value).unwrap_or(usize::MAX);
            (value..value, next)
        }
        1 => (0..0, at + 8),
        2 => {
            let (len, at) = varint(bytes, at)?;
            let next = at.checked_add(usize::try_from(len).ok()?)?;
            (at..next, next)
        }
        5 => (0..0, at + 4),
        _ => return None,
    };
    (number > 0 && next <= end && next <= bytes.len()).then_some((number, range, next))
}

/// Finds the events of a message, and returns where its other fields are and how many redactions it tells of; `None`:
/// it is malformed.
pub(super) fn walk(message: &[u8], pieces: &mut Vec<Piece>) -> Option<(Range<usize>, u64)> {
    let mut texts = message.len()..message.len();
    let mut redactions = 0;
    let mut at = 0;
    while at < message.len() {
        let (number, value, next) = each_field(message, at, message.len())?;
        match number {
            n::EVENT => pieces.push(piece(message, at..next, value)?),
            _ => {
                texts.start = texts.start.min(at);
                if number == n::REDACTIONS {
                    redactions = value.start as u64;
                }
            }
        }
        at = next;
    }
    Some((texts, redactions))
}

fn piece(message: &[u8], whole: Range<usize>, event: Range<usize>) -> Option<Piece> {
    let mut piece = Piece { kind: 0, side: 0, whole, event, data_tag: 0, data: 0..0, at_ns: 0 };
    let mut at = piece.event.start;
    while at < piece.event.end {
        let (number, value, next) = each_field(message, at, piece.event.end)?;
        match number {
            n::AT => piece.at_ns = value.start as u64,
            n::KIND => {
                piece.kind = value.start as u64;
                if piece.kind == n::KIND_REQUEST || piece.kind == n::KIND_RESPONSE {
                    piece.side = usize::from(piece.kind == n::KIND_RESPONSE);
                    return Some(piece);
                }
            }
            n::SIDE => piece.side = usize::from(value.start == 1),
            n::DATA => (piece.data_tag, piece.data) = (at, value),
            _ => {}
        }
        at = next;
    }
    Some(piece)
}
