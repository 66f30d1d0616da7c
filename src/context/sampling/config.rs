//! `pipeline.sampling`: which traces are recorded.

use crate::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// `pipeline.sampling`. Decided once for a trace, where it begins: what comes after follows the caller's flag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Sampling")]
pub struct Config {
    /// Whose sampled flag counts.
    pub honour_parent: HonourParent,
    /// With `honour_parent: trusted`: how many traces a second of callers that are not trusted are recorded because they ask
    /// for it. 0: none. Beyond, and when they ask for none, the rest of this section decides.
    pub untrusted_traces_per_second: u32,
    /// Recorded whatever `ratio` and `traces_per_second` say.
    pub force: Force,
    /// The part of the other traces that is recorded, by their ids (OpenTelemetry's `TraceIdRatioBased`): sidecars with the
    /// same ratio choose the same traces.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: f64,
    /// The most of those that this proxy begins in a second, or `none`. Workers share it evenly.
    #[serde(with = "units::count_or_none")]
    #[schemars(with = "units::CountOrNone")]
    pub traces_per_second: Option<usize>,
    /// What is kept though the trace is not recorded.
    pub keep: Keep,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            honour_parent: HonourParent::default(),
            untrusted_traces_per_second: 1, // enough to follow one's own requests by hand
            force: Force::default(),
            ratio: 1.0, // OpenTelemetry's default, parentbased_always_on
            traces_per_second: None,
            keep: Keep::default(),
        }
    }
}

/// Whose sampled flag counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HonourParent {
    /// Trusted peers' (OpenTelemetry's `ParentBased`); others' only to record more, and only at a bounded rate: a stranger
    /// can neither hide nor flood.
    #[default]
    Trusted,
    /// Everybody's.
    Always,
    /// Nobody's: every proxy decides for itself, so traces may have holes.
    Never,
}

/// `force`: whose traces are recorded in any case. The fields are believed only from trusted peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ForceSampling")]
pub struct Force {
    /// Accounts.
    pub account_id: BTreeSet<String>,
    /// Users, as they go on: their pseudonyms, where users have those.
    pub user_id: BTreeSet<String>,
    /// Feature flags: any of these that is on.
    pub flags: BTreeSet<String>,
    /// Requests of type TRACE.
    pub trace: bool,
}

impl Default for Force {
    fn default() -> Self {
        Force { account_id: BTreeSet::new(), user_id: BTreeSet::new(), flags: BTreeSet::new(), trace: true }
    }
}

/// `keep`: what is kept though its trace is not recorded, decided at its end by each proxy for its own part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "KeepSampling")]
pub struct Keep {
    /// What failed: no whole answer, a status of 500 or more, or the gRPC statuses that are a server's fault.
    pub errors: bool,
    /// What took longer, or `none`.
    #[serde(with = "units::duration_or_none")]
    #[schemars(with = "units::DurationOrNone")]
    pub slower_than: Option<Duration>,
}

impl Default for Keep {
    fn default() -> Self {
        Keep { errors: true, slower_than: Some(Duration::from_secs(1)) }
    }
}
