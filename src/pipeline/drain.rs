//! The pipeline's thread.
//!
//! What: visits every ring in turn, encodes what it finds into one batch, gives the boxes back, and writes the batch to
//! every sink. Why batches: one system call for many events, and none for a worker. An event is written at latest a nap
//! after it came into being, whatever the load.
//! How it fails: events that a ring refused leave a gap in the sequence numbers as wide as their count.

use super::emitter::{EMITTED_MAX, Emitter, Event};
use super::encode::Encoder;
use super::metrics::Registry;
use super::metrics::process::Usage;
use super::ring::{Consumer, Producer};
use super::sinks::Sink;
use super::wake::{Sleep, Wake};
use crate::exchange::Record;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// A batch is written when it has this size, or when there is nothing more.
const BATCH_BYTES: usize = 64 * 1024;
/// Naps go on so long after the last event; then the thread sleeps until it is woken.
const NAPS_AFTER_TRAFFIC: Duration = Duration::from_secs(1);
/// How often the process's CPU time and memory become an event, while there is traffic. They are not in each event:
/// a look at `/proc` costs more than the rest of it.
const PROCESS_EVENT_EVERY: Duration = Duration::from_secs(60);

/// The pipeline's end of one worker's rings.
pub(super) struct Lane {
    /// From the worker.
    pub(super) records: Consumer<Box<Record>>,
    /// Back to it.
    pub(super) spares: Producer<Box<Record>>,
}

/// What the thread owns.
pub(super) struct Drain {
    lanes: Vec<Lane>,
    events: Receiver<Event>,
    emitter: Emitter,
    /// An event that was found when the thread was about to sleep.
    found: Option<Event>,
    batch: Batch,
    registry: Arc<Registry>,
    wake: Arc<Wake>,
    last_event: Instant,
    last_process_event: Instant,
    /// Events that the rings refused, as far as the sequence knows.
    gaps: u64,
}

/// Encoded events that wait to be written, and where to.
struct Batch {
    encoder: Encoder,
    bytes: Vec<u8>,
    events: u64,
    sinks: Vec<Sink>,
}

impl Batch {
    fn write(&mut self) {
        if self.events > 0 {
            for sink in &mut self.sinks {
                sink.write(&self.bytes, self.events);
            }
        }
        self.bytes.clear();
        self.events = 0;
    }

    fn added(&mut self) {
        self.bytes.push(b'\n');
        self.events += 1;
        if self.bytes.len() >= BATCH_BYTES {
            self.write();
        }
    }
}

impl Drain {
    pub(super) fn new(
        lanes: Vec<Lane>,
        (emitter, events): (Emitter, Receiver<Event>),
        sinks: Vec<Sink>,
        encoder: Encoder,
        registry: Arc<Registry>,
        wake: Arc<Wake>,
    ) -> Drain {
        let now = Instant::now();
        let batch = Batch { encoder, bytes: Vec::new(), events: 0, sinks };
        Drain {
            lanes,
            events,
            emitter,
            found: None,
            batch,
            registry,
            wake,
            last_event: now,
            last_process_event: now,
            gaps: 0,
        }
    }

    /// Works until [`Wake::stop`], then until everything is written.
    pub(super) fn run(mut self) {
        loop {
            // Asked before the visit: what was handed over before the stop is found by the visit after it.
            let is_stopping = self.wake.is_stopping();
            if self.wake.take_reopen() {
                self.batch.sinks.iter_mut().for_each(Sink::reopen);
            }
            let is_busy = self.visit();
            self.batch.write();
            let now = Instant::now();
            if is_busy {
                self.last_event = now;
                self.report_process(now);
            } else if is_stopping {
                return;
            }
            self.rest(now);
        }
    }

    /// Takes what there is. Returns whether there was anything.
    fn visit(&mut self) -> bool {
        let mut is_busy = false;
        let dropped = self.registry.accounts().dropped_full();
        self.batch.encoder.skip(dropped.wrapping_sub(self.gaps));
        self.gaps = dropped;
        for lane in &mut self.lanes {
            // No more than there are now, so that one busy worker cannot keep the others waiting.
            for _ in 0..lane.records.len() {
                let Some(record) = lane.records.pop() else { break };
                self.batch.encoder.exchange(&record, &mut self.batch.bytes);
                self.batch.added();
                for resend in record.notes.iter().flat_map(|notes| &notes.resends) {
                    self.registry.accounts().note_derived();
                    self.batch.encoder.resend(&record, resend, &mut self.batch.bytes);
                    self.batch.added();
                }
                // A full way back frees the box here.
                let _ = lane.spares.push(record);
                is_busy = true;
            }
        }
        for _ in 0..EMITTED_MAX {
            let Some(event) = self.found.take().or_else(|| self.events.try_recv().ok()) else { break };
            self.batch.encoder.event(event.schema, event.at, &event.attributes, &mut self.batch.bytes);
            self.batch.added();
            is_busy = true;
        }
        is_busy
    }

    fn rest(&mut self, now: Instant) {
        let is_quiet = now.duration_since(self.last_event) > NAPS_AFTER_TRAFFIC;
        let how = if is_quiet { Sleep::Deep } else { Sleep::Nap };
        let (lanes, events, found) = (&self.lanes, &self.events, &mut self.found);
        self.wake.sleep(how, || {
            if how == Sleep::Nap {
                return true;
            }
            *found = events.try_recv().ok();
            found.is_none() && lanes.iter().all(|lane| lane.records.is_empty())
        });
    }

    fn report_process(&mut self, now: Instant) {
        if now.duration_since(self.last_process_event) < PROCESS_EVENT_EVERY {
            return;
        }
        self.last_process_event = now;
        let usage = Usage::read();
        let mut attributes = Map::new();
        if let Some(cpu) = usage.cpu {
            attributes.insert("sidelight.process.cpu".into(), cpu.as_secs_f64().into());
        }
        if let Some(resident_bytes) = usage.resident_bytes {
            attributes.insert("sidelight.process.rss".into(), resident_bytes.into());
        }
        self.emitter.emit("sidelight/process/1", Value::Object(attributes));
    }
}
