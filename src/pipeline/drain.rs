//! The pipeline's thread.
//!
//! What: visits every ring in turn, encodes what it finds, event by event, into the spool, and gives the boxes back. Each
//! sink reads the spool on a thread of its own. An event is in the spool at latest a nap after it came into being,
//! whatever the load. How it fails: events that a ring refused get their numbers, and are dropped in the books of every
//! sink; while there is no sink, events are counted and not encoded.

use super::app_log::Exchanges;
use super::emitter::{Body, Emitter, Event, Queue};
use super::encode::Encoder;
use super::graph::DEPENDENCY;
use super::metrics::Registry;
use super::metrics::exemplars::Exemplars;
use super::metrics::process::Usage;
use super::ring::{Consumer, Producer};
use super::spool::{Class, Reason, Spool, Writer};
use super::wake::{Sleep, Wake};
use super::wall_clock::WallClock;
use crate::exchange::Record;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// Naps go on so long after the last event; then the thread sleeps until it is woken.
const NAPS_AFTER_TRAFFIC: Duration = Duration::from_secs(1);
/// How often the process's CPU time and memory become an event, while there is traffic. They are not in each event:
/// a look at `/proc` costs more than the rest of it.
const PROCESS_EVENT_EVERY: Duration = Duration::from_secs(60);
/// Longest that the spool is not ticked while there is traffic: what a SIGKILL may cost, together with a nap.
const TICK_EVERY: Duration = Duration::from_millis(20);

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
    queue: Arc<Queue>,
    emitter: Emitter,
    events: VecDeque<Event>,
    book: Book,
    registry: Arc<Registry>,
    wake: Arc<Wake>,
    last_event: Instant,
    last_process_event: Instant,
    /// Events that the queues refused, as far as the spool knows.
    gaps: u64,
    is_in_memory: bool,
    damaged_ranges: u64,
    clock: WallClock,
    exchanges: Arc<OnceLock<Arc<Exchanges>>>,
    exemplars: Exemplars,
}

/// What the thread is made of.
pub(super) struct Start {
    pub(super) lanes: Vec<Lane>,
    pub(super) queue: Arc<Queue>,
    pub(super) emitter: Emitter,
    pub(super) encoder: Encoder,
    pub(super) spool: Spool,
    pub(super) writer: Writer,
    pub(super) registry: Arc<Registry>,
    pub(super) wake: Arc<Wake>,
    /// Who wants to know which exchanges ended.
    pub(super) exchanges: Arc<OnceLock<Arc<Exchanges>>>,
}

/// Encodes events into the spool.
struct Book {
    encoder: Encoder,
    spool: Spool,
    writer: Writer,
    ticked_at: Instant,
}

impl Book {
    /// Appends the event that `encode` makes, which is given its number.
    #[inline]
    fn put(&mut self, class: Class, encode: impl FnOnce(&mut Encoder, u64, &mut Vec<u8>)) {
        let encoder = &mut self.encoder;
        self.writer.append_with(class, |sequence, out| encode(encoder, sequence, out));
    }
}

impl Drain {
    pub(super) fn new(start: Start) -> Drain {
        let Start { lanes, queue, emitter, encoder, spool, writer, registry, wake, exchanges } = start;
        let now = Instant::now();
        let is_in_memory = spool.status().is_in_memory;
        let exemplars = Exemplars::new(Arc::clone(&registry));
        Drain {
            lanes,
            queue,
            emitter,
            events: VecDeque::new(),
            book: Book { encoder, spool, writer, ticked_at: now },
            registry,
            wake,
            last_event: now,
            last_process_event: now,
            gaps: 0,
            is_in_memory,
            damaged_ranges: 0,
            clock: WallClock::new(now, SystemTime::now()),
            exchanges,
            exemplars,
        }
    }

