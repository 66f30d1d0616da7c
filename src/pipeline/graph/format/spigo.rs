//! Spigo's graph, which simianviz shows: nodes and edges in the order in which they came to be
//! (<https://github.com/adrianco/spigo/tree/master/json>).
//!
//! A node is called `arch.region.zone.serviceNN`, and simianviz takes names apart at the dots: what is a dot in a name of
//! ours is a minus there. A node stands before the edges that end at it, as it does there.

use super::super::map::{Map, Node, NodeKind};
use super::pretty;
use serde_json::{Value, json};
use std::collections::HashSet;

/// The version of the format.
const VERSION: &str = "spigo-0.4";
/// The architecture: one for all.
const ARCH: &str = "sidelight";

fn part(text: &str, absent: &str) -> String {
    let part = |char: char| if char.is_alphanumeric() || char == '_' { char } else { '-' };
    let text: String = text.chars().map(part).collect();
    if text.is_empty() { absent.to_owned() } else { text }
}

fn name(node: &Node, taken: &mut HashSet<String>) -> String {
    let mut zones = node.zones.iter();
    let zone = match (zones.next(), zones.next()) {
        (Some(only), None) => part(only, "*"),
        _ => "*".into(),
    };
    let place = format!("{ARCH}.{}.{zone}.{}", part(&node.environment, "*"), part(&node.name, "unnamed"));
    // The number of the instance: nodes that differ in what is a minus now still differ.
    let mut number = 0;
    loop {
        let name = format!("{place}{number:02}");
        if taken.insert(name.clone()) {
            return name;
        }
        number += 1;
    }
}

/// What it is in Spigo's words: a service, a store, or where traffic comes from.
fn package(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Service => "karyon",
        NodeKind::Cluster | NodeKind::NoRoute => "monolith",
        NodeKind::Peer | NodeKind::Clients => "denominator",
    }
}

/// The text.
pub(super) fn text(map: &Map<'_>) -> String {
    let mut taken = HashSet::new();
    let names: Vec<String> = map.nodes.iter().map(|node| name(node, &mut taken)).collect();
    let (since, at) = (map.since.text(), map.at.text());
    let mut graph: Vec<Value> = Vec::with_capacity(names.len() + map.links.len() + 1);
    for (node, name) in map.nodes.iter().zip(&names) {
        let metadata = format!("instances/{}", node.instances);
        let package = package(node.kind);
        graph.push(json!({ "node": name, "package": package, "timestamp": since, "metadata": metadata }));
    }
    let ends = map.links.iter().filter_map(|link| Some((link, names.get(link.from)?, names.get(link.to)?)));
    for (number, (link, source, target)) in ends.enumerate() {
        let seen = if link.total.first_seen.0 > 0 { link.total.first_seen.text() } else { since.clone() };
        let edge = format!("e{}", number + 1);
        graph.push(json!({ "edge": edge, "source": source, "target": target, "timestamp": seen }));
    }
    pretty(&json!({
        "arch": ARCH,
        "version": VERSION,
        "args": "[sidelight graph --format spigo]",
        "date": at,
        "graph": graph,
    }))
}
