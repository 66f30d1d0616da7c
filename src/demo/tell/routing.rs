//! Who was routed where, and why; and the answer to a question about it.

use crate::demo::event::{Event, median};
use crate::demo::expect::Expectations;
use crate::demo::mesh::Mesh;
use crate::demo::observed::Observed;
use crate::demo::terminal::{Cell, Style, Terminal};
use crate::demo::traffic::{ACCOUNTS, Answers};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// Charges of one account at one endpoint.
#[derive(Default)]
struct Charges {
    route: String,
    cluster: String,
    millis: Vec<f64>,
}

/// Prints the table of accounts.
pub(in crate::demo) fn routing(
    terminal: Terminal,
    mesh: &Mesh,
    observed: &Observed,
    waves: &[&Answers],
    expectations: &mut Expectations,
) -> Result<(), String> {
    terminal.heading("Who was routed where, and why");
    let routes = mesh.ask("checkout", "/routes")?;
    let mut rows = Vec::new();
    let mut is_right = true;
    for account in ACCOUNTS {
        let calls = observed.calls("checkout").filter(|event| event.text("account_id") == account.id);
        let wants_gold = matches!(account.license, "gold" | "platinum") || account.flags == "early-access";
        let (cluster, pool) =
            if wants_gold { ("payments-gold", "gold-") } else { ("payments-standard", "standard-") };
        let by_endpoint = charges(mesh, calls);
        for (index, (endpoint, charges)) in by_endpoint.into_iter().enumerate() {
            is_right &= charges.cluster == cluster && endpoint.starts_with(pool);
            let once = |text: &str| Cell::text(if index == 0 { text } else { "" });
            rows.push(vec![
                once(account.id).styled(Style::Name),
                once(account.license),
                once(&format!("{}: {}", charges.route, reason(&routes, &charges.route))),
                once(&charges.cluster).styled(Style::Bold),
                Cell::text(endpoint),
                Cell::number(charges.millis.len()),
                Cell::number(format!("{:.1}", median(charges.millis))),
            ]);
        }
        let mut charged =
            waves.iter().flat_map(|wave| wave.charged.keys()).filter(|(id, _)| *id == account.id);
        is_right &= charged.all(|(_, instance)| instance.starts_with(pool));
    }
    terminal.table(&["account", "license", "route, because", "cluster", "endpoint", "count", "p50"], &rows);
    terminal
        .note("From the outbound events of checkout's sidecar; p50 in ms. No service passes a license on:");
    terminal.note("it came in as a header at the storefront, and the sidecars carried it here.");
    expectations
        .expect(is_right, "each account was charged by its own pool: the events say so, and the answers");
    Ok(())
}

/// Charges by endpoint.
fn charges<'a>(mesh: &Mesh, calls: impl Iterator<Item = &'a Event>) -> BTreeMap<String, Charges> {
    let mut by_endpoint: BTreeMap<String, Charges> = BTreeMap::new();
    for event in calls {
        let endpoint = mesh.name_of(event.text("sidelight.endpoint"));
        let charges = by_endpoint.entry(endpoint.into()).or_default();
        charges.route = event.text("sidelight.route").into();
        charges.cluster = event.text("sidelight.cluster").into();
        charges.millis.push(event.millis("sidelight.duration_ms"));
    }
    by_endpoint
}

/// The conditions of a route on the context, as the admin API tells them.
fn reason(routes: &Value, name: &str) -> String {
    let list = routes["outbound"].as_array();
    let Some(route) = list.into_iter().flatten().find(|route| route["name"] == name) else {
        return String::new();
    };
    let Some(context) = route["match"]["context"].as_object() else { return "no other matched".into() };
    let conditions = context.iter().map(|(field, wanted)| {
        let wanted: Vec<_> = match wanted {
            Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
            other => other.as_str().into_iter().collect(),
        };
        format!("{field} {}", wanted.join(" or "))
    });
    conditions.collect::<Vec<_>>().join(", ")
}

/// Asks `sidelight explain` about a request like one of those.
pub(in crate::demo) fn explain(
    terminal: Terminal,
    mesh: &Mesh,
    expectations: &mut Expectations,
) -> Result<(), String> {
    terminal.heading("Why would hooli's charge go to gold?");
    let question = [
        "POST",
        "http://payments/charge",
        "-H",
        "x-license: standard",
        "-H",
        "x-feature-flags: early-access",
    ];
    let [method, url, _, license, _, flags] = question;
    for line in [
        format!("   $ sidelight explain --config checkout.yaml {method} {url} \\"),
        format!("       -H '{license}' -H '{flags}'"),
    ] {
        terminal.line(&terminal.paint(Style::Dim, &line));
    }
    let program = std::env::current_exe().map_err(|error| format!("the own program: {error}"))?;
    let output = Command::new(program)
        .args(["explain", "--config"])
        .arg(&mesh.node("checkout")?.sidecar.config)
        .args(question)
        .output()
        .map_err(|error| format!("explain: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in text.lines() {
        terminal.line(&format!("   {line}"));
    }
    terminal.note("Nothing was sent: the answer is the search of the same table that routes.");
    let is_right =
        text.lines().any(|line| line.trim_start().starts_with("yes") && line.contains("early-access"));
    expectations
        .expect(is_right && output.status.success(), "`explain` names the route that hooli's orders took");
    Ok(())
}
