//! `clusters.*.circuit_breaker` and `retry_budget`: how much a cluster is given at once, and when it is given nothing.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units;

/// `clusters.NAME.circuit_breaker`: Envoy's caps, counted over all workers, and a breaker with three states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Connections to all endpoints; requests beyond them wait, as many as `pending` says.
    #[serde(with = "units::count_or_none")]
    #[schemars(with = "units::CountOrNone")]
    pub connections: Option<usize>,
    /// Requests that have no connection yet: they wait for one, or one is being made (else 503).
    #[serde(with = "units::count_or_none")]
    #[schemars(with = "units::CountOrNone")]
    pub pending: Option<usize>,
    /// Requests at once (else 503).
    #[serde(with = "units::count_or_none")]
    #[schemars(with = "units::CountOrNone")]
    pub requests: Option<usize>,
    /// Retries and hedges at once; `none`: only the retry budget bounds them, as in Envoy when it has one.
    #[serde(with = "units::count_or_none")]
    #[schemars(with = "units::CountOrNone")]
    pub retries: Option<usize>,
    /// Requests at once of one account (else 503); requests without an account share one count.
    #[serde(with = "units::count_or_none")]
    #[schemars(with = "units::CountOrNone")]
    pub requests_per_account: Option<usize>,
    /// Stops asking a cluster that fails, and asks it again with one request at a time; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        CircuitBreaker {
            connections: Some(1024),
            pending: Some(1024),
            requests: Some(1024),
            retries: None,
            requests_per_account: None,
            breaker: None,
        }
    }
}

impl CircuitBreaker {
    /// No cap and no breaker.
    pub const NONE: CircuitBreaker = CircuitBreaker {
        connections: None,
        pending: None,
        requests: None,
        retries: None,
        requests_per_account: None,
        breaker: None,
    };
}

/// `circuit_breaker.breaker`: closed, open, half-open. Algorithm and defaults are those of linkerd's failure accrual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row that open it.
    #[schemars(range(min = 1))]
    pub consecutive_failures: u32,
    /// Opens when fewer requests than this succeed within `window`, in percent.
    #[schemars(range(min = 1, max = 100))]
    pub success_percent_min: u32,
    /// What `success_percent_min` looks at.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub window: Duration,
    /// Requests within `window` before `success_percent_min` is looked at.
    #[schemars(range(min = 1))]
    pub requests_min: u32,
    /// How long it stays open the first time; doubles with each probe that fails.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub backoff_min: Duration,
    /// The longest time it stays open before a request is let through as a probe; the random part of `jitter_percent`
    /// comes on top.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub backoff_max: Duration,
    /// A random part that is added to the time, in percent of it.
    #[schemars(range(max = 100))]
    pub jitter_percent: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            consecutive_failures: 7,
            success_percent_min: 80,
            window: Duration::from_secs(10),
            requests_min: 5,
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            jitter_percent: 50,
        }
    }
}

/// `clusters.NAME.retry_budget`: retries and hedges within `ttl` are at most `percent` of the requests, and
/// `per_second_min` for each second. Algorithm and defaults are those of Finagle and linkerd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryBudget {
    /// Retries in percent of the requests.
    #[schemars(range(max = 100))]
    pub percent: u32,
    /// Retries for each second that are there in any case.
    pub per_second_min: u32,
    /// How long a request counts.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub ttl: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget { percent: 20, per_second_min: 10, ttl: Duration::from_secs(10) }
    }
}
