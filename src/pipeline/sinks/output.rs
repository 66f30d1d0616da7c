//! Writing lines so that every one is either whole or counted as lost.
//!
//! How it fails: an error (no space, a broken pipe) ends the batch; the lines that were written in whole are delivered,
//! the others lost. A line that was cut is ended before the next one, so that a reader loses it alone.

use super::super::accounts::SinkStats;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a failing sink says so in the log.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Settles batches, and warns.
pub(super) struct Output {
    stats: Arc<SinkStats>,
    /// The last line was cut.
    is_torn: bool,
    warned_at: Option<Instant>,
}

impl Output {
    pub(super) fn new(name: &'static str) -> Output {
        Output { stats: Arc::new(SinkStats::new(name)), is_torn: false, warned_at: None }
    }

    pub(super) fn stats(&self) -> &Arc<SinkStats> {
        &self.stats
    }

    /// The next line begins on a fresh target.
    pub(super) fn renewed(&mut self) {
        self.is_torn = false;
    }

    /// Writes `batch`, which is `events` whole lines.
    pub(super) fn write(&mut self, target: &mut impl Write, batch: &[u8], events: u64) {
        let (written, result) = self.write_lines(target, batch);
        let delivered = match result {
            Ok(()) => events,
            Err(error) => {
                let written = batch.get(..written).unwrap_or_default();
                self.is_torn |= written.last().is_some_and(|byte| *byte != b'\n');
                let whole = memchr::memchr_iter(b'\n', written).count() as u64;
                self.warn("events are lost: cannot write", &error);
                whole
            }
        };
        // Release: who sees these events settled has seen them produced.
        let stats = &*self.stats;
        stats.delivered.store(stats.delivered.load(Ordering::Relaxed) + delivered, Ordering::Release);
        stats.failed.store(stats.failed.load(Ordering::Relaxed) + (events - delivered), Ordering::Release);
    }

    /// Writes all of it. Returns how much was written, and what stopped it.
    fn write_lines(&mut self, target: &mut impl Write, batch: &[u8]) -> (usize, io::Result<()>) {
        if self.is_torn {
            if let Err(error) = target.write_all(b"\n") {
                return (0, Err(error));
            }
            self.is_torn = false;
        }
        let mut written = 0;
        while let Some(rest) = batch.get(written..).filter(|rest| !rest.is_empty()) {
            match target.write(rest) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Says what is wrong, at most once in [`WARN_EVERY`].
    pub(super) fn warn(&mut self, what: &'static str, error: &io::Error) {
        let now = Instant::now();
        if self.warned_at.is_none_or(|at| now.duration_since(at) >= WARN_EVERY) {
            self.warned_at = Some(now);
            tracing::warn!(sink = self.stats.name, %error, "{what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then fails until it is given room again.
    struct Full {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room).min(3);
            if fits == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.taken.extend_from_slice(&bytes[..fits]);
            self.room -= fits;
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn settled(output: &Output) -> (u64, u64) {
        (output.stats.delivered.load(Ordering::Relaxed), output.stats.failed.load(Ordering::Relaxed))
    }

    #[test]
    fn a_full_disk_loses_only_the_lines_that_do_not_fit() {
        let mut output = Output::new("file");
        let mut full = Full { taken: Vec::new(), room: 8 };
        output.write(&mut full, b"{1}\n{2}\n{3}\n", 3);
        assert_eq!(settled(&output), (2, 1), "two lines fit exactly");
        full.room = 2;
        output.write(&mut full, b"{4}\n", 1);
        assert_eq!(settled(&output), (2, 2));
        output.write(&mut full, b"{5}\n", 1);
        assert_eq!(settled(&output), (2, 3));
        full.room = 100;
        output.write(&mut full, b"{6}\n", 1);
        assert_eq!(settled(&output), (3, 3));
        assert_eq!(full.taken, b"{1}\n{2}\n{4\n{6}\n", "the cut line is ended before the next");
    }
}
