//! WebSocket frames (RFC 6455): payloads are unmasked, redacted and masked again, in place.
//!
//! Compressed messages (RFC 7692) are decompressed to be looked at. Where something in one is replaced, it and all that come
//! after it are written without compression, which that extension allows for each message, as later ones may point into it.
//!
//! How it fails: what cannot be decompressed, or becomes too large, is withheld; so are other extensions.

use super::coding::{DECODED_BYTES_MAX, FLOOR_BYTES, RATIO_MAX};
use super::json::Wrong;
use flate2::{Decompress, FlushDecompress, Status};
use std::ops::Range;

/// The reserved bit of messages that are compressed.
const COMPRESSED: u8 = 0x40;

struct Frame {
    is_final: bool,
    opcode: u8,
    reserved: u8,
    payload: Payload,
    /// There is less of it than its head says.
    is_cut: bool,
}

struct Payload {
    start: usize,
    end: usize,
    mask: [u8; 4],
    is_masked: bool,
}

impl Payload {
    /// Masks or unmasks.
    fn toggle(&self, bytes: &mut [u8]) {
        if self.mask != [0; 4] {
            let payload = bytes.get_mut(self.start..self.end).unwrap_or_default();
            payload.iter_mut().zip(self.mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
    }
}

/// What is known of one side of a tunnel.
#[derive(Debug, Default)]
pub(super) struct Tunnel {
    /// Of messages that are compressed; its window goes over from one to the next, if the peers agreed on that.
    inflater: Option<Decompress>,
    /// A message was written again, so all that come later are.
    is_rewritten: bool,
}

/// Reads the messages of one side, one after the other.
struct Reader<'r> {
    redact: &'r mut dyn FnMut(&mut [u8]) -> Result<bool, Wrong>,
    tunnel: &'r mut Tunnel,
    joined: Vec<u8>,
    /// What stands for all before `copied`, once a compressed message had to be written again.
    out: Option<Vec<u8>>,
    copied: usize,
}

/// A message of which fragments come.
struct Message {
    opcode: u8,
    is_compressed: bool,
    /// Where its first frame begins.
    start: usize,
    fragments: Vec<Payload>,
    /// Frames about the connection, between its fragments.
    between: Vec<Range<usize>>,
}

/// Calls `redact` with each message, which says whether it changed something; fragments of one are put together, and
/// compressed ones decompressed. What was not compressed is redacted in place. The answer is what stands for all of it, if
/// something in a compressed message was replaced: from that on no message is compressed. What comes later of the same side
/// is given with the same `tunnel`; only its last stretch may end within a message, see [`whole`].
pub(super) fn each_message(
    bytes: &mut [u8],
    tunnel: &mut Tunnel,
    redact: &mut dyn FnMut(&mut [u8]) -> Result<bool, Wrong>,
) -> Result<Option<Vec<u8>>, Wrong> {
    let out = tunnel.is_rewritten.then(Vec::new);
    let mut reader = Reader { redact, tunnel, joined: Vec::new(), out, copied: 0 };
    let mut at = 0;
    let mut message: Option<Message> = None;
    while let Some((frame, next)) = frame(bytes, at) {
        let Frame { is_final, opcode, reserved, payload, is_cut } = frame;
        if reserved & !COMPRESSED != 0 || reserved != 0 && (opcode >= 8 || opcode == 0) {
            return Err(Wrong);
        }
        if opcode >= 8 {
            payload.toggle(bytes);
            let result = (reader.redact)(bytes.get_mut(payload.start..payload.end).unwrap_or_default());
            payload.toggle(bytes);
            result?;
            match &mut message {
                Some(message) => message.between.push(at..next),
                None => reader.copy(bytes, next),
            }
        } else {
            let message = message.get_or_insert_with(|| Message {
                opcode,
                is_compressed: reserved == COMPRESSED,
                start: at,
                fragments: Vec::new(),
                between: Vec::new(),
            });
            message.fragments.push(payload);
        }
        at = next;
        if opcode < 8
            && is_final
            && let Some(message) = message.take()
        {
            reader.message(bytes, message, at, !is_cut)?;
        }
    }
    if let Some(message) = message {
        reader.message(bytes, message, at, false)?;
    }
    // What is left is less than the head of a frame.
    reader.copy(bytes, bytes.len());
    Ok(reader.out)
}

/// How many bytes are whole messages: where the first begins that has not ended.
pub(super) fn whole(bytes: &[u8]) -> usize {
    let (mut at, mut end, mut is_open) = (0, 0, false);
    while let Some((frame, next)) = frame(bytes, at).filter(|(frame, _)| !frame.is_cut) {
        if frame.opcode < 8 {
            is_open = !frame.is_final;
        }
        at = next;
        if !is_open {
            end = at;
        }
    }
    end
}

impl Reader<'_> {
    /// What is before `end` stands for itself.
    fn copy(&mut self, bytes: &[u8], end: usize) {
        if let Some(out) = &mut self.out {
            out.extend_from_slice(bytes.get(self.copied..end).unwrap_or_default());
            self.copied = end;
        }
    }

