//! `sidelight/app_span/1`.

use super::read::Object;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

/// `SpanKind` by number, as events name it.
pub(crate) const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];

/// `StatusCode` by number.
pub(crate) const CODES: [&str; 3] = ["unset", "ok", "error"];

/// The number of a name; a number that has none is written as it is.
pub(super) fn position(object: Object<'_>, member: &str, names: &[&str]) -> i32 {
    let text = object.text(member);
    let known = names.iter().position(|name| *name == text).and_then(|at| i32::try_from(at).ok());
    known.unwrap_or_else(|| object.signed(member))
}

pub(super) fn of(object: Object<'_>) -> Span {
    Span {
        trace_id: object.id("trace_id"),
        span_id: object.id("span_id"),
        trace_state: object.text("trace_state"),
        parent_span_id: object.id("parent_id"),
        flags: object.count("trace_flags"),
        name: object.text("name"),
        kind: position(object, "kind", &KINDS),
        start_time_unix_nano: object.unsigned("start_time_unix_nano"),
        end_time_unix_nano: object.unsigned("end_time_unix_nano"),
        attributes: object.attributes("attributes"),
        dropped_attributes_count: object.count("dropped_attributes_count"),
        events: object.objects("events").map(event).collect(),
        dropped_events_count: object.count("dropped_events_count"),
        links: object.objects("links").map(link).collect(),
        dropped_links_count: object.count("dropped_links_count"),
        status: object
            .object("status")
            .map(|status| Status { message: status.text("message"), code: position(status, "code", &CODES) }),
    }
}

fn event(object: Object<'_>) -> Event {
    Event {
        time_unix_nano: object.unsigned("time_unix_nano"),
        name: object.text("name"),
        attributes: object.attributes("attributes"),
        dropped_attributes_count: object.count("dropped_attributes_count"),
    }
}

fn link(object: Object<'_>) -> Link {
    Link {
        trace_id: object.id("trace_id"),
        span_id: object.id("span_id"),
        trace_state: object.text("trace_state"),
        attributes: object.attributes("attributes"),
        dropped_attributes_count: object.count("dropped_attributes_count"),
        flags: object.count("trace_flags"),
    }
}
