//! The demo's services: small threaded HTTP/1.1 servers that know nothing of the mesh.
//!
//! What they do for their context is what any OpenTelemetry SDK does: carry `traceparent`, `tracestate` and `baggage`
//! (and the request id) from the request that they serve to the requests that they make for it. How they fail: a call
//! that fails is answered with its status, or 502.

use super::message::{Client, Message};
use serde_json::{Value, json};
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What an OpenTelemetry SDK carries on.
const CARRIED: [&str; 4] = ["traceparent", "tracestate", "baggage", "x-request-id"];

/// What a service that takes orders carries on by itself: the same key is never charged twice, so a charge may be
/// repeated.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Takes orders and gives them to checkout.
    Storefront,
    /// Charges an order at payments.
    Checkout,
    /// Charges; the work takes so long.
    Payments(Duration),
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
    served: AtomicU64,
    /// Whether it answers 503 to whatever it is asked.
    is_sick: AtomicBool,
    /// How often it did.
    refused: AtomicU64,
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
            served: AtomicU64::new(0),
            is_sick: AtomicBool::new(false),
            refused: AtomicU64::new(0),
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

    /// Makes it sick, or well again.
    pub(super) fn set_sick(&self, is_sick: bool) {
        self.state.is_sick.store(is_sick, Ordering::Relaxed);
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
                Message::response(200, &json!({ "order": order["order"], "charged_by": self.name }))
            }
        }
    }

    /// Calls another service: through the sidecar, with nothing but its name as Host.
    fn pass_on(&self, request: &Message, host: &str, path: &str, content: &Value) -> Message {
        let mut call = Message::request("POST", path, host).with("content-type", "application/json");
        call.content = content.to_string().into_bytes();
        for name in CARRIED.into_iter().chain([IDEMPOTENCY_KEY]) {
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
