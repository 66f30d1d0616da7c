//! The demo's services: small threaded HTTP/1.1 servers that know nothing of the mesh.
//!
//! What a service does for the context is at most what any OpenTelemetry SDK does: carry `traceparent`, `tracestate` and
//! `baggage` (and the request id) from the request that it serves to the requests that it makes for it. [`Carried`] says
//! how much of that; a service that carries nothing leaves it to its sidecar. How they fail: a call that fails is answered
//! with its status, or 502.

use super::message::{Client, Message};
use serde_json::{Value, json};
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Whether checkout's service is one that has never heard of a context.
const CHECKOUT_FORGETS: bool = true;

/// What a service that takes orders carries on by itself: the same key is never charged twice, so a charge may be
/// repeated.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What the next version of payments says where this one says `charged`.
pub(super) const CANDIDATE_SAYS: &str = "settled";

/// What a service carries on of the context, from the request that it serves to those that it makes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// What an OpenTelemetry SDK carries, and the request id.
    Context,
    /// The request id alone, as many services do for their logs.
    RequestId,
    /// Nothing.
    Nothing,
}

impl Carried {
    /// What checkout's service carries while it serves several orders at once: with nothing at all nobody could tell
    /// whose a call is.
    pub(super) const IN_A_CROWD: Carried =
        if CHECKOUT_FORGETS { Carried::RequestId } else { Carried::Context };

    /// What checkout's service carries while it serves one order.
    pub(super) const ALONE: Carried = if CHECKOUT_FORGETS { Carried::Nothing } else { Carried::Context };

    fn headers(self) -> &'static [&'static str] {
        match self {
            Carried::Context => &["traceparent", "tracestate", "baggage", "x-request-id"],
            Carried::RequestId => &["x-request-id"],
            Carried::Nothing => &[],
        }
    }

    /// How its sidecar then finds the parent of a call: `sidelight.parent.source`.
    pub(super) const fn parent_source(self) -> &'static str {
        match self {
            Carried::Context => "header",
            Carried::RequestId => "request_id",
            Carried::Nothing => "sole",
        }
    }
}

/// What a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Takes orders and gives them to checkout.
    Storefront,
    /// Charges an order at payments.
    Checkout,
    /// Charges; the work takes so long.
    Payments(Duration),
    /// The next version of payments, which says one thing otherwise.
    Candidate(Duration),
}

/// A running service.
#[derive(Debug)]
pub(super) struct Service {
    /// Where it listens.
    pub(super) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    name: String,
    role: Role,
    carried: Mutex<Carried>,
    served: AtomicU64,
    /// Whether it answers 503 to whatever it is asked.
    is_sick: AtomicBool,
    /// How often it did.
    refused: AtomicU64,
    /// How many requests were tracer bullets.
    tracers: AtomicU64,
    /// Its sidecar's outbound listener, known once that runs.
    outbound: OnceLock<Client>,
}

impl Service {
    /// Starts a service on a port that the system chooses.
    pub(super) fn start(name: &str, role: Role) -> io::Result<Service> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            name: name.into(),
            role,
            carried: Mutex::new(if role == Role::Checkout { Carried::IN_A_CROWD } else { Carried::Context }),
            served: AtomicU64::new(0),
            is_sick: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            tracers: AtomicU64::new(0),
            outbound: OnceLock::new(),
        });
        let shared = Arc::clone(&state);
        std::thread::Builder::new().name(name.into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.serve(stream));
            }
        })?;
        Ok(Service { address, state })
    }

    /// Says where the sidecar takes outbound requests.
    pub(super) fn set_outbound(&self, address: SocketAddr) {
        // Said once, when the mesh is built.
        let _ = self.state.outbound.set(Client::new(address));
    }

    /// How many requests it served.
    pub(super) fn served(&self) -> u64 {
        self.state.served.load(Ordering::Relaxed)
    }

    /// How many requests it answered 503, because it was sick.
    pub(super) fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::Relaxed)
    }

    /// How many of the requests were tracer bullets.
    pub(super) fn tracers(&self) -> u64 {
        self.state.tracers.load(Ordering::Relaxed)
    }

    /// Makes it sick, or well again.
    pub(super) fn set_sick(&self, is_sick: bool) {
        self.state.is_sick.store(is_sick, Ordering::Relaxed);
    }

    /// Says what it carries on from now on.
    pub(super) fn set_carried(&self, carried: Carried) {
        *self.state.carried.lock().unwrap_or_else(PoisonError::into_inner) = carried;
    }

    /// Closes the connections to its sidecar that are idle.
    pub(super) fn hang_up(&self) {
        if let Some(client) = self.state.outbound.get() {
            client.close();
        }
    }
}

impl State {
    /// Serves a connection to its end. What goes wrong here is seen by the sidecar, whose business it is to tell.
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut connection = BufReader::new(stream);
        while let Ok(Some(request)) = Message::read(&mut connection) {
            let is_sick = self.is_sick.load(Ordering::Relaxed);
            let counter = if is_sick { &self.refused } else { &self.served };
            counter.fetch_add(1, Ordering::Relaxed);
            if request.get("x-request-type") == Some("TRACE") {
                self.tracers.fetch_add(1, Ordering::Relaxed);
            }
            let answer = match is_sick {
                true => Message::response(503, &json!({ "error": "no connection to the database" })),
                false => self.answer(&request),
            };
            if answer.write(connection.get_mut()).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &Message) -> Message {
        if request.word(0) == "GET" {
            return Message::response(200, &json!({ "service": self.name }));
        }
        let order = request.json();
        match self.role {
            Role::Storefront => self.pass_on(request, "checkout", "/orders", &order),
            Role::Checkout => {
                let order = json!({ "order": order["order"], "amount": order["amount"] });
                self.pass_on(request, "payments", "/charge", &order)
            }
            Role::Payments(work) => {
                std::thread::sleep(work);
                self.charged(&order, "charged")
            }
            Role::Candidate(work) => {
                std::thread::sleep(work);
                self.charged(&order, CANDIDATE_SAYS)
            }
        }
    }

    fn charged(&self, order: &Value, state: &str) -> Message {
        Message::response(200, &json!({ "order": order["order"], "charged_by": self.name, "state": state }))
    }

    /// Calls another service: through the sidecar, with nothing but its name as Host.
    fn pass_on(&self, request: &Message, host: &str, path: &str, content: &Value) -> Message {
        let mut call = Message::request("POST", path, host).with("content-type", "application/json");
        call.content = content.to_string().into_bytes();
        let carried = *self.carried.lock().unwrap_or_else(PoisonError::into_inner);
        for name in carried.headers().iter().copied().chain([IDEMPOTENCY_KEY]) {
            if let Some(value) = request.get(name) {
                call = call.with(name, value);
            }
        }
        let answered = match self.outbound.get() {
            Some(outbound) => outbound.call(&call),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match answered {
            Ok(answer) => Message::response(answer.status(), &answer.json()),
            Err(error) => Message::response(502, &json!({ "error": error.to_string() })),
        }
    }
}
