//! Events to the standard output: for a container's log collector.
//!
//! A descriptor of its own, so that a batch is one write and does not go through the standard library's line buffer.
//! How it fails: a reader that is slow blocks this sink's thread, and events wait in the spool; one that is gone is tried
//! again.

use super::output::Output;
use super::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::spool::Batch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// `pipeline.sinks.stdout`: JSON lines to the standard output. No options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StdoutSink")]
pub struct Config {}

/// The standard output.
pub(super) struct Stdout {
    file: File,
    output: Output,
}

impl Stdout {
    /// A descriptor for what is the standard output now.
    pub(super) fn open() -> Result<Stdout, String> {
        let fd = io::stdout().as_fd().try_clone_to_owned();
        let fd = fd.map_err(|error| format!("there is no standard output: {error}"))?;
        Ok(Stdout { file: File::from(fd), output: Output::default() })
    }
}

impl Sink for Stdout {
    fn pace(&self) -> Pace {
        // Nothing is due by time, and a container's collector shows what comes: no wait for others.
        let idle_interval = Duration::from_secs(3600);
        Pace { bytes_max: 64 << 10, linger: Duration::ZERO, idle_interval, ..Pace::default() }
    }

    fn send(&mut self, batch: &Batch, _: Instant) -> Result<Sent, Failure> {
        self.output.write(&mut self.file, batch).1
    }
}
