//! A worker's end of the pipeline.
//!
//! What: counts an exchange, then hands its record over; gives out used records again. How it fails: a full ring drops
//! the event, counted; the metrics have it all the same.

use super::metrics::block::Writer;
use super::ring::{Consumer, Producer};
use super::wake::Wake;
use crate::exchange::{Connection, Record, Sink, Tap};
use crate::record::Taps;
use std::cell::RefCell;
use std::sync::Arc;

/// Records with more text than this are freed, not reused: one huge head must not pin its size for ever.
const SPARE_TEXT_BYTES_MAX: usize = 4 * 1024;

/// The pipeline, as a worker's layers see it. Made by `Pipeline::start`, moved to the worker's thread, shared there.
pub struct WorkerSink {
    state: RefCell<State>,
    taps: Option<Taps>,
}

/// The worker's ends of its rings.
pub(super) struct Ends {
    /// To the pipeline's thread.
    pub(super) put: Producer<Box<Record>>,
    /// Back from it.
    pub(super) reuse: Consumer<Box<Record>>,
    /// The thread.
    pub(super) wake: Arc<Wake>,
}

struct State {
    metrics: Writer,
    ends: Ends,
    /// After so many events (less one, a mask) the thread is woken even from a nap: a power of two, at most half the ring.
    urgent_mask: usize,
    /// The last record that was not handed over.
    spare: Option<Box<Record>>,
}

impl WorkerSink {
    pub(super) fn new(metrics: Writer, ends: Ends, ring_events_max: usize) -> WorkerSink {
        let half = (ring_events_max / 2).max(1);
        let urgent_mask = (1 << half.ilog2()) - 1;
        let state = RefCell::new(State { metrics, ends, urgent_mask, spare: None });
        WorkerSink { state, taps: None }
    }

    /// Exchanges are recorded by these taps.
    pub fn record_with(&mut self, taps: Taps) {
        self.taps = Some(taps);
    }
}

impl Sink for WorkerSink {
    fn exchange(&self, record: Box<Record>) {
        let state = &mut *self.state.borrow_mut();
        state.metrics.count(&record);
        match state.ends.put.push(record) {
            Ok(()) => {
                let is_urgent = state.ends.put.pushed() & state.urgent_mask == 0;
                state.ends.wake.notify(is_urgent);
            }
            Err(record) => {
                state.metrics.block().count_dropped();
                state.spare = Some(record);
            }
        }
    }

    fn spare(&self) -> Box<Record> {
        let state = &mut *self.state.borrow_mut();
        state.metrics.block().count_started();
        match state.spare.take().or_else(|| state.ends.reuse.pop()) {
            Some(mut record) if record.text.capacity() <= SPARE_TEXT_BYTES_MAX => {
                record.reset();
                record
            }
            _ => Box::new(Record::new()),
        }
    }

    fn tap(&self, connection: &Connection) -> Option<Box<dyn Tap>> {
        self.taps.as_ref()?.begin(connection)
    }

    fn transferred(&self, received_bytes: u64, sent_bytes: u64) {
        self.state.borrow().metrics.block().count_transferred(received_bytes, sent_bytes);
    }
}
