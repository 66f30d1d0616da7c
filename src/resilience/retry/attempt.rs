//! One attempt: up to the head of its answer, or, for gRPC calls where it matters, to the first frame behind it.
//!
//! A gRPC server may send its head first and its failure in the trailers; a proxy that passes the head on at once can
//! never retry such a call (envoy#11049). So the first frame is awaited: data is put back and all goes on, trailers decide.
//! Only once the request was sent as a whole, because two sides that talk to one another may each wait for the other's
//! head; and not for longer than [`PEEK_TIME_MAX`], because a subscription may have nothing to say for hours. Servers
//! that fail without a message send head and trailers together. Idea: linkerd2-proxy's `PeekTrailersBody`.

use crate::error::Result;
use crate::exchange::{Answer, Response};
use crate::svc::{Body, Frame, Pushback, Source, Timer, grpc};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How long the head of a gRPC answer is held back for the frame behind it.
pub const PEEK_TIME_MAX: Duration = Duration::from_millis(100);

/// An attempt that is under way.
pub(in crate::resilience) struct Attempt<F> {
    state: State<F>,
}

enum State<F> {
    Head(F),
    Frame(Box<Peek>),
}

/// An answer whose first frame is awaited.
struct Peek {
    response: Option<Response>,
    until: Instant,
    timer: Timer,
}

/// What an attempt came to.
pub(in crate::resilience) struct Finished {
    pub(in crate::resilience) answer: Answer,
    /// The gRPC status, where it is known by now.
    pub(in crate::resilience) grpc: Option<u8>,
    /// What the trailers say about trying again.
    pub(in crate::resilience) pushback: Option<Pushback>,
}

impl<F> Attempt<F> {
    pub(in crate::resilience) fn new(future: F) -> Attempt<F> {
        Attempt { state: State::Head(future) }
    }
}

impl<F: Future<Output = Answer>> Attempt<F> {
    /// Goes on. `peeks` says whether trailers without data before them matter; `is_sent`, whether the request was sent as
    /// a whole.
    pub(in crate::resilience) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        peeks: bool,
        is_sent: impl FnOnce() -> bool,
    ) -> Poll<Finished> {
        // SAFETY: the future in `state` is structurally pinned: polled in place, and dropped in place when another state
        // takes its place; there is no Drop impl.
        let this = unsafe { self.get_unchecked_mut() };
        if let State::Head(future) = &mut this.state {
            // SAFETY: as above.
            let answer = ready!(unsafe { Pin::new_unchecked(future) }.poll(cx));
            let grpc =
                answer.as_ref().ok().filter(|_| peeks).and_then(|answer| grpc::status(&answer.head.fields));
            match answer {
                Ok(response) if peeks && grpc.is_none() && may_have_trailers(&response) && is_sent() => {
                    let until = Instant::now() + PEEK_TIME_MAX;
                    this.state =
                        State::Frame(Box::new(Peek { response: Some(response), until, timer: Timer::new() }));
                }
                answer => return Poll::Ready(Finished { answer, grpc, pushback: None }),
            }
        }
        match &mut this.state {
            State::Frame(peek) => peek.poll(cx),
            State::Head(_) => Poll::Pending,
        }
    }
}

fn may_have_trailers(response: &Response) -> bool {
    response.head.status == 200 && response.tunnel.is_none() && !response.body.is_end()
}

impl Peek {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Finished> {
        let Some(response) = &mut self.response else { return Poll::Pending };
        let frame = match response.body.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.timer.poll(cx, self.until));
                None
            }
        };
        let Some(mut response) = self.response.take() else { return Poll::Pending };
        let (mut grpc, mut pushback) = (None, None);
        match frame {
            // Nothing was passed on yet, so that the answer broke off can still be answered.
            Some(Err(error)) => return Poll::Ready(Finished { answer: Err(error), grpc, pushback }),
            Some(Ok(first)) => {
                if let Frame::Trailers(fields) = &first {
                    grpc = grpc::status(fields);
                    pushback = Pushback::of(fields, SystemTime::now);
                }
                let rest = std::mem::take(&mut response.body);
                response.body = Body::stream(Unread { first: Some(first), rest });
            }
            None => {}
        }
        Poll::Ready(Finished { answer: Ok(response), grpc, pushback })
    }
}

/// Content whose first frame was looked at.
struct Unread {
    first: Option<Frame>,
    rest: Body,
}

impl Source for Unread {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => self.rest.poll_frame(cx),
        }
    }

    fn length(&self) -> Option<u64> {
        let ahead = match &self.first {
            Some(Frame::Data(data)) => data.len() as u64,
            _ => 0,
        };
        self.rest.length().map(|left| left + ahead)
    }

    fn is_end(&self) -> bool {
        self.first.is_none() && self.rest.is_end()
    }
}
