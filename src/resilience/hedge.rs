//! A second request beside the first, when that takes longer than most: the answer that comes first counts, the other
//! attempt is cancelled.
//!
//! Source: J. Dean and L. A. Barroso, "The Tail at Scale" (hedged requests, after the 95th percentile); Finagle's
//! `BackupRequestFilter` (the percentile is that of the cluster's own latency, and a budget bounds the extra load). When a
//! hedge wins, the first attempt counts in the histogram with the time that it had taken by then: left out, every hedge
//! would make the quantile shorter, and bring more hedges.
//!
//! Only requests that may be repeated are hedged, once the client has sent all of their content (before that it is not
//! the endpoint that takes long) and it is kept; never TRACE, never upgrades, once for an exchange and not after a retry; to
//! another endpoint, so not in a cluster of one. It is paid for from the retry budget and counts under the caps on retries.
//! Of two attempts, one that fails leaves the other alone; what comes of that one is met as any attempt's end is.
//!
//! Position: part of the retry layer, whose copy of the request it sends. Records: hedges, and whether the answer is that
//! of one. How it fails: it is not sent, and the first attempt goes on as if nothing were.

use super::deadline::announce;
use super::retry::condition::is_usable;
use super::retry::{Attempt, Finished, Place, Plan};
use crate::cluster::clock_ns;
use crate::drain;
use crate::error::{Error, Kind};
use crate::exchange::{Answer, Ctx, Exchange, Policy, Response};
use crate::svc::{RequestHead, Timer, grpc};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;
use tower::Service;

/// The hedge of an exchange: not sent yet, or under way.
pub(super) struct Hedge<F> {
    started: Instant,
    /// When it goes out; `None` while it is not known how long the cluster takes.
    at: Option<Instant>,
    timer: Timer,
    /// Whether the quantile of the cluster decides, and so learns.
    has_quantile: bool,
    sent: Option<Sent<F>>,
}

struct Sent<F> {
    ctx: Ctx,
    place: Place,
    attempt: Pin<Box<Attempt<F>>>,
}

impl<F> Hedge<F> {
    /// The hedge of an exchange that begins now.
    pub(super) fn arm(policy: &Policy, ctx: &Ctx, head: &RequestHead) -> Option<Box<Hedge<F>>> {
        let hedge = policy.hedge.as_ref()?;
        if head.upgrade.is_some() {
            return None;
        }
        let started = Instant::now();
        let cluster = ctx.cluster()?;
        let time = match hedge.quantile {
            Some(thousandths) => {
                cluster.latency.quantile(thousandths, clock_ns(started)).map(|time| time.max(hedge.time))
            }
            None => Some(hedge.time),
        };
        let at = time.and_then(|time| started.checked_add(time));
        Some(Box::new(Hedge {
            started,
            at,
            timer: Timer::new(),
            has_quantile: hedge.quantile.is_some(),
            sent: None,
        }))
    }

    /// Counts how long the first attempt took, or has taken so far.
    fn observe(&self, ctx: &Ctx) {
        if self.has_quantile
            && let Some(cluster) = &*ctx.cluster.borrow()
        {
            let now = Instant::now();
            cluster.latency.observe(now.saturating_duration_since(self.started), clock_ns(now));
        }
    }
}

