//! Pipeline: what becomes of events.
//!
//! What: every exchange ends as one record, handed by its worker to the pipeline's thread through a bounded ring, where
//! it is encoded once and appended to the [spool]; every sink reads that log at its own pace, on a thread of its own. The
//! metrics are counted on the worker before that, so that they hold also for an event that is lost. Other events come
//! through an [`Emitter`].
//!
//! - [`worker`]: the worker's end, an `exchange::Sink`; [`ring`]: the way to the thread and back
//! - [`drain`]: the thread; [`encode`]: the record as JSON; [`emitter`]: events that are no exchanges
//! - [`spool`]: the log between; [`sinks`]: where events go; `event`: an encoded event, read again
//! - [`accounts`]: what became of every event; [`metrics`]: what is counted
//! - [`graph`]: who calls whom; [`otlp_receiver`]: the telemetry of the application beside
//! - [`app_log`]: the lines of the application beside
//! - [`trace_view`]: a trace, read back out of event files
//!
//! How it fails: a ring that is full loses events, which are counted and visible as gaps in the sequence numbers; a sink
//! that fails keeps them waiting in the spool. Nothing here blocks, delays or fails a request.

mod accounts;
pub mod app_log;
pub mod config;
mod drain;
mod emitter;
pub mod encode;
mod event;
pub mod graph;
pub mod metrics;
pub mod otlp_receiver;
mod ring;
mod sinks;
pub mod spool;
pub mod trace_view;
mod wake;
mod wall_clock;
mod worker;

#[doc(hidden)]
pub use sinks::otlp::{Became as OtlpBecame, Encoder as OtlpEncoder};

pub use accounts::{Account, Accounts};
pub use config::Config;
pub use emitter::{Emitter, Incoming};
pub use sinks::{KINDS_FOR_RECORDINGS, Prepared, Problem, Set, Status, problems};
pub use worker::WorkerSink;

use accounts::Emitted;
use app_log::Exchanges;
use drain::{Drain, Lane};
use metrics::Registry;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wake::Wake;

/// Spent records that wait for reuse, for each worker: as many as a busy worker fills between two visits of the
/// pipeline's thread. More are freed.
const SPARES_MAX: usize = 1024;

/// The file of the events that sinks refused, in the spool's directory.
const DEAD_LETTERS: &str = "dead-letters.ndjson";

/// Who the events are about: OpenTelemetry's resource attributes. Empty texts are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `service.name`.
    pub name: String,
    /// `service.version`.
    pub version: String,
    /// `service.namespace`.
    pub namespace: String,
    /// `deployment.environment.name`.
    pub environment: String,
    /// `cloud.availability_zone`.
    pub zone: String,
    /// Free labels, in `sidelight.labels`.
    pub labels: BTreeMap<String, String>,
    /// Who writes the events, in each event's `id`; the same after a restart. Empty: the name of the host.
    pub instance: String,
}

/// The pipeline's thread, and its sinks.
pub struct Pipeline {
    thread: Option<JoinHandle<()>>,
    done: std::sync::mpsc::Receiver<()>,
    wake: Arc<Wake>,
    emitter: Emitter,
    registry: Arc<Registry>,
    sinks: Set,
    exchanges: Arc<OnceLock<Arc<Exchanges>>>,
}

