//! An answer's content, and what becomes of its connection.

use super::upload::Upload;
use super::{Connection, Home, Settings};
use crate::error::{Error, Kind, Result};
use crate::http1::chunked::{Decoder, Step};
use crate::svc::{Frame, Source};
use bytes::{Buf, Bytes, BytesMut};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// An answer's content, read from the connection as it is polled.
pub(super) struct Content {
    pub(super) connection: Option<Connection>,
    pub(super) upload: Upload,
    pub(super) state: State,
    pub(super) is_keep_alive: bool,
    pub(super) home: Rc<dyn Home>,
    pub(super) settings: Settings,
}

pub(super) enum State {
    /// All of it is here; only the upload still runs.
    Whole(Bytes),
    Length(u64),
    Chunked(Decoder),
    Close,
    Done,
}

/// One step of decoding.
enum Found {
    Data(Bytes),
    /// Nothing usable is buffered.
    Nothing,
    End(Option<crate::svc::Fields>),
}

impl Content {
    fn decode(state: &mut State, input: &mut BytesMut) -> Result<Found> {
        Ok(match state {
            State::Whole(bytes) if bytes.is_empty() => Found::End(None),
            State::Whole(bytes) => Found::Data(std::mem::take(bytes)),
            State::Length(0) | State::Done => Found::End(None),
            _ if input.is_empty() => Found::Nothing,
            State::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= len as u64;
                Found::Data(input.split_to(len).freeze())
            }
            State::Close => Found::Data(input.split().freeze()),
            State::Chunked(decoder) => match decoder.step(input) {
                Ok(Step::More(used)) => {
                    input.advance(used);
                    Found::Nothing
                }
                Ok(Step::Data { skip, len }) => {
                    input.advance(skip);
                    Found::Data(input.split_to(len).freeze())
                }
                Ok(Step::End(used)) => {
                    input.advance(used);
                    Found::End(decoder.take_trailers())
                }
                Err(malformed) => return Err(Error::new(Kind::UpstreamProtocol, malformed.0)),
            },
        })
    }

    /// The content ended: the connection goes back, unless the request is still being sent on it.
    fn finish(&mut self) {
        self.state = State::Done;
        let Some(connection) = self.connection.take() else { return };
        let is_idle = self.upload.is_done && connection.output.is_empty();
        settle(connection, self.is_keep_alive && is_idle, &*self.home);
    }

    /// The upstream closed: the end of the content, or a cut.
    fn end_of_stream(&mut self) -> Option<Result<Frame>> {
        let is_end = matches!(self.state, State::Close);
        self.is_keep_alive = false;
        self.finish();
        (!is_end).then(|| Err(Error::new(Kind::ResponseIncomplete, "closed in the middle of the content")))
    }
}

impl Source for Content {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            let Connection { io, input, output, .. } = connection;
            if !self.upload.is_done || !output.is_empty() {
                match self.upload.poll(io, output, cx) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Ok(())) => self.is_keep_alive &= !self.upload.is_refused,
                    Poll::Pending => {}
                }
            }
            match Content::decode(&mut self.state, &mut input.bytes) {
                Ok(Found::Data(data)) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Ok(Found::End(trailers)) => {
                    self.finish();
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::Trailers(trailers))));
                }
                Ok(Found::Nothing) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(input.poll_fill(io, cx, self.settings.buffer_bytes_max)) {
                Ok(0) => return Poll::Ready(self.end_of_stream()),
                Ok(_) => {}
                Err(error) => {
                    let error = Error::new(Kind::ResponseIncomplete, error.to_string());
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn length(&self) -> Option<u64> {
        match &self.state {
            State::Whole(bytes) => Some(bytes.len() as u64),
            State::Length(left) => Some(*left),
            State::Done => Some(0),
            State::Chunked(_) | State::Close => None,
        }
    }

    // A length of zero is not the end yet: the connection goes home only when the end is polled.
    fn is_end(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

/// Keeps the connection, or closes it.
pub(super) fn settle(mut connection: Connection, is_keep_alive: bool, home: &dyn Home) {
    // Bytes behind the answer were not asked for: whatever they are, the next exchange must not take them for its own.
    if is_keep_alive && connection.input.bytes.is_empty() {
        connection.input.release();
        connection.is_reused = true;
        home.check_in(connection);
    }
}
