//! The exchange: one request and its answer, and the record of all that was decided about it.
//!
//! [`Exchange`] is what every layer is given, [`Response`] what it gives back. Both carry, or lead to, the
//! [`Recorder`]: layers write what they decide there, and nowhere else. When the exchange ends, exactly once, the
//! record goes to the worker's [`Sink`]; spans, metrics, the access log and the graph are derived from it.

pub mod in_flight;
mod notes;
mod policy;
mod record;
mod recorder;
mod resend;
mod service;
mod sink;
mod tap;

pub use notes::{DeadlineSource, MirrorNote, Notes, SignatureNote};
pub use policy::{Edits, Hedge, Mirror, PathRewrite, Policy, RetryOn, RetryPolicy, Rewrite};
pub use record::{Direction, Outcome, ParentSource, Phase, Record, Recorded, Text};
pub use recorder::{Guard, Recorder};
pub use resend::Resend;
pub use service::{Hook, HookFuture, HookLayer, HookService};
pub use sink::{NoSink, Sink};
pub use tap::{Side, Tap};

use crate::cluster::{self, Cluster, Picked, clock_ns};
use crate::error::Error;
use crate::svc::{Body, Io, RequestHead, ResponseHead, Timer};
use bytes::Bytes;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A request on its way through the stack.
pub struct Exchange {
    /// What the client asked, as edited so far.
    pub head: Box<RequestHead>,
    /// The request's content.
    pub body: Body,
    /// Everything else.
    pub ctx: Ctx,
}

/// An answer on its way back.
pub struct Response {
    /// Status and fields.
    pub head: Box<ResponseHead>,
    /// The answer's content.
    pub body: Body,
    /// The upstream's byte stream after a successful upgrade (101, or 2xx to an extended CONNECT).
    pub tunnel: Option<Tunnel>,
}

/// A byte stream to splice with the client's.
pub struct Tunnel {
    /// The upstream's stream.
    pub io: Box<dyn crate::svc::Stream>,
    /// What the upstream sent right behind its head.
    pub ahead: Bytes,
}

/// What accompanies an exchange through the layers: cheap to clone, one thread.
#[derive(Clone)]
pub struct Ctx(Rc<State>);

/// The fields of [`Ctx`].
pub struct State {
    /// Where every layer writes.
    pub recorder: Recorder,
    /// The connection that the request came on.
    pub connection: Rc<Connection>,
    /// What the route decided; empty before routing.
    pub policy: RefCell<Option<Arc<Policy>>>,
    /// Where the route sends it; empty before routing.
    pub cluster: RefCell<Option<Arc<Cluster>>>,
    /// The endpoint of the current attempt.
    pub picked: RefCell<Option<Picked>>,
    /// Endpoints that earlier attempts used, not to be picked again if there is another.
    pub tried: RefCell<Vec<u64>>,
    /// When the current attempt began; `None` once something was learned from it.
    pub attempt_started: Cell<Option<Instant>>,
    /// Whether the current attempt counts under the cluster's cap on requests.
    pub is_admitted: Cell<bool>,
    /// What the current attempt holds beside: places under caps of its route and account, a breaker's probe.
    pub attempt_holds: RefCell<Vec<Box<dyn Any>>>,
    /// What the exchange holds to its end: a place under the listener's concurrency limit, a deadline that others read.
    pub holds: RefCell<Vec<Box<dyn Any>>>,
    /// When the head of the current attempt's answer came.
    pub answered: Cell<Option<Instant>>,
    /// When the whole exchange must have been answered.
    pub deadline: Cell<Option<Instant>>,
    /// Whether `deadline` is the caller's: then it bounds the content too, and says nothing of the endpoint.
    pub is_callers_deadline: Cell<bool>,
    /// Whether `deadline` is passed on to the next hop.
    pub carries_deadline: Cell<bool>,
    /// Head and content of an attempt that failed in a way that may be repeated.
    pub unsent: RefCell<Option<(Box<RequestHead>, Body)>>,
    /// Interim responses that the upstream sent, for the server to relay.
    pub interim: RefCell<Vec<ResponseHead>>,
    /// Whether the client waits for 100 (Continue) before it sends content.
    pub expects_continue: Cell<bool>,
    /// What the codec found wrong with the request. The context layer raises it, so that what is refused before it is
    /// understood still has ids, an answer and an event like everything else.
    pub refused: RefCell<Option<Error>>,
}

