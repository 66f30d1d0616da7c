//! Changes of clusters, as events and log lines.
//!
//! What happens to an endpoint or a breaker is noted where it happens (a worker, a health check, discovery) and read
//! here. One schema for each subject: `sidelight/health/1` for endpoints, `sidelight/breaker/1` for circuit breakers,
//! `sidelight/cluster/1` for sets of endpoints.

use crate::cluster::{Change, What};
use crate::pipeline::Emitter;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// Of endpoints: checks and ejections.
const HEALTH: &str = "sidelight/health/1";
/// Of circuit breakers.
const BREAKER: &str = "sidelight/breaker/1";
/// Of sets of endpoints.
const CLUSTER: &str = "sidelight/cluster/1";

/// Reads changes for as long as there are clusters.
pub async fn read(mut changes: Receiver<Change>, events: Emitter) {
    while let Some(change) = changes.recv().await {
        let entry = Entry::of(&change);
        entry.log(&change);
        events.emit(entry.schema, entry.attributes(&change));
    }
}

/// What is said of a change.
struct Entry {
    schema: &'static str,
    /// Whether somebody may have to do something.
    is_bad: bool,
    /// One sentence.
    message: &'static str,
    attributes: Value,
}

fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

impl Entry {
    fn of(change: &Change) -> Entry {
        let (schema, is_bad, message, attributes) = match &change.what {
            What::Ejected { detector, time, times, why } => (
                HEALTH,
                true,
                "an endpoint is ejected",
                json!({
                    "sidelight.health.state": "ejected",
                    "sidelight.health.detector": detector,
                    "sidelight.health.ejection_ms": ms(*time),
                    "sidelight.health.ejections": times,
                    "sidelight.cause": why,
                }),
            ),
            What::EjectionPrevented { detector, why } => (
                HEALTH,
                true,
                "an endpoint fails and is not ejected",
                json!({
                    "sidelight.health.state": "ejection_prevented",
                    "sidelight.health.detector": detector,
                    "sidelight.cause": why,
                }),
            ),
            What::Unejected { by } => (
                HEALTH,
                false,
                "an endpoint is used again after an ejection",
                json!({ "sidelight.health.state": "unejected", "sidelight.cause": by }),
            ),
            What::Healthy { is_first } => (
                HEALTH,
                false,
                "health checks of an endpoint succeed",
                json!({ "sidelight.health.state": "healthy", "sidelight.health.first": is_first }),
            ),
            What::Unhealthy { is_first, why } => (
                HEALTH,
                true,
                "health checks of an endpoint fail",
                json!({
                    "sidelight.health.state": "unhealthy",
                    "sidelight.health.first": is_first,
                    "sidelight.cause": why,
                }),
            ),
            What::BreakerOpened { scope, name, reason, time, why } => (
                BREAKER,
                true,
                "a circuit breaker opened",
                json!({
                    "sidelight.breaker.state": "open",
                    "sidelight.breaker.scope": scope,
                    "sidelight.breaker.name": &**name,
                    "sidelight.breaker.reason": reason,
                    "sidelight.breaker.open_ms": ms(*time),
                    "sidelight.cause": why,
                }),
            ),
            What::BreakerHalfOpen { scope, name } => (
                BREAKER,
                false,
                "a circuit breaker lets a probe through",
                json!({
                    "sidelight.breaker.state": "half_open",
                    "sidelight.breaker.scope": scope,
                    "sidelight.breaker.name": &**name,
                }),
            ),
            What::BreakerClosed { scope, name } => (
                BREAKER,
                false,
                "a circuit breaker closed",
                json!({
                    "sidelight.breaker.state": "closed",
                    "sidelight.breaker.scope": scope,
                    "sidelight.breaker.name": &**name,
                }),
            ),
            What::PanicEntered { priority, healthy, total } => (
                CLUSTER,
                true,
                "too few endpoints are healthy: all are used",
                json!({
                    "sidelight.cluster.state": "panic",
                    "sidelight.cluster.priority": priority,
                    "sidelight.cluster.healthy": healthy,
                    "sidelight.cluster.endpoints": total,
                }),
            ),
            What::PanicLeft { priority } => (
                CLUSTER,
                false,
                "enough endpoints are healthy again",
                json!({ "sidelight.cluster.state": "normal", "sidelight.cluster.priority": priority }),
            ),
            What::EndpointsChanged { added, removed, total } => (
                CLUSTER,
                false,
                "endpoints changed",
                json!({
                    "sidelight.cluster.state": "endpoints_changed",
                    "sidelight.cluster.added": added,
                    "sidelight.cluster.removed": removed,
                    "sidelight.cluster.endpoints": total,
                }),
            ),
            What::Stale { why } => (
                CLUSTER,
                true,
                "discovery fails, endpoints are kept",
                json!({ "sidelight.cluster.state": "stale", "sidelight.cause": why }),
            ),
            What::Fresh => {
                (CLUSTER, false, "discovery works again", json!({ "sidelight.cluster.state": "fresh" }))
            }
        };
        Entry { schema, is_bad, message, attributes }
    }

    fn attributes(&self, change: &Change) -> Value {
        let mut all = Map::new();
        all.insert("sidelight.cluster".into(), Value::from(&*change.cluster));
        if let Some((name, address)) = &change.endpoint {
            all.insert("sidelight.endpoint".into(), Value::from(&**name));
            all.insert("sidelight.endpoint.address".into(), Value::from(address.to_string()));
        }
        if let Value::Object(members) = &self.attributes {
            all.extend(members.clone());
        }
        Value::Object(all)
    }

    fn log(&self, change: &Change) {
        let cluster = &*change.cluster;
        let endpoint = change.endpoint.as_ref().map(|(_, address)| address.to_string()).unwrap_or_default();
        let detail = self.attributes.to_string();
        if self.is_bad {
            tracing::warn!(cluster, endpoint, detail, "{}", self.message);
        } else {
            tracing::info!(cluster, endpoint, detail, "{}", self.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ejection_names_endpoint_detector_time_and_reason() {
        let change = Change {
            cluster: "payments".into(),
            endpoint: Some(("pay-1:80".into(), "10.0.0.7:80".parse().unwrap())),
            what: What::Ejected {
                detector: "consecutive_5xx",
                time: Duration::from_secs(30),
                times: 1,
                why: "5 failures in a row".into(),
            },
        };
        let entry = Entry::of(&change);
        assert_eq!(entry.schema, "sidelight/health/1");
        assert_eq!(
            entry.attributes(&change),
            json!({
                "sidelight.cluster": "payments",
                "sidelight.endpoint": "pay-1:80",
                "sidelight.endpoint.address": "10.0.0.7:80",
                "sidelight.health.state": "ejected",
                "sidelight.health.detector": "consecutive_5xx",
                "sidelight.health.ejection_ms": 30_000.0,
                "sidelight.health.ejections": 1,
                "sidelight.cause": "5 failures in a row",
            })
        );
    }
}
