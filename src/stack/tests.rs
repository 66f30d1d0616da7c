//! Whole stacks on a network that the test makes: what is asserted is the answer, what the upstream saw, and the record.

use super::HttpStack;
use super::http::{Parts, http_stack};
use super::mirror::Mirrors;
use super::settings::Settings;
use crate::balance::layer::Balancing;
use crate::cluster::{self, Cluster, Target};
use crate::connect::dial::Dialing;
use crate::connect::{Dial, Pools, Upstream};
use crate::context::Rng;
use crate::error::{Error, Kind};
use crate::exchange::in_flight::InFlight;
use crate::exchange::{
    Connection, Ctx, Direction, Exchange, Guard, NoSink, Record, Recorder, Response, Sink,
};
use crate::pipeline::encode::Encoder;
use crate::pipeline::metrics::Format;
use crate::pipeline::{self, Pipeline};
use crate::protocol::normalize::Normalize;
use crate::protocol::propagate::{Propagate, Setup};
use crate::resilience::admission::{Admission, AdmissionCell};
use crate::resilience::config::LoadShed;
use crate::resilience::overload::Overload;
use crate::route::{Defaults, Fallback, Mirroring, Routing, Table, TableCell};
use crate::svc::{Body, Frame, Io, Known, Method, RequestHead, Socket};
use crate::{config, limits};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;
use tower::Service;

/// What an endpoint does with a connection.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Refuses it.
    Refuse,
    /// Never accepts.
    Hang,
    /// Accepts, reads a request, and says nothing.
    Silent,
    /// Answers every request with this.
    Answer(&'static str),
    /// Answers the first request and closes when the second begins, without reading it.
    CloseOnReuse,
}

#[derive(Default)]
struct Network {
    endpoints: RefCell<HashMap<u16, Behaviour>>,
    /// What each endpoint received, in order.
    seen: Rc<RefCell<Vec<(u16, String)>>>,
    closed: Rc<RefCell<usize>>,
}

impl Dial for Network {
    fn dial(&self, address: SocketAddr) -> Dialing {
        let port = address.port();
        let behaviour = self.endpoints.borrow().get(&port).copied().unwrap_or(Behaviour::Refuse);
        let (seen, closed) = (Rc::clone(&self.seen), Rc::clone(&self.closed));
        Box::pin(async move {
            match behaviour {
                Behaviour::Refuse => return Err(io::ErrorKind::ConnectionRefused.into()),
                Behaviour::Hang => std::future::pending().await,
                _ => {}
            }
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::task::spawn_local(serve(far, port, behaviour, seen, closed));
            Ok(Io::Plain(Socket::other(Box::new(near))))
        })
    }
}

