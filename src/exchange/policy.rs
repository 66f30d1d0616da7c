//! What a route says about an exchange, compiled: plain data that the layers read, so that one stack serves every
//! route.

use crate::cluster::{Breakers, Cluster};
use crate::quota::RateLimit;
use regex::bytes::Regex;
use std::sync::Arc;
use std::time::Duration;

/// The compiled settings of one route.
#[derive(Debug, Default)]
pub struct Policy {
    /// The route's name, as configured or made from its position.
    pub name: Arc<str>,
    /// What OpenTelemetry calls `http.route`: the path pattern that matched, if there is one.
    pub pattern: Option<Arc<str>>,
    /// How long the whole exchange may take until the head of the answer; `None` for ever.
    pub timeout: Option<Duration>,
    /// How long one try may take; `None` as long as the whole.
    pub per_try_timeout: Option<Duration>,
    /// How long a body or stream may move no byte: `None` as the listener says, `Some(None)` for ever.
    pub idle_timeout: Option<Option<Duration>>,
    /// How long the whole exchange may take, to the last byte of its content.
    pub stream_timeout: Option<Duration>,
    /// Whether the caller's own deadline is ignored.
    pub ignores_deadline: bool,
    /// Whether the route's timeout is passed on as a deadline, even if the caller set none.
    pub announces_deadline: bool,
    /// When to try again.
    pub retry: RetryPolicy,
    /// When to send a second request.
    pub hedge: Option<Hedge>,
    /// The caps and the breaker of the route.
    pub breakers: Option<Arc<Breakers>>,
    /// The rate limits of the route; a request must pass all of them.
    pub rate_limits: Vec<Arc<RateLimit>>,
    /// Where copies go.
    pub mirror: Option<Mirror>,
    /// Changes of path and host.
    pub rewrite: Option<Rewrite>,
    /// Changes of the request's fields.
    pub request_edits: Edits,
    /// Changes of the response's fields.
    pub response_edits: Edits,
}

/// When to try again, and after which wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many retries beyond the first try.
    pub retries_max: u32,
    /// On what.
    pub on: RetryOn,
    /// Further statuses.
    pub statuses: Box<[u16]>,
    /// The unit of the wait: a random time up to `base × (2^n − 1)` before the n-th retry.
    pub backoff_base: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// A longer `Retry-After` is not waited for.
    pub retry_after_max: Duration,
    /// Every request may be repeated, whatever its method.
    pub is_idempotent: bool,
}

/// Conditions of a retry. Whatever is set, nothing is repeated that could have happened twice unless the method is
/// idempotent, an `idempotency-key` is there, or the route says that its requests may be repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection could be made.
    pub connect_failure: bool,
    /// The upstream refused the stream before it processed it.
    pub refused_stream: bool,
    /// 502, 503 or 504; a try that took too long.
    pub gateway_error: bool,
    /// Any 5xx; no answer.
    pub server_error: bool,
    /// The upstream closed or reset before it answered.
    pub reset: bool,
    /// 409.
    pub retriable_4xx: bool,
    /// 429.
    pub rate_limited: bool,
    /// gRPC CANCELLED (1).
    pub grpc_cancelled: bool,
    /// gRPC DEADLINE_EXCEEDED (4).
    pub grpc_deadline_exceeded: bool,
    /// gRPC INTERNAL (13).
    pub grpc_internal: bool,
    /// gRPC RESOURCE_EXHAUSTED (8).
    pub grpc_resource_exhausted: bool,
    /// gRPC UNAVAILABLE (14).
    pub grpc_unavailable: bool,
}

impl RetryOn {
    /// Whether any gRPC status is a condition: then trailers are looked at before an answer is passed on.
    pub fn has_grpc(&self) -> bool {
        self.grpc_cancelled
            || self.grpc_deadline_exceeded
            || self.grpc_internal
            || self.grpc_resource_exhausted
            || self.grpc_unavailable
    }
}

/// When a second request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// After this quantile of the cluster's latency, in thousandths.
    pub quantile: Option<u32>,
    /// After this time, where there is no quantile; else the earliest.
    pub time: Duration,
}

/// Where copies go.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// How many requests are copied, in millionths.
    pub millionths: u32,
    /// Copies of one worker under way at once.
    pub requests_max: usize,
    /// How long a copy may take.
    pub timeout: Duration,
}

/// Changes of the target.
#[derive(Debug)]
pub struct Rewrite {
    /// The new path.
    pub path: Option<PathRewrite>,
    /// The new authority.
    pub host: Option<Box<[u8]>>,
}

/// How a path changes.
#[derive(Debug)]
pub enum PathRewrite {
    /// The whole path.
    Full(Box<[u8]>),
    /// The prefix that matched (so many bytes) becomes this.
    Prefix {
        /// Length of the matched prefix, without a final slash.
        matched_bytes: usize,
        /// What takes its place.
        replacement: Box<[u8]>,
    },
    /// Every match becomes the substitution (`$1` is the first group).
    Regex {
        /// What to look for.
        pattern: Regex,
        /// What to write.
        substitution: Box<[u8]>,
    },
}

/// A field to write: name in lower case, and value.
pub type NameValue = (Box<[u8]>, Box<[u8]>);

/// Changes of a header section, in this order: remove, set, append.
#[derive(Debug, Default)]
pub struct Edits {
    /// Names, in lower case.
    pub remove: Vec<Box<[u8]>>,
    /// Fields that replace those of the same name.
    pub set: Vec<NameValue>,
    /// Fields that are added.
    pub append: Vec<NameValue>,
}

impl Edits {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.append.is_empty()
    }

    /// Applies the changes.
    pub fn apply(&self, fields: &mut crate::svc::Fields) {
        for name in &self.remove {
            fields.remove_named(name);
        }
        for (name, value) in &self.set {
            fields.set_named(name, value);
        }
        for (name, value) in &self.append {
            fields.push(name, value);
        }
    }
}
