//! The hook in front of a service that stands for balancing and the upstream.

use super::*;
use crate::cluster::config::{Breaker, CircuitBreaker, RetryBudget};
use crate::cluster::{Config, Journal, Outcome, Picked, Settings, Target};
use crate::exchange::{Connection, Direction, Guard, HookLayer, NoSink, Policy, Recorder, Sink};
use crate::svc::{Body, RequestHead, ResponseHead};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{Layer, Service};

/// What the upstream does.
#[derive(Clone, Copy)]
enum Upstream {
    Answer(u16),
    Fail(Kind),
    Hang,
    /// There is no endpoint to pick.
    NoEndpoint,
}

/// Picks the one endpoint, does what it shall, and learns from it, as balancing does.
#[derive(Clone)]
struct Inner(Rc<State>);

struct State {
    next: Cell<Upstream>,
    attempts: Cell<usize>,
}

impl Service<Exchange> for Inner {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Answer>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        self.0.attempts.set(self.0.attempts.get() + 1);
        let (next, ctx) = (self.0.next.get(), exchange.ctx);
        Box::pin(async move {
            if matches!(next, Upstream::NoEndpoint) {
                return Err(Kind::NoEndpoint.into());
            }
            let endpoint = Arc::clone(&ctx.cluster().unwrap().endpoints().endpoints[0]);
            *ctx.picked.borrow_mut() = Some(Picked::new(endpoint));
            ctx.attempt_started.set(Some(Instant::now()));
            ctx.recorder.edit().attempts += 1;
            match next {
                Upstream::Answer(status) => {
                    ctx.settle(Outcome::Answered { status, grpc: None, retry_after: None }, None);
                    Ok(Response::new(ResponseHead::new(status), Body::empty()))
                }
                Upstream::Fail(kind) => {
                    ctx.settle(Outcome::Failed(kind), None);
                    Err(kind.into())
                }
                Upstream::Hang | Upstream::NoEndpoint => std::future::pending().await,
            }
        })
    }
}

struct World {
    cluster: Arc<Cluster>,
    policy: Option<Arc<Policy>>,
    upstream: Rc<State>,
    service: crate::exchange::HookService<CircuitBreaking, Inner>,
}

fn world(circuit_breaker: CircuitBreaker) -> World {
    let retry_budget = RetryBudget { percent: 100, per_second_min: 0, ttl: Duration::from_secs(10) };
    let config = Config { circuit_breaker, retry_budget, ..Config::default() };
    let cluster = Arc::new(Cluster::new("payments", Settings::of(&config, ""), None, Journal::none()));
    cluster.update(&[Target::new(([127, 0, 0, 1], 1).into())]);
    let upstream = Rc::new(State { next: Cell::new(Upstream::Answer(200)), attempts: Cell::new(0) });
    let service = HookLayer(CircuitBreaking).layer(Inner(Rc::clone(&upstream)));
    World { cluster, policy: None, upstream, service }
}

/// An exchange that has been routed, and its guard.
struct Asked {
    ctx: Ctx,
    _guard: Guard,
}

impl World {
    fn ask(&self, account: &str) -> Asked {
        let connection = Connection {
            direction: Direction::Outbound,
            peer: ([10, 0, 0, 9], 1).into(),
            local: ([127, 0, 0, 1], 15001).into(),
            is_tls: false,
            identity: None,
            is_trusted: true,
            serial: Default::default(),
        };
        let sink: Rc<dyn Sink> = Rc::new(NoSink);
        let (recorder, guard) = Recorder::start(&sink, &connection, Instant::now());
        {
            let mut record = recorder.edit();
            record.account_id = record.store(account.as_bytes());
        }
        let ctx = Ctx::new(recorder, Rc::new(connection));
        *ctx.cluster.borrow_mut() = Some(Arc::clone(&self.cluster));
        ctx.policy.borrow_mut().clone_from(&self.policy);
        Asked { ctx, _guard: guard }
    }

    /// One attempt.
    async fn attempt(&mut self, asked: &Asked) -> Answer {
        let head = Box::new(RequestHead::new());
        self.service.call(Exchange { head, body: Body::empty(), ctx: asked.ctx.clone() }).await
    }

    /// An exchange of one attempt, to its end; its status, or why it failed.
    async fn exchange(&mut self, upstream: Upstream) -> Result<u16, Kind> {
        self.upstream.next.set(upstream);
        let asked = self.ask("");
        let answer = self.attempt(&asked).await;
        answer.map(|response| response.head.status).map_err(|error| error.kind())
    }

