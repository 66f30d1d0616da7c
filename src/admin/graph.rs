//! `/graph`: whom the service talks to, as this proxy has counted it: its clients, and each cluster that it calls.
//!
//! What: calls, failures and times of each, and for the calls how their parents were found, so that an application which
//! loses the context is seen. Three forms of the same: JSON, Graphviz' DOT (<https://graphviz.org/doc/info/lang.html>) and
//! Mermaid (<https://mermaid.js.org/syntax/flowchart.html>). How it fails: it cannot; what was not called is not there.

use crate::exchange::Direction;
use crate::pipeline::Service;
use crate::pipeline::encode::rfc3339;
use crate::pipeline::metrics::Edge;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// What the JSON is called.
const SCHEMA: &str = "sidelight/graph/1";
/// The name of all clients together.
const CLIENTS: &str = "clients";

/// How the graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// For programs.
    Json,
    /// For Graphviz.
    Dot,
    /// For Markdown.
    Mermaid,
}

impl Format {
    pub(super) const ALL: [Format; 3] = [Format::Json, Format::Dot, Format::Mermaid];

    /// Its name in `?format=`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Dot => "dot",
            Format::Mermaid => "mermaid",
        }
    }

    pub(super) fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// The graph as JSON, of what was counted from `since` to `at`.
pub(super) fn document(service: &Service, since: SystemTime, at: SystemTime, edges: &[Edge]) -> Value {
    let about = [
        ("name", &service.name),
        ("version", &service.version),
        ("namespace", &service.namespace),
        ("environment", &service.environment),
        ("zone", &service.zone),
        ("instance", &service.instance),
    ];
    let about = about.into_iter().filter(|(_, text)| !text.is_empty());
    let about: Map<String, Value> = about.map(|(name, text)| (name.into(), text.as_str().into())).collect();
    let calls = || edges.iter().filter(|edge| edge.direction == Direction::Outbound);
    let (lost, served) = (calls().map(Edge::lost).sum(), calls().map(Edge::served).sum());
    json!({
        "schema": SCHEMA,
        "service": about,
        "since": rfc3339(since),
        "at": rfc3339(at),
        "lost_context": lost,
        "lost_ratio": ratio(lost, served),
        "edges": edges.iter().map(|edge| of_edge(service, edge)).collect::<Vec<_>>(),
    })
}

fn of_edge(service: &Service, edge: &Edge) -> Value {
    let cluster = edge.cluster.as_deref();
    let (from, to) = match edge.direction {
        Direction::Inbound => (Some(CLIENTS), Some(service.name.as_str())),
        Direction::Outbound => (Some(service.name.as_str()), cluster),
    };
    let mut value = json!({
        "direction": edge.direction.as_str(),
        "from": from,
        "to": to,
        "calls": edge.calls,
        "failures": edge.failures,
        "failure_ratio": ratio(edge.failures, edge.calls),
        "latency_ms": {
            "mean": edge.mean().map(millis),
            "p50": edge.quantile(0.5).map(millis),
            "p99": edge.quantile(0.99).map(millis),
        },
    });
    if edge.direction == Direction::Outbound {
        let parents = edge.parents().filter(|(_, count)| *count > 0);
        value["parents"] = parents.map(|(source, count)| (source.to_owned(), Value::from(count))).collect();
        value["lost_context"] = edge.lost().into();
        value["lost_ratio"] = ratio(edge.lost(), edge.served()).into();
    }
    value
}

/// To four digits; `None` of nothing.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 10_000.0).round() / 10_000.0)
}

/// To the microsecond.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// The graph in Graphviz' language.
pub(super) fn dot(service: &Service, edges: &[Edge]) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = String::from("digraph sidelight {\n  rankdir=LR;\n  node [shape=box];\n");
    // Writing into a String does not fail, here and below.
    let _ = writeln!(out, "  service [label=\"{}\", style=bold];", quoted(&plain(&service.name)));
    for node in nodes(edges) {
        let Node { id, label, edge } = &node;
        let _ = writeln!(out, "  {id} [label=\"{}\"];", quoted(label));
        let (from, to) = node.ends();
        let _ = writeln!(out, "  {from} -> {to} [label=\"{}\"];", told(edge).join("\\n"));
    }
    out.push_str("}\n");
    out
}

/// The graph as a Mermaid flowchart.
pub(super) fn mermaid(service: &Service, edges: &[Edge]) -> String {
    // Its entities are written with a number sign, and texts are HTML after that.
    let quoted = |text: &str| {
        let escaped = text.replace('#', "#35;").replace('"', "#quot;").replace('&', "#amp;");
        escaped.replace('<', "#lt;").replace('>', "#gt;").replace('`', "#96;")
    };
    let mut out = String::from("flowchart LR\n");
    let _ = writeln!(out, "  service[\"{}\"]", quoted(&plain(&service.name)));
    for node in nodes(edges) {
        let Node { id, label, edge } = &node;
        let _ = writeln!(out, "  {id}[\"{}\"]", quoted(label));
        let (from, to) = node.ends();
        let _ = writeln!(out, "  {from} -->|\"{}\"| {to}", told(edge).join("<br>"));
    }
    out
}

/// Whom the service talks to. Ids are ours, so that no name can be another one's, or a word of the language.
struct Node<'a> {
    id: String,
    label: String,
    edge: &'a Edge,
}

impl Node<'_> {
    /// From whom to whom.
    fn ends(&self) -> (&str, &str) {
        match self.edge.direction {
            Direction::Inbound => (&self.id, "service"),
            Direction::Outbound => ("service", &self.id),
        }
    }
}

fn nodes(edges: &[Edge]) -> impl Iterator<Item = Node<'_>> {
    edges.iter().enumerate().map(|(index, edge)| {
        let (id, label) = match (edge.direction, &edge.cluster) {
            (Direction::Inbound, _) => (CLIENTS.to_owned(), CLIENTS.to_owned()),
            (Direction::Outbound, Some(cluster)) => (format!("cluster{index}"), plain(cluster)),
            (Direction::Outbound, None) => (format!("cluster{index}"), "(no route)".to_owned()),
        };
        Node { id, label, edge }
    })
}

/// A name on one line.
fn plain(name: &str) -> String {
    name.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// What is written on an edge, line by line.
fn told(edge: &Edge) -> Vec<String> {
    let plural = if edge.calls == 1 { "" } else { "s" };
    let mut lines = vec![format!("{} call{plural}", edge.calls)];
    if edge.failures > 0 {
        lines.push(format!("{} failed", edge.failures));
    }
    if let (Some(half), Some(most)) = (edge.quantile(0.5), edge.quantile(0.99)) {
        lines.push(format!("p50 {:.1} ms, p99 {:.1} ms", millis(half), millis(most)));
    }
    if edge.lost() > 0 {
        lines.push(format!("{} lost their context", edge.lost()));
    }
    lines
}
