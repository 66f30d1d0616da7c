//! Sends copies of requests: a small stack of its own beside the one that serves, with connections of its own, so that
//! a mirror that hangs, or refuses, holds nothing that the primary needs.
//!
//! Each worker has one [`Mirrors`]. A copy is a task: pick an endpoint, take or make a connection, exchange, read the
//! answer and forget it. Bounds: so many at once for each route, one time for all of it, and [`ANSWER_BYTES_MAX`] of
//! the answer; there are no retries.
//!
//! A copy is no exchange of this service: its record goes to a sink of its own, which may forget it. Whoever wants to
//! compare answers gives [`Mirrors::new`] a sink that keeps them: a record has the trace and the request id of the
//! primary's, and the primary's span as its parent.
//!
//! How it fails: what goes wrong is counted at the mirror's cluster ([`crate::cluster::ClusterStats`]), and nowhere else.

use crate::balance::layer::Balancing;
use crate::cluster::Outcome;
use crate::connect::{self, Dial, Pools, Upstream};
use crate::error::{Error, Kind, Result};
use crate::exchange::{Ctx, Exchange, Guard, HookLayer, HookService, ParentSource, Policy, Recorder, Sink};
use crate::route::{Duplicate, Outlet};
use crate::svc::{Frame, Known, RequestHead};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;
use tower::{Layer, Service};

/// How much of an answer is read, so that its connection can be used again; beyond it the connection is closed.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The copies of a worker.
pub struct Mirrors {
    pools: Rc<Pools>,
    sink: Rc<dyn Sink>,
    under_way: UnderWay,
}

/// What a copy goes through.
type Stack = HookService<Balancing, Upstream>;

/// How many copies each route has under way; the key is where its policy lies, which whoever is counted holds.
type UnderWay = Rc<RefCell<HashMap<*const Policy, usize, foldhash::fast::RandomState>>>;

impl Mirrors {
    /// No copies yet; `sink` is given the record of each.
    pub fn new(sink: Rc<dyn Sink>) -> Mirrors {
        Mirrors { pools: Rc::default(), sink, under_way: UnderWay::default() }
    }

    /// Where a listener's copies are handed in. What outlets of the same `Mirrors` share are the connections, and the
    /// count of copies under way.
    pub fn outlet(
        &self,
        dial: Rc<dyn Dial>,
        settings: connect::Settings,
        balancing: Balancing,
    ) -> Rc<dyn Outlet> {
        let upstream = Upstream::new(Rc::clone(&self.pools), dial, settings);
        Rc::new(Sender {
            stack: HookLayer(balancing).layer(upstream),
            sink: Rc::clone(&self.sink),
            under_way: Rc::clone(&self.under_way),
        })
    }

    /// As [`Pools::sweep`].
    pub fn sweep(&self, now: Instant) {
        self.pools.sweep(now);
    }

    /// As [`Pools::attend`].
    pub async fn attend(&self) {
        self.pools.attend().await;
    }
}

struct Sender {
    stack: Stack,
    sink: Rc<dyn Sink>,
    under_way: UnderWay,
}

impl Outlet for Sender {
    fn send(&self, copy: Duplicate) -> bool {
        let Some(mirror) = &copy.policy.mirror else { return false };
        let Some(place) = Place::take(&self.under_way, &copy.policy, mirror.requests_max) else {
            return false;
        };
        mirror.cluster.stats.mirrored.add();
        let (stack, sink) = (self.stack.clone(), Rc::clone(&self.sink));
        tokio::task::spawn_local(async move {
            let _place = place;
            carry(copy, stack, &sink).await;
        });
        true
    }
}

/// Counts a copy as under way.
struct Place {
    under_way: UnderWay,
    policy: Arc<Policy>,
}

impl Place {
    fn take(under_way: &UnderWay, policy: &Arc<Policy>, max: usize) -> Option<Place> {
        let mut counts = under_way.borrow_mut();
        let count = counts.entry(Arc::as_ptr(policy)).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { under_way: Rc::clone(under_way), policy: Arc::clone(policy) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.under_way.borrow_mut();
        let key = Arc::as_ptr(&self.policy);
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

async fn carry(copy: Duplicate, mut stack: Stack, sink: &Rc<dyn Sink>) {
    let Some(mirror) = &copy.policy.mirror else { return };
    let (recorder, guard) = begin(&copy, sink);
    let ctx = Ctx::new(recorder, copy.connection);
    *ctx.cluster.borrow_mut() = Some(Arc::clone(&mirror.cluster));
    let exchange = Exchange { head: copy.head, body: copy.body, ctx: ctx.clone() };
    let outcome = match tokio::time::timeout(mirror.timeout, whole(&mut stack, exchange)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            // An endpoint that says nothing is one that failed; once it answered this is not heard.
            ctx.settle(Outcome::Failed(Kind::RequestTimeout), None);
            Err(Error::new(Kind::RequestTimeout, format!("{:?}", mirror.timeout)))
        }
    };
    match outcome {
        Ok(status) => {
            if status >= 500 {
                mirror.cluster.stats.mirror_failures.add();
            }
            guard.complete();
        }
        Err(error) => {
            ctx.recorder.fail(&error);
            mirror.cluster.stats.mirror_failures.add();
        }
    }
}

/// The record of a copy: what is known of its request, and what balancing may hash.
fn begin(copy: &Duplicate, sink: &Rc<dyn Sink>) -> (Recorder, Guard) {
    let (recorder, guard) = Recorder::start(sink, &copy.connection, Instant::now());
    {
        let mut record = recorder.edit();
        record.note_request(&copy.head);
        record.trace = copy.trace;
        record.parent_id = Some(copy.parent_id);
        record.parent_source = ParentSource::Header;
        record.route = Some(Arc::clone(&copy.policy.name));
        record.cluster = copy.policy.mirror.as_ref().map(|mirror| Arc::clone(&mirror.cluster.name));
        let known = |head: &RequestHead, known| head.fields.get(known).unwrap_or_default().to_vec();
        record.request_id = record.store(&known(&copy.head, Known::XRequestId));
        record.user_id = record.store(&known(&copy.head, Known::XUserId));
        record.account_id = record.store(&known(&copy.head, Known::XAccountId));
        record.license = record.store(&known(&copy.head, Known::XLicense));
        record.flags = record.store(&known(&copy.head, Known::XFeatureFlags));
    }
    (recorder, guard)
}

/// One attempt, to the last byte of its answer that is wanted. What becomes of the answer is decided here: its status
/// counts, the content is let go.
async fn whole(stack: &mut Stack, exchange: Exchange) -> Result<u16> {
    let recorder = exchange.ctx.recorder.clone();
    let mut response = stack.call(exchange).await?;
    recorder.edit().status = response.head.status;
    let mut received = 0;
    while let Some(frame) = response.body.frame().await {
        if let Frame::Data(data) = frame? {
            received += data.len();
        }
        if received > ANSWER_BYTES_MAX {
            break;
        }
    }
    recorder.edit().response_bytes = received as u64;
    Ok(response.head.status)
}

#[cfg(test)]
mod tests;