    fn active(&self) -> u64 {
        self.cluster.breakers.requests.active()
    }
}

fn refusal(answer: Answer) -> (Kind, Refusal) {
    let Err(error) = answer else { panic!("it was let in") };
    assert_eq!(error.replay(), crate::error::Replay::Never, "it would meet the same limit again");
    (error.kind(), error.refusal().unwrap().clone())
}

fn with_breaker() -> CircuitBreaker {
    let breaker = Breaker { jitter_percent: 0, ..Breaker::default() };
    CircuitBreaker { breaker: Some(breaker), ..CircuitBreaker::default() }
}

#[tokio::test(start_paused = true)]
async fn more_requests_than_may_be_are_refused_until_one_ends() {
    let mut world = world(CircuitBreaker { requests: Some(1), ..CircuitBreaker::NONE });
    let first = world.ask("");
    assert!(world.attempt(&first).await.is_ok());
    assert_eq!(world.active(), 1, "its content is still to come");
    let second = world.ask("");
    let (kind, refusal) = refusal(world.attempt(&second).await);
    assert_eq!(kind, Kind::Overflow);
    assert_eq!((refusal.breaker, refusal.scope, &*refusal.name), ("requests", "cluster", "payments"));
    assert_eq!((refusal.limit, refusal.current), (1, 2));
    assert_eq!(world.upstream.attempts.get(), 1, "what is refused goes no further");
    drop(first);
    assert_eq!(world.active(), 0);
    assert!(world.attempt(&second).await.is_ok());
    drop(second);
    assert_eq!(world.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_attempt_takes_the_place_of_the_one_before() {
    let mut world =
        world(CircuitBreaker { requests: Some(1), requests_per_account: Some(1), ..CircuitBreaker::NONE });
    let asked = world.ask("acme");
    world.upstream.next.set(Upstream::Answer(503));
    for _ in 0..3 {
        assert!(world.attempt(&asked).await.is_ok());
        assert_eq!(world.active(), 1);
    }
    world.upstream.next.set(Upstream::Fail(Kind::ConnectFailed));
    assert!(world.attempt(&asked).await.is_err());
    assert_eq!(world.active(), 0, "what failed holds nothing while it waits to be tried again");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_is_a_request_of_its_own_under_the_cap() {
    let mut world = world(CircuitBreaker { requests: Some(2), ..CircuitBreaker::NONE });
    let asked = world.ask("");
    assert!(world.attempt(&asked).await.is_ok());
    let fork = asked.ctx.fork();
    let exchange =
        |ctx: &Ctx| Exchange { head: Box::new(RequestHead::new()), body: Body::empty(), ctx: ctx.clone() };
    assert!(world.service.call(exchange(&fork)).await.is_ok());
    assert_eq!(world.active(), 2);
    let third = asked.ctx.fork();
    assert_eq!(refusal(world.service.call(exchange(&third)).await).1.current, 3);
    drop((fork, third));
    assert_eq!(world.active(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_until_a_probe_succeeded() {
    let mut world = world(with_breaker());
    for _ in 0..5 {
        assert_eq!(world.exchange(Upstream::Answer(503)).await, Ok(503));
    }
    let attempts = world.upstream.attempts.get();
    tokio::time::advance(Duration::from_millis(400)).await;
    let asked = world.ask("");
    let (kind, refusal) = refusal(world.attempt(&asked).await);
    assert_eq!(kind, Kind::BreakerOpen);
    assert_eq!((refusal.breaker, refusal.scope, &*refusal.name), ("breaker", "cluster", "payments"));
    assert_eq!(refusal.retry_after, Some(Duration::from_millis(600)));
    assert_eq!(world.upstream.attempts.get(), attempts);

    // The probe hangs, and is given up: the next request takes its place.
    tokio::time::advance(Duration::from_millis(600)).await;
    world.upstream.next.set(Upstream::Hang);
    let hung = tokio::time::timeout(Duration::from_millis(10), world.attempt(&asked)).await;
    assert!(hung.is_err());
    assert_eq!(world.exchange(Upstream::Answer(200)).await, Err(Kind::BreakerOpen), "one probe at a time");
    drop(asked);
    assert_eq!(world.exchange(Upstream::Answer(429)).await, Ok(429));
    assert_eq!(world.exchange(Upstream::Answer(200)).await, Err(Kind::BreakerOpen), "a 429 fails a probe");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(world.exchange(Upstream::NoEndpoint).await, Err(Kind::NoEndpoint), "nobody was asked");
    assert_eq!(world.exchange(Upstream::Answer(200)).await, Ok(200), "so this is the probe");
    for _ in 0..20 {
        assert_eq!(world.exchange(Upstream::Answer(200)).await, Ok(200));
    }
    assert_eq!(world.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_trace_request_does_not_decide_about_real_traffic() {
    let mut world = world(with_breaker());
    for _ in 0..5 {
        world.exchange(Upstream::Answer(503)).await.unwrap();
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    let tracer = world.ask("");
    tracer.ctx.recorder.edit().request_type = RequestType::Trace;
    assert_eq!(refusal(world.attempt(&tracer).await).0, Kind::BreakerOpen);
    assert_eq!(world.exchange(Upstream::Answer(200)).await, Ok(200), "a real one is the probe");
    assert!(world.attempt(&tracer).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_route_and_an_account_have_caps_of_their_own() {
    let mut world = world(CircuitBreaker::default());
    let config = CircuitBreaker { requests: Some(2), requests_per_account: Some(1), ..CircuitBreaker::NONE };
    let breakers = Arc::new(Breakers::new("route", &"gold".into(), &config, &Journal::none()));
    world.policy = Some(Arc::new(Policy { breakers: Some(Arc::clone(&breakers)), ..Policy::default() }));
    let [a, again, b, c] = ["a", "a", "b", "c"].map(|account| world.ask(account));
    assert!(world.attempt(&a).await.is_ok());
    let (kind, of_account) = refusal(world.attempt(&again).await);
    assert_eq!(kind, Kind::Overflow);
    assert_eq!(
        (of_account.breaker, of_account.scope, &*of_account.name),
        ("requests_per_account", "account", "a")
    );
    assert_eq!(world.active(), 1, "what was taken before the refusal is given back");
    assert!(world.attempt(&b).await.is_ok());
    let (_, of_route) = refusal(world.attempt(&c).await);
    assert_eq!((of_route.breaker, of_route.scope, &*of_route.name), ("requests", "route", "gold"));
    assert_eq!((world.active(), breakers.requests.active()), (2, 2));
    drop(a);
    assert!(world.attempt(&again).await.is_ok());
    drop((again, b, c));
    assert_eq!((world.active(), breakers.requests.active()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_a_cap_refuses_is_no_probe() {
    let mut world = world(CircuitBreaker { requests: Some(1), ..with_breaker() });
    for _ in 0..5 {
        world.exchange(Upstream::Answer(503)).await.unwrap();
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    world.cluster.breakers.requests.try_enter().unwrap();
    assert_eq!(world.exchange(Upstream::Answer(200)).await, Err(Kind::Overflow));
    world.cluster.breakers.requests.leave();
    assert_eq!(world.exchange(Upstream::Answer(200)).await, Ok(200));
    assert!(world.cluster.breakers.is_closed());
}

#[tokio::test(start_paused = true)]
async fn the_budget_grows_with_requests_that_were_let_in_and_not_with_retries() {
    let mut world = world(CircuitBreaker { requests: Some(1), ..CircuitBreaker::NONE });
    let balance = |world: &World| world.cluster.budget.balance(clock_ns(Instant::now()));
    let asked = world.ask("");
    for _ in 0..3 {
        assert!(world.attempt(&asked).await.is_ok());
    }
    assert_eq!(balance(&world), 1);
    let fork = asked.ctx.fork();
    let _ = world
        .service
        .call(Exchange { head: Box::new(RequestHead::new()), body: Body::empty(), ctx: fork })
        .await;
    let refused = world.ask("");
    assert!(world.attempt(&refused).await.is_err());
    assert_eq!(balance(&world), 1);
    drop(asked);
    assert!(world.attempt(&refused).await.is_ok());
    assert_eq!(balance(&world), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_cluster_nothing_is_asked() {
    let mut world = world(CircuitBreaker { requests: Some(0), ..CircuitBreaker::NONE });
    let asked = world.ask("");
    asked.ctx.cluster.replace(None);
    world.upstream.next.set(Upstream::NoEndpoint);
    let Err(error) = world.attempt(&asked).await else { panic!("there is no endpoint") };
    assert_eq!(error.kind(), Kind::NoEndpoint);
}