impl Pipeline {
    /// Opens the spool and the sinks and starts the thread, with one end for each worker. Relative paths of sinks start at
    /// `base_dir`.
    ///
    /// # Errors
    /// A sink cannot be made, another process has the spool's directory, or the system refuses a thread; the text names
    /// the path. A directory that cannot be used otherwise is told in the log, and events go through memory.
    pub fn start(
        config: &Config,
        service: Service,
        workers: usize,
        base_dir: &Path,
    ) -> io::Result<(Pipeline, Vec<WorkerSink>)> {
        let service = service.with_instance();
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let (spool, writer) = open_spool(&config.spool, &service.instance, epoch)?;
        let blocks: Vec<Arc<metrics::block::Block>> = (0..workers).map(|_| Arc::default()).collect();
        let emitted = Arc::new(Emitted::default());
        let accounts = Accounts::new(Arc::clone(&emitted), blocks.clone());
        accounts.set_spool(spool.clone(), config.spool.directory.is_some());
        let live = graph::Live::new(&config.graph, epoch);
        let registry =
            Arc::new(Registry::with_graph(service.clone(), blocks, accounts, live, config.graph.metrics));
        let wake = Arc::new(Wake::default());
        let (emitter, queue) = emitter::channel(emitted, Arc::clone(&wake));

        let (mut lanes, mut ends) = (Vec::with_capacity(workers), Vec::with_capacity(workers));
        for index in 0..workers {
            let (put, take) = ring::ring(config.ring_events_max);
            let (give_back, reuse) = ring::ring(SPARES_MAX.min(config.ring_events_max));
            lanes.push(Lane { records: take, spares: give_back });
            let ring = worker::Ends { put, reuse, wake: Arc::clone(&wake) };
            ends.push(WorkerSink::new(registry.writer(index), ring, config.ring_events_max));
        }
        let letters = config.spool.directory.as_ref().map(|directory| directory.join(DEAD_LETTERS));
        let about = sinks::About {
            service: service.clone(),
            registry: Arc::clone(&registry),
            base_dir: base_dir.to_owned(),
        };
        let letters = Arc::new(sinks::DeadLetters::new(letters));
        let sinks = Set::new(about, spool.clone(), letters, emitter.clone());
        let prepared = sinks.prepare(&config.sinks).map_err(io::Error::other)?;
        // What a sink that is gone has not had, nobody will have.
        spool.retain(&prepared.names().collect::<Vec<_>>());
        sinks.apply(prepared)?;
        let exchanges = Arc::<OnceLock<Arc<Exchanges>>>::default();
        let drain = Drain::new(drain::Start {
            lanes,
            queue,
            emitter: emitter.clone(),
            encoder: encode::Encoder::new(&service, epoch),
            spool,
            writer,
            registry: Arc::clone(&registry),
            wake: Arc::clone(&wake),
            exchanges: Arc::clone(&exchanges),
        });
        let (finished, done) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("pipeline".into()).spawn(move || {
            drain.run();
            // Nobody waits any more if this fails.
            let _ = finished.send(());
        })?;
        wake.attach(thread.thread().clone());
        Ok((Pipeline { thread: Some(thread), done, wake, emitter, registry, sinks, exchanges }, ends))
    }

    /// A handle for events that are no exchanges.
    pub fn emitter(&self) -> Emitter {
        self.emitter.clone()
    }

    /// What can be scraped.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The sinks that run, to be replaced when the configuration changes.
    pub fn sinks(&self) -> &Set {
        &self.sinks
    }

    /// From now on it is remembered which exchanges ended, for the lines of the application.
    pub fn follow(&self, in_flight: Arc<crate::exchange::in_flight::InFlight>) -> Arc<Exchanges> {
        let wake = Arc::clone(&self.wake);
        let exchanges = Exchanges::new(in_flight, move || wake.notify(true));
        let _ = self.exchanges.set(Arc::clone(&exchanges));
        exchanges
    }

    /// Opens files anew before the next write: for SIGHUP after a log was rotated.
    pub fn reopen(&self) {
        self.sinks.reopen();
    }

    /// Puts everything that has been handed over into the spool, lets the sinks send what is there, and ends the threads.
    /// Gives up after `deadline`; returns whether everything was sent or counted as lost. What was not sent is sent by the
    /// next process if the spool has a directory. Workers should have stopped before.
    pub fn stop(mut self, deadline: Duration) -> bool {
        let deadline = Instant::now() + deadline;
        self.wake.stop();
        let left = deadline.saturating_duration_since(Instant::now());
        let is_spooled = match (self.done.recv_timeout(left), self.thread.take()) {
            (Ok(()), Some(thread)) => thread.join().is_ok(),
            _ => false,
        };
        self.sinks.stop(deadline) && is_spooled
    }
}

/// The spool; without a directory where that cannot be used.
fn open_spool(
    config: &spool::Config,
    instance: &str,
    epoch: u64,
) -> io::Result<(spool::Spool, spool::Writer)> {
    match spool::Spool::open(config, instance, epoch) {
        // Two processes with one directory: the second is a mistake, and would have no spool.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Err(error),
        Err(error) if config.directory.is_some() => {
            tracing::error!(%error, "the spool's directory cannot be used: events wait in memory only");
            spool::Spool::open(&spool::Config { directory: None, ..config.clone() }, instance, epoch)
        }
        opened => opened,
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.wake.stop();
    }
}

impl Service {
    /// With the host's name for an instance that is not named.
    fn with_instance(mut self) -> Service {
        if self.instance.is_empty() {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let host = host.trim();
            self.instance = if host.is_empty() { "localhost".into() } else { host.into() };
        }
        self
    }
}

#[cfg(test)]
mod tests;
