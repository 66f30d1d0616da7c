//! A worker: one thread, one current-thread runtime, its own connections, pools, metric block and event ring.
//!
//! Nothing is shared with other workers but endpoint load and the configuration's compiled tables, so nothing on the
//! request path is locked. Each worker accepts on its own copy of the listening sockets and hands a connection to the
//! worker that has the fewest: a sidecar has few, long connections, and a hash over ports would leave cores idle.

use super::http::{Parts, http_stack};
use super::mirror::Mirrors;
use super::opaque::Carriage;
use super::settings::Settings;
use super::site::{Role, Site, Traffic};
use crate::balance::layer::Balancing;
use crate::connect::{Pools, TcpDial, Upstream};
use crate::context::Rng;
use crate::drain;
use crate::exchange::in_flight::InFlight;
use crate::exchange::{NoSink, Sink};
use crate::limits;
use crate::pipeline::WorkerSink;
use crate::pipeline::metrics::connections::ConnectionStats;
use crate::protocol::normalize::Normalize;
use crate::protocol::propagate::{Propagate, Rules, Setup};
use crate::resilience::admission::{Admission, AdmissionCell};
use crate::route::{Mirroring, Routing, Table, TableCell};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A configuration, compiled: what every worker is given at start and at each reload.
#[derive(Clone)]
pub struct Applied {
    /// The listeners, by role.
    pub listeners: Vec<Listening>,
    /// Bounds.
    pub limits: limits::Config,
    /// What the events call this configuration.
    pub revision: Arc<str>,
    /// What becomes of contexts.
    pub rules: Arc<Rules>,
    /// How many connections all workers together accept.
    pub connections_max: usize,
}

/// A listener and what it is for.
#[derive(Clone)]
pub struct Listening {
    /// What it is for.
    pub role: Role,
    /// Where its connections may go.
    pub traffic: Traffic,
    /// Its routes.
    pub table: Arc<Table>,
    /// Its socket; every worker has a copy.
    pub socket: Arc<TcpListener>,
    /// Its counters.
    pub stats: Arc<ConnectionStats>,
    /// What it lets in.
    pub admission: Arc<Admission>,
}

/// What a worker is made of; moved to its thread.
pub struct Seed {
    /// Its number.
    pub index: usize,
    /// Its end of the pipeline.
    pub sink: WorkerSink,
    /// The drain signal of the process.
    pub signal: drain::Signal,
    /// A random number from the operating system.
    pub random: u64,
    /// The inbound exchanges under way, of all workers.
    pub in_flight: Arc<InFlight>,
}

/// How the control side speaks to a worker.
#[derive(Clone)]
pub struct Handle {
    commands: UnboundedSender<Command>,
    load: Arc<Load>,
}

/// A worker's connections, for the others to compare with.
#[derive(Default)]
#[repr(align(64))]
struct Load {
    connections: AtomicUsize,
    /// Exchanges and connections that end by themselves are done.
    is_stopped: AtomicBool,
}

enum Command {
    Apply(Arc<Applied>),
    Connection(Role, TcpStream, SocketAddr),
    Drain,
    StopAccepting,
    Stop,
}

impl Handle {
    /// Gives the worker a configuration.
    pub fn apply(&self, applied: &Arc<Applied>) {
        let _ = self.commands.send(Command::Apply(Arc::clone(applied)));
    }

    /// Tells connections that draining began; the signal must be set before.
    pub fn drain(&self) {
        let _ = self.commands.send(Command::Drain);
    }

    /// Closes the listening sockets.
    pub fn stop_accepting(&self) {
        let _ = self.commands.send(Command::StopAccepting);
    }

    /// Ends the worker's thread, and every connection that is left.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
    }

    /// How many connections the worker has.
    pub fn connections(&self) -> usize {
        self.load.connections.load(Ordering::Acquire)
    }

    /// Whether the thread is done.
    pub fn is_stopped(&self) -> bool {
        self.load.is_stopped.load(Ordering::Acquire)
    }
}

/// Starts the workers.
///
/// # Errors
/// The system refuses a thread or a runtime.
pub fn start(seeds: Vec<Seed>, applied: &Arc<Applied>) -> io::Result<Vec<Handle>> {
    let mut receivers = Vec::new();
    let mut handles = Vec::new();
    for _ in &seeds {
        let (commands, receiver) = unbounded_channel();
        handles.push(Handle { commands, load: Arc::default() });
        receivers.push(receiver);
    }
    let peers: Arc<[Handle]> = handles.clone().into();
    for (seed, receiver) in seeds.into_iter().zip(receivers) {
        let (peers, applied) = (Arc::clone(&peers), Arc::clone(applied));
        std::thread::Builder::new().name(format!("worker-{}", seed.index)).spawn(move || {
            let load = peers.get(seed.index).map(|handle| Arc::clone(&handle.load)).unwrap_or_default();
            if let Err(error) = run(seed, receiver, peers, &applied) {
                tracing::error!(%error, "a worker could not start");
            }
            load.is_stopped.store(true, Ordering::Release);
        })?;
    }
    Ok(handles)
}

