//! Events that are no exchanges: configuration, connections, the application's log lines, audits.
//!
//! How it fails: a queue of its own, bounded; what does not fit is dropped and counted. Never blocks.

use super::accounts::Emitted;
use super::wake::Wake;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

/// How many events wait for the pipeline's thread.
pub(super) const EMITTED_MAX: usize = 1024;

/// An event on its way.
pub(super) struct Event {
    /// Its schema.
    pub(super) schema: &'static str,
    /// When it came into being.
    pub(super) at: SystemTime,
    /// What it says.
    pub(super) attributes: Value,
}

/// Puts events into the pipeline, from any thread.
#[derive(Clone)]
pub struct Emitter {
    events: SyncSender<Event>,
    emitted: Arc<Emitted>,
    wake: Arc<Wake>,
    has_sinks: bool,
}

pub(super) fn channel(emitted: Arc<Emitted>, wake: Arc<Wake>, has_sinks: bool) -> (Emitter, Receiver<Event>) {
    let (events, receiver) = sync_channel(EMITTED_MAX);
    (Emitter { events, emitted, wake, has_sinks }, receiver)
}

impl Emitter {
    /// Writes an event of `schema` (`sidelight/config/1`) now. `attributes` is an object; its members follow the head
    /// (`schema`, `id`, `timestamp`, `service.*`), whose names it must not use. Never blocks: what does not fit is
    /// dropped and counted.
    pub fn emit(&self, schema: &'static str, attributes: Value) {
        if !self.has_sinks {
            return;
        }
        // Release and before the event goes: who counts it delivered or dropped has seen it produced.
        self.emitted.produced.fetch_add(1, Ordering::Release);
        match self.events.try_send(Event { schema, at: SystemTime::now(), attributes }) {
            Ok(()) => self.wake.notify(false),
            Err(_) => {
                self.emitted.dropped.fetch_add(1, Ordering::Release);
            }
        }
    }
}
