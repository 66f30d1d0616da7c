//! The hook that copies requests to another cluster.
//!
//! The primary is never slowed: a copy is made of what passes by anyway. It is sent when the content of the request is
//! known in whole, which for most requests is at once, and for those whose content streams when the primary's answer is
//! there. Nothing is read for it, and nothing is waited for: content that is longer than what is kept for retries, or
//! that is not complete by then, means no copy.
//!
//! A copy has the method, path, Host, content and context of its request. What tells it apart is [`MARK`], and a span
//! id of its own in the same trace. A request that carries the mark already is never copied again, so mirrors that
//! mirror to each other do not multiply; from a peer that is not trusted the mark is not believed, and taken away.
//!
//! Never copied: upgrades and CONNECT, whose content is a conversation, and TRACE, of both kinds: a tracer bullet must
//! not reach what was not declared safe for it.
//!
//! Position: inside rewriting, so that the copy is what the upstream sees; outside retry, so that there is one copy
//! however often the request is tried. Records: `notes.mirror`. How it fails: a copy that cannot be sent is counted
//! ([`crate::cluster::ClusterStats::mirror_skipped`]); the request goes on.

use crate::context::{RequestType, Rng, TraceParent, ids};
use crate::error::Result;
use crate::exchange::{
    Answer, Connection, Ctx, Direction, Exchange, Hook, Mirror, MirrorNote, Policy, Response,
};
use crate::svc::{Body, Known, Method, RequestHead};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// The name of the field that says that a request is a copy, in lower case; its value is `1`.
pub const MARK: &[u8] = b"sidelight-mirror";

/// Where copies are handed in: the worker that sends them.
pub trait Outlet {
    /// Sends a copy, without waiting for anything; `false` when too many are under way.
    fn send(&self, copy: Duplicate) -> bool;
}

/// A copy of a request.
pub struct Duplicate {
    /// The route that wants it; its `mirror` says where it goes.
    pub policy: Arc<Policy>,
    /// The head, marked.
    pub head: Box<RequestHead>,
    /// The content, all of it.
    pub body: Body,
    /// The copy's own place in the trace; its parent is the span of the request that it was made of.
    pub trace: TraceParent,
    /// That span.
    pub parent_id: [u8; 8],
    /// The connection that the request came on.
    pub connection: Rc<Connection>,
}

/// The hook.
#[derive(Clone)]
pub struct Mirroring(Rc<Inner>);

struct Inner {
    outlet: Rc<dyn Outlet>,
    rng: Rc<RefCell<Rng>>,
    body_bytes_max: usize,
}

/// A copy whose content is not known in whole yet; held by the exchange.
struct Unfinished {
    policy: Arc<Policy>,
    head: Box<RequestHead>,
    /// Shares the content with the request; never read.
    body: Body,
}

impl Mirroring {
    /// Hands copies to `outlet`; `rng` decides which requests are copied, and makes span ids. Of content that streams up
    /// to `body_bytes_max` are kept.
    pub fn new(outlet: Rc<dyn Outlet>, rng: Rc<RefCell<Rng>>, body_bytes_max: usize) -> Mirroring {
        Mirroring(Rc::new(Inner { outlet, rng, body_bytes_max }))
    }
}

/// What the route says, if it wants copies.
fn wanted(ctx: &Ctx) -> bool {
    ctx.policy.borrow().as_ref().is_some_and(|policy| policy.mirror.is_some())
}

impl Hook for Mirroring {
    fn before(&self, exchange: &mut Exchange) -> Result<Option<Response>> {
        if wanted(&exchange.ctx) {
            self.0.begin(exchange);
        }
        Ok(None)
    }

    fn after(&self, ctx: &Ctx, _answer: &mut Answer) {
        if wanted(ctx) {
            self.0.finish(ctx);
        }
    }
}

impl Inner {
    #[inline(never)]
    fn begin(&self, exchange: &mut Exchange) {
        let Some(policy) = exchange.ctx.policy() else { return };
        let Some(mirror) = &policy.mirror else { return };
        if !self.may_copy(exchange) || !self.is_sampled(mirror) {
            return;
        }
        if let Some(body) = exchange.body.copy() {
            let head = exchange.head.clone();
            return self.send(&exchange.ctx, policy, head, body);
        }
        exchange.body = std::mem::take(&mut exchange.body).keep(self.body_bytes_max);
        match exchange.body.replay() {
            Some(body) => {
                let head = exchange.head.clone();
                exchange.ctx.holds.borrow_mut().push(Box::new(Unfinished { policy, head, body }));
            }
            // It says itself that it is too long.
            None => skip(&exchange.ctx, mirror, MirrorNote::Body),
        }
    }

    /// Whether the request is one that may be copied; a mark that is not believed is taken away.
    fn may_copy(&self, exchange: &mut Exchange) -> bool {
        let Exchange { head, ctx, .. } = exchange;
        if head.fields.named(MARK).next().is_some() {
            // What comes from the application beside is believed, as its context is.
            if ctx.connection.is_trusted || ctx.connection.direction == Direction::Outbound {
                return false;
            }
            head.fields.remove_named(MARK);
        }
        let is_conversation = head.upgrade.is_some() || head.method == Method::Connect;
        let is_trace = head.method == Method::Trace || ctx.recorder.edit().request_type == RequestType::Trace;
        !is_conversation && !is_trace
    }

    fn is_sampled(&self, mirror: &Mirror) -> bool {
        let random = u128::from(self.rng.borrow_mut().next_u64());
        // The upper half of a product is uniform over its bound.
        (random * 1_000_000) >> 64 < u128::from(mirror.millionths)
    }

    /// The answer's head is here: a copy that waited for its content is sent now, or not at all.
    #[inline(never)]
    fn finish(&self, ctx: &Ctx) {
        let unfinished = {
            let mut holds = ctx.holds.borrow_mut();
            let at = holds.iter().position(|hold| hold.is::<Unfinished>());
            at.map(|at| holds.swap_remove(at))
        };
        let Some(Ok(unfinished)) = unfinished.map(|hold| hold.downcast::<Unfinished>()) else { return };
        let Unfinished { policy, head, body } = *unfinished;
        match (body.copy(), &policy.mirror) {
            (Some(body), _) => self.send(ctx, policy, head, body),
            (None, Some(mirror)) => skip(ctx, mirror, MirrorNote::Body),
            (None, None) => {}
        }
    }

    fn send(&self, ctx: &Ctx, policy: Arc<Policy>, mut head: Box<RequestHead>, body: Body) {
        let request = ctx.recorder.edit().trace;
        let trace = request.child(ids::span_id(&mut self.rng.borrow_mut()));
        head.fields.overwrite(Known::Traceparent, &trace.to_bytes());
        // All of the content is here: there is nothing to wait for.
        head.fields.remove(Known::Expect);
        head.fields.set_named(MARK, b"1");
        let copy = Duplicate {
            policy: Arc::clone(&policy),
            head,
            body,
            trace,
            parent_id: request.parent_id,
            connection: Rc::clone(&ctx.connection),
        };
        if self.outlet.send(copy) {
            ctx.recorder.edit().note().mirror = Some(MirrorNote::Sent);
        } else if let Some(mirror) = &policy.mirror {
            skip(ctx, mirror, MirrorNote::TooMany);
        }
    }
}

fn skip(ctx: &Ctx, mirror: &Mirror, why: MirrorNote) {
    mirror.cluster.stats.mirror_skipped.add();
    ctx.recorder.edit().note().mirror = Some(why);
}

#[cfg(test)]
mod tests;
