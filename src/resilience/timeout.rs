//! Deadlines of an exchange and of one try.
//!
//! Used twice in the stack: around the whole (the route's `timeout.request`, from the arrival of the head until the
//! head of the answer; content has its own, `limits.body_timeout`), and around one try (`timeout.per_try`). The timer
//! is taken from the thread's free list and moved lazily, see [`Timer`].
//!
//! How it fails: the inner future is dropped, which closes or resets the upstream's side; the answer is 504.

use crate::error::{Error, Kind, Result};
use crate::exchange::{Answer, Exchange, Response, poll_deadline};
use crate::svc::Timer;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Instant;
use tower::{Layer, Service};

/// What a timeout is around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All tries together; the deadline that routing left in the exchange.
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

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        let deadline = match self.scope {
            Scope::Request => exchange.ctx.deadline.get(),
            Scope::Try => {
                let timeout = exchange.ctx.policy.borrow().as_ref().and_then(|policy| policy.per_try_timeout);
                timeout.map(|timeout| Instant::now() + timeout)
            }
        };
        TimeoutFuture { scope: self.scope, deadline, timer: Timer::new(), inner: self.inner.call(exchange) }
    }
}

/// The future of [`Timeout`].
pub struct TimeoutFuture<F> {
    scope: Scope,
    deadline: Option<Instant>,
    timer: Timer,
    inner: F,
}

impl<F: Future<Output = Answer>> Future for TimeoutFuture<F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        // SAFETY: `inner` is structurally pinned: polled in place, never moved; `timer` is not pinned and moved by
        // nobody; there is no Drop impl.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above.
        if let Poll::Ready(answer) = unsafe { Pin::new_unchecked(&mut this.inner) }.poll(cx) {
            return Poll::Ready(answer);
        }
        if poll_deadline(&mut this.timer, cx, this.deadline).is_pending() {
            return Poll::Pending;
        }
        let kind = match this.scope {
            Scope::Request => Kind::RequestTimeout,
            Scope::Try => Kind::PerTryTimeout,
        };
        Poll::Ready(Err(kind.into()))
    }
}
