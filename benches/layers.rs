//! The layers of resilience alone: what each adds to a request that is let through, and answered well and at once. A row
//! is a layer around a service that answers; the row `nothing` is that service alone, so a layer costs its row less that
//! one. What the exchange gives back when it ends is part of it.

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main};
use sidelight::{
    balance::layer::Balancing,
    cluster::{self, Cluster, Target, config::Breaker},
    context::Rng,
    error::Error,
    exchange::{
        Answer, Connection, Ctx, Direction, Exchange, Guard, Hook, HookLayer, NoSink, Policy, Recorder,
        Response, Sink,
    },
    limits,
    policy::rate_limit::RateLimiting,
    quota::{Part, Rate, RateLimit, Settings},
    resilience::{
        admission::{Admission, AdmissionCell, AdmissionLayer},
        circuit_breaker::CircuitBreaking,
        config::{Concurrency, Limit, LoadShed},
        deadline::Deadlines,
        overload::{Overload, Usage},
        retry::RetryLayer,
        timeout::{Scope, TimeoutLayer},
    },
    route::{Defaults, Duplicate, Fallback, Mirroring, Open, Outlet, Rewriting, Table, config::Route},
    svc::{Body, RequestHead, ResponseHead, Version},
};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder};

/// Exchanges that are made before some are measured: few enough to stay in the cache.
const BATCH: BatchSize = BatchSize::NumIterations(64);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Stands for the upstream: answers 200, and notes what a client notes.
#[derive(Clone, Copy)]
struct Upstream {
    /// Whether its answer is there at the first look.
    is_at_once: bool,
}

impl Service<Exchange> for Upstream {
    type Response = Response;
    type Error = Error;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, exchange: Exchange) -> Reply {
        exchange.ctx.recorder.edit().attempts += 1;
        Reply { exchange, is_there: self.is_at_once }
    }
}

struct Reply {
    exchange: Exchange,
    is_there: bool,
}

impl Future for Reply {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        if !std::mem::replace(&mut self.is_there, true) {
            return Poll::Pending; // and looked at again at once
        }
        self.exchange.ctx.note_answer(Version::Http11);
        Poll::Ready(Ok(Response::new(ResponseHead::new(200), Body::empty())))
    }
}

/// Where copies would go.
struct Nowhere;

impl Outlet for Nowhere {
    fn send(&self, _: Duplicate) -> bool {
        false
    }
}

/// What every exchange of a row has in common.
struct World {
    cluster: Arc<Cluster>,
    policy: Arc<Policy>,
    connection: Rc<Connection>,
    sink: Rc<dyn Sink>,
    head: RequestHead,
}

impl World {
    /// A cluster of three endpoints, and the policy of a route that says nothing but its cluster.
    fn new() -> World {
        World::of(&cluster::Config::default(), None)
    }

    fn of(config: &cluster::Config, policy: Option<Policy>) -> World {
        let cluster = Arc::new(Cluster::plain("upstream", config));
        let targets = [1, 2, 3].map(|last| Target::new(([10, 0, 0, last], 80).into()));
        cluster.update(&targets);
        let mut head = RequestHead::new();
        head.set_authority(b"bench.example");
        head.set_path(b"/1k");
        World {
            policy: policy.map_or_else(|| default_policy(&cluster), Arc::new),
            cluster,
            connection: Rc::new(Connection {
                direction: Direction::Outbound,
                peer: ([127, 0, 0, 1], 50000).into(),
                local: ([127, 0, 0, 1], 15001).into(),
                is_tls: false,
                identity: None,
                is_trusted: true,
                serial: Default::default(),
            }),
            sink: Rc::new(NoSink),
            head,
        }
    }

    fn with(policy: Policy) -> World {
        World::of(&cluster::Config::default(), Some(policy))
    }

    fn field(mut self, name: &str, value: &str) -> World {
        self.head.fields.push(name.as_bytes(), value.as_bytes());
        self
    }

