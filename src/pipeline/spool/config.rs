//! `pipeline.spool`: where events wait for their sinks, and how much of them may.

use std::path::PathBuf;
use std::time::Duration;

use crate::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `pipeline.spool`: the log between the proxy and its sinks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Spool")]
pub struct Config {
    /// A directory of its own for this process; made where it is missing. Absent: events wait in memory only, and are
    /// lost when the process ends.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Most bytes on disk. Beyond them the oldest events go, debug events first and audit events last, counted as
    /// `disk_budget` for each sink that has not had them. At least four segments. An hour at 250 events a second.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub disk_bytes_max: usize,
    /// Bytes of one file; a file goes when every sink has had all of it. Kafka: 1 GiB, Vector: 128 MiB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub segment_bytes_max: usize,
    /// Most bytes in memory, without a directory or while the disk is full or broken. Beyond them the oldest events go,
    /// debug events first and audit events last, counted as `memory`.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub memory_bytes_max: usize,
    /// Longest event; a longer one is counted as `too_large`.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub event_bytes_max: usize,
    /// How often a sink's progress is written down. After a crash so much of it is sent again.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub progress_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            directory: None,
            disk_bytes_max: 1 << 30,
            segment_bytes_max: 64 << 20,
            memory_bytes_max: 16 << 20,
            event_bytes_max: 1 << 20,
            progress_interval: Duration::from_millis(100),
        }
    }
}

/// What the spool makes of the numbers: never less than it can work with.
impl Config {
    pub(super) fn segment_bytes(&self) -> u64 {
        self.segment_bytes_max.max(1 << 10) as u64
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        (self.disk_bytes_max as u64).max(4 * self.segment_bytes())
    }

    /// A segment in memory: small, so that what is dropped at once is little.
    pub(super) fn memory_segment_bytes(&self) -> u64 {
        (self.memory_bytes_max as u64 / 8).clamp(1 << 10, 1 << 20)
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        (self.memory_bytes_max as u64).max(4 * self.memory_segment_bytes())
    }

    pub(super) fn event_bytes(&self) -> usize {
        self.event_bytes_max.min(64 << 20)
    }
}
