//! WebSocket: what the client sent, frame by frame, each after what had come from the server when it was recorded.
//!
//! Frames are masked afresh (RFC 6455 §5.3 wants masks that nobody can foresee). What the server says is counted, not
//! understood: its frames may differ, their number decides when the next frame is sent. When the recorded client said
//! no close, one is sent at the end. How it fails: a server that says less than it did is waited for until the
//! exchange's time is over.

use super::exchange::{Failure, Kept, Place};
use crate::context::ids::Rng;
use crate::record::{Entry, Side, What};
use crate::replay::Answer;
use bytes::Bytes;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// What clients of one tunnel may have sent; more is not held.
const SENT_BYTES_MAX: usize = 16 << 20;

/// How long the server's close is waited for.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

const CLOSE: u8 = 8;

/// A frame of the client.
#[derive(Debug, PartialEq)]
struct Step {
    at_ns: u64,
    /// Frames of the server that had come before it.
    after: u64,
    frame: Vec<u8>,
    opcode: u8,
}

/// Follows frames without keeping them.
#[derive(Debug, Default)]
struct Counter {
    head: Vec<u8>,
    left: u64,
    frames: u64,
    has_close: bool,
}

/// The length of a frame's head, and of its content, once all of the head is there.
fn frame_head(head: &[u8]) -> Option<(usize, u64)> {
    let second = *head.get(1)?;
    let mask = if second & 0x80 != 0 { 4 } else { 0 };
    let (len, bytes) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(head.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(head.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    (head.len() >= len + mask).then_some((len + mask, bytes))
}

impl Counter {
    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = bytes.get(len..).unwrap_or_default();
                self.left -= len as u64;
                self.frames += u64::from(self.left == 0);
                continue;
            }
            let Some((first, rest)) = bytes.split_first() else { return };
            self.head.push(*first);
            bytes = rest;
            if let Some((_, content)) = frame_head(&self.head) {
                self.has_close |= self.head.first().is_some_and(|byte| byte & 0x0f == CLOSE);
                self.head.clear();
                self.left = content;
                self.frames += u64::from(content == 0);
            }
        }
    }
}

/// Finds the client's frames, and how many the server sent in all.
struct Script {
    steps: Vec<Step>,
    sent: Vec<u8>,
    server: Counter,
    bytes: usize,
}

