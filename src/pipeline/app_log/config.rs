//! `app_output`: what becomes of what the application beside prints.

use crate::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `app_output`: the standard output and error of the application that `run -- APP` starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "AppOutput")]
pub struct Config {
    /// Whether its lines become events (`sidelight/app_log/1`). `false`: it has the proxy's own output, as it is.
    pub collect: bool,
    /// Whether its lines are printed too.
    pub pass_through: PassThrough,
    /// Longest line. Of a longer one the beginning becomes the event, and `sidelight.truncated_bytes` says how much is
    /// missing. Docker cuts at 16 KiB, Fluent Bit's tail at 32 KiB, Vector's stdin at 100 KiB.
    #[serde(with = "units::size")]
    #[schemars(with = "units::SizeText")]
    pub line_bytes_max: usize,
    /// How long the application may be held up by a pipeline that is full, once; then lines are dropped and counted until
    /// there is room, so that it never hangs on our account.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub stall_max: Duration,
}

/// `app_output.pass_through`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PassThrough {
    /// Only where no sink `stdout` is on: lines and events in one stream could be told apart by nobody.
    #[default]
    Auto,
    /// Always; with a sink `stdout` all of them to the standard error.
    Always,
    /// Never.
    Never,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            collect: true,
            pass_through: PassThrough::Auto,
            line_bytes_max: 64 << 10,
            stall_max: Duration::from_secs(1),
        }
    }
}

impl Config {
    /// What is used of `line_bytes_max`: at least something, and less than the longest event (`pipeline.spool`).
    pub fn line_bytes(&self) -> usize {
        self.line_bytes_max.clamp(64, 16 << 20)
    }
}
