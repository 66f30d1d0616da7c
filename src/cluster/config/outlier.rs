//! `clusters.*.outlier_detection`: endpoints that fail real requests are left out for a while. Names and defaults are
//! Envoy's (`config.cluster.v3.OutlierDetection`), but that it is on: balancing over endpoints that fail helps nobody.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units;

/// `clusters.NAME.outlier_detection`. A percentage of 0 in an `enforcing_` key switches that detector off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutlierDetection {
    /// Whether endpoints are ejected at all.
    pub enabled: bool,
    /// 5xx in a row, and failures without an answer, that eject an endpoint.
    #[schemars(range(min = 1))]
    pub consecutive_5xx: u32,
    /// How many of those ejections are carried out, in percent.
    #[schemars(range(max = 100))]
    pub enforcing_consecutive_5xx: u32,
    /// 502, 503 and 504 in a row, and failures without an answer, that eject an endpoint.
    #[schemars(range(min = 1))]
    pub consecutive_gateway_failure: u32,
    /// How many of those ejections are carried out, in percent.
    #[schemars(range(max = 100))]
    pub enforcing_consecutive_gateway_failure: u32,
    /// Time between looks at rates, and at who may come back.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub interval: Duration,
    /// How long the first ejection lasts; each further one lasts as much longer.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub base_ejection_time: Duration,
    /// The longest ejection.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub max_ejection_time: Duration,
    /// A random time, up to this, that is added to each ejection, so that not all come back at once.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationOrZero")]
    pub max_ejection_time_jitter: Duration,
    /// Most endpoints that are ejected at once, in percent of the cluster; one may always be, if there is another.
    #[schemars(range(max = 100))]
    pub max_ejection_percent: u32,
    /// Success rate: endpoints that need this many requests in an interval before any is judged.
    #[schemars(range(min = 1))]
    pub success_rate_minimum_hosts: u32,
    /// Success rate: requests in an interval that make an endpoint count.
    #[schemars(range(min = 1))]
    pub success_rate_request_volume: u32,
    /// Success rate: an endpoint is ejected below mean − factor ÷ 1000 × standard deviation.
    pub success_rate_stdev_factor: u32,
    /// How many of those ejections are carried out, in percent.
    #[schemars(range(max = 100))]
    pub enforcing_success_rate: u32,
    /// Failure percentage: an endpoint is ejected from this many percent on.
    #[schemars(range(min = 1, max = 100))]
    pub failure_percentage_threshold: u32,
    /// Failure percentage: endpoints that need this many requests in an interval before any is judged.
    #[schemars(range(min = 1))]
    pub failure_percentage_minimum_hosts: u32,
    /// Failure percentage: requests in an interval that make an endpoint count.
    #[schemars(range(min = 1))]
    pub failure_percentage_request_volume: u32,
    /// How many of those ejections are carried out, in percent.
    #[schemars(range(max = 100))]
    pub enforcing_failure_percentage: u32,
    /// Whether an active health check that succeeds ends an ejection; not again where requests then fail as before.
    pub successful_active_health_check_uneject_host: bool,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        OutlierDetection {
            enabled: true,
            consecutive_5xx: 5,
            enforcing_consecutive_5xx: 100,
            consecutive_gateway_failure: 5,
            enforcing_consecutive_gateway_failure: 0,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: 10,
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            success_rate_stdev_factor: 1900,
            enforcing_success_rate: 100,
            failure_percentage_threshold: 85,
            failure_percentage_minimum_hosts: 5,
            failure_percentage_request_volume: 50,
            enforcing_failure_percentage: 0,
            successful_active_health_check_uneject_host: true,
        }
    }
}
