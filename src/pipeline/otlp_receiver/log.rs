//! A log record as `sidelight/app_log/1`.

use super::json::Object;
use opentelemetry_proto::tonic::logs::v1::LogRecord;

pub(super) fn write(record: &LogRecord, object: &mut Object<'_>) {
    // A malformed id is as good as none, says OTLP.
    if record.trace_id.len() == 16 {
        object.id("trace_id", &record.trace_id);
    }
    if record.span_id.len() == 8 {
        object.id("span_id", &record.span_id);
    }
    object.unsigned("trace_flags", record.flags);
    object.text("severity_text", &record.severity_text);
    object.signed("severity_number", record.severity_number);
    object.text("event_name", &record.event_name);
    object.unsigned("time_unix_nano", record.time_unix_nano);
    object.unsigned("observed_time_unix_nano", record.observed_time_unix_nano);
    if let Some(body) = &record.body {
        object.value("body", body);
    }
    object.attributes_and_dropped(&record.attributes, record.dropped_attributes_count);
}
