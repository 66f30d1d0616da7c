//! sidelight is a service-mesh sidecar: a proxy that stands beside one service, carries its HTTP/1.1, HTTP/2, gRPC,
//! WebSocket and TCP traffic in both directions, and tells of every exchange what was decided about it and why.
//!
//! # The one idea
//!
//! A request meets a Tower stack. Every layer writes what it decided into the request's one [record](exchange::Record);
//! when the exchange ends, exactly once, that record goes into the [pipeline], and everything else is derived from it:
//! the event, the metrics, the trace. Telemetry is not sprinkled over the code: it is one object with one owner.
//!
//! Five tenets, in this order: **1** correct, **2** observable, **3** never the bottleneck, **4** easy to change,
//! **5** small.
//!
//! # The life of a request
//!
//! 1. **Accept.** Each worker is one thread with a current-thread runtime ([`stack::start`]). A connection goes to the
//!    worker that has the fewest, and stays there: its [buffers](svc::buffer), its upstream [pools](connect::Pools)
//!    and its end of the pipeline belong to that thread, and nothing on its way is locked.
//! 2. **Tell the protocol** by the first bytes ([`protocol::detect`]) within `limits.detect_timeout`; TLS is ended here
//!    ([`identity::ServerTls`]), and tells who the peer is. What is declared to be bytes is not looked at.
//! 3. **Parse.** The HTTP/1.1 server ([`protocol::http1`], over [`http1`], our own) or the HTTP/2 server
//!    ([`protocol::http2`], hyper's, behind a guard that counts abuse) makes a flat [`svc::RequestHead`] and an
//!    [`Exchange`](exchange::Exchange). The record begins; its [`Guard`](exchange::Guard) will end it. Framing that can
//!    be read in two ways is refused, never repaired.
//! 4. **Enter the stack** ([`stack::http_stack`], one type for all traffic; what differs is data):
//!    1. [`protocol::respond`] turns every error of what follows into an answer; beyond it there is no error.
//!    2. [`protocol::propagate`] reads the [context] (trace, request id, account, license, flags …) from trusted peers,
//!       verifies its signature, finds the [inbound exchange](exchange::in_flight) that an outbound request without a
//!       trace serves, decides about sampling, and writes both carriers for the way on.
//!    3. [`resilience::admission`] lets it in, lets it wait for its turn, or turns it away: by memory, by the listener's
//!       limit, by tier and fair share.
//!    4. [`protocol::normalize`] makes host and path canonical and takes away what was meant for this hop only.
//!    5. [`route::Routing`] asks the [`route::Table`] and leaves its decision: a [`Policy`](exchange::Policy) and a
//!       [`Cluster`](cluster::Cluster), an answer of its own, or 404 with the nearest names. Its gate are the rate limits
//!       ([`policy::rate_limit`]).
//!    6. [`resilience::deadline`] reads the caller's deadline, or finds that of the inbound request that this one serves.
//!    7. [`resilience::timeout`] bounds the whole exchange up to the head of the answer, and its content where that is asked.
//!    8. [`route::Rewriting`] applies the route's edits, once, however often the request is sent.
//!    9. [`route::Mirroring`] copies it, where the route wants that.
//!    10. [`resilience::retry`] tries again, where nothing can happen twice, or sends a second request beside a slow one.
//!    11. [`resilience::circuit_breaker`] asks the caps and breakers of the cluster and the route.
//!    12. [`balance::layer`] picks an endpoint; how it went is learned by [`cluster::Cluster::learn`], the one place where
//!        averages, outlier detection and breakers learn.
//!    13. [`resilience::timeout`] again, around one try.
//!    14. [`connect::Upstream`] takes a pooled connection or makes one, and exchanges on it: HTTP/1.1 by our own client
//!        ([`connect::http1`]), HTTP/2 by hyper's ([`connect::http2`]).
//! 5. **Answer.** The head goes back out through the layers; the body streams, with back-pressure, and may overlap with
//!    the request's. An upgrade becomes a tunnel ([`protocol::splice`]).
//! 6. **End.** When the last byte is out, or the client left, or a deadline passed, or something panicked, the guard is
//!    dropped: the record gets its duration and [`Outcome`](exchange::Outcome) and goes to the worker's
//!    [`Sink`](exchange::Sink). There the metrics are counted, and the record is put into a bounded ring.
//! 7. **Derive.** The pipeline's thread encodes the event once, into the [spool](pipeline::spool); every sink reads it from
//!    there, on a thread of its own. Nothing waits for it.
//!
//! Connections that carry bytes (`outbound.tcp`, `app_protocol: tcp`, TLS that is not ours to end) take steps 1, 2, 6
//! and 7, and pick an endpoint on the way.
//!
//! # The code map
//!
//! The modules below stand in one order; a module imports only from above itself, and a test holds that.
//!
//! | line | modules | what they know |
//! |---|---|---|
//! | words | [`units`] [`limits`] [`error`] [`svc`] [`http1`] [`drain`] [`identity`] [`context`] [`cluster`] [`quota`] [`exchange`] | nouns that all others speak in |
//! | data path | [`listener`] [`protocol`] [`route`] [`policy`] [`resilience`] [`balance`] [`connect`] | one matter each; they never import each other |
//! | feeds | [`discovery`] [`health`] | where endpoints come from, and how they are |
//! | derived | [`record`] [`pipeline`] [`replay`] | what becomes of records |
//! | compose | [`config`] [`stack`] [`control`] [`admin`] [`app`] [`demo`] [`cli`] | put it together |
//!
//! Only [`stack`] orders layers. A component owns what a user writes about it (`Config`); [`config`] composes and checks
//! the whole. [`control`] compiles a configuration and replaces the one in force, whole or not at all. [`app`] is the
//! life of the process; it and [`control`] alone start long-lived tasks off the workers.
//!
//! Where to begin: a new failure is a [`Kind`](error::Kind), and does not compile without its row in the table of
//! [`error`]; a new layer that only looks and edits is a [`Hook`](exchange::Hook), placed in [`stack`]; a new thing to
//! know about an exchange is a field of [`Record`](exchange::Record), written by one layer and read by the pipeline.
//!
//! # Invariants
//!
//! - Every accepted request yields exactly one end event, also when it is refused, reset, cut, or when a layer panicked.
//! - No telemetry, admin or reload path can block or fail a request. What does not fit is dropped and counted.
//! - Every queue, map, buffer, retry and wait is bounded; the bounds that a user may want to set are in [`limits`].
//! - A configuration is applied whole or not at all, and no connection is dropped for it.
//! - Nothing is sent twice that might be done twice, unless the client says that it may
//!   ([`Replay`](error::Replay) is decided where an error is born).
//! - Answer, `Proxy-Status` header, event and metric name the same cause: they read the same row.
//! - What a peer or the network can do is never a panic.
//!
//! Absent on purpose: a `HeaderMap` or `Extensions` between layers (heads are flat, known fields are found by index); a
//! second error type; a lock, a clone of the head or a timer for each request; a box between layers (there is one, for
//! an attempt); a body that is held as a whole; a repair of what is ambiguous; a connection pool that workers share;
//! telemetry calls in layers; Cargo features but for sinks that bring much with them.
//!
//! # Glossary
//!
//! - **inbound**, **outbound**: to the service beside which the proxy stands, and from it.
//! - **downstream**, **upstream**: towards whoever asked, and towards whoever answers.
//! - **exchange**: one request and its answer; an **attempt** is one try at it.
//! - **listener**, **route**, **cluster**, **endpoint**: where traffic comes in, what decides about it, a named set of
//!   places that can all answer it, one of them.
//! - **context**: trace, request id, user, account, license, request type and flags of a request.
//! - **cause**: the stable name of what went wrong; **response flags** are Envoy's short names for it.
//! - **drain**: to take nothing new and finish what is under way, within one deadline.
//! - **spool**: the log in which events wait for their sinks; **cursor**: one sink's place in it.
//! - **sink**: where events are written to; **revision**: the name of a configuration, made of its content.

