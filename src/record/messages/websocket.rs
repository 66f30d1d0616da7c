//! WebSocket frames, without their masks.

use super::{Payload, Rest};
use crate::record::Side;
use bytes::Bytes;

/// The longest head of a frame: two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of a message.
    Continuation,
    /// A text, or its begin.
    Text,
    /// Bytes, or their begin.
    Binary,
    /// The end.
    Close,
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// One that RFC 6455 reserves.
    Reserved(u8),
}

impl Opcode {
    /// Of the low four bits of a frame's first byte.
    pub fn new(code: u8) -> Opcode {
        match code & 15 {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => Opcode::Reserved(other),
        }
    }

    /// The number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
            Opcode::Reserved(code) => code & 15,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Opcode::Continuation => "continuation",
            Opcode::Text => "text",
            Opcode::Binary => "binary",
            Opcode::Close => "close",
            Opcode::Ping => "ping",
            Opcode::Pong => "pong",
            Opcode::Reserved(_) => "reserved",
        }
    }

    /// Whether it is part of a message, and not about the connection.
    pub fn is_data(self) -> bool {
        matches!(self, Opcode::Continuation | Opcode::Text | Opcode::Binary)
    }
}

/// A WebSocket frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Who sent it.
    pub side: Side,
    /// When the piece was there that completed it: nanoseconds since the entry's start.
    pub at_ns: u64,
    /// Where it begins: bytes from the begin of what this side sent in the tunnel.
    pub offset: u64,
    /// Whether it is the last of its message.
    pub is_final: bool,
    /// Whether its message is compressed (RFC 7692: `permessage-deflate`); the payload is given as it is.
    pub is_compressed: bool,
    /// What it is.
    pub opcode: Opcode,
    /// Whether it was masked.
    pub is_masked: bool,
    /// How long the payload is, whatever of it was kept.
    pub bytes: u64,
    /// The payload without its mask, up to the finder's limit.
    pub payload: Bytes,
}

/// Finds the frames of one side.
#[derive(Debug)]
pub struct FrameFinder {
    side: Side,
    payload_bytes_max: usize,
    head: [u8; HEAD_BYTES_MAX],
    head_len: usize,
    payload: Option<Payload>,
    offset: u64,
    problem: Option<&'static str>,
}

/// The head's length, as far as its first bytes tell.
fn head_bytes(second: u8) -> usize {
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 != 0 { 4 } else { 0 }
}

impl FrameFinder {
    /// A finder before the first byte after the switch of protocols, that keeps `payload_bytes_max` of each frame.
    pub fn new(side: Side, payload_bytes_max: usize) -> FrameFinder {
        FrameFinder {
            side,
            payload_bytes_max,
            head: [0; HEAD_BYTES_MAX],
            head_len: 0,
            payload: None,
            offset: 0,
            problem: None,
        }
    }

    /// Reads the head; `false`: there is more of it to come.
    fn read_head(&mut self, piece: &mut Bytes) -> bool {
        loop {
            let [_, second, ..] = self.head;
            let wanted = if self.head_len < 2 { 2 } else { head_bytes(second) };
            if self.head_len >= wanted && self.head_len >= 2 {
                return true;
            }
            let taken = piece.split_to(piece.len().min(wanted - self.head_len));
            if taken.is_empty() {
                return false;
            }
            if let Some(slot) = self.head.get_mut(self.head_len..self.head_len + taken.len()) {
                slot.copy_from_slice(&taken);
            }
            self.head_len += taken.len();
        }
    }

    /// The payload's length.
    fn length(&self) -> u64 {
        let [_, second, a, b, c, d, e, f, g, h, ..] = self.head;
        match second & 0x7f {
            126 => u16::from_be_bytes([a, b]).into(),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => short.into(),
        }
    }

    /// The mask, which is the end of the head.
    fn mask(&self) -> Option<[u8; 4]> {
        let [_, second, ..] = self.head;
        let mask = self.head.get(self.head_len.checked_sub(4)?..self.head_len)?;
        (second & 0x80 != 0).then(|| mask.try_into().ok())?
    }

    /// Takes the next piece; appends the frames that it completes.
    pub fn push(&mut self, at_ns: u64, piece: &Bytes, out: &mut Vec<Frame>) {
        let mut piece = piece.clone();
        while self.problem.is_none() {
            if self.payload.is_none() {
                if !self.read_head(&mut piece) {
                    return;
                }
                let length = self.length();
                if length > i64::MAX as u64 {
                    self.problem = Some("a frame says that it is longer than a frame can be");
                    return;
                }
                self.payload = Some(Payload::new(length, self.payload_bytes_max));
            }
            let Some(mut payload) = self.payload.take() else { return };
            if !payload.take(&mut piece) {
                self.payload = Some(payload);
                return;
            }
            let (bytes, mask, [first, ..]) = (payload.bytes, self.mask(), self.head);
            let payload = match mask {
                Some(mask) => unmasked(payload.into_bytes(), mask),
                None => payload.into_bytes(),
            };
            out.push(Frame {
                side: self.side,
                at_ns,
                offset: self.offset,
                is_final: first & 0x80 != 0,
                is_compressed: first & 0x40 != 0,
                opcode: Opcode::new(first),
                is_masked: mask.is_some(),
                bytes,
                payload,
            });
            self.offset = self.offset.saturating_add(self.head_len as u64).saturating_add(bytes);
            self.head_len = 0;
        }
    }

    /// What was not a whole frame when the tunnel ended.
    pub fn rest(&self) -> Rest {
        let missing = self.payload.as_ref().map(|payload| payload.left);
        let there = self.payload.as_ref().map_or(0, |payload| payload.bytes - payload.left);
        Rest { offset: self.offset, bytes: self.head_len as u64 + there, missing, problem: self.problem }
    }
}

fn unmasked(payload: Bytes, mask: [u8; 4]) -> Bytes {
    let bytes: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    bytes.into()
}

/// Appends a final frame, masked if there is a mask: what a client sends has to be.
pub fn put_frame(out: &mut Vec<u8>, opcode: Opcode, mask: Option<[u8; 4]>, payload: &[u8]) {
    out.push(0x80 | opcode.code());
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        short @ 0..=125 => out.push(masked | short as u8),
        medium @ 126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(masked | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    match mask {
        Some(mask) => {
            out.extend_from_slice(&mask);
            out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
        None => out.extend_from_slice(payload),
    }
}
