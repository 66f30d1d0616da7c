//! Which events of a batch that comes again are settled already.
//!
//! What: a batch is delivered in parts (a record, a tag, a partition), and one part may fail when others were
//! acknowledged. Then the whole batch comes again, and what was acknowledged is not sent twice. Bounded by the batch: what
//! stands before the first event of the next one is forgotten.

use super::sink::Sent;
use crate::pipeline::spool::Batch;
use std::collections::BTreeMap;

/// Settled events, by sequence number: delivered, or refused for a reason.
#[derive(Debug, Default)]
pub(super) struct Settled {
    events: BTreeMap<u64, Option<String>>,
}

impl Settled {
    /// A batch begins: what came before it will not come again.
    pub(super) fn begin(&mut self, batch: &Batch) {
        if let Some(first) = batch.events().next() {
            self.events = self.events.split_off(&first.sequence);
        }
    }

    /// Whether an event needs nothing more.
    pub(super) fn has(&self, sequence: u64) -> bool {
        self.events.contains_key(&sequence)
    }

    /// An event was acknowledged.
    pub(super) fn deliver(&mut self, sequence: u64) {
        self.events.insert(sequence, None);
    }

    /// The other side will never have this event.
    pub(super) fn refuse(&mut self, sequence: u64, reason: String) {
        self.events.insert(sequence, Some(reason));
    }

    /// Every event of the batch is settled: what is to be said of it.
    pub(super) fn finish(&mut self, batch: &Batch) -> Sent {
        let mut sent = Sent::all(batch);
        for event in batch.events() {
            if let Some(Some(reason)) = self.events.remove(&event.sequence) {
                sent.rejected.push((event.sequence, reason));
            }
        }
        sent
    }
}
