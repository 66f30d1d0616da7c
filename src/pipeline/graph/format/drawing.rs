//! DOT and Mermaid. Ids are ours, so that no name can be another one's, or a word of the language.

use super::super::map::{Link, Map, NodeKind};
use super::plain;
use std::fmt::Write;

/// From this share of failed calls on, a link is drawn in red.
const FAILING: f64 = 0.05;

fn is_failing(link: &Link<'_>) -> bool {
    link.failure_ratio().is_some_and(|ratio| ratio >= FAILING)
}

/// The nodes that have a link, and services even without one.
fn shown(map: &Map<'_>) -> Vec<usize> {
    let mut is_linked = vec![false; map.nodes.len()];
    for end in map.links.iter().flat_map(|link| [link.from, link.to]) {
        if let Some(is_linked) = is_linked.get_mut(end) {
            *is_linked = true;
        }
    }
    let nodes = map.nodes.iter().enumerate();
    let shown =
        nodes.filter(|(at, node)| node.kind == NodeKind::Service || is_linked.get(*at) == Some(&true));
    shown.map(|(at, _)| at).collect()
}

/// In Graphviz' language.
pub(super) fn dot(map: &Map<'_>) -> String {
    let quoted = |text: &str| plain(text).replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = String::from("digraph sidelight {\n  rankdir=LR;\n  node [shape=box];\n");
    for at in shown(map) {
        let Some(node) = map.node(at) else { continue };
        let style = match node.kind {
            NodeKind::Service => ", style=bold",
            NodeKind::Clients | NodeKind::Peer => ", shape=ellipse",
            NodeKind::Cluster => "",
            NodeKind::NoRoute => ", style=dashed",
        };
        // Writing into a String does not fail, here and below.
        let _ = writeln!(out, "  n{at} [label=\"{}\"{style}];", quoted(&node.name));
    }
    for link in &map.links {
        let color = if is_failing(link) { ", color=red" } else { "" };
        let label = told(link).join("\\n");
        let _ = writeln!(out, "  n{} -> n{} [label=\"{label}\"{color}];", link.from, link.to);
    }
    out.push_str("}\n");
    out
}

/// As a Mermaid flowchart.
pub(super) fn mermaid(map: &Map<'_>) -> String {
    // Its entities are written with a number sign, and texts are HTML after that.
    let quoted = |text: &str| {
        let escaped = plain(text).replace('#', "#35;").replace('"', "#quot;").replace('&', "#amp;");
        escaped.replace('<', "#lt;").replace('>', "#gt;").replace('`', "#96;")
    };
    let mut out = String::from("flowchart LR\n");
    for at in shown(map) {
        let Some(node) = map.node(at) else { continue };
        let (open, close) = match node.kind {
            NodeKind::Service | NodeKind::Cluster => ("[", "]"),
            NodeKind::Clients | NodeKind::Peer | NodeKind::NoRoute => ("([", "])"),
        };
        let _ = writeln!(out, "  n{at}{open}\"{}\"{close}", quoted(&node.name));
    }
    for link in &map.links {
        let _ = writeln!(out, "  n{} -->|\"{}\"| n{}", link.from, told(link).join("<br>"), link.to);
    }
    for (at, _) in map.links.iter().enumerate().filter(|(_, link)| is_failing(link)) {
        let _ = writeln!(out, "  linkStyle {at} stroke:red");
    }
    out
}

/// What is written on a link, line by line.
fn told(link: &Link<'_>) -> Vec<String> {
    let plural = if link.total.calls == 1 { "" } else { "s" };
    let mut lines = vec![format!("{} call{plural}", link.total.calls)];
    if link.total.failures > 0 {
        lines.push(format!("{} failed", link.total.failures));
    }
    let latency = link.latency();
    if let (Some(half), Some(most)) = (latency.p50, latency.p99) {
        lines.push(format!("p50 {half:.1} ms, p99 {most:.1} ms"));
    }
    if link.lost_context > 0 {
        lines.push(format!("{} lost their context", link.lost_context));
    }
    lines
}
