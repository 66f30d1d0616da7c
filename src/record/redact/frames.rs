//! WebSocket frames (RFC 6455): payloads are unmasked, redacted and masked again, in place.
//!
//! How it fails: compressed messages (RFC 7692) cannot be read one by one, and are withheld.

use super::json::Wrong;

struct Payload {
    start: usize,
    end: usize,
    mask: [u8; 4],
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

/// Calls `redact` with each message; fragments of one are put together.
pub(super) fn each_message(
    bytes: &mut [u8],
    mut redact: impl FnMut(&mut [u8]) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let mut at = 0;
    let mut fragments: Vec<Payload> = Vec::new();
    let mut joined = Vec::new();
    while let Some((frame, next)) = frame(bytes, at) {
        let (is_final, opcode, is_compressed, payload) = frame;
        at = next;
        if is_compressed {
            return Err(Wrong);
        }
        payload.toggle(bytes);
        if opcode >= 8 || is_final && fragments.is_empty() {
            let result = redact(bytes.get_mut(payload.start..payload.end).unwrap_or_default());
            payload.toggle(bytes);
            result?;
            continue;
        }
        fragments.push(payload);
        if is_final {
            message(bytes, &mut fragments, &mut joined, &mut redact)?;
        }
    }
    if !fragments.is_empty() {
        message(bytes, &mut fragments, &mut joined, &mut redact)?;
    }
    // What is left is less than the head of a frame.
    Ok(())
}

fn message(
    bytes: &mut [u8],
    fragments: &mut Vec<Payload>,
    joined: &mut Vec<u8>,
    redact: &mut impl FnMut(&mut [u8]) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    joined.clear();
    for payload in &*fragments {
        joined.extend_from_slice(bytes.get(payload.start..payload.end).unwrap_or_default());
    }
    let result = redact(joined);
    let mut rest = joined.as_slice();
    for payload in fragments.drain(..) {
        if let Some(slot) = bytes.get_mut(payload.start..payload.end)
            && let Some((piece, after)) = rest.split_at_checked(slot.len())
        {
            slot.copy_from_slice(piece);
            rest = after;
        }
        payload.toggle(bytes);
    }
    result
}

/// The frame at `at`, and where the next one is; a payload that was cut off ends where the bytes end.
fn frame(bytes: &[u8], at: usize) -> Option<((bool, u8, bool, Payload), usize)> {
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
    let end = start.saturating_add(len).min(bytes.len());
    let payload = Payload { start, end, mask };
    Some(((first & 0x80 != 0, first & 15, first & 0x70 != 0, payload), end))
}
