//! How most layers are written: two synchronous hooks under one `tower::Service` and one future.
//!
//! A layer that only looks at a request on its way in and at the answer on its way out needs no state machine of its
//! own. [`Hook`] is that layer; [`HookService`] is the one generic service, so that a stack of ten such layers is one
//! flat future that the compiler sees through, without a box between any two of them.

use super::{Answer, Ctx, Exchange, Response};
use crate::error::{Error, Result};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower::{Layer, Service};

/// A layer of two synchronous steps. It is cloned for each exchange, so its parts are behind an `Rc`.
pub trait Hook: Clone {
    /// Looks at the request, and edits it. An answer ends it here: the inner layers never see it.
    ///
    /// # Errors
    /// An error is answered by `respond`.
    fn before(&self, _exchange: &mut Exchange) -> Result<Option<Response>> {
        Ok(None)
    }

    /// Looks at the answer, and edits it. Also called when the hook itself answered or failed.
    fn after(&self, _ctx: &Ctx, _answer: &mut Answer) {}
}

/// Puts a [`Hook`] around a service.
#[derive(Clone, Copy, Debug)]
pub struct HookLayer<H>(pub H);

impl<H: Hook, S> Layer<S> for HookLayer<H> {
    type Service = HookService<H, S>;

    fn layer(&self, inner: S) -> HookService<H, S> {
        HookService { hook: self.0.clone(), inner }
    }
}

/// A service with a [`Hook`] in front of it.
#[derive(Clone, Debug)]
pub struct HookService<H, S> {
    hook: H,
    inner: S,
}

impl<H, S> Service<Exchange> for HookService<H, S>
where
    H: Hook,
    S: Service<Exchange, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = HookFuture<H, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut exchange: Exchange) -> Self::Future {
        let ctx = exchange.ctx.clone();
        let state = match self.hook.before(&mut exchange) {
            Ok(None) => State::Inner(self.inner.call(exchange)),
            Ok(Some(response)) => State::Answered(Some(Ok(response))),
            Err(error) => State::Answered(Some(Err(error))),
        };
        HookFuture { hook: self.hook.clone(), ctx, state }
    }
}

/// The future of a [`HookService`].
pub struct HookFuture<H, F> {
    hook: H,
    ctx: Ctx,
    state: State<F>,
}

enum State<F> {
    Inner(F),
    Answered(Option<Answer>),
}

impl<H: Hook, F: Future<Output = Answer>> Future for HookFuture<H, F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        // SAFETY: only `state`'s future is structurally pinned. It is polled in place and never moved; `hook` and
        // `ctx` are used by shared reference only; there is no Drop impl and no way to get at the future otherwise.
        let this = unsafe { self.get_unchecked_mut() };
        let mut answer = match &mut this.state {
            // SAFETY: `this` is pinned, and so is what it holds in place.
            State::Inner(future) => ready!(unsafe { Pin::new_unchecked(future) }.poll(cx)),
            State::Answered(answer) => match answer.take() {
                Some(answer) => answer,
                None => return Poll::Pending, // polled after it was ready, which the contract excludes
            },
        };
        this.hook.after(&this.ctx, &mut answer);
        Poll::Ready(answer)
    }
}
