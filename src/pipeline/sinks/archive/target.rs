//! Where the bytes of a file that is being made go: a temporary file, or memory until it is put into a bucket.

use super::directory::Partial;
use std::io::{self, Write};

/// See the module.
pub(super) enum Target {
    /// A file that is not complete.
    File(Partial),
    /// What will be one object.
    Memory(Vec<u8>),
}

impl Target {
    /// Bytes that it holds in memory.
    pub(super) fn held(&self) -> usize {
        match self {
            Target::File(_) => 0,
            Target::Memory(bytes) => bytes.len(),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::File(partial) => partial.write(bytes),
            Target::Memory(memory) => memory.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
