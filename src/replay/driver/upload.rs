//! The pieces of a request's content, one after the other: out of the entry, or out of the recording for content that
//! is not in the entry, read by a thread while it is sent. A few pieces wait at most, so that 1 GiB takes no memory.

use super::exchange::{Cut, Place};
use crate::record::{Entry, Event, Field, Side, What};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Pieces that wait.
const QUEUE: usize = 8;

/// A piece of a request.
pub(super) enum Piece {
    /// Content.
    Data(Bytes),
    /// Trailers; the last piece.
    Trailers(Vec<Field>),
    /// The client gave up here.
    Cut,
    /// The recording could not be read on.
    Unreadable,
}

/// Starts to read them. With `speed`, each comes when it did, so many times as fast.
pub(super) fn pieces(place: &Rc<Place>, entry: &Arc<Entry>, cut: Option<Cut>) -> mpsc::Receiver<Piece> {
    let (out, pieces) = mpsc::channel(QUEUE);
    let speed = place.settings.piece_speed;
    if entry.parts == 0 {
        let entry = Arc::clone(entry);
        tokio::task::spawn_local(async move {
            let mut pump = Pump::new(out, speed, cut);
            for event in &entry.events {
                if pump.put(event).await.is_none() {
                    return;
                }
            }
            pump.end().await;
        });
        return pieces;
    }
    let (read, mut events) = mpsc::channel(QUEUE);
    let (source, entry) = (Arc::clone(&place.source), Arc::clone(entry));
    tokio::task::spawn_blocking(move || {
        for event in source.events(&entry) {
            let is_wanted = match &event {
                Ok(Event {
                    what: What::Data(side, _) | What::Trailers(side, _) | What::Reset(side, _),
                    ..
                }) => *side == Side::Request,
                Ok(Event { what: What::End(Side::Request), .. }) => break,
                Ok(_) => false,
                Err(_) => true,
            };
            if is_wanted && read.blocking_send(event).is_err() {
                break;
            }
        }
    });
    tokio::task::spawn_local(async move {
        let mut pump = Pump::new(out, speed, cut);
        while let Some(event) = events.recv().await {
            let done = match &event {
                Ok(event) => pump.put(event).await,
                Err(_) => {
                    let _ = pump.out.send(Piece::Unreadable).await;
                    None
                }
            };
            if done.is_none() {
                return;
            }
        }
        pump.end().await;
    });
    pieces
}

struct Pump {
    out: mpsc::Sender<Piece>,
    speed: Option<f64>,
    since: Instant,
    /// Bytes until the cut.
    left: Option<u64>,
    /// How long after the start that was.
    cut_after: Duration,
}

impl Pump {
    fn new(out: mpsc::Sender<Piece>, speed: Option<f64>, cut: Option<Cut>) -> Pump {
        let cut_after = cut.map_or(Duration::ZERO, |cut| Duration::from_nanos(cut.at_ns));
        Pump { out, speed, since: Instant::now(), left: cut.and_then(|cut| cut.request_bytes), cut_after }
    }

    /// `None` when no more is wanted.
    async fn put(&mut self, event: &Event) -> Option<()> {
        let piece = match &event.what {
            What::Data(Side::Request, bytes) => Piece::Data(match &mut self.left {
                Some(left) => {
                    let len = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= len as u64;
                    bytes.slice(..len)
                }
                None => bytes.clone(),
            }),
            What::Trailers(Side::Request, fields) if self.left.is_none() => Piece::Trailers(fields.clone()),
            _ => return Some(()),
        };
        if let Some(speed) = self.speed {
            let after = Duration::from_nanos(event.at_ns).div_f64(speed.max(0.01));
            tokio::time::sleep_until(self.since + after).await;
        }
        if matches!(&piece, Piece::Data(bytes) if bytes.is_empty()) {
            return Some(());
        }
        self.out.send(piece).await.ok()
    }

    async fn end(self) {
        if self.left.is_some() {
            // Not earlier than the client: a stream that is reset before its head was written is never seen.
            tokio::time::sleep_until(self.since + self.cut_after).await;
            let _ = self.out.send(Piece::Cut).await;
        }
    }
}

/// How many bytes will come, if nothing is cut.
pub(super) fn length(entry: &Entry) -> u64 {
    if entry.parts > 0 {
        return entry.request.bytes;
    }
    let pieces = entry.events.iter().map(|event| match &event.what {
        What::Data(Side::Request, bytes) => bytes.len() as u64,
        _ => 0,
    });
    pieces.sum()
}
