//! Content of an answer, piece by piece, each at its time if that is wanted.

use crate::record::{Event, Field, Side, What};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The recorded answer was given up here.
#[derive(Debug)]
pub(super) struct Given;

impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the recorded answer ends here with a reset")
    }
}

impl std::error::Error for Given {}

enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    Reset,
}

/// See the module.
#[derive(Default)]
pub(super) struct Pieces {
    pieces: VecDeque<(Option<Instant>, Piece)>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// How long it is, where the answer's own fields do not say.
    length: Option<u64>,
}

impl Pieces {
    /// Content that is there at once.
    pub fn whole(bytes: impl Into<Bytes>) -> Pieces {
        let bytes = bytes.into();
        let length = Some(bytes.len() as u64);
        Pieces { pieces: [(None, Piece::Data(bytes))].into(), sleep: None, length }
    }

    /// What was recorded; with a time, each piece as long after it as it came.
    pub fn recorded(events: &[Event], asked: Option<Instant>) -> Pieces {
        let piece = |event: &Event| {
            let piece = match &event.what {
                What::Data(Side::Response, bytes) => Piece::Data(bytes.clone()),
                What::Trailers(Side::Response, fields) => Piece::Trailers(headers(fields)),
                What::Reset(Side::Response, _) => Piece::Reset,
                _ => return None,
            };
            Some((asked.and_then(|asked| asked.checked_add(Duration::from_nanos(event.at_ns))), piece))
        };
        Pieces { pieces: events.iter().filter_map(piece).collect(), sleep: None, length: None }
    }
}

/// Fields that the protocols know; what cannot be one is left out.
pub(super) fn headers(fields: &[Field]) -> HeaderMap {
    let mut out = HeaderMap::new();
    for field in fields {
        let (name, value) =
            (HeaderName::from_bytes(&field.name), HeaderValue::from_maybe_shared(field.value.clone()));
        if let (Ok(name), Ok(value)) = (name, value) {
            // More than hyper's map can hold is more than an answer has.
            let _ = out.try_append(name, value);
        }
    }
    out
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Given;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Given>>> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            match self.pieces.front_mut() {
                Some((at, _)) => match at.take().filter(|at| *at > Instant::now()) {
                    Some(at) => self.sleep = Some(Box::pin(tokio::time::sleep_until(at))),
                    None => break,
                },
                None => return Poll::Ready(None),
            }
        }
        let Some((_, piece)) = self.pieces.pop_front() else { return Poll::Ready(None) };
        Poll::Ready(Some(match piece {
            Piece::Data(bytes) => Ok(Frame::data(bytes)),
            Piece::Trailers(fields) => Ok(Frame::trailers(fields)),
            Piece::Reset => Err(Given),
        }))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.filter(|_| !self.pieces.is_empty()).map_or_else(SizeHint::new, SizeHint::with_exact)
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }
}
