//! The terms of a route, for people: times, retries, hedge, mirror, limits.

use crate::cluster::{BreakerReport, Breakers, clock_ns, config};
use crate::exchange::{Policy, RetryPolicy};
use crate::quota::{Caller, Part, RateLimit};
use crate::route::RequestView;
use crate::units::duration_text;
use serde::Serialize;
use std::fmt;
use tokio::time::Instant;

/// Under which terms a request is carried. What is `None` or empty is not set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Terms {
    /// How long the whole exchange may take, to the head of the answer; `None` for ever.
    pub timeout: Option<String>,
    /// How long one try may take; `None` as long as the whole.
    pub per_try_timeout: Option<String>,
    /// How long a body or stream may move no byte, where the route says it; `none` for ever.
    pub idle_timeout: Option<String>,
    /// How long the whole exchange may take, to the last byte.
    pub stream_timeout: Option<String>,
    /// How many retries there may be.
    pub retries_max: u32,
    /// On what is retried: conditions and statuses, as in the configuration.
    pub retry_on: Vec<String>,
    /// Whether requests are repeated whatever their method is.
    pub retry_any_method: bool,
    /// The wait before a retry: its unit, and the longest.
    pub backoff: Option<String>,
    /// When a second request is sent.
    pub hedge: Option<String>,
    /// How many copies go where.
    pub mirror: Option<String>,
    /// The rate limits, in the order in which they are asked.
    pub rate_limits: Vec<RateLimitView>,
    /// The caps and the breaker of the route.
    pub route_caps: Vec<CapView>,
}

/// A rate limit, for the request that is asked about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateLimitView {
    /// Its name.
    pub name: String,
    /// What its buckets are for.
    pub key: Vec<String>,
    /// What the request's bucket allows: `100 in 1s, 100 at once`.
    pub allows: String,
    /// How many more it would allow now; `None` if the bucket is that of an address, which is not known here.
    pub left: Option<u32>,
}

/// A cap on what is under way at once, or the breaker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CapView {
    /// What is counted, as in the configuration.
    pub what: &'static str,
    /// How many there may be; of the `breaker`, how many failures in a row.
    pub limit: u64,
    /// How many there are now.
    pub active: u64,
    /// `closed`, or `open` when there is no room; of the `breaker` also `half_open`.
    pub state: &'static str,
}

impl Terms {
    pub(super) fn of(policy: &Policy, request: &RequestView<'_>) -> Terms {
        let retry = &policy.retry;
        let waits =
            || format!("{}, at most {}", duration_text(retry.backoff_base), duration_text(retry.backoff_max));
        Terms {
            timeout: policy.timeout.map(duration_text),
            per_try_timeout: policy.per_try_timeout.map(duration_text),
            idle_timeout: policy.idle_timeout.map(|time| time.map_or_else(|| "none".into(), duration_text)),
            stream_timeout: policy.stream_timeout.map(duration_text),
            retries_max: retry.retries_max,
            retry_on: conditions(retry),
            retry_any_method: retry.is_idempotent,
            backoff: (retry.retries_max > 0).then(waits),
            hedge: policy.hedge.map(|hedge| match hedge.quantile {
                Some(thousandths) => format!(
                    "after {} of the cluster's latency, at least {}",
                    crate::route::config::HedgeAfter::Quantile(thousandths),
                    duration_text(hedge.time)
                ),
                None => format!("after {}", duration_text(hedge.time)),
            }),
            mirror: policy.mirror.as_ref().map(|mirror| {
                let percent = f64::from(mirror.millionths) / 10_000.0;
                format!("{percent} % to {}, {} at once", mirror.cluster.name, mirror.requests_max)
            }),
            rate_limits: policy.rate_limits.iter().map(|limit| rate_limit(limit, request)).collect(),
            route_caps: policy.breakers.as_ref().map_or_else(Vec::new, |breakers| caps(breakers)),
        }
    }

