//! A span as `sidelight/app_span/1`.

use super::json::{self, Object};
use crate::pipeline::sinks::otlp::{CODES, KINDS};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};

/// Whether its ids are such as OTLP demands: of full length, and not zeros only.
pub(super) fn has_ids(span: &Span) -> bool {
    let is_id = |id: &[u8], len: usize| id.len() == len && id.iter().any(|byte| *byte != 0);
    is_id(&span.trace_id, 16) && is_id(&span.span_id, 8) && matches!(span.parent_span_id.len(), 0 | 8)
}

pub(super) fn write(span: &Span, object: &mut Object<'_>) {
    object.id("trace_id", &span.trace_id);
    object.id("span_id", &span.span_id);
    object.id("parent_id", &span.parent_span_id);
    object.flag("sampled", true);
    object.text("trace_state", &span.trace_state);
    object.unsigned("trace_flags", span.flags);
    object.text("name", &span.name);
    object.named("kind", span.kind, &KINDS);
    let nanos = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    object.double("duration_ms", nanos as f64 / 1e6);
    object.unsigned("start_time_unix_nano", span.start_time_unix_nano);
    object.unsigned("end_time_unix_nano", span.end_time_unix_nano);
    if let Some(status) = &span.status {
        object.object("status", |object| {
            object.named("code", status.code, &CODES);
            object.text("message", &status.message);
        });
    }
    object.attributes_and_dropped(&span.attributes, span.dropped_attributes_count);
    object.array("events", &span.events, event);
    object.unsigned("dropped_events_count", span.dropped_events_count);
    object.array("links", &span.links, link);
    object.unsigned("dropped_links_count", span.dropped_links_count);
}

fn event(out: &mut Vec<u8>, event: &Event) {
    json::object(out, |object| {
        object.unsigned("time_unix_nano", event.time_unix_nano);
        object.text("name", &event.name);
        object.attributes_and_dropped(&event.attributes, event.dropped_attributes_count);
    });
}

fn link(out: &mut Vec<u8>, link: &Link) {
    json::object(out, |object| {
        object.id("trace_id", &link.trace_id);
        object.id("span_id", &link.span_id);
        object.text("trace_state", &link.trace_state);
        object.unsigned("trace_flags", link.flags);
        object.attributes_and_dropped(&link.attributes, link.dropped_attributes_count);
    });
}
