//! What an exchange has for another attempt, and what is decided when one came to an end.

use super::attempt::{Attempt, Finished};
use super::condition::{self, Reason};
use super::{Stage, Waiting};
use crate::cluster::{Breakers, Cluster, Outcome, clock_ns};
use crate::drain;
use crate::error::Replay;
use crate::exchange::{Answer, Ctx, Exchange, Policy, Response};
use crate::resilience::backoff;
use crate::resilience::deadline::announce;
use crate::resilience::hedge::Hedge;
use crate::resilience::stream::Bound;
use crate::svc::{Body, Pushback, RequestHead, Timer};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tower::Service;

/// What of a request matters for repeating it.
#[derive(Clone, Copy, Debug)]
pub(in crate::resilience) struct Request {
    /// Doing it twice does no more than doing it once, or its sender says so, or the route does.
    pub(in crate::resilience) is_repeatable: bool,
    /// A tracer bullet: never repeated.
    pub(in crate::resilience) is_trace: bool,
    pub(in crate::resilience) is_grpc: bool,
    /// Whether the trailers of an answer without data decide.
    pub(in crate::resilience) peeks: bool,
}

/// The request as it was before the first attempt.
pub(in crate::resilience) struct Copy {
    pub(in crate::resilience) head: Box<RequestHead>,
    pub(in crate::resilience) body: Body,
}

/// The state of an exchange that may be tried again.
pub(in crate::resilience) struct Plan<S: Service<Exchange>> {
    pub(in crate::resilience) service: S,
    pub(in crate::resilience) ctx: Ctx,
    pub(in crate::resilience) policy: Arc<Policy>,
    pub(in crate::resilience) request: Request,
    pub(in crate::resilience) retries: u32,
    /// Kept only where a condition of the route may need it.
    pub(in crate::resilience) copy: Option<Box<Copy>>,
    pub(in crate::resilience) hedge: Option<Box<Hedge<S::Future>>>,
    /// The current attempt's place under the caps on retries.
    pub(in crate::resilience) place: Option<Place>,
}

/// A place under the caps on retries; given back when dropped.
pub(in crate::resilience) struct Place {
    cluster: Arc<Cluster>,
    route: Option<Arc<Breakers>>,
}

/// Another attempt that is allowed.
struct Again {
    head: Box<RequestHead>,
    body: Body,
    wait: Duration,
    place: Place,
}

