//! The life of the process: start everything, say where it listens, run the application beside, drain, and say what
//! was cut.

mod admin;
mod child;
mod log;
mod output;
mod start_pages;

pub use log::init as init_log;

use crate::admin::{self as admin_api, Pending, Readiness};
use crate::cluster::Journal;
use crate::config::Loaded;
use crate::control::{Compiled, Control, Start, Surroundings, compile, read_journal, recording};
use crate::drain;
use crate::exchange::in_flight::InFlight;
use crate::pipeline::otlp_receiver::{self, Receiver};
use crate::pipeline::{self, Pipeline};
use crate::quota::Limits;
use crate::record::Recorder;
use crate::resilience::overload::Overload;
use crate::stack::{self, Handle, Seed};
use child::Child;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit status of a configuration that is refused (EX_USAGE of sysexits.h).
pub const EXIT_CONFIG: u8 = 64;

/// Asks the kernel for small pages. The allocator's arenas would otherwise be backed by huge ones, and a proxy that needs
/// 10 MiB would hold 20. Called before anything is allocated, so it allocates nothing; the application beside gets its
/// own default back.
pub fn use_small_pages() {
    set_huge_pages_disabled(true);
}

fn set_huge_pages_disabled(is_disabled: bool) {
    // SAFETY: PR_SET_THP_DISABLE takes a flag and zeros, and reads no memory. Where the kernel has it not, nothing happens.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(is_disabled), 0, 0, 0) };
}

/// What to run.
pub struct Run {
    /// The configuration.
    pub loaded: Loaded,
    /// Its file, to be watched; `None` when it came from flags.
    pub file: Option<PathBuf>,
    /// The application to start beside, with its arguments; empty for none.
    pub app: Vec<String>,
    /// Sets the level of the log.
    pub set_log_level: crate::control::SetLogLevel,
}

impl Run {
    /// What relative paths of the configuration start from.
    fn base_dir(&self) -> PathBuf {
        let directory = self.file.as_deref().and_then(std::path::Path::parent);
        directory.filter(|path| !path.as_os_str().is_empty()).map_or_else(|| ".".into(), PathBuf::from)
    }
}

/// Why the process could not start: one line, and the exit status.
#[derive(Debug)]
pub struct StartError {
    /// One line.
    pub message: String,
    /// 64 for a configuration that is refused, 1 for anything else.
    pub exit: u8,
}

/// How long the first answers of discovery are waited for before the proxy is ready without them.
const DISCOVERY_WAIT: Duration = Duration::from_secs(5);

/// While draining: so long without a connection, and no new one is expected.
const QUIET: Duration = Duration::from_millis(250);

