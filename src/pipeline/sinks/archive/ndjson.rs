//! Events as they are, a line each, in one zstd frame with a checksum.

use super::target::Target;
use std::io::{self, Write};

/// Lines that wait for the compressor: it takes memory only for a file that becomes larger than this.
const PENDING_BYTES_MAX: usize = 64 << 10;

/// How far back the compressor looks, as a power of two: 1 MiB. Sixteen files may be open.
const WINDOW_LOG: u32 = 20;

/// A file of lines.
pub(super) struct Ndjson {
    pending: Vec<u8>,
    encoder: zstd::stream::write::Encoder<'static, Target>,
}

impl Ndjson {
    /// An empty file.
    pub(super) fn new(target: Target, level: i32) -> io::Result<Ndjson> {
        let mut encoder = zstd::stream::write::Encoder::new(target, level)?;
        encoder.include_checksum(true)?;
        encoder.window_log(WINDOW_LOG)?;
        Ok(Ndjson { pending: Vec::new(), encoder })
    }

    /// Appends a line.
    pub(super) fn push(&mut self, event: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(event);
        self.pending.push(b'\n');
        if self.pending.len() >= PENDING_BYTES_MAX {
            self.encoder.write_all(&self.pending)?;
            self.pending.clear();
            self.pending.shrink_to(2 * PENDING_BYTES_MAX);
        }
        Ok(())
    }

    /// Bytes in memory.
    pub(super) fn held(&self) -> usize {
        self.pending.capacity() + self.encoder.get_ref().held()
    }

    /// Completes the file.
    pub(super) fn finish(mut self) -> io::Result<Target> {
        self.encoder.write_all(&self.pending)?;
        self.encoder.finish()
    }
}
