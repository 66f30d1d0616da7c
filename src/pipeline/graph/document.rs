//! The graph of one sidecar as a document: `sidelight/graph/1`.
//!
//! What: an edge from the clients and one to each cluster, with the calls as the metrics count them, which miss none; and
//! below each edge its parts, as they were counted from the records of exchanges. Where the two differ, records were lost
//! on the way to the pipeline's thread, or are on it: `missed` says how many. How it fails: a document that is none is an
//! error; what it says of itself is believed.

use super::declared::State;
use super::histogram::millis;
use super::moment::Moment;
use super::stats::Stats;
use super::table::{OTHER, Side, Table};
use crate::exchange::Direction;
use crate::pipeline::Service;
use crate::pipeline::metrics::Edge as Counted;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What documents are called.
pub const SCHEMA: &str = "sidelight/graph/1";
/// The name of all clients together.
pub const CLIENTS: &str = "clients";

/// The protocol of an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.0 and 1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Bytes.
    Tcp,
    /// Several: beyond a cap.
    #[serde(rename = "_other", other)]
    Other,
}

impl Protocol {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
            Protocol::Grpc => "grpc",
            Protocol::Tcp => "tcp",
            Protocol::Other => OTHER,
        }
    }
}

/// Inbound or outbound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// To the service.
    Inbound,
    /// From it.
    Outbound,
}

/// Whose sidecar it is; empty texts are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// `service.name`.
    pub name: String,
    /// `service.version`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// `service.namespace`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// `deployment.environment.name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub environment: String,
    /// `cloud.availability_zone`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Which of the sidecars of the service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance: String,
}

impl About {
    pub(super) fn of(service: &Service) -> About {
        About {
            name: service.name.clone(),
            version: service.version.clone(),
            namespace: service.namespace.clone(),
            environment: service.environment.clone(),
            zone: service.zone.clone(),
            instance: service.instance.clone(),
        }
    }
}

/// Some calls of an edge that have these in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// Inbound: the verified identity of who called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What was spoken with the other side.
    pub protocol: Protocol,
    /// The route, where one matched.
    pub route: Option<String>,
    /// The license of the request.
    pub license: Option<String>,
    /// `STANDARD` or `TRACE`.
    pub request_type: Cow<'static, str>,
    /// What was counted.
    #[serde(flatten)]
    pub stats: Stats,
}

impl Part {
    pub(super) fn order(&self) -> (&Option<String>, Protocol, &Option<String>, &Option<String>, &str) {
        (&self.peer, self.protocol, &self.route, &self.license, &self.request_type)
    }
}

/// Latencies in milliseconds; null without a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// On average.
    pub mean: Option<f64>,
    /// The median.
    pub p50: Option<f64>,
    /// All but one in ten.
    pub p90: Option<f64>,
    /// All but one in a hundred.
    pub p99: Option<f64>,
}

/// What the sidecar knows of its clients, or of one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// Which way calls go.
    pub direction: Way,
    /// Who calls.
    pub from: Option<String>,
    /// Who is called; `null` where no route matched.
    pub to: Option<String>,
    /// The service behind the cluster, where `depends_on` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Exchanges that ended; with the connections that were carried as bytes.
    #[serde(default)]
    pub calls: u64,
    /// Those that failed.
    #[serde(default)]
    pub failures: u64,
    /// That of all.
    #[serde(default)]
    pub failure_ratio: Option<f64>,
    /// How long they took.
    #[serde(default)]
    pub latency_ms: Latency,
    /// How the parents of calls were found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents: Option<BTreeMap<String, u64>>,
    /// Calls that some request made, and nobody knows which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_context: Option<u64>,
    /// That, of all calls that have a parent or lost it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub lost_ratio: Option<Option<f64>>,
    /// Calls that are in none of the parts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
    /// The calls by what they have in common.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// A `null` that is written is there.
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(d).map(Some)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What one sidecar says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: Cow<'static, str>,
    /// Whose sidecar it is.
    pub service: About,
    /// When the sidecar started, in microseconds since 1970: as in the `id` of its events.
    #[serde(skip_serializing_if = "is_zero")]
    pub epoch: u64,
    /// From when on it has counted.
    pub since: Moment,
    /// When it was asked.
    pub at: Moment,
    /// Calls that lost their context.
    pub lost_context: u64,
    /// That, of all calls that have a parent or lost it.
    pub lost_ratio: Option<f64>,
    /// Calls in an `_other` edge because there are too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub overflow: u64,
    /// What the service says that it needs, and whether it called it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<State>,
    /// The clients first, then the clusters by name.
    pub edges: Vec<Edge>,
}

