//! What is in force, and how it is replaced: on SIGHUP, when the file changes, or not at all.

use super::compile::{Compiled, Current, Refused, Surroundings, compile};
use super::explain::{Question, explain};
use super::recording;
use super::snapshot::{Refusal, Snapshot};
use crate::cluster::clock_ns;
use crate::config::{self, Loaded};
use crate::drain;
use crate::identity::Stamp;
use crate::pipeline::metrics::Registry;
use crate::pipeline::{self, Emitter};
use crate::record::Recorder;
use crate::resilience::overload::{Meter, Transition};
use crate::stack::Handle;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// How often files are looked at (configuration and certificates), and endpoints.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// A function that sets the log level.
pub type SetLogLevel = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The control side of a running proxy.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    file: Option<PathBuf>,
    registry: Arc<Registry>,
    around: Surroundings,
    events: Emitter,
    sinks: pipeline::Set,
    recorder: Recorder,
    base_dir: PathBuf,
    signal: drain::Signal,
    drain_asked: Notify,
    set_log_level: SetLogLevel,
}

struct State {
    current: Current,
    workers: Vec<Handle>,
    snapshot: Snapshot,
    stamp: Option<Stamp>,
    certificate_problems: Vec<String>,
}

/// What a control side is made of.
pub struct Start {
    /// The configuration's file; `None` when it came from flags.
    pub file: Option<PathBuf>,
    /// What is in force at start.
    pub current: Current,
    /// The workers that run it.
    pub workers: Vec<Handle>,
    /// Metrics.
    pub registry: Arc<Registry>,
    /// What configurations are compiled with.
    pub around: Surroundings,
    /// Where changes are put on record.
    pub events: Emitter,
    /// The sinks of events that run.
    pub sinks: pipeline::Set,
    /// Who records.
    pub recorder: Recorder,
    /// Where relative paths start.
    pub base_dir: PathBuf,
    /// The drain signal.
    pub signal: drain::Signal,
    /// Sets the log level.
    pub set_log_level: SetLogLevel,
}

impl Control {
    /// Takes over what was started.
    pub fn new(start: Start) -> Control {
        let snapshot = Snapshot::of(&start.current, &start.around);
        let stamp = start.file.as_deref().and_then(|file| Stamp::of_path(file).ok());
        start.registry.watch_limits(&start.around.limits);
        start.registry.watch_overload(&start.around.overload);
        start.registry.watch_admissions(snapshot.admissions.clone());
        start.registry.config_applied(&start.current.loaded.revision, start.current.cluster_list());
        declare(&start.registry, &start.current.loaded.config);
        Control(Arc::new(Inner {
            state: Mutex::new(State {
                current: start.current,
                workers: start.workers,
                snapshot,
                stamp,
                certificate_problems: Vec::new(),
            }),
            file: start.file,
            registry: start.registry,
            around: start.around,
            events: start.events,
            sinks: start.sinks,
            recorder: start.recorder,
            base_dir: start.base_dir,
            signal: start.signal,
            drain_asked: Notify::new(),
            set_log_level: start.set_log_level,
        }))
    }

    /// Who records.
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if something ever does, the state is still the last whole one.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads the file again and applies it, whole or not at all.
    pub fn reload(&self) {
        let Some(file) = &self.0.file else {
            tracing::info!("there is no configuration file to read again: the configuration came from flags");
            return;
        };
        // Before the file is read: a change during the reading is seen at the next look.
        let stamp = Stamp::of_path(file).ok();
        let result = config::load(file)
            .map_err(|problems| Refused(problems.to_string()))
            .and_then(|loaded| self.apply(loaded));
        self.state().stamp = stamp;
        if let Err(refused) = result {
            self.refused(&refused);
        }
    }