    /// Works until [`Wake::stop`], then until everything is in the spool.
    pub(super) fn run(mut self) {
        loop {
            // Asked before the visit: what was handed over before the stop is found by the visit after it.
            let is_stopping = self.wake.is_stopping();
            let is_busy = self.visit();
            let now = Instant::now();
            if !is_busy || now.duration_since(self.book.ticked_at) >= TICK_EVERY {
                self.book.ticked_at = now;
                self.book.writer.tick(now);
                self.report_spool();
                self.report_clock(now);
            }
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
        // Before the rings are read: who waits for this visit knows then that what ended before it is known.
        let mut visit = self.exchanges.get().map(|exchanges| exchanges.visit());
        let accounts = self.registry.accounts();
        let dropped = accounts.dropped_full();
        let newly_dropped = dropped.wrapping_sub(self.gaps);
        self.gaps = dropped;
        let is_wanted = self.book.spool.has_cursors();
        if is_wanted {
            self.book.writer.skip(newly_dropped, Reason::QueueFull);
        } else {
            accounts.note_unwanted(newly_dropped);
        }
        let mut is_busy = false;
        let mut graph = self.registry.graph().visit();
        for lane in &mut self.lanes {
            // No more than there are now, so that one busy worker cannot keep the others waiting.
            for _ in 0..lane.records.len() {
                let Some(record) = lane.records.pop() else { break };
                is_busy = true;
                graph.count(&record);
                self.exemplars.note(&record);
                if let Some(visit) = &mut visit {
                    visit.note(&record);
                }
                if is_wanted {
                    put_exchange(&mut self.book, &record, || accounts.note_derived());
                } else {
                    accounts.note_unwanted(1);
                }
                // A full way back frees the box here.
                let _ = lane.spares.push(record);
            }
        }
        for event in graph.end(SystemTime::now()) {
            self.emitter.emit(DEPENDENCY, event);
        }
        drop(visit);
        self.exemplars.publish();
        self.queue.take(&mut self.events);
        let mut waiting = Vec::new();
        for event in self.events.drain(..) {
            is_busy = true;
            if !is_wanted {
                accounts.note_unwanted(1);
                continue;
            }
            let Event { schema, class, at, body, durable } = event;
            self.book.put(class, |encoder, sequence, out| match body {
                Body::Attributes(attributes) => encoder.event(sequence, (schema, at), &attributes, out),
                Body::Members(members) => encoder.members(sequence, (schema, at), &members, out),
            });
            waiting.extend(durable);
        }
        self.acknowledge(waiting);
        is_busy
    }

    /// Tells those who wait whether their events are durable.
    fn acknowledge(&mut self, waiting: Vec<oneshot::Sender<bool>>) {
        if waiting.is_empty() {
            return;
        }
        let is_durable = self.book.writer.sync_audit().is_ok();
        for one in waiting {
            // Whoever asked may have gone.
            let _ = one.send(is_durable);
        }
    }

    fn rest(&mut self, now: Instant) {
        let is_quiet = now.duration_since(self.last_event) > NAPS_AFTER_TRAFFIC;
        let how = match is_quiet {
            true if self.book.writer.has_work() => Sleep::Light,
            true => Sleep::Deep,
            false => Sleep::Nap,
        };
        let (lanes, queue) = (&self.lanes, &self.queue);
        self.wake.sleep(how, || {
            how == Sleep::Nap || (queue.is_empty() && lanes.iter().all(|lane| lane.records.is_empty()))
        });
    }

    /// Says it when the disk refuses or takes again, and when bytes are not what was written.
    fn report_spool(&mut self) {
        let status = self.book.spool.status();
        if status.is_in_memory != self.is_in_memory {
            self.is_in_memory = status.is_in_memory;
            let state = if status.is_in_memory { "memory" } else { "disk" };
            let event = json!({ "sidelight.spool.state": state, "sidelight.spool.write_errors": status.write_errors });
            self.emitter.emit("sidelight/spool/1", event);
        }
        if status.damaged_ranges != self.damaged_ranges {
            let is_first = self.damaged_ranges == 0;
            self.damaged_ranges = status.damaged_ranges;
            if is_first {
                let event = json!({ "sidelight.spool.state": "damaged", "sidelight.spool.damaged_bytes": status.damaged_bytes });
                self.emitter.emit("sidelight/spool/1", event);
            }
        }
    }

    /// Says it when the system's clock was set back: timestamps overlap from there on; ids and durations do not.
    fn report_clock(&mut self, now: Instant) {
        if let Some(back) = self.clock.stepped_back(now, SystemTime::now()) {
            let back_ms = u64::try_from(back.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(back_ms, "the system's clock stepped back");
            self.emitter.emit("sidelight/clock/1", json!({ "sidelight.clock.back_ms": back_ms }));
        }
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
        self.emitter.emit_debug("sidelight/process/1", Value::Object(attributes));
    }
}

/// The event of an exchange, and those of its further attempts, each noted before it has its number.
#[inline]
fn put_exchange(book: &mut Book, record: &Record, note_derived: impl Fn()) {
    book.put(Class::Event, |encoder, sequence, out| encoder.exchange(sequence, record, out));
    for resend in record.notes.iter().flat_map(|notes| &notes.resends) {
        note_derived();
        book.put(Class::Event, |encoder, sequence, out| encoder.resend(sequence, record, resend, out));
    }
}
