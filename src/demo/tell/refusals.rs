//! Requests that are wrong, and what was said about them: to the caller, and in the event.

use crate::demo::expect::Expectations;
use crate::demo::mesh::Mesh;
use crate::demo::observed::Observed;
use crate::demo::terminal::{Style, Terminal};
use crate::demo::traffic::Refusal;

/// Prints them.
pub(in crate::demo) fn refusals(
    terminal: Terminal,
    mesh: &Mesh,
    observed: &Observed,
    refusals: &[Refusal],
    sent: u64,
    expectations: &mut Expectations,
) {
    terminal.heading("Requests that are wrong");
    for refusal in refusals {
        let title = terminal.paint(Style::Bold, refusal.title);
        terminal.line(&format!("   {title}, to the sidecar of {}", refusal.node));
        let title = refusal.problem["title"].as_str().unwrap_or_default();
        terminal.line(&format!("     answer  {} {title}", refusal.status));
        terminal.line(&format!("     header  proxy-status: {}", refusal.proxy_status));
        let (field, value) = refusal.found_by;
        let event = observed.of(refusal.node).iter().find(|event| event.text(field) == value);
        let told = event.map(|event| {
            let (cause, flags) = (event.text("sidelight.cause"), event.text("sidelight.response_flags"));
            format!("cause {cause}, flags {flags}: {}", event.text("sidelight.detail"))
        });
        terminal.line(&format!("     event   {}", told.as_deref().unwrap_or("none")));
        let (status, cause) = refusal.expected;
        let is_told = event.is_some_and(|event| event.text("sidelight.cause") == cause);
        let is_answered = refusal.status == status && refusal.problem["cause"] == cause;
        expectations.expect(
            is_answered && is_told && refusal.proxy_status.contains(cause),
            format!("{status} {cause}: the answer, its header and the event name the same cause"),
        );
    }
    let served = |service: &str| -> u64 {
        let nodes = mesh.nodes.iter().filter(|node| node.service_name == service);
        nodes.map(|node| node.service.served()).sum()
    };
    let is_unseen = ["storefront", "checkout", "payments"].into_iter().all(|service| served(service) == sent);
    terminal.note(&format!(
        "Each service counted {} requests, and none of these among them.",
        served("storefront")
    ));
    expectations
        .expect(is_unseen, format!("each service was given the {sent} orders, once each, and nothing else"));
}