/// How long the pipeline may take to write what is left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the proxy to its end; the exit status.
///
/// # Errors
/// What could not be started.
pub fn run(run: Run) -> Result<u8, StartError> {
    let started = Instant::now();
    crate::identity::install_default();
    // Admin, discovery, health and reload live here: whatever they do, the workers do not notice.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| failed("the control runtime", &error))?;
    runtime.block_on(run_on(run, started))
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> StartError {
    StartError { message: format!("{what}: {error}"), exit: 1 }
}

async fn run_on(run: Run, started: Instant) -> Result<u8, StartError> {
    let config = &run.loaded.config;
    let worker_count = config.workers.unwrap_or_else(workers_auto).max(1);
    let (pipeline, mut sinks) =
        Pipeline::start(&config.pipeline, service_of(&run.loaded), worker_count, &run.base_dir())
            .map_err(|error| failed("the event pipeline", &error))?;
    let (admin_config, telemetry_config) = (config.admin.clone(), config.telemetry.clone());
    let app_address = config.service.app.clone();
    let overload = Arc::new(Overload::new(&config.limits.overload));
    let (journal, changes) = Journal::new();
    tokio::spawn(read_journal(changes, pipeline.emitter()));
    let around = Surroundings {
        runtime: tokio::runtime::Handle::current(),
        overload: Arc::clone(&overload),
        limits: Arc::new(Limits::new(journal.clone())),
        journal,
        seed: random().map_err(|error| failed("random numbers", &error))?,
    };
    let Compiled { current, applied } = compile(run.loaded.clone(), None, pipeline.registry(), &around)
        .map_err(|refused| StartError {
            message: refused.to_string(),
            exit: start_exit(&refused.to_string()),
        })?;
    let recorder = record(&run, &pipeline)?;
    sinks.iter_mut().for_each(|sink| sink.record_with(recorder.taps()));
    let signal = drain::Signal::with_closing(overload.is_closing());
    let in_flight = InFlight::new();
    let seeds = sinks
        .into_iter()
        .enumerate()
        .map(|(index, sink)| {
            let (signal, in_flight) = (signal.clone(), Arc::clone(&in_flight));
            Ok(Seed { index, sink, signal, random: random()?, in_flight })
        })
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| failed("random numbers", &error))?;
    let workers = stack::start(seeds, &applied).map_err(|error| failed("the workers", &error))?;
    for (listener, address) in current.addresses() {
        tracing::info!(listener, %address, "listening");
    }
    let base_dir = run.base_dir();
    let control = Control::new(Start {
        file: run.file,
        current,
        workers: workers.clone(),
        registry: Arc::clone(pipeline.registry()),
        around,
        events: pipeline.emitter(),
        sinks: pipeline.sinks().clone(),
        recorder: recorder.clone(),
        base_dir,
        signal: signal.clone(),
        set_log_level: run.set_log_level,
    });
    let readiness = Readiness::new();
    let starting = readiness.wait_for("start");
    let draining =
        serve_admin(&control, &readiness, &pipeline, &run.loaded, &admin_config, &telemetry_config)?;
    await_discovery(&control, &readiness);
    tokio::spawn({
        let control = control.clone();
        async move { control.watch().await }
    });
    tokio::spawn({
        let control = control.clone();
        async move { control.watch_memory().await }
    });
    let receiver = match &config.pipeline.receiver.otlp {
        Some(otlp) => Some(receive_otlp(otlp, &pipeline)?),
        None => None,
    };
    let mut signals = Signals::new().map_err(|error| failed("signal handlers", &error))?;
    let output = output_of(config, !run.app.is_empty(), &pipeline, in_flight);
    let child = match Child::start(&run.app, output.as_ref()) {
        Ok(child) => child,
        Err(error) => {
            let name = run.app.first().map_or("", String::as_str);
            return Err(failed(&format!("the application `{name}` could not be started"), &error));
        }
    };
    if child.is_some()
        && let Some(address) = app_address
    {
        tokio::spawn(child::wait_until_listening(address.to_string(), readiness.wait_for("app")));
    }
    drop(starting);
    announce_ready(&readiness, started, child.is_some());
    let life = Life { control, workers, signal, readiness, draining };
    let exit = life.live(&mut signals, child, &pipeline).await;
    if let Some(receiver) = receiver {
        receiver.stop();
    }
    recorder.stop();
    pipeline.stop(FLUSH_TIMEOUT);
    Ok(exit)
}

/// The recorder, as the configuration wants it.
fn record(run: &Run, pipeline: &Pipeline) -> Result<Recorder, StartError> {
    let events = pipeline.emitter();
    let recorder = Recorder::new(Arc::new(move |told| recording::tell(&events, told)));
    pipeline.registry().watch_recorder(&recorder);
    let refused = |message| StartError { message, exit: EXIT_CONFIG };
    let (setup, rules) = recording::prepare(&run.loaded, &run.base_dir()).map_err(refused)?;
    recorder.apply(setup, rules).map_err(|message| StartError { message, exit: 1 })?;
    Ok(recorder)
}

