//! Events that are no exchanges: configuration, connections, the application's log lines, audits.
//!
//! What: one queue to the pipeline's thread, bounded by events and by bytes. Two kinds of senders: the proxy itself says
//! what happened and never waits ([`Emitter::emit`]); a source that can wait (the application's output, its OTLP) offers
//! events and is told when there is no room ([`Emitter::offer`]). How it fails: what was emitted and does not fit is
//! dropped and counted; nothing here blocks.

use super::accounts::Emitted;
use super::spool::Class;
use super::wake::Wake;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::oneshot;

/// How many events of the proxy itself wait for the pipeline's thread.
const EMITTED_MAX: usize = 1024;
/// How many events of others wait; at 50,000 a second and a nap of 20 ms there are 1,000.
const OFFERED_MAX: usize = 16 * 1024;
/// Bytes of them.
const OFFERED_BYTES_MAX: usize = 16 << 20;

/// An event on its way.
pub(super) struct Event {
    /// Its schema.
    pub(super) schema: &'static str,
    /// How much it matters.
    pub(super) class: Class,
    /// When it came into being.
    pub(super) at: SystemTime,
    /// What it says.
    pub(super) body: Body,
    /// Told when the event is durable (`true`), or will not be.
    pub(super) durable: Option<oneshot::Sender<bool>>,
}

/// What an event says.
pub(super) enum Body {
    /// An object, whose members follow the head.
    Attributes(Value),
    /// A JSON object as text, whose members follow the head.
    Members(Vec<u8>),
}

/// An event that somebody else made: the application's log lines and telemetry, pieces of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its schema (`sidelight/app_log/1`).
    pub schema: &'static str,
    /// How much it matters.
    pub class: Class,
    /// When it came into being.
    pub at: SystemTime,
    /// One JSON object with the event's own members; none is named as in the head (`schema`, `id`, `timestamp`,
    /// `service.*`).
    pub json: Vec<u8>,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    emitted: usize,
    offered_bytes: usize,
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue(Mutex<State>);

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes everything that is there; `spare` is left in its place.
    pub(super) fn take(&self, spare: &mut VecDeque<Event>) {
        let mut state = self.state();
        std::mem::swap(&mut state.events, spare);
        (state.emitted, state.offered_bytes) = (0, 0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().events.is_empty()
    }
}

/// Puts events into the pipeline, from any thread.
#[derive(Clone)]
pub struct Emitter {
    queue: Arc<Queue>,
    emitted: Arc<Emitted>,
    wake: Arc<Wake>,
}

pub(super) fn channel(emitted: Arc<Emitted>, wake: Arc<Wake>) -> (Emitter, Arc<Queue>) {
    let queue = Arc::new(Queue::default());
    (Emitter { queue: Arc::clone(&queue), emitted, wake }, queue)
}

impl Emitter {
    /// Writes an event of `schema` (`sidelight/config/1`) now. `attributes` is an object; its members follow the head
    /// (`schema`, `id`, `timestamp`, `service.*`), whose names it must not use. Never blocks: what does not fit is
    /// dropped and counted.
    pub fn emit(&self, schema: &'static str, attributes: Value) {
        self.put(schema, Class::Event, attributes, None);
    }

    /// The same for what is dropped first when there is too much.
    pub fn emit_debug(&self, schema: &'static str, attributes: Value) {
        self.put(schema, Class::Debug, attributes, None);
    }

    /// The same for what must not be lost: completes with `true` when the event would survive a loss of power, with
    /// `false` when it is on its way but cannot be made durable (there is no spool directory, its disk refuses), or was
    /// dropped. Whoever acknowledges the change waits for it.
    pub fn emit_audit(
        &self,
        schema: &'static str,
        attributes: Value,
    ) -> impl Future<Output = bool> + Send + Sync + use<> {
        let (durable, is_durable) = oneshot::channel();
        self.put(schema, Class::Audit, attributes, Some(durable));
        async move { is_durable.await.unwrap_or(false) }
    }

    fn put(
        &self,
        schema: &'static str,
        class: Class,
        attributes: Value,
        durable: Option<oneshot::Sender<bool>>,
    ) {
        // Release and before the event goes: who counts it delivered or dropped has seen it produced.
        self.emitted.produced.fetch_add(1, Ordering::Release);
        let mut state = self.queue.state();
        if state.emitted >= EMITTED_MAX {
            drop(state);
            self.emitted.dropped.fetch_add(1, Ordering::Release);
            return;
        }
        state.emitted += 1;
        let body = Body::Attributes(attributes);
        state.events.push_back(Event { schema, class, at: SystemTime::now(), body, durable });
        drop(state);
        self.wake.notify(false);
    }

    /// Takes an event that somebody else made, if there is room. `false`: there is none now; nothing was counted, and the
    /// caller has the event still, to wait with it or to give it up.
    pub fn offer(&self, event: &mut Incoming) -> bool {
        let mut state = self.queue.state();
        let is_full = state.events.len() >= OFFERED_MAX
            || (state.offered_bytes > 0 && state.offered_bytes + event.json.len() > OFFERED_BYTES_MAX);
        if is_full {
            drop(state);
            self.wake.notify(true);
            return false;
        }
        self.emitted.produced.fetch_add(1, Ordering::Release);
        state.offered_bytes += event.json.len();
        let is_urgent = state.events.len() == OFFERED_MAX / 4;
        let body = Body::Members(std::mem::take(&mut event.json));
        let Incoming { schema, class, at, .. } = *event;
        state.events.push_back(Event { schema, class, at, body, durable: None });
        drop(state);
        self.wake.notify(is_urgent);
        true
    }

    /// Writes an event that may be large, and is encoded. Never blocks: what does not fit is dropped and counted.
    pub fn emit_incoming(&self, mut event: Incoming) {
        if !self.offer(&mut event) {
            self.emitted.produced.fetch_add(1, Ordering::Release);
            self.emitted.dropped.fetch_add(1, Ordering::Release);
        }
    }
}