    /// What holds also for answers that the route gives itself.
    pub(super) fn fmt_limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for RateLimitView { name, allows, left, .. } in &self.rate_limits {
            write!(f, "rate limit {name}: {allows}")?;
            match left {
                Some(left) => writeln!(f, "; {left} left")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "timeout    {}", self.timeout.as_deref().unwrap_or("none"))?;
        for (name, time) in [
            ("per try    ", &self.per_try_timeout),
            ("idle       ", &self.idle_timeout),
            ("stream     ", &self.stream_timeout),
        ] {
            if let Some(time) = time {
                writeln!(f, "{name}{time}")?;
            }
        }
        if self.retries_max == 0 || self.retry_on.is_empty() {
            writeln!(f, "retries    none")?;
        } else {
            let any = if self.retry_any_method { ", whatever the method is" } else { "" };
            writeln!(f, "retries    {} on {}{any}", self.retries_max, self.retry_on.join(", "))?;
            if let Some(backoff) = &self.backoff {
                writeln!(f, "backoff    {backoff}")?;
            }
        }
        for (name, what) in [("hedge      ", &self.hedge), ("mirror     ", &self.mirror)] {
            if let Some(what) = what {
                writeln!(f, "{name}{what}")?;
            }
        }
        self.fmt_limits(f)?;
        if !self.route_caps.is_empty() {
            writeln!(f, "route caps {}", listed(&self.route_caps))?;
        }
        Ok(())
    }
}

impl fmt::Display for CapView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            "breaker" => write!(f, "breaker {}", self.state),
            what => write!(f, "{what} {} of {}", self.active, self.limit),
        }
    }
}

/// `requests 3 of 1024, pending 0 of 1024`.
pub(super) fn listed(caps: &[CapView]) -> String {
    caps.iter().map(CapView::to_string).collect::<Vec<_>>().join(", ")
}

/// Those that have a bound.
pub(super) fn caps(breakers: &Breakers) -> Vec<CapView> {
    let reports = breakers.report(clock_ns(Instant::now())).into_iter();
    let bounded = reports.filter_map(|report| {
        let BreakerReport { breaker: what, current: active, state, .. } = report;
        Some(CapView { what, limit: report.limit?, active, state })
    });
    bounded.collect()
}

/// The name that the configuration has for it.
pub(super) fn balance(policy: config::Policy) -> &'static str {
    match policy {
        config::Policy::PeakEwma => "peak_ewma",
        config::Policy::LeastRequest => "least_request",
        config::Policy::RoundRobin => "round_robin",
        config::Policy::Random => "random",
        config::Policy::RingHash => "ring_hash",
        config::Policy::Maglev => "maglev",
    }
}

fn conditions(retry: &RetryPolicy) -> Vec<String> {
    let on = retry.on;
    let names = [
        (on.connect_failure, "connect_failure"),
        (on.refused_stream, "refused_stream"),
        (on.reset, "reset"),
        (on.gateway_error, "gateway_error"),
        (on.server_error, "5xx"),
        (on.retriable_4xx, "retriable_4xx"),
        (on.rate_limited, "rate_limited"),
        (on.grpc_cancelled, "cancelled"),
        (on.grpc_deadline_exceeded, "deadline_exceeded"),
        (on.grpc_internal, "internal"),
        (on.grpc_resource_exhausted, "resource_exhausted"),
        (on.grpc_unavailable, "unavailable"),
    ];
    let names = names.into_iter().filter(|(is_on, _)| *is_on).map(|(_, name)| name.to_owned());
    names.chain(retry.statuses.iter().map(u16::to_string)).collect()
}

fn rate_limit(limit: &RateLimit, request: &RequestView<'_>) -> RateLimitView {
    let context = &request.context;
    let key = limit.key(&Caller {
        head: request.head,
        account_id: context.account_id,
        user_id: context.user_id,
        license: context.license,
        request_type: context.request_type,
        address: b"",
    });
    let parts = &limit.settings().key;
    let rate = limit.rate(key);
    RateLimitView {
        name: limit.name.to_string(),
        key: parts.iter().map(Part::to_string).collect(),
        allows: format!("{} in {}, {} at once", rate.requests, duration_text(rate.per), rate.burst),
        left: (!parts.contains(&Part::SourceAddress)).then(|| limit.look(key, Instant::now()).remaining),
    }
}
