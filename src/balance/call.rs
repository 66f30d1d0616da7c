//! The end of a gRPC call, which is where its status is: in the trailers of an answer that began with 200.
//!
//! What can be learned with the head is how long the endpoint took; whether the call succeeded is learned when the
//! trailers come, or content fails before. How it fails: content without a status says nothing of the endpoint.

use crate::cluster::{Outcome, clock_ns};
use crate::error::{Error, Result};
use crate::exchange::{Ctx, Response};
use crate::svc::{Body, Fields, Frame, Known, Pushback, Source, grpc};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;
use tokio::time::Instant;

/// Learns from an answer to a gRPC call: at once if its status is in the head, else at the end of its content.
/// `answered` is when the head came.
#[cold]
pub(super) fn learn(ctx: &Ctx, response: &mut Response, answered: Option<Instant>) {
    if response.head.fields.has(Known::GrpcStatus) || response.body.is_end() {
        return ctx.settle(outcome(&response.head.fields), answered);
    }
    let Some(started) = ctx.attempt_started.get() else { return };
    let at = answered.unwrap_or_else(Instant::now);
    if let Some(picked) = &*ctx.picked.borrow() {
        picked.endpoint().load.observe(at.saturating_duration_since(started), clock_ns(at));
    }
    let body = std::mem::take(&mut response.body);
    response.body = Body::stream(Call { body, ctx: ctx.clone(), started, is_over: false });
}

/// What the fields say, of the head or of the trailers.
fn outcome(fields: &Fields) -> Outcome {
    let status = grpc::status(fields);
    let retry_after = match status {
        Some(0) | None => None,
        Some(_) => Pushback::of(fields, SystemTime::now).and_then(Pushback::time),
    };
    Outcome::Answered { status: 200, grpc: status, retry_after }
}

/// The content of an answer whose status is still to come.
struct Call {
    body: Body,
    ctx: Ctx,
    /// Which attempt this is.
    started: Instant,
    is_over: bool,
}

impl Call {
    fn end(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.is_over, true) || self.ctx.attempt_started.get() != Some(self.started)
        {
            return;
        }
        self.ctx.settle_content(outcome);
    }
}

impl Source for Call {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let frame = ready!(self.body.poll_frame(cx));
        match &frame {
            Some(Ok(Frame::Data(_))) => {}
            Some(Ok(Frame::Trailers(fields))) => self.end(outcome(fields)),
            Some(Err(error)) => self.end(Outcome::Failed(Error::kind(error))),
            None => self.end(Outcome::Answered { status: 200, grpc: None, retry_after: None }),
        }
        Poll::Ready(frame)
    }

    fn length(&self) -> Option<u64> {
        self.body.length()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Outcome::Abandoned);
    }
}