fn run(
    seed: Seed,
    receiver: UnboundedReceiver<Command>,
    peers: Arc<[Handle]>,
    applied: &Arc<Applied>,
) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async move {
        let worker = Rc::new(Worker::new(seed, peers));
        worker.apply(applied)?;
        worker.serve(receiver).await;
        Ok(())
    })
}

struct Worker {
    index: usize,
    peers: Arc<[Handle]>,
    sink: Rc<dyn Sink>,
    watch: drain::Watch,
    pools: Rc<Pools>,
    mirrors: Mirrors,
    rng: Rc<RefCell<Rng>>,
    propagate: Propagate,
    open: RefCell<HashMap<String, Open>>,
    connections_max: std::cell::Cell<usize>,
}

/// A listener that this worker accepts on.
struct Open {
    site: Rc<RefCell<Rc<Site>>>,
    table: TableCell,
    admission: AdmissionCell,
    socket: Arc<TcpListener>,
    acceptor: JoinHandle<()>,
}

/// How often idle upstream connections are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

impl Worker {
    fn new(seed: Seed, peers: Arc<[Handle]>) -> Worker {
        let mut rng = Rng::new(seed.random);
        // Ids and choices draw from generators of their own: what one draws does not show in the other.
        let ids = Rng::new(rng.next_u64());
        Worker {
            index: seed.index,

            sink: Rc::new(seed.sink),
            watch: drain::Watch::new(seed.signal),
            pools: Rc::default(),
            // Copies are no exchanges of this service: nobody is told of each.
            mirrors: Mirrors::new(Rc::new(NoSink)),
            rng: Rc::new(RefCell::new(rng)),
            propagate: Propagate::new(Setup { rng: ids, in_flight: seed.in_flight, workers: peers.len() }),
            peers,
            open: RefCell::default(),
            connections_max: std::cell::Cell::new(usize::MAX),
        }
    }

