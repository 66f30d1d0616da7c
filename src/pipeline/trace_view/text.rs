//! A trace as a tree for people.

use super::span::{Clock, Context, Kind, Link, Span};
use super::style::{Ink, Look, clean, time};
use super::tree::{Node, Root, Trace};
use crate::context::ids::{span_id_hex, trace_id_hex};
use crate::pipeline::encode::rfc3339;
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Levels that are drawn; of a deeper span its depth is written, or lines would grow with the square of the depth.
const LEVELS_MAX: usize = 16;

/// Lines narrower than this have no bar.
const COLUMNS_WITH_BAR: usize = 100;

/// The longest name, path or detail that is printed whole.
const TEXT_CHARS: usize = 100;

/// Candidates that are named of one span.
const LINKS_MAX: usize = 8;

/// The trace as text, a line for each span.
pub fn text(trace: &Trace, look: Look) -> String {
    let mut out = String::new();
    let context = head(trace, look, &mut out);
    let bar = match look.columns {
        0..COLUMNS_WITH_BAR => 0,
        columns => (columns / 6).min(30),
    };
    let gap = if bar == 0 { String::new() } else { " ".repeat(bar + 2) };
    let _ = writeln!(
        out,
        "\n{}",
        look.paint(Ink::Dim, &format!("{:>13} {:>12}  {gap}span", "start", "duration"))
    );
    let (start, window) = (trace.start(), trace.duration());
    let mut last: Vec<bool> = Vec::new();
    for node in &trace.nodes {
        let Some(span) = trace.span(node) else { continue };
        last.truncate(node.depth.min(LEVELS_MAX));
        let offset = span.start.saturating_sub(start);
        let duration = span.duration.map_or_else(|| "–".into(), time);
        let _ = write!(
            out,
            "{:>13} {duration:>12}  ",
            format!("{}{}", if offset < 0 { "" } else { "+" }, time(offset))
        );
        if bar > 0 {
            let ink = if span.is_error() { Ink::Bad } else { Ink::Good };
            let drawn = bar_of(offset, span.duration.unwrap_or(0), window, bar);
            let room = " ".repeat(bar.saturating_sub(drawn.chars().count()) + 2);
            let _ = write!(out, "{}{room}", look.paint(ink, &drawn));
        }
        out.push_str(&branches(node, &last));
        line(span, node, &context, look, &mut out);
        if node.depth < LEVELS_MAX {
            last.push(node.is_last);
        }
    }
    links(trace, look, &mut out);
    foot(trace, &mut out);
    out
}

/// The head; gives the context that it says, against which spans are compared.
fn head(trace: &Trace, look: Look, out: &mut String) -> Context {
    let id = String::from_utf8_lossy(&trace_id_hex(&trace.trace_id)).into_owned();
    let (spans, services) = (trace.spans.len(), trace.services().len());
    let began = UNIX_EPOCH + Duration::from_micros(u64::try_from(trace.start()).unwrap_or(0));
    let _ = writeln!(
        out,
        "trace {}  {}  {spans} {} of {services} {}  began {}",
        look.paint(Ink::Bold, &id),
        time(trace.duration()),
        if spans == 1 { "span" } else { "spans" },
        if services == 1 { "service" } else { "services" },
        rfc3339(began),
    );
    let context = context_of(trace);
    let said: Vec<String> = context
        .fields()
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name} {}", look.paint(Ink::Name, &clean(value, TEXT_CHARS))))
        .collect();
    let _ = writeln!(out, "{}", if said.is_empty() { "no context".into() } else { said.join("  ") });
    context
}

/// Each field as the first span of the tree has it that has one.
pub(super) fn context_of(trace: &Trace) -> Context {
    let mut whole = Context::default();
    for context in trace.nodes.iter().filter_map(|node| trace.span(node)?.context.as_ref()) {
        let fields = [
            (&mut whole.request_id, &context.request_id),
            (&mut whole.account_id, &context.account_id),
            (&mut whole.user_id, &context.user_id),
            (&mut whole.license, &context.license),
            (&mut whole.request_type, &context.request_type),
            (&mut whole.flags, &context.flags),
        ];
        for (field, value) in fields {
            if field.is_empty() {
                field.clone_from(value);
            }
        }
    }
    whole
}

