//! A bound on the whole of an exchange, to its last byte: `timeout.stream` of the route, and the caller's own deadline
//! where that covers the content too.
//!
//! Content is wrapped in a source with a timer, only where there is such a bound. How it fails: what feeds the content is
//! dropped, which cancels it; the client sees a cut ([`Kind::StreamTimeout`], [`Kind::DeadlineExceeded`]). A gRPC call is
//! ended as gRPC ends it, by trailers with DEADLINE_EXCEEDED, so that the caller learns why.

use super::deadline;
use crate::error::{Error, Kind, Result};
use crate::exchange::{Ctx, Recorder, Response, Tunnel};
use crate::svc::{Body, Fields, Frame, Known, Source, Stream, Timer};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A moment, and what it is when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) at: Instant,
    pub(super) kind: Kind,
}

impl Bound {
    /// The bound on all of the exchange, if it has one.
    pub(super) fn of_whole(ctx: &Ctx) -> Option<Bound> {
        let time = ctx.policy.borrow().as_ref().and_then(|policy| policy.stream_timeout);
        let routes = time.and_then(|time| ctx.recorder.edit().started.checked_add(time));
        let routes = routes.map(|at| Bound { at, kind: Kind::StreamTimeout });
        let callers = deadline::of_caller(ctx).and_then(|deadline| deadline.whole);
        let callers = callers.map(|at| Bound { at, kind: Kind::DeadlineExceeded });
        Bound::earlier(callers, routes)
    }

    /// The one that comes first; the first of two that come together.
    pub(super) fn earlier(one: Option<Bound>, two: Option<Bound>) -> Option<Bound> {
        match (one, two) {
            (Some(one), Some(two)) => Some(if two.at < one.at { two } else { one }),
            (one, two) => one.or(two),
        }
    }
}

/// Bounds what the client sends.
pub(super) fn bound_request(body: Body, bound: Bound) -> Body {
    // What is here already does not take time.
    if body.is_whole() {
        return body;
    }
    Body::stream(Bounded { body, bound, timer: Timer::new(), grpc: None })
}

/// Bounds what the client is sent.
pub(super) fn bound_response(response: &mut Response, bound: Bound, ctx: &Ctx) {
    if let Some(tunnel) = response.tunnel.take() {
        let Tunnel { io, ahead } = tunnel;
        let io = BoundedIo { io, bound, timer: Timer::new(), recorder: ctx.recorder.clone() };
        response.tunnel = Some(Tunnel { io: Box::new(io), ahead });
        return;
    }
    let body = std::mem::take(&mut response.body);
    if body.is_whole() {
        response.body = body;
        return;
    }
    let grpc = ctx.recorder.edit().is_grpc.then(|| ctx.recorder.clone());
    response.body = Body::stream(Bounded { body, bound, timer: Timer::new(), grpc });
}

/// Content that must end in time.
struct Bounded {
    body: Body,
    bound: Bound,
    timer: Timer,
    /// The record of a gRPC call that is being answered.
    grpc: Option<Recorder>,
}

impl Source for Bounded {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        // First of all the timer: content that never stops coming must not keep it from being looked at.
        if self.timer.poll(cx, self.bound.at).is_pending() {
            return self.body.poll_frame(cx);
        }
        let has_length = self.body.length().is_some();
        self.body = Body::empty();
        let error = Error::from(self.bound.kind);
        match self.grpc.take().filter(|_| !has_length) {
            Some(recorder) => {
                recorder.fail(&error);
                Poll::Ready(Some(Ok(Frame::Trailers(trailers(self.bound.kind)))))
            }
            None => Poll::Ready(Some(Err(error))),
        }
    }

    fn length(&self) -> Option<u64> {
        self.body.length()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

fn trailers(kind: Kind) -> Fields {
    let answer = kind.answer();
    let mut fields = Fields::new();
    fields.set(Known::GrpcStatus, answer.grpc.to_string().as_bytes());
    // The titles of the table have nothing that `grpc-message` would encode.
    fields.set(Known::GrpcMessage, format!("sidelight: {}", answer.title).as_bytes());
    fields
}

/// A tunnel that must end in time.
struct BoundedIo {
    io: Box<dyn Stream>,
    bound: Bound,
    timer: Timer,
    recorder: Recorder,
}

impl AsyncRead for BoundedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.timer.poll(cx, this.bound.at).is_ready() {
            // The first cause is the cause; that the tunnel broke follows from it.
            this.recorder.fail(&this.bound.kind.into());
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut this.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for BoundedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
