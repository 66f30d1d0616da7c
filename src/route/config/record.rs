//! `routes[].record`: what of a route's traffic is recorded.

use crate::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a route says of its recording. `recording.directory` says where to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RouteRecord")]
pub struct Record {
    /// `true`: it is recorded whatever `recording.match` says; `false`: never, but for what is asked for at runtime.
    /// Absent: as `recording` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Most bytes of each side's content; absent: `recording.body_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<units::SizeLimit>,
    /// The share of exchanges, 0 to 1; absent: `recording.sample.ratio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: Option<f64>,
}

impl Record {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Record::default()
    }
}
