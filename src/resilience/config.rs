//! `inbound.concurrency`, `outbound.concurrency` and `load_shed`: how many requests are under way at once, and which
//! ones are turned away first.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::units::{self, AUTO};

/// `concurrency`: requests of a listener at once, over all workers; those beyond it wait in a queue that is fair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Concurrency {
    /// How many: a number, or `auto` for what the latency says (Envoy's gradient).
    pub limit: Limit,
    /// With `auto`: the least.
    #[schemars(range(min = 1))]
    pub min: u32,
    /// With `auto`: the most.
    #[schemars(range(min = 1))]
    pub max: u32,
    /// With `auto`: which percentile of the latency is looked at.
    #[schemars(range(min = 1, max = 99))]
    pub percentile: u32,
    /// With `auto`: time between changes of the limit.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub update_interval: Duration,
    /// With `auto`: how much slower than the best the latency may be, in percent, before the limit falls.
    #[schemars(range(max = 1000))]
    pub buffer_percent: u32,
    /// With `auto`: time between new measurements of the best latency.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub min_rtt_interval: Duration,
    /// With `auto`: a random part of that time that is added to it, in percent.
    #[schemars(range(max = 100))]
    pub min_rtt_jitter_percent: u32,
    /// With `auto`: requests of such a measurement.
    #[schemars(range(min = 1))]
    pub min_rtt_requests: u32,
    /// Requests that wait for their turn; the one that is turned away beyond it is of the lowest tier, and in that of
    /// the account that has most.
    pub queue_max: usize,
    /// The longest wait (else 503).
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationOrZero")]
    pub queue_timeout: Duration,
}

impl Default for Concurrency {
    fn default() -> Self {
        Concurrency {
            limit: Limit::Auto,
            min: 3,
            max: 1000,
            percentile: 50,
            update_interval: Duration::from_millis(100),
            buffer_percent: 25,
            min_rtt_interval: Duration::from_secs(60),
            min_rtt_jitter_percent: 15,
            min_rtt_requests: 50,
            queue_max: 1024,
            queue_timeout: Duration::from_secs(1),
        }
    }
}

/// A number, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// What the latency says.
    Auto,
    /// This many.
    Fixed(u32),
}

struct LimitVisitor;

impl de::Visitor<'_> for LimitVisitor {
    type Value = Limit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`auto` or a whole number above 0")
    }

    fn visit_u64<E: de::Error>(self, limit: u64) -> Result<Limit, E> {
        match u32::try_from(limit) {
            Ok(limit) if limit > 0 => Ok(Limit::Fixed(limit)),
            _ => Err(E::custom(format!("{limit} is not a limit: write `auto`, or 1 or more"))),
        }
    }

    fn visit_i64<E: de::Error>(self, limit: i64) -> Result<Limit, E> {
        self.visit_u64(u64::try_from(limit).unwrap_or(0))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Limit, E> {
        if text == AUTO { Ok(Limit::Auto) } else { Err(E::invalid_value(de::Unexpected::Str(text), &self)) }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(LimitVisitor)
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Limit::Auto => s.serialize_str(AUTO),
            Limit::Fixed(limit) => s.serialize_u32(*limit),
        }
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> Cow<'static, str> {
        "ConcurrencyLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        units::any_of(&[
            json_schema!({ "type": "string", "const": AUTO }),
            json_schema!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
        ])
    }
}

/// `load_shed`: who is turned away first when there is too much: TRACE requests, then the tiers from the lowest up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoadShed {
    /// Licenses, the lowest first. A request with none of them is below all of them.
    pub tiers: Vec<String>,
    /// Who shares evenly within a tier.
    pub fair: Fair,
}

/// Who shares evenly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fair {
    /// Accounts; requests without one share one turn.
    #[default]
    AccountId,
    /// Users.
    UserId,
    /// Clients, by address.
    SourceAddress,
    /// Nobody: first come, first served.
    None,
}