/// The application's own telemetry, into the pipeline.
fn receive_otlp(config: &otlp_receiver::Config, pipeline: &Pipeline) -> Result<Receiver, StartError> {
    let emitter = pipeline.emitter();
    let take: otlp_receiver::Take = Arc::new(move |mut event| emitter.offer(&mut event));
    let receiver = Receiver::start(config, take).map_err(|message| StartError { message, exit: 1 })?;
    let addresses = [("otlp", receiver.http_address()), ("otlp-grpc", receiver.grpc_address())];
    for (listener, address) in addresses {
        if let Some(address) = address {
            tracing::info!(listener, %address, "listening");
        }
    }
    Ok(receiver)
}

/// Where the output of the application beside goes; `None` when there is none.
fn output_of(
    config: &crate::config::Config,
    has_app: bool,
    pipeline: &Pipeline,
    in_flight: Arc<InFlight>,
) -> Option<output::Setup> {
    if !has_app {
        return None;
    }
    let stats = Arc::default();
    pipeline.registry().watch_app_output(&stats);
    let emitter = pipeline.emitter();
    Some(output::Setup {
        config: config.app_output.clone(),
        has_stdout_sink: config.pipeline.sinks.stdout.is_some(),
        exchanges: Some(pipeline.follow(in_flight)),
        accept: Arc::new(move |mut event| emitter.offer(&mut event)),
        stats,
    })
}

/// A port in use is not the configuration's fault; everything else that `compile` refuses is.
fn start_exit(message: &str) -> u8 {
    if message.starts_with("cannot listen") { 1 } else { EXIT_CONFIG }
}

fn workers_auto() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A random number from the operating system.
fn random() -> io::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn service_of(loaded: &Loaded) -> pipeline::Service {
    let service = &loaded.config.service;
    pipeline::Service {
        name: service.name.clone(),
        version: service.version.clone(),
        namespace: service.namespace.clone(),
        environment: service.environment.clone(),
        zone: service.zone.clone(),
        labels: service.labels.clone(),
        instance: String::new(),
    }
}

fn serve_admin(
    control: &Control,
    readiness: &Arc<Readiness>,
    pipeline: &Pipeline,
    loaded: &Loaded,
    admin_config: &admin_api::config::Admin,
    telemetry: &admin_api::config::Telemetry,
) -> Result<Arc<admin_api::State>, StartError> {
    let state = Arc::new(admin_api::State {
        service: service_of(loaded),
        control: Box::new(admin::Bridge(control.clone())),
        readiness: Arc::clone(readiness),
        metrics: Arc::clone(pipeline.registry()),
        events: pipeline.emitter(),
        token_file: admin_config.token_file.clone(),
    });
    let wanted = [
        (admin_config.address, admin_api::Role::Admin, "admin"),
        (telemetry.address, admin_api::Role::Telemetry, "telemetry"),
    ];
    for (address, role, name) in wanted {
        let Some(address) = address else { continue };
        let listener =
            admin_api::bind(&admin_api::Address::Tcp(address), role).map_err(|error| failed(name, &error))?;
        if let Some(address) = listener.address() {
            tracing::info!(listener = name, %address, "listening");
        }
        tokio::spawn(admin_api::serve(listener, Arc::clone(&state)));
    }
    Ok(state)
}

/// Keeps the proxy unready until every source answered once, or for a bounded time.
fn await_discovery(control: &Control, readiness: &Arc<Readiness>) {
    for (name, source) in control.sources() {
        if !source.is_polling() {
            continue;
        }
        let pending = readiness.wait_for(format!("cluster {name}"));
        tokio::spawn(async move {
            let _pending: Pending = pending;
            if tokio::time::timeout(DISCOVERY_WAIT, source.first()).await.is_err() {
                tracing::warn!(cluster = name, "discovery has not answered yet; ready without it");
            }
        });
    }
}

