//! One order as a tree over the sidecars, as `sidelight trace show` prints it.

use super::Failure;
use crate::demo::event::Event;
use crate::demo::expect::Expectations;
use crate::demo::mesh::Mesh;
use crate::demo::observed::Observed;
use crate::demo::service::Carried;
use crate::demo::terminal::{Style, Terminal};
use crate::demo::traffic::Account;
use crate::pipeline::trace_view::{self, Answer, Context, Id, Kind, Root, Source, Trace};
use std::path::PathBuf;

/// The exchanges of an order: in and out at storefront and checkout, in at payments.
const EXCHANGES: [(&str, Kind); 5] = [
    ("storefront", Kind::Server),
    ("storefront", Kind::Client),
    ("checkout", Kind::Server),
    ("checkout", Kind::Client),
    ("payments", Kind::Server),
];

/// Prints the trace of the order that came alone after the failure, for `account`.
pub(in crate::demo) fn trace(
    terminal: Terminal,
    mesh: &Mesh,
    observed: &Observed,
    failure: &Failure,
    account: &Account,
    expectations: &mut Expectations,
) -> Result<(), String> {
    terminal.heading("The order that came alone, as a trace over the sidecars");
    let calls: Vec<&Event> = observed.calls("checkout").collect();
    let Some(call) = calls.get(failure.calls_before) else {
        expectations.expect(false, "the order that came alone was charged");
        return Ok(());
    };
    let id = call.text("trace_id");
    let command = format!("   $ sidelight trace show {id} --from *.events.ndjson");
    terminal.line(&terminal.paint(Style::Dim, &command));
    let files: Vec<PathBuf> = mesh.nodes.iter().map(|node| node.sidecar.events.clone()).collect();
    let (answer, _) = trace_view::find(&Id::parse(id)?, &mut Source::open(&files)?)?;
    let Answer::Trace(trace) = answer else {
        expectations.expect(false, "the order that came alone has one trace");
        return Ok(());
    };
    for line in trace_view::text(&trace, terminal.look()).lines() {
        terminal.line(format!("   {line}").trim_end());
    }
    note(terminal);
    expect_tree(&trace, account, expectations);
    let source = call.text("sidelight.parent.source");
    expectations.expect(
        source == Carried::ALONE.parent_source(),
        format!("checkout's service carried {} on: the parent of its call was known by `{source}`", alone()),
    );
    let (wanted, others) = (Carried::IN_A_CROWD.parent_source(), calls.len().saturating_sub(1));
    let known = calls.iter().filter(|call| call.text("trace_id") != id);
    let known = known.filter(|call| call.text("sidelight.parent.source") == wanted).count();
    expectations
        .expect(known == others, format!("and by `{wanted}` for {known} of the {others} that overlapped"));
    Ok(())
}

/// What checkout's service carried on of this order.
fn alone() -> &'static str {
    match Carried::ALONE {
        Carried::Context => "the context",
        Carried::RequestId => "the request id",
        Carried::Nothing => "nothing",
    }
}

/// Says why the spans hang together.
fn note(terminal: Terminal) {
    terminal
        .note("Each line is an event of the sidecar of the service that is named in it; times are its own.");
    match Carried::ALONE {
        Carried::Context => {
            terminal.note(
                "The services did nothing but carry `traceparent` and `baggage` from what they served to",
            );
            terminal.note("what they called.");
        }
        Carried::RequestId => terminal.note("Of the context, checkout's service carried the request id on."),
        Carried::Nothing => {
            terminal.note(
                "checkout's service carried nothing on, no `traceparent` and no request id: its sidecar",
            );
            terminal.note(
                "served one order at that moment, so it knew whose the call was. While several overlap,",
            );
            terminal
                .note("the request id is enough; without it a call gets no parent, rather than a wrong one.");
        }
    }
}

/// One tree over all services, with nothing missing in it, for one account.
fn expect_tree(trace: &Trace, account: &Account, expectations: &mut Expectations) {
    let roots: Vec<Root> = trace.nodes.iter().filter_map(|node| node.root).collect();
    expectations.expect(
        roots == [Root::Begin],
        format!(
            "the trace is one tree: of {} spans one has no parent, and none a missing one",
            trace.nodes.len()
        ),
    );
    // The spans of attempts have no context of their own.
    let spans = trace.nodes.iter().filter_map(|node| trace.spans.get(node.span));
    let exchanges: Vec<_> = spans.filter_map(|span| Some((span, span.context.as_ref()?))).collect();
    let have: Vec<_> = exchanges.iter().map(|(span, _)| (span.service.as_str(), span.kind)).collect();
    expectations.expect(
        have == EXCHANGES,
        format!(
            "it has what all {} services served and called, from the first to the last",
            trace.services().len()
        ),
    );
    let is_for = |context: &Context| {
        (
            context.account_id.as_str(),
            context.user_id.as_str(),
            context.license.as_str(),
            context.flags.as_str(),
        ) == (account.id, account.user, account.license, account.flags)
    };
    expectations.expect(
        exchanges.iter().all(|(_, context)| is_for(context)),
        format!(
            "each of them for account {}, user {}, license {}",
            account.id, account.user, account.license
        ),
    );
}
