//! The whole stack on a simulated network, with a seed: what goes wrong, when, and where is drawn from it, and the same
//! seed gives the same run. The clock is paused, so minutes pass in moments.
//!
//! `make sim` runs more seeds than the tests do; `SIM_SEED=n` runs one of them again.

mod network;
mod scenarios;

use super::http::{HttpStack, Parts, http_stack};
use super::mirror::Mirrors;
use super::settings::Settings;
use crate::balance::layer::Balancing;
use crate::cluster::{self, Change, Cluster, Journal, Target, What, clock_ns};
use crate::connect::{Dial, Pools, Upstream};
use crate::context::Rng;
use crate::exchange::in_flight::InFlight;
use crate::exchange::{Connection, Ctx, Direction, Exchange, NoSink, Record, Recorder, Sink};
use crate::protocol::normalize::Normalize;
use crate::protocol::propagate::{Propagate, Setup};
use crate::resilience::admission::{Admission, AdmissionCell};
use crate::resilience::config::LoadShed;
use crate::resilience::overload::Overload;
use crate::route::{Defaults, Fallback, Mirroring, Routing, Table, TableCell};
use crate::svc::{Body, Frame, Method, RequestHead};
use crate::{config, health, limits};
use network::{Fault, Lie, Network};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower::Service;

/// Two workers, one cluster, a network.
struct World {
    network: Rc<Network>,
    cluster: Arc<Cluster>,
    changes: RefCell<Receiver<Change>>,
    stacks: Vec<HttpStack>,
    pools: Vec<Rc<Pools>>,
    records: Rc<Records>,
    answers: Rc<RefCell<Vec<Answered>>>,
    sent: Cell<u64>,
    rng: RefCell<Rng>,
    start: Instant,
    /// Health checks, where the cluster has them.
    _checks: Option<health::Running>,
}

/// What became of a request.
#[derive(Clone, Debug)]
struct Answered {
    /// When it was sent, since the start.
    at: Duration,
    /// How long the answer took, content included.
    took: Duration,
    status: u16,
}

#[derive(Default)]
struct Records(RefCell<Vec<Record>>);

impl Sink for Records {
    fn exchange(&self, record: Box<Record>) {
        self.0.borrow_mut().push(*record);
    }
}

/// A request of the load.
struct Request {
    method: Method,
    account: u64,
}

impl World {
    /// A world of `network`; `cluster` and `route` are what a user writes of them.
    fn new(network: Network, cluster: &str, route: &str, seed: u64) -> Rc<World> {
        let text = format!(
            "service: {{ name: sim, app: '127.0.0.1:1' }}\nclusters:\n  c: {{ endpoints: ['127.0.0.1:1'], {cluster} }}\n\
             outbound:\n  routes: [{{ name: all, cluster: c, {route} }}]\n"
        );
        let loaded = config::parse("sim.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"));
        let config = loaded.config;
        let mut own = cluster::Settings::of(&config.clusters["c"], "");
        own.seed = seed;
        let (journal, changes) = Journal::new();
        let cluster = Arc::new(Cluster::new("c", own, None, journal));
        let mut ports: Vec<u16> = network.servers.keys().copied().collect();
        ports.sort_unstable();
        let targets: Vec<Target> =
            ports.iter().map(|port| Target::new(SocketAddr::from(([127, 0, 0, 1], *port)))).collect();
        cluster.update(&targets);
        let network = Rc::new(network);
        let pools: Vec<Rc<Pools>> = vec![Rc::default(), Rc::default()];
        let mut rng = Rng::new(seed);
        let stacks =
            pools.iter().map(|pools| stack(&config, &cluster, &network, pools, rng.next_u64())).collect();
        let checks = config.clusters["c"].health.as_ref();
        let checks = checks.map(|config| check(&cluster, config, &network, rng.next_u64()));
        Rc::new(World {
            network,
            cluster,
            changes: RefCell::new(changes),
            stacks,
            pools,
            records: Rc::default(),
            answers: Rc::default(),
            sent: Cell::new(0),
            rng: RefCell::new(rng),
            start: Instant::now(),
            _checks: checks,
        })
    }

    fn random(&self, below: u64) -> u64 {
        self.rng.borrow_mut().next_u64() % below.max(1)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Sends one request in a task of its own.
    fn send(self: &Rc<World>, request: Request) {
        let number = self.sent.get();
        self.sent.set(number + 1);
        let world = Rc::clone(self);
        tokio::task::spawn_local(async move { world.exchange(number, request).await });
    }

    async fn exchange(&self, number: u64, request: Request) {
        let at = self.elapsed();
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
        head.method = request.method;
        head.set_authority(b"c");
        head.set_path(format!("/{number}").as_bytes());
        head.fields.push(b"x-account-id", format!("a{}", request.account).as_bytes());
        recorder.edit().note_request(&head);
        let ctx = Ctx::new(recorder, connection);
        let mut stack = self.stacks[number as usize % self.stacks.len()].clone();
        let Ok(mut response) =
            stack.call(Exchange { head: Box::new(head), body: Body::empty(), ctx: ctx.clone() }).await;
        while let Some(Ok(Frame::Data(_))) = response.body.frame().await {}
        guard.complete();
        let took = self.elapsed() - at;
        let status = response.head.status;
        self.answers.borrow_mut().push(Answered { at, took, status });
    }

    /// Sends `per_second` requests for `time`, at random moments; `make` makes each of them.
    async fn load(
        self: &Rc<World>,
        per_second: u32,
        time: Duration,
        mut make: impl FnMut(&World) -> Request,
    ) {
        let end = Instant::now() + time;
        let gap_us = 1_000_000 / u64::from(per_second.max(1));
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_micros(self.random(2 * gap_us))).await;
            let request = make(self);
            self.send(request);
        }
    }

    /// What the control side and the workers do now and then.
    fn tend(self: &Rc<World>) {
        let world = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let Some(world) = world.upgrade() else { return };
                world.cluster.sweep_outliers(clock_ns(Instant::now()));
                world.pools.iter().for_each(|pools| pools.sweep(Instant::now()));
            }
        });
    }

    /// Waits until every request has its answer; they all have a deadline.
    async fn settle(&self) {
        let patience = Instant::now() + Duration::from_secs(60);
        while (self.answers.borrow().len() as u64) < self.sent.get() && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Hedges that lost, and tasks that only drop something.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// What holds whatever happened: nobody is without an answer, and nothing is still counted.
    fn check_books(&self, seed: u64) {
        let sent = self.sent.get();
        assert_eq!(self.answers.borrow().len() as u64, sent, "seed {seed}: a request was lost");
        assert_eq!(self.records.0.borrow().len() as u64, sent, "seed {seed}: each request has one record");
        for endpoint in &self.cluster.endpoints().endpoints {
            let in_flight = endpoint.load.in_flight.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(in_flight, 0, "seed {seed}: {} still has attempts in flight", endpoint.address);
        }
        let breakers = &self.cluster.breakers;
        for cap in [&breakers.requests, &breakers.pending, &breakers.retries] {
            assert_eq!(cap.active(), 0, "seed {seed}: {} are still counted", cap.what);
        }
    }

    /// Changes so far.
    fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Ok(change) = self.changes.borrow_mut().try_recv() {
            changes.push(change);
        }
        changes
    }
}

