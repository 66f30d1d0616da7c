//! `clusters.*.balance`: which endpoint an attempt goes to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::units;

/// `clusters.NAME.balance`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Balance {
    /// The algorithm.
    pub policy: Policy,
    /// What `ring_hash` and `maglev` hash: the first that the request has. A request that has none of them goes to a
    /// random endpoint, and its event says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hash_on: Vec<HashOn>,
    /// Size of the ring of `ring_hash`.
    pub ring: Ring,
    /// Size of the table of `maglev`: a prime, and much more than there are endpoints.
    #[schemars(range(min = 3, max = 5000011))]
    pub maglev_table_size: u32,
    /// New endpoints, and those that recovered, get their share little by little; absent: at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,
    /// Only endpoints with these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subset: BTreeMap<String, SubsetValue>,
    /// Which endpoints are used when none has the labels of `subset`.
    pub subset_fallback: SubsetFallback,
    /// Preference of endpoints in the zone of this service.
    pub locality: Locality,
    /// With fewer healthy endpoints than this, in percent, all are used: it is more likely that the checks are wrong
    /// than that so many endpoints are. 0: never.
    #[schemars(range(max = 100))]
    pub panic_threshold: u32,
    /// How much a priority level can take, in percent of its healthy endpoints' share, before the next level is used
    /// too: 140 spills from 71 % healthy endpoints down.
    #[schemars(range(min = 100, max = 1000))]
    pub overprovisioning: u32,
}

impl Default for Balance {
    fn default() -> Self {
        Balance {
            policy: Policy::default(),
            hash_on: Vec::new(),
            ring: Ring::default(),
            maglev_table_size: 65_537,
            slow_start: None,
            subset: BTreeMap::new(),
            subset_fallback: SubsetFallback::default(),
            locality: Locality::default(),
            panic_threshold: 50,
            overprovisioning: 140,
        }
    }
}

/// The algorithm that chooses an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The better of two random endpoints by peak latency (EWMA, decay 10 s) × requests in flight.
    #[default]
    PeakEwma,
    /// The one of two random endpoints with fewer requests in flight.
    LeastRequest,
    /// One after the other, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// By a consistent hash on a ring (ketama): few requests move when endpoints change; weights are exact for many.
    RingHash,
    /// By a consistent hash in a table: faster and more even than a ring, moves a little more.
    Maglev,
}

impl Policy {
    /// Whether it chooses by a hash of the request.
    pub fn is_hash(self) -> bool {
        matches!(self, Policy::RingHash | Policy::Maglev)
    }
}

/// What is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HashOn {
    /// A header field.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A parameter of the query.
    Query(String),
    /// A context field: `account_id`, `user_id`, `license`, `request_id` or `trace_id`.
    Context(ContextField),
    /// The path, without its query.
    Path,
    /// The client's address, without its port.
    SourceAddress,
}

/// A context field by which endpoints can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContextField {
    /// Which customer.
    AccountId,
    /// Who.
    UserId,
    /// What they bought.
    License,
    /// The request.
    RequestId,
    /// The trace.
    TraceId,
}

/// `balance.ring`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ring {
    /// Least points on the ring.
    #[schemars(range(min = 1, max = 8388608))]
    pub size_min: u32,
    /// Most points on the ring.
    #[schemars(range(min = 1, max = 8388608))]
    pub size_max: u32,
}

impl Default for Ring {
    fn default() -> Self {
        Ring { size_min: 1024, size_max: 8 << 20 }
    }
}

/// `balance.slow_start`: weight × max(min_weight_percent, (time ÷ window)^(1 ÷ aggression)). Not for hashing policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SlowStart {
    /// How long it takes to the full share.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub window: Duration,
    /// 1: the share grows evenly; more: faster at first.
    #[schemars(range(min = 0.1, max = 100.0))]
    pub aggression: f64,
    /// The share at the start, in percent.
    #[schemars(range(min = 1, max = 100))]
    pub min_weight_percent: u32,
}

impl Default for SlowStart {
    fn default() -> Self {
        SlowStart { window: Duration::from_secs(30), aggression: 1.0, min_weight_percent: 10 }
    }
}

/// The value of a label that is wanted: a text, or where in the request it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SubsetValue {
    /// This value.
    Text(String),
    /// What the request says.
    Request(SubsetFrom),
}

/// Where the wanted value of a label is in the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SubsetFrom {
    /// A header field.
    Header(String),
    /// A context field.
    Context(ContextField),
}

impl JsonSchema for SubsetValue {
    fn schema_name() -> Cow<'static, str> {
        "SubsetValue".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        units::any_of(&[String::json_schema(generator), SubsetFrom::json_schema(generator)])
    }
}

/// What a request gets that wants labels which no endpoint has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubsetFallback {
    /// 503: no healthy endpoint.
    #[default]
    None,
    /// Any endpoint.
    Any,
}

/// `balance.locality`. Used only if `service.zone` and the zones of the endpoints are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Locality {
    /// Whether endpoints of the same zone are preferred, as far as they can take it: each endpoint gets as much as any
    /// other, whichever zone it is in.
    pub prefer_zone: bool,
    /// With fewer healthy endpoints than this the zone does not matter.
    #[schemars(range(min = 1))]
    pub endpoints_min: u32,
    /// How much of the calls comes from each zone, as relative weights; empty: from each as much.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub callers: BTreeMap<String, u32>,
}

impl Default for Locality {
    fn default() -> Self {
        Locality { prefer_zone: true, endpoints_min: 6, callers: BTreeMap::new() }
    }
}
