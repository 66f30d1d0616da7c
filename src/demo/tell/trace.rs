//! One order as a tree over the sidecars.

use crate::demo::event::Event;
use crate::demo::expect::Expectations;
use crate::demo::mesh::Mesh;
use crate::demo::observed::Observed;
use crate::demo::terminal::{Style, Terminal};

/// The width of the bars.
const BAR: usize = 26;

/// Spans that the trace of an order has: in and out at storefront and checkout, in at payments.
const SPANS: usize = 5;

/// Prints the trace.
pub(in crate::demo) fn trace(
    terminal: Terminal,
    mesh: &Mesh,
    observed: &Observed,
    trace_id: &str,
    expectations: &mut Expectations,
) {
    terminal.heading("One of those orders, as a trace over the sidecars");
    let spans = observed.trace(trace_id);
    let mut roots = spans.iter().filter(|(_, event)| event.text("parent_id").is_empty());
    let root = roots.next();
    let Some((_, first)) = root else {
        expectations.expect(false, "the trace of a retried order has a root");
        return;
    };
    let flags = if first.flags().is_empty() { String::new() } else { format!(", flags {}", first.flags()) };
    terminal.line(&format!("   trace {trace_id}  request {}", first.text("request_id")));
    terminal.line(&format!(
        "   account {}, user {}, license {}{flags}\n",
        terminal.paint(Style::Name, first.text("account_id")),
        first.text("user_id"),
        terminal.paint(Style::Name, first.text("license")),
    ));
    let drawn = Drawing { terminal, mesh, spans: &spans, start: first }.draw(first, 0);
    terminal.note(
        "Each line is an event of the sidecar that is named first; durations are its own. The services",
    );
    terminal
        .note("did nothing but carry `traceparent` and `baggage` from what they served to what they called.");
    let is_carried = spans.iter().all(|(_, event)| {
        ["account_id", "user_id", "license"].iter().all(|field| event.text(field) == first.text(field))
    });
    expectations.expect(
        drawn == SPANS && spans.len() == SPANS,
        format!("the trace is one tree of {SPANS} spans, over the sidecars of all three services"),
    );
    expectations.expect(is_carried, "account, user and license are the same in every span");
}

struct Drawing<'a> {
    terminal: Terminal,
    mesh: &'a Mesh,
    spans: &'a [(&'static str, &'a Event)],
    start: &'a Event,
}

impl Drawing<'_> {
    /// Draws a span and what hangs below it; how many were drawn.
    fn draw(&self, event: &Event, depth: usize) -> usize {
        let node =
            self.spans.iter().find(|(_, other)| std::ptr::eq(*other, event)).map_or("", |(node, _)| node);
        let branch = if depth == 0 { String::new() } else { format!("{}└ ", "  ".repeat(depth - 1)) };
        let what = if event.is_inbound() {
            "in".into()
        } else {
            let endpoint = self.mesh.name_of(event.text("sidelight.endpoint"));
            format!("out to {endpoint}")
        };
        let retries = match event.number("sidelight.retries") {
            0 => String::new(),
            retries => format!(" (attempt {})", retries + 1),
        };
        let label = format!("{branch}{node} {what}{retries}");
        let request = format!("{} {}", event.text("http.request.method"), event.text("url.path"));
        let line = format!(
            "   {label:<41} {request:<13} {} {:>6.2} ms  ",
            event.number("http.response.status_code"),
            event.millis("sidelight.duration_ms"),
        );
        let style = if retries.is_empty() { Style::Good } else { Style::Bad };
        self.terminal.line(&format!("{line}{}", self.terminal.paint(style, &self.bar(event))));
        let id = event.text("span_id");
        let children = self.spans.iter().filter(|(_, child)| child.text("parent_id") == id);
        1 + children.map(|(_, child)| self.draw(child, depth + 1)).sum::<usize>()
    }

    /// When the span was, within the whole.
    fn bar(&self, event: &Event) -> String {
        let whole = self.start.millis("sidelight.duration_ms").max(0.001);
        let begin = (moment(event) - moment(self.start)).max(0.0);
        let place = |millis: f64| ((millis / whole * BAR as f64).round().max(0.0) as usize).min(BAR);
        let from = place(begin).min(BAR - 1);
        let to = place(begin + event.millis("sidelight.duration_ms")).max(from + 1);
        format!("{}{}", " ".repeat(from), "▆".repeat(to - from))
    }
}

/// Milliseconds since the hour, by the event's timestamp (RFC 3339, microseconds).
fn moment(event: &Event) -> f64 {
    let text = event.text("timestamp");
    let minute: f64 = text.get(14..16).and_then(|digits| digits.parse().ok()).unwrap_or(0.0);
    let second: f64 = text.get(17..).and_then(|rest| rest.trim_end_matches('Z').parse().ok()).unwrap_or(0.0);
    (minute * 60.0 + second) * 1000.0
}
