//! `sidelight/graph/1` of many sidecars: the map, and below it all that it is made of, so that it can be merged again.

use super::super::document::{Latency, Protocol, Report, SCHEMA};
use super::super::map::{Finding, Link, Map, Node};
use super::super::merge::Graph;
use super::super::moment::Moment;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Serialize)]
struct Document<'a, 'b> {
    schema: &'static str,
    since: Moment,
    at: Moment,
    nodes: &'a [Node],
    edges: Edges<'a, 'b>,
    findings: &'a [Finding],
    #[serde(skip_serializing_if = "Option::is_none")]
    reports: Option<Vec<&'a Report>>,
}

struct Edges<'a, 'b>(&'a Map<'b>);

impl Serialize for Edges<'_, '_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.links.iter().map(|link| Edge::of(self.0, link)))
    }
}

#[derive(Serialize)]
struct Edge<'a> {
    from: &'a str,
    to: &'a str,
    calls: u64,
    failures: u64,
    failure_ratio: Option<f64>,
    calls_per_second: f64,
    latency_ms: Latency,
    protocols: BTreeSet<Protocol>,
    licenses: BTreeMap<&'a str, u64>,
    request_types: BTreeMap<&'a str, u64>,
    errors: BTreeMap<String, u64>,
    retries: u64,
    request_bytes: u64,
    response_bytes: u64,
    lost_context: u64,
    first_seen: Moment,
    last_seen: Moment,
    source_calls: Option<u64>,
    destination_calls: Option<u64>,
}

impl<'a> Edge<'a> {
    fn of(map: &'a Map<'_>, link: &'a Link<'_>) -> Edge<'a> {
        // Each call once: as who called says, where that is known.
        let told_by = link.rows.iter().map(|row| row.reporter).min();
        let (mut licenses, mut request_types) = (BTreeMap::new(), BTreeMap::new());
        let add = |to: &mut BTreeMap<&'a str, u64>, name: &'a str, calls: u64| {
            let sum = to.entry(name).or_default();
            *sum = sum.saturating_add(calls);
        };
        for row in link.rows.iter().filter(|row| Some(row.reporter) == told_by) {
            if let Some(license) = &row.part.license {
                add(&mut licenses, license, row.part.stats.calls);
            }
            add(&mut request_types, &row.part.request_type, row.part.stats.calls);
        }
        Edge {
            from: map.name(link.from),
            to: map.name(link.to),
            calls: link.total.calls,
            failures: link.total.failures,
            failure_ratio: link.failure_ratio(),
            calls_per_second: (link.rate * 1000.0).round() / 1000.0,
            latency_ms: link.latency(),
            protocols: link.protocols(),
            licenses,
            request_types,
            errors: link.errors(),
            retries: link.total.retries,
            request_bytes: link.total.request_bytes,
            response_bytes: link.total.response_bytes,
            lost_context: link.lost_context,
            first_seen: link.total.first_seen,
            last_seen: link.total.last_seen,
            source_calls: link.source_calls,
            destination_calls: link.destination_calls,
        }
    }
}

fn document<'a, 'b>(map: &'a Map<'b>, graph: Option<&'a Graph>) -> Document<'a, 'b> {
    Document {
        schema: SCHEMA,
        since: map.since,
        at: map.at,
        nodes: &map.nodes,
        edges: Edges(map),
        findings: &map.findings,
        reports: graph.map(|graph| graph.reports().collect()),
    }
}

/// The text.
pub(super) fn text(map: &Map<'_>, graph: &Graph) -> String {
    let mut text = serde_json::to_string(&document(map, Some(graph))).unwrap_or_default();
    text.push('\n');
    text
}

/// The map as a value, without what it is made of.
pub fn value(map: &Map<'_>) -> serde_json::Value {
    serde_json::to_value(document(map, None)).unwrap_or_default()
}