async fn serve(
    mut stream: DuplexStream,
    port: u16,
    behaviour: Behaviour,
    seen: Rc<RefCell<Vec<(u16, String)>>>,
    closed: Rc<RefCell<usize>>,
) {
    for turn in 0.. {
        if turn == 1 && matches!(behaviour, Behaviour::CloseOnReuse) {
            let mut first = [0];
            let _ = stream.read(&mut first).await;
            break;
        }
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte).await {
                Ok(1) => request.push(byte[0]),
                _ => {
                    *closed.borrow_mut() += 1;
                    return;
                }
            }
        }
        seen.borrow_mut().push((port, String::from_utf8_lossy(&request).into_owned()));
        let answer = match behaviour {
            Behaviour::Answer(answer) => answer,
            Behaviour::CloseOnReuse => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            _ => continue,
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A sink that keeps the records.
#[derive(Default)]
struct Records(RefCell<Vec<Record>>);

impl Sink for Records {
    fn exchange(&self, record: Box<Record>) {
        self.0.borrow_mut().push(*record);
    }
}

struct Fixture {
    stack: HttpStack,
    network: Rc<Network>,
    records: Rc<Records>,
    /// What the codec found wrong with the next request.
    refusal: Option<Error>,
}

const OK: Behaviour = Behaviour::Answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");

impl Fixture {
    /// A cluster `c` with these endpoints, and `routes` in front of it.
    fn new(endpoints: &[(u16, Behaviour)], routes: &str) -> Fixture {
        let text = format!(
            "service: {{ app: '127.0.0.1:1' }}\nclusters: {{ c: {{ endpoints: ['127.0.0.1:1'], connect_timeout: 1s }} }}\noutbound:\n  routes: {routes}\n"
        );
        let config = config::parse("test.yaml", &text).unwrap_or_else(|problems| panic!("{problems}")).config;
        let own = &config.clusters["c"];
        let mut settings = cluster::Settings::of(own, "");
        settings.balance.policy = cluster::Policy::RoundRobin;
        let cluster = Arc::new(Cluster::new("c", settings, None, cluster::Journal::none()));
        let targets: Vec<_> = endpoints
            .iter()
            .map(|(port, _)| Target::new(SocketAddr::from(([127, 0, 0, 1], *port))))
            .collect();
        cluster.update(&targets);
        let defaults = Defaults {
            request_timeout: Some(Duration::from_secs(15)),
            fallback: Fallback::ClusterByHost(vec![Arc::clone(&cluster)]),
        };
        let table =
            Table::compile(&config.outbound.routes, &|_| Some(Arc::clone(&cluster)), defaults).unwrap();
        let network = Rc::new(Network::default());
        network.endpoints.borrow_mut().extend(endpoints.iter().copied());
        let settings = Settings::new(&limits::Config::default());
        let rng = Rc::new(RefCell::new(Rng::new(7)));
        let balancing = Balancing::new(Rc::clone(&rng));
        let dial = || Rc::clone(&network) as Rc<dyn Dial>;
        let outlet = Mirrors::new(Rc::new(NoSink)).outlet(dial(), settings.upstream, balancing.clone());
        let stack = http_stack(Parts {
            propagate: Propagate::new(Setup { rng: Rng::new(8), in_flight: InFlight::new(), workers: 1 }),
            admission: open_admission(),
            normalize: Normalize::new(&settings.path),
            routing: Routing::new(TableCell::new(Arc::new(table)), Rc::clone(&rng)),
            mirroring: Mirroring::new(outlet, rng, 65_536),
            balancing,
            upstream: Upstream::new(Rc::new(Pools::default()), dial(), settings.upstream),
            retry_body_bytes_max: 65_536,
        });
        Fixture { stack, network, records: Rc::default(), refusal: None }
    }

    fn start(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (Guard, Ctx, <HttpStack as Service<Exchange>>::Future) {
        let connection = Rc::new(Connection {
            direction: Direction::Outbound,
            peer: SocketAddr::from(([127, 0, 0, 1], 50000)),
            local: SocketAddr::from(([127, 0, 0, 1], 15001)),
            is_tls: false,
            identity: None,
            is_trusted: true,
            serial: Default::default(),
        });
        let sink: Rc<dyn Sink> = Rc::clone(&self.records) as Rc<dyn Sink>;
        let (recorder, guard) = Recorder::start(&sink, &connection, Instant::now());
        let mut head = RequestHead::new();
        head.method = method;
        head.set_authority(b"c");
        head.set_path(path.as_bytes());
        for (name, value) in fields {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        recorder.edit().note_request(&head);
        let ctx = Ctx::new(recorder, connection);
        ctx.refused.replace(self.refusal.take());
        let future =
            self.stack.call(Exchange { head: Box::new(head), body: Body::empty(), ctx: ctx.clone() });
        (guard, ctx, future)
    }

    /// A request that the codec found `error` with.
    fn start_refused(&mut self, error: Error) -> (Guard, Ctx, <HttpStack as Service<Exchange>>::Future) {
        self.refusal = Some(error);
        self.start(Method::Get, "/", &[])
    }

    /// Sends a request and reads the whole answer.
    async fn send(&mut self, method: Method, path: &str, fields: &[(&str, &str)]) -> (Response, Bytes) {
        let (guard, _ctx, future) = self.start(method, path, fields);
        let Ok(mut response) = future.await;
        let mut content = Vec::new();
        while let Some(Ok(Frame::Data(data))) = response.body.frame().await {
            content.extend_from_slice(&data);
        }
        guard.complete();
        (response, content.into())
    }

    fn seen(&self) -> Vec<u16> {
        self.network.seen.borrow().iter().map(|(port, _)| *port).collect()
    }

    /// The last record's fields that tests look at.
    fn last<T>(&self, look: impl Fn(&Record) -> T) -> T {
        look(self.records.0.borrow().last().expect("a record"))
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_exchange_reaches_the_endpoint_with_its_context_and_is_recorded() {
    let mut fixture = Fixture::new(&[(1, OK)], "[]");
    let (response, content) = fixture.send(Method::Get, "/a/../b?q", &[("x-account-id", "a1")]).await;
    assert_eq!((response.head.status, &content[..]), (200, &b"ok"[..]));
    let request = fixture.network.seen.borrow()[0].1.clone();
    assert!(request.starts_with("GET /b?q HTTP/1.1\r\nhost: c\r\n"), "{request}");
    for line in ["x-account-id: a1\r\n", "baggage: account.id=a1\r\n", "traceparent: 00-", "x-request-id: "] {
        assert!(request.contains(line), "{line} in {request}");
    }
    let (cluster, attempts, cause) =
        fixture.last(|record| (record.cluster.clone(), record.attempts, record.cause));
    assert_eq!((cluster.as_deref(), attempts, cause), (Some("c"), 1, None));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_is_used_again() {
    let mut fixture = Fixture::new(&[(1, OK)], "[]");
    fixture.send(Method::Get, "/1", &[]).await;
    assert!(fixture.last(|record| record.connect.is_some()));
    fixture.send(Method::Get, "/2", &[]).await;
    assert!(fixture.last(|record| record.connect.is_none()), "the second request connected again");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn every_way_that_an_endpoint_fails_has_its_answer() {
    for (behaviour, status, kind, took_s) in [
        (Behaviour::Refuse, 502, Kind::ConnectFailed, 0),
        (Behaviour::Hang, 504, Kind::ConnectTimeout, 3),
        (Behaviour::Silent, 504, Kind::RequestTimeout, 15),
        (Behaviour::Answer("HTTP/1.1 200 OK\r\nbad header\r\n\r\n"), 502, Kind::UpstreamProtocol, 0),
        (Behaviour::Answer("HTTP/1.1 101 Switching\r\n\r\n"), 502, Kind::UpgradeFailed, 0),
    ] {
        let mut fixture = Fixture::new(&[(1, behaviour)], "[]");
        let started = Instant::now();
        let (response, content) = fixture.send(Method::Get, "/", &[]).await;
        assert_eq!((response.head.status, fixture.last(|record| record.cause)), (status, Some(kind)));
        assert_eq!(started.elapsed().as_secs(), took_s, "{kind:?}");
        let proxy_status =
            String::from_utf8_lossy(response.head.fields.get(Known::ProxyStatus).unwrap()).into_owned();
        assert!(
            proxy_status.contains(kind.answer().token) && proxy_status.contains(kind.cause()),
            "{proxy_status}"
        );
        let problem: serde_json::Value = serde_json::from_slice(&content).unwrap();
        assert_eq!(
            (problem["status"].as_u64(), problem["cause"].as_str()),
            (Some(status.into()), Some(kind.cause()))
        );
        assert!(response.head.fields.has(Known::XRequestId));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_failed_connection_is_tried_at_another_endpoint() {
    let mut fixture = Fixture::new(&[(1, Behaviour::Refuse), (2, OK)], "[]");
    for _ in 0..4 {
        let (response, _) = fixture.send(Method::Post, "/", &[]).await;
        assert_eq!(response.head.status, 200);
    }
    assert_eq!(fixture.seen(), [2, 2, 2, 2]);
    assert!(fixture.records.0.borrow().iter().any(|record| record.attempts == 2));
    assert!(fixture.records.0.borrow().iter().all(|record| record.cause.is_none()), "a retry made it good");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_keep_alive_race_is_repeated_only_where_that_is_safe() {
    let mut fixture = Fixture::new(&[(1, Behaviour::CloseOnReuse)], "[]");
    fixture.send(Method::Get, "/1", &[]).await;
    let (response, _) = fixture.send(Method::Get, "/2", &[]).await;
    assert_eq!(response.head.status, 200, "a GET is repeated on a new connection");
    let (response, _) = fixture.send(Method::Post, "/3", &[]).await;
    assert_eq!(response.head.status, 502, "a POST that may have been seen is not");
    assert_eq!(fixture.last(|record| record.cause), Some(Kind::UpstreamClosed));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let mut fixture = Fixture::new(&[(1, Behaviour::Silent)], "[]");
    let (guard, ctx, future) = fixture.start(Method::Get, "/", &[]);
    assert!(tokio::time::timeout(Duration::from_millis(10), future).await.is_err());
    drop((guard, ctx));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(*fixture.network.closed.borrow(), 1, "the upstream's connection was not closed");
    assert_eq!(fixture.last(|record| (record.status, record.cause)), (499, Some(Kind::ClientGone)));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_try_has_its_own_deadline_and_another_endpoint_gets_the_next() {
    let routes = "[{ cluster: c, timeout: { request: 15s, per_try: 2s } }]";
    let mut fixture = Fixture::new(&[(1, Behaviour::Silent)], routes);
    let started = Instant::now();
    let (response, _) = fixture.send(Method::Get, "/", &[]).await;
    assert_eq!((response.head.status, started.elapsed().as_secs()), (504, 2));
    assert_eq!(fixture.last(|record| record.cause), Some(Kind::PerTryTimeout));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_gateway_error_is_tried_elsewhere_where_the_route_says_so_and_the_method_allows_it() {
    const UNAVAILABLE: Behaviour = Behaviour::Answer("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
    let routes = "[{ cluster: c, retry: { limit: 1, on: [gateway_error] } }]";
    for (method, fields, status) in [
        (Method::Get, &[][..], 200),
        (Method::Post, &[("idempotency-key", "k1")], 200),
        (Method::Post, &[], 503),
        (Method::Get, &[("x-request-type", "TRACE")], 503),
    ] {
        let mut fixture = Fixture::new(&[(1, UNAVAILABLE), (2, OK)], routes);
        let mut statuses = Vec::new();
        for _ in 0..2 {
            statuses.push(fixture.send(method, "/", fields).await.0.head.status);
        }
        // Round robin starts at either endpoint; one of the two exchanges met the one that is unavailable.
        assert_eq!(statuses.iter().max(), Some(&status), "{method:?} {fields:?} {:?}", fixture.seen());
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_grpc_call_is_answered_in_grpc() {
    let mut fixture = Fixture::new(&[(1, Behaviour::Refuse)], "[]");
    let (response, content) =
        fixture.send(Method::Post, "/s/m", &[("content-type", "application/grpc+proto")]).await;
    assert_eq!((response.head.status, content.len()), (200, 0));
    assert_eq!(response.head.fields.get(Known::GrpcStatus), Some(&b"14"[..]));
    assert_eq!(fixture.last(|record| record.grpc_status), Some(14));
}

/// The contract of own answers, for every kind there is: status, Proxy-Status, problem document, event and metric say
/// the same. (`e2e/tests/own_answers.rs` provokes them one by one over real sockets.)
#[tokio::test(flavor = "local", start_paused = true)]
async fn every_kind_of_error_says_the_same_in_answer_event_and_metric() {
    let sinks = pipeline::config::Sinks::default();
    let settings = pipeline::Config { sinks, ..pipeline::Config::default() };
    let (pipeline, workers) =
        Pipeline::start(&settings, pipeline::Service::default(), 1, std::path::Path::new(".")).unwrap();
    let metrics: Rc<dyn Sink> = Rc::new(workers.into_iter().next().unwrap());
    let mut encoder = Encoder::new(&pipeline::Service::default(), 0);
    for kind in Kind::ALL {
        let answer = kind.answer();
        let mut fixture = Fixture::new(&[(1, OK)], "[]");
        let (guard, _ctx, future) = fixture.start_refused(Error::new(kind, "why"));
        let Ok(mut response) = future.await;
        let Some(Ok(Frame::Data(content))) = response.body.frame().await else {
            panic!("{kind:?} has no content")
        };
        guard.complete();

        let header =
            String::from_utf8_lossy(response.head.fields.get(Known::ProxyStatus).unwrap()).into_owned();
        let expected = format!("sidelight; error={}; details=\"{}\"", answer.token, answer.cause);
        assert_eq!((response.head.status, header), (answer.status, expected));
        let problem: serde_json::Value = serde_json::from_slice(&content).unwrap();
        assert_eq!((&problem["cause"], &problem["status"]), (&answer.cause.into(), &answer.status.into()));
        assert!(!problem.to_string().contains("why"), "the detail is not the caller's business");

        let record = fixture.records.0.borrow_mut().pop().expect("a record");
        let mut line = Vec::new();
        encoder.exchange(1, &record, &mut line);
        let event: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(event["sidelight.cause"], answer.cause);
        assert_eq!(event["http.response.status_code"], answer.status);
        assert_eq!(event["sidelight.response_flags"].as_str().unwrap_or_default(), answer.flag.0);
        assert_eq!(event["sidelight.detail"], "why");
        metrics.exchange(Box::new(record));
        let text = pipeline.registry().render(Format::Prometheus);
        let is_counted = text.lines().any(|line| {
            line.starts_with("sidelight_exchanges_total")
                && line.contains(answer.cause)
                && line.ends_with(" 1")
        });
        assert!(is_counted, "{kind:?} is not counted under its cause");
    }
    pipeline.stop(Duration::from_secs(1));
}

/// The size of what one exchange needs is memory for each connection; a layer that grows it says so here.
#[test]
fn the_future_of_the_stack_stays_small() {
    let size = std::mem::size_of::<<HttpStack as Service<Exchange>>::Future>();
    assert!(size <= 1024, "{size} bytes");
}

/// Lets everything in.
fn open_admission() -> AdmissionCell {
    let overload = Arc::new(Overload::new(&limits::Overload::default()));
    AdmissionCell::new(Arc::new(Admission::new("outbound", None, &LoadShed::default(), &overload, None, 0)))
}
