//! The graph under the names that Kiali and Grafana read.
//!
//! Istio's standard metrics (<https://istio.io/latest/docs/reference/config/metrics/>), of both reporters; and the service
//! graph metrics of Tempo (<https://grafana.com/docs/tempo/latest/metrics-generator/service_graphs/>), each call once. What
//! is not known is `unknown`, and `response_flags` is always there: without it Kiali draws nothing. How it fails: it
//! cannot; the series are those of the graph, so they are bounded as it is.

use super::super::config::MetricsConfig;
use super::super::document::Protocol;
use super::super::histogram::Histogram;
use super::super::map::{Link, Map, Node, NodeKind, Reporter, Row};
use crate::pipeline::metrics::text::{Format, Kind, Page};
use std::collections::BTreeMap;

/// Istio's buckets, in milliseconds.
const ISTIO_MS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];
/// Tempo's buckets, in seconds.
const TEMPO_S: [f64; 9] = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6];
const UNKNOWN: &str = "unknown";

/// Everything, as a scrape of its own.
pub(super) fn text(map: &Map<'_>) -> String {
    let mut page = Page::new(Format::Prometheus);
    families(map, MetricsConfig { istio: true, service_graph: true }, &mut page);
    page.finish()
}

/// What is wanted, into a scrape.
pub(in crate::pipeline) fn families(map: &Map<'_>, wanted: MetricsConfig, page: &mut Page) {
    if wanted.istio {
        istio(map, page);
    }
    if wanted.service_graph {
        service_graph(map, page);
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

fn known(text: &str) -> &str {
    if text.is_empty() { UNKNOWN } else { text }
}

/// The labels that every metric of Istio has.
fn istio_labels<'a>(map: &'a Map<'_>, link: &Link<'_>, row: &Row<'a>) -> Labels<'a> {
    let names = |node: Option<&'a Node>| match node {
        Some(node) if !matches!(node.kind, NodeKind::Clients | NodeKind::NoRoute) => {
            let version = node.versions.first().map_or(UNKNOWN, |version| known(version));
            (known(&node.plain_name), known(&node.namespace), version)
        }
        _ => (UNKNOWN, UNKNOWN, UNKNOWN),
    };
    let (source, source_namespace, source_version) = names(map.node(link.from));
    let (destination, destination_namespace, destination_version) = names(map.node(link.to));
    let protocol = match row.part.protocol {
        Protocol::Http1 | Protocol::Http2 | Protocol::Other => "http",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
    };
    let peer = row.part.peer.as_deref();
    vec![
        ("reporter", if row.reporter == Reporter::Source { "source" } else { "destination" }),
        ("source_workload", source),
        ("source_workload_namespace", source_namespace),
        ("source_canonical_service", source),
        ("source_canonical_revision", source_version),
        ("source_cluster", UNKNOWN),
        ("source_principal", peer.unwrap_or(UNKNOWN)),
        ("destination_workload", destination),
        ("destination_workload_namespace", destination_namespace),
        ("destination_canonical_service", destination),
        ("destination_canonical_revision", destination_version),
        ("destination_cluster", UNKNOWN),
        ("destination_principal", UNKNOWN),
        ("destination_service", destination),
        ("destination_service_name", destination),
        ("destination_service_namespace", destination_namespace),
        ("request_protocol", protocol),
        ("connection_security_policy", if peer.is_some() { "mutual_tls" } else { UNKNOWN }),
    ]
}

/// Name, help, and the number of it.
type Family = (&'static str, &'static str, fn(&Sums) -> u64);

#[derive(Default)]
struct Sums {
    calls: u64,
    latency: Histogram,
    request_bytes: u64,
    response_bytes: u64,
    /// By status, gRPC status and flags.
    outcomes: BTreeMap<(u16, Option<u8>, &'static str), u64>,
}

fn istio(map: &Map<'_>, page: &mut Page) {
    // Routes, licenses and request types are no labels of Istio's: what differs in them only is one series.
    let mut series: BTreeMap<Labels<'_>, Sums> = BTreeMap::new();
    for link in &map.links {
        for row in &link.rows {
            let sums = series.entry(istio_labels(map, link, row)).or_default();
            let stats = &row.part.stats;
            sums.calls = sums.calls.saturating_add(stats.calls);
            sums.latency.merge(&stats.latency_ms);
            sums.request_bytes = sums.request_bytes.saturating_add(stats.request_bytes);
            sums.response_bytes = sums.response_bytes.saturating_add(stats.response_bytes);
            for outcome in &stats.outcomes {
                let key = (outcome.status, outcome.grpc_status, outcome.flags());
                let calls = sums.outcomes.entry(key).or_default();
                *calls = calls.saturating_add(outcome.calls);
            }
        }
    }
    let is_tcp = |labels: &Labels<'_>| labels.contains(&("request_protocol", "tcp"));
    let requests = || series.iter().filter(|(labels, _)| !is_tcp(labels));
    let streams = || series.iter().filter(|(labels, _)| is_tcp(labels));
    if requests().next().is_some() {
        page.family("istio_requests", Kind::Counter, "Requests that ended, by response code.");
        for (labels, sums) in requests() {
            for ((status, grpc_status, flags), calls) in &sums.outcomes {
                let (status, grpc) =
                    (status.to_string(), grpc_status.map(|it| it.to_string()).unwrap_or_default());
                let mut labels = labels.clone();
                labels.extend([
                    ("response_code", &*status),
                    ("grpc_response_status", &*grpc),
                    ("response_flags", *flags),
                ]);
                page.number(&labels, *calls);
            }
        }
        page.family("istio_request_duration_milliseconds", Kind::Histogram, "Duration of requests.");
        for (labels, sums) in requests() {
            page.buckets(
                labels,
                buckets(&sums.latency, &ISTIO_MS, 1e3),
                sums.latency.sum_micros() as f64 / 1e3,
                sums.calls,
            );
        }
        page.family("istio_request_bytes", Kind::Histogram, "Content of requests.");
        for (labels, sums) in requests() {
            page.buckets(labels, [], sums.request_bytes as f64, sums.calls);
        }
        page.family("istio_response_bytes", Kind::Histogram, "Content of answers.");
        for (labels, sums) in requests() {
            page.buckets(labels, [], sums.response_bytes as f64, sums.calls);
        }
    }
    if streams().next().is_some() {
        let with_flags = |labels: &Labels<'_>| {
            let labels = labels.iter().copied().chain([("response_flags", "-")]);
            labels.map(|(name, value)| (name, value.to_owned())).collect::<Vec<_>>()
        };
        let families: [Family; 3] = [
            ("istio_tcp_sent_bytes", "Bytes to clients.", |sums| sums.response_bytes),
            ("istio_tcp_received_bytes", "Bytes from clients.", |sums| sums.request_bytes),
            ("istio_tcp_connections_closed", "Connections that ended.", |sums| sums.calls),
        ];
        for (name, help, number) in families {
            page.family(name, Kind::Counter, help);
            for (labels, sums) in streams() {
                let labels = with_flags(labels);
                let labels: Labels<'_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                page.number(&labels, number(sums));
            }
        }
    }
}

/// Bounds and how many are at or below each. `scale`: microseconds in the unit.
fn buckets<'a>(
    histogram: &'a Histogram,
    bounds: &'a [f64],
    scale: f64,
) -> impl Iterator<Item = (f64, u64)> + use<'a> {
    bounds.iter().map(move |bound| (*bound, histogram.count_to((bound * scale) as u64)))
}

