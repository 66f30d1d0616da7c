//! The hook that picks an endpoint for each attempt, and learns from how it went.
//!
//! Position: inside retry, so that another try picks again and avoids what was tried; outside the connection, which
//! goes where this says. Records: endpoint and zone; beyond that only what is unusual: panic, a priority above the first,
//! another zone although this one is preferred, another subset, nothing to hash. How it fails: [`Kind::NoEndpoint`], or
//! [`Kind::DnsFailed`] when the reason is that no source ever answered; [`Kind::NoHealthyEndpoint`] when there are
//! endpoints and none may be used, or none has the labels that are wanted.

use super::key::Request;
use super::{Choice, Wish, call, pick};
use crate::cluster::{Cluster, Outcome, clock_ns};
use crate::context::Rng;
use crate::error::{Kind, Result};
use crate::exchange::{Answer, Ctx, Exchange, Hook, Response};
use crate::svc::{Pushback, RequestHead, ResponseHead};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// See the module.
#[derive(Clone)]
pub struct Balancing {
    rng: Rc<RefCell<Rng>>,
}

impl Balancing {
    /// A hook that draws from `rng`.
    pub fn new(rng: Rc<RefCell<Rng>>) -> Balancing {
        Balancing { rng }
    }

    /// Picks by what the request says: a hash, or the values of labels.
    #[cold]
    fn pick_by_request(
        &self,
        cluster: &Cluster,
        head: &RequestHead,
        ctx: &Ctx,
        tried: &[u64],
        now_ns: u64,
    ) -> Result<Choice> {
        let record = ctx.recorder.edit();
        let request = Request { head, record: &record, connection: &ctx.connection };
        let balance = &cluster.settings.balance;
        let hash = if balance.policy.is_hash() { request.hash(balance) } else { None };
        let wish = Wish { tried, hash, values: &request.values(balance) };
        let mut rng = self.rng.borrow_mut();
        pick(cluster, &wish, &mut || rng.next_u64(), now_ns).map_err(|why| why.error(cluster, &wish))
    }
}

impl Hook for Balancing {
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        let ctx = &exchange.ctx;
        let cluster = ctx.cluster.borrow();
        let Some(cluster) = &*cluster else { return Err(Kind::NoEndpoint.into()) };
        let now = Instant::now();
        let now_ns = clock_ns(now);
        let tried = ctx.tried.borrow();
        let balance = &cluster.settings.balance;
        let choice = if balance.policy.is_hash() || !balance.subset.is_empty() {
            self.pick_by_request(cluster, &exchange.head, ctx, &tried, now_ns)?
        } else {
            let wish = Wish { tried: &tried, ..Wish::default() };
            let mut rng = self.rng.borrow_mut();
            pick(cluster, &wish, &mut || rng.next_u64(), now_ns).map_err(|why| why.error(cluster, &wish))?
        };
        choice.note(&ctx.recorder, cluster);
        ctx.attempt_started.set(Some(now));
        *ctx.picked.borrow_mut() = Some(choice.picked);
        Ok(None)
    }

    fn after(&self, ctx: &Ctx, answer: &mut Answer) {
        // The client noted when the answer came; asking the clock again would only say a little later.
        let answered = ctx.answered.take();
        match answer {
            Ok(response) => {
                let status = response.head.status;
                let (is_grpc, since) = {
                    let record = ctx.recorder.edit();
                    (record.is_grpc, record.started_at)
                };
                if status < 500
                    && let Some(picked) = &*ctx.picked.borrow()
                {
                    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
                    picked.endpoint().stats.last_success.store(since.as_secs(), Ordering::Relaxed);
                }
                if is_grpc && status == 200 {
                    call::learn(ctx, response, answered);
                } else {
                    let retry_after = retry_after(&response.head);
                    ctx.settle(Outcome::Answered { status, grpc: None, retry_after }, answered);
                }
            }
            Err(error) => ctx.settle(Outcome::Failed(error.kind()), answered),
        }
    }
}

/// When the endpoint wants to be asked again, if it answered that it cannot do it now.
fn retry_after(head: &ResponseHead) -> Option<Duration> {
    if head.status != 429 && head.status < 500 {
        return None;
    }
    Pushback::of(&head.fields, SystemTime::now)?.time()
}

#[cfg(test)]
mod tests;