impl std::ops::Deref for Ctx {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl Ctx {
    /// The state of a new exchange.
    pub fn new(recorder: Recorder, connection: Rc<Connection>) -> Ctx {
        Ctx(Rc::new(State {
            recorder,
            connection,
            policy: RefCell::new(None),
            cluster: RefCell::new(None),
            picked: RefCell::new(None),
            tried: RefCell::new(Vec::new()),
            attempt_started: Cell::new(None),
            is_admitted: Cell::new(false),
            attempt_holds: RefCell::new(Vec::new()),
            holds: RefCell::new(Vec::new()),
            answered: Cell::new(None),
            deadline: Cell::new(None),
            is_callers_deadline: Cell::new(false),
            carries_deadline: Cell::new(false),
            unsent: RefCell::new(None),
            interim: RefCell::new(Vec::new()),
            expects_continue: Cell::new(false),
            refused: RefCell::new(None),
        }))
    }

    /// Notes that the head of the upstream's answer is here.
    pub fn note_answer(&self, version: crate::svc::Version) {
        let now = Instant::now();
        self.answered.set(Some(now));
        let mut record = self.recorder.edit();
        record.upstream_first_byte = Some(now.saturating_duration_since(record.started));
        record.upstream_version = Some(version);
    }

    /// Learns from how the current attempt ended; what is said first counts. `answered` is when the endpoint answered, if
    /// it did.
    pub fn settle(&self, outcome: cluster::Outcome, answered: Option<Instant>) {
        self.0.settle(outcome, answered);
    }

    /// Learns from how the content of the current attempt's answer ended: how long the endpoint took was learned with the
    /// head.
    pub fn settle_content(&self, outcome: cluster::Outcome) {
        let Some(started) = self.attempt_started.take() else { return };
        let now = Instant::now();
        self.0.learn(outcome, Duration::ZERO, now.saturating_duration_since(started), now);
    }

    /// Gives back what the current attempt holds of caps, before another one takes its place.
    pub fn release_attempt(&self) {
        self.0.release_attempt();
    }

    /// A second attempt at the same exchange, beside the current one: it has the same record, route, cluster and
    /// deadline, and an endpoint, caps and an answer of its own. Endpoints that are in use count as tried.
    pub fn fork(&self) -> Ctx {
        let mut tried = self.tried.borrow().clone();
        tried.extend(self.picked.borrow().as_ref().map(|picked| picked.endpoint().id));
        let fork = Ctx::new(self.recorder.clone(), Rc::clone(&self.connection));
        *fork.policy.borrow_mut() = self.policy();
        *fork.cluster.borrow_mut() = self.cluster();
        *fork.tried.borrow_mut() = tried;
        fork.deadline.set(self.deadline.get());
        fork.is_callers_deadline.set(self.is_callers_deadline.get());
        fork.carries_deadline.set(self.carries_deadline.get());
        fork
    }

    /// The route's settings, or the defaults before routing.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.borrow().clone()
    }

    /// Where the route sends it.
    pub fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.borrow().clone()
    }

    /// How long content may move no byte: as the route says, else `listeners`.
    pub fn idle_timeout(&self, listeners: Option<Duration>) -> Option<Duration> {
        let policy = self.policy.borrow();
        policy.as_ref().and_then(|policy| policy.idle_timeout).unwrap_or(listeners)
    }

    /// For content, which the exchange itself may hold.
    pub fn downgrade(&self) -> WeakCtx {
        WeakCtx(Rc::downgrade(&self.0))
    }
}