impl<S> Plan<S>
where
    S: Service<Exchange, Response = Response, Error = crate::error::Error>,
{
    /// Whether the request was sent as a whole, as far as that is known.
    pub(in crate::resilience) fn is_sent(&self) -> bool {
        self.copy.as_ref().is_some_and(|copy| copy.body.is_whole())
    }

    /// Sends the request once more, as the exchange's own attempt.
    pub(super) fn send(&mut self, waiting: Waiting) -> Attempt<S::Future> {
        let Waiting { mut head, body, place, .. } = waiting;
        announce(&self.ctx, &mut head);
        self.ctx.begin_resend(&mut head, false);
        self.place = Some(place);
        Attempt::new(self.service.call(Exchange { head, body, ctx: self.ctx.clone() }))
    }

    /// Decides what follows an attempt: the next one, or the end.
    pub(super) fn conclude(
        &mut self,
        finished: Finished,
        is_hedge: bool,
    ) -> Result<Stage<S::Future>, Answer> {
        if is_hedge || self.retries > 0 {
            self.ctx.end_resend(&finished.answer, is_hedge);
        }
        let Some(reason) = self.reason(&finished) else {
            return Err(self.finish(finished.answer, is_hedge));
        };
        let Again { head, body, wait, place } = match self.allow(&finished) {
            Ok(again) => again,
            Err(why) => {
                self.ctx.recorder.edit().note().retry_denied = Some(why);
                return Err(self.finish(finished.answer, is_hedge));
            }
        };
        // What is left of the answer is cancelled, and the attempt over, before the next one begins.
        drop(finished);
        self.leave();
        self.hedge = None;
        self.retries += 1;
        place.cluster.stats.retries.add();
        self.ctx.recorder.forgive();
        let mut record = self.ctx.recorder.edit();
        let notes = record.note();
        let comma = if notes.retry_reasons.is_empty() { "" } else { "," };
        let _ = write!(notes.retry_reasons, "{comma}{reason}");
        notes.backoff += wait;
        drop(record);
        let waiting = Waiting { head, body, place, timer: Timer::new(), until: Instant::now() + wait };
        Ok(if wait.is_zero() { Stage::Trying(self.send(waiting)) } else { Stage::Waiting(Box::new(waiting)) })
    }

    /// Why the route wants another attempt, if it does.
    fn reason(&self, finished: &Finished) -> Option<Reason> {
        let (retry, is_grpc) = (&self.policy.retry, self.request.is_grpc);
        if retry.retries_max == 0 {
            return None;
        }
        match &finished.answer {
            Ok(response) if response.tunnel.is_some() => None,
            Ok(response) => {
                let grpc = finished.grpc.or_else(|| crate::svc::grpc::status(&response.head.fields));
                condition::of_answer(response.head.status, grpc, is_grpc, retry)
            }
            Err(error) => condition::of_error(error, is_grpc, retry),
        }
    }

    /// Whether there may be another attempt; else why not. What costs something comes last: a place under the caps, and
    /// one retry of the budget.
    fn allow(&self, finished: &Finished) -> Result<Again, &'static str> {
        let retry = &self.policy.retry;
        let is_harmless = matches!(&finished.answer, Err(error) if error.replay() == Replay::Safe);
        if self.request.is_trace {
            return Err("trace");
        }
        if !is_harmless && !self.request.is_repeatable {
            return Err("not_idempotent");
        }
        if self.retries >= retry.retries_max {
            return Err("limit");
        }
        if drain::is_cutting() {
            return Err("draining");
        }
        let cluster = self.ctx.cluster().ok_or("limit")?;
        let jitter = backoff::wait(retry.backoff_base, retry.backoff_max, self.retries + 1, cluster.random());
        let asked = match pushback(finished) {
            Some(Pushback::Never) => return Err("retry_after"),
            Some(Pushback::After(time)) if time > retry.retry_after_max => return Err("retry_after"),
            Some(Pushback::After(time)) => time,
            None => Duration::ZERO,
        };
        let wait = jitter.max(asked);
        let now = Instant::now();
        let end = Bound::of_whole(&self.ctx).map(|bound| bound.at);
        let end = self.ctx.deadline.get().into_iter().chain(end).min();
        if end.is_some_and(|end| end.saturating_duration_since(now) <= wait) {
            return Err("deadline");
        }
        let (head, body) = self.again().ok_or("body")?;
        let place = self.place(&cluster, now)?;
        Ok(Again { head, body, wait, place })
    }

    /// A place under the caps and one retry of the budget.
    pub(in crate::resilience) fn place(
        &self,
        cluster: &Arc<Cluster>,
        now: Instant,
    ) -> Result<Place, &'static str> {
        if cluster.breakers.retries.try_enter().is_err() {
            return Err("cap");
        }
        let mut place = Place { cluster: Arc::clone(cluster), route: None };
        if let Some(breakers) = &self.policy.breakers {
            if breakers.retries.try_enter().is_err() {
                return Err("cap");
            }
            place.route = Some(Arc::clone(breakers));
        }
        if !cluster.budget.try_retry(clock_ns(now)) {
            cluster.stats.budget_exhausted.add();
            return Err("budget");
        }
        Ok(place)
    }

    /// The request once more: as whoever failed gave it back, or from the copy.
    fn again(&self) -> Option<(Box<RequestHead>, Body)> {
        self.ctx.unsent.take().or_else(|| self.copy.as_ref()?.again())
    }

    /// The exchange's own attempt is over: what it holds is given back, and its endpoint is not the next one's.
    pub(in crate::resilience) fn leave(&mut self) {
        self.place = None;
        self.ctx.settle(Outcome::Abandoned, None);
        self.ctx.release_attempt();
        self.ctx.answered.set(None);
        if let Some(picked) = self.ctx.picked.take() {
            self.ctx.tried.borrow_mut().push(picked.endpoint().id);
        }
    }

    /// The end: nothing is kept any longer. A retry counts as one until its content has ended.
    fn finish(&mut self, answer: Answer, is_hedge: bool) -> Answer {
        self.copy = None;
        self.hedge = None;
        self.ctx.unsent.take();
        if let Some(place) = self.place.take().filter(|_| answer.is_ok()) {
            self.ctx.attempt_holds.borrow_mut().push(Box::new(place));
        }
        if is_hedge {
            self.ctx.recorder.edit().note().is_hedge_answer = true;
            if let Some(cluster) = &*self.ctx.cluster.borrow() {
                cluster.stats.hedges_won.add();
            }
        }
        answer
    }
}

impl Copy {
    /// The request once more, if all of its content is still there.
    pub(in crate::resilience) fn again(&self) -> Option<(Box<RequestHead>, Body)> {
        let body = Some(&self.body).filter(|body| body.is_intact())?.replay()?;
        Some((self.head.clone(), body))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.cluster.breakers.retries.leave();
        if let Some(breakers) = &self.route {
            breakers.retries.leave();
        }
    }
}

/// What the answer says about trying again.
fn pushback(finished: &Finished) -> Option<Pushback> {
    finished.pushback.or_else(|| {
        let response = finished.answer.as_ref().ok()?;
        Pushback::of(&response.head.fields, SystemTime::now)
    })
}
