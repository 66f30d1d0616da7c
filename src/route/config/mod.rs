//! `routes`: which requests, where to, and under which terms. The first match wins.
//!
//! How it fails: a route that cannot work (no action, two actions, a cluster that does not exist, a pattern that does
//! not compile) is refused by `check`, before any traffic meets it.

mod action;
mod edit;
mod limit;
mod matching;
mod mirror;
mod record;
mod retry;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use action::{Redirect, RedirectScheme, Respond, Sticky, Weighted};
pub use edit::{Edits, HeaderEdits, RegexRewrite, Rewrite};
pub use limit::{LimitKey, Quota, RateLimit, RouteBreaker};
pub use matching::{ContextMatch, Match, PathMatch, RequestType, StringMatch};
pub use mirror::Mirror;
pub use record::Record;
pub use retry::{Backoff, Hedge, HedgeAfter, Retry, RetryOn};

use crate::units::Timeout;

/// One route. Exactly one of `cluster`, `split`, `redirect` and `respond`; inbound, a route with none goes to the app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Name in events and metrics; empty: its position, as in `outbound[2]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Which requests; absent: all.
    #[serde(rename = "match")]
    pub matches: Match,
    /// The cluster that gets the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Clusters by weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<Weighted>,
    /// Requests with the same value of this context field go to the same cluster of `split`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Answers with a redirection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Answers at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
    /// How long it may take.
    #[serde(skip_serializing_if = "Timeouts::is_default")]
    pub timeout: Timeouts,
    /// When to try again; absent: 2 times, only where nothing was sent or the upstream refused the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Sends a second request when the first takes longer than most; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// Caps for this route, beside those of its cluster.
    #[serde(skip_serializing_if = "RouteBreaker::is_default")]
    pub circuit_breaker: RouteBreaker,
    /// Rate limits; a request must pass all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limit: Vec<RateLimit>,
    /// Sends a copy to another cluster, whose answers nobody waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// What of its traffic is recorded.
    #[serde(skip_serializing_if = "Record::is_default")]
    pub record: Record,
    /// Changes of the path and host that the upstream sees.
    #[serde(skip_serializing_if = "Rewrite::is_default")]
    pub rewrite: Rewrite,
    /// Changes of header fields.
    #[serde(skip_serializing_if = "HeaderEdits::is_default")]
    pub headers: HeaderEdits,
}

/// `timeout` of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// The whole exchange, retries included (else 504); absent: `limits.request_timeout`; `none` for streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Timeout>,
    /// One attempt, up to the response's head; absent: bounded by `request` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try: Option<Timeout>,
    /// A body or stream, in either direction, that moves no byte for so long is cut; absent: `limits.body_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Timeout>,
    /// The whole exchange, to the last byte of its content; absent: not bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<Timeout>,
    /// What the caller's own deadline does (`grpc-timeout`, `x-envoy-expected-rq-timeout-ms`, or that of the inbound
    /// request which this one serves).
    pub deadline: Deadline,
}

/// What a caller's deadline does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Deadline {
    /// It bounds the exchange, where it is earlier than the route's timeout, and is passed on, less what has passed.
    #[default]
    Honour,
    /// Nothing; the fields are passed on as they came.
    Ignore,
}

impl Timeouts {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Timeouts::default()
    }

    /// The time for the whole exchange, `limit` where the route says nothing.
    pub fn request_or(&self, limit: Option<Duration>) -> Option<Duration> {
        self.request.map_or(limit, Timeout::duration)
    }
}
