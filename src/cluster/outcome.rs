//! What an attempt taught us of its endpoint: the one place where balancing, outlier detection and breakers learn.
//!
//! A failure costs its endpoint at least [`PENALTY`] in the average that balancing looks at, or what the endpoint itself
//! asks for (`Retry-After`, `grpc-retry-pushback-ms`), so that one that fails fast does not attract traffic. Source:
//! linkerd2-proxy's load biaser (429, 503, 5xx and RESOURCE_EXHAUSTED; 5 s; at most 300 s).

use super::{Cluster, Endpoint};
use crate::error::Kind;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What a failed attempt counts at least.
pub const PENALTY: Duration = Duration::from_secs(5);
/// What an endpoint can ask for at most.
pub const PENALTY_MAX: Duration = Duration::from_secs(300);

/// gRPC's RESOURCE_EXHAUSTED.
const RESOURCE_EXHAUSTED: u8 = 8;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered.
    Answered {
        /// The status.
        status: u16,
        /// The status of a gRPC call.
        grpc: Option<u8>,
        /// When the endpoint wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It did not answer, for this reason.
    Failed(Kind),
    /// Nobody waited any longer; the endpoint may be slow, or not.
    Abandoned,
}

/// What an outcome says of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Success,
    /// It fails. A gateway failure is one of 502, 503, 504, gRPC's UNAVAILABLE, or no answer at all.
    Failure {
        /// Whether it is a gateway failure.
        is_gateway: bool,
    },
    /// Nothing.
    Unknown,
}

impl Outcome {
    /// What it says of the endpoint. gRPC statuses count as Envoy and linkerd count them, but for PERMISSION_DENIED, which
    /// is the caller's fault.
    pub fn verdict(self) -> Verdict {
        match self {
            Outcome::Answered { grpc: Some(status), .. } if status != 0 => match status {
                14 | 4 => Verdict::Failure { is_gateway: true }, // UNAVAILABLE, DEADLINE_EXCEEDED
                13 | 15 => Verdict::Failure { is_gateway: false }, // INTERNAL, DATA_LOSS
                _ => Verdict::Success,
            },
            Outcome::Answered { status: 502..=504, .. } => Verdict::Failure { is_gateway: true },
            Outcome::Answered { status: 500.., .. } => Verdict::Failure { is_gateway: false },
            Outcome::Answered { .. } => Verdict::Success,
            Outcome::Failed(kind) => match kind {
                Kind::ConnectFailed
                | Kind::ConnectTimeout
                | Kind::TlsFailed
                | Kind::TlsCertificate
                | Kind::LoopDetected
                | Kind::UpstreamClosed
                | Kind::UpstreamReset
                | Kind::UpstreamRefused
                | Kind::UpstreamProtocol
                | Kind::ResponseHeadTooLarge
                | Kind::ResponseIncomplete
                | Kind::ResponseBodyTimeout
                | Kind::UpgradeFailed
                | Kind::RequestTimeout
                | Kind::PerTryTimeout => Verdict::Failure { is_gateway: true },
                // What the caller did, its own deadline, and what we refused say nothing about the endpoint.
                _ => Verdict::Unknown,
            },
            Outcome::Abandoned => Verdict::Unknown,
        }
    }

    /// Whether the endpoint turned the request away because there were too many: 429, or gRPC's RESOURCE_EXHAUSTED.
    pub fn is_throttled(self) -> bool {
        matches!(
            self,
            Outcome::Answered { status: 429, .. } | Outcome::Answered { grpc: Some(RESOURCE_EXHAUSTED), .. }
        )
    }

    /// When the endpoint wants to be asked again, at most [`PENALTY_MAX`]; zero if it did not say.
    pub fn asked(self) -> Duration {
        match self {
            Outcome::Answered { retry_after, .. } => retry_after.unwrap_or_default().min(PENALTY_MAX),
            _ => Duration::ZERO,
        }
    }

    /// The least that the attempt counts in the endpoint's average.
    fn penalty(self) -> Duration {
        if self.is_throttled() || matches!(self.verdict(), Verdict::Failure { .. }) {
            PENALTY.max(self.asked())
        } else {
            Duration::ZERO
        }
    }
}

/// As it is told in events: `503`, `200, grpc-status 14`, `connect_failed`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Answered { status, grpc: Some(grpc), .. } => write!(f, "{status}, grpc-status {grpc}"),
            Outcome::Answered { status, grpc: None, .. } => write!(f, "{status}"),
            Outcome::Failed(kind) => f.write_str(kind.cause()),
            Outcome::Abandoned => f.write_str("abandoned"),
        }
    }
}

impl Cluster {
    /// Learns from an attempt on `endpoint` that ended after `time`. Called once for each attempt.
    pub fn learn(&self, endpoint: &Arc<Endpoint>, outcome: Outcome, time: Duration, now_ns: u64) {
        let verdict = outcome.verdict();
        match outcome {
            // It lasted at least so long: only a longer time than the average says something.
            Outcome::Abandoned | Outcome::Failed(_) if verdict == Verdict::Unknown => {
                if endpoint.load.average(now_ns).is_some_and(|average| time > average) {
                    endpoint.load.observe(time, now_ns);
                }
            }
            _ => endpoint.load.observe(time.max(outcome.penalty()), now_ns),
        }
        match verdict {
            Verdict::Success => self.note_success(endpoint),
            Verdict::Failure { is_gateway } => {
                endpoint.stats.failures.fetch_add(1, Relaxed);
                self.note_failure(endpoint, outcome, is_gateway, now_ns);
            }
            Verdict::Unknown => {
                endpoint.stats.undecided.fetch_add(1, Relaxed);
            }
        }
    }
}
