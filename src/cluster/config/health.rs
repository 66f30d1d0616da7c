//! `clusters.*.health`: active health checks. Names are Envoy's, times between HAProxy's and Kuma's: a check a sidecar
//! makes beside every service must be rare, so the fast interval does the work when something changes.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::units;

/// `clusters.NAME.health`: exactly one of `http`, `grpc` and `tcp`, and when to ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// Asks with an HTTP request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// Asks `grpc.health.v1.Health/Check`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcCheck>,
    /// Connects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// Another port than that of the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Time between checks of an endpoint.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub interval: Duration,
    /// Time between checks while an endpoint changes its state, and before its first answer.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub fast_interval: Duration,
    /// A random part of the interval that is added to it, in percent, so that checks do not march in step.
    #[schemars(range(max = 100))]
    pub jitter_percent: u32,
    /// Time for one check, connecting included.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub timeout: Duration,
    /// Checks in a row that must succeed before an unhealthy endpoint is used again; the first one ever needs one.
    #[schemars(range(min = 1))]
    pub healthy_threshold: u32,
    /// Checks in a row that must fail before an endpoint is not used any more.
    #[schemars(range(min = 1))]
    pub unhealthy_threshold: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        HealthCheck {
            http: None,
            grpc: None,
            tcp: None,
            port: None,
            interval: Duration::from_secs(10),
            fast_interval: Duration::from_secs(1),
            jitter_percent: 15,
            timeout: Duration::from_secs(2),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        }
    }
}

/// `health.http`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpCheck {
    /// Path, with a query where one is needed.
    #[schemars(extend("format" = "path_and_query"))]
    pub path: String,
    /// Host that is asked for; absent: the endpoint as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "authority"))]
    pub host: Option<String>,
    /// Method.
    pub method: String,
    /// Statuses that are healthy, single ones and ranges.
    pub statuses: Vec<StatusRange>,
    /// A text that the first 64 KiB of the body must contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl Default for HttpCheck {
    fn default() -> Self {
        HttpCheck {
            path: "/".into(),
            host: None,
            method: "GET".into(),
            statuses: vec![StatusRange { first: 200, last: 299 }],
            body: None,
        }
    }
}

/// `health.grpc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcCheck {
    /// Service that is asked about; empty: the server as a whole.
    pub service: String,
}

/// `health.tcp`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TcpCheck {
    /// Text that is sent; empty: nothing.
    pub send: String,
    /// Text that must come back, somewhere in the first 64 KiB; empty: the connection is enough.
    pub receive: String,
}

/// One status, `200`, or a range, `"200-299"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl StatusRange {
    /// Whether `status` is in it.
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }

    fn new(first: u64, last: u64) -> Result<StatusRange, String> {
        match (u16::try_from(first), u16::try_from(last)) {
            (Ok(first @ 100..=999), Ok(last @ 100..=999)) if first <= last => Ok(StatusRange { first, last }),
            _ => Err(format!("`{first}-{last}` is not a range of statuses: write it as in `200-299`")),
        }
    }
}

struct StatusVisitor;

impl de::Visitor<'_> for StatusVisitor {
    type Value = StatusRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status, or a range as in `200-299`")
    }

    fn visit_u64<E: de::Error>(self, status: u64) -> Result<StatusRange, E> {
        StatusRange::new(status, status).map_err(|_| E::custom(format!("{status} is not a status")))
    }

    fn visit_i64<E: de::Error>(self, status: i64) -> Result<StatusRange, E> {
        self.visit_u64(u64::try_from(status).unwrap_or(0))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusRange, E> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) => StatusRange::new(first, last).map_err(E::custom),
            _ => Err(E::custom(format!("`{text}` is not a range of statuses: write it as in `200-299`"))),
        }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(StatusVisitor)
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            s.serialize_u16(self.first)
        } else {
            s.serialize_str(&format!("{}-{}", self.first, self.last))
        }
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        units::any_of(&[
            json_schema!({ "type": "integer", "minimum": 100, "maximum": 999 }),
            json_schema!({ "type": "string", "format": "status_range" }),
        ])
    }
}
