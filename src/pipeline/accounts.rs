//! What became of every event: the books of the pipeline.
//!
//! For each sink, `produced = delivered + dropped + queued`, in every reading: what is queued is read as the rest, and
//! the counters are read in an order (delivered, then dropped, then produced) in which the rest cannot be negative.

use super::metrics::block::Block;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one sink. The pipeline's thread is the only writer.
#[derive(Debug)]
pub struct SinkStats {
    /// `stdout` or `file`.
    pub name: &'static str,
    /// Events that were written in whole.
    pub(super) delivered: AtomicU64,
    /// Events that could not be written.
    pub(super) failed: AtomicU64,
}

/// The counters of the pipeline.
#[derive(Default)]
pub struct Accounts {
    sinks: Vec<Arc<SinkStats>>,
    emitted: Arc<Emitted>,
    blocks: Vec<Arc<Block>>,
}

/// Counters of the events that are no exchanges, or come beside one; written by any thread.
#[derive(Debug, Default)]
pub(super) struct Emitted {
    /// Events that were given.
    pub(super) produced: AtomicU64,
    /// Events that found the queue full.
    pub(super) dropped: AtomicU64,
}

/// What became of the events, as one sink has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// `stdout` or `file`.
    pub sink: &'static str,
    /// Events that came into being.
    pub produced: u64,
    /// Events that the sink has written.
    pub delivered: u64,
    /// Events that found the queue full.
    pub dropped_full: u64,
    /// Events that the sink failed to write.
    pub dropped_failed: u64,
    /// Events on their way.
    pub queued: u64,
}

impl SinkStats {
    pub(super) fn new(name: &'static str) -> SinkStats {
        SinkStats { name, delivered: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }
}

impl Accounts {
    pub(super) fn new(
        sinks: Vec<Arc<SinkStats>>,
        emitted: Arc<Emitted>,
        blocks: Vec<Arc<Block>>,
    ) -> Accounts {
        Accounts { sinks, emitted, blocks }
    }

    /// One account for each sink.
    pub fn read(&self) -> Vec<Account> {
        let mut accounts: Vec<Account> = self
            .sinks
            .iter()
            .map(|sink| Account {
                sink: sink.name,
                produced: 0,
                delivered: sink.delivered.load(Ordering::Acquire),
                dropped_full: 0,
                dropped_failed: sink.failed.load(Ordering::Acquire),
                queued: 0,
            })
            .collect();
        let dropped_full = self.dropped_full();
        let produced = self.produced();
        for account in &mut accounts {
            account.dropped_full = dropped_full;
            account.produced = produced;
            let settled = account.delivered + account.dropped_failed + dropped_full;
            account.queued = produced.saturating_sub(settled);
        }
        accounts
    }

    /// One more event came into being, beside that of its exchange: noted before it is delivered.
    pub(super) fn note_derived(&self) {
        self.emitted.produced.fetch_add(1, Ordering::Release);
    }

    /// Events that came into being.
    pub fn produced(&self) -> u64 {
        let exchanges: u64 = self.blocks.iter().map(|block| block.produced()).sum();
        exchanges + self.emitted.produced.load(Ordering::Acquire)
    }

    /// Events that found a queue full.
    pub fn dropped_full(&self) -> u64 {
        let exchanges: u64 = self.blocks.iter().map(|block| block.dropped()).sum();
        exchanges + self.emitted.dropped.load(Ordering::Acquire)
    }
}
