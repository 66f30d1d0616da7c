//! The stack that every HTTP exchange goes through, read from the outside in.

use crate::balance::layer::Balancing;
use crate::connect::Upstream;
use crate::exchange::{Exchange, HookLayer, HookService, Response};
use crate::policy::rate_limit::RateLimiting;
use crate::protocol::normalize::Normalize;
use crate::protocol::propagate::Propagate;
use crate::protocol::respond::{Respond, RespondLayer};
use crate::resilience::admission::{AdmissionCell, AdmissionLayer, Admit};
use crate::resilience::circuit_breaker::CircuitBreaking;
use crate::resilience::deadline::Deadlines;
use crate::resilience::retry::{Retry, RetryLayer};
use crate::resilience::timeout::{Scope, Timeout, TimeoutLayer};
use crate::route::{Mirroring, Rewriting, Routing};
use std::convert::Infallible;
use tower::{Service, ServiceBuilder};

/// The composed stack. One type for inbound and outbound: what differs is data. Cloning it clones a few `Rc`s.
pub type HttpStack = Respond<
    HookService<
        Propagate,
        Admit<HookService<Normalize, HookService<Routing<RateLimiting>, HookService<Deadlines, Patient>>>>,
    >,
>;

/// What the caller's patience bounds.
type Patient = Timeout<HookService<Rewriting, HookService<Mirroring, Tries>>>;

/// What every try goes through.
type Tries = Retry<HookService<CircuitBreaking, HookService<Balancing, Timeout<Upstream>>>>;

/// The hooks of a worker, from which the stack of each connection is composed.
pub struct Parts {
    /// Reads and writes the context.
    pub propagate: Propagate,
    /// What the listener lets in.
    pub admission: AdmissionCell,
    /// Request hygiene.
    pub normalize: Normalize,
    /// The listener's routes.
    pub routing: Routing,
    /// Copies requests.
    pub mirroring: Mirroring,
    /// Picks endpoints.
    pub balancing: Balancing,
    /// Exchanges with them.
    pub upstream: Upstream,
    /// How many bytes of streaming content are kept for another try.
    pub retry_body_bytes_max: usize,
}

/// Composes the stack.
pub fn http_stack(parts: Parts) -> HttpStack {
    ServiceBuilder::new()
        // Outermost of what can fail: beyond it there is no error, only answers.
        .layer(RespondLayer)
        // Before anything can be refused, so that every answer and every event has its ids.
        .layer(HookLayer(parts.propagate))
        // After the context, which says who is turned away first; before everything that costs something.
        .layer(AdmissionLayer(parts.admission))
        // Before routing, so that what is matched is what is forwarded.
        .layer(HookLayer(parts.normalize))
        // Decides the policy that every layer below reads. Rate limits are its gate: a route that answers by itself is
        // limited too.
        .layer(HookLayer(parts.routing.behind(RateLimiting)))
        // After the route said how long it allows; before the timeout that keeps to it.
        .layer(HookLayer(Deadlines::default()))
        // Around all tries: the caller's patience does not start again with each of them.
        .layer(TimeoutLayer(Scope::Request))
        // Once, however often the request is tried; and last on the way back, so that a route's edits win.
        .layer(HookLayer(Rewriting))
        // What is copied is what the upstream sees; outside retry, so that there is one copy however often it is tried.
        .layer(HookLayer(parts.mirroring))
        // Above balancing, so that another try goes elsewhere.
        .layer(RetryLayer { body_bytes_max: parts.retry_body_bytes_max })
        // Inside retry, so that each try is counted; before a pick that would be in vain.
        .layer(HookLayer(CircuitBreaking))
        // Picks the endpoint, and learns from the answer, or from there being none in time.
        .layer(HookLayer(parts.balancing))
        // Around one try, inside of what learns from it.
        .layer(TimeoutLayer(Scope::Try))
        // Pool, connection, exchange.
        .service(parts.upstream)
}

/// Proves that the stack is what codecs want.
const _: fn() = || {
    fn is_stack<S: Service<Exchange, Response = Response, Error = Infallible> + Clone + 'static>() {}
    is_stack::<HttpStack>();
};
