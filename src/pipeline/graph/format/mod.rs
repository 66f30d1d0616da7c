//! The map in the languages of others. Each is a view: nothing is counted here.
//!
//! - `json`: ours, which can be read again; `table`: for people; `declared`: as the file that would allow it
//! - `dot`, `mermaid`: drawings; `vizceral`, `spigo`: animated ones
//! - `jaeger`, `zipkin`: what their dependency APIs answer; `prometheus`: what Kiali and Grafana read
//!
//! How it fails: it cannot. Names are what peers and configurations wrote: each form escapes them as its language wants,
//! and where nodes are told apart by their names alone, no two nodes have the same.

mod drawing;
mod json;
mod lists;
pub(in crate::pipeline) mod prometheus;
mod spigo;
mod table;
mod vizceral;

use super::declared::{Criticality, Dependency, Manifest};
use super::map::{Map, NodeKind};
use super::merge::Graph;
use std::collections::BTreeMap;

pub use json::value;
pub(super) use table::lines;

/// How a graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Ours.
    Json,
    /// A table for people.
    Table,
    /// Graphviz (<https://graphviz.org/doc/info/lang.html>).
    Dot,
    /// Mermaid (<https://mermaid.js.org/syntax/flowchart.html>).
    Mermaid,
    /// Vizceral (<https://github.com/Netflix/vizceral/blob/master/DATAFORMATS.md>).
    Vizceral,
    /// Spigo's graph, as simianviz shows it (<https://github.com/adrianco/spigo>).
    Spigo,
    /// `data` of Jaeger's `/api/dependencies`.
    Jaeger,
    /// Zipkin's `/api/v2/dependencies` (<https://zipkin.io/zipkin-api/>).
    Zipkin,
    /// Metrics with the names that Kiali and Grafana read.
    Prometheus,
    /// The file that declares what was observed.
    Declared,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 10] = [
        Format::Json,
        Format::Table,
        Format::Dot,
        Format::Mermaid,
        Format::Vizceral,
        Format::Spigo,
        Format::Jaeger,
        Format::Zipkin,
        Format::Prometheus,
        Format::Declared,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Table => "table",
            Format::Dot => "dot",
            Format::Mermaid => "mermaid",
            Format::Vizceral => "vizceral",
            Format::Spigo => "spigo",
            Format::Jaeger => "jaeger",
            Format::Zipkin => "zipkin",
            Format::Prometheus => "prometheus",
            Format::Declared => "declared",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Json | Format::Vizceral | Format::Spigo | Format::Jaeger | Format::Zipkin => {
                "application/json"
            }
            Format::Declared => "application/yaml; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::Table | Format::Dot | Format::Mermaid => "text/plain; charset=utf-8",
        }
    }

    /// The whole text. `graph` is what `map` was made of.
    pub fn render(self, map: &Map<'_>, graph: &Graph) -> String {
        match self {
            Format::Json => json::text(map, graph),
            other => other.render_map(map),
        }
    }

    /// The same of a map alone; JSON has no `reports` then.
    pub fn render_map(self, map: &Map<'_>) -> String {
        match self {
            Format::Json => json::text(map, &Graph::default()),
            Format::Table => table::text(map),
            Format::Dot => drawing::dot(map),
            Format::Mermaid => drawing::mermaid(map),
            Format::Vizceral => vizceral::text(map),
            Format::Spigo => spigo::text(map),
            Format::Jaeger => lists::jaeger(map),
            Format::Zipkin => lists::zipkin(map),
            Format::Prometheus => prometheus::text(map),
            Format::Declared => declared(map),
        }
    }
}

/// The file that declares what was observed, and nothing else.
fn declared(map: &Map<'_>) -> String {
    let mut services: BTreeMap<String, Vec<Dependency>> = BTreeMap::new();
    for node in map.nodes.iter().filter(|node| node.kind == NodeKind::Service) {
        services.entry(node.plain_name.clone()).or_default();
    }
    for link in &map.links {
        let (Some(from), Some(to)) = (map.node(link.from), map.node(link.to)) else { continue };
        if from.kind != NodeKind::Service || to.kind == NodeKind::NoRoute {
            continue;
        }
        let is_plain = link.clusters.iter().all(|cluster| *cluster == to.plain_name);
        let clusters =
            if is_plain { Vec::new() } else { link.clusters.iter().map(|it| (*it).to_owned()).collect() };
        let dependency = Dependency {
            service: to.plain_name.clone(),
            clusters,
            criticality: Criticality::Hard,
            ..Dependency::default()
        };
        services.entry(from.plain_name.clone()).or_default().push(dependency);
    }
    format!(
        "# What was observed: look through it before it is what is wanted.\n{}",
        Manifest { services }.text()
    )
}

/// A text on one line.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// JSON as people read it.
fn pretty(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