    /// An exchange that was routed. The guard ends its record.
    fn exchange(&self) -> (Exchange, Guard) {
        let (recorder, guard) = Recorder::start(&self.sink, &self.connection, Instant::now());
        {
            let mut record = recorder.edit();
            record.note_request(&self.head);
            record.account_id = record.store(b"account-c9f0f895");
            record.license = record.store(b"gold");
        }
        let ctx = Ctx::new(recorder, Rc::clone(&self.connection));
        *ctx.policy.borrow_mut() = Some(Arc::clone(&self.policy));
        *ctx.cluster.borrow_mut() = Some(Arc::clone(&self.cluster));
        ctx.deadline.set(self.policy.timeout.map(|timeout| Instant::now() + timeout));
        (Exchange { head: Box::new(self.head.clone()), body: Body::empty(), ctx }, guard)
    }
}

/// What a route has that says nothing of timeouts and retries.
fn default_policy(cluster: &Arc<Cluster>) -> Arc<Policy> {
    let route = Route { cluster: Some("upstream".into()), ..Route::default() };
    let defaults = Defaults { request_timeout: Some(REQUEST_TIMEOUT), fallback: Fallback::None };
    let table = Table::compile(&[route], &|_| Some(Arc::clone(cluster)), defaults);
    let Ok(table) = table else { panic!("the route does not compile") };
    let head = RequestHead::new();
    let request = sidelight::route::RequestView {
        head: &head,
        direction: Direction::Outbound,
        context: sidelight::route::ContextView::default(),
        random: 0,
    };
    match table.find(&request).policy {
        Some(policy) => Arc::clone(policy),
        None => panic!("the route has no policy"),
    }
}

/// Drives a call to its end; whether it was answered 200.
fn run<S>(service: &mut S, exchange: Exchange) -> bool
where
    S: Service<Exchange, Response = Response, Error = Error>,
{
    let mut future = pin!(service.call(exchange));
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
            return answer.is_ok_and(|response| response.head.status == 200);
        }
    }
}

struct Rows<'a> {
    group: BenchmarkGroup<'a, WallTime>,
}

impl Rows<'_> {
    /// `service`, as it is.
    fn service<S>(&mut self, name: &str, world: &World, mut service: S)
    where
        S: Service<Exchange, Response = Response, Error = Error>,
    {
        let (exchange, _guard) = world.exchange();
        assert!(run(&mut service, exchange), "{name}: it is let through");
        self.group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || world.exchange(),
                // The record is not part of it: the guard lives longer.
                |(exchange, guard)| (run(&mut service, exchange), guard),
                BATCH,
            );
        });
    }

    /// `layer` around the upstream.
    fn layer<L>(&mut self, name: &str, world: &World, layer: L)
    where
        L: Layer<Upstream>,
        L::Service: Service<Exchange, Response = Response, Error = Error>,
    {
        self.service(name, world, layer.layer(Upstream { is_at_once: true }));
    }

    fn hook<H: Hook>(&mut self, name: &str, world: &World, hook: H) {
        self.layer(name, world, HookLayer(hook));
    }
}

/// Admission with this limit, while so much of the memory is used.
fn admission(limit: Option<Limit>, used_percent: u64) -> AdmissionLayer {
    let overload = Arc::new(Overload::new(&limits::Overload::default()));
    overload.observe(Some(Usage { used_bytes: used_percent, limit_bytes: 100, of: "cgroup" }));
    let concurrency = limit.map(|limit| Concurrency { limit, ..Concurrency::default() });
    let tiers = LoadShed { tiers: vec!["free".into(), "gold".into()], ..LoadShed::default() };
    let admission = Admission::new("outbound", concurrency.as_ref(), &tiers, &overload, None, 1);
    AdmissionLayer(AdmissionCell::new(Arc::new(admission)))
}

/// A limit for each account that nobody reaches.
fn per_account(has_headers: bool) -> Policy {
    let rate = Rate { requests: u32::MAX, per: Duration::from_secs(5), burst: u32::MAX };
    let settings = Settings {
        name: "account_id".into(),
        key: vec![Part::AccountId],
        rate,
        overrides: BTreeMap::new(),
        keys_max: 10_000,
        has_headers,
    };
    Policy { rate_limits: vec![Arc::new(RateLimit::new(settings, Instant::now()))], ..Policy::default() }
}

