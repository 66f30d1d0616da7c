//! Who depends on whom, derived from the events alone.

use super::Failure;
use crate::demo::event::Event;
use crate::demo::expect::Expectations;
use crate::demo::mesh::Mesh;
use crate::demo::observed::Observed;
use crate::demo::terminal::Terminal;
use std::collections::BTreeMap;

/// A node of the drawing, and what it calls.
struct Callee {
    label: String,
    calls: Vec<(u64, Callee)>,
}

/// Prints the map.
pub(in crate::demo) fn graph(
    terminal: Terminal,
    mesh: &Mesh,
    observed: &Observed,
    failure: &Failure,
    sent: u64,
    expectations: &mut Expectations,
) {
    terminal.heading("The dependency map");
    let incoming = observed.of("storefront").iter().filter(|event| event.is_inbound() && is_routed(event));
    let incoming = incoming.count() as u64;
    let map = Callee {
        label: "clients".into(),
        calls: vec![(incoming, callee(mesh, observed, failure, "storefront"))],
    };
    for line in draw(&map.label, &map.calls) {
        terminal.line(&format!("   {line}"));
    }
    terminal.note("Derived from the events: exchanges by caller, cluster and the endpoint that answered.");
    let charges = observed.calls("checkout").count() as u64;
    expectations.expect(
        incoming == sent && charges == sent,
        format!("the map's edges count every order: {sent} in, {charges} charges"),
    );
}

fn is_routed(event: &Event) -> bool {
    !event.text("sidelight.cluster").is_empty()
}

/// An instance and what its sidecar's outbound events say that it calls.
fn callee(mesh: &Mesh, observed: &Observed, failure: &Failure, name: &str) -> Callee {
    let mut clusters: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for event in observed.calls(name) {
        let endpoint = mesh.name_of(event.text("sidelight.endpoint"));
        *clusters.entry(event.text("sidelight.cluster")).or_default().entry(endpoint).or_default() += 1;
    }
    let calls = clusters.into_iter().map(|(cluster, endpoints)| {
        let total = endpoints.values().sum();
        // A cluster of one instance that has its name is that instance.
        let callees = match endpoints.keys().next() {
            Some(only) if endpoints.len() == 1 && *only == cluster => callee(mesh, observed, failure, only),
            _ => {
                let calls = endpoints.iter();
                let calls = calls
                    .map(|(endpoint, count)| (*count, callee(mesh, observed, failure, endpoint)))
                    .collect();
                Callee { label: cluster.into(), calls }
            }
        };
        (total, callees)
    });
    let calls = calls.collect();
    let mark = if name == failure.name { " ✗ killed" } else { "" };
    Callee { label: format!("{name}{mark}"), calls }
}

/// The lines of a node and of all that hangs on it, the node itself in the first. Names and counts of nodes that hang on
/// the same one have the same width, so that their own edges begin below each other.
fn draw(label: &str, calls: &[(u64, Callee)]) -> Vec<String> {
    let mut lines = Vec::new();
    let last = calls.len().saturating_sub(1);
    let count_width = calls.iter().map(|(count, _)| count.to_string().len()).max().unwrap_or(0);
    let label_width = calls.iter().map(|(_, callee)| callee.label.chars().count()).max().unwrap_or(0);
    let (indent, room) = (" ".repeat(label.chars().count()), " ".repeat(count_width + 4));
    for (index, (count, callee)) in calls.iter().enumerate() {
        let (fork, rest) = match index {
            0 if last == 0 => ("──", " "),
            0 => ("┬─", "│"),
            _ if index == last => ("└─", " "),
            _ => ("├─", "│"),
        };
        let padded = format!("{:<label_width$}", callee.label);
        for (row, line) in draw(&padded, &callee.calls).into_iter().enumerate() {
            let own = if lines.is_empty() { label } else { &indent };
            let edge = if row == 0 {
                format!("{fork}{count:─>count_width$}─▶ ")
            } else {
                format!("{rest}{room}")
            };
            lines.push(format!("{own} {edge}{line}").trim_end().to_owned());
        }
    }
    if lines.is_empty() {
        lines.push(label.to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(label: &str) -> Callee {
        Callee { label: label.into(), calls: Vec::new() }
    }

    #[test]
    fn a_map_is_drawn_from_left_to_right() {
        let pool =
            |label: &str| Callee { label: label.into(), calls: vec![(1, leaf("one")), (20, leaf("two"))] };
        let calls = [(21, pool("pool")), (121, pool("other"))];
        let expected = [
            "a ┬──21─▶ pool  ┬──1─▶ one",
            "  │             └─20─▶ two",
            "  └─121─▶ other ┬──1─▶ one",
            "                └─20─▶ two",
        ];
        assert_eq!(draw("a", &calls), expected);
    }
}