/// A [`Ctx`] that does not keep the exchange.
#[derive(Clone)]
pub struct WeakCtx(Weak<State>);

impl WeakCtx {
    /// As [`Ctx::idle_timeout`].
    pub fn idle_timeout(&self, listeners: Option<Duration>) -> Option<Duration> {
        self.0.upgrade().map_or(listeners, |state| Ctx(state).idle_timeout(listeners))
    }
}

impl State {
    fn settle(&self, outcome: cluster::Outcome, answered: Option<Instant>) {
        let Some(started) = self.attempt_started.take() else { return };
        let now = answered.unwrap_or_else(Instant::now);
        let time = now.saturating_duration_since(started);
        self.learn(outcome, time, time, now);
    }

    /// `latency` is what the attempt says of the endpoint's speed, `time` how long ago it began.
    #[inline]
    fn learn(&self, outcome: cluster::Outcome, latency: Duration, time: Duration, now: Instant) {
        let picked = self.picked.borrow();
        let cluster = self.cluster.borrow();
        let (Some(picked), Some(cluster)) = (&*picked, &*cluster) else { return };
        let now_ns = clock_ns(now);
        cluster.learn(picked.endpoint(), outcome, latency, now_ns);
        cluster.breakers.observe(outcome, time, now_ns, cluster);
        if let Some(breakers) = self.policy.borrow().as_ref().and_then(|policy| policy.breakers.as_ref()) {
            breakers.observe(outcome, time, now_ns, cluster);
        }
    }

    fn release_attempt(&self) {
        if self.is_admitted.take()
            && let Some(cluster) = &*self.cluster.borrow()
        {
            cluster.breakers.requests.leave();
        }
        self.attempt_holds.borrow_mut().clear();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.settle(cluster::Outcome::Abandoned, None);
        self.release_attempt();
    }
}

/// What is the same for every exchange of a connection.
#[derive(Debug)]
pub struct Connection {
    /// Which side of the application this listener is on.
    pub direction: Direction,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// Whether TLS protects it.
    pub is_tls: bool,
    /// The client's verified identity (a SPIFFE id or the certificate's subject), with mutual TLS.
    pub identity: Option<Arc<str>>,
    /// Whether context fields from this peer are believed.
    pub is_trusted: bool,
    /// Which connection it is.
    pub serial: Serial,
}

/// Which connection of this process it is, and how many exchanges it has had.
#[derive(Debug)]
pub struct Serial {
    number: u64,
    exchanges: Cell<u64>,
}

impl Serial {
    /// The connection's number; no other of this process has it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many exchanges began on it.
    pub fn exchanges(&self) -> u64 {
        self.exchanges.get()
    }

    /// Another exchange begins.
    fn count(&self) {
        self.exchanges.set(self.exchanges.get() + 1);
    }
}

impl Default for Serial {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Serial { number: NEXT.fetch_add(1, Ordering::Relaxed), exchanges: Cell::new(0) }
    }
}

impl Response {
    /// An answer with a head and content.
    pub fn new(head: ResponseHead, body: Body) -> Response {
        Response { head: Box::new(head), body, tunnel: None }
    }
}

impl Tunnel {
    /// A tunnel over an upstream HTTP/1.1 connection.
    pub fn new(io: Io, ahead: Bytes) -> Tunnel {
        Tunnel { io: Box::new(io), ahead }
    }
}

/// Waits until `deadline`, or for ever without one.
pub fn poll_deadline(
    timer: &mut Timer,
    cx: &mut std::task::Context<'_>,
    deadline: Option<Instant>,
) -> std::task::Poll<()> {
    match deadline {
        Some(deadline) => timer.poll(cx, deadline),
        None => std::task::Poll::Pending,
    }
}

/// What layers give back.
pub type Answer = Result<Response, Error>;
