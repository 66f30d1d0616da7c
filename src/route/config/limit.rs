//! `rate_limit` and `circuit_breaker` of a route.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::config::Breaker;
use crate::units;

/// One rate limit: `requests` in each `per`, for each value of `key`. A request beyond it is answered 429, with
/// `Retry-After`, `RateLimit-Policy` and `RateLimit`. The buckets are shared by all workers of this proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// Name in answers, events and metrics; empty: made from the key, as in `account_id`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What a bucket is for; empty: one bucket for the route. A request that lacks a part has an empty one.
    pub key: Vec<LimitKey>,
    /// Requests in each `per`.
    #[schemars(range(min = 1))]
    pub requests: u32,
    /// The time that `requests` is about.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub per: Duration,
    /// Requests that may come at once; absent: as many as `requests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
    /// Other quotas for some values of the first part of `key`, as in `{ gold: { requests: 1000 } }`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, Quota>,
    /// Most buckets; beyond them the ones that are full again are forgotten, and then requests share one bucket.
    #[schemars(range(min = 1))]
    pub keys_max: usize,
    /// Whether answers of the upstream get `RateLimit` fields too.
    pub headers: bool,
}

impl Default for RateLimit {
    fn default() -> Self {
        RateLimit {
            name: String::new(),
            key: Vec::new(),
            requests: 100,
            per: Duration::from_secs(1),
            burst: None,
            overrides: BTreeMap::new(),
            keys_max: 10_000,
            headers: false,
        }
    }
}

/// Another quota.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Requests in each `per` of the limit.
    #[schemars(range(min = 1))]
    pub requests: u32,
    /// Requests that may come at once; absent: as many as `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
}

/// A part of the key of a rate limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LimitKey {
    /// Which customer.
    AccountId,
    /// Who.
    UserId,
    /// What they bought.
    License,
    /// STANDARD or TRACE.
    RequestType,
    /// The client's address, without its port.
    SourceAddress,
    /// The method.
    Method,
    /// The path, without its query.
    Path,
    /// A header field.
    Header(String),
}

/// `circuit_breaker` of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteBreaker {
    /// Requests at once (else 503).
    #[serde(with = "units::count_or_none")]
    #[schemars(with = "units::CountOrNone")]
    pub requests: Option<usize>,
    /// Retries and hedges at once.
    #[serde(with = "units::count_or_none")]
    #[schemars(with = "units::CountOrNone")]
    pub retries: Option<usize>,
    /// Requests at once of one account (else 503).
    #[serde(with = "units::count_or_none")]
    #[schemars(with = "units::CountOrNone")]
    pub requests_per_account: Option<usize>,
    /// As in a cluster's `circuit_breaker`, for the requests of this route; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
}

impl RouteBreaker {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == RouteBreaker::default()
    }
}
