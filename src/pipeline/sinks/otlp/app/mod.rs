//! The application's own telemetry, which came by OTLP and was kept as events: back to what it was.
//!
//! What: `sidelight/app_span/1`, `sidelight/app_log/1` (those that came by OTLP have a member `resource`) and
//! `sidelight/app_metric/1`; the [receiver](crate::pipeline::otlp_receiver) writes them and documents their members. Events
//! with the same resource and scope go out together again. Why by generated types: there is little of it, beside the
//! exchanges. How it fails: an event that is no such object is malformed; a member of another type is as good as absent.

mod log;
mod metric;
mod read;
mod span;

pub(crate) use metric::TEMPORALITIES;
pub(crate) use span::{CODES, KINDS};

use crate::pipeline::event::{self, Value};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use read::Object;
use std::collections::BTreeMap;

/// Who tells it: the members `resource` and `scope`, as they are written.
type Place<'a> = (&'a [u8], &'a [u8]);

/// The application's telemetry of one batch.
#[derive(Default)]
pub(super) struct App<'a> {
    spans: BTreeMap<Place<'a>, Vec<Span>>,
    logs: BTreeMap<Place<'a>, Vec<LogRecord>>,
    metrics: BTreeMap<Place<'a>, BTreeMap<Vec<u8>, Metric>>,
}

/// Whether a log record came by OTLP.
pub(super) fn is_of_otlp(payload: &[u8]) -> bool {
    event::member(payload, "resource").is_some()
}

/// The object, and who tells it; `None`: it is no object.
fn opened(payload: &[u8]) -> Option<(Object<'_>, Place<'_>)> {
    let mut all = event::members(payload);
    all.by_ref().for_each(drop);
    if !all.is_whole() {
        return None;
    }
    let object = |name| match event::member(payload, name) {
        Some(Value::Object(raw)) => raw,
        _ => &b""[..],
    };
    Some((Object(payload), (object("resource"), object("scope"))))
}

impl<'a> App<'a> {
    /// Takes a span; `false`: it is no object.
    pub(super) fn push_span(&mut self, payload: &'a [u8]) -> bool {
        let Some((object, place)) = opened(payload) else { return false };
        self.spans.entry(place).or_default().push(span::of(object));
        true
    }

    /// Takes a log record; `false`: it is no object.
    pub(super) fn push_log(&mut self, payload: &'a [u8]) -> bool {
        let Some((object, place)) = opened(payload) else { return false };
        self.logs.entry(place).or_default().push(log::of(object));
        true
    }

    /// Takes a point of a metric; `false`: it is no object, or no metric that OTLP has.
    pub(super) fn push_metric(&mut self, payload: &'a [u8]) -> bool {
        let Some((object, place)) = opened(payload) else { return false };
        let Some((metric, point)) = metric::of(object) else { return false };
        // Points of what is otherwise the same metric belong together.
        let metric = self.metrics.entry(place).or_default().entry(metric.encode_to_vec()).or_insert(metric);
        metric::append(metric, point);
        true
    }

    /// The spans.
    pub(super) fn spans(&mut self) -> Option<ExportTraceServiceRequest> {
        let of = |((resource, scope), spans): (Place<'_>, Vec<Span>)| {
            let scope_spans = vec![ScopeSpans {
                scope: read::scope(scope),
                spans,
                schema_url: Object(scope).text("schema_url"),
            }];
            let schema_url = Object(resource).text("schema_url");
            ResourceSpans { resource: read::resource(resource), scope_spans, schema_url }
        };
        let resource_spans: Vec<_> = std::mem::take(&mut self.spans).into_iter().map(of).collect();
        (!resource_spans.is_empty()).then_some(ExportTraceServiceRequest { resource_spans })
    }

    /// The log records.
    pub(super) fn logs(&mut self) -> Option<ExportLogsServiceRequest> {
        let of = |((resource, scope), log_records): (Place<'_>, Vec<LogRecord>)| {
            let schema_url = Object(scope).text("schema_url");
            let scope_logs = vec![ScopeLogs { scope: read::scope(scope), log_records, schema_url }];
            let schema_url = Object(resource).text("schema_url");
            ResourceLogs { resource: read::resource(resource), scope_logs, schema_url }
        };
        let resource_logs: Vec<_> = std::mem::take(&mut self.logs).into_iter().map(of).collect();
        (!resource_logs.is_empty()).then_some(ExportLogsServiceRequest { resource_logs })
    }

    /// The metrics.
    pub(super) fn metrics(&mut self) -> Option<ExportMetricsServiceRequest> {
        let of = |((resource, scope), metrics): (Place<'_>, BTreeMap<Vec<u8>, Metric>)| {
            let metrics = metrics.into_values().collect();
            let schema_url = Object(scope).text("schema_url");
            let scope_metrics = vec![ScopeMetrics { scope: read::scope(scope), metrics, schema_url }];
            let schema_url = Object(resource).text("schema_url");
            ResourceMetrics { resource: read::resource(resource), scope_metrics, schema_url }
        };
        let resource_metrics: Vec<_> = std::mem::take(&mut self.metrics).into_iter().map(of).collect();
        (!resource_metrics.is_empty()).then_some(ExportMetricsServiceRequest { resource_metrics })
    }
}
