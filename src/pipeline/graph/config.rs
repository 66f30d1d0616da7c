//! `pipeline.graph`: how much of the dependency graph one sidecar keeps, and under which names it shows it.

use std::time::Duration;

use crate::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `pipeline.graph`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Graph")]
pub struct Config {
    /// Edges that are told apart by route, protocol, license and request type; what is beyond goes into `_other`,
    /// counted. An edge takes some 2 KiB.
    #[schemars(range(min = 16, max = 100000))]
    pub edges_max: usize,
    /// How long an edge is shown after its last call.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub idle: Duration,
    /// Also show the graph on `/metrics` under other systems' names.
    pub metrics: MetricsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Config { edges_max: 2_000, idle: Duration::from_secs(3_600), metrics: MetricsConfig::default() }
    }
}

/// Names that other systems read a graph from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "GraphMetrics")]
pub struct MetricsConfig {
    /// Istio's standard metrics (`istio_requests_total` …), which Kiali draws.
    pub istio: bool,
    /// Tempo's service graph metrics (`traces_service_graph_request_total` …), which Grafana draws.
    pub service_graph: bool,
}
