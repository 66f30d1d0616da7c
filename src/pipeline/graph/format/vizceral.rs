//! Vizceral: the whole graph as one update, with one region (<https://github.com/Netflix/vizceral/blob/master/DATAFORMATS.md>).
//!
//! Volumes are calls a second. Its entry node is called `INTERNET`: that is all clients together; a connection wants at
//! least one metric, a node a name of its own, and `maxVolume` a number.

use super::super::map::{Link, Map, Node, NodeKind};
use super::pretty;
use serde_json::{Value, json};

/// The entry node, by its customary name.
const ENTRY: &str = "INTERNET";
/// From this share of failed calls on, something is worth a look, or is wrong.
const WARNING: f64 = 0.01;
const DANGER: f64 = 0.05;

/// The names of the nodes; nothing but the clients is called as the entry node is.
fn names(map: &Map<'_>) -> Vec<String> {
    let is_taken = |name: &str| map.nodes.iter().any(|node| node.name == name);
    let name = |node: &Node| match node.kind {
        NodeKind::Clients => ENTRY.to_owned(),
        _ if node.name == ENTRY => {
            let mut name = format!("{ENTRY} (service)");
            while is_taken(&name) {
                name.push('*');
            }
            name
        }
        _ => node.name.clone(),
    };
    map.nodes.iter().map(name).collect()
}

fn class(failure_ratio: Option<f64>) -> &'static str {
    match failure_ratio.unwrap_or(0.0) {
        ratio if ratio >= DANGER => "danger",
        ratio if ratio >= WARNING => "warning",
        _ => "normal",
    }
}

fn rounded(rate: f64) -> f64 {
    (rate * 1000.0).round() / 1000.0
}

/// Calls a second: those that went well, those that the caller got wrong, those that failed.
fn metrics(link: &Link<'_>) -> Value {
    let calls = link.total.calls.max(1) as f64;
    let refused = link.total.outcomes.iter().filter(|outcome| (400..500).contains(&outcome.status));
    let refused = refused.fold(0_u64, |sum, outcome| sum.saturating_add(outcome.calls));
    let refused = refused.min(link.total.calls.saturating_sub(link.total.failures));
    let share = |part: u64| rounded(link.rate * part as f64 / calls);
    let well = link.total.calls.saturating_sub(link.total.failures).saturating_sub(refused);
    json!({ "normal": share(well), "warning": share(refused), "danger": share(link.total.failures) })
}

/// The text.
pub(super) fn text(map: &Map<'_>) -> String {
    let (updated, names) = (map.at.0 / 1000, names(map));
    let environment = map.nodes.iter().map(|node| node.environment.as_str()).find(|text| !text.is_empty());
    let region = match environment.unwrap_or("mesh") {
        ENTRY => "mesh",
        other => other,
    };
    let entering = || map.links.iter().filter(|link| map.node(link.from).is_some_and(is_clients));
    let volume = |links: &mut dyn Iterator<Item = &Link<'_>>| rounded(links.map(|link| link.rate).sum());
    let entry_volume = volume(&mut entering());
    let entry_failed: f64 = entering().map(|link| link.rate * link.failure_ratio().unwrap_or(0.0)).sum();
    let total_volume = volume(&mut map.links.iter());
    let mut nodes = vec![json!({ "name": ENTRY, "renderer": "focusedChild", "class": "normal" })];
    let mut sums = vec![(0_u64, 0_u64); map.nodes.len()];
    for link in &map.links {
        if let Some((calls, failures)) = sums.get_mut(link.to) {
            *calls = calls.saturating_add(link.total.calls);
            *failures = failures.saturating_add(link.total.failures);
        }
    }
    for (at, node) in map.nodes.iter().enumerate().filter(|(_, node)| !is_clients(node)) {
        let (calls, failures) = sums.get(at).copied().unwrap_or_default();
        let ratio = super::super::document::ratio(failures, calls);
        nodes.push(json!({
            "name": names.get(at),
            "displayName": names.get(at),
            "renderer": "focusedChild",
            "class": class(ratio),
            "node_type": if node.kind == NodeKind::Peer { "users" } else { "service" },
            "updated": updated,
            "metadata": { "streaming": 1, "namespace": node.namespace, "versions": node.versions, "zones": node.zones },
        }));
    }
    let connections = map.links.iter().filter_map(|link| {
        let notices = map.findings.iter().filter(|finding| {
            finding.to == map.name(link.to)
                && finding.from.as_ref().is_none_or(|from| from == map.name(link.from))
        });
        let notices = notices.map(|finding| json!({ "title": finding.text, "severity": 1 }));
        Some(json!({
            "source": names.get(link.from)?,
            "target": names.get(link.to)?,
            "class": class(link.failure_ratio()),
            "metrics": metrics(link),
            "metadata": { "streaming": 1 },
            "notices": notices.collect::<Vec<_>>(),
        }))
    });
    let connections: Vec<Value> = connections.collect();
    let ratio = if entry_volume > 0.0 { entry_failed / entry_volume } else { 0.0 };
    pretty(&json!({
        "renderer": "global",
        "name": "edge",
        "maxVolume": entry_volume,
        "serverUpdateTime": updated,
        "nodes": [
            { "renderer": "region", "name": ENTRY, "displayName": ENTRY, "class": "normal", "updated": updated,
              "maxVolume": entry_volume, "metadata": {}, "nodes": [], "connections": [] },
            { "renderer": "region", "name": region, "displayName": region, "class": class(Some(ratio)),
              "updated": updated, "maxVolume": total_volume, "metadata": {}, "nodes": nodes,
              "connections": connections },
        ],
        "connections": [{
            "source": ENTRY,
            "target": region,
            "class": class(Some(ratio)),
            "metrics": { "normal": rounded(entry_volume - entry_failed), "danger": rounded(entry_failed) },
            "notices": [],
        }],
    }))
}

fn is_clients(node: &Node) -> bool {
    node.kind == NodeKind::Clients
}
