//! The same dependencies as services, merged from what the sidecars count themselves: what `sidelight graph` prints.

use super::Failure;
use crate::demo::expect::Expectations;
use crate::demo::mesh::Mesh;
use crate::demo::terminal::{Style, Terminal};
use crate::pipeline::graph::{Aliases, Format, Map, source};

/// The clusters that are pools of one service.
const ALIASES: [(&str, &str); 2] = [("payments-gold", "payments"), ("payments-standard", "payments")];

/// Prints the map. `wrong`: how many requests were refused.
pub(in crate::demo) fn map(
    terminal: Terminal,
    mesh: &Mesh,
    failure: &Failure,
    [sent, wrong]: [u64; 2],
    expectations: &mut Expectations,
) -> Result<(), String> {
    // The sidecar that was killed has no admin port any more; what it counted is in its event file.
    let mut sources = Vec::new();
    for node in &mesh.nodes {
        sources.push(match node.name == failure.name {
            true => node.sidecar.events.display().to_string(),
            false => format!("http://{}", node.sidecar.address("admin")?),
        });
    }
    terminal.line("");
    for line in command(mesh, failure, &sources) {
        terminal.line(&terminal.paint(Style::Dim, &line));
    }
    let reading = source::read(&sources)?;
    let aliases: Aliases = ALIASES.map(|(cluster, service)| (cluster.into(), service.into())).into();
    let map = Map::of(&reading.graph, &aliases);
    for line in Format::Table.render(&map, &reading.graph).lines() {
        terminal.line(format!("   {line}").trim_end());
    }
    for note in &reading.notes {
        terminal.note(&format!("note: {note}"));
    }
    terminal.note(&format!(
        "Calls that both ends told of count once. {wrong} are the wrong requests, of which the next part tells."
    ));
    terminal
        .note("--format also draws it: dot, mermaid, vizceral, and what Jaeger, Zipkin and Grafana read.");
    let calls = |from: &str, to: &str| {
        let link = map.links.iter().find(|link| map.name(link.from) == from && map.name(link.to) == to);
        link.map(|link| (link.source_calls, link.destination_calls))
    };
    let both = (Some(sent), Some(sent));
    expectations.expect(
        calls("storefront", "checkout") == Some(both)
            && calls("checkout", "payments").is_some_and(|(told, _)| told == Some(sent))
            && map.links.iter().map(|link| link.total.calls).sum::<u64>() == 3 * sent + wrong
            && map.findings.is_empty(),
        format!(
            "`sidelight graph` counts what was sent: {sent} calls on each link, and {wrong} wrong requests"
        ),
    );
    Ok(())
}

/// What a user would type.
fn command(mesh: &Mesh, failure: &Failure, sources: &[String]) -> Vec<String> {
    let mut lines = vec![String::from(
        "   $ sidelight graph --alias payments-gold=payments --alias payments-standard=payments \\",
    )];
    let short = mesh.nodes.iter().zip(sources).map(|(node, source)| match node.name == failure.name {
        true => format!("{}.events.ndjson", node.name),
        false => source.clone(),
    });
    let short: Vec<String> = short.collect();
    for (index, part) in short.chunks(3).enumerate() {
        let (start, end) = if index == 0 { ("--from ", " \\") } else { ("       ", "") };
        lines.push(format!("       {start}{}{end}", part.join(" ")));
    }
    lines
}