/// Who calls in Tempo's words: `user` is whoever is not instrumented.
fn service_graph_labels<'a>(map: &'a Map<'_>, link: &Link<'_>) -> Option<Labels<'a>> {
    let (from, to) = (map.node(link.from)?, map.node(link.to)?);
    let is_virtual = |node: &Node| !matches!(node.kind, NodeKind::Service | NodeKind::Cluster);
    if to.kind == NodeKind::NoRoute {
        return None;
    }
    let client = if from.kind == NodeKind::Clients { "user" } else { &from.name };
    let kind = if is_virtual(from) || is_virtual(to) { "virtual_node" } else { "" };
    Some(vec![("client", client), ("server", &to.name), ("connection_type", kind)])
}

fn service_graph(map: &Map<'_>, page: &mut Page) {
    let links: Vec<_> =
        map.links.iter().filter_map(|link| Some((link, service_graph_labels(map, link)?))).collect();
    if links.is_empty() {
        return;
    }
    page.family("traces_service_graph_request", Kind::Counter, "Calls from one service to another.");
    for (link, labels) in &links {
        page.number(labels, link.total.calls);
    }
    page.family("traces_service_graph_request_failed", Kind::Counter, "Those that failed.");
    for (link, labels) in &links {
        page.number(labels, link.total.failures);
    }
    for (side, reporter) in [("client", Reporter::Source), ("server", Reporter::Destination)] {
        let told: Vec<_> = links
            .iter()
            .filter_map(|(link, labels)| {
                let mut sum = Histogram::default();
                let rows = link.rows.iter().filter(|row| row.reporter == reporter);
                rows.for_each(|row| sum.merge(&row.part.stats.latency_ms));
                (sum.count() > 0).then_some((labels, sum))
            })
            .collect();
        if told.is_empty() {
            continue;
        }
        let name = format!("traces_service_graph_request_{side}_seconds");
        page.family(&name, Kind::Histogram, &format!("How long they took, as the {side} counts."));
        for (labels, sum) in told {
            page.buckets(labels, buckets(&sum, &TEMPO_S, 1e6), sum.sum_micros() as f64 / 1e6, sum.count());
        }
    }
}