    fn apply(&self, loaded: Loaded) -> Result<(), Refused> {
        let mut state = self.state();
        if loaded.revision == state.current.loaded.revision {
            state.snapshot.refused = None;
            return Ok(());
        }
        unchangeable(&state.current.loaded.config, &loaded.config)?;
        let sinks = self.0.sinks.prepare(&loaded.config.pipeline.sinks).map_err(Refused)?;
        let recording = recording::prepare(&loaded, &self.0.base_dir).map_err(Refused)?;
        let Compiled { current, applied } =
            compile(loaded, Some(&state.current), &self.0.registry, &self.0.around)?;
        if let Err(error) = self.0.sinks.apply(sinks) {
            tracing::error!(%error, "a sink could not be started");
        }
        if let Err(error) = self.0.recorder.apply(recording.0, recording.1) {
            tracing::error!(%error, "the recording could not be changed");
        }
        for worker in &state.workers {
            worker.apply(&applied);
        }
        let before: Vec<_> = state.current.addresses().collect();
        for (listener, address) in current.addresses().filter(|address| !before.contains(address)) {
            tracing::info!(listener, %address, "listening");
        }
        state.snapshot = Snapshot::of(&current, &self.0.around);
        self.0.registry.watch_admissions(state.snapshot.admissions.clone());
        self.0.registry.config_applied(&current.loaded.revision, current.cluster_list());
        declare(&self.0.registry, &current.loaded.config);
        let revision = current.loaded.revision.clone();
        state.current = current;
        drop(state);
        tracing::info!(revision, "configuration applied");
        self.0.events.emit(
            "sidelight/config/1",
            json!({ "sidelight.config.revision": revision, "sidelight.config.outcome": "applied" }),
        );
        Ok(())
    }

    fn refused(&self, refused: &Refused) {
        let reason = refused.to_string();
        self.0.registry.config_refused();
        let revision = {
            let mut state = self.state();
            state.snapshot.refused = Some(Refusal { at: SystemTime::now(), reason: reason.as_str().into() });
            state.current.loaded.revision.clone()
        };
        tracing::error!(reason, revision, "configuration refused; the old one stays");
        self.0.events.emit(
            "sidelight/config/1",
            json!({ "sidelight.config.revision": revision, "sidelight.config.outcome": "refused", "sidelight.cause": reason }),
        );
    }

    /// Watches the configuration file and the certificates, for as long as the process runs.
    pub async fn watch(&self) {
        let mut interval = tokio::time::interval(WATCH_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if self.has_file_changed() {
                self.reload();
            }
            self.reload_certificates();
            self.sweep();
        }
    }

    /// Looks at the endpoints of every cluster: who is an outlier, and whose ejection is over.
    fn sweep(&self) {
        let clusters = self.state().current.cluster_list();
        let now_ns = clock_ns(tokio::time::Instant::now());
        clusters.iter().for_each(|cluster| cluster.sweep_outliers(now_ns));
    }

    fn has_file_changed(&self) -> bool {
        let Some(file) = &self.0.file else { return false };
        // A file that is gone for a moment is one that is being replaced.
        let Ok(stamp) = Stamp::of_path(file) else { return false };
        self.state().stamp.as_ref() != Some(&stamp)
    }

    fn reload_certificates(&self) {
        let mut state = self.state();
        let mut problems = state.current.reload_certificates();
        match state.current.reload_keys(self.0.around.seed) {
            Ok(None) => {}
            Ok(Some(applied)) => {
                state.workers.iter().for_each(|worker| worker.apply(&applied));
                tracing::info!("the keys of the context were read again");
            }
            Err(problem) => problems.push(problem),
        }
        for problem in problems.iter().filter(|problem| !state.certificate_problems.contains(problem)) {
            tracing::error!(problem, "a changed certificate or key was not taken; the old one stays");
        }
        state.certificate_problems = problems;
    }

    /// Measures memory, for as long as the process runs, and tells of each step that is reached or left.
    pub async fn watch_memory(&self) {
        let limits = || self.state().current.loaded.config.limits.overload.clone();
        let mut memory = limits().memory;
        let mut meter = Meter::new(memory);
        loop {
            let limits = limits();
            tokio::time::sleep(limits.interval).await;
            if limits.memory != memory {
                memory = limits.memory;
                meter = Meter::new(memory);
            }
            if let Some(transition) = self.0.around.overload.observe(meter.measure()) {
                self.tell_overload(&transition);
            }
        }
    }