/// When the span was, within the whole; `‹` and `›` where it reaches beyond.
fn bar_of(offset: i64, duration: i64, window: i64, width: usize) -> String {
    if window <= 0 || width == 0 {
        return String::new();
    }
    let end = offset.saturating_add(duration);
    if end < 0 {
        return "‹".into();
    }
    if offset > window {
        return format!("{}›", " ".repeat(width - 1));
    }
    let place = |at: i64| (at.clamp(0, window) as f64 / window as f64 * width as f64).round() as usize;
    let from = place(offset).min(width - 1);
    let to = place(end).clamp(from + 1, width);
    let mut marks = vec!['▆'; to - from];
    if let Some(first) = marks.first_mut().filter(|_| offset < 0) {
        *first = '‹';
    }
    if let Some(last) = marks.last_mut().filter(|_| end > window) {
        *last = '›';
    }
    " ".repeat(from) + &marks.into_iter().collect::<String>()
}

/// The lines of the tree that lead to a node. `last` says of each level above whether it has no more to come.
fn branches(node: &Node, last: &[bool]) -> String {
    let mut text = String::new();
    if node.depth == 0 {
        return text;
    }
    // The level of the roots has no line: they are not children of anything.
    for is_last in last.iter().skip(1).take(LEVELS_MAX - 1) {
        text.push_str(if *is_last { "  " } else { "│ " });
    }
    if node.depth > LEVELS_MAX {
        let _ = write!(text, "⋯{} ", node.depth);
    }
    text.push_str(if node.is_last { "└ " } else { "├ " });
    text
}

/// Service, kind, name, status, where it went, and whatever is unusual.
fn line(span: &Span, node: &Node, context: &Context, look: Look, out: &mut String) {
    let service = if span.service.is_empty() { "–" } else { &span.service };
    let _ = write!(
        out,
        "{} {} {} ",
        look.paint(Ink::Name, &clean(service, TEXT_CHARS)),
        span.kind.as_str(),
        clean(&span.name, TEXT_CHARS)
    );
    let ink = if span.is_error() { Ink::Bad } else { Ink::Good };
    out.push_str(&look.paint(ink, &status(span)));
    if span.kind == Kind::Client {
        let places = [span.cluster.as_str(), span.endpoint.as_str()];
        let places: Vec<&str> = places.into_iter().filter(|place| !place.is_empty()).collect();
        if !places.is_empty() {
            let _ = write!(out, " → {}", clean(&places.join(" "), TEXT_CHARS));
        }
    }
    for note in notes(span, node, context) {
        let _ = write!(out, " {}", look.paint(Ink::Dim, &format!("· {note}")));
    }
    out.push('\n');
}

fn status(span: &Span) -> String {
    let mut words: Vec<String> = Vec::new();
    match span.status {
        Some(status) => words.push(status.to_string()),
        None if span.error.is_none() && span.cause.is_none() => words.push("–".into()),
        None => {}
    }
    let of_peers = [&span.grpc_status, &span.cause];
    words.extend(of_peers.into_iter().flatten().map(|word| clean(word, TEXT_CHARS).into_owned()));
    let is_said = |error: &str| words.iter().any(|word| word == error);
    if let Some(error) = span.error.as_deref().filter(|error| !is_said(error)) {
        words.push(clean(error, TEXT_CHARS).into_owned());
    }
    if span.is_cut {
        words.push("cut".into());
    }
    words.join(" ")
}

