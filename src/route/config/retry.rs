//! `retry` and `hedge` of a route.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::units;

/// `retry` of a route. What may have reached the upstream is tried again only for idempotent methods, for requests with
/// an `idempotency-key`, and where `idempotent` says so. TRACE requests are sent once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Further attempts after the first; 0: none. The cluster's `retry_budget` bounds all of them together.
    #[schemars(range(max = 10))]
    pub limit: u32,
    /// Which failures.
    pub on: Vec<RetryOn>,
    /// Further statuses, as in `[425]`; idempotent requests only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
    /// The wait before a retry.
    pub backoff: Backoff,
    /// A longer `Retry-After` (or `grpc-retry-pushback-ms`) is not waited for: the answer is passed on.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationOrZero")]
    pub retry_after_max: Duration,
    /// Says that every request of this route may be repeated, whatever its method: for gRPC methods that only read.
    pub idempotent: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            limit: 2,
            on: vec![RetryOn::ConnectFailure, RetryOn::RefusedStream],
            statuses: Vec::new(),
            backoff: Backoff::default(),
            retry_after_max: Duration::from_secs(300),
            idempotent: false,
        }
    }
}

/// `retry.backoff`: a random time up to `base × (2^n − 1)` before the n-th retry (full jitter), at most `max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// The unit.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationOrZero")]
    pub base: Duration,
    /// The longest wait.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationOrZero")]
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}

/// A failure that may be tried again. Names are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// No connection: nothing was sent.
    ConnectFailure,
    /// The upstream refused the stream (REFUSED_STREAM, GOAWAY) or closed an idle connection: nothing was processed.
    RefusedStream,
    /// The connection broke before a response; idempotent requests only.
    Reset,
    /// 502, 503 or 504 from the upstream, or its per-try timeout; idempotent requests only.
    GatewayError,
    /// Any 5xx from the upstream, no answer, or its per-try timeout; idempotent requests only.
    #[serde(rename = "5xx")]
    ServerError,
    /// 409 (Conflict); idempotent requests only.
    #[serde(rename = "retriable_4xx")]
    Retriable4xx,
    /// 429 (Too Many Requests); idempotent requests only.
    RateLimited,
    /// gRPC CANCELLED; idempotent requests only, as all of the following.
    Cancelled,
    /// gRPC DEADLINE_EXCEEDED.
    DeadlineExceeded,
    /// gRPC INTERNAL.
    Internal,
    /// gRPC RESOURCE_EXHAUSTED.
    ResourceExhausted,
    /// gRPC UNAVAILABLE.
    Unavailable,
}

/// `hedge` of a route: the answer that comes first counts, the other request is cancelled. Only requests that may be
/// repeated are hedged, and each hedge is paid for from the cluster's `retry_budget`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hedge {
    /// When the second request goes out: a time, or a quantile of the cluster's own latency, as in `p95`.
    pub after: HedgeAfter,
    /// The earliest, whatever the quantile says.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationOrZero")]
    pub min: Duration,
}

impl Default for Hedge {
    fn default() -> Self {
        Hedge { after: HedgeAfter::Quantile(950), min: Duration::from_millis(1) }
    }
}

/// When a hedge goes out: `p95`, `p99.9` or a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeAfter {
    /// A quantile of the cluster's latency, in thousandths.
    Quantile(u32),
    /// A fixed time.
    Fixed(Duration),
}

impl HedgeAfter {
    fn parse(text: &str) -> Result<HedgeAfter, String> {
        let Some(percent) = text.strip_prefix('p') else {
            return units::parse_duration(text).map(HedgeAfter::Fixed).map_err(|error| error.to_string());
        };
        let (whole, tenth) = percent.split_once('.').unwrap_or((percent, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let thousandths = match (whole.parse::<u32>(), tenth.parse::<u32>()) {
            (Ok(whole), Ok(tenth)) if is_number(whole_text(percent)) && tenth < 10 && whole < 100 => {
                whole * 10 + tenth
            }
            _ => 0,
        };
        if thousandths < 500 {
            return Err(format!("`{text}` is not a quantile from `p50` to `p99.9`"));
        }
        Ok(HedgeAfter::Quantile(thousandths))
    }
}

fn whole_text(percent: &str) -> &str {
    percent.split('.').next().unwrap_or_default()
}

impl fmt::Display for HedgeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HedgeAfter::Quantile(thousandths) if thousandths % 10 == 0 => write!(f, "p{}", thousandths / 10),
            HedgeAfter::Quantile(thousandths) => write!(f, "p{}.{}", thousandths / 10, thousandths % 10),
            HedgeAfter::Fixed(time) => f.write_str(&units::duration_text(*time)),
        }
    }
}

impl<'de> Deserialize<'de> for HedgeAfter {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        HedgeAfter::parse(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}

impl Serialize for HedgeAfter {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_string())
    }
}

impl JsonSchema for HedgeAfter {
    fn schema_name() -> Cow<'static, str> {
        "HedgeAfter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "hedge_after" })
    }
}
