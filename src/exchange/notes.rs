//! What layers note only now and then: the rare part of a record, so that the usual record stays small.

use super::{Resend, Text};
use crate::error::Refusal;
use std::sync::Arc;
use std::time::Duration;

/// See the module. A field that is `None`, empty or zero was not noted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// The limit that refused the request, or the last attempt.
    pub refusal: Option<Refusal>,
    /// Why each retry was made: causes and statuses, comma-separated.
    pub retry_reasons: String,
    /// Why a failure that the route would retry was not: `limit`, `budget`, `cap`, `not_idempotent`, `trace`, `deadline`,
    /// `retry_after`, `body`.
    pub retry_denied: Option<&'static str>,
    /// All waits before retries together.
    pub backoff: Duration,
    /// Hedges that were sent.
    pub hedges: u32,
    /// Whether the answer is that of a hedge.
    pub is_hedge_answer: bool,
    /// Whether the endpoint was picked among all, because too few are healthy.
    pub is_panic: bool,
    /// The priority of the endpoint, above 0.
    pub priority: u32,
    /// Whether the endpoint is in the zone of this service, where that is known and matters.
    pub is_local_zone: Option<bool>,
    /// Whether a hash was wanted and the request had nothing to hash.
    pub is_hash_missing: bool,
    /// Whether the wanted subset has no endpoint, and another was used.
    pub is_subset_fallback: bool,
    /// Where the deadline of the exchange came from, if it is not the route's.
    pub deadline_source: Option<DeadlineSource>,
    /// How much of the deadline was left when the request came.
    pub deadline: Option<Duration>,
    /// The rate limit that was looked at last, and what is left of it.
    pub rate_limit: Option<(Arc<str>, u32)>,
    /// How long the request waited for its turn.
    pub admission_wait: Option<Duration>,
    /// What became of the copy.
    pub mirror: Option<MirrorNote>,
    /// How long the attempt waited for a connection because all were in use.
    pub pool_wait: Option<Duration>,
    /// Spans that this one has to do with, trace and span of each: the inbound exchanges that an outbound one may serve,
    /// or the trace that was left at the edge.
    pub links: Vec<([u8; 16], [u8; 8])>,
    /// What became of the context's signature.
    pub signature: Option<SignatureNote>,
    /// Retries and hedges, as spans of their own.
    pub resends: Vec<Resend>,
    /// Further fields: the name and the value of each.
    pub extra: Vec<(Arc<str>, Text)>,
}

/// What became of the signature of the context that a request brought, and of the one that it is sent on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignatureNote {
    /// `valid`, `in_flight` (the fields are those of the inbound exchange that it serves), or why it is not believed;
    /// `None`: it brought none and needed none.
    pub found: Option<&'static str>,
    /// Who signed, of a valid one: key and issuer.
    pub by: Option<(Box<str>, Box<str>)>,
    /// Whether a signature of our own goes on.
    pub is_signed: bool,
}

/// Where a deadline came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineSource {
    /// `grpc-timeout`.
    GrpcTimeout,
    /// `x-envoy-expected-rq-timeout-ms`.
    Header,
    /// The inbound request that this outbound one serves.
    Inbound,
}

impl DeadlineSource {
    /// Its name in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            DeadlineSource::GrpcTimeout => "grpc-timeout",
            DeadlineSource::Header => "x-envoy-expected-rq-timeout-ms",
            DeadlineSource::Inbound => "inbound",
        }
    }
}

/// What became of the copy of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorNote {
    /// It was sent.
    Sent,
    /// There were too many copies under way.
    TooMany,
    /// The content was too long, or not complete when the answer came.
    Body,
}

impl MirrorNote {
    /// Its name in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            MirrorNote::Sent => "sent",
            MirrorNote::TooMany => "too_many",
            MirrorNote::Body => "body",
        }
    }
}
