//! Deadlines of an exchange and of one try.
//!
//! Used twice in the stack: around the whole (the route's `timeout.request`, from the arrival of the head until the
//! head of the answer, and the caller's own deadline), and around one try (`timeout.per_try`). Content has bounds of its
//! own: how long it may stand still, which the servers look at, and how long all of it may take, see `stream`.
//! The timer is taken from the thread's free list and moved lazily, see [`Timer`].
//!
//! How it fails: the inner future is dropped, which closes or resets the upstream's side; the answer is 504. The endpoint
//! is learned from before that, because nothing inside hears of it any more; the caller's own deadline says nothing of
//! the endpoint. A try that took too long may be repeated like a request that was sent and not answered: only where that
//! does nothing twice.

use super::stream::{Bound, bound_request, bound_response};
use crate::cluster::Outcome;
use crate::error::{Error, Kind, Replay, Result};
use crate::exchange::{Answer, Ctx, Exchange, Response};
use crate::svc::Timer;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Instant;
use tower::{Layer, Service};

/// What a timeout is around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All tries together; the deadline that routing and the caller left in the exchange.
    Request,
    /// One try.
    Try,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer(pub Scope);

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout { scope: self.0, inner }
    }
}

/// The service of [`TimeoutLayer`].
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    scope: Scope,
    inner: S,
}

impl<S> Service<Exchange> for Timeout<S>
where
    S: Service<Exchange, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut exchange: Exchange) -> Self::Future {
        let ctx = &exchange.ctx;
        let (bound, whole) = match self.scope {
            Scope::Request => {
                let whole = Bound::of_whole(ctx);
                (Bound::earlier(head_bound(ctx), whole), whole)
            }
            Scope::Try => (try_bound(ctx), None),
        };
        let armed = bound.map(|bound| Armed { bound, whole, ctx: ctx.clone(), timer: Timer::new() });
        if let Some(whole) = whole {
            exchange.body = bound_request(exchange.body, whole);
        }
        TimeoutFuture { armed, inner: self.inner.call(exchange) }
    }
}

fn head_bound(ctx: &Ctx) -> Option<Bound> {
    let at = ctx.deadline.get()?;
    let kind = if ctx.is_callers_deadline.get() { Kind::DeadlineExceeded } else { Kind::RequestTimeout };
    Some(Bound { at, kind })
}

fn try_bound(ctx: &Ctx) -> Option<Bound> {
    let timeout = ctx.policy.borrow().as_ref()?.per_try_timeout?;
    Some(Bound { at: Instant::now().checked_add(timeout)?, kind: Kind::PerTryTimeout })
}

/// The future of [`Timeout`].
pub struct TimeoutFuture<F> {
    armed: Option<Armed>,
    inner: F,
}

struct Armed {
    bound: Bound,
    /// The bound on the content.
    whole: Option<Bound>,
    ctx: Ctx,
    timer: Timer,
}

impl Armed {
    fn fire(&self) -> Error {
        let kind = self.bound.kind;
        self.ctx.settle(Outcome::Failed(kind), None);
        let replay = if kind == Kind::PerTryTimeout { Replay::IfIdempotent } else { Replay::Never };
        Error::from(kind).with_replay(replay)
    }
}

impl<F: Future<Output = Answer>> Future for TimeoutFuture<F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        // SAFETY: `inner` is structurally pinned: polled in place, never moved; `armed` is not pinned; there is no Drop
        // impl.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        if let Poll::Ready(mut answer) = unsafe { Pin::new_unchecked(&mut this.inner) }.poll(cx) {
            if let (Ok(response), Some(Armed { whole: Some(whole), ctx, .. })) = (&mut answer, &this.armed) {
                bound_response(response, *whole, ctx);
            }
            return Poll::Ready(answer);
        }
        let Some(armed) = &mut this.armed else { return Poll::Pending };
        if armed.timer.poll(cx, armed.bound.at).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Err(armed.fire()))
    }
}

#[cfg(test)]
mod tests;
