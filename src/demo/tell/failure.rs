//! The endpoint that failed, and how the orders survived.

use crate::demo::event::Event;
use crate::demo::expect::Expectations;
use crate::demo::mesh::Mesh;
use crate::demo::observed::Observed;
use crate::demo::terminal::{Cell, Style, Terminal};
use crate::demo::traffic::Answers;
use serde_json::Value;

/// What failed, and when.
#[derive(Debug)]
pub(in crate::demo) struct Failure {
    /// The instance whose sidecar was killed.
    pub(in crate::demo) name: &'static str,
    /// How many charges checkout's sidecar had sent by then.
    pub(in crate::demo) calls_before: usize,
}

/// Prints what the events and the admin API say of it. `waves`: the orders before, the one that came alone, those after.
pub(in crate::demo) fn failure(
    terminal: Terminal,
    mesh: &Mesh,
    observed: &Observed,
    failure: &Failure,
    waves: [&Answers; 3],
    expectations: &mut Expectations,
) -> Result<(), String> {
    terminal.heading("An endpoint failed");
    let calls: Vec<&Event> = observed.calls("checkout").collect();
    let after = calls.get(failure.calls_before..).unwrap_or_default();
    let is_gold = |event: &&&Event| event.text("sidelight.cluster") == "payments-gold";
    let to_gold = after.iter().filter(is_gold).count();
    let is_retried = |event: &&&Event| event.number("sidelight.retries") > 0 && is_ok(event);
    let survived: Vec<&&Event> = after.iter().filter(is_gold).filter(is_retried).collect();
    terminal.line(&format!(
        "   After {} charges the sidecar of {} was killed (SIGKILL): of the two in the pool, the one",
        failure.calls_before,
        terminal.paint(Style::Bad, failure.name)
    ));
    terminal.line(
        "   that the balancer liked better at that moment. Then came one order alone, and the second wave.\n",
    );
    let clusters = mesh.ask("checkout", "/clusters")?;
    let rows: Vec<_> =
        endpoints(&clusters, "payments-gold").map(|endpoint| row(mesh, failure, endpoint)).collect();
    let head = ["endpoint", "attempts", "answered", "could not connect", "cost for the balancer"];
    terminal.table(&head, &rows);
    terminal.line("");
    terminal.line(&format!(
        "   {} of {to_gold} charges to the pool met the dead endpoint first. Each was tried again elsewhere, which",
        survived.len()
    ));
    terminal.line(
        "   is safe even for a POST: no connection, so nothing had been sent. After a failed attempt the",
    );
    terminal.line("   balancer reckons five seconds for that endpoint, and takes the other.");
    let [before, alone, wave] = waves;
    let failed = alone.failed() + wave.failed();
    terminal.line(&format!(
        "   Orders: {} before, {} failed; {} after, {} failed.",
        before.sent,
        before.failed(),
        alone.sent + wave.sent,
        terminal.paint(if failed == 0 { Style::Good } else { Style::Bad }, &failed.to_string())
    ));
    expectations.expect(before.failed() + failed == 0, "every order was answered 200, in both waves");
    expectations.expect(!survived.is_empty(), "orders met the dead endpoint and survived by a retry");
    expectations.expect(
        survived.len() * 10 <= to_gold,
        "the dead endpoint was avoided: at most a tenth of the pool's charges tried it",
    );
    Ok(())
}

fn is_ok(event: &Event) -> bool {
    event.number("http.response.status_code") == 200
}

/// The endpoints of a cluster as the admin API tells them.
fn endpoints<'a>(clusters: &'a Value, name: &'a str) -> impl Iterator<Item = &'a Value> {
    let clusters = clusters.as_array().into_iter().flatten().filter(move |cluster| cluster["name"] == name);
    clusters.filter_map(|cluster| cluster["endpoints"].as_array()).flatten()
}

fn row(mesh: &Mesh, failure: &Failure, endpoint: &Value) -> Vec<Cell> {
    let count = |key: &str| endpoint[key].as_u64().unwrap_or(0);
    let name = mesh.name_of(endpoint["name"].as_str().unwrap_or_default());
    let style = if name == failure.name { Style::Bad } else { Style::Name };
    let cost = endpoint["latency_ms"].as_f64().map_or("–".into(), |millis| format!("{millis:.1} ms"));
    vec![
        Cell::text(name).styled(style),
        Cell::number(count("requests")),
        Cell::number(count("requests").saturating_sub(count("failures"))),
        Cell::number(count("connect_failures")),
        Cell::number(cost),
    ]
}

impl Failure {
    /// Kills the sidecar of the gold instance that the balancer would take next.
    pub(in crate::demo) fn bring_about(mesh: &Mesh, observed: &Observed) -> Result<Failure, String> {
        let clusters = mesh.ask("checkout", "/clusters")?;
        let cost = |endpoint: &&Value| endpoint["latency_ms"].as_f64().unwrap_or(0.0);
        let best = endpoints(&clusters, "payments-gold").min_by(|a, b| cost(a).total_cmp(&cost(b)));
        let name = best.and_then(|endpoint| endpoint["name"].as_str()).unwrap_or_default();
        let node = mesh.node(mesh.name_of(name))?;
        node.sidecar.kill();
        Ok(Failure { name: node.name, calls_before: observed.calls("checkout").count() })
    }
}
