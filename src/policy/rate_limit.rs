//! Rate limits: answers 429 (gRPC: RESOURCE_EXHAUSTED) to whoever asks more often than the route allows.
//!
//! A request must pass all limits of its route. They are asked in their order; when one refuses, those before it get
//! back what they gave, so that a request that is refused by one limit does not use up another ([`RateLimit`] says how
//! exact that is), and of all that would refuse it, the one with the longest wait is told of: whoever comes again then
//! passes. Limits count exchanges: retries, hedges and mirrors are our own doing. TRACE requests count like others,
//! because they cost as much; `key: [request_type]` gives them buckets of their own.
//!
//! Position: behind the route's decision; outside deadline, retries and caps. Records: the refusal, or with `headers`
//! what is left. How it fails: see [`crate::quota`]; each proxy counts for itself.

use crate::error::{Error, Kind, Refusal, Replay, Result};
use crate::exchange::{Answer, Ctx, Exchange, Hook, Response};
use crate::quota::{Caller, Key, Octets, RateLimit};
use crate::units::duration_text;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The hook. As the gate of [`crate::route::Routing`] it also stands before answers that routes give themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimiting;

/// The fields of an answer that is let through: what is left of each limit that says so.
#[derive(Debug, Default)]
struct Told {
    policy: String,
    limit: String,
    /// The one of which the least is left.
    least: Option<(Arc<str>, u32)>,
}

impl Hook for RateLimiting {
    #[inline]
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        match &*exchange.ctx.policy.borrow() {
            Some(policy) if !policy.rate_limits.is_empty() => {
                ask(exchange, &policy.rate_limits).map(|()| None)
            }
            _ => Ok(None),
        }
    }

    #[inline]
    fn after(&self, ctx: &Ctx, answer: &mut Answer) {
        let is_limited = ctx.policy.borrow().as_ref().is_some_and(|policy| !policy.rate_limits.is_empty());
        if let Ok(response) = answer.as_mut()
            && is_limited
            && let Some(told) = ctx.holds.borrow().iter().find_map(|held| held.downcast_ref::<Told>())
        {
            // Beside those of the upstream, if it has some: the lists go on over several fields.
            response.head.fields.push(b"ratelimit-policy", told.policy.as_bytes());
            response.head.fields.push(b"ratelimit", told.limit.as_bytes());
        }
    }
}

fn ask(exchange: &Exchange, limits: &[Arc<RateLimit>]) -> Result<()> {
    let ctx = &exchange.ctx;
    let now = Instant::now();
    let mut told = Told::default();
    let address = Octets::from(ctx.connection.peer.ip());
    let mut record = ctx.recorder.edit();
    let caller = Caller {
        head: &exchange.head,
        account_id: record.text(record.account_id),
        user_id: record.text(record.user_id),
        license: record.text(record.license),
        request_type: record.request_type,
        address: address.bytes(),
    };
    match take(limits, &caller, now, &mut told) {
        Ok(()) if told.least.is_none() => Ok(()),
        Ok(()) => {
            record.note().rate_limit = told.least.take();
            ctx.holds.borrow_mut().push(Box::new(told));
            Ok(())
        }
        Err(refused) => {
            let error = refused.error();
            record.note().rate_limit = Some((Arc::clone(&refused.limit.name), 0));
            Err(error)
        }
    }
}

/// A limit that has nothing left.
struct Refused<'l> {
    limit: &'l RateLimit,
    key: Key,
    wait: Duration,
}

/// Takes from each of `limits`, or from none. A route has a handful, so this does not go deep.
fn take<'l>(
    limits: &'l [Arc<RateLimit>],
    caller: &Caller<'_>,
    now: Instant,
    told: &mut Told,
) -> Result<(), Refused<'l>> {
    let Some((limit, rest)) = limits.split_first() else { return Ok(()) };
    let key = limit.key(caller);
    match limit.take(key, now) {
        Ok(grant) => {
            if limit.settings().has_headers {
                told.add(limit, key, grant.remaining);
            }
            // Read anew when it is given back, since that is what makes it exact.
            take(rest, caller, now, told).inspect_err(|_| limit.give_back(key, grant, Instant::now()))
        }
        Err(wait) => {
            let others = rest.iter().map(|limit| {
                let key = limit.key(caller);
                Refused { limit, key, wait: limit.look(key, now).wait }
            });
            let first = Refused { limit, key, wait };
            Err(others.fold(first, |longest, other| if other.wait > longest.wait { other } else { longest }))
        }
    }
}

impl Told {
    fn add(&mut self, limit: &RateLimit, key: Key, remaining: u32) {
        for (field, item) in [
            (&mut self.policy, limit.policy_item(key)),
            (&mut self.limit, &limit.allowed_item(key, remaining)),
        ] {
            if !field.is_empty() {
                field.push_str(", ");
            }
            field.push_str(item);
        }
        if self.least.as_ref().is_none_or(|(_, least)| remaining < *least) {
            self.least = Some((Arc::clone(&limit.name), remaining));
        }
    }
}

impl Refused<'_> {
    /// What answer, event and metric say. The values of the key are not among it: they may be secrets.
    fn error(&self) -> Error {
        let Refused { limit, key, wait } = *self;
        let rate = limit.rate(key);
        let burst = u64::from(rate.burst);
        let detail = format!(
            "`{}` allows {} in {}, {burst} at once; the next one in {}",
            limit.name,
            rate.requests,
            duration_text(rate.per),
            // Milliseconds are enough for people.
            duration_text(Duration::from_millis(wait.as_nanos().div_ceil(1_000_000) as u64)),
        );
        let refusal = Refusal {
            retry_after: Some(wait),
            fields: vec![
                ("ratelimit-policy", limit.policy_item(key).to_owned()),
                ("ratelimit", limit.refused_item(wait)),
            ],
            ..Refusal::new("rate_limit", "route", &limit.name, burst, burst + 1)
        };
        Error::new(Kind::RateLimited, detail).with_replay(Replay::Safe).with_refusal(refusal)
    }
}

#[cfg(test)]
mod tests;