    async fn serve(self: &Rc<Self>, mut commands: UnboundedReceiver<Command>) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let command = tokio::select! {
                command = commands.recv() => command,
                _ = sweep.tick() => {
                    self.pools.sweep(Instant::now());
                    self.mirrors.sweep(Instant::now());
                    continue;
                }
                () = self.pools.attend() => continue,
                () = self.mirrors.attend() => continue,
            };
            match command {
                Some(Command::Apply(applied)) => {
                    if let Err(error) = self.apply(&applied) {
                        tracing::error!(%error, "a worker could not take over a listener");
                    }
                }
                Some(Command::Connection(role, stream, peer)) => self.adopt(&role, stream, peer),
                Some(Command::Drain) => self.watch.wake_all(),
                Some(Command::StopAccepting) => self.stop_accepting(),
                Some(Command::Stop) | None => return drain::start_cutting(),
            }
        }
    }

    /// Takes a configuration over: new listeners are opened, those that are gone are closed, the others go on with new
    /// routes and settings. Connections stay.
    fn apply(self: &Rc<Self>, applied: &Arc<Applied>) -> io::Result<()> {
        self.connections_max.set(applied.connections_max);
        self.propagate.configure(&applied.rules);
        let settings = Settings::new(&applied.limits);
        let mut open = self.open.borrow_mut();
        let mut kept = HashMap::new();
        for listening in &applied.listeners {
            let name = listening.role.name();
            let entry = match open.remove(&name) {
                Some(entry) if Arc::ptr_eq(&entry.socket, &listening.socket) => {
                    entry.table.swap(Arc::clone(&listening.table));
                    entry.admission.swap(Arc::clone(&listening.admission));
                    let cells = (entry.table.clone(), entry.admission.clone());
                    let site = self.site(listening, &settings, applied, cells);
                    entry.site.replace(Rc::new(site));
                    entry
                }
                old => {
                    if let Some(old) = old {
                        old.acceptor.abort();
                    }
                    self.listen(listening, &settings, applied)?
                }
            };
            kept.insert(name, entry);
        }
        for (_, gone) in open.drain() {
            gone.acceptor.abort();
        }
        *open = kept;
        Ok(())
    }

    fn listen(
        self: &Rc<Self>,
        listening: &Listening,
        settings: &Settings,
        applied: &Arc<Applied>,
    ) -> io::Result<Open> {
        let table = TableCell::new(Arc::clone(&listening.table));
        let admission = AdmissionCell::new(Arc::clone(&listening.admission));
        let site = self.site(listening, settings, applied, (table.clone(), admission.clone()));
        let site = Rc::new(RefCell::new(Rc::new(site)));
        let socket = listening.socket.try_clone()?;
        socket.set_nonblocking(true)?;
        let socket = tokio::net::TcpListener::from_std(socket)?;
        let (worker, role) = (Rc::clone(self), listening.role.clone());
        let acceptor = tokio::task::spawn_local(async move { worker.accept(socket, role).await });
        Ok(Open { site, table, admission, socket: Arc::clone(&listening.socket), acceptor })
    }

    fn site(
        &self,
        listening: &Listening,
        settings: &Settings,
        applied: &Applied,
        (table, admission): (TableCell, AdmissionCell),
    ) -> Site {
        let keepalive = &applied.limits.tcp_keepalive;
        let dial = TcpDial {
            keepalive_time: keepalive.time,
            keepalive_interval: keepalive.interval,
            keepalive_probes: keepalive.probes,
        };
        let upstream = Upstream::new(Rc::clone(&self.pools), Rc::new(dial), settings.upstream);
        let balancing = Balancing::new(Rc::clone(&self.rng));
        let outlet = self.mirrors.outlet(Rc::new(dial), settings.upstream, balancing.clone());
        let retry_body_bytes_max = applied.limits.retry_body_bytes_max;
        let stack = http_stack(Parts {
            propagate: self.propagate.clone(),
            admission,
            normalize: Normalize::new(&settings.path),
            routing: Routing::new(table, Rc::clone(&self.rng)),
            mirroring: Mirroring::new(outlet, Rc::clone(&self.rng), retry_body_bytes_max),
            balancing,
            upstream: upstream.clone(),
            retry_body_bytes_max,
        });
        Site {
            role: listening.role.clone(),
            traffic: listening.traffic.clone(),
            settings: settings.clone(),
            stack,
            carriage: Carriage {
                upstream,
                sink: Rc::clone(&self.sink),
                rng: Rc::clone(&self.rng),
                idle_timeout: settings.tcp_idle_timeout,
            },
            sink: Rc::clone(&self.sink),
            dial,
            watch: self.watch.clone(),
            stats: Arc::clone(&listening.stats),
            has_warned: AtomicBool::new(false),
        }
    }

    /// Accepts until aborted. A connection goes to the worker that has the fewest.
    async fn accept(self: Rc<Self>, socket: tokio::net::TcpListener, role: Role) {
        loop {
            let (stream, peer) = match socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors or memory: what is open will end; asking again at once would only burn CPU.
                    tracing::warn!(%error, listener = role.name(), "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            match self.least_loaded() {
                None => self.take(&role, stream, peer),
                Some(other) => {
                    if let Ok(stream) = stream.into_std() {
                        let _ = other.commands.send(Command::Connection(role.clone(), stream, peer));
                    }
                }
            }
        }
    }

    /// The worker that should have the next connection, if it is not this one.
    fn least_loaded(&self) -> Option<&Handle> {
        let (index, least) = self.peers.iter().enumerate().min_by_key(|(_, handle)| handle.connections())?;
        let own = self.peers.get(self.index).map_or(0, Handle::connections);
        (index != self.index && least.connections() < own).then_some(least)
    }

    fn adopt(self: &Rc<Self>, role: &Role, stream: TcpStream, peer: SocketAddr) {
        match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => self.take(role, stream, peer),
            Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
        }
    }

    /// Serves a connection in a task of its own.
    fn take(self: &Rc<Self>, role: &Role, stream: tokio::net::TcpStream, peer: SocketAddr) {
        let Some(site) = self.open.borrow().get(&role.name()).map(|open| Rc::clone(&open.site.borrow()))
        else {
            return; // the listener was closed meanwhile
        };
        let total: usize = self.peers.iter().map(Handle::connections).sum();
        if total >= self.connections_max.get() {
            site.stats.refuse();
            return site.refuse(&stream, peer);
        }
        let _ = stream.set_nodelay(true);
        site.dial.keep_alive(&stream);
        let connected = site.stats.accept();
        let counted = Counted::new(self.peers.get(self.index));
        tokio::task::spawn_local(async move {
            let _counted = counted;
            site.serve(stream, peer, connected).await;
        });
    }

    fn stop_accepting(&self) {
        for open in self.open.borrow().values() {
            open.acceptor.abort();
        }
    }
}

/// Counts a connection of a worker.
struct Counted(Option<Arc<Load>>);

impl Counted {
    fn new(handle: Option<&Handle>) -> Counted {
        let load = handle.map(|handle| Arc::clone(&handle.load));
        if let Some(load) = &load {
            load.connections.fetch_add(1, Ordering::AcqRel);
        }
        Counted(load)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(load) = &self.0 {
            load.connections.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
