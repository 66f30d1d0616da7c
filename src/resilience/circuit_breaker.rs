//! The hook that asks the circuit breakers before each attempt: those of the cluster, and of the route where it has some.
//!
//! Position: inside retry, so that each try and each hedge is counted, and what one held is given back before the next is
//! let in; outside balancing, because what is refused here must not be picked for. What is asked: the breaker, the cap on
//! requests, the bound of the account; first of the cluster, then of the route. A place is given back when the attempt
//! failed, when another takes its place, or when the exchange ends with its last byte, whatever ended it.
//!
//! A TRACE request is never the probe of a breaker that is half-open: a tracer bullet must not decide about real traffic.
//! It is refused until a real request has closed the breaker.
//!
//! Records: nothing; what refuses is told by the error. How it fails: [`Kind::Overflow`] for a cap, [`Kind::BreakerOpen`]
//! for the breaker, each with the limit. Neither is tried again: the next try would meet the same limit.

use crate::cluster::{Breakers, Cluster, clock_ns};
use crate::context::RequestType;
use crate::error::{Error, Kind, Refusal, Result};
use crate::exchange::{Answer, Ctx, Exchange, Hook, Response};
use std::sync::Arc;
use tokio::time::Instant;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct CircuitBreaking;

impl Hook for CircuitBreaking {
    #[inline]
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        let ctx = &exchange.ctx;
        ctx.release_attempt();
        // What was taken before the refusal is given back in `after`.
        admit(ctx).map(|()| None)
    }

    #[inline]
    fn after(&self, ctx: &Ctx, answer: &mut Answer) {
        // While it waits to be tried again it is not under way. An answer still has its content to come.
        if answer.is_err() {
            ctx.release_attempt();
        }
    }
}

/// A place under the cap on requests of a route.
struct Place(Arc<Breakers>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.requests.leave();
    }
}

#[inline]
fn admit(ctx: &Ctx) -> Result<()> {
    let cluster = ctx.cluster.borrow();
    // Without a cluster there is nothing to ask, and balancing will say so.
    let Some(cluster) = &*cluster else { return Ok(()) };
    let breakers = &cluster.breakers;
    if !breakers.is_closed() {
        probe(breakers, cluster, ctx)?;
    }
    breakers.enter(&breakers.requests).map_err(refused)?;
    ctx.is_admitted.set(true);
    if breakers.has_accounts() {
        enter_account(breakers, ctx)?;
    }
    let policy = ctx.policy.borrow();
    if let Some(breakers) = policy.as_ref().and_then(|policy| policy.breakers.as_ref()) {
        admit_to_route(breakers, cluster, ctx)?;
    }
    // The budget is for retries, in proportion to what is asked for the first time. When that was, is near enough.
    let record = ctx.recorder.edit();
    if record.attempts == 0 {
        cluster.budget.note_request(clock_ns(record.started));
    }
    Ok(())
}

#[cold]
fn admit_to_route(breakers: &Arc<Breakers>, cluster: &Cluster, ctx: &Ctx) -> Result<()> {
    if !breakers.is_closed() {
        probe(breakers, cluster, ctx)?;
    }
    breakers.enter(&breakers.requests).map_err(refused)?;
    ctx.attempt_holds.borrow_mut().push(Box::new(Place(Arc::clone(breakers))));
    enter_account(breakers, ctx)
}

#[cold]
fn probe(breakers: &Breakers, cluster: &Cluster, ctx: &Ctx) -> Result<()> {
    let may_probe = ctx.recorder.edit().request_type != RequestType::Trace;
    let probe = breakers.try_probe(may_probe, clock_ns(Instant::now()), cluster).map_err(refused)?;
    if let Some(probe) = probe {
        ctx.attempt_holds.borrow_mut().push(Box::new(probe));
    }
    Ok(())
}

#[cold]
fn enter_account(breakers: &Breakers, ctx: &Ctx) -> Result<()> {
    let record = ctx.recorder.edit();
    let account = String::from_utf8_lossy(record.text(record.account_id));
    if let Some(place) = breakers.enter_account(&account).map_err(refused)? {
        ctx.attempt_holds.borrow_mut().push(Box::new(place));
    }
    Ok(())
}

#[cold]
fn refused(refusal: Refusal) -> Error {
    let kind = if refusal.breaker == "breaker" { Kind::BreakerOpen } else { Kind::Overflow };
    let Refusal { breaker, scope, name, limit, current, .. } = &refusal;
    let detail = format!("{breaker} of {scope} {name}: {current}, limit {limit}");
    Error::new(kind, detail).with_refusal(refusal)
}

#[cfg(test)]
mod tests;
