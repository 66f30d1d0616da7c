//! Pipeline: what becomes of events.
//!
//! What: every exchange ends as one record, handed by its worker to the pipeline's thread through a bounded ring, where
//! it is encoded once and written to every sink in batches; the metrics are counted on the worker before that, so that
//! they hold also for an event that is lost. Other events come through an [`Emitter`].
//!
//! - [`worker`]: the worker's end, an `exchange::Sink`; [`ring`]: the way to the thread and back
//! - [`drain`]: the thread; [`encode`]: the record as JSON; [`emitter`]: events that are no exchanges
//! - [`sinks`]: stdout and file; [`accounts`]: what became of every event; [`metrics`]: what is counted
//! - [`trace_view`]: a trace, read back out of event files
//!
//! How it fails: a ring that is full and a sink that fails lose events, which are counted and visible as gaps in the
//! sequence numbers. Nothing here blocks, delays or fails a request. The sinks share one thread: one that blocks (a
//! full pipe that nobody reads) holds the others up, and rings fill.

mod accounts;
pub mod config;
mod drain;
mod emitter;
pub mod encode;
pub mod metrics;
mod ring;
mod sinks;
pub mod trace_view;
mod wake;
mod worker;

pub use accounts::{Account, Accounts, SinkStats};
pub use config::Config;
pub use emitter::Emitter;
pub use worker::WorkerSink;

use accounts::Emitted;
use drain::{Drain, Lane};
use metrics::Registry;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wake::Wake;

/// Spent records that wait for reuse, for each worker: as many as a busy worker fills between two visits of the
/// pipeline's thread. More are freed.
const SPARES_MAX: usize = 1024;

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

/// The pipeline's thread.
pub struct Pipeline {
    thread: Option<JoinHandle<()>>,
    done: std::sync::mpsc::Receiver<()>,
    wake: Arc<Wake>,
    emitter: Emitter,
    registry: Arc<Registry>,
}

impl Pipeline {
    /// Opens the sinks and starts the thread, with one end for each worker.
    ///
    /// # Errors
    /// A sink cannot be opened, or the system refuses a thread; the text names the path.
    pub fn start(
        config: &Config,
        service: Service,
        workers: usize,
    ) -> io::Result<(Pipeline, Vec<WorkerSink>)> {
        let service = service.with_instance();
        let sinks = sinks::open(&config.sinks)?;
        let blocks: Vec<Arc<metrics::block::Block>> = (0..workers).map(|_| Arc::default()).collect();
        let emitted = Arc::new(Emitted::default());
        let stats = sinks.iter().map(|sink| Arc::clone(sink.stats())).collect();
        let accounts = Accounts::new(stats, Arc::clone(&emitted), blocks.clone());
        let registry = Arc::new(Registry::new(service.clone(), blocks, accounts));
        let wake = Arc::new(Wake::default());
        let (emitter, events) = emitter::channel(emitted, Arc::clone(&wake), !sinks.is_empty());

        let (mut lanes, mut ends) = (Vec::with_capacity(workers), Vec::with_capacity(workers));
        for index in 0..workers {
            let (put, take) = ring::ring(config.ring_events_max);
            let (give_back, reuse) = ring::ring(SPARES_MAX.min(config.ring_events_max));
            lanes.push(Lane { records: take, spares: give_back });
            let ring = worker::Ends { put, reuse, wake: Arc::clone(&wake), has_sinks: !sinks.is_empty() };
            ends.push(WorkerSink::new(registry.writer(index), ring, config.ring_events_max));
        }
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let encoder = encode::Encoder::new(&service, epoch.as_micros());
        let drain = Drain::new(
            lanes,
            (emitter.clone(), events),
            sinks,
            encoder,
            Arc::clone(&registry),
            Arc::clone(&wake),
        );
        let (finished, done) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("pipeline".into()).spawn(move || {
            drain.run();
            // Nobody waits any more if this fails.
            let _ = finished.send(());
        })?;
        wake.attach(thread.thread().clone());
        Ok((Pipeline { thread: Some(thread), done, wake, emitter, registry }, ends))
    }

    /// A handle for events that are no exchanges.
    pub fn emitter(&self) -> Emitter {
        self.emitter.clone()
    }

    /// What can be scraped.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Opens files anew before the next write: for SIGHUP after a log was rotated.
    pub fn reopen(&self) {
        self.wake.reopen();
    }

    /// Writes everything that has been handed over, and ends the thread. Gives up after `deadline` (a sink may block
    /// for ever); returns whether everything was written or counted as lost. Workers should have stopped before.
    pub fn stop(mut self, deadline: Duration) -> bool {
        self.wake.stop();
        let is_done = self.done.recv_timeout(deadline).is_ok();
        match self.thread.take() {
            Some(thread) if is_done => thread.join().is_ok(),
            _ => false,
        }
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
