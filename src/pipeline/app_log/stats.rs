//! What became of lines. For each stream `lines = delivered + dropped`, once its reader is at rest.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which of the application's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

impl Stream {
    /// Both.
    pub const ALL: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    /// `stdout` or `stderr`: the value of `log.iostream`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Counters of both streams. Each is written by one thread.
#[derive(Debug, Default)]
pub struct Stats([Counters; 2]);

/// Counters of one stream.
#[derive(Debug, Default)]
pub struct Counters {
    /// Lines that were read.
    pub lines: AtomicU64,
    /// Bytes that were read.
    pub bytes: AtomicU64,
    /// Lines that found the pipeline full for too long.
    pub dropped: AtomicU64,
    /// Lines that were cut.
    pub truncated: AtomicU64,
    /// Lines that were not printed because nobody read what was printed.
    pub unprinted: AtomicU64,
}

impl Stats {
    /// The counters of a stream.
    pub fn of(&self, stream: Stream) -> &Counters {
        let [stdout, stderr] = &self.0;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }
}

/// Adds to one of them.
pub fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
