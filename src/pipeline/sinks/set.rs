//! The sinks that run.
//!
//! What: a configuration is first prepared (every new sink is made; an error refuses the whole) and then applied: sinks
//! that are gone end and their place in the spool is forgotten, those that changed go on at their place with the new
//! configuration, those that stayed are not touched. A new one begins with the next event.

use super::dead_letters::DeadLetters;
use super::runner::{Control, Mode, Parts, Runner};
use super::sink::Sink;
use super::status::Status;
use super::{About, Kind};
use crate::pipeline::config::Sinks;
use crate::pipeline::emitter::Emitter;
use crate::pipeline::spool::{Spool, Start, is_name};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The sinks that run. A handle: clones are the same set.
#[derive(Clone)]
pub struct Set(Arc<Inner>);

struct Inner {
    about: About,
    spool: Spool,
    letters: Arc<DeadLetters>,
    emitter: Emitter,
    running: Mutex<Vec<Running>>,
}

impl Drop for Inner {
    /// Nobody asks any more: the threads end after what is under way, and let go of the spool.
    fn drop(&mut self) {
        for one in self.running.get_mut().unwrap_or_else(PoisonError::into_inner) {
            one.control.set(Mode::Halt);
            self.spool.end(&one.name);
        }
    }
}

struct Running {
    name: String,
    kind: Kind,
    control: Arc<Control>,
    status: Arc<Status>,
    thread: Option<JoinHandle<()>>,
}

/// A configuration whose sinks are made, and do not run yet.
pub struct Prepared {
    made: Vec<Made>,
    /// Names of those that get pieces of recordings.
    recorded: Vec<String>,
}

/// A sink by its name; `None` for one that runs already, as it is.
type Made = (String, Kind, Option<Box<dyn Sink>>);

impl Prepared {
    /// The names of the sinks.
    pub(in crate::pipeline) fn names(&self) -> impl Iterator<Item = &str> {
        self.made.iter().map(|(name, ..)| name.as_str())
    }
}