fn notes(span: &Span, node: &Node, context: &Context) -> Vec<String> {
    let mut notes = Vec::new();
    if span.attempts > 1 {
        notes.push(format!("{} attempts", span.attempts));
    }
    if span.resend > 0 {
        notes.push(format!("attempt {}", span.resend.saturating_add(1)));
    }
    if let Some(detail) = &span.detail {
        notes.push(clean(detail, TEXT_CHARS).into_owned());
    }
    match (span.parent_source.as_deref(), span.parent_id) {
        (None, _) => {}
        (Some("lost"), None) => notes.push("its parent is not known".into()),
        (Some(why), None) => notes.push(format!("its parent is not known: {}", clean(why, TEXT_CHARS))),
        (Some(source), Some(_)) => notes.push(format!("parent by {}", clean(source, TEXT_CHARS))),
    }
    match node.root {
        None | Some(Root::Begin) => {}
        Some(Root::NotInFiles(id)) => notes.push(format!("parent {} not in these files", hex(&id))),
        Some(Root::Itself) => notes.push("names itself as its parent".into()),
        Some(Root::Circle(id)) => {
            notes.push(format!("parent {}: the parents form a circle, cut here", hex(&id)))
        }
    }
    match node.clock {
        None => {}
        Some(Clock::Before(skew)) => {
            notes.push(format!("began {} before its parent: clocks differ", time(skew)))
        }
        Some(Clock::After(skew)) => notes.push(format!("began {} after its parent had ended", time(skew))),
    }
    if span.context_dropped > 0 {
        notes.push(format!("context fields dropped: {}", span.context_dropped));
    }
    if let Some(own) = &span.context {
        for ((name, value), (_, usual)) in own.fields().into_iter().zip(context.fields()) {
            if value.is_empty() && !usual.is_empty() {
                notes.push(format!("no {name}"));
            } else if value != usual {
                notes.push(format!("{name} {}", clean(value, TEXT_CHARS)));
            }
        }
    }
    notes
}

/// Candidates for parents, which are not taken for parents.
fn links(trace: &Trace, look: Look, out: &mut String) {
    let own = trace.nodes.iter().filter_map(|node| trace.span(node)).filter(|span| !span.links.is_empty());
    let mut title = "\nlinks: candidates for a parent by time alone, none of them taken for it\n";
    for span in own {
        out.push_str(title);
        title = "";
        let mut named: Vec<String> =
            span.links.iter().take(LINKS_MAX).map(|link| place(link, trace)).collect();
        if span.links.len() > LINKS_MAX {
            named.push(format!("and {} more", span.links.len() - LINKS_MAX));
        }
        let _ = writeln!(out, "  {} ← {}", who(span, look), named.join(", "));
    }
    let mut title = "\nspans of other traces that have one of this as a candidate for their parent\n";
    for span in &trace.linking {
        out.push_str(title);
        title = "";
        let id = String::from_utf8_lossy(&trace_id_hex(&span.trace_id)).into_owned();
        let _ = writeln!(out, "  {} in trace {id}", who(span, look));
    }
}

fn who(span: &Span, look: Look) -> String {
    let service = look.paint(Ink::Name, &clean(&span.service, TEXT_CHARS));
    format!("{service} {} {} {}", span.kind.as_str(), clean(&span.name, TEXT_CHARS), hex(&span.span_id))
}

fn place(link: &Link, trace: &Trace) -> String {
    let span = hex(&link.span_id);
    match link.trace_id.filter(|id| *id != trace.trace_id) {
        None => span,
        Some(id) => format!("{span} in trace {}", String::from_utf8_lossy(&trace_id_hex(&id))),
    }
}

fn foot(trace: &Trace, out: &mut String) {
    if trace.duplicates > 0 {
        let were = if trace.duplicates == 1 { "event was" } else { "events were" };
        let _ = writeln!(out, "\n{} {were} there more than once, and counted once", trace.duplicates);
    }
    if trace.more > 0 {
        let _ = writeln!(out, "\n{} more spans were found than are shown", trace.more);
    }
}

fn hex(id: &[u8; 8]) -> String {
    String::from_utf8_lossy(&span_id_hex(id)).into_owned()
}
