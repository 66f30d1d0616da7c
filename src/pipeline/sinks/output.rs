//! Writing lines so that every one is either whole or written again.
//!
//! How it fails: an error (no space, a broken pipe) ends the batch; the lines that were written in whole are settled, the
//! others come again. A line that was cut is ended before the next one, so that a reader loses nothing but the cut part.

use super::sink::{Failure, Sent};
use crate::pipeline::spool::Batch;
use std::io::{self, Write};

/// Writes batches as lines.
#[derive(Default)]
pub(super) struct Output {
    lines: Vec<u8>,
    /// The last line was cut.
    is_torn: bool,
}

impl Output {
    /// The next line begins on a fresh target.
    pub(super) fn renewed(&mut self) {
        self.is_torn = false;
    }

    /// The last line was cut, by whoever wrote before.
    pub(super) fn torn(&mut self) {
        self.is_torn = true;
    }

    /// Writes the batch. Returns how many bytes of lines were written, too.
    pub(super) fn write(&mut self, target: &mut impl Write, batch: &Batch) -> (u64, Result<Sent, Failure>) {
        self.lines.clear();
        for event in batch.events() {
            self.lines.extend_from_slice(event.payload);
            self.lines.push(b'\n');
        }
        let (written, result) = self.write_lines(target);
        let result = match result {
            Ok(()) => Ok(Sent::all(batch)),
            Err(error) => {
                let written = self.lines.get(..written).unwrap_or_default();
                self.is_torn |= written.last().is_some_and(|byte| *byte != b'\n');
                let whole = memchr::memchr_iter(b'\n', written).count();
                match whole.checked_sub(1).and_then(|last| batch.events().nth(last)) {
                    // The rest comes again, and fails again if the error stays.
                    Some(last) => Ok(Sent { through: Some(last.sequence), ..Sent::default() }),
                    None => Err(Failure::retry(format!("cannot write: {error}"))),
                }
            }
        };
        // One huge batch must not pin its size for ever.
        self.lines.shrink_to(4 << 20);
        (written as u64, result)
    }

    /// Writes all of it. Returns how much was written, and what stopped it.
    fn write_lines(&mut self, target: &mut impl Write) -> (usize, io::Result<()>) {
        if self.is_torn {
            if let Err(error) = target.write_all(b"\n") {
                return (0, Err(error));
            }
            self.is_torn = false;
        }
        let mut written = 0;
        while let Some(rest) = self.lines.get(written..).filter(|rest| !rest.is_empty()) {
            match target.write(rest) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::sinks::tests::batch;

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

    #[test]
    fn a_full_disk_settles_only_the_lines_that_fit_and_ends_the_one_that_was_cut() {
        let mut output = Output::default();
        let mut full = Full { taken: Vec::new(), room: 10 };
        let through = |result: Result<Sent, Failure>| result.map(|sent| sent.through);
        let (_, result) = output.write(&mut full, &batch(&["{1}", "{2}", "{3}"]));
        assert_eq!(through(result), Ok(Some(2)), "two lines fit, and half of the third");
        let (_, result) = output.write(&mut full, &batch(&["{3}"]));
        assert!(matches!(result, Err(Failure::Retry { .. })));
        full.room = 100;
        let (_, result) = output.write(&mut full, &batch(&["{3}", "{4}"]));
        assert_eq!(through(result), Ok(Some(2)));
        assert_eq!(full.taken, b"{1}\n{2}\n{3\n{3}\n{4}\n", "the cut line is ended before the next");
    }
}
