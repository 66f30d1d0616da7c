//! What became of every event: the books of the pipeline.
//!
//! For each sink, `produced = delivered + dropped + queued`, in every reading. What has a sequence number is in the books
//! of the spool ([`Books`](super::spool::Books)); what is still on its way to one is counted here, and added to what is
//! queued.

use super::metrics::block::Block;
use super::sinks::Status;
use super::spool::{self, Reason, Spool};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

/// The counters of the pipeline.
#[derive(Default)]
pub struct Accounts {
    emitted: Arc<Emitted>,
    blocks: Vec<Arc<Block>>,
    spool: OnceLock<Opened>,
    sinks: Mutex<Vec<Arc<Status>>>,
    /// Events that came into being while there was no sink: they have no number.
    unwanted: AtomicU64,
}

struct Opened {
    spool: Spool,
    /// The last number of the process before.
    base: u64,
    /// A directory was asked for.
    has_directory: bool,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The sink's name.
    pub sink: String,
    /// Events that came into being since the sink was made, also in earlier processes if the spool has a directory.
    pub produced: u64,
    /// Events that the sink has settled.
    pub delivered: u64,
    /// Of those: events that the sink has no form for, and has not sent.
    pub passed_over: u64,
    /// Events that the sink did not get, for each of [`Reason::ALL`].
    pub dropped: [u64; Reason::ALL.len()],
    /// Events on their way.
    pub queued: u64,
    /// Whether the last attempt worked.
    pub is_up: bool,
    /// Attempts that failed and were made again, in this process.
    pub retries: u64,
    /// Why the last attempt failed, and when; also when later ones worked.
    pub last_error: Option<(SystemTime, String)>,
}

impl Account {
    /// All that were dropped.
    pub fn dropped_all(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Whether nothing is missing and nothing too much.
    pub fn is_balanced(&self) -> bool {
        self.produced == self.delivered + self.dropped_all() + self.queued
    }
}

impl Accounts {
    pub(super) fn new(emitted: Arc<Emitted>, blocks: Vec<Arc<Block>>) -> Accounts {
        Accounts { emitted, blocks, ..Accounts::default() }
    }

    /// From here on there is a spool, which should have a directory or not; called once.
    pub(super) fn set_spool(&self, spool: Spool, has_directory: bool) {
        let base = spool.assigned();
        let _ = self.spool.set(Opened { spool, base, has_directory });
    }

    /// The sinks that run.
    pub(super) fn set_sinks(&self, sinks: Vec<Arc<Status>>) {
        *self.sinks.lock().unwrap_or_else(PoisonError::into_inner) = sinks;
    }

    /// One account for each sink, in the order of the configuration.
    pub fn read(&self) -> Vec<Account> {
        let Some(Opened { spool, base, .. }) = self.spool.get() else { return Vec::new() };
        // In this order: what has a number by now is in `produced` too.
        let unwanted = self.unwanted.load(Ordering::Acquire);
        let books = spool.books();
        let produced = self.produced();
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let account = |status: &Arc<Status>| {
            let book = books.iter().find(|book| book.cursor == status.name())?;
            let assigned = book.position + book.queued - base;
            let coming = produced.saturating_sub(unwanted).saturating_sub(assigned);
            Some(Account {
                sink: book.cursor.clone(),
                produced: book.produced + coming,
                delivered: book.delivered,
                passed_over: status.passed_over(),
                dropped: book.dropped,
                queued: book.queued + coming,
                is_up: status.is_up(),
                retries: status.retries(),
                last_error: status.last_error(),
            })
        };
        sinks.iter().filter_map(account).collect()
    }

    /// How the spool is.
    pub fn spool(&self) -> Option<spool::Status> {
        self.spool.get().map(|opened| opened.spool.status())
    }

    /// Whether events wait in memory though they should be on a disk.
    pub fn is_disk_refusing(&self) -> bool {
        self.spool.get().is_some_and(|opened| opened.has_directory && opened.spool.status().is_in_memory)
    }

    /// One more event came into being, beside that of its exchange: noted before it has a number.
    pub(super) fn note_derived(&self) {
        self.emitted.produced.fetch_add(1, Ordering::Release);
    }

    /// So many events came into being while nobody wanted them.
    pub(super) fn note_unwanted(&self, events: u64) {
        self.unwanted.fetch_add(events, Ordering::Release);
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