impl Set {
    pub(in crate::pipeline) fn new(
        about: About,
        spool: Spool,
        letters: Arc<DeadLetters>,
        emitter: Emitter,
    ) -> Set {
        Set(Arc::new(Inner { about, spool, letters, emitter, running: Mutex::default() }))
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the sinks that are new or changed.
    ///
    /// # Errors
    /// What is wrong with the configuration of one of them; nothing has changed then.
    pub fn prepare(&self, sinks: &Sinks) -> Result<Prepared, String> {
        let all = Kind::all(sinks);
        for (index, (name, _)) in all.iter().enumerate() {
            if !is_name(name) {
                return Err(format!(
                    "pipeline.sinks: `{name}` cannot be a sink's name: write 1 to 64 letters, digits, `-`, `_` or `.`, no `.` first"
                ));
            }
            if all.iter().skip(index + 1).any(|(other, _)| other == name) {
                return Err(format!("pipeline.sinks: two sinks are called `{name}`; give each a `name`"));
            }
        }
        // Not held while sinks are made: that may take as long as a disk does, and whoever stops must not wait for it.
        let running: Vec<(String, Kind)> =
            self.running().iter().map(|one| (one.name.clone(), one.kind.clone())).collect();
        let prepared = all.into_iter().map(|(name, kind)| {
            if running.iter().any(|(other, before)| *other == name && *before == kind) {
                return Ok((name, kind, None));
            }
            let sink =
                kind.open(&self.0.about).map_err(|error| format!("pipeline.sinks: {name}: {error}"))?;
            Ok((name, kind, Some(sink)))
        });
        Ok(Prepared { made: prepared.collect::<Result<_, String>>()?, recorded: sinks.recorded.clone() })
    }

    /// Puts a configuration into force.
    ///
    /// # Errors
    /// The system refuses a thread, or a name cannot be one: that sink does not run, the others do.
    pub fn apply(&self, prepared: Prepared) -> io::Result<()> {
        let mut running = self.running();
        let mut result = Ok(());
        let mut old: Vec<Running> = std::mem::take(&mut *running);
        let Prepared { made, recorded } = prepared;
        for (name, kind, sink) in made {
            let is_recorded = recorded.contains(&name);
            let at = old.iter().position(|one| one.name == name);
            let before = at.map(|at| old.swap_remove(at));
            match (sink, before) {
                (None, Some(before)) => {
                    before.status.carry_recordings(is_recorded);
                    running.push(before);
                }
                (None, None) => {}
                (Some(sink), before) => {
                    let predecessor = before.and_then(|before| self.halt(before));
                    match self.start(name, kind, sink, is_recorded, predecessor) {
                        Ok(started) => running.push(started),
                        Err(error) => result = Err(error),
                    }
                }
            }
        }
        for gone in old {
            let name = gone.name.clone();
            self.halt(gone);
            self.0.spool.remove(&name);
        }
        let statuses = running.iter().map(|one| Arc::clone(&one.status)).collect();
        self.0.about.registry.accounts().set_sinks(statuses);
        result
    }

    /// Tells a sink to end; its thread may take a while.
    fn halt(&self, mut one: Running) -> Option<JoinHandle<()>> {
        one.control.set(Mode::Halt);
        self.0.spool.end(&one.name);
        one.thread.take()
    }

    fn start(
        &self,
        name: String,
        kind: Kind,
        sink: Box<dyn Sink>,
        is_recorded: bool,
        predecessor: Option<JoinHandle<()>>,
    ) -> io::Result<Running> {
        let (control, status) = (Arc::<Control>::default(), Arc::new(Status::new(&name)));
        status.carry_recordings(is_recorded);
        // Known from here on, so that no event is missed while the thread starts.
        let early = match predecessor {
            None => Some(self.0.spool.cursor(&name, Start::End)?),
            Some(_) => None,
        };
        let parts = {
            let (spool, name) = (self.0.spool.clone(), name.clone());
            let (control, status) = (Arc::clone(&control), Arc::clone(&status));
            let (letters, emitter) = (Arc::clone(&self.0.letters), self.0.emitter.clone());
            move || -> io::Result<Parts> {
                if let Some(predecessor) = predecessor {
                    // It has the cursor until it ends; a sink may take its time for that, and this one waits.
                    let _ = predecessor.join();
                }
                let cursor = match early {
                    Some(cursor) => cursor,
                    None => spool.cursor(&name, Start::End)?,
                };
                Ok(Parts { sink, cursor, status, control, letters, emitter })
            }
        };
        let thread_name = format!("sink-{name}").chars().take(15).collect();
        let thread = std::thread::Builder::new().name(thread_name).spawn(move || match parts() {
            Ok(parts) => Runner::new(parts).run(),
            Err(error) => tracing::error!(%error, "a sink could not be started"),
        })?;
        Ok(Running { name, kind, control, status, thread: Some(thread) })
    }

    /// Opens files anew.
    pub(in crate::pipeline) fn reopen(&self) {
        self.running().iter().for_each(|one| one.control.reopen());
    }

    /// Lets every sink send what is there, at most until `deadline`, and ends them. Returns whether all came to their end;
    /// what the others have not sent waits in the spool, if it has a directory.
    pub(in crate::pipeline) fn stop(&self, deadline: Instant) -> bool {
        let mut all: Vec<Running> = std::mem::take(&mut *self.running());
        for one in &all {
            one.control.set(Mode::Drain(deadline));
            self.0.spool.end(&one.name);
        }
        // A sink whose thread does not come back is left behind: the process ends without it.
        while all.iter().any(|one| one.thread.as_ref().is_some_and(|thread| !thread.is_finished())) {
            if Instant::now() > deadline + Duration::from_millis(100) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut is_whole = true;
        for thread in all.iter_mut().filter_map(|one| one.thread.take()) {
            is_whole &= thread.join().is_ok();
        }
        is_whole
    }
}
