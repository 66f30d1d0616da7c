//! A request's content, read from the client's connection as it is polled.

use super::finish::Shared;
use crate::error::{Error, Kind, Result};
use crate::exchange::{Ctx, Recorder, Side, WeakCtx};
use crate::http1::Framing;
use crate::http1::chunked::{self, Decoder, Step};
use crate::svc::{Frame, Source, Timer};
use bytes::Buf;
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How much of a request's content was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is not read to its end yet.
    Open,
    /// All of it was read: the next request starts here.
    Done,
    /// It cannot be read to its end; the connection is of no further use.
    Broken,
}

/// Bounds of a request's content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) chunked: chunked::Limits,
    pub(super) body_bytes_max: Option<u64>,
    pub(super) stall_timeout: Option<Duration>,
    pub(super) buffer_bytes_max: usize,
}

enum State {
    Length(u64),
    Chunked(Decoder),
}

/// The content of the request that the connection is serving. The stack has one handle, the server another, which
/// skips what nobody wanted.
#[derive(Clone)]
pub(super) struct Content(Rc<RefCell<Inner>>);

struct Inner {
    shared: Rc<RefCell<Shared>>,
    recorder: Recorder,
    /// Weak, because the exchange may hold this content, for another attempt.
    ctx: WeakCtx,
    progress: Progress,
    state: State,
    limits: Limits,
    total_bytes: u64,
    timer: Timer,
    deadline: Option<Instant>,
}

impl Content {
    pub(super) fn new(shared: Rc<RefCell<Shared>>, ctx: &Ctx, framing: Framing, limits: Limits) -> Content {
        let state = match framing {
            Framing::Length(length) => State::Length(length),
            _ => State::Chunked(Decoder::new(limits.chunked)),
        };
        Content(Rc::new(RefCell::new(Inner {
            shared,
            recorder: ctx.recorder.clone(),
            ctx: ctx.downgrade(),
            progress: Progress::Open,
            state,
            limits,
            total_bytes: 0,
            timer: Timer::new(),
            deadline: None,
        })))
    }

    /// How far reading came.
    pub(super) fn progress(&self) -> Progress {
        self.0.borrow().progress
    }

    /// How many bytes are to come, where the request says so.
    pub(super) fn left(&self) -> Option<u64> {
        self.length()
    }
}

impl Source for Content {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        self.0.borrow_mut().poll_frame(cx)
    }

    fn length(&self) -> Option<u64> {
        match &self.0.borrow().state {
            State::Length(left) => Some(*left),
            State::Chunked(_) => None,
        }
    }
}

/// What the buffer holds of the content.
enum Decoded {
    Frame(Frame),
    End,
    Nothing,
}

impl Inner {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        loop {
            match self.decode() {
                Ok(Decoded::Frame(frame)) => {
                    self.deadline = None;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::Nothing) => {}
                Err(error) => return self.fail(error),
            }
            let mut shared = self.shared.borrow_mut();
            let Shared { io, input, .. } = &mut *shared;
            let read = input.poll_fill(io, cx, self.limits.buffer_bytes_max);
            drop(shared);
            match read {
                Poll::Ready(Ok(0)) => {
                    return self.fail(Error::new(Kind::ClientGone, "closed in the middle of the content"));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return self.fail(Error::new(Kind::ClientGone, error.to_string())),
                Poll::Pending => return self.poll_stall(cx),
            }
        }
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let Some(timeout) = self.ctx.idle_timeout(self.limits.stall_timeout) else { return Poll::Pending };
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + timeout);
        match self.timer.poll(cx, deadline) {
            Poll::Ready(()) => self.fail(Kind::RequestBodyTimeout.into()),
            Poll::Pending => Poll::Pending,
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame>>> {
        self.progress = Progress::Broken;
        Poll::Ready(Some(Err(error)))
    }

    fn decode(&mut self) -> Result<Decoded> {
        let mut shared = self.shared.borrow_mut();
        let input = &mut shared.input.bytes;
        let data = match &mut self.state {
            State::Length(0) => {
                self.progress = Progress::Done;
                return Ok(Decoded::End);
            }
            State::Length(_) if input.is_empty() => return Ok(Decoded::Nothing),
            State::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= len as u64;
                if *left == 0 {
                    self.progress = Progress::Done;
                }
                input.split_to(len).freeze()
            }
            State::Chunked(decoder) => match decoder.step(input) {
                Ok(Step::More(used)) => {
                    input.advance(used);
                    return Ok(Decoded::Nothing);
                }
                Ok(Step::Data { skip, len }) => {
                    input.advance(skip);
                    input.split_to(len).freeze()
                }
                Ok(Step::End(used)) => {
                    input.advance(used);
                    self.progress = Progress::Done;
                    let trailers = decoder.take_trailers();
                    return Ok(match trailers {
                        Some(trailers) => {
                            self.recorder.tap_trailers(Side::Request, &trailers);
                            Decoded::Frame(Frame::Trailers(trailers))
                        }
                        None => Decoded::End,
                    });
                }
                Err(malformed) => return Err(Error::new(Kind::MalformedRequest, malformed.0)),
            },
        };
        self.total_bytes += data.len() as u64;
        self.recorder.edit().request_bytes = self.total_bytes;
        self.recorder.tap_data(Side::Request, &data);
        if self.limits.body_bytes_max.is_some_and(|max| self.total_bytes > max) {
            return Err(Kind::RequestBodyTooLarge.into());
        }
        Ok(Decoded::Frame(Frame::Data(data)))
    }
}
