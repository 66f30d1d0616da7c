//! Which answers and failures a route wants to be met by another try.
//!
//! Names and meaning are Envoy's (`retry_on`, `retry_grpc_on`). Two things differ on purpose: what had no answer is
//! covered by `gateway_error` and `5xx` as there, but never repeated where that could do something twice; and a gRPC
//! condition also covers our own failures that a gRPC caller would be told as that status, and answers of proxies on the
//! way that say 429, 502, 503 or 504 without a gRPC status, which stand for UNAVAILABLE (gRPC's HTTP mapping).
//!
//! What the proxy refuses itself is not tried again, whatever the route says: no endpoint, none that is healthy, an open
//! breaker, a cap that is reached. Another try would meet the same, and add to it. The one exception is a bound of a
//! single endpoint, which another endpoint may not have reached: it counts as a connection that could not be made.

use crate::error::{Error, Kind, Replay};
use crate::exchange::{RetryOn, RetryPolicy};
use std::fmt;

const CANCELLED: u8 = 1;
const DEADLINE_EXCEEDED: u8 = 4;
const RESOURCE_EXHAUSTED: u8 = 8;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;

/// Why something is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There was no answer.
    Cause(Kind),
    /// The answer's status.
    Status(u16),
    /// The gRPC status of the answer.
    Grpc(u8),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Cause(kind) => f.write_str(kind.cause()),
            Reason::Status(status) => write!(f, "{status}"),
            Reason::Grpc(status) => write!(f, "grpc-{status}"),
        }
    }
}

/// Whether an answer is to be met by another try. `grpc` is the gRPC status, where it is known.
pub fn of_answer(status: u16, grpc: Option<u8>, is_grpc: bool, retry: &RetryPolicy) -> Option<Reason> {
    let on = &retry.on;
    if let Some(grpc) = grpc.filter(|_| is_grpc) {
        return has_grpc(on, grpc).then_some(Reason::Grpc(grpc));
    }
    let is_wanted = match status {
        502..=504 => on.gateway_error || on.server_error,
        500.. => on.server_error,
        409 => on.retriable_4xx,
        429 => on.rate_limited,
        _ => false,
    };
    let stands_for_unavailable = is_grpc && matches!(status, 429 | 502..=504);
    (is_wanted || retry.statuses.contains(&status) || (stands_for_unavailable && on.grpc_unavailable))
        .then_some(Reason::Status(status))
}

/// Whether a failure is to be met by another try.
pub fn of_error(error: &Error, is_grpc: bool, retry: &RetryPolicy) -> Option<Reason> {
    let on = &retry.on;
    let kind = error.kind();
    let any_answer_missing = on.gateway_error || on.server_error;
    let is_wanted = match kind {
        Kind::ConnectFailed | Kind::ConnectTimeout | Kind::TlsFailed | Kind::TlsCertificate => {
            on.connect_failure || any_answer_missing
        }
        Kind::Overflow if error.refusal().is_none_or(|refusal| refusal.scope == "endpoint") => {
            on.connect_failure
        }
        Kind::UpstreamRefused => on.refused_stream || any_answer_missing,
        Kind::UpstreamClosed if error.replay() == Replay::Safe => {
            on.refused_stream || on.connect_failure || on.reset || any_answer_missing
        }
        // An answer that broke off comes here only where nothing of it was passed on.
        Kind::UpstreamClosed | Kind::UpstreamReset | Kind::UpstreamProtocol | Kind::ResponseIncomplete => {
            on.reset || any_answer_missing
        }
        Kind::PerTryTimeout => any_answer_missing,
        _ => return None,
    };
    let is_grpc_wanted = is_grpc && kind != Kind::Overflow && has_grpc(on, kind.answer().grpc);
    (is_wanted || is_grpc_wanted).then_some(Reason::Cause(kind))
}

fn has_grpc(on: &RetryOn, status: u8) -> bool {
    match status {
        CANCELLED => on.grpc_cancelled,
        DEADLINE_EXCEEDED => on.grpc_deadline_exceeded,
        RESOURCE_EXHAUSTED => on.grpc_resource_exhausted,
        INTERNAL => on.grpc_internal,
        UNAVAILABLE => on.grpc_unavailable,
        _ => false,
    }
}

/// Whether an answer is one that a caller can use, as far as a proxy can tell: of two attempts at once, it ends the wait
/// for the other.
pub fn is_usable(status: u16, grpc: Option<u8>) -> bool {
    let is_grpc_failure =
        matches!(grpc, Some(CANCELLED | DEADLINE_EXCEEDED | RESOURCE_EXHAUSTED | INTERNAL | UNAVAILABLE));
    status < 500 && status != 429 && !is_grpc_failure
}

/// Whether the conditions need more than what whoever fails gives back: a copy of the head from before the try.
pub fn needs_copy(retry: &RetryPolicy) -> bool {
    let own = RetryOn {
        connect_failure: retry.on.connect_failure,
        refused_stream: retry.on.refused_stream,
        ..RetryOn::default()
    };
    retry.retries_max > 0 && (retry.on != own || !retry.statuses.is_empty())
}
