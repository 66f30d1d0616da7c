//! What the admin API shows, as JSON.

use super::answer::PATHS;
use super::{Snapshot, State};
use crate::cluster::{Cluster, Endpoint, Policy, clock_ns};
use crate::health;
use crate::pipeline::encode::rfc3339;
use serde_json::{Map, Value, json};
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

/// Everything at a glance.
pub(super) fn overview(state: &State) -> Value {
    let snapshot = state.control.snapshot();
    let pending = state.readiness.pending();
    let causes: Vec<Value> = state
        .metrics
        .causes()
        .iter()
        .map(|row| {
            json!({
                "direction": row.direction.as_str(),
                "cause": row.cause.cause(),
                "count": row.count,
                "last": rfc3339(row.last),
            })
        })
        .collect();
    let paths: Map<String, Value> = PATHS
        .iter()
        .map(|(path, method, _, what)| ((*path).to_owned(), json!({ "method": method, "what": what })))
        .collect();
    json!({
        "service": state.service.name,
        "version": env!("CARGO_PKG_VERSION"),
        "revision": &*snapshot.revision,
        "loaded_at": rfc3339(snapshot.loaded_at),
        "last_reload_refused": refused(&snapshot),
        "ready": pending.is_empty(),
        "pending": pending,
        "exchanges": { "active": state.metrics.active(), "ended": state.metrics.ended() },
        "causes": causes,
        "events": state.metrics.accounts().read().iter().map(|account| json!({
            "sink": account.sink,
            "produced": account.produced,
            "delivered": account.delivered,
            "dropped": account.dropped_all(),
            "queued": account.queued,
            "up": account.is_up,
            "last_error": account.last_error.as_ref().map(|(at, reason)| json!({ "at": rfc3339(*at), "reason": reason })),
        })).collect::<Vec<_>>(),
        "paths": paths,
    })
}

/// The configuration in force.
pub(super) fn config(snapshot: &Snapshot) -> Value {
    json!({
        "revision": &*snapshot.revision,
        "loaded_at": rfc3339(snapshot.loaded_at),
        "last_reload_refused": refused(snapshot),
        "config": &*snapshot.json,
    })
}

fn refused(snapshot: &Snapshot) -> Value {
    match &snapshot.refused {
        Some(refused) => json!({ "at": rfc3339(refused.at), "reason": &*refused.reason }),
        None => Value::Null,
    }
}

/// The clusters.
pub(super) fn clusters(snapshot: &Snapshot) -> Value {
    let checks = |name: &str| {
        let running = snapshot.checks.get(name);
        running.map(|running| running.report()).unwrap_or_default()
    };
    Value::Array(snapshot.clusters.iter().map(|each| cluster(each, &checks(&each.name))).collect())
}

fn cluster(cluster: &Cluster, checks: &[health::Report]) -> Value {
    let set = cluster.endpoints();
    json!({
        "name": &*cluster.name,
        "protocol": cluster.settings.protocol,
        "policy": cluster.settings.balance.policy,
        "stale": set.stale.as_deref(),
        "endpoints": set.endpoints.iter().map(|each| {
            let check = checks.binary_search_by_key(&each.address, |report| report.address);
            let check = check.ok().and_then(|at| checks.get(at));
            endpoint(each, cluster.settings.balance.policy, check)
        }).collect::<Vec<_>>(),
    })
}

fn endpoint(endpoint: &Endpoint, policy: Policy, check: Option<&health::Report>) -> Value {
    let stats = &endpoint.stats;
    let last_success = stats.last_success.load(Ordering::Relaxed);
    json!({
        "address": endpoint.address.to_string(),
        "name": &*endpoint.name,
        "weight": endpoint.weight,
        "zone": endpoint.zone.as_deref(),
        "priority": endpoint.priority,
        "labels": &endpoint.labels,
        "health": state(endpoint),
        "ejections": endpoint.health.ejections.load(Ordering::Relaxed),
        "last_check": check.map(last_check),
        "in_flight": endpoint.load.in_flight.load(Ordering::Relaxed),
        "latency_ms": latency(endpoint, policy).map(|latency| latency.as_secs_f64() * 1000.0),
        "requests": stats.requests.load(Ordering::Relaxed),
        "failures": stats.failures.load(Ordering::Relaxed),
        "connections": stats.connections.load(Ordering::Relaxed),
        "connects": stats.connects.load(Ordering::Relaxed),
        "connect_failures": stats.connect_failures.load(Ordering::Relaxed),
        "last_success": (last_success > 0).then(|| rfc3339(UNIX_EPOCH + Duration::from_secs(last_success))),
    })
}

fn last_check(report: &health::Report) -> Value {
    let last = report.last.as_ref();
    json!({
        "state": report.state.as_str(),
        "since": rfc3339(report.since),
        "at": last.map(|last| rfc3339(last.at)),
        "took_ms": last.map(|last| last.took.as_secs_f64() * 1000.0),
        "failure": last.and_then(|last| last.failure.as_deref()),
        "against": report.against,
        "passed": report.passed,
        "failed": report.failed,
    })
}

/// `healthy`, or what speaks against it.
pub(super) fn state(endpoint: &Endpoint) -> String {
    let reasons: Vec<&str> = endpoint.health.reasons().map(|reason| reason.as_str()).collect();
    if reasons.is_empty() { "healthy".into() } else { reasons.join(", ") }
}

/// The balancer's average, if it keeps one.
pub(super) fn latency(endpoint: &Endpoint, policy: Policy) -> Option<Duration> {
    if policy != Policy::PeakEwma {
        return None;
    }
    endpoint.load.average(clock_ns(tokio::time::Instant::now()))
}
