//! The stack that every HTTP exchange goes through, read from the outside in.

use crate::balance::layer::Balancing;
use crate::connect::Upstream;
use crate::exchange::{Exchange, HookLayer, HookService, Response};
use crate::protocol::normalize::Normalize;
use crate::protocol::propagate::Propagate;
use crate::protocol::respond::{Respond, RespondLayer};
use crate::resilience::retry::{Retry, RetryLayer};
use crate::resilience::timeout::{Scope, Timeout, TimeoutLayer};
use crate::route::{Rewriting, Routing};
use std::convert::Infallible;
use tower::{Service, ServiceBuilder};

/// The composed stack. One type for inbound and outbound: what differs is data. Cloning it clones a few `Rc`s.
pub type HttpStack = Respond<
    HookService<
        Propagate,
        HookService<
            Normalize,
            HookService<
                Routing,
                Timeout<HookService<Rewriting, Retry<Timeout<HookService<Balancing, Upstream>>>>>,
            >,
        >,
    >,
>;

/// The hooks of a worker, from which the stack of each connection is composed.
pub struct Parts {
    /// Reads and writes the context.
    pub propagate: Propagate,
    /// Request hygiene.
    pub normalize: Normalize,
    /// The listener's routes.
    pub routing: Routing,
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
        // Before routing, so that what is matched is what is forwarded.
        .layer(HookLayer(parts.normalize))
        // Decides the policy that every layer below reads.
        .layer(HookLayer(parts.routing))
        // Around all tries: the caller's patience does not start again with each of them.
        .layer(TimeoutLayer(Scope::Request))
        // Once, however often the request is tried; and last on the way back, so that a route's edits win.
        .layer(HookLayer(Rewriting))
        // Above balancing, so that another try goes elsewhere.
        .layer(RetryLayer { body_bytes_max: parts.retry_body_bytes_max })
        // Around one try.
        .layer(TimeoutLayer(Scope::Try))
        // Picks the endpoint, and learns from the answer.
        .layer(HookLayer(parts.balancing))
        // Pool, connection, exchange.
        .service(parts.upstream)
}

/// Proves that the stack is what codecs want.
const _: fn() = || {
    fn is_stack<S: Service<Exchange, Response = Response, Error = Infallible> + Clone + 'static>() {}
    is_stack::<HttpStack>();
};
