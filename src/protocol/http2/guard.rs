//! Frames that cost a client nothing and us something, counted as they pass.
//!
//! h2 bounds resets, CONTINUATION and small DATA; SETTINGS, PING, PRIORITY and WINDOW_UPDATE floods keep a connection
//! alive and a core busy. Envoy counts them per connection (`http_option_limits.h`), HAProxy calls them glitches. Here
//! the frame headers are read along with the bytes, and a client that passes a limit within the window loses its
//! connection. What a frame *means* is left to h2.

use crate::svc::Io;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How many frames of each kind a client may send within a window.
#[derive(Clone, Copy, Debug)]
pub struct GuardLimits {
    /// Over what time the others count.
    pub window: Duration,
    /// SETTINGS.
    pub settings_max: u32,
    /// PING, keep-alive answers included.
    pub ping_max: u32,
    /// PRIORITY.
    pub priority_max: u32,
    /// DATA without a byte that does not end its stream.
    pub empty_data_max: u32,
    /// From this many streams in a window on, the share of resets counts.
    pub reset_requests_min: u32,
    /// The share of streams that the client may reset, in percent.
    pub reset_percent_max: u32,
}

const FRAME_HEAD_BYTES: usize = 9;
const PREFACE_BYTES: usize = 24;

/// WINDOW_UPDATE frames are part of every download; a client sends about two for each DATA frame that it gets, so they
/// are bounded by a rate that no honest client reaches.
const WINDOW_UPDATE_MAX: u32 = 200_000;

#[derive(Debug, Default)]
struct Counts {
    settings: u32,
    pings: u32,
    priorities: u32,
    empty_data: u32,
    headers: u32,
    resets: u32,
    window_updates: u32,
}

/// A stream that counts the HTTP/2 frames read from it.
pub(super) struct Guarded {
    io: Io,
    limits: GuardLimits,
    /// Bytes until the next frame head starts: the preface at first, then payloads.
    skip: usize,
    head: [u8; FRAME_HEAD_BYTES],
    head_len: usize,
    counts: Counts,
    since: Instant,
    has_settings: bool,
    /// The limit that was passed, for whoever serves the connection.
    abuse: Rc<Cell<Option<&'static str>>>,
}

impl Guarded {
    pub(super) fn new(io: Io, limits: GuardLimits, abuse: Rc<Cell<Option<&'static str>>>) -> Guarded {
        Guarded {
            io,
            limits,
            skip: PREFACE_BYTES,
            head: [0; FRAME_HEAD_BYTES],
            head_len: 0,
            counts: Counts::default(),
            since: Instant::now(),
            has_settings: false,
            abuse,
        }
    }