    fn tell_overload(&self, transition: &Transition) {
        let Transition { from, to, usage } = transition;
        let (from, to) = (from.as_str(), to.as_str());
        let (used_bytes, limit_bytes) = usage.map_or((0, 0), |usage| (usage.used_bytes, usage.limit_bytes));
        if transition.to > transition.from {
            tracing::warn!(from, to, used_bytes, limit_bytes, "memory runs out");
        } else {
            tracing::info!(from, to, used_bytes, limit_bytes, "there is more memory again");
        }
        self.0.events.emit(
            "sidelight/overload/1",
            json!({
                "sidelight.overload.step": to,
                "sidelight.overload.from": from,
                "sidelight.overload.used_bytes": used_bytes,
                "sidelight.overload.limit_bytes": limit_bytes,
            }),
        );
    }

    /// Completes when somebody asks over the admin API to drain.
    pub async fn drain_asked(&self) {
        self.0.drain_asked.notified().await;
    }

    /// The workers.
    pub fn workers(&self) -> Vec<Handle> {
        self.state().workers.clone()
    }

    /// The sources of the clusters, to wait for their first answer.
    pub fn sources(&self) -> Vec<(String, Arc<crate::discovery::Running>)> {
        let state = self.state();
        state.current.clusters.iter().map(|(name, fed)| (name.clone(), Arc::clone(&fed.source))).collect()
    }

    /// How long draining may take.
    pub fn drain_timeout(&self) -> Duration {
        self.state().current.loaded.config.limits.drain_timeout
    }

    /// The configuration's file.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }
}

impl Control {
    /// What is in force.
    pub fn snapshot(&self) -> Snapshot {
        self.state().snapshot.clone()
    }

    /// Asks to drain; `false` when it had begun before.
    pub fn ask_to_drain(&self) -> bool {
        let is_first = !self.0.signal.is_draining();
        self.0.drain_asked.notify_one();
        is_first
    }

    /// Answers a question about routes, as JSON.
    ///
    /// # Errors
    /// What is wrong with the question.
    pub fn explain(&self, question: &Value) -> Result<Value, String> {
        let question: Question =
            serde_json::from_value(question.clone()).map_err(|error| format!("the question: {error}"))?;
        let explanation = explain(&self.state().current.tables, &question)?;
        serde_json::to_value(explanation).map_err(|error| error.to_string())
    }

    /// Sets the level of the proxy's own log.
    ///
    /// # Errors
    /// What is wrong with the level.
    pub fn set_log_level(&self, level: &str) -> Result<(), String> {
        (self.0.set_log_level)(level)
    }
}

/// Says what the service depends on from now on. The file was read when the configuration was checked; if it cannot be read
/// any more, what was declared stays.
fn declare(registry: &Registry, config: &config::Config) {
    let service = &config.service;
    match service.depends_on.declared(&service.name, Path::new("")) {
        Ok(declared) => registry.graph().declare(declared),
        Err(problem) => tracing::warn!(problem, "what the service depends on is as before"),
    }
}

/// What a reload cannot change, because it is decided when the process starts.
fn unchangeable(old: &config::Config, new: &config::Config) -> Result<(), Refused> {
    let changed = [
        ("workers", old.workers != new.workers),
        ("service.name", old.service.name != new.service.name),
        // Sampling is the workers' matter, sinks come and go; the spool and the rings are made once.
        ("pipeline.spool", old.pipeline.spool != new.pipeline.spool),
        ("pipeline.receiver", old.pipeline.receiver != new.pipeline.receiver),
        ("app_output", old.app_output != new.app_output),
        ("pipeline.ring_events_max", old.pipeline.ring_events_max != new.pipeline.ring_events_max),
        ("pipeline.graph", old.pipeline.graph != new.pipeline.graph),
        ("admin", old.admin != new.admin),
        ("telemetry", old.telemetry != new.telemetry),
    ];
    match changed.iter().find(|(_, is_changed)| *is_changed) {
        Some((key, _)) => Err(Refused(format!("{key} changed; that needs a restart"))),
        None => Ok(()),
    }
}
