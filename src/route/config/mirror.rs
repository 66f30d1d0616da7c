//! `mirror` of a route.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units;

/// `mirror` of a route: a copy of the request, with the same Host, marked `sidelight-mirror: 1`, over connections of its
/// own. Its answer is counted and dropped. The copy goes out when the content of the request is known in whole, and not
/// at all if that is longer than `limits.retry_body_bytes_max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The cluster that gets the copies.
    pub cluster: String,
    /// How many requests are copied, in percent.
    #[serde(default = "all")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub percent: f64,
    /// Copies under way at once, of one worker; more are not sent, and counted.
    #[serde(default = "concurrent")]
    #[schemars(range(min = 1))]
    pub requests_max: usize,
    /// How long a copy may take, to the last byte of its answer.
    #[serde(default = "timeout", with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
}

fn all() -> f64 {
    100.0
}

fn concurrent() -> usize {
    64
}

fn timeout() -> Duration {
    Duration::from_secs(5)
}
