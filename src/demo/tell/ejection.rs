//! The endpoint that was sick: it answered, but wrongly. It was ejected, and came back.

use crate::demo::event::Event;
use crate::demo::expect::Expectations;
use crate::demo::mesh::Mesh;
use crate::demo::observed::Observed;
use crate::demo::terminal::{Cell, Style, Terminal};
use crate::demo::traffic::{self, Answers};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The instance whose service is sick.
const NAME: &str = "standard-1";
/// How long its return may take: the ejection, a look each second, and room for a busy machine.
const RETURN_TIMEOUT: Duration = Duration::from_secs(10);

/// What happened, and when.
#[derive(Debug)]
pub(in crate::demo) struct Sickness {
    /// How many charges checkout's sidecar had sent before.
    calls_before: usize,
    /// Orders while it was sick.
    pub(in crate::demo) during: Answers,
    /// How many charges checkout's sidecar had sent when it was back.
    calls_back: usize,
    /// Orders after it was back.
    pub(in crate::demo) after: Answers,
    /// The events of its health.
    health: Vec<Event>,
}

impl Sickness {
    /// Lets a service answer 503, sends orders, makes it well, waits until it is used again, and sends orders.
    pub(in crate::demo) fn bring_about(mesh: &Mesh, storefront: SocketAddr) -> Result<Sickness, String> {
        let calls = || Observed::read(mesh, &[]).calls("checkout").count();
        let calls_before = calls();
        mesh.node(NAME)?.service.set_sick(true);
        let during = traffic::wave(storefront, 3);
        mesh.node(NAME)?.service.set_sick(false);
        let deadline = Instant::now() + RETURN_TIMEOUT;
        let health = loop {
            let health = Observed::health(mesh, "checkout")?;
            let is_back =
                health.last().is_some_and(|event| event.text("sidelight.health.state") == "unejected");
            if is_back || Instant::now() >= deadline {
                break health;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let calls_back = calls();
        let after = traffic::wave(storefront, 4);
        Ok(Sickness { calls_before, during, calls_back, after, health })
    }
}

/// Prints what the events say of it.
pub(in crate::demo) fn ejection(
    terminal: Terminal,
    mesh: &Mesh,
    observed: &Observed,
    sickness: &Sickness,
    expectations: &mut Expectations,
) -> Result<(), String> {
    terminal.heading("An endpoint was sick, was ejected, and came back");
    let sick = terminal.paint(Style::Bad, NAME);
    terminal.line(&format!(
        "   The service of {sick} answered every charge with 503, at once, for a wave of orders:"
    ));
    terminal.line("   the endpoint with the fewest requests under way, and so the one that the balancer would like best.\n");
    let refused = mesh.node(NAME)?.service.refused();
    let calls: Vec<&Event> = observed.calls("checkout").collect();
    let during = calls.get(sickness.calls_before..sickness.calls_back).unwrap_or_default();
    let after = calls.get(sickness.calls_back..).unwrap_or_default();
    let answered_by = |calls: &[&Event]| calls.iter().filter(|event| is_at(mesh, event)).count();
    let retried = during.iter().filter(|event| event.number("sidelight.retries") > 0).count();
    let rows: Vec<Vec<Cell>> = sickness
        .health
        .iter()
        .map(|event| {
            let state = event.text("sidelight.health.state");
            let style = if state == "ejected" { Style::Bad } else { Style::Good };
            vec![
                Cell::text(event.text("timestamp").get(11..23).unwrap_or_default()),
                Cell::text(mesh.name_of(event.text("sidelight.endpoint"))).styled(Style::Name),
                Cell::text(state).styled(style),
                Cell::text(event.text("sidelight.health.detector")),
                Cell::text(event.text("sidelight.cause")),
            ]
        })
        .collect();
    terminal.table(&["at", "endpoint", "state", "detector", "cause"], &rows);
    terminal.line("");
    terminal.line(&format!(
        "   It refused {refused} charges of {}, as they came; each was sent again to the other endpoint, {retried} in all,",
        during.len()
    ));
    terminal.line("   because an order has an `idempotency-key`. Then no charge went there, until the ejection was over.");
    terminal.line(&format!(
        "   Orders: {} while it was sick, {} failed; {} afterwards, {} failed, {} of them charged by it again.",
        sickness.during.sent,
        terminal.paint(tone(&sickness.during), &sickness.during.failed().to_string()),
        sickness.after.sent,
        terminal.paint(tone(&sickness.after), &sickness.after.failed().to_string()),
        answered_by(after),
    ));
    let has = |state: &str| {
        sickness.health.iter().any(|event| {
            event.text("sidelight.health.state") == state
                && mesh.name_of(event.text("sidelight.endpoint")) == NAME
        })
    };
    expectations.expect(
        sickness.during.failed() + sickness.after.failed() == 0,
        "no order failed while an endpoint answered 503, nor afterwards",
    );
    expectations.expect(has("ejected"), format!("{NAME} was ejected, and an event says by what and why"));
    expectations.expect(
        refused > 0 && refused as usize * 10 <= during.len(),
        "the ejection spared it: at most a tenth of the charges were refused there",
    );
    expectations
        .expect(has("unejected") && answered_by(after) > 0, format!("{NAME} came back, and charges again"));
    Ok(())
}

fn tone(answers: &Answers) -> Style {
    if answers.failed() == 0 { Style::Good } else { Style::Bad }
}

fn is_at(mesh: &Mesh, event: &Event) -> bool {
    mesh.name_of(event.text("sidelight.endpoint")) == NAME
}
