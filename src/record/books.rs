//! What became of every exchange, counted as it happens.
//!
//! Workers and the recorder's thread count; whoever asks reads. A reason has a counter of its own, so that nothing on the
//! way of an exchange is locked.

use super::header;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why an exchange that a rule wanted is not in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Exchanges come faster than the disk takes them, or hold more memory than they may.
    QueueFull,
    /// The disk is full.
    DiskFull,
    /// The disk refused for another reason.
    IoError,
    /// It is longer than a record may be.
    TooLarge,
    /// It could not be redacted or sealed.
    RedactionError,
    /// The process ended before it was written.
    Shutdown,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 6] = [
        Reason::QueueFull,
        Reason::DiskFull,
        Reason::IoError,
        Reason::TooLarge,
        Reason::RedactionError,
        Reason::Shutdown,
    ];

    /// The name in books and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue_full",
            Reason::DiskFull => "disk_full",
            Reason::IoError => "io_error",
            Reason::TooLarge => "too_large",
            Reason::RedactionError => "redaction_error",
            Reason::Shutdown => "shutdown",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Counts {
    seen: AtomicU64,
    recorded: AtomicU64,
    sampled_out: AtomicU64,
    filtered: AtomicU64,
    dropped: [AtomicU64; Reason::ALL.len()],
}

impl Counts {
    /// An exchange ended while recording was on.
    pub fn see(&self) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    /// So many are in a file.
    pub fn record(&self, entries: u64) {
        self.recorded.fetch_add(entries, Ordering::Relaxed);
    }

    /// So many that were thought to be in a file are not.
    pub fn unrecord(&self, entries: u64) {
        self.recorded.fetch_sub(entries, Ordering::Relaxed);
    }

    /// Sampling left one out.
    pub fn sample_out(&self) {
        self.sampled_out.fetch_add(1, Ordering::Relaxed);
    }

    /// No rule wanted so many.
    pub fn filter(&self, entries: u64) {
        self.filtered.fetch_add(entries, Ordering::Relaxed);
    }

    /// So many are lost.
    pub fn drop(&self, reason: Reason, entries: u64) {
        if let Some(count) = self.dropped.get(reason as usize) {
            count.fetch_add(entries, Ordering::Relaxed);
        }
    }

    /// The books. What is neither recorded nor left out nor lost is under way.
    pub fn read(&self) -> header::Books {
        let of = |count: &AtomicU64| count.load(Ordering::Acquire);
        // Read last, so that nothing is counted that was not seen.
        let (recorded, sampled_out, filtered) =
            (of(&self.recorded), of(&self.sampled_out), of(&self.filtered));
        let dropped =
            Reason::ALL.iter().zip(&self.dropped).map(|(reason, count)| (reason.as_str(), of(count)));
        let dropped: std::collections::BTreeMap<String, u64> = dropped
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect();
        let seen = of(&self.seen);
        let settled = recorded + sampled_out + filtered + dropped.values().sum::<u64>();
        header::Books {
            seen,
            recorded,
            sampled_out,
            filtered,
            dropped,
            pending: seen.saturating_sub(settled),
        }
    }
}
