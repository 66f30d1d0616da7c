//! `/breakers`: every limit that can refuse a request, with its value now.

use super::Snapshot;
use crate::cluster::{BreakerReport, Cluster, clock_ns};
use crate::quota::{Placed, RateLimit};
use crate::resilience::overload::Overload;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

/// All of them.
pub(super) fn document(snapshot: &Snapshot) -> Value {
    let now_ns = clock_ns(Instant::now());
    let clusters = snapshot.clusters.iter().map(|cluster| of_cluster(cluster, now_ns));
    let routes = snapshot.limits.breakers();
    let routes = routes.iter().map(|placed| {
        json!({
            "listener": placed.listener,
            "route": &*placed.route,
            "breakers": placed.limit.report(now_ns).iter().map(row).collect::<Vec<_>>(),
        })
    });
    json!({
        "clusters": clusters.collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "listeners": snapshot.admissions.iter().map(|admission| admission.snapshot()).collect::<Vec<_>>(),
        "memory": memory(&snapshot.overload),
        "rate_limits": snapshot.limits.rate_limits().iter().map(rate_limit).collect::<Vec<_>>(),
    })
}

fn memory(overload: &Overload) -> Value {
    let (used_bytes, limit_bytes) = overload.bytes();
    json!({
        "step": overload.step(),
        "used_bytes": used_bytes,
        "limit_bytes": (limit_bytes > 0).then_some(limit_bytes),
    })
}

fn of_cluster(cluster: &Cluster, now_ns: u64) -> Value {
    json!({
        "cluster": &*cluster.name,
        "breakers": cluster.breakers.report(now_ns).iter().map(row).collect::<Vec<_>>(),
        "retry_budget": {
            "left": cluster.budget.balance(now_ns),
            "retries": cluster.stats.retries.get(),
            "exhausted": cluster.stats.budget_exhausted.get(),
        },
    })
}

fn row(report: &BreakerReport) -> Value {
    let mut row = Map::new();
    row.insert("breaker".into(), report.breaker.into());
    row.insert("state".into(), report.state.into());
    row.insert("limit".into(), report.limit.into());
    row.insert("current".into(), report.current.into());
    row.insert("refused".into(), report.refused.into());
    let rest = [
        ("opened", report.opened),
        ("retry_after_ms", report.retry_after.map(|time| time.as_millis() as u64)),
        ("success_percent", report.success_percent),
        ("accounts", report.accounts),
    ];
    for (name, value) in rest {
        if let Some(value) = value {
            row.insert(name.into(), value.into());
        }
    }
    Value::Object(row)
}

fn rate_limit(placed: &Placed<RateLimit>) -> Value {
    let Placed { listener, route, limit } = placed;
    let settings = limit.settings();
    json!({
        "listener": listener,
        "route": &**route,
        "limit": &*settings.name,
        "allowed": limit.allowed(),
        "refused": limit.refused(),
        "buckets": limit.buckets(),
        "crowded": limit.crowded(),
    })
}