    /// Follows the frames in `bytes`; the name of the limit that was passed.
    fn follow(&mut self, mut bytes: &[u8]) -> Option<&'static str> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skip = self.skip.min(bytes.len());
                self.skip -= skip;
                bytes = bytes.get(skip..).unwrap_or_default();
                continue;
            }
            let part = bytes.len().min(FRAME_HEAD_BYTES - self.head_len);
            let (taken, rest) = bytes.split_at(part);
            if let Some(place) = self.head.get_mut(self.head_len..self.head_len + part) {
                place.copy_from_slice(taken);
            }
            self.head_len += part;
            bytes = rest;
            if self.head_len == FRAME_HEAD_BYTES {
                self.head_len = 0;
                if let Some(limit) = self.count() {
                    return Some(limit);
                }
            }
        }
        None
    }

    fn count(&mut self) -> Option<&'static str> {
        let [high, middle, low, kind, flags, ..] = self.head;
        let len = u32::from_be_bytes([0, high, middle, low]);
        self.skip = len as usize;
        // RFC 9113 §3.4: SETTINGS comes first. h2 does not insist.
        if !self.has_settings && kind != 0x4 {
            return Some("frames before SETTINGS");
        }
        self.has_settings = true;
        let (limits, counts) = (&self.limits, &mut self.counts);
        let (count, max, name) = match kind {
            0x0 if len == 0 && flags & 1 == 0 => {
                (&mut counts.empty_data, limits.empty_data_max, "empty DATA")
            }
            0x1 => {
                counts.headers += 1;
                return None;
            }
            0x2 => (&mut counts.priorities, limits.priority_max, "PRIORITY"),
            0x3 => {
                counts.resets += 1;
                return self.check_resets();
            }
            0x4 => (&mut counts.settings, limits.settings_max, "SETTINGS"),
            0x6 => (&mut counts.pings, limits.ping_max, "PING"),
            0x8 => (&mut counts.window_updates, WINDOW_UPDATE_MAX, "WINDOW_UPDATE"),
            _ => return None,
        };
        *count += 1;
        if *count <= max {
            return None;
        }
        self.unless_window_is_over(name)
    }

    /// Envoy's rule for rapid resets (CVE-2023-44487): many streams, most of them reset.
    fn check_resets(&mut self) -> Option<&'static str> {
        let Counts { headers, resets, .. } = self.counts;
        let is_rapid = resets >= self.limits.reset_requests_min
            && u64::from(resets) * 100 > u64::from(headers) * u64::from(self.limits.reset_percent_max);
        if is_rapid { self.unless_window_is_over("RST_STREAM") } else { None }
    }

    /// A limit counts within a window; the clock is only asked when one is reached.
    fn unless_window_is_over(&mut self, name: &'static str) -> Option<&'static str> {
        if self.since.elapsed() <= self.limits.window {
            return Some(name);
        }
        self.since = Instant::now();
        self.counts = Counts::default();
        None
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        match self.follow(fresh) {
            None => Poll::Ready(Ok(())),
            Some(limit) => {
                self.abuse.set(Some(limit));
                Poll::Ready(Err(io::Error::other(format!("refused: {limit}"))))
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svc::Socket;

    const LIMITS: GuardLimits = GuardLimits {
        window: Duration::from_secs(10),
        settings_max: 3,
        ping_max: 3,
        priority_max: 3,
        empty_data_max: 3,
        reset_requests_min: 4,
        reset_percent_max: 50,
    };

    fn guarded() -> Guarded {
        Guarded::new(Io::Plain(Socket::other(Box::new(tokio::io::duplex(1).0))), LIMITS, Rc::default())
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u32).to_be_bytes();
        [&len[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn follow(frames: &[Vec<u8>], piece: usize) -> Option<&'static str> {
        let mut guard = guarded();
        let bytes = [vec![b'P'; PREFACE_BYTES], frame(4, 1, &[]), frames.concat()].concat();
        bytes.chunks(piece).find_map(|piece| guard.follow(piece))
    }

    #[tokio::test(start_paused = true)]
    async fn the_fourth_frame_of_a_kind_is_one_too_many() {
        for (kind, payload, name) in [
            (4, &[0; 6][..], "SETTINGS"),
            (6, &[0; 8], "PING"),
            (2, &[0; 5], "PRIORITY"),
            (0, &[], "empty DATA"),
        ] {
            for piece in [1, 10, 1000] {
                // The SETTINGS that every connection begins with counts too.
                let allowed = if kind == 4 { 2 } else { 3 };
                assert_eq!(follow(&vec![frame(kind, 0, payload); allowed], piece), None, "{name}");
                assert_eq!(follow(&vec![frame(kind, 0, payload); allowed + 1], piece), Some(name));
            }
        }
        assert_eq!(follow(&vec![frame(0, 1, &[]); 9], 7), None, "DATA that ends a stream is no flood");
    }

    #[tokio::test(start_paused = true)]
    async fn settings_come_first() {
        let mut guard = guarded();
        let bytes = [vec![b'P'; PREFACE_BYTES], frame(6, 0, &[0; 8])].concat();
        assert_eq!(guard.follow(&bytes), Some("frames before SETTINGS"));
    }

    #[tokio::test(start_paused = true)]
    async fn resets_count_only_where_they_are_most_of_the_streams() {
        let (headers, reset) = (frame(1, 4, b"x"), frame(3, 0, &[0; 4]));
        let rapid: Vec<_> = (0..4).flat_map(|_| [headers.clone(), reset.clone()]).collect();
        assert_eq!(follow(&rapid, 13), Some("RST_STREAM"));
        let honest: Vec<_> = (0..9).flat_map(|_| [headers.clone(), headers.clone(), reset.clone()]).collect();
        assert_eq!(follow(&honest, 13), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_is_over_forgives() {
        let mut guard = guarded();
        assert_eq!(guard.follow(&[b'P'; PREFACE_BYTES]), None);
        assert_eq!(guard.follow(&frame(4, 0, &[])), None);
        for _ in 0..20 {
            assert_eq!(guard.follow(&frame(6, 0, &[0; 8])), None);
            tokio::time::advance(Duration::from_secs(4)).await;
        }
    }
}