impl<S> Plan<S>
where
    S: Service<Exchange, Response = Response, Error = Error>,
    S::Future: Future<Output = Answer>,
{
    /// The first attempt ended. Whether the hedge is all that is left: it is under way, and the first attempt failed.
    pub(super) fn leaves_it_to_hedge(&mut self, finished: &Finished) -> bool {
        let Some(hedge) = &mut self.hedge else { return false };
        let (is_usable, is_late) = (finished.is_usable(), finished.is_late());
        if is_usable || is_late {
            hedge.observe(&self.ctx);
        }
        // It has been counted.
        hedge.has_quantile = false;
        if hedge.sent.is_none() || is_usable {
            if hedge.sent.take().is_some() {
                self.note_endpoint(&self.ctx);
            }
            self.hedge = None;
            return false;
        }
        true
    }

    /// Sends the hedge when it is time, and goes on with it.
    pub(super) fn poll_hedge(&mut self, cx: &mut Context<'_>) -> Poll<Finished> {
        let Some(hedge) = &mut self.hedge else { return Poll::Pending };
        if hedge.sent.is_none() {
            let Some(at) = hedge.at else { return Poll::Pending };
            ready!(hedge.timer.poll(cx, at));
            hedge.at = None;
            let sent = self.send_hedge();
            let Some(hedge) = &mut self.hedge else { return Poll::Pending };
            hedge.sent = sent;
        }
        let (peeks, copy) = (self.request.peeks, &self.copy);
        let Some(sent) = self.hedge.as_mut().and_then(|hedge| hedge.sent.as_mut()) else {
            return Poll::Pending;
        };
        sent.attempt.as_mut().poll(cx, peeks, || copy.as_ref().is_some_and(|copy| copy.body.is_whole()))
    }

    fn send_hedge(&mut self) -> Option<Sent<S::Future>> {
        if drain::is_cutting() || !self.is_sent() {
            return None;
        }
        let cluster = self.ctx.cluster()?;
        if cluster.endpoints().endpoints.len() < 2 {
            return None;
        }
        let (mut head, body) = self.copy.as_ref()?.again()?;
        let place = self.place(&cluster, Instant::now()).ok()?;
        announce(&self.ctx, &mut head);
        cluster.stats.hedges.add();
        self.ctx.recorder.edit().note().hedges += 1;
        let ctx = self.ctx.fork();
        ctx.begin_resend(&mut head, true);
        let attempt = Attempt::new(self.service.call(Exchange { head, body, ctx: ctx.clone() }));
        Some(Sent { ctx, place, attempt: Box::pin(attempt) })
    }

    /// The hedge ended while the first attempt is under way. Whether that is the end; if not, the hedge is gone.
    pub(super) fn hedge_counts(&mut self, finished: &Finished) -> bool {
        let is_usable = finished.is_usable();
        if !is_usable {
            if let Some(sent) = self.hedge.as_mut().and_then(|hedge| hedge.sent.take())
                && let Some(picked) = &*sent.ctx.picked.borrow()
            {
                self.ctx.tried.borrow_mut().push(picked.endpoint().id);
                sent.ctx.end_resend(&finished.answer, true);
            }
            self.note_endpoint(&self.ctx);
        }
        is_usable
    }

    /// Makes the hedge the exchange's attempt. The first one is over: its future is dropped.
    pub(super) fn adopt_hedge(&mut self) {
        let Some(hedge) = self.hedge.take() else { return };
        hedge.observe(&self.ctx);
        let Some(Sent { ctx: fork, place, attempt }) = hedge.sent else { return };
        drop(attempt);
        self.leave();
        self.place = Some(place);
        let ctx = &self.ctx;
        self.note_endpoint(&fork);
        ctx.unsent.replace(fork.unsent.take());
        ctx.interim.borrow_mut().append(&mut fork.interim.borrow_mut());
        if fork.attempt_started.get().is_some() {
            // What its content ends with is still to be learned, by whoever has the fork.
            ctx.holds.borrow_mut().push(Box::new(fork));
            return;
        }
        ctx.picked.replace(fork.picked.take());
        ctx.is_admitted.set(fork.is_admitted.take());
        ctx.attempt_holds.borrow_mut().append(&mut fork.attempt_holds.borrow_mut());
        ctx.holds.borrow_mut().append(&mut fork.holds.borrow_mut());
    }

    /// The record names the endpoint that answered, whichever was picked last.
    fn note_endpoint(&self, ctx: &Ctx) {
        if let Some(picked) = &*ctx.picked.borrow() {
            let mut record = ctx.recorder.edit();
            record.endpoint = Some(picked.endpoint().name.clone());
            record.endpoint_zone.clone_from(&picked.endpoint().zone);
        }
    }
}

impl Finished {
    /// Whether it ends the wait for the other attempt.
    fn is_usable(&self) -> bool {
        match &self.answer {
            Ok(response) => {
                is_usable(response.head.status, self.grpc.or_else(|| grpc::status(&response.head.fields)))
            }
            Err(_) => false,
        }
    }

    /// Whether it ended because it took too long.
    fn is_late(&self) -> bool {
        matches!(&self.answer, Err(error) if error.kind() == Kind::PerTryTimeout)
    }
}

#[cfg(test)]
mod tests;