/// Logs the moment from which the proxy is ready, and lets go of what only the way there needed.
fn announce_ready(readiness: &Arc<Readiness>, started: Instant, has_app: bool) {
    let line = move || {
        let start_ms = started.elapsed().as_millis() as u64;
        tracing::info!(start_ms, version = env!("CARGO_PKG_VERSION"), "ready");
        start_pages::release();
    };
    if readiness.is_ready() {
        return line();
    }
    let readiness = Arc::clone(readiness);
    tokio::spawn(async move {
        tracing::info!(pending = readiness.pending().join(", "), has_app, "waiting");
        while !readiness.is_ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        line();
    });
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// SIGTERM or SIGINT; its number.
    async fn stop(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.interrupt.recv() => libc::SIGINT,
        }
    }
}

/// Why the proxy stops.
enum Stop {
    Signal(i32),
    Asked,
    AppEnded(u8),
}

struct Life {
    control: Control,
    workers: Vec<Handle>,
    signal: drain::Signal,
    readiness: Arc<Readiness>,
    draining: Arc<admin_api::State>,
}

impl Life {
    /// Lives until there is a reason not to, then drains; the exit status.
    async fn live(&self, signals: &mut Signals, mut child: Option<Child>, pipeline: &Pipeline) -> u8 {
        let stop = loop {
            tokio::select! {
                signal = signals.terminate.recv() => { let _ = signal; break Stop::Signal(libc::SIGTERM) }
                signal = signals.interrupt.recv() => { let _ = signal; break Stop::Signal(libc::SIGINT) }
                _ = signals.hangup.recv() => {
                    pipeline.reopen();
                    self.control.reload();
                }
                () = self.control.drain_asked() => break Stop::Asked,
                exit = Child::ended(&mut child) => break Stop::AppEnded(exit),
            }
        };
        let mut exit = 0;
        let signal = match stop {
            Stop::Signal(signal) => signal,
            Stop::Asked => libc::SIGTERM,
            Stop::AppEnded(status) => {
                tracing::info!(status, "the application ended");
                exit = status;
                libc::SIGTERM
            }
        };
        let drained = self.drain(signal, &mut child);
        tokio::select! {
            status = drained => exit = status.unwrap_or(exit),
            // Asked twice: now.
            _ = signals.stop() => {
                if let Some(child) = &mut child {
                    child.kill();
                }
                tracing::warn!(cut = self.connections(), "stopped at once, as asked again");
            }
        }
        exit
    }

    /// Finishes what is under way within one deadline; the application's exit status, if there is one.
    async fn drain(&self, signal: i32, child: &mut Option<Child>) -> Option<u8> {
        let deadline = Instant::now() + self.control.drain_timeout();
        // Not ready from here on; never dropped, so that it stays so.
        std::mem::forget(self.readiness.wait_for("draining"));
        self.signal.start();
        for worker in &self.workers {
            worker.drain();
        }
        tracing::info!(connections = self.connections(), "draining");
        // New connections are served for a while, one exchange each: closing the socket at once would refuse clients
        // that do not know yet, and reset those that wait in the backlog.
        self.quiet(deadline - (deadline - Instant::now()) / 2).await;
        let status = match child {
            Some(child) => child.stop(signal, deadline).await,
            None => None,
        };
        for worker in &self.workers {
            worker.stop_accepting();
        }
        self.quiet(deadline).await;
        let cut = self.connections();
        for worker in &self.workers {
            worker.stop();
        }
        // The threads drop what is left; each exchange that was cut says so in its event.
        let patience = Instant::now() + Duration::from_secs(1);
        while Instant::now() < patience && !self.workers.iter().all(Handle::is_stopped) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let active = self.draining.metrics.active();
        tracing::info!(cut, active, "drained");
        status
    }

    fn connections(&self) -> usize {
        self.workers.iter().map(Handle::connections).sum()
    }

    /// Waits until there was no connection for a moment, or the deadline passed.
    async fn quiet(&self, deadline: Instant) {
        let mut since = None;
        while Instant::now() < deadline {
            if self.connections() > 0 {
                since = None;
            } else if since.get_or_insert_with(Instant::now).elapsed() >= QUIET {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
