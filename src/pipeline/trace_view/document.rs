//! A trace as JSON for programs.
//!
//! The spans are a list in the order of the tree, each with its `depth`, and not nested: a parser gives up on documents
//! that nest deeply (serde_json at 128, Python at 1000), and a chain of calls does. What is absent is left out.

use super::span::{Clock, Context, Link, Span};
use super::text::context_of;
use super::tree::{Node, Root, Trace};
use crate::context::ids::{span_id_hex, trace_id_hex};
use crate::pipeline::encode::rfc3339;
use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// The trace as an object.
pub fn document(trace: &Trace) -> Value {
    let start = trace.start();
    let spans = trace.nodes.iter().filter_map(|node| Some(span(trace, node, trace.span(node)?, start)));
    let linking = trace.linking.iter().map(|span| {
        let links = span.links.iter().filter(|link| link.trace_id == Some(trace.trace_id)).map(link);
        let ids = json!({ "trace_id": trace_hex(&span.trace_id), "span_id": span_hex(&span.span_id) });
        with(ids, [("service", text(&span.service)), ("name", text(&span.name)), ("links", list(links))])
    });
    let document = json!({
        "trace_id": trace_hex(&trace.trace_id),
        "start": moment(start),
        "duration_ms": millis(trace.duration()),
        "services": trace.services(),
        "context": context(&context_of(trace)),
        "spans": spans.collect::<Vec<_>>(),
    });
    with(
        document,
        [
            ("linked_from", list(linking)),
            ("duplicates", number(trace.duplicates as u64)),
            ("spans_left_out", number(trace.more)),
        ],
    )
}

fn span(trace: &Trace, node: &Node, span: &Span, start: i64) -> Value {
    let ids = json!({
        "depth": node.depth,
        "span_id": span_hex(&span.span_id),
        "kind": span.kind.as_str(),
        "start": moment(span.start),
        "offset_ms": millis(span.start.saturating_sub(start)),
    });
    let root = node.root.map(|root| match root {
        Root::Begin => "begin",
        Root::NotInFiles(_) => "not_in_files",
        Root::Itself => "itself",
        Root::Circle(_) => "circle",
    });
    let (before, after) = match node.clock {
        None => (None, None),
        Some(Clock::Before(micros)) => (Some(millis(micros)), None),
        Some(Clock::After(micros)) => (None, Some(millis(micros))),
    };
    with(
        ids,
        [
            ("parent_id", span.parent_id.map(|id| span_hex(&id).into())),
            ("root", root.map(Value::from)),
            ("parent_source", span.parent_source.as_deref().map(Value::from)),
            ("duration_ms", span.duration.map(millis)),
            ("began_before_parent_ms", before),
            ("began_after_parent_ended_ms", after),
            ("service", text(&span.service)),
            ("name", text(&span.name)),
            ("path", text(&span.path)),
            ("status", span.status.map(Value::from)),
            ("grpc_status", span.grpc_status.as_deref().map(Value::from)),
            ("error", span.error.as_deref().map(Value::from)),
            ("cause", span.cause.as_deref().map(Value::from)),
            ("detail", span.detail.as_deref().map(Value::from)),
            ("is_cut", span.is_cut.then_some(Value::Bool(true))),
            ("cluster", text(&span.cluster)),
            ("endpoint", text(&span.endpoint)),
            ("attempts", number(span.attempts)),
            ("resend_count", number(span.resend)),
            ("context", span.context.as_ref().map(context)),
            ("context_dropped", number(span.context_dropped)),
            ("links", list(span.links.iter().map(link))),
            ("file", trace.files.get(span.file).map(|name| name.as_str().into())),
            ("line", number(span.line)),
        ],
    )
}

/// `object` with more members; those that are absent are left out.
fn with<const N: usize>(mut object: Value, members: [(&str, Option<Value>); N]) -> Value {
    if let Value::Object(map) = &mut object {
        map.extend(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    object
}

fn context(context: &Context) -> Value {
    let names = ["request_id", "account_id", "user_id", "license", "request_type", "flags"];
    let fields = names.into_iter().zip(context.fields()).filter(|(_, (_, value))| !value.is_empty());
    let fields = fields.map(|(name, (_, value))| match name {
        "flags" => (name.to_owned(), value.split(',').collect()),
        _ => (name.to_owned(), Value::from(value)),
    });
    Value::Object(fields.collect::<Map<_, _>>())
}

fn link(link: &Link) -> Value {
    let span = json!({ "span_id": span_hex(&link.span_id) });
    with(span, [("trace_id", link.trace_id.map(|id| trace_hex(&id).into()))])
}

fn list(values: impl Iterator<Item = Value>) -> Option<Value> {
    Some(values.collect::<Vec<_>>()).filter(|values| !values.is_empty()).map(Value::from)
}

fn text(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| text.into())
}

fn number(number: u64) -> Option<Value> {
    (number != 0).then(|| number.into())
}

pub(super) fn moment(micros: i64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

pub(super) fn millis(micros: i64) -> Value {
    (micros as f64 / 1000.0).into()
}

pub(super) fn trace_hex(id: &[u8; 16]) -> String {
    String::from_utf8_lossy(&trace_id_hex(id)).into_owned()
}

fn span_hex(id: &[u8; 8]) -> String {
    String::from_utf8_lossy(&span_id_hex(id)).into_owned()
}
