//! What is counted of an edge.
//!
//! How it fails: it cannot; sums that do not fit stay at their largest, so that numbers of a file cannot overflow.

use super::histogram::Histogram;
use super::moment::Moment;
use crate::error::Kind;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Names of the gRPC status codes that say that the service failed, not its caller: OpenTelemetry's rule for servers
/// (<https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>).
const GRPC_FAILURES: [u8; 6] = [2, 4, 12, 13, 14, 15];

/// Causes of calls of which the callee knows nothing.
const UNREACHED: [&str; 5] =
    ["connect_failed", "connect_timeout", "tls_failed", "tls_certificate", "dns_failed"];

/// One way in which calls ended, and how many did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The status that the caller was given; 0 without one.
    pub status: u16,
    /// `grpc-status`, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// The cause, where the proxy answered or ended it.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub cause: Cow<'static, str>,
    /// How many.
    pub calls: u64,
}

impl Outcome {
    /// The class of the error: the cause, the gRPC status or the status; `None` where all was well.
    pub fn error(&self) -> Option<Cow<'static, str>> {
        match (self.grpc_status, self.status) {
            _ if !self.cause.is_empty() => Some(self.cause.clone()),
            (Some(status), _) if status != 0 => Some(format!("grpc_{status}").into()),
            (_, status @ 400..) => Some(status.to_string().into()),
            _ => None,
        }
    }

    /// Whether the callee failed: it answered with a 5xx or a failure of gRPC, or not at all.
    pub fn is_failure(&self, is_opaque: bool) -> bool {
        let is_answered = self.status != 0 || (is_opaque && self.cause.is_empty());
        !is_answered || self.status >= 500 || self.grpc_status.is_some_and(|it| GRPC_FAILURES.contains(&it))
    }

    /// Whether the callee was reached for certain: an answer that the proxy did not make itself.
    pub fn has_arrived(&self) -> bool {
        self.cause.is_empty() && self.status != 0
    }

    /// Envoy's short name for the cause; `-` without one.
    pub fn flags(&self) -> &'static str {
        let kind = Kind::ALL.into_iter().find(|kind| kind.cause() == self.cause);
        kind.map(|kind| kind.answer().flag.0).filter(|flag| !flag.is_empty()).unwrap_or("-")
    }

    #[inline]
    fn is_like(&self, other: &Outcome) -> bool {
        self.status == other.status && self.grpc_status == other.grpc_status && self.cause == other.cause
    }

    fn order(&self) -> (u16, Option<u8>, &str) {
        (self.status, self.grpc_status, &self.cause)
    }
}

/// All that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Calls that ended.
    pub calls: u64,
    /// Those that were answered with a 5xx or a failure of gRPC, or not at all.
    pub failures: u64,
    /// How often an endpoint was tried.
    pub attempts: u64,
    /// Attempts beyond the first that were no hedges.
    pub retries: u64,
    /// Content bytes of requests.
    pub request_bytes: u64,
    /// Content bytes of answers.
    pub response_bytes: u64,
    /// How long they took, to the last byte of the answer.
    pub latency_ms: Histogram,
    /// How they ended, in the order of status, gRPC status and cause.
    pub outcomes: Vec<Outcome>,
    /// When the first one ended.
    pub first_seen: Moment,
    /// When the last one ended.
    pub last_seen: Moment,
}

impl Stats {
    /// Adds calls that ended in one way. `room`: how many ways there may be; what is beyond is one of `status` 0 and
    /// cause `_other`.
    #[inline]
    pub fn ended(&mut self, outcome: &Outcome, room: usize) {
        // Most edges know one way, and texts are the last to be compared.
        if let Some(have) = self.outcomes.first_mut().filter(|have| have.is_like(outcome)) {
            have.calls = have.calls.saturating_add(outcome.calls);
            return;
        }
        self.ended_otherwise(outcome, room);
    }

    fn ended_otherwise(&mut self, outcome: &Outcome, room: usize) {
        match self.outcomes.binary_search_by(|have| have.order().cmp(&outcome.order())) {
            Ok(at) => {
                if let Some(have) = self.outcomes.get_mut(at) {
                    have.calls = have.calls.saturating_add(outcome.calls);
                }
            }
            Err(at) if self.outcomes.len() < room => self.outcomes.insert(at, outcome.clone()),
            Err(_) => {
                let other = Outcome { cause: "_other".into(), calls: outcome.calls, ..Outcome::default() };
                self.ended(&other, usize::MAX);
            }
        }
    }

    /// Notes a call that ended then.
    #[inline]
    pub fn seen(&mut self, at: Moment) {
        if self.first_seen == Moment::default() || at < self.first_seen {
            self.first_seen = at;
        }
        self.last_seen = self.last_seen.max(at);
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Stats) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.calls, other.calls);
        add(&mut self.failures, other.failures);
        add(&mut self.attempts, other.attempts);
        add(&mut self.retries, other.retries);
        add(&mut self.request_bytes, other.request_bytes);
        add(&mut self.response_bytes, other.response_bytes);
        self.latency_ms.merge(&other.latency_ms);
        for outcome in &other.outcomes {
            self.ended(outcome, usize::MAX);
        }
        for at in [other.first_seen, other.last_seen] {
            if at != Moment::default() {
                self.seen(at);
            }
        }
    }

    /// Calls whose last attempt found nobody.
    pub fn unreached(&self) -> u64 {
        let unreached = self.outcomes.iter().filter(|outcome| UNREACHED.contains(&&*outcome.cause));
        unreached.fold(0, |sum, outcome| sum.saturating_add(outcome.calls))
    }

    /// Calls that the callee has answered for certain.
    pub fn arrived(&self) -> u64 {
        let arrived = self.outcomes.iter().filter(|outcome| outcome.has_arrived());
        arrived.fold(0, |sum, outcome| sum.saturating_add(outcome.calls))
    }
}