impl Script {
    fn put(&mut self, what: &What, at_ns: u64, rng: &mut Rng) -> Result<(), Failure> {
        match what {
            What::Data(Side::Response, bytes) => self.server.push(bytes),
            What::Data(Side::Request, bytes) => {
                self.bytes += bytes.len();
                if self.bytes > SENT_BYTES_MAX {
                    return Err("too_large");
                }
                self.sent.extend_from_slice(bytes);
                while let Some((head, content)) = frame_head(&self.sent) {
                    let Some(end) = usize::try_from(content).ok().and_then(|len| head.checked_add(len))
                    else {
                        return Err("malformed_frame");
                    };
                    if end > SENT_BYTES_MAX {
                        return Err("malformed_frame");
                    }
                    if self.sent.len() < end {
                        break;
                    }
                    let rest = self.sent.split_off(end);
                    let frame = std::mem::replace(&mut self.sent, rest);
                    let opcode = frame.first().map_or(0, |byte| byte & 0x0f);
                    let frame = masked(frame, head, rng);
                    self.steps.push(Step { at_ns, after: self.server.frames, frame, opcode });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The frame with a new mask; one that had none gets one.
fn masked(mut frame: Vec<u8>, head: usize, rng: &mut Rng) -> Vec<u8> {
    let new = (rng.next_u64() as u32).to_be_bytes();
    let is_masked = frame.get(1).is_some_and(|byte| byte & 0x80 != 0);
    let mut mask = new;
    if is_masked {
        let place = head - 4;
        for (index, byte) in mask.iter_mut().enumerate() {
            *byte ^= frame.get(place + index).copied().unwrap_or(0);
        }
        if let Some(slot) = frame.get_mut(place..head) {
            slot.copy_from_slice(&new);
        }
        frame.iter_mut().skip(head).zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        return frame;
    }
    if let Some(byte) = frame.get_mut(1) {
        *byte |= 0x80;
    }
    let content = frame.split_off(head);
    frame.extend_from_slice(&new);
    frame.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

async fn script(place: &Rc<Place>, entry: &std::sync::Arc<Entry>) -> Result<Script, Failure> {
    let mut rng = Rng::new(place.settings.dressing.seed ^ entry.sequence);
    let mut script = Script { steps: Vec::new(), sent: Vec::new(), server: Counter::default(), bytes: 0 };
    if entry.parts == 0 {
        for event in &entry.events {
            script.put(&event.what, event.at_ns, &mut rng)?;
        }
        return Ok(script);
    }
    let (source, entry) = (std::sync::Arc::clone(&place.source), std::sync::Arc::clone(entry));
    let reading = tokio::task::spawn_blocking(move || {
        for event in source.events(&entry) {
            let event = event.map_err(|_| "recording")?;
            script.put(&event.what, event.at_ns, &mut rng)?;
        }
        Ok(script)
    });
    reading.await.unwrap_or(Err("recording"))
}

/// Speaks the client's part on a connection that was switched. `ahead` came with the answer's head.
pub(super) async fn replay(
    place: &Rc<Place>,
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ahead: Bytes,
    entry: &std::sync::Arc<Entry>,
    answer: &mut Answer,
) -> Result<(), Failure> {
    let script = script(place, entry).await?;
    let is_cut = super::exchange::Cut::of(entry).is_some();
    let limit = if place.settings.wants_content { place.settings.keep_body_bytes } else { 0 };
    let (mut kept, mut seen) = (Kept::new(limit), Counter::default());
    seen.push(&ahead);
    kept.push(answer, &ahead);
    let mut buffer = vec![0; 16 << 10];
    let since = Instant::now();
    let mut has_closed = false;
    let mut result = Ok(());
    'steps: for step in &script.steps {
        while seen.frames < step.after && !seen.has_close {
            match read(io, &mut buffer, &mut seen, &mut kept, answer).await {
                Ok(true) => {}
                Ok(false) => {
                    result = Err("closed");
                    break 'steps;
                }
                Err(failure) => {
                    result = Err(failure);
                    break 'steps;
                }
            }
        }
        if let Some(speed) = place.settings.piece_speed {
            let due = since + Duration::from_nanos(step.at_ns).div_f64(speed.max(0.01));
            // What comes meanwhile is read, so that the server is never held up.
            while let Ok(read) =
                tokio::time::timeout_at(due, read(io, &mut buffer, &mut seen, &mut kept, answer)).await
            {
                if !matches!(read, Ok(true)) {
                    tokio::time::sleep_until(due).await;
                    break;
                }
            }
        }
        if io.write_all(&step.frame).await.is_err() || io.flush().await.is_err() {
            result = Err("closed");
            break;
        }
        has_closed |= step.opcode == CLOSE;
    }
    if result.is_ok() {
        result = end(io, &mut buffer, &mut seen, &mut kept, answer, &script, has_closed, is_cut).await;
    }
    kept.into_answer(answer);
    result
}

/// What the server still had to say, then the close.
#[allow(clippy::too_many_arguments)] // all of it is the state of `replay`
async fn end(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    buffer: &mut [u8],
    seen: &mut Counter,
    kept: &mut Kept,
    answer: &mut Answer,
    script: &Script,
    has_closed: bool,
    is_cut: bool,
) -> Result<(), Failure> {
    // The server's own close, if it said one, is among the recorded frames.
    let wanted = script.server.frames - u64::from(script.server.has_close && script.server.frames > 0);
    while seen.frames < wanted && !seen.has_close {
        if !read(io, buffer, seen, kept, answer).await? {
            return Err("closed");
        }
    }
    if is_cut {
        return Err("cancelled");
    }
    if !has_closed {
        // Close, 1000, masked with zeros: what is said is no secret.
        let _ = io.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await;
        let _ = io.flush().await;
    }
    let closing = async {
        while !seen.has_close && read(io, buffer, seen, kept, answer).await? {}
        Ok::<(), Failure>(())
    };
    match tokio::time::timeout(CLOSE_WAIT, closing).await {
        // The connection may be reset behind the close: nothing was lost.
        Ok(_) | Err(_) => {}
    }
    let _ = io.shutdown().await;
    Ok(())
}

/// Reads once; `false` at the end.
async fn read(
    io: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    seen: &mut Counter,
    kept: &mut Kept,
    answer: &mut Answer,
) -> Result<bool, Failure> {
    let len = io.read(buffer).await.map_err(|_| "reset")?;
    let bytes = buffer.get(..len).unwrap_or_default();
    seen.push(bytes);
    kept.push(answer, bytes);
    Ok(len > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmasked(frame: &[u8]) -> Vec<u8> {
        let (head, _) = frame_head(frame).unwrap();
        let mask = &frame[head - 4..head];
        frame[head..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
    }

    #[test]
    fn frames_are_found_across_pieces_and_masked_afresh() {
        let mut rng = Rng::new(1);
        let mut script = Script { steps: Vec::new(), sent: Vec::new(), server: Counter::default(), bytes: 0 };
        let frame = masked(vec![0x81, 5, b'h', b'e', b'l', b'l', b'o'], 2, &mut Rng::new(9));
        let (one, two) = frame.split_at(3);
        let put = |script: &mut Script, side, bytes: &[u8], rng: &mut Rng| {
            script.put(&What::Data(side, Bytes::copy_from_slice(bytes)), 5, rng).unwrap();
        };
        put(&mut script, Side::Request, one, &mut rng);
        assert!(script.steps.is_empty());
        put(&mut script, Side::Response, &[0x81, 2, b'h', b'i', 0x81], &mut rng);
        put(&mut script, Side::Response, &[0], &mut rng);
        put(&mut script, Side::Request, two, &mut rng);
        assert_eq!((script.steps.len(), script.steps[0].after, script.steps[0].opcode), (1, 2, 1));
        assert_eq!(unmasked(&script.steps[0].frame), b"hello");
        assert_ne!(script.steps[0].frame, frame);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_followed(pieces: Vec<(bool, Vec<u8>)>) {
            let mut rng = Rng::new(1);
            let mut script = Script { steps: Vec::new(), sent: Vec::new(), server: Counter::default(), bytes: 0 };
            for (is_client, bytes) in pieces {
                let side = if is_client { Side::Request } else { Side::Response };
                if script.put(&What::Data(side, bytes.into()), 0, &mut rng).is_err() {
                    break;
                }
            }
        }
    }
}