    /// A message whose last frame ends at `end`.
    fn message(
        &mut self,
        bytes: &mut [u8],
        message: Message,
        end: usize,
        is_whole: bool,
    ) -> Result<(), Wrong> {
        self.joined.clear();
        for payload in &message.fragments {
            payload.toggle(bytes);
            self.joined.extend_from_slice(bytes.get(payload.start..payload.end).unwrap_or_default());
        }
        if message.is_compressed {
            message.fragments.iter().for_each(|payload| payload.toggle(bytes));
            self.inflate(is_whole)?;
            let is_changed = (self.redact)(&mut self.joined)?;
            match (is_changed, is_whole) {
                (true, false) => return Err(Wrong),
                (true, true) => self.rewrite(bytes, &message, end),
                // Once one was written again, those that look back at it must be as well.
                (false, _) if self.out.is_some() => self.rewrite(bytes, &message, end),
                (false, _) => {}
            }
            return Ok(());
        }
        let result = (self.redact)(&mut self.joined);
        let mut rest = self.joined.as_slice();
        for payload in &message.fragments {
            if let Some(slot) = bytes.get_mut(payload.start..payload.end)
                && let Some((piece, after)) = rest.split_at_checked(slot.len())
            {
                slot.copy_from_slice(piece);
                rest = after;
            }
            payload.toggle(bytes);
        }
        self.copy(bytes, end);
        result.map(|_| ())
    }

    /// `joined`, decompressed.
    fn inflate(&mut self, is_whole: bool) -> Result<(), Wrong> {
        let mut packed = std::mem::take(&mut self.joined);
        if is_whole {
            packed.extend_from_slice(&[0, 0, 0xff, 0xff]);
        }
        let most = packed.len().saturating_mul(RATIO_MAX).clamp(FLOOR_BYTES, DECODED_BYTES_MAX);
        let mut plain = Vec::with_capacity((packed.len() * 4).min(FLOOR_BYTES));
        let inflater = self.tunnel.inflater.get_or_insert_with(|| Decompress::new(false));
        let mut rest = packed.as_slice();
        loop {
            if plain.len() == plain.capacity() {
                plain.reserve(16 << 10);
            }
            let (read, written) = (inflater.total_in(), plain.len());
            let status =
                inflater.decompress_vec(rest, &mut plain, FlushDecompress::Sync).map_err(|_| Wrong)?;
            let taken = usize::try_from(inflater.total_in() - read).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            if plain.len() > most {
                return Err(Wrong);
            }
            if status == Status::StreamEnd {
                inflater.reset(false);
                // Of a last block only the end that every message has is left.
                break;
            }
            let is_stuck = taken == 0 && plain.len() == written;
            if plain.len() < plain.capacity() && (rest.is_empty() || is_stuck) {
                if rest.is_empty() {
                    break;
                }
                return Err(Wrong);
            }
        }
        self.joined = plain;
        Ok(())
    }

    /// Writes `joined` as one frame instead of what was there.
    fn rewrite(&mut self, bytes: &[u8], message: &Message, end: usize) {
        self.tunnel.is_rewritten = true;
        let out = self.out.get_or_insert_default();
        out.extend_from_slice(bytes.get(self.copied..message.start).unwrap_or_default());
        for frame in &message.between {
            out.extend_from_slice(bytes.get(frame.clone()).unwrap_or_default());
        }
        let (mask, is_masked) =
            message.fragments.first().map_or(([0; 4], false), |it| (it.mask, it.is_masked));
        out.push(0x80 | message.opcode);
        let bit = if is_masked { 0x80 } else { 0 };
        match self.joined.len() {
            len @ 0..126 => out.push(bit | len as u8),
            len @ 126..0x1_0000 => {
                out.push(bit | 126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(bit | 127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        if is_masked {
            out.extend_from_slice(&mask);
        }
        out.extend(self.joined.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.copied = end;
    }
}

/// The frame at `at`, and where the next one is; a payload that was cut off ends where the bytes end.
fn frame(bytes: &[u8], at: usize) -> Option<(Frame, usize)> {
    let [first, second] = *bytes.get(at..)?.first_chunk::<2>()?;
    let mut start = at + 2;
    let len = match second & 0x7f {
        126 => {
            let len = bytes.get(start..)?.first_chunk::<2>()?;
            start += 2;
            usize::from(u16::from_be_bytes(*len))
        }
        127 => {
            let len = bytes.get(start..)?.first_chunk::<8>()?;
            start += 8;
            usize::try_from(u64::from_be_bytes(*len)).unwrap_or(usize::MAX)
        }
        len => usize::from(len),
    };
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        mask = *bytes.get(start..)?.first_chunk::<4>()?;
        start += 4;
    }
    let whole = start.saturating_add(len);
    let end = whole.min(bytes.len());
    let payload = Payload { start, end, mask, is_masked: second & 0x80 != 0 };
    let (opcode, reserved) = (first & 15, first & 0x70);
    Some((Frame { is_final: first & 0x80 != 0, opcode, reserved, payload, is_cut: end < whole }, end))
}
