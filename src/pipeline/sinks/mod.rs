//! Where encoded events are written.
//!
//! A sink takes a batch of whole lines and settles every event of it: written, or lost and counted. How it fails: never
//! towards its caller; a warning a minute says what is wrong.

mod file;
mod output;
mod stdout;

use super::accounts::SinkStats;
use super::config::Sinks;
use std::io;
use std::sync::Arc;

/// One sink that is on.
pub(super) enum Sink {
    /// The standard output.
    Stdout(stdout::Stdout),
    /// A file.
    File(file::File),
}

/// Opens the sinks that the configuration names.
pub(super) fn open(config: &Sinks) -> io::Result<Vec<Sink>> {
    let mut sinks = Vec::new();
    if config.stdout.is_some() {
        sinks.push(Sink::Stdout(stdout::Stdout::open()?));
    }
    if let Some(file) = &config.file {
        sinks.push(Sink::File(file::File::open(&file.path)?));
    }
    Ok(sinks)
}

impl Sink {
    /// Writes a batch of so many events.
    pub(super) fn write(&mut self, batch: &[u8], events: u64) {
        match self {
            Sink::Stdout(sink) => sink.write(batch, events),
            Sink::File(sink) => sink.write(batch, events),
        }
    }

    /// Opens what it writes to anew, where that means something.
    pub(super) fn reopen(&mut self) {
        match self {
            Sink::Stdout(_) => {}
            Sink::File(sink) => sink.reopen(),
        }
    }

    /// Its counters.
    pub(super) fn stats(&self) -> &Arc<SinkStats> {
        match self {
            Sink::Stdout(sink) => sink.stats(),
            Sink::File(sink) => sink.stats(),
        }
    }
}
