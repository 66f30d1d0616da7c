//! `sidelight/app_log/1` of a record that came by OTLP.

use super::read::{self, Object};
use opentelemetry_proto::tonic::logs::v1::LogRecord;

pub(super) fn of(object: Object<'_>) -> LogRecord {
    LogRecord {
        time_unix_nano: object.unsigned("time_unix_nano"),
        observed_time_unix_nano: object.unsigned("observed_time_unix_nano"),
        severity_number: object.signed("severity_number"),
        severity_text: object.text("severity_text"),
        body: object.get("body").map(|body| read::any(body, 0)),
        attributes: object.attributes("attributes"),
        dropped_attributes_count: object.count("dropped_attributes_count"),
        flags: object.count("trace_flags"),
        trace_id: object.id("trace_id"),
        span_id: object.id("span_id"),
        event_name: object.text("event_name"),
    }
}