/// Starts health checks over the network. Whoever checks may live on another thread, and the network cannot: it is asked
/// through a channel.
fn check(
    cluster: &Arc<Cluster>,
    config: &cluster::config::HealthCheck,
    network: &Rc<Network>,
    seed: u64,
) -> health::Running {
    type Asked = (SocketAddr, oneshot::Sender<Result<(), String>>);
    let (ask, mut asked) = mpsc::unbounded_channel::<Asked>();
    let network = Rc::clone(network);
    tokio::task::spawn_local(async move {
        while let Some((address, mut answer)) = asked.recv().await {
            let network = Rc::clone(&network);
            tokio::task::spawn_local(async move {
                tokio::select! {
                    biased;
                    // Cut at its timeout, a check closes its connection.
                    () = answer.closed() => {}
                    verdict = network.check(address) => drop(answer.send(verdict)),
                }
            });
        }
    });
    health::start_with(Arc::clone(cluster), config, &Handle::current(), seed, move |endpoint| {
        let (answer, verdict) = oneshot::channel();
        let _ = ask.send((endpoint.address, answer));
        async move { verdict.await.unwrap_or_else(|_| Err("the network is gone".into())) }
    })
}

/// The stack of one worker.
fn stack(
    config: &config::Config,
    cluster: &Arc<Cluster>,
    network: &Rc<Network>,
    pools: &Rc<Pools>,
    seed: u64,
) -> HttpStack {
    let defaults = Defaults {
        request_timeout: Some(Duration::from_secs(15)),
        fallback: Fallback::ClusterByHost(vec![Arc::clone(cluster)]),
    };
    let table = Table::compile(&config.outbound.routes, &|_| Some(Arc::clone(cluster)), defaults);
    let settings = Settings::new(&limits::Config::default());
    let rng = Rc::new(RefCell::new(Rng::new(seed)));
    let balancing = Balancing::new(Rc::clone(&rng));
    let dial = || Rc::clone(network) as Rc<dyn Dial>;
    let outlet = Mirrors::new(Rc::new(NoSink)).outlet(dial(), settings.upstream, balancing.clone());
    http_stack(Parts {
        propagate: Propagate::new(Setup { rng: Rng::new(seed ^ 1), in_flight: InFlight::new(), workers: 1 }),
        admission: open_admission(),
        normalize: Normalize::new(&settings.path),
        routing: Routing::new(TableCell::new(Arc::new(table.expect("routes that compile"))), Rc::clone(&rng)),
        mirroring: Mirroring::new(outlet, rng, 65_536),
        balancing,
        upstream: Upstream::new(Rc::clone(pools), dial(), settings.upstream),
        retry_body_bytes_max: 65_536,
    })
}

/// Lets everything in.
fn open_admission() -> AdmissionCell {
    let overload = Arc::new(Overload::new(&limits::Overload::default()));
    AdmissionCell::new(Arc::new(Admission::new("outbound", None, &LoadShed::default(), &overload, None, 0)))
}