// Sizes, durations and counts as configurations write them.
pub mod units;

// Every bound of the proxy, with its default.
pub mod limits;

// What can go wrong, and the one table of what is said about it.
pub mod error;

// Heads, bodies and byte streams: the stack's currency.
pub mod svc;

// The HTTP/1.1 codec: parsing and writing heads, chunks.
pub mod http1;

// Finishing what is under way.
pub mod drain;

// Certificates, TLS in both directions, and who the peer is.
pub mod identity;

// The trace and the business fields of a request, and their carriers.
pub mod context;

// Named sets of endpoints.
pub mod cluster;

// Rate limits.
pub mod quota;

// One request and its answer, and the record of it.
pub mod exchange;

// Sockets that accept.
pub mod listener;

// Towards the client: detection, servers, hygiene, context, own answers.
pub mod protocol;

// Which requests go where, under which terms.
pub mod route;

// What may refuse a request once its route is known.
pub mod policy;

// Timeouts and retries.
pub mod resilience;

// Which endpoint an attempt goes to.
pub mod balance;

// Towards the endpoints: dialling, clients, pools.
pub mod connect;

// Where the endpoints of a cluster come from.
pub mod discovery;

// Whether the endpoints of a cluster answer: active checks.
pub mod health;

// Real traffic, kept.
pub mod record;

// What becomes of records: events, metrics, sinks.
pub mod pipeline;

// Recorded traffic, sent again.
pub mod replay;

// The configuration: composed, read, checked.
pub mod config;

// The one place that orders layers; workers.
pub mod stack;

// What is in force, and how it is replaced.
pub mod control;

// The listeners for people and machines that watch the proxy.
pub mod admin;

// The life of the process.
pub mod app;

// A small mesh on loopback that shows what the proxy does.
pub mod demo;

// The command line.
pub mod cli;