/// To four digits; `None` of nothing.
pub(super) fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 10_000.0).round() / 10_000.0)
}

/// What is counted exactly, and what is known in detail.
pub(super) fn edges(service: &str, counted: &[Counted], table: &Table) -> Vec<Edge> {
    let mut sides = table.sides();
    let mut edges: Vec<Edge> = Vec::new();
    let mut of_others = 0_u64;
    for counted in counted {
        let key: Side = (counted.direction == Direction::Outbound, counted.cluster.clone());
        let (parts, gone) = sides.remove(&key).unwrap_or_default();
        let edge = edge(service, Some(counted), &key, parts, gone);
        of_others = of_others.saturating_add(edge.calls.saturating_sub(counted.calls + connections(&edge)));
        let is_idle = gone > 0 && edge.parts.is_empty() && edge.missed == 0;
        if key.0 && is_idle {
            continue;
        }
        edges.push(edge);
    }
    // Clusters that the metrics count as `_other`, and those that carry bytes only.
    for (key, (parts, gone)) in sides {
        if parts.is_empty() {
            continue;
        }
        let edge = edge(service, None, &key, parts, gone);
        of_others = of_others.saturating_add(edge.calls - connections(&edge));
        edges.push(edge);
    }
    // What the table knows better than the metrics is not counted twice.
    if let Some(other) = edges.iter_mut().find(|edge| edge.to.as_deref() == Some(OTHER)) {
        other.calls = other.calls.saturating_sub(of_others);
        other.missed = other.missed.saturating_sub(of_others);
        other.failures = other.failures.min(other.calls);
    }
    edges.retain(|edge| edge.to.as_deref() != Some(OTHER) || edge.calls > 0);
    edges.sort_by(|a, b| (a.direction, &a.to).cmp(&(b.direction, &b.to)));
    edges
}

/// Connections that were carried as bytes; the metrics of HTTP do not have them.
fn connections(edge: &Edge) -> u64 {
    edge.parts.iter().filter(|part| part.protocol == Protocol::Tcp).map(|part| part.stats.calls).sum()
}

fn edge(service: &str, counted: Option<&Counted>, key: &Side, parts: Vec<Part>, gone: u64) -> Edge {
    let (is_outbound, cluster) = key;
    let mut sum = Stats::default();
    let (mut opaque, mut grpc_failures) = (Stats::default(), 0_u64);
    for part in &parts {
        sum.merge(&part.stats);
        if part.protocol == Protocol::Tcp {
            opaque.merge(&part.stats);
            continue;
        }
        let plain = part.stats.outcomes.iter().filter(|it| it.status == 0 || it.status >= 500);
        let plain: u64 = plain.map(|outcome| outcome.calls).sum();
        grpc_failures += part.stats.failures.saturating_sub(plain);
    }
    let exact = counted.map_or(0, |counted| counted.calls);
    let known = (sum.calls - opaque.calls).saturating_add(gone);
    let calls = exact.max(known) + opaque.calls;
    let failures = counted.map_or(0, |counted| counted.failures) + opaque.failures + grpc_failures;
    let quantile = |share| match (sum.latency_ms.quantile(share), counted) {
        (Some(micros), _) => Some(millis(micros)),
        (None, counted) => counted?.quantile(share).map(|time| millis(time.as_micros() as f64)),
    };
    let mean = match (sum.latency_ms.mean(), counted) {
        (Some(micros), _) => Some(millis(micros)),
        (None, counted) => counted.and_then(Counted::mean).map(|time| millis(time.as_micros() as f64)),
    };
    let name = |name: &str| Some(name.to_owned());
    let (from, to) = match is_outbound {
        false => (name(CLIENTS), name(service)),
        true => (name(service), cluster.as_deref().map(str::to_owned)),
    };
    let calling = counted.filter(|_| *is_outbound);
    let parents = calling.map(|counted| {
        let parents = counted.parents().filter(|(_, count)| *count > 0);
        parents.map(|(source, count)| (source.to_owned(), count)).collect()
    });
    Edge {
        direction: if *is_outbound { Way::Outbound } else { Way::Inbound },
        from,
        to,
        service: None,
        calls,
        failures: failures.max(sum.failures).min(calls),
        failure_ratio: ratio(failures.max(sum.failures).min(calls), calls),
        latency_ms: Latency { mean, p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99) },
        parents,
        lost_context: calling.map(Counted::lost),
        lost_ratio: calling.map(|counted| ratio(counted.lost(), counted.served())),
        missed: exact.saturating_sub(known),
        parts,
    }
}
