//! The hook that picks an endpoint for each attempt, and learns from how it went.
//!
//! Position: inside retry, so that another try picks again and avoids what was tried; outside the connection, which
//! goes where this says. Records: endpoint and zone. How it fails: [`Kind::NoEndpoint`], or [`Kind::DnsFailed`] when
//! the reason is that no source ever answered.

use super::{observe, observe_failure, pick};
use crate::context::Rng;
use crate::error::{Error, Kind, Result};
use crate::exchange::{Answer, Ctx, Exchange, Hook, Response};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;
use tokio::time::Instant;

/// See the module.
#[derive(Clone)]
pub struct Balancing {
    rng: Rc<RefCell<Rng>>,
}

/// The start of the clock that endpoints' averages are dated by.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the process started.
pub fn clock_ns(now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(*EPOCH).as_nanos()).unwrap_or(u64::MAX)
}

impl Balancing {
    /// A hook that draws from `rng`.
    pub fn new(rng: Rc<RefCell<Rng>>) -> Balancing {
        Balancing { rng }
    }
}

impl Hook for Balancing {
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        let ctx = &exchange.ctx;
        let Some(cluster) = ctx.cluster() else { return Err(Kind::NoEndpoint.into()) };
        let now = Instant::now();
        let mut rng = self.rng.borrow_mut();
        let picked = pick(&cluster, &ctx.tried.borrow(), &mut || rng.next_u64(), clock_ns(now));
        let Some(picked) = picked else {
            let set = cluster.endpoints();
            return Err(match &set.stale {
                Some(why) => Error::new(Kind::DnsFailed, format!("cluster {}: {why}", cluster.name)),
                None => Error::new(Kind::NoEndpoint, format!("cluster {}", cluster.name)),
            });
        };
        {
            let mut record = ctx.recorder.edit();
            record.endpoint = Some(picked.endpoint().name.clone());
            record.endpoint_zone.clone_from(&picked.endpoint().zone);
        }
        ctx.attempt_started.set(Some(now));
        *ctx.picked.borrow_mut() = Some(picked);
        Ok(None)
    }

    fn after(&self, ctx: &Ctx, answer: &mut Answer) {
        let picked = ctx.picked.borrow();
        let (Some(picked), Some(started)) = (&*picked, ctx.attempt_started.get()) else { return };
        let endpoint = picked.endpoint();
        // The client noted when the answer came; asking the clock again would only say a little later.
        let answered = ctx.answered.take();
        let now = answered.unwrap_or_else(Instant::now);
        let time = now.saturating_duration_since(started);
        match answer {
            Ok(response) => {
                observe(endpoint, time, clock_ns(now));
                if response.head.status >= 500 {
                    endpoint.stats.failures.fetch_add(1, Ordering::Relaxed);
                } else {
                    let since = ctx.recorder.edit().started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
                    endpoint.stats.last_success.store(since.as_secs(), Ordering::Relaxed);
                }
            }
            // The client's own failures say nothing about the endpoint.
            Err(error) if error.kind().answer().status < 500 => {}
            Err(_) => {
                observe_failure(endpoint, time, clock_ns(now));
                endpoint.stats.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
