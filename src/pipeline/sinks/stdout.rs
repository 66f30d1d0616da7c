//! Events to the standard output: for a container's log collector.
//!
//! A descriptor of its own, so that a batch is one write and does not go through the standard library's line buffer.
//! How it fails: a reader that is slow blocks the pipeline's thread (the rings fill and lose, counted), one that is gone
//! loses events.

use super::super::accounts::SinkStats;
use super::output::Output;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

/// The standard output.
pub(crate) struct Stdout {
    file: File,
    output: Output,
}

impl Stdout {
    /// A descriptor for what is the standard output now.
    pub(super) fn open() -> io::Result<Stdout> {
        let fd = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Stdout { file: File::from(fd), output: Output::new("stdout") })
    }

    pub(super) fn write(&mut self, batch: &[u8], events: u64) {
        self.output.write(&mut self.file, batch, events);
    }

    pub(super) fn stats(&self) -> &Arc<SinkStats> {
        self.output.stats()
    }
}
