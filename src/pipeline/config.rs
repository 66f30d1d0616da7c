//! `pipeline`: where events go.
//!
//! How it fails: a sink that is slow or gone loses events, which are counted; it never holds a request up.

use std::path::PathBuf;

use crate::context::sampling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `pipeline`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Pipeline")]
pub struct Config {
    /// Where events go; absent: to stdout.
    pub sinks: Sinks,
    /// Events that one worker holds for the pipeline; more are dropped and counted.
    #[schemars(range(min = 16, max = 1048576))]
    pub ring_events_max: usize,
    /// Which traces are recorded.
    pub sampling: sampling::Config,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            sinks: Sinks { stdout: Some(Stdout {}), file: None },
            ring_events_max: 4096,
            sampling: sampling::Config::default(),
        }
    }
}

/// `pipeline.sinks`: the sinks that are written are on, and no other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sinks {
    /// JSON lines to the standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Stdout>,
    /// JSON lines to a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
}

/// `pipeline.sinks.stdout`: no options yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StdoutSink")]
pub struct Stdout {}

/// `pipeline.sinks.file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "FileSink")]
pub struct File {
    /// The file; it is appended to and created where it is missing.
    #[schemars(with = "String", extend("format" = "output_file"))]
    pub path: PathBuf,
}