fn rng() -> Rc<RefCell<Rng>> {
    Rc::new(RefCell::new(Rng::new(1)))
}

fn mirroring() -> Mirroring {
    Mirroring::new(Rc::new(Nowhere), rng(), 65_536)
}

fn with_breaker() -> World {
    let mut config = cluster::Config::default();
    config.circuit_breaker.breaker = Some(Breaker::default());
    World::of(&config, None)
}

fn layers(criterion: &mut Criterion) {
    // Timers need a runtime; nothing runs on it.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        panic!("no runtime")
    };
    let _entered = runtime.enter();
    let mut group = criterion.benchmark_group("layers");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    let mut rows = Rows { group };
    let world = World::new();

    rows.service("nothing", &world, Upstream { is_at_once: true });
    rows.hook("a hook that does nothing", &world, Open);

    rows.layer("admission, off", &world, admission(None, 0));
    rows.layer("admission, fixed limit", &world, admission(Some(Limit::Fixed(100)), 0));
    rows.layer("admission, auto", &world, admission(Some(Limit::Auto), 0));
    rows.layer("admission, off, memory nearly used up", &world, admission(None, 86));

    rows.hook("rate limit, none", &world, RateLimiting);
    rows.hook("rate limit, per account", &World::with(per_account(false)), RateLimiting);
    rows.hook("rate limit, per account, told in fields", &World::with(per_account(true)), RateLimiting);

    rows.hook("deadline, none", &world, Deadlines::default());
    let told = World::new().field("x-envoy-expected-rq-timeout-ms", "1000");
    rows.hook("deadline, of the caller", &told, Deadlines::default());

    let forever = World::with(Policy::default());
    rows.layer("timeout of the request, none", &forever, TimeoutLayer(Scope::Request));
    rows.layer("timeout of the request", &world, TimeoutLayer(Scope::Request));

    rows.hook("rewriting, off", &world, Rewriting);
    rows.hook("mirroring, off", &world, mirroring());

    let retry = RetryLayer { body_bytes_max: 65_536 };
    rows.layer("retry, off", &forever, retry);
    rows.layer("retry, default policy", &world, retry);

    rows.hook("circuit breakers, default caps", &world, CircuitBreaking);
    rows.hook("circuit breakers, with a breaker", &with_breaker(), CircuitBreaking);

    rows.hook("balancing, 3 endpoints", &world, Balancing::new(rng()));
    rows.hook("balancing, 3 endpoints, a breaker learns", &with_breaker(), Balancing::new(rng()));

    rows.layer("timeout of a try, none", &world, TimeoutLayer(Scope::Try));
    let per_try = Policy { per_try_timeout: Some(Duration::from_secs(1)), ..Policy::default() };
    rows.layer("timeout of a try", &World::with(per_try), TimeoutLayer(Scope::Try));

    // As in the stack, with what is on by default.
    let all = ServiceBuilder::new()
        .layer(admission(None, 0))
        .layer(HookLayer(RateLimiting))
        .layer(HookLayer(Deadlines::default()))
        .layer(TimeoutLayer(Scope::Request))
        .layer(HookLayer(Rewriting))
        .layer(HookLayer(mirroring()))
        .layer(retry)
        .layer(HookLayer(CircuitBreaking))
        .layer(HookLayer(Balancing::new(rng())))
        .layer(TimeoutLayer(Scope::Try));
    rows.layer("all of them, as by default", &world, all.clone());

    // Most answers are not there at the first look: then a timer is armed.
    let later = Upstream { is_at_once: false };
    rows.service("nothing, at the second look", &world, later);
    rows.service(
        "timeout of the request, at the second look",
        &world,
        TimeoutLayer(Scope::Request).layer(later),
    );
    rows.service("all of them, at the second look", &world, all.service(later));
    rows.group.finish();
}

criterion_group!(benches, layers);
criterion_main!(benches);
