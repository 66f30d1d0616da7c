//! Trying again, where that is safe.
//!
//! The rule stands above every configuration: what could have happened twice is not repeated unless the method is
//! idempotent, the client sent an `idempotency-key`, or the route says that its requests may be repeated; content that
//! streams, was touched and is not kept is not repeated; a TRACE request is never repeated. "Double payout" is the worst
//! complaint about other meshes' defaults (istio#50506). Nothing is repeated once the head of an answer was passed on.
//!
//! When it is wanted is in [`condition`], how long to wait in `backoff`; `Retry-After` and
//! `grpc-retry-pushback-ms` make the wait longer, never shorter. The cluster's budget bounds all retries together, its cap
//! and that of the route those at once. A second request beside the first, when that takes long, is in `hedge`.
//!
//! Position: above balancing and breakers, so that another try picks another endpoint and is asked for like the first;
//! below rewriting, so that a head is rewritten once. Where nothing was sent, or a gateway failed, the client hands the
//! head back ([`crate::exchange::State::unsent`]); a copy is kept only where the route has conditions beyond those, and the
//! request may be repeated at all. Each attempt is told what is left of the deadline.
//!
//! Records: why each retry was made, all waits together, and why a failure that the route would retry was not. How it
//! fails: the last error or answer is the one that counts.

mod attempt;
pub mod condition;
mod plan;

pub use attempt::PEEK_TIME_MAX;
pub(super) use attempt::{Attempt, Finished};
pub(super) use plan::{Place, Plan};

use super::deadline::announce;
use super::hedge::Hedge;
use crate::context::RequestType;
use crate::error::{Error, Result};
use crate::exchange::{Answer, Exchange, Policy, Response};
use crate::svc::{Body, Known, RequestHead, Timer};
use plan::{Copy, Request};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;
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
        let policy = exchange.ctx.policy();
        let policy = policy.filter(|policy| policy.retry.retries_max > 0 || policy.hedge.is_some());
        let plan = policy.map(|policy| self.plan(&mut exchange, policy));
        announce(&exchange.ctx, &mut exchange.head);
        let attempt = Attempt::new(self.inner.call(exchange));
        RetryFuture { plan, stage: Stage::Trying(attempt) }
    }
}

impl<S> Retry<S>
where
    S: Service<Exchange, Response = Response, Error = Error> + Clone,
{
    /// What an exchange that may be tried again needs for that.
    fn plan(&self, exchange: &mut Exchange, policy: Arc<Policy>) -> Plan<S> {
        let ctx = exchange.ctx.clone();
        let (is_trace, is_grpc) = {
            let record = ctx.recorder.edit();
            (record.request_type == RequestType::Trace, record.is_grpc)
        };
        let head = &exchange.head;
        let is_repeatable = policy.retry.is_idempotent
            || head.method.is_idempotent()
            || head.fields.has(Known::IdempotencyKey);
        let mut request = Request { is_repeatable, is_trace, is_grpc, peeks: false };
        let (mut copy, mut hedge) = (None, None);
        if !is_trace {
            exchange.body = std::mem::take(&mut exchange.body).keep(self.body_bytes_max);
            let needs_copy =
                is_repeatable && (policy.hedge.is_some() || condition::needs_copy(&policy.retry));
            if needs_copy {
                let body = exchange.body.replay();
                copy = body.map(|body| Box::new(Copy { head: exchange.head.clone(), body }));
                request.peeks = is_grpc && policy.retry.on.has_grpc();
                hedge = Hedge::arm(&policy, &ctx, &exchange.head);
            }
        }
        Plan { service: self.inner.clone(), ctx, policy, request, retries: 0, copy, hedge, place: None }
    }
}

/// The future of [`Retry`].
pub struct RetryFuture<S: Service<Exchange>> {
    /// Absent where nothing is ever tried again.
    plan: Option<Plan<S>>,
    stage: Stage<S::Future>,
}

/// Where an exchange is.
enum Stage<F> {
    /// An attempt is under way.
    Trying(Attempt<F>),
    /// Another one is about to begin.
    Waiting(Box<Waiting>),
    /// Only the hedge is under way.
    Gone,
}

/// The next attempt, and until when it waits.
struct Waiting {
    head: Box<RequestHead>,
    body: Body,
    place: Place,
    timer: Timer,
    until: Instant,
}

impl<S> Future for RetryFuture<S>
where
    S: Service<Exchange, Response = Response, Error = Error>,
    S::Future: Future<Output = Answer>,
{
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        // SAFETY: `stage` is structurally pinned: its attempt is polled in place, and dropped in place when another stage
        // takes its place. `plan` is not pinned: what it has of futures is boxed. There is no Drop impl.
        let RetryFuture { plan, stage } = unsafe { self.get_unchecked_mut() };
        loop {
            if let Stage::Waiting(waiting) = stage {
                ready!(waiting.timer.poll(cx, waiting.until));
                let Stage::Waiting(waiting) = std::mem::replace(stage, Stage::Gone) else { continue };
                let Some(plan) = plan else { return Poll::Pending };
                *stage = Stage::Trying(plan.send(*waiting));
            }
            let mut ended = Poll::Pending;
            if let Stage::Trying(attempt) = stage {
                let peeks = plan.as_ref().is_some_and(|plan| plan.request.peeks);
                let is_sent = || plan.as_ref().is_some_and(Plan::is_sent);
                // SAFETY: as above.
                ended = unsafe { Pin::new_unchecked(attempt) }.poll(cx, peeks, is_sent);
            }
            let Some(plan) = plan else { return ended.map(|finished| finished.answer) };
            let next = if let Poll::Ready(finished) = ended {
                if plan.leaves_it_to_hedge(&finished) {
                    drop(finished);
                    plan.leave();
                    *stage = Stage::Gone;
                    continue;
                }
                plan.conclude(finished, false)
            } else {
                let finished = ready!(plan.poll_hedge(cx));
                if matches!(stage, Stage::Trying(_)) && !plan.hedge_counts(&finished) {
                    continue;
                }
                *stage = Stage::Gone;
                plan.adopt_hedge();
                plan.conclude(finished, true)
            };
            match next {
                Ok(next) => *stage = next,
                Err(answer) => return Poll::Ready(answer),
            }
        }
    }
}

#[cfg(test)]
mod tests;
