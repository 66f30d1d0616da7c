//! Trying again, where that is safe.
//!
//! The rule stands above every configuration: what could have happened twice is not repeated unless the method is
//! idempotent or the client sent an `idempotency-key`; content that streams and was touched is not repeated; a TRACE
//! request is never repeated. "Double payout" is the worst complaint about other meshes' defaults (istio#50506).
//!
//! Position: above balancing, so that another try picks another endpoint; below rewriting, so that a head is rewritten
//! once. The head that failed is handed back through the exchange ([`crate::exchange::State::unsent`]), never cloned.
//!
//! How it fails: the last error or answer is the one that counts. Budgets and back-off come with the resilience issue;
//! until then the number of tries is the bound.

use crate::context::RequestType;
use crate::error::{Error, Kind, Replay, Result};
use crate::exchange::{Answer, Ctx, Exchange, Policy, Response};
use crate::svc::{Known, ResponseHead};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tower::{Layer, Service};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct RetryLayer {
    /// How many bytes of streaming content are kept for another try.
    pub body_bytes_max: usize,
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { inner, body_bytes_max: self.body_bytes_max }
    }
}

/// The service of [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    body_bytes_max: usize,
}

impl<S> Service<Exchange> for Retry<S>
where
    S: Service<Exchange, Response = Response, Error = Error> + Clone,
{
    type Response = Response;
    type Error = Error;
    type Future = RetryFuture<S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut exchange: Exchange) -> Self::Future {
        let ctx = exchange.ctx.clone();
        let policy = ctx.policy();
        if policy.as_ref().is_some_and(|policy| policy.retries_max > 0) {
            exchange.body = exchange.body.keep(self.body_bytes_max);
        }
        let has_key = exchange.head.fields.has(Known::IdempotencyKey);
        let is_idempotent = exchange.head.method.is_idempotent() || has_key;
        let future = self.inner.call(exchange);
        RetryFuture { service: self.inner.clone(), ctx, policy, is_idempotent, retries: 0, future }
    }
}

/// The future of [`Retry`].
pub struct RetryFuture<S: Service<Exchange>> {
    service: S,
    ctx: Ctx,
    policy: Option<Arc<Policy>>,
    is_idempotent: bool,
    retries: u32,
    future: S::Future,
}

impl<S> Future for RetryFuture<S>
where
    S: Service<Exchange, Response = Response, Error = Error>,
{
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        // SAFETY: `future` is structurally pinned: polled in place, and replaced by `Pin::set`, which drops it in
        // place; the other fields are not pinned; there is no Drop impl.
        let this = unsafe { self.get_unchecked_mut() };
        loop {
            // SAFETY: as above.
            let mut future = unsafe { Pin::new_unchecked(&mut this.future) };
            let answer = ready!(future.as_mut().poll(cx));
            let Some(policy) = &this.policy else { return Poll::Ready(answer) };
            let may_retry = match &answer {
                Ok(response) => may_retry_answer(&response.head, policy, this.is_idempotent, &this.ctx),
                Err(error) => may_retry(error, policy, this.is_idempotent, &this.ctx),
            };
            if this.retries >= policy.retries_max || !may_retry {
                return Poll::Ready(answer);
            }
            let Some((head, body)) = this.ctx.unsent.take() else { return Poll::Ready(answer) };
            if let Some(picked) = this.ctx.picked.take() {
                this.ctx.tried.borrow_mut().push(picked.endpoint().id);
            }
            this.retries += 1;
            future.set(this.service.call(Exchange { head, body, ctx: this.ctx.clone() }));
        }
    }
}

/// Whether an upstream's own answer may and shall be met by another try.
fn may_retry_answer(head: &ResponseHead, policy: &Policy, is_idempotent: bool, ctx: &Ctx) -> bool {
    head.is_gateway_error()
        && policy.retry_on.gateway_error
        && is_idempotent
        && ctx.recorder.edit().request_type != RequestType::Trace
}

/// Whether `error` may and shall be met by another try.
fn may_retry(error: &Error, policy: &Policy, is_idempotent: bool, ctx: &Ctx) -> bool {
    let is_safe = match error.replay() {
        Replay::Safe => true,
        Replay::IfIdempotent => is_idempotent,
        Replay::Never => false,
    };
    let is_trace = ctx.recorder.edit().request_type == RequestType::Trace;
    if !is_safe || (is_trace && error.replay() != Replay::Safe) {
        return false;
    }
    let on = policy.retry_on;
    match error.kind() {
        Kind::ConnectFailed | Kind::ConnectTimeout | Kind::TlsFailed | Kind::Overflow => on.connect_failure,
        Kind::UpstreamRefused => on.refused_stream,
        Kind::UpstreamClosed if error.replay() == Replay::Safe => {
            on.refused_stream || on.connect_failure || on.reset
        }
        Kind::UpstreamClosed | Kind::UpstreamReset => on.reset || on.server_error || on.gateway_error,
        _ => false,
    }
}
